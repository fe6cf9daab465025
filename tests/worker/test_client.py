"""The animator's process, started for real: what it gives, and what is said when it fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from selftalk_blender.core import Motion
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.progress import Progress
from selftalk_blender.worker import client
from selftalk_blender.worker.client import AnimateJob
from selftalk_blender.worker.log import LARGEST_LOG, _user, keep_log_in, log_file
from selftalk_blender.worker.process import AnimatorEndedError, Task, Worker
from selftalk_blender.worker.python import Python

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs signals and shell scripts")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numpy_alone: Path) -> Iterator[Path]:
    """Where the log goes, and whatever a job might leave; every test has processes of its own.

    They are of a Python without PyTorch, which is there at once.
    """
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("SELFTALK_PYTHON", str(numpy_alone))
    yield folder
    client.stop_workers()


def finish(job: AnimateJob, seconds: float = 180) -> list[Progress]:
    """Wait for the end, as the panel does."""
    steps, end = job.poll(), time.monotonic() + seconds
    while not job.finished:
        assert time.monotonic() < end, "the animator's process hangs"
        time.sleep(0.01)
        steps += job.poll()
    return steps


def run(job: AnimateJob) -> Motion:
    job.start()
    finish(job)
    return job.result()


def program(folder: Path, script: str) -> str:
    """A shell script in the place of Python."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def talker(folder: Path, body: str) -> str:
    """A process that says hello and then does as `body` says, with `say`, `read` and `job`."""
    script = folder / "talker.py"
    script.write_text(
        f"import os, sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from selftalk_blender.worker import protocol\n"
        "inp, out = sys.stdin.buffer, sys.stdout.buffer\n"
        "def say(kind, arrays=None, **fields): protocol.write(out, kind, arrays, **fields)\n"
        "def read(): return protocol.read(inp)\n"
        f"{body}\n"
    )
    return program(folder, f'exec "{sys.executable}" "{script}"')


HELLO = "say('hello', version=protocol.VERSION)\njob = read().fields['job']\n"
BUSY = "say('progress', job=job, done=0.5, stage='Animating')\n"


# The real server with a quick animator: one second of rest in half a second.
QUICK = """
import numpy as np
from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.worker import server
class Quick:
    notices, loudness = [], np.zeros(50, np.float32)
    def animate_file(self, clip, start, stop, progress):
        for i in range(10):
            progress(i / 10, "Animating")
            time.sleep(0.05)
        return Motion(bundled_template(), 50.0, weights=np.zeros((50, 52), np.float32))
server.load_animator = lambda *_: Quick()
server.main()
"""


@pytest.fixture
def quick(tmp_path: Path) -> str:
    return talker(tmp_path, QUICK)


def process() -> int:
    """The number of the one process there is."""
    (worker,) = client._workers.values()
    while worker._process is None:
        time.sleep(0.01)
    return worker._process.pid


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    if not Path("/proc/self/stat").exists():
        return True
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # a zombie has ended


def test_part_of_a_clip_becomes_a_motion(clip: Path, tiny_animator: Path, folder: Path) -> None:
    """The same as in one process, with progress on the way; the log alone is left."""
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
    assert len(done) > 2 and done == sorted(done) and steps[0].text == "Starting the animator"
    assert job.notices == []
    assert [path for path in folder.rglob("*") if path.is_file()] == [log_file()]


def test_the_loudness_of_each_frame_comes_with_the_motion(
    tiny_animator: Path, tmp_path: Path
) -> None:
    """A tone of amplitude 0.5 from 0.6 to 1.2 s is -9.03 dBFS there, and the rest is silent."""
    soundfile = pytest.importorskip("soundfile")
    times = np.arange(32000) / 16000
    tone = 0.5 * np.sin(2 * np.pi * 200 * times) * ((times >= 0.6) & (times < 1.2))
    soundfile.write(tmp_path / "tone.wav", tone.astype(np.float32), 16000, "FLOAT")
    job = AnimateJob(tmp_path / "tone.wav", 0.5, 1.51, animator=tiny_animator)
    motion = run(job)
    assert len(motion) == len(job.loudness) == 51 and job.loudness.dtype == np.float32
    np.testing.assert_allclose(job.loudness[5:35], -9.03, atol=0.01)
    assert (job.loudness[:5] == -120).all() and (job.loudness[35:] == -120).all()


