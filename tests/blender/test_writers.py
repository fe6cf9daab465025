"""Motion onto a mesh: what plays is the motion, and what is the artist's stays."""

import os
import shutil
import tracemalloc

import bpy
import numpy as np
import pytest
from mathutils import Matrix
from scenes import body, play, talking

from selftalk_blender.blender import compat, marks, writers
from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.core.errors import SelfTalkError

TOLERANCE = 1e-5  # metres


def animate(target, motion, first_frame, output, folder) -> None:
    if output == "SHAPE_KEYS":
        done = list(writers.write_shape_keys(target, motion, first_frame))
    else:
        path = writers.cache_path(target, str(folder))
        done = list(writers.write_mesh_cache(target, motion, first_frame, path))
    assert done == sorted(done) and done[0] >= 0 and done[-1] == 1.0


def values(target) -> dict[str, float]:
    return {key.name: key.value for key in target.data.shape_keys.key_blocks[1:]}


def curve_paths(target) -> list[str]:
    keys = target.data.shape_keys
    return [c.data_path for c in compat.owner_curves(keys.animation_data.action, keys)]


@pytest.mark.parametrize("output", ["SHAPE_KEYS", "MESH_CACHE"])
@pytest.mark.parametrize(
    ("rate", "base", "first"), [(24, 1, 1), (24, 1.001, -7), (30, 1.001, 0), (60, 1, 101)]
)
def test_what_plays_is_the_motion(head, tmp_path, output, rate, base, first) -> None:
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = rate, base
    motion = talking(6, rate / base)
    animate(head, motion, first, output, tmp_path)
    expected = motion.vertices()
    for frame in (0, 3, 5):
        assert np.abs(play(head, first + frame) - expected[frame]).max() < TOLERANCE
    assert np.abs(play(head, first - 20) - expected[0]).max() < TOLERANCE
    assert np.abs(play(head, first + 20) - expected[-1]).max() < TOLERANCE
    assert writers.written_frames(head) == (first, first + 5)


@pytest.mark.parametrize("output", ["SHAPE_KEYS", "MESH_CACHE"])
def test_a_turned_scaled_parented_head_with_modifiers(head, tmp_path, output) -> None:
    parent = bpy.data.objects.new("Parent", None)
    bpy.context.collection.objects.link(parent)
    parent.rotation_euler, parent.scale = (0.5, 1.0, -2.0), (2.0, -1.0, 0.5)
    head.parent = parent
    head.rotation_euler, head.scale, head.location = (1.0, 0.2, 0.1), (3.0, 3.0, 1.0), (5, 6, 7)
    head.modifiers.new("Armature", "ARMATURE")
    subdivision = head.modifiers.new("Subdivision", "SUBSURF")
    motion = talking(4)
    animate(head, motion, 1, output, tmp_path)
    assert len(play(head, 2)) > 15000
    subdivision.show_viewport = False
    assert np.abs(play(head, 3) - motion.vertices()[2]).max() < TOLERANCE
    if output == "MESH_CACHE":
        assert [m.type for m in head.modifiers] == ["MESH_CACHE", "ARMATURE", "SUBSURF"]


@pytest.mark.parametrize("output", ["SHAPE_KEYS", "MESH_CACHE"])
@pytest.mark.parametrize("count", [13380, 19158])
def test_a_makehuman_body_in_decimetres_with_y_up(tmp_path, output, count) -> None:
    turn = np.array(Matrix.Rotation(np.radians(-90), 3, "X"))
    target = body(count, turn, 10.0, (0.0, 14.0, 0.3))
    rest = play(target, 1)
    motion, template = talking(5), bundled_template()
    animate(target, motion, 1, output, tmp_path)
    known = template.source_index < count
    moved = (play(target, 3) - rest)[template.source_index[known]]
    assert np.abs(moved - motion.offsets()[2][known] @ turn.T * 10.0).max() < 10 * TOLERANCE
    others = np.setdiff1d(np.arange(count), template.source_index)
    assert np.array_equal(play(target, 3)[others], rest[others])
    if output == "SHAPE_KEYS":
        moving = motion.weights.max(0) > 0
        names = [n for n, moves in zip(template.shape_names, moving, strict=True) if moves]
        assert target.data.shape_keys.key_blocks.keys() == ["Basis", *names]


def test_only_moving_keys_get_curves_in_our_own_linear_action(head) -> None:
    motion = talking(4, shapes=3)
    motion.weights[:, 24] = [-0.5, 0.25, 1.5, 0.0]
    animate(head, motion, 10, "SHAPE_KEYS", None)
    action = head.data.shape_keys.animation_data.action
    assert action.name == "SelfTalk SelfTalk Head" and marks.MARK in action
    assert writers.written_frames(head) == (10, 13)
    assert [c.data_path for c in compat.playing_curves(head.data.shape_keys)] == curve_paths(head)
    assert len(curve_paths(head)) == np.count_nonzero((motion.weights > 0).any(0))
    jaw = compat.owner_curves(action, head.data.shape_keys).find('key_blocks["jawOpen"].value')
    assert [tuple(p.co) for p in jaw.keyframe_points] == [(10, 0), (11, 0.25), (12, 1), (13, 0)]
    assert {p.interpolation for p in jaw.keyframe_points} == {"LINEAR"}


