"""From a sound in a scene to a talking face: where the motion stands, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import bpy
import numpy as np
import pytest
import scenes
from animators import SECONDS, opening, ramp, stand_in

from selftalk_blender.blender import animate, compat, export, hearing, jobs, lines, strips
from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.core.errors import SelfTalkError

SOUND = pytest.mark.skipif(
    not compat.HAS_SOUND, reason="this Blender is built without sound: no strips can be made"
)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return ramp(tmp_path / "ramp.wav")


@pytest.fixture
def python(tmp_path: Path) -> str:
    return stand_in(tmp_path)


def finish(plan: animate.Plan, listening: hearing.Listening | None = None) -> animate.Result:
    """Run to the end, as a script does."""
    return scenes.finish(animate.run(plan, listening))


def seen(head: bpy.types.Object, frame: int) -> float:
    """The second of the file that the jaw shows at a scene frame."""
    bpy.context.scene.frame_set(frame)
    return head.data.shape_keys.key_blocks["jawOpen"].value * SECONDS


@SOUND
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("rate", [(24, 1.0), (30, 1.001), (24, 1.001), (60, 1.0)])
def test_the_motion_stands_where_the_strip_stands(head, clip, python, rate) -> None:
    """Trimmed at both ends, delayed and moved, at broadcast rates: to a thousandth of a second.

    At the ends themselves it comes from rest and goes back there.
    """
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = rate
    strip = strips.add_strip(scene, clip, 30)
    strip.frame_offset_start, strip.frame_offset_end = 13, 20
    strip.animation_offset_start = 5
    strip.sound_offset = 0.1
    finish(animate.plan(scene, head, strip=strip.name, python=python))
    first, last = strips.strip_range(strip)
    ease = int(np.ceil(0.1 * rate[0] / rate[1]))
    for frame in (first + ease, (first + last) // 2, last - ease):
        (time,) = strips.source_times(scene, strip, np.array([frame]))
        assert seen(head, frame) == pytest.approx(time, abs=1e-3), frame


@SOUND
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_strip_reaches_beyond_its_file_on_both_sides(head, clip, python) -> None:
    """There the strip is silent and the face at rest, after a short way back."""
    scene = bpy.context.scene
    strip = strips.add_strip(scene, clip, 50)
    strip.frame_offset_start, strip.frame_offset_end = -20, -20
    result = finish(animate.plan(scene, head, strip=strip.name, python=python))
    assert strips.strip_range(strip) == (30, 50 + 96 + 19)
    assert (result.first_frame, result.frames) == (50, 96 + 3)
    assert seen(head, 50) == pytest.approx(0.0, abs=1e-3)
    assert seen(head, 142) == pytest.approx(92 / 24, abs=1e-3)
    assert 0.5 < seen(head, 146) < 3.5
    assert seen(head, 160) == pytest.approx(0.0, abs=1e-3)


@SOUND
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_only_the_used_part_is_asked_for(head, clip, python) -> None:
    scene = bpy.context.scene
    strip = strips.add_strip(scene, clip, 1)
    strip.frame_offset_start, strip.frame_offset_end = 24, 48
    plan = animate.plan(scene, head, strip=strip.name, python=python)
    heard = plan.heard
    assert (heard.first_frame, heard.start, heard.frames) == (25, pytest.approx(1.0), 24)
    assert plan.strip == strip.name and heard.clip == clip


@SOUND
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_strip_without_any_of_its_sound_is_refused(head, clip, python) -> None:
    scene = bpy.context.scene
    strip = strips.add_strip(scene, clip, 50)
    strip.sound_offset = 10.0
    with pytest.raises(SelfTalkError, match="plays none of its sound"):
        animate.plan(scene, head, strip=strip.name, python=python)


def test_stretched_time_is_refused(head, clip, python) -> None:
    """The face would be slower than its sound, and a file would end midway."""
    scene = bpy.context.scene
    scene.render.frame_map_new = 50
    with pytest.raises(SelfTalkError, match=r"stretches the time .*\(100 to 50\).* Stretching"):
        animate.plan(scene, head, clip=clip, python=python)
    with pytest.raises(SelfTalkError, match="stretches the time"):
        export.check_faces(bpy.context, [head], ".fbx")
    scene.render.frame_map_old = 50
    animate.plan(scene, head, clip=clip, python=python)
    export.check_faces(bpy.context, [head], ".fbx")


def test_a_file_becomes_a_strip_and_a_motion(head, clip, python) -> None:
    """The mouth comes in before the first frame and goes back to rest after the last."""
    scene = bpy.context.scene
    result = finish(animate.plan(scene, head, clip=clip, first_frame=11, python=python))
    assert result.seconds == pytest.approx(SECONDS, abs=0.05)
    assert result.elapsed < 20 and "times real time" in result.text
    assert seen(head, 11) == pytest.approx(0.0, abs=1e-3)
    assert seen(head, 59) == pytest.approx(2.0, abs=1e-3)
    assert lines.written_frames(head) == (
        result.first_frame,
        result.first_frame + result.frames - 1,
    )
    if compat.HAS_SOUND:
        (strip,) = strips.sound_strips(scene)
        assert strips.strip_range(strip) == (11, 106) and strips.clip_of(strip) == clip
        assert result.notices == []
    else:
        assert "without sound" in result.notices[0]


@SOUND
def test_a_file_animated_again_keeps_its_strip(head, clip, python) -> None:
    for _ in range(2):
        finish(animate.plan(bpy.context.scene, head, clip=clip, first_frame=11, python=python))
    assert len(strips.sound_strips(bpy.context.scene)) == 1


@SOUND
def test_a_file_pressed_twice_at_once_has_one_strip(head, clip, python) -> None:
    scene = bpy.context.scene
    first, second = (
        animate.plan(scene, head, clip=clip, first_frame=11, python=python) for _ in range(2)
    )
    finish(first), finish(second)
    assert len(strips.sound_strips(scene)) == 1 and len(head.selftalk.lines) == 1


def test_speech_from_the_first_sample_has_a_lead_in(head, clip, tmp_path) -> None:
    template = bundled_template()
    weights = np.zeros((201, len(template.shape_names)), np.float32)
    weights[:, template.shape_names.index("jawOpen")] = 0.5
    python = stand_in(tmp_path, Motion(template, 50.0, weights=weights))
    plan = animate.plan(bpy.context.scene, head, clip=clip, first_frame=100, python=python)
    result = finish(plan)
    values = [seen(head, frame) / SECONDS for frame in range(90, 106)]
    assert result.first_frame == 94
    assert values[:5] == [0.0] * 5 and values[10:] == pytest.approx([0.5] * 6)
    assert all(step >= 0 for step in np.diff(values)) and np.diff(values).max() < 0.2


def test_a_mesh_cache_shows_the_same(head, clip, python, tmp_path) -> None:
    scene = bpy.context.scene
    plan = animate.plan(
        scene, head, clip=clip, first_frame=11, output="MESH_CACHE",
        cache_folder=str(tmp_path / "caches"), python=python,
    )  # fmt: skip
    finish(plan)
    assert plan.cache is not None and plan.cache.parent == tmp_path / "caches"
    assert plan.cache.is_file()
    scene.frame_set(59)
    evaluated = head.evaluated_get(bpy.context.evaluated_depsgraph_get())
    positions = np.empty(len(head.data.vertices) * 3, np.float32)
    evaluated.data.vertices.foreach_get("co", positions)
    template = bundled_template()
    weights = opening().weights
    assert weights is not None
    wanted = template.vertices + np.tensordot(weights[100], template.shape_deltas, 1)
    assert np.abs(positions.reshape(-1, 3) - wanted).max() < 2e-5


def test_what_can_be_refused_is_refused_before_anything_runs(head, clip, tmp_path) -> None:
    scene = bpy.context.scene
    with pytest.raises(SelfTalkError, match="No face is chosen"):
        animate.plan(scene, None, clip=clip)
    elsewhere = bpy.data.objects.new("Elsewhere", head.data.copy())
    with pytest.raises(SelfTalkError, match="Elsewhere is not in scene Scene"):
        animate.plan(scene, elsewhere, clip=clip)
    with pytest.raises(SelfTalkError, match="No sound strip is chosen"):
        animate.plan(scene, head)
    with pytest.raises(SelfTalkError, match=r"There is no file .*gone\.wav"):
        animate.plan(scene, head, clip=tmp_path / "gone.wav")
    with pytest.raises(SelfTalkError, match="no Python at .*nowhere"):
        animate.plan(scene, head, clip=clip, python=str(tmp_path / "nowhere"))
    with pytest.raises(SelfTalkError, match="save it, or choose a folder"):
        animate.plan(scene, head, clip=clip, output="MESH_CACHE")
    head.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(SelfTalkError, match="Edit Mode"):
        animate.plan(scene, head, clip=clip)
    bpy.ops.object.mode_set(mode="OBJECT")


def test_a_face_removed_meanwhile_is_noticed(head, clip, python) -> None:
    steps = animate.run(animate.plan(bpy.context.scene, head, clip=clip, python=python))
    next(steps)
    bpy.data.objects.remove(head)
    with pytest.raises(SelfTalkError, match="face was removed meanwhile"):
        for _ in steps:
            pass
    assert strips.sound_strips(bpy.context.scene) == []


def test_a_face_renamed_meanwhile_speaks(head, clip, python) -> None:
    """The scene, too."""
    scene = bpy.context.scene
    steps = animate.run(animate.plan(scene, head, clip=clip, python=python))
    next(steps)
    head.name, scene.name = "Anna", "Shot 10"
    assert scenes.finish(steps).frames == 99
    assert [line.scene for line in head.selftalk.lines] == ["Shot 10"]


def bind(head: bpy.types.Object) -> bpy.types.Object:
    """An armature without bones that deforms a head."""
    rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    bpy.context.collection.objects.link(rig)
    head.modifiers.new("Armature", "ARMATURE").object = rig
    return rig


@pytest.mark.parametrize("edited", ["face", "armature"])
def test_what_was_heard_waits_until_edit_mode_is_left(
    head, clip, python, edited, monkeypatch
) -> None:
    target = bind(head) if edited == "armature" else head
    steps = animate.run(animate.plan(bpy.context.scene, head, clip=clip, python=python))
    monkeypatch.setattr(jobs, "running", jobs.Job(steps))
    next(steps)
    bpy.context.view_layer.objects.active = target
    bpy.ops.object.mode_set(mode="EDIT")
    patient = scenes.patiently(steps)
    while next(patient).text != "Leave Edit Mode (Tab)":
        pass
    assert next(patient).waiting and not head.selftalk.lines
    bpy.ops.object.mode_set(mode="OBJECT")
    for _ in patient:
        pass
    assert len(head.selftalk.lines) == 1


def test_a_script_does_not_wait_for_an_edit_mode_that_nobody_leaves(head, clip, python) -> None:
    """Nor does a bake of a file that was saved in one."""
    bpy.context.view_layer.objects.active = bind(head)
    bpy.ops.object.mode_set(mode="EDIT")
    plan = animate.plan(bpy.context.scene, head, clip=clip, python=python)
    for step in scenes.patiently(animate.run(plan)):
        assert "Edit Mode" not in step.text
    bpy.ops.object.mode_set(mode="OBJECT")
    assert len(head.selftalk.lines) == 1


def test_the_next_clip_can_be_listened_to_meanwhile(head, clip, python) -> None:
    """Nothing of the scene is touched, and the animator works by itself from `waiting` on."""
    ahead = hearing.listen(clip, python=python)
    while not next(ahead).waiting:
        pass
    finish(animate.plan(bpy.context.scene, head, clip=clip, first_frame=11, python=python))
    assert len(head.selftalk.lines) == 1
    plan = animate.plan(bpy.context.scene, head, clip=clip, first_frame=201, python=python)
    result = finish(plan, ahead)
    assert seen(head, 249) == pytest.approx(2.0, abs=1e-3)
    assert 0 <= result.starting <= result.elapsed + result.starting


def test_notices_reach_the_result(head, clip, tmp_path) -> None:
    python = stand_in(tmp_path, opening(), notices=("The clip is silent.",))
    result = finish(animate.plan(bpy.context.scene, head, clip=clip, python=python))
    assert result.notices[0] == "The clip is silent."


def test_a_plan_is_made_of_plain_values(head, clip, python) -> None:
    plan = animate.plan(bpy.context.scene, head, clip=clip, python=python)
    values = {**dataclasses.asdict(plan), **dataclasses.asdict(plan.heard)}
    for value in (value for name, value in values.items() if name != "heard"):
        assert value is None or isinstance(value, (str, int, float, Path, tuple))
