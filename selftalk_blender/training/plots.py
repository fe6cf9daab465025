"""Pictures of an evaluation: what the lips do over time, and where on the face the error is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..core import FaceTemplate, Motion
from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from ..core.frontend import SAMPLE_RATE
from ..core.meshes import Faces
from . import metrics
from .corpus import FACE_FPS, Phone, Utterance
from .sheet import facing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

    from .folder import FolderClip, FolderCorpus

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
HEAT = ("#f2f2f2", "#fee391", "#fe9929", "#d7301f", "#67000d")  # no error is grey
LAMP = (0.35, 0.4, 0.85)  # where it hangs: to the right of who sees the face, up, in front
UP, FRONT = (0.0, 0.0, 1.0), (0.0, -1.0, 0.0)  # of the bundled head
Clip = TypeVar("Clip")
Curve = tuple[float, np.ndarray]  # frames per second, values (T,)
VOICED, FACED = 1, 3  # clips drawn: without and with a recorded face
DARK = "#7f7f7f"  # behind points, since that of no error is nearly white
POINTS = 60_000  # area of all points together, where a mesh has no faces, in square points


@dataclass(frozen=True, eq=False)
class Course:
    """What the lips do in a clip.

    Attributes:
        title: of the picture.
        samples: (L,) at 16 kHz.
        what: is drawn, with its unit.
        phones: of the clip, as far as they are known.
        speaker: the recorded curve, or None.
        animators: their names -> their curves.
        closed_below: from where on lips count as closed, or None.
    """

    title: str
    samples: np.ndarray
    what: str
    phones: Sequence[Phone] = ()
    speaker: Curve | None = None
    animators: dict[str, Curve] = field(default_factory=dict)
    closed_below: float | None = None


@dataclass(frozen=True, eq=False)
class Heat:
    """Where on a face animators err.

    Attributes:
        vertices: (V, 3) neutral face.
        faces: tuples of vertex indices; None: the vertices are drawn as points.
        errors: names -> (V,) mean distance from the speaker's.
        lips, mouth: vertex indices; the second are what colours are scaled to.
        unit: of the errors.
        up, front: (3,) unit vectors, where the face's crown and its nose point to.
    """

    vertices: np.ndarray
    faces: Faces | None
    errors: Mapping[str, np.ndarray]
    lips: np.ndarray
    mouth: np.ndarray
    unit: str
    up: Sequence[float]
    front: Sequence[float]


class Album:
    """Gathers what is drawn while clips are measured, so that no clip is animated twice.

    Raises:
        SelfTalkError: matplotlib is missing.
    """

    def __init__(self, clips: Sequence[Utterance]) -> None:
        _figure_class()
        self._clips = {clip.name: clip for clip in telling(clips)}
        self._motions: dict[str, dict[str, Motion]] = {name: {} for name in self._clips}
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
        courses = {
            f"gap-{name}": gaps(self._clips[name], motions)
            for name, motions in self._motions.items()
        }
        heat = None
        if self._template is not None:
            regions = self._template.regions
            heat = Heat(
                self._template.vertices, [tuple(face) for face in self._template.polygons],
                _means(self._errors), regions["lips"], regions["mouth_region"], "mm", UP, FRONT,
            )  # fmt: skip
        return write(folder, courses, heat)


class FolderAlbum:
    """`Album` of a folder of vertices that knows its lips.

    Where it knows pairs of inner lips, their gap is drawn, else the mean motion of the lips.

    Raises:
        SelfTalkError: matplotlib is missing.
    """

    def __init__(
        self, corpus: FolderCorpus, clips: Sequence[FolderClip], faces: Faces | None = None
    ) -> None:
        """Args: faces: tuples of vertex indices; None: the vertices are drawn as points."""
        _figure_class()
        self._parts, self._templates, self._fps = corpus.parts, corpus.templates, corpus.fps
        self._scales, self._faces = corpus.mm_per_unit, faces
        self._unit = "mm" if corpus.mm_per_unit is not None else corpus.unit or "unit"
        self._pairs = corpus.parts.get("inner_lips")
        what = "mean motion of the lips" if self._pairs is None else "gap between the inner lips"
        self._courses = {
            clip.name: Course(clip.name, clip.samples(), f"{what}, {self._unit}")
            for clip in _spread(clips, FACED + VOICED)
        }
        self._errors: dict[str, list[np.ndarray]] = {}
        self._seen: tuple[str, np.ndarray] | None = None  # a subject, and how he moved

    def see(self, animator: str, clip: FolderClip, own: np.ndarray, real: np.ndarray) -> None:
        """Take in offsets (T, V, 3) of animator and speaker in the same frames of a clip."""
        scale = 1.0 if self._scales is None else self._scales[clip.subject]
        self._seen = self._seen or (clip.subject, real)
        error = scale * metrics.vertex_error(own, real)
        self._errors.setdefault(animator, []).append(error)
        if clip.name in self._courses:
            neutral, course = self._templates[clip.subject], self._courses[clip.name]
            one, other = (scale * self._curve(offsets, neutral) for offsets in (own, real))
            course.animators[animator] = self._fps, one
            self._courses[clip.name] = replace(course, speaker=(self._fps, other))

    def _curve(self, offsets: np.ndarray, neutral: np.ndarray) -> np.ndarray:
        if self._pairs is not None:
            return metrics.pair_gap(neutral + offsets, self._pairs)
        return np.linalg.norm(offsets[:, self._parts["lips"]], axis=-1).mean(-1)

    def draw(self, folder: Path) -> list[Path]:
        """Write the pictures; returns their paths.

        Raises:
            SelfTalkError: the folder cannot be written to.
        """
        kind = "lips" if self._pairs is None else "gap"
        courses = {f"{kind}-{name}": course for name, course in self._courses.items()}
        heat = None
        if self._seen is not None:
            subject, offsets = self._seen
            neutral, lips = self._templates[subject], self._parts["lips"]
            up, front = standing(neutral, offsets, lips, self._pairs)
            heat = Heat(
                neutral, self._faces, _means(self._errors), lips, lips, self._unit, up, front
            )
        return write(folder, courses, heat)


def standing(
    neutral: np.ndarray, offsets: np.ndarray, lips: np.ndarray, pairs: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Where the crown and the nose of a face point to, (3,) each, as nobody says how it stands.

    Axes are found as `facing` does. Down is from upper to lower lip; where these are not known,
    where the lips move to in speech. In front is where the lips are.

    Args:
        neutral: (V, 3).
        offsets: (T, V, 3), while someone speaks.
        lips: (n,) vertex indices.
        pairs: (2 p,) of upper and lower inner lips by turns, or None.
    """
    side, axis = facing(neutral + offsets, lips)
    down = (
        offsets[:, lips].mean((0, 1))
        if pairs is None
        else (neutral[pairs[1::2]] - neutral[pairs[::2]]).mean(0)
    )
    ahead = neutral[lips].mean(0) - neutral.mean(0)
    depth = 3 - side - axis
    unit = np.eye(3)
    return (
        unit[axis] if down[axis] <= 0 else -unit[axis],
        unit[depth] if ahead[depth] >= 0 else -unit[depth],
    )


