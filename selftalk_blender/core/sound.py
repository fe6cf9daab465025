"""A sound file as a stream of mono samples at 16 kHz, whoever decodes it.

An hour passes through without standing in memory. Time zero is the first sample that is meant to
be heard.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from .errors import SelfTalkError
from .frontend import SAMPLE_RATE
from .resample import resampled

RATES = (1000, 768000)  # Hz that are taken for a sample rate
CHUNK = 1 << 16  # sample frames decoded at once
LEAD_IN = 1.0  # seconds read before a start, so that decoder and resampler have settled there
CUT_SHORT = 0.5  # seconds that may be missing at the end of a file


class Reader(Protocol):
    """What decodes a file.

    Attributes:
        rate: Hz.
        channels: how many.
        duration: seconds; an estimate where the file does not say, 0 where nothing is known.
    """

    rate: int
    channels: int
    duration: float

    def read(self, frame: int) -> Iterator[np.ndarray]:
        """(n, channels) floats from a sample frame on."""
        ...


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
    _reader: Reader = field(repr=False, compare=False)

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
        for part in resampled(mono, self.sample_rate):
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
            mono = mixed(samples)
            bad = np.flatnonzero(~np.isfinite(mono))
            if len(bad):
                raise not_numbers(self.path, (frame + bad[0]) / self.sample_rate)
            frame += len(mono)
            yield mono


def mixed(samples: np.ndarray) -> np.ndarray:
    """(n, C) -> (n,) float32: the mean of the channels; level is the animator's business."""
    return np.ascontiguousarray(samples.mean(1, dtype=np.float32))


def opened(path: Path, reader: Reader) -> Sound:
    """A file as its reader found it.

    Raises:
        SelfTalkError: what it says of itself cannot be.
    """
    if reader.channels < 1 or not RATES[0] <= reader.rate <= RATES[1]:
        raise SelfTalkError(
            f"{path.name} says that it has {reader.channels} channels at {reader.rate} Hz, which "
            "cannot be. Export it again."
        )
    return Sound(path, reader.rate, reader.channels, reader.duration, reader)


OpenSound = Callable[[Path], Sound]

# --- What can be wrong with a file ----------------------------------------------------------------


def check_file(path: Path) -> None:
    """Make sure that there is a file with something in it.

    Raises:
        SelfTalkError: it is missing, empty, a folder, or must not be read.
    """
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
        raise unreadable(path, error) from error


def damaged(path: Path, second: float) -> SelfTalkError:
    return SelfTalkError(f"{path.name} is damaged after {second:.1f} s. Export or copy it again.")


def cut_short(path: Path, second: float, duration: float) -> SelfTalkError:
    return SelfTalkError(
        f"{path.name} ends at {second:.1f} s although it should last {duration:.1f} s. "
        "Copy or export it again."
    )


def header_only(path: Path) -> SelfTalkError:
    return SelfTalkError(f"{path.name} has a header but no sound in it. Export or record it again.")


def no_sound(path: Path) -> SelfTalkError:
    return SelfTalkError(
        f"{path.name} has no sound in it. Choose a sound file, or a video that has sound."
    )


def not_a_sound(path: Path) -> SelfTalkError:
    return SelfTalkError(
        f"{path.name} is not a sound file that can be read. "
        "Convert it to WAV, FLAC, MP3, OGG or M4A."
    )


def not_numbers(path: Path, second: float) -> SelfTalkError:
    return SelfTalkError(
        f"{path.name} holds samples that are not numbers (at {second:.2f} s). "
        "Export it again, for example as 16-bit WAV."
    )


def unreadable(path: Path, error: OSError) -> SelfTalkError:
    return SelfTalkError(f"{path} cannot be read: {error.strerror or error}.")
