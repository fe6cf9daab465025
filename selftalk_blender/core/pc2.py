"""PC2 point caches: a little-endian header, then positions frame by frame."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np

from .mdd import write_positions

HEADER = struct.Struct("<12siiffi")


def write_pc2(
    file: BinaryIO, frames: int, vertices: int, first_frame: float, chunks: Iterable[np.ndarray]
) -> Iterator[int]:
    """Write a cache from pieces, so that the whole never stands in memory.

    Layout: "POINTCACHE2" and a zero byte, int32 version 1, int32 vertices, float32 first frame,
    float32 frames between samples (1), int32 samples, then float32 positions, all little-endian.

    Args:
        file: open for binary writing.
        frames, vertices: how many.
        first_frame: scene frame of the first sample.
        chunks: arrays (n, vertices, 3) of positions in object space that add up to `frames`.

    Yields:
        After each piece, how many frames are written.

    Raises:
        ValueError: the pieces do not add up, or have another vertex count.
        OSError: the disk is full.
    """
    file.write(HEADER.pack(b"POINTCACHE2\0", 1, vertices, first_frame, 1.0, frames))
    yield from write_positions(file, frames, vertices, "<f4", chunks)
