"""The animator as a process of its own; `docs/worker-protocol.md` tells what it hears and says.

Started by `client`, never by hand. It serves one request after the other, keeps the last animators
loaded, and ends as soon as its input ends.
"""

from __future__ import annotations

import faulthandler
import gc
import io
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

from . import STARTING
from .lanes import load_animator
from .protocol import PIECE, VERSION, Message, ProtocolError, read, write

if TYPE_CHECKING:
    import numpy as np

    from ..core import Motion
    from .lanes import AnyAnimator

BEAT = 1.0  # seconds between two signs of life
KEPT = 2  # animators that stay loaded
LARGEST_LOG = 1 << 24  # bytes; a library that never stops complaining must not fill the disk


def main() -> None:
    """Serve until the input ends; leaves the process."""
    faulthandler.enable()
    # Ctrl-C in a terminal is meant for the program that started us; it tells us what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = _own_pipes()
    sys.stdout = sys.stderr = _forgiving_log()
    Server(requests, answers).serve()


class _Cancelled(Exception):
    """Raised out of a job whose client wants it no more."""


class Server:
    """Reads requests in a thread of its own and works on them one by one in this one."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO) -> None:
        self._requests, self._answers = requests, answers
        self._speaking = threading.Lock()
        self._jobs: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._busy = threading.Event()
        self._cancelled = 0  # the last job that was cancelled
        self._animators: OrderedDict[object, AnyAnimator] = OrderedDict()

    def serve(self) -> NoReturn:
        """Never returns: the end of the input ends the process."""
        self._say("hello", version=VERSION, pid=os.getpid())
        for thread in (self._listen, self._beat):
            threading.Thread(target=thread, daemon=True).start()
        while True:
            request = self._jobs.get()
            _log(f"{request.kind} {request.fields.get('clip', '')}")
            self._work(int(request.fields["job"]), request)
            self._busy.clear()

    def _listen(self) -> None:
        while True:
            try:
                request = read(self._requests)
            except (ProtocolError, OSError):
                traceback.print_exc()
                os._exit(1)
            if request is None:  # the system closes our input when the client ends, however it ends
                os._exit(0)
            if request.kind == "cancel":
                self._cancelled = int(request.fields["job"])
            else:
                self._busy.set()
                self._jobs.put(request)

    def _beat(self) -> None:
        """Show that the process lives, whatever its work is at."""
        while True:
            self._busy.wait()
            self._say("alive")
            time.sleep(BEAT)
            if os.fstat(2).st_size > LARGEST_LOG:
                os.ftruncate(2, 0)

    def _work(self, job: int, request: Message) -> None:
        """Do what is asked, or say why not. The log gets the tracebacks."""
        try:
            self._tell(job, 0.0, STARTING)
            if request.kind == "prepare":
                self._animator(request.fields)
                self._say("prepared", job=job)
            else:
                self._animate(job, request.fields)
        except _Cancelled:
            self._say("cancelled", job=job)
        except ImportError as error:
            traceback.print_exc()
            # What is installed now is seen by a new process alone.
            self._say("failed", job=job, error=_lacking(error), log=False, ends=True)
            os._exit(1)
        except MemoryError:
            traceback.print_exc()
            self._out_of_memory(job)
        except Exception as error:
            traceback.print_exc()
            self._failed(job, error)
        if request.kind != "prepare":
            gc.collect()

    def _failed(self, job: int, error: Exception) -> None:
        from ..core.errors import SelfTalkError

        words = str(error)
        if isinstance(error, SelfTalkError):
            # A refusal says all; of a device that does not work the log knows more.
            self._say("failed", job=job, error=words, log=words.startswith("The device"))
        elif "memory" in words and "alloc" in words:  # as torch's CPU allocator says it
            self._out_of_memory(job)
        else:
            what = f"{type(error).__name__}: {words[:300]}"
            text = f"The animator met a fault of its own ({what}). Please report it."
            self._say("failed", job=job, error=text, log=True)

    def _out_of_memory(self, job: int) -> None:
        self._animators.clear()
        gc.collect()
        self._say(
            "failed",
            job=job,
            error="Memory ran out. Close other programs, or animate a shorter part of the clip.",
            log=True,
        )

    def _animate(self, job: int, fields: Mapping[str, Any]) -> None:
        animator = self._animator(fields)
        motion = animator.animate_file(
            fields["clip"],
            float(fields["start"]),
            fields["stop"],
            lambda done, stage: self._tell(job, done, stage),
        )
        self._send(job, motion)
        loudness = animator.loudness
        self._say("result", {"loudness": loudness}, job=job, notices=animator.notices)

    def _send(self, job: int, motion: Motion) -> None:
        """The motion in pieces."""
        frames = motion.weights if motion.weights is not None else motion.dense
        assert frames is not None
        told: dict[str, Any] = {"fps": motion.fps, "frames": len(motion)}
        if motion.weights is not None:
            self._say("weights", job=job, head=motion.template.digest, **told)
        else:
            self._say("dense", {"vertices": motion.template.vertices}, job=job, **told)
        size = max(PIECE // max(frames[:1].nbytes, 1), 1)
        for first in range(0, len(frames), size):
            self._check(job)
            self._say("frames", {"frames": frames[first : first + size]}, job=job, first=first)

    def _animator(self, fields: Mapping[str, Any]) -> AnyAnimator:
        """The animator that a request names: kept from before, or loaded."""
        # Not at the top: a Python without numpy is told of in words, too.
        from ..core.meshes import read_template

        path, device = fields["animator"], fields["device"]
        template = None
        if fields["template"] is not None:
            template, _ = read_template(fields["template"], fields["subject"])
        stamp = os.stat(path) if path is not None and os.path.exists(path) else None
        key = (path, device, stamp and (stamp.st_mtime_ns, stamp.st_size))
        kept = self._animators.pop(key, None)
        if kept is not None and template is not None and hasattr(kept, "with_template"):
            kept = kept.with_template(template)
        elif kept is None or template is not None or hasattr(kept, "with_template"):
            kept = None  # before another one is loaded
            kept = load_animator(path, device, template)
        self._animators[key] = kept
        while len(self._animators) > KEPT:
            self._animators.popitem(last=False)
        return kept

    def _tell(self, job: int, done: float, stage: str) -> None:
        """Called at every turn of the work: here a cancelled job ends."""
        self._check(job)
        self._say("progress", job=job, done=round(float(done), 4), stage=stage)

    def _check(self, job: int) -> None:
        if self._cancelled >= job:
            raise _Cancelled

    def _say(
        self, kind: str, arrays: Mapping[str, np.ndarray] | None = None, **fields: Any
    ) -> None:
        with self._speaking:
            try:
                write(self._answers, kind, arrays, **fields)
            except OSError:  # the client is gone
                os._exit(1)


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The process's input and output for messages alone; what libraries print goes to the log."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return requests, answers


class _Log(io.FileIO):
    """The log; what a full disk does not take is lost, and the work goes on."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _forgiving_log() -> io.TextIOWrapper:
    log = cast(BinaryIO, _Log(2, "w", closefd=False))
    return io.TextIOWrapper(log, "utf-8", "backslashreplace", write_through=True)


def _lacking(error: ImportError) -> str:
    missing = error.name or str(error)
    verb = "lacks" if isinstance(error, ModuleNotFoundError) else "cannot load"
    return (
        f"The Python that runs the animator ({sys.executable}) {verb} {missing}. Install it with: "
        f'"{sys.executable}" -m pip install {missing} - or choose another Python in the SelfTalk '
        "preferences."
    )


def _log(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} [{os.getpid()}] {text}", file=sys.stderr)
