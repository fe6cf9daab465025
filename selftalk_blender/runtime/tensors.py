"""Tensors of a .safetensors file in plain numpy: Blender's Python has no library for it.

The format is 8 bytes that tell the header's length (little-endian), the header as JSON (name ->
dtype, shape, data_offsets; and "__metadata__", name -> text), and the tensors' bytes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..core.errors import SelfTalkError

TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
LONGEST_HEADER = 1 << 24  # bytes


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Name -> float32 array, and the file's metadata.

    Raises:
        SelfTalkError: the file is missing, cut short, or something else.
    """
    path = Path(path)
    if not path.is_file():
        raise SelfTalkError(f"There is no animator file at {path}.")
    try:
        with open(path, "rb") as file:
            header = _header(file)
            metadata = header.pop("__metadata__", {})
            data = file.read()
        tensors = {}
        for name, entry in header.items():
            first, last = (int(offset) for offset in entry["data_offsets"])
            if not 0 <= first <= last <= len(data):
                raise ValueError(f"it ends before {name} does")
            flat = np.frombuffer(data[first:last], TYPES[entry["dtype"]])
            tensors[name] = flat.reshape(entry["shape"]).astype(np.float32)
        return tensors, metadata
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SelfTalkError(f"{path} is not a readable animator file: {error}.") from error


def is_numpy_animator(path: str | os.PathLike[str]) -> bool:
    """Whether a file is, by its header, an animator like the bundled one, or a damaged one.

    Raises:
        SelfTalkError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            header = _header(file)
        settings = json.loads(header["__metadata__"]["selftalk"])
        return "kind" not in settings
    except OSError as error:
        raise SelfTalkError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError):
        return Path(path).suffix.lower() == ".safetensors"


def _header(file: BinaryIO) -> dict[str, Any]:
    """The header; the tensors come next.

    Raises:
        ValueError: there is none.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= min(LONGEST_HEADER, size - 8):
        raise ValueError("it has no header")
    header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is damaged")
    return header
