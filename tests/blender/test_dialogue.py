"""A scene full of dialogue: who says which strip, how each stands, and all at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import bpy
import numpy as np
import pytest
from animators import SECONDS, opening, ramp, stand_in
from scenes import finish, patiently

from selftalk_blender.blender import (
    animate,
    bundled_head,
    casting,
    compat,
    dialogue,
    lines,
    operators,
    strips,
)
from selftalk_blender.core import Motion
from selftalk_blender.core.errors import SelfTalkError

pytestmark = [
    pytest.mark.skipif(
        not compat.HAS_SOUND, reason="this Blender is built without sound: no strips can be made"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def animator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in; its file is removed where a test must not need it."""
    (tmp_path / "animator").mkdir()
    program = stand_in(tmp_path / "animator")
    monkeypatch.setenv("SELFTALK_PYTHON", program)
    return Path(program)


@pytest.fixture
def scene(head, tmp_path) -> bpy.types.Scene:
    """A head, chosen, and the strips ramp (frame 11) and reply (frame 150) of 96 frames."""
    scene = bpy.context.scene
    scene.selftalk.face = head
    strips.add_strip(scene, ramp(tmp_path / "ramp.wav"), 11)
    strips.add_strip(scene, ramp(tmp_path / "reply.wav"), 150)
    return scene


def strip(name: str):
    return strips.find_strip(bpy.context.scene, name)


def move(name: str, by: int) -> None:
    start = "content_start" if compat.NEW_STRIP_NAMES else "frame_start"
    setattr(strip(name), start, getattr(strip(name), start) + by)


def add_face(name: str) -> bpy.types.Object:
    added = bundled_head.add_head(bpy.context, (1.0, 0.0, 0.0))
    added.name = name
    return added


def seen(head, frame: int) -> float:
    """The second of the file that the jaw shows at a scene frame."""
    bpy.context.scene.frame_set(frame)
    return head.data.shape_keys.key_blocks["jawOpen"].value * SECONDS


def kinds() -> dict[str, str]:
    scene = bpy.context.scene
    return {
        each.name: dialogue.status(scene, each, scene, casting.face_of(scene, each, scene)).kind
        for each in strips.sound_strips(scene)
    }


# --- Who says what --------------------------------------------------------------------------


def test_strips_go_to_faces_by_choice_name_channel_and_else_the_chosen_face(scene, head) -> None:
    anna, bob = add_face("Anna"), add_face("Bob")

    def says(name: str) -> bpy.types.Object:
        return casting.face_of(scene, strip(name), scene)

    assert says("ramp") == says("reply") == head
    strip("reply").name = "bob_03"
    assert says("bob_03") == bob
    strip("ramp").channel = strip("bob_03").channel
    assert says("ramp") == bob
    bpy.ops.selftalk.assign_strip(strip="ramp", face="Anna")
    assert says("ramp") == anna
    bpy.ops.selftalk.assign_strip(strip="ramp", face="")
    assert says("ramp") == bob


def test_a_place_in_the_list_chooses_its_strip_if_there_is_one(scene, capfd) -> None:
    scene.selftalk.sound_strip = "ramp"
    scene.selftalk.listed_strip = 7
    assert scene.selftalk.sound_strip == "ramp" and not capfd.readouterr().err
    scene.selftalk.listed_strip = 1
    assert scene.selftalk.sound_strip == "reply"


# --- All at once ----------------------------------------------------------------------------


def test_animate_all_animates_each_strip_with_its_face(scene, head) -> None:
    anna = add_face("Anna")
    strip("reply").name = "anna 1"
    strip("anna 1").channel = 2
    assert kinds() == {"ramp": "NEW", "anna 1": "NEW"}
    assert bpy.ops.selftalk.animate_all() == {"FINISHED"}
    assert kinds() == {"ramp": "CURRENT", "anna 1": "CURRENT"}
    assert seen(head, 59) == pytest.approx(2.0, abs=1e-3) and seen(head, 198) < 1e-3
    assert seen(anna, 198) == pytest.approx(2.0, abs=1e-3) and seen(anna, 59) < 1e-3
    assert head.data.shape_keys.animation_data.action.name == "SelfTalk Head · ramp"


