"""A motion of many vertices becomes a few shapes, as near to it as is said."""

from __future__ import annotations

import numpy as np

from selftalk_blender.core import FaceTemplate, Motion
from selftalk_blender.core.principal import MOST, TOLERANCE, principal_shapes

RANDOM = np.random.default_rng(0)
VERTICES = 600
FACE = FaceTemplate(
    "face",
    RANDOM.normal(size=(VERTICES, 3)).astype(np.float32) / 3**0.5,
    np.zeros((0, 4), np.int32),
)  # of size 1


def dense(rank: int, frames: int, least: float = 1e-2) -> Motion:
    """A motion of `rank` components that get smaller, around an open mouth."""
    shapes = RANDOM.normal(size=(rank, VERTICES * 3)) * np.geomspace(0.1, least, rank)[:, None]
    mixed = RANDOM.normal(size=(frames, rank)) @ shapes + RANDOM.normal(size=VERTICES * 3)
    return Motion(FACE, 30.0, dense=mixed.reshape(frames, -1, 3).astype(np.float32))


def shapes_of(motion: Motion) -> tuple[Motion, float]:
    steps = principal_shapes(motion)
    done = [0.0]
    while True:
        try:
            done.append(next(steps))
        except StopIteration as end:
            assert done == sorted(done) and done[-1] <= 1.0
            return end.value


def farthest(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(((one - other) ** 2).sum(-1)).max())


def test_shapes_and_weights_give_the_motion_back() -> None:
    motion = dense(10, 700)
    small, error = shapes_of(motion)
    assert farthest(small.vertices(), motion.vertices()) <= error * 1.01 + 1e-5
    assert error < TOLERANCE
    assert small.weights is not None and 10 < len(small.template.shape_names) <= 13
    assert small.weights.min() >= 0.0 and small.weights.max() <= 1.0
    assert np.array_equal(small.template.vertices, FACE.vertices) and small.fps == 30.0


def test_the_error_is_of_all_frames_and_vertices() -> None:
    """Also of a frame that the shapes were not made from, and where the number of shapes ends."""
    motion = dense(10, 1500)
    assert motion.dense is not None
    motion.dense[1] += RANDOM.normal(size=(VERTICES, 3)) * 0.01
    small, error = shapes_of(motion)
    assert farthest(small.vertices(), motion.vertices()) > 5 * TOLERANCE
    assert abs(farthest(small.vertices(), motion.vertices()) - error) < 1e-5
    motion = dense(400, 450)
    small, error = shapes_of(motion)
    assert len(small.template.shape_names) == MOST + 1
    assert abs(farthest(small.vertices(), motion.vertices()) - error) < 1e-5 and error > TOLERANCE


def test_few_shapes_where_few_are_enough() -> None:
    still = Motion(FACE, 30.0, dense=np.full((20, VERTICES, 3), 0.1, np.float32))
    small, error = shapes_of(still)
    assert small.template.shape_names == ("SelfTalk 00",) and error < 1e-6
    assert farthest(small.vertices(), still.vertices()) < 1e-6
    one = shapes_of(dense(5, 1))[0]
    assert len(one) == 1 and one.template.shape_names == ("SelfTalk 00",)
