"""What a sound strip plays at a frame, measured against Blender's own mixdown."""

from __future__ import annotations

import wave
from pathlib import Path

import bpy
import numpy as np
import pytest
from animators import SECONDS, ramp

from selftalk_blender.blender import compat, strip_sound, strips
from selftalk_blender.core.errors import SelfTalkError

pytestmark = pytest.mark.skipif(
    not compat.HAS_SOUND, reason="this Blender is built without sound: no strips can be made"
)


@pytest.fixture
def scene(tmp_path: Path) -> bpy.types.Scene:
    """A scene with the strip `ramp` at frame 11."""
    scene = bpy.context.scene
    scene.frame_end = 200
    strips.add_strip(scene, ramp(tmp_path / "ramp.wav"), 11)
    return scene


def heard(scene: bpy.types.Scene, folder: Path, frames: np.ndarray) -> np.ndarray:
    """Seconds in the file that Blender itself plays at scene frames; NaN for silence."""
    path = folder / "mix.wav"
    bpy.ops.sound.mixdown(
        filepath=str(path), container="WAV", codec="PCM", format="S16", channels="MONO",
        mixrate=48000,
    )  # fmt: skip
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 2.0**15
    at = np.round((frames - scene.frame_start) / strips.frame_rate(scene) * 48000).astype(int)
    # The mean over 1 ms: a resampler rings at the strip's ends.
    value = np.array([samples[max(i - 24, 0) : i + 24].mean() for i in at])
    return np.where(value < 0.03, np.nan, (value - 0.05) / 0.8 * SECONDS)


def trimmed(strip) -> None:
    strip.frame_offset_start, strip.frame_offset_end = 13, 20


def hard_trimmed(strip) -> None:
    # 10 or more: mixdowns of 4.5 and 5.0 are a frame off where the content, untrimmed, would
    # begin after the scene does.
    strip.animation_offset_start = 15


def delayed(strip) -> None:
    strip.sound_offset = 0.25


def moved(strip) -> None:
    strip.frame_start = -20


def everything(strip) -> None:
    for change in (trimmed, hard_trimmed, delayed):
        change(strip)
    strip.frame_start = 30


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("rate", [(24, 1.0), (30, 1.001), (24, 1.001), (60, 1.0)])
@pytest.mark.parametrize("change", [None, trimmed, hard_trimmed, delayed, moved, everything])
def test_times_are_those_that_blender_plays(scene, tmp_path, rate, change) -> None:
    scene.render.fps, scene.render.fps_base = rate
    (strip,) = strips.sound_strips(scene)
    if change is not None:
        change(strip)
    first, last = strips.strip_range(strip)
    frames = np.arange(max(first, 1) + 2, min(last, scene.frame_end) - 1, 5)
    times = strips.source_times(scene, strip, frames)
    inside = (times > 0.05) & (times < SECONDS - 0.05)
    measured = heard(scene, tmp_path, frames[inside])
    assert inside.sum() >= 8
    assert np.abs(measured - times[inside]).max() < 0.003


def test_sound_strips_are_listed_in_the_order_of_time(scene, tmp_path) -> None:
    strips.add_strip(scene, ramp(tmp_path / "early.wav"), 1)
    compat.editor_strips(scene.sequence_editor).new_meta("Meta", 9, 1)
    assert [strip.name for strip in strips.sound_strips(scene)] == ["early", "ramp"]


def test_a_strip_is_found_or_the_reason_is_said(scene, tmp_path) -> None:
    assert strips.find_strip(scene, "ramp").name == "ramp"
    assert strips.clip_of(strips.find_strip(scene, "ramp")) == tmp_path / "ramp.wav"
    with pytest.raises(SelfTalkError, match="No sound strip is chosen. Choose one"):
        strips.find_strip(scene, "")
    with pytest.raises(SelfTalkError, match="no sound strip gone in scene Scene"):
        strips.find_strip(scene, "gone")
    compat.editor_strips(scene.sequence_editor).new_meta("Meta", 9, 1)
    with pytest.raises(SelfTalkError, match="Meta is no sound strip"):
        strips.find_strip(scene, "Meta")


