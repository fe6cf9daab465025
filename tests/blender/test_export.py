"""Exported files, read back by Blender's own importers, hold the motion frame by frame."""

import bpy
import numpy as np
import pytest
from scenes import play, talking

from selftalk_blender.blender import compat, export, face, writers
from selftalk_blender.core.errors import SelfTalkError

FIRST, COUNT = 3, 6


def animate(head, output, folder, seed=0, first=FIRST) -> None:
    render = bpy.context.scene.render
    motion = talking(COUNT, render.fps / render.fps_base, seed)
    if output == "MESH_CACHE":
        path = writers.cache_path(head, str(folder))
        list(writers.write_mesh_cache(head, motion, first, path))
    else:
        list(writers.write_shape_keys(head, motion, first))


def in_world(target, frame: float) -> np.ndarray:
    """(V, 3) in metres where the vertices stand in the world."""
    positions = play(target, frame)
    turn = np.array(target.matrix_world)
    return positions @ turn[:3, :3].T + turn[:3, 3]


def read_back(path) -> list[bpy.types.Object]:
    """The meshes of a file in an empty scene of the same frame rate."""
    render = bpy.context.scene.render
    rate = render.fps, render.fps_base
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    render = bpy.context.scene.render
    render.fps, render.fps_base = rate
    if path.suffix == ".fbx":
        with compat.enabled_addon("io_scene_fbx"):
            bpy.ops.import_scene.fbx(filepath=str(path), anim_offset=0.0)
    else:
        assert bpy.ops.wm.alembic_import(filepath=str(path), as_background_job=False) == {
            "FINISHED"
        }
    return [target for target in bpy.context.scene.objects if target.type == "MESH"]


@pytest.mark.parametrize("rate", [(24, 1.0), (30, 1.001), (60, 1.0)])
@pytest.mark.parametrize(
    ("suffix", "output"), [("fbx", "SHAPE_KEYS"), ("abc", "SHAPE_KEYS"), ("abc", "MESH_CACHE")]
)
def test_files_read_back_are_the_motion(tmp_path, suffix, output, rate) -> None:
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = rate
    parent = bpy.data.objects.new("Parent", None)
    scene.collection.objects.link(parent)
    parent.location, parent.rotation_euler = (0.1, 0.2, 0.3), (0.3, 0.0, 1.0)
    head = face.add_head(bpy.context, (1.0, -2.0, 0.5))
    head.parent, head.scale = parent, (2.0, 2.0, 2.0)
    animate(head, output, tmp_path)
    frames = range(FIRST, FIRST + COUNT)
    expected = [in_world(head, frame) for frame in frames]
    path = tmp_path / f"line.{suffix}"
    export.export(bpy.context, [head], path)
    (again,) = read_back(path)
    # The FBX importer counts frames of 1/30 s where the scene has 1.001/30 s.
    stretch = rate[1] if suffix == "fbx" else 1.0
    for frame, positions in zip(frames, expected, strict=True):
        assert np.abs(in_world(again, frame * stretch) - positions).max() < 1e-5
    if suffix == "abc":
        assert (bpy.context.scene.frame_start, bpy.context.scene.frame_end) == (FIRST, frames[-1])


@pytest.mark.parametrize("suffix", ["fbx", "abc"])
def test_two_faces_in_one_file_and_a_range_of_choice(tmp_path, suffix) -> None:
    faces = [face.add_head(bpy.context, (x, 0.0, 0.0)) for x in (0.0, 1.0)]
    for seed, target in enumerate(faces):
        animate(target, "SHAPE_KEYS", tmp_path, seed)
    expected = [in_world(target, 6) for target in faces]
    export.export(bpy.context, faces, tmp_path / f"two.{suffix}", (5, 7))
    again = read_back(tmp_path / f"two.{suffix}")
    assert len(again) == 2
    for target in again:
        wanted = expected[round(target.matrix_world.translation.x)]
        assert np.abs(in_world(target, 6) - wanted).max() < 1e-5


@pytest.mark.parametrize("suffix", ["fbx", "abc"])
def test_motion_that_starts_before_frame_0(head, tmp_path, suffix) -> None:
    animate(head, "SHAPE_KEYS", tmp_path, first=-2)
    expected = {frame: in_world(head, frame) for frame in range(-2, -2 + COUNT)}
    export.export(bpy.context, [head], tmp_path / f"line.{suffix}")
    (again,) = read_back(tmp_path / f"line.{suffix}")
    for frame, positions in expected.items():
        assert np.abs(in_world(again, frame) - positions).max() < 1e-5


@pytest.mark.parametrize("suffix", ["fbx", "abc"])
def test_the_scene_is_as_before(head, tmp_path, suffix) -> None:
    animate(head, "SHAPE_KEYS", tmp_path)
    scene = bpy.context.scene
    other = bpy.data.objects.new("Other", None)
    scene.collection.objects.link(other)
    head.select_set(False)
    other.select_set(True)
    bpy.context.view_layer.objects.active = other
    scene.frame_start, scene.frame_end = 5, 50
    scene.use_preview_range, scene.frame_preview_start = True, 7
    scene.frame_set(8, subframe=0.25)
    export.export(bpy.context, [head], tmp_path / f"line.{suffix}")
    assert bpy.context.selected_objects == [other] and bpy.context.object == other
    assert (scene.frame_start, scene.frame_end, scene.frame_preview_start) == (5, 50, 7)
    assert (scene.frame_current, scene.frame_subframe) == (8, 0.25) and scene.use_preview_range
    assert [entry.name for entry in tmp_path.iterdir()] == [f"line.{suffix}"]


def test_what_cannot_be_exported_gets_a_sentence(head, tmp_path) -> None:
    def refuses(sentence, name="line.fbx", faces=(head,), frames=None) -> None:
        with pytest.raises(SelfTalkError, match=sentence):
            export.export(bpy.context, list(faces), tmp_path / name, frames)
        assert not (tmp_path / name).exists()

    refuses("no motion yet.*Animate from Audio")
    animate(head, "MESH_CACHE", tmp_path)
    refuses("FBX cannot hold.*Alembic.*Shape Keys")
    animate(head, "SHAPE_KEYS", tmp_path)
    refuses("obj is no known format. Name the file one of .fbx, .abc", "line.obj")
    refuses("No face is chosen", faces=())
    refuses("nothing. Choose other frames", frames=(5, 4))
    head.hide_select = True
    refuses("cannot be selected")
    head.hide_select = False
    head.hide_set(True)
    refuses("hidden in this scene")
    head.hide_set(False)
    bpy.ops.object.mode_set(mode="EDIT")
    refuses("Object Mode")
    bpy.ops.object.mode_set(mode="OBJECT")
    (tmp_path / "file").write_text("")
    with pytest.raises(SelfTalkError, match="Cannot write .*another place"):
        export.export(bpy.context, [head], tmp_path / "file" / "line.fbx")


@pytest.mark.parametrize("suffix", ["fbx", "abc"])
def test_a_full_disk_leaves_the_old_file(head, full_disk, suffix) -> None:
    animate(head, "SHAPE_KEYS", full_disk)
    old = full_disk / f"line.{suffix}"
    old.write_bytes(b"old")
    with pytest.raises(SelfTalkError, match="Cannot write"):
        export.export(bpy.context, [head], old)
    assert old.read_bytes() == b"old"
    assert [entry.name for entry in full_disk.iterdir()] == [old.name]
