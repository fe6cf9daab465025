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


TOLERANCE = 1e-5  # metres


def check_played(target: bpy.types.Object, motion: Motion, first: int) -> None:
    """Make sure that a face plays a motion of 6 frames from a scene frame on, held at its ends."""
    expected = motion.vertices()
    for frame in (0, 3, 5):
        assert np.abs(play(target, first + frame) - expected[frame]).max() < TOLERANCE
    assert np.abs(play(target, first - 20) - expected[0]).max() < TOLERANCE
    assert np.abs(play(target, first + 20) - expected[-1]).max() < TOLERANCE


def make_awkward(target: bpy.types.Object) -> bpy.types.Modifier:
    """Turn and scale a face under a mirrored parent, and bend and smooth it; the Subdivision."""
    parent = bpy.data.objects.new("Parent", None)
    bpy.context.collection.objects.link(parent)
    parent.rotation_euler, parent.scale = (0.5, 1.0, -2.0), (2.0, -1.0, 0.5)
    target.parent = parent
    target.rotation_euler, target.scale = (1.0, 0.2, 0.1), (3.0, 3.0, 1.0)
    target.location = (5, 6, 7)
    target.modifiers.new("Armature", "ARMATURE")
    return target.modifiers.new("Subdivision", "SUBSURF")


def finish(steps: Generator[Any, None, Any]) -> Any:
    """What comes of steps that tell their progress, which never goes back, run to their end."""
    steps, done = patiently(steps), 0.0
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return end.value
        assert done <= progress.done <= 1.0
        done = progress.done


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
