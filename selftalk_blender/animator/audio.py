"""Sound files of every kind, as streams of mono samples at 16 kHz.

WAV files are read by `core.wav`; libsndfile (through soundfile) reads flac, mp3, ogg and their kin;
FFmpeg (through PyAV) reads the rest: m4a, and the sound of videos. Each library is asked for only
where a file needs it. No torch here.

Time zero is the first sample that is meant to be heard: what encoders put before it (AAC
priming, MP3 and Opus delay) is dropped by the decoders. Blender's sequencer counts the same way.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import SelfTalkError
from ..core.resample import resampled
from ..core.sound import (
    CHUNK,
    CUT_SHORT,
    LEAD_IN,
    RATES,
    Sound,
    cut_short,
    damaged,
    header_only,
    mixed,
    no_sound,
    not_a_sound,
    opened,
    unreadable,
)
from ..core.wav import PLACEHOLDER, NotWavError, open_wav

if TYPE_CHECKING:
    import av

MOST_CHANNELS = 64
JITTER = 0.03  # seconds by which timestamps of a container may be off without meaning a gap
LONGEST_GAP = 60.0  # seconds; beyond it timestamps are taken to be broken
# FFmpeg containers that know their length and where a time stands. Others are decoded from the
# beginning.
EXACT = {"mov", "mp4", "m4a", "matroska", "webm"}
# The containers that FFmpeg may open: no playlists, which name other files and addresses.
CONTAINERS = (
    "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,mpegvideo,"
    "mxf,nut,ogg,rm,swf,tta,voc,w64,wav,wtv,wv"
)
# What libsndfile reads without FFmpeg's help.
SNDFILE = frozenset(".wav .flac .mp3 .ogg .oga .opus .aif .aiff .au .caf .w64".split())


def open_sound(path: str | os.PathLike[str]) -> Sound:
    """Look at a sound file, or at the sound of a video.

    Raises:
        SelfTalkError: the file is missing, empty, not a sound, has no sound in it, or needs a
            library that this Python lacks, or that cannot read its name.
    """
    path = Path(path)
    try:
        return open_wav(path)
    except NotWavError:
        pass
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise SelfTalkError(
            f"{path} cannot be opened: its path is no text in UTF-8. Rename it."
        ) from error
    lacking = []
    try:
        import soundfile
    except (ImportError, OSError):  # as it says that libsndfile itself is missing
        lacking.append("soundfile")
    else:
        try:
            return opened(path, _SndFile(path))
        except soundfile.LibsndfileError:
            pass
    try:
        import av  # noqa: F401
    except (ImportError, OSError) as error:
        if path.suffix.lower() not in SNDFILE or not lacking:
            lacking = ["av"]
        raise _lacks(path, lacking) from error
    return opened(path, _FFmpeg(path))


def _lacks(path: Path, packages: list[str]) -> SelfTalkError:
    return SelfTalkError(
        f"{path.name} is no plain WAV file, and the Python that reads it lacks "
        f'{" and ".join(packages)}. Install it with: "{sys.executable}" -m pip install '
        f"{' '.join(packages)} - or convert the file to WAV."
    )


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
    mono = mixed(samples[:, None] if samples.ndim == 1 else samples)
    chunks = (mono[i : i + CHUNK] for i in range(0, len(mono), CHUNK))
    return np.concatenate([np.zeros(0, np.float32), *resampled(chunks, sample_rate)])


class _SndFile:
    """libsndfile."""

    def __init__(self, path: Path) -> None:
        """Raises soundfile.LibsndfileError where another library should try."""
        import soundfile

        self.path = path
        with soundfile.SoundFile(path) as file:
            self.rate, self.channels = file.samplerate, file.channels
            self.duration = file.frames / file.samplerate
            if file.frames == 0:
                raise header_only(path)
            sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
            if file.format.startswith("WAV") and sizes:
                told, there = map(int, sizes.groups())
                whole = self.duration * told / max(there, 1)
                if told < PLACEHOLDER and self.duration < whole - CUT_SHORT:
                    raise cut_short(path, self.duration, whole)

    def read(self, frame: int) -> Iterator[np.ndarray]:
        import soundfile

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
                    raise cut_short(self.path, frame / file.samplerate, self.duration)
        except soundfile.LibsndfileError as error:
            raise damaged(self.path, frame / self.rate) from error
        except OSError as error:
            raise unreadable(self.path, error) from error


class _FFmpeg:
    """FFmpeg's libraries."""

    def __init__(self, path: Path) -> None:
        import av

        self.path = path
        try:
            with self._open() as container:
                stream = _stream(container)
                if stream is None:
                    raise no_sound(path)
                first = next(_decoded(container, stream), None)
                if first is None:
                    raise header_only(path)
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
            raise not_a_sound(path) from error

    def _open(self) -> av.container.InputContainer:
        import av

        options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
        return av.open(f"file:{self.path}", options=options)

    def read(self, frame: int) -> Iterator[np.ndarray]:
        import av

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
                        raise damaged(self.path, frame / self.rate)
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
                    raise cut_short(self.path, position / self.rate, self.duration)
        except (av.FFmpegError, ValueError) as error:
            raise damaged(self.path, frame / self.rate) from error


def _stream(container: av.container.InputContainer) -> av.AudioStream | None:
    import av

    stream = container.streams.best("audio")
    assert stream is None or isinstance(stream, av.AudioStream)
    return stream


def _decoded(
    container: av.container.InputContainer, stream: av.AudioStream
) -> Iterator[av.AudioFrame]:
    import av

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
