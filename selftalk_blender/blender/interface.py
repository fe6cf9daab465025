"""The classes that Blender knows of, in the order in which they need each other."""

from __future__ import annotations

import atexit
from typing import Any

import bpy

from ..worker import client
from ..worker.log import keep_log_in
from ..worker.python import look_for_libraries_in
from . import (
    adjust_panel,
    command,
    controls,
    dialogue_panel,
    face_shapes_panel,
    glance,
    jobs,
    mapping_panel,
    operators,
    panels,
    preferences,
    properties,
    pytorch,
    rig_panel,
    undoing,
    use_next,
    used,
)
from .marks import WAITING

CLASSES: tuple[type, ...] = (
    *preferences.CLASSES,
    *properties.CLASSES,
    *jobs.CLASSES,
    *operators.CLASSES,
    *panels.CLASSES,
    *face_shapes_panel.CLASSES,
    *rig_panel.CLASSES,
    *adjust_panel.CLASSES,
    *dialogue_panel.CLASSES,
    *mapping_panel.CLASSES,
    *pytorch.CLASSES,
)

PAUSE = 0.05  # seconds between two imports while nobody waits for them


def _prepare() -> float | None:
    """Import what the first click would wait for, a module at a time; called by a timer."""
    return PAUSE if use_next() else None


@bpy.app.handlers.persistent
def _rest(*_: Any) -> None:
    if used(controls):
        controls.rest()


@bpy.app.handlers.persistent
def _before_undo(*_: Any) -> None:
    _rest()
    undoing.begin()


@bpy.app.handlers.persistent
def _after_undo(*_: Any) -> None:
    undoing.end()
    _resume()


@bpy.app.handlers.persistent
def _after_load(*_: Any) -> None:
    undoing.forget()
    _resume()


def _resume() -> None:
    if any(WAITING in face for face in bpy.data.objects):
        controls.resume()


def _handlers() -> tuple[tuple[list[Any], Any], ...]:
    """Lines that wait for their controls go on, also after undo and in a file that is opened."""
    known = bpy.app.handlers
    return (
        *((handlers, _before_undo) for handlers in (known.undo_pre, known.redo_pre)),
        *((handlers, _after_undo) for handlers in (known.undo_post, known.redo_post)),
        (known.load_pre, _rest),
        (known.load_post, _after_load),
    )


def register() -> None:
    """Make all of it known to Blender; may be called twice."""
    if properties.attached():
        return
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    properties.attach()
    operators.add_to_file_menu()
    glance.start()
    for handlers, handler in _handlers():
        handlers.append(handler)
    command.start()
    keep_log_in(preferences.log_folder())
    look_for_libraries_in(preferences.libraries_folder())
    # Blender as a module crashes (4.2) or hangs (4.5) at its end while it knows of our classes.
    atexit.register(unregister)
    if not bpy.app.background:
        bpy.app.timers.register(_prepare, first_interval=PAUSE)


def unregister() -> None:
    """Take all of it back, also from jobs that are running; may be called twice."""
    atexit.unregister(unregister)
    jobs.stop()
    command.stop()
    if bpy.app.timers.is_registered(_prepare):
        bpy.app.timers.unregister(_prepare)
    for handlers, handler in _handlers():
        if handler in handlers:
            handlers.remove(handler)
    if used(controls):
        controls.stop()
    glance.stop()
    if used(client):
        client.stop_workers()
    preferences.ask_again()
    operators.remove_from_file_menu()
    properties.detach()
    for cls in reversed(CLASSES):
        if cls.is_registered:
            bpy.utils.unregister_class(cls)
