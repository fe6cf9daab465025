"""A table of clips (CSV): who says each of them, and how; as spreadsheets export it."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import SelfTalkError
from .task import METHODS, Settings, formats, number, preset, rate

# The artist's controls by their names in `core.controls`, with the values that they take. `offset`
# is in frames, as in the panel; `head` is the size of the head's motion; 0 leaves out what is not
# spoken: blinks, brow raises and head motion.
CONTROLS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("strength", "jaw", "mouth", "cheeks", "tongue"), (0.0, 5.0)),
    **dict.fromkeys(("eyes", "brows", "upper_face", "head", "closure"), (0.0, 5.0)),
    "smoothing": (0.0, 1.0),
    "offset": (-100.0, 100.0),
    "blinks": (0.0, 1.0),
    "brow_raises": (0.0, 3.0),
    "seed": (0, 2**31 - 1),
}


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        number: of the line in the file, from 1.
        clip: absolute path.
        mesh, object: of the character; None where the line does not say.
        changes: the fields of `task.Settings` that it gives, but for controls.
        controls: those that it gives.
    """

    number: int
    clip: Path
    mesh: str | None
    object: str | None
    changes: Mapping[str, Any]
    controls: Mapping[str, float]

    def settings(self, general: Settings) -> Settings:
        """What the line says, and where it says nothing what holds in general."""
        controls = {**general.controls, **self.controls}
        return dataclasses.replace(general, **self.changes, controls=controls)


def read_table(path: Path) -> list[Row]:
    """Read a table. Its first line names the columns; paths are relative to its folder.

    Commas, semicolons or tabs, with or without quotes; UTF-8 with or without its mark, UTF-16, or
    Windows' own encoding. Empty cells say nothing.

    Raises:
        SelfTalkError: it cannot be read, or a line of it says what cannot be; that a clip is not
            there is no such thing.
    """
    text = _text(path)
    if "\0" in text:
        raise SelfTalkError(f"{path} is no CSV. Export the table as CSV, in UTF-8.")
    if text.lower().startswith("sep="):  # Excel's own hint
        text = "\n" + text.partition("\n")[2]
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=lambda mark: re.sub(r'"[^"]*"', "", head).count(mark))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    folder = path.absolute().parent
    names: list[str] = []
    rows: list[Row] = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if not names:
                names = _names(path, cells)
            else:
                rows.append(_row(path, reader.line_num, folder, names, cells))
    except csv.Error as error:
        raise SelfTalkError(
            f"{path}, line {reader.line_num}: {error}. Look for a quote that is not closed."
        ) from error
    if not rows:
        raise SelfTalkError(f"{path} has no line below its column names.")
    _check_twice(path, rows)
    return rows


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SelfTalkError(f"{path} cannot be read ({error.strerror or error}).") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def _names(path: Path, cells: list[str]) -> list[str]:
    names = [re.sub(r"[\s-]+", "_", cell.lower()) for cell in cells]
    while names and not names[-1]:
        names.pop()
    unknown = [cell for cell, name in zip(cells, names, strict=False) if name not in COLUMNS]
    if unknown:
        told = ", ".join(repr(cell[:40]) for cell in unknown[:5])
        raise SelfTalkError(
            f"{path} has columns that are unknown: {told}. Known are {', '.join(COLUMNS)}."
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SelfTalkError(f"{path} has two columns {twice[0]}. Remove one.")
    if "clip" not in names:
        raise SelfTalkError(f"{path} has no column clip, which names the sound files.")
    return names


def _row(path: Path, number: int, folder: Path, names: list[str], cells: list[str]) -> Row:
    if any(cells[len(names) :]):
        raise SelfTalkError(
            f"{path}, line {number}: more cells than columns. Quote what has commas."
        )
    given = {name: cell for name, cell in zip(names, cells, strict=False) if cell}
    if "clip" not in given:
        raise SelfTalkError(f"{path}, line {number}: no clip is named.")
    values: dict[str, Any] = {}
    for name, cell in given.items():
        try:
            values[name] = COLUMNS[name](cell)
        except ValueError as error:
            raise SelfTalkError(f"{path}, line {number}: {name} is {cell!r}; {error}.") from error
    for name in ("clip", "mesh", "animator", "template"):
        if name in values:
            # Also as Windows writes paths; no name of ours has a backslash in it.
            relative = values[name] if os.name == "nt" else values[name].replace("\\", "/")
            values[name] = os.path.abspath(folder / relative)
            # A clip that is not there is one that fails, among others that need not.
            if name != "clip" and not os.path.isfile(values[name]):
                raise SelfTalkError(f"{path}, line {number}: there is no file {values[name]}.")
    controls = {name: values.pop(name) for name in CONTROLS if name in values}
    if "format" in values:
        values["formats"] = values.pop("format")
    return Row(
        number=number,
        clip=Path(values.pop("clip")),
        mesh=values.pop("mesh", None),
        object=values.pop("object", None),
        changes=values,
        controls=controls,
    )


def _check_twice(path: Path, rows: list[Row]) -> None:
    lines: dict[Path, int] = {}
    for row in rows:
        other = lines.setdefault(row.clip, row.number)
        if other != row.number:
            raise SelfTalkError(
                f"{path}: lines {other} and {row.number} both name {row.clip}, and their results "
                "would have one name. Keep one; another face can say it by a table and an output "
                "folder of its own."
            )


# --- Cells ------------------------------------------------------------------------------------


def _control(name: str) -> Callable[[str], float]:
    low, high = CONTROLS[name]

    def read(cell: str) -> float:
        value = number(cell)
        if not low <= value <= high:
            raise ValueError(f"choose between {low:g} and {high:g}")
        if name == "seed" and value != int(value):
            raise ValueError("choose a whole number")
        return int(value) if name == "seed" else value

    return read


def _method(cell: str) -> str:
    method = re.sub(r"[\s_]+", "-", cell.lower())
    if method not in METHODS:
        raise ValueError(f"choose {' or '.join(METHODS)}")
    return method


def _device(cell: str) -> str:
    if cell.lower() not in ("cpu", "cuda"):
        raise ValueError("choose cpu or cuda")
    return cell.lower()


def _style(cell: str) -> str:
    raise ValueError("the animator has one style alone, so leave the column empty")


COLUMNS: dict[str, Callable[[str], Any]] = {
    "clip": str,
    "mesh": str,
    "object": str,
    "fps": rate,
    "method": _method,
    "format": formats,
    "fbx_preset": preset,
    "animator": str,
    "device": _device,
    "template": str,
    "subject": str,
    "style": _style,
    **{name: _control(name) for name in CONTROLS},
}
