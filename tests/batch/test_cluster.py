"""Bakes on a Ray cluster: two nodes on this machine, of which one is killed midway."""

from __future__ import annotations

import importlib.util
import os
import queue
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from selftalk_blender.batch import cluster, manifest, node, process
from selftalk_blender.batch.gate import Gate
from selftalk_blender.batch.supervisor import Supervisor
from selftalk_blender.batch.task import Settings, Task
from selftalk_blender.cli import main
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or not sys.platform.startswith("linux"),
    reason="Ray is not installed here, or this is not Linux",
)


def tasks(folder: Path, count: int) -> list[Task]:
    import soundfile

    sound, rate = soundfile.read(ROOT / "selftalk_blender" / "assets" / "sample.ogg")
    todo = []
    for number in range(count):
        clip = folder / f"line{number}.wav"
        soundfile.write(clip, sound[number * rate // 4 :][: rate * 3 // 4], rate)
        todo.append(Task(str(clip), str(folder / "out"), f"act/line{number}", Settings(("blend",))))
    return todo


# --- Nodes ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes(numpy_alone: Path) -> Iterator[Any]:
    """The nodes "left", which is the head, and "right"; numpy animates, which is there at once."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 1024 * 1024}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("SELFTALK_PYTHON", str(numpy_alone))
        head = {"num_cpus": 1, "node_name": "left", "include_dashboard": False, **small}
        made = Cluster(initialize_head=True, head_node_args=head)
        right = made.add_node(num_cpus=1, node_name="right", **small)
        made.named = {"left": made.head_node, "right": right}
        yield made
        made.shutdown()


def processes_of(machine: Any) -> dict[int, str]:
    """All processes of a node and their command lines, by their ids."""
    found: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").iterdir():
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()
            found[int(entry.name)] = int(status[1]), (entry / "cmdline").read_text()
        except (OSError, ValueError, IndexError):
            continue
    tree = [machine.all_processes["raylet"][0].process.pid]
    for above in tree:
        tree += [process for process, (parent, _) in found.items() if parent == above]
    return {process: found[process][1] for process in tree if process in found}


class Told:
    """A report that remembers."""

    def __init__(self) -> None:
        self.lines: dict[str, manifest.Line] = {}
        self.notices: list[str] = []

    def step(self, place: str, done: float, text: str) -> None:
        assert 0 <= done <= 1 and text

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def ended(self, line: manifest.Line, skipped: bool) -> None:
        assert line["place"] not in self.lines
        self.lines[line["place"]] = line


class Killer(Told):
    """Cuts a node's power after the third clip, and counts who has loaded weights."""

    def __init__(self, named: dict[str, Any]) -> None:
        super().__init__()
        self.named = named
        self.workers: dict[str, set[int]] = {name: set() for name in named}

    def ended(self, line: manifest.Line, skipped: bool) -> None:
        super().ended(line, skipped)
        for name, there in ((name, processes_of(machine)) for name, machine in self.named.items()):
            self.workers[name] |= {p for p, command in there.items() if "worker.server" in command}
            if len(self.lines) == 3 and name == "right":
                for process in there:
                    os.kill(process, signal.SIGKILL)


@needs_ray
@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="nodes bake by bpy")
def test_a_node_that_is_lost_midway(nodes: Any, tmp_path: Path) -> None:
    todo, told = tasks(tmp_path, 6), Killer(nodes.named)
    crew = cluster.Cluster(nodes.address, 1)
    assert Supervisor(tmp_path / "out", 1, told, crew=crew).run(todo) == 0

    lines = manifest.read(tmp_path / "out" / manifest.NAME)
    assert sorted(lines) == [task.place for task in todo]
    kept = manifest.Manifest(tmp_path / "out")
    assert all(kept.current(task, manifest.input_hash(task)) for task in todo)
    again = [line["warnings"] for line in lines.values() if line["warnings"]]
    assert again == [["The node right was lost while it was baked; it was baked again."]]
    assert told.notices == ["The node right was lost; the bake goes on."]
    # Weights are loaded once per node, and nobody stays.
    assert {name: len(there) for name, there in told.workers.items()} == {"left": 1, "right": 1}
    time.sleep(1.0)
    assert not [c for c in processes_of(nodes.named["left"]).values() if "selftalk_blender." in c]
    whole = {task.path("blend").name for task in todo}
    assert {path.name for path in (tmp_path / "out" / "act").iterdir()} == whole


# --- What is looked at on a node --------------------------------------------------------------


def test_a_node_tells_what_is_wrong_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "SEEN", 0.0)
    (tmp_path / "lock").write_text("123")
    look = node.Node(str(tmp_path), str(tmp_path / "log"), 1).look
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "bpy" or there(name))
    assert look(VERSION, "", "lock", "123") is None
    assert look(VERSION, "", "lock", "124") == f"does not share the folder {tmp_path}"
    assert look(VERSION, "", "other", "123") == f"does not share the folder {tmp_path}"
    assert look("0.0.9", "", "lock", "123") == f"has SelfTalk {VERSION} instead of 0.0.9"
    monkeypatch.setattr(process, "version", lambda: "4.5.1")
    assert look(VERSION, "4.5.1", "lock", "123") is None
    assert look(VERSION, "5.0.1", "lock", "123") == "has Blender 4.5.1 instead of 5.0.1"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "lacks the bpy module" in str(look(VERSION, "", "lock", "123"))
    monkeypatch.setitem(sys.modules, "selftalk_blender.core.version", None)
    assert "lacks SelfTalk" in str(look(VERSION, "", "lock", "123"))


