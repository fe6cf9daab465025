"""Blinks, brow raises and head motion from a voice's rhythm: what speech alone does not move.

The voice is known by its loudness (T,), dBFS per frame. All is drawn anew from the seed by each
call, so that equal arguments give equal motion; amounts are the caller's factors.

Sources:
- how often: 26 blinks a minute in conversation, 17 at rest, log-normally spread (Bentivoglio et
  al., "Analysis of blink rate patterns in normal subjects", Movement Disorders 12, 1997);
- how: fast shut, slow open, and full closures look most natural (Trutoiu et al., "Modeling and
  animating eye blinks", ACM Trans. Applied Perception 8, 2011; VanderWerf et al., "Eyelid
  movements", J. Neurophysiology 89, 2003);
- when: at the end of and in pauses of speech (Nakano and Kitazawa, "Eyeblink entrainment at
  breakpoints of speech", Experimental Brain Research 205, 2010);
- brows and head go with stressed words (Swerts and Krahmer, "Visual prosody of newsreaders", J.
  Phonetics 38, 2010; Munhall et al., "Visual prosody and speech intelligibility", Psychological
  Science 15, 2004).
The remaining numbers are taste, found by looking.
"""

from __future__ import annotations

import numpy as np

SPEAKING_RATE, SILENT_RATE = 26.0, 17.0  # blinks a minute
SPREAD = 0.6  # standard deviation of the logarithm of the time between two blinks
SHORTEST = 0.6  # seconds from one blink's beginning to the next
REACH = 0.7  # seconds by which a blink waits for, or comes earlier at, a better moment
SLOWEST, FASTEST = 0.8, 1.25  # shares of a blink's usual speed
SHUT, HELD, OPEN = 0.08, 0.04, 0.24  # seconds of a blink's parts; HELD is a frame at 24 fps

QUIETEST = -60.0  # dBFS, never voice
RANGE = 25.0  # dB below its loudest that a voice still counts as voice
PAUSE = 0.2  # seconds without voice that divide phrases; a stop of t or k is shorter
SYLLABLE = 0.06  # seconds, standard deviation, of the loudness that stress is seen in
AROUND = 1.5  # seconds
PROMINENT = 4.0  # dB by which a stressed syllable stands out of its surroundings

BROW_HEIGHT = 0.3  # weight of browInnerUp at the strongest stress
BROW_SHARE = 0.67
BROW_EVERY = 1.5  # seconds between two raises, at least
BROW_RISE, BROW_FALL = 0.22, 0.45  # seconds
NOD = np.radians(2.5)
NOD_EVERY = 0.6
NOD_RISE, NOD_FALL = 0.25, 0.4
NOD_DELAY = 0.06  # seconds from a syllable's peak to the lowest head
DRIFT = np.radians((1.2, 1.8, 1.0))  # pitch, yaw, roll: standard deviation while speaking
IDLE = 0.25  # share of the drift that is left in silence
DRIFT_SECONDS = 1.2  # standard deviation of the Gaussian that makes noise a slow drift
LIMIT = np.radians((6.0, 8.0, 5.0))  # that the head comes near and never reaches
TAPER = 0.6  # seconds in which brows and head leave rest and come back to it at a clip's ends


def blinks(loudness: np.ndarray, fps: float, seed: int) -> np.ndarray:
    """How far the eyes are closed by blinking, (T,) float32 in 0..1."""
    closed = np.zeros(len(loudness), np.float32)
    for start, speed in _blink_times(loudness, fps, seed):
        part = _frames(start, start + (SHUT + HELD + OPEN) / speed, fps)
        time = (np.arange(len(closed))[part] / fps - start) * speed
        closed[part] = np.maximum(closed[part], _blink(time))
    return closed


def brow_raises(loudness: np.ndarray, fps: float, seed: int) -> np.ndarray:
    """How far stress raises the brows, (T,) float32, a weight in 0..BROW_HEIGHT.

    BROW_SHARE of the strongest stresses, chosen by the seed.
    """
    random = np.random.default_rng((seed, 2))
    raised = np.zeros(len(loudness), np.float32)
    for moment, strength in _apart(stresses(loudness, fps), BROW_EVERY):
        if random.random() < BROW_SHARE:
            part, course = _hump(moment, BROW_RISE, BROW_FALL, fps, len(raised))
            raised[part] = np.maximum(raised[part], BROW_HEIGHT * strength * course)
    return raised * _taper(len(raised), fps)


