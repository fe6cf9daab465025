"""The process that speaks with a Ray cluster, for `cluster`: what Ray does to a process whose
cluster is unreachable or dies, it does to this one.

Its first line on stdin says what to do: "address", "jobs" on each node, "out", "log", "version",
"blender", "shared" and "token" (see `node.Node`). It ends with its stdin. Each further line is
about a place on a node, by its number: {"at": 3, "do": "start"}, which has a child started there;
"give" with a "task" and whether it is "sure"; "leave"; "end"; and "refuse", after which that node
is not used any more.

Each line from it has an "event". Of the cluster:

- "nodes": "coming" says for how many places it still waits.
- "notice": "text" is for people.
- "cannot": "text" says why it has to end.

Of a place, by its number "at":

- "vacant": a child can be started there, "node" is the name of its node.
- "lost": it is no more; "node" is the name of its node.
- "unseen": "path" of "task" is not seen from there.
- "ended": its child has ended; "how" is a clause.
- what children say: see `process`.
"""

from __future__ import annotations

import itertools
import json
import logging
import queue
import sys
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from typing import IO, Any

from . import node
from .child import Voice

WAIT = 0.1  # seconds between two looks at what was asked for
LOOK = 1.0  # seconds between two looks at which nodes there are
BUSY = 15.0  # seconds after which people are told that no node is free
FAILURES = 3  # actors in a row that end on a node before they have a child that is ready
CLOSE = 5.0  # seconds that all children have to end


@dataclass
class Place:
    """Where a child can run.

    Attributes:
        number: of ours.
        node: its node's id.
        name: its node's, for people.
        actor: a `node.Node` there.
        vacant: whether it was looked at and found good.
        proven: whether a child was ready there.
    """

    number: int
    node: str
    name: str
    actor: Any
    vacant: bool = False
    proven: bool = False


