"""The process that bakes, in Blender: see `process` for what it hears and says."""

from __future__ import annotations

import functools
import json
import os
import queue
import shutil
import sys
import threading
import time
import traceback
from typing import IO, Any

from ..core.errors import SelfTalkError
from .process import LIBRARIES
from .task import Done, Task

ANSWER = 0.3  # seconds that we wait for the next clip, before this one is written
LEAVE = 5.0  # seconds to leave what we do in good order, once nobody listens
RARELY = 0.2  # seconds between two steps that are told

Tasks = queue.SimpleQueue[Task | None]


def main() -> None:
    """Bake what is asked for on stdin until it ends; then the process ends."""
    # It was for Blender's own memory, and slows down whatever we start.
    os.environ.pop("MALLOC_PERTURB_", None)
    sys.path += filter(None, os.environ.pop(LIBRARIES, "").split(os.pathsep))
    say = Voice()
    tasks: Tasks = queue.SimpleQueue()
    ended = threading.Event()
    threading.Thread(target=_hear, args=(sys.stdin.buffer, tasks, ended), daemon=True).start()
    from ..worker import client

    code = 1
    try:
        try:
            code = _work(say, tasks, ended)
        except Exception:
            traceback.print_exc()
        client.stop_workers()
    finally:  # also where nobody is left who could be told
        _leave(code)


def _leave(code: int) -> None:
    """End the process now: Blender 4.5 as a module may hang at its own end."""
    import bpy

    try:
        shutil.rmtree(bpy.app.tempdir, ignore_errors=True)
        sys.stderr.flush()
    finally:
        os._exit(code)


class Voice:
    """What we say, on what was stdout: there Blender's exporters print, in C and in Python."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._told, self._patience = 0.0, 0.0

    def __call__(self, event: str, **fields: Any) -> None:
        print(json.dumps({"event": event, **fields}), file=self._stream, flush=True)

    def step(self, place: str, done: float, text: str, patience: float) -> None:
        """A step, unless one has just been told that takes no longer."""
        now = time.monotonic()
        if now - self._told > RARELY or patience != self._patience:
            self._told, self._patience = now, patience
            self("step", place=place, done=round(done, 3), text=text, patience=patience)


def _hear(stream: IO[bytes], tasks: Tasks, ended: threading.Event) -> None:
    """Runs in a thread of its own, which also ends a process that nobody listens to."""
    for line in stream:
        tasks.put(Task.from_json(json.loads(line)))
    ended.set()
    tasks.put(None)
    time.sleep(LEAVE)
    os._exit(3)


def _work(say: Voice, tasks: Tasks, ended: threading.Event) -> int:
    from ..blender import bake

    listening = None
    following: Task | None = None
    say("ready")
    while True:
        task, following = following or tasks.get(), None
        if task is None:
            return 0
        ready = False
        try:
            steps = bake.bake(task, listening)
            listening = None
            while True:
                try:
                    step = next(steps)
                except StopIteration as end:
                    done: Done = end.value
                    break
                if ended.is_set():
                    steps.close()
                    return 0
                tell = functools.partial(say.step, task.place, step.done, step.text, step.patience)
                tell()
                if step.heard and following is None:
                    if not ready:
                        ready = True
                        say("ready")
                        following = _soon(tasks, ANSWER)
                    else:
                        following = _soon(tasks, 0.0)
                    if following is not None:
                        listening = bake.listen(following, tell)
        except SelfTalkError as error:
            done = Done(task.clip, task.place, error=str(error))
        except Exception as error:  # the rest of a night's clips must go on
            traceback.print_exc()
            words = f"SelfTalk met a fault of its own ({error!r}). Please report it with the log."
            done = Done(task.clip, task.place, error=words)
        say("done", result=done.to_json())
        if not ready:
            say("ready")


def _soon(tasks: Tasks, patience: float) -> Task | None:
    try:
        return tasks.get(timeout=patience) if patience else tasks.get_nowait()
    except queue.Empty:
        return None


if __name__ == "__main__":
    main()