def test_animating_again_replaces_ours_alone_even_after_reopening(head, tmp_path) -> None:
    smirk = head.shape_key_add(name="Smirk", from_mix=False)
    smirk.value = 0.4
    head.data.shape_keys.key_blocks["browInnerUp"].value = 0.3
    weights = np.zeros((3, 52), np.float32)
    weights[:, [24, 37]] = 0.5  # jawOpen, mouthPucker
    animate(head, Motion(bundled_template(), 24.0, weights=weights), 1, "SHAPE_KEYS", None)
    bpy.context.scene.frame_set(2)
    keys = head.data.shape_keys
    # The artist adds a curve to our action: Blender puts new keys there.
    smirk.keyframe_insert("value", frame=1)
    keys.key_blocks["eyeBlinkLeft"].keyframe_insert("value", frame=1)

    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    head = bpy.data.objects["SelfTalk Head"]
    weights[:, 37] = 0.0
    weights[:, 9] = 0.7  # eyeBlinkRight
    weights[:, 8] = 0.9  # eyeBlinkLeft has a curve of the artist
    animate(head, Motion(bundled_template(), 24.0, weights=weights), 5, "SHAPE_KEYS", None)
    bpy.context.scene.frame_set(6)
    assert len(bpy.data.actions) == 1
    assert sorted(curve_paths(head)) == [
        f'key_blocks["{name}"].value'
        for name in ("Smirk", "eyeBlinkLeft", "eyeBlinkRight", "jawOpen")
    ]
    now = values(head)
    assert now["mouthPucker"] == 0.0 and now["eyeBlinkLeft"] == 0.0
    assert now["browInnerUp"] == pytest.approx(0.3) and now["Smirk"] == pytest.approx(0.4)
    assert now["jawOpen"] == 0.5 and now["eyeBlinkRight"] == pytest.approx(0.7)


def test_changing_the_output_takes_the_other_result_away(head, tmp_path) -> None:
    motion = talking(4)
    animate(head, motion, 1, "SHAPE_KEYS", tmp_path)
    animate(head, motion, 1, "MESH_CACHE", tmp_path)
    assert not bpy.data.actions and not any(values(head).values())
    animate(head, motion, 3, "MESH_CACHE", tmp_path)
    assert len(head.modifiers) == 1 and head.modifiers[0].frame_start == 3
    animate(head, motion, 1, "SHAPE_KEYS", tmp_path)
    assert not head.modifiers and marks.MARK not in head
    assert np.abs(play(head, 2) - motion.vertices()[1]).max() < TOLERANCE


def test_the_artists_own_things_of_our_names_stay(head, tmp_path) -> None:
    theirs = bpy.data.actions.new("SelfTalk SelfTalk Head")
    theirs.use_fake_user = True
    wave = head.modifiers.new(writers.MODIFIER, "WAVE")
    wave.show_viewport = False
    animate(head, talking(3), 1, "MESH_CACHE", tmp_path)
    animate(head, talking(3), 1, "SHAPE_KEYS", tmp_path)
    assert [modifier.type for modifier in head.modifiers] == ["WAVE"]
    assert bpy.data.actions["SelfTalk SelfTalk Head"] == theirs and marks.MARK not in theirs


def test_a_cache_keeps_a_look_made_by_shape_keys(head, tmp_path) -> None:
    look = head.shape_key_add(name="Look", from_mix=False)
    shape = bundled_template().vertices * [1.1, 1.0, 1.0]
    look.data.foreach_set("co", shape.astype(np.float32).ravel())
    look.value = 1.0
    head.data.shape_keys.key_blocks["jawOpen"].value = 0.9  # left over: the motion sets it
    motion = talking(3)
    motion.weights[:, 24] = 0.5
    animate(head, motion, 1, "MESH_CACHE", tmp_path)
    linear = writers.face.correspondence(head, frozenset({"jawOpen"})).linear
    expected = shape + motion.offsets()[1] @ linear.T
    assert np.abs(play(head, 2) - expected).max() < TOLERANCE
    assert look.value == 1.0


