"""Each measure against a case worked out by hand."""

import numpy as np
import pytest

from selftalk_blender.training import metrics

GAP = np.array([5.0, 5, -1, 5, 5, 1.2, 5, 5, 5, 5, 5])  # 50 fps: low at 0.04 s and at 0.10 s


def test_gap_counts_pressed_lips_as_closed() -> None:
    real = np.array([0.0, 1, 2, 3])
    assert metrics.gap_correlation(real - np.array([9, 0, 0, 0]), real) == pytest.approx(1)
    assert metrics.amplitude(2 * real, real) == pytest.approx(2)


def test_lip_vertex_error_is_the_mean_of_the_largest() -> None:
    real = np.zeros((2, 3, 3))
    own = real.copy()
    own[0, 1] = [3, 4, 0]
    own[0, 2] = [1, 0, 0]
    own[1, 0] = [0, 0, 1]
    assert metrics.lip_vertex_error(own, real) == pytest.approx((5 + 1) / 2)


def test_closed_looks_40_ms_around_the_phone() -> None:
    phones = [("P", 0.08, 0.09), ("B", 0.1, 0.12), ("M", 0.14, 0.15), ("T", 0.04, 0.04)]
    assert metrics.closures(GAP, 50, phones) == [True, False, False]


def test_false_closure_looks_at_the_middle_of_open_vowels() -> None:
    phones = [("AA", 0.08, 0.12), ("AE", 0.12, 0.16), ("IY", 0.08, 0.12), ("AH", 0.03, 0.05)]
    assert metrics.false_closures(GAP, 50, phones) == [True, False, True]


def test_pauses_and_jitter() -> None:
    phones = [("SIL", 0.0, 0.1), ("AA", 0.1, 0.2)]
    assert metrics.gap_in_pauses(GAP, 50, phones, least=0.05).tolist() == [5, 5, 0, 5, 5]
    assert metrics.gap_in_pauses(GAP, 50, phones).size == 0
    ramp = np.arange(61) * 0.6  # 60 fps
    assert metrics.jitter(ramp, 60) == pytest.approx(0.6)
    assert metrics.jitter(ramp, 120) == pytest.approx(1.2)