def test_a_missing_sound_is_refused_with_the_way_out(scene, tmp_path) -> None:
    (tmp_path / "ramp.wav").unlink()
    with pytest.raises(SelfTalkError, match=r"missing: .*ramp\.wav.*Find Missing Files"):
        strips.heard(scene, strips.find_strip(scene, "ramp"), scene)


def test_a_packed_sound_is_written_out_for_the_animator_and_removed(scene, tmp_path) -> None:
    strip = strips.find_strip(scene, "ramp")
    strip.sound.pack()
    data = (tmp_path / "ramp.wav").read_bytes()
    (tmp_path / "ramp.wav").unlink()
    heard = strips.heard(scene, strip, scene)
    with strip_sound.temporary_folder() as folder:
        file = written(strip_sound.write(folder, heard.clip, heard.packed, None))
        assert file.read_bytes() == data and file.suffix == ".wav"
    assert not file.parent.exists()


def test_a_folder_that_goes_leaves_that_of_another_job() -> None:
    with strip_sound.temporary_folder() as folder:
        with strip_sound.temporary_folder() as other:
            assert other != folder
        assert folder.is_dir() and not other.exists()
    assert not folder.exists()


def test_a_relative_sound_is_found_beside_the_blend(scene, tmp_path) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    strip = strips.find_strip(bpy.context.scene, "ramp")
    strip.sound.filepath = "//ramp.wav"
    assert strips.heard(bpy.context.scene, strip, bpy.context.scene).clip == tmp_path / "ramp.wav"


def written(steps) -> Path:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def handles(strip, first: int, end: int) -> None:
    if compat.NEW_STRIP_NAMES:
        strip.left_handle, strip.right_handle = first, end
    else:
        strip.frame_final_start, strip.frame_final_end = first, end


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_strips_inside_meta_strips_are_heard_as_blender_plays_them(scene, tmp_path) -> None:
    """Two metas deep, each trimmed and moved, and the strip itself, too."""
    (strip,) = strips.sound_strips(scene)
    editor = compat.editor_strips(scene.sequence_editor)
    inner, outer = editor.new_meta("Inner", 9, 1), editor.new_meta("Outer", 10, 1)
    strip.move_to_meta(inner)
    handles(inner, 5, 160)
    inner.move_to_meta(outer)
    handles(outer, 5, 160)
    for by, meta in ((7, inner), (3, outer)):
        start = "content_start" if compat.NEW_STRIP_NAMES else "frame_start"
        setattr(meta, start, getattr(meta, start) + by)
    trimmed(strip)
    handles(inner, 37, 120)
    handles(outer, 30, 95)
    assert strips.sound_strips(scene) == [strip]
    assert strips.strip_range(strip) == (37, 94)
    frames = np.arange(39, 93, 5)
    times = strips.source_times(scene, strip, frames)
    assert np.abs(heard(scene, tmp_path, frames) - times).max() < 0.003
    assert np.isnan(heard(scene, tmp_path, np.array([33, 97, 100]))).all()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_muted_strips_metas_and_channels_are_known(scene) -> None:
    (strip,) = strips.sound_strips(scene)
    meta = compat.editor_strips(scene.sequence_editor).new_meta("Meta", 9, 1)
    strip.move_to_meta(meta)
    assert strips.muted(scene, strip) == ""
    strip.mute = True
    assert strips.muted(scene, strip) == "Muted"
    strip.mute, meta.mute = False, True
    assert strips.muted(scene, strip) == "Its meta strip Meta is muted"
    meta.mute, meta.channels[strip.channel].mute = False, True
    assert "channel" in strips.muted(scene, strip)


