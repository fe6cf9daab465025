"""Motion as a mesh cache: what plays is the motion, and what is the artist's stays."""

import os
import shutil
import tracemalloc

import bpy
import numpy as np
import pytest
from mathutils import Matrix
from scenes import TOLERANCE, body, check_played, make_awkward, play, talking

from selftalk_blender.blender import face, marks, mesh_cache
from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.core.errors import SelfTalkError


def animate(target, motion, first_frame, folder) -> None:
    path = mesh_cache.default_path(target, str(folder))
    done = list(mesh_cache.write(target, motion, first_frame, path))
    assert done == sorted(done) and done[0] >= 0 and done[-1] == 1.0


@pytest.mark.parametrize(
    ("rate", "base", "first"), [(24, 1, 1), (24, 1.001, -7), (30, 1.001, 0), (60, 1, 101)]
)
def test_what_plays_is_the_motion(head, tmp_path, rate, base, first) -> None:
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = rate, base
    motion = talking(6, rate / base)
    animate(head, motion, first, tmp_path)
    check_played(head, motion, first)
    assert mesh_cache.written_frames(head) == (first, first + 5)


def test_a_turned_scaled_parented_head_with_modifiers(head, tmp_path) -> None:
    subdivision, motion = make_awkward(head), talking(4)
    animate(head, motion, 1, tmp_path)
    assert len(play(head, 2)) > 15000
    subdivision.show_viewport = False
    assert np.abs(play(head, 3) - motion.vertices()[2]).max() < TOLERANCE
    assert [m.type for m in head.modifiers] == ["MESH_CACHE", "ARMATURE", "SUBSURF"]


@pytest.mark.parametrize("count", [13380, 19158])
def test_a_makehuman_body_in_decimetres_with_y_up(tmp_path, count) -> None:
    turn = np.array(Matrix.Rotation(np.radians(-90), 3, "X"))
    target = body(count, turn, 10.0, (0.0, 14.0, 0.3))
    rest = play(target, 1)
    motion, template = talking(5), bundled_template()
    animate(target, motion, 1, tmp_path)
    known = template.source_index < count
    moved = (play(target, 3) - rest)[template.source_index[known]]
    assert np.abs(moved - motion.offsets()[2][known] @ turn.T * 10.0).max() < 10 * TOLERANCE
    others = np.setdiff1d(np.arange(count), template.source_index)
    assert np.array_equal(play(target, 3)[others], rest[others])


def test_written_again_it_is_the_same_modifier_and_the_artists_of_its_name_stays(head, tmp_path):
    head.modifiers.new(mesh_cache.MODIFIER, "WAVE").show_viewport = False
    animate(head, talking(3), 1, tmp_path)
    animate(head, talking(3), 3, tmp_path)
    assert [modifier.type for modifier in head.modifiers] == ["MESH_CACHE", "WAVE"]
    assert head.modifiers[0].frame_start == 3
    mesh_cache.remove(head)
    assert [modifier.type for modifier in head.modifiers] == ["WAVE"] and marks.MARK not in head


def test_a_cache_keeps_a_look_made_by_shape_keys(head, tmp_path) -> None:
    look = head.shape_key_add(name="Look", from_mix=False)
    shape = bundled_template().vertices * [1.1, 1.0, 1.0]
    look.data.foreach_set("co", shape.astype(np.float32).ravel())
    look.value = 1.0
    head.data.shape_keys.key_blocks["jawOpen"].value = 0.9  # left over: the motion sets it
    motion = talking(3)
    motion.weights[:, 24] = 0.5
    animate(head, motion, 1, tmp_path)
    linear = face.correspondence(head, frozenset({"jawOpen"})).linear
    expected = shape + motion.offsets()[1] @ linear.T
    assert np.abs(play(head, 2) - expected).max() < TOLERANCE
    assert look.value == 1.0


def test_a_modifier_that_replaces_the_mesh_is_refused(head, tmp_path) -> None:
    head.modifiers.new("Alembic", "MESH_SEQUENCE_CACHE")
    with pytest.raises(SelfTalkError, match="modifier Alembic.*replaces the whole mesh"):
        animate(head, talking(3), 1, tmp_path)


def test_of_objects_that_share_a_mesh_one_talks(head, tmp_path) -> None:
    twin = bpy.data.objects.new("Twin", head.data)
    bpy.context.collection.objects.link(twin)
    motion = talking(3)
    animate(head, motion, 1, tmp_path)
    assert np.abs(play(twin, 2) - bundled_template().vertices).max() == 0
    assert np.abs(play(head, 2) - motion.vertices()[1]).max() < TOLERANCE


def test_a_duplicate_does_not_overwrite_the_cache_of_its_original(head, tmp_path) -> None:
    animate(head, talking(3), 1, tmp_path)
    other = head.copy()
    bpy.context.collection.objects.link(other)
    animate(other, talking(3, seed=1), 1, tmp_path)
    assert np.abs(play(head, 2) - talking(3).vertices()[1]).max() < TOLERANCE
    assert np.abs(play(other, 2) - talking(3, seed=1).vertices()[1]).max() < TOLERANCE


