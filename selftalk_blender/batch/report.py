"""How far a bake is: for people, for those who want failures alone, and for programs."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from ..core.progress import StatusLine, clock
from ..core.words import counted
from .manifest import Line


class Tally:
    """What all reports count.

    Attributes:
        total, baked, skipped, failed: clips.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.baked = self.skipped = self.failed = 0
        self._begun = time.monotonic()

    def count(self, line: Line, skipped: bool) -> None:
        if skipped:
            self.skipped += 1
        elif line["error"] is not None:
            self.failed += 1
        else:
            self.baked += 1

    @property
    def done(self) -> int:
        return self.baked + self.skipped + self.failed

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    @property
    def per_minute(self) -> float:
        """Clips that were worked on, per minute."""
        return 60 * (self.baked + self.failed) / max(self.seconds, 1e-3)

    @property
    def left(self) -> float | None:
        """Seconds, None where nothing is known of the pace."""
        pace = self.per_minute
        return 60 * (self.total - self.done) / pace if pace else None


class Spoken:
    """Each clip as it ends on stdout, and a `StatusLine` that tells how far all are."""

    def __init__(self, total: int, out: Path) -> None:
        self.tally = Tally(total)
        self._out = out
        self._at: dict[str, str] = {}  # what each clip in hand is at, by its place
        self._line = StatusLine()

    def step(self, place: str, done: float, text: str) -> None:
        self._at[place] = f"{place} {text} {done:.0%}"
        self._show()

    def ended(self, line: Line, skipped: bool) -> None:
        self.tally.count(line, skipped)
        self._at.pop(line["place"], None)
        if not skipped:
            self._line.clear()
            for warning in line["warnings"]:
                print(f"{line['place']}: {warning}", file=sys.stderr)
            if line["error"] is not None:
                complain(line)
            else:
                self._tell(line)
        self._show()

    def notice(self, text: str) -> None:
        self._line.clear()
        print(f"selftalk: {text}", file=sys.stderr, flush=True)

    def end(self, why: str | None = None) -> None:
        """Args: why: it ended before all clips were done, which whoever asked for it tells."""
        self._line.clear()
        tally = self.tally
        if tally.skipped:
            clips = counted(tally.total, "clip")
            print(f"Up to date: {tally.skipped} of {clips}.", file=sys.stderr)
        tell_failed(tally)
        if tally.baked > 1:
            pace = f"{tally.per_minute:.1f} a minute"
            print(f"{tally.baked} clips in {clock(tally.seconds)}, {pace}.", file=sys.stderr)

    def _tell(self, line: Line) -> None:
        took = sum(line["times"].values())
        print(
            f"{line['clip']}: {line['duration']:.1f} s of speech in {took:.1f} s",
            *(f"  {self._out / output['path']}" for output in line["outputs"]),
            sep="\n",
            flush=True,
        )

    def _show(self) -> None:
        if not self._line.due:
            return
        tally = self.tally
        text = f"{tally.done}/{tally.total} clips"
        if tally.baked + tally.failed:
            text += f", {tally.per_minute:.1f} a minute"
            text += f", {clock(tally.left)} left" if tally.left is not None else ""
        self._line.show(" · ".join([text, *self._at.values()]))


class Quiet:
    """Failures alone, on stderr."""

    def __init__(self, total: int, out: Path) -> None:
        self.tally = Tally(total)

    def step(self, place: str, done: float, text: str) -> None:
        pass

    def ended(self, line: Line, skipped: bool) -> None:
        self.tally.count(line, skipped)
        if line["error"] is not None and not skipped:
            complain(line)

    def notice(self, text: str) -> None:
        print(f"selftalk: {text}", file=sys.stderr, flush=True)

    def end(self, why: str | None = None) -> None:
        tell_failed(self.tally)


class JsonLines:
    """JSON lines on stdout: an object "start", one "clip" for each, perhaps "notice", and "end"."""

    def __init__(self, total: int, out: Path) -> None:
        self.tally = Tally(total)
        self._say("start", clips=total, out=str(out))

    def step(self, place: str, done: float, text: str) -> None:
        pass

    def ended(self, line: Line, skipped: bool) -> None:
        tally = self.tally
        tally.count(line, skipped)
        self._say("clip", skipped=skipped, done=tally.done, clips=tally.total, **line)

    def notice(self, text: str) -> None:
        self._say("notice", text=text)

    def end(self, why: str | None = None) -> None:
        tally = self.tally
        self._say(
            "end",
            error=why,
            clips=tally.total,
            baked=tally.baked,
            skipped=tally.skipped,
            failed=tally.failed,
            seconds=round(tally.seconds, 3),
            clips_per_minute=round(tally.per_minute, 2),
        )

    def _say(self, event: str, **fields: Any) -> None:
        print(json.dumps({"event": event, **fields}), flush=True)


def complain(line: Line) -> None:
    """Tell why a clip failed."""
    print(f"selftalk: {line['clip']}: {line['error']}", file=sys.stderr, flush=True)


def tell_failed(tally: Tally) -> None:
    if tally.failed and tally.total > 1:
        print(f"{tally.failed} of {tally.total} clips failed.", file=sys.stderr)
