"""Files that are replaced."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.files import atomic_path, freed_aside


def test_what_is_replaced_is_freed_on_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in Windows, which replaces no open file."""
    path, closed = tmp_path / "a.mdd", []

    def close(handle: int, close: Callable[[int], None] = os.close) -> None:
        closed.append((threading.current_thread().name, os.fstat(handle).st_size))
        close(handle)

    path.write_bytes(b"older")
    with freed_aside(path), atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
        monkeypatch.setattr(os, "close", close)
    for thread in threading.enumerate():
        if thread.name == "SelfTalk closes":
            thread.join()
    assert path.read_bytes() == b"new"
    assert closed == ([] if os.name == "nt" else [("SelfTalk closes", 5)])


def test_where_nothing_is_replaced(tmp_path: Path) -> None:
    with freed_aside(tmp_path / "a.mdd"):
        (tmp_path / "a.mdd").write_bytes(b"new")
    assert (tmp_path / "a.mdd").read_bytes() == b"new"


def test_what_fails_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mdd"
    path.write_bytes(b"old")
    with pytest.raises(SelfTalkError, match="No space"), freed_aside(path), atomic_path(path):
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
