"""A scene full of dialogue: how each sound strip stands, and all of them animated or placed."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy

from ..core.errors import SelfTalkError
from ..core.progress import Progress
from . import animate, casting, compat, lines, mesh_cache, operators, strips
from . import face as faces

NEW, CURRENT, MOVED, OLD, MUTED, UNFIT = "NEW", "CURRENT", "MOVED", "OLD", "MUTED", "UNFIT"
ICONS = {
    NEW: "RADIOBUT_OFF",
    CURRENT: "CHECKMARK",
    MOVED: "ARROW_LEFTRIGHT",
    OLD: "FILE_REFRESH",
    MUTED: "MUTE_IPO_OFF",
    UNFIT: "ERROR",
}
LOOKING = "Looking at the strips"
NO_FACE = "No face says it. Choose one in the list, or choose a face above."


# Strip, session uid of the face, and how it is animated; None where its line is only to be placed.
Task = tuple[str, int, "animate.Plan | None"]


@dataclass(frozen=True)
class Status:
    """How a strip stands: one of the kinds above, and a sentence."""

    kind: str
    text: str


@dataclass
class Report:
    """What Animate All has done: strips by name, with reasons."""

    animated: list[str] = field(default_factory=list)
    placed: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    muted: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        parts = (
            (self.animated, "animated"),
            (self.placed, "placed again"),
            (self.current, "up to date"),
            (self.muted, "muted"),
            (self.failed, "failed"),
        )
        return ", ".join(f"{len(some)} {what}" for some, what in parts if some) or "No lines"


# --- How they stand -------------------------------------------------------------------------


def status(
    sequencer: bpy.types.Scene,
    strip: Any,
    scene: bpy.types.Scene,
    face: bpy.types.Object | None,
) -> Status:
    """Whether a strip is animated as it is now."""
    silent = strips.muted(sequencer, strip)
    if silent:
        return Status(MUTED, f"{silent}: left out")
    if face is None:
        return Status(UNFIT, NO_FACE)
    try:
        heard = strips.heard(sequencer, strip, scene)
    except SelfTalkError as error:
        return Status(UNFIT, str(error))
    line = lines.line_of(face, sequencer.name, strip.name, heard)
    if line is None:
        return Status(NEW, "Not animated yet")
    now = lines.spoken(line.id, sequencer.name, strip.name, heard, tuple(line.taken))
    change = lines.change(line, now)
    if lines.is_unplayed(face, line):
        return Status(OLD, "Its keys were taken off the face: press Animate All")
    if not change:
        return Status(CURRENT, "Up to date")
    if lines.has_take(face, line.id) and lines.reaches(line, now):
        return Status(MOVED, f"{change}: press Place Lines")
    return Status(OLD, f"Out of date: {change[0].lower()}{change[1:]}")


def lost_lines(
    sequencer: bpy.types.Scene, scene: bpy.types.Scene, face: bpy.types.Object
) -> list[lines.Line]:
    """Lines of a face whose strip is gone, or is said by another face now."""
    there, said = strips.sound_strips(sequencer), casting.cast(sequencer, scene)
    known = {line.strip: line.id for line in face.selftalk.lines if line.scene == sequencer.name}
    kept, unheard = set(), set()
    for strip in there:
        if said[strip.name] == face and strip.name in known:
            kept.add(known[strip.name])
            continue
        try:
            heard = strips.heard(sequencer, strip, scene)
        except SelfTalkError:  # its sound is missing, or at volume 0 now
            unheard.add(strip.name)
            continue
        if said[strip.name] == face:
            line = lines.line_of(face, sequencer.name, strip.name, heard)
            if line is not None:
                kept.add(line.id)
    return [
        line
        for line in face.selftalk.lines
        if line.strip
        and line.id not in kept
        and line.strip not in unheard
        and (line.scene == sequencer.name or lines.is_lost(line))
    ]


# --- All of them ----------------------------------------------------------------------------


def animate_all(
    context: bpy.types.Context, everything: bool = False
) -> Generator[Progress, None, Report]:
    """Animate all strips that are not up to date, each with the face that says it.

    A strip that fails is reported, and the rest goes on. Lines that only moved are placed again
    without the animator. When it is closed, whole lines stay; the one at work leaves nothing, nor
    do lines of a mesh cache that is not written yet: it is, once, after the last of its face.

    Args:
        everything: also strips that are up to date.
    """
    return _run_all(context, *_scenes(context), everything)


def _scenes(context: bpy.types.Context) -> tuple[int, int]:
    """The scene whose strips are said, and that of the faces: session uids."""
    return compat.sequencer_scene(context).session_uid, context.scene.session_uid


def _scene(uid: int) -> bpy.types.Scene:
    scene = faces.again(bpy.data.scenes, uid)
    if scene is None:
        raise SelfTalkError("The scene was removed meanwhile.")
    return scene


def _face(uid: int) -> bpy.types.Object:
    face = faces.again(bpy.data.objects, uid)
    if face is None:
        raise SelfTalkError("The face was removed meanwhile.")
    return face


def _run_all(
    context: bpy.types.Context, sequencer: int, scene: int, everything: bool
) -> Generator[Progress, None, Report]:
    """`animate_all`; how the strips stand is seen when its turn comes."""
    report = Report()
    todo = yield from _to_do(context, sequencer, scene, everything, report)
    yield from _work_off(todo, sequencer, scene, report)
    return report


def _work_off(todo: list[Task], sequencer: int, scene: int, report: Report) -> Iterator[Progress]:
    """Strip by strip, each a line as curves at once; a mesh cache after its face's last strip."""
    caches = {face: _cache(face, todo) for _, face, _ in todo}
    new: dict[int, dict[str, lines.New]] = {}  # by face and strip, for its mesh cache
    for number, (strip, face, plan) in enumerate(todo):
        cache = caches[face]
        caching = new.setdefault(face, {}) if cache is not None else None
        if plan is None:
            work = place(sequencer, strip, scene, face, caching)
        else:
            work = _animate(face, plan, caching)
        try:
            yield from _told(work, (number, len(todo)), strip)
        except SelfTalkError as error:
            report.failed[strip] = str(error)
            (caching or {}).pop(strip, None)
        last = all(face != later for _, later, _ in todo[number + 1 :])
        if cache is not None and caching and last:
            yield from _write_cache(face, cache, caching, (number, len(todo)), report)
    for strip, _, plan in todo:
        if strip not in report.failed:
            (report.placed if plan is None else report.animated).append(strip)


