"""Exported files hold the motion frame by frame, as Blender and other programs read them."""

from __future__ import annotations

import csv
import functools
import json
import os
import subprocess
import sys
import wave
from pathlib import Path

import bpy
import numpy as np
import pytest
from characters import jaw_rig
from mathutils.kdtree import KDTree
from scenes import NEUTRAL, own_shapes, play, talking
from test_lines import say, spoken, take

from selftalk_blender.blender import (
    bundled_head,
    compat,
    dense,
    export,
    lines,
    mesh_cache,
    strips,
    targets,
)
from selftalk_blender.blender.export import exporters
from selftalk_blender.core import bundled_template
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.livelink import COLUMNS
from selftalk_blender.core.mdd import read_mdd
from selftalk_blender.core.steps import at_last

FIRST, COUNT = 3, 6
NAMES = bundled_template().shape_names
SHAPES = ("fbx", "usd", "glb")
# Close enough for any eye: a hundredth of a millimetre.
CLOSE = 1e-5


def animate(head, output="SHAPE_KEYS", folder=None, seed=0, first=FIRST) -> None:
    motion = talking(COUNT, strips.frame_rate(bpy.context.scene), seed)
    if output == "MESH_CACHE":
        path = mesh_cache.default_path(head, str(folder))
        list(mesh_cache.write(head, motion, first, path))
    else:
        list(dense.write(head, own_shapes(motion), first, NEUTRAL))


def small_head(location=(0.0, 0.0, 0.0)) -> bpy.types.Object:
    """The bundled head with the few shape keys alone that its motion brings along."""
    head = bundled_head.add_head(bpy.context, location)
    head.shape_key_clear()
    return head


def hang(head) -> bpy.types.Object:
    """Have a head turned, scaled and held by a parent that is, too."""
    parent = bpy.data.objects.new("Parent", None)
    bpy.context.scene.collection.objects.link(parent)
    parent.location, parent.rotation_euler = (0.1, 0.2, 0.3), (0.3, 0.0, 1.0)
    head.parent, head.scale, head.rotation_euler = parent, (2.0, 2.0, 2.0), (0.0, 0.4, 0.2)
    return parent


def in_world(target, frame: float) -> np.ndarray:
    """(V, 3) in metres where the vertices stand in the world."""
    positions = play(target, frame)
    turn = np.array(target.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world)
    return positions @ turn[:3, :3].T + turn[:3, 3]


def seen(targets, first=FIRST, count=COUNT) -> np.ndarray:
    """(T, V, 3) of all meshes, one behind the other."""
    return np.array([
        np.concatenate([in_world(target, frame) for target in targets])
        for frame in range(first, first + count)
    ])  # fmt: skip


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """How far vertices come from where they should be in any frame, in metres.

    Files may list vertices in another order, and one more often: each goes with the one that
    moves like it.
    """
    assert len(found) == len(expected), (found.shape, expected.shape)
    if found.shape == expected.shape and np.abs(found - expected).max() < CLOSE:
        return float(np.abs(found - expected).max())
    # What moves alike comes to one place where the frames are added up, each with its own share.
    share = np.random.default_rng(0).random(len(found))[:, None, None]
    worst = 0.0
    for ours, theirs in ((found, expected), (expected, found)):
        mixed = (theirs * share).sum(0)
        tree = KDTree(len(mixed))
        for number, place in enumerate(mixed.tolist()):
            tree.insert(place, number)
        tree.balance()
        near = [tree.find(place)[1] for place in (ours * share).sum(0).tolist()]
        worst = max(worst, float(np.abs(ours - theirs[:, near]).max()))
    return worst


@functools.cache
def has_readers(python: str) -> bool:
    asked = (
        "from importlib.util import find_spec as f; "
        "print(all(map(f, ['pxr', 'pygltflib', 'trimesh', 'ufbx'])))"
    )
    return b"True" in subprocess.run([python, "-c", asked], check=False, capture_output=True).stdout


def other_readers(
    *paths: Path, options: tuple[str, ...] = ()
) -> dict[str, tuple[np.ndarray, dict]]:
    """What programs other than Blender read in files, by name; see readers.py."""
    python = os.environ.get("SELFTALK_PYTHON") or sys.executable
    if not has_readers(python):
        pytest.skip(f"{python} lacks usd-core, pygltflib, trimesh or ufbx")
    reader = Path(__file__).with_name("readers.py")
    subprocess.run([python, str(reader), *options, *map(str, paths)], check=True)
    found = {}
    for path in paths:
        with np.load(f"{path}.npz") as file:
            found[path.name] = file["positions"], json.loads(str(file["told"]))
    return found


