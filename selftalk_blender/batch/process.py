"""A child process that bakes: one warm Blender with one warm animator, told what to do by JSON.

Each line to it is a task (`Task.to_json`); the end of its input ends it, whatever it does. Each
line from it is an object with an "event":

- "ready": it can take a task; at first, and whenever its animator is free, which is while the
  clip before is still being written.
- "step": "place" is at "done" (0..1), "text" says at what; the next line comes within "patience"
  seconds, or the child hangs.
- "done": with "result", what became of a task (`Done.to_json`).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.errors import SelfTalkError
from ..core.files import remove_parts
from .task import Task

PACKAGE = Path(__file__).resolve().parent.parent
# Also right in an installed extension, whose folder lies among others and not on the path.
ENTRY = (
    f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); "
    f"from {PACKAGE.name}.batch.child import main; main()"
)

STARTS = 3  # that fail before Blender counts as one that cannot start here
LIBRARIES = "SELFTALK_LIBRARIES"  # names folders of what the animator runs by; see `worker.python`


def command(blender: str = "") -> list[str]:
    """The command line of a child.

    Args:
        blender: the program of a Blender; "" for this Python, which then needs the bpy module.
    """
    if not blender:
        return [sys.executable, "-c", ENTRY]
    # Without the user's add-ons and preferences: they would make one machine's files differ from
    # another's. The environment is let in for what `environment` sets.
    return [
        blender, "--background", "--factory-startup", "--disable-autoexec",
        "--python-use-system-env", "--python-exit-code", "1", "--python-expr", ENTRY,
    ]  # fmt: skip


def version(blender: str = "") -> str:
    """Version of the Blender that children have, such as "5.0.1"; "" where it is not to be known.

    Args:
        blender: see `command`.
    """
    try:
        if blender:
            ask = [blender, "--version"]
            said = subprocess.run(ask, capture_output=True, timeout=60, check=False)
            words = said.stdout.decode("utf-8", "replace")
        else:
            words = "Blender " + importlib.metadata.version("bpy")
    except (OSError, subprocess.TimeoutExpired, importlib.metadata.PackageNotFoundError):
        return ""
    found = re.search(r"^Blender (\d+\.\d+\.\d+)", words, re.MULTILINE)
    return found[1] if found else ""


def environment(jobs: int, blender: str = "") -> dict[str, str]:
    """Our own for one of so many children.

    Args:
        blender: see `command`.
    """
    ours = dict(os.environ)
    if blender:  # its Python is not the one that these are meant for
        ours = {name: value for name, value in ours.items() if not name.startswith("PYTHON")}
        ours["PYTHONNOUSERSITE"] = "1"
    if jobs > 1:  # together they use each core once
        ours.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    # For the same bytes each time: ids in FBX files are hashes of names, and in Alembic files
    # Blender writes a flag from memory that it has not set.
    return ours | {"PYTHONHASHSEED": "0", "MALLOC_PERTURB_": "85"}


Inbox = queue.SimpleQueue[tuple[Any, dict[str, Any] | None]]


class Child:
    """One child process and the tasks that it has.

    Attributes:
        tasks: what it was given and has not done, in the order in which it does it. What it was
            doing when it ended is the first of them.
        lost: whether it ended for a reason that its tasks have nothing to do with.
    """

    lost = False

    def __init__(
        self,
        command: Sequence[str],
        inbox: Inbox,
        log: Path,
        environment: Mapping[str, str] | None = None,
        keep: tuple[int, ...] = (),
    ) -> None:
        """Start it; returns at once.

        Args:
            inbox: where its messages are put, each with this object; None when it has ended.
            log: the file that takes what it and its Blender print, as far as there is room.
            keep: files of ours that stay open until it has ended (POSIX).

        Raises:
            OSError: it cannot be started.
        """
        self.tasks: deque[Task] = deque()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Not the log itself: USD crashes where what it prints finds no room on the disk.
            stderr=subprocess.PIPE,
            env=environment,
            pass_fds=keep if os.name == "posix" else (),
            # Ctrl-C is for us alone: we end the children in good order.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        threading.Thread(target=self._hear, args=(inbox,), daemon=True).start()
        self._logging = threading.Thread(target=self._keep, args=(log,), daemon=True)
        self._logging.start()

    def give(self, task: Task) -> None:
        """Have it do a task after those that it has."""
        self.tasks.append(task)
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it is gone, and its owner hears that soon
            self._process.stdin.write(json.dumps(task.to_json()).encode() + b"\n")
            self._process.stdin.flush()

    def leave(self) -> None:
        """Let it know that it is to end; returns at once."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def end(self, patience: float = 0.0) -> None:
        """End it, by itself within `patience` seconds or else by force."""
        self.leave()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._logging.join(1.0)  # not for ever: what it started may have its stderr, too

    def last_words(self) -> str:
        """How it ended, as a clause; what it was doing may be the cause."""
        code = self._process.returncode
        if code < 0:
            known = -code in {int(known) for known in signal.Signals}
            name = signal.Signals(-code).name if known else f"signal {-code}"
            return f"Blender crashed ({name})"
        return f"Blender ended by itself (exit code {code})"

    def clean(self) -> None:
        """Remove what it left half-written, once it has ended."""
        for task in self.tasks:
            remove_parts(task.path("").parent, self._process.pid)
            remove_parts(task.cache_folder, self._process.pid)

    def _hear(self, inbox: Inbox) -> None:
        """Runs in a thread of its own."""
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                # Blender's program greets before our code runs.
                with contextlib.suppress(ValueError):
                    message = json.loads(line)
                    if isinstance(message, dict) and "event" in message:
                        inbox.put((self, message))
        inbox.put((self, None))

    def _keep(self, log: Path) -> None:
        """Runs in a thread of its own."""
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            while data := os.read(stream.fileno(), 1 << 16):
                with contextlib.suppress(OSError), open(log, "ab") as file:
                    file.write(data)


class Local:
    """Children on this machine: the usual crew of a supervisor.

    Attributes:
        jobs: how many there can be at a time.
    """

    def __init__(self, jobs: int, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Nothing starts yet. Args: command, environment: of a child."""
        self.jobs = jobs
        self._command, self._environment = command, environment
        self._how, self._failed = "", 0

    def open(self, out: Path, inbox: Inbox, log: Path, lock: int) -> None:
        """Take what children need; `lock` is the open file that says whose the folder is."""
        self._inbox, self._log, self._lock = inbox, log, lock

    def start(self) -> Child:
        """Start a child; returns at once.

        Raises:
            SelfTalkError: it cannot be started.
        """
        try:
            return Child(self._command, self._inbox, self._log, self._environment, (self._lock,))
        except OSError as error:
            raise SelfTalkError(
                f"{self._command[0]} cannot be started ({error.strerror or error})."
            ) from error

    def refuse(self, child: Child, how: str, last: bool) -> None:
        """Take the place from a child that never was ready, unless it may have been bad luck.

        Args:
            how: it ended, as a clause.
            last: whether it was the only child: others would do no better.
        """
        self._how = how
        self._failed += 1
        if self._failed >= STARTS:
            self.jobs = 0 if last else self.jobs - 1

    def check(self) -> None:
        """Whether there will be a child.

        Raises:
            SelfTalkError: why not.
        """
        if not self.jobs:
            how = self._how.replace("Blender", "it", 1)
            raise SelfTalkError(f"Blender cannot be started: {how}. The log is {self._log}.")

    def close(self) -> None:
        """Nothing is left to do once the children have ended."""