def test_two_strips_of_one_face_become_two_lines_that_move_with_the_edit(scene, head) -> None:
    bpy.ops.selftalk.animate_all()
    assert [line.name for line in head.selftalk.lines] == ["ramp", "reply"]
    assert seen(head, 59) == pytest.approx(2.0, abs=1e-3)
    assert seen(head, 198) == pytest.approx(2.0, abs=1e-3)


def test_only_what_needs_it_is_animated(scene, head, animator) -> None:
    bpy.ops.selftalk.animate_all()
    animator.unlink()
    move("ramp", 20)
    assert kinds() == {"ramp": "MOVED", "reply": "CURRENT"}
    report = finish(dialogue.animate_all(bpy.context))
    assert report.text == "1 placed again, 1 up to date"
    assert seen(head, 79) == pytest.approx(2.0, abs=1e-3)
    anew = finish(dialogue.animate_all(bpy.context, everything=True))
    assert list(anew.failed) == ["ramp", "reply"]  # these need the animator


def test_muted_strips_are_left_out_and_a_failing_one_does_not_stop_the_rest(
    scene, head, tmp_path
) -> None:
    strips.add_strip(scene, ramp(tmp_path / "gone.wav"), 300)
    strips.add_strip(scene, ramp(tmp_path / "quiet.wav"), 400)
    strips.add_strip(scene, ramp(tmp_path / "last.wav"), 500)
    (tmp_path / "gone.wav").unlink()
    strip("quiet").mute = True
    report = finish(dialogue.animate_all(bpy.context))
    assert report.animated == ["ramp", "reply", "last"] and report.muted == ["quiet"]
    assert "missing" in report.failed["gone"]
    assert report.text == "3 animated, 1 muted, 1 failed"
    assert bpy.ops.selftalk.animate_all() == {"FINISHED"}


def test_cancelled_whole_lines_stay_and_the_one_at_work_leaves_nothing(scene, head) -> None:
    steps = dialogue.animate_all(bpy.context)
    with contextlib.closing(steps):
        for progress in steps:
            if progress.done > 0.75:
                assert progress.text.startswith("reply")
                break
    assert [line.name for line in head.selftalk.lines] == ["ramp"]
    assert seen(head, 59) == pytest.approx(2.0, abs=1e-3) and seen(head, 198) < 1e-3
    assert len(bpy.data.actions) == 1


def test_interrupted_the_lines_that_are_done_are_one_undo_step(scene, head, monkeypatch) -> None:
    """Control C, or Esc in a window: the operator finishes, so that undo knows of it."""
    whole = animate.run

    def interrupted(plan, **more):
        if plan.strip == "reply":
            raise KeyboardInterrupt
        return whole(plan, **more)

    monkeypatch.setattr(animate, "run", interrupted)
    bpy.context.preferences.edit.use_global_undo = True
    bpy.ops.ed.undo_push(message="before")
    with pytest.raises(RuntimeError, match="Interrupted; the lines that were done stay"):
        bpy.ops.selftalk.animate_all("EXEC_DEFAULT", True)  # a script goes no further
    assert [line.name for line in head.selftalk.lines] == ["ramp"]
    bpy.ops.ed.undo()
    assert not len(bpy.data.objects["SelfTalk Head"].selftalk.lines)


def test_names_that_change_meanwhile_lose_no_line(scene, head) -> None:
    steps = dialogue.animate_all(bpy.context)
    while not next(steps).waiting:  # the animator is at work
        pass
    head.name, scene.name = "Anna", "Shot 10"
    assert finish(steps).animated == ["ramp", "reply"]
    assert [(line.name, line.scene) for line in head.selftalk.lines] == [
        ("ramp", "Shot 10"),
        ("reply", "Shot 10"),
    ]
    assert head.selftalk.result


def test_one_undo_step_takes_all_lines_back(scene, head) -> None:
    bpy.context.preferences.edit.use_global_undo = True
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.selftalk.animate_all("EXEC_DEFAULT", True)
    assert len(bpy.data.objects["SelfTalk Head"].selftalk.lines) == 2
    bpy.ops.ed.undo()
    assert not len(bpy.data.objects["SelfTalk Head"].selftalk.lines) and not bpy.data.actions


# --- How they stand -------------------------------------------------------------------------