def refuses(target, sentence, output="SHAPE_KEYS", folder="") -> None:
    """Refused by the check and by the writer, with nothing written."""
    blocks = len(target.data.shape_keys.key_blocks)
    with pytest.raises(SelfTalkError, match=sentence):
        if output == "SHAPE_KEYS":
            writers.check_shape_keys(target)
        else:
            writers.check_mesh_cache(target, writers.cache_path(target, folder))
    with pytest.raises(SelfTalkError, match=sentence):
        animate(target, talking(3), 1, output, folder)
    assert len(target.data.shape_keys.key_blocks) == blocks


def test_drivers_actions_and_settings_of_the_artist_are_refused_with_the_way_out(head) -> None:
    keys = head.data.shape_keys
    jaw = keys.key_blocks["jawOpen"]
    jaw.driver_add("value")
    refuses(head, "jawOpen.*driver.*Mesh Cache")
    jaw.driver_remove("value")
    jaw.mute = True
    refuses(head, "jawOpen.*muted")
    jaw.mute = False
    jaw.slider_max = 0.5
    refuses(head, "jawOpen.*range to 0..1")
    jaw.slider_max = 1.0
    head.show_only_shape_key = True
    refuses(head, "Shape Key Lock")
    head.show_only_shape_key = False
    jaw.keyframe_insert("value", frame=1)
    keys.animation_data.action.name = "Hand made"
    refuses(head, "Hand made.*Push it down or unlink")
    assert bpy.data.actions["Hand made"].users == 1
    keys.animation_data.action = None
    head.modifiers.new("Alembic", "MESH_SEQUENCE_CACHE")
    refuses(head, "modifier Alembic.*replaces the whole mesh")


def test_a_shared_mesh_is_refused_for_keys_and_fine_for_a_cache(head, tmp_path) -> None:
    twin = bpy.data.objects.new("Twin", head.data)
    bpy.context.collection.objects.link(twin)
    refuses(head, "shared with Twin.*single-user")
    motion = talking(3)
    animate(head, motion, 1, "MESH_CACHE", tmp_path)
    assert np.abs(play(twin, 2) - bundled_template().vertices).max() == 0
    assert np.abs(play(head, 2) - motion.vertices()[1]).max() < TOLERANCE


def test_a_duplicate_does_not_overwrite_the_cache_of_its_original(head, tmp_path) -> None:
    animate(head, talking(3), 1, "MESH_CACHE", tmp_path)
    other = head.copy()
    bpy.context.collection.objects.link(other)
    animate(other, talking(3, seed=1), 1, "MESH_CACHE", tmp_path)
    assert np.abs(play(head, 2) - talking(3).vertices()[1]).max() < TOLERANCE
    assert np.abs(play(other, 2) - talking(3, seed=1).vertices()[1]).max() < TOLERANCE


def test_caches_stand_beside_the_blend_and_move_with_it(head, tmp_path) -> None:
    with pytest.raises(SelfTalkError, match="save it, or choose a folder"):
        writers.cache_path(head)
    (tmp_path / "a").mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a" / "shot.blend"))
    motion = talking(3)
    animate(head, motion, 1, "MESH_CACHE", "")
    assert head.modifiers[0].filepath == "//selftalk_cache/shot-SelfTalk Head.selftalk.mdd"
    bpy.ops.wm.save_mainfile()
    shutil.move(tmp_path / "a", tmp_path / "b")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "b" / "shot.blend"))
    head = bpy.data.objects["SelfTalk Head"]
    assert np.abs(play(head, 2) - motion.vertices()[1]).max() < TOLERANCE
    animate(head, talking(5), 1, "MESH_CACHE", "")
    assert len(head.modifiers) == 1 and writers.written_frames(head) == (1, 5)
    os.remove(tmp_path / "b" / "selftalk_cache" / "shot-SelfTalk Head.selftalk.mdd")
    with pytest.raises(SelfTalkError, match="missing"):
        writers.written_frames(head)