def read_back(path, new_fbx=False) -> list[bpy.types.Object]:
    """The meshes of a file in an empty scene of the same frame rate."""
    render = bpy.context.scene.render
    rate = render.fps, render.fps_base
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    render = bpy.context.scene.render
    render.fps, render.fps_base = rate
    if new_fbx:
        bpy.ops.wm.fbx_import(filepath=str(path), anim_offset=0.0)
    elif path.suffix == ".fbx":
        with compat.enabled_addon("io_scene_fbx"):
            bpy.ops.import_scene.fbx(filepath=str(path), anim_offset=0.0)
    elif path.suffix == ".glb":
        with compat.enabled_addon("io_scene_gltf2"):
            bpy.ops.import_scene.gltf(filepath=str(path))
    elif path.suffix.startswith(".usd"):
        bpy.ops.wm.usd_import(filepath=str(path))
    else:
        bpy.ops.wm.alembic_import(filepath=str(path), as_background_job=False)
    return [target for target in bpy.context.scene.objects if target.type == "MESH"]


# --- Each format, read back -------------------------------------------------------------------


@pytest.mark.parametrize("rate", [(24, 1.0), (30, 1.001), (60, 1.0)])
def test_other_programs_read_the_motion(tmp_path, rate) -> None:
    """FBX for each program, USD in each kind, and glTF, of a head held askew."""
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = rate
    fps = rate[0] / rate[1]
    head = small_head((1.0, -2.0, 0.5))
    hang(head)
    animate(head)
    head.modifiers.new("Subdivision", "SUBSURF").show_viewport = False
    expected = seen([head])
    head.modifiers["Subdivision"].show_viewport = True
    whole = rate == (24, 1.0)
    files = [tmp_path / f"{preset}.fbx" for preset in (export.PRESETS if whole else ["UNREAL"])]
    kinds = ("usd", "usda", "usdz") if whole else ("usdc",)
    files += [tmp_path / f"line.{suffix}" for suffix in (*kinds, "glb")]
    for path in files:
        preset = path.stem if path.suffix == ".fbx" else "BLENDER"
        done = export.export(bpy.context, [head], path, preset=preset)
        assert done.files == (path,) and not done.notices
    names = sorted(key.name for key in head.data.shape_keys.key_blocks[1:])
    plain = [name.replace(" ", "_") for name in names]  # Maya and USD know no spaces
    frames = np.arange(FIRST, FIRST + COUNT)
    options = ("--trimesh",) if whole else ()
    for name, (positions, told) in other_readers(*files, options=options).items():
        assert apart(positions, expected) < CLOSE, name
        if name.endswith(".fbx"):
            expected_names = plain if name == "MAYA.fbx" else names
            assert told["shapes"] == told["ufbx"]["shapes"] == expected_names
            assert np.abs(np.array(told["times"]) - frames / fps).max() < 1e-6
            assert np.abs(np.array(told["span"]) - frames[[0, -1]] / fps).max() < 1e-6
            assert told["ufbx"]["fps"] == pytest.approx(fps, abs=1e-4)
            assert told["ufbx"]["vertices"] == len(head.data.vertices)
            assert 1 < told["percent"] <= 100 and told["up"] == 1
            assert told["ufbx"]["metres"] == (1.0 if name == "UNITY.fbx" else 0.01)
            assert told["takes"] == [name[:-4]]
            assert told["ufbx"]["times"] == pytest.approx(told["span"], abs=1e-6)
        elif name.endswith(".glb"):
            assert np.abs(np.array(told["times"]) - (frames - FIRST) / fps).max() < 2e-6
            assert [sorted(known) for known in told["names"].values()] == [names]
            assert list(told["names"]) == ["SelfTalk Head"]
            assert not whole or told["trimesh"]
        else:
            assert (told["first"], told["last"]) == (FIRST, FIRST + COUNT - 1)
            assert told["fps"] == pytest.approx(fps, abs=1e-5)
            assert told["shapes"] == plain and told["metres"] == 1.0


def test_game_engines_get_no_odd_scale_or_turn(tmp_path) -> None:
    """An upright head of scale 1 is that in the file, too: not 100, and not lying on its back."""
    head = small_head()
    animate(head)
    files = [tmp_path / f"{preset}.fbx" for preset in ("UNREAL", "UNITY", "MAYA")]
    for path in files:
        export.export(bpy.context, [head], path, preset=path.stem)
    for name, (_, told) in other_readers(*files).items():
        ((model, (turn, scale)),) = told["models"].items()
        assert np.abs(turn).max() < 1e-4 and np.abs(np.array(scale) - 1).max() < 1e-6, name
        assert model == ("SelfTalk_Head" if name == "MAYA.fbx" else "SelfTalk Head")


