"""The classes that Blender knows of, in the order in which they need each other."""

from __future__ import annotations

import atexit

import bpy

from ..worker import client
from ..worker.log import keep_log_in
from ..worker.python import look_for_libraries_in
from . import (
    adjust,
    command,
    controls,
    dialogue,
    face_shapes,
    glance,
    jobs,
    mapping_panel,
    operators,
    panels,
    preferences,
    properties,
    pytorch,
    rig_panel,
)

CLASSES: tuple[type, ...] = (
    *preferences.CLASSES,
    *properties.CLASSES,
    *jobs.CLASSES,
    *operators.CLASSES,
    *panels.CLASSES,
    *face_shapes.CLASSES,
    *rig_panel.CLASSES,
    *adjust.CLASSES,
    *dialogue.CLASSES,
    *mapping_panel.CLASSES,
    *pytorch.CLASSES,
)


def register() -> None:
    if properties.attached():
        return
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    properties.attach()
    operators.add_to_file_menu()
    glance.start()
    controls.start()
    command.start()
    keep_log_in(preferences.log_folder())
    look_for_libraries_in(preferences.libraries_folder())
    # Blender as a module crashes (4.2) or hangs (4.5) at its end while it knows of our classes.
    atexit.register(unregister)


def unregister() -> None:
    atexit.unregister(unregister)
    jobs.stop()
    command.stop()
    controls.stop()
    glance.stop()
    client.stop_workers()
    preferences.ask_again()
    operators.remove_from_file_menu()
    properties.detach()
    for cls in reversed(CLASSES):
        if cls.is_registered:
            bpy.utils.unregister_class(cls)
