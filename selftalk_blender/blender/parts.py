"""Meshes that go with a face: teeth, lashes, a beard; and which piece of a head a mesh is."""

from __future__ import annotations

import functools

import bpy
import numpy as np
from mathutils import Vector

from ..core.errors import SelfTalkError
from ..core.names import Names, arkit_keys
from . import face as faces
from . import shape_keys
from .marks import TAKES

# Another mesh without an armature belongs to a face if its middle is in the face's box, grown by
# this share.
AROUND = 0.1
# And if nothing but their place says so, only if it is no larger than this share of the face.
PIECE = 0.7


def parts_of(face: bpy.types.Object) -> list[bpy.types.Object]:
    """Other meshes of the same character that share shape names: teeth, lashes, a beard.

    Of the same armature, or children of the face; without an armature also those beside it, with
    its parent or in its collection, that lie in the face's box (wholly, where the collection is
    the scene's own). Never one that has lines of its own or that shares the face's mesh.
    """
    names = set(faces.key_names(face))
    if face.selftalk.mapping:
        names |= {item.path for item in face.selftalk.mapping if item.kind == "KEY"}
    parts = []
    for other in bpy.data.objects:
        if (
            other.type != "MESH"
            or other == face
            or other.data == face.data
            or other.data.shape_keys is None
            or TAKES in other
            or not set(other.users_scene) & set(face.users_scene)
        ):
            continue
        keys = faces.key_names(other)
        if (names & set(keys) or names_of_part(keys).arkit) and _same_character(face, other):
            parts.append(other)
    return parts


def _family_armature(target: bpy.types.Object) -> bpy.types.Object | None:
    """The armature that a mesh hangs on, by modifier or by parents."""
    for modifier in target.modifiers:
        if modifier.type == "ARMATURE" and modifier.object is not None:
            return modifier.object
    parent = target.parent
    while parent is not None:
        if parent.type == "ARMATURE":
            return parent
        parent = parent.parent
    return None


def _same_character(face: bpy.types.Object, other: bpy.types.Object) -> bool:
    if other.parent == face:
        return True
    armature, others = _family_armature(face), _family_armature(other)
    if armature is not None or others is not None:
        return armature == others
    siblings = face.parent is not None and face.parent == other.parent
    scenes = {scene.collection for scene in face.users_scene}
    shared = set(face.users_collection) & set(other.users_collection)
    if siblings or shared - scenes:
        return _inside(face, other)
    # What lies about in the scene itself, as after an import, has to be a piece of the head.
    return bool(shared) and _inside(face, other, wholly=True)


def is_inside(face: bpy.types.Object, other: bpy.types.Object) -> bool:
    """Whether a mesh is a piece of a head by its place: eyes, teeth, hair."""
    larger = max(other.dimensions) > 1.5 * max(face.dimensions)
    return not larger and _inside(face, other)


def _inside(face: bpy.types.Object, other: bpy.types.Object, wholly: bool = False) -> bool:
    """Whether the middle of a mesh lies in another's box, as both stand in the scene.

    Args:
        wholly: ask that all of it does, and that it is clearly smaller.
    """
    if not abs(face.matrix_world.determinant()) > 0:
        return False
    into = face.matrix_world.inverted() @ other.matrix_world
    box = np.array([into @ Vector(corner) for corner in other.bound_box])
    corners = np.array(face.bound_box)
    low, high = corners.min(0), corners.max(0)
    margin = AROUND * (high - low).max()
    places = box if wholly else box.mean(0)
    smaller = np.ptp(box, axis=0).max() < PIECE * (high - low).max()
    within = ((low - margin <= places) & (places <= high + margin)).all()
    return bool(within and (smaller or not wholly))


@functools.lru_cache(maxsize=64)
def names_of_part(names: tuple[str, ...]) -> Names:
    """The face shapes of a mesh that belongs to a face, however few."""
    return Names(arkit_keys(names), {}, "")


def part_problem(part: bpy.types.Object) -> str:
    """Why a mesh cannot follow its face, or ""."""
    try:
        faces.usable(part)
    except SelfTalkError as error:
        return f"{error} It does not move with the face."
    shared = shape_keys.other_users(part)
    if shared:
        return f"{part.name} shares its mesh with {shared[0]}, so it does not move with the face."
    return ""