@pytest.mark.parametrize("rate", [(24, 1.0), (30, 1.001), (60, 1.0)])
@pytest.mark.parametrize(
    ("suffix", "output"),
    [("fbx", "SHAPE_KEYS"), ("abc", "SHAPE_KEYS"), ("abc", "MESH_CACHE"), ("usdc", "MESH_CACHE")],
)
def test_blender_reads_the_motion(tmp_path, suffix, output, rate) -> None:
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = rate
    head = small_head((1.0, -2.0, 0.5))
    hang(head)
    animate(head, output, tmp_path)
    expected = seen([head])
    path = tmp_path / f"line.{suffix}"
    export.export(bpy.context, [head], path)
    (again,) = read_back(path)
    # The FBX importer counts frames of 1/30 s where the scene has 1.001/30 s.
    stretch = rate[1] if suffix == "fbx" else 1.0
    for frame, positions in enumerate(expected, FIRST):
        assert np.abs(in_world(again, frame * stretch) - positions).max() < CLOSE
    if suffix != "fbx":
        scene = bpy.context.scene
        assert (scene.frame_start, scene.frame_end) == (FIRST, FIRST + COUNT - 1)


@pytest.mark.parametrize("suffix", ["usdc", "glb", "fbx"])
def test_blender_reads_shape_keys_too(tmp_path, suffix) -> None:
    if suffix == "fbx" and "fbx_import" not in dir(bpy.ops.wm):
        pytest.skip("the new FBX importer came with Blender 4.5")
    head = small_head((1.0, -2.0, 0.5))
    hang(head)
    animate(head)
    expected = seen([head])
    path = tmp_path / f"line.{suffix}"
    export.export(bpy.context, [head], path)
    (again,) = read_back(path, new_fbx=True) if suffix == "fbx" else read_back(path)
    first = 0 if suffix == "glb" else FIRST
    assert apart(seen([again], first), expected) < CLOSE


@pytest.mark.parametrize("suffix", ["mdd", "pc2"])
def test_point_caches_move_the_mesh_that_they_are_of(tmp_path, suffix) -> None:
    head = small_head((1.0, 0.0, 0.0))
    animate(head)
    head.modifiers.new("Subdivision", "SUBSURF").show_viewport = False
    expected = np.array([play(head, frame) for frame in range(FIRST, FIRST + COUNT)])
    head.modifiers["Subdivision"].show_viewport = True
    path = tmp_path / f"line.{suffix}"
    export.export(bpy.context, [head], path)
    assert head.modifiers["Subdivision"].show_viewport
    if suffix == "mdd":
        times, positions = read_mdd(path)
        assert np.abs(times - np.arange(FIRST, FIRST + COUNT) / 24).max() < 1e-6
    else:
        data = path.read_bytes()
        assert data[:12] == b"POINTCACHE2\0"
        version, points, samples = np.frombuffer(data, "<i4", 5, 12)[[0, 1, 4]]
        start, step = np.frombuffer(data, "<f4", 2, 20)
        assert (version, points, start, step, samples) == (1, len(expected[0]), FIRST, 1, COUNT)
        positions = np.frombuffer(data, "<f4", offset=32).reshape(samples, points, 3)
    assert np.abs(positions - expected).max() < CLOSE
    other = bpy.data.objects.new("Other", head.data.copy())
    bpy.context.scene.collection.objects.link(other)
    other.shape_key_clear()
    modifier = other.modifiers.new("Cache", "MESH_CACHE")
    modifier.cache_format, modifier.filepath = suffix.upper(), str(path)
    modifier.forward_axis, modifier.up_axis, modifier.frame_start = "POS_Y", "POS_Z", FIRST
    for frame in range(COUNT):
        assert np.abs(play(other, FIRST + frame) - expected[frame]).max() < CLOSE


# --- What is seen is what is written ----------------------------------------------------------


def rigged(tmp_path) -> tuple[bpy.types.Object, bpy.types.Object]:
    """A head that bones move, with teeth that hang on its armature, under way at frame 3."""
    head = jaw_rig()
    teeth = bpy.data.objects.new("Zähne oben", head.data.copy())
    bpy.context.scene.collection.objects.link(teeth)
    teeth.shape_key_add(name="Basis")
    key = teeth.shape_key_add(name="jawOpen", from_mix=False)
    key.data[0].co.z -= 0.01
    teeth.modifiers.new("Armature", "ARMATURE").object = head.modifiers["Armature"].object
    for group in head.vertex_groups:
        teeth.vertex_groups.get(group.name) or teeth.vertex_groups.new(name=group.name)
    say(head, "hello", FIRST, take(0.25))
    rig = head.modifiers["Armature"].object
    rig.location, rig.rotation_euler, rig.scale = (0.3, 0.1, 0.0), (0.0, 0.0, 0.6), (1.5,) * 3
    return head, teeth


def test_bones_and_parts_go_along(tmp_path) -> None:
    head, teeth = rigged(tmp_path)
    expected = seen([head, teeth])
    assert np.ptp(expected, axis=0).max() > 1e-3
    files = [tmp_path / f"{preset}.fbx" for preset in ("UNREAL", "MAYA", "BLENDER")]
    files += [tmp_path / "line.usdc", tmp_path / "line.glb"]
    for path in files:
        preset = path.stem if path.suffix == ".fbx" else "BLENDER"
        export.export(bpy.context, [head], path, (FIRST, FIRST + COUNT - 1), preset)
    alone = tmp_path / "alone.glb"
    done = export.export(bpy.context, [head], alone, with_parts=False)
    assert "without its armature" in done.notices[0]
    found = other_readers(*files, alone)
    assert list(found.pop("alone.glb")[1]["names"]) == [head.data.name]
    for name, (positions, told) in found.items():
        assert apart(positions, expected) < CLOSE, name
        if name.endswith("fbx"):
            part = "Zaehne_oben" if name == "MAYA.fbx" else "Zähne oben"
            assert part in told["models"]
    assert (head.name, teeth.name) == ("SelfTalk Head", "Zähne oben")