# --- The gate, with a Ray of our own ----------------------------------------------------------


class FakeRay:
    """One node, "left"; what its actors do stands in `script`: an answer, or an error to raise."""

    exceptions = SimpleNamespace(RayError=RuntimeError)
    cloudpickle = SimpleNamespace(register_pickle_by_value=lambda module: None)

    def __init__(self, script: list[Any], lines: queue.SimpleQueue[Any]) -> None:
        self.script, self.lines = script, lines

    def nodes(self) -> list[dict[str, Any]]:
        name = {"NodeName": "left", "NodeManagerAddress": "", "NodeManagerHostname": "left"}
        return [{"NodeID": "1", "Resources": {"CPU": 1.0}, "Alive": True, **name}]

    def remote(self, *_: object, **__: object) -> Any:
        """Whatever is made a class, an actor of it, or a call of its methods."""
        call = SimpleNamespace(remote=object)
        actor = SimpleNamespace(look=call, hear=call, end=call)
        kind = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: actor))
        call.remote = lambda *_: object()
        return lambda cls: kind

    def wait(self, refs: list[object], **_: object) -> tuple[list[object], list[object]]:
        return refs[:1], refs[1:]

    def get(self, ref: object) -> Any:
        answer = self.script.pop(0)
        if not self.script:
            self.lines.put(None)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def kill(self, actor: object) -> None:
        pass


def said_by_gate(monkeypatch: pytest.MonkeyPatch, script: list[Any]) -> list[tuple[str, Any]]:
    """What the gate says while its only node does what stands in the script."""
    module = SimpleNamespace(NodeAffinitySchedulingStrategy=lambda *_, **__: None)
    for name in ("ray", "ray.util", "ray.util.scheduling_strategies"):
        monkeypatch.setitem(sys.modules, name, module)
    said: list[tuple[str, Any]] = []
    lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
    asked = dict.fromkeys(("out", "log", "version", "blender", "shared", "token"), "") | {"jobs": 1}

    def say(event: str, **fields: Any) -> None:
        said.append((event, fields.get("coming", fields.get("at", fields.get("text")))))

    Gate(FakeRay(script, lines), say, asked).work(lines)
    return said


