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
        precision: "fp32" or "bf16", of the forward pass.
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
        seed: of everything random.
        width, layers, heads, reach, kernel, dropout: see `AnimatorConfig`.
        checkpoint_every, validate_every: steps.
    """

    data: str
    encoder: str
    output: str
    recogniser: str = ""
    start: str = ""
    reader_steps: int = 600
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


def load_config(path: str | os.PathLike[str]) -> TrainConfig:
    """Read a TOML file; `$NAME` in the three folders is taken from the environment.

    Relative folders are relative to the current one. SELFTALK_SHARED defaults to ../shared.

    Raises:
        SelfTalkError: the file is missing, is not TOML, or has a key that is unknown or of a
            wrong type.
    """
    try:
        table = tomllib.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise SelfTalkError(
            f"The training configuration {path} cannot be read: {error}."
        ) from error
    loss = _checked(LossWeights, table.pop("loss", {}), str(path))
    config = _checked(TrainConfig, {**table, "loss": LossWeights(**loss)}, str(path))
    os.environ.setdefault("SELFTALK_SHARED", "../shared")
    for key in ("data", "encoder", "output"):
        if key not in config:
            raise SelfTalkError(f"{path} lacks the key {key}.")
    for key in ("data", "encoder", "output", "recogniser", "start"):
        if key in config:
            config[key] = os.path.expandvars(config[key])
    return TrainConfig(**config)


def _checked(kind: type, table: dict[str, Any], path: str) -> dict[str, Any]:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key, value in table.items():
        if key not in fields:
            known = ", ".join(fields)
            raise SelfTalkError(f"{path} has the unknown key {key}; known are {known}.")
        if isinstance(value, list):
            table[key] = value = tuple(value)
        if isinstance(value, int) and fields[key].type == "float":
            table[key] = value = float(value)
        wanted = str(fields[key].type).split("[")[0]
        if type(value).__name__ not in (wanted, "LossWeights"):
            raise SelfTalkError(f"{path}: {key} is {value!r}, but a {wanted} is needed.")
    return table
