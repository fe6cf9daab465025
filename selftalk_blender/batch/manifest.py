"""OUT/manifest.jsonl: what became of each clip, one line each, whole or not at all.

A line is a JSON object: the task (clip, place, mesh, object, settings), `input`, which is the hash
of all that it names, and what became of it (see `task.Done`). Where a clip has several lines the
last one counts.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from ..core.version import VERSION
from .task import Done, File, Task

NAME = "manifest.jsonl"
LOCK = ".selftalk-bake.lock"
PATIENCE = 10.0  # seconds that the children of a killed bake may take to end
ANIMATOR = Path(__file__).resolve().parent.parent / "assets" / "animator.safetensors"
# Paths among the settings: what is in the files counts, not where they are.
FILES = ("animator", "template")

Line = dict[str, Any]


class Manifest:
    """The list of an output folder, which nobody else may write meanwhile (see `lock`)."""

    def __init__(self, out: Path) -> None:
        """Read it; what a killed run left torn is dropped.

        Raises:
            SelfTalkError: the file cannot be read or written.
        """
        self._out, self._path = out, out / NAME
        self._lines = read(self._path)
        text = "".join(_text(line) for line in self._lines.values())
        try:
            if self._path.exists():
                os.close(os.open(self._path, os.O_WRONLY))  # not only once a clip is baked
                if self._path.read_text("utf-8", "replace") != text:
                    with atomic_path(self._path) as temporary:
                        temporary.write_text(text, "utf-8")
        except OSError as error:
            raise _cannot("written", self._path, error) from error

    def current(self, task: Task, digest: str, blender: str = "") -> Line | None:
        """The line of a task whose results are there, whole, and made of the same; else None.

        Args:
            digest: `input_hash` of the task.
            blender: version of the Blender that would do it; "" where that is not known.
        """
        line = self._lines.get(task.place)
        if line is None or line.get("error") is not None or line.get("input") != digest:
            return None
        try:
            same = _comparable(line) == _comparable(
                line_of(task, digest, Done(task.clip, task.place))
            )
            done = Done.from_json({name: line[name] for name in _DONE})
        except (KeyError, TypeError, AttributeError):  # of another version
            return None
        same = same and done.blender == (blender or done.blender) and all(map(_as_read, done.read))
        whole = done.outputs and all(is_whole(self._out, output) for output in done.outputs)
        return line if same and whole else None

    def add(self, task: Task, digest: str, done: Done) -> Line:
        """Append the line of a task that has ended; on the disk when this returns.

        Raises:
            SelfTalkError: it cannot be written.
        """
        line = line_of(task, digest, done)
        self._lines[task.place] = line
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, flags, 0o666)
            try:
                before = os.fstat(handle).st_size
                data = _text(line).encode()
                if os.write(handle, data) < len(data):
                    os.ftruncate(handle, before)
                    raise OSError("the disk is full")
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise _cannot("written", self._path, error) from error
        return line


_DONE = tuple(Done.__dataclass_fields__)


def line_of(task: Task, digest: str, done: Done) -> Line:
    """The manifest's line of a task."""
    fields = {name: value for name, value in task.to_json().items() if name != "out"}
    line: Line = json.loads(json.dumps(fields | {"input": digest} | done.to_json()))
    return line


def read(path: Path) -> dict[str, Line]:
    """The newest line of each clip of a manifest, by its place, in the order of the file.

    Lines that are torn or no lines of ours are left out; a file that is not there is empty.

    Raises:
        SelfTalkError: the file cannot be read.
    """
    lines: dict[str, Line] = {}
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for text in file:
                if text.endswith("\n"):
                    with contextlib.suppress(ValueError):
                        line = json.loads(text)
                        if isinstance(line, dict) and isinstance(line.get("place"), str):
                            lines.pop(line["place"], None)
                            lines[line["place"]] = line
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _cannot("read", path, error) from error
    return lines


def made(out: Path) -> set[Path]:
    """The files of an output folder that its manifest tells of.

    Raises:
        SelfTalkError: the manifest cannot be read.
    """
    paths = set()
    for line in read(out / NAME).values():
        with contextlib.suppress(KeyError, TypeError):  # of another version
            paths |= {out / output["path"] for output in line["outputs"]}
    return paths


def _text(line: Line) -> str:
    return json.dumps(line) + "\n"


def _cannot(what: str, path: Path, error: OSError) -> SelfTalkError:
    reason = error.strerror or error
    return SelfTalkError(
        f"{path} cannot be {what} ({reason}). Free some space or choose another folder."
    )


