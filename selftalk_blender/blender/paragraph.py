"""Words on screen: text broken into lines, since Blender's labels do not wrap."""

from __future__ import annotations

import re
import textwrap

import bpy

UNIT = re.compile(r"(?<=\d) (?=(s|mm|MB|GB|fps|Hz)\b)")  # the space between a number and its unit
# The translation context of words by which Blender means something else, as by Face a polygon.
OURS = "SelfTalk"
CHARACTER = 6.2  # mean width in pixels at interface scale 1; a bit wide, so that no line is cut


def paragraph(
    layout: bpy.types.UILayout,
    context: bpy.types.Context,
    text: str,
    icon: str = "NONE",
    share: float = 1.0,
) -> None:
    """Write text below each other, in lines that fit.

    Args:
        share: how much of the region's width there is for it.
    """
    scale = context.preferences.system.ui_scale
    width = max(int((share * context.region.width / scale - 60) / CHARACTER), 20)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for line in textwrap.wrap(UNIT.sub("\u00a0", text), width):
        column.label(text=line, icon=icon, translate=False)  # it is no whole sentence
        icon = "BLANK1" if icon != "NONE" else icon
