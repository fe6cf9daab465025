"""WAV files, read by numpy alone and as a stream: PCM and floats, RF64 for those beyond 4 GB.

Format: Microsoft's Multimedia Programming Interface (1991), WAVE_FORMAT_EXTENSIBLE, EBU Tech 3306.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from .errors import SelfTalkError
from .frontend import SAMPLE_RATE
from .sound import CHUNK, CUT_SHORT, Sound, check_file, cut_short, header_only, opened, unreadable

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
MOST_CHANNELS = 1024
PLACEHOLDER = 0x7FFF0000  # bytes; recorders that never came to write a length leave more than this


class NotWavError(SelfTalkError):
    """It is another kind of file, or a WAV with compressed samples: something else may read it."""


def open_wav(path: str | os.PathLike[str]) -> Sound:
    """Look at a WAV file.

    Raises:
        NotWavError: it is none, or its samples are compressed.
        SelfTalkError: the file is missing, empty, damaged, or has no sound in it.
    """
    path = Path(path)
    check_file(path)
    return opened(path, _Wav(path))


def wav_header(frames: int) -> bytes:
    """What stands before so many mono float32 samples of SAMPLE_RATE in a WAV file."""
    size = 4 * frames
    form = struct.pack("<HHIIHH", FLOAT, 1, SAMPLE_RATE, 4 * SAMPLE_RATE, 4, 32)
    return struct.pack("<4sI4s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", len(form)) + (
        form + struct.pack("<4sI", b"data", size)
    )


class _Wav:
    """See `sound.Reader`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                form, self._begin, told = _chunks(path, file)
                there = os.fstat(file.fileno()).st_size - self._begin
        except OSError as error:
            raise unreadable(path, error) from error
        kind, self.channels, self.rate, self._frame, bits = _format(path, form)
        self._width = self._frame // max(self.channels, 1)  # bytes of a sample
        if (
            not 0 < self.channels <= MOST_CHANNELS
            or self._frame != self._width * self.channels
            or self.rate < 1
        ):
            raise SelfTalkError(
                f"{path.name} says that it has {self.channels} channels at {self.rate} Hz, which "
                "cannot be. Export it again."
            )
        self._float = kind == FLOAT
        if self._width not in ((4, 8) if self._float else (1, 2, 3, 4)):
            raise NotWavError(
                f"{path.name} has samples of {bits} bits, which SelfTalk cannot read. Export it "
                "again, for example as 16-bit WAV."
            )
        self._frames = min(told, there) // self._frame
        self.duration = self._frames / self.rate
        if self._frames == 0:
            raise header_only(path)
        whole = told / self._frame / self.rate
        if told < PLACEHOLDER and self.duration < whole - CUT_SHORT:
            raise cut_short(path, self.duration, whole)

    def read(self, frame: int) -> Iterator[np.ndarray]:
        try:
            with open(self.path, "rb") as file:
                file.seek(self._begin + frame * self._frame)
                while frame < self._frames:
                    count = min(CHUNK, self._frames - frame)
                    data = file.read(count * self._frame)
                    count = len(data) // self._frame
                    if count == 0:
                        raise cut_short(self.path, frame / self.rate, self.duration)
                    yield self._samples(data[: count * self._frame]).reshape(count, -1)
                    frame += count
        except OSError as error:
            raise unreadable(self.path, error) from error

    def _samples(self, data: bytes) -> np.ndarray:
        """(n,) float32, PCM in -1..1."""
        if self._float:
            # A double beyond float32 becomes infinite, and is told of.
            with np.errstate(over="ignore"):
                return np.frombuffer(data, f"<f{self._width}").astype(np.float32)
        if self._width == 1:
            return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
        if self._width == 3:
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            return wide.view("<i4")[:, 0].astype(np.float32) / np.float32(1 << 31)
        scale = np.float32(1 << (8 * self._width - 1))
        return np.frombuffer(data, f"<i{self._width}").astype(np.float32) / scale


def _chunks(path: Path, file: BinaryIO) -> tuple[bytes, int, int]:
    """The format chunk, where the samples begin in the file, and how many bytes of them are told.

    Raises:
        NotWavError: it is no WAV.
        SelfTalkError: it ends too early.
    """
    start = file.read(12)
    if len(start) < 12 or start[:4] not in (b"RIFF", b"RF64") or start[8:] != b"WAVE":
        raise NotWavError(f"{path.name} is not a WAV file.")
    form = b""
    large = None
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            if not form:
                break
            told = large if large is not None and size == 0xFFFFFFFF else size
            return form, file.tell(), told
        after = file.tell() + size + size % 2
        if name == b"fmt ":
            form = file.read(min(size, 64))
        elif name == b"ds64":
            sizes = file.read(min(size, 24))
            if len(sizes) >= 16:
                (large,) = struct.unpack_from("<Q", sizes, 8)
        file.seek(after)
    if form:
        raise header_only(path)
    raise NotWavError(f"{path.name} is not a WAV file that can be read: it says no format.")


def _format(path: Path, form: bytes) -> tuple[int, int, int, int, int]:
    """Kind of samples, channels, Hz, bytes of a sample of all channels, and bits of one.

    Raises:
        NotWavError: it is compressed, or the format is cut short.
    """
    if len(form) < 16:
        raise NotWavError(f"{path.name} is not a WAV file that can be read: it says no format.")
    kind, channels, rate, _, frame, bits = struct.unpack_from("<HHIIHH", form)
    if kind == EXTENSIBLE and len(form) >= 26:
        (kind,) = struct.unpack_from("<H", form, 24)
    if kind not in (PCM, FLOAT):
        raise NotWavError(
            f"{path.name} is a WAV file with compressed samples (kind {kind}). Export it again, "
            "for example as 16-bit WAV."
        )
    return kind, channels, rate, frame, bits
