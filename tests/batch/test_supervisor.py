"""Who does what, and what happens when children, or we ourselves, are killed."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

import pytest

from selftalk_blender.batch import manifest, process, supervisor
from selftalk_blender.batch.report import JsonLines, Quiet, Spoken
from selftalk_blender.batch.supervisor import Supervisor
from selftalk_blender.batch.task import Done, Settings, Task
from selftalk_blender.cli import main
from selftalk_blender.core.errors import SelfTalkError

ROOT = Path(__file__).resolve().parents[2]
FAKE = [sys.executable, str(Path(__file__).with_name("fake_child.py"))]


class Told:
    """A report that remembers."""

    def __init__(self) -> None:
        self.lines: dict[str, manifest.Line] = {}
        self.skipped: list[str] = []

    def step(self, place: str, done: float, text: str) -> None:
        assert 0 <= done <= 1 and text

    def notice(self, text: str) -> None:
        assert text

    def ended(self, line: manifest.Line, skipped: bool) -> None:
        assert line["place"] not in self.lines
        self.lines[line["place"]] = line
        self.skipped += [line["place"]] if skipped else []


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def tasks(folder: Path, *names: str) -> list[Task]:
    for name in names:
        (folder / f"{name}.wav").write_text(name)
    return [
        Task(str(folder / f"{name}.wav"), str(folder / "out"), f"act/{name}", Settings(("fbx",)))
        for name in names
    ]


def run(jobs: int, todo: list[Task], **options: bool) -> tuple[int, Told]:
    told = Told()
    failed = Supervisor(Path(todo[0].out), jobs, told, command=FAKE, **options).run(todo)
    return failed, told


def files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("jobs", [1, 3])
def test_one_that_fails_crashes_or_hangs_does_not_stop_the_others(
    tmp_path: Path, jobs: int
) -> None:
    todo = tasks(tmp_path, "a", "bad", "crash", "faint", "hang", "b", "c")
    failed, told = run(jobs, todo)
    errors = {place[4:]: line["error"] for place, line in told.lines.items()}
    assert [name for name, error in errors.items() if error is None and name != "faint"]
    assert {name for name in errors if errors[name] is None} == {"a", "b", "c", "faint"}
    assert failed == 3
    assert errors["bad"] == "bad is no sound."
    assert "crashed (SIGSEGV), and did so again" in errors["crash"]
    assert "no sign of life" in errors["hang"]
    out = tmp_path / "out"
    made = {f"act/{name}.fbx" for name in ("a", "b", "c", "faint")}
    assert files(out) == made | {"manifest.jsonl", "bake.log"}
    assert manifest.read(out / "manifest.jsonl") == told.lines


def test_a_clip_that_crashes_who_listens_ahead_to_it_harms_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_AHEAD", "")
    todo = tasks(tmp_path, "a", "b", "poison", "c", "d")
    failed, told = run(1, todo)
    assert failed == 1 and len(told.lines) == 5
    assert "crashed (SIGSEGV), and did so again" in told.lines["act/poison"]["error"]
    assert [place for place, line in told.lines.items() if line["warnings"]] == ["act/b"]


def test_resume_skips_what_is_whole_and_current(tmp_path: Path) -> None:
    todo = tasks(tmp_path, "a", "b", "bad", "c", "d", "e", "f")
    run(2, todo)
    out = tmp_path / "out" / "act"
    (tmp_path / "b.wav").write_text("other")  # another clip
    (out / "c.fbx").unlink()
    (out / "d.fbx").write_text((out / "d.fbx").read_text().upper())  # as long, but other
    os.utime(out / "e.fbx")  # touched alone
    todo[6] = replace(todo[6], settings=Settings(("fbx",), controls={"jaw": 2.0}))
    failed, told = run(2, todo, resume=True)
    assert failed == 1 and sorted(told.skipped) == ["act/a", "act/e"]
    assert (out / "d.fbx").read_text() == "d []" and "jaw" in (out / "f.fbx").read_text()
    failed, told = run(1, todo[:2] + todo[3:], resume=True)
    assert failed == 0 and len(told.skipped) == 6
    assert not run(1, todo[:2])[1].skipped  # not asked to


def test_resume_does_again_what_another_blender_or_another_library_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "version", lambda _: "5.0.1")
    todo = tasks(tmp_path, "a", "b", "c")
    (tmp_path / "a.library").write_text("one")
    (tmp_path / "b.library").write_text("one")
    _, told = run(1, todo)
    assert [line["blender"] for line in told.lines.values()] == ["5.0.1"] * 3
    os.utime(tmp_path / "a.library")
    assert len(run(1, todo, resume=True)[1].skipped) == 3
    (tmp_path / "b.library").write_text("other")
    (tmp_path / "c.library").write_text("there now")
    manifest._as_read.cache_clear()  # a bake is a process of its own
    assert run(1, todo, resume=True)[1].skipped == ["act/a"]
    monkeypatch.setattr(process, "version", lambda _: "")  # it is not to be known
    assert len(run(1, todo, resume=True)[1].skipped) == 3
    monkeypatch.setattr(process, "version", lambda _: "5.0.2")
    assert not run(1, todo, resume=True)[1].skipped


def test_which_blender_bakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blender = tmp_path / "blender"
    blender.write_text("#!/bin/sh\nprintf 'Read \\377 ...\\n'\necho 'Blender 4.5.3 LTS'\n")
    blender.chmod(0o755)
    if os.name == "posix":
        assert process.version(str(blender)) == "4.5.3"
    assert process.version("/no/such/blender") == ""
    monkeypatch.setattr(process.importlib.metadata, "version", lambda name: "5.1.0a0")
    assert process.version() == "5.1.0"


def test_a_child_is_not_even_started_where_all_is_there(tmp_path: Path) -> None:
    todo = tasks(tmp_path, "a")
    run(1, todo)
    told = Told()
    Supervisor(tmp_path / "out", 1, told, resume=True, command=["/no/such/program"]).run(todo)
    assert told.skipped == ["act/a"]


def test_what_is_left_half_written_under_another_id_goes_at_the_end(tmp_path: Path) -> None:
    """As on Windows, where the Python of a virtual environment has another than its launcher."""
    (task,) = tasks(tmp_path, "a")

    class Leaves(Told):
        def ended(self, line: manifest.Line, skipped: bool) -> None:
            task.path("fbx").with_name(".a-1-x.selftalk-part.fbx").write_text("half")

    Supervisor(Path(task.out), 1, Leaves(), command=FAKE).run([task])
    assert files(tmp_path / "out") == {"act/a.fbx", "manifest.jsonl", "bake.log"}


def test_fail_fast_ends_at_the_first_failure(tmp_path: Path) -> None:
    failed, told = run(1, tasks(tmp_path, "a", "bad", "b", "c"), fail_fast=True)
    assert failed == 1 and list(told.lines) == ["act/a", "act/bad"]


def test_children_that_cannot_start_end_it_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = tasks(tmp_path, "a", "b", "c")
    monkeypatch.setenv("FAKE_START", "no")
    with pytest.raises(SelfTalkError, match=r"cannot be started: .*exit code 1.*bake\.log"):
        run(2, todo)
    assert "no bpy" in (tmp_path / "out" / "bake.log").read_text()
    with pytest.raises(SelfTalkError, match="/no/such cannot be started"):
        Supervisor(tmp_path / "out", 1, Told(), command=["/no/such"]).run(todo)


class Slow:
    """A crew of one child, in this process, which takes a moment to answer."""

    jobs, lost, lock = 1, False, 0

    def __init__(self) -> None:
        self.tasks: deque[Task] = deque()

    def open(self, out: Path, inbox: process.Inbox, log: Path, lock: int) -> None:
        self.inbox = inbox

    def start(self) -> Slow:
        self.inbox.put((self, {"event": "ready"}))
        return self

    def give(self, task: Task) -> None:
        self.tasks.append(task)
        threading.Timer(2 * supervisor.LOOK, self.answer, [task]).start()

    def answer(self, task: Task) -> None:
        self.inbox.put((None, {"event": "notice", "text": "of something else"}))
        step = {"place": task.place, "done": 0.5, "text": "Writing", "patience": 1.0}
        self.inbox.put((self, {"event": "step", **step}))
        self.inbox.put((self, {"event": "done", "result": Done(task.clip, task.place).to_json()}))
        self.inbox.put((self, {"event": "ready"}))

    def nothing(self, *_: object, **__: object) -> str:
        return ""

    refuse = check = close = leave = end = clean = last_words = nothing


@pytest.mark.parametrize("large", ["old1", "last"], ids=["its words wait", "it waits for work"])
def test_who_waits_while_we_look_through_clips_is_not_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: str
) -> None:
    """That takes long where one is large, or where many need no bake."""
    old = [f"old{i}" for i in range(1, 8)]
    todo, told, crew = tasks(tmp_path, "first", *old, "last"), Told(), Slow()
    now, look = 0.0, manifest.input_hash

    def slow(task: Task) -> str:
        nonlocal now
        while crew.tasks and crew.inbox.empty():
            time.sleep(0.01)
        now += 1000.0 if task.place == f"act/{large}" else 0.0
        return look(task)

    def current(_: object, task: Task, digest: str, blender: str) -> manifest.Line | None:
        done = Done(task.clip, task.place)
        return manifest.line_of(task, digest, done) if task.place[4:] in old else None

    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now)
    monkeypatch.setattr(manifest, "input_hash", slow)
    monkeypatch.setattr(manifest.Manifest, "current", current)
    assert Supervisor(tmp_path / "out", 1, told, resume=True, crew=crew).run(todo) == 0
    assert len(told.skipped) == len(old)
    assert not any(line["warnings"] for line in told.lines.values())


def test_children_start_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not each when the one before is ready: Blender takes seconds to start."""
    (tmp_path / "there").mkdir()
    monkeypatch.setenv("FAKE_TOGETHER", str(tmp_path / "there"))
    assert run(3, tasks(tmp_path, "a", "b", "c", "d"))[0] == 0
    assert len(list((tmp_path / "there").iterdir())) == 3


