"""Pictures of an evaluation: the gap over time, and where on the face the error is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..animator.audio import SAMPLE_RATE
from ..core import FaceTemplate, Motion
from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from . import metrics
from .corpus import FACE_FPS, Utterance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
HEAT = ("#f2f2f2", "#fee391", "#fe9929", "#d7301f", "#67000d")  # no error is grey
LIGHT = np.array([0.35, -0.85, 0.4])  # towards the lamp
VOICED, FACED = 1, 3  # clips drawn: without and with a recorded face


class Album:
    """Gathers what is drawn while clips are measured, so that no clip is animated twice.

    Raises:
        SelfTalkError: matplotlib is missing.
    """

    def __init__(self, clips: Sequence[Utterance]) -> None:
        self._figure = _figure_class()
        drawn = telling(clips)
        self._motions: dict[str, dict[str, Motion]] = {clip.name: {} for clip in drawn}
        self._clips = {clip.name: clip for clip in drawn}
        self._errors: dict[str, list[np.ndarray]] = {}
        self._template: FaceTemplate | None = None

    def see(self, animator: str, clip: Utterance, motion: Motion) -> None:
        """Take in an animator's motion of a clip."""
        if clip.name in self._motions:
            self._motions[clip.name][animator] = motion
        if clip.weights is not None:
            self._template = motion.template
            real = Motion(motion.template, FACE_FPS, clip.weights)
            own = motion.at(np.arange(len(real)) / FACE_FPS, FACE_FPS)
            error = 1000.0 * metrics.vertex_error(own.offsets(), real.offsets())
            self._errors.setdefault(animator, []).append(error)

    def draw(self, folder: Path) -> list[Path]:
        """Write the pictures; returns their paths.

        Raises:
            SelfTalkError: the folder cannot be written to.
        """
        paths = []
        for name, motions in self._motions.items():
            figure = self._figure(figsize=(12, 5), dpi=110, layout="constrained")
            draw_gaps(figure, self._clips[name], motions)
            paths.append(_save(figure, folder / f"gap-{name}.png"))
        if self._errors and self._template is not None:
            errors = {name: np.mean(parts, axis=0) for name, parts in self._errors.items()}
            figure = self._figure(figsize=(8.6, 4.8 * len(errors)), dpi=110, layout="constrained")
            draw_errors(figure, self._template, errors)
            paths.append(_save(figure, folder / "error.png"))
        return paths


def telling(
    clips: Sequence[Utterance], faced: int = FACED, voiced: int = VOICED
) -> list[Utterance]:
    """A few clips to be drawn: with a recorded face, then of synthetic voices."""
    with_face = [clip for clip in clips if clip.weights is not None and clip.phones]
    without = [clip for clip in clips if clip.kind == "tts"]
    return [*_spread(with_face, faced), *_spread(without, voiced)]


def draw_sheet(path: Path, clips: Sequence[Utterance], motions: Sequence[Motion]) -> None:
    """Write a PNG of an animator's gaps in some clips, one below the other: see `draw_gaps`.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        SelfTalkError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5 * len(clips)), dpi=80, layout="constrained")
    parts = figure.subfigures(len(clips), 1, squeeze=False)[:, 0]
    for part, clip, motion in zip(parts, clips, motions, strict=True):
        draw_gaps(part, clip, {"animator": motion})
    _save(figure, path)


def draw_gaps(figure: FigureBase, clip: Utterance, motions: dict[str, Motion]) -> None:
    """Draw the clip's waveform with its phones, and below it the gaps in mm."""
    sound, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    samples = clip.samples()
    duration = len(samples) / SAMPLE_RATE
    low, high, times = _envelope(samples, 1500)
    sound.fill_between(times, low, high, color="#777777", linewidth=0)
    sound.set_yticks([])
    sound.set_title(f"{clip.name} ({clip.kind}, voice {clip.voice})", loc="left")
    for phone, start, end in clip.phones:
        for part in (sound, axes):
            part.axvline(start, color="#dddddd", linewidth=0.7, zorder=0)
            if phone in metrics.CLOSED:
                part.axvspan(start, end, color="#fff0c2", linewidth=0, zorder=0)
    if clip.weights is not None and motions:
        template = next(iter(motions.values())).template
        gap = np.maximum(template.gap_mm(clip.weights), 0)
        axes.plot(np.arange(len(gap)) / FACE_FPS, gap, color="black", linewidth=2.2,
                  label="speaker")  # fmt: skip
    for (name, motion), colour in zip(motions.items(), _cycle(len(motions)), strict=True):
        assert motion.weights is not None
        gap = np.maximum(motion.template.gap_mm(motion.weights), 0)
        axes.plot(np.arange(len(gap)) / motion.fps, gap, color=colour, linewidth=1.5, label=name)
    axes.axhline(metrics.CLOSED_BELOW, color="#999999", linewidth=0.8, linestyle="--")
    axes.text(duration, metrics.CLOSED_BELOW, " closed\n below", va="center", fontsize=8,
              color="#666666")  # fmt: skip
    axes.set(xlim=(0, duration), ylabel="gap between the inner lips, mm")
    axes.set_ylim(bottom=0)
    # Phones stand below the axis in three rows by turns, so that short ones stay readable.
    for number, (phone, start, end) in enumerate(p for p in clip.phones if p[0] != "SIL"):
        axes.annotate(
            phone.lower(), ((start + end) / 2, 0), xycoords=("data", "axes fraction"),
            xytext=(0, -9 - 9 * (number % 3)), textcoords="offset points",
            ha="center", va="center", fontsize=8,
            fontweight="bold" if phone in metrics.CLOSED else "normal",
        )  # fmt: skip
    axes.tick_params(axis="x", pad=30)
    axes.set_xlabel("seconds; p, b, m are shaded")
    for part in (sound, axes):
        part.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", ncols=8, frameon=False, bbox_to_anchor=(1, 1.1))


