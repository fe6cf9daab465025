"""The artist's controls in real Blender: heard at once, undone, and never at the cost of edits."""

import sys
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from mathutils import Vector
from pace import paced, quietest
from scenes import play

from selftalk_blender.blender import (
    adjust_panel,
    bundled_head,
    compat,
    controls,
    jobs,
    lines,
    marks,
    mesh_cache,
    reducing,
    targets,
)
from selftalk_blender.core import Motion, aside, bundled_template
from selftalk_blender.core.controls import Controls, apply
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.reduce import Keys, reduce_keys
from selftalk_blender.core.take import Take

sys.path.append(str(Path(__file__).parents[1] / "core"))
from sample import FPS, sample

HEAD = bundled_template()
WEIGHTS, LOUDNESS = sample()
FRAMES = 120
RATE = 24.0


def spoken(line_id: str = "one", first_frame: int = 1) -> lines.Spoken:
    return lines.Spoken(
        id=line_id,
        name=line_id,
        scene="Scene",
        strip=line_id,
        clip="/one.wav",
        sound=line_id,
        taken=(0.0, len(WEIGHTS) / FPS),
        first_frame=first_frame,
        frames=FRAMES,
        fps=RATE,
        start=0.0,
    )


def speak(face, line_id: str = "one", first_frame: int = 1) -> None:
    bpy.context.scene.selftalk.face = face
    take = Take(WEIGHTS, FPS, LOUDNESS)
    for _ in lines.write(face, targets.drive_of(face), spoken(line_id, first_frame), take):
        pass


def curves(face, line_id: str = "one") -> dict[str, bpy.types.FCurve]:
    return {curve.data_path.split('"')[-2]: curve for _, curve, _ in lines.curves(face, line_id)}


def expected(**values: float) -> np.ndarray:
    """Weights at scene frames 1..FRAMES."""
    weights = apply(Controls(**values), HEAD, WEIGHTS, FPS, LOUDNESS)
    return Motion(HEAD, FPS, weights=weights).at(np.arange(FRAMES) / RATE, RATE).weights


def shape(weights: np.ndarray) -> np.ndarray:
    return HEAD.vertices + np.tensordot(weights, HEAD.shape_deltas, 1)


def test_a_slider_moves_the_face_at_once_without_the_animator(head, monkeypatch) -> None:
    monkeypatch.setattr("subprocess.Popen", None)  # no worker can be started
    speak(head)
    before = play(head, 30)
    assert np.abs(before - shape(expected()[29])).max() < 1e-5
    head.selftalk.controls.strength = 1.5
    assert np.abs(play(head, 30) - shape(expected(strength=1.5)[29])).max() < 1e-5
    head.selftalk.controls.jaw = 0.4
    head.selftalk.controls.offset = 2.0
    now = expected(strength=1.5, jaw=0.4, offset=2.0 / RATE)
    assert np.abs(play(head, 30) - shape(now[29])).max() < 1e-5
    assert bpy.ops.selftalk.reset_controls() == {"FINISHED"}
    assert np.array_equal(play(head, 30), before)


def test_curves_come_and_go_with_what_moves(head) -> None:
    speak(head)
    assert "eyeBlinkLeft" not in curves(head) and "jawOpen" in curves(head)
    head.selftalk.controls.use_blinks = True
    blinking = curves(head)["eyeBlinkLeft"]
    assert max(blinking.evaluate(frame) for frame in range(1, FRAMES)) > 0.9
    head.selftalk.controls.use_blinks = False
    assert "eyeBlinkLeft" not in curves(head)
    assert head.data.shape_keys.key_blocks["eyeBlinkLeft"].value == 0.0


def test_every_line_of_the_face_follows(head) -> None:
    speak(head)
    speak(head, "two", 201)
    head.selftalk.controls.strength = 0.5
    wanted = shape(expected(strength=0.5)[29])
    assert np.abs(play(head, 30) - wanted).max() < 1e-5
    assert np.abs(play(head, 230) - wanted).max() < 1e-5


@pytest.mark.parametrize("error_mm", [0.2, 0.5])
def test_reduced_keys_play_as_core_says_within_the_error(head, error_mm) -> None:
    head.selftalk.controls.use_blinks = True
    speak(head)
    full = {frame: play(head, frame) for frame in range(1, FRAMES, 3)}
    before = sum(len(curve.keyframe_points) for curve in curves(head).values())
    assert bpy.ops.selftalk.reduce_keys(error_mm=error_mm) == {"FINISHED"}
    after = sum(len(curve.keyframe_points) for curve in curves(head).values())
    assert after < before / (3 if error_mm == 0.2 else 5)
    off = [np.linalg.norm(play(head, f) - full[f], axis=1).max() for f in full]
    assert 0 < max(off) * 1000 <= error_mm * 1.01
    for curve in curves(head).values():
        for point in curve.keyframe_points:
            assert point.interpolation == "BEZIER"
            assert (point.handle_left_type, point.handle_right_type) == ("ALIGNED", "ALIGNED")


