"""Clips to files without a window: for each a talking head or character, saved and exported."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import math
import os
import time
import types
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import bpy

from ..batch.manifest import ANIMATOR, content, output_of, read_of
from ..batch.task import Done, Task
from ..core.errors import SelfTalkError, operator_reason
from ..core.files import atomic_path, check_writable
from ..core.steps import paced
from ..worker.process import AnimatorEndedError
from . import animate, bundled_head, character, export, hearing, interface, preview

FIRST_FRAME = 1  # of the bundled head; a character speaks from its scene's first frame on
PREVIEW_SHARE = 0.75  # of the time that a clip takes with a preview
PATIENCE = 300.0  # seconds that a step may take before a bake counts as hung
# And for each second of a clip, where an exporter writes it in one step. Measured: a minute of
# 27,000 vertices takes Alembic 10 s on a slow machine.
PATIENCE_PER_SECOND = 30.0


@dataclass(frozen=True)
class Step:
    """Where a bake is.

    Attributes:
        done: 0..1 of all.
        text: what is being done.
        patience: seconds that the next step may take.
        heard: whether the animator has done its part: it may listen to the next clip.
    """

    done: float
    text: str
    patience: float = PATIENCE
    heard: bool = False


@dataclass(frozen=True)
class _Animator:
    """Who animates a face: as `worker.client.AnimateJob` wants it; a character's may be its own."""

    animator: str
    template: str
    subject: str


_own: dict[tuple[str, str], _Animator] = {}  # of the characters opened so far, by file and object


def listen(task: Task, tell: Callable[[], None]) -> hearing.Listening | None:
    """Begin to listen to a clip whose turn comes soon; to be given to `bake`.

    Blender decodes the sound before this returns, although that holds up the clip in hand: an hour
    of stereo OGG takes 17 s, and the animator, which starts afterwards, more than a minute.

    Args:
        tell: called again and again meanwhile, as a sign of life.

    Returns:
        None where the face's own file has to be opened first to know who animates it.
    """
    chosen = _chosen(task)
    own = _own.get((task.mesh, task.object)) if task.mesh else _Animator("", "", "")
    if chosen is None and own is None:
        return None
    who = chosen or own
    assert who is not None
    try:
        listening = hearing.listen(
            Path(task.clip),
            device=task.settings.device,
            animator=Path(who.animator) if who.animator else None,
            template=Path(who.template) if who.template else None,
            subject=who.subject,
        )
        while not next(listening).waiting:
            tell()
    except StopIteration as end:
        return _ended(end.value)
    except Exception as error:  # told when its turn comes: the clip in hand has no part in it
        return _ended(error)
    return listening


def _ended(outcome: hearing.Listened | Exception) -> hearing.Listening:
    """What has come to its end before anyone asked."""
    yield from ()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _chosen(task: Task) -> _Animator | None:
    settings = task.settings
    if settings.animator or settings.template:
        return _Animator(settings.animator, settings.template, settings.subject)
    return None


@dataclass(frozen=True)
class _Opened:
    """The scene of a clip, with the face that is to speak.

    Attributes:
        first: scene frame at which the clip begins.
        who: who animates the face where the task names nobody.
        read: files that the result depends on and the task does not name.
        warnings: sentences that the user should read.
    """

    scene: bpy.types.Scene
    talker: bpy.types.Object
    first: int
    who: _Animator
    read: list[str]
    warnings: list[str]


def _open(task: Task) -> _Opened:
    """The bundled head in an empty scene, or a character's own file.

    Raises:
        SelfTalkError: there is no such file, or no face in it.
    """
    fps = task.settings.fps
    if not task.mesh:
        scene = _new_scene(fps or 30.0)
        talker = bundled_head.add_head(bpy.context, (0.0, 0.0, 0.0))
        return _Opened(scene, talker, FIRST_FRAME, _Animator("", "", ""), [], [])
    talker, warnings = character.open_character(task.mesh, task.object)
    scene = bpy.context.scene
    if fps is not None:
        _set_rate(scene, fps)
    own = talker.selftalk
    who = _Animator(*map(_absolute, (own.animator, own.template)), own.subject)
    _own[task.mesh, task.object] = who
    return _Opened(scene, talker, scene.frame_start, who, character.libraries(), warnings)