def test_a_long_cache_never_stands_in_memory(head, tmp_path) -> None:
    motion = talking(1000)
    tracemalloc.start()
    animate(head, motion, 1, "MESH_CACHE", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert writers.written_frames(head) == (1, 1000) and peak < 30e6  # the file has 58 MB


@pytest.mark.skipif(os.name != "posix", reason="needs folder permissions of POSIX")
def test_an_unwritable_folder_is_refused(head, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    refuses(head, "Cannot write .*another place", "MESH_CACHE", str(tmp_path / "file"))
    refuses(head, "Cannot write .*another place", "MESH_CACHE", "/proc/nowhere")


def keeps_the_old_cache(head, folder) -> None:
    path = writers.cache_path(head, str(folder))
    before = path.read_bytes(), head.modifiers[0].frame_start
    with pytest.raises(SelfTalkError, match="Cannot write .*No space left"):
        animate(head, talking(100, seed=1), 7, "MESH_CACHE", folder)
    assert (path.read_bytes(), head.modifiers[0].frame_start) == before
    assert [entry.name for entry in folder.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_old_cache_and_scene(head, full_disk) -> None:
    animate(head, talking(2), 1, "MESH_CACHE", full_disk)
    keeps_the_old_cache(head, full_disk)


def test_a_disk_that_fills_up_meanwhile_too(head, tmp_path, monkeypatch) -> None:
    def fills_up(file, frames, vertices, fps, chunks):
        file.write(b"half")
        yield 1
        raise OSError(28, "No space left on device")

    animate(head, talking(2), 1, "MESH_CACHE", tmp_path)
    monkeypatch.setattr(writers, "write_mdd", fills_up)
    keeps_the_old_cache(head, tmp_path)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_cancelling_leaves_no_trace(tmp_path, steps) -> None:
    target = body(13380)
    generator = writers.write_shape_keys(target, talking(100), 1)
    for _ in range(steps):
        next(generator)
    generator.close()
    assert target.data.shape_keys is None and not bpy.data.actions

    folder = tmp_path / "new" / "folder"
    path = writers.cache_path(target, str(folder))
    generator = writers.write_mesh_cache(target, talking(200), 1, path)
    for _ in range(steps):
        next(generator)
    generator.close()
    assert not target.modifiers and not (tmp_path / "new").exists()


def test_cancelling_a_second_result_keeps_the_first(head) -> None:
    motion = talking(10)
    animate(head, motion, 1, "SHAPE_KEYS", None)
    generator = writers.write_shape_keys(head, talking(10, seed=3), 1)
    for _ in range(4):
        next(generator)
    generator.close()
    assert len(bpy.data.actions) == 1
    assert np.abs(play(head, 5) - motion.vertices()[4]).max() < TOLERANCE


def test_deleting_the_face_meanwhile_is_a_sentence(head, tmp_path) -> None:
    path = writers.cache_path(head, str(tmp_path))
    cache = writers.write_mesh_cache(head, talking(200), 1, path)
    keys = writers.write_shape_keys(head, talking(200), 1)
    next(cache), next(keys)
    bpy.data.objects.remove(head)
    for generator in (cache, keys):
        with pytest.raises(SelfTalkError, match="removed while"):
            list(generator)
    assert not list(tmp_path.iterdir()) and not bpy.data.actions


def test_a_silent_motion_animates_nothing(head) -> None:
    animate(head, talking(5), 1, "SHAPE_KEYS", None)
    still = Motion(bundled_template(), 24.0, weights=np.zeros((5, 52), np.float32))
    animate(head, still, 1, "SHAPE_KEYS", None)
    assert not any(values(head).values()) and writers.written_frames(head) is None


def test_a_motion_of_vertices_needs_a_cache(head, tmp_path) -> None:
    dense = Motion(bundled_template(), 24.0, dense=talking(3).offsets())
    with pytest.raises(SelfTalkError, match="no shape weights.*Mesh Cache"):
        animate(head, dense, 1, "SHAPE_KEYS", None)
    animate(head, dense, 1, "MESH_CACHE", tmp_path)
    assert np.abs(play(head, 2) - dense.vertices()[1]).max() < TOLERANCE


def test_an_hour_of_keys_takes_seconds(head) -> None:
    weights = np.random.default_rng(0).random((86400, 52)).astype(np.float32)
    generator = writers.write_shape_keys(head, Motion(bundled_template(), 24.0, weights=weights), 1)
    assert len(list(generator)) > 50


@pytest.mark.parametrize("output", ["SHAPE_KEYS", "MESH_CACHE"])
def test_undo_takes_a_result_back_and_it_can_be_made_again(head, tmp_path, output) -> None:
    motion = talking(3)
    bpy.ops.ed.undo_push(message="Before")
    animate(head, motion, 1, output, tmp_path)
    bpy.ops.ed.undo_push(message="Animate")
    bpy.ops.ed.undo()
    head = bpy.data.objects["SelfTalk Head"]
    assert not bpy.data.actions and not head.modifiers and not any(values(head).values())
    bpy.ops.ed.redo()
    head = bpy.data.objects["SelfTalk Head"]
    assert np.abs(play(head, 2) - motion.vertices()[1]).max() < TOLERANCE
    bpy.ops.ed.undo()
    head = bpy.data.objects["SelfTalk Head"]
    animate(head, motion, 1, output, tmp_path)
    assert np.abs(play(head, 2) - motion.vertices()[1]).max() < TOLERANCE


def test_our_mark_and_our_settings_do_not_collide(head, tmp_path) -> None:
    import selftalk_blender

    selftalk_blender.register()
    try:
        head.selftalk.output = "MESH_CACHE"
        animate(head, talking(3), 1, "MESH_CACHE", tmp_path)
        assert writers.has_cache(head) and head.selftalk.output == "MESH_CACHE"
        head.selftalk.output = "SHAPE_KEYS"
        assert writers.has_cache(head)
    finally:
        selftalk_blender.unregister()
