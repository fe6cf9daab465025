"""MDD and PC2: each vertex of one mesh in each frame, in the mesh's own space."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np

from ...core.errors import SelfTalkError
from ...core.mdd import write_mdd
from ...core.pc2 import write_pc2
from .. import strips
from .cast import SMOOTHING


@contextlib.contextmanager
def unsmoothed(mesh: bpy.types.Object) -> Iterator[None]:
    """Have a mesh seen with its own vertices, without Subdivision Surface, for a block."""
    off = [m for m in mesh.modifiers if m.show_viewport and m.type in SMOOTHING]
    try:
        for modifier in off:
            modifier.show_viewport = False
        yield
    finally:
        for modifier in off:
            modifier.show_viewport = True


def check(context: bpy.types.Context, mesh: bpy.types.Object) -> None:
    """Whether a mesh is seen with its own vertices.

    Raises:
        SelfTalkError: a modifier gives it others.
    """
    with unsmoothed(mesh):
        seen = len(mesh.evaluated_get(context.evaluated_depsgraph_get()).data.vertices)
    if seen != len(mesh.data.vertices):
        raise SelfTalkError(
            f"A modifier gives {mesh.name} {seen} vertices in the place of its own "
            f"{len(mesh.data.vertices)}, and a point cache fits those alone. Switch it off, or "
            "export Alembic."
        )


def write(
    context: bpy.types.Context, mesh: bpy.types.Object, path: Path, suffix: str,
    first: int, last: int,
) -> Iterator[float]:  # fmt: skip
    """Write a mesh as it is seen, less smoothing, as .mdd or .pc2.

    Yields:
        How much is done, 0..1.

    Raises:
        OSError: the disk is full.
        SelfTalkError: its vertices are more or fewer in some frame.
    """
    count, vertices = last - first + 1, len(mesh.data.vertices)
    fps = strips.frame_rate(context.scene)

    def frames() -> Iterator[np.ndarray]:
        for seen, positions in _frames(context, mesh, first, last):
            if len(seen.data.vertices) != vertices:
                check(context, mesh)
            yield positions[None]

    with unsmoothed(mesh), open(path, "wb") as file:
        if suffix == ".mdd":
            steps = write_mdd(file, count, vertices, fps, frames(), first / fps)
        else:
            steps = write_pc2(file, count, vertices, first, frames())
        for written in steps:
            yield written / count


def write_placed(
    context: bpy.types.Context, mesh: bpy.types.Object, path: Path, first: int, last: int
) -> Iterator[float]:
    """Write where the vertices of a mesh stand in the world, less smoothing, as .mdd, in metres.

    Yields:
        How much is done, 0..1.

    Raises:
        OSError: the disk is full.
        SelfTalkError: its vertices are more or fewer in some frame.
    """
    scene, count = context.scene, last - first + 1
    metre = scene.unit_settings.scale_length

    def frames() -> Iterator[np.ndarray]:
        for seen, positions in _frames(context, mesh, first, last):
            if len(positions) != vertices:
                raise SelfTalkError(
                    f"A modifier gives {mesh.name} more or fewer vertices in some frames. Switch "
                    "it off, or export Alembic."
                )
            place = np.array(seen.matrix_world) * metre
            yield (positions @ place[:3, :3].T + place[:3, 3])[None]

    with unsmoothed(mesh), open(path, "wb") as file:
        vertices = len(mesh.evaluated_get(context.evaluated_depsgraph_get()).data.vertices)
        fps = strips.frame_rate(scene)
        for written in write_mdd(file, count, vertices, fps, frames()):
            yield written / count


def _frames(
    context: bpy.types.Context, mesh: bpy.types.Object, first: int, last: int
) -> Iterator[tuple[bpy.types.Object, np.ndarray]]:
    """Go to each frame; yields the mesh as it is seen there, and its vertices (V, 3), float32."""
    for frame in range(first, last + 1):
        context.scene.frame_set(frame)
        seen = mesh.evaluated_get(context.evaluated_depsgraph_get())
        positions = np.empty((len(seen.data.vertices), 3), np.float32)
        seen.data.vertices.foreach_get("co", positions.ravel())
        yield seen, positions
