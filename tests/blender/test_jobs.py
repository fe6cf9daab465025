"""Jobs behind a window: they take short turns, wait for each other, and end when told to.

The window is a stand-in that presses buttons and keys; tests/window has a real one.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import bpy
import numpy as np
import pytest
from animators import ramp, stand_in
from pace import paced, quietest

import selftalk_blender
from selftalk_blender.blender import (
    compat,
    interface,
    jobs,
    operators,
    preferences,
    strips,
    use_next,
)
from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.progress import Progress
from selftalk_blender.worker import client
from selftalk_blender.worker.log import log_file


@pytest.fixture(autouse=True, scope="module")
def enabled() -> Iterator[None]:
    selftalk_blender.register()
    while use_next():  # as a window does, when nobody waits for it
        pass
    yield
    selftalk_blender.unregister()


class Window:
    """Where operators are pressed; keeps the status text and hands out events, the last first."""

    def __init__(self) -> None:
        self.statuses: dict[str, str | None] = {"Layout": None, "Animation": None}
        self.workspace = "Layout"
        self.running: list[Button] = []
        self.window_manager = SimpleNamespace(
            event_timer_add=lambda *_, **__: object(),
            event_timer_remove=lambda timer: None,
            modal_handler_add=self.running.append,
            windows=[],
        )
        self.window = object()

    @property
    def status(self) -> str | None:
        """What the status bar shows, in whichever workspace."""
        (status,) = set(self.statuses.values())
        return status

    def _status_text_set(self, text: str | None) -> None:
        self.statuses[self.workspace] = text

    @contextlib.contextmanager
    def temp_override(self, workspace: SimpleNamespace) -> Iterator[None]:
        before, self.workspace = self.workspace, workspace.name
        yield
        self.workspace = before

    def blender(self) -> SimpleNamespace:
        """A `bpy` of which we are the context; text is set for its workspace, whoever is asked."""
        workspaces = [
            SimpleNamespace(name=name, status_text_set=self._status_text_set)
            for name in self.statuses
        ]
        timers = SimpleNamespace(register=lambda call, **_: call())
        return SimpleNamespace(
            app=SimpleNamespace(background=False, timers=timers),
            context=self,
            data=SimpleNamespace(workspaces=workspaces),
            types=bpy.types,
        )

    def event(self, name: str, **keys: bool) -> bool:
        """Whether an operator kept an event for itself, as Blender hands it down."""
        happened = SimpleNamespace(
            type=name, value="PRESS", ctrl=keys.get("ctrl", False), oskey=False
        )
        for button in self.running[::-1]:
            (answer,) = button.modal(self, happened)
            if answer in ("FINISHED", "CANCELLED"):
                self.running.remove(button)
            if answer != "PASS_THROUGH" and name != "TIMER":
                return True
        return False

    def press(self, button: Button) -> set[str]:
        return button.invoke(self, SimpleNamespace())


class Button(jobs.JobOperator):
    """Ten steps of work that wait for others."""

    bl_label = "Work"

    def __init__(self, title: str = "", waiting: bool = True, error: str = "") -> None:
        self.title, self.waiting, self.error = title, waiting, error
        self.reports: list[str] = []
        self.closed = False
        self.result = None

    def steps(self, context: Any) -> jobs.Steps:
        if self.error == "at once":
            raise SelfTalkError("Cannot.")
        return self.work()

    def work(self) -> jobs.Steps:
        try:
            for step in range(10):
                if self.error and step == 5:
                    raise SelfTalkError(self.error)
                yield Progress(step / 10, "Working", self.waiting)
        except GeneratorExit:
            self.closed = True
            raise
        return "done"

    def finish(self, context: Any, result: Any) -> None:
        self.result = result

    def report(self, kinds: set[str], text: str) -> None:
        self.reports.append(text)


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch) -> Iterator[Window]:
    window = Window()
    monkeypatch.setattr(jobs, "bpy", window.blender())
    yield window
    jobs.stop()


def cancel(place: int) -> None:
    """Press an X of the panel."""
    bpy.ops.selftalk.cancel(place=place)


def test_a_second_press_waits_for_the_first(window: Window) -> None:
    first, second = Button("A"), Button("B")
    assert window.press(first) == window.press(second) == {"RUNNING_MODAL"}
    assert [job.title for job in (jobs.running, *jobs.waiting)] == ["A", "B"]
    for _ in range(5):
        window.event("TIMER")
    assert window.status == "SelfTalk: Working 40 % (1 more in line)    Esc: Cancel"
    assert jobs.waiting[0].text == "Waiting" and jobs.waiting[0].progress.done == 0
    while first.result is None:
        window.event("TIMER")
    assert second.result is None and jobs.running is second._job
    while second.result is None:
        window.event("TIMER")
    assert jobs.running is None and window.status is None and window.running == []


def test_esc_cancels_the_one_that_runs_and_the_next_begins(window: Window) -> None:
    first, second = Button("A"), Button("B")
    window.press(first)
    window.press(second)
    window.event("TIMER")
    assert window.event("ESC")
    assert first.closed and first.reports == ["Cancelled; nothing was changed"]
    while second.result is None:
        window.event("TIMER")
    assert first.result is None and not window.event("ESC")


def test_an_x_cancels_its_own_job(window: Window) -> None:
    buttons = [Button("A"), Button("B"), Button("C")]
    for button in buttons:
        window.press(button)
    cancel(1)
    window.event("TIMER")
    assert buttons[1].reports == ["Cancelled; nothing was changed"]
    assert [job.title for job in (jobs.running, *jobs.waiting)] == ["A", "C"]
    cancel(0)
    window.event("TIMER")
    while buttons[2].result is None:
        window.event("TIMER")
    assert [button.result for button in buttons] == [None, None, "done"]


def test_a_file_browser_that_is_closed_ends_nothing(window: Window) -> None:
    running, never_begun = Button("A"), Button("B")
    window.press(running)
    never_begun.cancel(window)
    assert jobs.running is running._job and not running.closed


def test_a_job_that_fails_lets_the_next_begin(window: Window) -> None:
    assert window.press(Button(error="at once")) == {"CANCELLED"}
    first, second = Button(error="No more."), Button()
    window.press(first)
    window.press(second)
    while second.result is None:
        window.event("TIMER")
    assert first.reports == ["No more."]


def test_a_failure_stays_to_be_read_until_the_next_press(window: Window) -> None:
    button = Button(error="No more.")
    window.press(button)
    while jobs.running is not None:
        window.event("TIMER")
    assert jobs.failure == "No more."
    window.press(Button())
    assert jobs.failure == ""


def test_stopped_nothing_is_left(window: Window) -> None:
    """The add-on is disabled, or another file is loaded."""
    buttons = [Button(), Button(), Button()]
    for button in buttons:
        window.press(button)
    window.event("TIMER")
    buttons[0].cancel(window)
    assert buttons[0].closed and jobs.running is buttons[1]._job
    jobs.stop()
    assert jobs.running is None and jobs.waiting == [] and window.status is None
    window.running.remove(buttons[0])
    window.event("TIMER")
    assert window.running == []


def test_only_what_takes_seconds_is_offered_to_be_redone() -> None:
    """Redoing holds the window until it is done."""
    operators = [cls for cls in interface.CLASSES if issubclass(cls, jobs.JobOperator)]
    again = [o.bl_idname for o in operators if "REGISTER" in getattr(o, "bl_options", ())]
    assert again == ["selftalk.reduce_keys"]


def test_a_job_takes_short_turns(window: Window) -> None:
    """It gives way at once where it waits."""
    work = (Progress(i / 9, "Writing", waiting=i == 3) for i in range(10))
    job = jobs.Job(work)
    job.advance()
    assert job.progress.done == pytest.approx(1 / 3)
    with pytest.raises(StopIteration):
        job.advance()


def test_undo_and_editing_are_held_back(window: Window) -> None:
    """Undo all the time, everything else only while the scene is written."""
    waiting, writing = Button(), Button(waiting=False)
    window.press(waiting)
    window.event("TIMER")
    assert window.event("Z", ctrl=True) and not window.event("LEFTMOUSE")
    window.event("ESC")
    writing.steps = lambda context: (time.sleep(0.015) or step for step in writing.work())
    window.press(writing)
    window.event("TIMER")
    assert window.event("LEFTMOUSE")


def animated() -> Iterator[None]:
    """The turns of Animate from Audio, as its window takes them; returns what it made."""
    job = jobs.Job(operators.SELFTALK_OT_animate_from_audio.steps(SimpleNamespace(), bpy.context))
    while True:
        try:
            job.advance()
        except StopIteration as end:
            return end.value
        yield
        if job.progress.waiting:
            time.sleep(jobs.TICK)  # takes nothing of the processor


@pytest.mark.parametrize("output", ["SHAPE_KEYS", "MESH_CACHE"])
def test_a_minute_of_all_shapes_never_holds_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    """No turn takes 50 ms of the processor, from the press to the last key."""
    weights = np.random.default_rng(0).random((3000, 52), np.float32)
    motion = Motion(bundled_template(), 50.0, weights=weights)
    monkeypatch.setenv("SELFTALK_PYTHON", stand_in(tmp_path, motion))
    bpy.ops.selftalk.add_face()
    settings = bpy.context.scene.selftalk
    clip = ramp(tmp_path / "ramp.wav", 60.0)
    settings.face.selftalk.output = output
    settings.face.selftalk.cache_folder = str(tmp_path)
    if compat.HAS_SOUND:
        settings.sound_strip = strips.add_strip(bpy.context.scene, clip, 1).name
    else:
        settings.sound_file = str(clip)

    def longest_turn() -> float:
        turns = list(paced(animated()))
        assert turns[-1][1].frames >= 1440
        return max(turn for turn, _ in turns)

    assert quietest(longest_turn, 0.05) < 0.05


def test_caches_of_files_of_one_name_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of the preferences serves every .blend, each in a folder of its own."""
    chosen = SimpleNamespace(python="", device="AUTO", cache_folder=str(tmp_path / "caches"))
    monkeypatch.setattr(preferences, "_chosen", lambda context: chosen)
    assert preferences.cache_folder(bpy.context) == ""  # not saved yet
    bpy.ops.selftalk.add_face()
    settings = bpy.context.scene.selftalk
    settings.sound_file = str(ramp(tmp_path / "ramp.wav"))
    settings.face.selftalk.output = "MESH_CACHE"
    places = set()
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / folder / "scene.blend"))
        places.add(operators.plan_from_settings(bpy.context).cache)
    assert len(places) == 2
    assert all(place.is_relative_to(tmp_path / "caches") for place in places)
    settings.face.selftalk.cache_folder = str(tmp_path / "own")
    assert operators.plan_from_settings(bpy.context).cache.parent == tmp_path / "own"


