"""What panels ask again and again, answered once until something changes.

Panels are drawn with every move of the mouse, and some of their questions read whole meshes or
all keys of all lines. In a window an answer is therefore kept until Blender tells of a change, and
never longer than LONGEST. In the background nothing is drawn and nothing is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

import bpy

from ..core.steps import at_last

# Of files on the disk and of other scenes' strips Blender tells nothing.
LONGEST = 2.0  # seconds
SLICE = 0.01  # seconds of work at a time on what takes long
PAUSE = 0.02  # seconds in between, in which the window may draw
SOON = 0.2  # seconds after a change in the sequencer until panels are drawn anew

Answer = TypeVar("Answer")
_kept: dict[tuple[Any, ...], tuple[float, Any]] = {}
_last: dict[tuple[Any, ...], Any] = {}  # answers by and by
_asked: dict[tuple[Any, ...], Generator[Any, None, Any]] = {}  # that are worked out now


def _key(question: str, about: tuple[Any, ...]) -> tuple[Any, ...]:
    return question, *(a.as_pointer() if isinstance(a, bpy.types.bpy_struct) else a for a in about)


def once(question: str, about: tuple[Any, ...], ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns, or what it returned of late.

    Args:
        question: a name for what is asked.
        about: what it is asked about: Blender's data, and plain values.
    """
    if bpy.app.background:
        return ask()
    key = _key(question, about)
    known = _kept.get(key)
    now = time.monotonic()
    if known is not None and now - known[0] < LONGEST:
        return known[1]
    answer = ask()
    _kept[key] = now, answer
    return answer


def by_and_by(
    question: str,
    about: tuple[Any, ...],
    ask: Callable[[], Generator[Any, None, Answer]],
    first: Answer,
) -> Answer:
    """As `once`, of what may take longer than a window should stand still.

    Args:
        ask: yields while it is worked out.
        first: the answer until one is known; later that is the last one known.
    """
    if bpy.app.background:
        return at_last(ask())
    key = _key(question, about)
    known = _kept.get(key)
    if known is not None and time.monotonic() - known[0] < LONGEST:
        return known[1]
    _asked.setdefault(key, ask())
    _work()
    if _asked and not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, first_interval=PAUSE)
    return _last.get(key, first)


def _work() -> None:
    """Work for SLICE seconds on what was asked."""
    end = time.monotonic() + SLICE
    while _asked and time.monotonic() < end:
        key, steps = next(iter(_asked.items()))
        try:
            next(steps)
        except StopIteration as found:
            del _asked[key]
            _last[key] = found.value
            _kept[key] = time.monotonic(), found.value
        except ReferenceError:  # what it is about is gone
            del _asked[key]


def _tick() -> float | None:
    before = dict(_last)
    _work()
    if _last != before:
        redraw()
    return PAUSE if _asked else None


def redraw() -> None:
    """Have the panels and the preferences drawn again."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type == "VIEW_3D":
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()
            elif area.type == "PREFERENCES":
                area.tag_redraw()


@bpy.app.handlers.persistent
def forget(*_: Any) -> None:
    """Ask everything again: something has changed."""
    _kept.clear()
    _asked.clear()


@bpy.app.handlers.persistent
def _begin_anew(*_: Any) -> None:
    """Another file: its data may lie where that of which something was known did."""
    forget()
    _last.clear()


@bpy.app.handlers.persistent
def _see(scene: bpy.types.Scene, depsgraph: bpy.types.Depsgraph) -> None:
    """Blender draws the 3D View's panels anew for much, but not for a change in the sequencer."""
    waiting = bpy.app.background or bpy.app.timers.is_registered(_draw_soon)
    if not waiting and depsgraph.id_type_updated("SCENE"):
        bpy.app.timers.register(_draw_soon, first_interval=SOON)


def _draw_soon() -> None:
    redraw()


def _handlers() -> tuple[tuple[list[Any], Callable[..., None]], ...]:
    known = bpy.app.handlers
    changes = known.depsgraph_update_post, known.undo_post, known.redo_post
    return (
        *((handlers, forget) for handlers in changes),
        (known.load_post, _begin_anew),
        (known.depsgraph_update_post, _see),
    )


def start() -> None:
    """Hear of changes."""
    for handlers, handler in _handlers():
        handlers.append(handler)


def stop() -> None:
    """Hear of no more changes; may be called twice."""
    for handlers, handler in _handlers():
        if handler in handlers:
            handlers.remove(handler)
    for timer in (_tick, _draw_soon):
        if bpy.app.timers.is_registered(timer):
            bpy.app.timers.unregister(timer)
    _begin_anew()
