from __future__ import annotations

import numpy as np
import pytest

from selftalk_blender.core import bundled_template, rigs
from selftalk_blender.core.lips import rest_weights

NAMES = bundled_template().shape_names
RIGIFY = ["root", "spine", "jaw_master", "lip.T", "lip.B", "chin", "lip.T.L.001", "lip.T.R.001"]


@pytest.mark.parametrize(
    ("bones", "title"),
    [
        ([*RIGIFY, "lips.L", "lips.R", "tongue_master"], "Rigify face"),
        ([*RIGIFY, "jaw_master_mouth", "lip_end.L.001"], "Rigify face (skin)"),
        (["c_jawbone.x", "c_lips_top.x", "c_lips_bot.x", "c_lips_smile.l"], "Auto-Rig Pro face"),
        (["jaw", "oris01", "oris05", "oris03.L", "head"], "MakeHuman default rig"),
        (["mixamorig:Head", "mixamorig:Jaw"], "Jaw bone"),
        (["Head", "LeftEye", "RightEye", "Jaw"], "Jaw bone"),
        (["J_Bip_C_Head", "J_Bip_C_Jaw"], "Jaw bone"),
        (["CC_Base_Head", "CC_Base_JawRoot"], "Jaw bone"),
    ],
)
def test_a_rig_is_recognised_by_its_bones(bones, title):
    rig = rigs.recognise(bones)
    assert rig is not None and rig.title == title
    assert {control.bone for control in rig.controls} <= set(bones)
    assert any(control.part == rigs.JAW for control in rig.controls)


def test_a_rig_without_a_jaw_is_no_face():
    assert rigs.recognise(["Hips", "Spine", "Head", "mixamorig:LeftArm", "jawbreaker"]) is None


def test_confidence_tells_how_much_of_a_rig_is_there():
    few = rigs.recognise([*RIGIFY, "lips.L"])
    many = rigs.recognise([*RIGIFY, "lips.L", "lips.R", "brow.T.L.003", "lid.T.L.002"])
    assert 0 < few.confidence < many.confidence < 1
    assert "jaw_master" in few.reason


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("jawOpen", ("jawOpen",)),
        ("jaw_open", ("jawOpen",)),
        ("CTRL_JawOpen", ()),
        ("Jaw", ("jawOpen",)),
        ("Mouth Open", ("jawOpen",)),
        ("mouthSmile_L", ("mouthSmileLeft",)),
        ("MouthSmileRight", ("mouthSmileRight",)),
        ("smile", ("mouthSmileLeft", "mouthSmileRight")),
        ("IK/FK", ()),
        ("mouth_lock", ()),
    ],
)
def test_sliders_are_known_by_name(name, shapes):
    assert rigs.slider_shapes(name) == shapes


def test_places_are_where_their_names_say():
    places = rigs.places()
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
        name: rigs.places()[name] @ linear.T + shift
        for name in ("upper_lip", "corner_left", "corner_right", "chin")
    }
    frame = rigs.fit_frame(found, mirror)
    np.testing.assert_allclose(frame.linear, linear, atol=1e-4)
    np.testing.assert_allclose(frame(rigs.places()["jaw"]), rigs.places()["jaw"] @ linear.T + shift)
    assert frame.scale == pytest.approx(7.0)


def test_places_in_one_line_tell_no_frame():
    line = {name: np.array([i, 0.0, 0.0]) for i, name in enumerate(("chin", "jaw", "upper_lip"))}
    assert rigs.fit_frame(line) is None


def test_a_face_is_found_from_its_jaw_alone():
    places = rigs.places()
    frame = rigs.frame_from_jaw(places["jaw"] * 3, places["chin"] * 3, np.array([0.0, 0.0, 2.0]))
    np.testing.assert_allclose(frame(places["corner_left"]), places["corner_left"] * 3, atol=0.01)
    at = bundled_template().vertices
    opened = np.linalg.norm(bundled_template().shape_deltas[NAMES.index("jawOpen")], axis=1)
    chin = rigs.chin_of(opened, at, places["jaw"], np.array([0.0, 0.0, 1.0]))
    assert np.linalg.norm(at[chin] - places["chin"]) < 0.02