def test_a_second_job_finds_the_process_warm(clip: Path, tiny_animator: Path) -> None:
    """Torch and the animator are there already, and the refusal in between does no harm."""
    run(AnimateJob(clip, animator=tiny_animator))
    first = process()
    with pytest.raises(SelfTalkError, match=r"There is no file .*missing\.wav"):
        run(AnimateJob("missing.wav", animator=tiny_animator))
    run(AnimateJob(clip, stop=0.5, animator=tiny_animator))
    assert process() == first


def test_an_animator_that_was_replaced_is_read_again(
    clip: Path, tiny_animator: Path, tmp_path: Path
) -> None:
    animator = tmp_path / "animator.safetensors"
    shutil.copy(tiny_animator, animator)
    run(AnimateJob(clip, stop=0.2, animator=animator))
    animator.write_bytes(b"broken")
    with pytest.raises(SelfTalkError, match="animator"):
        run(AnimateJob(clip, stop=0.2, animator=animator))


def test_warmed_up_the_first_job_finds_the_process_there(clip: Path, tiny_animator: Path) -> None:
    client.warm_up()
    client.warm_up()  # a second time does nothing
    first = process()
    job = AnimateJob(clip, animator=tiny_animator)
    job.start()
    steps = finish(job)
    assert len(job.result()) == 150 and process() == first
    assert steps[0].text == "Starting the animator"
    client.warm_up(python="/nowhere/python")  # tells nothing: the job will


def test_two_jobs_wait_for_each_other(quick: str) -> None:
    """The third is cancelled while it waits; the others know nothing of it."""
    jobs = [AnimateJob("c.wav", python=quick) for _ in range(3)]
    for job in jobs:
        job.start()
    assert [step.text for step in jobs[1].poll()] == ["Waiting"]
    jobs[2].cancel()
    steps = finish(jobs[1])
    assert jobs[0].poll() is not None and jobs[0].finished
    assert [len(job.result()) for job in jobs[:2]] == [50, 50]
    assert steps[-1].text == "Animating"


