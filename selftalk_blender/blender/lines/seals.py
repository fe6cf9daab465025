"""How an edit of a line's keys by the artist is noticed.

`seal` notes what the curves of a line are right after we wrote them, as a few sums; `touched` sees
whether they still are. A line that never was sealed counts as ours. The sums are kept with the
face and with the line's actions: undo may take back one of them alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence

import bpy
import numpy as np

from ...core.steps import at_last
from .. import mesh_cache
from ..marks import REDUCED, SEAL, SEALS
from ..properties import Line
from .actions import curves as curves_of_line
from .actions import places_of_line
from .entries import find
from .values import Baked

SLACK = 1e-3  # of a sum; an edit that shows changes it by more
# What changes where an artist edits a line's keys, and not where the line moves: of each curve
# the number of its keys, and their times and distances from rest, each key with a factor of its
# own. By owner, path and index.
Sums = dict[tuple[bpy.types.ID, tuple[str, int]], np.ndarray]
CHUNK = 100_000  # keys that are read at a time


def sums_of(baked: Baked) -> np.ndarray:
    """(C, 3) the sums of the curves of a line that is made."""
    away = baked.values - baked.rest
    frames = np.arange(len(away))
    factors = np.cos(1.0 + frames)
    rows = np.empty((away.shape[1], 3))
    rows[:, 0], rows[:, 1], rows[:, 2] = len(frames), factors @ frames, factors @ away
    return rows


def seal(face: bpy.types.Object, line_id: str, sums: Sums) -> None:
    """Note that a line's curves are as we wrote them."""
    break_seal(face, line_id)
    if SEALS not in face:
        face[SEALS] = {}
    flat = _flat((curve, row) for (_, curve), row in sums.items())
    face[SEALS][line_id] = flat
    for place in places_of_line(face, line_id):
        place.action[SEAL] = flat


def break_seal(face: bpy.types.Object, line_id: str) -> None:
    """Have a line's curves count as ours, whatever they are."""
    for name in (SEALS, REDUCED):
        face.get(name, {}).pop(line_id, None)
    for place in places_of_line(face, line_id):
        place.action.pop(SEAL, None)


def _flat(rows: Iterable[tuple[tuple[str, int], np.ndarray]]) -> list[float]:
    """Sums of curves in an order that no owner's name changes."""
    ordered = sorted((curve, tuple(row)) for curve, row in rows)
    return [float(value) for _, row in ordered for value in row]


def mark_reduced(face: bpy.types.Object, line_id: str, error_mm: float) -> None:
    """Note that a line's curves are reduced, by a largest error."""
    if REDUCED not in face:
        face[REDUCED] = {}
    face[REDUCED][line_id] = error_mm


def touched(face: bpy.types.Object) -> list[str]:
    """As `touched_lines`, at once."""
    return at_last(touched_lines(face))


def touched_lines(face: bpy.types.Object) -> Generator[None, None, list[str]]:
    """Names of a face's lines whose keys were reduced, or edited since; yields meanwhile."""
    names = []
    for line_id, name in [(line.id, line.name) for line in face.selftalk.lines]:
        if (yield from touching(face, line_id)):
            names.append(name)
    return names


def is_edited(face: bpy.types.Object, line: Line) -> bool:
    """Whether the artist has edited or reduced the keys of a line, and it still plays them."""
    return at_last(touching(face, line.id)) and not is_unplayed(face, line)


def is_unplayed(face: bpy.types.Object, line: Line) -> bool:
    """Whether a line had curves, and the artist has taken them off the face."""
    had = len(face.get(SEALS, {}).get(line.id, ())) > 0
    return had and not mesh_cache.plays(face) and not places_of_line(face, line.id)


def touching(face: bpy.types.Object, line_id: str) -> Generator[None, None, bool]:
    """Whether a line's keys were reduced, or edited since we wrote them; yields meanwhile."""
    if line_id in face.get(REDUCED, {}):
        return True
    if line_id not in face.get(SEALS, {}):
        return False
    seals = [tuple(place.action.get(SEAL, ())) for place in places_of_line(face, line_id)]
    if len(set(seals)) > 1 or () in seals:  # undone in part: begun by us, or made at two times
        return False
    old = np.array(seals[0] if seals else face[SEALS][line_id])
    now = yield from _summing(face, line_id)
    slack = SLACK * np.maximum(1.0, np.abs(old))
    return len(old) != len(now) or not bool((np.abs(old - now) <= slack).all())


def _summing(face: bpy.types.Object, line_id: str) -> Generator[None, None, list[float]]:
    """The sums of a line's curves as they are now, in the order of `_flat`."""
    rows: list[tuple[tuple[str, int], np.ndarray]] = []
    line = find(face, line_id)
    while line is not None:
        # Anew each time: what was looked up before may be gone.
        curves = list(curves_of_line(face, line_id))[len(rows) :]
        if not curves:
            break
        counts = np.cumsum([len(curve.keyframe_points) for _, curve, _ in curves])
        curves = curves[: max(1, int(np.searchsorted(counts, CHUNK)))]
        rows += _rows(curves, line.key_range[0])
        yield
        line = find(face, line_id)
    return _flat(rows)


def _rows(
    curves: Sequence[tuple[bpy.types.ID, bpy.types.FCurve, float]], first_frame: int
) -> list[tuple[tuple[str, int], np.ndarray]]:
    """The sums of some curves."""
    counts = np.array([len(curve.keyframe_points) for _, curve, _ in curves])
    starts = np.cumsum(counts) - counts
    points = np.zeros((counts.sum() + 1, 2), np.float32)  # one more, for a last curve without keys
    for (_, curve, _), start, count in zip(curves, starts, counts, strict=True):
        curve.keyframe_points.foreach_get("co", points[start : start + count].reshape(-1))
    away = points.astype(np.float64)
    away[:-1] -= np.repeat([(first_frame, rest) for _, _, rest in curves], counts, 0)
    away[:-1] *= np.cos(1.0 + np.arange(counts.sum()) - np.repeat(starts, counts))[:, None]
    sums = np.where(counts[:, None] > 0, np.add.reduceat(away, starts), 0.0)
    names = [(curve.data_path, curve.array_index) for _, curve, _ in curves]
    return list(zip(names, np.column_stack([counts, sums]), strict=True))
