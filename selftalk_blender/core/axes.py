"""How far each control of a rig goes for each shape of the bundled head.

A bone's name says what it moves, never how far or which way: that is measured in Blender on the
skinned mesh, and fitted here to what the shapes of the bundled head do at the same places.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from .drive import Channel
from .lips import rest_weights
from .places import GAPS, Frame, motions
from .rigs import BROW, JAW, LID, MOUTH, PARTS, TONGUE, parts_of_shape
from .template import bundled_template

# Where on the face each part is watched.
WATCHED = {
    JAW: re.compile("chin|lower_lip"),
    MOUTH: re.compile("lip|corner|cheek|chin"),
    BROW: re.compile("brow"),
    LID: re.compile("lid"),
    TONGUE: re.compile("tongue"),
}
# The gaps between lips count more than where the lips are.
GAP_WEIGHT = 4.0
# Ridge: what a control's largest millimetre anywhere on the mesh costs in millimetres missed.
# Small for what opens a mouth by nature (turning the jaw), larger for what only helps.
TURN_COST, MOVE_COST, JAW_MOVE_COST = 0.03, 0.06, 0.3


@dataclass(frozen=True)
class Axis:
    """One number of a control that can be set.

    Attributes:
        object, path, index: as of a `drive.Channel`.
        part: the part of the face that it serves.
        turns: whether it is a rotation.
        kind: "BONE" or "PROPERTY".
        shapes: the shapes that it is for; () for all of its part.
        low, high: the range that it may take.
        rest: its value at the resting face.
    """

    object: str
    path: str
    index: int
    part: str
    turns: bool = False
    kind: str = "BONE"
    shapes: tuple[str, ...] = ()
    low: float = -np.inf
    high: float = np.inf
    rest: float = 0.0

    @property
    def channel(self) -> Channel:
        """It as what a drive sets."""
        return Channel(self.object, self.kind, self.path, self.index)

    def serves(self, shape: str) -> bool:
        """Whether it may move for a shape."""
        return shape in self.shapes if self.shapes else self.part in parts_of_shape(shape)


def solve(
    axes: Sequence[Axis],
    points: Sequence[str],
    jacobian: np.ndarray,
    reach: np.ndarray,
    frame: Frame,
) -> np.ndarray:
    """How far each axis goes for each shape of the bundled head.

    Ridge regression, part by part: first the jaw for the shapes of the jaw, then the lips for
    what is left, so that a rig with a jaw opens its mouth by the jaw. Where the rig has no lips
    to move, the jaw opens as far as the lips would part.

    Args:
        axes: D of them.
        points: S places of `places.positions` that are watched.
        jacobian: (S, 3, D) how far each place goes per unit of each axis.
        reach: (D,) how far the vertex goes that each axis moves most, per unit.
        frame: of this face, in the jacobian's unit and axes.

    Returns:
        (52, D) amounts in each axis' unit at weight 1.
    """
    names = bundled_template().shape_names
    reach = _reach_of_vectors(axes, reach)
    matrix = np.zeros((len(names), len(axes)))
    left = np.stack([motions(point) for point in points], 1) @ frame.linear.T  # (52, S, 3)
    for part in PARTS:
        watched = [i for i, point in enumerate(points) if WATCHED[part].search(point)]
        if not watched:
            continue
        own = [column for column, axis in enumerate(axes) if axis.part == part]
        named = [column for column in own if axes[column].shapes]
        others = [column for column in own if not axes[column].shapes]
        # What a slider promises by name comes before what bones may add.
        for group in (named, others):
            for row, name in enumerate(names):
                columns = [column for column in group if axes[column].serves(name)]
                if columns:
                    amounts = _fit(
                        [axes[column] for column in columns],
                        [points[i] for i in watched],
                        jacobian[np.ix_(watched, range(3), columns)],
                        reach[columns],
                        left[row, watched],
                        frame,
                    )
                    matrix[row, columns] += amounts
                    left[row] -= jacobian[:, :, columns] @ amounts
    if not has_lips(axes):
        opening = names.index("jawOpen")
        lips = gap_share() * (np.arange(len(names)) != opening)
        matrix += np.outer(lips, matrix[opening])
    return matrix


def _reach_of_vectors(axes: Sequence[Axis], reach: np.ndarray) -> np.ndarray:
    """(D,) reach of the vector that each axis is of: of its three numbers' the largest.

    So what a constraint holds back costs as much as what goes freely: it is not pushed harder.
    """
    largest: dict[tuple[str, str], float] = {}
    for axis, far in zip(axes, reach, strict=True):
        vector = (axis.object, axis.path)
        largest[vector] = max(largest.get(vector, 0.0), float(far))
    return np.array([largest[axis.object, axis.path] for axis in axes])


def has_lips(axes: Iterable[Axis]) -> bool:
    """Whether a rig can part and close the lips without its jaw."""
    return any(
        axis.part == MOUTH and (not axis.shapes or "mouthClose" in axis.shapes) for axis in axes
    )


@functools.cache
def gap_share() -> np.ndarray:
    """(52,) how far jawOpen and the shapes of the lips part them, as a share of jawOpen."""
    template = bundled_template()
    share = template.gap_per_weight / template.gap_per_weight[template.shape_names.index("jawOpen")]
    lips = [name.startswith(("jawOpen", "mouth", "cheek")) for name in template.shape_names]
    return np.where(lips, share, 0.0)


def _fit(
    axes: Sequence[Axis],
    points: Sequence[str],
    jacobian: np.ndarray,
    reach: np.ndarray,
    wanted: np.ndarray,
    frame: Frame,
) -> np.ndarray:
    """(D,) amounts that move places (S, 3) as wanted, by ridge regression in lengths."""
    count = jacobian.shape[2]
    useful = reach > 1e-9 * frame.scale
    if not useful.any() or np.linalg.norm(wanted) < 1e-6 * frame.scale:
        return np.zeros(count)
    scaled = jacobian / np.where(useful, reach, 1.0)
    rows = [scaled.reshape(-1, count)]
    goal = [wanted.ravel()]
    for upper, lower in GAPS:
        if upper in points and lower in points:
            u, low = points.index(upper), points.index(lower)
            rows.append(GAP_WEIGHT * (frame.up @ (scaled[u] - scaled[low]))[None])
            goal.append(GAP_WEIGHT * np.array([frame.up @ (wanted[u] - wanted[low])]))
    turning = any(axis.turns and ok for axis, ok in zip(axes, useful, strict=True))
    cost = [
        TURN_COST
        if axis.turns or axis.kind == "PROPERTY"
        else JAW_MOVE_COST
        if axis.part == JAW and turning
        else MOVE_COST
        for axis in axes
    ]
    rows.append(np.diag(cost) * np.sqrt(len(points)))
    goal.append(np.zeros(count))
    system = np.concatenate(rows) * np.where(useful, 1.0, 0.0)
    lengths = np.linalg.lstsq(system, np.concatenate(goal), rcond=None)[0]
    return np.where(useful, lengths / np.where(useful, reach, 1.0), 0.0)


def values(
    weights: np.ndarray,
    matrix: np.ndarray,
    rest: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    gap: np.ndarray | None = None,
) -> np.ndarray:
    """Values of channels (T, C) from weights (T, 52); the resting weights give `rest` itself.

    Args:
        matrix: (52, C) from `solve`; rest, low, high: (C,).
        gap: (52,) `gap_share` of the shapes that a jaw without lips serves: it opens and closes
            with them, but does not bite.
    """
    template = bundled_template()
    moved = weights - rest_weights(template)
    result = rest + moved @ matrix
    if gap is not None:
        opening = matrix[template.shape_names.index("jawOpen")]
        result -= np.minimum(moved @ gap, 0.0)[:, None] * opening
    return np.clip(result, low, high).astype(np.float32)


def stretch(wanted: float, got: float) -> float:
    """By how much an amount is multiplied that goes a way other than wanted.

    A turning jaw and a lid that slides over the eye go along arcs, which no fixed map foresees.
    Where next to nothing is got, there is nothing to go by.
    """
    return float(np.clip(wanted / got, 0.7, 1.4)) if got > 0.3 * wanted > 0 else 1.0
