"""What a sound strip plays at a frame, measured against Blender's own mixdown."""

from __future__ import annotations

import wave
from pathlib import Path

import bpy
import numpy as np
import pytest
from animators import SECONDS, ramp

from selftalk_blender.blender import compat, strips
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
    with pytest.raises(SelfTalkError, match="Meta is a meta strip. Ungroup"):
        strips.find_strip(scene, "Meta")


def test_sounds_that_cannot_be_read_are_refused(scene, tmp_path) -> None:
    strip = strips.find_strip(scene, "ramp")
    strip.sound.pack()
    with pytest.raises(SelfTalkError, match="packed.*Unpack"):
        strips.find_strip(scene, "ramp")
    strip.sound.unpack(method="USE_ORIGINAL")
    strips.find_strip(scene, "ramp")
    (tmp_path / "ramp.wav").unlink()
    with pytest.raises(SelfTalkError, match=r"missing: .*ramp\.wav"):
        strips.find_strip(scene, "ramp")


@pytest.mark.skipif(
    bpy.app.version < (5, 1, 0), reason="adding retiming keys crashes Blender 4.5 and 5.0"
)
def test_retimed_strips_are_refused(scene) -> None:
    strips.find_strip(scene, "ramp").retiming_keys.add(timeline_frame=30)
    with pytest.raises(SelfTalkError, match="retimed. Mix its sound down"):
        strips.find_strip(scene, "ramp")


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
