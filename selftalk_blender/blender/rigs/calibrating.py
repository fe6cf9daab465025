"""How far each bone and slider of a face goes for each shape: measured, and kept with the face.

`calibrate` moves one control after the other, looks where the mesh goes, and puts everything
back; what it finds is kept in the face's custom property CALIBRATION until the rig changes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ...core.axes import Axis, gap_share, has_lips, solve, stretch
from ...core.errors import SelfTalkError
from ...core.places import GAPS, Frame, motions
from ...core.template import bundled_template
from .. import face
from ..marks import CALIBRATION
from .finding import Found, find
from .watching import near_face, watch

HALF_OPEN = 0.3  # of jawOpen: as far as speech usually goes
TURN_STEP = 0.12  # radians; a jaw in speech turns by 0.05 to 0.25
MOVE_STEP = 0.01  # of the size of what is near the face
STILL = 2e-4  # metres on the bundled head; a control that never goes farther gets no curve


@dataclass(frozen=True, eq=False)
class Calibration:
    """How far each axis goes.

    Attributes:
        axes: C of them, those that move the mesh.
        matrix: (52, C) in the axes' units at weight 1.
        jaw_alone: whether the rig can part the lips by its jaw alone.
    """

    axes: tuple[Axis, ...]
    matrix: np.ndarray
    jaw_alone: bool


def _keep(target: bpy.types.Object, found: Found, calibration: Calibration) -> None:
    matrix = base64.b64encode(calibration.matrix.astype(np.float32).tobytes()).decode()
    target[CALIBRATION] = json.dumps(
        {
            "rig": _signature(target, found),
            "axes": [vars(axis) for axis in calibration.axes],
            "matrix": matrix,
            "jaw_alone": calibration.jaw_alone,
        }
    )


def stored(target: bpy.types.Object, found: Found) -> Calibration | None:
    """The calibration kept with a face; None where there is none or the rig changed since."""
    try:
        kept = json.loads(target.get(CALIBRATION, "{}"))
        if kept.get("rig") != _signature(target, found):
            return None
        # JSON makes a list of the shapes, which have done their part in `solve`.
        axes = tuple(Axis(**{**axis, "shapes": ()}) for axis in kept["axes"])
        matrix = np.frombuffer(base64.b64decode(kept["matrix"]), np.float32)
        return Calibration(axes, matrix.reshape(-1, len(axes)), bool(kept["jaw_alone"]))
    except (KeyError, TypeError, ValueError):
        return None  # edited by hand, or of another version


def _signature(target: bpy.types.Object, found: Found) -> str:
    """A short hash of what a calibration depends on: the axes, their bones' rest, the mesh."""
    bones = found.armature.data.bones
    rest = [
        np.round(np.array(bones[control.bone].matrix_local), 5).tolist()
        for control in (found.rig.controls if found.rig is not None else ())
    ]
    state = repr((found.axes, rest, len(target.data.vertices), len(target.vertex_groups)))
    return hashlib.sha256(state.encode()).hexdigest()[:16]


def is_measured(target: bpy.types.Object) -> bool:
    """Whether a face's rig needs no measuring: it was, or there is none."""
    try:
        return stored(target, find(target)) is not None
    except SelfTalkError:
        return True


def calibrate(target: bpy.types.Object) -> Generator[float, None, None]:
    """Measure how far each control must go for each shape, and keep that with the face.

    One control after the other is moved and the mesh looked at; after each step, and so also
    if the generator is closed, every control is where it was.

    Yields:
        How much is done, 0..1.

    Raises:
        SelfTalkError: as `find`; nothing moves the face; or where it is cannot be told.
    """
    face.usable(target)
    found = find(target)
    layer = bpy.context.view_layer
    if target.name not in layer.objects:
        raise SelfTalkError(f"{target.name} is not in the present view layer. Include it first.")
    at = _sample(target, found.axes, {})
    near = near_face(found, at)
    moves = yield from _measure(target, found, at, near)
    spots, frame = watch(target, found, at[near], moves)
    points = list(spots)
    jacobian = np.stack([moves[spot].mean(0) for spot in spots.values()])
    reach = np.sqrt((moves**2).sum(1)).max(0)
    matrix = solve(found.axes, points, jacobian, reach, frame)
    goes = reach * np.abs(matrix).max(0)
    yield from _refine(target, found.axes, matrix, {p: near[s] for p, s in spots.items()}, frame)
    used = [i for i in range(len(found.axes)) if goes[i] > STILL * frame.scale]
    if not used:
        raise SelfTalkError(
            f"The face controls of {found.armature.name} do not move {target.name}. Check its "
            "vertex groups and the Armature modifier."
        )
    axes = tuple(found.axes[i] for i in used)
    _keep(target, found, Calibration(axes, matrix[:, used], not has_lips(found.axes)))
    layer.update()
    yield 1.0


