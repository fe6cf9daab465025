"""Each measure against a case worked out by hand or a second, plainer way to compute it."""

import functools
import itertools

import numpy as np
import pytest

from selftalk_blender.training import metrics

GAP = np.array([5.0, 5, -1, 5, 5, 1.2, 5, 5, 5, 5, 5])  # 50 fps: low at 0.04 s and at 0.10 s


def talk(times: np.ndarray) -> np.ndarray:
    """A smooth gap (mm) that does not repeat within a few seconds."""
    return 5 + 2 * np.sin(7 * times) + 1.5 * np.sin(17.3 * times + 1) + np.sin(29 * times)


def test_gap_counts_pressed_lips_as_closed() -> None:
    real = np.array([0.0, 1, 2, 3])
    assert metrics.gap_correlation(real - np.array([9, 0, 0, 0]), real) == pytest.approx(1)
    assert metrics.amplitude(2 * real, real) == pytest.approx(2)


def test_measures_of_a_face_that_never_moves_are_not_defined_and_do_not_warn(recwarn) -> None:
    still, moving = np.zeros(40), talk(np.arange(40) / 25)
    assert np.isnan(metrics.gap_correlation(still, moving))
    assert np.isnan(metrics.amplitude(moving, still))
    assert metrics.amplitude(still, moving) == 0
    assert np.isnan(metrics.timing_offset(still, moving, 25))
    assert not recwarn.list


@pytest.mark.parametrize("late", [-60.0, 0.0, 10.0, 40.0, 100.0])
def test_timing_offset_tells_how_late_motion_is(late: float) -> None:
    times = np.arange(150) / 50
    found = metrics.timing_offset(talk(times - late / 1000), talk(times), 50)
    assert found == pytest.approx(late, abs=1.0)  # ms, at frames of 20 ms


def test_dtw_is_the_cheapest_path_of_all() -> None:
    rng = np.random.default_rng(0)
    own, real = rng.uniform(-1, 6, (2, 12))

    def cheapest(band: int) -> float:
        @functools.cache
        def cost(i: int, j: int) -> float:
            if i < 0 or j < 0 or abs(i - j) > band:
                return np.inf
            here = abs(max(own[i], 0) - max(real[j], 0))
            if i == j == 0:
                return here
            return here + min(cost(i - 1, j), cost(i, j - 1), cost(i - 1, j - 1))

        return cost(11, 11) / 12

    for band in (0, 2, 12):
        assert metrics.dtw_distance(own, real, 25, band / 25) == pytest.approx(cheapest(band))
    assert cheapest(12) < cheapest(0)
    assert metrics.dtw_distance(real, real, 25) == 0


def test_dtw_forgives_lateness_within_its_band_and_not_what_is_missing() -> None:
    times = np.arange(75) / 25
    late = metrics.dtw_distance(talk(times - 0.04), talk(times), 25)
    flat = metrics.dtw_distance(np.full(75, 5.0), talk(times), 25)
    assert late < 0.1 < 0.5 < flat
    with pytest.raises(ValueError, match="12 and 13 frames"):
        metrics.dtw_distance(np.zeros(12), np.zeros(13), 25)


def test_lip_vertex_error_is_the_mean_of_the_largest() -> None:
    real = np.zeros((2, 3, 3))
    own = real.copy()
    own[0, 1] = [3, 4, 0]
    own[0, 2] = [1, 0, 0]
    own[1, 0] = [0, 0, 1]
    assert metrics.lip_vertex_error(own, real) == pytest.approx((5 + 1) / 2)
    pytest.importorskip("torchmetrics")
    assert metrics.lip_vertex_error_squared(own, real) == pytest.approx((25 + 1) / 2)


def test_squared_lip_vertex_error_by_numpy() -> None:
    pytest.importorskip("torchmetrics")
    own, real = np.random.default_rng(1).normal(size=(2, 9, 5, 3)).astype(np.float32)
    by_hand = np.mean([max(((a - b) ** 2).sum(-1)) for a, b in zip(own, real, strict=True)])
    assert metrics.lip_vertex_error_squared(own, real) == pytest.approx(by_hand, rel=1e-6)


def test_vertex_error_of_each_vertex() -> None:
    real = np.zeros((2, 2, 3))
    own = real.copy()
    own[:, 1] = [[3, 4, 0], [0, 0, 1]]
    assert metrics.vertex_error(own, real).tolist() == [0, 3]


