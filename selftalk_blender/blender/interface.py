"""The classes that Blender knows of, in the order in which they need each other."""

from __future__ import annotations

import atexit

import bpy

from . import face_shapes, jobs, operators, panels, preferences, properties

CLASSES: tuple[type, ...] = (
    *preferences.CLASSES,
    *properties.CLASSES,
    *operators.CLASSES,
    *panels.CLASSES,
    *face_shapes.CLASSES,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    properties.attach()
    # Blender as a module crashes (4.2) or hangs (4.5) at its end while it knows of our classes.
    atexit.register(unregister)


def unregister() -> None:
    atexit.unregister(unregister)
    jobs.stop()
    properties.detach()
    for cls in reversed(CLASSES):
        if cls.is_registered:
            bpy.utils.unregister_class(cls)
