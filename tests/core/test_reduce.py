"""Few keys, and a face that moves as before: measured on the head's own vertices."""

import time

import numpy as np
import pytest
from sample import FPS, sample

from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.core.controls import Controls, apply
from selftalk_blender.core.reduce import Keys, Reduced, reduce_keys, turning_points

HEAD = bundled_template()
WEIGHTS, LOUDNESS = sample()


def spoken(fps: float) -> tuple[np.ndarray, list[int]]:
    """The sample clip with blinks and brows at a scene's frame rate, and the moving shapes."""
    lively = apply(Controls(blinks=1.0, brow_raises=1.0), HEAD, WEIGHTS, FPS, LOUDNESS)
    weights = Motion(HEAD, FPS, weights=lively).resample(fps).weights
    return weights, [int(i) for i in np.flatnonzero(weights.max(0) > 1e-4)]


def replayed(reduced: Reduced, weights: np.ndarray, moving: list[int]) -> np.ndarray:
    result = weights.astype(np.float64)
    frames = np.arange(len(weights))
    result[:, moving] = np.stack([keys.at(frames) for keys in reduced.curves], 1)
    return result


@pytest.mark.parametrize("fps", [24.0, 60.0])
@pytest.mark.parametrize("error_mm", [0.1, 0.5, 2.0])
def test_no_vertex_is_off_by_more_than_stated(fps, error_mm) -> None:
    weights, moving = spoken(fps)
    deltas = HEAD.shape_deltas[moving] * 1000
    reduced = reduce_keys(weights[:, moving], deltas, error_mm)
    again = replayed(reduced, weights, moving)
    off = (again - weights) @ (HEAD.shape_deltas.reshape(52, -1) * 1000)
    worst = np.linalg.norm(off.reshape(len(off), -1, 3), axis=2).max()
    assert worst <= error_mm
    assert reduced.error_mm == pytest.approx(worst, rel=1e-3)
    assert again.min() >= 0 and again.max() <= 1


def test_keys_are_few_and_fewer_the_more_may_be_off() -> None:
    weights, moving = spoken(30.0)
    deltas = HEAD.shape_deltas[moving] * 1000
    counts = []
    for error_mm in (0.1, 0.2, 0.5, 1.0):
        reduced = reduce_keys(weights[:, moving], deltas, error_mm)
        assert reduced.before == weights[:, moving].size
        assert reduced.after == sum(len(keys.frames) for keys in reduced.curves)
        counts.append(reduced.before / reduced.after)
    assert np.all(np.diff(counts) > 0)
    assert counts[0] > 3 and counts[2] > 8


def test_closed_lips_can_be_kept_closer() -> None:
    weights, moving = spoken(24.0)
    deltas = HEAD.shape_deltas[moving] * 1000
    gap = HEAD.gap_mm(weights)
    closed = gap < 0.5
    allowed = np.where(closed, 0.05, 0.5)
    again = replayed(reduce_keys(weights[:, moving], deltas, allowed), weights, moving)
    # Two lips, each off by at most 0.05 mm.
    assert np.abs(HEAD.gap_mm(again) - gap)[closed].max() <= 0.1


def test_extremes_stay_exact_and_level() -> None:
    frames = np.arange(101)
    curve = 0.5 - 0.5 * np.cos(frames * 2 * np.pi / 50)
    deltas = np.full((1, 1, 3), 10.0)
    (keys,) = reduce_keys(curve[:, None], deltas, 0.2).curves
    for extreme in (25, 50, 75):
        at = keys.frames.tolist().index(extreme)
        assert keys.values[at] == curve[extreme] and keys.slopes[at] == 0
    assert len(keys.frames) < 12


def test_curves_that_move_the_face_less_get_fewer_keys() -> None:
    curve = np.random.default_rng(0).random(100).cumsum() / 50
    deltas = np.zeros((2, 2, 3))
    deltas[0, 0, 0], deltas[1, 1, 2] = 30.0, 1.0
    large, small = reduce_keys(np.stack([curve, curve], 1), deltas, 0.3).curves
    assert len(small.frames) < len(large.frames)


def test_what_stands_still_has_one_key_and_short_curves_are_kept() -> None:
    deltas = np.full((1, 1, 3), 5.0)
    (still,) = reduce_keys(np.full((50, 1), 0.3), deltas, 0.1).curves
    assert (still.frames.tolist(), still.values.tolist()) == ([0], [0.3])
    assert np.array_equal(still.at(np.arange(5)), np.full(5, 0.3))
    for count in (1, 2, 3):
        values = np.linspace(0.2, 0.8, count)[:, None]
        (keys,) = reduce_keys(values, deltas, 0.1).curves
        assert np.allclose(keys.at(np.arange(count)), values[:, 0])
    assert reduce_keys(np.zeros((5, 0)), np.zeros((0, 1, 3)), 0.1).after == 0


def test_handles_are_a_third_of_the_way_on_one_line() -> None:
    keys = Keys(np.array([0, 6, 9]), np.array([0.0, 1.0, 0.5]), np.array([0.1, 0.05, -0.2]))
    left, right = keys.handles()
    assert np.allclose(right[1], [7, 1.05]) and np.allclose(left[1], [4, 0.9])
    assert np.allclose(right[0], [2, 0.2]) and np.allclose(left[2], [8, 0.7])


def test_turning_points_ignore_what_is_small() -> None:
    values = np.array([0, 1, 2, 1.9, 2.5, 1, 0, 0.1, 3, 3])
    assert turning_points(values, 0.5).tolist() == [4, 6]
    assert turning_points(values, 10.0).tolist() == []
    assert turning_points(values, 0.05).tolist() == [2, 3, 4, 6]


@pytest.mark.parametrize("wrong", [0.0, -1.0])
def test_senseless_errors_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="allowed error"):
        reduce_keys(np.zeros((5, 1)), np.ones((1, 1, 3)), wrong)
    with pytest.raises(ValueError, match="finite"):
        reduce_keys(np.full((5, 1), np.nan), np.ones((1, 1, 3)), 0.1)
    with pytest.raises(ValueError, match="no frames"):
        reduce_keys(np.zeros((0, 1)), np.ones((1, 1, 3)), 0.1)


def test_a_line_takes_a_moment() -> None:
    weights, moving = spoken(30.0)
    begun = time.process_time()
    reduce_keys(weights[:, moving], HEAD.shape_deltas[moving] * 1000, 0.5)
    assert time.process_time() - begun < 1.0  # 0.05 s here