def test_a_place_is_told_before_it_no_longer_counts_as_coming(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the two, whoever asks whether a node is left would hear that there is none."""
    assert said_by_gate(monkeypatch, [None]) == [("vacant", 0), ("nodes", 0)]


def test_an_actor_that_is_killed_has_a_successor(monkeypatch: pytest.MonkeyPatch) -> None:
    killed = RuntimeError("The actor died: its process was killed.")
    said = said_by_gate(monkeypatch, [None, [{"event": "ready"}], killed, None])
    told = said[said.index(("ready", 0)) + 1 :]
    assert told == [("nodes", 1), ("lost", 0), ("vacant", 1), ("nodes", 0)]


def test_a_node_whose_actors_end_before_a_child_is_ready_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed = RuntimeError("The actor died: no memory.")
    said = said_by_gate(monkeypatch, [None, killed] * 3)
    assert [event for event, _ in said].count("lost") == 3
    told = "The node left is left out: it cannot run anything (The actor died: no memory.)."
    assert ("notice", told) in said and said[-1] == ("lost", 2)


# --- The gate, without Ray --------------------------------------------------------------------

GATE = """
import json, sys, time
def say(event, **fields): print(json.dumps({"event": event, **fields}), flush=True)
asked = json.loads(sys.stdin.readline())
def asked_for(): return json.loads(sys.stdin.readline() or "{}")
"""


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(cluster, "check_address", lambda address: None)

    def use(code: str) -> cluster.Cluster:
        monkeypatch.setattr(cluster, "ENTRY", GATE + code)
        return cluster.Cluster("auto", 1)

    return use


def bake(crew: cluster.Cluster, folder: Path) -> Told:
    clip = folder / "hello.wav"
    clip.write_bytes(np.zeros(8, np.uint8).tobytes())
    told = Told()
    todo = [Task(str(clip), str(folder / "out"), "hello", Settings(("blend",)))]
    Supervisor(folder / "out", 1, told, crew=crew).run(todo)
    return told


def test_what_ray_complains_of_is_told(gate: Any, tmp_path: Path) -> None:
    crew = gate('say("cannot", text="Version mismatch:\\n  Ray 1 here,\\n  Ray 2 there.")')
    with pytest.raises(SelfTalkError, match=r"mismatch: Ray 1 here, Ray 2 there\. The log is"):
        bake(crew, tmp_path)


def test_a_cluster_that_is_gone(gate: Any, tmp_path: Path) -> None:
    crew = gate('say("nodes", coming=1); time.sleep(0.3)')
    with pytest.raises(SelfTalkError, match="the connection to it was lost"):
        bake(crew, tmp_path)


def test_a_node_whose_blender_does_not_start(gate: Any, tmp_path: Path) -> None:
    crew = gate(
        """
say("vacant", at=0, node="left"); say("nodes", coming=0)
assert asked_for() == {"at": 0, "do": "start"}
say("ended", at=0, how="Blender crashed (SIGSEGV)")
assert asked_for()["do"] == "refuse"
sys.stdin.read()
"""
    )
    with pytest.raises(SelfTalkError, match="no node left"):
        bake(crew, tmp_path)


def test_a_node_that_does_not_see_a_clip_leaves_it_to_others(gate: Any, tmp_path: Path) -> None:
    crew = gate(
        """
say("vacant", at=0, node="left"); say("nodes", coming=1)
asked_for(); say("ready", at=0)
task = asked_for()["task"]
say("unseen", at=0, path=task["clip"], task=task)
assert asked_for() == {"at": 0, "do": "refuse"}
say("vacant", at=1, node="right"); say("nodes", coming=0)
asked_for(); say("ready", at=1)
assert asked_for()["task"] == task
done = {"clip": task["clip"], "place": task["place"], "outputs": [], "read": [], "warnings": []}
say("done", at=1, result=done)
assert asked_for() == {"at": 1, "do": "leave"}
say("ended", at=1, how="")
sys.stdin.read()
"""
    )
    told = bake(crew, tmp_path)
    assert told.lines["hello"]["error"] is None
    assert told.notices == [f"The node left is left out: it does not see {tmp_path / 'hello.wav'}."]


# --- Addresses --------------------------------------------------------------------------------


def complaint(address: str, folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    (folder / "hello.wav").touch()
    begun = time.monotonic()
    clip, out = str(folder / "hello.wav"), folder / "out"
    assert main(["bake", clip, "-o", str(out), "--ray", address, *options]) == 1
    assert time.monotonic() - begun < 10
    assert not out.exists()
    return capsys.readouterr().err


@needs_ray
def test_wrong_addresses_are_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for address in ("here", "host:", "host:0", "host:99999", "http://host:6379", "a b:6379"):
        assert "is no address of a Ray cluster" in complaint(address, tmp_path, capsys)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "timed out" in complaint(f"127.0.0.1:{port}", tmp_path, capsys)
    assert "refused" in complaint(f"127.0.0.1:{port}", tmp_path, capsys)
    assert "refused" in complaint(f"ray://127.0.0.1:{port}", tmp_path, capsys)


def test_without_ray(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ray" else there(name)
    )
    assert "selftalk-blender[cluster]" in complaint("auto", tmp_path, capsys)