def made_up_rig(lips: bool):
    """Axes of a jaw that turns and, perhaps, of two lips; places, and how far they go."""
    points = [point for point in rigs.places() if point != "jaw" and "eye" not in point]
    axes = [rigs.Axis("Rig", "jaw", i, rigs.JAW, turns=True) for i in range(3)]
    moves = np.zeros((len(points), 3, 3 + 6 * lips))
    for s, point in enumerate(points):
        if "lower" in point or point == "chin":
            arm = rigs.places()[point] - rigs.places()["jaw"]
            moves[s, :, :3] = np.cross(np.eye(3), arm).T
        for number, lip in enumerate(("upper", "lower") * lips):
            if lip in point:
                moves[s, :, 3 + 3 * number : 6 + 3 * number] = np.eye(3)
    for lip in ("upper", "lower") * lips:
        axes += [rigs.Axis("Rig", lip, i, rigs.MOUTH) for i in range(3)]
    frame = rigs.Frame(np.eye(3), np.zeros(3))
    reach = np.sqrt((moves**2).sum(1)).max(0)
    return axes, points, moves, rigs.solve(axes, points, moves, reach, frame), frame


def test_the_jaw_opens_the_mouth_and_lips_close_it_over_the_open_jaw():
    _, points, moves, matrix, frame = made_up_rig(lips=True)
    jaw, close = NAMES.index("jawOpen"), NAMES.index("mouthClose")
    angle = np.linalg.norm(matrix[jaw, :3])
    assert 0.25 < angle < 0.7  # the bundled head's jaw turns by some 25 degrees
    assert np.abs(matrix[close, :3]).max() == 0  # closing the lips does not move the jaw
    upper, lower = (points.index(point) for point in rigs.GAPS[0])
    gap = frame.up @ (moves[upper] - moves[lower])
    opened, closed = gap @ matrix[jaw], gap @ (matrix[jaw] + matrix[close])
    assert opened == pytest.approx(0.0348, rel=0.2)
    assert abs(closed) < 0.002


def test_a_jaw_alone_follows_the_lips_and_does_not_bite():
    axes, _, _, matrix, _ = made_up_rig(lips=False)
    assert not rigs.has_lips(axes)
    still, free = np.zeros(3), np.full(3, np.inf)
    weights = np.tile(rest_weights(bundled_template()), (4, 1))
    weights[1, NAMES.index("jawOpen")] += 0.4
    weights[2, NAMES.index("jawOpen")] += 0.4
    weights[2, NAMES.index("mouthClose")] += 0.4
    weights[3, NAMES.index("mouthPressLeft")] += 1.0
    values = rigs.values(weights, matrix, still, -free, free, rigs.gap_share())
    np.testing.assert_allclose(values[0], 0, atol=1e-7)
    assert np.linalg.norm(values[1]) > 0.1
    np.testing.assert_allclose(values[2], 0, atol=2e-3)
    np.testing.assert_allclose(values[3], 0, atol=1e-6)


def test_values_stay_within_a_slider():
    matrix = np.zeros((52, 1))
    matrix[NAMES.index("jawOpen")] = 3.0
    weights = np.eye(52, dtype=np.float32)[[NAMES.index("jawOpen")]]
    assert rigs.values(weights, matrix, np.zeros(1), np.zeros(1), np.ones(1)) == 1.0


def test_keys_that_open_the_jaw_are_preferred_to_bones():
    assert rigs.keys_alone("AUTO", {"jawOpen", "mouthClose"})
    assert not rigs.keys_alone("AUTO", {"mouthSmileLeft"})
    assert not rigs.keys_alone("BOTH", {"jawOpen"}) and not rigs.keys_alone("BONES", {"jawOpen"})
    assert rigs.keys_alone("KEYS", set())


def test_an_amount_that_falls_short_is_stretched_but_not_beyond_reason():
    assert rigs.stretch(10.0, 8.0) == pytest.approx(1.25)
    assert rigs.stretch(10.0, 5.0) == pytest.approx(1.4)
    assert rigs.stretch(10.0, 0.1) == 1.0