def _cache(face: int, todo: list[Task]) -> Path | None:
    """The mesh cache that a face's lines go into; None where they become curves."""
    plans = [plan for _, other, plan in todo if other == face and plan is not None]
    if plans:
        return plans[0].cache
    target = faces.again(bpy.data.objects, face)
    if target is None or not mesh_cache.plays(target):
        return None
    return mesh_cache.played(target)


def _write_cache(
    face: int,
    path: Path,
    caching: dict[str, lines.New],
    place: tuple[int, int],
    report: Report,
) -> Iterator[Progress]:
    def work() -> Iterator[Progress]:
        yield from faces.out_of_edit_mode([face], 0.0)
        for done in lines.write_cache(_face(face), list(caching.values()), path):
            yield Progress(done, "Writing the mesh cache")

    try:
        yield from _told(work(), place, _face(face).name)
    except SelfTalkError as error:
        report.failed |= dict.fromkeys(caching, str(error))


def _animate(
    face: int, plan: animate.Plan, caching: dict[str, lines.New] | None
) -> Iterator[Progress]:
    result = yield from animate.run(plan, caching=caching)
    operators.note_result(_face(face), result)


def _told(work: Iterator[Progress], place: tuple[int, int], what: str) -> Iterator[Progress]:
    """Progress of work as that of all, of which it is part number place[0] of place[1]."""
    with contextlib.closing(work):
        for step in work:
            done = (place[0] + step.done) / place[1]
            yield Progress(done, f"{what}: {step.text}", step.waiting)