def _comparable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same in two tasks for the same results, beside what is hashed."""
    settings = {name: value for name, value in fields["settings"].items() if name not in FILES}
    settings["formats"] = sorted(settings["formats"])
    return {"object": fields["object"], "character": bool(fields["mesh"]), **settings}


# --- Files ------------------------------------------------------------------------------------


def input_hash(task: Task) -> str:
    """A hash of all that a task names, by content, and of SelfTalk's version.

    What a character's .blend takes from other files is not in it; see `task.Done`.

    Raises:
        SelfTalkError: a file cannot be read.
    """
    settings = task.settings
    parts = [VERSION, content(task.clip, remember=False)]
    for path in (task.mesh, settings.animator or str(ANIMATOR), settings.template):
        parts.append(content(path) if path else "")
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def content(path: str, remember: bool = True) -> str:
    """The hash of a file's content.

    Args:
        remember: whether many clips have this file.

    Raises:
        SelfTalkError: it cannot be read.
    """
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):  # a pipe may never end
            raise SelfTalkError(f"{path} is no file. Choose another one.")
        if not remember:
            return _sha256(Path(path))
        return _remembered(path, info.st_size, info.st_mtime_ns)
    except FileNotFoundError:
        raise SelfTalkError(f"There is no file {path}.") from None
    except OSError as error:
        raise SelfTalkError(f"{path} cannot be read ({error.strerror or error}).") from error


@functools.lru_cache(maxsize=1000)
def _remembered(path: str, size: int, changed: int) -> str:
    return _sha256(Path(path))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def output_of(out: Path, path: Path) -> File:
    """A file below the output folder as the manifest has it."""
    info = path.stat()
    return File(path.relative_to(out).as_posix(), info.st_size, _sha256(path), info.st_mtime_ns)


def read_of(path: str) -> File:
    """A file that many clips read, by its absolute path, as the manifest has it."""
    try:
        info = os.stat(path)
        return File(path, info.st_size, content(path), info.st_mtime_ns)
    except (OSError, SelfTalkError):
        return File(path, -1, "", 0)


@functools.lru_cache(maxsize=1000)
def _as_read(file: File) -> bool:
    """Whether a file is as it was read, or is still not there."""
    return not os.path.isfile(file.path) if file.size < 0 else is_whole(Path(), file)


def is_whole(out: Path, output: File) -> bool:
    """Whether a file is there as it was written; read only where its time says it was touched."""
    path = out / output.path
    try:
        info = path.stat()
        if info.st_size != output.size:
            return False
        return info.st_mtime_ns == output.changed or _sha256(path) == output.sha256
    except OSError:
        return False


# --- One bake at a time -----------------------------------------------------------------------


@contextlib.contextmanager
def lock(out: Path) -> Iterator[int]:
    """Have an output folder for oneself; yields the open file whose lock says so.

    The system gives the lock back when the last process that has the file open ends, however it
    ends: one that was killed stands in nobody's way.

    Raises:
        SelfTalkError: another bake has it, or nothing can be written there.
    """
    path = out / LOCK
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = _locked(path, time.monotonic() + PATIENCE)
    except OSError as error:
        raise _cannot("written", path, error) from error
    try:
        other = out if handle is None else _nested(out)
        if handle is None or other is not None:
            raise SelfTalkError(
                f"Another bake writes into {other}. Wait until it is done, or choose another "
                "folder."
            )
        yield handle
    finally:
        if handle is not None:
            if os.name == "nt":  # which removes no open file; nor, afterwards, what another has
                os.close(handle)
            with contextlib.suppress(OSError):
                path.unlink()
            if os.name != "nt":
                os.close(handle)


def _locked(path: Path, until: float) -> int | None:
    """The file, open and locked by us; None where another has it.

    The children of a bake that was killed have it a little longer: until then it is worth waiting.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        if not _take(handle):
            owner = os.pread(handle, 20, 0) if os.name == "posix" else b""
            os.close(handle)
            if _runs(owner) or time.monotonic() > until:
                return None
            time.sleep(0.1)
        elif _is_file(handle, path):
            os.truncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            return handle
        else:  # who had it has just removed it
            os.close(handle)


def _nested(out: Path) -> Path | None:
    """A folder around this one, or below it, that another bake has: one of us would remove what
    the other has not finished."""
    below = (Path(inside) for inside, _, names in os.walk(out) if LOCK in names)
    folders = (folder for folder in (*out.parents, *below) if folder != out)
    return next((folder for folder in folders if _held(folder / LOCK)), None)


def _held(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _take(handle)
    finally:
        os.close(handle)


def _take(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _runs(owner: bytes) -> bool:
    if os.name != "posix" or not owner.isdigit():
        return os.name != "posix"
    try:
        os.kill(int(owner), 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _is_file(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