def test_a_strip_at_volume_0_is_silent_and_a_part_at_0_is_a_pause(scene) -> None:
    (strip,) = strips.sound_strips(scene)
    strip.volume = 0.2
    assert strips.heard(scene, strip, scene).pauses == ()
    strip.volume = 0.0
    with pytest.raises(SelfTalkError, match="silent: its volume is 0"):
        strips.heard(scene, strip, scene)
    for frame, volume in ((1, 1.0), (40, 1.0), (41, 0.0), (50, 0.0), (51, 1.0)):
        strip.volume = volume
        strip.keyframe_insert("volume", frame=frame)
    assert strips.heard(scene, strip, scene).pauses == ((30, 40),)


RETIMED = pytest.mark.skipif(
    bpy.app.version < (5, 1, 0), reason="adding retiming keys crashes Blender 4.5 and 5.0"
)


@RETIMED
def test_a_retimed_strip_is_mixed_down(scene, tmp_path) -> None:
    """At half its speed; what else is heard stays out, and all is as before afterwards."""
    strip = strips.find_strip(scene, "ramp")
    strips.add_strip(scene, ramp(tmp_path / "other.wav"), 30)
    plain = strips.heard(scene, strip, scene)
    strip.retiming_keys.add(timeline_frame=30)
    strip.retiming_keys[1].remove()
    strip.retiming_keys[-1].timeline_frame = 11 + 2 * 96
    now = strips.heard(scene, strip, scene)
    assert now.mixed and now.sound != plain.sound and (now.first_frame, now.frames) == (11, 192)
    before = scene.frame_start, scene.frame_end
    with strip_sound.temporary_folder() as folder:
        file = written(strip_sound.write(folder, now.clip, "", ("Scene", "ramp")))
        with wave.open(str(file)) as wav:
            samples = np.frombuffer(wav.readframes(wav.getnframes()), "<i2") / 2.0**15
    assert len(samples) == 192 * 2000
    seconds = (samples[24000::48000] - 0.05) / 0.8 * SECONDS
    assert np.abs(seconds - (np.arange(8) + 0.5) / 2).max() < 0.01
    assert (scene.frame_start, scene.frame_end) == before
    assert not any(strip.mute for strip in strips.sound_strips(scene))


def test_strips_that_hold_nothing_take_their_channels_too(scene, tmp_path) -> None:
    """Colours, texts and adjustments have no content that could be cut off."""
    strips_there = compat.editor_strips(scene.sequence_editor)
    last = {"length": 100} if bpy.app.version >= (5, 0, 0) else {"frame_end": 101}
    for channel, kind in enumerate(("COLOR", "TEXT", "ADJUSTMENT"), 2):
        strips_there.new_effect(kind, kind, channel, 1, **last)
        assert strips.strip_range(strips_there[kind]) == (1, 100)
    assert strips.add_strip(scene, tmp_path / "ramp.wav", 20).channel == 5


def test_a_new_strip_takes_a_free_channel(scene, tmp_path) -> None:
    clip = tmp_path / "ramp.wav"
    beside = strips.add_strip(scene, clip, 50)
    assert beside.channel == 2 and strips.strip_range(beside)[0] == 50
    scene.sequence_editor.channels[3].lock = True
    assert strips.add_strip(scene, clip, 1).channel == 4
    _, last = strips.strip_range(strips.find_strip(scene, "ramp"))
    assert strips.add_strip(scene, clip, last + 1).channel == 1


def test_a_strip_taken_back_leaves_nothing(scene, tmp_path) -> None:
    sounds = [sound.name for sound in bpy.data.sounds]
    strips.remove_strip(scene, strips.add_strip(scene, tmp_path / "ramp.wav", 300))
    assert [strip.name for strip in strips.sound_strips(scene)] == ["ramp"]
    assert [sound.name for sound in bpy.data.sounds] == sounds


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_strip_of_a_file_is_known_again(scene, tmp_path) -> None:
    clip = tmp_path / "ramp.wav"
    strip = strips.find_strip(scene, "ramp")
    assert strips.strip_of_file(scene, clip, 11) == strip
    assert strips.strip_of_file(scene, clip, 12) is None
    assert strips.strip_of_file(scene, tmp_path / "other.wav", 11) is None
    strip.frame_offset_start = 3
    assert strips.strip_of_file(scene, clip, 11) is None
