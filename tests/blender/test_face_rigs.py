"""Faces that bones move: measured on the mesh as it is seen."""

from __future__ import annotations

import math

import bpy
import characters
import numpy as np
import pytest
import scenes

from selftalk_blender.blender import compat, interface, marks, mesh_cache, rigs
from selftalk_blender.core import bundled_template, places
from selftalk_blender.core.drive import Channel, Drive
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.lips import rest_weights

TEMPLATE = bundled_template()
NAMES = TEMPLATE.shape_names
UPPER, LOWER = TEMPLATE.landmarks["inner_upper_lip"], TEMPLATE.landmarks["inner_lower_lip"]
LEFT, RIGHT = TEMPLATE.landmarks["mouth_corner_left"], TEMPLATE.landmarks["mouth_corner_right"]


@pytest.fixture(autouse=True)
def registered():
    interface.register()
    yield
    interface.unregister()


def weights(**shapes: float) -> np.ndarray:
    """(1, 52) weights: the resting face and some shapes on top."""
    result = rest_weights(TEMPLATE).copy()
    for name, value in shapes.items():
        result[NAMES.index(name)] += value
    return result[None]


class Mouth:
    """How far a face's mouth goes, in millimetres of the bundled head, and how far it should."""

    def __init__(self, target, kept=None, scale=1.0):
        self.target, self.scale = target, scale
        index = np.arange(len(TEMPLATE.vertices)) if kept is None else kept
        self.of = {vertex: i for i, vertex in enumerate(index.tolist())}
        self.drive = rigs.drive(target)
        self.still = characters.shown(target)

    def __call__(self, **shapes):
        characters.talk(self.drive.channels, self.drive(weights(**shapes))[0])
        at = characters.shown(self.target)
        return self.measure(at) - self.measure(self.still)

    def measure(self, at):
        """Gap between the lips and width of the mouth."""
        upper, lower, left, right = (at[self.of[v]] for v in (UPPER, LOWER, LEFT, RIGHT))
        gap = (upper - lower) @ self.up
        return np.array([gap, np.linalg.norm(left - right)]) / self.scale * 1000

    up = np.array([0.0, 0.0, 1.0])


def wanted(**shapes) -> np.ndarray:
    rest, moved = weights(), weights(**shapes)
    return np.array(
        [
            (TEMPLATE.gap_mm(moved) - TEMPLATE.gap_mm(rest))[0],
            (TEMPLATE.width_mm(moved) - TEMPLATE.width_mm(rest))[0],
        ]
    )


def pose(rig) -> list:
    return [
        (*bone.location, *bone.rotation_quaternion, *bone.rotation_euler, bone.rotation_mode)
        for bone in rig.pose.bones
    ] + [dict(rig.items()).get("Jaw")]


def rig_of(target):
    return target.modifiers["Armature"].object


