from __future__ import annotations

import numpy as np
import pytest

from selftalk_blender.core import bundled_template
from selftalk_blender.core.places import chin_of, fit_frame, frame_from_jaw, positions

NAMES = bundled_template().shape_names


def test_places_are_where_their_names_say():
    places = positions()
    assert places["jaw"][1] > places["corner_left"][1] + 0.03  # the axis is far behind the mouth
    assert places["upper_lip"][2] > places["lower_lip"][2] > places["chin"][2]
    for name, place in places.items():
        if name.endswith("_left"):
            assert place[0] > 0.005, name
            mirrored = places[name.replace("_left", "_right")] * (-1, 1, 1)
            np.testing.assert_allclose(place, mirrored, atol=0.002, err_msg=name)


@pytest.mark.parametrize("mirror", [False, True])
def test_the_frame_of_a_turned_scaled_or_mirrored_face_is_found(mirror):
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
    if (np.linalg.det(turn) < 0) != mirror:
        turn[:, 0] *= -1
    linear, shift = 7.0 * turn, np.array([1.0, 2.0, 3.0])
    found = {
        name: positions()[name] @ linear.T + shift
        for name in ("upper_lip", "corner_left", "corner_right", "chin")
    }
    frame = fit_frame(found, mirror)
    np.testing.assert_allclose(frame.linear, linear, atol=1e-4)
    np.testing.assert_allclose(frame(positions()["jaw"]), positions()["jaw"] @ linear.T + shift)
    assert frame.scale == pytest.approx(7.0)


def test_places_in_one_line_tell_no_frame():
    line = {name: np.array([i, 0.0, 0.0]) for i, name in enumerate(("chin", "jaw", "upper_lip"))}
    assert fit_frame(line) is None


def test_a_face_is_found_from_its_jaw_alone():
    places = positions()
    frame = frame_from_jaw(places["jaw"] * 3, places["chin"] * 3, np.array([0.0, 0.0, 2.0]))
    np.testing.assert_allclose(frame(places["corner_left"]), places["corner_left"] * 3, atol=0.01)
    at = bundled_template().vertices
    opened = np.linalg.norm(bundled_template().shape_deltas[NAMES.index("jawOpen")], axis=1)
    chin = chin_of(opened, at, places["jaw"], np.array([0.0, 0.0, 1.0]))
    assert np.linalg.norm(at[chin] - places["chin"]) < 0.02
