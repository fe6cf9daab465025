"""What lives on each node of a Ray cluster: an actor with one child of `process` there.

Ray carries this module's code to the nodes by value. So it imports nothing of SelfTalk before it
runs there, and can say what is wrong with the SelfTalk of a node, or that there is none.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import queue
import sys
import time
from pathlib import Path
from typing import Any

SEEN = 5.0  # seconds that a shared file system may take to show a new file
LISTEN = 1.0  # seconds that `hear` waits for something to tell
LEAVE = 3.0  # seconds that a child has to end in good order


class Node:
    """The actor. Its methods may run at the same time, in threads."""

    def __init__(self, out: str, log: str, jobs: int) -> None:
        """Nothing starts yet.

        Args:
            out: the output folder, absolute.
            log: the file that takes what the child prints.
            jobs: how many of us are on this node.
        """
        self._out, self._log, self._jobs = Path(out), Path(log), jobs
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._child: Any = None

    def look(self, version: str, blender: str, shared: str, token: str) -> str | None:
        """Whether children can work here: None, or else what is wrong, to come after "it".

        Args:
            version, blender: of SelfTalk, where the bake was started, and of the Blender there;
                "" where there is none.
            shared, token: a file of the output folder, by name, and what is in it.
        """
        try:
            ours = importlib.import_module("selftalk_blender.core.version").VERSION
            process = importlib.import_module("selftalk_blender.batch.process")
        except ImportError as error:
            return f"lacks SelfTalk ({error}; its Python is {sys.executable})"
        if ours != version:
            return f"has SelfTalk {ours} instead of {version}"
        if importlib.util.find_spec("bpy") is None:
            return f"lacks the bpy module (its Python is {sys.executable})"
        here = process.version()
        if blender and here and here != blender:
            return f"has Blender {here} instead of {blender}"
        until = time.monotonic() + SEEN
        while _text(self._out / shared) != token:
            if time.monotonic() > until:
                return f"does not share the folder {self._out}"
            time.sleep(0.2)
        return None

    def start(self) -> None:
        """Start a child; what becomes of it is heard."""
        process = importlib.import_module("selftalk_blender.batch.process")
        if os.environ.get("OMP_NUM_THREADS") == "1":
            del os.environ["OMP_NUM_THREADS"]  # Ray's, for what claims one core
        try:
            self._child = process.Child(
                process.command(), self._inbox, self._log, process.environment(self._jobs)
            )
        except OSError as error:
            self._inbox.put((None, {"event": "ended", "how": f"Blender cannot start: {error}"}))

    def give(self, task: dict[str, Any], sure: bool) -> None:
        """Have the child do a task, unless something that it reads cannot be seen here.

        Args:
            sure: whether the child gets it nevertheless, to say so itself.
        """
        settings = task["settings"]
        for path in (task["clip"], task["mesh"], settings["animator"], settings["template"]):
            if path and not sure and not os.path.isfile(path):
                self._inbox.put((None, {"event": "unseen", "path": path, "task": task}))
                return
        module = importlib.import_module("selftalk_blender.batch.task")
        self._child.give(module.Task.from_json(task))

    def hear(self) -> list[dict[str, Any]]:
        """What has happened since the last call; waits a little for something to happen."""
        messages = []
        try:
            child, message = self._inbox.get(timeout=LISTEN)
            while True:
                if message is None and child is self._child:
                    child.end(patience=1.0)
                    message = {"event": "ended", "how": child.last_words()}
                if message is not None:
                    messages.append(message)
                child, message = self._inbox.get_nowait()
        except queue.Empty:
            pass
        return messages

    def leave(self) -> None:
        """Let the child know that it is to end."""
        if self._child is not None:
            self._child.leave()

    def end(self, patience: float = LEAVE) -> None:
        """End the child, by itself within `patience` seconds or else by force."""
        if self._child is not None:
            self._child.end(patience)


def _text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except OSError:
        return None
