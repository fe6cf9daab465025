"""`selftalk bake`: from its arguments what is to be done, and the doing of it."""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib.util
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import SelfTalkError
from . import manifest, table
from .clips import Clip, check_places, find_clips, identity
from .cluster import Cluster
from .report import JsonLines, Quiet, Spoken
from .supervisor import Supervisor
from .task import FBX_PRESETS, NO_CACHE, USUAL, Settings, Task

OTHERS_FACE = (".pth", ".pt")  # published checkpoints


def run(options: argparse.Namespace, blender: str = "") -> int:
    """Bake what the options ask for.

    Returns:
        How many clips failed, and folders could not be read.

    Args:
        blender: the program of the Blender that bakes; "" for the bpy module of this Python.

    Raises:
        SelfTalkError: what cannot be done, told before anything starts.
    """
    unread: list[str] | None = None if options.fail_fast else []
    tasks = tasks_of(options, unread)
    check(tasks, options.table)
    crew = Cluster(options.ray, options.jobs) if options.ray is not None else None
    if crew is None and not blender and importlib.util.find_spec("bpy") is None:
        raise ModuleNotFoundError("No module named 'bpy'", name="bpy")
    out = options.output.absolute()
    kind = JsonLines if options.json else Quiet if options.quiet else Spoken
    report = kind(len(tasks), out)
    for sentence in unread or ():
        report.notice(sentence)
    supervisor = Supervisor(
        out,
        min(options.jobs, len(tasks)),
        report,
        resume=options.resume,
        fail_fast=options.fail_fast,
        blender=blender,
        crew=crew,
    )
    why = None
    with _orderly():
        try:
            return supervisor.run(tasks) + len(unread or ())
        except SelfTalkError as error:
            why = str(error)
            raise
        except KeyboardInterrupt:
            why = "Interrupted."
            raise
        finally:
            report.end(why)