def write(folder: Path, courses: Mapping[str, Course], heat: Heat | None) -> list[Path]:
    """Write a picture of each course, and error.png; returns their paths.

    Raises:
        SelfTalkError: the folder cannot be written to, or matplotlib is missing.
    """
    new = _figure_class()
    paths = []
    for name, course in courses.items():
        figure = new(figsize=(12, 5), dpi=110, layout="constrained")
        draw_course(figure, course)
        paths.append(_save(figure, folder / f"{name}.png"))
    if heat is not None:
        figure = new(figsize=(8.6, 4.8 * len(heat.errors)), dpi=110, layout="constrained")
        draw_heat(figure, heat)
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
    """Write a PNG of an animator's gaps in some clips, one below the other: see `draw_course`.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
        SelfTalkError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5 * len(clips)), dpi=80, layout="constrained")
    parts = figure.subfigures(len(clips), 1, squeeze=False)[:, 0]
    for part, clip, motion in zip(parts, clips, motions, strict=True):
        draw_course(part, gaps(clip, {"animator": motion}))
    _save(figure, path)


def gaps(clip: Utterance, motions: Mapping[str, Motion]) -> Course:
    """The gap in mm of the bundled head in a clip, pressed lips as 0."""
    curves = {}
    for name, motion in motions.items():
        assert motion.weights is not None
        gap = motion.template.gap_mm(motion.weights)
        curves[name] = motion.fps, np.maximum(gap, 0)
    speaker = None
    if clip.weights is not None and motions:
        template = next(iter(motions.values())).template
        speaker = FACE_FPS, np.maximum(template.gap_mm(clip.weights), 0)
    return Course(
        f"{clip.name} ({clip.kind}, voice {clip.voice})", clip.samples(),
        "gap between the inner lips, mm", clip.phones, speaker, curves, metrics.CLOSED_BELOW,
    )  # fmt: skip


def draw_course(figure: FigureBase, course: Course) -> None:
    """Draw the clip's waveform with its phones, and below it the curves."""
    sound, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    duration = len(course.samples) / SAMPLE_RATE
    low, high, times = _envelope(course.samples, 1500)
    sound.fill_between(times, low, high, color="#777777", linewidth=0)
    sound.set_yticks([])
    sound.set_title(course.title, loc="left")
    for phone, start, end in course.phones:
        for part in (sound, axes):
            part.axvline(start, color="#dddddd", linewidth=0.7, zorder=0)
            if phone in metrics.CLOSED:
                part.axvspan(start, end, color="#fff0c2", linewidth=0, zorder=0)
    if course.speaker is not None:
        fps, values = course.speaker
        axes.plot(np.arange(len(values)) / fps, values, color="black", linewidth=2.2,
                  label="speaker")  # fmt: skip
    colours = _cycle(len(course.animators))
    for (name, (fps, values)), colour in zip(course.animators.items(), colours, strict=True):
        axes.plot(np.arange(len(values)) / fps, values, color=colour, linewidth=1.5, label=name)
    if course.closed_below is not None:
        axes.axhline(course.closed_below, color="#999999", linewidth=0.8, linestyle="--")
        axes.text(duration, course.closed_below, " closed\n below", va="center", fontsize=8,
                  color="#666666")  # fmt: skip
    axes.set(xlim=(0, duration), ylabel=course.what, xlabel="seconds")
    axes.set_ylim(bottom=0)
    # Phones stand below the axis in three rows by turns, so that short ones stay readable.
    for number, (phone, start, end) in enumerate(p for p in course.phones if p[0] != "SIL"):
        axes.annotate(
            phone.lower(), ((start + end) / 2, 0), xycoords=("data", "axes fraction"),
            xytext=(0, -9 - 9 * (number % 3)), textcoords="offset points",
            ha="center", va="center", fontsize=8,
            fontweight="bold" if phone in metrics.CLOSED else "normal",
        )  # fmt: skip
    if course.phones:
        axes.tick_params(axis="x", pad=30)
        axes.set_xlabel("seconds; p, b, m are shaded")
    for part in (sound, axes):
        part.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", ncols=8, frameon=False, bbox_to_anchor=(1, 1.1))