def run(steps):
    """What a generator returns."""
    *_, (_, result) = paced(steps)
    return result


def test_reducing_a_minute_lets_the_window_draw(head) -> None:
    take = Take(np.tile(WEIGHTS, (12, 1)), FPS, np.tile(LOUDNESS, 12))
    new = replace(spoken(), taken=(0.0, len(take.weights) / FPS), frames=1440)

    def longest_turn() -> float:
        run(lines.write(head, targets.drive_of(head), new, take))
        turns = list(paced(reducing.reduce_lines(head, 0.5)))
        before, after, error = turns[-1][1]
        assert before > 3 * after and error <= 0.5
        return max(turn for turn, _ in turns)

    assert quietest(longest_turn, 0.05) < 0.05


def test_blender_draws_the_curve_that_core_computed(head) -> None:
    speak(head)
    line = run(reducing._read(head, "one", 0.5))
    reduced = reduce_keys(line.values, line.deltas, line.allowed)
    between = np.arange(0, len(line.values) - 1, 0.25)
    found = [curve for _, curve, _ in lines.curves(head, "one")]
    for curve, keys in zip(found, reduced.curves, strict=True):
        reducing.write_keys(curve, keys, line.first_frame)
        drawn = [curve.evaluate(line.first_frame + frame) for frame in between]
        assert np.abs(drawn - keys.at(between)).max() < 2e-5


def test_reduced_lines_in_the_nla_are_as_good(head) -> None:
    speak(head)
    speak(head, "two", 201)
    full = play(head, 240)
    bpy.ops.selftalk.reduce_keys(error_mm=0.3)
    assert np.linalg.norm(play(head, 240) - full, axis=1).max() * 1000 <= 0.303


def test_hand_made_keys_are_kept_until_bake_again(head) -> None:
    speak(head)
    jaw = curves(head)["jawOpen"]
    jaw.keyframe_points[20].co.y = 0.77
    jaw.update()
    assert "edited" in adjust_panel.adjust_problem(bpy.context)
    head.selftalk.controls.strength = 2.0
    assert curves(head)["jawOpen"].keyframe_points[20].co.y == pytest.approx(0.77)
    assert bpy.ops.selftalk.bake_again() == {"FINISHED"}
    assert adjust_panel.adjust_problem(bpy.context) == ""
    assert np.abs(play(head, 30) - shape(expected(strength=2.0)[29])).max() < 1e-5


def test_reduced_lines_are_kept_until_bake_again(head) -> None:
    speak(head)
    bpy.ops.selftalk.reduce_keys()
    count = len(curves(head)["jawOpen"].keyframe_points)
    head.selftalk.controls.strength = 0.3
    assert len(curves(head)["jawOpen"].keyframe_points) == count
    assert "reduced" in adjust_panel.adjust_problem(bpy.context)
    with pytest.raises(RuntimeError, match="reduced"):
        bpy.ops.selftalk.reset_controls()
    bpy.ops.selftalk.bake_again()
    assert len(curves(head)["jawOpen"].keyframe_points) > 1.5 * count


def test_what_is_gone_from_the_mesh_is_not_reduced(head) -> None:
    speak(head)
    head.shape_key_remove(head.data.shape_keys.key_blocks["jawOpen"])
    assert bpy.ops.selftalk.reduce_keys() == {"FINISHED"}
    assert len(curves(head)["jawOpen"].keyframe_points) > FRAMES
    assert len(curves(head)["mouthClose"].keyframe_points) < FRAMES


def test_a_damaged_take_is_a_sentence_and_not_an_error_in_the_panel(head) -> None:
    speak(head)
    head[marks.TAKES].pop("one")
    head[marks.TAKES]["one"] = b"damaged"
    assert adjust_panel.adjust_problem(bpy.context) == adjust_panel.bake_problem(bpy.context) == ""
    with pytest.raises(RuntimeError, match="take cannot be read.*Animate the line again"):
        bpy.ops.selftalk.bake_again()
    head.selftalk.controls.strength = 0.5
    assert "take cannot be read" in head.selftalk.controls.problem


def test_lines_that_wait_still_do_after_bake_again_was_cancelled(head) -> None:
    speak(head)
    head[marks.WAITING] = "one"
    steps = controls.bake_lines(head)
    next(steps)
    steps.close()
    assert head[marks.WAITING] == "one"
    run(controls.bake_lines(head))
    assert marks.WAITING not in head


