"""The time that is left, as it is told."""

from __future__ import annotations

import numpy as np

from selftalk_blender.core.progress import TimeLeft


def told(seconds: np.ndarray, done: np.ndarray, stage: str = "Animating") -> list[int | None]:
    left = TimeLeft()
    return [left.update(float(d), stage, float(s)) for s, d in zip(seconds, done, strict=True)]


def test_steady_work_counts_down() -> None:
    seconds = np.arange(0, 20, 0.1)
    left = told(seconds, seconds / 20)
    assert left[:10] == [None] * 10  # nothing is known in the first second
    known = [value for value in left if value is not None]
    assert known == sorted(known, reverse=True) and known[-1] == 1
    for second, value in zip(seconds, left, strict=True):
        assert value is None or abs(value - (20 - second)) <= 1.5


def test_work_in_leaps_does_not_make_the_number_jump() -> None:
    """Windows of sound come in bursts; the number goes up by no burst."""
    seconds = np.arange(0, 30, 0.1)
    left = [v for v in told(seconds, np.floor(seconds / 1.5) * 0.05) if v is not None]
    steps = np.diff(left)
    assert steps.max() <= 0 or (steps > 0).sum() <= 2
    assert np.abs(steps).max() <= 3


def test_the_wait_before_the_work_does_not_count() -> None:
    """A minute of starting says nothing about how long the rest takes."""
    seconds = np.arange(0, 70, 0.1)
    left = told(seconds, np.clip((seconds - 60) / 10, 0, 1))
    assert left[600] is None
    assert next(value for value in left if value is not None) <= 11
