"""A contact sheet of clips: the recorded face beside the animated one, and what was said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.files import atomic_path
from ..core.frontend import SAMPLE_RATE

SHOWN = 6  # frames of a clip
AROUND = 0.6  # how much of the face around the lips is shown, in widths of the lips
POINTS = 4000  # drawn at most
RECORDED, ANIMATED = "#3b6ea5", "#c8553d"


@dataclass(frozen=True, eq=False)
class Row:
    """One clip on the sheet.

    Attributes:
        name: its title.
        recorded, animated: (T, V, 3) faces.
        samples: (L,) at 16 kHz.
    """

    name: str
    recorded: np.ndarray
    animated: np.ndarray
    samples: np.ndarray


def facing(faces: np.ndarray, lips: np.ndarray) -> tuple[int, int]:
    """Which axes of faces (T, V, 3) go to the side and up, as nobody says how they stand.

    Lips are widest from side to side, and move most up and down.
    """
    points = faces[:, lips]
    side = int(np.argmax(np.ptp(points[0], axis=0)))
    motion = (points - points.mean(0)).var(axis=(0, 1))
    motion[side] = -1.0
    return side, int(np.argmax(motion))


def opening(faces: np.ndarray, lips: np.ndarray, up: int) -> np.ndarray:
    """(T,) height of the lips, from the lowest to the highest of their vertices."""
    return np.ptp(faces[:, lips, up], axis=1)


def draw_sheet(path: Path, rows: list[Row], lips: np.ndarray, fps: float) -> None:
    """Write a PNG: per clip frames of both faces, height of the lips over time, and the wave.

    Args:
        lips: (n,) vertex indices.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.0 * SHOWN, 5.6 * len(rows)), layout="constrained", dpi=70)
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, row in zip(parts, rows, strict=True):
        part.suptitle(row.name, fontsize=11)
        grid = part.add_gridspec(4, SHOWN, height_ratios=(3, 3, 1.6, 1))
        side, up = facing(row.recorded, lips)
        mouth = row.recorded[0][lips][:, [side, up]]
        reach = np.ptp(mouth[:, 0])
        low, high = mouth.min(0) - AROUND * reach, mouth.max(0) + AROUND * reach
        low[1] -= (high[0] - low[0] - high[1] + low[1]) / 2  # room for the jaw below
        places = np.linspace(0, len(row.recorded) - 1, SHOWN + 2).round().astype(int)[1:-1]
        for line, (faces, colour) in enumerate(
            ((row.recorded, RECORDED), (row.animated, ANIMATED))
        ):
            near = ((faces[0][:, [side, up]] > low) & (faces[0][:, [side, up]] < high)).all(1)
            shown = np.setdiff1d(np.flatnonzero(near), lips)
            shown = shown[:: max(len(shown) // POINTS, 1)]
            for column, frame in enumerate(places):
                axes = part.add_subplot(grid[line, column])
                face = faces[frame]
                axes.scatter(face[shown, side], face[shown, up], s=1.5, c="#b8b8b8", lw=0)
                axes.scatter(face[lips, side], face[lips, up], s=5, c=colour, lw=0)
                axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
                axes.set_aspect("equal")
                if line == 0:
                    axes.set_title(f"{frame / fps:.2f} s", fontsize=8)
                if column == 0:
                    axes.set_ylabel("animated" if line else "recorded", color=colour)
        axes = part.add_subplot(grid[2, :])
        seconds = np.arange(len(row.recorded)) / fps
        axes.plot(seconds, opening(row.recorded, lips, up), RECORDED, lw=1.5, label="recorded")
        axes.plot(seconds, opening(row.animated, lips, up), ANIMATED, lw=1.5, label="animated")
        axes.vlines(places / fps, *axes.get_ylim(), colors="#dddddd", zorder=0)
        axes.set(xlim=(0, len(seconds) / fps), xticks=[])
        axes.set_ylabel("lips' height", fontsize=8)
        axes.legend(fontsize=7, loc="upper right")
        axes = part.add_subplot(grid[3, :])
        time = np.arange(len(row.samples)) / SAMPLE_RATE
        axes.plot(time, row.samples, "#777777", lw=0.4)
        axes.set(xlim=(0, len(seconds) / fps), yticks=[])
        axes.set_xlabel("seconds", fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
