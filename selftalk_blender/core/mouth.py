"""Where the lips of a face are, told by how its own shapes move them, and what each shape does.

No axes, units or landmarks are asked for: the lips are where vertices lie close together and yet
are torn apart when the mouth opens.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from .template import bundled_template

POINTS = 9  # along each lip
STRETCHES = 2 * POINTS  # of the line between the lips, each with at most one pair of vertices
# How near lips are that touch in the rest pose, as shares of the way that they open: the nearest
# that gives PAIRS of vertices counts.
TOUCHING = (0.02, 0.04, 0.07, 0.12, 0.2)
PAIRS = 6
# Lips move at least this share of the most that anything moves when the mouth is rounded.
LIPS_MOVE = 0.2


@dataclass(frozen=True, eq=False)
class Mouth:
    """The line between the lips of one face.

    Attributes:
        upper, lower: (n,) vertices that face each other across the line, from one corner to the
            other.
        axes: (3, 3) rows: along the mouth, up, and out of the face.
        width: between the outermost vertices, in the mesh's unit.
        place: (n,) where along the mouth each pair lies, 0..1.
    """

    upper: np.ndarray
    lower: np.ndarray
    axes: np.ndarray
    width: float
    place: np.ndarray

    def features(self, deltas: np.ndarray) -> np.ndarray:
        """How shapes move the lips, in widths of the mouth.

        Args:
            deltas: (K, V, 3) offsets of the shapes in the mesh's axes and unit.

        Returns:
            (K, 2 * POINTS * 3): points along the upper lip, then along the lower, each along the
            mouth (symmetric sides have opposite signs), up and out.
        """
        places = (np.arange(POINTS) + 0.5) / POINTS
        right = np.searchsorted(self.place, places).clip(1, len(self.place) - 1)
        left = right - 1
        gap = np.maximum(self.place[right] - self.place[left], 1e-9)
        share = np.clip((places - self.place[left]) / gap, 0.0, 1.0)[:, None]
        lips = []
        for lip in (self.upper, self.lower):
            moved = np.asarray(deltas, np.float64)[:, lip] @ self.axes.T / self.width
            lips.append(moved[:, left] * (1 - share) + moved[:, right] * share)
        return np.concatenate(lips, 1).reshape(len(deltas), -1)

    def gap(self, deltas: np.ndarray) -> np.ndarray:
        """(K,) by how much shapes (K, V, 3) open the middle of the mouth, in the mesh's unit."""
        return gaps(self.features(deltas)) * self.width


