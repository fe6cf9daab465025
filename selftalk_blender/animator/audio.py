"""Sound files as a stream of mono samples at 16 kHz.

libsndfile (through soundfile) reads wav, flac, mp3, ogg and their kin; FFmpeg (through PyAV)
reads the rest: m4a, and the sound of videos. An hour passes through without standing in memory.

Time zero is the first sample that is meant to be heard: what encoders put before it (AAC
priming, MP3 and Opus delay) is dropped by the decoders. Blender's sequencer counts the same way.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import soundfile
import soxr

from ..core.errors import SelfTalkError
from ..core.frontend import SAMPLE_RATE

RATES = (1000, 768000)  # Hz that are taken for a sample rate
MOST_CHANNELS = 64
CHUNK = 1 << 16  # sample frames decoded at once
LEAD_IN = 1.0  # seconds read before a start, so that decoder and resampler have settled there
JITTER = 0.03  # seconds by which timestamps of a container may be off without meaning a gap
LONGEST_GAP = 60.0  # seconds; beyond it timestamps are taken to be broken
CUT_SHORT = 0.5  # seconds that may be missing at the end of a file
PLACEHOLDER = 0x7FFF0000  # bytes; recorders that never came to write a length leave more than this
# FFmpeg containers that know their length and where a time stands. Others are decoded from the
# beginning.
EXACT = {"mov", "mp4", "m4a", "matroska", "webm"}
# The containers that FFmpeg may open: no playlists, which name other files and addresses.
CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,mpegvideo,"
    "mxf,nut,ogg,rm,swf,tta,voc,w64,wav,wtv,wv"
)


@dataclass(frozen=True)
class Sound:
    """A sound file that can be read.

    Attributes:
        path: the file.
        sample_rate: Hz, of the file.
        channels: of the file.
        duration: seconds; an estimate where the file does not say, 0 where nothing is known.
    """

    path: Path
    sample_rate: int
    channels: int
    duration: float
    _reader: _Reader = field(repr=False, compare=False)

    def blocks(
        self, start: float = 0.0, stop: float | None = None, seconds: float = 30.0
    ) -> Iterator[np.ndarray]:
        """Read the sound, or a part of it, as a stream; each call begins anew.

        Sample i of all blocks together is the sound at start + i / SAMPLE_RATE seconds: the
        same samples, wherever `start` is. A part beyond the end of the file is left out.

        Args:
            start, stop: seconds in the file.
            seconds: length of the blocks; the last one may be shorter.

        Yields:
            (n,) float32, mono, SAMPLE_RATE Hz, never empty.

        Raises:
            SelfTalkError: the file is damaged or holds samples that are not numbers.
        """
        first = round(max(start, 0.0) * SAMPLE_RATE)
        # From a whole second on, samples of both rates fall on the same instants.
        second = max(math.floor(first / SAMPLE_RATE - LEAD_IN), 0)
        skip = first - second * SAMPLE_RATE
        left = math.inf if stop is None else round(stop * SAMPLE_RATE) - first
        size = max(round(seconds * SAMPLE_RATE), 1)
        mono = self._mono(second * self.sample_rate)
        waiting: list[np.ndarray] = []
        held = 0
        for part in _resampled(mono, self.sample_rate):
            if skip:
                skip, part = max(skip - len(part), 0), part[skip:]
            waiting.append(part)
            held += len(part)
            while held >= min(size, left) and left > 0:
                joined = np.concatenate(waiting)
                count = min(size, left)
                block = joined[: int(count)]
                waiting = [joined[len(block) :]]
                held -= len(block)
                left -= len(block)
                yield block
            if left <= 0:
                return
        if held:
            yield np.concatenate(waiting)

    def _mono(self, frame: int) -> Iterator[np.ndarray]:
        """(n,) float32 at the rate of the file, from a sample frame on."""
        for samples in self._reader.read(frame):
            mono = _mixed(samples)
            bad = np.flatnonzero(~np.isfinite(mono))
            if len(bad):
                raise SelfTalkError(
                    f"{self.path.name} holds samples that are not numbers "
                    f"(at {(frame + bad[0]) / self.sample_rate:.2f} s). "
                    "Export it again, for example as 16-bit WAV."
                )
            frame += len(mono)
            yield mono


def open_sound(path: str | os.PathLike[str]) -> Sound:
    """Look at a sound file, or at the sound of a video.

    Raises:
        SelfTalkError: the file is missing, empty, not a sound, or has no sound in it.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise SelfTalkError(f"There is no file {path}. Check its name and folder.")
        if path.is_dir():
            raise SelfTalkError(f"{path} is a folder. Choose a sound file in it.")
        if path.stat().st_size == 0:
            raise SelfTalkError(f"{path.name} is empty (0 bytes). Export or copy it again.")
        with open(path, "rb"):
            pass
    except OSError as error:
        raise _unreadable(path, error) from error
    reader: _Reader
    try:
        reader = _SndFile(path)
    except soundfile.LibsndfileError:
        reader = _FFmpeg(path)
    if reader.channels < 1 or not RATES[0] <= reader.rate <= RATES[1]:
        raise SelfTalkError(
            f"{path.name} says that it has {reader.channels} channels at {reader.rate} Hz, which "
            "cannot be. Export it again."
        )
    return Sound(path, reader.rate, reader.channels, reader.duration, reader)


