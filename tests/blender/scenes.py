"""What the tests in Blender put into a scene, and how they look at it."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import Any

import bpy
import numpy as np

from selftalk_blender.blender.neutral import Neutral
from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.core.principal import principal_shapes
from selftalk_blender.core.steps import at_last

# The bundled head as if it were the face of a user's own animator.
NEUTRAL = Neutral(
    ("head", 0, 0, ""), bundled_template().vertices, bundled_template().polygons.tolist()
)


def talking(frames: int, fps: float = 24.0, seed: int = 0, shapes: int = 8) -> Motion:
    """A motion of `shapes` random shapes of the bundled head between 0 and 1."""
    template = bundled_template()
    random = np.random.default_rng(seed)
    weights = np.zeros((frames, len(template.shape_names)), np.float32)
    chosen = random.choice(len(template.shape_names), shapes, replace=False)
    weights[:, chosen] = random.random((frames, shapes), np.float32)
    return Motion(template, fps, weights=weights)


def own_shapes(motion: Motion) -> Motion:
    """The same motion in a few shapes of its own, as that of a user's own animator is written."""
    dense = Motion(motion.template, motion.fps, dense=motion.offsets())
    return at_last(principal_shapes(dense))[0]


def play(target: bpy.types.Object, frame: float) -> np.ndarray:
    """(V, 3) of a mesh in object space at a scene frame, all modifiers applied."""
    bpy.context.scene.frame_set(math.floor(frame), subframe=frame % 1.0)
    evaluated = target.evaluated_get(bpy.context.evaluated_depsgraph_get())
    positions = np.empty(len(evaluated.data.vertices) * 3, np.float32)
    evaluated.data.vertices.foreach_get("co", positions)
    return positions.reshape(-1, 3)


def patiently(steps: Generator[Any, None, Any]) -> Generator[Any, None, Any]:
    """The same steps; where others are at work, ours does not take their processor away."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if step.waiting:
            time.sleep(0.005)
        yield step


def body(
    vertices: int,
    turn: np.ndarray | None = None,
    scale: float = 1.0,
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> bpy.types.Object:
    """A mesh of `vertices` vertices with the template's at their places in the MakeHuman body."""
    template = bundled_template()
    turn = np.eye(3) if turn is None else turn
    positions = np.random.default_rng(1).random((vertices, 3)).astype(np.float32)
    known = template.source_index < vertices
    positions[template.source_index[known]] = template.vertices[known] @ turn.T * scale + shift
    mesh = bpy.data.meshes.new("Body")
    mesh.from_pydata(positions.tolist(), [], [])
    target = bpy.data.objects.new("Body", mesh)
    bpy.context.collection.objects.link(target)
    return target
