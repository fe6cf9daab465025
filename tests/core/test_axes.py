from __future__ import annotations

import numpy as np
import pytest

from selftalk_blender.core import axes as rig_axes
from selftalk_blender.core import bundled_template
from selftalk_blender.core.axes import Axis, gap_share, has_lips, solve, stretch
from selftalk_blender.core.lips import rest_weights
from selftalk_blender.core.places import GAPS, Frame, positions
from selftalk_blender.core.rigs import JAW, MOUTH

NAMES = bundled_template().shape_names


def made_up_rig(lips: bool):
    """Axes of a jaw that turns and, perhaps, of two lips; places, and how far they go."""
    points = [point for point in positions() if point != "jaw" and "eye" not in point]
    axes = [Axis("Rig", "jaw", i, JAW, turns=True) for i in range(3)]
    moves = np.zeros((len(points), 3, 3 + 6 * lips))
    for s, point in enumerate(points):
        if "lower" in point or point == "chin":
            arm = positions()[point] - positions()["jaw"]
            moves[s, :, :3] = np.cross(np.eye(3), arm).T
        for number, lip in enumerate(("upper", "lower") * lips):
            if lip in point:
                moves[s, :, 3 + 3 * number : 6 + 3 * number] = np.eye(3)
    for lip in ("upper", "lower") * lips:
        axes += [Axis("Rig", lip, i, MOUTH) for i in range(3)]
    frame = Frame(np.eye(3), np.zeros(3))
    reach = np.sqrt((moves**2).sum(1)).max(0)
    return axes, points, moves, solve(axes, points, moves, reach, frame), frame


def test_the_jaw_opens_the_mouth_and_lips_close_it_over_the_open_jaw():
    _, points, moves, matrix, frame = made_up_rig(lips=True)
    jaw, close = NAMES.index("jawOpen"), NAMES.index("mouthClose")
    angle = np.linalg.norm(matrix[jaw, :3])
    assert 0.25 < angle < 0.7  # the bundled head's jaw turns by some 25 degrees
    assert np.abs(matrix[close, :3]).max() == 0  # closing the lips does not move the jaw
    upper, lower = (points.index(point) for point in GAPS[0])
    gap = frame.up @ (moves[upper] - moves[lower])
    opened, closed = gap @ matrix[jaw], gap @ (matrix[jaw] + matrix[close])
    assert opened == pytest.approx(0.0348, rel=0.2)
    assert abs(closed) < 0.002


def test_a_jaw_alone_follows_the_lips_and_does_not_bite():
    axes, _, _, matrix, _ = made_up_rig(lips=False)
    assert not has_lips(axes)
    still, free = np.zeros(3), np.full(3, np.inf)
    weights = np.tile(rest_weights(bundled_template()), (4, 1))
    weights[1, NAMES.index("jawOpen")] += 0.4
    weights[2, NAMES.index("jawOpen")] += 0.4
    weights[2, NAMES.index("mouthClose")] += 0.4
    weights[3, NAMES.index("mouthPressLeft")] += 1.0
    values = rig_axes.values(weights, matrix, still, -free, free, gap_share())
    np.testing.assert_allclose(values[0], 0, atol=1e-7)
    assert np.linalg.norm(values[1]) > 0.1
    np.testing.assert_allclose(values[2], 0, atol=2e-3)
    np.testing.assert_allclose(values[3], 0, atol=1e-6)


def test_values_stay_within_a_slider():
    matrix = np.zeros((52, 1))
    matrix[NAMES.index("jawOpen")] = 3.0
    weights = np.eye(52, dtype=np.float32)[[NAMES.index("jawOpen")]]
    assert rig_axes.values(weights, matrix, np.zeros(1), np.zeros(1), np.ones(1)) == 1.0


def test_an_amount_that_falls_short_is_stretched_but_not_beyond_reason():
    assert stretch(10.0, 8.0) == pytest.approx(1.25)
    assert stretch(10.0, 5.0) == pytest.approx(1.4)
    assert stretch(10.0, 0.1) == 1.0
