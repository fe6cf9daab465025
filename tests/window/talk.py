"""Runs inside a Blender with a window: presses Animate from Audio there.

    blender --factory-startup -P tests/window/talk.py -- REPORT CLIP (finish|cancel|queue|drag)

Writes what was seen to REPORT (JSON) and ends Blender.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator

import bpy

sys.path.insert(0, os.path.dirname(__file__))
import hands

import selftalk_blender
from selftalk_blender.blender import adjust_panel, compat, glance, interface, jobs, operators

TAB = "SelfTalk"
REPORT, CLIP, MODE = sys.argv[sys.argv.index("--") + 1 :]
report: dict[str, object] = {}


def steps() -> Iterator[float]:
    """What a user does; yields seconds to wait for the window."""
    scene = bpy.context.scene
    yield from hands.open_tab(TAB)
    yield 0.5
    bpy.ops.selftalk.add_face()
    hands.look_at(0.35)
    scene.selftalk.sound_file = CLIP
    yield 1.0
    if MODE == "drag":
        yield from drag(scene)
        return
    if MODE == "cancel":
        yield from ask(scene)
    hands.focus()
    report["operator"] = list(bpy.ops.selftalk.animate_from_audio("INVOKE_DEFAULT"))
    if MODE == "queue":
        bpy.ops.selftalk.animate_from_audio("INVOKE_DEFAULT")
        report["in line"] = [job.text for job in jobs.waiting]
        yield 1.0  # both are drawn
        bpy.ops.selftalk.cancel()
        yield 0.5
        report["in line then"] = len(jobs.waiting)
    seen: set[str] = set()
    cancelled = 0.0
    while jobs.running is not None:
        seen.add(jobs.running.progress.text)
        if MODE == "cancel" and jobs.running.progress.done > 0 and not cancelled:
            cancelled = time.monotonic()
            hands.xdotool("key", "Escape")
        yield 0.02
    report["cancelled in"] = time.monotonic() - cancelled
    face, editor = scene.selftalk.face, scene.sequence_editor
    report["stages"] = sorted(seen)
    report["result"] = face.selftalk.result
    report["actions"] = len(bpy.data.actions)
    report["strips"] = len(compat.editor_strips(editor)) if editor else 0
    if MODE == "finish":
        bpy.ops.ed.undo()
        report["actions after undo"] = len(bpy.data.actions)
    yield 1.0


def ask(scene: bpy.types.Scene) -> Iterator[float]:
    """Ask a button whether it can be pressed, while the panel asks the same with every drawing."""
    button = operators.SELFTALK_OT_animate_from_audio
    polls: list[bool] = []
    forgotten: list[bool] = []
    problem, forget = button.problem, glance.forget

    def counted(context: bpy.types.Context) -> str:
        polls.append(True)
        return problem(context)

    def counted_forget() -> None:
        forgotten.append(True)
        forget()

    button.problem, glance.forget = staticmethod(counted), counted_forget
    for _ in range(10):
        glance.redraw()
        yield 0.1
    report["drawn"], report["forgotten by drawing"] = len(polls), len(forgotten)
    report["answers"] = []
    face = scene.selftalk.face
    for chosen in (face, None, face):  # with no event in between, by which Blender could tell us
        scene.selftalk.face = chosen
        report["answers"].append(bpy.ops.selftalk.animate_from_audio.poll())
    button.problem, glance.forget = staticmethod(problem), forget


SLIDER = (949, 151)  # where Strength is


def drag(scene: bpy.types.Scene) -> Iterator[float]:
    """Drag a slider with the mouse, then press Control Z."""
    import numpy as np

    from selftalk_blender.blender import controls, lines, marks, targets
    from selftalk_blender.core.take import Take
    from selftalk_blender.core.template import bundled_template

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
    hands.focus()
    hands.xdotool("mousemove", *SLIDER)
    yield 0.5
    picture(1)
    hands.xdotool("mousedown", 1)
    yield 0.1
    for step in range(1, 11):
        hands.xdotool("mousemove", SLIDER[0] + 2 * step, SLIDER[1])
        yield 0.03
    report["dragged"] = state()
    hands.xdotool("mouseup", 1)
    yield from settle()
    report["after"] = state()
    picture(2)
    hands.xdotool("mousemove", 500, 400)
    yield 0.3
    hands.xdotool("key", "ctrl+z")
    yield from settle()
    report["undone"] = state()
    picture(3)
    hands.xdotool("key", "ctrl+shift+z")
    yield from settle()
    report["redone"] = state()
    for step in ("Then", "Later"):  # alike: undo may leave in memory what is the same in both
        bpy.ops.ed.undo_push(message=step)
    hands.xdotool("mousemove", *SLIDER)
    yield 0.3
    hands.xdotool("click", "--repeat", 2, "--delay", 60, 1)
    yield 0.3
    hands.xdotool("key", "ctrl+a")
    hands.xdotool("type", "0.5")
    hands.xdotool("key", "Return")  # nothing is baked before the slider's own step
    yield from settle()
    report["typed"] = state()
    hands.xdotool("mousemove", 500, 400)
    yield 0.3
    hands.xdotool("key", "ctrl+z")
    yield from settle()
    report["typed undone"] = state()
    hands.xdotool("key", "ctrl+shift+z")
    yield from settle()
    report["typed redone"] = state()


def picture(number: int) -> None:
    if "SELFTALK_PICTURES" in os.environ:
        hands.picture(os.path.join(os.environ["SELFTALK_PICTURES"], f"drag{number}.png"))


def end(fault: str) -> None:
    if fault:
        report["fault"] = fault
    with open(REPORT, "w") as file:
        json.dump(report, file)
    os._exit(0)


if MODE == "drag":  # in a tab by itself, so that its sliders have a known place
    TAB = adjust_panel.SELFTALK_PT_adjust.bl_category = "Adjust"
else:
    for cls in interface.CLASSES:
        if issubclass(cls, bpy.types.Panel):  # sub-panels open, so that they are drawn, too
            cls.bl_options = getattr(cls, "bl_options", set()) - {"DEFAULT_CLOSED"}
selftalk_blender.register()
hands.run(steps, end)
