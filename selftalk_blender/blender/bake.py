"""Clips to files without a window: for each a talking head as .blend, Alembic, FBX, pictures."""

from __future__ import annotations

import contextlib
import math
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import bpy

from ..core.errors import SelfTalkError
from ..core.files import atomic_path, check_writable
from ..worker import STARTING
from . import animate, export, face, interface, preview

FIRST_FRAME = 1
CACHE_FOLDER = "selftalk_cache"
PREVIEW_SHARE = 0.75  # of the time that a clip takes with a preview

Tell = Callable[[float, str], None]


@dataclass
class Baked:
    """What became of a clip.

    Attributes:
        clip: the sound file.
        files: what was written, whole.
        duration: seconds of sound.
        starting: seconds until the animator was ready.
        seconds: that animating and writing took from then on, the preview not counted.
        notices: sentences that the user should read.
        error: why it failed, or None.
    """

    clip: Path
    files: list[Path] = field(default_factory=list)
    duration: float = 0.0
    starting: float = 0.0
    seconds: float = 0.0
    notices: list[str] = field(default_factory=list)
    error: str | None = None


def bake(
    clips: Sequence[str | os.PathLike[str]],
    out_dir: str | os.PathLike[str],
    formats: Sequence[str] = ("blend", "abc", "fbx"),
    output: str = "SHAPE_KEYS",
    fps: float = 30.0,
    preview: bool = False,
    progress: Tell | None = None,
    animator: str | None = None,
    device: str | None = None,
) -> list[Baked]:
    """Have the bundled head speak each clip, in a new scene each, and write the results.

    A clip that fails is reported and the rest goes on. The scene that is open is lost.

    Args:
        out_dir: made if need be; files are called like their clip. Mesh caches go into a
            folder of their clip's name in CACHE_FOLDER below it.
        formats: of "blend", "abc" and "fbx".
        output: "SHAPE_KEYS", or "MESH_CACHE", which FBX cannot hold.
        fps: of the scenes.
        preview: also a contact sheet (.png) and, where Blender can, a film (.mp4).
        progress: called with how much of all is done, 0..1, and with what is being done.
        animator, device: see `worker.client.AnimateJob`.

    Raises:
        SelfTalkError: a format that cannot be had.
    """
    if output == "MESH_CACHE" and "fbx" in formats:
        raise SelfTalkError("FBX cannot hold a mesh cache. Leave it out or bake shape keys.")
    interface.register()  # lines are kept in our own properties
    baked = []
    for number, clip in enumerate(clips):
        result = Baked(Path(os.path.abspath(clip)))
        baked.append(result)
        steps = _bake_one(
            result, Path(os.path.abspath(out_dir)), formats, output, fps, preview, animator, device
        )
        try:
            with contextlib.closing(steps):
                for done, text in steps:
                    if progress is not None:
                        progress((number + done) / len(clips), text)
        except SelfTalkError as error:
            result.error = str(error)
        except Exception as error:  # the rest of a night's clips must go on
            traceback.print_exc()
            result.error = f"A fault of SelfTalk's own: {error!r}. Please report it."
    return baked


def _bake_one(
    result: Baked,
    folder: Path,
    formats: Sequence[str],
    output: str,
    fps: float,
    with_preview: bool,
    animator: str | None,
    device: str | None,
) -> Iterator[tuple[float, str]]:
    """Yields: how much is done, 0..1, and what is being done."""
    begun = time.monotonic()
    share = 1.0 - PREVIEW_SHARE if with_preview else 1.0
    name = result.clip.stem
    path = {suffix: folder / f"{name}.{suffix}" for suffix in (*formats, "png", "mp4")}
    check_writable(path["png"])
    scene = _new_scene(fps)
    head = face.add_head(bpy.context, (0.0, 0.0, 0.0))
    plan = animate.plan(
        scene,
        head,
        clip=result.clip,
        first_frame=FIRST_FRAME,
        output=output,
        cache_folder=str(folder / CACHE_FOLDER / name),
        animator=animator or "",
        device=device,
    )
    run = animate.run(plan)
    with contextlib.closing(run):
        while True:
            try:
                step = next(run)
            except StopIteration as end:
                done = end.value
                break
            if step.text != STARTING and not result.starting:
                result.starting = time.monotonic() - begun
            yield 0.9 * share * step.done, step.text
            if step.waiting:
                time.sleep(0.02)
    result.notices += done.notices
    result.duration = done.seconds
    if plan.cache is not None:
        result.files.append(plan.cache)
    last = FIRST_FRAME + math.ceil(done.seconds * fps - 1e-6) - 1
    scene.frame_start, scene.frame_end = FIRST_FRAME, last
    for suffix in ("abc", "fbx"):
        if suffix in formats:
            yield 0.92 * share, f"Writing {path[suffix].name}"
            export.export(bpy.context, [head], path[suffix], (FIRST_FRAME, last))
            result.files.append(path[suffix])
    if "blend" in formats:
        yield 0.95 * share, f"Writing {path['blend'].name}"
        _save(head, path["blend"])
        result.files.append(path["blend"])
    result.seconds = time.monotonic() - begun - result.starting
    if not with_preview:
        return
    sheet = preview.contact_sheet(head, path["png"], FIRST_FRAME, last, fps, result.clip)
    film = preview.film(head, path["mp4"], FIRST_FRAME, last, scene, result.clip)
    for steps, start, size in ((sheet, 0.0, 0.3), (film, 0.3, 0.7)):
        with contextlib.closing(steps):
            for part in steps:
                yield share + PREVIEW_SHARE * (start + size * part), "Rendering the preview"
    result.files += [path["png"], path["mp4"]]


def _new_scene(fps: float) -> bpy.types.Scene:
    """An empty file's scene at a frame rate such as 24, 25 or 29.97."""
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    scene = bpy.context.scene
    whole = math.ceil(fps - 1e-6)
    # 23.976 and its like are a whole number over 1.001, not quite what they are called.
    exact = next((n / d for n, d in ((whole, 1.0), (whole, 1.001)) if abs(n / d - fps) < 6e-3), fps)
    scene.render.fps, scene.render.fps_base = whole, whole / exact
    scene.sync_mode = "AUDIO_SYNC"
    return scene


def _save(head: bpy.types.Object, path: Path) -> None:
    """Save the file ready to be played: seen through a camera, with paths relative to it."""
    preview.light(bpy.context.scene, head)
    for screen in bpy.data.screens:
        for area in screen.areas:
            if area.type == "VIEW_3D":
                area.spaces.active.shading.type = "MATERIAL"
                area.spaces.active.region_3d.view_perspective = "CAMERA"
    bpy.context.scene.frame_set(FIRST_FRAME)
    items = [*bpy.data.sounds, *(m for m in head.modifiers if m.type == "MESH_CACHE")]
    before = [item.filepath for item in items]
    for item in items:
        with contextlib.suppress(ValueError):  # another drive has no relative path
            item.filepath = bpy.path.relpath(item.filepath, start=str(path.parent))
    with atomic_path(path) as temporary:
        temporary.unlink()  # Blender would keep it as an older version
        try:
            bpy.ops.wm.save_as_mainfile(
                filepath=str(temporary), copy=True, relative_remap=False, check_existing=False
            )
        except RuntimeError as error:
            raise SelfTalkError(f"Cannot write {path}: {error}") from error
    for item, filepath in zip(items, before, strict=True):
        item.filepath = filepath
