"""Runs inside Debian's Blender 3.4, the only one here that opens a window under Xvfb.

SelfTalk's minimum is 4.2: what 3.4 lacks is filled in by this file, and by nothing in the product.
"""

from __future__ import annotations

import sys
from pathlib import Path

import bpy
import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def bridge() -> None:
    """Give 3.4 the few newer functions that the add-on calls."""
    bpy.types.ID.is_editable = property(lambda block: block.library is None)
    bpy.types.ID.id_type = property(lambda block: type(block).__name__.upper())
    bpy.types.ID.session_uid = property(lambda block: block.as_pointer())
    bpy.types.Mesh.shade_smooth = lambda mesh: mesh.polygons.foreach_set(
        "use_smooth", [True] * len(mesh.polygons)
    )
    bpy.types.ShapeKey.points = property(lambda key: key.data)
    bpy.types.WindowManager.selftalk_bar = bpy.props.IntProperty(subtype="PERCENTAGE", max=100)

    def progress(layout: bpy.types.UILayout, factor: float, text: str) -> None:
        """As a slider: 3.4 has no bar."""
        bar = layout.row(align=True)
        bar.enabled = False
        bpy.context.window_manager["selftalk_bar"] = round(100 * factor)
        bar.prop(bpy.context.window_manager, "selftalk_bar", text=text, slider=True)

    bpy.types.UILayout.progress = progress
    bpy.utils.register_cli_command = lambda name, run: name
    bpy.utils.unregister_cli_command = lambda command: None


def mesh_positions(mesh: bpy.types.Mesh) -> np.ndarray:
    """As `face.mesh_positions`: 3.4 keeps them in no attribute."""
    positions = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", positions)
    return positions


def path_field(layout, owner, name, usual, **look) -> None:
    """As `panels.path_field`: 3.4 has no placeholders."""
    layout.prop(owner, name, **look)


def enable(category: str | None = None, alone: str = "") -> None:
    """Register the add-on from the repository, its panels in another tab if one is named.

    Args:
        alone: name of the one panel that is to be in that tab, without its sub-panels.
    """
    sys.path.insert(0, str(ROOT))
    bridge()
    import selftalk_blender
    from selftalk_blender.blender import adjust, face, interface, panels

    face.mesh_positions = mesh_positions
    panels.path_field = path_field

    if alone:
        getattr(adjust, alone).bl_category = category
    elif category is not None:
        panels.SidebarPanel.bl_category = category
        for cls in interface.CLASSES:
            if issubclass(cls, bpy.types.Panel):  # sub-panels open, so that they are drawn, too
                cls.bl_options = getattr(cls, "bl_options", set()) - {"DEFAULT_CLOSED"}
    selftalk_blender.register()