def test_twenty_jobs_leave_the_memory_flat(clip: Path, tiny_animator: Path) -> None:
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux's /proc")

    def size() -> int:
        lines = Path(f"/proc/{process()}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

    sizes = []
    for _ in range(23):
        run(AnimateJob(clip, stop=0.5, animator=tiny_animator))
        sizes.append(size())
    assert sizes[-1] - sizes[2] < 4000, sizes  # kB; torch's own pools fill with the first


def test_another_python_takes_the_place_of_an_idle_one(tmp_path: Path) -> None:
    refuse = HELLO + "say('failed', job=job, error='No.')\nread()"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(SelfTalkError, match="No"):
        run(AnimateJob("clip.wav", python=talker(tmp_path / "a", refuse)))
    first = process()
    with pytest.raises(SelfTalkError, match="No"):
        run(AnimateJob("clip.wav", python=talker(tmp_path / "b", refuse)))
    assert process() != first
    wait_for(lambda: not alive(first))


def test_left_alone_the_process_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is given back."""
    monkeypatch.setattr("selftalk_blender.worker.process.IDLE", 0.3)
    with pytest.raises(SelfTalkError, match="No"):
        run(
            AnimateJob(
                "c", python=talker(tmp_path, HELLO + "say('failed', job=job, error='No.')\nread()")
            )
        )
    first = process()
    wait_for(lambda: not alive(first))


def test_a_silent_clip_gives_a_notice(tiny_animator: Path, tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16000, np.float32), 16000)
    job = AnimateJob(tmp_path / "silent.wav", animator=tiny_animator)
    assert len(run(job)) == 50
    assert "silent" in job.notices[0]


def test_a_template_and_its_subject_reach_the_animator(
    clip: Path, tiny_animator: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "faces.npz", **{"-1": np.zeros((5, 3)), "one": np.zeros((5, 3))})
    for subject, words in (("two", "one, but not two"), ("-1", "takes no template")):
        job = AnimateJob(
            clip, animator=tiny_animator, template=tmp_path / "faces.npz", subject=subject
        )
        with pytest.raises(SelfTalkError, match=words):
            run(job)


def test_relative_names_are_those_of_our_folder(
    clip: Path, tiny_animator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip.parent)
    job = AnimateJob(clip.name, stop=0.5, animator=tiny_animator)
    assert len(run(job)) == 25


def test_python_without_numpy(clip: Path, tmp_path: Path) -> None:
    """Names the Python, what it lacks, the command that installs it, and the preferences."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = tmp_path / "bare" / ("Scripts" if os.name == "nt" else "bin") / "python"
    with pytest.raises(SelfTalkError, match="lacks numpy.*-m pip install numpy .*preferences"):
        run(AnimateJob(clip, python=str(bare)))
    (worker,) = client._workers.values()
    assert worker._process is None  # the next one sees what was installed meanwhile


def test_a_package_on_blenders_path_is_not_seen(
    clip: Path, tiny_animator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blender's Python sets PYTHONPATH and PYTHONHOME for itself; neither fits another Python."""
    (tmp_path / "torch.py").write_text("raise SystemExit('the wrong torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    job = AnimateJob(clip, stop=0.2, animator=tiny_animator)
    assert len(run(job)) == 10


@POSIX
def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_bytes(b"\x00\x01 not a program")
    broken.chmod(0o755)
    with pytest.raises(SelfTalkError, match="cannot be started.*Choose another Python"):
        run(AnimateJob("clip.wav", python=str(broken)))


@POSIX
def test_a_crash_gives_the_last_line_and_the_log(tmp_path: Path, folder: Path) -> None:
    (folder / f"selftalk-{_user()}").mkdir()
    log_file().write_text("an older line\n")
    job = AnimateJob("clip.wav", python=program(tmp_path, "echo sad end >&2; exit 3"))
    with pytest.raises(SelfTalkError, match="stopped: sad end[.] .*The log is .*[.]log") as error:
        run(job)
    log = Path(str(error.value).split("The log is ")[1].rstrip("."))
    assert log.read_text() == "an older line\nsad end\n"


@POSIX
def test_the_last_line_is_never_an_older_one(tmp_path: Path, folder: Path) -> None:
    (folder / f"selftalk-{_user()}").mkdir()
    log_file().write_text("an older line\n")
    with pytest.raises(SelfTalkError, match="stopped: exit code 3[.] Check that .*is a Python"):
        run(AnimateJob("clip.wav", python=program(tmp_path, "exit 3")))


@POSIX
def test_a_large_log_is_put_aside(tmp_path: Path, folder: Path) -> None:
    keep_log_in(folder / "own")
    try:
        (folder / "own").mkdir()
        log_file().write_bytes(b"x" * (LARGEST_LOG + 1))
        with pytest.raises(SelfTalkError, match="own"):
            run(AnimateJob("clip.wav", python=program(tmp_path, "echo new >&2; exit 3")))
        assert log_file().read_text() == "new\n"
        assert len(list((folder / "own").iterdir())) == 2
    finally:
        keep_log_in(None)


@POSIX
def test_a_log_on_a_full_disk_and_no_temporary_folder_stop_nothing(
    clip: Path, tiny_animator: Path, folder: Path
) -> None:
    """What cannot be written down is lost, and the clip is animated."""
    if not Path("/dev/full").exists():
        pytest.skip("needs Linux's /dev/full")
    log = folder.parent / "log"
    log.mkdir()
    (log / "animator.log").symlink_to("/dev/full")
    keep_log_in(log)
    folder.rmdir()
    try:
        assert len(run(AnimateJob(clip, stop=0.2, animator=tiny_animator))) == 10
        with pytest.raises(SelfTalkError, match="There is no file"):
            run(AnimateJob("missing.wav", animator=tiny_animator))
    finally:
        keep_log_in(None)


@POSIX
def test_killed_in_the_middle_the_next_job_starts_anew(quick: str) -> None:
    """As Linux does where memory runs out. A job that waits does not suffer."""
    run(AnimateJob("c.wav", python=quick))
    jobs = [AnimateJob("c.wav", python=quick) for _ in range(2)]
    first = process()
    for job in jobs:
        job.start()
    wait_for(lambda: any(step.text == "Animating" for step in jobs[0].poll()))
    os.kill(first, signal.SIGKILL)
    finish(jobs[0])
    with pytest.raises(AnimatorEndedError, match=r"SIGKILL.*memory.*The log is .*animator\.log"):
        jobs[0].result()
    finish(jobs[1])
    assert len(jobs[1].result()) == 50 and process() != first


@POSIX
def test_a_process_that_died_in_its_sleep_is_replaced(quick: str) -> None:
    run(AnimateJob("c.wav", python=quick))
    first = process()
    os.kill(first, signal.SIGKILL)  # the next job comes while it is still dying, or just after
    assert len(run(AnimateJob("c.wav", python=quick))) == 50


@POSIX
def test_a_process_that_hangs_is_ended(quick: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(AnimateJob("c.wav", python=quick))
    first = process()
    monkeypatch.setattr("selftalk_blender.worker.process.SILENCE_STARTING", 0.5)
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(SelfTalkError, match=r"no sign of life for \d+ s.*The log is"):
        run(AnimateJob("c.wav", python=quick))
    assert not alive(first)
    monkeypatch.undo()
    assert len(run(AnimateJob("c.wav", python=quick))) == 50


@POSIX
def test_at_long_work_the_process_shows_that_it_lives(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call that takes longer than the longest silence is no hang."""
    monkeypatch.setattr("selftalk_blender.worker.process.SILENCE", 1.8)
    monkeypatch.setattr("selftalk_blender.worker.process.SILENCE_STARTING", 1.8)
    body = (
        "from selftalk_blender.worker import server\n"
        "def load(*_): time.sleep(3.5); raise MemoryError\n"
        "server.load_animator = load; server.main()"
    )
    with pytest.raises(SelfTalkError, match=r"Memory ran out\. Close.*The log is"):
        run(AnimateJob(clip, python=talker(tmp_path, body)))


@POSIX
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("print('Welcome to my library', flush=True); read()", "cannot be understood.*Welcome"),
        (HELLO + BUSY + "out.write(b'\\0' * 99); out.flush(); read()", "cannot be understood"),
        (HELLO + "say('result', job=job, notices=[])", "not usable"),
        (HELLO + "say('weights', job=job, head='another', fps=50, frames=1)", "another head"),
        ("say('hello', version=99); read()", "updated while this Blender ran.*Restart Blender"),
        ("protocol.VERSION = 99; say('hello'); read()", "updated while.*Restart Blender"),
    ],
)
def test_what_makes_no_sense_is_said_and_the_process_ended(
    tmp_path: Path, body: str, words: str
) -> None:
    with pytest.raises(SelfTalkError, match=words):
        run(AnimateJob("clip.wav", python=talker(tmp_path, body)))
    (worker,) = client._workers.values()
    assert worker._process is None or "head" in words


def test_a_device_that_is_not_there(clip: Path, tiny_animator: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(SelfTalkError, match=r"device cuda cannot be used.*choose CPU.*The log is"):
        run(AnimateJob(clip, animator=tiny_animator, device="cuda", python=sys.executable))


def test_cancelled_in_the_middle_the_process_stays_warm(
    clip: Path, tiny_animator: Path, tmp_path: Path
) -> None:
    """Within half a second, in the middle of two minutes; nothing more comes of it."""
    soundfile = pytest.importorskip("soundfile")
    samples, rate = soundfile.read(clip, dtype="float32")
    soundfile.write(tmp_path / "long.wav", np.tile(samples, 40), rate)
    job = AnimateJob(tmp_path / "long.wav", animator=tiny_animator)
    job.start()
    wait_for(lambda: any(step.text == "Animating" for step in job.poll()), 60)
    first = process()
    begun = time.monotonic()
    job.cancel()
    assert time.monotonic() - begun < 0.25 and job.finished  # the window does not wait
    (worker,) = client._workers.values()
    wait_for(lambda: worker.idle, 0.5)
    assert process() == first and alive(first)
    assert len(run(AnimateJob(clip, stop=0.2, animator=tiny_animator))) == 10
    job.cancel()  # a second Esc


@POSIX
def test_cancelled_where_it_does_not_listen_the_process_is_ended(tmp_path: Path) -> None:
    """Within half a second of the cancel."""
    job = AnimateJob("clip.wav", python=talker(tmp_path, HELLO + BUSY + "time.sleep(60)"))
    job.start()
    wait_for(lambda: any(step.text == "Animating" for step in job.poll()))
    first = process()
    job.cancel()
    wait_for(lambda: not alive(first), 0.5 + 0.2)  # this machine may be busy


def test_cancelled_while_it_starts_the_process_is_warm_for_the_next(quick: str) -> None:
    job = AnimateJob("c.wav", python=quick)
    job.start()
    first = process()
    job.cancel()
    assert job.finished
    assert len(run(AnimateJob("c.wav", python=quick))) == 50
    assert process() == first


def test_stopped_nothing_runs_on(quick: str) -> None:
    """As when the add-on is disabled."""
    jobs = [AnimateJob("c.wav", python=quick) for _ in range(2)]
    for job in jobs:
        job.start()
    first = process()
    client.stop_workers()
    wait_for(lambda: not alive(first))
    for job in jobs:
        finish(job, 2)
        with pytest.raises(SelfTalkError, match="stopped"):
            job.result()


@POSIX
@pytest.mark.parametrize("wait", [0.0, 2.0])
@pytest.mark.parametrize("end", ["kill", "exit"])
def test_the_process_ends_with_blender(
    clip: Path, tiny_animator: Path, tmp_path: Path, end: str, wait: float
) -> None:
    """However Blender ends, and whether the process is starting or warm."""
    script = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r})\n"
        "from selftalk_blender.worker.client import AnimateJob\n"
        f"job = AnimateJob({str(clip)!r}, animator={str(tiny_animator)!r})\n"
        "job.start()\n"
        "while not (process := job._worker._process): time.sleep(0.01)\n"
        f"time.sleep({wait})\n"
        "print(process.pid, flush=True)\n"
        f"time.sleep({60 if end == 'kill' else 0})\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment
    ) as blender:
        assert blender.stdout is not None
        worker = int(blender.stdout.readline())
        if end == "kill":
            blender.send_signal(signal.SIGKILL)
    wait_for(lambda: not alive(worker), 10)


def test_the_client_needs_no_torch() -> None:
    code = "import sys, selftalk_blender.worker.client; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_worker_whose_task_just_leaves_the_line_is_not_idle(tmp_path: Path) -> None:
    """It would be ended for another one, and its task with it."""
    left = threading.Event()

    class Slow(deque[Task]):
        def popleft(self) -> Task:
            task = super().popleft()
            left.set()
            time.sleep(0.1)
            return task

    worker = Worker(Python(tmp_path / "none"))
    worker._line = Slow()
    worker.add(Task("prepare", {}))
    assert left.wait(10) and not worker.idle
    worker.stop()
