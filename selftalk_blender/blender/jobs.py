"""Operators that take a while: one generator, run at once or behind a responsive window."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator
from typing import Any

import bpy

from ..core.errors import SelfTalkError
from .animate import Progress

TICK = 0.05  # seconds between two looks at a job; Esc is noticed as quickly
SLICE = 0.03  # seconds that a job may hold the window at a time

Steps = Generator[Progress, None, Any]


class Running:
    """The job behind the window: what the panel shows of it."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.progress = Progress(0.0, "Starting")
        self.cancelled = False

    def advance(self) -> None:
        """Work for SLICE seconds, or until there is something to wait for.

        Raises:
            StopIteration: the job is done; its value is the result.
        """
        end = time.monotonic() + SLICE
        while time.monotonic() < end:
            self.progress = next(self.steps)
            if self.progress.waiting:
                break


running: Running | None = None


def stop() -> None:
    """Cancel the job that is running, if any."""
    global running
    if running is not None:
        running.steps.close()
        running = None


class JobOperator:
    """Mixed into an operator: `steps` does the work, `finish` tells what came of it.

    Called by a script or without a window it runs to its end; as a button it is modal.
    """

    # Of bpy.types.Operator.
    report: Any
    bl_label: str
    _timer: bpy.types.Timer

    # Of the operator. `steps` checks at once and returns the work, a generator that can be closed
    # at any time; both may raise SelfTalkError. `finish` is called with the work's result.
    steps: Callable[[bpy.types.Context], Steps]
    finish: Callable[[bpy.types.Context, Any], None]

    def execute(self, context: bpy.types.Context) -> set[str]:
        manager = context.window_manager
        try:
            steps = self.steps(context)
        except Exception as error:
            return self._failed(error)
        manager.progress_begin(0, 100)
        try:
            while True:
                progress = next(steps)
                manager.progress_update(round(100 * progress.done))
                if progress.waiting:
                    time.sleep(TICK / 5)
        except StopIteration as end:
            self.finish(context, end.value)
            return {"FINISHED"}
        except KeyboardInterrupt:
            steps.close()
            return self.cancelled(context, "ERROR")
        except Exception as error:
            return self._failed(error)
        finally:
            steps.close()
            manager.progress_end()

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        global running
        if bpy.app.background or context.window is None:
            return self.execute(context)
        try:
            running = Running(self.steps(context))
        except Exception as error:
            return self._failed(error)
        manager = context.window_manager
        self._timer = manager.event_timer_add(TICK, window=context.window)
        manager.modal_handler_add(self)
        self._show(context)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if running is None:  # the add-on was disabled
            self._leave(context)
            return {"CANCELLED"}
        if running.cancelled or (event.type == "ESC" and event.value == "PRESS"):
            self._leave(context)
            return self.cancelled(context)
        if event.type != "TIMER":
            return {"RUNNING_MODAL"} if self._blocked(event) else {"PASS_THROUGH"}
        before = running.progress
        try:
            running.advance()
        except StopIteration as end:
            self._leave(context)
            self.finish(context, end.value)
            return {"FINISHED"}
        except Exception as error:
            self._leave(context)
            return self._failed(error)
        if running.progress != before:
            self._show(context)
        return {"PASS_THROUGH"}

    def cancelled(self, context: bpy.types.Context, kind: str = "INFO") -> set[str]:
        """Say what is left after Esc or an interruption (kind ERROR), and the operator's end."""
        what = "Cancelled" if kind == "INFO" else "Interrupted"
        self.report({kind}, f"{what}; nothing was changed")
        return {"CANCELLED"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends us: another file is loaded, or it closes."""
        stop()
        context.window_manager.event_timer_remove(self._timer)

    def _blocked(self, event: bpy.types.Event) -> bool:
        """Undo replaces all data under a job's feet, and writing must not be interfered with."""
        assert running is not None
        undo = event.type == "Z" and (event.ctrl or event.oskey)
        return undo or not running.progress.waiting

    def _failed(self, error: Exception) -> set[str]:
        if isinstance(error, SelfTalkError):
            self.report({"ERROR"}, str(error))
        else:
            traceback.print_exception(error)
            self.report(
                {"ERROR"},
                f"{self.bl_label} met a fault of its own ({error}). The system console has the "
                "details; please report them.",
            )
        return {"CANCELLED"}

    def _leave(self, context: bpy.types.Context) -> None:
        stop()
        context.window_manager.event_timer_remove(self._timer)
        context.workspace.status_text_set(None)
        _redraw(context)

    def _show(self, context: bpy.types.Context) -> None:
        assert running is not None
        now = running.progress
        context.workspace.status_text_set(
            f"SelfTalk: {now.text}, {100 * now.done:.0f} %    Esc: Cancel"
        )
        _redraw(context)


def _redraw(context: bpy.types.Context) -> None:
    """Have the panels drawn again."""
    for window in context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()
