"""The buttons, pressed without a window: what they change, what they refuse, what they undo."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import bpy
import numpy as np
import pytest
from animators import ramp, stand_in
from mathutils import Matrix, Vector

import selftalk_blender
from selftalk_blender.blender import (
    animate,
    bundled_head,
    compat,
    glance,
    lines,
    operators,
    panels,
    strips,
)
from selftalk_blender.core.template import bundled_template


@pytest.fixture(autouse=True, scope="module")
def enabled() -> Iterator[None]:
    selftalk_blender.register()
    yield
    selftalk_blender.unregister()


@pytest.fixture
def face() -> bpy.types.Object:
    bpy.ops.selftalk.add_face()
    return bpy.context.scene.selftalk.face


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A sound file, chosen in the panel to begin at frame 11."""
    path = ramp(tmp_path / "ramp.wav")
    settings = bpy.context.scene.selftalk
    settings.sound_file, settings.start_frame = str(path), 11
    return path


@pytest.fixture(autouse=True)
def animator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFTALK_PYTHON", stand_in(tmp_path))


def state(folder: Path) -> dict[str, object]:
    """What a user could find changed: data, keys, curves, modifiers, strips, files."""
    data = {
        name: sorted(block.name for block in getattr(bpy.data, name))
        for name in ("objects", "meshes", "shape_keys", "actions", "sounds", "materials")
    }
    scene = bpy.context.scene
    for target in bpy.data.objects:
        keys = target.data.shape_keys
        values = {key.name: key.value for key in keys.key_blocks} if keys is not None else {}
        action = keys.animation_data.action if keys is not None and keys.animation_data else None
        curves = []
        if action is not None:
            for curve in compat.playing_curves(keys):
                points = [tuple(point.co) for point in curve.keyframe_points]
                curves.append((curve.data_path, points))
        modifiers = [
            (m.name, getattr(m, "filepath", ""), getattr(m, "frame_start", 0))
            for m in target.modifiers
        ]
        data[f"object {target.name}"] = (values, curves, modifiers, target.selftalk.result)
    data["editor"] = scene.sequence_editor is not None
    data["strips"] = [strip.name for strip in strips.sound_strips(scene)]
    data["files"] = sorted(
        (str(path.relative_to(folder)), path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    )
    return data


def test_add_face_stands_at_the_cursor_and_is_chosen() -> None:
    bpy.context.scene.cursor.location = (1.0, 2.0, 3.0)
    bpy.ops.selftalk.add_face()
    face = bpy.context.scene.selftalk.face
    assert tuple(face.location) == (1.0, 2.0, 3.0)
    assert panels.face_line(face) == "Head, 52 face shapes"


def test_add_face_stands_where_a_script_says() -> None:
    bpy.ops.mesh.primitive_cube_add()  # of 2 m, around it
    bpy.ops.selftalk.add_face(location=(0.1, 0.2, 0.3))
    assert tuple(bpy.context.scene.selftalk.face.location) == pytest.approx((0.1, 0.2, 0.3))
    bpy.ops.selftalk.add_face()
    assert tuple(bpy.context.scene.selftalk.face.location) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("perspective", [True, False])
def test_what_hides_a_head_at_the_cursor_is_known(perspective) -> None:
    def seen_from(x: float) -> SimpleNamespace:
        """From a place on the X axis, looking towards the origin."""
        view = Matrix.Translation((x, 0.0, 0.1)) @ Matrix.Rotation(np.pi / 2, 4, "Y")
        region = SimpleNamespace(view_matrix=view.inverted(), is_perspective=perspective)
        return SimpleNamespace(
            region_data=region,
            scene=bpy.context.scene,
            evaluated_depsgraph_get=bpy.context.evaluated_depsgraph_get,
        )

    origin = Vector()
    bpy.ops.selftalk.add_face()
    assert bundled_head.hidden_by(seen_from(7.0), origin) is None
    bpy.ops.object.delete()
    assert bundled_head.hidden_by(seen_from(7.0), origin) is None
    bpy.ops.mesh.primitive_cube_add(location=(2.5, 0.0, 0.0))  # in front of it
    assert bundled_head.hidden_by(seen_from(7.0), origin) is None
    bpy.ops.mesh.primitive_cube_add(rotation=(0.0, 0.0, 0.1))
    cube = bpy.context.object
    assert bundled_head.hidden_by(seen_from(7.0), origin) == cube
    assert bundled_head.top_of(cube) == 1.0
    if perspective:
        assert bundled_head.hidden_by(seen_from(0.8), origin) is None  # as one sees a room
    cube.hide_set(True)
    assert bundled_head.hidden_by(seen_from(7.0), origin) is None


@pytest.mark.filterwarnings("error")
def test_paths_may_begin_where_the_blend_is(face, tmp_path) -> None:
    """Blender 4.5 and later warn of a path whose property does not say so."""
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "talk.blend"))
    settings = bpy.context.scene.selftalk
    ramp(tmp_path / "ramp.wav")
    settings.sound_file = "//ramp.wav"
    face.selftalk.cache_folder = "//cache"
    assert bpy.ops.selftalk.animate_from_audio() == {"FINISHED"}
    assert bpy.ops.selftalk.export(filepath="//talk.csv", with_sound=False) == {"FINISHED"}
    assert (tmp_path / "talk.csv").is_file()
    face.selftalk.animator = face.selftalk.template = "//own.safetensors"
    assert str(tmp_path / "own.safetensors") in operators.animate_problem(bpy.context)


