"""Numbers crunched on a thread beside Blender's own, so that its window draws meanwhile."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

Result = TypeVar("Result")
LOOK = 0.005  # seconds between two looks at it
# Seconds after which the thread lets Blender's Python have its turn: a panel asks for dozens.
TURN = 0.0005


def aside(
    work: Callable[[], Result | Generator[Any, None, Result]],
) -> Generator[None, None, Result]:
    """What `work` returns; yields until it is there. `work` must touch nothing of Blender's.

    Where it returns a generator, that is run to its end, and ends early where this one is closed.
    Else the thread goes on then, and nobody hears of it.

    Raises:
        Exception: whatever `work` raises.
    """
    made: list[Result] = []
    raised: list[BaseException] = []
    ended, unwanted = threading.Event(), threading.Event()

    def run() -> None:
        try:
            value = work()
            if isinstance(value, Generator):
                value = _unless(unwanted, value)
            made.append(value)
        except BaseException as error:
            raised.append(error)
        ended.set()

    _share_turns(True)
    try:
        # No daemon: with one still at work Blender 4.2 crashes at its end, and 4.5 hangs.
        threading.Thread(target=run, daemon=False, name="SelfTalk numbers").start()
        while not ended.wait(LOOK):
            yield
    finally:
        unwanted.set()
        _share_turns(False)
    if raised:
        raise raised[0]
    return made[0]


_usual: list[float] = []  # the turns before each that runs; they may end in any order


def _share_turns(begins: bool) -> None:
    """Have Python's threads take short turns while anything runs here."""
    if begins:
        _usual.append(sys.getswitchinterval())
        sys.setswitchinterval(TURN)
    elif len(_usual) > 1:
        _usual.pop()
    else:
        sys.setswitchinterval(_usual.pop())


def _unless(unwanted: threading.Event, steps: Generator[Any, None, Result]) -> Result:
    with contextlib.closing(steps):
        # At the end of Python its main thread is done, and waits for this one.
        while not unwanted.is_set() and threading.main_thread().is_alive():
            try:
                next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
    raise GeneratorExit
