"""MDD point caches: big-endian frames, vertices, times, then positions frame by frame."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np


def write_mdd(
    file: BinaryIO,
    frames: int,
    vertices: int,
    fps: float,
    chunks: Iterable[np.ndarray],
    start: float = 0.0,
) -> Iterator[int]:
    """Write a cache from pieces, so that the whole never stands in memory.

    Layout: int32 frames, int32 vertices, float32 times (seconds), float32 positions, all
    big-endian.

    Args:
        file: open for binary writing.
        frames, vertices: how many.
        fps: frames per second of the times written; frame i is at start + i / fps.
        chunks: arrays (n, vertices, 3) of positions in object space that add up to `frames`.
        start: seconds of the first frame.

    Yields:
        After each piece, how many frames are written.

    Raises:
        ValueError: the pieces do not add up, or have another vertex count.
        OSError: the disk is full.
    """
    file.write(np.array([frames, vertices], ">i4").tobytes())
    file.write((start + np.arange(frames) / fps).astype(">f4").tobytes())
    yield from write_positions(file, frames, vertices, ">f4", chunks)


def write_positions(
    file: BinaryIO, frames: int, vertices: int, kind: str, chunks: Iterable[np.ndarray]
) -> Iterator[int]:
    """Write the positions of a cache as floats of a kind, ">f4" or "<f4"; else as `write_mdd`."""
    written = 0
    for chunk in chunks:
        if chunk.shape[1:] != (vertices, 3):
            raise ValueError(f"frames of {chunk.shape[1:]} in a cache of {vertices} vertices")
        file.write(chunk.astype(kind).tobytes())
        written += len(chunk)
        yield written
    if written != frames:
        raise ValueError(f"{written} frames written, {frames} announced")


def read_mdd(path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Times (T,) in seconds and positions (T, V, 3) of a cache.

    Raises:
        ValueError: the file's size does not fit its header.
    """
    with open(path, "rb") as file:
        frames, vertices = (int(n) for n in np.fromfile(file, ">i4", 2))
        times = np.fromfile(file, ">f4", frames).astype(np.float32)
        positions = np.fromfile(file, ">f4").astype(np.float32)
    if positions.size != frames * vertices * 3:
        raise ValueError(f"{path}: {positions.size} values, not {frames} x {vertices} x 3")
    return times, positions.reshape(frames, vertices, 3)