def test_lines_in_the_nla_drivers_and_wide_sliders(tmp_path) -> None:
    """What is seen, whatever moves it: two lines, a driven key, values above 1 and below 0."""
    head = small_head()
    say(head, "one", FIRST, take(0.2, 0.4))
    say(head, "two", FIRST + 3, take(0.2, 0.9))
    assert head.data.shape_keys.animation_data.nla_tracks
    wide = head.shape_key_add(name="ä b", from_mix=False)
    wide.data[7].co.x += 0.01
    wide.slider_min, wide.slider_max = -2.0, 3.0
    driver = wide.driver_add("value").driver
    driver.expression = f"frame - {FIRST + 1}"
    muted = head.shape_key_add(name="muted", from_mix=False)
    muted.data[9].co.x += 0.01
    muted.value, muted.mute = 1.0, True
    expected = seen([head])
    assert np.ptp(expected[:, 7, 0]) > 0.035
    files = [tmp_path / f"{preset}.fbx" for preset in ("UNREAL", "MAYA")]
    files += [tmp_path / "line.usdc", tmp_path / "line.glb"]
    for path in files:
        preset = path.stem if path.suffix == ".fbx" else "BLENDER"
        export.export(bpy.context, [head], path, (FIRST, FIRST + COUNT - 1), preset)
    for name, (positions, told) in other_readers(*files).items():
        assert apart(positions, expected) < CLOSE, name
        if name.endswith("fbx"):
            assert ("ae_b" if name == "MAYA.fbx" else "ä b") in told["shapes"]
            assert told["percent"] == pytest.approx(300)


def test_a_parent_that_shears_and_a_scene_in_centimetres(tmp_path) -> None:
    head = small_head()
    hang(head).scale = (1.0, 1.4, 0.8)
    animate(head)
    bpy.context.scene.unit_settings.scale_length = 0.01
    expected = seen([head]) * 0.01
    files = [tmp_path / "UNREAL.fbx", tmp_path / "UNITY.fbx", tmp_path / "line.glb",
             tmp_path / "line.usdc"]  # fmt: skip
    for path in files:
        preset = path.stem if path.suffix == ".fbx" else "BLENDER"
        export.export(bpy.context, [head], path, preset=preset)
    for name, (positions, _) in other_readers(*files).items():
        assert apart(positions, expected) < CLOSE, name


def test_moving_points_in_usd_are_as_large_as_the_scene_has_them(tmp_path) -> None:
    head = small_head((10.0, 0.0, 0.0))
    head.scale = (100.0, 100.0, 100.0)
    animate(head, "MESH_CACHE", tmp_path)
    bpy.context.scene.unit_settings.scale_length = 0.01
    expected = seen([head]) * 0.01
    head.modifiers.new("Smooth", "SUBSURF")
    before = state()
    files = [tmp_path / "line.usdc", tmp_path / "line.usdz"]
    for path in files:
        assert not export.export(bpy.context, [head], path).notices
    for name, (positions, told) in other_readers(*files).items():
        assert apart(positions, expected) < CLOSE, name
        assert (told["first"], told["last"], told["root"]) == (FIRST, FIRST + COUNT - 1, "root")
    assert state() == before
    assert {p.name for p in tmp_path.iterdir() if p.name.startswith(".")} == set()


@pytest.mark.parametrize("suffix", ["abc", "mdd", "pc2"])
def test_what_is_seen_of_one_shape_key_alone_is_no_motion(tmp_path, suffix) -> None:
    head = small_head()
    animate(head)
    head.show_only_shape_key = True
    with pytest.raises(SelfTalkError, match="Turn off (Shape Key Lock|Solo Active)"):
        export.export(bpy.context, [head], tmp_path / f"line.{suffix}")
    export.export(bpy.context, [head], tmp_path / "line.fbx")  # which holds the keys


def test_keys_of_a_vertex_group_and_relative_to_another_key(tmp_path) -> None:
    """A shape split by a vertex group moves its half alone, in every program."""
    head = small_head()
    animate(head)
    half = head.vertex_groups.new(name="left")
    half.add([v.index for v in head.data.vertices if v.co.x > 0], 0.5, "REPLACE")
    keys = head.data.shape_keys.key_blocks
    for key in keys[2:5]:
        key.vertex_group = "left"
    keys[3].relative_key = keys[1]
    expected = seen([head])
    files = [tmp_path / "UNREAL.fbx", tmp_path / "line.glb", tmp_path / "line.usdc"]
    for path in files:
        export.export(bpy.context, [head], path, preset="UNREAL")
    for name, (positions, _) in other_readers(*files).items():
        assert apart(positions, expected) < CLOSE, name
    assert keys[3].vertex_group == "left" and keys[3].relative_key == keys[1]