def _to_do(
    context: bpy.types.Context,
    sequencer_uid: int,
    scene_uid: int,
    everything: bool,
    report: Report,
) -> Generator[Progress, None, list[Task]]:
    """All that needs it; the rest is noted."""
    sequencer, scene = _scene(sequencer_uid), _scene(scene_uid)
    todo: list[Task] = []
    said = casting.cast(sequencer, scene)
    for strip in strips.sound_strips(sequencer):
        yield Progress(0.0, LOOKING)
        face = said[strip.name]
        now = status(sequencer, strip, scene, face)
        if now.kind == MUTED:
            report.muted.append(strip.name)
        elif now.kind == UNFIT:
            report.failed[strip.name] = now.text
        elif now.kind == CURRENT and not everything:
            report.current.append(strip.name)
        elif now.kind == OLD and not everything and _is_edited(sequencer, strip, face):
            report.failed[strip.name] = f"{now.text}. {lines.EDITED}"
        else:
            try:
                plan = None
                if now.kind != MOVED or everything:
                    plan = operators.plan_of(context, face, strip=strip.name, sequencer=sequencer)
                todo.append((strip.name, face.session_uid, plan))
            except SelfTalkError as error:
                report.failed[strip.name] = str(error)
    _refuse_second_lines(todo, report)
    return todo


def _is_edited(sequencer: bpy.types.Scene, strip: Any, face: bpy.types.Object) -> bool:
    line = lines.line_of(face, sequencer.name, strip.name, None)
    return line is not None and lines.is_edited(face, line)


def _refuse_second_lines(todo: list[Task], report: Report) -> None:
    """An animator of the face's own leaves one line a face: a second would replace the first."""
    dense: dict[int, str] = {}
    for strip, face, plan in list(todo):
        if plan is None or plan.template is None:
            continue
        if face in dense:
            report.failed[strip] = (
                f"{_face(face).name} is animated by a checkpoint of its own, which has one line "
                f"at a time: {dense[face]}. Mute all but one of its strips."
            )
            todo.remove((strip, face, plan))
        dense.setdefault(face, strip)


def place(
    sequencer_uid: int,
    strip_name: str,
    scene_uid: int,
    face_uid: int,
    caching: dict[str, lines.New] | None = None,
) -> Iterator[Progress]:
    """Have the line of a strip stand where the strip stands now, without the animator.

    Args:
        caching: where the line of a mesh cache goes, by its strip, for `lines.write_cache`.

    Raises:
        SelfTalkError: strip, face or line are gone, or more must be animated.
    """
    sequencer, scene = _scene(sequencer_uid), _scene(scene_uid)
    strip = strips.find_strip(sequencer, strip_name)
    face, heard = _face(face_uid), strips.heard(sequencer, strip, scene)
    line = lines.line_of(face, sequencer.name, strip_name, heard)
    if line is None:
        raise SelfTalkError(f"{strip_name} is not animated yet. Animate it.")
    now = lines.spoken(line.id, sequencer.name, strip_name, heard, tuple(line.taken))
    if caching is not None:
        caching[strip_name] = now, lines.take_to_move(face, line.id, now)
        return
    with contextlib.closing(lines.moving(face, line.id, now)) as work:
        for done in work:
            yield Progress(done, "Placing")


def place_all(context: bpy.types.Context) -> Generator[Progress, None, Report]:
    """Have all lines stand where their strips stand now, without the animator."""
    return _place_all(*_scenes(context))


def _place_all(sequencer: int, scene: int) -> Generator[Progress, None, Report]:
    report = Report()
    todo = yield from _moved(sequencer, scene)
    yield from _work_off(todo, sequencer, scene, report)
    return report


def _moved(sequencer_uid: int, scene_uid: int) -> Generator[Progress, None, list[Task]]:
    """Each line that stands elsewhere than its strip."""
    sequencer, scene = _scene(sequencer_uid), _scene(scene_uid)
    todo: list[Task] = []
    said = casting.cast(sequencer, scene)
    for strip in strips.sound_strips(sequencer):
        yield Progress(0.0, LOOKING)
        face = said[strip.name]
        if status(sequencer, strip, scene, face).kind == MOVED:
            todo.append((strip.name, face.session_uid, None))
    return todo