def test_bake_again_is_linear_again_even_with_as_many_keys(head) -> None:
    speak(head)
    frames = np.arange(len(curves(head)["jawOpen"].keyframe_points))
    for curve in curves(head).values():  # as if no key could be spared
        values = np.array([point.co.y for point in curve.keyframe_points])
        reducing.write_keys(curve, Keys(frames, values, 0.0 * values), 1)
    bpy.ops.selftalk.bake_again()
    for curve in curves(head).values():
        assert {point.interpolation for point in curve.keyframe_points} == {"LINEAR"}


def test_an_untouched_line_is_not_taken_for_an_edited_one(head, tmp_path) -> None:
    speak(head)
    speak(head, "two", 301)
    assert lines.touched(head) == []
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    head = bpy.data.objects["SelfTalk Head"]
    assert lines.touched(head) == []
    list(lines.moving(head, "two", spoken("two", 401)))
    assert lines.touched(head) == []
    head.selftalk.controls.strength = 0.5
    assert lines.touched(head) == [] and not head.selftalk.controls.problem


def test_a_preset_sets_the_speech_and_leaves_the_rest(head) -> None:
    speak(head)
    settings = head.selftalk.controls
    settings.use_blinks, settings.seed = True, 4
    bpy.ops.selftalk.controls_preset(preset="STAGE")
    assert settings.strength == pytest.approx(1.4) and settings.use_blinks and settings.seed == 4
    bpy.ops.selftalk.controls_preset(preset="SPOKEN")
    assert (settings.strength, settings.closure, settings.jaw) == (1.0, 0.0, 1.0)


def test_a_preset_of_ones_own_is_saved_for_every_face(head, tmp_path, monkeypatch) -> None:
    speak(head)
    settings = head.selftalk.controls
    monkeypatch.setattr(bpy.utils, "user_resource", lambda *_, **__: str(tmp_path))
    settings.strength, settings.use_blinks, settings.seed = 1.7, True, 4
    assert bpy.ops.selftalk.save_preset(name="My hero") == {"FINISHED"}
    bpy.ops.selftalk.reset_controls()
    settings.seed = 7
    made = str(next(tmp_path.glob("*.py")))
    bpy.ops.selftalk.own_preset(filepath=made, menu_idname="SELFTALK_MT_controls_presets")
    assert settings.strength == pytest.approx(1.7) and settings.use_blinks
    assert settings.seed == 7  # each face has its own


