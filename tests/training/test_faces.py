"""Phones correct a predicted face where they demand it, and leave it alone elsewhere."""

import numpy as np
import pytest

from selftalk_blender.core import bundled_template
from selftalk_blender.training.faces import PhoneCorrection, bites, bump, pauses

HEAD = bundled_template()
CORRECT = PhoneCorrection(HEAD)
PHONES = (
    ("SIL", 0.0, 0.5), ("M", 0.5, 0.6), ("AA", 0.6, 0.8), ("F", 0.8, 0.9), ("UW", 0.9, 1.1),
    ("SIL", 1.1, 1.5), ("K", 1.5, 1.6), ("AE", 1.6, 1.8), ("P", 1.8, 1.84), ("SIL", 1.84, 2.4),
)  # fmt: skip


def half_open() -> np.ndarray:
    weights = np.zeros((121, 52), np.float32)
    weights[:, CORRECT.index["jawOpen"]] = 0.2
    weights[:, CORRECT.index["browInnerUp"]] = 0.3
    return weights


def test_lips_close_at_p_b_m_and_in_pauses_and_nowhere_else() -> None:
    gap = HEAD.gap_mm(CORRECT(half_open(), PHONES))
    frame = lambda seconds: round(seconds * 50)  # noqa: E731
    assert gap[frame(0.52) : frame(0.58)].max() < 0
    assert gap[frame(1.8) : frame(1.84)].max() < 0.5
    assert gap[: frame(0.44)].max() < 0.2
    assert gap[frame(1.16) : frame(1.42)].max() < 0.2
    assert gap[frame(1.92) :].max() < 0.2
    assert gap[frame(0.7)] > 6
    assert gap[frame(1.55)] == pytest.approx(HEAD.gap_mm(half_open()[:1])[0], abs=1.5)
    assert gap.min() > -1.3


def test_vowels_that_were_closed_open_and_oo_is_narrower_than_ah() -> None:
    closed = np.zeros((121, 52), np.float32)
    result = CORRECT(closed, PHONES)
    assert HEAD.gap_mm(result)[35] > 3.5
    width = HEAD.width_mm(CORRECT(half_open(), PHONES))
    assert width[50] < width[35] - 3


def test_a_silence_shuts_the_mouth_only_where_all_that_is_spoken_is_known() -> None:
    gap = HEAD.gap_mm(CORRECT(half_open(), PHONES, complete=False))
    assert gap[:20].min() > 5
    assert gap[26] < 0  # m


def test_recorded_faces_get_what_no_camera_saw() -> None:
    recorded = half_open()
    seen = CORRECT.unseen(recorded, (*PHONES, ("DH", 2.2, 2.3)))
    bite = bites(PHONES, len(recorded))
    assert bite.max() == 1
    assert np.flatnonzero(bite > 0.9).tolist() == [41, 42, 43, 44]  # f, from 0.8 to 0.9 s

    def distance(weights: np.ndarray) -> float:
        lip, teeth = (
            HEAD.vertices[HEAD.regions[region]]
            + np.tensordot(weights, HEAD.shape_deltas[:, HEAD.regions[region]], 1)
            for region in ("lips_lower", "teeth_upper")
        )
        return float(np.linalg.norm(lip[:, None] - teeth[None], axis=-1).min())

    assert distance(recorded[42]) > 0.0045
    assert distance(seen[42]) < 0.0025  # of a mouth that is 7 mm open, and stays so
    assert HEAD.gap_mm(seen[42:43])[0] == pytest.approx(HEAD.gap_mm(recorded[42:43])[0], abs=1.5)
    assert seen[112, CORRECT.index["tongueOut"]] > 0.2
    assert np.array_equal(seen[60], recorded[60])


def test_other_shapes_of_the_face_are_left_alone_in_speech() -> None:
    result = CORRECT(half_open(), PHONES)
    assert result[35, CORRECT.index["browInnerUp"]] == pytest.approx(0.3)
    assert result.min() >= 0
    assert result.max() <= 1


def test_bump_and_pauses() -> None:
    times = np.array([0.0, 0.9, 0.95, 1.0, 1.5, 2.0, 2.05, 2.2])
    assert np.allclose(bump(times, 1.0, 2.0, 0.1), [0, 0, 0.5, 1, 1, 1, 0.5, 0])
    found = pauses(PHONES, 2.4)
    assert found == [(-1.0, 0.5), (1.1, 1.5), (1.84, 3.4)]
    assert pauses((), 1.0) == []