def _measure(
    target: bpy.types.Object, found: Found, at: np.ndarray, near: np.ndarray
) -> Generator[float, None, np.ndarray]:
    """How far the vertices near the face, (n,) of (V, 3), go per unit of each axis, (n, 3, D).

    In world space. Turns are measured both ways, so that the bend of the arc cancels.
    """
    size = float(np.ptp(at[near], axis=0).max())
    unit = size / max(abs(found.armature.matrix_world.determinant()) ** (1 / 3), 1e-12)
    moves = np.empty((len(near), 3, len(found.axes)), np.float32)
    for number, axis in enumerate(found.axes):
        step = _step(axis, unit)
        there = _sample(target, found.axes, {axis: axis.rest + step})
        back, length = at, step
        if axis.turns:
            back, length = _sample(target, found.axes, {axis: axis.rest - step}), 2 * step
        if there.shape != at.shape or back.shape != at.shape:
            raise SelfTalkError(
                f"The vertex count of {target.name} changes as it moves. Turn off the modifier "
                "that does so while the rig is measured."
            )
        moves[:, :, number] = (there[near] - back[near]) / length
        yield 0.9 * (number + 1) / len(found.axes)
    return moves


def _step(axis: Axis, size: float) -> float:
    """How far an axis is moved to be measured, in its own unit; size is of the face in that."""
    if axis.turns:
        return TURN_STEP / (2 if "quaternion" in axis.path else 1)
    if np.isfinite(axis.high):
        return (axis.high - axis.rest) or (axis.low - axis.rest)
    return 1.0 if axis.kind == "PROPERTY" else MOVE_STEP * size


def _refine(
    target: bpy.types.Object,
    axes: tuple[Axis, ...],
    matrix: np.ndarray,
    spots: dict[str, np.ndarray],
    frame: Frame,
) -> Iterator[float]:
    """Have mouthClose close what jawOpen opens, and lids close, by a look at it; in place."""
    names = bundled_template().shape_names
    jaw, close = names.index("jawOpen"), names.index("mouthClose")
    rest = np.array([axis.rest for axis in axes])
    low, high = (np.array([getattr(axis, n) for axis in axes]) for n in ("low", "high"))

    def heights(moved: np.ndarray) -> dict[str, float]:
        values = np.clip(rest + moved, low, high)
        at = _sample(target, axes, dict(zip(axes, values, strict=True)))
        return {point: float(frame.up @ at[spot].mean(0)) for point, spot in spots.items()}

    def gap(moved: np.ndarray) -> float:
        now, (upper, lower) = heights(moved), GAPS[0]
        return now[upper] - now[lower] - (still[upper] - still[lower])

    still = heights(0 * rest)
    opening = HALF_OPEN * bundled_template().gap_per_weight[jaw] / 1000 * frame.scale
    for _ in range(2):
        opened = gap(HALF_OPEN * matrix[jaw])
        factor = stretch(opening, opened)
        if has_lips(axes):
            matrix[jaw] *= factor
            opened = gap(HALF_OPEN * matrix[jaw])
            closing = opened - gap(HALF_OPEN * (matrix[jaw] + matrix[close]))
            matrix[close] *= stretch(opened, closing)
        else:
            matrix[gap_share() != 0] *= factor
        yield 0.95
        for side in ("Left", "Right"):
            row, point = names.index(f"eyeBlink{side}"), f"lid_upper_{side.lower()}"
            if matrix[row].any():
                down = still[point] - heights(matrix[row])[point]
                wanted = -float(frame.up @ frame.linear @ motions(point)[row])
                matrix[row] *= stretch(wanted, down)
                yield 0.95


def _sample(
    target: bpy.types.Object, axes: tuple[Axis, ...], moved: dict[Axis, float]
) -> np.ndarray:
    """(V, 3) world positions with all axes at rest but some; then everything is put back."""
    saved = [_read(axis) for axis in axes]
    try:
        for axis in axes:
            _set(axis, moved.get(axis, axis.rest))
        bpy.context.view_layer.update()
        evaluated = target.evaluated_get(bpy.context.evaluated_depsgraph_get())
        at = np.empty(len(evaluated.data.vertices) * 3, np.float32)
        evaluated.data.vertices.foreach_get("co", at)
        matrix = np.array(evaluated.matrix_world, np.float64)
    finally:
        for axis, before in zip(axes, saved, strict=True):
            _set(axis, before)
    return at.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def _read(axis: Axis) -> Any:
    value = bpy.data.objects[axis.object].path_resolve(axis.path)
    return value[axis.index] if axis.index >= 0 else value


def _set(axis: Axis, value: Any) -> None:
    owner = bpy.data.objects[axis.object]
    if axis.index >= 0:
        owner.path_resolve(axis.path)[axis.index] = value
        return
    parts = re.fullmatch(r'(.*)\["((?:[^"\\]|\\.)*)"\]', axis.path)
    assert parts is not None
    holder = owner.path_resolve(parts[1]) if parts[1] else owner
    name = bpy.utils.unescape_identifier(parts[2])
    holder[name] = type(holder[name])(value)
    owner.update_tag()  # or drivers do not notice
