"""Sound by Blender's own decoders, for the animator's process: whatever Blender plays, as WAV.

WAV files need no decoder, and a Blender whose Python lacks the module `aud` has none: the process
reads the file itself.

Blender's module for sound, `aud`, can only be asked for whole parts of a file, and holds the window
meanwhile. So a file is read in short parts, each of which begins with a seek. Where a seek leads is
off by 40 ms in some files and by half a second in others; the samples there are the same. So each
part begins early, and is joined where it repeats what was read before.

What of a file cannot be read ends Blender if its samples are asked for. It is safe to ask for its
`specs` first: they are an error, or 0 Hz.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..core.errors import SelfTalkError
from ..core.frontend import SAMPLE_RATE
from ..core.resample import resampled
from ..core.sound import CUT_SHORT, RATES, check_file, cut_short, mixed, not_numbers
from ..core.wav import NotWavError, open_wav, wav_header
from . import compat

if compat.READS_SOUND:
    import aud

PART = 4.0  # seconds read at once, some 20 ms of work
EARLY = 1.0  # seconds that a part begins early: decoders have found their step by then
LOOK_BACK = 12.0  # seconds of silence before which a part may begin, to have something to repeat
QUIET = 1e-6  # what some decoders make of digital silence
REPEATED = 4096  # samples by which a part is joined
FARTHEST = 0.9  # seconds that a seek may be off
NEAREST = 0.05  # seconds that it may be off where decoders do not quite repeat themselves
ALIKE = 0.7  # correlation of what they repeat
# Seconds from the beginning up to which a file is read from there: no seek, no error.
NEAR = 30.0
# Containers that know how long they are. Others' lengths are an estimate.
EXACT = frozenset(".flac .ogg .oga .opus .m4a .mp4 .m4v .mov .mkv .mka .webm .aif .aiff".split())


def needs_reading(clip: Path) -> bool:
    """Whether Blender reads a sound file: not a WAV, which the animator reads as well.

    Raises:
        SelfTalkError: the file is missing, empty, or a damaged WAV.
    """
    if not compat.READS_SOUND:
        return False
    try:
        open_wav(clip)
    except NotWavError:
        return True
    return False


def write_wav(
    clip: Path, start: float, stop: float | None, path: Path, notices: list[str]
) -> Iterator[float]:
    """Write a sound file, or a part of it, as mono float32 WAV of SAMPLE_RATE.

    Args:
        start: a whole second of the file; sample 0 is what is heard there.
        stop: seconds in the file; a part beyond its end is left out.
        path: the WAV file.
        notices: gets a sentence where the file ends earlier than it says.

    Yields:
        How much is done, 0..1.

    Raises:
        SelfTalkError: Blender cannot play it, or it is damaged.
        OSError: the disk is full.
    """
    check_file(clip)
    rate, told = _specs(clip)
    done = 0.0
    from_zero = start <= NEAR
    skip = round(start * SAMPLE_RATE) if from_zero else 0
    left = math.inf if stop is None else round((stop - start) * SAMPLE_RATE)
    span = max((told if stop is None else min(stop, told)) - start, 1.0)
    heard = _Heard(clip, rate, 0.0 if from_zero else start)
    count = 0
    with open(path, "wb") as file:
        file.write(wav_header(0))
        for samples in resampled(heard.samples(), rate):
            kept = samples[skip:][: int(min(left - count, len(samples)))]
            skip = max(skip - len(samples), 0)
            file.write(kept.astype("<f4", copy=False).tobytes())
            count += len(kept)
            done = max(done, min(count / SAMPLE_RATE / span, 1.0))
            yield done
            if count >= left:
                break
        file.seek(0)
        file.write(wav_header(count))
    end = start + count / SAMPLE_RATE
    if count < left and end < (told if stop is None else min(told, stop)) - CUT_SHORT:
        if clip.suffix.lower() in EXACT:
            raise cut_short(clip, end, told)
        notices.append(
            f"{clip.name} ends at {end:.1f} s, although it says {told:.1f} s: what is there was "
            "animated. Copy or export it again if something is missing."
        )


class _Heard:
    """A file's sound from a second on."""

    def __init__(self, clip: Path, rate: int, begin: float) -> None:
        self.clip, self.rate, self.begin = clip, rate, begin

    def samples(self) -> Iterator[np.ndarray]:
        """(n,) float32, mono at the file's rate."""
        new = self._part(self.begin, self.begin + PART)
        read = np.zeros(0, np.float32)  # the last of what was read
        given, shift = 0, 0
        while len(new):
            yield new
            given += len(new)
            read = np.concatenate([read, new])[-round((LOOK_BACK + 1) * self.rate) :]
            back = quiet_end(read[-round(LOOK_BACK * self.rate) :])
            joint = self.begin + (given - back) / self.rate
            early = min(EARLY, joint)
            part = self._part(joint - early, self.begin + given / self.rate + PART)
            expected = round(early * self.rate) - shift
            before = read[: len(read) - back][-REPEATED:]
            place = joined_at(before, part, expected, self.rate)
            shift += expected - place
            new = part[place + back :]

    def _part(self, start: float, stop: float) -> np.ndarray:
        if _specs(self.clip)[0] != self.rate:
            raise SelfTalkError(f"{self.clip.name} was changed meanwhile. Animate it again.")
        sound = aud.Sound(str(self.clip))
        try:
            mono = mixed(np.asarray(sound.limit(start, stop).data()))
        except aud.error as error:
            raise _unplayable(self.clip) from error
        bad = np.flatnonzero(~np.isfinite(mono))
        if len(bad):
            raise not_numbers(self.clip, start + bad[0] / self.rate)
        return mono