def test_a_preset_is_removed_where_it_is_ones_own(head, tmp_path, monkeypatch) -> None:
    speak(head)
    monkeypatch.setattr(bpy.utils, "user_resource", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr(bpy.utils, "preset_paths", lambda _: [str(tmp_path)])
    bpy.ops.selftalk.reset_controls()
    with pytest.raises(RuntimeError, match="No preset of your own is chosen"):
        bpy.ops.selftalk.save_preset(remove_active=True)
    bpy.ops.selftalk.save_preset(name="Hero")
    bpy.ops.selftalk.controls_preset(preset="STAGE")
    assert adjust_panel.SELFTALK_MT_controls_presets.bl_label == "Stage"
    with pytest.raises(RuntimeError, match="No preset of your own is chosen"):
        bpy.ops.selftalk.save_preset(remove_active=True)
    (made,) = map(str, tmp_path.glob("*.py"))
    bpy.ops.selftalk.own_preset(filepath=made, menu_idname="SELFTALK_MT_controls_presets")
    assert bpy.ops.selftalk.save_preset(remove_active=True) == {"FINISHED"}
    assert not list(tmp_path.glob("*.py"))
    assert adjust_panel.SELFTALK_MT_controls_presets.bl_label == "Presets"


def test_the_head_nods_about_the_faces_own_axes(head) -> None:
    speak(head)
    assert head.animation_data is None or head.animation_data.action is None
    head.rotation_euler = (0.0, 0.0, np.radians(90))  # it looks along +X
    bpy.context.view_layer.update()
    head.selftalk.controls.use_head = True
    angles = []
    for frame in range(1, FRAMES):
        bpy.context.scene.frame_set(frame)
        ahead = head.matrix_world.to_3x3() @ Vector((0, -1, 0))
        angles.append(-np.arcsin(ahead.z))
    # Looking along +X, a nod turns about the world's Y.
    assert np.degrees(max(angles)) > 1.0
    head.selftalk.controls.use_head = False
    bpy.context.scene.frame_set(40)
    assert tuple(head.delta_rotation_euler) == (0.0, 0.0, 0.0)
    assert head.animation_data.action is None


@pytest.mark.parametrize("mode", ["QUATERNION", "XYZ"])
def test_a_rigged_head_nods_by_its_bone(head, mode) -> None:
    armature = bpy.data.armatures.new("Rig")
    rig = bpy.data.objects.new("Rig", armature)
    bpy.context.collection.objects.link(rig)
    bpy.context.view_layer.objects.active = rig
    bpy.ops.object.mode_set(mode="EDIT")
    bone = armature.edit_bones.new("Head")
    bone.head, bone.tail = (0.0, 0.0, 0.05), (0.0, 0.02, 0.25)
    bpy.ops.object.mode_set(mode="OBJECT")
    rig.pose.bones["Head"].rotation_mode = mode
    head.modifiers.new("Armature", "ARMATURE").object = rig
    head.selftalk.controls.use_head = True
    speak(head)
    assert tuple(head.delta_rotation_euler) == (0.0, 0.0, 0.0)
    lowest = 0.0
    rest = rig.data.bones["Head"].matrix_local.to_3x3()
    for frame in range(1, FRAMES):
        bpy.context.scene.frame_set(frame)
        turn = rig.pose.bones["Head"].matrix.to_3x3() @ rest.inverted()
        lowest = min(lowest, (turn @ Vector((0, -1, 0))).z)
    assert np.degrees(np.arcsin(-lowest)) > 1.0


def test_the_artists_own_rotation_is_turned_along_and_comes_back(head) -> None:
    head.delta_rotation_euler = (0.3, 0.2, 0.1)
    speak(head)
    head.selftalk.controls.use_head = True
    head.selftalk.controls.head = 1.5  # made again, now that ours plays
    turned = []
    for frame in range(1, FRAMES):
        bpy.context.scene.frame_set(frame)
        turned.append(tuple(head.delta_rotation_euler))
    assert np.allclose(turned[0], (0.3, 0.2, 0.1), atol=1e-4)
    assert 0.01 < np.abs(np.array(turned) - turned[0]).max() < 0.3
    head.selftalk.controls.use_head = False
    assert np.allclose(head.delta_rotation_euler, (0.3, 0.2, 0.1), atol=1e-6)


@pytest.mark.parametrize("what", ["action", "driver", "NLA strip"])
def test_a_head_that_the_artist_turns_is_left_alone_with_the_reason(head, what) -> None:
    speak(head)
    if what == "driver":
        head.driver_add("delta_rotation_euler", 0)
    else:
        head.keyframe_insert("delta_rotation_euler", frame=1)
        data = head.animation_data
        if what == "NLA strip":
            data.nla_tracks.new().strips.new("Nods", 1, data.action)
            data.action = None
    head.selftalk.controls.use_head = True
    assert what in head.selftalk.controls.problem and "left alone" in head.selftalk.controls.problem


def test_a_head_that_turns_as_an_object_may_be_keyed_as_one(head) -> None:
    head.rotation_euler.z = 0.5
    head.keyframe_insert("rotation_euler", frame=1)
    speak(head)
    head.selftalk.controls.use_head = True
    bpy.context.scene.frame_set(40)
    assert not head.selftalk.controls.problem
    assert head.rotation_euler.z == pytest.approx(0.5) and any(head.delta_rotation_euler)


def test_only_a_head_is_turned_without_a_rig(head) -> None:
    speak(head)
    controls_ = head.selftalk.controls
    eyes = bpy.data.objects.new("Eyes", bpy.data.meshes.new("Eyes"))
    eyes.data.from_pydata([(0.0, -0.05, 0.15), (0.03, -0.05, 0.15), (0.0, -0.05, 0.16)], [], [])
    bpy.context.collection.objects.link(eyes)
    bpy.context.view_layer.update()
    controls_.use_head = True
    assert "Eyes stands in the head" in controls_.problem
    eyes.parent = head
    controls_.head = 1.1
    assert not controls_.problem
    # The same face as a part of a body, or with its origin at the feet.
    for key in head.data.shape_keys.key_blocks:
        at = np.empty(len(key.data) * 3, np.float32)
        key.data.foreach_get("co", at)
        key.data.foreach_set("co", (at.reshape(-1, 3) + [0, 0, 1.5]).ravel())
    controls_.head = 1.2
    assert "origin of SelfTalk Head" in controls_.problem
    for key in head.data.shape_keys.key_blocks:
        key.data[0].co = (0.0, 0.0, 0.0)
    controls_.head = 1.3
    assert "more than a head" in controls_.problem


def test_lines_of_one_name_do_not_lock_each_other(head) -> None:
    speak(head)
    speak(head, "two", 201)
    head.selftalk.lines[1].name = head.selftalk.lines[0].name
    curve = curves(head)["jawOpen"]
    curve.keyframe_points[20].co.y = 0.77
    curve.update()
    assert [lines.is_edited(head, line) for line in head.selftalk.lines] == [True, False]


def test_a_rig_without_a_head_bone_says_what_to_do(head) -> None:
    rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    bpy.context.collection.objects.link(rig)
    head.modifiers.new("Armature", "ARMATURE").object = rig
    speak(head)
    before = play(head, 30)
    head.selftalk.controls.use_head = True
    assert "Which bone of Rig is the head?" in head.selftalk.controls.problem
    assert np.array_equal(play(head, 30), before)


def test_controls_can_be_set_before_there_is_any_line(head) -> None:
    bpy.context.scene.selftalk.face = head
    head.selftalk.controls.strength = 0.5
    assert adjust_panel.adjust_problem(bpy.context) == ""
    assert "Animate the face first" in adjust_panel.reduce_problem(bpy.context)
    speak(head)
    assert np.abs(play(head, 30) - shape(expected(strength=0.5)[29])).max() < 1e-5


def test_each_step_is_undone_at_once(head) -> None:
    speak(head)
    full = len(curves(head)["jawOpen"].keyframe_points)
    bpy.ops.ed.undo_push(message="spoken")
    bpy.ops.selftalk.controls_preset("EXEC_DEFAULT", True, preset="STAGE")
    bpy.ops.selftalk.reduce_keys("EXEC_DEFAULT", True)
    bpy.ops.ed.undo()
    head = bpy.data.objects["SelfTalk Head"]
    assert any(len(curve.keyframe_points) == full for curve in curves(head).values())
    assert lines.touched(head) == [] and head.selftalk.controls.strength > 1
    bpy.ops.ed.undo()
    head = bpy.data.objects["SelfTalk Head"]
    assert head.selftalk.controls.strength == 1.0
    assert np.abs(play(head, 30) - shape(expected()[29])).max() < 1e-5


def test_the_error_is_that_of_the_face_as_large_as_it_stands(head) -> None:
    speak(head)
    head.scale = (4.0, 4.0, 4.0)
    bpy.context.view_layer.update()
    full = {frame: play(head, frame) for frame in range(1, FRAMES, 5)}
    bpy.ops.selftalk.reduce_keys(error_mm=0.5)
    off = [np.linalg.norm(play(head, f) - full[f], axis=1).max() for f in full]
    assert max(off) * 4.0 * 1000 <= 0.505


def test_a_mesh_cache_follows_too(head, tmp_path) -> None:
    bpy.context.scene.selftalk.face = head
    path = mesh_cache.default_path(head, str(tmp_path))
    for _ in lines.write_cache(head, [(spoken(), Take(WEIGHTS, FPS, LOUDNESS))], path):
        pass
    head.selftalk.controls.strength = 1.5
    assert np.abs(play(head, 30) - shape(expected(strength=1.5)[29])).max() < 1e-5
    assert "no keys" in adjust_panel.reduce_problem(bpy.context)


def test_curves_of_the_artist_stay(head) -> None:
    speak(head)
    place = next(iter(lines.places_of_line(head, "one")))
    mine = place.curves.new('key_blocks["eyeBlinkLeft"].value')
    mine.keyframe_points.insert(1, 0.25)
    head.selftalk.controls.use_blinks = True
    path = mine.data_path
    bpy.ops.selftalk.reduce_keys()
    bpy.ops.selftalk.bake_again()
    place = next(iter(lines.places_of_line(head, "one")))
    assert [tuple(p.co) for p in place.curves.find(path).keyframe_points] == [(1, 0.25)]


def test_a_mapped_face_is_measured_by_its_own_shapes() -> None:
    """Another mesh, with other names and shapes four times as large."""
    mesh = bpy.data.meshes.new("Other")
    polygons = [p for p in HEAD.polygons.tolist() if max(p) < 4000]
    mesh.from_pydata(HEAD.vertices[:4000].tolist(), [], polygons)
    other = bpy.data.objects.new("Other", mesh)
    bpy.context.collection.objects.link(other)
    other.shape_key_add(name="Basis")
    for name, delta in zip(HEAD.shape_names, HEAD.shape_deltas[:, :4000], strict=True):
        short = name.replace("Left", "_L").replace("Right", "_R")
        key = other.shape_key_add(name=short[0].upper() + short[1:])
        key.value = 0.0
        key.data.foreach_set("co", (HEAD.vertices[:4000] + 4 * delta).ravel())
    speak(other)
    other.selftalk.controls.strength = 0.8
    full = {frame: play(other, frame) for frame in range(1, FRAMES, 5)}
    assert max(np.abs(full[f] - full[1]).max() for f in full) > 0.03
    assert bpy.ops.selftalk.reduce_keys(error_mm=0.5) == {"FINISHED"}
    assert curves(other)["JawOpen"].keyframe_points[0].interpolation == "BEZIER"
    off = [np.linalg.norm(play(other, f) - full[f], axis=1).max() for f in full]
    assert 0.1 < max(off) * 1000 <= 0.505


# --- While a slider is dragged --------------------------------------------------------------


def test_lines_about_the_playhead_follow_a_slider_first_and_the_rest_in_slices(
    head, monkeypatch
) -> None:
    first = {"one": 1, "two": 201, "three": 401}
    for line_id, frame in first.items():
        speak(head, line_id, frame)

    def keys() -> dict[str, list[float]]:
        return {
            line_id: [
                tuple(p.co) for p in next(iter(curves(head, line_id).values())).keyframe_points
            ]
            for line_id in first
        }

    before = keys()
    # As in a window, where bake_soon leaves the lines to a timer.
    with monkeypatch.context() as window:
        window.setattr(controls, "bake_now", lambda face: None)
        head.selftalk.controls.strength = 1.5
    head[marks.WAITING] = " ".join(first)
    monkeypatch.setattr(controls, "SLICE", 0.0)
    bpy.context.scene.frame_set(250)
    changed = []
    while marks.WAITING in head:
        controls.bake_slice(head)
        now_changed = {line_id for line_id, now in keys().items() if now != before[line_id]}
        if now_changed and now_changed not in changed:
            changed.append(now_changed)
    assert changed[0] == {"two"}
    assert [len(lines_changed) for lines_changed in changed] == [1, 2, 3]
    sliced = keys()
    controls.bake_now(head)
    assert keys() == sliced


def test_lines_that_waited_when_the_state_was_kept_are_made_then(head, monkeypatch) -> None:
    speak(head)
    with monkeypatch.context() as window:
        window.setattr(controls, "bake_now", lambda face: None)
        head.selftalk.controls.strength = 1.5
    head[marks.WAITING] = "one"
    controls.resume()  # as after undo, redo and loading
    assert marks.WAITING not in head
    assert np.abs(play(head, 30) - shape(expected(strength=1.5)[29])).max() < 1e-5


def test_what_many_lines_move_is_read_once(head, monkeypatch) -> None:
    for number in range(8):
        speak(head, f"line {number}", 1 + 200 * number)
    read, strip_curves = [], compat.strip_curves
    monkeypatch.setattr(
        compat, "strip_curves", lambda user: read.append(user) or strip_curves(user)
    )
    targets.drive_of(head)
    assert len(read) <= 3 * 8


def dense(head) -> dict[str, list[float]]:
    """All keys of all lines."""
    found = {}
    for line in head.selftalk.lines:
        for _, curve, _ in lines.curves(head, line.id):
            points = np.empty(2 * len(curve.keyframe_points), np.float32)
            curve.keyframe_points.foreach_get("co", points)
            found[line.id, curve.data_path] = points.tolist()
    return found


def test_a_line_that_is_made_bit_by_bit_counts_as_ours_all_along(head, monkeypatch) -> None:
    """Also where the slider moves on meanwhile, or undo comes in between."""
    speak(head)
    before = dense(head)
    monkeypatch.setattr(controls, "SLICE", 0.0)
    with monkeypatch.context() as window:
        window.setattr(controls, "bake_now", lambda face: None)
        head.selftalk.controls.strength = 1.5
        head[marks.WAITING] = "one"
        while dense(head) == before:
            controls.bake_slice(head)
        half = dense(head)
        assert set(half) == set(before) and lines.touched(head) == []
        controls.rest()  # as before undo
        assert lines.touched(head) == [] and head[marks.WAITING] == "one"
        head.selftalk.controls.strength = 1.2
    while marks.WAITING in head:
        controls.bake_slice(head)
    sliced = dense(head)
    assert sliced != half and lines.touched(head) == []
    controls.bake_now(head)
    assert dense(head) == sliced


@pytest.mark.parametrize("action", ["reduce", "place"])
def test_cancelled_in_the_middle_of_writing_all_keys_stay(head, action) -> None:
    speak(head)
    speak(head, "two", 301)
    before, actions = dense(head), {a.name for a in bpy.data.actions}
    if action == "reduce":
        steps = reducing.reduce_lines(head, 0.5)
        while next(steps).done < 1.0:
            pass
    else:
        steps = lines.moving(head, "two", spoken("two", 401))
    for _ in range(5):
        next(steps)
    steps.close()
    assert dense(head) == before and {a.name for a in bpy.data.actions} == actions
    assert lines.touched(head) == []


def test_reduced_lines_play_where_and_as_they_did(head) -> None:
    speak(head)
    speak(head, "two", 301)
    places = {p.strip.frame_start for p in lines.places_of_line(head, "two")}
    names = sorted(action.name for action in bpy.data.actions)
    full = {frame: play(head, frame) for frame in (30, 330)}
    bpy.ops.selftalk.reduce_keys(error_mm=0.1)
    assert {p.strip.frame_start for p in lines.places_of_line(head, "two")} == places
    assert sorted(action.name for action in bpy.data.actions) == names
    for frame, was in full.items():
        assert np.linalg.norm(play(head, frame) - was, axis=1).max() * 1000 < 0.15


def test_a_line_made_again_has_the_faces_new_name(head) -> None:
    speak(head)
    head.name = "Anna"
    head.selftalk.controls.strength = 1.5
    assert {p.action.name for p in lines.places_of_line(head, "one")} == {"Anna · one"}


def test_a_job_stops_what_a_slider_has_begun(head, monkeypatch) -> None:
    """Else it would write the line of before over that of the job."""
    speak(head)
    monkeypatch.setattr(controls, "SLICE", 0.0)
    monkeypatch.setattr(aside, "LOOK", 0.0)
    head[marks.WAITING] = "one"
    for _ in range(3):  # its numbers are crunched now
        controls.bake_slice(head)
    bpy.ops.selftalk.remove_line(face=head.name, line="one")
    while marks.WAITING in head:
        controls.bake_slice(head)
    assert not len(head.selftalk.lines) and not lines.places_of(head.data.shape_keys)


def test_a_slider_lets_a_job_that_makes_its_line_come_to_an_end(head, monkeypatch) -> None:
    """Reduce Keys makes the lines that wait first; the slider's timer looks at it meanwhile."""
    speak(head)
    head[marks.WAITING] = "one"
    monkeypatch.setattr(jobs, "running", object())
    monkeypatch.setattr(controls, "SLICE", 0.0)
    steps = reducing.reduce_lines(head, 0.5)
    for _ in range(10_000):
        if next(steps, None) is None:
            break
        controls._tick()
    assert marks.REDUCED in head


def test_an_overridden_face_is_refused_with_the_reason_on_each_button(head, tmp_path) -> None:
    """Blender would save none of it."""
    speak(head)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "cast.blend"))
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    with bpy.data.libraries.load(str(tmp_path / "cast.blend"), link=True) as (_, chosen):
        chosen.objects = ["SelfTalk Head"]
    bpy.context.collection.objects.link(chosen.objects[0])
    face = chosen.objects[0].override_create(remap_local_usages=True)
    bpy.context.scene.selftalk.face = face
    for button in ("reduce_keys", "bake_again", "controls_preset", "reset_controls"):
        assert not getattr(bpy.ops.selftalk, button).poll()
    for button in ("adjust", "reduce", "bake"):
        problem = getattr(adjust_panel, f"{button}_problem")
        assert "library override" in problem(bpy.context)
    for work in (reducing.reduce_lines(face, 0.5), lines.removing(face, "one")):
        with pytest.raises(SelfTalkError, match="library override"):
            list(work)
    assert [line.id for line in face.selftalk.lines] == ["one"]