def draw_heat(figure: Figure, heat: Heat) -> None:
    """Draw each animator's mean error per vertex on the face: front and side.

    Colours are scaled to the mouth; what is beyond them, such as eyelids that do not blink with
    the speaker's, has the darkest.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    top = max(float(np.percentile(error[heat.mouth], 99)) for error in heat.errors.values())
    shades = LinearSegmentedColormap.from_list("error", HEAT)
    scale = ScalarMappable(Normalize(0, top or 1.0), shades)
    grid = figure.subplots(len(heat.errors), 2, squeeze=False)
    right = np.cross(heat.up, heat.front)
    for views, (name, error) in zip(grid, heat.errors.items(), strict=True):
        for axes, towards in zip(views, (heat.front, right), strict=True):
            _view(axes, heat, scale.to_rgba(error), np.asarray(towards))
            axes.set_aspect("equal")
            axes.autoscale_view()
            axes.set(xticks=[], yticks=[], facecolor="white" if heat.faces else DARK)
            axes.spines[:].set_visible(False)
        lips = error[heat.lips].mean()
        views[0].set_title(f"{name}: mean over the lips {lips:.3g} {heat.unit}", loc="left")
    bar = figure.colorbar(scale, ax=grid, aspect=20 * len(heat.errors), pad=0.02, extend="max",
                          extendfrac=0.04 / len(heat.errors))  # fmt: skip
    bar.set_label(f"mean distance from the speaker's face, {heat.unit}")


def _view(axes: Axes, heat: Heat, colours: np.ndarray, towards: np.ndarray) -> None:
    """The face, its vertices in colours (V, 4), by someone to whom `towards` points: far first."""
    from matplotlib.collections import PolyCollection

    vertices = heat.vertices.astype(np.float64)
    flat = vertices @ np.array([np.cross(heat.up, towards), heat.up]).T  # (V, 2)
    near = vertices @ towards
    if not heat.faces:
        order = np.argsort(near)[len(near) // 2 :]  # the far half would shine through
        size = np.clip(POINTS / len(near), 1, 60)
        axes.scatter(*flat[order].T, s=size, c=colours[order], linewidths=0)
        return
    fans = [(f[0], *f[i : i + 2]) for f in heat.faces for i in range(1, len(f) - 1)]
    triangles = np.array(fans)  # (F, 3)
    corners = vertices[triangles]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if (normals * (corners.mean(1) - vertices.mean(0))).sum() < 0:  # they turn the other way round
        normals = -normals
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    order = np.argsort(near[triangles].mean(1))
    order = order[(normals @ towards)[order] > 0]  # those that face us
    lamp = LAMP @ np.array([np.cross(heat.up, heat.front), heat.up, heat.front])
    shade = 0.8 + 0.2 * np.clip(normals[order] @ lamp / np.linalg.norm(lamp), 0, 1)
    colours = colours[triangles[order]].mean(1)
    colours[:, :3] *= shade[:, None]
    axes.add_collection(
        PolyCollection(flat[triangles[order]], facecolors=colours, edgecolors=colours,
                       linewidths=0.8)
    )  # fmt: skip


def _means(errors: Mapping[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.mean(parts, axis=0) for name, parts in errors.items()}


def _envelope(samples: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest sample of each column and its time (s), (columns,) each."""
    edges = np.linspace(0, len(samples), min(columns, len(samples)) + 1).astype(int)[:-1]
    times = edges / SAMPLE_RATE
    return np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges), times


def _spread(clips: Sequence[Clip], count: int) -> list[Clip]:
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
