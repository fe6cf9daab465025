"""What turns a head as a line is said: a bone of its rig, or the whole object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import bpy
import numpy as np
from mathutils import Euler, Matrix, Quaternion, Vector

from ...core import rhythm
from ...core.drive import Channel
from ...core.errors import SelfTalkError
from ...core.names import recognise
from ...core.take import SILENCE
from ...core.template import bundled_template
from .. import artist, parts
from .. import face as faces
from .actions import rest_values

# A head, with its neck or a bust of it, is at most so many times as large as its face; and its
# origin at most so many times as far from the face's middle.
WHOLE_BODY, FAR = 6.0, 3.0
HEAD_BONES = ("head", "c_head.x", "def-head", "mixamorig:head")  # in lower case


@dataclass(frozen=True, eq=False)
class Head:
    """What turns a head.

    Attributes:
        channels: of a rotation, as Euler angles (radians) or a quaternion.
        rest: (C,) their values unturned, as the artist set them.
        frame: turns the axes of the rotation's channels into those of the face (see _axes).
        order: of the Euler angles; "" for a quaternion.
        seed, amount: see `core.rhythm.head_motion`.
    """

    channels: tuple[Channel, ...]
    rest: np.ndarray
    frame: Matrix
    order: str
    seed: int
    amount: float

    def angles(self, loudness: np.ndarray, fps: float, times: np.ndarray) -> np.ndarray:
        """(T, 3) radians from a voice: pitch, yaw and roll, see `core.rhythm.head_motion`.

        Args:
            loudness: of the voice, dBFS per frame.
            fps: of the loudness.
            times: (T,) seconds of the voice at which the head is seen; at the first and the last
                it is at rest.
        """
        # Stress is seen at the loudness's own rate: a scene's may miss the peaks.
        fine = times[0] + np.arange(int(np.ceil((times[-1] - times[0]) * fps)) + 1) / fps
        heard = np.interp(fine * fps, np.arange(len(loudness)), loudness, SILENCE, SILENCE)
        turns = rhythm.head_motion(heard, fps, self.seed, self.amount)
        return np.stack([np.interp(times, fine, axis) for axis in turns.T], 1)

    def values(self, loudness: np.ndarray, fps: float, times: np.ndarray) -> np.ndarray:
        """(T, C) float32 of the channels from a voice, as `angles`."""
        angles = self.angles(loudness, fps, times)
        now = _rotation(self.rest, self.order)
        back = self.frame.transposed() @ now.to_matrix()
        values = np.empty((len(angles), len(self.channels)), np.float32)
        for row, (pitch, yaw, roll) in zip(values, angles.tolist(), strict=True):
            turn = self.frame @ Euler((pitch, roll, yaw)).to_matrix() @ back
            if self.order:
                now = turn.to_euler(self.order, now)
            else:
                before, now = now, turn.to_quaternion()
                now.make_compatible(before)
            row[:] = now
        return values


def _rotation(values: Sequence[float], order: str) -> Euler | Quaternion:
    """Euler angles of an order, or a quaternion where there is none."""
    numbers = [float(value) for value in values]
    return Euler(numbers, order) if order else Quaternion(numbers)


def head(face: bpy.types.Object) -> Head | None:
    """How the head of a face is turned; None where it is not to be.

    Raises:
        SelfTalkError: why it cannot be turned.
    """
    settings = face.selftalk.controls
    if not settings.use_head or not settings.head:
        return None
    rig = modifier_armature(face)
    if rig is None:
        _check_turning(face)
        holder, prefix, place = face, "delta_", ""
        # Deltas turn in the parent's axes, after the object's own rotation.
        own = _turned_by_parent(face)
    else:
        if rig.library is not None or rig.override_library is not None:
            raise SelfTalkError(f"{rig.name} is linked: its head cannot be turned from here.")
        holder, prefix = _head_bone(rig, settings.head_bone), ""
        place = f'pose.bones["{bpy.utils.escape_identifier(holder.name)}"].'
        own = (rig.matrix_world.to_3x3() @ holder.bone.matrix_local.to_3x3()).normalized()
    order = holder.rotation_mode
    if order == "AXIS_ANGLE":
        raise SelfTalkError(
            f"{holder.name} turns by axis and angle. Set its rotation mode to Euler or Quaternion."
        )
    quaternion = order == "QUATERNION"
    path = f"{place}{prefix}rotation_{'quaternion' if quaternion else 'euler'}"
    owner = face if rig is None else rig
    held = next((why for (of, _), why in artist.held(owner).items() if of == path), "")
    if held:
        raise SelfTalkError(
            f"The rotation of {holder.name} {held}, and is left alone. Untick Head Motion, or "
            "remove that."
        )
    rest = _rest_values(owner, path)
    kind = "PROPERTY" if rig is None else "BONE"
    channels = tuple(Channel(owner.name, kind, path, index) for index in range(len(rest)))
    order = "" if quaternion else order
    stands = _own_rotation(owner)
    if rig is None:
        stands = _rotation(rest, order).to_matrix() @ stands
    frame = own.inverted() @ _axes(_turned_by_parent(owner) @ stands)
    return Head(channels, rest, frame, order, settings.seed, settings.head)


def _rest_values(owner: bpy.types.Object, path: str) -> np.ndarray:
    """(C,) a rotation as the artist set it: what it was before lines of ours turned it."""
    ours = rest_values(owner)
    now = owner.path_resolve(path)
    return np.array([ours.get((path, index), value) for index, value in enumerate(now)], np.float32)


def _check_turning(face: bpy.types.Object) -> None:
    """Whether an object without a rig can be turned as a head is.

    Raises:
        SelfTalkError: it is more than a head, turns about a far point, or leaves its eyes behind.
    """
    where = _place_of_face(face)
    if where is not None:
        middle, size, whole = where
        if whole > WHOLE_BODY * size:
            raise SelfTalkError(
                f"{face.name} is more than a head and has no rig, so all of it would nod. Untick "
                "Head Motion, or give it an armature with a head bone."
            )
        if np.linalg.norm(middle) > FAR * size:
            raise SelfTalkError(
                f"The origin of {face.name}, about which it would turn, is far from its face. Set "
                "it into the neck (Object > Set Origin > Origin to 3D Cursor), or untick Head "
                "Motion."
            )
    family = {face, *face.children_recursive}
    for other in bpy.context.scene.objects:
        if other.type == "MESH" and other not in family and parts.is_inside(face, other):
            raise SelfTalkError(
                f"{other.name} stands in the head of {face.name} and would not turn with it. Make "
                f"it a child of {face.name} (Ctrl P, Keep Transform), or untick Head Motion."
            )


def _place_of_face(face: bpy.types.Object) -> tuple[np.ndarray, float, float] | None:
    """Where the face of a mesh is: its middle (3,), its size, and that of the whole mesh.

    None where no shape key tells.
    """
    keys = face.data.shape_keys
    names = recognise(faces.key_names(face))
    chosen = [name for name in (*names.arkit, *names.visemes) if keys is not None]
    if not chosen:
        more = len(face.data.vertices) > len(bundled_template().vertices)
        body = more and faces.analyse(face).kind == "TEMPLATE"  # its shapes will be created
        return (np.zeros(3), 1.0, np.inf) if body else None
    at = faces.key_positions(keys.reference_key)
    moved = np.zeros(len(at), bool)
    for name in chosen[:: max(1, len(chosen) // 8)]:
        offset = np.linalg.norm(faces.key_offsets(keys.key_blocks[name]), axis=1)
        moved |= offset > 0.3 * max(offset.max(initial=0.0), 1e-9)
    if not moved.any():
        return None
    low, high = at[moved].min(0), at[moved].max(0)
    size, whole = float((high - low).max()), float(np.ptp(at, axis=0).max())
    return (low + high) / 2, size, whole


def head_channels(face: bpy.types.Object) -> tuple[Channel, ...]:
    """The channels of `head`, none where it is not to be turned."""
    turning = head(face)
    return turning.channels if turning is not None else ()


def modifier_armature(face: bpy.types.Object) -> bpy.types.Object | None:
    """The armature that moves a face, by its first Armature modifier."""
    for modifier in face.modifiers:
        if modifier.type == "ARMATURE" and modifier.object is not None:
            return modifier.object
    return None


def _head_bone(rig: bpy.types.Object, name: str) -> bpy.types.PoseBone:
    if name:
        if name not in rig.pose.bones:
            raise SelfTalkError(f"{rig.name} has no bone {name}. Choose its head's bone.")
        return rig.pose.bones[name]
    for bone in rig.pose.bones:
        if bone.name.lower() in HEAD_BONES:
            return bone
    raise SelfTalkError(f"Which bone of {rig.name} is the head? Choose it under Head.")


def _turned_by_parent(owner: bpy.types.Object) -> Matrix:
    whole = owner.matrix_world.to_3x3().normalized()
    return whole @ owner.matrix_basis.to_3x3().normalized().inverted()


def _own_rotation(owner: bpy.types.Object) -> Matrix:
    """An object's rotation without its delta, which may be ours."""
    if owner.rotation_mode == "QUATERNION":
        return owner.rotation_quaternion.to_matrix()
    if owner.rotation_mode == "AXIS_ANGLE":
        angle, *axis = owner.rotation_axis_angle
        return Matrix.Rotation(angle, 3, Vector(axis))
    return owner.rotation_euler.to_matrix()


def _axes(turn: Matrix) -> Matrix:
    """The axes of a face that an object's rotation turns, in the world: its left, its back, up.

    It looks along the object's -Y, or, where that is up or down, along +Z, as imports do.
    """
    ahead = turn @ Vector((0.0, -1.0, 0.0))
    if abs(ahead.z) > 0.7:
        ahead = turn @ Vector((0.0, 0.0, 1.0))
    ahead.z = 0.0
    if ahead.length < 1e-6:  # it lies
        ahead = Vector((0.0, -1.0, 0.0))
    ahead.normalize()
    up = Vector((0.0, 0.0, 1.0))
    return Matrix((up.cross(ahead), -ahead, up)).transposed()