# --- Undo of what a slider does after its own step ------------------------------------------


def again(name: str = "SelfTalk Head") -> bpy.types.Object:
    """A head, also after undo."""
    return bpy.data.objects[name]


@pytest.fixture
def undo(head, monkeypatch) -> None:
    """A face that speaks, with steps to go back to; slices are as short as can be."""
    bpy.context.preferences.edit.use_global_undo = True
    monkeypatch.setattr(controls, "SLICE", 0.0)
    push("silent", "still")
    speak(head)
    push("spoken")


def push(*names: str) -> None:
    for name in names:
        bpy.ops.ed.undo_push(message=name)


SLIDES = {"strength": 0.5, "use_head": True, "offset": 3.0}


def slide(monkeypatch, name: str, value: float, face: str = "SelfTalk Head") -> None:
    """Change a control as in a window, where the lines wait."""
    with monkeypatch.context() as window:
        window.setattr(controls, "bake_now", controls.wait)
        setattr(again(face).selftalk.controls, name, value)
    push("slider")
    assert marks.WAITING in again(face)


def settle(slices: int = 100_000) -> None:
    for _ in range(slices):
        waiting = controls._waiting()
        if not waiting:
            break
        controls.bake_slice(waiting[0])


def state(name: str = "SelfTalk Head") -> list:
    """All of a face that undo is to bring back; what is played has to be there."""
    face = again(name)
    alive = {action.as_pointer() for action in bpy.data.actions}
    for owner in (*bpy.data.objects, *bpy.data.shape_keys):
        data = owner.animation_data
        strips = [strip for track in data.nla_tracks for strip in track.strips] if data else []
        assert all(strip.action.as_pointer() in alive for strip in strips)
        assert not data or data.action is None or data.action.as_pointer() in alive
    assert all(action.users for action in bpy.data.actions)
    assert marks.WAITING not in face
    settings = face.selftalk.controls
    places = [tuple(line.key_range) for line in face.selftalk.lines]
    for place in (p for line in face.selftalk.lines for p in lines.places_of_line(face, line.id)):
        places.append(place.strip and (place.strip.frame_start, place.strip.frame_end))
    values = settings.strength, settings.use_head, settings.offset, settings.jaw
    return [values, places, dense(face)]