def bake(task: Task, listening: hearing.Listening | None = None) -> Generator[Step, None, Done]:
    """Have a face speak a clip in a scene of its own, and write the results.

    The scene that is open is lost. What comes out depends on the task alone, not on those before.
    Files appear whole or not at all; closing the generator cancels.

    Args:
        listening: from `listen` to this task, where it was begun before.

    Raises:
        SelfTalkError: why it cannot be done, and what to do about it.
    """
    settings = task.settings
    begun = time.monotonic()
    times = {}
    interface.register()  # lines are kept in our own properties
    with contextlib.closing(listening) if listening else contextlib.nullcontext():
        check_writable(task.path(settings.formats[0]))
        yield Step(0.0, "Opening")
        opened = _open(task)
        scene, talker, first = opened.scene, opened.talker, opened.first
        warnings = opened.warnings
        chosen = _chosen(task)
        who = chosen or opened.who
        also = [*opened.read, *filter(None, () if chosen else (who.animator, who.template))]
        character.set_controls(talker, settings.controls)
        if settings.controls and who.template:
            warnings.append(
                f"{', '.join(settings.controls)}: the artist's controls do nothing to a face that "
                "an animator moves by its vertices."
            )
        plan = animate.plan(
            scene,
            talker,
            clip=task.clip,
            first_frame=first,
            output=settings.method.upper().replace("-", "_"),
            cache_folder=str(task.cache_folder),
            animator=who.animator,
            template=who.template,
            subject=who.subject,
            device=settings.device,
        )
        for suffix in set(settings.formats) - {"blend"}:  # before the animator's work is in vain
            export.check_faces(bpy.context, [talker], f".{suffix}")
        animator = content(who.animator or str(ANIMATOR))
        share = 1.0 - PREVIEW_SHARE if settings.preview else 1.0
        done = yield from _animate(plan, listening, 0.8 * share, warnings)
    warnings += done.notices
    duration = done.seconds
    times["animating"] = round(time.monotonic() - begun, 3)
    rate = scene.render.fps / scene.render.fps_base
    last = first + math.ceil(duration * rate - 1e-6) - 1
    scene.frame_start, scene.frame_end = first, last
    begun = time.monotonic()
    files = [plan.cache] if plan.cache is not None else []
    files += yield from _write(task, talker, duration, share, warnings)
    times["writing"] = round(time.monotonic() - begun, 3)
    if settings.preview:
        begun = time.monotonic()
        try:
            for part, path in _preview(task, talker, scene, first, last):
                yield Step(share + PREVIEW_SHARE * part, "Rendering the preview", heard=True)
                files += [path] if path is not None else []
        except SelfTalkError as error:
            warnings.append(f"There is no preview: {error}")
        times["preview"] = round(time.monotonic() - begun, 3)
    return Done(
        clip=task.clip,
        place=task.place,
        outputs=tuple(output_of(Path(task.out), path) for path in files),
        blender="{}.{}.{}".format(*bpy.app.version),
        animator=animator,
        read=tuple(map(read_of, also)),
        duration=round(duration, 3),
        times=times,
        warnings=tuple(warnings),
    )


def _write(
    task: Task, talker: bpy.types.Object, duration: float, share: float, warnings: list[str]
) -> Generator[Step, None, list[Path]]:
    """Write a face that was animated in every format; the files.

    Args:
        duration: seconds of the clip.
        share: of the whole at which this is done; it begins at 0.8 of that.
        warnings: gets what is to be said of the files.
    """
    scene, formats, files = bpy.context.scene, task.settings.formats, []
    patience = PATIENCE + PATIENCE_PER_SECOND * duration
    for number, suffix in enumerate(formats):
        path = task.path(suffix)
        part = (0.8 + 0.2 * number / len(formats)) * share
        yield Step(part, f"Writing {path.name}", patience, heard=True)
        if suffix == "blend":
            _save(scene, talker, path, task)
            files.append(path)
        else:
            frames, preset = (scene.frame_start, scene.frame_end), task.settings.fbx_preset.upper()
            made = yield from _export(talker, path, frames, preset, part, patience)
            files += made.files
            warnings += made.notices
    return files


def _animate(
    plan: animate.Plan, listening: hearing.Listening | None, share: float, warnings: list[str]
) -> Generator[Step, None, animate.Result]:
    """An animator that ends over a clip is given it once more; a night has its mishaps."""
    try:
        return (yield from _animated(plan, listening, share))
    except AnimatorEndedError as error:
        warnings.append(f"It was animated in a second attempt. At the first: {error}")
    return (yield from _animated(plan, None, share))


def _animated(
    plan: animate.Plan, listening: hearing.Listening | None, share: float
) -> Generator[Step, None, animate.Result]:
    run = animate.run(plan, listening)
    with contextlib.closing(run):
        while True:
            try:
                step = next(run)
            except StopIteration as end:
                return end.value
            heard = step.done >= animate.ANIMATOR_SHARE
            yield Step(share * step.done, step.text, heard=heard)
            if step.waiting:
                time.sleep(0.02)