def test_a_moved_strip_takes_its_line_along_without_the_animator(scene, head, animator) -> None:
    """Edited curves move with it, in the NLA the strip does."""
    bpy.ops.selftalk.animate_all()
    animator.unlink()
    keys = head.data.shape_keys
    place = next(p for p in lines.places_of(keys, head.selftalk.lines[0].id))
    place.curves.find('key_blocks["jawOpen"].value').keyframe_points[48].co.y = 0.9
    move("ramp", 30)
    move("reply", -40)
    assert bpy.ops.selftalk.place_lines() == {"FINISHED"}
    assert kinds() == {"ramp": "CURRENT", "reply": "CURRENT"}
    assert seen(head, 150) == pytest.approx(40 / 24, abs=0.2)
    assert seen(head, 41 + 48) == pytest.approx(0.9 * SECONDS, abs=1e-3)
    # They overlap now, in tracks of their own.
    assert seen(head, 115) > 4 / 24 + 74 / 24 - 0.1
    assert bpy.ops.selftalk.place_lines() == {"CANCELLED"}


def test_a_trimmed_strip_is_placed_anew_and_a_longer_one_is_out_of_date(scene, head) -> None:
    bpy.ops.selftalk.animate_all()
    trimmed = strip("ramp")
    trimmed.frame_offset_start, trimmed.frame_offset_end = 24, 12
    assert kinds()["ramp"] == "MOVED"
    bpy.ops.selftalk.place_lines()
    assert kinds()["ramp"] == "CURRENT"
    assert seen(head, 59) == pytest.approx(2.0, abs=1e-3)
    assert seen(head, 25) < 1e-3 < seen(head, 34)
    bpy.ops.selftalk.animate_all(everything=True)
    trimmed.frame_offset_start = 0
    assert kinds()["ramp"] == "OLD"


def test_edited_keys_are_not_lost_unasked(scene, head, tmp_path) -> None:
    """Neither by placing a trimmed strip nor by Animate All after its sound has changed."""
    bpy.ops.selftalk.animate_all()
    keys = head.data.shape_keys
    for line in head.selftalk.lines:
        (place,) = lines.places_of(keys, line.id)
        place.curves.find('key_blocks["jawOpen"].value').keyframe_points[48].co.y = 0.9
    strip("ramp").frame_offset_start = 24
    ramp(tmp_path / "reply.wav", 3.5)
    report = finish(dialogue.animate_all(bpy.context))
    assert sorted(report.failed) == ["ramp", "reply"]
    assert all("edited or reduced by hand" in reason for reason in report.failed.values())
    assert seen(head, 59) == pytest.approx(0.9 * SECONDS, abs=1e-3)
    bpy.ops.selftalk.animate_all(everything=True)
    assert seen(head, 59) == pytest.approx(2.0, abs=1e-3)


def test_a_sound_that_changed_is_out_of_date(scene, head, tmp_path) -> None:
    bpy.ops.selftalk.animate_all()
    ramp(tmp_path / "ramp.wav", 3.0)
    now = dialogue.status(scene, strip("ramp"), scene, head)
    assert now.kind == "OLD" and "file has changed" in now.text
    assert kinds()["reply"] == "CURRENT"


def test_another_frame_rate_needs_no_animating(scene, head, animator) -> None:
    bpy.ops.selftalk.animate_all()
    animator.unlink()
    scene.render.fps = 30
    assert set(kinds().values()) == {"MOVED"}
    bpy.ops.selftalk.place_lines()
    assert seen(head, 11 + 60) == pytest.approx(2.0, abs=1e-3)


def test_a_renamed_strip_keeps_its_line_and_a_removed_one_offers_removal(scene, head) -> None:
    bpy.ops.selftalk.animate_all()
    strip("ramp").name = "Opening"
    assert kinds() == {"Opening": "CURRENT", "reply": "CURRENT"}
    assert dialogue.lost_lines(scene, scene, head) == []
    strips.remove_strip(scene, strip("reply"))
    (lost,) = dialogue.lost_lines(scene, scene, head)
    assert lost.name == "reply" and seen(head, 198) > 1.9
    bpy.ops.selftalk.remove_line(face=head.name, line=lost.id)
    assert [line.name for line in head.selftalk.lines] == ["ramp"]
    assert seen(head, 198) < 1e-3 and seen(head, 59) == pytest.approx(2.0, abs=1e-3)


