"""The log: where the animator's process writes down what happens. No torch here."""

from __future__ import annotations

import contextlib
import getpass
import tempfile
from pathlib import Path
from typing import BinaryIO

LARGEST_LOG = 1 << 20  # bytes; a log beyond that becomes the old log when the next process starts

_log_folder: Path | None = None


def keep_log_in(folder: Path | None) -> None:
    """Have the log in another folder than the system's for temporary files (None: there again)."""
    global _log_folder
    _log_folder = folder


def log_file() -> Path:
    """Where the animator's process writes down what happens. It may not be there yet."""
    folder = _log_folder or Path(tempfile.gettempdir()) / f"selftalk-{_user()}"
    return folder / "animator.log"


def _user() -> str:
    """One machine's temporary folder serves several people."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no name is known
        return "user"


def open_log() -> BinaryIO:
    """The log, open at its end; a large one is put aside first.

    Raises:
        OSError: it cannot be written to.
    """
    path = log_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # On Windows a log that another Blender's process has open stays where it is.
    with contextlib.suppress(OSError):
        if path.stat().st_size > LARGEST_LOG:
            path.replace(path.with_suffix(".old.log"))
    return open(path, "ab")