def _export(
    talker: bpy.types.Object,
    path: Path,
    frames: tuple[int, int],
    preset: str,
    done: float,
    patience: float,
) -> Generator[Step, None, export.Exported]:
    exporting = export.exporting(bpy.context, [talker], path, frames, preset)
    with _one_fbx_date():
        now = Step(done, f"Writing {path.name}", patience, heard=True)
        made = yield from paced(exporting, now)
    if path.suffix == ".abc":
        _fix_alembic_date(path)
    return made


def _preview(
    task: Task, talker: bpy.types.Object, scene: bpy.types.Scene, first: int, last: int
) -> Generator[tuple[float, Path | None], None, None]:
    """Yields: how much of it is done, 0..1, and a file where one is."""
    clip = Path(task.clip)
    rate = scene.render.fps / scene.render.fps_base
    sheet = preview.contact_sheet(talker, task.path("png"), first, last, rate, clip)
    film = preview.film(talker, task.path("mp4"), first, last, scene, clip)
    for steps, path, start, size in (
        (sheet, task.path("png"), 0.0, 0.3),
        (film, task.path("mp4"), 0.3, 0.7),
    ):
        with contextlib.closing(steps):
            for part in steps:
                yield start + size * part, None
        yield start + size, path


@contextlib.contextmanager
def _one_fbx_date() -> Iterator[None]:
    """Have Blender's FBX exporter write one date: the same scene gives the same bytes then."""
    exporter = importlib.import_module("io_scene_fbx.export_fbx_bin")

    class Fixed(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Fixed:
            return cls(1970, 1, 1, tzinfo=tz)

    before = exporter.datetime
    exporter.datetime = types.SimpleNamespace(datetime=Fixed)
    try:
        yield
    finally:
        exporter.datetime = before


def _fix_alembic_date(path: Path) -> None:
    """Put one date into an Alembic file, in place of when it was written."""
    mark = b"_ai_DateWritten="
    with open(path, "r+b") as file:
        # Beside it at the end are the names of all properties, 64 KB at most.
        start = max(0, file.seek(0, os.SEEK_END) - 2 * 65536)
        file.seek(start)
        at = file.read().find(mark)
        if at >= 0:
            file.seek(start + at + len(mark))
            file.write(b"Thu Jan  1 00:00:00 1970")  # as long as any other


def _new_scene(fps: float) -> bpy.types.Scene:
    """An empty file's scene at a frame rate such as 24, 25 or 29.97."""
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    scene = bpy.context.scene
    _set_rate(scene, fps)
    scene.sync_mode = "AUDIO_SYNC"
    return scene


def _set_rate(scene: bpy.types.Scene, fps: float) -> None:
    whole = math.ceil(fps - 1e-6)
    # 23.976 and its like are a whole number over 1.001, not quite what they are called.
    exact = next((n / d for n, d in ((whole, 1.0), (whole, 1.001)) if abs(n / d - fps) < 6e-3), fps)
    scene.render.fps, scene.render.fps_base = whole, whole / exact


def _absolute(path: str) -> str:
    return os.path.abspath(bpy.path.abspath(path)) if path else ""


def _save(scene: bpy.types.Scene, talker: bpy.types.Object, path: Path, task: Task) -> None:
    """Save the file ready to be played, with paths relative to it."""
    if not task.mesh:  # seen through a camera; a character's file has what its artist put there
        preview.light(scene, talker)
        for screen in bpy.data.screens:
            for area in screen.areas:
                if area.type == "VIEW_3D":
                    area.spaces.active.shading.type = "MATERIAL"
                    area.spaces.active.region_3d.view_perspective = "CAMERA"
    scene.frame_set(scene.frame_start)
    opened = bpy.data.filepath
    # Blender itself moves what is relative to a file that was opened.
    start = str(Path(opened).parent if opened else path.parent)
    items = [*bpy.data.sounds, *(m for m in talker.modifiers if m.type == "MESH_CACHE")]
    before = [item.filepath for item in items]
    try:
        for item in items:
            with contextlib.suppress(ValueError):  # another drive has no relative path
                item.filepath = bpy.path.relpath(item.filepath, start=start)
        with atomic_path(path) as temporary:
            temporary.unlink()  # Blender would keep it as an older version
            bpy.ops.wm.save_as_mainfile(
                filepath=str(temporary),
                copy=True,
                relative_remap=bool(opened),
                check_existing=False,
            )
    except RuntimeError as error:
        raise SelfTalkError(f"Cannot write {path}: {operator_reason(error)}.") from error
    finally:
        for item, filepath in zip(items, before, strict=True):
            item.filepath = filepath
