"""Blender's side of the animator's process: start it, keep it warm, listen to it. No torch here.

One process serves one Python and device. It starts with the first job, takes one job at a time,
and ends after some minutes without one, when another Python or device is used, by `stop_workers`,
or with us, however we end. A process that crashed or hung is replaced for the next job.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import threading
from pathlib import Path
from typing import Any

import numpy as np

from ..core import Motion
from ..core.errors import SelfTalkError
from ..core.progress import Progress
from .process import Task, Worker
from .python import Python, find_python

# --- Jobs ---------------------------------------------------------------------------------


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
        self._task = Task("animate", fields)
        self._worker: Worker | None = None

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

        The process leaves the job and stays warm; where it does not at once, it is ended.
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
            worker.add(Task("prepare", _animator_fields(device, None, None, "")))


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

_workers: dict[tuple[Python, str | None], Worker] = {}
_registry = threading.Lock()


def _worker(python: Python, device: str | None) -> Worker:
    """The one for this Python and device; others that have nothing to do are ended."""
    with _registry:
        if not _workers:
            atexit.register(stop_workers)
        for key, other in list(_workers.items()):
            if key != (python, device) and other.idle:
                _workers.pop(key).stop()
        if (python, device) not in _workers:
            _workers[python, device] = Worker(python)
        return _workers[python, device]


def stop_workers() -> None:
    """End all processes at once; jobs on them end with an error."""
    with _registry:
        for worker in _workers.values():
            worker.stop()
        _workers.clear()
        atexit.unregister(stop_workers)
