"""Children on the nodes of a Ray cluster: the crew of a supervisor with --ray.

Ray itself runs in a process of its own, `gate`, which says what goes on there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.errors import SelfTalkError
from ..core.files import PART
from ..core.version import VERSION
from . import process
from .task import Task

ENTRY = (
    f"import sys; sys.path.insert(0, {str(process.PACKAGE.parent)!r}); "
    f"from {process.PACKAGE.name}.batch.gate import main; sys.exit(main())"
)
TOKEN = f".cluster{PART}"  # so that it goes with what is half-written
PROBE = 3.0  # seconds that a cluster's address has to answer
CONNECT = 60.0  # seconds until Ray is connected
END = 5.0  # seconds that a node has to end a child by force
CLOSE = 12.0  # seconds that the gate has to end all

# A server that speaks gRPC answers HTTP/2's greeting with its settings.
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
SETTINGS = 4


class RemoteChild:
    """A child on a node: see `process.Child`.

    Attributes:
        place: its number.
        node: the name of its node.
        tasks, lost: see `process.Child`.
    """

    def __init__(self, place: int, node: str, say: Callable[..., None]) -> None:
        """It is being started. Args: say: tells the gate."""
        self.node = node
        self.tasks: deque[Task] = deque()
        self.lost = False
        self.ended = threading.Event()
        self.how = ""
        self.place, self._say = place, say

    def give(self, task: Task, sure: bool = False) -> None:
        """Have it do a task after those that it has.

        Args:
            sure: whether it was given before, and is not to be looked at again.
        """
        if not sure:
            self.tasks.append(task)
        self._say(at=self.place, do="give", task=task.to_json(), sure=sure)

    def leave(self) -> None:
        """Let it know that it is to end; returns at once."""
        if not self.ended.is_set():
            self._say(at=self.place, do="leave")

    def end(self, patience: float = 0.0) -> None:
        """End it, by itself within `patience` seconds or else by force."""
        self.leave()
        if self.ended.wait(patience):
            return
        self._say(at=self.place, do="end")
        if not self.ended.wait(END):
            self.lost, self.how = True, f"The node {self.node} gave no sign of life"

    def last_words(self) -> str:
        """How it ended, as a clause."""
        return self.how or "Blender was ended"

    def clean(self) -> None:
        """Nothing: ids of processes are not unique over machines; it is done at the bake's end."""