def test_a_sound_file_makes_the_face_talk(face, clip) -> None:
    assert bpy.ops.selftalk.animate_from_audio() == {"FINISHED"}
    assert lines.written_frames(face)[0] == 11
    assert face.selftalk.result.startswith("99 frames, 4.0 s of sound in ")
    assert " s of sound in " in face.selftalk.result
    if compat.HAS_SOUND:
        assert [strip.name for strip in strips.sound_strips(bpy.context.scene)] == ["ramp"]
        assert face.selftalk.notices == ""
    else:
        assert "without sound" in face.selftalk.notices


@pytest.mark.skipif(not compat.HAS_SOUND, reason="this Blender is built without sound")
def test_a_chosen_strip_makes_the_face_talk(face, clip) -> None:
    scene = bpy.context.scene
    strips.add_strip(scene, clip, 40)
    scene.selftalk.sound_strip = "ramp"
    assert scene.selftalk.source == "STRIP"
    assert bpy.ops.selftalk.animate_from_audio() == {"FINISHED"}
    assert lines.written_frames(face)[0] == 40
    assert len(strips.sound_strips(scene)) == 1


def test_animating_again_replaces_ours_and_nothing_else(face, clip, tmp_path) -> None:
    own = bpy.data.actions.new("own")
    face.animation_data_create().action = own
    face.modifiers.new("Bend", "SIMPLE_DEFORM")
    bpy.ops.selftalk.animate_from_audio()
    before = state(tmp_path)
    bpy.ops.selftalk.animate_from_audio()
    after = state(tmp_path)
    result = before["object SelfTalk Head"][3], after["object SelfTalk Head"][3]
    assert all(" s of sound in " in text for text in result)  # the times differ
    for result in (before, after):
        result["object SelfTalk Head"] = result["object SelfTalk Head"][:3]
    assert after == before
    assert face.animation_data.action == own and "Bend" in face.modifiers


def test_the_other_output_takes_the_place_of_the_first(face, clip, tmp_path) -> None:
    bpy.ops.selftalk.animate_from_audio()
    face.selftalk.output = "MESH_CACHE"
    face.selftalk.cache_folder = str(tmp_path / "caches")
    assert bpy.ops.selftalk.animate_from_audio() == {"FINISHED"}
    assert [m.type for m in face.modifiers] == ["MESH_CACHE"]
    assert len(list((tmp_path / "caches").iterdir())) == 1
    assert not bpy.data.actions
    face.selftalk.output = "SHAPE_KEYS"
    bpy.ops.selftalk.animate_from_audio()
    assert not face.modifiers and len(bpy.data.actions) == 1


