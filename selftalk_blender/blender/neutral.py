"""The animator that a user chose for a face, and the neutral face that it moves."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import SelfTalkError
from ..core.meshes import read_template

TEMPLATE_NEEDED = (".pth", ".pt")  # published checkpoints; SelfTalk's own are .safetensors
CHECKPOINTS = (*TEMPLATE_NEEDED, ".safetensors")


@dataclass(frozen=True, eq=False)
class Neutral:
    """A speaker's neutral face from the user's own file.

    Attributes:
        source: tells two of them apart: the file, its time and size, and the subject.
        vertices: (V, 3) float32 in the file's own axes and units.
        faces: vertex indices of each face, or None where the file has none.
    """

    source: tuple[str, int, int, str]
    vertices: np.ndarray
    faces: Sequence[Sequence[int]] | None


def read_neutral(path: str | os.PathLike[str], subject: str = "") -> Neutral:
    """Read a face template; quick for one that was read before and has not changed.

    Args:
        subject: which face of a file that holds several.

    Raises:
        SelfTalkError: the file is missing or holds no such face.
    """
    file = Path(path)
    try:
        state = file.stat()
    except OSError as error:
        raise SelfTalkError(f"There is no face template {file}. Choose its file.") from error
    return _read(str(file.absolute()), state.st_mtime_ns, state.st_size, subject)


@functools.lru_cache(maxsize=4)
def _read(path: str, time: int, size: int, subject: str) -> Neutral:
    vertices, faces = read_template(path, subject or None)
    return Neutral((path, time, size, subject), vertices, faces)


def check_checkpoint(path: Path) -> None:
    """Whether a file can be an animator's; what is in it is seen when it is loaded.

    Raises:
        SelfTalkError: it is not there, or is of another kind.
    """
    if path.suffix.lower() not in CHECKPOINTS:
        raise SelfTalkError(f"{path.name} is no animator: choose a .pth or .safetensors file.")
    if not path.is_file():
        raise SelfTalkError(f"There is no animator {path}. Choose its file.")
