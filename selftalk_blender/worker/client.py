"""Blender's side of the animator's process: start it, keep it warm, listen to it. No torch here.

One process serves one Python and device. It starts with the first job, takes one job at a time,
and ends after IDLE seconds without one, when another Python or device is used, by `stop_workers`,
or with us, however we end. A process that crashed or hung is replaced for the next job.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from ..core import FaceTemplate, Motion, bundled_template
from ..core.errors import SelfTalkError
from . import STARTING, WAITING
from .log import LARGEST_LOG, log_file, open_log
from .protocol import VERSION, Message, ProtocolError, VersionError, read, write
from .python import Python, find_python, process_settings

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


@dataclass(frozen=True)
class Progress:
    """How far the animator is: `done` in 0..1 and what it is doing."""

    done: float
    stage: str


# --- Jobs ---------------------------------------------------------------------------------


class _Task:
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


class AnimateJob:
    """One clip, or a part of it, on its way through the animator.

    Attributes:
        finished: whether `result` can be called.
        notices: sentences about the clip that its owner should read; filled by `result`.
        loudness: (T,) float32, dBFS of the sound during each frame of the motion, -120 in
            digital silence; filled by `result`.
    """

    def __init__(
        self,
        clip: str | os.PathLike[str],
        start: float = 0.0,
        stop: float | None = None,
        python: str | None = None,
        device: str | None = None,
        animator: str | os.PathLike[str] | None = None,
        template: str | os.PathLike[str] | None = None,
        subject: str = "",
    ) -> None:
        """Nothing starts yet.

        Args:
            clip: the sound file, or a video with sound.
            start, stop: seconds in the file; to its end by default.
            python: the Python to use; see `python.find_python`.
            device: "cpu" or "cuda"; None takes CUDA where there is one.
            animator: an animator file; the bundled one by default.
            template: the neutral face to move (see `core.meshes.read_template`), for an
                animator that needs one.
            subject: which face, where the template's file holds several.

        Raises:
            SelfTalkError: there is no such Python.
        """
        self.finished = False
        self.notices: list[str] = []
        self.loudness = np.zeros(0, np.float32)
        self._python, self._device = find_python(python), device
        fields = {
            "clip": str(Path(clip).absolute()),
            "start": float(start),
            "stop": None if stop is None else float(stop),
            **_animator_fields(device, animator, template, subject),
        }
        self._task = _Task("animate", fields)
        self._worker: _Worker | None = None

    def start(self) -> None:
        """Get in line; returns at once."""
        self._worker = _worker(self._python, self._device)
        self._worker.add(self._task)

    def poll(self) -> list[Progress]:
        """What has happened since the last call; returns at once. Sets `finished` at the end."""
        ended = self._task.ended.is_set()  # asked first: nothing comes after it
        steps = []
        with contextlib.suppress(queue.Empty):
            while True:
                steps.append(self._task.steps.get_nowait())
        self.finished = self.finished or ended
        return steps

    def result(self) -> Motion:
        """The motion, once `finished`; frame i is at start + i / fps seconds of the clip.

        Raises:
            SelfTalkError: the animator refused the clip, crashed, hung, or was ended.
        """
        assert self.finished
        if self._task.error is not None:
            raise self._task.error
        assert self._task.motion is not None, "the job was cancelled"
        self.notices, self.loudness = self._task.notices, self._task.loudness
        return self._task.motion

    def cancel(self) -> None:
        """Want it no more; returns at once. Does nothing to a job that has ended.

        The process leaves the job and stays warm; where it does not within REACT seconds, it is
        ended.
        """
        if self._worker is not None:
            self._worker.drop(self._task)
        self.finished = True


def warm_up(python: str | None = None, device: str | None = None) -> None:
    """Have the process started and the bundled animator loaded before someone waits for it.

    Returns at once, and does nothing where a process is already there. What goes wrong is told
    by the job that meets it again.

    Args:
        python, device: see `AnimateJob`.
    """
    with contextlib.suppress(SelfTalkError):
        worker = _worker(find_python(python), device)
        if not worker.warm:
            worker.add(_Task("prepare", _animator_fields(device, None, None, "")))


def _animator_fields(
    device: str | None,
    animator: str | os.PathLike[str] | None,
    template: str | os.PathLike[str] | None,
    subject: str,
) -> dict[str, Any]:
    return {
        "device": device,
        "animator": None if animator is None else str(Path(animator).absolute()),
        "template": None if template is None else str(Path(template).absolute()),
        "subject": subject or None,
    }


# --- Processes ----------------------------------------------------------------------------

_workers: dict[tuple[Python, str | None], _Worker] = {}
_registry = threading.Lock()


def _worker(python: Python, device: str | None) -> _Worker:
    """The one for this Python and device; others that have nothing to do are ended."""
    with _registry:
        if not _workers:
            atexit.register(stop_workers)
        for key, other in list(_workers.items()):
            if key != (python, device) and other.idle:
                _workers.pop(key).stop()
        if (python, device) not in _workers:
            _workers[python, device] = _Worker(python)
        return _workers[python, device]


def stop_workers() -> None:
    """End all processes at once; jobs on them end with an error."""
    with _registry:
        for worker in _workers.values():
            worker.stop()
        _workers.clear()
        atexit.unregister(stop_workers)


class _Worker:
    """One process, and the thread that talks to it; tasks wait in line here."""

    def __init__(self, python: Python) -> None:
        self._python = python
        self._line: deque[_Task] = deque()
        self._now: _Task | None = None
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
        return self._now is None and not self._line

    @property
    def warm(self) -> bool:
        """Whether a process is there, or will be."""
        return self._process is not None or not self.idle

    def add(self, task: _Task) -> None:
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

    def drop(self, task: _Task) -> None:
        with self._changed:
            task.unwanted.set()
            with contextlib.suppress(ValueError):
                self._line.remove(task)
                task.ended.set()

    def stop(self) -> None:
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

    def _serve(self, task: _Task) -> None:
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

    def _attempt(self, task: _Task) -> None:
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
        answer = _Answer()
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
                self._starting = step.stage == STARTING
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

    def _messages(self, task: _Task) -> Iterator[Message]:
        """What the process says, until the caller has heard enough.

        Ends early where the task is unwanted and the process had to be ended for it.

        Raises:
            SelfTalkError: the process ended, hangs, or cannot be understood.
        """
        silent, unwanted, gone = 0.0, 0.0, 0.0  # seconds
        asked = False
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
                raise self._failure(self._last_words(code, starting))
            if message is not None:
                yield message
                before = time.monotonic()
            if task.unwanted.is_set():
                if not asked:
                    self._say("cancel", job=self._job)
                    asked, since = True, time.monotonic()
                unwanted = time.monotonic() - since
                # A process that is still loading leaves the job when it is ready: warm, then.
                if unwanted > REACT and not self._starting:
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

    def _failure(self, words: str) -> SelfTalkError:
        return SelfTalkError(f"{words} The log is {log_file()}.")

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


class _DiedIdleError(Exception):
    """The process ended while it had nothing to do."""


class _Answer:
    """A motion that comes in pieces."""

    def __init__(self) -> None:
        self._template: FaceTemplate | None = None
        self._fps = 0.0
        self._frames = np.zeros((0, 0), np.float32)
        self._filled = 0
        self._weights = False

    def begin(self, message: Message) -> None:
        """Take a "weights" or a "dense".

        Raises:
            SelfTalkError: it is of another head than ours.
        """
        self._weights = message.kind == "weights"
        if self._weights:
            template = bundled_template()
            if message.fields["head"] != template.digest:
                raise SelfTalkError(
                    "The animator moves another head than this SelfTalk's. Restart Blender."
                )
            shape: tuple[int, ...] = (len(template.shape_names),)
        else:
            vertices = np.array(message.arrays["vertices"], np.float32)
            template = FaceTemplate("template", vertices, np.zeros((0, 4), np.int32))
            shape = vertices.shape
        self._template, self._fps = template, float(message.fields["fps"])
        self._frames, self._filled = np.empty((message.fields["frames"], *shape), np.float32), 0

    def add(self, message: Message) -> None:
        """Take a "frames"; they come in order."""
        frames, first = message.arrays["frames"], message.fields["first"]
        if first != self._filled or first + len(frames) > len(self._frames):
            raise ValueError(f"frames from {first} came after {self._filled}")
        self._frames[first : first + len(frames)] = frames
        self._filled += len(frames)

    def motion(self) -> Motion:
        """The whole.

        Raises:
            ValueError: pieces are missing, or it holds values that are not finite.
        """
        if self._template is None or self._filled != len(self._frames):
            raise ValueError("the motion is not whole")
        if self._weights:
            return Motion(self._template, self._fps, weights=self._frames)
        return Motion(self._template, self._fps, dense=self._frames)


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