def test_a_strip_or_scene_that_was_renamed_is_said_by_the_same_face(scene, head) -> None:
    anna = add_face("Anna")
    strip("ramp").channel = 2
    bpy.ops.selftalk.assign_strip(strip="ramp", face="Anna")
    bpy.ops.selftalk.animate_all()
    strip("ramp").name = "Opening"
    assert casting.face_of(scene, strip("Opening"), scene) == anna
    strip("Opening").name = "ramp"
    bpy.ops.selftalk.assign_strip(strip="ramp", face="")
    scene.name = "Shot 12"
    assert casting.face_of(scene, strip("ramp"), scene) == anna
    assert kinds() == {"ramp": "CURRENT", "reply": "CURRENT"}


def test_a_pause_in_the_volume_rests_the_mouth(scene, head) -> None:
    sound = strip("ramp")
    for frame, volume in ((1, 1.0), (49, 1.0), (50, 0.0), (80, 0.0), (81, 1.0)):
        sound.volume = volume
        sound.keyframe_insert("volume", frame=frame)
    strip("reply").mute = True
    bpy.ops.selftalk.animate_all()
    assert seen(head, 65) < 1e-3
    assert seen(head, 40) == pytest.approx(29 / 24, abs=1e-2)
    assert seen(head, 95) == pytest.approx(84 / 24, abs=1e-2)


def test_a_line_whose_strip_is_heard_otherwise_in_the_same_frames_is_placed(scene, head) -> None:
    """A pause in the volume, or other sound in the same strip; where cancelled nothing changes."""
    bpy.ops.selftalk.animate_all()
    sound = strip("ramp")
    for frame, volume in ((1, 1.0), (49, 1.0), (50, 0.0), (80, 0.0), (81, 1.0)):
        sound.volume = volume
        sound.keyframe_insert("volume", frame=frame)
    assert kinds()["ramp"] == "MOVED"
    before = [seen(head, frame) for frame in (40, 65, 95)]
    there, work = len(bpy.data.actions), dialogue.place_all(bpy.context)
    while len(bpy.data.actions) == there:  # until a new one is filled
        next(work)
    work.close()
    assert [seen(head, frame) for frame in (40, 65, 95)] == before
    assert kinds()["ramp"] == "MOVED" and len(bpy.data.actions) == there
    assert bpy.ops.selftalk.place_lines() == {"FINISHED"}
    assert seen(head, 65) < 1e-3 and kinds() == {"ramp": "CURRENT", "reply": "CURRENT"}


def test_packed_and_nested_strips_are_animated_too(scene, head, tmp_path) -> None:
    meta = compat.editor_strips(scene.sequence_editor).new_meta("Meta", 9, 1)
    strip("reply").move_to_meta(meta)
    if compat.NEW_STRIP_NAMES:
        meta.right_handle = 220
    else:
        meta.frame_final_end = 220
    strip("ramp").sound.pack()
    (tmp_path / "ramp.wav").unlink()
    bpy.ops.selftalk.animate_all()
    assert kinds() == {"ramp": "CURRENT", "reply": "CURRENT"}
    assert seen(head, 59) == pytest.approx(2.0, abs=1e-3)
    assert seen(head, 198) == pytest.approx(2.0, abs=1e-3)
    assert lines.find(head, head.selftalk.lines[1].id).frames == 70  # the meta cuts it


def test_a_strip_cut_in_two_speaks_on_over_the_cut(scene, head) -> None:
    """The halves are lines of their own, and together what the whole was."""
    strip("reply").mute = True
    bpy.ops.selftalk.animate_all()
    whole = [seen(head, frame) for frame in range(40, 80)]
    half = strip("ramp")
    half.frame_offset_end = 96 - 49
    other = compat.editor_strips(scene.sequence_editor).new_sound(
        "ramp.001", half.sound.filepath, 2, 11
    )
    other.frame_offset_start = 49
    bpy.ops.selftalk.animate_all()
    assert kinds() == {"ramp": "CURRENT", "ramp.001": "CURRENT", "reply": "MUTED"}
    # The ease holds the cut's frame for 0.1 s; twice the jaw would be off by 2.
    assert [seen(head, frame) for frame in range(40, 80)] == pytest.approx(whole, abs=0.1)


