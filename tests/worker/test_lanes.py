"""Which lane animates: the same motion from both, and what is said where one is missing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.template import ASSETS
from selftalk_blender.worker import client
from selftalk_blender.worker.client import AnimateJob
from selftalk_blender.worker.lanes import reason

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="makes symbolic links")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("SELFTALK_PYTHON", raising=False)
    yield
    client.stop_workers()


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample clip as 44.1 kHz stereo WAV of 16 bits, over several windows."""
    soundfile = pytest.importorskip("soundfile", reason="reads for comparison")
    soxr = pytest.importorskip("soxr", reason="resamples for comparison")
    samples, rate = soundfile.read(ASSETS / "sample.ogg", dtype="float32")
    samples = soxr.resample(np.tile(samples, 4), rate, 44100)
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    soundfile.write(path, np.stack([samples, 0.5 * samples], 1), 44100, subtype="PCM_16")
    return path


def run(clip: Path, python: Path, **options: object) -> tuple[Motion, list[str], list[str]]:
    """Motion, notices, and the stages that were told."""
    job = AnimateJob(clip, python=str(python), **options)  # type: ignore[arg-type]
    job.start()
    stages, end = [], time.monotonic() + 180
    while not job.finished:
        assert time.monotonic() < end, "the animator's process hangs"
        stages += [step.text for step in job.poll()]
        time.sleep(0.01)
    return job.result(), job.notices, stages


def apart(ours: Motion, theirs: Motion) -> float:
    """Most that a vertex of the lips is away from the other's, mm."""
    assert ours.weights is not None and theirs.weights is not None
    template = bundled_template()
    lips = template.shape_deltas[:, template.regions["lips"]] * 1000
    off = np.tensordot(ours.weights - theirs.weights, lips, 1)
    return float(np.linalg.norm(off, axis=-1).max())


def test_with_numpy_alone_lips_move_as_with_torch(speech: Path, numpy_alone: Path) -> None:
    pytest.importorskip("torch", reason="compares both lanes")
    ours, notices, stages = run(speech, numpy_alone)
    from selftalk_blender.animator import load_animator

    theirs = load_animator(device="cpu").animate_file(speech)
    assert len(ours) == len(theirs) and ours.fps == theirs.fps
    assert apart(ours, theirs) < 0.01
    assert notices == [] and stages.count("Animating") > 2
    part, _, _ = run(speech, numpy_alone, start=1.5, stop=3.02)
    assert len(part) == 76


def test_what_needs_torch_is_told(speech: Path, numpy_alone: Path, tmp_path: Path) -> None:
    (tmp_path / "vocaset.pth").write_bytes(b"PK\x03\x04" + bytes(99))
    where = f"{numpy_alone}.*preferences of SelfTalk"
    for options, words in (
        ({"device": "cuda"}, f"device cuda needs PyTorch.*lacks.*{where}.*choose the CPU"),
        ({"animator": tmp_path / "vocaset.pth"}, f"vocaset.pth needs PyTorch.*lacks.*{where}"),
        ({"animator": tmp_path / "none.pth"}, "no animator file"),
    ):
        with pytest.raises(SelfTalkError, match=words):
            run(speech, numpy_alone, **options)
    np.save(tmp_path / "face.npy", np.zeros((9, 3)))
    with pytest.raises(SelfTalkError, match="takes no template"):
        run(speech, numpy_alone, template=tmp_path / "face.npy")
    with pytest.raises(SelfTalkError, match=r"sample\.ogg .*lacks soundfile.*convert.* to WAV"):
        run(ASSETS / "sample.ogg", numpy_alone)
    film = tmp_path / "film.mp4"
    film.write_bytes(bytes(100))
    with pytest.raises(SelfTalkError, match=r"film\.mp4 .*lacks av\. Install .*-m pip install av "):
        run(film, numpy_alone)


@pytest.mark.parametrize("error", ["OSError('DLL load failed')", "ImportError('no DLL')"])
def test_a_broken_torch_is_done_without(speech: Path, numpy_alone: Path, error: str) -> None:
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([numpy_alone, "-c", ask], check=True, capture_output=True, text=True)
    (Path(own.stdout.strip()) / "torch.py").write_text(f"raise {error}")
    motion, notices, _ = run(speech, numpy_alone, stop=0.5)
    assert len(motion) == 25
    assert len(notices) == 1 and "DLL" in notices[0] and "takes longer" in notices[0]
    with pytest.raises(SelfTalkError, match="device cuda needs PyTorch.*cannot load.*DLL"):
        run(speech, numpy_alone, device="cuda")


def test_an_old_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads, the libraries on it do not; what they say for it alone helps nobody."""
    for name, version in (("torch", "2.0.1"), ("transformers", "5.1.0")):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(__version__=version))
    error = NameError("name 'nn' is not defined")
    assert reason(error) == "PyTorch 2.0.1 with transformers 5.1.0: name 'nn' is not defined"


def test_the_command_runs_with_numpy_alone(numpy_alone: Path, tmp_path: Path) -> None:
    clip = tmp_path / "noise.wav"
    with wave.open(str(clip), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        noise = np.random.default_rng(0).normal(size=16000) * 3000
        file.writeframes(noise.astype("<i2").tobytes())

    def selftalk(*words: object) -> subprocess.CompletedProcess[str]:
        command = [str(numpy_alone), "-m", "selftalk_blender.cli", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    done = selftalk("animate", clip, "-o", tmp_path / "motion.npz")
    assert done.returncode == 0, done.stderr
    assert len(Motion.load(tmp_path / "motion.npz")) == 50
    told = selftalk("doctor")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "selftalk animate   would run, in numpy" in told.stdout
