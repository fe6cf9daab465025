"""What there is to move on a face: bones and sliders, and what of them is the artist's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import bpy
import numpy as np

from ...core import rigs
from ...core.axes import Axis
from ...core.errors import SelfTalkError
from ...core.target import Analysis
from .. import artist, face

UNBOUND = 1e6  # a slider that goes so far has no end
NO_RIG = "No face rig: {} has no armature with a jaw bone or face sliders."
LOCKED = "All face controls of {} are locked. Unlock the ones that should move (N panel, Item)."
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
    axes: tuple[Axis, ...]
    left_alone: tuple[str, ...]


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
    _check(armature)
    rig = rigs.recognise(armature.data.bones.keys())
    held = artist.held(armature)
    axes: list[Axis] = []
    left_alone: list[str] = []
    controls = rig.controls if rig is not None else ()
    for control in controls:
        axes += _bone_axes(armature, rig, control, held, left_alone)
    taken = {control.bone for control in controls}
    axes += _board_axes(armature, taken, held, left_alone)
    axes += _slider_axes(armature, held, left_alone)
    axes += _slider_axes(target, artist.held(target), left_alone)
    reasons = tuple(dict.fromkeys(left_alone))  # a bone says the same for each of its numbers
    if not axes:
        nothing = NO_RIG.format(target.name) if rig is None else LOCKED.format(armature.name)
        raise SelfTalkError(" ".join(reasons) or nothing)
    return Found(armature, rig, tuple(axes), reasons)


def _check(armature: bpy.types.Object) -> None:
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


def summary(found: Found) -> str:
    """What was found, in one line."""
    bones = {(axis.part, axis.path.rpartition(".")[0]) for axis in found.axes if axis.index >= 0}
    parts = [part for part, _ in bones]
    sliders = sum(axis.kind == "PROPERTY" for axis in found.axes)
    pieces = []
    if bones:
        counts = (f"{parts.count(part)} {part}" for part in rigs.PARTS if part in parts)
        pieces.append(f"{', '.join(counts)} {'bones' if len(bones) > 1 else 'bone'}")
    if sliders:
        pieces.append(f"{sliders} {'sliders' if sliders > 1 else 'slider'}")
    title = found.rig.title if found.rig is not None and bones else "Sliders"
    return f"{title} of {found.armature.name}: {', '.join(pieces)}"


def judge(target: bpy.types.Object | None) -> Analysis:
    """What a mesh object is and how it can talk, by its keys, its vertices or its rig; quick.

    Raises:
        SelfTalkError: it may not be written at all, as `face.usable`.
    """
    found = face.analyse(target)
    if found.talks:
        return found
    try:
        return Analysis("RIG", summary(find(face.usable(target))))
    except SelfTalkError:
        return found


def _bone_axes(
    armature: bpy.types.Object,
    rig: rigs.Rig,
    control: rigs.Control,
    held: artist.Held,
    left_alone: list[str],
) -> Iterator[Axis]:
    bone = armature.pose.bones[control.bone]
    constraint = "" if rig.constrained else _constraint(bone)
    if constraint:
        left_alone.append(f"Bone {bone.name} has the constraint {constraint}: left alone.")
        return
    base = f"{_path(bone)}."
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
    for path, index, locked, turns in numbers:
        if locked or (path == "location" and bone.bone.use_connect):
            continue
        reason = held.get((base + path, index))
        if reason:
            left_alone.append(f"Bone {bone.name} {reason}: left alone.")
        else:
            yield Axis(armature.name, base + path, index, control.part, turns)


def _path(bone: bpy.types.PoseBone) -> str:
    """The data path of a bone on its armature's object."""
    return f'pose.bones["{bpy.utils.escape_identifier(bone.name)}"]'


def _constraint(bone: bpy.types.PoseBone) -> str:
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
    armature: bpy.types.Object, taken: set[str], held: artist.Held, left_alone: list[str]
) -> Iterator[Axis]:
    """Bones of a control board: named as a shape is, and pushed along to make it."""
    for bone in armature.pose.bones:
        shapes = rigs.named_shapes(bone.name)
        if not shapes or bone.name in taken:
            continue
        constraint = _constraint(bone)
        if constraint:
            left_alone.append(f"Bone {bone.name} has the constraint {constraint}: left alone.")
            continue
        part = rigs.parts_of_shape(shapes[0])
        path = f"{_path(bone)}.location"
        for index in range(3 if part else 0):
            reason = held.get((path, index))
            if reason:
                left_alone.append(f"Bone {bone.name} {reason}: left alone.")
            elif not bone.lock_location[index]:
                low, high = _limits(bone, index)
                if high > low:
                    yield Axis(
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
    owner: bpy.types.Object, held: artist.Held, left_alone: list[str]
) -> Iterator[Axis]:
    """Custom properties of an object and of its bones that are named as shapes are."""
    holders = [(owner, "")]
    if owner.type == "ARMATURE":
        holders += [(bone, _path(bone)) for bone in owner.pose.bones]
    for holder, base in holders:
        for name in holder.keys():  # noqa: SIM118 - a Blender object is no dict
            shapes = rigs.slider_shapes(name)
            part = rigs.parts_of_shape(shapes[0]) if shapes else ()
            if not part or type(holder[name]) not in (int, float):
                continue
            path = f'{base}["{bpy.utils.escape_identifier(name)}"]'
            reason = held.get((path, 0))
            if reason:
                left_alone.append(f"Slider {name} of {owner.name} {reason}: left alone.")
                continue
            about = holder.id_properties_ui(name).as_dict()
            low, high = float(about["min"]), float(about["max"])
            yield Axis(
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
