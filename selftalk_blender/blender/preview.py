"""Pictures of a talking face: a contact sheet beside the waveform, and a short film.

Cycles on the CPU renders them, since it alone needs no graphics context. The face is lent to a
scene of its own with camera and lights, so nothing in the artist's scene changes.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import bpy
import numpy as np
from mathutils import Matrix, Vector

from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from ..core.template import bundled_template
from . import compat, face

if TYPE_CHECKING:
    from PIL import ImageDraw

FILM_SIZE = 320, 360  # pixels
FILM_RATE = 12.5  # frames per second, about
LONGEST = 30.0  # seconds of a clip that are shown
FLAT = 0.5  # mm of the lip gap that are no movement to look at

WIDTH = 1600
COLUMNS, ROWS = 6, 2
PICTURE = 256, 288
GAP, CAPTION, PLOT = 8, 30, 150
INK, PAPER, FAINT = (25, 28, 32), (250, 250, 248), (205, 208, 212)
VOICE, LIPS, MARK = (90, 130, 180), (190, 60, 50), (120, 124, 130)

# In the space of the bundled head, metres.
CAMERA, AIM = Vector((0.14, -0.80, 0.105)), Vector((0.004, -0.06, 0.108))
LENS = 140.0  # mm
# Direction of the light and strength: key, side, and one from the front into the mouth.
SUNS = (((-0.5, -0.8, 0.7), 2.4), ((0.9, -0.4, 0.2), 1.0), ((0.1, -1.0, -0.05), 0.9))


# --- Rendering ----------------------------------------------------------------------------


def light(scene: bpy.types.Scene, target: bpy.types.Object) -> list[bpy.types.Object]:
    """Put a camera and suns before a face, fixed to it, and a plain world around; the objects.

    Raises:
        SelfTalkError: the face is none that we know.
    """
    fit = face.correspondence(target)
    template = bundled_template()
    rest = face.rest_vertices(target)[fit.target_index].mean(0)
    origin = rest - fit.linear @ template.vertices[fit.template_index].mean(0)
    place = Matrix.Translation(origin) @ Matrix(fit.linear.tolist()).to_4x4()

    camera = bpy.data.cameras.new("SelfTalk Camera")
    camera.lens, camera.clip_start, camera.clip_end = LENS, 0.01, 1000.0
    parts = [(camera, CAMERA)]
    for direction, strength in SUNS:
        sun = bpy.data.lights.new("SelfTalk Sun", "SUN")
        sun.energy, sun.angle = strength, 0.5
        parts.append((sun, AIM + Vector(direction)))
    added = []
    for data, source in parts:
        item = bpy.data.objects.new(data.name, data)
        scene.collection.objects.link(item)
        item.parent = target
        aimed = (AIM - source).to_track_quat("-Z", "Y").to_matrix().to_4x4()
        item.matrix_local = place @ Matrix.Translation(source) @ aimed
        added.append(item)
    scene.camera = added[0]
    scene.world = bpy.data.worlds.new("SelfTalk World")
    sky = next(n for n in compat.use_nodes(scene.world).nodes if n.type == "BACKGROUND")
    sky.inputs["Color"].default_value = (0.42, 0.46, 0.50, 1.0)
    sky.inputs["Strength"].default_value = 0.6
    scene.view_settings.view_transform = "Standard"
    return added


class Stage:
    """A scene of its own for one face, its camera and lights; use as a context manager."""

    def __init__(self, target: bpy.types.Object, size: tuple[int, int], samples: int) -> None:
        self.target, self.fit = target, face.correspondence(target)
        self.scene = bpy.data.scenes.new("SelfTalk Preview")
        self.scene.collection.objects.link(target)
        self._objects = light(self.scene, target)
        render = self.scene.render
        render.engine = "CYCLES"
        render.resolution_x, render.resolution_y = size
        render.resolution_percentage = 100
        render.image_settings.file_format = "PNG"
        cycles = self.scene.cycles
        cycles.device, cycles.samples, cycles.use_adaptive_sampling = "CPU", samples, False
        cycles.max_bounces = 2
        cycles.use_denoising = True
        # Three times as fast as the other settings, and as good for a face on plain ground.
        cycles.denoising_quality, cycles.denoising_prefilter = "FAST", "NONE"

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        world = self.scene.world
        bpy.data.scenes.remove(self.scene)
        bpy.data.worlds.remove(world)
        bpy.data.batch_remove([item.data for item in self._objects] + self._objects)

    def photograph(self, frame: int, folder: Path) -> Path:
        """Render the face at a frame; the PNG, in `folder`."""
        self.scene.render.filepath = str(folder / "######")
        # An animation of one frame: a still of a scene in no window shows the face at rest.
        self.scene.frame_start = self.scene.frame_end = frame
        bpy.ops.render.render(animation=True, scene=self.scene.name)
        return Path(self.scene.render.frame_path(frame=frame))

    def gap_mm(self, frames: range) -> np.ndarray:
        """The inner-lip gap of the face as it plays, (len(frames),) in mm of the bundled head."""
        landmarks = bundled_template().landmarks
        upper, lower = (
            int(self.fit.target_index[self.fit.template_index == landmarks[name]][0])
            for name in ("inner_upper_lip", "inner_lower_lip")
        )
        back = np.linalg.inv(self.fit.linear)
        gap = np.empty(len(frames))
        for index, frame in enumerate(frames):
            self.scene.frame_set(frame)
            graph = self.scene.view_layers[0].depsgraph
            vertices = self.target.evaluated_get(graph).data.vertices
            gap[index] = (back @ np.array(vertices[upper].co - vertices[lower].co))[2]
        return gap * 1000.0


# --- Contact sheet ------------------------------------------------------------------------


def choose_frames(gap: np.ndarray, count: int) -> list[int]:
    """Indices (at most `count`) where a gap curve (n,) opens and closes most, and its ends."""
    slope = np.sign(np.diff(gap))
    turns = [i for i in range(1, len(gap) - 1) if slope[i - 1] != slope[i]]
    chosen = sorted({0, *turns, len(gap) - 1})
    while len(chosen) > count:  # without the smallest wiggle
        size = np.abs(np.diff(gap[chosen]))
        least = int(size.argmin())
        ends = {0, len(chosen) - 1}
        gone = {least, least + 1} - ends
        chosen = [frame for place, frame in enumerate(chosen) if place not in gone]
    while len(chosen) < min(count, len(gap)):  # and with the best of the longest wait
        longest = int(np.diff(chosen).argmax())
        start, stop = chosen[longest : longest + 2]
        bulge = np.abs(gap[start : stop + 1] - np.linspace(gap[start], gap[stop], stop - start + 1))
        flat = bulge.max() < FLAT
        chosen.insert(longest + 1, (start + stop) // 2 if flat else start + int(bulge.argmax()))
    return chosen


def contact_sheet(
    target: bpy.types.Object, path: Path, first: int, last: int, fps: float, clip: Path | None
) -> Iterator[float]:
    """Write a PNG of twelve moments of a face above the waveform and the inner-lip gap.

    Args:
        first, last: the scene frames shown, from 0 on, at most LONGEST seconds of them.
        fps: the scene's.
        clip: the sound file whose first sample is heard at frame `first`.

    Yields:
        How much is done, 0..1.

    Raises:
        SelfTalkError: Pillow is missing, or the file cannot be written.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise SelfTalkError("A contact sheet needs Pillow: pip install pillow.") from error
    last = min(last, first + round(LONGEST * fps))
    with Stage(target, PICTURE, samples=8) as stage, tempfile.TemporaryDirectory() as folder:
        gap = stage.gap_mm(range(first, last + 1))
        chosen = choose_frames(gap, COLUMNS * ROWS)
        pictures = []
        for index in chosen:
            pictures.append(
                Image.open(stage.photograph(first + index, Path(folder))).convert("RGB")
            )
            yield 0.95 * len(pictures) / len(chosen)

    row = CAPTION + PICTURE[1] + GAP
    top = 44 + ROWS * row
    sheet = Image.new("RGB", (WIDTH, top + 2 * (CAPTION + PLOT) + 2 * GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    seconds = len(gap) / fps
    name = clip.name if clip is not None else target.name
    _text(draw, (GAP * 2, 10), f"{name}   {seconds:.2f} s at {fps:g} fps", 24)
    for number, (index, picture) in enumerate(zip(chosen, pictures, strict=True)):
        x = GAP * 2 + (number % COLUMNS) * (PICTURE[0] + GAP)
        y = 44 + (number // COLUMNS) * row
        _text(draw, (x, y + 5), f"{number + 1}", 20, LIPS)
        _text(draw, (x + 28, y + 5), f"{index / fps:.2f} s   gap {gap[index]:.1f} mm", 18)
        sheet.paste(picture, (x, y + CAPTION))
    times = [index / fps for index in chosen]
    _plot_voice(draw, top, clip, seconds, times)
    _plot_gap(draw, top + CAPTION + PLOT + GAP, gap, seconds, times)
    with atomic_path(path) as temporary:
        sheet.save(temporary)
    yield 1.0


def _text(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int] = INK,
) -> None:
    from PIL import ImageFont

    draw.text(place, text, colour, ImageFont.load_default(size))


def _frame_plot(
    draw: ImageDraw.ImageDraw, top: int, title: str, seconds: float, times: Sequence[float]
) -> tuple[int, int, int, float]:
    """Draw what both plots share; left, top and bottom of the plot, and pixels per second."""
    left, right = GAP * 2 + 44, WIDTH - GAP * 2
    scale = (right - left) / seconds
    _text(draw, (GAP * 2, top + 4), title, 18)
    top += CAPTION
    bottom = top + PLOT - 24
    draw.rectangle((left, top, right, bottom), outline=FAINT)
    step = next(s for s in (0.25, 0.5, 1.0, 2.0, 5.0) if seconds / s <= 14)
    for tick in np.arange(0.0, seconds, step):
        draw.line((left + tick * scale, bottom, left + tick * scale, bottom + 5), MARK)
        _text(draw, (left + tick * scale - 12, bottom + 5), f"{tick:g} s", 15, MARK)
    for number, time in enumerate(times, 1):
        x = left + time * scale
        draw.line((x, top, x, bottom), MARK)
        _text(draw, (x + 3, top + 1), f"{number}", 16, LIPS)
    return left, top, bottom, scale


def _plot_voice(
    draw: ImageDraw.ImageDraw,
    top: int,
    clip: Path | None,
    seconds: float,
    times: Sequence[float],
) -> None:
    samples, rate = _samples(clip, seconds)
    title = "Voice" if len(samples) else "Voice (this Blender cannot read it)"
    left, top, bottom, scale = _frame_plot(draw, top, title, seconds, times)
    middle, height = (top + bottom) / 2, (bottom - top) / 2 - 2
    loudest = max(float(np.abs(samples).max(initial=0.0)), 1e-4)
    for x in range(int(min(len(samples) / rate, seconds) * scale)):
        part = samples[int(x / scale * rate) : int((x + 1) / scale * rate) + 1]
        low, high = part.min() / loudest, part.max() / loudest
        draw.line((left + x, middle - high * height, left + x, middle - low * height), VOICE)


def _plot_gap(
    draw: ImageDraw.ImageDraw, top: int, gap: np.ndarray, seconds: float, times: Sequence[float]
) -> None:
    title = "Inner-lip gap, mm (grey: closed, under 1 mm)"
    left, top, bottom, scale = _frame_plot(draw, top, title, seconds, times)
    low, high = min(-1.0, float(gap.min())), max(10.0, float(gap.max()) * 1.05)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - top)

    draw.line((left, y(1.0), WIDTH - GAP * 2, y(1.0)), FAINT, 2)
    for value in range(0, int(high) + 1, 5):
        _text(draw, (left - 26, y(value) - 9), f"{value}", 15, MARK)
    place = left + np.arange(len(gap)) * scale * seconds / len(gap)
    draw.line([(float(x), y(float(g))) for x, g in zip(place, gap, strict=True)], LIPS, 2)


def _samples(clip: Path | None, seconds: float) -> tuple[np.ndarray, float]:
    """(n,) samples of one channel of the first seconds of a file, and their rate in Hz."""
    if clip is None or not compat.READS_SOUND:
        return np.zeros(0, np.float32), 1.0
    import aud

    sound = aud.Sound(str(clip)).limit(0.0, seconds)
    try:
        rate, _ = sound.specs  # first: data() of what cannot be read ends the whole program
        return np.asarray(sound.data())[:, 0], rate
    except aud.error:  # the animator reads more formats than Blender
        return np.zeros(0, np.float32), 1.0


# --- Film ---------------------------------------------------------------------------------


def film(
    target: bpy.types.Object,
    path: Path,
    first: int,
    last: int,
    scene: bpy.types.Scene,
    clip: Path | None,
) -> Iterator[float]:
    """Write a small .mp4 of a talking face, with sound where Blender is built with it.

    Args:
        first, last: the frames shown, from 0 on, at most LONGEST seconds of them.
        scene: whose frame rate counts; the film skips frames down to about FILM_RATE.
        clip: the sound file whose first sample is heard at frame `first`.

    Yields:
        How much is done, 0..1.

    Raises:
        SelfTalkError: the film cannot be written.
    """
    render = scene.render
    fps = render.fps / render.fps_base
    step = max(1, round(fps / FILM_RATE))
    frames = range(first, min(last, first + round(LONGEST * fps)) + 1, step)
    with tempfile.TemporaryDirectory() as folder:
        with Stage(target, FILM_SIZE, samples=4) as stage:
            pictures = []
            for frame in frames:
                pictures.append(stage.photograph(frame, Path(folder)))
                yield 0.95 * len(pictures) / len(frames)
        # Not at its own place: Blender takes a # in a name for the number of a frame.
        made = Path(folder, "film.mp4")
        _cut(pictures, clip, made, render.fps, render.fps_base * step)
        if not made.is_file() or not made.stat().st_size:
            raise SelfTalkError(f"Blender could not write {path}.")
        with atomic_path(path) as temporary:
            shutil.copyfile(made, temporary)
    yield 1.0


def _cut(pictures: list[Path], clip: Path | None, path: Path, fps: int, fps_base: float) -> None:
    """Make a film of pictures and a sound in the sequencer of a scene of its own."""
    scene = bpy.data.scenes.new("SelfTalk Film")
    sounds = set(bpy.data.sounds)
    try:
        scene.render.fps, scene.render.fps_base = fps, fps_base
        scene.render.resolution_x, scene.render.resolution_y = FILM_SIZE
        scene.render.resolution_percentage = 100
        scene.view_settings.view_transform = "Standard"
        scene.frame_start, scene.frame_end = 1, len(pictures)
        compat.set_film_output(scene.render)
        scene.render.use_file_extension = False
        scene.render.filepath = str(path)
        strips = compat.editor_strips(scene.sequence_editor_create())
        shots = strips.new_image("Face", str(pictures[0]), 1, 1)
        for picture in pictures[1:]:
            shots.elements.append(picture.name)
        if clip is not None and compat.HAS_SOUND:
            strips.new_sound("Voice", str(clip), 2, 1)
        with contextlib.suppress(RuntimeError):  # the caller finds no film
            bpy.ops.render.render(animation=True, scene=scene.name)
    finally:
        bpy.data.scenes.remove(scene)
        for sound in set(bpy.data.sounds) - sounds:
            bpy.data.sounds.remove(sound)
