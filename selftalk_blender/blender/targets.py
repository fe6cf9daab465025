"""STAND-IN until the branch `targets` lands: the same-topology way as one drive."""

from __future__ import annotations

import bpy

from ..core.drive import Channel, Drive
from ..core.template import bundled_template
from . import face as faces


def drive_of(face: bpy.types.Object) -> Drive:
    faces.check(face)
    names = bundled_template().shape_names
    return Drive(tuple(Channel(face.name, "KEY", name) for name in names), lambda w: w)