class Gate:
    """Places on nodes, and what goes on there."""

    def __init__(self, ray: Any, say: Voice, asked: dict[str, Any]) -> None:
        """Args: ray: the module, connected; asked: the first line."""
        self._ray, self._say, self._asked = ray, say, asked
        ray.cloudpickle.register_pickle_by_value(node)
        self._kind = ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=8)(node.Node)
        self._numbers = itertools.count()
        self._places: dict[int, Place] = {}
        self._refs: dict[Any, Place] = {}  # answers that are awaited
        self._failures: Counter[str] = Counter()  # by node
        self._refused: set[str] = set()  # nodes
        self._looked = 0.0
        self._waits = time.monotonic() + BUSY
        self._told: int | None = None

    def work(self, lines: queue.SimpleQueue[dict[str, Any] | None]) -> None:
        """Serve until there is a None among the lines."""
        while True:
            now = time.monotonic()
            if now - self._looked > LOOK:
                self._look_around()
                self._looked = now
            while not lines.empty():
                line = lines.get()
                if line is None:
                    return
                self._do(line)
            if self._refs:
                ready, _ = self._ray.wait(list(self._refs), timeout=WAIT)
                for ref in ready:
                    self._answer(ref, self._refs.pop(ref))
            else:
                time.sleep(WAIT)
            self._tell_coming()

    def _look_around(self) -> None:
        """Have a place for each job on each node that there is."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = Counter(place.node for place in self._places.values())
        for info in self._ray.nodes():
            identity, resources = info["NodeID"], info["Resources"]
            cores, cards = int(resources.get("CPU", 0)), resources.get("GPU", 0)
            jobs = min(self._asked["jobs"], cores)
            if not info["Alive"] or identity in self._refused:
                continue
            own = info["NodeName"] not in ("", info["NodeManagerAddress"])
            name = info["NodeName"] if own else info["NodeManagerHostname"]
            for _ in range(jobs - there[identity]):
                actor = self._kind.options(
                    num_cpus=1,
                    # Without a claim Ray hides the graphics cards.
                    num_gpus=min(1.0, cards / jobs) if cards else 0,
                    scheduling_strategy=NodeAffinitySchedulingStrategy(identity, soft=False),
                ).remote(self._asked["out"], self._asked["log"], jobs)
                place = Place(next(self._numbers), identity, name, actor)
                self._places[place.number] = place
                asked = (self._asked[what] for what in ("version", "blender", "shared", "token"))
                self._refs[actor.look.remote(*asked)] = place

    def _tell_coming(self) -> None:
        coming = sum(not place.vacant for place in self._places.values())
        if coming != self._told:
            self._say("nodes", coming=coming)
            self._told = coming
        if coming < len(self._places):
            self._waits = float("inf")
        elif coming and time.monotonic() > self._waits:
            self._waits = float("inf")
            self._say("notice", text="No node of the cluster is free yet; waiting for one.")

    def _do(self, line: dict[str, Any]) -> None:
        place = self._places.get(line["at"])
        if place is None:
            return  # it was lost, which has been told
        what = line["do"]
        if what == "start":
            place.actor.start.remote()
        elif what == "give":
            place.actor.give.remote(line["task"], line["sure"])
        elif what == "leave":
            place.actor.leave.remote()
        elif what == "end":
            place.actor.end.remote(0.0)
        elif what == "refuse":
            self._refuse(place, "")

    def _answer(self, ref: Any, place: Place) -> None:
        """Take the answer of a place that was asked to look or to tell what it hears."""
        if place.number not in self._places:
            return
        try:
            answer = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            traceback.print_exc()
            self._lose(place, error)
            return
        if not place.vacant:
            if answer is not None:
                self._refuse(place, answer)
                return
            place.vacant = True
            self._say("vacant", at=place.number, node=place.name)
        else:
            for message in answer:
                if message["event"] == "ready":
                    place.proven = True
                    self._failures.pop(place.node, None)
                self._say(message.pop("event"), at=place.number, **message)
        self._refs[place.actor.hear.remote()] = place

    def _lose(self, place: Place, error: Exception) -> None:
        self._drop(place)
        if not place.proven:
            self._failures[place.node] += 1
            if self._failures[place.node] >= FAILURES and place.node not in self._refused:
                why = str(error).strip().splitlines() or [type(error).__name__]
                self._refuse(place, f"cannot run anything ({why[-1].strip()})")
        if place.vacant:
            # Perhaps the actor alone was killed, for its memory: then a place comes in its stead,
            # which whoever asks whether any node is left has to know first.
            self._look_around()
            self._tell_coming()
            self._say("lost", at=place.number, node=place.name)

    def _refuse(self, place: Place, why: str) -> None:
        """Use a node no more, and tell why unless that is known."""
        if why and place.node not in self._refused:
            self._say("notice", text=f"The node {place.name} is left out: it {why}.")
        self._refused.add(place.node)
        for other in [other for other in self._places.values() if other.node == place.node]:
            self._drop(other)
            if other.vacant and other is not place:
                self._say("lost", at=other.number, node=other.name)

    def _drop(self, place: Place) -> None:
        self._places.pop(place.number, None)
        self._ray.kill(place.actor)

    def close(self) -> None:
        """End all children and actors."""
        refs = [place.actor.end.remote() for place in self._places.values() if place.vacant]
        if refs:
            self._ray.wait(refs, num_returns=len(refs), timeout=CLOSE)
        for place in self._places.values():
            self._ray.kill(place.actor)


def main() -> int:
    """Serve until stdin ends; returns the exit code."""
    say = Voice()
    asked = json.loads(sys.stdin.buffer.readline())
    try:
        import ray

        ray.init(address=asked["address"], log_to_driver=False, logging_level=logging.ERROR)
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        say("cannot", text=str(error))
        return 1
    if not any(info["Alive"] and info["Resources"].get("CPU", 0) >= 1 for info in ray.nodes()):
        say("cannot", text="none of its nodes has a core to work with")
        return 1
    lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(sys.stdin.buffer, lines), daemon=True).start()
    gate = Gate(ray, say, asked)
    try:
        gate.work(lines)
    finally:
        gate.close()
        ray.shutdown()
    return 0


def _read(stream: IO[bytes], lines: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    """Runs in a thread of its own."""
    for line in stream:
        lines.put(json.loads(line))
    lines.put(None)
