"""The bones and sliders of a face: which there are, and how far each goes for each shape.

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

from ..core import rigs
from ..core.drive import Channel, Drive, join
from ..core.errors import SelfTalkError
from ..core.target import Analysis
from ..core.template import bundled_template
from . import compat, face
from .marks import CALIBRATION, LINE, MARK

HALF_OPEN = 0.3  # of jawOpen: as far as speech usually goes
TURN_STEP = 0.12  # radians; a jaw in speech turns by 0.05 to 0.25
MOVE_STEP = 0.01  # of the size of what is near the face
NEAR = 3  # vertices that stand for a place without a control of its own
STILL = 2e-4  # metres on the bundled head; a control that never goes farther gets no curve
UNBOUND = 1e6  # a slider that goes so far has no end
NO_RIG = "No face rig: {} has no armature with a jaw bone or face sliders."
Animated = dict[tuple[str, int], str]
ROTATION = {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": ""}


@dataclass(frozen=True, eq=False)
class Found:
    """What there is to move on a face.

    Attributes:
        armature: the object that deforms it.
        rig: which rig its bones are; None where only sliders were found.
        axes: numbers that may be set.
        left_alone: sentences on controls that may not.
    """

    armature: bpy.types.Object
    rig: rigs.Rig | None
    axes: tuple[rigs.Axis, ...]
    left_alone: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Calibration:
    """How far each axis goes: matrix (52, C) in the axes' units at weight 1."""

    axes: tuple[rigs.Axis, ...]
    matrix: np.ndarray
    jaw_alone: bool


# --- What there is ----------------------------------------------------------------------------


def deforming_armature(target: bpy.types.Object) -> bpy.types.Object | None:
    """The armature that deforms a mesh, by a modifier or as its parent."""
    for modifier in target.modifiers:
        if modifier.type == "ARMATURE" and modifier.object is not None and modifier.show_viewport:
            return modifier.object
    if target.parent is not None and target.parent.type == "ARMATURE":
        return target.parent
    return None


def find(target: bpy.types.Object) -> Found:
    """The rig of a face and what of it may be moved; quick, and nothing is moved.

    Raises:
        SelfTalkError: there is none, or it may not be animated from here.
    """
    armature = deforming_armature(target)
    if armature is None:
        raise SelfTalkError(NO_RIG.format(target.name))
    for block in (armature, armature.data):
        if block.library is not None or block.override_library is not None:
            raise SelfTalkError(
                f"The armature {armature.name} belongs to another file. Make it local first "
                "(in the Outliner: Library Override > Clear > Make Local, or Object > Relations > "
                "Make Local), or animate it in its own file."
            )
    if armature.data.pose_position == "REST":
        raise SelfTalkError(
            f"The armature {armature.name} is in Rest Position, so its bones move nothing. Choose "
            "Pose Position in its Armature Data properties."
        )
    if armature.mode == "EDIT":
        raise SelfTalkError(
            f"The armature {armature.name} is in Edit Mode. Leave it (Tab) and try again."
        )
    rig = rigs.recognise(armature.data.bones.keys())
    left_alone: list[str] = []
    animated = _animated(armature)
    axes = [
        axis
        for control in (rig.controls if rig is not None else ())
        for axis in _bone_axes(armature, rig, control, animated, left_alone)
    ]
    taken = {control.bone for control in (rig.controls if rig is not None else ())}
    axes += _board_axes(armature, taken, animated, left_alone)
    axes += _slider_axes(armature, animated, left_alone)
    axes += _slider_axes(target, _animated(target), left_alone)
    if rig is None and not axes:
        raise SelfTalkError(NO_RIG.format(target.name))
    if not axes:
        raise SelfTalkError(" ".join(left_alone))
    return Found(armature, rig, tuple(axes), tuple(left_alone))


def analyse(target: bpy.types.Object) -> str:
    """The rig of a face in one line.

    Raises:
        SelfTalkError: as `find`.
    """
    return line(find(target))