def test_upper_face_deviation_of_vertices_that_move_too_much_and_too_little() -> None:
    times = np.arange(40)
    swing = np.where(times % 2, 0.0, 2.0)  # standard deviation 1
    real, own = np.zeros((2, 40, 3, 3))
    real[:, 0, 2], own[:, 0, 2] = 3 * swing, swing  # too little, by 2
    real[:, 1, 0], own[:, 1, 0] = swing, 2 * swing  # too much, by 1
    real[:, 2], own[:, 2] = [0, 3, 4], [1, 0, 0]  # neither moves
    assert metrics.dynamics_deviations(own, real) == pytest.approx([2, -1, 0])
    assert metrics.upper_face_deviation(own, real) == pytest.approx(1 / 3)
    assert metrics.upper_face_deviation_absolute(own, real) == pytest.approx(1)


def test_closed_looks_40_ms_around_the_phone() -> None:
    phones = [("P", 0.08, 0.09), ("B", 0.1, 0.12), ("M", 0.14, 0.15), ("T", 0.04, 0.04)]
    assert metrics.closures(GAP, 50, phones) == [True, False, False]


def test_false_closure_looks_at_the_middle_of_open_vowels() -> None:
    phones = [("AA", 0.08, 0.12), ("AE", 0.12, 0.16), ("IY", 0.08, 0.12), ("AH", 0.03, 0.05)]
    assert metrics.false_closures(GAP, 50, phones) == [True, False, True]
    assert metrics.false_closures(GAP, 50, []) == []


def test_rounding_compares_oo_and_w_with_ah() -> None:
    width = np.array([50.0, 44, 50, 42, 50, 52, 50])  # 10 fps
    phones = [("W", 0.05, 0.15), ("UW", 0.2, 0.4), ("AA", 0.45, 0.55), ("IY", 0.0, 0.1)]
    assert metrics.rounding(width, 10, phones) == pytest.approx((44 + 42) / 2 - 52)
    assert np.isnan(metrics.rounding(width, 10, phones[:2]))


def test_smallest_distance_of_two_parts() -> None:
    one, other = np.random.default_rng(2).normal(size=(2, 4, 6, 3))
    by_hand = [
        min(np.sqrt(((a - b) ** 2).sum()) for a, b in itertools.product(one[t], other[t]))
        for t in range(4)
    ]
    assert metrics.smallest_distance(one, other) == pytest.approx(by_hand)


def test_token_errors_are_edits_over_what_was_spoken() -> None:
    pytest.importorskip("torchmetrics")
    assert metrics.token_error_rate("B IH N".split(), "B IH N".split()) == 0
    # AH for IH, the second P is missing, T is too much
    rate = metrics.token_error_rate("P AH P T".split(), "P IH P P".split())
    assert rate == pytest.approx(2 / 4)
    assert metrics.token_error_rate([], "P IH".split()) == 1
    assert np.isnan(metrics.token_error_rate(["P"], []))


def test_pauses_and_jitter() -> None:
    phones = [("SIL", 0.0, 0.1), ("AA", 0.1, 0.2)]
    assert metrics.gap_in_pauses(GAP, 50, phones, least=0.05).tolist() == [5, 5, 0, 5, 5]
    assert metrics.gap_in_pauses(GAP, 50, phones).size == 0
    assert metrics.changes_in_pauses(GAP, 50, phones).size == 0
    ramp = np.arange(61) * 0.6  # 60 fps
    assert metrics.jitter(ramp, 60) == pytest.approx(0.6)
    assert metrics.jitter(ramp, 120) == pytest.approx(1.2)
    assert np.isnan(metrics.jitter(ramp[:1], 60))


def test_jitter_in_a_pause_leaves_the_speech_around_it_out() -> None:
    gap = np.concatenate([np.zeros(60), np.arange(60.0)])  # 60 fps, still for a second
    phones = [("SIL", 0.0, 0.9), ("AA", 0.9, 2.0)]
    assert metrics.changes_in_pauses(gap, 60, phones).max() == 0
    phones = [("AA", 0.0, 1.0), ("SIL", 1.0, 5.0)]  # beyond the clip's end
    assert metrics.changes_in_pauses(gap, 60, phones).mean() == pytest.approx(1)
