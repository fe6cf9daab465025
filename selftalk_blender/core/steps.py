"""Work in steps: generators that yield how far they are, and return what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any, TypeVar

Result = TypeVar("Result")
Step = TypeVar("Step")
Told = TypeVar("Told")


def at_last(steps: Generator[Any, None, Result]) -> Result:
    """What a generator returns, at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result


def told(
    steps: Generator[Step, None, Result], say: Callable[[Step], Told]
) -> Generator[Told, None, Result]:
    """What a generator returns; yields what `say` makes of each of its steps."""
    with contextlib.closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                result: Result = end.value
                return result
            yield say(step)


def paced(steps: Generator[Any, None, Result], now: Told) -> Generator[Told, None, Result]:
    """What a generator returns; yields `now` as often as it yields."""
    return told(steps, lambda _: now)