@pytest.mark.parametrize("changed", SLIDES)
@pytest.mark.parametrize("count", [1, 2])
def test_a_slider_is_one_undo_step_with_all_that_it_does_later(
    undo, monkeypatch, changed, count
) -> None:
    """Also where it makes new actions, which undo frees: that crashed Blender."""
    if count == 2:
        speak(again(), "two", 301)
        push("spoken")
    states = [state()]
    for name, value in ((changed, SLIDES[changed]), ("jaw", 0.5)):
        slide(monkeypatch, name, value)
        settle()
        states.append(state())
    assert states[0][-1] != states[1][-1] != states[2][-1]
    now = 2
    for then in (1, 0, 1, 2, 1, 2):
        (bpy.ops.ed.undo if then < now else bpy.ops.ed.redo)()
        assert state() == states[then] and lines.touched(again()) == []
        now = then
    controls._tick()
    for blocks in (bpy.data.actions, bpy.data.objects, bpy.data.shape_keys):
        assert not any(marks.CHANGING in block for block in blocks)
    for _ in range(now + count):
        bpy.ops.ed.undo()
    assert not len(again().selftalk.lines) and not len(bpy.data.actions)
    for _ in range(count):
        bpy.ops.ed.redo()
    assert state() == states[0]


@pytest.mark.parametrize("changed", SLIDES)
@pytest.mark.parametrize(("slices", "meanwhile"), [(4, False), (0, True)])
def test_undo_before_all_lines_have_followed_a_slider(
    undo, monkeypatch, changed, slices, meanwhile
) -> None:
    """Also where the artist has done something else meanwhile: its step is like the slider's."""
    speak(again(), "two", 301)
    push("spoken")
    before = state()
    slide(monkeypatch, changed, SLIDES[changed])
    settle(slices)
    if meanwhile:
        push("meanwhile")
        settle()
        after = state()
        bpy.ops.ed.undo()
        assert state() == after and lines.touched(again()) == []
    bpy.ops.ed.undo()
    assert state() == before and lines.touched(again()) == []
    bpy.ops.ed.redo()
    assert state() != before and lines.touched(again()) == []
    if meanwhile:
        assert state() == after
        bpy.ops.ed.redo()
        assert state() == after and lines.touched(again()) == []