def test_no_more_children_start_than_there_are_clips_to_bake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    todo = tasks(tmp_path, *"abcdefgh")
    run(2, todo)
    (tmp_path / "c.wav").write_text("other")
    started: list[object] = []
    start = process.Local.start
    monkeypatch.setattr(process.Local, "start", lambda crew: started.append(crew) or start(crew))
    assert len(run(4, todo, resume=True)[1].skipped) == 7 and len(started) == 1


def test_a_child_that_is_killed_while_it_starts_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_START", str(tmp_path / "killed"))
    assert run(1, tasks(tmp_path, "a", "b"))[0] == 0
    assert (tmp_path / "killed").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no disk that is always full")
def test_a_log_without_room_stops_nobody(tmp_path: Path) -> None:
    """USD, whose exporter prints a lot where the disk is full, would crash."""
    code = 'import os; os.write(2, bytes(10**6)); print(\'{"event": "ready"}\')'
    inbox: process.Inbox = queue.SimpleQueue()
    child = process.Child([sys.executable, "-c", code], inbox, Path("/dev/full"))
    assert inbox.get(timeout=30)[1] == {"event": "ready"}
    child.end(30)
    assert child.last_words() == "Blender ended by itself (exit code 0)"


RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_supervisor import FAKE, Told, tasks
from selftalk_blender.batch.supervisor import Supervisor
todo = tasks(Path({folder!r}), *(f"clip{{i}}" for i in range(8)))
Supervisor(Path(todo[0].out), 2, Told(), command=FAKE, resume=True).run(todo)
"""


def begin(folder: Path) -> subprocess.Popen[str]:
    """A bake of eight slow clips in a process of its own, with some of them done."""
    code = RUN.format(tests=str(Path(__file__).parent), folder=str(folder))
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "FAKE_SECONDS": "0.2"},
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while len(manifest.read(folder / "out" / "manifest.jsonl")) < 3:
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals as POSIX does")
def test_killed_at_any_point_at_most_the_clips_in_hand_are_lost(tmp_path: Path) -> None:
    killed = begin(tmp_path)
    killed.kill()
    killed.communicate()
    out = tmp_path / "out"
    kept = manifest.read(out / "manifest.jsonl")
    with open(out / "manifest.jsonl", "a") as file:
        file.write('{"clip": "torn')
    (out / "act" / ".clip9-1-abc.selftalk-part.fbx").write_text("of a dead run")
    (out / "act" / ".hidden.fbx").write_text("the user's")
    failed, told = run(2, tasks(tmp_path, *(f"clip{i}" for i in range(8))), resume=True)
    assert failed == 0 and len(told.lines) == 8
    assert set(kept) <= set(told.skipped)
    made = {f"act/clip{i}.fbx" for i in range(8)}
    assert files(out) == made | {"act/.hidden.fbx", "manifest.jsonl", "bake.log"}
    for line in (out / "manifest.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals as POSIX does")
def test_interrupted_nothing_half_written_is_left(tmp_path: Path) -> None:
    interrupted = begin(tmp_path)
    interrupted.send_signal(signal.SIGINT)
    begun = time.monotonic()
    _, said = interrupted.communicate(timeout=30)
    assert time.monotonic() - begun < 5
    assert "KeyboardInterrupt" in said
    made = files(tmp_path / "out") - {"manifest.jsonl", "bake.log"}
    assert made and all(name.startswith("act/clip") for name in made)


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals as POSIX does")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_farm_and_a_terminal_end_it_in_good_order(
    tmp_path: Path,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (clip,) = tasks(tmp_path, "a")

    cleaned = []

    def killed(*_: object) -> int:
        try:
            signal.raise_signal(getattr(signal, name))
        finally:
            signal.raise_signal(getattr(signal, name))  # of one who is impatient
            cleaned.append(name)
        return 0

    monkeypatch.setattr(Supervisor, "run", killed)
    before = signal.getsignal(getattr(signal, name))
    bake = ["bake", clip.clip, "-o", str(tmp_path / "out"), "--json"]
    assert main(bake, blender="/none") == 130 and cleaned
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["error"] == "Interrupted."
    assert signal.getsignal(getattr(signal, name)) == before
    signal.signal(getattr(signal, name), signal.SIG_IGN)  # as by nohup
    try:
        assert main(bake, blender="/none") == 0
    finally:
        signal.signal(getattr(signal, name), before)


def test_names_in_no_encoding_and_places_that_cannot_be_written(tmp_path: Path) -> None:
    (task,) = tasks(tmp_path, "a")
    odd = replace(task, clip=os.fsdecode(b"/none/\xff.wav"))
    failed, told = run(1, [odd])
    assert failed == 1 and "There is no file" in told.lines["act/a"]["error"]
    assert manifest.read(tmp_path / "out" / "manifest.jsonl")["act/a"]["clip"] == odd.clip
    (tmp_path / "folder.wav").mkdir()
    failed, told = run(1, [replace(task, clip=str(tmp_path / "folder.wav"))])
    assert failed == 1 and "is no file" in told.lines["act/a"]["error"]
    (tmp_path / "file").write_text("")
    with pytest.raises(SelfTalkError, match="cannot be written"):
        run(1, [replace(task, out=str(tmp_path / "file"))])
    (tmp_path / "list" / "manifest.jsonl").mkdir(parents=True)
    with pytest.raises(SelfTalkError, match=r"manifest\.jsonl cannot be"):
        run(1, [replace(task, out=str(tmp_path / "list"))])
    (tmp_path / "log" / "bake.log").mkdir(parents=True)
    with pytest.raises(SelfTalkError, match=r"bake\.log cannot be written"):
        run(1, [replace(task, out=str(tmp_path / "log"))])


def test_two_bakes_into_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        manifest.lock(out),
        pytest.raises(SelfTalkError, match="Another bake writes into"),
        manifest.lock(out),
    ):
        pass
    assert not list(out.iterdir())
    for one, other in ((out, out / "act1"), (out / "act1", out)):
        with (
            manifest.lock(one),
            pytest.raises(SelfTalkError, match=f"Another bake writes into {one}\\."),
            manifest.lock(other),
        ):
            pass
    (out / manifest.LOCK).write_text("999999")  # of one that was killed
    with manifest.lock(out):
        pass


def test_a_program_hears_why_nothing_was_baked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (task,) = tasks(tmp_path, "a")
    with manifest.lock(tmp_path / "out"):
        bake = ["bake", task.clip, "-o", str(tmp_path / "out"), "--json"]
        assert main(bake, blender="/none") == 1
    end = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert end["event"] == "end" and "Another bake writes" in end["error"]


def test_ten_thousand_clips_start_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("a")
    (first,) = tasks(tmp_path, "a")
    many = [replace(first, place=f"act/{i}") for i in range(10_000)]
    out = tmp_path / "out"
    out.mkdir()
    done = manifest.Done(first.clip, "", error="it failed")
    with open(out / "manifest.jsonl", "w") as file:
        for task in many:
            line = manifest.line_of(task, "", replace(done, place=task.place))
            file.write(json.dumps(line) + "\n")

    class Enough(Told):
        def ended(self, line: manifest.Line, skipped: bool) -> None:
            raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        Supervisor(out, 1, Enough(), resume=True, command=FAKE).run(many)
    assert time.monotonic() - begun < 10


def test_the_command_line_of_a_child() -> None:
    assert process.command()[0] == sys.executable
    line = process.command("/opt/blender/blender")
    assert line[:2] == ["/opt/blender/blender", "--background"] and "--factory-startup" in line
    assert line[-2] == "--python-expr"
    compile(line[-1], "entry", "exec")
    assert str(ROOT) in line[-1] and "from selftalk_blender.batch.child import main" in line[-1]


def test_the_environment_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("PYTHONPATH", "mine")
    assert "OMP_NUM_THREADS" not in process.environment(1)
    assert process.environment(3)["OMP_NUM_THREADS"] == "2"
    assert process.environment(99)["OMP_NUM_THREADS"] == "1"
    assert process.environment(1)["PYTHONPATH"] == "mine"
    inside = process.environment(1, "/opt/blender")
    assert "PYTHONPATH" not in inside and inside["PYTHONHASHSEED"] == "0"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert process.environment(3)["OMP_NUM_THREADS"] == "5"


# --- What is told -------------------------------------------------------------------------------


def told_by(kind: type, folder: Path, *names: str) -> int:
    todo = tasks(folder, *names)
    report = kind(len(todo), folder / "out")
    failed = Supervisor(folder / "out", 1, report, resume=True, command=FAKE).run(todo)
    report.end()
    return failed


def test_spoken_quiet_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told_by(Spoken, tmp_path, "a", "bad", "b")
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == f"{tmp_path}/a.wav: 1.0 s of speech in 0.1 s"
    assert said.out.splitlines()[1].strip() == str(tmp_path / "out" / "act" / "a.fbx")
    assert "bad.wav: bad is no sound." in said.err and "1 of 3 clips failed." in said.err
    assert "2 clips in 0:0" in said.err
    told_by(Quiet, tmp_path, "a", "bad", "c")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        f"selftalk: {tmp_path}/bad.wav: bad is no sound.", "1 of 3 clips failed."
    ]  # fmt: skip
    told_by(JsonLines, tmp_path, "a", "bad", "d")
    said = capsys.readouterr()
    start, *clips, end = map(json.loads, said.out.splitlines())
    assert start == {"event": "start", "clips": 3, "out": str(tmp_path / "out")}
    assert [clip["event"] for clip in clips] == ["clip"] * 3
    assert [clip["place"] for clip in clips if clip["skipped"]] == ["act/a"]
    assert [clip["error"] for clip in clips] == [None, "bad is no sound.", None]
    assert clips[-1]["done"] == 3 and clips[-1]["outputs"][0]["path"] == "act/d.fbx"
    counts = {name: end[name] for name in ("baked", "skipped", "failed")}
    assert counts == {"baked": 1, "skipped": 1, "failed": 1} and said.err == ""