def test_a_button_says_why_it_is_greyed_out(clip) -> None:
    """The panel's line and the refusal of a script are one sentence."""
    reason = operators.animate_problem(bpy.context)
    assert reason == "No face is chosen. Choose the face mesh, or press Add Face."
    with pytest.raises(RuntimeError, match=reason):
        bpy.ops.selftalk.animate_from_audio()
    bpy.ops.selftalk.add_face()
    assert operators.animate_problem(bpy.context) == ""
    bpy.context.scene.selftalk.source = "STRIP"
    assert "No sound strip is chosen" in operators.animate_problem(bpy.context)
    with pytest.raises(RuntimeError, match="has no motion yet"):
        bpy.ops.selftalk.export(filepath="out.fbx", file_format="fbx")


def test_a_script_in_a_window_is_never_told_what_was_true_before(face, clip, monkeypatch) -> None:
    """There answers are kept for the panels, as this pretends."""
    seen = SimpleNamespace(app=SimpleNamespace(background=False), types=bpy.types)
    monkeypatch.setattr(glance, "bpy", seen)
    settings = bpy.context.scene.selftalk
    settings.sound_file = ""
    assert not bpy.ops.selftalk.animate_from_audio.poll()
    settings.sound_file = str(clip)
    assert bpy.ops.selftalk.animate_from_audio.poll()
    assert operators.export_problem(bpy.context, "json")
    assert bpy.ops.selftalk.animate_from_audio() == {"FINISHED"}
    assert not operators.export_problem(bpy.context, "json")
    glance.forget()


def test_what_a_panel_knew_of_one_file_is_not_told_of_the_next(face, monkeypatch) -> None:
    """As in a window; the data of the next may lie at the same place in memory."""
    timers = SimpleNamespace(is_registered=lambda _: True)
    seen = SimpleNamespace(app=SimpleNamespace(background=False, timers=timers), types=bpy.types)

    def ask() -> Iterator[None]:
        yield
        return "edited"

    with monkeypatch.context() as window:
        window.setattr(glance, "bpy", seen)
        assert glance.by_and_by("locked", ("place",), ask, "") == "edited"
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    with monkeypatch.context() as window:
        window.setattr(glance, "bpy", seen)
        window.setattr(glance, "SLICE", 0.0)  # too little time to answer
        assert glance.by_and_by("locked", ("place",), ask, "") == ""
    glance.forget()


def test_an_animator_that_fails_leaves_everything_as_before(
    face, clip, tmp_path, monkeypatch, capfd
) -> None:
    (tmp_path / "bad").mkdir()
    bad = stand_in(tmp_path / "bad", error="ramp.wav is not a sound file.")
    before = state(tmp_path)
    monkeypatch.setenv("SELFTALK_PYTHON", bad)
    with pytest.raises(RuntimeError, match="ramp.wav is not a sound file"):
        bpy.ops.selftalk.animate_from_audio()
    assert state(tmp_path) == before
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("output", "earlier"), [("SHAPE_KEYS", False), ("SHAPE_KEYS", True), ("MESH_CACHE", True)]
)
def test_cancelled_at_any_point_everything_is_as_before(
    face, clip, tmp_path, output, earlier
) -> None:
    """Also a result that was there already stays, with its file."""
    face.selftalk.output, face.selftalk.cache_folder = output, str(tmp_path / "caches")
    if earlier:
        bpy.ops.selftalk.animate_from_audio()
        bpy.context.scene.selftalk.start_frame = 30
    before = state(tmp_path)
    for point in range(100):
        steps = animate.run(operators.plan_from_settings(bpy.context))
        here = next(steps)
        assert here.waiting
        # The animator takes as many looks as it takes; then each step of writing is a point.
        for _ in range(point):
            here = next(steps, None)
            while here is not None and here.waiting:
                here = next(steps, None)
        if here is None:
            break
        steps.close()
        assert state(tmp_path) == before, here
    assert point > 2
    assert state(tmp_path) != before