def test_undo_of_one_faces_slider_while_those_of_two_wait(undo, monkeypatch) -> None:
    names = "SelfTalk Head", bundled_head.add_head(bpy.context, (1.0, 0.0, 0.0)).name
    speak(again(names[1]), "two", 40)
    push("two faces")
    before = [state(name) for name in names]
    for name in names:
        slide(monkeypatch, "use_head", True, name)
    settle()
    after = [state(name) for name in names]
    for way, wanted in (
        ("undo", [after[0], before[1]]),
        ("undo", before),
        ("redo", [after[0], before[1]]),
        ("redo", after),
    ):
        getattr(bpy.ops.ed, way)()
        assert [state(name) for name in names] == wanted


def test_steps_of_the_artists_while_a_line_is_written(undo, monkeypatch) -> None:
    before = state()
    slide(monkeypatch, "strength", 0.5)
    while dense(again()) == before[-1]:
        controls.bake_slice(again())
    push("meanwhile")
    settle(3)
    assert marks.WAITING in again()
    push("also")
    settle()
    after = state()
    for wanted in (after, after, before):
        bpy.ops.ed.undo()
        assert state() == wanted and lines.touched(again()) == []
    for _ in range(3):
        bpy.ops.ed.redo()
        assert state() == after and lines.touched(again()) == []


@pytest.mark.parametrize("early", [False, True])
def test_undo_and_redo_keep_what_the_artist_edits_after_a_slider(undo, monkeypatch, early) -> None:
    """Also in a line that waits still."""
    slide(monkeypatch, "strength", 0.5)
    if not early:
        settle()
    curves(again())["jawOpen"].keyframe_points[40].co.y += 0.2
    push("edited")
    settle()
    edited = state()
    assert lines.touched(again()) == ["one"]
    for _ in range(2):
        bpy.ops.ed.undo()
        assert state() != edited and lines.touched(again()) == []
        bpy.ops.ed.redo()
        assert state() == edited and lines.touched(again()) == ["one"]
    bpy.ops.ed.undo()
    bpy.ops.ed.undo()
    again().selftalk.controls.strength = 2.0
    assert lines.touched(again()) == []