def test_the_preferences_show_the_log_and_open_it() -> None:
    """The button is grey as long as nothing has been written."""
    layout = MagicMock()
    row = layout.split.return_value.row.return_value
    for there in (False, True):
        if there:
            log_file().parent.mkdir(parents=True, exist_ok=True)
            log_file().touch()
        context = SimpleNamespace(
            preferences=SimpleNamespace(addons={}, system=SimpleNamespace(ui_scale=1.0)),
            region=SimpleNamespace(width=5000),
        )
        preferences.SelfTalkPreferences.draw(SimpleNamespace(layout=layout), context)
        text = row.column.return_value.label.call_args.kwargs["text"]
        assert text == str(log_file()) + ("" if there else " (nothing has run yet)")
        assert row.enabled is there
    assert row.operator.return_value.filepath == str(log_file())


def test_without_a_window_nothing_is_warmed_up(tmp_path: Path) -> None:
    """A script that sets up scenes by the hundred starts no process before it asks for motion."""
    bpy.ops.selftalk.add_face()
    bpy.context.scene.selftalk.sound_file = str(ramp(tmp_path / "ramp.wav"))
    assert client._workers == {}


def test_disabling_the_addon_ends_the_animator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SELFTALK_PYTHON", stand_in(tmp_path))
    bpy.ops.selftalk.add_face()
    bpy.context.scene.selftalk.sound_file = str(ramp(tmp_path / "ramp.wav"))
    bpy.ops.selftalk.animate_from_audio()
    (worker,) = client._workers.values()
    process = worker._process
    assert process.poll() is None  # warm
    selftalk_blender.unregister()
    try:
        process.wait(2)
    finally:
        selftalk_blender.register()


def test_blender_ends_in_good_order_while_numbers_are_crunched() -> None:
    """4.2 crashed and 4.5 hung."""
    script = (
        "import time, bpy, selftalk_blender\n"
        "from selftalk_blender.core.aside import aside\n"
        "next(aside(lambda: time.sleep(0.3)))\n"
        "def steps():\n"
        "    while True:\n"
        "        yield time.sleep(0.01)\n"
        "next(aside(steps))\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], timeout=30, check=False)
    assert ended.returncode == 0


def test_what_is_removed_under_a_jobs_feet_is_a_sentence(window: Window) -> None:
    class Removed(Button):
        def work(self) -> jobs.Steps:
            yield Progress(0.0, "Working")
            raise ReferenceError

    window.press(Removed())
    while jobs.running is not None:
        window.event("TIMER")
    assert jobs.failure.endswith("what it worked on was removed meanwhile.")