def line(found: Found) -> str:
    """What was found, in one line."""
    bones = {(axis.part, axis.path.rpartition(".")[0]) for axis in found.axes if axis.index >= 0}
    parts = [part for part, _ in bones]
    what = [f"{parts.count(part)} {part}" for part in rigs.WATCHED if part in parts]
    sliders = sum(axis.kind == "PROPERTY" for axis in found.axes)
    title = found.rig.title if found.rig is not None and bones else "Sliders"
    pieces = [f"{', '.join(what)} bone{'s' * (len(bones) > 1)}"] * bool(bones)
    pieces += [f"{sliders} slider{'s' * (sliders > 1)}"] * bool(sliders)
    return f"{title} of {found.armature.name}: {', '.join(pieces)}"


def _bone_axes(
    armature: bpy.types.Object,
    rig: rigs.Rig,
    control: rigs.Control,
    animated: Animated,
    left_alone: list[str],
) -> Iterator[rigs.Axis]:
    bone = armature.pose.bones[control.bone]
    if not rig.constrained and _held(bone):
        left_alone.append(f"Bone {bone.name} has the constraint {_held(bone)}: left alone.")
        return
    base = f'pose.bones["{bpy.utils.escape_identifier(bone.name)}"].'
    turn = ROTATION.get(bone.rotation_mode, "rotation_euler")
    numbers = [("location", i, bone.lock_location[i], False) for i in range(3)]
    if control.part in rig.turning:
        if turn:
            # Of a quaternion, w stays 1: Blender normalises, and x, y, z are half the angle.
            shift = turn == "rotation_quaternion"
            numbers += [(turn, i + shift, bone.lock_rotation[i], True) for i in range(3)]
        else:
            left_alone.append(
                f"Bone {bone.name} is turned by axis and angle, which cannot be mixed: its "
                "rotation is left alone. Choose another rotation mode to have it turned."
            )
    held = set()
    for path, index, locked, turns in numbers:
        if locked or (path == "location" and bone.bone.use_connect):
            continue
        reason = animated.get((base + path, index))
        if reason:
            held.add(reason)
            continue
        yield rigs.Axis(armature.name, base + path, index, control.part, turns)
    left_alone += [f"Bone {bone.name} {reason}: left alone." for reason in sorted(held)]


def _held(bone: bpy.types.PoseBone) -> str:
    """A constraint of the artist that decides where a bone is, or ""."""
    return next(
        (
            constraint.name
            for constraint in bone.constraints
            if not constraint.mute
            and constraint.influence > 0
            and not constraint.type.startswith("LIMIT_")
        ),
        "",
    )


def _board_axes(
    armature: bpy.types.Object, taken: set[str], animated: Animated, left_alone: list[str]
) -> Iterator[rigs.Axis]:
    """Bones of a control board: named as a shape is, and pushed along to make it."""
    for bone in armature.pose.bones:
        shapes = rigs.named_shapes(bone.name)
        if not shapes or bone.name in taken:
            continue
        if _held(bone):
            left_alone.append(f"Bone {bone.name} has the constraint {_held(bone)}: left alone.")
            continue
        part = rigs.parts_of_shape(shapes[0])
        path = f'pose.bones["{bpy.utils.escape_identifier(bone.name)}"].location'
        for index in range(3 if part else 0):
            reason = animated.get((path, index))
            if reason:
                left_alone.append(f"Bone {bone.name} {reason}: left alone.")
            elif not bone.lock_location[index]:
                low, high = _limits(bone, index)
                if high > low:
                    yield rigs.Axis(
                        armature.name, path, index, part[0], shapes=shapes, low=low, high=high
                    )


def _limits(bone: bpy.types.PoseBone, index: int) -> tuple[float, float]:
    """How far a bone may be moved along one of its axes, by its Limit Location constraints."""
    low, high = -np.inf, np.inf
    for constraint in bone.constraints:
        if constraint.type == "LIMIT_LOCATION" and constraint.owner_space == "LOCAL":
            axis = "xyz"[index]
            if getattr(constraint, f"use_min_{axis}"):
                low = max(low, getattr(constraint, f"min_{axis}"))
            if getattr(constraint, f"use_max_{axis}"):
                high = min(high, getattr(constraint, f"max_{axis}"))
    return low, high