def quiet_end(samples: np.ndarray) -> int:
    """How many samples at the end of (n,) are digital silence; 0 where all are."""
    loud = np.flatnonzero(np.abs(samples) > QUIET)
    return len(samples) - 1 - int(loud[-1]) if len(loud) else 0


def joined_at(before: np.ndarray, part: np.ndarray, expected: int, rate: int) -> int:
    """Where in a part that repeats them the samples `before` it end.

    Args:
        before: (n,) samples.
        part: (m,) samples.
        expected: where they would end if the part began where it should; where nothing is
            repeated, that is taken.
        rate: Hz.
    """
    inside = min(max(expected, 0), len(part))
    if not (np.abs(before) > QUIET).any():
        return inside
    ends = _ends(before, part, expected, round(FARTHEST * rate))
    for back in range(1, min(len(before), 16) + 1):  # most are out after a few samples
        ends = ends[part[ends - back] == before[-back]]
    ends = ends[np.argsort(np.abs(ends - expected))][:100]  # a pure tone repeats itself all over
    for end in ends.tolist():
        if np.array_equal(part[end - len(before) : end], before):
            return int(end)
    # Some decoders make up a little noise, or have not quite found their step.
    ends = _ends(before, part, expected, round(NEAREST * rate))
    if not len(ends):
        return inside
    near = part[ends[0] - len(before) : ends[-1]]
    size = 1 << (len(near) + len(before)).bit_length()
    spectrum = np.fft.rfft(near, size) * np.conj(np.fft.rfft(before, size))
    power = np.cumsum(np.concatenate([[0.0], np.square(near, dtype=np.float64)]))
    power = power[len(before) :] - power[: len(power) - len(before)]
    alike = np.fft.irfft(spectrum, size)[: len(ends)] / np.sqrt(
        np.maximum(power, 1e-12) * np.square(before, dtype=np.float64).sum()
    )
    best = int(np.argmax(alike))
    return int(ends[best]) if alike[best] > ALIKE else inside


def _ends(before: np.ndarray, part: np.ndarray, expected: int, farthest: int) -> np.ndarray:
    """Places in a part where `before` may end."""
    first = max(expected - farthest, len(before))
    return np.arange(first, min(expected + farthest, len(part)) + 1)


def _specs(clip: Path) -> tuple[int, float]:
    """Hz and seconds of a file.

    Raises:
        SelfTalkError: Blender cannot play it.
    """
    sound = aud.Sound(str(clip))
    try:
        rate, channels = sound.specs
        length = sound.length
    except aud.error as error:
        raise _unplayable(clip) from error
    if not RATES[0] <= rate <= RATES[1] or channels < 1:
        raise _unplayable(clip)
    return round(rate), max(length, 0) / rate


def _unplayable(clip: Path) -> SelfTalkError:
    return SelfTalkError(
        f"{clip.name} holds no sound that Blender can play. Choose another file, or convert it to "
        "WAV, FLAC, MP3, OGG or M4A."
    )
