"""Work in steps: generators that yield how far they are, and return what came of it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any, TypeVar

Result = TypeVar("Result")
Told = TypeVar("Told")


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
