"""Numbers crunched on a thread beside Blender's own, so that its window draws meanwhile."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any, TypeVar

Result = TypeVar("Result")
Told = TypeVar("Told")
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

    usual = sys.getswitchinterval()
    sys.setswitchinterval(TURN)
    try:
        threading.Thread(target=run, daemon=True, name="SelfTalk numbers").start()
        while not ended.wait(LOOK):
            yield
    finally:
        unwanted.set()
        sys.setswitchinterval(usual)
    if raised:
        raise raised[0]
    return made[0]


def _unless(unwanted: threading.Event, steps: Generator[Any, None, Result]) -> Result:
    with contextlib.closing(steps):
        while not unwanted.is_set():
            try:
                next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
    raise GeneratorExit


def at_last(steps: Generator[Any, None, Result]) -> Result:
    """What a generator returns, at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def paced(steps: Generator[Any, None, Result], now: Told) -> Generator[Told, None, Result]:
    """What a generator returns; yields `now` as often as it yields."""
    with contextlib.closing(steps):
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            yield now