def test_names_that_become_one_are_told_apart(tmp_path) -> None:
    """Names as the program takes them, each its own; each shape key moves as it did."""
    head = small_head()
    head.name = "Zähne oben"
    animate(head)
    bpy.data.meshes.new("Zaehne_oben")
    bpy.data.objects.new("Zaehne_oben", None)
    for number, name in enumerate(("a.b", "a_b", "ä 1", "ae_1", "1")):
        key = head.shape_key_add(name=name, from_mix=False)
        key.data[number * 50].co.x += 0.01
        key.driver_add("value").driver.expression = f"(frame - {FIRST}) / {COUNT + number}"
    expected = seen([head])
    files = [tmp_path / "MAYA.fbx", tmp_path / "line.usdc"]
    for path in files:
        export.export(bpy.context, [head], path, preset="MAYA")
    for name, (positions, told) in other_readers(*files).items():
        assert apart(positions, expected) < CLOSE, name
        keys = {key for key in told["shapes"] if not key.startswith("SelfTalk")}
        if name == "MAYA.fbx":
            assert "Zaehne_oben_2" in told["models"]
            assert keys == {"a_b_2", "a_b", "ae_1_2", "ae_1", "_1"}
        else:
            assert keys == {"a_b_2", "a_b", "ä_1", "ae_1", "_1"}


def test_modifiers_that_a_format_cannot_hold_are_told_of(tmp_path) -> None:
    head = small_head()
    animate(head)
    head.modifiers.new("Glatt", "CORRECTIVE_SMOOTH")
    (notice,) = export.export(bpy.context, [head], tmp_path / "line.glb").notices
    assert "Glatt does to SelfTalk Head. Alembic holds it" in notice
    assert not export.export(bpy.context, [head], tmp_path / "line.abc").notices


def test_alembic_holds_colours_of_corners_and_tells_of_others(tmp_path) -> None:
    head = small_head()
    animate(head)
    corners = head.data.color_attributes.new("Paint", "BYTE_COLOR", "CORNER")
    corners.data.foreach_set("color", np.random.default_rng(0).random(4 * len(corners.data)))
    painted = np.empty(4 * len(corners.data), np.float32)
    corners.data.foreach_get("color", painted)
    head.data.color_attributes.new("Heat", "FLOAT_COLOR", "POINT")
    (notice,) = export.export(bpy.context, [head], tmp_path / "line.abc").notices
    assert "the colours Heat of SelfTalk Head" in notice
    (again,) = read_back(tmp_path / "line.abc")
    (colours,) = again.data.color_attributes
    read = np.empty_like(painted)
    colours.data.foreach_get("color", read)
    assert colours.name == "Paint" and np.array_equal(read, painted)


# --- Frames -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["fbx", "abc"])
def test_two_faces_in_one_file_and_a_range_of_choice(tmp_path, suffix) -> None:
    faces = [small_head((x, 0.0, 0.0)) for x in (0.0, 1.0)]
    for seed, target in enumerate(faces):
        animate(target, seed=seed)
    expected = [in_world(target, 6) for target in faces]
    export.export(bpy.context, faces, tmp_path / f"two.{suffix}", (5, 7))
    again = read_back(tmp_path / f"two.{suffix}")
    assert len(again) == 2
    for target in again:
        wanted = expected[round(target.matrix_world.translation.x)]
        assert np.abs(in_world(target, 6) - wanted).max() < CLOSE


@pytest.mark.parametrize("suffix", ["fbx", "abc", "glb"])
def test_motion_that_starts_before_frame_0(tmp_path, suffix) -> None:
    head = small_head()
    animate(head, first=-2)
    expected = seen([head], -2)
    export.export(bpy.context, [head], tmp_path / f"line.{suffix}")
    (again,) = read_back(tmp_path / f"line.{suffix}")
    assert apart(seen([again], 0 if suffix == "glb" else -2), expected) < CLOSE


@pytest.mark.parametrize("output", ["SHAPE_KEYS", "MESH_CACHE"])
def test_usd_begins_at_frame_0_where_it_may_not_before_and_says_so(tmp_path, output) -> None:
    head = small_head((1.0, -2.0, 0.5))
    hang(head)
    animate(head, output, tmp_path, first=-2)
    expected = seen([head], -2)
    files = [tmp_path / "line.usdc", tmp_path / "line.usdz"]
    (notice,) = export.export(bpy.context, [head], files[0]).notices
    assert "frame -2 of the scene is frame 0 of the file" in notice
    assert not export.export(bpy.context, [head], files[1]).notices
    for name, (positions, told) in other_readers(*files).items():
        assert apart(positions, expected) < CLOSE, name
        first = -2 if name.endswith("usdz") else 0
        assert (told["first"], told["last"]) == (first, first + COUNT - 1), name
    (again,) = read_back(files[1])
    assert apart(seen([again], -2), expected) < CLOSE