def head_motion(loudness: np.ndarray, fps: float, seed: int, amount: float = 1.0) -> np.ndarray:
    """How a speaker's head turns, (T, 3) float32 radians: pitch (down), yaw (to its left), roll.

    Nods with stressed syllables, and a slow drift that is smaller in silence. Pitch turns about
    +X, yaw about +Z, roll about +Y of a face that looks along -Y. Within LIMIT, softly.

    Args:
        amount: 0 still, 1 natural, 2 lively.
    """
    random = np.random.default_rng((seed, 3))
    count = len(loudness)
    if not count:
        return np.zeros((0, 3), np.float32)
    speaking = _blurred(voiced(loudness, fps).astype(np.float64), 0.4 * fps)
    # Noise is drawn per second, not per frame: it is the same drift at any frame rate.
    seconds = np.arange(int(np.ceil(count / fps)) * 4 + 64) / 4
    noise = random.standard_normal((len(seconds), 3))
    drift = np.stack([_blurred(axis, 4 * DRIFT_SECONDS) for axis in noise.T], 1)
    drift *= np.sqrt(2 * np.sqrt(np.pi) * 4 * DRIFT_SECONDS)  # back to a deviation of 1
    time = np.arange(count) / fps
    angles = np.stack([np.interp(time + 8, seconds, axis) for axis in drift.T], 1) * DRIFT
    angles *= (IDLE + (1 - IDLE) * speaking)[:, None]
    for moment, strength in _apart(stresses(loudness, fps), NOD_EVERY):
        part, course = _hump(moment + NOD_DELAY, NOD_RISE, NOD_FALL, fps, count)
        angles[part, 0] += NOD * strength * random.uniform(0.6, 1.2) * course
    angles *= _taper(count, fps)[:, None]
    return (LIMIT * np.tanh(amount * angles / LIMIT)).astype(np.float32)


def voiced(loudness: np.ndarray, fps: float) -> np.ndarray:
    """(T,) bool: where somebody speaks; gaps shorter than PAUSE count as speech."""
    if not len(loudness):
        return np.zeros(0, bool)
    loudest = np.percentile(loudness, 98)
    voice = loudness > max(loudest - RANGE, QUIETEST)
    edges = np.flatnonzero(np.diff(voice, prepend=False, append=False))
    for end, start in zip(edges[1:-1:2], edges[2::2], strict=True):
        if start - end < PAUSE * fps:
            voice[end:start] = True
    return voice


def stresses(loudness: np.ndarray, fps: float) -> list[tuple[float, float]]:
    """Stressed syllables: their peaks in seconds, and how strong each is, 0..1, in order of time.

    A peak of the smoothed loudness that stands out by PROMINENT dB of what lies between it and
    the next higher ones, or within AROUND seconds; strong is also how near to the voice's loudest
    it comes.
    """
    voice = voiced(loudness, fps)
    if not voice.any():
        return []
    # Below the voice's range all is equally quiet: else a breath would stand out of silence.
    loudest = np.percentile(loudness, 98)
    floor = max(loudest - RANGE, QUIETEST)
    level = _blurred(np.maximum(loudness, floor), SYLLABLE * fps)
    inner = level[1:-1]
    peaks = np.flatnonzero((inner > level[:-2]) & (inner >= level[2:])) + 1
    found = []
    for peak in peaks[voice[peaks]]:
        around = int(AROUND * fps)
        before = level[max(peak - around, 0) : peak][::-1]
        after = level[peak + 1 : peak + 1 + around]
        prominence = level[peak] - max(_lowest(before, level[peak]), _lowest(after, level[peak]))
        if prominence >= PROMINENT:
            share = np.clip((level[peak] - floor) / max(loudest - floor, 1.0), 0.0, 1.0)
            found.append((peak / fps, float(share * min(prominence / 12.0, 1.0) ** 0.5)))
    return found


def _lowest(levels: np.ndarray, limit: float) -> float:
    """The smallest of the first levels, up to where one is higher than `limit`."""
    higher = levels > limit
    levels = levels[: higher.argmax()] if higher.any() else levels
    return float(levels.min(initial=limit))