class Cluster:
    """Children on nodes, one for each of them or several, as long as there are nodes."""

    def __init__(self, address: str, jobs: int) -> None:
        """Nothing starts yet.

        Args:
            address: "auto", host:port, or ray://host:port.
            jobs: how many children each node has.

        Raises:
            SelfTalkError: Ray is not installed, or nothing answers at the address.
        """
        check_address(address)
        self._address, self._each = address, jobs
        self._lock = threading.Lock()
        self._vacant: dict[int, str] = {}  # places, and the names of their nodes
        self._children: dict[int, RemoteChild] = {}
        self._coming = 0  # places that may become vacant
        self._cannot: str | None = None  # why nothing more will
        self._connected = threading.Event()
        self._gate: subprocess.Popen[bytes] | None = None

    @property
    def jobs(self) -> int:
        """How many children there can be now."""
        with self._lock:
            working = [child for child in self._children.values() if not child.lost]
            return len(self._vacant) + len(working)

    def open(
        self,
        out: Path,
        inbox: process.Inbox,
        log: Path,
        lock: int,
    ) -> None:
        """Connect.

        Args:
            out: the output folder.
            inbox: where messages of children are put; those for people come from None.
            log: takes what they, and Ray, print; a file of the output folder.
            lock: the open file that says whose the folder is.

        Raises:
            SelfTalkError: the cluster cannot be used.
        """
        self._inbox, self._log = inbox, log
        token = secrets.token_hex(8)  # a node that reads it there shares the folder
        (out / TOKEN).write_text(token, "utf-8")
        with open(log, "ab") as said:
            self._gate = subprocess.Popen(
                [sys.executable, "-c", ENTRY],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=out,  # Ray puts it on the nodes' sys.path
                pass_fds=(lock,) if os.name == "posix" else (),
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        self._say(
            address=self._address,
            jobs=self._each,
            out=str(out),
            log=str(log),
            version=VERSION,
            blender=process.version(),
            shared=TOKEN,
            token=token,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        if not self._connected.wait(CONNECT):
            self._gate.kill()
            self._cannot = f"it did not answer within {CONNECT:.0f} s"
        self.check()

    def start(self) -> RemoteChild:
        """Start a child where there is none; returns at once."""
        with self._lock:
            place = next(iter(self._vacant))
            child = RemoteChild(place, self._vacant.pop(place), self._say)
            self._children[place] = child
        self._say(at=place, do="start")
        return child

    def refuse(self, child: RemoteChild, how: str, last: bool) -> None:
        """Use the node no more whose child never was ready.

        Args:
            how: it ended, as a clause.
            last: whether it was the only child.
        """
        if not child.lost:
            with self._lock:
                self._vacant.pop(child.place, None)
            self._leave_out(child, f"{how} there")

    def check(self) -> None:
        """Whether there is a node, or one may come.

        Raises:
            SelfTalkError: there is none.
        """
        with self._lock:
            if self._cannot is None and (self._vacant or self._children or self._coming):
                return
            cannot = self._cannot
        where = f"The Ray cluster at {self._address}"
        if cannot is None:
            raise SelfTalkError(
                f"{where} has no node left that can bake. What is done stays done: mend the "
                "nodes and go on by --resume."
            )
        raise SelfTalkError(f"{where} cannot be used: {cannot}. The log is {self._log}.")

    def close(self) -> None:
        """End what is left on the nodes."""
        gate = self._gate
        if gate is None:
            return
        assert gate.stdin is not None
        with contextlib.suppress(OSError):
            gate.stdin.close()
        try:
            gate.wait(CLOSE if self._connected.is_set() else 0.0)
        except subprocess.TimeoutExpired:
            gate.kill()  # Ray ends the actors of a process that is gone
            gate.wait()

    def _say(self, **fields: Any) -> None:
        assert self._gate is not None and self._gate.stdin is not None
        data = json.dumps(fields).encode() + b"\n"
        # A gate that is gone is heard of by `_listen`.
        with contextlib.suppress(OSError, ValueError), self._lock:
            self._gate.stdin.write(data)
            self._gate.stdin.flush()

    def _listen(self) -> None:
        """Runs in a thread of its own: hears the gate."""
        assert self._gate is not None and self._gate.stdout is not None
        with self._gate.stdout as stream:
            for line in stream:
                message = json.loads(line)
                if "at" in message:
                    self._hear(message.pop("at"), message)
                elif message["event"] == "nodes":
                    self._coming = message["coming"]
                    self._connected.set()
                elif message["event"] == "notice":
                    self._inbox.put((None, message))
                elif message["event"] == "cannot":
                    text = message["text"].strip()
                    if "Traceback" in text:
                        text = text.splitlines()[-1]
                    self._cannot = " ".join(text.split())[:400].rstrip(".")
        self._cannot = self._cannot or "the connection to it was lost"
        for place in list(self._children):
            self._lose(place)
        self._vacant.clear()
        self._connected.set()

    def _hear(self, place: int, message: dict[str, Any]) -> None:
        event = message["event"]
        if event == "vacant":
            with self._lock:
                self._vacant[place] = message["node"]
            return
        if event == "lost":
            with self._lock:
                self._vacant.pop(place, None)
            text = f"The node {message['node']} was lost; the bake goes on."
            self._inbox.put((None, {"event": "notice", "text": text}))
            self._lose(place)
            return
        child = self._children.get(place)
        if child is None:
            return
        if event == "ended":
            with self._lock:
                del self._children[place]
                self._vacant[place] = child.node
            child.how = message["how"]
            child.ended.set()
            self._inbox.put((child, None))
        elif event == "unseen":
            task, path = Task.from_json(message["task"]), message["path"]
            if os.path.isfile(path):
                self._leave_out(child, f"it does not see {path}")
            else:  # nobody does
                child.give(task, sure=True)
        else:
            self._inbox.put((child, message))

    def _leave_out(self, child: RemoteChild, why: str) -> None:
        """Use a child's node no more."""
        text = f"The node {child.node} is left out: {why}."
        self._inbox.put((None, {"event": "notice", "text": text}))
        self._say(at=child.place, do="refuse")
        child.how = f"The node {child.node} was left out"
        self._lose(child.place)

    def _lose(self, place: int) -> None:
        with self._lock:
            child = self._children.pop(place, None)
        if child is not None:
            child.lost = True
            child.how = child.how or f"The node {child.node} was lost"
            child.ended.set()
            self._inbox.put((child, None))


def check_address(address: str) -> None:
    """Whether Ray is here, and something that speaks its language at an address.

    Raises:
        SelfTalkError: Ray is not, the address is none, or nothing answers there.
    """
    if importlib.util.find_spec("ray") is None:
        raise SelfTalkError(
            f"--ray needs Ray, which this Python ({sys.executable}) lacks. Install it with: "
            f'"{sys.executable}" -m pip install "selftalk-blender[cluster]"'
        )
    if address == "auto":
        return
    match = re.fullmatch(r"(ray://)?(?:\[([0-9a-fA-F:.]+)\]|([^\s:/\[\]]+)):(\d{1,5})", address)
    if match is None or not 0 < int(match[4]) < 65536:
        raise SelfTalkError(
            f"{address!r} is no address of a Ray cluster. Choose auto, on a machine of the "
            "cluster, or host:port (usually port 6379), or ray://host:port (usually 10001)."
        )
    if match[1] and importlib.util.find_spec("grpc") is None:
        raise SelfTalkError(
            f"An address with ray:// needs grpcio, which this Python ({sys.executable}) lacks. "
            f'Install it with: "{sys.executable}" -m pip install "ray[client]"'
        )
    try:
        _probe(match[2] or match[3], int(match[4]))
    except OSError as error:
        why = error.strerror or str(error)
        raise SelfTalkError(
            f"No Ray cluster answers at {address} ({why}). Start one there (ray start --head), or "
            "correct the address."
        ) from error


def _probe(host: str, port: int) -> None:
    """Raises: OSError: no server that Ray could be is there."""
    with socket.create_connection((host, port), PROBE) as server:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return
        until = time.monotonic() + PROBE
        server.sendall(GREETING)
        answer = b""
        while len(answer) < 9:
            server.settimeout(max(0.01, until - time.monotonic()))
            part = server.recv(9 - len(answer))
            if not part:
                break
            answer += part
        if answer[3:4] != bytes([SETTINGS]):
            raise OSError("another program has that port")