# --- Curves -----------------------------------------------------------------------------------


def rows_of(path) -> tuple[list[str], list[list[str]]]:
    with open(path, newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def key_values(head, first, count) -> np.ndarray:
    values = np.zeros((count, len(NAMES)))
    for number in range(count):
        bpy.context.scene.frame_set(first + number)
        for key in head.data.shape_keys.key_blocks:
            if key.name in NAMES:
                values[number, NAMES.index(key.name)] = key.value
    return values


@pytest.mark.parametrize("rate", [(24, 1.0), (30, 1.001), (60, 1.0)])
def test_live_link_csv_and_json_are_what_the_keys_show(head, tmp_path, rate) -> None:
    render = bpy.context.scene.render
    render.fps, render.fps_base = rate
    first = 3 * rate[0] + 2
    new = spoken("one", first, 0.5, rate[0] / rate[1])
    list(lines.write(head, targets.drive_of(head), new, take(0.5)))
    head.selftalk.controls.strength = 0.5
    lines.rebake(head)
    begin, end = lines.written_frames(head)
    expected = key_values(head, begin, end - begin + 1)
    assert 0.2 < expected.max() < 0.3
    for suffix in ("csv", "json"):
        export.export(bpy.context, [head], tmp_path / f"line.{suffix}")
    header, rows = rows_of(tmp_path / "line.csv")
    assert header[:5] == ["Timecode", "BlendShapeCount", "EyeBlinkLeft", "EyeLookDownLeft",
                          "EyeLookInLeft"]  # fmt: skip
    assert len(header) == 63 and header[-1] == "RightEyeRoll" and "TongueOut" in header
    assert rows[first - begin][0] == "00:00:03:02.000" and len(rows) == len(expected)
    assert {row[1] for row in rows} == {"61"} and {len(row) for row in rows} == {63}
    for column, name in enumerate(header[2:54], 2):
        shape = NAMES.index(name[0].lower() + name[1:])
        found = np.array([float(row[column]) for row in rows])
        assert np.abs(found - expected[:, shape]).max() < 1e-6
    told = json.loads((tmp_path / "line.json").read_text())
    assert told["names"] == list(NAMES) and told["sound"] is None
    assert told["first_frame"] == begin and told["fps"] == pytest.approx(rate[0] / rate[1])
    assert np.abs(np.array(told["weights"]) - expected).max() < 2e-6


def test_weights_of_a_rig_are_its_take_after_the_controls(tmp_path) -> None:
    head = jaw_rig()
    say(head, "hello", FIRST, take(0.5))
    head.selftalk.controls.strength = 0.5
    head.selftalk.controls.use_head = True
    lines.rebake(head)
    export.export(bpy.context, [head], tmp_path / "line.csv", (FIRST, FIRST + 11))
    header, rows = rows_of(tmp_path / "line.csv")
    jaw = np.array([float(row[header.index("JawOpen")]) for row in rows])
    said = lines.Spoken.of(head.selftalk.lines[0])
    motion, begin = at_last(lines.speaking(head, said, take(0.5)))
    expected = motion.weights[FIRST - begin :][:12, NAMES.index("jawOpen")]
    assert 0.15 < expected.max() < 0.3 and np.abs(jaw - expected).max() < 2e-3
    turns = np.array([[float(row[header.index(f"Head{a}")]) for row in rows] for a in
                      ("Yaw", "Pitch", "Roll")])  # fmt: skip
    assert 1e-4 < np.abs(turns).max() < 0.3


def test_a_moved_and_a_muted_line_count_as_they_are_seen(head, tmp_path) -> None:
    say(head, "one", FIRST, take(0.5))
    say(head, "two", 40, take(0.5, 0.9))
    data = head.data.shape_keys.animation_data
    one, two = (
        next(s for t in data.nla_tracks for s in t.strips if s.name.endswith(name))
        for name in ("one", "two")
    )
    one.frame_start, one.frame_end = one.frame_start + 20, one.frame_end + 20
    two.mute = True
    expected = key_values(head, 1, 60)
    assert 0.4 < expected.max() < 0.6
    export.export(bpy.context, [head], tmp_path / "line.json", (1, 60))
    told = json.loads((tmp_path / "line.json").read_text())
    assert np.abs(np.array(told["weights"]) - expected).max() < 2e-6


def test_a_muted_and_a_driven_key_count_as_they_are_seen(tmp_path) -> None:
    head = small_head()
    say(head, "one", FIRST, take(0.5))
    keys = head.data.shape_keys.key_blocks
    keys["jawOpen"].mute = True
    keys["mouthClose"].driver_remove("value")
    keys["mouthClose"].driver_add("value").driver.expression = "0.25"
    export.export(bpy.context, [head], tmp_path / "line.json")
    told = json.loads((tmp_path / "line.json").read_text())
    weights = np.array(told["weights"])
    assert not weights[:, told["names"].index("jawOpen")].any()
    assert np.all(weights[:, told["names"].index("mouthClose")] == 0.25)


def test_names_and_columns_are_each_there_once() -> None:
    assert len(set(COLUMNS)) == 61
    assert {name[0].lower() + name[1:] for name in COLUMNS[:52]} == set(NAMES)


# --- Sound ------------------------------------------------------------------------------------


def tone(path: Path, seconds: float = 2.0) -> Path:
    """A sound whose loudness says which second is heard."""
    at = np.arange(round(seconds * 48000)) / 48000
    samples = at / seconds * np.sin(2 * np.pi * 440 * at)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48000, 0, "NONE", ""))
        file.writeframes((samples * 30000).astype("<i2").tobytes())
    return path