def test_caches_stand_beside_the_blend_and_move_with_it(head, tmp_path) -> None:
    with pytest.raises(SelfTalkError, match="save it, or choose a folder"):
        mesh_cache.default_path(head)
    (tmp_path / "a").mkdir()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a" / "shot.blend"))
    motion = talking(3)
    animate(head, motion, 1, "")
    assert head.modifiers[0].filepath == "//selftalk_cache/shot-SelfTalk Head.selftalk.mdd"
    bpy.ops.wm.save_mainfile()
    shutil.move(tmp_path / "a", tmp_path / "b")
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "b" / "shot.blend"))
    head = bpy.data.objects["SelfTalk Head"]
    assert np.abs(play(head, 2) - motion.vertices()[1]).max() < TOLERANCE
    animate(head, talking(5), 1, "")
    assert len(head.modifiers) == 1 and mesh_cache.written_frames(head) == (1, 5)
    os.remove(tmp_path / "b" / "selftalk_cache" / "shot-SelfTalk Head.selftalk.mdd")
    with pytest.raises(SelfTalkError, match="missing"):
        mesh_cache.written_frames(head)


def test_a_motion_of_vertices_is_shown_exactly(head, tmp_path) -> None:
    dense = Motion(bundled_template(), 24.0, dense=talking(3).offsets())
    animate(head, dense, 1, tmp_path)
    assert np.abs(play(head, 2) - dense.vertices()[1]).max() < TOLERANCE


def test_a_long_cache_never_stands_in_memory(head, tmp_path) -> None:
    motion = talking(1000)
    tracemalloc.start()
    animate(head, motion, 1, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert mesh_cache.written_frames(head) == (1, 1000) and peak < 30e6  # the file has 58 MB


@pytest.mark.skipif(os.name != "posix", reason="needs folder permissions of POSIX")
def test_an_unwritable_folder_is_refused(head, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", "/proc/nowhere"):
        path = mesh_cache.default_path(head, str(folder))
        with pytest.raises(SelfTalkError, match="Cannot write .*another place"):
            mesh_cache.check(head, path)
        with pytest.raises(SelfTalkError, match="Cannot write .*another place"):
            animate(head, talking(3), 1, folder)
    assert not head.modifiers


def keeps_the_old_cache(head, folder) -> None:
    path = mesh_cache.default_path(head, str(folder))
    before = path.read_bytes(), head.modifiers[0].frame_start
    with pytest.raises(SelfTalkError, match="Cannot write .*No space left"):
        animate(head, talking(100, seed=1), 7, folder)
    assert (path.read_bytes(), head.modifiers[0].frame_start) == before
    assert [entry.name for entry in folder.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_old_cache_and_scene(head, full_disk) -> None:
    animate(head, talking(2), 1, full_disk)
    keeps_the_old_cache(head, full_disk)


def test_a_disk_that_fills_up_meanwhile_too(head, tmp_path, monkeypatch) -> None:
    def fills_up(file, frames, vertices, fps, chunks):
        file.write(b"half")
        yield 1
        raise OSError(28, "No space left on device")

    animate(head, talking(2), 1, tmp_path)
    monkeypatch.setattr(mesh_cache, "write_mdd", fills_up)
    keeps_the_old_cache(head, tmp_path)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_cancelling_leaves_no_trace(tmp_path, steps) -> None:
    target = body(13380)
    folder = tmp_path / "new" / "folder"
    path = mesh_cache.default_path(target, str(folder))
    generator = mesh_cache.write(target, talking(200), 1, path)
    for _ in range(steps):
        next(generator)
    generator.close()
    assert not target.modifiers and not (tmp_path / "new").exists()


def test_deleting_the_face_meanwhile_is_a_sentence(head, tmp_path) -> None:
    path = mesh_cache.default_path(head, str(tmp_path))
    steps = mesh_cache.write(head, talking(200), 1, path)
    next(steps)
    bpy.data.objects.remove(head)
    with pytest.raises(SelfTalkError, match="removed while"):
        list(steps)
    assert not list(tmp_path.iterdir())


def test_undo_takes_a_result_back_and_it_can_be_made_again(head, tmp_path) -> None:
    motion = talking(3)
    bpy.ops.ed.undo_push(message="Before")
    animate(head, motion, 1, tmp_path)
    bpy.ops.ed.undo_push(message="Animate")
    bpy.ops.ed.undo()
    head = bpy.data.objects["SelfTalk Head"]
    assert not head.modifiers
    bpy.ops.ed.redo()
    head = bpy.data.objects["SelfTalk Head"]
    assert np.abs(play(head, 2) - motion.vertices()[1]).max() < TOLERANCE
    bpy.ops.ed.undo()
    head = bpy.data.objects["SelfTalk Head"]
    animate(head, motion, 1, tmp_path)
    assert np.abs(play(head, 2) - motion.vertices()[1]).max() < TOLERANCE


def test_our_mark_and_our_settings_do_not_collide(head, tmp_path) -> None:
    import selftalk_blender

    selftalk_blender.register()
    try:
        head.selftalk.output = "MESH_CACHE"
        animate(head, talking(3), 1, tmp_path)
        assert mesh_cache.plays(head) and head.selftalk.output == "MESH_CACHE"
        head.selftalk.output = "SHAPE_KEYS"
        assert mesh_cache.plays(head)
    finally:
        selftalk_blender.unregister()
