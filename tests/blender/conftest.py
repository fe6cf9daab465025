"""Tests in real Blender: the bpy module, one process, an empty scene for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

bpy = pytest.importorskip("bpy", reason="needs the bpy module (a real Blender)")

import selftalk_blender
from selftalk_blender.blender import bundled_head
from selftalk_blender.worker import client
from selftalk_blender.worker.log import keep_log_in

ENDED = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[ENDED] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Blender 4.2 as a module crashes at its own end once it has exported glTF."""
    if bpy.app.version < (4, 3) and ENDED in config.stash:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[ENDED])


@pytest.fixture(autouse=True)
def empty_scene() -> None:
    selftalk_blender.register()
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)


@pytest.fixture(autouse=True)
def own_process(tmp_path: Path) -> Iterator[None]:
    """A test's animator serves that test alone, and its log goes with it."""
    keep_log_in(tmp_path.parent / f"{tmp_path.name}-log")
    yield
    client.stop_workers()


@pytest.fixture
def head() -> bpy.types.Object:
    return bundled_head.add_head(bpy.context, (0.0, 0.0, 0.0))


@pytest.fixture
def full_disk(tmp_path) -> Iterator[Path]:
    """A folder with room for 200 kB."""
    folder = tmp_path / "full"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if (
        not shutil.which("mount")
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("needs to be root to make a tiny disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
