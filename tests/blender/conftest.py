"""Tests in real Blender: the bpy module, one process, an empty scene for each test."""

from __future__ import annotations

import pytest

bpy = pytest.importorskip("bpy", reason="needs the bpy module (a real Blender)")

from selftalk_blender.blender import face


@pytest.fixture(autouse=True)
def empty_scene() -> None:
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)


@pytest.fixture
def head() -> bpy.types.Object:
    return face.add_head(bpy.context, (0.0, 0.0, 0.0))