def _blink_times(loudness: np.ndarray, fps: float, seed: int) -> list[tuple[float, float]]:
    """Seconds at which blinks begin, and how much faster than usual each goes."""
    random = np.random.default_rng((seed, 1))
    voice = voiced(loudness, fps)
    # A blink is over before the last frame, which is held from there on.
    end = len(loudness) / fps - (SHUT + HELD + OPEN) / SLOWEST
    # A phrase's last 50 ms on; and a good 0.1 s after a stress, where the syllable is over.
    ends = np.flatnonzero(voice & ~np.append(voice[1:], False)) / fps - 0.05
    after = [moment + 0.12 for moment, strength in stresses(loudness, fps) if strength > 0.5]
    times: list[tuple[float, float]] = []
    drawn = random.uniform(0.3, 1.5) * 60 / SILENT_RATE
    while drawn < end:
        earliest = times[-1][0] + SHORTEST if times else 0.0
        moment = _best(max(drawn, earliest), earliest, ends, np.array(after))
        speed = random.uniform(SLOWEST, FASTEST)
        if moment < end:
            times.append((moment, speed))
        rate = SPEAKING_RATE if voice[int(drawn * fps)] else SILENT_RATE
        # exp(-SPREAD² / 2) makes the mean of the intervals that of the rate. Counted from where
        # the blink was drawn, not from where it went: waiting must not change the rate.
        drawn += 60 / rate * random.lognormal(-(SPREAD**2) / 2, SPREAD)
    return times


def _best(drawn: float, earliest: float, ends: np.ndarray, after: np.ndarray) -> float:
    """The moment for a blink: a phrase's end nearby, else after a stress, else as drawn."""
    for moments, reach in ((ends, REACH), (after, REACH / 2)):
        near = moments[(np.abs(moments - drawn) < reach) & (moments >= earliest)]
        if len(near):
            return float(near[np.abs(near - drawn).argmin()])
    return drawn


def _blink(time: np.ndarray) -> np.ndarray:
    """The course of a blink over seconds since it began: shut, held, and slowly open."""
    shutting = np.clip(time / SHUT, 0.0, 1.0)
    opening = np.clip((time - SHUT - HELD) / OPEN, 0.0, 1.0)
    course = shutting**2 * (3 - 2 * shutting) * (1 - opening**2 * (3 - 2 * opening)) ** 1.5
    return course.astype(np.float32)


def _hump(
    peak: float, rise: float, fall: float, fps: float, count: int
) -> tuple[slice, np.ndarray]:
    """A smooth hump that is 1 at `peak`, for `rise` seconds before and `fall` after it.

    Returns:
        The frames of `count` where it is not 0, and its course there.
    """
    part = _frames(peak - rise, peak + fall, fps)
    time = np.arange(count)[part] / fps - peak
    share = np.clip(1 - np.where(time < 0, -time / rise, time / fall), 0.0, 1.0)
    return part, (share * share * (3 - 2 * share)).astype(np.float32)


def _frames(start: float, end: float, fps: float) -> slice:
    """The frames from `start` to `end` (seconds)."""
    return slice(max(int(start * fps), 0), max(int(np.ceil(end * fps)) + 1, 0))


def _taper(count: int, fps: float) -> np.ndarray:
    """(count,) float32: 0 at the first and last frame, 1 from TAPER seconds within."""
    frame = np.arange(count)
    share = np.clip(np.minimum(frame, count - 1 - frame) / (TAPER * fps), 0.0, 1.0)
    return (share * share * (3 - 2 * share)).astype(np.float32)


def _apart(moments: list[tuple[float, float]], seconds: float) -> list[tuple[float, float]]:
    """The strongest of the moments (seconds, strength) that keep their distance, in order."""
    kept: list[tuple[float, float]] = []
    for moment, strength in sorted(moments, key=lambda pair: -pair[1]):
        if all(abs(moment - other) >= seconds for other, _ in kept):
            kept.append((moment, strength))
    return sorted(kept)


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """(T,) averaged by a Gaussian of `sigma` frames; the ends are held."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-6)) ** 2)
    padded = np.pad(values, reach, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), "valid")