def read_sound(path: str | os.PathLike[str]) -> np.ndarray:
    """A whole sound file, (N,) float32, mono, at SAMPLE_RATE; N = 0 where it is empty.

    Raises:
        SelfTalkError: as `open_sound` and `Sound.blocks`.
    """
    return np.concatenate([np.zeros(0, np.float32), *open_sound(path).blocks()])


def to_mono_16k(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Recorded samples as the animator reads them; the same as `Sound.blocks` of a file.

    Args:
        samples: (N,) mono or (N, C) channels, floats in -1..1.
        sample_rate: Hz.

    Returns:
        (M,) float32, mono, SAMPLE_RATE Hz.

    Raises:
        SelfTalkError: wrong shape, type or rate, or samples that are not finite.
    """
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] > MOST_CHANNELS):
        raise SelfTalkError(
            f"The samples have the shape {samples.shape}; give (samples,) or (samples, channels)."
        )
    if samples.ndim == 2 and samples.shape[1] == 0:
        raise SelfTalkError("The sound has no channels.")
    if not np.issubdtype(samples.dtype, np.floating):
        raise SelfTalkError(f"The samples are {samples.dtype}; give float32 between -1 and 1.")
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise SelfTalkError(f"A sample rate of {sample_rate} Hz is not one; give it in Hz.")
    if not np.isfinite(samples).all():
        raise SelfTalkError("The sound holds samples that are not numbers (NaN or infinite).")
    mono = _mixed(samples[:, None] if samples.ndim == 1 else samples)
    chunks = (mono[i : i + CHUNK] for i in range(0, len(mono), CHUNK))
    return np.concatenate([np.zeros(0, np.float32), *_resampled(chunks, sample_rate)])


def _mixed(samples: np.ndarray) -> np.ndarray:
    """(n, C) -> (n,) float32: the mean of the channels; level is the animator's business."""
    return np.ascontiguousarray(samples.mean(1, dtype=np.float32))


def _resampled(chunks: Iterator[np.ndarray], rate: float) -> Iterator[np.ndarray]:
    """(n,) float32 chunks of any length at `rate` -> the same sound at SAMPLE_RATE."""
    if rate == SAMPLE_RATE:
        yield from chunks
        return
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    any_sound = False
    for chunk in chunks:
        any_sound = True
        yield resampler.resample_chunk(chunk)
    if any_sound:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


class _Reader(Protocol):
    """One of the two libraries, on one file."""

    rate: int
    channels: int
    duration: float

    def read(self, frame: int) -> Iterator[np.ndarray]:
        """(n, channels) floats from a sample frame on."""
        ...


class _SndFile:
    """libsndfile."""

    def __init__(self, path: Path) -> None:
        """Raises soundfile.LibsndfileError where another library should try."""
        self.path = path
        with soundfile.SoundFile(path) as file:
            self.rate, self.channels = file.samplerate, file.channels
            self.duration = file.frames / file.samplerate
            if file.frames == 0:
                raise _header_only(path)
            sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
            if file.format.startswith("WAV") and sizes:
                told, there = map(int, sizes.groups())
                whole = self.duration * told / max(there, 1)
                if told < PLACEHOLDER and self.duration < whole - CUT_SHORT:
                    raise _cut_short(path, self.duration, whole)

    def read(self, frame: int) -> Iterator[np.ndarray]:
        try:
            with soundfile.SoundFile(self.path) as file:
                if frame >= file.frames:
                    return
                if frame:
                    file.seek(frame)
                while len(samples := file.read(CHUNK, dtype="float32", always_2d=True)):
                    frame += len(samples)
                    yield samples
                if frame < file.frames - CUT_SHORT * file.samplerate:
                    raise _cut_short(self.path, frame / file.samplerate, self.duration)
        except soundfile.LibsndfileError as error:
            raise _damaged(self.path, frame / self.rate) from error
        except OSError as error:
            raise _unreadable(self.path, error) from error


class _FFmpeg:
    """FFmpeg's libraries."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with self._open() as container:
                stream = _stream(container)
                if stream is None:
                    raise SelfTalkError(
                        f"{path.name} has no sound in it. Choose a sound file, or a video that "
                        "has sound."
                    )
                first = next(_decoded(container, stream), None)
                if first is None:
                    raise _header_only(path)
                # Of the decoded sound: some headers tell half the rate that comes out.
                self.rate, self.channels = first.sample_rate, first.layout.nb_channels
                self.zero = _seconds(first)
                self.exact = not EXACT.isdisjoint(container.format.name.split(","))
                if stream.duration is not None and stream.time_base is not None:
                    self.duration = float(stream.duration * stream.time_base)
                    self.told = self.exact
                else:
                    self.duration = (container.duration or 0) / 1e6
                    self.told = self.exact and not container.streams.video
        except (av.FFmpegError, ValueError) as error:
            raise SelfTalkError(
                f"{path.name} is not a sound file that can be read. "
                "Convert it to WAV, FLAC, MP3, OGG or M4A."
            ) from error

    def _open(self) -> av.container.InputContainer:
        options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
        return av.open(f"file:{self.path}", options=options)

    def read(self, frame: int) -> Iterator[np.ndarray]:
        position = None if frame and self.exact else 0
        try:
            with self._open() as container:
                stream = _stream(container)
                assert stream is not None and stream.time_base is not None
                if position is None:
                    target = self.zero + frame / self.rate - LEAD_IN
                    container.seek(round(target / stream.time_base), stream=stream)
                for decoded in _decoded(container, stream):
                    if decoded.sample_rate != self.rate:
                        raise _damaged(self.path, frame / self.rate)
                    here = round((_seconds(decoded) - self.zero) * self.rate)
                    if position is None:
                        position = here
                    gap = here - position
                    if JITTER * self.rate < gap < LONGEST_GAP * self.rate:
                        position += gap
                        if position > frame:
                            yield np.zeros((min(gap, position - frame), 1), np.float32)
                    samples = _floats(decoded)
                    position += len(samples)
                    if position > frame:
                        yield samples[max(frame - position, -len(samples)) :]
                    frame = max(frame, position)
                if self.told and position and position / self.rate < self.duration - CUT_SHORT:
                    raise _cut_short(self.path, position / self.rate, self.duration)
        except (av.FFmpegError, ValueError) as error:
            raise _damaged(self.path, frame / self.rate) from error


def _stream(container: av.container.InputContainer) -> av.AudioStream | None:
    stream = container.streams.best("audio")
    assert stream is None or isinstance(stream, av.AudioStream)
    return stream


def _decoded(
    container: av.container.InputContainer, stream: av.AudioStream
) -> Iterator[av.AudioFrame]:
    for frame in container.decode(stream):
        assert isinstance(frame, av.AudioFrame)
        yield frame


def _seconds(frame: av.AudioFrame) -> float:
    return float(frame.pts * frame.time_base) if frame.pts and frame.time_base else 0.0


def _floats(frame: av.AudioFrame) -> np.ndarray:
    """(n, C) floats of a decoded frame of any sample format."""
    samples = frame.to_ndarray()
    channels = frame.layout.nb_channels
    samples = samples.reshape(-1, channels) if frame.format.is_packed else samples.T
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if np.issubdtype(samples.dtype, np.integer):
        return (samples / 2.0 ** (8 * samples.itemsize - 1)).astype(np.float32)
    return samples


def _damaged(path: Path, second: float) -> SelfTalkError:
    return SelfTalkError(f"{path.name} is damaged after {second:.1f} s. Export or copy it again.")


def _cut_short(path: Path, second: float, duration: float) -> SelfTalkError:
    return SelfTalkError(
        f"{path.name} ends at {second:.1f} s although it should last {duration:.1f} s. "
        "Copy or export it again."
    )


def _header_only(path: Path) -> SelfTalkError:
    return SelfTalkError(f"{path.name} has a header but no sound in it. Export or record it again.")


def _unreadable(path: Path, error: OSError) -> SelfTalkError:
    return SelfTalkError(f"{path} cannot be read: {error.strerror or error}.")
