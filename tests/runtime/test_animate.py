"""The animator without torch moves the lips as the one with torch does."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from selftalk_blender.animator import load_animator
from selftalk_blender.animator.audio import read_sound
from selftalk_blender.core import bundled_template
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.template import ASSETS
from selftalk_blender.runtime.animate import BUNDLED, Animator
from selftalk_blender.runtime.network import gelu

SAMPLE = read_sound(ASSETS / "sample.ogg")


@pytest.fixture(scope="module")
def runtime() -> Animator:
    return Animator()


@pytest.fixture(scope="module")
def by_torch():
    return load_animator(device="cpu")


def noise(seconds: float, level: float) -> np.ndarray:
    return (
        np.random.default_rng(0).standard_normal(round(seconds * 16000)).astype(np.float32) * level
    )


CLIPS = {
    "speech": SAMPLE,
    "several windows": np.tile(SAMPLE, 4),
    "a word": SAMPLE[:5000],
    "one sample": SAMPLE[20000:20001],
    "a frame and a bit": SAMPLE[20000:20330],
    "noise": noise(12.0, 0.05),
    "speech in noise": SAMPLE + noise(len(SAMPLE) / 16000, 0.02),
    "silence": np.zeros(48000, np.float32),
    "faint": SAMPLE * 0.002,
    "clipped": np.clip(SAMPLE * 30, -1, 1),
}  # fmt: skip


@pytest.mark.parametrize("clip", CLIPS)
def test_lips_are_those_of_torch_within_a_hundredth_of_a_millimetre(runtime, by_torch, clip):
    theirs = by_torch.animate(CLIPS[clip], 16000)
    ours = runtime.animate(CLIPS[clip])
    assert len(ours) == len(theirs) and ours.fps == theirs.fps
    assert runtime.notices == by_torch.notices
    lips = bundled_template().shape_deltas[:, bundled_template().regions["lips"]] * 1000
    apart = np.tensordot(ours.weights - theirs.weights, lips, 1)
    assert np.linalg.norm(apart, axis=-1).max() < 0.01


def test_nothing_but_numpy_is_imported():
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from selftalk_blender.runtime.animate import Animator; Animator()\n"
        "import json; print(json.dumps(sorted({n.partition('.')[0] for n in sys.modules})))"
    )
    root = str(ASSETS.parents[1])
    done = subprocess.run([sys.executable, "-c", script, root], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "transformers", "safetensors", "soundfile", "soxr", "av", "scipy"} & set(
        json.loads(done.stdout)
    )


def test_gelu_is_the_exact_one():
    from math import erf, sqrt

    values = np.linspace(-8, 8, 2001, dtype=np.float32)
    wanted = [value * (1 + erf(value / sqrt(2))) / 2 for value in values.astype(float)]
    np.testing.assert_allclose(gelu(values), wanted, atol=1e-6)


def test_a_damaged_file_is_told_of(tmp_path):
    data = BUNDLED.read_bytes()
    for name, content in {"short": data[:-100], "empty": b"", "text": b"hello" * 100}.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(SelfTalkError, match=name):
            Animator(path)
    with pytest.raises(SelfTalkError, match="no animator file"):
        Animator(tmp_path / "nothing.safetensors")


def test_an_animator_that_needs_torch_is_told_of(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "other.safetensors"
    save_file({"x": np.zeros(3, np.float32)}, path)
    with pytest.raises(SelfTalkError, match="PyTorch"):
        Animator(path)


def test_no_samples_are_told_of(runtime):
    with pytest.raises(SelfTalkError, match="no sound"):
        runtime.animate(np.zeros(0, np.float32))
