"""The animator's file: safetensors with the sizes as JSON beside the tensors, never code."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from .network import AnimatorConfig, FacialAnimator, SpeechEncoder

FORMAT = 1
# Fixed sinusoids, made again by the module itself.
POSITIONS = "whisper.embed_positions.weight"


def save_animator(
    path: str | os.PathLike[str],
    encoder: SpeechEncoder,
    animator: FacialAnimator,
    template_digest: str,
    window: int,
) -> None:
    """Write the whole animator, half precision.

    Args:
        template_digest: `FaceTemplate.digest` of the head whose shapes it moves.
        window: frames per window of inference.

    Raises:
        SelfTalkError: the file cannot be written.
    """
    tensors = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    tensors.update({f"animator.{name}": value for name, value in animator.state_dict().items()})
    tensors.pop(f"encoder.{POSITIONS}")
    tensors = {name: value.detach().cpu().half().contiguous() for name, value in tensors.items()}
    settings = {
        "format": FORMAT,
        "encoder": encoder.settings(),
        "animator": asdict(animator.config),
        "template": template_digest,
        "window": window,
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {"selftalk": json.dumps(settings)})


def read_animator(
    path: str | os.PathLike[str],
) -> tuple[SpeechEncoder, FacialAnimator, dict[str, Any]]:
    """The networks and the settings that `save_animator` wrote; float32, on the CPU.

    Raises:
        SelfTalkError: the file is missing, damaged, newer than this program, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise SelfTalkError(f"There is no animator file at {path}.")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if "selftalk" not in metadata:
                raise SelfTalkError(f"{path} is a safetensors file, but not a SelfTalk animator.")
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        settings = json.loads(metadata["selftalk"])
        if settings["format"] > FORMAT:
            raise SelfTalkError(
                f"{path} was made by a newer SelfTalk (format {settings['format']}). "
                "Update SelfTalk."
            )
        encoder = SpeechEncoder(**settings["encoder"])
        config = settings["animator"] | {"shape_names": tuple(settings["animator"]["shape_names"])}
        animator = FacialAnimator(AnimatorConfig(**config))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise SelfTalkError(f"{path} is not a readable SelfTalk animator: {error}.") from error
    load_exactly(encoder, _part(tensors, "encoder."), str(path))
    load_exactly(animator, _part(tensors, "animator."), str(path))
    return encoder.eval(), animator.eval(), settings


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n[len(prefix) :]: value for n, value in tensors.items() if n.startswith(prefix)}


def load_exactly(module: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Put tensors into a module.

    Raises:
        SelfTalkError: one is missing, of another shape, or not finite.
    """
    own = module.state_dict()
    for name, value in own.items():
        if name not in tensors:
            if name == POSITIONS:
                continue
            raise SelfTalkError(f"{source} lacks the tensor {name}.")
        if tensors[name].shape != value.shape:
            raise SelfTalkError(
                f"{source}: {name} is {tuple(tensors[name].shape)}, "
                f"but {tuple(value.shape)} is needed."
            )
        if not torch.isfinite(tensors[name]).all():
            raise SelfTalkError(f"{source}: {name} holds values that are not finite.")
    module.load_state_dict({name: tensors.get(name, own[name]) for name in own})
