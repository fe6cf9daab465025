"""Blender's side of the animator's process: start it, listen to it, end it. No torch here."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import Motion
from ..core.errors import SelfTalkError

PACKAGE = Path(__file__).resolve().parent.parent
# Also right in an installed extension, whose folder lies among others and not on the path.
ENTRY = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from {package}.worker.server import main; main()"
)


@dataclass(frozen=True)
class Progress:
    """How far the animator is: `done` in 0..1 and what it is doing."""

    done: float
    stage: str


def find_python(chosen: str | None = None) -> Path:
    """The Python that runs the animator: the chosen one, else SELFTALK_PYTHON, else our own.

    Raises:
        SelfTalkError: there is no such program.
    """
    for name, source in (
        (chosen, "the SelfTalk preferences"),
        (os.environ.get("SELFTALK_PYTHON"), "the environment variable SELFTALK_PYTHON"),
    ):
        if name:
            found = shutil.which(os.path.expanduser(name))
            if found is None:
                raise SelfTalkError(
                    f"There is no Python at {name}, which {source} names. Choose the python "
                    "program itself (python.exe on Windows, bin/python elsewhere)."
                )
            return Path(found).absolute()
    return Path(sys.executable)


class AnimateJob:
    """One clip, or a part of it, on its way through the animator.

    Attributes:
        notices: sentences about the clip that its owner should read; filled by `result`.
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
            python: the Python to use; see `find_python`.
            device: "cpu" or "cuda"; None takes CUDA where there is one.
            animator: an animator file; the bundled one by default.
            template: the neutral face to move (see `core.meshes.read_template`), for an
                animator that needs one.
            subject: which face, where the template's file holds several.

        Raises:
            SelfTalkError: there is no such Python.
        """
        self.notices: list[str] = []
        self._python = find_python(python)
        self._arguments = [str(Path(clip).absolute()), "--start", repr(float(start))]
        if stop is not None:
            self._arguments += ["--stop", repr(float(stop))]
        if animator is not None:
            self._arguments += ["--animator", str(Path(animator).absolute())]
        if template is not None:
            self._arguments += ["--template", str(Path(template).absolute())]
        if subject:
            self._arguments += [f"--subject={subject}"]  # it may begin with a dash
        if device is not None:
            self._arguments += ["--device", device]
        self._process: subprocess.Popen[str] | None = None
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._last: dict[str, Any] = {}
        self._folder = Path()
        self.finished = False

    def start(self) -> None:
        """Start the process.

        Raises:
            SelfTalkError: the system cannot start it.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="selftalk-"))
        command = [
            *(str(self._python), "-c", ENTRY.format(package=PACKAGE.name), str(PACKAGE.parent)),
            *(*self._arguments, "--output", str(self._folder / "motion.npz")),
        ]
        try:
            with open(self._log, "wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                    cwd=self._folder,
                    env=_environment(),
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
        except OSError as error:
            self._clean()
            raise SelfTalkError(
                f"{self._python} cannot be started ({error.strerror or error}). "
                "Choose another Python in the SelfTalk preferences."
            ) from error
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def poll(self) -> list[Progress]:
        """What has happened since the last call; returns at once. Sets `finished` at the end."""
        steps = []
        with contextlib.suppress(queue.Empty):
            while not self.finished:
                message = self._messages.get_nowait()
                if message is None:
                    self.finished = True
                elif "stage" in message:
                    steps.append(Progress(float(message["done"]), str(message["stage"])))
                else:
                    self._last = message
        return steps

    def result(self) -> Motion:
        """The motion, once `finished`; frame i is at start + i / fps seconds of the clip.

        Raises:
            SelfTalkError: the animator refused the clip, crashed, or was ended.
        """
        process, self._process = self._process, None
        assert process is not None and process.stdin is not None and self.finished
        code = process.wait()
        process.stdin.close()
        if "result" in self._last:
            try:
                motion = Motion.load(self._last["result"])
            finally:
                self._clean()
            self.notices = [str(notice) for notice in self._last["notices"]]
            return motion
        if "error" in self._last:
            self._clean()
            raise SelfTalkError(str(self._last["error"]))
        (self._folder / "motion.npz").unlink(missing_ok=True)
        raise SelfTalkError(f"{self._end(code)} The log is {self._log}.")

    def cancel(self) -> None:
        """End the process and remove what it wrote; does nothing if it has ended by `result`."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.kill()
            process.wait()
            process.stdin.close()
            self._clean()
        self.finished = True

    @property
    def _log(self) -> Path:
        return self._folder / "animator.log"

    def _listen(self, process: subprocess.Popen[str]) -> None:
        """Runs in a thread of its own until the process ends."""
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    message = json.loads(line)
                    if isinstance(message, dict):
                        self._messages.put(message)
        self._messages.put(None)

    def _end(self, code: int) -> str:
        """What to say of a process that ended without a word."""
        if code < 0:
            name = signal.Signals(-code).name
            if -code in (signal.SIGKILL, signal.SIGTERM):
                return (
                    f"The animator was ended from outside ({name}); perhaps memory ran out. "
                    "Close other programs, or animate a shorter part, and try again."
                )
            return f"The animator crashed ({name}). Try the device CPU in the preferences."
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        last = lines[-1].strip() if lines else f"exit code {code}"
        return f"The animator stopped: {last[:300]}"

    def _clean(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    """Ours without what Blender's Python, or a test runner's, sets for itself alone."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
