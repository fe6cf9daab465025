"""The table of an evaluation: what each row is, intervals and differences, text and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from .intervals import interval, over_clips, resampled

FORMAT = 1
KINDS = ("grid", "tts", "libri", "folder")

Rows = dict[str, dict[str, np.ndarray]]  # row -> clip -> sums (see intervals.py)
Table = dict[str, dict[str, Any]]  # row -> value, low, high, clips; made by `summary`

# measure -> form (see intervals.py), and what is good: "high", "low", near a number, or None
# where more is neither better nor worse. A row is named by its kind of clip and its measure.
MEASURES: dict[str, tuple[str, str | float | None]] = {
    "gap correlation, all frames": ("correlation", "high"),
    "gap correlation, mean of clips": ("mean", "high"),
    "gap distance after time warping, mm": ("mean", "low"),
    "gap distance after time warping, unit": ("mean", "low"),
    "timing offset, ms": ("mean", 0.0),
    "lip vertex error, mm": ("mean", "low"),
    "lip vertex error squared, mm^2": ("mean", "low"),
    "lip vertex error, unit": ("mean", "low"),
    "lip vertex error squared, unit^2": ("mean", "low"),
    "upper-face deviation (FDD), mm": ("mean", 0.0),
    "upper-face deviation, absolute, mm": ("mean", "low"),
    "upper-face deviation (FDD), unit": ("mean", 0.0),
    "upper-face deviation, absolute, unit": ("mean", "low"),
    "amplitude": ("amplitude", 1.0),
    "width correlation": ("correlation", "high"),
    "p/b/m closed": ("mean", "high"),
    "open vowels falsely closed": ("mean", "low"),
    "f/v lip to teeth, mm": ("mean", "low"),
    "f/v within 2 mm": ("mean", "high"),
    "width at oo/w minus ah, mm": ("difference", None),
    "lip-reader error": ("mean", "low"),
    "lip-reader error on the speaker": ("mean", None),
    "deepest overlap, mm": ("largest", "low"),
    "gap deviation, mm": ("mean", None),
    "gap in pauses, mm": ("mean", "low"),
    "jitter in pauses, mm": ("mean", "low"),
    "gap in digital silence, mm": ("mean", "low"),
    "jitter in digital silence, mm": ("mean", "low"),
    "gap in white noise, mm": ("mean", "low"),
    "jitter in white noise, mm": ("mean", "low"),
    "gap in room noise, mm": ("mean", "low"),
    "jitter in room noise, mm": ("mean", "low"),
    "gap correlation under white noise": ("correlation", "high"),
    "gap correlation under babble": ("correlation", "high"),
    "times real time": ("mean", "high"),
}


def of(row: str) -> tuple[str, str | float | None]:
    """Form and aim of a row by its measure, the longest name that it ends in."""
    return MEASURES[max((m for m in MEASURES if row.endswith(m)), key=len)]


def over(row: str, clips: Mapping[str, np.ndarray]) -> float:
    """A row's value over all its clips, from their sums."""
    return over_clips(of(row)[0], np.stack(list(clips.values())))


def summary(rows: Rows) -> Table:
    """Per row its value, its 95 % interval over clips, and each clip's value and sums.

    Values that are not defined, and the intervals of fewer than two clips, are None.
    """
    table = {}
    for row, clips in rows.items():
        form = of(row)[0]
        sums = np.stack(list(clips.values()))
        low = high = float("nan")
        if form != "largest" and len(sums) > 1:
            low, high = interval(resampled(form, sums))
        table[row] = {
            "value": _finite(over_clips(form, sums)),
            "low": _finite(low),
            "high": _finite(high),
            "clips": {
                name: {
                    "value": _finite(over_clips(form, sums[None])),
                    "sums": [float(s) for s in sums],
                }
                for name, sums in clips.items()
            },
        }
    return table


