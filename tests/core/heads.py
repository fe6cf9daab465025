"""Heads to try things on: the bundled one in other topologies, and ICT's where it is at hand."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selftalk_blender.core import bundled_template
from selftalk_blender.core.surface import edges_of, triangulate

SHARED = Path(os.environ.get("SELFTALK_SHARED", Path(__file__).resolve().parents[3] / "shared"))
TEMPLATE = bundled_template()
VERTICES = TEMPLATE.vertices.astype(np.float64)
TRIANGLES = triangulate(TEMPLATE.polygons.ravel(), np.full(len(TEMPLATE.polygons), 4))
# Vertices of ICT's head at the ten landmarks, in their order (from its list of 68 points: those
# of the mouth's corners, lips, chin, nose and eyes).
ICT_LANDMARKS = [6213, 5708, 5533, 5517, 966, 4857, 3742, 3721, 1528, 1507]


def result(steps: Generator) -> Any:
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def subdivided(table: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each triangle cut into four; (n, any) of the vertices are means at the new ones."""
    edges, count = edges_of(triangles), len(table)
    keys = edges[:, 0] * count + edges[:, 1]

    def middle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return count + np.searchsorted(keys, np.minimum(a, b) * count + np.maximum(a, b))

    a, b, c = triangles.T
    ab, bc, ca = middle(a, b), middle(b, c), middle(c, a)
    quarters = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
    table = np.concatenate([table, table[edges].mean(1)])
    return table, np.concatenate([np.stack(quarter, 1) for quarter in quarters])


def finer(times: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bundled head subdivided: vertices, triangles, shapes (52, V, 3)."""
    shapes = TEMPLATE.shape_deltas.transpose(1, 0, 2).reshape(len(VERTICES), -1)
    table, triangles = np.hstack([VERTICES, shapes]), TRIANGLES
    for _ in range(times):
        table, triangles = subdivided(table, triangles)
    return table[:, :3], triangles, table[:, 3:].reshape(len(table), -1, 3).transpose(1, 0, 2)


def ict_head() -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """ICT's head: vertices (V, 3) in cm, triangles, and its own shapes by the bundled names."""
    path = SHARED / "rigs" / "ict_head_bundle.npz"
    if not path.is_file():
        pytest.skip(f"needs {path} (set SELFTALK_SHARED)")
    with np.load(path, allow_pickle=False) as file:
        pack = dict(file)
    sizes = (pack["faces"] >= 0).sum(1)
    triangles = triangulate(pack["faces"][pack["faces"] >= 0], sizes)
    own = dict(zip(map(str, pack["names"]), pack["expr_q"] * pack["expr_scale"], strict=True))
    native = {}
    for name in TEMPLATE.shape_names:
        spelling = name
        if name not in own:
            spelling = name.replace("Left", "_L").replace("Right", "_R")
        if spelling in own:
            native[name] = own[spelling]
        elif f"{name}_L" in own:
            native[name] = own[f"{name}_L"] + own[f"{name}_R"]
    return pack["neutral"].astype(np.float64), triangles, native


def misfit(made: np.ndarray, native: np.ndarray) -> tuple[float, float, float]:
    """Of one shape, (V, 3) each, after the best amplitude: the median error over the vertices
    that move by a twentieth of the peak or more, as a share of each vertex's own motion, of
    their mean motion, and of the peak motion."""
    scale = (made * native).sum() / max((made * made).sum(), 1e-30)
    motion = np.linalg.norm(native, axis=1)
    moving = motion > 0.05 * motion.max()
    error = np.linalg.norm(scale * made - native, axis=1)[moving]
    return (
        float(np.median(error / motion[moving])),
        float(np.median(error) / motion[moving].mean()),
        float(np.median(error) / motion.max()),
    )


MOUTH_SHAPES = [name for name in TEMPLATE.shape_names if name.startswith(("jaw", "mouth"))]
