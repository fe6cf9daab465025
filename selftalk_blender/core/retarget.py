"""Which meshes the bundled motion fits by vertex index, and motion carried over to a mesh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import SelfTalkError
from .surface import edge_numbers
from .template import FaceTemplate

# A person's head differs from the mean head by well under this share of the head's size once
# position, rotation and scale are taken out (six looks of the MakeHuman pack: at most 0.06). Where
# its edges show that the order is right, it may be sculpted or stretched farther.
LARGEST_MISFIT, LARGEST_BY_EDGES = 0.15, 0.5
# Share of the mesh's edges that the template has, too, or that cut its polygons; and how many of
# the template's there must be to tell.
SAME_EDGES, ENOUGH_EDGES = 0.95, 0.5
# Vertices of the meshes that the published checkpoints animate.
PUBLISHED = {
    5023: "FLAME's head, which the published vocaset.pth animates",
    23370: "BIWI's head, which the published BIWI.pth animates",
}
BODIES = (13380, 19158)  # vertices of a MakeHuman or MPFB body, without and with its helpers


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Where a template's vertices are in a target mesh, and how the target is turned and scaled.

    Attributes:
        target_vertices: how many vertices the target has.
        template_index: (n,) vertices of the template that the target has.
        target_index: (n,) the same vertices in the target.
        linear: (3, 3) rotation times scale: template offsets @ linear.T are target offsets.
        notice: a sentence about the match that the user should read, or "".
    """

    target_vertices: int
    template_index: np.ndarray
    target_index: np.ndarray
    linear: np.ndarray
    notice: str = ""

    def offsets(self, template_offsets: np.ndarray) -> np.ndarray:
        """Template offsets (..., V, 3) -> target offsets (..., V', 3), each in its own units."""
        shape = (*template_offsets.shape[:-2], self.target_vertices, 3)
        moved = np.zeros(shape, np.float32)
        moved[..., self.target_index, :] = template_offsets[
            ..., self.template_index, :
        ] @ self.linear.T.astype(np.float32)
        return moved


def match_by_index(
    template: FaceTemplate, vertices: np.ndarray, edges: np.ndarray | None = None
) -> Correspondence:
    """Match a mesh that is the template, or the full base mesh that the template was cut from.

    Position, rotation and scale are free (Umeyama 1991, least squares). The mesh's edges say
    whether the vertices are in the order that we know; where there are none, the misfit does.

    Args:
        vertices: (V', 3) of the target at rest, in its own units and axes.
        edges: (E, 2) vertices of the target's edges, where they are at hand.

    Raises:
        SelfTalkError: the mesh is not one that we know, with its vertex count and ours.
    """
    count, own = len(vertices), len(template.vertices)
    if count in PUBLISHED:
        raise SelfTalkError(
            f"This mesh has {count} vertices, like {PUBLISHED[count]}. Choose that checkpoint "
            "and the mesh's face template under Animator."
        )
    if count == own:
        target_index = np.arange(own)
    elif template.source_index is not None and count > own:
        target_index = template.source_index
    else:
        raise SelfTalkError(_unknown(template, count))
    template_index = np.flatnonzero(target_index < count)
    target_index = target_index[template_index]
    source = template.vertices[template_index].astype(np.float64)
    target = np.asarray(vertices, np.float64)[target_index]
    linear, misfit = similarity(source, target)
    sure = count in (own, *BODIES)
    known = _same_order(template, template_index, target_index, count, edges) if sure else None
    if known is False or not misfit < (LARGEST_BY_EDGES if known else LARGEST_MISFIT):
        reason = _unknown(template, count)
        if sure:
            reason = (
                f"It has {count} vertices, as SelfTalk's head or a MakeHuman body has, but in "
                "another order or place; was it exported with reordered vertices?"
            )
        raise SelfTalkError(reason)
    return Correspondence(count, template_index, target_index, linear)


def _same_order(
    template: FaceTemplate,
    template_index: np.ndarray,
    target_index: np.ndarray,
    count: int,
    edges: np.ndarray | None,
) -> bool | None:
    """Whether edges (E, 2) of a mesh of `count` vertices join what the template's polygons join;
    None where there are too few to tell."""
    if edges is None or not len(edges):
        return None
    own = len(template.vertices)
    # Sides and diagonals, for the mesh may be triangulated.
    pairs = [
        np.stack([template.polygons[:, a], template.polygons[:, b]], 1)
        for a in range(template.polygons.shape[1])
        for b in range(a)
    ]
    joined = np.unique(edge_numbers(np.concatenate(pairs), own))
    place = np.full(count, -1, np.int64)
    place[target_index] = template_index
    ends = place[edges]
    ends = ends[(ends >= 0).all(1)]
    if len(ends) < ENOUGH_EDGES * len(template.polygons):
        return None
    return bool(np.isin(edge_numbers(ends, own), joined).mean() > SAME_EDGES)


def similarity(
    source: np.ndarray, target: np.ndarray, mirror: bool = False
) -> tuple[np.ndarray, float]:
    """Best (3, 3) rotation * scale from source to target (n, 3), and the relative RMS misfit.

    Least squares (Umeyama 1991).

    Args:
        mirror: find the best reflection instead of the best rotation.
    """
    source, target = source - source.mean(0), target - target.mean(0)
    spread = np.sqrt((target**2).sum())
    if spread == 0 or not np.isfinite(spread):
        return np.eye(3), np.inf
    u, singular, vt = np.linalg.svd(target.T @ source)
    side = np.sign(np.linalg.det(u @ vt))
    sign = np.array([1.0, 1.0, -side if mirror else side])
    linear = (u * sign) @ vt * ((singular * sign).sum() / (source**2).sum())
    misfit = np.sqrt(((target - source @ linear.T) ** 2).sum()) / spread
    return linear, float(misfit)


def _unknown(template: FaceTemplate, count: int) -> str:
    return (
        f"It has {count} vertices, not those of SelfTalk's head ({len(template.vertices)}) or of a "
        "whole MakeHuman or MPFB body. For a checkpoint's own mesh choose that under Animator."
    )
