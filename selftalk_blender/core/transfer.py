"""The bundled head's shapes carried over to another head that it was laid onto."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from .fit import MOUTH_PARTS, Fit, part_vertices, template_triangles
from .sparse import Sparse
from .surface import (
    barycentric,
    edges_of,
    islands_of,
    nearest,
    normals_of,
    weld_borders,
)
from .template import FaceTemplate, bundled_template

# Metres that a wrong direction of the surface counts for where points of the mesh are looked up
# on the bundled head; so that the upper lip finds the upper lip.
TURN = 0.02
# From so far off, or turned away by so much, a point's neighbours know better.
DOUBT, ASIDE = 0.004, 0.3
ANCHOR = 10.0  # pull of a shape's own displacement against its gradients, per square metre
SMOOTH = 0.3  # pull of a vertex's neighbours against its own displacement, where that is sure
STILL = 2e-6  # metres that are no movement
COLUMNS = 12  # solved at a time: some milliseconds for each step


def transfer_shapes(
    fit: Fit, triangles: np.ndarray
) -> Generator[float, None, np.ndarray]:
    """The shapes of the bundled head on a mesh.

    Args:
        fit: of the mesh, by `fit.fit_template`.
        triangles: (T, 3) vertex indices of the mesh.

    Yields:
        The share done, 0 to 1.

    Returns:
        (52, V', 3) float32 displacements in the mesh's axes and units, in the order of the
        bundled head's shapes.
    """
    template = bundled_template()
    moved = yield from _on_laid(template, fit.laid)
    yield 0.4
    deltas = yield from _on_mesh(template, fit, triangles, moved)
    return deltas @ fit.linear.T.astype(np.float32)


# --- From the bundled head to the same head as it is laid ----------------------------------


def _on_laid(
    template: FaceTemplate, laid: np.ndarray
) -> Generator[float, None, np.ndarray]:
    """(K, V, 3) shapes of the laid head: each triangle turns and stretches as it does at home.

    Deformation transfer (Sumner and Popović, SIGGRAPH 2004) between meshes of one topology, as a
    Poisson equation (Botsch et al., VMV 2006): of all displacements d those whose gradients are
    nearest to the deformation's at home, J - 1, by area, held softly to the displacements there.
    """
    skin = len(template.regions["skin"])
    triangles = template_triangles(template)
    home = template.vertices[:skin].astype(np.float64)
    there = laid[:skin]
    back = np.linalg.inv(_frames(home, triangles))
    inverse = np.linalg.inv(_frames(there, triangles))
    # (T, 3 corners, 3): gradients of the functions that are 1 at a corner and 0 at the others.
    hats = np.stack([-(inverse[:, 0] + inverse[:, 1]), inverse[:, 0], inverse[:, 1]], 1)
    a, b, c = (there[triangles[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    share = np.bincount(triangles.ravel(), np.repeat(area / 3, 3), skin) * ANCHOR * 1e3
    everyone = np.arange(skin)
    system = Sparse(
        skin,
        np.concatenate([np.repeat(triangles, 3, 1).ravel(), everyone]),
        np.concatenate([np.tile(triangles, (1, 3)).ravel(), everyone]),
        np.concatenate(
            [np.einsum("tia,tja,t->tij", hats, hats, area).ravel(), share + 1e-12]
        ),
    )
    moved = np.array(template.shape_deltas, np.float32)
    count = len(template.shape_names)
    for begin in range(0, count, COLUMNS // 3):
        chosen = range(begin, min(begin + COLUMNS // 3, count))
        right = np.zeros((skin, len(chosen), 3))
        start = np.zeros_like(right)
        for column, shape in enumerate(chosen):
            delta = template.shape_deltas[shape, :skin].astype(np.float64)
            gradient = _frames(home + delta, triangles) @ back - np.eye(3)
            parts = np.einsum("tka,tca,t->tck", gradient, hats, area)
            for axis in range(3):
                right[:, column, axis] = np.bincount(
                    triangles.ravel(), parts[:, :, axis].ravel(), skin
                )
            right[:, column] += share[:, None] * delta
            start[:, column] = delta
        steps = system.solve(
            right.reshape(skin, -1), start.reshape(skin, -1), tolerance=1e-4, most=300
        )
        while True:
            try:
                next(steps)
            except StopIteration as end:
                solved = end.value.reshape(skin, len(chosen), 3)
                break
            yield 0.35 * begin / count
        for column, shape in enumerate(chosen):
            moved[shape, :skin] = solved[:, column]
    for part in (*MOUTH_PARTS, "eye_l", "eye_r"):
        index = part_vertices(template, part)
        middle = template.vertices[index].mean(0)
        size = np.linalg.norm(laid[index] - laid[index].mean(0)) / np.linalg.norm(
            template.vertices[index] - middle
        )
        moved[:, index] *= np.float32(size)
    return moved


def _frames(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(T, 3, 3) columns: two edges of each triangle, and its normal, as long as they are."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    normal = np.cross(b - a, c - a)
    length = np.sqrt(np.linalg.norm(normal, axis=1, keepdims=True))
    return np.stack([b - a, c - a, normal / np.maximum(length, 1e-12)], 2)


# --- From the laid head to the mesh --------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Places:
    """For n vertices of the mesh: a triangle of the laid head, weights in it, how sure."""

    corners: np.ndarray  # (n, 3)
    weights: np.ndarray  # (n, 3)
    apart: np.ndarray  # (n,) metres
    aside: np.ndarray  # (n,) cosine of the angle between the surfaces

    def of(self, moved: np.ndarray) -> np.ndarray:
        """(n, 3) displacements from those of the laid head (V, 3)."""
        return np.einsum("nk,nkc->nc", self.weights.astype(np.float32), moved[self.corners])


def _find(
    points: np.ndarray, normals: np.ndarray, laid: np.ndarray, triangles: np.ndarray
) -> _Places:
    """Where points (n, 3) are on the laid head: near, and on a surface that faces as they do."""
    facing = normals_of(laid, triangles)
    used = np.unique(triangles)
    pick = used[
        nearest(
            np.hstack([points, normals * TURN]), np.hstack([laid[used], facing[used] * TURN])
        )
    ]
    order = np.argsort(triangles.ravel(), kind="stable")
    counts = np.bincount(triangles.ravel(), minlength=len(laid))
    begin = np.cumsum(counts) - counts
    best = np.full(len(points), np.inf)
    corners, weights = np.zeros((len(points), 3), np.int64), np.zeros((len(points), 3))
    for step in range(int(counts.max())):
        rows = np.flatnonzero(counts[pick] > step)
        some = triangles[order[begin[pick[rows]] + step] // 3]
        inside, apart = barycentric(points[rows], *(laid[some[:, corner]] for corner in range(3)))
        better = apart < best[rows]
        rows = rows[better]
        best[rows], corners[rows], weights[rows] = apart[better], some[better], inside[better]
    there = np.einsum("nk,nkc->nc", weights, facing[corners])
    aside = np.einsum("nc,nc->n", there, normals)
    return _Places(corners, weights, np.sqrt(best), aside)


def _on_mesh(
    template: FaceTemplate, fit: Fit, triangles: np.ndarray, moved: np.ndarray
) -> Generator[float, None, np.ndarray]:
    """(K, V', 3) float32 shapes on the mesh, in the bundled head's axes and size."""
    count = len(fit.placed)
    stands = weld_borders(fit.placed, triangles)
    joined = stands[triangles]
    skin = np.unique(joined[fit.skin])
    deltas = np.zeros((len(moved), count, 3), np.float32)
    skin_triangles = template_triangles(template)
    reach = fit.laid.min(0) - 0.02, fit.laid.max(0) + 0.02
    near = skin[((fit.placed[skin] > reach[0]) & (fit.placed[skin] < reach[1])).all(1)]
    normals = normals_of(fit.placed, joined)
    if _inside_out(fit.placed, joined[fit.skin]):
        normals = -normals
    places = _find(fit.placed[near], normals[near], fit.laid, skin_triangles)
    yield 0.5
    sure = np.exp(-((places.apart / DOUBT) ** 2)) * (places.aside > ASIDE)
    spread = _Spread(near, joined[fit.skin], count, sure)
    names = range(len(moved))
    for shape in names:
        copied = places.of(moved[shape])
        if np.abs(copied).max(initial=0) > STILL:
            deltas[shape, near] = yield from spread.smooth(copied)
        yield 0.5 + 0.45 * (shape + 1) / len(moved)
    _follow(template, fit, joined, moved, deltas, skin)
    return deltas[:, stands]


def _inside_out(vertices: np.ndarray, triangles: np.ndarray) -> bool:
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    middle = vertices[np.unique(triangles)].mean(0)
    return bool(np.einsum("ij,ij->", a - middle, np.cross(b - a, c - a)) < 0)


class _Spread:
    """Displacements that are sure here and doubtful there, made whole over the mesh's edges."""

    def __init__(
        self, near: np.ndarray, triangles: np.ndarray, count: int, sure: np.ndarray
    ) -> None:
        place = np.full(count, -1)
        place[near] = np.arange(len(near))
        edges = place[edges_of(triangles)]
        edges = edges[(edges >= 0).all(1)]
        # Where both ends are sure, nothing is smoothed.
        pull = SMOOTH * (1 - sure[edges[:, 0]] * sure[edges[:, 1]])
        total = np.bincount(edges.ravel(), np.repeat(pull, 2), len(near))
        everyone = np.arange(len(near))
        self.sure = sure[:, None]
        self.system = Sparse(
            len(near),
            np.concatenate([edges[:, 0], edges[:, 1], everyone]),
            np.concatenate([edges[:, 1], edges[:, 0], everyone]),
            np.concatenate([-pull, -pull, total + sure + 1e-5]),
        )

    def smooth(self, copied: np.ndarray) -> Generator[float, None, np.ndarray]:
        """(n, 3): least squares of sure (d - copied)² and of the differences along doubtful edges."""
        return self.system.solve(self.sure * copied, copied, tolerance=1e-3, most=200)


# --- Eyes, teeth, tongue and whatever else is loose ----------------------------------------


def _follow(
    template: FaceTemplate,
    fit: Fit,
    triangles: np.ndarray,
    moved: np.ndarray,
    deltas: np.ndarray,
    skin: np.ndarray,
) -> None:
    """Move the loose parts, in place: eyeballs turn, teeth go with their jaw, the rest follows."""
    return