def _slider_axes(
    owner: bpy.types.Object, animated: Animated, left_alone: list[str]
) -> Iterator[rigs.Axis]:
    """Custom properties of an object and of its bones that are named as shapes are."""
    holders = [(owner, "")]
    if owner.type == "ARMATURE":
        holders += [
            (bone, f'pose.bones["{bpy.utils.escape_identifier(bone.name)}"]')
            for bone in owner.pose.bones
        ]
    for holder, base in holders:
        for name in holder.keys():  # noqa: SIM118 - a Blender object is no dict
            shapes = rigs.slider_shapes(name)
            part = rigs.parts_of_shape(shapes[0]) if shapes else ()
            if not part or type(holder[name]) not in (int, float):
                continue
            path = f'{base}["{bpy.utils.escape_identifier(name)}"]'
            reason = animated.get((path, 0))
            if reason:
                left_alone.append(f"Slider {name} of {owner.name} {reason}: left alone.")
                continue
            about = holder.id_properties_ui(name).as_dict()
            low, high = float(about["min"]), float(about["max"])
            yield rigs.Axis(
                owner.name,
                path,
                -1,
                part[0],
                kind="PROPERTY",
                shapes=shapes,
                low=low if low > -UNBOUND else -np.inf,
                high=high if high < UNBOUND else np.inf,
                rest=float(about["default"]),
            )


def _animated(owner: bpy.types.Object) -> dict[tuple[str, int], str]:
    """What of the artist's moves the numbers of an object: (path, index) -> end of a sentence."""
    data = owner.animation_data
    if data is None:
        return {}
    found = {}
    if data.action is not None and not (MARK in data.action or LINE in data.action):
        for curve in compat.playing_curves(owner):
            place = curve.data_path, curve.array_index
            found[place] = f"is animated by the action {data.action.name}"
    for curve in data.drivers:
        found[curve.data_path, curve.array_index] = "has a driver"
    return found


# --- How far ----------------------------------------------------------------------------------


def _stored(target: bpy.types.Object, found: Found) -> Calibration | None:
    """The calibration kept with a face; None where there is none or the rig changed since."""
    try:
        kept = json.loads(target.get(CALIBRATION, "{}"))
        if kept.get("rig") != _signature(target, found):
            return None
        axes = tuple(rigs.Axis(**{**axis, "shapes": ()}) for axis in kept["axes"])
        matrix = np.frombuffer(base64.b64decode(kept["matrix"]), np.float32)
        return Calibration(axes, matrix.reshape(-1, len(axes)), bool(kept["jaw_alone"]))
    except (KeyError, TypeError, ValueError):
        return None  # edited by hand, or of another version


def is_measured(target: bpy.types.Object) -> bool:
    """Whether a face's rig needs no measuring: it was, or there is none."""
    try:
        return _stored(target, find(target)) is not None
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
    near = _near(found, at)
    moves = yield from _measure(target, found, at, near)
    spots, frame = _watch(target, found, at[near], moves)
    points = list(spots)
    jacobian = np.stack([moves[spot].mean(0) for spot in spots.values()])
    reach = np.sqrt((moves**2).sum(1)).max(0)
    matrix = rigs.solve(found.axes, points, jacobian, reach, frame)
    goes = reach * np.abs(matrix).max(0)
    yield from _refine(target, found.axes, matrix, {p: near[s] for p, s in spots.items()}, frame)
    used = [i for i in range(len(found.axes)) if goes[i] > STILL * frame.scale]
    if not used:
        raise SelfTalkError(
            f"The face controls of {found.armature.name} do not move {target.name}. Check its "
            "vertex groups and the Armature modifier."
        )
    target[CALIBRATION] = json.dumps(
        {
            "rig": _signature(target, found),
            "axes": [vars(found.axes[i]) for i in used],
            "matrix": base64.b64encode(matrix[:, used].astype(np.float32).tobytes()).decode(),
            "jaw_alone": not rigs.has_lips(found.axes),
        }
    )
    layer.update()
    yield 1.0