def gaps(features: np.ndarray) -> np.ndarray:
    """(...,) opening of the mouth's middle third, in widths, of features (..., F)."""
    lips = features.reshape(*features.shape[:-1], 2, POINTS, 3)
    middle = slice(POINTS // 3, POINTS - POINTS // 3)
    apart = lips[..., 0, middle, 1] - lips[..., 1, middle, 1]
    return np.asarray(apart.mean(-1))


def find_mouth(vertices: np.ndarray, opening: np.ndarray, rounding: np.ndarray) -> Mouth | None:
    """The mouth of a face with shapes that open and round it; None where the lips are not clear.

    Args:
        vertices: (V, 3) at rest.
        opening: (V, 3) offsets of the shape that opens the mouth most: jawOpen, or "aa".
        rounding: (V, 3) offsets of a shape that moves both lips and no teeth: mouthPucker, "ou".
    """
    vertices, opening = np.asarray(vertices, np.float64), np.asarray(opening, np.float64)
    moved = np.linalg.norm(opening, axis=1)
    most = moved.max(initial=0.0)
    if not most > 0:
        return None
    # A round vowel opens the jaw, too: what is left without that is the lips' own way.
    chin = moved > 0.7 * most
    jaw = (rounding[chin] * opening[chin]).sum() / (opening[chin] ** 2).sum()
    rounding = rounding - jaw * opening
    rounded = np.linalg.norm(rounding, axis=1)
    if not rounded.max() > 0:
        return None
    down = opening[chin].mean(0)
    down /= np.linalg.norm(down)
    lips = np.flatnonzero(rounded > LIPS_MOVE * rounded.max())
    forward = rounding[lips].mean(0)
    if np.linalg.norm(forward) < 0.3 * rounded[lips].mean():
        forward = None  # a drawn mouth, which only gets narrow
    pairs: list[np.ndarray] = []
    axes = mouth = None
    for touching in TOUCHING:
        found = lips[np.stack(_torn_apart(vertices[lips], opening[lips] @ down, touching * most))]
        if axes is None and found.shape[1] >= PAIRS:
            axes = _axes(vertices, vertices[found].mean(0), down, forward)
        pairs.append(found)
        mouth = _thin(vertices, pairs, axes) if axes is not None else None
        if mouth is not None and len(mouth.place) == STRETCHES:
            break
    return mouth


def _axes(
    vertices: np.ndarray, line: np.ndarray, down: np.ndarray, forward: np.ndarray | None
) -> np.ndarray:
    """(3, 3) as in `Mouth`, from the line between the lips (n, 3) and two directions."""
    middle = line.mean(0)
    along = np.linalg.svd(line - middle, full_matrices=False)[2][0]
    if forward is None:
        out = np.cross(along, down)
        # Away from the head: what lies around the mouth lies behind it.
        near = np.linalg.norm(vertices - middle, axis=1) < 2.0 * np.ptp(line @ along)
        out *= -np.sign((vertices[near].mean(0) - middle) @ out) or 1.0
    else:
        out = forward - (forward @ along) * along
    out /= np.linalg.norm(out)
    up = np.cross(out, along)
    if up @ down > 0:
        along, up = -along, -up
    return np.stack([along, up, out])


def _torn_apart(points: np.ndarray, fall: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (n,), (n,) of points (V, 3) within about `near` that fall (V,) very differently.

    Looks into the cells of eight shifted grids, so that hardly a pair is cut by all borders.
    """
    pairs = []
    size = near * 2.0
    least = 0.45 * fall.max(initial=0.0)
    for shift in np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), -1).reshape(-1, 3):
        cells = np.floor(points / size + shift).astype(np.int64)
        cells -= cells.min(0, initial=0)
        span = cells.max(0, initial=0) + 1
        cell = (cells[:, 0] * span[1] + cells[:, 1]) * span[2] + cells[:, 2]
        order = np.lexsort((fall, cell))
        starts = np.flatnonzero(np.r_[True, np.diff(cell[order]) != 0])[: len(order)]
        ends = np.r_[starts[1:], len(order)] - 1
        upper, lower = order[starts], order[ends[: len(starts)]]
        torn = fall[lower] - fall[upper] > least
        torn &= np.linalg.norm(points[lower] - points[upper], axis=1) < near
        pairs.append(np.stack([upper[torn], lower[torn]]))
    upper, lower = np.unique(np.concatenate(pairs, 1), axis=1)
    return upper, lower


def _thin(vertices: np.ndarray, pairs: list[np.ndarray], axes: np.ndarray) -> Mouth | None:
    """One pair for each stretch of the mouth: of the nearest pairs the foremost.

    Behind the lips others touch, hence the foremost.

    Args:
        pairs: (2, n) each, upper and lower vertices; the nearest come first.
    """
    first = next(index for index, found in enumerate(pairs) if found.shape[1] >= PAIRS)
    places = [vertices[found].mean(0) @ axes.T for found in pairs]
    low, width = places[first][:, 0].min(), np.ptp(places[first][:, 0])
    if not width > 0:
        return None
    chosen: dict[int, tuple[float, int, int]] = {}
    for found, place in zip(pairs, places, strict=True):
        share = (place[:, 0] - low) / width
        taken = set(chosen)
        for index in np.argsort(place[:, 2]):  # the foremost comes last
            stretch = min(int(share[index] * STRETCHES), STRETCHES - 1)
            if 0.0 <= share[index] <= 1.0 and stretch not in taken:
                chosen[stretch] = (float(share[index]), *found[:, index])
    if len(chosen) < PAIRS:
        return None
    place, upper, lower = zip(*sorted(chosen.values()), strict=True)
    return Mouth(np.array(upper), np.array(lower), axes, float(width), np.array(place))


@functools.cache
def bundled_features() -> np.ndarray:
    """(52, F) what the bundled head's shapes do to its lips."""
    template = bundled_template()
    named = dict(zip(template.shape_names, template.shape_deltas, strict=True))
    mouth = find_mouth(template.vertices, named["jawOpen"], named["mouthPucker"])
    assert mouth is not None
    return mouth.features(template.shape_deltas)