def loudness(path: Path) -> tuple[int, np.ndarray]:
    """Samples in a file, and the largest in each tenth of a second."""
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getsampwidth()) == (48000, 2)
        count = file.getnframes()
        samples = np.frombuffer(file.readframes(count), "<i2").reshape(count, -1)
    whole = samples[: count // 4800 * 4800].reshape(-1, 4800, samples.shape[1])
    return count, np.abs(whole.astype(int)).max((1, 2)) / 30000


@pytest.mark.skipif(not compat.HAS_SOUND, reason="this Blender is built without sound")
@pytest.mark.parametrize("rate", [(24, 1.0), (30, 1.001)])
def test_the_sound_beside_is_of_these_frames(tmp_path, rate) -> None:
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = rate
    fps = rate[0] / rate[1]
    clip = tone(tmp_path / "line.wav")
    recording = clip.read_bytes()
    strips.add_strip(scene, clip, 1)
    head = small_head()
    animate(head)
    first = 1 + round(fps)
    last = first + round(fps / 2) - 1
    done = export.export(bpy.context, [head], tmp_path / "line.fbx", (first, last), with_sound=True)
    assert done.files == (tmp_path / "line.fbx", tmp_path / "line_sound.wav")
    count, heard = loudness(done.files[1])
    assert count == round((last - first + 1) / fps * 48000)
    assert np.abs(heard - (0.5 + 0.05 * np.arange(1, len(heard) + 1))).max() < 0.03
    assert clip.read_bytes() == recording
    done = export.export(bpy.context, [head], tmp_path / "late.abc", (200, 210), with_sound=True)
    assert done.files == (tmp_path / "late.abc",)
    strips.add_strip(scene, done.files[0].with_name("line_sound.wav"), 100)
    with pytest.raises(SelfTalkError, match="line_sound.wav is a sound of this scene"):
        export.export(bpy.context, [head], tmp_path / "line.fbx", with_sound=True)


@pytest.mark.skipif(not compat.HAS_SOUND, reason="this Blender is built without sound")
def test_usd_plays_its_sound(tmp_path) -> None:
    scene = bpy.context.scene
    strips.add_strip(scene, tone(tmp_path / "voice.wav"), 1)
    head = small_head()
    animate(head)
    expected = seen([head])
    files = [tmp_path / "Ärger 1.usda", tmp_path / "line.usdz"]
    for path in files:
        export.export(bpy.context, [head], path, with_sound=True)
    assert (tmp_path / "Ärger 1_sound.wav").is_file()
    assert not (tmp_path / "line_sound.wav").exists()
    for name, (positions, told) in other_readers(*files).items():
        assert apart(positions, expected) < CLOSE
        assert told["sound_found"], name
        assert told["sound_times"] == [FIRST, FIRST + COUNT]
        assert told["sound_mode"] == "onceFromStartToEnd"


# --- Whole or not at all ----------------------------------------------------------------------


def state() -> dict:
    """What a user could find changed by an export."""
    kinds = ("objects", "meshes", "armatures", "shape_keys", "actions", "scenes", "materials")
    found: dict = {kind: sorted(b.name for b in getattr(bpy.data, kind)) for kind in kinds}
    scene, layer = bpy.context.scene, bpy.context.view_layer
    found["scene"] = (
        scene.name, scene.frame_current, scene.frame_subframe, scene.frame_start, scene.frame_end,
        scene.use_preview_range, scene.frame_preview_start, bpy.context.window.scene.name,
    )  # fmt: skip
    found["selected"] = sorted(target.name for target in bpy.context.selected_objects)
    found["active"] = layer.objects.active and layer.objects.active.name
    for target in bpy.data.objects:
        keys = target.data.shape_keys if target.type == "MESH" else None
        found[target.name] = (
            target.data and target.data.name,
            [(m.name, m.show_viewport) for m in target.modifiers],
            [key.name for key in keys.key_blocks] if keys is not None else [],
            target.hide_select,
        )
    return found


def unusual_scene(head) -> dict:
    scene = bpy.context.scene
    other = bpy.data.objects.new("Other", None)
    scene.collection.objects.link(other)
    head.select_set(False)
    other.select_set(True)
    bpy.context.view_layer.objects.active = other
    head.modifiers.new("Subdivision", "SUBSURF")
    scene.frame_start, scene.frame_end = 5, 50
    scene.use_preview_range, scene.frame_preview_start = True, 7
    scene.frame_set(8, subframe=0.25)
    return state()


@pytest.mark.parametrize("name", list(export.FORMATS))
def test_the_scene_is_as_before(tmp_path, name) -> None:
    head = small_head()
    say(head, "hello", FIRST, take(0.2))
    before = unusual_scene(head)
    path = tmp_path / f"Zoë 1{export.FORMATS[name].suffixes[0]}"
    export.export(bpy.context, [head], path)
    assert state() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", list(export.FORMATS))
def test_cancelled_or_failed_nothing_is_left(tmp_path, name, monkeypatch) -> None:
    head = small_head()
    say(head, "hello", FIRST, take(0.2))
    before = unusual_scene(head)
    path = tmp_path / f"line{export.FORMATS[name].suffixes[0]}"
    for point in range(100):
        steps = export.exporting(bpy.context, [head], path)
        if all(next(steps, None) is not None for _ in range(point + 1)):
            steps.close()
            assert state() == before and not list(tmp_path.iterdir()), point
        else:
            break
    path.unlink()

    def broken(*arguments, **settings):
        raise RuntimeError(
            "Error: Python: Traceback:\n  line 1\nOSError: broken\nLocation: /ops.py:109"
        )

    wanted = {"fbx": "write_fbx", "glb": "write_gltf", "usd": "write_usd", "abc": "write_alembic"}
    if name in wanted:
        monkeypatch.setattr(exporters, wanted[name], broken)
        with pytest.raises(SelfTalkError, match=r"line\.\w+: OSError: broken\. Free some space"):
            export.export(bpy.context, [head], path)
        assert state() == before and not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", list(export.FORMATS))
def test_a_full_disk_leaves_the_old_file(head, full_disk, name) -> None:
    say(head, "hello", FIRST, take(60.0 if name in ("csv", "json") else 1.0))
    old = full_disk / f"line{export.FORMATS[name].suffixes[0]}"
    old.write_bytes(b"old")
    before = state()
    with pytest.raises(SelfTalkError, match=f"Cannot write {old}") as told:
        export.export(bpy.context, [head], old)
    assert "ree some space or choose another" in str(told.value) and "Errno" not in str(told.value)
    assert state() == before
    assert old.read_bytes() == b"old"
    assert [entry.name for entry in full_disk.iterdir()] == [old.name]


def test_what_cannot_be_exported_gets_a_sentence(tmp_path, monkeypatch) -> None:
    head = small_head()

    def refuses(sentence, name="line.fbx", faces=(head,), frames=None) -> None:
        with pytest.raises(SelfTalkError, match=sentence):
            export.export(bpy.context, list(faces), tmp_path / name, frames)
        assert not (tmp_path / name).exists()

    refuses("no motion yet.*Animate from Audio")
    animate(head, "MESH_CACHE", tmp_path)
    refuses("FBX cannot hold.*Alembic.*Shape Keys")
    refuses("glTF cannot hold.*Alembic.*Shape Keys", "line.glb")
    animate(head)
    refuses("obj is no known format. Name the file one of .fbx, .abc", "line.obj")
    refuses("No face is chosen", faces=())
    refuses("holds one face", "line.csv", faces=(head, small_head()))
    refuses("moving vertices, which are no ARKit shapes. Export Alembic", "line.csv")
    refuses("nothing. Choose other frames", frames=(5, 4))
    head.data.shape_keys.use_relative = False
    refuses("absolute, which FBX cannot hold")
    head.data.shape_keys.use_relative = True
    head.modifiers.new("Build", "BUILD")
    refuses("in the place of its own.*export Alembic", "line.pc2")
    head.modifiers.remove(head.modifiers["Build"])
    head.hide_select = True
    refuses("cannot be selected")
    head.hide_select = False
    head.hide_set(True)
    refuses("hidden in this scene")
    head.hide_set(False)
    bpy.ops.object.mode_set(mode="EDIT")
    refuses("Object Mode")
    bpy.ops.object.mode_set(mode="OBJECT")
    with monkeypatch.context() as lacking:  # as Debian's
        lacking.setattr(compat, "NOT_BUILT", {"abc", "usd"})
        refuses("built without Alembic", "line.abc")
        refuses("built without USD", "line.usdz")
    (tmp_path / "file").write_text("")
    with pytest.raises(SelfTalkError, match="Cannot write .*another place"):
        export.export(bpy.context, [head], tmp_path / "file" / "line.fbx")
    with pytest.raises(SelfTalkError, match="MAXON is no FBX preset"):
        export.export(bpy.context, [head], tmp_path / "line.fbx", preset="MAXON")
