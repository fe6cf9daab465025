"""How far long work is, and how it is told."""

from __future__ import annotations

import math
import os
import sys
import time
import unicodedata
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a job is: `done` in 0..1, `text` for the user, `waiting` while others do the work."""

    done: float
    text: str
    waiting: bool = False


class StatusLine:
    """A line on stderr that says what is going on.

    On a terminal it renews itself, as long as the terminal is wide and no longer; in a log a new
    one appears each ten seconds.
    """

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown = time.monotonic()
        self._width = 0  # columns of the terminal that it takes

    @property
    def due(self) -> bool:
        """Whether it is time for another text."""
        return time.monotonic() - self._shown >= (0.1 if self._live else 10.0)

    def show(self, text: str) -> None:
        """Put a text in the place of the one before."""
        self._shown = time.monotonic()
        if self._live:
            text, width = _fitted(text, _terminal_columns() - 1)
            spaces = " " * (self._width - width)
            print(f"\r{text}{spaces}", end="", file=sys.stderr, flush=True)
            self._width = width
        else:
            print(text, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away, so that other text can follow."""
        if self._width:
            print("\r" + " " * self._width + "\r", end="", file=sys.stderr, flush=True)
            self._width = 0


def _fitted(text: str, columns: int) -> tuple[str, int]:
    """As much of a text as fits into columns of a terminal, and how many it takes."""
    fitted, width = "", 0
    for letter in text:
        letter = letter if letter.isprintable() else "?"
        wide = 0 if unicodedata.combining(letter) else 1
        wide += unicodedata.east_asian_width(letter) in "WF"
        if width + wide > columns:
            break
        fitted, width = fitted + letter, width + wide
    return fitted, width


def _terminal_columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):  # none that has a width
        return 80


class ProgressLine:
    """Tells how far we are and how long it will take, by a `StatusLine`."""

    def __init__(self, title: str, begun_at: float = 0.0) -> None:
        """Args: title: what is done; begun_at: share (0..1) that was done before."""
        self._title = title
        self._begun_at = begun_at
        self._begun = time.monotonic()
        self._line = StatusLine()

    def __call__(self, done: float, stage: str) -> None:
        """Args: done in 0..1; stage: what is being done."""
        if not self._line.due:
            return
        took = time.monotonic() - self._begun
        text = f"{self._title}: {stage} {done:.0%}"
        here = done - self._begun_at
        if here > 0.02 or (here > 0 and took > 30.0):
            text += f", {clock(took * (1 - done) / here)} left"
        self._line.show(text)

    def clear(self) -> None:
        """Take the line away, so that other text can follow."""
        self._line.clear()


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