@pytest.mark.parametrize(("skin", "title"), [(False, "Rigify face"), (True, "Rigify face (skin)")])
def test_a_rigify_face_opens_closes_and_rounds_its_lips(skin, title, tmp_path):
    head = characters.rigify(skin, tmp_path)
    kept = characters.cut(head)
    rig = rig_of(head)
    found = rigs.summary(rigs.find(head))
    assert found == f"{title} of rig: 1 jaw, 11 mouth, 6 brow, 8 lid, 1 tongue bones"
    rig.pose.bones["jaw_master"].location.x = 0.002  # the artist's
    before, seen = pose(rig), characters.shown(head)
    mouth = Mouth(head, kept)
    for bone, was in zip(pose(rig), before, strict=True):
        # Bones that drivers turn are worked out anew, in single precision.
        assert bone == was or bone[:-1] == pytest.approx(was[:-1], abs=1e-7)
    np.testing.assert_array_equal(characters.shown(head), seen)
    rig.pose.bones["jaw_master"].location.x = 0.0
    mouth.still = characters.shown(head)

    np.testing.assert_allclose(mouth(), 0, atol=0.01)
    for amount in (0.1, 0.3, 0.5):
        opened = mouth(jawOpen=amount)
        assert opened[0] == pytest.approx(wanted(jawOpen=amount)[0], rel=0.15)
        closed = mouth(jawOpen=amount, mouthClose=amount)
        assert abs(closed[0]) < 1.0
    for shape in ("mouthPucker", "mouthFunnel"):
        assert mouth(**{shape: 1.0})[1] == pytest.approx(wanted(**{shape: 1.0})[1], rel=0.25)
    wide = {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0}
    assert mouth(**wide)[1] == pytest.approx(wanted(**wide)[1], rel=0.25)

    mouth(mouthSmileLeft=1.0)
    moved = np.linalg.norm(characters.shown(head) - mouth.still, axis=1)
    assert moved[mouth.of[LEFT]] > 5 * moved[mouth.of[RIGHT]]
    mouth(eyeBlinkLeft=1.0)
    lid = mouth.of[places.vertices()["lid_upper_left"]]
    down = mouth.still[lid, 2] - characters.shown(head)[lid, 2]
    assert down == pytest.approx(
        -places.motions("lid_upper_left")[NAMES.index("eyeBlinkLeft"), 2], rel=0.2
    )
    # What the bones do all over the lips is near what the bundled head's shapes do.
    lips = [mouth.of[v] for v in TEMPLATE.regions["lips"]]
    for shape in ("jawOpen", "mouthPucker", "mouthStretchLeft", "mouthLowerDownLeft"):
        mouth(**{shape: 0.4})
        goes = (characters.shown(head) - mouth.still)[lips]
        should = 0.4 * TEMPLATE.shape_deltas[NAMES.index(shape)][TEMPLATE.regions["lips"]]
        error = np.linalg.norm(goes - should, axis=1)
        far = np.linalg.norm(should, axis=1)
        assert np.median(error[far > 5e-4] / far[far > 5e-4]) < 0.35, shape


@pytest.mark.parametrize(
    ("name", "mode", "roll", "known"),
    [
        ("Jaw", "QUATERNION", 0.0, True),
        ("mixamorig:Jaw", "XYZ", 0.7, False),
        ("J_Bip_C_Jaw", "ZYX", math.pi, False),
        ("CC_Base_JawRoot", "QUATERNION", -2.0, False),
    ],
)
def test_a_lone_jaw_bone_opens_as_far_as_the_lips_part(name, mode, roll, known):
    head = characters.jaw_rig(name, mode, roll)
    kept = None if known else characters.cut(head)
    mouth = Mouth(head, kept)
    assert rigs.summary(rigs.find(head)) == "Jaw bone of Rig: 1 jaw bone"
    for amount in (0.1, 0.3):
        assert mouth(jawOpen=amount)[0] == pytest.approx(wanted(jawOpen=amount)[0], rel=0.15)
    assert abs(mouth(jawOpen=0.3, mouthClose=0.3)[0]) < 0.2
    np.testing.assert_allclose(mouth(mouthClose=0.3), 0, atol=0.01)  # it does not bite
    chin = mouth.of[places.vertices()["chin"]]
    mouth(jawLeft=1.0)
    assert (characters.shown(head) - mouth.still)[chin, 0] > 0.004
    bone = rig_of(head).pose.bones[name]
    assert bone.rotation_mode == mode


@pytest.mark.parametrize("known", [True, False])
def test_turned_scaled_and_mirrored_characters_talk_alike(known):
    head = characters.jaw_rig("jaw", "XYZ")
    kept = None if known else characters.cut(head)
    rig = rig_of(head)
    head.parent = rig
    rig.scale = (-3.0, 3.0, 3.0)
    rig.rotation_euler.z = 2.0
    bpy.context.view_layer.update()
    mouth = Mouth(head, kept, scale=3.0)
    assert mouth(jawOpen=0.3)[0] == pytest.approx(wanted(jawOpen=0.3)[0], rel=0.15)
    # The character's own left, which a mirror shows on the other side.
    mouth(jawLeft=1.0)
    chin = mouth.of[places.vertices()["chin"]]
    evaluated = head.evaluated_get(bpy.context.evaluated_depsgraph_get())
    own = evaluated.data.vertices[chin].co - head.data.vertices[chin].co
    assert own.x > 0.004


