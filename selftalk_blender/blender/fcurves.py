"""F-curves: the paths of shape keys, and keys by the thousand; for `dense` and `lines` alike."""

from __future__ import annotations

import re

import bpy
import numpy as np

LINEAR = 1  # of Keyframe.interpolation, for foreach_set


def key_path(name: str) -> str:
    """The F-curve path of a shape key's value, on its mesh's shape keys."""
    return f'key_blocks["{bpy.utils.escape_identifier(name)}"].value'


def key_name(path: str) -> str:
    """The shape key of an F-curve path; "" for paths to anything else."""
    found = re.fullmatch(r'key_blocks\["(.*)"\]\.value', path)
    return bpy.utils.unescape_identifier(found[1]) if found else ""


def fill_keys(curve: bpy.types.FCurve, points: np.ndarray) -> None:
    """Give an F-curve linear keys: points (T, 2) float32 of frames and values."""
    keys = curve.keyframe_points
    # Reduced curves are Bezier from their first key on, and may have as many.
    if len(keys) != len(points) or keys[0].interpolation != "LINEAR":
        keys.clear()
        keys.add(len(points))
        keys.foreach_set("interpolation", np.full(len(points), LINEAR, np.int32))
    keys.foreach_set("co", points.ravel())
    curve.update()


def discard(action: bpy.types.Action) -> None:
    """Remove an action of ours, unless the artist uses it elsewhere or protected it."""
    if action.users == 0 and not action.use_fake_user:
        bpy.data.actions.remove(action)