@contextlib.contextmanager
def _orderly() -> Iterator[None]:
    """Have whoever ends us be as orderly as Ctrl-C, and twice as orderly as once.

    A farm that takes the machine back sends SIGTERM, a terminal that closes SIGHUP, which `nohup`
    has us ignore.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
    # Of a handler that is not Python's, such as Blender's own, nothing is known.
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}
    ours = [number for number, handler in before.items() if handler != signal.SIG_IGN]

    def end(*_: object) -> None:
        for number in ours:  # to clean up takes seconds, and must not be interrupted
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        for number in ours:
            signal.signal(number, end)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def tasks_of(options: argparse.Namespace, unread: list[str] | None = None) -> list[Task]:
    """What the options of `selftalk bake` ask for.

    Args:
        unread: see `find_clips`.

    Raises:
        SelfTalkError: nothing, or what cannot be.
    """
    out = options.output.absolute()
    rows = table.read_table(options.table) if options.table else []
    by_clip = {identity(row.clip): row for row in rows}
    general = Settings(
        formats=options.format or USUAL,
        method=options.method,
        fbx_preset=options.fbx_preset or FBX_PRESETS[0],
        fps=options.fps,
        preview=options.preview,
        animator=_absolute(options.animator),
        device=options.device,
        template=_absolute(options.template),
        subject=options.subject or "",
    )
    mesh, target = _absolute(options.mesh), options.object or ""
    tasks = []
    for clip in _clips(options, rows, out, unread):
        path, place = os.path.abspath(clip.path), clip.place.as_posix()
        task, given = Task(path, str(out), place, general, mesh, target), bool(options.format)
        row = by_clip.get(identity(clip.path))
        if row is not None:
            task, given = _as_told(task, row), given or "formats" in row.changes
        task = _checked(task, given)
        if "fbx" not in task.settings.formats:
            if row is not None and "fbx_preset" in row.changes:
                raise SelfTalkError(
                    f"{options.table}, line {row.number}: fbx_preset is for FBX, which is not "
                    "written. Add fbx to the formats, or leave the cell empty."
                )
            task = replace(task, settings=replace(task.settings, fbx_preset=FBX_PRESETS[0]))
        tasks.append(task)
    if options.fbx_preset and not any("fbx" in task.settings.formats for task in tasks):
        raise SelfTalkError(
            "--fbx-preset is for FBX, which is not written. Add fbx to --format, or leave it out."
        )
    return tasks


def _clips(
    options: argparse.Namespace, rows: Sequence[table.Row], out: Path, unread: list[str] | None
) -> list[Clip]:
    """The clips that are named, or else those of the table.

    Raises:
        SelfTalkError: there is none, or one cannot be.
    """
    if options.clips:
        for row in rows:  # which would say how nothing is said: a slip of the pen
            if not row.clip.is_file():
                raise SelfTalkError(
                    f"{options.table}, line {row.number}: there is no file {row.clip}. "
                    "Correct the line or remove it."
                )
        return find_clips(options.clips, out.resolve(), manifest.made(out.resolve()), unread)
    if not rows:
        raise SelfTalkError("No clip is named. Name sound files, folders of them, or a --table.")
    clips = [Clip(row.clip, _place(row.clip, options.table)) for row in rows]
    check_places(clips)
    return clips


def _as_told(task: Task, row: table.Row) -> Task:
    """A task as a line of the table has it."""
    other = row.mesh not in (None, task.mesh)
    return replace(
        task,
        settings=row.settings(task.settings),
        mesh=task.mesh if row.mesh is None else row.mesh,
        # The name of a face is meant in its own file.
        object=row.object if row.object is not None else "" if other else task.object,
    )


def _place(clip: Path, path: Path) -> Path:
    """Where the results of a table's clip go: folders below the table's own are kept."""
    folder = path.absolute().parent
    inside = folder in clip.parents
    return (clip.relative_to(folder) if inside else Path(clip.name)).with_suffix("")


def _absolute(path: Any) -> str:
    return os.path.abspath(path) if path else ""


def _checked(task: Task, given: bool) -> Task:
    """A task that can be done as far as its options say.

    Args:
        given: whether its formats were asked for, not just the usual ones.

    Raises:
        SelfTalkError: why it cannot.
    """
    settings = task.settings
    none = [name for name in settings.formats if name in NO_CACHE]
    if settings.method == "mesh-cache" and none:
        if given:
            raise SelfTalkError(
                f"{none[0].upper()} cannot hold a mesh cache: leave {none[0]} out of --format, or "
                "choose --method shape-keys."
            )
        kept = tuple(name for name in settings.formats if name not in none)
        task = replace(task, settings=replace(settings, formats=kept))
    if not task.mesh and (task.object or settings.template):
        what = f"object {task.object}" if task.object else "template"
        raise SelfTalkError(f"Whose is the {what}? Name the character's .blend by --mesh.")
    if not task.mesh and settings.animator.lower().endswith(OTHERS_FACE):
        raise SelfTalkError(
            f"{settings.animator} moves another face than SelfTalk's own head. Name a character "
            "with its vertices by --mesh and its neutral face by --template; or write its motion "
            "by `selftalk animate`."
        )
    return task


def check(tasks: Sequence[Task], lines: Path | None) -> None:
    """Whether all that tasks read is there, and none of it is where their results go.

    Args:
        lines: the table, if there is one.

    Raises:
        SelfTalkError: a character, animator or template is missing; a result would replace
            something that is read.
    """
    read = {os.path.realpath(lines)} if lines else set()
    for name in {
        path
        for task in tasks
        for path in (task.mesh, task.settings.animator, task.settings.template)
    } - {""}:
        if not os.path.isfile(name):
            raise SelfTalkError(f"There is no file {name}. Name another, or leave it out.")
        read.add(os.path.realpath(name))
    read |= {os.path.realpath(task.clip) for task in tasks}
    resolved = functools.cache(os.path.realpath)  # few folders have many files
    for task in tasks:
        suffixes = [*task.settings.formats, *(("png", "mp4") if task.settings.preview else ())]
        for suffix in suffixes:
            path = task.path(suffix)
            if os.path.join(resolved(path.parent), path.name) in read:
                raise SelfTalkError(
                    f"A result would replace {path}, which is read. Choose another folder."
                )
