"""Tensors of a .safetensors file in plain numpy: Blender's Python has no library for it.

The format is 8 bytes that tell the header's length (little-endian), the header as JSON (name ->
dtype, shape, data_offsets; and "__metadata__", name -> text), and the tensors' bytes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

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
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        if not 0 < length <= min(LONGEST_HEADER, len(data) - 8):
            raise ValueError("it has no header")
        header = json.loads(data[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        tensors = {}
        for name, entry in header.items():
            begin, end = (8 + length + int(offset) for offset in entry["data_offsets"])
            if not 8 + length <= begin <= end <= len(data):
                raise ValueError(f"it ends before {name} does")
            flat = np.frombuffer(data[begin:end], TYPES[entry["dtype"]])
            tensors[name] = flat.reshape(entry["shape"]).astype(np.float32)
        return tensors, metadata
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SelfTalkError(f"{path} is not a readable animator file: {error}.") from error