def test_a_slider_is_set_within_its_range_and_its_bone_is_left_alone():
    head = characters.slider_rig()
    rig = rig_of(head)
    before = pose(rig)
    mouth = Mouth(head, characters.cut(head))
    assert pose(rig) == before
    assert any(channel.kind == "PROPERTY" for channel in mouth.drive.channels)
    assert not any(c.path.endswith("rotation_euler") and c.index == 0 for c in mouth.drive.channels)
    assert "Bone jaw has a driver: left alone." in mouth.drive.notices
    for amount in (0.1, 0.3):
        assert mouth(jawOpen=amount)[0] == pytest.approx(wanted(jawOpen=amount)[0], rel=0.25)
    slider = [c.kind for c in mouth.drive.channels].index("PROPERTY")
    many = np.concatenate([weights(jawOpen=x) for x in (-1, 0, 0.5, 5)])
    values = mouth.drive(many)[:, slider]
    assert values.min() == 0.0 and values.max() == 1.0


def test_a_control_board_is_pushed_as_far_as_it_goes():
    head = characters.jaw_rig("jaw", "XYZ")
    rig = rig_of(head)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    control = rig.data.edit_bones.new("jawOpen")
    control.head, control.tail = (0.5, 0, 0), (0.5, 0, 0.1)
    bpy.ops.object.mode_set(mode="OBJECT")
    limit = rig.pose.bones["jawOpen"].constraints.new("LIMIT_LOCATION")
    limit.owner_space = "LOCAL"
    for axis in "xyz":
        setattr(limit, f"use_min_{axis}", True)
        setattr(limit, f"use_max_{axis}", True)
    limit.min_y = -0.1
    driver = rig.pose.bones["jaw"].driver_add("rotation_euler", 0).driver
    variable = driver.variables.new()
    variable.targets[0].id = rig
    variable.targets[0].data_path = 'pose.bones["jawOpen"].location[1]'
    driver.expression = f"-6 * {variable.name}"
    mouth = Mouth(head)
    assert mouth(jawOpen=0.3)[0] == pytest.approx(wanted(jawOpen=0.3)[0], rel=0.2)
    board = [c for c in mouth.drive.channels if '"jawOpen"' in c.path]
    assert [channel.index for channel in board] == [1]


AUTO_RIG_PRO = {
    "c_lips_top.x": "upper_lip",
    "c_lips_bot.x": "lower_lip",
    "c_lips_top.l": "upper_lip_left",
    "c_lips_top.r": "upper_lip_right",
    "c_lips_bot.l": "lower_lip_left",
    "c_lips_bot.r": "lower_lip_right",
    "c_lips_smile.l": "corner_left",
    "c_lips_smile.r": "corner_right",
    "c_chin_01.x": "chin",
}
MAKEHUMAN = {
    "oris05": "upper_lip",
    "oris01": "lower_lip",
    "oris03.L": "upper_lip_left",
    "oris03.R": "upper_lip_right",
    "oris07.L": "lower_lip_left",
    "oris07.R": "lower_lip_right",
}


@pytest.mark.parametrize(
    ("bones", "jaw", "title"),
    [
        (AUTO_RIG_PRO, "c_jawbone.x", "Auto-Rig Pro face"),
        (MAKEHUMAN, "jaw", "MakeHuman default rig"),
    ],
)
def test_other_rigs_open_and_close_their_lips(bones, jaw, title):
    lower = tuple(name for name, place in bones.items() if "lower" in place or place == "chin")
    head = characters.named_rig(bones, jaw, lower)
    mouth = Mouth(head, characters.cut(head))
    assert rigs.summary(rigs.find(head)).startswith(f"{title} of Rig: 1 jaw, {len(bones)} mouth")
    assert mouth(jawOpen=0.3)[0] == pytest.approx(wanted(jawOpen=0.3)[0], rel=0.15)
    assert abs(mouth(jawOpen=0.3, mouthClose=0.3)[0]) < 1.0
    assert mouth(mouthPucker=1.0)[1] < -2.0  # without bones at the corners not more than that


def test_a_slider_without_a_range_is_measured_by_one():
    head = characters.slider_rig()
    rig = rig_of(head)
    del rig["Jaw"]
    rig["Jaw"] = 0.0
    (axis,) = (axis for axis in rigs.find(head).axes if axis.kind == "PROPERTY")
    assert (axis.low, axis.high) == (-np.inf, np.inf)
    mouth = Mouth(head)
    assert mouth(jawOpen=0.3)[0] == pytest.approx(wanted(jawOpen=0.3)[0], rel=0.25)