def test_a_fault_of_ours_is_no_traceback_for_the_user(face, clip, tmp_path, monkeypatch) -> None:
    before = state(tmp_path)

    def broken(*args: object) -> Iterator[float]:
        yield 0.5
        raise KeyError("broken")

    monkeypatch.setattr(lines, "write", broken)
    with pytest.raises(RuntimeError, match="met a fault of its own.*system console") as error:
        bpy.ops.selftalk.animate_from_audio()
    assert "Traceback" not in str(error.value)
    assert state(tmp_path) == before


def test_undo_takes_one_step(face, clip, tmp_path) -> None:
    bpy.context.preferences.edit.use_global_undo = True
    bpy.ops.ed.undo_push(message="before")
    before = state(tmp_path)
    bpy.ops.selftalk.animate_from_audio("EXEC_DEFAULT", True)
    after = state(tmp_path)
    assert after != before
    bpy.ops.ed.undo()
    assert state(tmp_path) == before
    bpy.ops.ed.redo()
    assert state(tmp_path) == after


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_control_c_stops_a_script(face, clip, tmp_path, monkeypatch) -> None:
    (tmp_path / "slow").mkdir()
    monkeypatch.setenv("SELFTALK_PYTHON", stand_in(tmp_path / "slow", wait=20))
    before = state(tmp_path)
    control_c = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    control_c.start()
    try:
        with pytest.raises(RuntimeError, match="Interrupted; nothing was changed"):
            bpy.ops.selftalk.animate_from_audio()
    finally:
        control_c.cancel()  # else it would hit a later test
    assert state(tmp_path) == before


@pytest.mark.parametrize(("file_format", "suffix"), [("fbx", ".fbx"), ("abc", ".abc")])
def test_export_writes_a_file_with_the_right_suffix(
    face, clip, tmp_path, file_format, suffix
) -> None:
    bpy.ops.selftalk.animate_from_audio()
    out = tmp_path / "talk"
    assert bpy.ops.selftalk.export(filepath=str(out), file_format=file_format) == {"FINISHED"}
    assert out.with_suffix(suffix).stat().st_size > 10_000
    named = tmp_path / f"named{suffix}"
    assert bpy.ops.selftalk.export(filepath=str(named)) == {"FINISHED"}
    assert named.stat().st_size > 10_000


def test_a_mesh_cache_goes_to_alembic_alone(face, clip, tmp_path) -> None:
    face.selftalk.output, face.selftalk.cache_folder = "MESH_CACHE", str(tmp_path / "caches")
    bpy.ops.selftalk.animate_from_audio()
    assert "FBX cannot hold" in operators.export_problem(bpy.context, "fbx")
    assert operators.export_problem(bpy.context, "abc") == ""
    with pytest.raises(RuntimeError, match="FBX cannot hold"):
        bpy.ops.selftalk.export(filepath=str(tmp_path / "talk.fbx"), file_format="fbx")
    assert not (tmp_path / "talk.fbx").exists()


def test_settings_are_saved_with_the_file(face, clip, tmp_path) -> None:
    face.selftalk.output = "MESH_CACHE"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "scene.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "scene.blend"))
    settings = bpy.context.scene.selftalk
    assert settings.face.name == "SelfTalk Head" and settings.face.selftalk.output == "MESH_CACHE"
    assert (settings.source, settings.start_frame) == ("FILE", 11)
    assert Path(settings.sound_file) == clip


def test_registering_leaves_no_trace() -> None:
    for _ in range(2):
        selftalk_blender.unregister()
        selftalk_blender.unregister()  # twice does no harm
        assert "selftalk" not in bpy.types.Scene.bl_rna.properties
        assert not hasattr(bpy.types, "SELFTALK_PT_face")
        selftalk_blender.register()
        assert bpy.context.scene.selftalk.face is None


def test_the_line_about_a_face_counts_its_shapes(face) -> None:
    face.shape_key_remove(face.data.shape_keys.key_blocks["jawOpen"])
    assert panels.face_line(face) == "Head, 51 face shapes"
    face.shape_key_clear()
    assert panels.face_line(face) == "Head, face shapes will be created"
    assert np.shape(bundled_template().vertices)[0] == len(face.data.vertices)
