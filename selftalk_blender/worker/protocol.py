"""What Blender's side and the animator's process say to each other, byte by byte.

A message is:

    3 bytes   b"STW"
    1 byte    VERSION of this protocol
    4 bytes   length of the header, unsigned, little-endian; at most LARGEST_HEADER
    header    JSON, UTF-8: an object with "kind" (a string), further fields of that kind, and,
              if arrays follow, "arrays": {name: [dtype, [length, ...]], ...}
    arrays    their raw bytes, C order, one after the other; at most LARGEST_PAYLOAD together

dtype is "<f4" or "<i4". Nothing is ever unpickled or executed. A longer array travels in several
messages. `docs/worker-protocol.md` lists the kinds and their order.

Numpy is imported only where an array arrives: a Python without it can still say so.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np

VERSION = 1
LARGEST_HEADER = 1 << 20
LARGEST_PAYLOAD = 1 << 26
PIECE = 1 << 22  # bytes of a long array that travel at once: a few milliseconds of copying

_MAGIC = b"STW"
_START = struct.Struct("<3sBI")
_ITEM_SIZES = {"<f4": 4, "<i4": 4}


class ProtocolError(Exception):
    """What came is no message of this protocol; the text says why."""


class VersionError(ProtocolError):
    """The other side speaks another version."""


@dataclass(frozen=True)
class Message:
    """One message; see `docs/worker-protocol.md` for the kinds.

    Attributes:
        kind: what it is.
        fields: what else the header says.
        arrays: name -> array, float32 or int32.
    """

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


def write(
    stream: BinaryIO, kind: str, arrays: Mapping[str, np.ndarray] | None = None, **fields: Any
) -> None:
    """Write one message and flush.

    Args:
        arrays: C-contiguous float32 or int32.

    Raises:
        ValueError: it cannot be sent: an array of another type or order, or too large.
        OSError: the other side is gone.
    """
    header: dict[str, Any] = {"kind": kind, **fields}
    arrays = arrays or {}
    if arrays:
        header["arrays"] = {
            name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()
        }
    text = json.dumps(header, allow_nan=False).encode()
    for name, array in arrays.items():
        if array.dtype.str not in _ITEM_SIZES or not array.flags.c_contiguous:
            raise ValueError(f"{name} is {array.dtype}, or not in C order")
    if len(text) > LARGEST_HEADER or sum(a.nbytes for a in arrays.values()) > LARGEST_PAYLOAD:
        raise ValueError(f"the message {kind} is too large")
    stream.write(_START.pack(_MAGIC, VERSION, len(text)) + text)
    for array in arrays.values():
        stream.write(array.tobytes())
    stream.flush()


def read(stream: BinaryIO) -> Message | None:
    """Read one message; None where the stream ends after a whole one.

    Raises:
        VersionError: it is of another version.
        ProtocolError: it is no message, is larger than allowed, or is cut off.
    """
    start = stream.read(_START.size)
    if not start:
        return None
    if not start.startswith(_MAGIC):
        raise ProtocolError(f"it begins with {start!r}")
    if len(start) < _START.size:
        raise ProtocolError("a message is cut off")
    _, version, length = _START.unpack(start)
    if version != VERSION:
        raise VersionError(f"it is of version {version}, not {VERSION}")
    if length > LARGEST_HEADER:
        raise ProtocolError(f"a header of {length} bytes is too long")
    try:
        header = json.loads(_exactly(stream, length))
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a header is not JSON") from error
    if not isinstance(header, dict) or not isinstance(header.get("kind"), str):
        raise ProtocolError("a header names no kind")
    kind, listed = header.pop("kind"), header.pop("arrays", {})
    return Message(kind, header, _read_arrays(stream, listed))


def _read_arrays(stream: BinaryIO, listed: Any) -> dict[str, np.ndarray]:
    if not isinstance(listed, dict):
        raise ProtocolError("the list of arrays is not one")
    sizes = {}
    for name, entry in listed.items():
        if not (
            isinstance(entry, list)
            and len(entry) == 2
            and isinstance(entry[0], str)
            and entry[0] in _ITEM_SIZES
            and isinstance(entry[1], list)
            and all(type(length) is int and length >= 0 for length in entry[1])
        ):
            raise ProtocolError(f"array {name} is described as {str(entry)[:80]}")
        sizes[name] = _ITEM_SIZES[entry[0]] * math.prod(entry[1])
    if sum(sizes.values()) > LARGEST_PAYLOAD:
        raise ProtocolError(f"arrays of {sum(sizes.values())} bytes are too large")
    if not sizes:
        return {}
    import numpy as np

    return {
        name: np.frombuffer(_exactly(stream, sizes[name]), dtype).reshape(shape)
        for name, (dtype, shape) in listed.items()
    }


def _exactly(stream: BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise ProtocolError("a message is cut off")
    return data
