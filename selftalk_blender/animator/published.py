"""Checkpoints of SelfTalk in the published layout: `vocaset.pth`, `BIWI.pth`, and their like.

A published file is a plain state_dict of three modules and says nothing else: what it is made
of is read off the shapes. `convert` keeps what animates in a safetensors file that says it all.
Nothing in such files is ever executed.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from .device import usable_device
from .network import (
    AnimatorConfig,
    FacialAnimator,
    Layout,
    LipReader,
    MelEncoder,
    ReaderConfig,
    SelfTalk,
    SpeechEncoder,
    SpeechRecogniser,
    WaveEncoder,
)

FORMAT = 1
KIND = "vertices"  # of our own files; see `checkpoint.py` for the other kind
ENCODERS: dict[str, tuple[type, type]] = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
    "hubert": (HubertConfig, HubertModel),
    "wavlm": (WavLMConfig, WavLMModel),
}
# Published prefix -> ours, longest first where one begins another.
NAMES = (
    ("audio_encoder.", "encoder.model."),
    ("text_encoder.", "recogniser.model."),
    ("audio_feature_map.", "animator.audio_map."),
    ("transformer_decoder.layers.", "animator.decoder."),
    ("vertice_map_r.", "animator.head."),
    ("lip_map.", "lip_reader.lip_map."),
    ("transformer.", "lip_reader.transformer."),
    ("lm_head.", "lip_reader.head."),
)
ANIMATES = ("encoder.", "animator.")  # what a motion needs; the other modules only teach
WEIGHT_NORM = (
    (".conv.weight_g", ".conv.parametrizations.weight.original0"),
    (".conv.weight_v", ".conv.parametrizations.weight.original1"),
)
STRIDES = (5, 2, 2, 2, 2, 2, 2)  # of wav2vec 2.0's convolutions; no shape tells them
HEAD_WIDTH = 64  # of wav2vec 2.0's attention, base and large; no shape tells it, either
MOST_HEADS = 16  # the sizes beyond large have wider heads, not more
DECODER_HEADS = 4
READER_HEADS = 8


class VertexModel(nn.Module):
    """What animates: speech encoder and facial animator, with their layout."""

    def __init__(
        self, layout: Layout, encoder: WaveEncoder | MelEncoder, animator: FacialAnimator
    ) -> None:
        super().__init__()
        self.layout, self.encoder, self.animator = layout, encoder, animator


def is_published(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of these rather than a bundled animator; missing files are not."""
    path = Path(path)
    if not path.is_file():
        return False
    if not _is_safetensors(path):
        return zipfile.is_zipfile(path) or path.suffix.lower() != ".safetensors"
    try:
        return _settings(path).get("kind") == KIND
    except SelfTalkError:
        return False


def read_vertex_model(path: str | os.PathLike[str]) -> VertexModel:
    """Encoder and animator of a published checkpoint, or of one that we wrote; on the CPU.

    Raises:
        SelfTalkError: the file is missing, damaged or something else; the sentence names the
            key and the shapes.
    """
    path = Path(path)
    if not path.is_file():
        raise SelfTalkError(f"There is no animator file at {path}.")
    if _is_safetensors(path):
        tensors, model = _read_own(path)
    else:
        tensors = _read_published(path)
        layout, config, animator = _found(tensors, path)
        with torch.device("meta"):
            encoder = WaveEncoder(Wav2Vec2Model(config))
            model = VertexModel(layout, encoder, FacialAnimator(animator))
    _load(model, tensors, path)
    return model.eval()


def read_selftalk(
    path: str | os.PathLike[str], lip_vertices: Any, device: str | None = None
) -> SelfTalk:
    """All three modules of a published checkpoint.

    Args:
        lip_vertices: (n,) indices of the vertices that the lip reader reads, in its order.
        device: the CPU by default.

    Raises:
        SelfTalkError: as `read_vertex_model`; the lip vertices do not fit; no such device.
    """
    place = usable_device(device or "cpu")
    path = Path(path)
    if not path.is_file():
        raise SelfTalkError(f"There is no checkpoint at {path}.")
    if _is_safetensors(path):
        raise SelfTalkError(
            f"{path} holds the animator alone. Name the checkpoint that it was converted from."
        )
    tensors = _read_published(path)
    layout, config, animator = _found(tensors, path)
    reader = _reader_config(tensors, path)
    lips = _lip_list(lip_vertices, layout, path)
    text = _wave_config(tensors, "recogniser.model.wav2vec2.", path)
    text.vocab_size = _shape(tensors, "recogniser.model.lm_head.weight", path, 2)[0]
    with torch.device("meta"):
        model = SelfTalk(
            layout,
            WaveEncoder(Wav2Vec2Model(config)),
            FacialAnimator(animator),
            SpeechRecogniser(Wav2Vec2ForCTC(text)),
            LipReader(reader),
            lips,
        )
    model.lip_vertices = lips
    _load(model, tensors, path)
    return model.to(place).eval()


