"""How far long work is, and how it is told."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a job is: `done` in 0..1, `text` for the user, `waiting` while others do the work."""

    done: float
    text: str
    waiting: bool = False


class ProgressLine:
    """One line on stderr that tells how far we are and how long it will take.

    On a terminal the line renews itself; in a log a new one appears each ten seconds.
    """

    def __init__(self, title: str, begun_at: float = 0.0) -> None:
        """Args: title: what is done; begun_at: share (0..1) that was done before."""
        self._title = title
        self._begun_at = begun_at
        self._begun = self._shown = time.monotonic()
        self._live = sys.stderr.isatty()
        self._width = 0

    def __call__(self, done: float, stage: str) -> None:
        """Args: done in 0..1; stage: what is being done."""
        now = time.monotonic()
        if now - self._shown < (0.1 if self._live else 10.0):
            return
        self._shown = now
        text = f"{self._title}: {stage} {done:.0%}"
        here = done - self._begun_at
        if here > 0.02 or (here > 0 and now - self._begun > 30.0):
            text += f", {clock((now - self._begun) * (1 - done) / here)} left"
        if self._live:
            print("\r" + text.ljust(self._width), end="", file=sys.stderr, flush=True)
            self._width = len(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away, so that other text can follow."""
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=sys.stderr, flush=True)
            self._width = 0


class TimeLeft:
    """Seconds until work is done, told calmly: neither the first moments nor a hitch shows."""

    _SETTLED = 1.0  # seconds of one stage before anything is told
    _MEMORY = 3.0  # seconds over which a new estimate takes the place of the old

    def __init__(self) -> None:
        self._stage = ""
        self._begun = (0.0, 0.0)  # second, share done
        self._last = 0.0
        self._end: float | None = None
        self._told: int | None = None

    def update(self, done: float, stage: str, now: float) -> int | None:
        """Whole seconds that are left, None where that is not known yet.

        Args:
            done: share of all work, 0..1.
            stage: what is being done; in each one the pace is measured anew.
            now: seconds of a steady clock.
        """
        if stage != self._stage or done <= 0:
            self._stage, self._begun = stage, (now, done)
        took, share = now - self._begun[0], done - self._begun[1]
        if took >= self._SETTLED and share > 0.02:
            end = now + took * (1 - done) / share
            if self._end is None:
                self._end = end
            self._end += (end - self._end) * min((now - self._last) / self._MEMORY, 1.0)
        self._last = now
        if self._end is None:
            return None
        left = max(self._end - now, 0.0)
        # Down as time passes; up only where it has become much longer.
        if self._told is None or left < self._told - 1 or left > 1.25 * self._told + 1:
            self._told = math.ceil(left)
        return max(self._told, 1)


def clock(seconds: float) -> str:
    """Seconds as people write them: 1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
