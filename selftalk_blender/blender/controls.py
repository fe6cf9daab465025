"""The artist's controls of a face: kept in the .blend, and live on the lines that it speaks.

A changed control makes the curves of all lines of its face again from their takes, at once in the
background, and in a window line by line behind a short timer. It never does where that would lose
an artist's work: lines whose keys were edited by hand or reduced lock the controls until *Bake
Again*.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Generator, Iterator, Sequence

import bpy

from ..core.errors import SelfTalkError
from ..core.progress import Progress
from . import glance, jobs, lines, mesh_cache, undoing
from .marks import WAITING
from .properties import ControlSettings

PAUSE = 0.03  # seconds in which the window may draw, before a dragged slider bakes again
SLICE = 0.02  # seconds after which the window draws before more is done

_quiet = False
_seconds = 0.0  # that the last slice took
_changes = 0  # of controls
_work: Generator[None, None, None] | None = None  # on the line that is made now


def bake_soon(face: bpy.types.Object) -> None:
    """Have a changed control seen on a face: at once in the background, else very soon.

    In a window the lines about the playhead come first, and each is made bit by bit. A mesh cache
    waits there for *Bake Again*: no slider could be dragged while it is written.
    """
    if _quiet or not len(face.selftalk.lines):
        return
    if bpy.app.background:
        bake_now(face)
        return
    # Lines that still wait were looked at when they began to.
    if mesh_cache.plays(face) or (WAITING not in face and locked(face)):
        return
    wait(face)
    _wake(max(PAUSE, _seconds))


def wait(face: bpy.types.Object) -> None:
    """Have all lines of a face wait to be made bit by bit."""
    global _changes
    _changes += 1
    undoing.touch(lines.changed_by(face))
    face[WAITING] = " ".join(line.id for line in face.selftalk.lines)


def _wake(seconds: float) -> None:
    if not bpy.app.timers.is_registered(_tick):
        # As long as a bake takes, the window may draw: a dragged slider stays fluid.
        bpy.app.timers.register(_tick, first_interval=seconds)


def _waiting() -> list[bpy.types.Object]:
    return [face for face in bpy.data.objects if WAITING in face and face.library is None]


def _tick() -> float | None:
    global _seconds
    if jobs.running is not None:
        return 0.2  # the job may be about to write the same lines
    begun = time.monotonic()
    waiting = _waiting()
    if not waiting:
        undoing.settled()
        return None
    bake_slice(waiting[0])
    _seconds = time.monotonic() - begun
    return max(PAUSE, _seconds)


def bake_slice(face: bpy.types.Object) -> None:
    """Work for SLICE seconds on the lines of a face that wait."""
    undoing.touch([face])  # no two undo steps are alike while its lines change
    with undoing.without_step():
        _work_on(face)


def _work_on(face: bpy.types.Object) -> None:
    global _work
    begun = time.monotonic()
    while WAITING in face:
        _work = _work or _baking_nearest(face)
        try:
            next(_work)
        except StopIteration:
            _work = None
        except ReferenceError:  # what was worked on is gone
            _work = None
        if time.monotonic() - begun >= SLICE:
            break


def _baking_nearest(face: bpy.types.Object) -> Generator[None, None, None]:
    """Make the line that waits and is nearest to the playhead."""

    frame, waiting, changes = bpy.context.scene.frame_current, face[WAITING].split(), _changes

    def away(line: lines.Line) -> int:
        return max(line.key_range[0] - frame, frame - line.key_range[1])

    todo = [line for line in face.selftalk.lines if line.id in waiting]
    if todo:
        line_id = min(todo, key=away).id
        if not (yield from lines.touching(face, line_id)):  # meanwhile
            yield from _baking(face, [line_id])
        if changes != _changes:  # its controls have changed since it was begun
            return
        todo = [line for line in face.selftalk.lines if line.id in waiting and line.id != line_id]
    if todo:
        face[WAITING] = " ".join(line.id for line in todo)
    else:
        del face[WAITING]


def rest() -> None:
    """Leave the line that is made now as it is: it waits, and is begun anew later."""
    global _work
    if _work is not None:
        _work.close()
        _work = None


def resume() -> None:
    """Make the lines that waited when this state of the file was kept."""
    if not bpy.app.background:
        _wake(PAUSE)
        return
    bpy.context.view_layer.update()  # where what undo has read stands
    for face in _waiting():
        while WAITING in face:
            bake_slice(face)
    undoing.settled()


def bake_now(face: bpy.types.Object) -> None:
    """Make the curves of a face's lines again, as its controls are.

    What stands in the way is left in `controls.problem`.
    """
    if locked(face):
        return
    for _ in _baking(face, None):
        pass
    if WAITING in face:
        del face[WAITING]


def _baking(face: bpy.types.Object, which: Sequence[str] | None) -> Generator[None, None, None]:
    settings = face.selftalk.controls
    try:
        for _ in lines.rebaking(face, which):  # which seals what it writes
            yield
        problem = ""
    except SelfTalkError as error:
        problem = str(error)
    except ReferenceError:
        raise
    except Exception as error:  # in a timer nobody would hear of it
        traceback.print_exc()
        problem = f"A fault of SelfTalk's own: {error}. Please report it."
    settings.problem = problem


def bake_lines(face: bpy.types.Object) -> Generator[Progress, None, None]:
    """Make the keys of all lines of a face again, or its mesh cache, whatever was edited."""
    with contextlib.closing(lines.rebaking(face)) as work:
        for done in work:
            yield Progress(done, "Baking again")
    face.pop(WAITING, None)  # not before: where this is closed, those that wait go on waiting
    face.selftalk.controls.problem = ""


def locked(face: bpy.types.Object) -> str:
    """Why a face's controls do not change its motion now, or ""; in a window as last known."""
    return glance.by_and_by("locked", (face,), lambda: _locking(face), "")


def _locking(face: bpy.types.Object) -> Generator[None, None, str]:
    names = yield from lines.touched_lines(face)
    if not names:
        return ""
    whose = f"the line {names[0]}" if len(names) == 1 else f"{len(names)} lines"
    return (
        f"The keys of {whose} were edited or reduced. Controls work on the recording's own: "
        "press Bake Again to lose the edits and have these."
    )


@contextlib.contextmanager
def at_once(face: bpy.types.Object) -> Iterator[None]:
    """Have controls of a face set within a block, and bake once after it."""
    global _quiet
    _quiet = True
    try:
        yield
    finally:
        _quiet = False
    bake_soon(face)


def set_all(face: bpy.types.Object, values: dict[str, float]) -> None:
    """Set several controls of a face, and bake once."""
    with at_once(face):
        for name, value in values.items():
            setattr(face.selftalk.controls, name, value)


def defaults() -> dict[str, float]:
    """Every control as it is made: the motion as the animator gave it."""
    names = [name for name in ControlSettings.__annotations__ if name != "problem"]
    return {name: ControlSettings.bl_rna.properties[name].default for name in names}


def stop() -> None:
    """Bake no more: the add-on is disabled."""
    rest()
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
