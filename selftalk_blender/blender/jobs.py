"""Operators that take a while: one generator, run at once or behind a responsive window.

Behind a window jobs wait for each other: one runs, the others stand in line.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Generator
from typing import Any

import bpy

from ..core.errors import SelfTalkError
from ..core.progress import Progress, TimeLeft, clock
from . import glance

BUSY = "SelfTalk is at work. Wait, or press Esc to cancel."
TICK = 0.05  # seconds between two looks at a job; Esc is noticed as quickly
SLICE = 0.02  # seconds after which a job gives way; a step of it may take as long again

Steps = Generator[Progress, None, Any]


class Job:
    """Work behind the window: what the panel shows of it.

    Attributes:
        steps: the work itself.
        title: what it is about.
        progress: the last step.
        text: the stage, how far it is, and the time left.
        cancelled: whether its operator is to end it.
        closed: whether it has ended.
    """

    def __init__(self, steps: Steps, title: str = "") -> None:
        self.steps = steps
        self.title = title
        self.progress = Progress(0.0, "Starting", waiting=True)
        self.text = "Waiting"
        self.cancelled = self.closed = False
        self._left = TimeLeft()

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
        now = self.progress
        left = self._left.update(now.done, now.text, time.monotonic())
        self.text = now.text
        if now.done > 0:
            self.text += f" {100 * now.done:.0f} %"
            if left is not None:
                self.text += f", {f'{left} s' if left < 60 else clock(left)} left"

    def close(self) -> None:
        """End it: cancelled, unless it is done."""
        self.steps.close()
        self.closed = True


running: Job | None = None
waiting: list[Job] = []
failure = ""  # why the last job failed, for the panel: Blender's own message is soon gone


def _rest_controls() -> None:
    """Stop what a slider has begun, to start it again: the coming job may change the same lines."""
    from . import controls  # which imports this module

    controls.rest()


def _add(job: Job) -> None:
    global running, failure
    failure = ""
    glance.forget()
    _rest_controls()
    if running is None:
        running = job
    else:
        waiting.append(job)


def _remove(job: Job) -> None:
    """Close a job; the next in line has its turn."""
    global running
    job.close()
    _rest_controls()
    glance.forget()
    if job in waiting:
        waiting.remove(job)
    if job is running:
        running = waiting.pop(0) if waiting else None


def stop() -> None:
    """Cancel all jobs, those in line first."""
    if running is not None:
        for job in [*waiting[::-1], running]:
            _remove(job)
        _show()


class Refusable:
    """Mixed into an operator that `problem` greys out, with the reason: "" where there is none."""

    problem: Callable[[bpy.types.Context], str]
    poll_message_set: Callable[[str], None]  # of bpy.types.Operator

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if sys._getframe().f_back is not None:
            glance.forget()  # a script asks, not Blender: it may have changed anything just now
        reason = cls.problem(context)
        if reason:
            cls.poll_message_set(reason)
        return not reason


class JobOperator:
    """Mixed into an operator: `steps` does the work, `finish` tells what came of it.

    Called by a script or without a window it runs to its end; as a button it is modal. One whose
    `bl_options` have REGISTER is also run to its end by Repeat Last and by its redo panel, while
    the window stands still: that is for what takes seconds.
    """

    # Of bpy.types.Operator.
    report: Any
    bl_label: str
    _timer: bpy.types.Timer
    _job: Job

    # Of the operator. `steps` checks at once and returns the work, a generator that can be closed
    # at any time; both may raise SelfTalkError. `finish` is called with the work's result, and
    # returns the operator's end where that is not FINISHED. `title` is what the panel calls the
    # job; `steps` may set it. `stays` says what is left of the work where it is cancelled.
    title = stays = ""
    steps: Callable[[bpy.types.Context], Steps]
    finish: Callable[[bpy.types.Context, Any], set[str] | None]

    def execute(self, context: bpy.types.Context) -> set[str]:
        manager = context.window_manager
        glance.forget()
        _rest_controls()
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
            return self.finish(context, end.value) or {"FINISHED"}
        except KeyboardInterrupt:
            steps.close()
            return self.cancelled(context, "ERROR")
        except Exception as error:
            return self._failed(error)
        finally:
            steps.close()
            manager.progress_end()
            glance.forget()

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if bpy.app.background or context.window is None:
            return self.execute(context)
        try:
            steps = self.steps(context)
        except Exception as error:
            return self._failed(error)
        self._job = Job(steps, self.title or self.bl_label)
        _add(self._job)
        manager = context.window_manager
        self._timer = manager.event_timer_add(TICK, window=context.window)
        manager.modal_handler_add(self)
        _show()
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        job = self._job
        # Esc means the one that runs: it comes to those in line first, and they let it through.
        if job is running and event.type == "ESC" and event.value == "PRESS":
            job.cancelled = True
        if job.cancelled or job.closed:  # closed: the add-on was disabled
            self._leave(context)
            return self.cancelled(context)
        if job is not running:
            return {"PASS_THROUGH"}
        if event.type != "TIMER":
            return {"RUNNING_MODAL"} if self._blocked(event) else {"PASS_THROUGH"}
        before = job.text
        try:
            job.advance()
        except StopIteration as end:
            self._leave(context)
            return self.finish(context, end.value) or {"FINISHED"}
        except Exception as error:
            self._leave(context)
            return self._failed(error)
        if job.text != before:
            _show()
        return {"PASS_THROUGH"}

    def cancelled(self, context: bpy.types.Context, kind: str = "INFO") -> set[str]:
        """Say what is left after Esc or an interruption (kind ERROR), and the operator's end."""
        what = "Cancelled" if kind == "INFO" else "Interrupted"
        if self.stays:
            self.report({kind}, f"{what}; {self.stays}")
            return {"FINISHED"}  # and so one undo step takes it back
        self.report({kind}, f"{what}; nothing was changed")
        return {"CANCELLED"}

    def cancel(self, context: bpy.types.Context) -> None:
        """Blender ends us: another file is loaded, or it closes, or a window does.

        Also where the file browser was closed in which we would have begun.
        """
        if not hasattr(self, "_job"):
            return
        _remove(self._job)
        context.window_manager.event_timer_remove(self._timer)
        # Later: Blender crashes where the context is overridden while a window closes.
        bpy.app.timers.register(_show, first_interval=0.0, persistent=True)

    def _blocked(self, event: bpy.types.Event) -> bool:
        """Undo replaces all data under a job's feet, and writing must not be interfered with."""
        undo = event.type == "Z" and (event.ctrl or event.oskey)
        return undo or not self._job.progress.waiting

    def _failed(self, error: Exception) -> set[str]:
        global failure
        if isinstance(error, SelfTalkError):
            failure = str(error)
        elif isinstance(error, ReferenceError):
            failure = f"{self.bl_label}: what it worked on was removed meanwhile."
        else:
            traceback.print_exception(error)
            failure = (
                f"{self.bl_label} met a fault of its own ({error}). The system console has the "
                "details; please report them."
            )
        self.report({"ERROR"}, failure)
        return {"CANCELLED"}

    def _leave(self, context: bpy.types.Context) -> None:
        _remove(self._job)
        context.window_manager.event_timer_remove(self._timer)
        _show()


