"""Files that appear under their final name only when they are whole."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from .errors import SelfTalkError

PART = ".selftalk-part"  # in the name of each file that is not whole yet


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place if the block succeeds.

    The temporary name keeps the suffix, since many writers choose their format by it.
    Whatever goes wrong, the temporary file is removed and an older file of the final
    name stays as it was.

    Raises:
        SelfTalkError: the folder cannot be written to, or the disk is full.
    """
    final = Path(path)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with part_of(final) as temporary:
            yield temporary
            # mkstemp makes private files; a result file is as public as any other.
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
            temporary.replace(final)
    except OSError as error:
        if PART in final.name:  # told of the file that it is a part of
            raise
        raise SelfTalkError(
            f"Cannot write {final}: {error.strerror or error}. "
            "Free some space or choose another folder."
        ) from error


@contextlib.contextmanager
def part_of(final: Path) -> Iterator[Path]:
    """Yield an empty file beside another one, for as long as a block takes, with the same suffix.

    Raises:
        OSError: the folder is not there, or cannot be written to.
    """
    handle, name = tempfile.mkstemp(
        prefix=f".{final.stem[:40]}-{os.getpid()}-", suffix=PART + final.suffix, dir=final.parent
    )
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def freed_aside(path: str | os.PathLike[str]) -> Iterator[None]:
    """Have a thread give back the room of the file that a block replaces.

    The system takes 50 ms for 100 MB, in which the replacing does not return.
    """
    handle = None
    if os.name != "nt":  # where an open file cannot be replaced
        with contextlib.suppress(OSError):  # nothing to be replaced
            handle = os.open(path, os.O_RDONLY)
    try:
        yield
    finally:
        if handle is not None:
            threading.Thread(target=os.close, args=[handle], name="SelfTalk closes").start()


def check_writable(path: str | os.PathLike[str]) -> None:
    """Make sure, before long work, that a file can be put at `path`; nothing is left there.

    Raises:
        SelfTalkError: its folder cannot be made or written to, or `path` is a folder.
    """
    final = Path(path).absolute()
    folder = next(parent for parent in final.parents if parent.exists())
    try:
        if final.is_dir():
            raise IsADirectoryError(f"{final} is a folder")
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise SelfTalkError(
            f"Cannot write {final}: {error.strerror or error}. Choose another place."
        ) from error


def check_name(path: str | os.PathLike[str]) -> None:
    """Whether Blender can open a file of this name.

    Raises:
        SelfTalkError: it would look for another file, or the name is no text.
    """
    name = os.fspath(path)
    try:
        name.encode()
        good = os.sep == "\\" or "\\" not in name
    except UnicodeEncodeError:
        good = False
    if not good:
        raise SelfTalkError(
            f"Blender cannot open {name}: on its path is a backslash, or what is no text in UTF-8. "
            "Rename it."
        )


def remove_parts(folder: str | os.PathLike[str], process: int | None = None) -> None:
    """Remove what `atomic_path` left in a folder where a process was killed in it.

    Args:
        process: the id of that process; by default those of all processes are removed, also in
            folders below: none of them may still be writing there.
    """
    for inside, folders, names in os.walk(folder):
        for name in names:
            if not (name.startswith(".") and PART in name):
                continue
            if process is None or f"-{process}-" in name:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(inside, name))
        if process is not None:
            folders.clear()
