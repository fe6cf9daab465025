"""How long something holds the window."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

TRIES = 4


def quietest(measure: Callable[[], float], limit: float) -> float:
    """The least that `measure` gives, in seconds, in the tries that it takes to be below `limit`.

    A machine with other work adds to the processor time of what it interrupts, but not each time;
    what is slow by itself is slow in each try.
    """
    least = measure()
    for _ in range(TRIES - 1):
        if least < limit:
            break
        least = min(least, measure())
    return least


def seconds(work: Callable[[], object]) -> float:
    """Seconds of the processor that it took."""
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def paced(steps: Iterator[object]) -> Iterator[tuple[float, object]]:
    """Seconds of the processor that each step of a generator took, and the step.

    What the generator returns is the last step.
    """
    while True:
        begun = time.thread_time()
        try:
            step = next(steps)
        except StopIteration as end:
            yield time.thread_time() - begun, end.value
            return
        yield time.thread_time() - begun, step