def save_vertex_model(
    path: str | os.PathLike[str], model: VertexModel | SelfTalk, half: bool = False
) -> None:
    """Write what animates as safetensors.

    Args:
        half: in half precision, half as large.

    Raises:
        SelfTalkError: the file cannot be written, or half precision cannot hold the values.
    """
    dtype = torch.float16 if half else torch.float32
    tensors = {
        name: value.detach().cpu().to(dtype).contiguous()
        for name, value in model.state_dict().items()
        if name.startswith(ANIMATES)
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise SelfTalkError(
                f"{_published_name(name)} holds values that half precision cannot. Leave it out."
            )
    settings = {
        "format": FORMAT,
        "kind": KIND,
        "layout": asdict(model.layout),
        "encoder": model.encoder.settings(),
        "animator": asdict(model.animator.config),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {"selftalk": json.dumps(settings)})


def convert(source: str | os.PathLike[str], target: str | os.PathLike[str], half: bool) -> str:
    """The command `selftalk convert`: a published checkpoint once read, never pickled again.

    Returns:
        A sentence on what was written.

    Raises:
        SelfTalkError: as `read_vertex_model` and `save_vertex_model`.
    """
    if Path(target).suffix.lower() != ".safetensors":
        raise SelfTalkError(f"Call the result something.safetensors, not {target}.")
    if Path(target).resolve() == Path(source).resolve():
        raise SelfTalkError(f"{target} is the file to convert. Give the result another name.")
    model = read_vertex_model(source)
    save_vertex_model(target, model, half)
    before, after = (Path(path).stat().st_size / 1e6 for path in (source, target))
    return (
        f"{target}: {model.layout.vertices} vertices at {model.layout.fps:g} fps, "
        f"{after:.0f} MB (it was {before:.0f} MB)"
    )


# --- Reading -------------------------------------------------------------------------------------


def _is_safetensors(path: Path) -> bool:
    """By the content, whatever it is called: the size of a JSON object, then the object."""
    try:
        with open(path, "rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError as error:
        raise SelfTalkError(f"{path} cannot be read: {error.strerror or error}.") from error


def _settings(path: Path) -> dict[str, Any]:
    """What `save_vertex_model` said about a file; {} of another's."""
    try:
        with safe_open(path, "pt") as file:
            settings = json.loads((file.metadata() or {}).get("selftalk", "{}"))
    except (SafetensorError, OSError, ValueError) as error:
        raise SelfTalkError(f"{path} is not a readable SelfTalk checkpoint: {error}.") from error
    return settings if isinstance(settings, dict) else {}


def _read_own(path: Path) -> tuple[dict[str, Tensor], VertexModel]:
    """The tensors of a file that we wrote, and the model that they belong into."""
    settings = _settings(path)
    if settings.get("kind") != KIND:
        raise SelfTalkError(f"{path} is a safetensors file, but no published checkpoint.")
    try:
        if settings["format"] > FORMAT:
            raise SelfTalkError(f"{path} was made by a newer SelfTalk. Update SelfTalk.")
        with torch.device("meta"):
            model = VertexModel(
                Layout(**settings["layout"]),
                _encoder(settings["encoder"]),
                FacialAnimator(AnimatorConfig(**settings["animator"])),
            )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError) as error:
        raise SelfTalkError(
            f"{path} is not a readable SelfTalk checkpoint: its description is damaged."
        ) from error
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, model  # noqa: SIM118


def _read_published(path: Path) -> dict[str, Tensor]:
    """The tensors under our names; what they hold stays on the disk until it is needed."""
    try:
        mapped = zipfile.is_zipfile(path)  # files before PyTorch 1.6 cannot be mapped
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        # Anything may come of damaged bytes. Torch's own text stays in the log: it advises to
        # execute what is in the file.
        raise SelfTalkError(
            f"{path} is damaged, or is no checkpoint of tensors alone; nothing in it was executed. "
            "Download or copy it again."
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict):
        raise SelfTalkError(f"{path} holds a {type(state).__name__}, not a SelfTalk state_dict.")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise SelfTalkError(
                f"{path} is no SelfTalk state_dict: its key {name} holds a {type(value).__name__}, "
                "not a tensor."
            )
    tensors = {}
    for name, tensor in state.items():
        name = str(name).removeprefix("module.")  # written from several GPUs
        for published, own in NAMES:
            if name.startswith(published):
                name = own + name[len(published) :]
                break
        for old, new in WEIGHT_NORM:
            if name.endswith(old):
                name = name[: -len(old)] + new
        tensors[name] = tensor
    return tensors


def _published_name(name: str) -> str:
    """The key as the user's file spells it, for sentences about it; both where there are two."""
    for published, own in NAMES:
        if name.startswith(own):
            name = published + name[len(own) :]
            break
    for old, new in WEIGHT_NORM:
        if name.endswith(new):
            name = f"{name} (or {name[: -len(new)] + old})"
    return name


def _shape(tensors: Mapping[str, Tensor], name: str, path: Path, dimensions: int) -> list[int]:
    if name not in tensors:
        raise SelfTalkError(
            f"{path} lacks the key {_published_name(name)}: it is no SelfTalk checkpoint, or a "
            "damaged one."
        )
    shape = list(tensors[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise SelfTalkError(
            f"{path}: {_published_name(name)} is {tuple(shape)}, but {dimensions} dimensions are "
            "needed, none of them 0."
        )
    return shape


def _divisible(
    tensors: Mapping[str, Tensor], name: str, path: Path, divisor: int, what: str
) -> None:
    shape = tuple(tensors[name].shape)
    if shape[0] % divisor:
        raise SelfTalkError(
            f"{path}: {_published_name(name)} is {shape}, but its first size must be a multiple of "
            f"{divisor} ({what})."
        )


def _found(
    tensors: Mapping[str, Tensor], path: Path
) -> tuple[Layout, Wav2Vec2Config, AnimatorConfig]:
    """Layout and sizes of a published checkpoint, from the shapes of its tensors."""
    config = _wave_config(tensors, "encoder.model.", path)
    width, features = _shape(tensors, "animator.audio_map.weight", path, 2)
    outputs, _ = _shape(tensors, "animator.head.weight", path, 2)
    if features not in (config.hidden_size, 2 * config.hidden_size):
        raise SelfTalkError(
            f"{path}: audio_feature_map.weight is {(width, features)}, but its second size must "
            f"be {config.hidden_size} (VOCASET) or {2 * config.hidden_size} (BIWI), the width of "
            "audio_encoder."
        )
    _divisible(tensors, "animator.audio_map.weight", path, DECODER_HEADS, "heads of attention")
    _divisible(tensors, "animator.head.weight", path, 3, "coordinates of a vertex")
    lips = tensors.get("lip_reader.lip_map.weight")
    count = lips.shape[1] // 3 if lips is not None and lips.ndim == 2 else 0
    stacked = features == 2 * config.hidden_size
    layout = Layout(
        fps=25.0 if stacked else 30.0,
        resample="" if stacked else "convolutions",
        stack=2 if stacked else 1,
        vertices=outputs // 3,
        lip_vertices=count,
    )
    animator = AnimatorConfig(
        features, width=width, layers=1, heads=DECODER_HEADS, reach=None, vertices=outputs // 3
    )
    return layout, config, animator


def _wave_config(tensors: Mapping[str, Tensor], prefix: str, path: Path) -> Wav2Vec2Config:
    """A wav2vec 2.0 that fits the tensors below a prefix."""
    extractor = f"{prefix}feature_extractor.conv_layers."
    convolutions = [
        _shape(tensors, f"{extractor}{number}.conv.weight", path, 3)
        for number in range(len(STRIDES))
    ]
    projection = f"{prefix}feature_projection.projection.weight"
    hidden = _shape(tensors, projection, path, 2)[0]
    feed = f"{prefix}encoder.layers.0.feed_forward.intermediate_dense.weight"
    position = _shape(tensors, f"{prefix}encoder.pos_conv_embed{WEIGHT_NORM[1][1]}", path, 3)
    heads = min(max(hidden // HEAD_WIDTH, 1), MOST_HEADS)
    _divisible(tensors, projection, path, heads, "heads of attention")
    _divisible(tensors, projection, path, position[1], "channels per group of pos_conv_embed")
    layer = re.compile(re.escape(prefix) + r"encoder\.layers\.(\d+)\.")
    numbers = {int(found[1]) for name in tensors if (found := layer.match(name))}
    # A norm in every convolution comes with norms before the attention ("large"), one in the
    # first alone with norms behind it ("base"). Any will do as a sign: what else should be there
    # and is not is then missed by name.
    later = tuple(f"{extractor}{number}.layer_norm." for number in range(1, len(STRIDES)))
    every = any(name.startswith(later) for name in tensors)
    biased = any(name.startswith(extractor) and name.endswith(".conv.bias") for name in tensors)
    return Wav2Vec2Config(
        vocab_size=33,
        hidden_size=hidden,
        num_hidden_layers=max(numbers, default=-1) + 1,
        num_attention_heads=heads,
        intermediate_size=_shape(tensors, feed, path, 2)[0],
        conv_dim=tuple(shape[0] for shape in convolutions),
        conv_kernel=tuple(shape[2] for shape in convolutions),
        conv_stride=STRIDES,
        conv_bias=biased,
        feat_extract_norm="layer" if every else "group",
        do_stable_layer_norm=every,
        num_conv_pos_embeddings=position[2],
        num_conv_pos_embedding_groups=hidden // position[1],
    )


def _lip_list(given: Any, layout: Layout, path: Path) -> Tensor:
    """(n,) indices, or a sentence."""
    lips = np.asarray(given).reshape(-1)
    if np.issubdtype(lips.dtype, np.floating) and (np.round(lips) == lips).all():
        lips = lips.astype(np.int64)  # as numpy reads text files
    if not np.issubdtype(lips.dtype, np.integer):
        raise SelfTalkError(
            f"The lip vertices must be a list of {layout.lip_vertices} whole numbers for {path}; "
            f"this one is of {lips.dtype} and {len(lips)} long."
        )
    if len(lips) != layout.lip_vertices or lips.min() < 0 or lips.max() >= layout.vertices:
        span = f", from {lips.min()} to {lips.max()}" if len(lips) else ""
        raise SelfTalkError(
            f"{path} reads {layout.lip_vertices} lip vertices of {layout.vertices}; the list has "
            f"{len(lips)}{span}."
        )
    return torch.from_numpy(lips.astype(np.int64))


def _reader_config(tensors: Mapping[str, Tensor], path: Path) -> ReaderConfig:
    width, lips = _shape(tensors, "lip_reader.lip_map.weight", path, 2)
    layer = re.compile(r"lip_reader\.transformer\.encoder\.layers\.(\d+)\.")
    numbers = {int(found[1]) for name in tensors if (found := layer.match(name))}
    _divisible(tensors, "lip_reader.lip_map.weight", path, READER_HEADS, "heads of attention")
    feed = "lip_reader.transformer.encoder.layers.0.linear1.weight"
    return ReaderConfig(
        lip_width=lips,
        classes=_shape(tensors, "lip_reader.head.weight", path, 2)[0],
        width=width,
        layers=max(numbers, default=-1) + 1,
        heads=READER_HEADS,
        feed_forward=_shape(tensors, feed, path, 2)[0],
    )


def _encoder(settings: dict[str, Any]) -> WaveEncoder | MelEncoder:
    """The encoder that its `settings` describe, without weights where torch's device is meta."""
    kind = settings.pop("model_type", None)
    if kind == "whisper":
        return MelEncoder(SpeechEncoder(**settings))
    if kind not in ENCODERS:
        raise SelfTalkError(
            f"The checkpoint's speech encoder is a {kind}; known are whisper, "
            f"{', '.join(ENCODERS)}."
        )
    config, model = ENCODERS[kind]
    return WaveEncoder(model(config(**settings)))


def _load(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put tensors into a model that was built without any."""
    state = {}
    for name, wanted in model.state_dict().items():
        if name not in tensors:
            if name.endswith(".masked_spec_embed"):  # of training alone
                state[name] = torch.zeros(wanted.shape)
                continue
            raise SelfTalkError(
                f"{path} lacks the key {_published_name(name)}, which should be "
                f"{tuple(wanted.shape)}."
            )
        tensor = tensors[name]
        if tensor.shape != wanted.shape:
            weight = name.removesuffix("bias") + "weight"  # most sizes were read off a weight
            beside = (
                f" beside {_published_name(weight)}, {tuple(tensors[weight].shape)}"
                if name.endswith("bias") and weight in tensors
                else ""
            )
            raise SelfTalkError(
                f"{path}: {_published_name(name)} is {tuple(tensor.shape)}, but "
                f"{tuple(wanted.shape)} is needed{beside}."
            )
        plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not plain or not tensor.is_floating_point():
            raise SelfTalkError(
                f"{path}: {_published_name(name)} is of {tensor.dtype} on {tensor.device}, "
                f"{tensor.layout}; plain floating-point numbers are needed."
            )
        state[name] = tensor.detach().float()
        if not torch.isfinite(state[name]).all():
            raise SelfTalkError(
                f"{path}: {_published_name(name)} holds values that are not finite numbers."
            )
    loaded = tuple({name.partition(".")[0] + "." for name in state})
    for name in tensors:
        if name.startswith(loaded) and name not in state:
            raise SelfTalkError(
                f"{path} has the key {_published_name(name)}, {tuple(tensors[name].shape)}, which "
                "has no place beside its others: it is of another network."
            )
    model.load_state_dict(state, assign=True)
