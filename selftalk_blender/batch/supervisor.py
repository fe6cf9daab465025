"""Many clips over a few child processes: who does what, and what happens when one of them dies."""

from __future__ import annotations

import queue
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ..core.errors import SelfTalkError
from ..core.files import remove_parts
from . import manifest, process
from .task import Done, Task

LOG = "bake.log"
ATTEMPTS = 2  # that a clip has, where its child crashes or hangs
LOSSES = 4  # attempts that it has, where the machines that it is baked on are lost
STARTING = 300.0  # seconds that a child may take to be ready
LOOK = 0.2  # seconds between two looks at who hangs
LEAVE = 2.0  # seconds that children have to end in good order when we are interrupted


class Report(Protocol):
    """Who tells people, or programs, how far a bake is."""

    def step(self, place: str, done: float, text: str) -> None:
        """A clip is at `done` (0..1), doing what `text` says."""

    def ended(self, line: manifest.Line, skipped: bool) -> None:
        """A clip has ended; or was there already, whole and current."""

    def notice(self, text: str) -> None:
        """Something that whoever asked for the bake should know."""


class Child(Protocol):
    """One that bakes: see `process.Child`."""

    tasks: deque[Task]
    lost: bool

    def give(self, task: Task) -> None: ...
    def leave(self) -> None: ...
    def end(self, patience: float = 0.0) -> None: ...
    def last_words(self) -> str: ...
    def clean(self) -> None: ...


class Crew(Protocol):
    """Where children come from: see `process.Local` and `cluster.Cluster`."""

    @property
    def jobs(self) -> int: ...
    def open(self, out: Path, inbox: process.Inbox, log: Path, lock: int) -> None: ...
    def start(self) -> Any: ...
    def refuse(self, child: Any, how: str, last: bool) -> None: ...
    def check(self) -> None: ...
    def close(self) -> None: ...


