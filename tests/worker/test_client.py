"""The animator's process, started for real: what it gives, and what is said when it fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.worker.client import AnimateJob, Progress, find_python

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs signals and shell scripts")


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where jobs keep their files, seen by the test alone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.delenv("SELFTALK_PYTHON", raising=False)
    yield folder


def finish(job: AnimateJob, seconds: float = 60) -> list[Progress]:
    """Wait for the end, as the panel does."""
    steps, end = job.poll(), time.monotonic() + seconds
    while not job.finished:
        assert time.monotonic() < end, "the animator's process hangs"
        time.sleep(0.01)
        steps += job.poll()
    return steps


def program(folder: Path, script: str) -> str:
    """A shell script in the place of Python."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")  # a zombie has ended
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_part_of_a_clip_becomes_a_motion(
    clip: Path, tiny_animator: Path, temporary_folder: Path
) -> None:
    """The same as in one process, with progress on the way and nothing left behind."""
    from selftalk_blender.animator import load_animator

    job = AnimateJob(clip, 0.5, 2.0, animator=tiny_animator, device="cpu")
    job.start()
    steps = finish(job)
    motion = job.result()
    wanted = load_animator(tiny_animator, "cpu").animate_file(clip, 0.5, 2.0)
    assert motion.fps == wanted.fps and motion.weights is not None and wanted.weights is not None
    np.testing.assert_allclose(motion.weights, wanted.weights, atol=1e-5)
    assert len(motion) == 75
    done = [step.done for step in steps]
    assert len(done) > 2 and done == sorted(done) and steps[0].stage == "Starting the animator"
    assert job.notices == []
    assert not list(temporary_folder.iterdir())


def test_a_silent_clip_gives_a_notice(tiny_animator: Path, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000, np.float32), 16000)
    job = AnimateJob(tmp_path / "silent.wav", animator=tiny_animator)
    job.start()
    finish(job)
    assert len(job.result()) == 50
    assert "silent" in job.notices[0]


def test_what_the_animator_refuses_is_said_in_its_words(
    tmp_path: Path, tiny_animator: Path, temporary_folder: Path
) -> None:
    job = AnimateJob(tmp_path / "missing.wav", animator=tiny_animator)
    job.start()
    finish(job)
    with pytest.raises(SelfTalkError, match=r"There is no file .*missing\.wav"):
        job.result()
    assert not list(temporary_folder.iterdir())


def test_a_template_and_its_subject_reach_the_animator(
    clip: Path, tiny_animator: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "faces.npz", **{"-1": np.zeros((5, 3)), "one": np.zeros((5, 3))})
    for subject, words in (("two", "one, but not two"), ("-1", "takes no template")):
        job = AnimateJob(
            clip, animator=tiny_animator, template=tmp_path / "faces.npz", subject=subject
        )
        job.start()
        finish(job)
        with pytest.raises(SelfTalkError, match=words):
            job.result()


def test_relative_names_are_those_of_our_folder(
    clip: Path, tiny_animator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip.parent)
    job = AnimateJob(clip.name, stop=0.5, animator=tiny_animator)
    job.start()
    finish(job)
    assert len(job.result()) == 25


def test_python_without_torch(clip: Path, tmp_path: Path, temporary_folder: Path) -> None:
    """Names the Python, what it lacks, the command that installs it, and the preferences."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = tmp_path / "bare" / ("Scripts" if os.name == "nt" else "bin") / "python"
    job = AnimateJob(clip, python=str(bare))
    job.start()
    finish(job)
    with pytest.raises(SelfTalkError, match="lacks numpy.*-m pip install .*torch.*preferences"):
        job.result()
    assert not list(temporary_folder.iterdir())


def test_a_package_on_blenders_path_is_not_seen(
    clip: Path, tiny_animator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blender's Python sets PYTHONPATH and PYTHONHOME for itself; neither fits another Python."""
    (tmp_path / "torch.py").write_text("raise SystemExit('the wrong torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    job = AnimateJob(clip, stop=0.2, animator=tiny_animator)
    job.start()
    finish(job)
    assert len(job.result()) == 10


def test_no_such_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SelfTalkError, match="no Python at .*nowhere.*preferences"):
        find_python(str(tmp_path / "nowhere"))
    monkeypatch.setenv("SELFTALK_PYTHON", str(tmp_path / "elsewhere"))
    with pytest.raises(SelfTalkError, match="no Python at .*elsewhere.*SELFTALK_PYTHON"):
        find_python()
    assert find_python(sys.executable) == Path(sys.executable)  # the preferences come first
    monkeypatch.delenv("SELFTALK_PYTHON")
    assert find_python() == Path(sys.executable)


@POSIX
def test_a_file_that_is_no_program(tmp_path: Path, temporary_folder: Path) -> None:
    broken = tmp_path / "python"
    broken.write_bytes(b"\x00\x01 not a program")
    broken.chmod(0o755)
    with pytest.raises(SelfTalkError, match="cannot be started.*Choose another Python"):
        AnimateJob("clip.wav", python=str(broken)).start()
    assert not list(temporary_folder.iterdir())


@POSIX
def test_a_crash_gives_the_last_line_and_the_log(tmp_path: Path) -> None:
    job = AnimateJob(
        "clip.wav", python=program(tmp_path, "echo noise; echo '[1]'; echo sad end >&2; exit 3")
    )
    job.start()
    finish(job)
    with pytest.raises(SelfTalkError, match="stopped: sad end The log is .*animator.log") as error:
        job.result()
    log = Path(str(error.value).split("The log is ")[1].rstrip("."))
    assert log.read_text() == "sad end\n" and [*log.parent.iterdir()] == [log]


@POSIX
def test_ended_by_the_system(tmp_path: Path) -> None:
    """As Linux does where memory runs out."""
    job = AnimateJob("clip.wav", python=program(tmp_path, "kill -KILL $$"))
    job.start()
    finish(job)
    with pytest.raises(SelfTalkError, match="SIGKILL.*memory.*The log is"):
        job.result()


def test_cancel_ends_the_process_at_once(
    clip: Path, tiny_animator: Path, temporary_folder: Path
) -> None:
    job = AnimateJob(clip, animator=tiny_animator)
    job.start()
    assert job._process is not None
    process = job._process.pid
    while not job.poll():
        time.sleep(0.01)
    start = time.monotonic()
    job.cancel()
    assert time.monotonic() - start < 0.5
    assert not alive(process) and job.finished
    assert not list(temporary_folder.iterdir())
    job.cancel()  # a second Esc


@POSIX
def test_the_process_ends_with_blender(clip: Path, tiny_animator: Path) -> None:
    """However Blender ends: here it is killed."""
    script = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from selftalk_blender.worker.client import AnimateJob\n"
        f"job = AnimateJob({str(clip)!r}, animator={str(tiny_animator)!r})\n"
        "job.start()\n"
        "while not job.poll(): time.sleep(0.01)\n"
        "print(job._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as blender:
        assert blender.stdout is not None
        process = int(blender.stdout.readline())
        blender.send_signal(signal.SIGKILL)
    end = time.monotonic() + 5
    while alive(process):
        assert time.monotonic() < end, "the animator outlives Blender"
        time.sleep(0.05)


def test_the_client_needs_no_torch() -> None:
    code = "import sys, selftalk_blender.worker.client; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