def draw_errors(figure: Figure, template: FaceTemplate, errors: dict[str, np.ndarray]) -> None:
    """Draw each animator's mean error per vertex (V,) in mm on the head: front and side.

    Colours are scaled to the mouth; what is beyond them, such as eyelids that do not blink with
    the speaker's, has the darkest.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    mouth = template.regions["mouth_region"]
    top = max(float(np.percentile(error[mouth], 99)) for error in errors.values())
    shades = LinearSegmentedColormap.from_list("error", HEAT)
    scale = ScalarMappable(Normalize(0, top or 1.0), shades)
    grid = figure.subplots(len(errors), 2, squeeze=False)
    for (front, side), (name, error) in zip(grid, errors.items(), strict=True):
        _head(front, template, error, scale, across=(1, 0, 0), away=(0, 1, 0))
        _head(side, template, error, scale, across=(0, 1, 0), away=(-1, 0, 0))
        lips = error[template.regions["lips"]].mean()
        front.set_title(f"{name}: mean over the lips {lips:.2f} mm", loc="left")
    bar = figure.colorbar(scale, ax=grid, aspect=20 * len(errors), pad=0.02, extend="max",
                          extendfrac=0.04 / len(errors))  # fmt: skip
    bar.set_label("mean distance from the speaker's face, mm")


def _head(
    axes: Axes,
    template: FaceTemplate,
    error: np.ndarray,
    scale: Any,
    across: tuple[int, int, int],
    away: tuple[int, int, int],
) -> None:
    """The head seen along `away` with `across` to the right: far faces first."""
    from matplotlib.collections import PolyCollection

    corners = template.vertices[template.polygons].astype(np.float64)  # (P, 4, 3)
    normals = np.cross(corners[:, 2] - corners[:, 0], corners[:, 3] - corners[:, 1])
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    depth = corners.mean(1) @ np.array(away, float)
    order = np.argsort(-depth)
    order = order[(normals @ np.array(away, float))[order] < 0]  # those that face us
    colours = scale.to_rgba(error[template.polygons].mean(1))[order]
    light = LIGHT / np.linalg.norm(LIGHT)
    shade = 0.8 + 0.2 * np.clip(normals[order] @ light, 0, 1)
    colours[:, :3] *= shade[:, None]
    flat = corners[order] @ np.array([across, (0, 0, 1)], float).T
    axes.add_collection(
        PolyCollection(flat, facecolors=colours, edgecolors=colours, linewidths=0.8)
    )
    axes.set_aspect("equal")
    axes.autoscale_view()
    axes.set_axis_off()


def _envelope(samples: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest sample of each column and its time (s), (columns,) each."""
    edges = np.linspace(0, len(samples), min(columns, len(samples)) + 1).astype(int)[:-1]
    times = edges / SAMPLE_RATE
    return np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges), times


def _spread(clips: Sequence[Utterance], count: int) -> list[Utterance]:
    chosen = np.linspace(0, len(clips) - 1, min(count, len(clips))).round().astype(int)
    return [clips[i] for i in chosen]


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _figure_class() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise SelfTalkError(
            "Pictures need matplotlib: install it (pip install matplotlib), or leave out --plots."
        ) from error
    return Figure


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
    return path