def test_a_project_that_was_copied_or_packed_is_up_to_date(scene, head, tmp_path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    for name in ("ramp", "reply"):
        shutil.move(tmp_path / f"{name}.wav", here)
        strip(name).sound.filepath = str(here / f"{name}.wav")
    bpy.ops.selftalk.animate_all()
    bpy.ops.wm.save_as_mainfile(filepath=str(here / "shot.blend"))
    bpy.ops.file.make_paths_relative()
    bpy.ops.wm.save_mainfile()
    shutil.copytree(here, there, copy_function=shutil.copyfile)
    os.utime(there / "ramp.wav", (1, 1))
    bpy.ops.wm.open_mainfile(filepath=str(there / "shot.blend"))
    assert kinds() == {"ramp": "CURRENT", "reply": "CURRENT"}
    strip("ramp").sound.pack()
    assert kinds() == {"ramp": "CURRENT", "reply": "CURRENT"}


def test_a_scene_that_was_copied_keeps_its_lines(scene, head) -> None:
    """Animated there once more nothing is said twice, and the original stays."""
    bpy.ops.selftalk.animate_all()
    with bpy.context.temp_override(scene=scene):
        bpy.ops.scene.new(type="FULL_COPY")
    copy = next(other for other in bpy.data.scenes if other != scene)
    bpy.context.window_manager.windows[0].scene = copy
    face_there = copy.selftalk.face
    assert face_there != head
    for sound in strips.sound_strips(copy):
        assert dialogue.status(copy, sound, copy, face_there).kind == "CURRENT"
    with bpy.context.temp_override(scene=copy):
        bpy.ops.selftalk.animate_all(everything=True)
    assert len(face_there.selftalk.lines) == 2
    copy.frame_set(59)
    jaw = face_there.data.shape_keys.key_blocks["jawOpen"]
    assert jaw.value * SECONDS == pytest.approx(2.0, abs=1e-3)
    assert dialogue.lost_lines(copy, copy, face_there) == []


def test_a_strip_at_volume_0_is_not_gone(scene, head) -> None:
    bpy.ops.selftalk.animate_all()
    strip("ramp").volume = 0.0
    assert kinds()["ramp"] == "UNFIT" and dialogue.lost_lines(scene, scene, head) == []


def test_a_line_that_was_deleted_in_the_nla_comes_back(scene, head) -> None:
    bpy.ops.selftalk.animate_all()
    for track in head.data.shape_keys.animation_data.nla_tracks:
        for placed in [placed for placed in track.strips if "reply" in placed.name]:
            track.strips.remove(placed)
    now = dialogue.status(scene, strip("reply"), scene, head)
    assert (now.kind, now.text) == ("OLD", "Its keys were taken off the face: press Animate All")
    assert dialogue.status(scene, strip("ramp"), scene, head).kind == "CURRENT"
    move("reply", 5)  # there are no keys to be moved
    assert finish(dialogue.animate_all(bpy.context)).animated == ["reply"]
    assert seen(head, 203) == pytest.approx(2.0, abs=1e-3)
    head.selftalk.output = "MESH_CACHE"
    head.selftalk.cache_folder = bpy.app.tempdir
    bpy.ops.selftalk.animate_all(everything=True)
    assert dialogue.status(scene, strip("reply"), scene, head).kind == "CURRENT"


def test_a_line_that_was_moved_in_the_nla_is_where_the_motion_is(scene, head) -> None:
    """So that an export has it, and no more."""
    bpy.ops.selftalk.animate_all()
    for track in head.data.shape_keys.animation_data.nla_tracks:
        for placed in track.strips:
            if "reply" in placed.name:
                placed.frame_end += 300
                placed.frame_start += 300
    first, last = lines.written_frames(head)
    assert 5 <= first <= 11 and 545 <= last <= 552
    for track in head.data.shape_keys.animation_data.nla_tracks:
        for placed in track.strips:
            if "ramp" in placed.name:
                placed.frame_end += 300
                placed.frame_start += 300
    assert 305 <= lines.written_frames(head)[0] <= 311
    assert seen(head, 498) == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("place", ["full", "gone"])
def test_a_packed_sound_that_cannot_be_written_out_is_said_in_words(
    scene, head, tmp_path, monkeypatch, full_disk, place
) -> None:
    strip("ramp").sound.pack()
    folder = full_disk if place == "full" else tmp_path / "gone"
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    scene.selftalk.sound_strip = "ramp"
    with pytest.raises(RuntimeError, match="cannot be written out for the animator.*Free some"):
        bpy.ops.selftalk.animate_from_audio()
    assert not len(head.selftalk.lines) and not any(full_disk.iterdir())


# --- Scenes ---------------------------------------------------------------------------------


def test_fit_scene_sets_range_and_sync_when_asked(scene, head) -> None:
    bpy.ops.selftalk.animate_all()
    assert (scene.frame_start, scene.frame_end, scene.sync_mode) == (1, 250, "NONE")
    bpy.ops.selftalk.fit_scene()
    assert (scene.frame_start, scene.sync_mode) == (11, "AUDIO_SYNC")
    assert scene.frame_end == head.selftalk.lines[1].key_range[1] >= 245


@pytest.mark.skipif(not compat.SEQUENCER_SCENES, reason="sequencer scenes are new in Blender 5.0")
@pytest.mark.parametrize("shown", [False, True])
def test_strips_of_a_sequencer_scene_move_the_face_in_its_own(head, tmp_path, shown) -> None:
    """At its own rate by the clock; where a scene strip shows it, frame by frame."""
    scene = bpy.context.scene
    scene.selftalk.face = head
    scene.render.fps, scene.frame_start = 30, 1
    edit = bpy.data.scenes.new("Edit")
    edit.render.fps, edit.frame_start = 24, 1
    bpy.context.workspace.sequencer_scene = edit
    strips.add_strip(edit, ramp(tmp_path / "ramp.wav"), 49)
    if shown:
        edit.sequence_editor.strips.new_scene("Shot", scene, 5, 41)
    assert bpy.ops.selftalk.animate_all() == {"FINISHED"}
    (line,) = head.selftalk.lines
    assert (line.scene, line.strip) == ("Edit", "ramp")
    # Frame 73 of Edit is 1 s into the file.
    frame, rate = (1 + 73 - 41, 24) if shown else (1 + 72 * 30 // 24, 30)
    assert seen(head, frame) == pytest.approx(1.0, abs=1e-3)
    assert seen(head, frame + rate) == pytest.approx(2.0, abs=1e-3)
    edit_strip = strips.find_strip(edit, "ramp")
    assert dialogue.status(edit, edit_strip, scene, head).kind == "CURRENT"


def test_a_face_of_a_checkpoint_of_its_own_has_one_line_and_says_so(scene, head) -> None:
    plan = operators.plan_of(bpy.context, head, strip="ramp")
    own = animate.dataclasses.replace(plan, template=Path("x.ply"))
    report = dialogue.Report()
    anna, bob = head.session_uid, add_face("Bob").session_uid
    todo = [("ramp", anna, own), ("reply", anna, own), ("other", bob, own)]
    dialogue._refuse_second_lines(todo, report)
    assert [name for name, *_ in todo] == ["ramp", "other"]
    assert "one line at a time: ramp" in report.failed["reply"]


def test_placing_what_is_not_animated_says_so(scene, head) -> None:
    with pytest.raises(SelfTalkError, match="ramp is not animated yet"):
        list(dialogue.place(scene.session_uid, "ramp", scene.session_uid, head.session_uid))


@pytest.mark.parametrize("rate", [(24, 1.001), (30, 1.001)])
def test_ten_minutes_of_strip_keep_in_step(scene, head, tmp_path, monkeypatch, rate) -> None:
    """From the strip to the keys; the jaw is a saw of 10 s, the strip 600 s long."""
    scene.render.fps, scene.render.fps_base = rate
    motion = opening(600.0)
    jaw = motion.template.shape_names.index("jawOpen")
    motion.weights[:, jaw] = np.abs(np.arange(30000) / 50 % 10 - 5) / 5
    monkeypatch.setenv(
        "SELFTALK_PYTHON", stand_in(tmp_path, Motion(motion.template, 50.0, motion.weights))
    )
    sound = strips.add_strip(scene, ramp(tmp_path / "long.wav", 600.0, 8000), 7)
    scene.selftalk.sound_strip = sound.name
    bpy.ops.selftalk.animate_from_audio()
    fps = strips.frame_rate(scene)
    for frame in (100, 7201, 9001, 14001, 14300):
        second = float(strips.source_times(scene, sound, np.array([frame]))[0])
        wanted = abs(second % 10 - 5) / 5
        # A frame changes the jaw by 1 / (5 fps): half of it is half a frame.
        assert abs(seen(head, frame) / SECONDS - wanted) < 0.5 / (5 * fps), frame


# --- While the panel is drawn ---------------------------------------------------------------


def test_a_panel_of_many_strips_of_one_sound_looks_at_each_strip_once(scene, monkeypatch) -> None:
    head = scene.selftalk.face
    clip = strips.clip_of(strip("ramp"))
    for number in range(30):
        strips.add_strip(scene, clip, 300 + 100 * number)
    there = strips.sound_strips(scene)
    for each in there:
        line = head.selftalk.lines.add()
        line.id = line.strip = each.name
        line.scene, line.sound = scene.name, strips.heard(scene, each, scene).sound
    walks, listed = [], strips.sound_strips
    monkeypatch.setattr(strips, "sound_strips", lambda of: walks.append(of) or listed(of))
    assert dialogue.lost_lines(scene, scene, head) == []
    assert set(casting.cast(scene, scene).values()) == {head}
    assert len(walks) <= 4
    for each in there:
        dialogue.status(scene, each, scene, head)
    assert len(walks) <= 4


def test_a_mesh_cache_is_written_once_for_all_lines(scene, head, tmp_path, monkeypatch) -> None:
    """And cancelled before, it is as it was."""
    written, write = [], lines.write_cache
    monkeypatch.setattr(
        lines,
        "write_cache",
        lambda face, new, path: written.append(len(new)) or write(face, new, path),
    )
    head.selftalk.output, head.selftalk.cache_folder = "MESH_CACHE", str(tmp_path / "cache")
    work = dialogue.animate_all(bpy.context)
    while not next(work).text.startswith("reply"):
        pass
    work.close()
    assert not written and not len(head.selftalk.lines) and not (tmp_path / "cache").exists()
    bpy.ops.selftalk.animate_all()
    assert written == [2]
    assert sorted(line.name for line in head.selftalk.lines) == ["ramp", "reply"]
    move("ramp", 3), move("reply", 5)
    bpy.ops.selftalk.place_lines()
    assert written == [2, 2]
    assert kinds() == {"ramp": "CURRENT", "reply": "CURRENT"}


def test_a_script_is_refused_in_edit_mode_where_a_job_behind_the_window_waits(
    scene, head, tmp_path
) -> None:
    head.selftalk.output, head.selftalk.cache_folder = "MESH_CACHE", str(tmp_path / "cache")
    bpy.ops.selftalk.animate_all()
    move("reply", 5)
    bpy.context.view_layer.objects.active = head
    bpy.ops.object.mode_set(mode="EDIT")
    for step in dialogue.place_all(bpy.context):
        assert not step.waiting
    bpy.ops.object.mode_set(mode="OBJECT")
    assert kinds() == {"ramp": "CURRENT", "reply": "MOVED"}


def test_what_is_removed_while_jobs_wait_is_a_sentence_and_the_rest_goes_on(
    scene, head, tmp_path
) -> None:
    anna = add_face("Anna")
    strips.add_strip(scene, ramp(tmp_path / "anna.wav"), 300)
    strip("anna").channel = 9
    head.selftalk.output, head.selftalk.cache_folder = "MESH_CACHE", str(tmp_path / "cache")
    work = patiently(dialogue.animate_all(bpy.context))
    while not next(work).text.startswith("reply"):
        pass
    bpy.data.objects.remove(head)
    report = finish(work)
    assert report.animated == ["anna"] and len(anna.selftalk.lines) == 1
    assert sorted(report.failed) == ["ramp", "reply"]
    assert all("removed meanwhile" in reason for reason in report.failed.values())
    work = dialogue.place_all(bpy.context)
    bpy.context.window.scene = bpy.data.scenes.new("Shot 2")
    bpy.data.scenes.remove(scene)
    with pytest.raises(SelfTalkError, match="scene was removed meanwhile"):
        next(work)
