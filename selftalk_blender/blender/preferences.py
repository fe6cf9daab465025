"""What a user sets once: which Python runs the animator, and on which device."""

from __future__ import annotations

import bpy

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

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "python")
        layout.prop(self, "device")


def animator_settings(context: bpy.types.Context) -> tuple[str, str | None]:
    """The Python to use ("" where none is chosen) and the device (None for automatic)."""
    addon = context.preferences.addons.get(ADDON)
    if addon is None or addon.preferences is None:  # registered by a script, not enabled
        return "", None
    chosen = addon.preferences
    device = None if chosen.device == "AUTO" else chosen.device.lower()
    return bpy.path.abspath(chosen.python), device


CLASSES = (SelfTalkPreferences,)