def difference(row: str, first: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The other's value minus the first's, its paired 95 % interval, and a verdict.

    The verdict is "better" or "worse" where the interval of what is aimed at leaves out zero
    (of the distance to the aim, where the aim is a number), "differs" where nothing is aimed
    at, else "".

    Raises:
        ValueError: the two were measured on different clips.
    """
    if list(first["clips"]) != list(other["clips"]):
        raise ValueError(f'"{row}" was measured on different clips')
    form, aim = of(row)
    sides = [np.array([clip["sums"] for clip in side["clips"].values()]) for side in (first, other)]
    if form == "largest" or len(sides[0]) < 2:
        change = None
        if first["value"] is not None and other["value"] is not None:
            change = other["value"] - first["value"]
        return {"value": change, "low": None, "high": None, "verdict": ""}
    before, after = (resampled(form, sums) for sums in sides)
    low, high = interval(after - before)
    value = over_clips(form, sides[1]) - over_clips(form, sides[0])
    better = after - before if aim == "high" else before - after
    if isinstance(aim, float):
        better = np.abs(before - aim) - np.abs(after - aim)
    worst, best = interval(better)
    words = ("differs", "differs") if aim is None else ("better", "worse")
    verdict = words[0] if worst > 0 else words[1] if best < 0 else ""
    return {
        "value": _finite(value),
        "low": _finite(low),
        "high": _finite(high),
        "verdict": verdict,
    }


def lines(tables: Mapping[str, Table]) -> list[str]:
    """The table that people read: a column per animator, then each one's difference to the first.

    Args:
        tables: title -> `summary`, all of the same clips.
    """
    rows = list(dict.fromkeys(row for table in tables.values() for row in table))
    first = next(iter(tables.values()))
    heads = ["", *tables, *[f"{title} minus first" for title in list(tables)[1:]]]
    cells = [heads]
    for row in rows:
        line = [row, *[_cell(table.get(row)) for table in tables.values()]]
        for table in list(tables.values())[1:]:
            both = row in first and row in table
            line.append(_cell(difference(row, first[row], table[row]), "+") if both else "-")
        cells.append(line)
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    counts: dict[str, int] = {}
    for row, entry in first.items():
        kind = row.split()[0]
        if kind in KINDS:
            counts[kind] = max(counts.get(kind, 0), len(entry["clips"]))
    clips = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    note = f"On {clips} clips; in brackets 95 % intervals, by bootstrap over clips."
    if len(tables) > 1:
        note += " better, worse, differs: beyond the paired interval."
    return [note, *text]


def _cell(entry: dict[str, Any] | None, sign: str = "") -> str:
    if entry is None or entry["value"] is None:
        return "-"
    digits = 1 if abs(entry["value"]) >= 20 else 3
    text = f"{entry['value']:{sign}.{digits}f}"
    if entry["low"] is not None:
        text += f" [{entry['low']:{sign}.{digits}f}, {entry['high']:{sign}.{digits}f}]"
    return f"{text} {entry.get('verdict', '')}".rstrip()


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def read_evaluation(path: Path) -> dict[str, Table]:
    """The tables that `--json` wrote, title -> `summary`.

    Raises:
        SelfTalkError: the file is missing, or is not one of ours.
    """
    try:
        stored = json.loads(path.read_text("utf-8"))
        if stored["format"] != FORMAT:
            raise ValueError(f"its format is {stored['format']}, not {FORMAT}")
        tables: dict[str, Table] = stored["animators"]
        for table in tables.values():
            for row, entry in table.items():
                of(row)
                for clip in entry["clips"].values():
                    np.array(clip["sums"], np.float64)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SelfTalkError(
            f"{path} is not an evaluation written by `selftalk evaluate --json`: {error}."
        ) from error
    return tables


def check_clips(stored: Mapping[str, Table], clips: Sequence[str]) -> None:
    """Refuse stored tables that are of other clips than those named.

    Raises:
        SelfTalkError: they are.
    """
    for title, table in stored.items():
        rows = [entry["clips"] for row, entry in table.items() if row.split()[0] in KINDS]
        other = {clip for row in rows for clip in row} ^ set(clips)
        if other:
            raise SelfTalkError(
                f"The stored evaluation of {title} is of other clips: {len(other)} are in one of "
                "the two alone. Evaluate both on the same configuration and with the same --clips."
            )


def write_evaluation(
    path: Path, tables: Mapping[str, Table], measured: Mapping[str, Table]
) -> None:
    """Write what was measured, each clip's values with it, and the differences to the first table.

    Raises:
        SelfTalkError: the file cannot be written.
    """
    head, first = next(iter(tables.items()))
    differences = {
        f"{title} minus {head}": {
            row: difference(row, first[row], table[row]) for row in table if row in first
        }
        for title, table in tables.items()
        if title != head
    }
    content = {"format": FORMAT, "animators": measured, "differences": differences}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
