"""What a training run is made of, read from a TOML file that may hold nothing unknown."""

from __future__ import annotations

import dataclasses
import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import SelfTalkError


@dataclass(frozen=True)
class LossWeights:
    """Factors of the loss terms; see `losses.py` for each term's formula and unit."""

    vertices: float = 1.0
    velocity: float = 0.5
    gap: float = 0.5
    closure: float = 1.0
    width: float = 0.2
    weights: float = 5.0
    consistency: float = 2.0
    contact: float = 0.0
    latent: float = 0.0
    text: float = 0.0


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        data: folder with grid_s1/, tts/, librispeech/ and makehuman/.
        encoder: folder of the pretrained speech encoder (config.json, encoder.safetensors).
        output: where caches, checkpoints and the final file go.
        recogniser: folder of the speech recogniser; empty: no diagram, latent and text must be 0.
        start: an animator file whose weights are the first; empty: random ones.
        reader_steps: steps in which the lip reader is trained on the recorded faces beforehand.
        faces: share of the recorded faces that the animator learns from.
        speech: whether speech without faces enters through the diagram.
        precision: "fp32", "bf16" or "fp16", of the forward pass.
        encoder_layers: how many of the encoder's layers are used.
        held_out_voices: synthetic voices kept for validation.
        validation_clips: GRID clips kept for validation, taken at equal distances.
        validation_readers: LibriSpeech speakers kept for validation.
        variants: how often the corpus is composed anew (order, gain, noise, pitch).
        window: frames per window of inference, and of the encoder in training.
        crop: frames per training example.
        batch: examples per step, each seen with the encoder's windows at two places.
        steps: steps of each round. Round 0 knows the recorded faces alone; before each later
            round the animator labels the speech without faces itself, corrected by phones.
        learning_rate, weight_decay, warmup: AdamW, cosine decay after `warmup` steps.
        average: decay of the moving average of the weights that is kept in the end.
        amplitude: factor of the finished head's weights about rest. What minimises squared errors
            moves a little less than the speaker; this gives it back.
        seed: of everything random.
        width, layers, heads, reach, kernel, dropout: see `AnimatorConfig`.
        checkpoint_every, validate_every: steps.
    """

    data: str
    encoder: str
    output: str
    recogniser: str = ""
    start: str = ""
    reader_steps: int = 900
    faces: float = 1.0
    speech: bool = True
    precision: str = "fp32"
    encoder_layers: int = 3
    held_out_voices: tuple[str, ...] = ("af_bella", "am_michael", "bf_lily", "bm_george")
    validation_clips: int = 90
    validation_readers: int = 30
    variants: int = 2
    window: int = 500
    crop: int = 150
    batch: int = 16
    steps: tuple[int, ...] = (800, 3000)
    learning_rate: float = 1e-3
    weight_decay: float = 0.02
    warmup: int = 200
    average: float = 0.998
    amplitude: float = 1.0
    seed: int = 0
    width: int = 256
    layers: int = 2
    heads: int = 4
    reach: int = 50
    kernel: int = 9
    dropout: float = 0.1
    checkpoint_every: int = 200
    validate_every: int = 500
    loss: LossWeights = field(default_factory=LossWeights)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class DiagramWeights:
    """Factors of the loss terms on vertices; see `losses.py` for each term's formula.

    Offsets count in units of their root mean square over the training clips, so that a factor
    means the same for metres, millimetres and faces scaled to one size. Where that is 1 mm of
    5,023 vertices, these defaults have the balance of the paper's 1000, 1000, 0.001, 0.0001 on
    metres (all are 1000 times as large, which Adam does not notice).
    """

    vertices: float = 1.0
    velocity: float = 1.0
    latent: float = 1.0
    text: float = 0.1
    closure: float = 0.0
    silence: float = 0.0


@dataclass(frozen=True)
class FolderConfig:
    """Training on a folder of talking faces (`folder.py`); published: the paper's choice.

    Attributes:
        data: the folder.
        output: where checkpoints, pictures and the final file go.
        cache: where the recogniser's features and texts are kept, and the features of a frozen
            encoder, so that runs can share them; empty: a folder of `output`.
        encoder: speech encoder: wav2vec 2.0, HuBERT, WavLM or Whisper; a folder in the
            `transformers` layout, or a hub name where `network` allows it.
        recogniser: a wav2vec 2.0, HuBERT or WavLM with a CTC head, likewise. Empty: the one of
            `start`; else the terms latent and text must be 0.
        network: whether the hub may be asked.
        layout: "vocaset" and "biwi" set resample, stack and width as published; "own".
        resample: where the encoder's 50 frames per second become the folder's: "convolutions"
            (before the encoder's transformer; not for Whisper), "features" (behind it), "none"
            (nowhere: frames per second times stack must be 50), or "auto": the first of them
            that the encoder can.
        stack: frames of the encoder that are joined for a frame of motion.
        width, layers, heads, reach: of the animator's decoder; reach 0: the whole clip
            (published), else the bundled animator's local attention.
        encoder_layers: how many layers of a Whisper are used; 0: all.
        train_encoder: whether the encoder's transformer learns (published); its convolutions
            and Whisper, never do. false where there is no GPU: it then hears each clip once, and
            its features are kept.
        lips: file of vertex indices that the lip reader reads and validation measures (.npy,
            .txt, ...); empty: lips.npy of the folder.
        upper_lips, lower_lips: indices of inner-lip vertices, pair by pair, for the closure term;
            empty: the pairs in inner_lips.npy of the folder.
        speech: folder of sounds without faces, on which latent and text alone apply; or empty.
        start: published checkpoint (.pth) to go on from; or empty. It brings its encoder, and its
            resample, stack, width, layers, heads and reach; with its recogniser also its reader
            and that one's sizes. Others are refused.
        reader: "frozen", or "trained" with the animator (published).
        reader_file: best.pt of a lip reader that was trained before on this recogniser, these lip
            vertices, and this unit.
        reader_epochs: over the recorded faces, before the animator's; 0: none (published).
        reader_layers, reader_reach: of the lip reader; reach 0: the paper's transformer.
        epochs: over all clips.
        batch, accumulate: clips at once, and how often before a step of the optimiser.
        learning_rate, warmup, schedule, weight_decay, clip, precision, average, seed: see
            `loop.Settings`; warmup in steps.
        validate_every: epochs; each writes a checkpoint.
        picture_every: validations.
    """

    data: str
    output: str
    cache: str = ""
    encoder: str = ""
    recogniser: str = ""
    network: bool = False
    layout: str = "own"
    resample: str = "auto"
    stack: int = 1
    width: int = 512
    layers: int = 1
    heads: int = 4
    reach: int = 0
    encoder_layers: int = 0
    train_encoder: bool = True
    lips: str = ""
    upper_lips: tuple[int, ...] = ()
    lower_lips: tuple[int, ...] = ()
    speech: str = ""
    start: str = ""
    reader: str = "frozen"
    reader_file: str = ""
    reader_epochs: int = 30
    reader_layers: int = 6
    reader_reach: int = 0
    epochs: int = 100
    batch: int = 1
    accumulate: int = 1
    learning_rate: float = 1e-4
    warmup: int = 0
    schedule: str = "constant"
    weight_decay: float = 0.0
    clip: float = 0.0
    precision: str = "fp32"
    average: float = 0.0
    seed: int = 0
    validate_every: int = 5
    picture_every: int = 5
    loss: DiagramWeights = field(default_factory=DiagramWeights)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @property
    def reads(self) -> bool:
        """Whether the diagram is trained, and not the animator alone."""
        return self.loss.latent > 0 or self.loss.text > 0


LAYOUTS: dict[str, dict[str, Any]] = {
    "own": {},
    "vocaset": {"resample": "convolutions", "stack": 1, "width": 512},
    "biwi": {"resample": "none", "stack": 2, "width": 1024},
}
CHOICES = {
    "layout": tuple(LAYOUTS),
    "resample": ("auto", "convolutions", "features", "none"),
    "reader": ("frozen", "trained"),
}
FOLDER_PATHS = (
    "data", "output", "cache", "encoder", "recogniser", "lips", "speech", "start", "reader_file",
)  # fmt: skip


def load_config(path: str | os.PathLike[str]) -> TrainConfig | FolderConfig:
    """Read a TOML file: `kind = "folder"` trains on a folder of faces, else the bundled head.

    `$NAME` in paths is taken from the environment; SELFTALK_SHARED defaults to ../shared.
    Relative folders are relative to the current one.

    Raises:
        SelfTalkError: the file is missing, is not TOML, or has a key that is unknown or of a
            wrong type.
    """
    try:
        table = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SelfTalkError(
            f"The training configuration {path} cannot be read: {error}."
        ) from error
    kind = table.pop("kind", "bundled")
    if kind == "folder":
        return _folder_config(table, str(path))
    if kind != "bundled":
        raise SelfTalkError(f"{path}: kind is {kind!r}; choose from folder, bundled.")
    loss = _checked(LossWeights, table.pop("loss", {}), str(path))
    config = _checked(TrainConfig, {**table, "loss": LossWeights(**loss)}, str(path))
    folders = ("data", "encoder", "output")
    _expand(config, (*folders, "recogniser", "start"), folders, path)
    return TrainConfig(**config)


def _folder_config(table: dict[str, Any], path: str) -> FolderConfig:
    loss = _checked(DiagramWeights, table.pop("loss", {}), path)
    layout = table.get("layout", "own")
    table = {**LAYOUTS.get(layout if isinstance(layout, str) else "", {}), **table}
    table = _checked(FolderConfig, {**table, "loss": DiagramWeights(**loss)}, path)
    _expand(table, FOLDER_PATHS, ("data", "output"), path)
    config = FolderConfig(**table)
    for key, known in CHOICES.items():
        if getattr(config, key) not in known:
            raise SelfTalkError(
                f"{path}: {key} is {getattr(config, key)!r}; choose from {', '.join(known)}."
            )
    for key in ("stack", "batch", "epochs", "validate_every", "accumulate"):
        if getattr(config, key) < 1:
            raise SelfTalkError(f"{path}: {key} is {getattr(config, key)}; 1 is the least.")
    if len(config.upper_lips) != len(config.lower_lips):
        raise SelfTalkError(f"{path}: upper_lips and lower_lips must be pairs.")
    if not (config.encoder or config.start):
        raise SelfTalkError(f"{path} lacks the key encoder, or start.")
    if config.reads and not (config.recogniser or config.start):
        raise SelfTalkError(
            f"{path} lacks the key recogniser. To train the animator alone, set latent and text "
            "to 0 in [loss]."
        )
    return config


def _expand(
    table: dict[str, Any], keys: tuple[str, ...], needed: tuple[str, ...], path: object
) -> None:
    """Put the environment into paths, in place."""
    os.environ.setdefault("SELFTALK_SHARED", "../shared")
    for key in needed:
        if key not in table:
            raise SelfTalkError(f"{path} lacks the key {key}.")
    for key in keys:
        if key in table:
            table[key] = os.path.expandvars(table[key])


def _checked(kind: type, table: dict[str, Any], path: str) -> dict[str, Any]:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key, value in table.items():
        if key not in fields:
            known = ", ".join(fields)
            raise SelfTalkError(f"{path} has the unknown key {key}; known are {known}.")
        if isinstance(value, list):
            table[key] = value = tuple(value)
        if type(value) is int and fields[key].type == "float":
            table[key] = value = float(value)
        wanted = str(fields[key].type).split("[")[0]
        if type(value).__name__ not in (wanted, "LossWeights", "DiagramWeights"):
            raise SelfTalkError(f"{path}: {key} is {value!r}, but a {wanted} is needed.")
    return table