class Supervisor:
    """Has tasks done; see `run`."""

    def __init__(
        self,
        out: Path,
        jobs: int,
        report: Report,
        *,
        resume: bool = False,
        fail_fast: bool = False,
        blender: str = "",
        command: Sequence[str] | None = None,
        crew: Crew | None = None,
    ) -> None:
        """Nothing starts yet.

        Args:
            out: the output folder.
            jobs: how many children work at a time, at most.
            resume: whether to skip what is there, whole and current.
            fail_fast: whether to end all when a clip fails.
            blender: see `process.command`.
            command: of a child, where it is another.
            crew: where children come from; this machine by default.
        """
        self._out, self._report = out, report
        self._resume, self._fail_fast = resume, fail_fast
        self._version = process.version(blender) if resume else ""
        self._crew: Crew = crew or process.Local(
            jobs, command or process.command(blender), process.environment(jobs, blender)
        )
        self._inbox: process.Inbox = queue.SimpleQueue()
        self._line: deque[Task] = deque()  # what is to be given next
        self._hashes: dict[str, str] = {}  # of what is to be given or is being done
        self._attempts: Counter[tuple[str, bool]] = Counter()  # by place, and whether lost
        self._again: dict[str, list[str]] = {}  # by place, why it is baked again
        self._hungry: deque[Child] = deque()  # that can take a task
        self._children: dict[Child, float] = {}  # until when each may be silent
        self._ready: set[Child] = set()  # that were ready once
        self.failed = 0

    def run(self, tasks: Sequence[Task]) -> int:
        """Do tasks, in any order of their ends; returns how many failed.

        Raises:
            SelfTalkError: the output folder cannot be used, or no child can be started.
            KeyboardInterrupt: nothing half-written is left.
        """
        with manifest.lock(self._out) as lock:
            remove_parts(self._out)
            self._manifest = manifest.Manifest(self._out)
            log = self._out / LOG
            _empty(log)
            try:
                self._crew.open(self._out, self._inbox, log, lock)
                self._work(deque(tasks))
            finally:
                self._end_all()
                self._crew.close()
                # Also what children could not be told by: on Windows the id of a virtual
                # environment's Python is that of its launcher, and other machines have the same.
                remove_parts(self._out)
        return self.failed

    def _work(self, tasks: deque[Task]) -> None:
        while not (self.failed and self._fail_fast):
            # One ahead, so that whoever asks need not wait until it is looked through.
            if tasks and len(self._line) <= self._coming:
                self._prepare(tasks.popleft())
            for child in list(filter(self._may, self._hungry)):
                if self._line:
                    self._give(child)
            if not self._children and self._line:
                self._crew.check()
            ahead = len(self._line) > self._coming
            if ahead and len(self._children) < self._crew.jobs:
                self._children[self._crew.start()] = time.monotonic() + STARTING
            elif not tasks and not self._line and not any(c.tasks for c in self._children):
                return
            try:
                wait = not tasks or len(self._line) > self._coming
                child, message = self._inbox.get(timeout=LOOK) if wait else self._inbox.get_nowait()
            except queue.Empty:
                pass
            else:
                self._hear(child, message)
            if self._inbox.empty():  # to look through a task may take longer than their patience
                self._end_silent()

    @property
    def _coming(self) -> int:
        """Children that are on their way, each of whom wants a task of those in line."""
        return len(self._children.keys() - self._ready)

    def _prepare(self, task: Task) -> None:
        """Put a task in line, unless it is done already."""
        try:
            digest = manifest.input_hash(task)
        except SelfTalkError as error:
            self._ended(task, "", Done(task.clip, task.place, error=str(error)))
            return
        current = self._manifest.current(task, digest, self._version) if self._resume else None
        if current is not None:
            self._report.ended(current, skipped=True)
            return
        self._hashes[task.place] = digest
        self._line.append(task)

    def _give(self, child: Child) -> None:
        """Have a child do what is next in line."""
        if not child.tasks:  # it had nothing to say, perhaps for long
            self._children[child] = time.monotonic() + STARTING
        self._hungry.remove(child)
        child.give(self._line.popleft())

    def _may(self, child: Child) -> bool:
        """Whether a child may have one more task.

        What is baked again after a crash is alone: if the next one is the cause, which is listened
        to meanwhile, it is found out.
        """
        return not any(self._again.get(task.place) for task in child.tasks)

    def _hear(self, child: Child | None, message: dict[str, Any] | None) -> None:
        if child is None and message is not None:
            self._report.notice(message["text"])
        if child is None or child not in self._children:
            return  # it was ended
        if message is None:
            child.end(patience=1.0)
            self._lost(child, child.last_words())
        elif message["event"] == "ready":
            self._ready.add(child)
            self._hungry.append(child)
            self._children[child] = max(self._children[child], time.monotonic() + STARTING)
        elif message["event"] == "step":
            self._children[child] = time.monotonic() + message["patience"]
            self._report.step(message["place"], message["done"], message["text"])
        elif message["event"] == "done":
            self._children[child] = time.monotonic() + STARTING
            done = Done.from_json(message["result"])
            task = child.tasks.popleft()
            again = self._again.pop(task.place, [])
            done = replace(done, warnings=(*again, *done.warnings))
            self._ended(task, self._hashes.pop(task.place), done)

    def _ended(self, task: Task, digest: str, done: Done) -> None:
        line = self._manifest.add(task, digest, done)
        self.failed += done.error is not None
        self._report.ended(line, skipped=False)

    def _end_silent(self) -> None:
        now = time.monotonic()
        for child, until in list(self._children.items()):
            waits = child in self._ready and not child.tasks
            if now > until and not waits:
                child.end()
                words = "Blender gave no sign of life and was ended"
                self._lost(child, child.last_words() if child.lost else words)

    def _lost(self, child: Child, how: str) -> None:
        """A child has ended by itself, or had to be."""
        started = child in self._ready
        self._forget(child)
        if not started:
            self._crew.refuse(child, how, last=not self._children)
        child.clean()
        for task in reversed(child.tasks):
            if task is child.tasks[0]:
                self._attempts[task.place, child.lost] += 1
                if self._attempts[task.place, child.lost] >= (LOSSES if child.lost else ATTEMPTS):
                    too = "as those that had it before" if child.lost else "and did so again"
                    words = f"{how}, {too}. The log is {self._out / LOG}."
                    done = Done(task.clip, task.place, error=words)
                    self._ended(task, self._hashes.pop(task.place), done)
                    continue
                words = f"{how} while it was baked; it was baked again."
                self._again.setdefault(task.place, []).append(words)
            self._line.appendleft(task)

    def _forget(self, child: Child) -> None:
        del self._children[child]
        self._ready.discard(child)
        if child in self._hungry:
            self._hungry.remove(child)

    def _end_all(self) -> None:
        """End the children; none has a task, unless we were interrupted or stopped early."""
        for child in self._children:
            child.leave()
        until = time.monotonic() + LEAVE
        for child in self._children:
            child.end(max(0.0, until - time.monotonic()))
            child.clean()
        self._children.clear()


def _empty(log: Path) -> None:
    """Make the log an empty file, to whose end its several writers add."""
    try:
        log.write_bytes(b"")
    except OSError as error:
        reason = error.strerror or error
        raise SelfTalkError(
            f"{log} cannot be written ({reason}). Choose another folder."
        ) from error
