"""What a user sets once: which Python runs the animator, on which device, and where files go."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import bpy

from ..worker import client
from ..worker.log import log_file

# `bl_ext.<repository>.selftalk_blender` as an extension, `selftalk_blender` elsewhere.
ADDON = (__package__ or "").rpartition(".")[0]


class SelfTalkPreferences(bpy.types.AddonPreferences):
    bl_idname = ADDON

    python: bpy.props.StringProperty(
        name="Python",
        description=(
            "The Python program that runs the animator; it needs PyTorch. Where empty, the "
            "environment variable SELFTALK_PYTHON, else Blender's own Python"
        ),
        subtype="FILE_PATH",
    )
    device: bpy.props.EnumProperty(
        name="Device",
        description="What computes the motion",
        items=(
            ("AUTO", "Automatic", "An NVIDIA graphics card where PyTorch finds one, else the CPU"),
            ("CPU", "CPU", "The processor"),
            ("CUDA", "CUDA", "An NVIDIA graphics card"),
        ),
    )
    cache_folder: bpy.props.StringProperty(
        name="Cache Folder",
        description=(
            "Where the mesh caches of faces go that name no folder of their own: into a folder "
            "for each .blend. Where empty, selftalk_cache beside the .blend"
        ),
        subtype="DIR_PATH",
    )

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "python")
        layout.prop(self, "device")
        layout.prop(self, "cache_folder")
        log = log_file()
        split = layout.split(factor=0.4)  # as the properties above
        name = split.row()
        name.alignment = "RIGHT"
        name.label(text="Log")
        row = split.row()
        there = log.is_file()
        row.label(text=str(log) if there else f"{log} (nothing has run yet)")
        button = row.row()
        button.enabled = there
        button.operator("wm.path_open", text="Open Log", icon="TEXT").filepath = str(log)


def animator_settings(context: bpy.types.Context) -> tuple[str, str | None]:
    """The Python to use ("" where none is chosen) and the device (None for automatic)."""
    chosen = _chosen(context)
    if chosen is None:
        return "", None
    device = None if chosen.device == "AUTO" else chosen.device.lower()
    return bpy.path.abspath(chosen.python), device


def cache_folder(context: bpy.types.Context) -> str:
    """Where mesh caches of the open .blend go by default; "" for the place beside it."""
    chosen = _chosen(context)
    if chosen is None or not chosen.cache_folder or not bpy.data.filepath:
        return ""
    # Files of one name in two folders must not share a cache.
    blend = os.path.abspath(bpy.data.filepath)
    mark = hashlib.sha256(blend.encode()).hexdigest()[:8]
    return os.path.join(bpy.path.abspath(chosen.cache_folder), f"{Path(blend).stem}-{mark}")


def log_folder() -> Path | None:
    """Where the animator's log goes: the extension's own folder, None where we are no extension."""
    if not ADDON.startswith("bl_ext."):
        return None
    return Path(bpy.utils.extension_path_user(ADDON, path="log"))


def warm_up(context: bpy.types.Context) -> None:
    """Start the animator: someone is choosing what it will be asked for. Takes no time here."""
    if bpy.app.background:
        return
    python, device = animator_settings(context)
    client.warm_up(python, device)


def _chosen(context: bpy.types.Context) -> SelfTalkPreferences | None:
    addon = context.preferences.addons.get(ADDON)
    # None where we were registered by a script, not enabled.
    return addon.preferences if addon is not None else None


CLASSES = (SelfTalkPreferences,)
