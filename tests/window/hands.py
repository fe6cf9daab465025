"""What scripts inside a Blender with a window share: its view, mouse, keys and pictures."""

from __future__ import annotations

import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import bpy

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def view() -> dict[str, object]:
    """The 3D View of the window, as overrides of the context."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    return {"window": window, "area": area, "region": region}


def open_tab(tab: str) -> Iterator[float]:
    """Open the sidebar at a tab, and empty the scene."""
    space = bpy.context.area.spaces[0]
    space.show_region_ui = True
    space.shading.color_type = "MATERIAL"
    space.overlay.show_cursor = space.overlay.show_floor = False
    space.overlay.show_axis_x = space.overlay.show_axis_y = False
    for other in list(bpy.data.objects):
        bpy.data.objects.remove(other)
    yield 1.0  # a sidebar has tabs when it was drawn
    sidebar = next(region for region in bpy.context.area.regions if region.type == "UI")
    sidebar.active_panel_category = tab


def look_at(turned: float) -> None:
    """See the selected object from the front, turned by some radians."""
    bpy.ops.view3d.view_axis(type="FRONT")
    bpy.ops.view3d.view_selected()
    if turned:
        bpy.ops.view3d.view_orbit(angle=turned, type="ORBITLEFT")


def xdotool(*words: object) -> str:
    """Move the mouse, press keys; returns what was answered."""
    command = ["xdotool", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def focus() -> None:
    """Have the window get keys."""
    xdotool("windowfocus", xdotool("search", "--name", "Blender").split()[0])


def picture(path: str | Path, *changes: str) -> None:
    """Take a picture of the screen, changed by options of ImageMagick."""
    subprocess.run(["import", "-window", "root", *changes, str(path)], check=True)


def run(steps: Callable[[], Iterator[float]], end: Callable[[str], None]) -> None:
    """Do what a user does; the steps yield seconds to wait for the window.

    Args:
        end: is told the traceback of what went wrong, or "".
    """

    def work() -> Iterator[float]:
        fault = ""
        try:
            yield from steps()
        except Exception:
            fault = traceback.format_exc()
        end(fault)

    running = work()

    def tick() -> float | None:
        with bpy.context.temp_override(**view()):
            return next(running, None)

    bpy.context.preferences.view.show_splash = False
    bpy.app.timers.register(tick, first_interval=1.0)