def test_what_the_artist_uses_is_left_alone_with_the_reason():
    head = characters.jaw_rig("jaw", "XYZ")
    rig = rig_of(head)
    bone = rig.pose.bones["jaw"]
    bone.lock_location = (True, True, True)
    bone.keyframe_insert("rotation_euler", index=0, frame=1)
    action = rig.animation_data.action
    found = rigs.find(head)
    assert [axis.index for axis in found.axes] == [1, 2]
    assert found.left_alone == (f"Bone jaw is keyed in your action {action.name}: left alone.",)
    rig.animation_data.action = None
    strip = rig.animation_data.nla_tracks.new().strips.new("Walk", 1, action)
    found = rigs.find(head)
    assert [axis.index for axis in found.axes] == [1, 2]
    assert found.left_alone == ("Bone jaw is keyed in your NLA strip Walk: left alone.",)
    strip.mute = True
    assert [axis.index for axis in rigs.find(head).axes] == [0, 1, 2]
    bone.lock_rotation = (True, True, True)
    with pytest.raises(SelfTalkError, match=r"controls of Rig are locked\. Unlock"):
        rigs.find(head)
    bone.lock_rotation = (False, False, False)

    bone.rotation_mode = "AXIS_ANGLE"
    with pytest.raises(SelfTalkError, match="axis and angle.*another rotation mode"):
        rigs.find(head)
    bone.rotation_mode = "XYZ"
    constraint = bone.constraints.new("COPY_ROTATION")
    with pytest.raises(SelfTalkError, match=f"constraint {constraint.name}"):
        rigs.find(head)
    constraint.mute = True
    rigs.find(head)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(SelfTalkError, match="Edit Mode"):
        rigs.find(head)
    bpy.ops.object.mode_set(mode="OBJECT")
    rig.data.pose_position = "REST"
    with pytest.raises(SelfTalkError, match="Rest Position"):
        rigs.find(head)


def test_why_a_bone_is_left_alone_is_said_once():
    head = characters.jaw_rig("Jaw")
    rig_of(head).pose.bones["Head"].name = "jawOpen"  # as on a control board
    rig_of(head).pose.bones["jawOpen"].keyframe_insert("location", frame=1)
    (reason,) = rigs.find(head).left_alone
    assert reason.startswith("Bone jawOpen is keyed in your action")


def test_a_linked_or_missing_armature_is_refused_with_what_to_do(tmp_path, head):
    with pytest.raises(SelfTalkError, match="no armature with a jaw bone"):
        rigs.find(head)
    made = characters.jaw_rig()
    rig_of(made).name = "Theirs"
    bpy.data.libraries.write(str(tmp_path / "rig.blend"), {rig_of(made)})
    bpy.data.objects.remove(rig_of(made))
    with bpy.data.libraries.load(str(tmp_path / "rig.blend"), link=True) as (_, into):
        into.objects = ["Theirs"]
    made.modifiers["Armature"].object = into.objects[0]
    with pytest.raises(SelfTalkError, match="Theirs belongs to another file. Make it local"):
        rigs.find(made)


def test_a_rig_that_does_not_move_the_face_is_refused():
    head = characters.jaw_rig()
    head.vertex_groups.clear()
    with pytest.raises(SelfTalkError, match="vertex groups"):
        rigs.drive(head)
    assert marks.CALIBRATION not in head


def test_cancelling_the_measurement_leaves_nothing_behind():
    head = characters.jaw_rig()
    before, seen = pose(rig_of(head)), characters.shown(head)
    steps = rigs.calibrate(head)
    next(steps), next(steps)
    steps.close()
    assert pose(rig_of(head)) == before and marks.CALIBRATION not in head
    np.testing.assert_array_equal(characters.shown(head), seen)


def test_a_rig_is_measured_once_and_again_after_it_changed():
    head = characters.jaw_rig("Jaw", "XYZ")
    assert not rigs.drive(head).rest.any()
    head[marks.CALIBRATION] = head[marks.CALIBRATION].replace('"high": Infinity', '"high": 0.0')
    assert rigs.drive(head)(weights(jawOpen=0.3)).max() == 0.0  # what is kept is used
    rig_of(head).pose.bones["Jaw"].rotation_mode = "ZYX"
    rig_of(head).pose.bones["Jaw"].lock_rotation[1] = True
    assert np.abs(rigs.drive(head)(weights(jawOpen=0.3))).max() > 0.05


