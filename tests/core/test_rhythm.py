"""Blinks, brows and head follow the voice as people's do."""

import numpy as np
import pytest
from sample import FPS, sample

from selftalk_blender.core import rhythm

_, LOUDNESS = sample()
SILENCE = np.full(int(300 * FPS), -120.0, np.float32)
# Five minutes of the sample clip over and over: phrases of about two seconds, with pauses.
TALK = np.tile(LOUDNESS, 56)


def closings(closed: np.ndarray) -> np.ndarray:
    """Seconds at which the eyes begin to shut."""
    return np.flatnonzero((closed[1:] > 0.02) & (closed[:-1] <= 0.02)) / FPS


def test_people_blink_more_often_when_they_speak() -> None:
    def rate(loudness: np.ndarray) -> float:
        counts = [len(closings(rhythm.blinks(loudness, FPS, seed))) for seed in range(8)]
        return float(np.mean(counts)) / (len(loudness) / FPS / 60)

    assert rate(SILENCE) == pytest.approx(17, abs=2)
    assert 20 < rate(TALK) < 27


def test_a_blink_shuts_fast_wholly_and_opens_slowly() -> None:
    fps = 1000.0
    closed = rhythm.blinks(np.full(30_000, -120.0, np.float32), fps, 0)
    assert closed.min() == 0 and closed.max() == 1
    starts = np.flatnonzero((closed[1:] > 0) & (closed[:-1] == 0))
    assert len(starts) >= 4
    for start in starts:
        end = start + 1 + np.flatnonzero(closed[start + 1 :] == 0)[0]
        peak = start + closed[start:end].argmax()
        shut, whole = (peak - start) / fps, (end - start) / fps
        assert 0.06 <= shut <= 0.11
        assert 0.25 <= whole <= 0.46  # 334 ± 67 ms and thereabouts
        assert whole - shut > 2 * shut


def test_blinks_gather_where_phrases_end() -> None:
    voice = rhythm.voiced(TALK, FPS)
    ends = np.flatnonzero(voice & ~np.append(voice[1:], False)) / FPS
    near = total = 0
    for seed in range(5):
        starts = closings(rhythm.blinks(TALK, FPS, seed))
        near += sum(np.abs(ends - start).min() < 0.2 for start in starts)
        total += len(starts)
    by_chance = min(len(ends) * 0.4 / (len(TALK) / FPS), 1.0)
    assert near / total > 2 * by_chance


def test_intervals_vary_and_none_is_too_short() -> None:
    starts = closings(rhythm.blinks(SILENCE, FPS, 1))
    between = np.diff(starts)
    assert between.min() > 0.5 and between.std() / between.mean() > 0.35


@pytest.mark.parametrize("part", [rhythm.blinks, rhythm.brow_raises, rhythm.head_motion])
def test_the_seed_alone_decides(part) -> None:
    first = part(TALK, FPS, 7)
    assert np.array_equal(part(TALK, FPS, 7), first)
    assert not np.array_equal(part(TALK, FPS, 8), first)
    # A line ends as it began: what is held after its last frame is a face at rest.
    assert np.abs(first[-1]).max() == 0 and np.abs(first[0]).max() < 1e-6
    assert part(TALK[:0], FPS, 7).shape[0] == 0


def test_silence_blinks_but_does_not_nod() -> None:
    assert rhythm.blinks(SILENCE, FPS, 0).max() == 1
    assert rhythm.brow_raises(SILENCE, FPS, 0).max() == 0
    assert rhythm.stresses(SILENCE, FPS) == []
    pitch = rhythm.head_motion(SILENCE, FPS, 0)[:, 0]
    nodding = rhythm.head_motion(TALK, FPS, 0)[:, 0]
    # A nod is quick; what drifts in silence is slow.
    assert np.abs(np.diff(pitch)).max() < 0.15 * np.abs(np.diff(nodding)).max()
    assert np.degrees(np.abs(pitch).max()) < 1.5


def test_the_head_nods_with_stress_within_its_limits() -> None:
    moments = [moment for moment, _ in rhythm.stresses(TALK, FPS)]
    assert 2 < len(moments) / (len(TALK) / FPS) * 5 < 10  # in five seconds
    pitch = rhythm.head_motion(TALK, FPS, 0)[:, 0]
    sample_moments = [int(m * FPS) for m in moments if 1 < m < 290]
    lower = [pitch[m + 3] - 0.5 * (pitch[m - 15] + pitch[m + 27]) for m in sample_moments]
    assert np.mean(lower) > np.radians(0.4)
    for amount in (1.0, 3.0, 30.0):
        angles = np.abs(rhythm.head_motion(TALK, FPS, 0, amount))
        assert np.all(angles.max(0) < rhythm.LIMIT + 1e-6)
    assert rhythm.head_motion(TALK, FPS, 0, 0.0).max() == 0


def test_half_the_amount_is_half_the_motion() -> None:
    whole, half = (rhythm.head_motion(LOUDNESS, FPS, 0, amount) for amount in (1e-3, 5e-4))
    assert np.allclose(half, 0.5 * whole, atol=1e-8)


def test_short_stops_do_not_divide_a_phrase() -> None:
    loudness = np.full(100, -15.0, np.float32)
    loudness[:10] = loudness[90:] = -120
    loudness[30:36] = -120  # 120 ms: the stop of a t
    loudness[60:75] = -120  # 300 ms: a pause
    voice = rhythm.voiced(loudness, FPS)
    assert voice[30:36].all() and not voice[60:75].any() and not voice[:10].any()
