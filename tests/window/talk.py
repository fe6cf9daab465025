"""Runs inside a Blender with a window: presses Animate from Audio there.

    blender --factory-startup -P tests/window/talk.py -- REPORT CLIP (finish|cancel|queue|drag|show)

Writes what was seen to REPORT (JSON) and ends Blender. show waits for photograph.py in between.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator

import bpy

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
import selftalk_blender
from selftalk_blender.blender import adjust, interface

TAB = "SelfTalk"
REPORT, CLIP, MODE = sys.argv[sys.argv.index("--") + 1 :]
report: dict[str, object] = {}


def view() -> dict[str, object]:
    """The 3D View of the window, as overrides of the context."""
    window = bpy.context.window_manager.windows[0]
    area = next(area for area in window.screen.areas if area.type == "VIEW_3D")
    region = next(region for region in area.regions if region.type == "WINDOW")
    return {"window": window, "area": area, "region": region}


def steps() -> Iterator[float]:
    """What a user does; yields seconds to wait for the window."""
    from selftalk_blender.blender import jobs

    scene = bpy.context.scene
    space = bpy.context.area.spaces[0]
    space.show_region_ui = True
    yield 1.0  # a sidebar has tabs when it was drawn
    sidebar = next(region for region in bpy.context.area.regions if region.type == "UI")
    sidebar.active_panel_category = TAB
    space.shading.color_type = "MATERIAL"
    space.overlay.show_cursor = space.overlay.show_floor = False
    space.overlay.show_axis_x = space.overlay.show_axis_y = False
    for other in list(bpy.data.objects):
        bpy.data.objects.remove(other)
    yield 0.5
    bpy.ops.selftalk.add_face()
    bpy.ops.view3d.view_axis(type="FRONT")
    bpy.ops.view3d.view_selected()
    bpy.ops.view3d.view_orbit(angle=0.35, type="ORBITLEFT")
    scene.selftalk.sound_file = CLIP
    yield 1.0
    if MODE == "drag":
        yield from drag(scene)
        return
    report["operator"] = list(bpy.ops.selftalk.animate_from_audio("INVOKE_DEFAULT"))
    if MODE == "queue":
        bpy.ops.selftalk.animate_from_audio("INVOKE_DEFAULT")
        report["in line"] = [job.text for job in jobs.waiting]
        yield 1.0  # both are drawn
        bpy.ops.selftalk.cancel()
        yield 0.5
        report["in line then"] = len(jobs.waiting)
    seen, longest = set(), 0.0
    while jobs.running is not None:
        seen.add(jobs.running.progress.text)
        if MODE == "cancel" and jobs.running.progress.done > 0:
            bpy.ops.selftalk.cancel()
        before = time.monotonic()
        yield 0.02
        longest = max(longest, time.monotonic() - before)
    face = scene.selftalk.face
    report["stages"], report["longest"] = sorted(seen), longest
    report["result"] = face.selftalk.result
    report["actions"] = len(bpy.data.actions)
    report["strips"] = len(scene.sequence_editor.sequences) if scene.sequence_editor else 0
    if MODE == "finish":
        bpy.ops.ed.undo()
        report["actions after undo"] = len(bpy.data.actions)
    if MODE != "show":
        yield 1.0
        return
    scene.selftalk.sound_strip = scene.sequence_editor.sequences[0].name
    scene.frame_end = scene.sequence_editor.sequences[0].frame_final_end
    jaw, widest = face.data.shape_keys.key_blocks["jawOpen"], {}
    for frame in range(1, scene.frame_end):
        scene.frame_set(frame)
        widest[frame] = jaw.value
    scene.frame_set(max(widest, key=widest.__getitem__))
    face.select_set(False)
    space.shading.type = "MATERIAL"  # the iris is in the nodes
    yield 60.0  # software compiles its shaders
    yield from wait_for("photographed")


SLIDER = (949, 151)  # where Strength is


def drag(scene: bpy.types.Scene) -> Iterator[float]:
    """Drag a slider with the mouse, then press Control Z."""
    import numpy as np

    from selftalk_blender.blender import controls, lines, marks, targets
    from selftalk_blender.core.take import Take
    from selftalk_blender.core.template import bundled_template

    def mouse(*words: object) -> None:
        subprocess.run(["xdotool", *map(str, words)], check=True)

    def state() -> dict[str, object]:
        face = bpy.data.objects["SelfTalk Head"]
        keys = {}
        for line in face.selftalk.lines:
            for _, curve, _ in lines.curves(face, line.id):
                points = np.empty(2 * len(curve.keyframe_points), np.float32)
                curve.keyframe_points.foreach_get("co", points)
                keys[f"{line.id} {curve.data_path}"] = round(float(points[1::2].sum()), 3)
        return {"strength": round(face.selftalk.controls.strength, 3), "keys": keys}

    def settle() -> Iterator[float]:
        """Until all lines follow."""
        yield 0.5
        while marks.WAITING in bpy.data.objects["SelfTalk Head"]:
            yield 0.05

    def timed(face: bpy.types.Object) -> None:
        """As `controls.bake_slice`; notes the longest."""
        before = time.thread_time()  # the machine may have other work
        bake_slice(face)
        report["slices"] = report.get("slices", 0) + 1
        report["held"] = max(report.get("held", 0.0), time.thread_time() - before)

    bake_slice, controls.bake_slice = controls.bake_slice, timed
    face, weights = scene.selftalk.face, np.zeros((1000, 52), np.float32)
    random = np.random.default_rng(0)
    weights[:, :40] = np.abs(random.normal(0, 0.02, (1000, 40)).cumsum(0) % 2 - 1) * 0.6
    assert weights.shape[1] == len(bundled_template().shape_names)
    for number in range(3):
        spoken = lines.Spoken(
            f"line{number}", f"line {number}", scene.name, "", f"/{number}.wav", str(number),
            (0.0, 20.0), 1 + 500 * number, 480, 24.0, 0.0,
        )  # fmt: skip
        take = Take(weights, 50.0, np.full(1000, -30, np.float32))
        list(lines.write(face, targets.drive_of(face), spoken, take))
    bpy.ops.ed.undo_push(message="Lines")
    yield 1.0
    report["before"] = state()
    window = subprocess.run(
        ["xdotool", "search", "--name", "Blender"], capture_output=True, text=True, check=True
    )
    mouse("windowfocus", window.stdout.split()[0])
    mouse("mousemove", *SLIDER)
    yield 0.5
    picture(1)
    mouse("mousedown", 1)
    yield 0.1
    for step in range(1, 11):
        mouse("mousemove", SLIDER[0] + 2 * step, SLIDER[1])
        yield 0.03
    report["dragged"] = state()
    mouse("mouseup", 1)
    yield from settle()
    report["after"] = state()
    picture(2)
    mouse("mousemove", 500, 400)
    yield 0.3
    mouse("key", "ctrl+z")
    yield from settle()
    report["undone"] = state()
    picture(3)
    mouse("key", "ctrl+shift+z")
    yield from settle()
    report["redone"] = state()


def picture(number: int) -> None:
    if "SELFTALK_PICTURES" in os.environ:
        place = os.path.join(os.environ["SELFTALK_PICTURES"], f"drag{number}.png")
        subprocess.run(["import", "-window", "root", place], check=True)


def wait_for(what: str) -> Iterator[float]:
    """Tell photograph.py to act, and wait until it has."""
    open(f"{REPORT}.{what}?", "w").close()
    while not os.path.exists(f"{REPORT}.{what}"):
        yield 0.2


def work() -> Iterator[float]:
    try:
        yield from steps()
    except Exception:
        report["fault"] = traceback.format_exc()
    with open(REPORT, "w") as file:
        json.dump(report, file)
    os._exit(0)


def tick() -> float:
    with bpy.context.temp_override(**view()):
        return next(running)


running = work()
bpy.context.preferences.view.show_splash = False
if MODE == "drag":  # in a tab by itself, so that its sliders have a known place
    TAB = adjust.SELFTALK_PT_adjust.bl_category = "Adjust"
elif MODE != "show":
    for cls in interface.CLASSES:
        if issubclass(cls, bpy.types.Panel):  # sub-panels open, so that they are drawn, too
            cls.bl_options = getattr(cls, "bl_options", set()) - {"DEFAULT_CLOSED"}
selftalk_blender.register()
bpy.app.timers.register(tick, first_interval=1.0)
