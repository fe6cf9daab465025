"""Whether a mesh has a face template's vertices in the template's order, and how it lies to it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from .errors import SelfTalkError
from .retarget import LARGEST_MISFIT, Correspondence, similarity
from .surface import edge_numbers

# All as shares of a face's size, the root mean square distance of its vertices from their middle.
# Files of six decimals round by less than SAME (0.01 mm on a head), and fewer vertices of a face
# lie closer together.
SAME = 1e-4
# With no edges to go by, no vertex may be as far from its place as another person's nose is.
FARTHEST = 0.4
# Where edges prove the order, a sculpted face may differ this much (1: no likeness at all).
UNLIKE = 0.6
# Two ways to cut a mesh of quads into triangles share at least 2/3 of each vertex's edges; two
# neighbours that changed places keep at most half of theirs.
SHARED_EDGES = 0.6


def match_template(
    template_vertices: np.ndarray,
    template_faces: Sequence[Sequence[int]] | None,
    vertices: np.ndarray,
    edges: np.ndarray,
) -> Correspondence:
    """Match a mesh to a speaker's face template by vertex index.

    Position, rotation, scale and mirroring are free. The order of the vertices is that of the
    template if (1) each vertex is in its place; or if (2) each vertex has the neighbours that it
    has there, whatever the face's looks: where both have edges, quads cut or dissolved allowed;
    or, failing edges, if (3) the shapes differ as two people do. A mesh of the template's shape
    in another order is matched by place where that is certain, with a notice.

    Args:
        template_vertices: (V, 3) in the template's own axes and units.
        template_faces: vertex indices of each face, or None where its file has none.
        vertices: (V', 3) of the mesh at rest, in its own axes and units.
        edges: (E, 2) vertex indices of the mesh.

    Raises:
        SelfTalkError: another number of vertices, another order, or too different a shape.
    """
    count = len(template_vertices)
    if len(vertices) != count:
        raise SelfTalkError(
            f"This mesh has {len(vertices)} vertices and the chosen face template {count}. Choose "
            "the template of this mesh; or import the template's own file, without merging or "
            "splitting vertices."
        )
    source = np.asarray(template_vertices, np.float64)
    target = np.asarray(vertices, np.float64)
    linear, misfit, farthest = _fit(source, target)
    everyone = np.arange(count)
    if farthest < SAME:
        return Correspondence(count, everyone, everyone, linear)
    order = _find_order(source, target)
    if order is not None:
        linear, _, _ = _fit(source, target[order])
        notice = (
            "The mesh's vertices are in another order than the face template's; they were matched "
            "by their places."
        )
        return Correspondence(count, everyone, order, linear, notice)
    strangers = _strangers(count, template_faces, edges)
    if strangers is None:
        if not (misfit < LARGEST_MISFIT and farthest < FARTHEST):
            raise SelfTalkError(
                f"This mesh has the {count} vertices of the chosen face template, but not in its "
                f"order or not in its shape. {REIMPORT}"
            )
    elif strangers:
        raise SelfTalkError(
            f"This mesh has the {count} vertices of the chosen face template, but in another "
            f"order: {strangers} of them have other neighbours than there. {REIMPORT}"
        )
    elif not misfit < UNLIKE:
        raise SelfTalkError(
            "This mesh has the vertices of the chosen face template in its order, but its shape "
            "is too different for the motion to be carried over. Choose a less deformed mesh."
        )
    return Correspondence(count, everyone, everyone, linear)


REIMPORT = (
    "Import the template's own file, with its vertex order kept (for OBJ: Split by Object and "
    "Split by Group off)."
)


def _fit(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Best (3, 3) from source to target (V, 3), its misfit, and the largest of any vertex.

    Both are shares of the target's size. A mirror image is taken for one only where that fits
    far better: faces are nearly their own.
    """
    turned, mirrored = similarity(source, target), similarity(source, target, mirror=True)
    is_mirrored = turned[1] > SAME and mirrored[1] < turned[1] / 2
    linear, misfit = mirrored if is_mirrored else turned
    source, target = source - source.mean(0), target - target.mean(0)
    size = np.sqrt((target**2).sum(1).mean())
    if not size > 0:  # also where it is not a number
        return linear, np.inf, np.inf
    apart = np.sqrt(((target - source @ linear.T) ** 2).sum(1))
    return linear, misfit, float(apart.max() / size)


def _find_order(source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """(V,): which target vertex each source vertex is, if the two are one shape, else None.

    Turned so that the principal axes agree, each vertex must have exactly one partner within
    SAME; vertices in one place could be confused, so they give None.
    """
    source, target = _unit(source), _unit(target)
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        return None
    (spread, axes), (other_spread, other_axes) = (
        np.linalg.eigh(points.T @ points / len(points)) for points in (source, target)
    )
    if np.abs(spread - other_spread).max() > SAME:  # not one shape, as quick as can be
        return None
    for signs in itertools.product((1.0, -1.0), repeat=3):
        turn = (other_axes * signs) @ axes.T
        if np.linalg.det(turn) > 0:
            order = _partners(source @ turn.T, target)
            if order is not None:
                return order
    return None


def _unit(points: np.ndarray) -> np.ndarray:
    """Points (V, 3) around 0, at a root mean square distance of 1."""
    points = points - points.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(points / np.sqrt((points**2).sum(1).mean()))


def _partners(source: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """(V,): the one target point within SAME of each source point (V, 3); None unless all have it.

    Points as near lie as near along any line, so those in a short stretch of it are looked at.
    """
    line = np.array([0.48, 0.62, 0.62])  # along no axis: faces have whole rows of points on those
    order = np.argsort(target @ line)
    along, places = (target @ line)[order], source @ line
    begin = np.searchsorted(along, places - SAME)
    end = np.searchsorted(along, places + SAME, side="right")
    if (end == begin).any():
        return None
    partner, found = np.zeros(len(source), np.int64), np.zeros(len(source), np.int64)
    for step in range(int((end - begin).max())):
        rows = np.flatnonzero(begin + step < end)
        candidates = order[begin[rows] + step]
        near = ((source[rows] - target[candidates]) ** 2).sum(1) < SAME**2
        partner[rows[near]] = candidates[near]
        found[rows[near]] += 1
    if (found != 1).any() or len(np.unique(partner)) != len(partner):
        return None
    return partner


def _strangers(
    count: int, template_faces: Sequence[Sequence[int]] | None, edges: np.ndarray
) -> int | None:
    """How many vertices of a mesh have other neighbours than in the template; None if unknown.

    Unknown is where more than half of the vertices have no edge in one of the two.
    """
    if template_faces is None or not len(template_faces) or not len(edges):
        return None
    faces = [face for face in template_faces if len(face) > 1]
    corners = np.fromiter(itertools.chain.from_iterable(faces), np.int64)
    sizes = np.fromiter(map(len, faces), np.int64)
    ends = np.cumsum(sizes)
    following = np.roll(corners, -1)
    following[ends - 1] = corners[ends - sizes]
    theirs = np.unique(edge_numbers(np.stack([corners, following], 1), count))
    ours = np.unique(edge_numbers(edges, count))
    in_template, in_mesh, in_both = (
        np.bincount(np.concatenate([keys // count, keys % count]), minlength=count)
        for keys in (theirs, ours, np.intersect1d(theirs, ours, assume_unique=True))
    )
    fewer = np.minimum(in_template, in_mesh)
    if np.count_nonzero(fewer) * 2 < count:
        return None
    return int(np.count_nonzero(in_both < SHARED_EDGES * fewer))
