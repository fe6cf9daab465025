"""One process of the animator, and the thread of ours that talks to it."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from ..core import Motion
from ..core.errors import SelfTalkError
from ..core.progress import Progress
from . import STARTING, WAITING
from .answer import Answer
from .log import LARGEST_LOG, log_file, open_log
from .protocol import VERSION, Message, ProtocolError, VersionError, read, write
from .python import Python, process_settings

PACKAGE = Path(__file__).resolve().parent.parent
# Also right in an installed extension, whose folder lies among others and not on the path.
ENTRY = (
    "import sys; sys.path[:0] = sys.argv[1:]; del sys.argv[1:]; "
    "from {package}.worker.server import main; main()"
)
TICK = 0.05  # seconds between two looks at what the owner of a job wants
REACT = 0.4  # seconds that the process has to leave a cancelled job; then it is ended
# Seconds without a sign of life after which the process counts as hung. While it loads libraries
# from a slow disk it cannot give one.
SILENCE, SILENCE_STARTING = 30.0, 180.0
IDLE = 600.0  # seconds; the memory of the process and of its graphics card is then given back


class Task:
    """A request on its way: written by the worker's thread, read by its owner."""

    def __init__(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.kind = kind
        self.fields = fields
        self.steps: queue.SimpleQueue[Progress] = queue.SimpleQueue()
        self.unwanted = threading.Event()
        self.ended = threading.Event()
        # One of these is set once `ended` is, unless it was unwanted.
        self.motion: Motion | None = None
        self.error: SelfTalkError | None = None
        self.loudness = np.zeros(0, np.float32)
        self.notices: list[str] = []


class Worker:
    """One process, and the thread that talks to it; tasks wait in line here."""

    def __init__(self, python: Python) -> None:
        self._python = python
        self._line: deque[Task] = deque()
        self._now: Task | None = None
        self._changed = threading.Condition()
        self._stopping = False
        self._process: subprocess.Popen[bytes] | None = None
        self._inbox: queue.SimpleQueue[Message | ProtocolError | None] = queue.SimpleQueue()
        self._log_begin = 0
        self._job = 0
        self._starting = False  # whether the process loads what a job needs
        self._heard = False  # whether it was new for this job, or has spoken of it
        threading.Thread(target=self._run, daemon=True, name="SelfTalk worker").start()

    # Called by the owners of tasks; none of these waits for the process.

    @property
    def idle(self) -> bool:
        """Whether no task is at work or in line."""
        with self._changed:  # a task that leaves the line for work is in neither for a moment
            return self._now is None and not self._line

    @property
    def warm(self) -> bool:
        """Whether a process is there, or will be."""
        return self._process is not None or not self.idle

    def add(self, task: Task) -> None:
        """Have a task done when its turn comes."""
        with self._changed:
            if self._stopping:
                task.error = _stopped()
                task.ended.set()
                return
            before = [*([self._now] if self._now else []), *self._line]
            if any(other.kind == "animate" for other in before):
                task.steps.put(Progress(0.0, WAITING))
            elif before:
                task.steps.put(Progress(0.0, STARTING))
            self._line.append(task)
            self._changed.notify()

    def drop(self, task: Task) -> None:
        """Want a task no more: it leaves the line, or its process leaves it."""
        with self._changed:
            task.unwanted.set()
            with contextlib.suppress(ValueError):
                self._line.remove(task)
                task.ended.set()

    def stop(self) -> None:
        """End the process and the thread; tasks end with an error."""
        with self._changed:
            self._stopping = True
            process = self._process
            self._changed.notify()
        if process is not None:
            process.kill()

    # Everything below runs in the worker's own thread.

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._line or self._stopping, IDLE):
                    self._end_process()
                    continue
                if self._stopping:
                    break
                task = self._now = self._line.popleft()
            try:
                self._serve(task)
            except SelfTalkError as error:
                task.error = error
            except MemoryError:
                self._end_process()
                task.error = SelfTalkError(
                    "Memory ran out while the motion was received. Close other programs, or "
                    "animate a shorter part of the clip."
                )
            except Exception as error:
                self._end_process()
                task.error = self._failure(f"The animator's answer is not usable ({error!r}).")
            with self._changed:
                self._now = None
            task.ended.set()
        self._end_process()
        with self._changed:
            for task in self._line:
                task.error = _stopped()
                task.ended.set()

    def _serve(self, task: Task) -> None:
        """Have one task done.

        Raises:
            SelfTalkError: what the owner is to read.
        """
        if self._process is not None and self._process.poll() is not None:
            self._end_process()
        try:
            self._attempt(task)
        except _DiedIdleError:  # it is no fault of this task's
            self._attempt(task)

    def _attempt(self, task: Task) -> None:
        """Have a process do a task; a warm one, or a new one.

        Raises:
            _DiedIdleError: the warm one was gone before it heard of the task.
            SelfTalkError: what the owner is to read.
        """
        self._job += 1
        fresh = self._process is None
        if fresh:
            task.steps.put(Progress(0.0, STARTING))
            self._start_process()
        else:
            self._say(task.kind, job=self._job, **task.fields)
        self._starting, self._heard = True, fresh
        answer = Answer()
        for message in self._messages(task):
            if message.kind == "hello" and fresh:
                if message.fields.get("version") != VERSION:
                    raise self._other_version()
                self._say(task.kind, job=self._job, **task.fields)
            elif message.fields.get("job") != self._job:
                continue  # a sign of life
            self._heard = True
            if message.kind == "progress":
                step = Progress(float(message.fields["done"]), str(message.fields["stage"]))
                self._starting = step.text == STARTING
                task.steps.put(step)
            elif message.kind in ("weights", "dense"):
                answer.begin(message)
            elif message.kind == "frames":
                answer.add(message)
            elif message.kind == "result":
                task.motion = answer.motion()
                task.loudness = np.array(message.arrays["loudness"], np.float32)
                task.notices = [str(notice) for notice in message.fields["notices"]]
                return
            elif message.kind == "failed":
                words = str(message.fields["error"])
                if message.fields.get("ends"):
                    self._end_process()
                raise self._failure(words) if message.fields.get("log") else SelfTalkError(words)
            elif message.kind in ("prepared", "cancelled"):
                return

    def _messages(self, task: Task) -> Iterator[Message]:
        """What the process says, until the caller has heard enough.

        Ends early where the task is unwanted and the process had to be ended for it.

        Raises:
            SelfTalkError: the process ended, hangs, or cannot be understood.
        """
        silent, gone = 0.0, 0.0  # seconds
        asked: float | None = None  # when the process was asked to leave the task
        process = self._process
        assert process is not None
        before = time.monotonic()
        while True:
            try:
                message = self._inbox.get(timeout=TICK)
            except queue.Empty:
                # If we ourselves were asleep, that is no silence of the process.
                now = time.monotonic()
                passed, before = min(now - before, 4 * TICK), now
                silent += passed
                gone += passed if process.poll() is not None else 0.0
                message = None
            else:
                before, silent = time.monotonic(), 0.0
                if message is None:
                    gone = 1.0
            if self._stopping:
                raise _stopped()
            if isinstance(message, VersionError):
                raise self._other_version()
            if isinstance(message, ProtocolError):
                self._end_process()
                raise self._failure(
                    f"What the animator's process says cannot be understood ({message}). Check "
                    "that the Python in the SelfTalk preferences is one, and try again."
                )
            if gone > 0.5:  # whatever it said before has been read
                starting, code = self._starting, self._end_process(patience=2.0)
                if task.unwanted.is_set():
                    return
                if not self._heard:
                    raise _DiedIdleError
                kind = SelfTalkError if starting else AnimatorEndedError
                raise self._failure(self._last_words(code, starting), kind)
            if message is not None:
                yield message
                before = time.monotonic()
            if task.unwanted.is_set():
                if asked is None:
                    self._say("cancel", job=self._job)
                    asked = time.monotonic()
                # A process that is still loading leaves the job when it is ready: warm, then.
                if time.monotonic() - asked > REACT and not self._starting:
                    self._end_process()
                    return
            if silent > (SILENCE_STARTING if self._starting else SILENCE):
                self._end_process()
                if task.unwanted.is_set():
                    return
                raise self._failure(
                    f"The animator gave no sign of life for {silent:.0f} s and was ended. "
                    "Animate again."
                )

    def _say(self, kind: str, **fields: Any) -> None:
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError):  # it is gone: its output ends, too
            write(cast(BinaryIO, self._process.stdin), kind, **fields)

    def _start_process(self) -> None:
        entry = ENTRY.format(package=PACKAGE.name)
        folders = [str(folder) for folder in (PACKAGE.parent, *self._python.libraries)]
        command = [str(self._python.program), "-c", entry, *folders]
        try:
            log = open_log()
        except OSError as error:
            raise SelfTalkError(
                f"The log {log_file()} cannot be written ({error.strerror or error}). Free some "
                "space or make its folder writable."
            ) from error
        with log:
            self._log_begin = log.seek(0, os.SEEK_END)
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    # Not our own, where a torch.py may lie; the folder for temporary files may go.
                    cwd=log_file().parent,
                    **process_settings(),
                )
            except OSError as error:
                raise SelfTalkError(
                    f"{self._python.program} cannot be started ({error.strerror or error}). "
                    "Choose another Python in the SelfTalk preferences."
                ) from error
        self._inbox = queue.SimpleQueue()
        assert process.stdout is not None
        threading.Thread(target=_hear, args=(process.stdout, self._inbox), daemon=True).start()
        with self._changed:
            self._process = process
            if self._stopping:
                process.kill()

    def _end_process(self, patience: float = 0.0) -> int:
        """Kill it, unless it ends by itself within `patience` seconds.

        Returns:
            Its exit code, 1 where it had to be killed.
        """
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            code = process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = 1
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        return code

    def _other_version(self) -> SelfTalkError:
        self._end_process()
        return self._failure(
            "SelfTalk was updated while this Blender ran: the animator's process speaks another "
            f"version than the add-on's {VERSION}. Restart Blender."
        )

    def _failure(self, words: str, kind: type[SelfTalkError] = SelfTalkError) -> SelfTalkError:
        return kind(f"{words} The log is {log_file()}.")

    def _last_words(self, code: int, starting: bool) -> str:
        """What to say of a process that ended without a word, or before its first."""
        if code < 0:
            known = -code in {int(known) for known in signal.Signals}
            name = signal.Signals(-code).name if known else f"signal {-code}"
            if -code in (signal.SIGKILL, signal.SIGTERM):
                return (
                    f"The animator was ended from outside ({name}); perhaps memory ran out. "
                    "Close other programs, or animate a shorter part, and try again."
                )
            return f"The animator crashed ({name}). Try the device CPU in the preferences."
        lines: list[str] = []
        with contextlib.suppress(OSError), open(log_file(), "rb") as log:
            log.seek(self._log_begin)
            lines = log.read(LARGEST_LOG).decode("utf-8", "replace").strip().splitlines()
        last = lines[-1].strip() if lines else f"exit code {code}"
        words = f"The animator stopped: {last[:300].rstrip('.')}."
        if starting:
            words += f" Check that {self._python.program} is a Python that runs, or choose another."
        return words


class AnimatorEndedError(SelfTalkError):
    """The process ended by itself, or was ended, in the middle of a job that another may finish."""


class _DiedIdleError(Exception):
    """The process ended while it had nothing to do."""


def _hear(stream: BinaryIO, inbox: queue.SimpleQueue[Message | ProtocolError | None]) -> None:
    """Runs in a thread of its own: None at the end of what a process says."""
    with stream:
        try:
            while (message := read(stream)) is not None:
                inbox.put(message)
        except ProtocolError as error:
            inbox.put(error)
        except MemoryError:
            inbox.put(ProtocolError("memory ran out"))
        except OSError:
            pass
    inbox.put(None)


def _stopped() -> SelfTalkError:
    return SelfTalkError("The animator was stopped. Animate again.")
