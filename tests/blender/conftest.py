"""Tests in real Blender: the bpy module, one process, an empty scene for each test."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

bpy = pytest.importorskip("bpy", reason="needs the bpy module (a real Blender)")

import selftalk_blender
from selftalk_blender.blender import face


@pytest.fixture(autouse=True)
def empty_scene() -> None:
    selftalk_blender.register()
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)


@pytest.fixture(autouse=True)
def stand_in_loudness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the worker tells the loudness (branch `worker`)."""
    import numpy as np

    from selftalk_blender.worker.client import AnimateJob

    if "loudness" in AnimateJob.__init__.__code__.co_names:
        return
    result = AnimateJob.result

    def with_loudness(job):
        motion = result(job)
        job.loudness = np.full(len(motion), -20.0, np.float32)
        return motion

    monkeypatch.setattr(AnimateJob, "result", with_loudness)


@pytest.fixture
def head() -> bpy.types.Object:
    return face.add_head(bpy.context, (0.0, 0.0, 0.0))


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
