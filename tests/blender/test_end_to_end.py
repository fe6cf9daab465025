"""The whole way with nothing in anyone's place: the sample clip, the bundled animator, Blender."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import bpy
import numpy as np
import pytest
from scenes import play

import selftalk_blender
from selftalk_blender.blender import compat, lines, strips
from selftalk_blender.core import Motion
from selftalk_blender.core.template import ASSETS, bundled_template
from selftalk_blender.worker import client
from selftalk_blender.worker.client import AnimateJob
from selftalk_blender.worker.log import keep_log_in

CLIP = ASSETS / "sample.ogg"
PYTHON = os.environ.get("SELFTALK_PYTHON") or sys.executable


@pytest.fixture(autouse=True, scope="module")
def enabled() -> Iterator[None]:
    needs = [PYTHON, "-c", "import numpy, soundfile"]
    if subprocess.run(needs, check=False, capture_output=True).returncode:
        pytest.skip("no Python that reads OGG: name one in SELFTALK_PYTHON")
    selftalk_blender.register()
    yield
    selftalk_blender.unregister()


@pytest.fixture(autouse=True, scope="module")
def own_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One process for all tests of this file: PyTorch takes seconds to load."""
    keep_log_in(tmp_path_factory.mktemp("log"))
    yield
    client.stop_workers()


@pytest.fixture(scope="module")
def spoken() -> Motion:
    """What the animator says of the clip, asked for without Blender's help."""
    job = AnimateJob(CLIP)
    job.start()
    while not job.finished:
        job.poll()
        time.sleep(0.05)
    return job.result()


def gaps(face: bpy.types.Object, frames: np.ndarray) -> np.ndarray:
    """Millimetres between the inner lips, as Blender shows the face."""
    marks = bundled_template().landmarks
    upper, lower = marks["inner_upper_lip"], marks["inner_lower_lip"]
    shown = (play(face, int(frame)) for frame in frames)
    return np.array([1000 * (face[upper, 2] - face[lower, 2]) for face in shown])


def test_the_sample_clip_is_spoken(spoken: Motion) -> None:
    """Blender shows at each frame what the animator says of that second of the file."""
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = 30, 1.001
    bpy.ops.selftalk.add_face()
    settings = scene.selftalk
    settings.sound_file, settings.start_frame = str(CLIP), 21
    assert bpy.ops.selftalk.animate_from_audio() == {"FINISHED"}
    frames = np.arange(21, 21 + 158, 3)
    seconds = (frames - 21) / strips.frame_rate(scene)
    shown = gaps(settings.face, frames)
    wanted = spoken.at(seconds, spoken.fps).weights
    assert wanted is not None
    assert np.abs(shown - spoken.template.gap_mm(wanted)).max() < 0.02

    # And it fits what is heard: m is closed where "ah" and "eye" are open.
    phones = json.loads(CLIP.with_suffix(".json").read_text())["phones"]

    def around(*names: str) -> list[float]:
        spans = [(start - 0.04, stop + 0.04) for name, start, stop in phones if name in names]
        chosen = [shown[(seconds >= start) & (seconds <= stop)] for start, stop in spans]
        return [float(np.mean(gap)) for gap in chosen if len(gap)]

    assert np.median(around("M")) < 0.6 * np.median(around("AA", "AO", "AW", "AY"))

    first, last = lines.written_frames(settings.face)
    assert 14 <= first <= 21 and abs(last - (21 + 5.29 * 29.97)) < 10
    if compat.HAS_SOUND:
        (strip,) = strips.sound_strips(scene)
        assert strips.clip_of(strip) == CLIP and strips.strip_range(strip)[0] == 21


@pytest.mark.skipif(not compat.HAS_SOUND, reason="this Blender is built without sound")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_trimmed_strip_moves_as_the_whole_clip_does(spoken: Motion) -> None:
    """The animator hears around the trims: the lips differ little from those of the whole."""
    scene = bpy.context.scene
    bpy.ops.selftalk.add_face()
    strip = strips.add_strip(scene, CLIP, 1)
    strip.frame_offset_start, strip.frame_offset_end = 39, 25
    scene.selftalk.sound_strip = strip.name
    bpy.ops.selftalk.animate_from_audio()
    assert lines.written_frames(scene.selftalk.face)[0] >= 40 - 6
    frames = np.arange(44, 100, 4)  # from 40 on it eases for a tenth of a second
    wanted = spoken.at((frames - 1) / 24, 24.0).weights
    assert wanted is not None
    trimmed = gaps(scene.selftalk.face, frames)
    assert np.sqrt(np.mean((trimmed - spoken.template.gap_mm(wanted)) ** 2)) < 0.3
