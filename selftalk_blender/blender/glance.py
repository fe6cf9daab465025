"""What panels ask again and again, answered once until something changes.

Panels are drawn with every move of the mouse, and some of their questions read whole meshes or
all keys of all lines. In a window an answer is therefore kept until Blender tells of a change, and
never longer than LONGEST. In the background nothing is drawn and nothing is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import bpy

# Of files on the disk and of other scenes' strips Blender tells nothing.
LONGEST = 2.0  # seconds

Answer = TypeVar("Answer")
_kept: dict[tuple[Any, ...], tuple[float, Any]] = {}


def once(question: str, about: tuple[Any, ...], ask: Callable[[], Answer]) -> Answer:
    """What `ask` returns, or what it returned of late.

    Args:
        question: a name for what is asked.
        about: what it is asked about: Blender's data, and plain values.
    """
    if bpy.app.background:
        return ask()
    key = question, *(a.as_pointer() if isinstance(a, bpy.types.bpy_struct) else a for a in about)
    known = _kept.get(key)
    now = time.monotonic()
    if known is not None and now - known[0] < LONGEST:
        return known[1]
    answer = ask()
    _kept[key] = now, answer
    return answer


@bpy.app.handlers.persistent
def forget(*_: Any) -> None:
    """Ask everything again: something has changed."""
    _kept.clear()


def _handlers() -> tuple[list[Any], ...]:
    known = bpy.app.handlers
    return known.depsgraph_update_post, known.undo_post, known.redo_post, known.load_post


def start() -> None:
    """Hear of changes."""
    for handlers in _handlers():
        handlers.append(forget)


def stop() -> None:
    """Hear of no more changes; may be called twice."""
    for handlers in _handlers():
        if forget in handlers:
            handlers.remove(forget)
    forget()
