"""The ends of a line: from rest, to rest, and one line where another ended."""

import numpy as np
import pytest

from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.core.ease import ease_to_rest
from selftalk_blender.core.lips import rest_weights

REST = rest_weights(bundled_template())


def motion(weights: np.ndarray, fps: float) -> Motion:
    return Motion(bundled_template(), fps, weights=weights.astype(np.float32))


def wave(fps: float) -> np.ndarray:
    """Two seconds in mid-speech all along."""
    seconds = np.arange(round(2 * fps)) / fps
    return 0.5 + 0.2 * np.sin(6 * seconds[:, None] + np.arange(len(REST)))


@pytest.mark.parametrize("fps", [12.0, 23.976, 24.0, 30.0, 60.0])
def test_a_motion_cut_in_two_adds_up_to_itself(fps) -> None:
    weights = wave(fps)
    cut = len(weights) // 2
    total = np.tile(REST, (len(weights) + 100, 1))
    for first, part in ((0, weights[:cut]), (cut, weights[cut:])):
        eased, lead = ease_to_rest(motion(part, fps))
        start = 50 + first - lead
        total[start : start + len(eased)] += eased.weights - REST
    near = slice(cut - round(0.3 * fps), cut + round(0.3 * fps))
    step = np.abs(np.diff(weights, axis=0)).max()
    # By what the face moves within the ease, and no more: it held one side's end.
    assert np.abs(total[50:][near] - weights[near]).max() < 2 * step * max(0.1 * fps, 1)


def test_it_begins_and_ends_at_rest_without_a_jump() -> None:
    eased, lead = ease_to_rest(motion(wave(24.0), 24.0))
    assert lead == 3 and len(eased) == 48 + 6
    assert np.array_equal(eased.weights[[0, -1]], [REST, REST])
    assert np.abs(np.diff(eased.weights, axis=0)).max() < 0.25
    assert np.allclose(eased.weights[lead + 3 : lead + 45], wave(24.0)[3:45], atol=1e-6)


def test_the_first_word_of_a_sound_is_as_it_was_spoken() -> None:
    eased, lead = ease_to_rest(motion(wave(24.0), 24.0), whole=True)
    assert np.allclose(eased.weights[lead : lead + 45], wave(24.0)[:45], atol=1e-6)
    assert np.array_equal(eased.weights[0], REST) and lead / 24.0 < 0.26
    assert np.abs(np.diff(eased.weights[: lead + 3], axis=0)).max() < 0.25


def test_a_motion_at_rest_at_its_ends_is_not_changed() -> None:
    weights = np.tile(REST, (30, 1))
    weights[10:20, 3] = 0.5
    eased, lead = ease_to_rest(motion(weights, 24.0))
    assert lead == 0 and np.allclose(eased.weights, weights)
