"""Undo after work that is no undo step of its own: the lines that follow a slider.

Blender's undo keeps the data-blocks in memory that are the same in two of its steps. One that we
have given another action since the last step would be kept, too, and play an action that undo has
freed: Blender crashes. After such work undo therefore reads all data anew, once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import bpy

_changed = False  # since all data was last read
_before: tuple[bool, bool, bool] | None = None  # preferences, while undo reads all
_witness: bpy.types.Object | None = None  # gone where it did


def _blocks() -> set[int]:
    return {block.session_uid for kind in (bpy.data.actions, bpy.data.shape_keys) for block in kind}


@contextlib.contextmanager
def without_step() -> Iterator[None]:
    """Work in this block may make or remove data-blocks though no undo step follows."""
    global _changed
    before = _blocks()
    try:
        yield
    finally:
        _changed = _changed or _blocks() != before


def begin() -> None:
    """Before undo or redo: have it read all data anew where that is needed."""
    global _before, _witness
    if not _changed or _before is not None:
        return
    preferences = bpy.context.preferences
    view, experimental = preferences.view, preferences.experimental
    _before = view.show_developer_ui, experimental.use_undo_legacy, preferences.is_dirty
    _witness = next((found for found in bpy.data.objects if found.library is None), None)
    # Blender heeds the experimental ones only beside the other.
    view.show_developer_ui = experimental.use_undo_legacy = True


def end() -> None:
    """After undo or redo: set the preferences back."""
    global _changed, _before, _witness
    if _before is None:
        return
    preferences = bpy.context.preferences
    preferences.view.show_developer_ui, preferences.experimental.use_undo_legacy = _before[:2]
    preferences.is_dirty = _before[2]
    try:
        # Undo in Edit Mode and the like reads none of it.
        _changed = _witness is not None and bool(_witness.name)
    except ReferenceError:
        _changed = False
    _before = _witness = None


def forget() -> None:
    """A file was loaded: all data is new."""
    global _changed
    end()
    _changed = False