def _near(found: Found, at: np.ndarray) -> np.ndarray:
    """(n,) vertices that the face controls can be about, of (V, 3); all, if these are few."""
    places = _bone_places(found)
    if len(places) < 4:
        return np.arange(len(at))
    spread = np.ptp(places, axis=0).max()
    return np.flatnonzero(np.linalg.norm(at - places.mean(0), axis=1) < 2.5 * spread)


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
        step = MOVE_STEP * unit
        if axis.turns:
            step = TURN_STEP / (2 if "quaternion" in axis.path else 1)
        elif np.isfinite(axis.high):
            step = (axis.high - axis.rest) or (axis.low - axis.rest)
        elif axis.kind == "PROPERTY":
            step = 1.0
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


def _refine(
    target: bpy.types.Object,
    axes: tuple[rigs.Axis, ...],
    matrix: np.ndarray,
    spots: dict[str, np.ndarray],
    frame: rigs.Frame,
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
        now, (upper, lower) = heights(moved), rigs.GAPS[0]
        return now[upper] - now[lower] - (still[upper] - still[lower])

    still = heights(0 * rest)
    opening = HALF_OPEN * bundled_template().gap_per_weight[jaw] / 1000 * frame.scale
    for _ in range(2):
        opened = gap(HALF_OPEN * matrix[jaw])
        factor = rigs.stretch(opening, opened)
        if rigs.has_lips(axes):
            matrix[jaw] *= factor
            opened = gap(HALF_OPEN * matrix[jaw])
            closing = opened - gap(HALF_OPEN * (matrix[jaw] + matrix[close]))
            matrix[close] *= rigs.stretch(opened, closing)
        else:
            matrix[rigs.gap_share() != 0] *= factor
        yield 0.95
        for side in ("Left", "Right"):
            row, point = names.index(f"eyeBlink{side}"), f"lid_upper_{side.lower()}"
            if matrix[row].any():
                down = still[point] - heights(matrix[row])[point]
                wanted = -float(frame.up @ frame.linear @ rigs.motions(point)[row])
                matrix[row] *= rigs.stretch(wanted, down)
                yield 0.95


def _sample(
    target: bpy.types.Object, axes: tuple[rigs.Axis, ...], moved: dict[rigs.Axis, float]
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


def _read(axis: rigs.Axis) -> Any:
    value = bpy.data.objects[axis.object].path_resolve(axis.path)
    return value[axis.index] if axis.index >= 0 else value


def _set(axis: rigs.Axis, value: Any) -> None:
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


def _bone_places(found: Found) -> np.ndarray:
    """(n, 3) where the controls stand, in world space."""
    bones = [c.bone for c in found.rig.controls] if found.rig is not None else []
    return np.array([_bone_place(found.armature, name) for name in bones]).reshape(-1, 3)


def _bone_place(armature: bpy.types.Object, name: str) -> np.ndarray:
    return np.array(armature.matrix_world @ armature.pose.bones[name].head)


def _watch(
    target: bpy.types.Object, found: Found, at: np.ndarray, moves: np.ndarray
) -> tuple[dict[str, np.ndarray], rigs.Frame]:
    """The places that are watched, as vertices of (n, 3), and the frame.

    A mesh whose vertices we know has its places by index. On any other, a control's place is
    where the mesh follows it; the rest is found by fitting the bundled head to those.

    Raises:
        SelfTalkError: where the face is cannot be told.
    """
    watched = [point for point in rigs.places() if point != "jaw" and "eye" not in point]
    mirror = found.armature.matrix_world.determinant() < 0
    spots = _spots_by_index(target, at)
    if spots:
        frame = rigs.fit_frame({point: at[spot].mean(0) for point, spot in spots.items()}, mirror)
        assert frame is not None
    else:
        spots = _spots_by_controls(found, at, moves)
        frame = _frame(found, at, moves, spots, mirror)
        if frame is None:
            raise SelfTalkError(
                f"Where the face of {target.name} is cannot be told from the bones of "
                f"{found.armature.name}: they do not move its chin. Check its vertex groups."
            )
        with_jaw = _jaw_field(found, moves)
        with_jaw = with_jaw > 0.5 * with_jaw.max()
        for point in (point for point in watched if point not in spots):
            distance = np.linalg.norm(at - frame(rigs.places()[point]), axis=1)
            if "lip" in point and with_jaw.any():
                distance[with_jaw != ("lower" in point)] = np.inf
            spots[point] = np.argsort(distance)[:NEAR]
        for upper, lower in rigs.GAPS:
            for point, free in ((upper, ~with_jaw), (lower, with_jaw)):
                edge = rigs.lip_edge(at, frame, point, free)
                if edge is not None and with_jaw.any():
                    spots[point] = np.array([edge])
    return {point: spots[point] for point in watched}, frame


def _spots_by_index(target: bpy.types.Object, at: np.ndarray) -> dict[str, np.ndarray]:
    """Place -> its vertex, on a mesh that has the bundled head's; else nothing."""
    if len(at) != len(target.data.vertices):
        return {}
    try:
        fit = face.correspondence(target, face.driven_keys(target))
    except SelfTalkError:
        return {}
    to_target = dict(zip(fit.template_index.tolist(), fit.target_index.tolist(), strict=True))
    vertices = rigs.vertices()
    if not all(vertex in to_target for vertex in vertices.values()):
        return {}
    return {point: np.array([to_target[vertex]]) for point, vertex in vertices.items()}


def _spots_by_controls(found: Found, at: np.ndarray, moves: np.ndarray) -> dict[str, np.ndarray]:
    """Place -> the vertices that follow its own control most closely."""
    spots = {}
    for control in found.rig.controls if found.rig is not None else ():
        own = [
            i
            for i, axis in enumerate(found.axes)
            if axis.kind == "BONE" and not axis.turns and f'"{control.bone}"' in axis.path
        ]
        if control.part == rigs.JAW or not own:
            continue
        follows = np.linalg.norm(moves[:, :, own], axis=(1, 2))
        if follows.max() > 0:
            spots[control.point] = np.flatnonzero(follows > 0.8 * follows.max())
    return spots


def _frame(
    found: Found,
    at: np.ndarray,
    moves: np.ndarray,
    spots: dict[str, np.ndarray],
    mirror: bool,
) -> rigs.Frame | None:
    """How a face lies, from where its controls' places are, or from its jaw and eyes."""
    places = {point: at[spot].mean(0) for point, spot in spots.items()}
    frame = rigs.fit_frame(places, mirror) if len(places) > 3 else None
    if frame is not None or found.rig is None:
        return frame
    jaw = _jaw_field(found, moves)
    if not jaw.max() > 0:
        return None
    pivot = _bone_place(found.armature, found.rig.controls[0].bone)
    up = np.array([0.0, 0.0, 1.0])
    eyes = {
        point: _bone_place(found.armature, name)
        for point, name in rigs.eye_bones(found.armature.data.bones.keys()).items()
    }
    rough = rigs.fit_frame({"jaw": pivot, **eyes}, mirror)
    if rough is not None:
        up = rough.up
    chin = rigs.chin_of(jaw, at, pivot, up)
    spots["chin"] = np.array([chin])
    return rigs.fit_frame({"chin": at[chin], **eyes}, mirror) or rigs.frame_from_jaw(
        pivot, at[chin], up, mirror
    )


def _jaw_field(found: Found, moves: np.ndarray) -> np.ndarray:
    """(V,) how far vertices go with the jaw: as it turns, where it can."""
    jaw = [i for i, axis in enumerate(found.axes) if axis.part == rigs.JAW]
    turning = [i for i in jaw if found.axes[i].turns]
    return np.linalg.norm(moves[:, :, turning or jaw], axis=(1, 2))


def _signature(target: bpy.types.Object, found: Found) -> str:
    """A short hash of what a calibration depends on: the axes, their bones' rest, the mesh."""
    bones = found.armature.data.bones
    rest = [
        np.round(np.array(bones[control.bone].matrix_local), 5).tolist()
        for control in (found.rig.controls if found.rig is not None else ())
    ]
    state = repr((found.axes, rest, len(target.data.vertices), len(target.vertex_groups)))
    return hashlib.sha256(state.encode()).hexdigest()[:16]


# --- What the animator drives -----------------------------------------------------------------


def judge(target: bpy.types.Object | None) -> Analysis:
    """What a mesh object is and how it can talk, by its keys, its vertices or its rig; quick.

    Raises:
        SelfTalkError: it may not be written at all, as `face.usable`.
    """
    found = face.analyse(target)
    if found.talks:
        return found
    try:
        return Analysis("RIG", analyse(face.usable(target)))
    except SelfTalkError:
        return found


def with_rig(
    target: bpy.types.Object, keys: Drive | None, keyed: frozenset[str], measure: bool = True
) -> Drive:
    """What moves a face: its shape keys, its rig, or each its share, as the user chose.

    Args:
        keys: the drive of its shape keys; None where it has none that speak.
        keyed: the shapes that these keys make.
        measure: as for `drive`.

    Raises:
        SelfTalkError: as `calibrate`; or the rig can make none of the shapes left to it.
    """
    choice = target.selftalk.rig_share
    if keys is not None and rigs.keys_alone(choice, keyed):
        return keys
    if keys is not None and choice != "BONES":
        try:
            return join([keys, drive(target, keyed, measure)])
        except SelfTalkError as error:
            return Drive(keys.channels, keys.solve, (*keys.notices, str(error)))
    return drive(target, measure=measure)


def drive(
    target: bpy.types.Object, keyed: frozenset[str] = frozenset(), measure: bool = True
) -> Drive:
    """The bones and sliders of a face as a drive.

    Args:
        keyed: the shapes that are left to the face's keys.
        measure: whether a rig may be measured that was not yet. Panels must not, for nothing
            may be moved while they are drawn: they get all channels that may be moved, at rest.

    Raises:
        SelfTalkError: as `calibrate`.
    """
    found = find(target)
    if not measure and _stored(target, found) is None:
        still = np.array([axis.rest for axis in found.axes])
        return Drive(
            tuple(Channel(axis.object, axis.kind, axis.path, axis.index) for axis in found.axes),
            lambda weights: np.tile(still, (len(weights), 1)),
            found.left_alone,
        )
    axes, matrix, gap, notices = _share(target, keyed)
    rest, low, high = (np.array([getattr(a, n) for a in axes]) for n in ("rest", "low", "high"))
    return Drive(
        tuple(Channel(axis.object, axis.kind, axis.path, axis.index) for axis in axes),
        lambda weights: rigs.values(weights, matrix, rest, low, high, gap),
        notices,
    )


def channels(
    target: bpy.types.Object, keyed: frozenset[str] = frozenset()
) -> tuple[tuple[Channel, ...], np.ndarray, np.ndarray]:
    """The channels of `drive`, with the fixed linear map behind it.

    Returns:
        C channels, (52, C) amounts at weight 1, (C,) values at the resting face.

    Raises:
        SelfTalkError: as `calibrate`.
    """
    found = drive(target, keyed)
    return found.channels, _share(target, keyed)[1], found.rest


def _share(
    target: bpy.types.Object, keyed: frozenset[str]
) -> tuple[list[rigs.Axis], np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """C axes, matrix (52, C), gap (52,) or None, and notices, of what bones take over."""
    found = find(target)
    kept = _stored(target, found)
    if kept is None:
        for _ in calibrate(target):
            pass
        kept = _stored(target, found)
        assert kept is not None
    rows = np.array([name not in keyed for name in bundled_template().shape_names], np.float32)
    matrix = kept.matrix * rows[:, None]
    used = np.flatnonzero(np.abs(matrix).max(0) > 0)
    gap = rigs.gap_share() * rows if kept.jaw_alone else None
    return [kept.axes[i] for i in used], matrix[:, used], gap, found.left_alone
