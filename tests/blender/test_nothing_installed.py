"""Without PyTorch, and with nothing installed at all: the same motion in every Blender."""

from __future__ import annotations

import os
import subprocess
import wave
from pathlib import Path

import bpy
import numpy as np
import pytest
from scenes import patiently, play

from selftalk_blender.blender import compat, hearing
from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.core.steps import at_last
from selftalk_blender.core.template import ASSETS

TORCH = os.environ.get("SELFTALK_PYTHON", "")
TEMPLATE = bundled_template()


def write(path: Path, samples: np.ndarray, rate: int) -> Path:
    """(n, C) floats as WAV of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """(n,) at 16 kHz: something like speech, without any library: vowels and pauses."""
    rng = np.random.default_rng(0)
    time = np.arange(16000 * 4) / 16000
    voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 30))
    loud = np.clip(np.sin(2 * np.pi * 2.3 * time), 0, 1) * (time % 2 < 1.5)
    return 0.05 * voice * loud + 1e-3 * rng.standard_normal(len(time))


def clips(folder: Path, spoken: np.ndarray) -> dict[str, Path]:
    rng = np.random.default_rng(1)
    noisy = spoken + 0.02 * rng.standard_normal(len(spoken))
    several = np.tile(spoken, 4)  # of 10 s each, half over half
    stereo = np.interp(np.arange(4 * 44100) / 44100, np.arange(len(spoken)) / 16000, spoken)
    return {
        "speech": write(folder / "speech.wav", spoken[:, None], 16000),
        "noisy": write(folder / "noisy.wav", noisy[:, None], 16000),
        "several windows": write(folder / "several.wav", several[:, None], 16000),
        "stereo": write(folder / "stereo.wav", np.stack([stereo, 0.3 * stereo], 1), 44100),
    }


@pytest.fixture(scope="module")
def with_torch() -> str:
    """A Python with PyTorch."""
    has = "import sys, importlib.util as u; sys.exit(u.find_spec('torch') is None)"
    if not TORCH or subprocess.run([TORCH, "-c", has], check=False).returncode:
        pytest.skip("no Python with torch: name one in SELFTALK_PYTHON")
    return TORCH


def made(clip: Path, python: str) -> Motion:
    said = at_last(patiently(hearing.listen(clip, python=python, device="cpu")))
    assert said.notices == []
    return said.motion


def test_both_lanes_move_the_lips_alike(
    tmp_path: Path, numpy_alone: Path, with_torch: str, spoken: np.ndarray
) -> None:
    """This Blender's own Python and numpy beside a Python with PyTorch: within 0.01 mm.

    Of the sample clip, too, which is an OGG: any sound that Blender plays needs nothing else.
    """
    lips = TEMPLATE.shape_deltas[:, TEMPLATE.regions["lips"]] * 1000
    files = clips(tmp_path, spoken)
    if compat.HAS_SOUND:
        files["sample"] = ASSETS / "sample.ogg"
    ours = {name: made(clip, str(numpy_alone)) for name, clip in files.items()}
    if compat.HAS_SOUND:
        assert ours["sample"].duration == pytest.approx(5.35, abs=0.03)
    for name, clip in files.items():
        theirs = made(clip, with_torch)
        assert len(ours[name]) == len(theirs)
        moved = np.tensordot(theirs.weights - theirs.weights[:1], lips, 1)
        assert np.linalg.norm(moved, axis=-1).max() > 0.5, "nothing moves"
        apart = np.tensordot(ours[name].weights - theirs.weights, lips, 1)
        assert np.linalg.norm(apart, axis=-1).max() < 0.01, name


def test_nothing_needs_to_be_installed(
    tmp_path: Path, numpy_alone: Path, spoken: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The button, with this Blender's own Python: a sound file moves the bundled head."""
    import sys

    monkeypatch.delenv("SELFTALK_PYTHON", raising=False)
    # The Python of the tests may have more than Blender's own.
    monkeypatch.setattr(sys, "executable", str(numpy_alone))
    bpy.ops.selftalk.add_face()
    settings = bpy.context.scene.selftalk
    settings.sound_file = str(write(tmp_path / "a.wav", spoken[:, None], 16000))
    assert bpy.ops.selftalk.animate_from_audio() == {"FINISHED"}
    lower = TEMPLATE.landmarks["inner_lower_lip"]
    heights = [play(settings.face, frame)[lower, 2].mean() for frame in range(1, 96, 5)]
    assert max(heights) - min(heights) > 0.5e-3  # metres