class SELFTALK_OT_cancel(bpy.types.Operator):
    """Cancel this job; nothing is changed"""

    bl_idname = "selftalk.cancel"
    bl_label = "Cancel"

    place: bpy.props.IntProperty(
        name="Place",
        description="0 is the job that runs, 1 the first in line",
        min=0,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if running is None:
            cls.poll_message_set("Nothing runs")
        return running is not None

    def execute(self, context: bpy.types.Context) -> set[str]:
        jobs = [running, *waiting]
        if self.place < len(jobs):
            jobs[self.place].cancelled = True
        return {"FINISHED"}


def draw(layout: bpy.types.UILayout) -> None:
    """The jobs, each with an X; nothing where none runs."""
    if running is None:
        return
    column = layout.column(align=True)
    for place, job in enumerate([running, *waiting]):
        # Also where one runs alone: without a label before it, a bar under the mouse would lend its
        # look to the label that comes when it is gone.
        column.label(text=job.title, translate=False)
        row = column.row(align=True)
        row.progress(factor=job.progress.done, text=job.text, translate=False)
        row.operator("selftalk.cancel", text="", icon="X").place = place


def _show() -> None:
    """Tell what runs in the status bar and have the panels drawn again."""
    text = None
    if running is not None:
        more = f" ({len(waiting)} more in line)" if waiting else ""
        text = f"SelfTalk: {running.text}{more}    Esc: Cancel"
    for workspace in bpy.data.workspaces:  # each keeps its own, also while another is on view
        with bpy.context.temp_override(workspace=workspace):
            workspace.status_text_set(text)
    glance.redraw()


CLASSES = (SELFTALK_OT_cancel,)
