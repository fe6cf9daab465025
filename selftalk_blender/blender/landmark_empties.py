"""The ten landmarks of a face as empties, which the user may move."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Vector

from ..core import landmarks
from ..core.errors import SelfTalkError
from ..core.template import bundled_template
from .marks import LANDMARK


def empties_of(target: bpy.types.Object) -> dict[str, bpy.types.Object]:
    """The empties that mark a face, by landmark."""
    return {
        child[LANDMARK]: child
        for child in target.children
        if child.get(LANDMARK) in landmarks.LANDMARKS
    }


def points_of(target: bpy.types.Object) -> np.ndarray:
    """(10, 3) where the landmarks of a face are, in the world's axes from the face's origin.

    (0, 3) where it has none.

    Raises:
        SelfTalkError: some are missing.
    """
    empties = empties_of(target)
    if not empties:
        return np.empty((0, 3))
    missing = [landmarks.LANDMARKS[name][1] for name in landmarks.NAMES if name not in empties]
    if missing:
        raise SelfTalkError(
            f"{len(missing)} of the ten landmarks are missing ({missing[0]}, ...). Remove the "
            "landmarks, or place them again."
        )
    origin = target.matrix_world.translation
    return np.array([empties[name].matrix_world.translation - origin for name in landmarks.NAMES])


def guess(own: np.ndarray) -> np.ndarray:
    """(10, 3) landmarks as on the bundled head, at the top of a mesh's bounds, facing -Y.

    Args:
        own: (V, 3) of the face, as `points_of`.
    """
    low, high = own.min(0), own.max(0)
    template = bundled_template()
    marks = template.vertices[landmarks.template_landmarks()].astype(np.float64)
    head_low, head_high = template.vertices.min(0), template.vertices.max(0)
    scale = min((high - low) / (head_high - head_low))
    anchor = np.array([0.0, head_low[1], head_high[2]])
    return (marks - anchor) * scale + [(low[0] + high[0]) / 2, low[1], high[2]]


def place(target: bpy.types.Object, points: np.ndarray) -> None:
    """Put empties at (10, 3) points, in the world's axes from the face's origin; those that are
    there already move."""
    present = empties_of(target)
    into_face = target.matrix_world.inverted()
    names = landmarks.NAMES
    eyes = points[names.index("eye_left_outer")] - points[names.index("eye_right_outer")]
    scale = float(np.cbrt(abs(np.linalg.det(np.array(target.matrix_world.to_3x3())))))
    origin = target.matrix_world.to_translation()
    for name, point in zip(names, points, strict=True):
        empty = present.get(name) or _new_empty(target, name)
        empty.empty_display_size = float(np.linalg.norm(eyes)) * 0.025 / scale
        empty.matrix_parent_inverse.identity()
        empty.location = into_face @ (origin + Vector(point.tolist()))


def _new_empty(target: bpy.types.Object, name: str) -> bpy.types.Object:
    """The empty of a landmark: a child of the face, in a collection with it if that is ours."""
    label = name.replace("_", " ").title()
    empty = bpy.data.objects.new(f"{target.name} {label}", None)
    local = (
        collection
        for collection in target.users_collection
        if collection.library is None and collection.override_library is None
    )
    next(local, bpy.context.scene.collection).objects.link(empty)
    empty.parent = target
    empty[LANDMARK] = name
    empty.empty_display_type = "SPHERE"
    empty.show_in_front = empty.show_name = True
    empty.lock_rotation = empty.lock_scale = (True, True, True)
    return empty


def remove(target: bpy.types.Object) -> None:
    """Take the empties away."""
    bpy.data.batch_remove(list(empties_of(target).values()))
