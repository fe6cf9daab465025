"""What a user sets once: which Python runs the animator, on which device, and where files go."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import bpy

from ..core.errors import SelfTalkError
from ..worker import client, pytorch
from ..worker.inquiry import Inquiry
from ..worker.log import log_file
from ..worker.python import Python, find_python
from . import glance, jobs
from .paragraph import OURS, paragraph

# `bl_ext.<repository>.selftalk_blender` as an extension, `selftalk_blender` elsewhere.
ADDON = (__package__ or "").rpartition(".")[0]

VALUES = 0.6  # share of the width that Blender gives to values, beside their names

_inquiry: Inquiry | None = None  # what the Python that is in use has


def _python_chosen(self: SelfTalkPreferences, context: bpy.types.Context) -> None:
    """Ask it at once; the preferences show the answer when it comes."""
    ask_again()
    if not bpy.app.background:
        lane(context)


class SelfTalkPreferences(bpy.types.AddonPreferences):
    bl_idname = ADDON

    python: bpy.props.StringProperty(
        name="Existing Python",
        description=(
            "A Python program whose PyTorch animates, of a virtual environment, say. Where empty, "
            "the environment variable SELFTALK_PYTHON, else Blender's own Python"
        ),
        subtype="FILE_PATH",
        update=_python_chosen,
    )
    torch_build: bpy.props.EnumProperty(
        name="PyTorch for",
        description="Which PyTorch Install PyTorch downloads",
        items=(
            (pytorch.CPU, "CPU", "Runs on every computer"),
            (pytorch.CUDA, "CUDA", "Uses an NVIDIA graphics card where there is one; large"),
        ),
        default=pytorch.usual_build(),
    )
    torch_index: bpy.props.StringProperty(
        name="Index",
        description=(
            "The address of a package index that has this PyTorch, or a folder with its wheel. "
            "Where empty, the index that pip uses"
        ),
        translation_context=OURS,
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
        layout.use_property_decorate = False
        usable, text = lane(context)
        _say(layout, context, "Animates with", text, "CHECKMARK" if usable else "ERROR")
        jobs.draw(layout)
        if jobs.failure:
            paragraph(layout, context, jobs.failure, "ERROR")
        layout.prop(self, "python")
        _draw_torch(layout, context, self)
        layout.prop(self, "device")
        layout.prop(self, "cache_folder")
        log = log_file()
        there = log.is_file()
        row = _named(layout, "Log")
        row.enabled = there
        row.operator("wm.path_open", text="Open Log", icon="TEXT").filepath = str(log)
        _say(layout, context, "", str(log) if there else f"{log} (nothing has run yet)")


def _draw_torch(
    layout: bpy.types.UILayout, context: bpy.types.Context, settings: SelfTalkPreferences
) -> None:
    """What was installed, and how to remove it; or how to install it."""
    folder = torch_folder()
    if folder is None:
        return
    version, size = pytorch.about(folder)
    if version:
        row = _named(layout, "PyTorch")
        row.label(text=f"{version}, {size / 1e9:.1f} GB")
        row.operator("selftalk.remove_torch", icon="TRASH")
        return
    if sys.platform != "darwin":
        layout.row().prop(settings, "torch_build", expand=True)
        layout.prop(settings, "torch_index")
    row = _named(layout, "PyTorch")
    needs = f"Install PyTorch ({pytorch.size(settings.torch_build) / 1e9:.1f} GB)"
    row.operator("selftalk.install_torch", text=needs, icon="IMPORT")
    if not bpy.app.online_access:
        text = "Needs System > Network > Allow Online Access"
        _say(layout, context, "", text, "INTERNET_OFFLINE")


def _named(layout: bpy.types.UILayout, name: str) -> bpy.types.UILayout:
    """A row with a name before it, as properties have one."""
    split = layout.split(factor=1 - VALUES)
    left = split.row()
    left.alignment = "RIGHT"
    left.label(text=name, translate=False)  # Blender's Log is a logarithm
    return split.row()


def _say(
    layout: bpy.types.UILayout,
    context: bpy.types.Context,
    name: str,
    text: str,
    icon: str = "NONE",
) -> None:
    """A row of text with a name before it, as long as it needs to be."""
    paragraph(_named(layout, name), context, text, icon, VALUES)


def animator_settings(context: bpy.types.Context) -> tuple[str, str | None]:
    """The Python to use ("" where none is chosen) and the device (None for automatic)."""
    chosen = _chosen(context)
    if chosen is None:
        return "", None
    device = None if chosen.device == "AUTO" else chosen.device.lower()
    return bpy.path.abspath(chosen.python), device


# --- What animates ------------------------------------------------------------------------


def lane(context: bpy.types.Context) -> tuple[bool, str]:
    """What animates, to be shown: whether it is usable, and what it is.

    Never waits: the Python is asked in a process of its own, and the preferences are drawn again
    when it has answered.
    """
    global _inquiry
    try:
        python = find_python(animator_settings(context)[0])
    except SelfTalkError as error:
        return False, str(error)
    if _inquiry is None or _inquiry.python != python:
        ask_again()
        _inquiry = Inquiry(python)
        if not bpy.app.background:
            bpy.app.timers.register(_draw_again, first_interval=0.2)
    place = _place(python)
    if not _inquiry.answered or not _inquiry.usable:
        return not _inquiry.answered, f"{place}: {_inquiry.text}"
    if _inquiry.torch:
        return True, f"{_inquiry.text}, in {place}"
    if python == Python(Path(sys.executable)):
        return True, "The built-in animator (no PyTorch)"
    return True, f"The built-in animator, in {place}. {_inquiry.text}"


def ask_again() -> None:
    """Forget what the Python in use has."""
    global _inquiry
    if _inquiry is not None:
        _inquiry.stop()
    _inquiry = None
    if bpy.app.timers.is_registered(_draw_again):
        bpy.app.timers.unregister(_draw_again)


def _draw_again() -> float | None:
    """Look whether the answer is there; called by Blender's timer until it is."""
    if _inquiry is not None and not _inquiry.answered:
        return 0.2
    glance.redraw()
    return None


def _place(python: Python) -> str:
    if python.program != Path(sys.executable):
        return str(python.program)
    return str(python.libraries[0]) if python.libraries else "Blender's own Python"


def torch_choice(context: bpy.types.Context) -> tuple[str, str]:
    """Which PyTorch Install PyTorch downloads, and from which index ("" for pip's own)."""
    chosen = _chosen(context)
    if chosen is None or sys.platform == "darwin":
        return pytorch.usual_build(), ""
    return chosen.torch_build, chosen.torch_index.strip()


def torch_folder() -> Path | None:
    """Where Install PyTorch puts it; None where we are no extension."""
    return _own_folder("torch")


def libraries_folder() -> Path | None:
    """Where what Install PyTorch brought for this Blender's Python lies, if it does."""
    folder = torch_folder()
    return None if folder is None else pytorch.installed_in(folder)


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
    return _own_folder("log")


def _own_folder(name: str) -> Path | None:
    """A folder of the extension's own, which goes when it is uninstalled. It may not be there."""
    if not ADDON.startswith("bl_ext."):
        return None
    return Path(bpy.utils.extension_path_user(ADDON, path=name))


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
