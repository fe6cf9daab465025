"""The landmarks of a face are found on its own, in whatever axes and units it was modelled.

On the head of a stranger, too: test_transfer.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from heads import TEMPLATE, TRIANGLES, VERTICES, result

from selftalk_blender.core import landmarks
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.landmarks import NAMES, suggest_landmarks, template_landmarks

SKIN = TEMPLATE.regions["skin"]
PLACES = VERTICES[template_landmarks()]
SWAPPED = [
    NAMES.index(
        name.replace("left", "?").replace("right", "left").replace("?", "right")
        if "_left" in name or "_right" in name
        else name
    )
    for name in NAMES
]
Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
FACING_Y = np.diag([-1.0, -1.0, 1.0])


def ball(radii: tuple[float, float, float], middle: tuple[float, float, float]) -> tuple:
    """A closed ellipsoid: (n, 3) vertices and triangles."""
    rings, sides = 12, 24
    down, around = np.meshgrid(
        np.linspace(0, np.pi, rings), np.arange(sides) * 2 * np.pi / sides, indexing="ij"
    )
    points = np.stack(
        [np.sin(down) * np.cos(around), np.sin(down) * np.sin(around), np.cos(down)], -1
    )
    number = np.arange(rings * sides).reshape(rings, sides)
    a, b = number[:-1].ravel(), np.roll(number, -1, 1)[:-1].ravel()
    c, d = np.roll(number, -1, 1)[1:].ravel(), number[1:].ravel()
    triangles = np.concatenate([np.stack([a, d, b], 1), np.stack([b, d, c], 1)])
    return points.reshape(-1, 3) * radii + middle, triangles


def joined(*meshes: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    counts = np.cumsum([0, *(len(vertices) for vertices, _ in meshes)])
    triangles = [t + count for (_, t), count in zip(meshes, counts[:-1], strict=True)]
    return np.concatenate([vertices for vertices, _ in meshes]), np.concatenate(triangles)


@pytest.mark.parametrize(
    ("linear", "mirrored"),
    [
        (100 * Y_UP, False),
        (FACING_Y, False),
        (np.diag([-1.15, 1.0, 0.92]), True),
        (np.diag([0.85, 1.0, 1.3]), False),
    ],
    ids=["Y up in cm", "facing +Y", "mirrored and wider", "a long face"],
)
def test_found_in_any_axes_and_units(linear, mirrored) -> None:
    places, triangles = PLACES @ linear.T, TRIANGLES
    if mirrored:  # what was the character's left is right
        places, triangles = places[SWAPPED], triangles[:, ::-1]
    stray = np.random.default_rng(0).uniform(-1, 1, (50, 3))  # vertices of no polygon
    vertices = np.concatenate([VERTICES, stray]) @ linear.T + 3
    found = result(suggest_landmarks(vertices, triangles))
    size = np.cbrt(abs(np.linalg.det(linear)))
    assert np.linalg.norm(found.points - 3 - places, axis=1).max() < 0.0032 * size
    assert found.notices == ()


def test_found_in_a_head_turned_any_way() -> None:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    found = result(suggest_landmarks(VERTICES @ turn.T, TRIANGLES))
    assert np.linalg.norm(found.points - PLACES @ turn.T, axis=1).max() < 0.0032


def test_lips_before_the_nose_are_not_taken_for_it() -> None:
    nose, lip = (PLACES[NAMES.index(name)] for name in ("nose", "upper_lip"))
    muzzle = VERTICES.copy()
    apart = np.linalg.norm(muzzle - lip, axis=1)
    muzzle[:, 1] -= 0.02 * np.exp(-((apart / 0.025) ** 2))
    found, _ = landmarks._look(muzzle, TRIANGLES[np.isin(TRIANGLES, SKIN).all(1)])
    assert abs(found[NAMES.index("nose"), 2] - nose[2]) < 0.004


def test_found_on_a_body_which_is_mostly_not_face() -> None:
    body = joined(
        (VERTICES, TRIANGLES),
        ball((0.2, 0.12, 0.4), (0, 0, -0.42)),
        ball((0.35, 0.05, 0.05), (0.5, 0, -0.12)),
        ball((0.35, 0.05, 0.05), (-0.5, 0, -0.12)),
        ball((0.09, 0.09, 0.5), (0.11, 0, -1.2)),
        ball((0.09, 0.09, 0.5), (-0.11, 0, -1.2)),
    )
    found = result(suggest_landmarks(*body))
    assert np.linalg.norm(found.points - PLACES, axis=1).max() < 0.0032


@pytest.mark.parametrize("shape", ["ball", "box", "nothing"])
def test_what_has_no_face_is_refused_with_a_way_out(shape) -> None:
    vertices, triangles = ball((1, 1, 1), (0, 0, 0))
    if shape == "box":
        vertices = np.clip(vertices * 2, -1, 1)
    if shape == "nothing":
        vertices, triangles = vertices[:3], triangles[:1]
    with pytest.raises(SelfTalkError, match="No face was found.*by hand"):
        result(suggest_landmarks(vertices, triangles))