def test_keys_and_bones_share_a_face_as_the_user_chose():
    head = characters.jaw_rig()
    key = Drive((Channel(head.name, "KEY", "mouthSmileLeft"),), lambda w: w[:, :1])
    smile, jaw = frozenset({"mouthSmileLeft"}), frozenset({"jawOpen", "mouthSmileLeft"})

    def kinds(keys, keyed):
        return {channel.kind for channel in rigs.with_rig(head, keys, keyed).channels}

    assert kinds(None, frozenset()) == {"BONE"}
    assert kinds(key, smile) == {"KEY", "BONE"}
    assert kinds(key, jaw) == {"KEY"}
    head.selftalk.rig_share = "BONES"
    assert kinds(key, jaw) == {"BONE"}
    head.selftalk.rig_share = "KEYS"
    assert kinds(key, smile) == {"KEY"}
    head.selftalk.rig_share = "BOTH"
    both = rigs.with_rig(head, key, jaw)
    bones = [i for i, channel in enumerate(both.channels) if channel.kind == "BONE"]
    np.testing.assert_allclose(both(weights(jawOpen=0.4))[0, bones], both.rest[bones], atol=1e-6)
    assert np.abs(both(weights(jawLeft=1.0))[0, bones]).max() > 0.01


def test_keyed_bones_play():
    head = characters.jaw_rig("Jaw", "QUATERNION")
    drive = rigs.drive(head)
    rig = rig_of(head)
    still = characters.shown(head)
    motion = np.concatenate([weights(jawOpen=x) for x in (0.0, 0.2, 0.4, 0.0)])
    action = bpy.data.actions.new("talk")
    slot = compat.add_slot(action, rig)
    for channel, values in zip(drive.channels, drive(motion).T, strict=True):
        curve = compat.slot_curves(action, slot).new(channel.path, index=channel.index)
        curve.keyframe_points.add(len(values))
        for point, (frame, value) in zip(curve.keyframe_points, enumerate(values, 1), strict=True):
            point.co = frame, value
    compat.play_action(rig.animation_data_create(), action, slot)
    opened = []
    for frame in range(1, 5):
        at = scenes.play(head, frame)
        opened.append((at - still)[LOWER, 2] * -1000)
    assert opened[0] == pytest.approx(0, abs=0.01) and opened[3] == pytest.approx(0, abs=0.01)
    assert opened[1] == pytest.approx(6, abs=1.5) and opened[2] == pytest.approx(12, abs=3)


def test_a_mesh_cache_plays_below_the_armature_and_the_subdivision(head, tmp_path):
    rig_head = characters.jaw_rig()
    rig = rig_of(rig_head)
    smooth = rig_head.modifiers.new("Subdivision", "SUBSURF")
    smooth.levels = 0
    motion = scenes.talking(3)
    path = tmp_path / f"cache{mesh_cache.CACHE_SUFFIX}"
    for _ in mesh_cache.write(rig_head, motion, 1, path):
        pass
    assert [m.type for m in rig_head.modifiers] == ["MESH_CACHE", "ARMATURE", "SUBSURF"]
    rig.pose.bones["Head"].rotation_mode = "XYZ"
    rig.pose.bones["Head"].rotation_euler = (0.0, 0.5, 0.0)
    rest = rig.pose.bones["Head"].bone.matrix_local
    bpy.context.view_layer.update()
    turn = np.array(rig.pose.bones["Head"].matrix @ rest.inverted())
    jaw = np.array(
        rig.pose.bones["Jaw"].matrix @ rig.pose.bones["Jaw"].bone.matrix_local.inverted()
    )
    np.testing.assert_allclose(turn, jaw, atol=1e-5)  # the jaw goes with the head
    for frame in range(3):
        talks = motion.vertices(frame, frame + 1)[0] @ turn[:3, :3].T + turn[:3, 3]
        np.testing.assert_allclose(scenes.play(rig_head, frame + 1), talks, atol=1e-5)


def test_the_button_measures_and_says_what_it_found():
    head = characters.jaw_rig()
    bpy.context.scene.selftalk.face = head
    assert bpy.ops.selftalk.measure_rig() == {"FINISHED"}
    assert marks.CALIBRATION in head
    rig_of(head).data.pose_position = "REST"
    with pytest.raises(RuntimeError, match="poll"):
        bpy.ops.selftalk.measure_rig()
