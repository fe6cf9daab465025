"""A scene full of dialogue: all sound strips, the face that says each, and all at once."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy

from ..core.errors import SelfTalkError
from ..core.words import counted
from . import animate, compat, glance, jobs, lines, mesh_cache, operators, panels, strips

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


# Strip, face, and how it is animated; None where its line is only to be placed.
Task = tuple[str, str, "animate.Plan | None"]


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


# --- Who says what --------------------------------------------------------------------------


def faces_of(scene: bpy.types.Scene) -> list[bpy.types.Object]:
    """Meshes of a scene that may talk: chosen, animated before, or with shape keys."""
    chosen = {scene.selftalk.face, *(item.face for item in scene.selftalk.strips)}
    return [
        target
        for target in scene.objects
        if target.type == "MESH"
        and (target in chosen or len(target.selftalk.lines) or target.data.shape_keys is not None)
    ]


def face_of(
    sequencer: bpy.types.Scene, strip: Any, scene: bpy.types.Scene
) -> bpy.types.Object | None:
    """The face that says a strip.

    The user's choice; else the face that says it already; else the one whose name the strip's or
    its sound's name contains (the longest such name); else the one that says the other strips of
    its channel; else the face that is chosen.
    """
    return cast(sequencer, scene).get(strip.name)


def cast(sequencer: bpy.types.Scene, scene: bpy.types.Scene) -> dict[str, bpy.types.Object | None]:
    """`face_of` every sound strip, by the strips' names; each strip is looked at once."""
    there, candidates = strips.sound_strips(sequencer), faces_of(scene)
    plain = [(_plain(face.name), face) for face in candidates]
    speaks = {
        line.strip: face
        for face in reversed(candidates)
        for line in face.selftalk.lines
        if line.scene == sequencer.name
    }
    names_there = {strip.name for strip in there}
    renamed = [
        face
        for face in candidates
        if any(
            line.strip and (line.scene != sequencer.name or line.strip not in names_there)
            for line in face.selftalk.lines
        )
    ]
    known: dict[str, bpy.types.Object | None] = {}
    beside: dict[tuple[str, int], Counter[bpy.types.Object]] = {}
    for strip in there:
        item = sequencer.selftalk.strips.get(strip.name)
        face = (item.face if item is not None else None) or speaks.get(strip.name)
        if face is None and renamed:
            face = _says_renamed(sequencer, strip, scene, renamed)
        if face is None:
            names = [_plain(strip.name), _plain(strip.sound.name) if strip.sound else ""]
            named = [f for called, f in plain if any(called in name for name in names)]
            face = max(named, key=lambda face: len(face.name), default=None)
        known[strip.name] = face
        if face is not None:
            beside.setdefault(_channel(strip), Counter())[face] += 1
    for strip in there:
        if known[strip.name] is None:
            others = beside.get(_channel(strip))
            known[strip.name] = others.most_common(1)[0][0] if others else scene.selftalk.face
    return known


def _says_renamed(
    sequencer: bpy.types.Scene, strip: Any, scene: bpy.types.Scene, faces: list[bpy.types.Object]
) -> bpy.types.Object | None:
    """The face that says a strip which, or whose scene, was renamed or copied since."""
    try:
        heard = strips.heard(sequencer, strip, scene)
    except SelfTalkError:
        return None
    said = [(lines.line_of(face, sequencer.name, strip.name, heard), face) for face in faces]
    found = [(line.strip != strip.name, face) for line, face in said if line is not None]
    return min(found, key=lambda one: one[0], default=(None, None))[1]


def _channel(strip: Any) -> tuple[str, int]:
    meta = strip.parent_meta()
    return meta.name if meta is not None else "", strip.channel


def _plain(name: str) -> str:
    """A name as people recognise it: "Anna.001" and "anna 001" are the same."""
    return re.sub(r"[\W_]", "", name).lower()


def assign(sequencer: bpy.types.Scene, strip: str, face: bpy.types.Object | None) -> None:
    """Choose the face that says a strip; None for the face that goes without saying."""
    _item(sequencer, strip).face = face


def _item(sequencer: bpy.types.Scene, strip: str) -> Any:
    item = sequencer.selftalk.strips.get(strip)
    if item is None:
        item = sequencer.selftalk.strips.add()
        item.name = strip
    return item


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
    if not change:
        return Status(CURRENT, "Up to date")
    if lines.has_take(face, line.id) and lines.reaches(line, now):
        return Status(MOVED, f"{change}: press Place Lines")
    return Status(OLD, f"Out of date: {change[0].lower()}{change[1:]}")


def stands(context: bpy.types.Context, strip: Any) -> tuple[str, Status]:
    """For the list: the name of the face that says a strip ("" for none), and how it stands."""
    sequencer, scene = compat.sequencer_scene(context), context.scene

    def ask() -> tuple[str, Status]:
        said = glance.once("cast", (sequencer, scene), names)
        face = bpy.data.objects.get(said.get(strip.name, ""))
        return face.name if face is not None else "", status(sequencer, strip, scene, face)

    def names() -> dict[str, str]:
        return {name: face.name for name, face in cast(sequencer, scene).items() if face}

    return glance.once("strip", (sequencer, scene, strip), ask)


def lost_lines(
    sequencer: bpy.types.Scene, scene: bpy.types.Scene, face: bpy.types.Object
) -> list[lines.Line]:
    """Lines of a face whose strip is gone, or is said by another face now."""
    there, said = strips.sound_strips(sequencer), cast(sequencer, scene)
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
) -> Generator[animate.Progress, None, Report]:
    """Animate all strips that are not up to date, each with the face that says it.

    A strip that fails is reported, and the rest goes on. Lines that only moved are placed anew
    without the animator. When it is closed, whole lines stay; the one at work leaves nothing, nor
    do lines of a mesh cache that is not written yet: it is, once, after the last of its face.

    Args:
        everything: also strips that are up to date.
    """
    sequencer, scene = compat.sequencer_scene(context).name, context.scene.name
    return _run_all(context, sequencer, scene, everything)


def _run_all(
    context: bpy.types.Context, sequencer: str, scene: str, everything: bool
) -> Generator[animate.Progress, None, Report]:
    """`animate_all`; how the strips stand is seen when its turn comes."""
    report = Report()
    todo = yield from _to_do(context, sequencer, scene, everything, report)
    yield from _work_off(todo, sequencer, scene, report)
    return report


def _work_off(
    todo: list[Task], sequencer: str, scene: str, report: Report
) -> Iterator[animate.Progress]:
    """Strip by strip, each a line as curves at once; a mesh cache after its face's last strip."""
    new: dict[str, dict[str, lines.New]] = {}  # by face and strip, for its mesh cache
    for number, (strip, face, plan) in enumerate(todo):
        caching = new.setdefault(face, {}) if _cache(face, todo) is not None else None
        if plan is None:
            work = place(sequencer, strip, scene, face, caching)
        else:
            work = _animate(strip, face, plan, caching)
        try:
            yield from _told(work, (number, len(todo)), strip)
        except SelfTalkError as error:
            report.failed[strip] = str(error)
            (caching or {}).pop(strip, None)
        if caching and all(face != later for _, later, _ in todo[number + 1 :]):
            yield from _write_cache(face, caching, todo, (number, len(todo)), report)
    for strip, _, plan in todo:
        if strip not in report.failed:
            (report.placed if plan is None else report.animated).append(strip)


def _cache(face: str, todo: list[Task]) -> Path | None:
    """The mesh cache that a face's lines go into; None where they become curves."""
    plans = [plan for _, other, plan in todo if other == face and plan is not None]
    if plans:
        return plans[0].cache
    target = bpy.data.objects[face]
    return mesh_cache.played(target) if mesh_cache.plays(target) else None


def _write_cache(
    face: str,
    caching: dict[str, lines.New],
    todo: list[Task],
    place: tuple[int, int],
    report: Report,
) -> Iterator[animate.Progress]:
    def work() -> Iterator[animate.Progress]:
        path = _cache(face, todo)
        assert path is not None
        for done in lines.write_cache(bpy.data.objects[face], list(caching.values()), path):
            yield animate.Progress(done, "Writing the mesh cache")

    try:
        yield from _told(work(), place, face)
    except SelfTalkError as error:
        report.failed |= dict.fromkeys(caching, str(error))


def _animate(
    strip: str, face: str, plan: animate.Plan, caching: dict[str, lines.New] | None
) -> Iterator[animate.Progress]:
    result = yield from animate.run(plan, caching=caching)
    operators.note_result(bpy.data.objects[face], result)


def _told(
    work: Iterator[animate.Progress], place: tuple[int, int], what: str
) -> Iterator[animate.Progress]:
    """Progress of work as that of all, of which it is part number place[0] of place[1]."""
    with contextlib.closing(work):
        for step in work:
            done = (place[0] + step.done) / place[1]
            yield animate.Progress(done, f"{what}: {step.text}", step.waiting)


def _to_do(
    context: bpy.types.Context,
    sequencer_name: str,
    scene_name: str,
    everything: bool,
    report: Report,
) -> Generator[animate.Progress, None, list[Task]]:
    """All that needs it; the rest is noted."""
    sequencer, scene = bpy.data.scenes[sequencer_name], bpy.data.scenes[scene_name]
    todo: list[Task] = []
    said = cast(sequencer, scene)
    for strip in strips.sound_strips(sequencer):
        yield animate.Progress(0.0, LOOKING)
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
                todo.append((strip.name, face.name, plan))
            except SelfTalkError as error:
                report.failed[strip.name] = str(error)
    _refuse_second_lines(todo, report)
    return todo


def _is_edited(sequencer: bpy.types.Scene, strip: Any, face: bpy.types.Object) -> bool:
    line = lines.line_of(face, sequencer.name, strip.name, None)
    return line is not None and lines.is_edited(face, line)


def _refuse_second_lines(todo: list[Task], report: Report) -> None:
    """An animator of the face's own leaves one line a face: a second would replace the first."""
    dense: dict[str, str] = {}
    for strip, face, plan in list(todo):
        if plan is None or plan.template is None:
            continue
        if face in dense:
            report.failed[strip] = (
                f"{face} is animated by a checkpoint of its own, which has one line at a time: "
                f"{dense[face]}. Mute all but one of its strips."
            )
            todo.remove((strip, face, plan))
        dense.setdefault(face, strip)


def place(
    sequencer_name: str,
    strip_name: str,
    scene_name: str,
    face_name: str,
    caching: dict[str, lines.New] | None = None,
) -> Iterator[animate.Progress]:
    """Have the line of a strip stand where the strip stands now, without the animator.

    Args:
        caching: where the line of a mesh cache goes, by its strip, for `lines.write_cache`.

    Raises:
        SelfTalkError: strip, face or line are gone, or more must be animated.
    """
    sequencer, scene = bpy.data.scenes[sequencer_name], bpy.data.scenes[scene_name]
    strip = strips.find_strip(sequencer, strip_name)
    face = scene.objects.get(face_name)
    heard = strips.heard(sequencer, strip, scene)
    line = face and lines.line_of(face, sequencer.name, strip_name, heard)
    if line is None:
        raise SelfTalkError(f"{strip_name} is not animated yet. Animate it.")
    now = lines.spoken(line.id, sequencer.name, strip_name, heard, tuple(line.taken))
    if caching is not None:
        caching[strip_name] = now, lines.take_to_move(face, line.id, now)
        return
    with contextlib.closing(lines.moving(face, line.id, now)) as work:
        for done in work:
            yield animate.Progress(done, "Placing")


def _moved(sequencer_name: str, scene_name: str) -> Generator[animate.Progress, None, list[Task]]:
    """Each line that stands elsewhere than its strip."""
    sequencer, scene = bpy.data.scenes[sequencer_name], bpy.data.scenes[scene_name]
    todo: list[Task] = []
    said = cast(sequencer, scene)
    for strip in strips.sound_strips(sequencer):
        yield animate.Progress(0.0, LOOKING)
        face = said[strip.name]
        if status(sequencer, strip, scene, face).kind == MOVED:
            todo.append((strip.name, face.name, None))
    return todo


# --- Buttons --------------------------------------------------------------------------------


def all_problem(context: bpy.types.Context) -> str:
    """Why Animate All cannot run now, or ""."""
    sequencer = compat.sequencer_scene(context)
    if not glance.once("strips", (sequencer,), lambda: len(strips.sound_strips(sequencer))):
        return "There are no sound strips. Add some in the Sequencer."
    return ""


class SELFTALK_OT_animate_all(jobs.Refusable, jobs.JobOperator, bpy.types.Operator):
    """Animate all sound strips that are not up to date, each with its face. Muted ones are left \
out. When cancelled, lines that are done stay"""

    bl_idname = "selftalk.animate_all"
    bl_label = "Animate All"
    bl_options = {"REGISTER", "UNDO"}

    everything: bpy.props.BoolProperty(
        name="All Again",
        description="Also animate strips that are up to date",
        options={"SKIP_SAVE"},
    )

    problem = staticmethod(all_problem)

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        return animate_all(context, self.everything)

    def finish(self, context: bpy.types.Context, result: Report) -> None:
        self.report({"INFO"}, result.text)
        for strip, reason in result.failed.items():
            self.report({"WARNING"}, f"{strip}: {reason}")

    def cancelled(self, context: bpy.types.Context, kind: str = "INFO") -> set[str]:
        self.report({"INFO"}, "Cancelled; the lines that were done stay")
        return {"FINISHED"}  # and so one undo step takes them back


class SELFTALK_OT_place_lines(jobs.Refusable, jobs.JobOperator, bpy.types.Operator):
    """Have lines follow their sound strips that were moved or trimmed; nothing is animated again"""

    bl_idname = "selftalk.place_lines"
    bl_label = "Place Lines"
    bl_options = {"REGISTER", "UNDO"}

    problem = staticmethod(all_problem)

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        return self._place(compat.sequencer_scene(context).name, context.scene.name)

    def _place(self, sequencer: str, scene: str) -> jobs.Steps:
        report = Report()
        todo = yield from _moved(sequencer, scene)
        yield from _work_off(todo, sequencer, scene, report)
        return report

    def finish(self, context: bpy.types.Context, result: Report) -> set[str]:
        for strip, reason in result.failed.items():
            self.report({"WARNING"}, f"{strip}: {reason}")
        count = len(result.placed)
        text = f"{counted(count, 'line')} placed" if count else "All lines are in their places"
        self.report({"INFO"}, text)
        return {"FINISHED"} if count else {"CANCELLED"}

    def cancelled(self, context: bpy.types.Context, kind: str = "INFO") -> set[str]:
        self.report({kind}, "Cancelled; the lines that were placed stay")
        return {"FINISHED"}  # and so one undo step takes them back


class SELFTALK_OT_remove_line(jobs.JobOperator, bpy.types.Operator):
    """Remove a line from the face: its curves and what the animator made for it"""

    bl_idname = "selftalk.remove_line"
    bl_label = "Remove Line"
    bl_options = {"REGISTER", "UNDO"}

    face: bpy.props.StringProperty(name="Face", description="Name of the face")
    line: bpy.props.StringProperty(name="Line", description="Id of its line")

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        face = bpy.data.objects.get(self.face)
        if face is None or lines.find(face, self.line) is None:
            raise SelfTalkError("There is no such line.")
        return self._remove(face, self.line)

    def _remove(self, face: bpy.types.Object, line_id: str) -> jobs.Steps:
        with contextlib.closing(lines.removing(face, line_id)) as work:
            for done in work:
                yield animate.Progress(done, "Writing")

    def finish(self, context: bpy.types.Context, result: None) -> None:
        pass


class SELFTALK_OT_assign_strip(bpy.types.Operator):
    """Choose the face that says this sound strip"""

    bl_idname = "selftalk.assign_strip"
    bl_label = "Choose Face of Strip"
    bl_options = {"REGISTER", "UNDO"}

    strip: bpy.props.StringProperty(name="Strip", description="Name of the sound strip")
    face: bpy.props.StringProperty(
        name="Face", description="Name of the face; where empty, by name, channel or choice"
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.prop_search(self, "face", context.scene, "objects")

    def execute(self, context: bpy.types.Context) -> set[str]:
        face = context.scene.objects.get(self.face) if self.face else None
        if self.face and (face is None or face.type != "MESH"):
            self.report({"ERROR"}, f"{self.face} is no mesh of this scene. Choose a face.")
            return {"CANCELLED"}
        assign(compat.sequencer_scene(context), self.strip, face)
        return {"FINISHED"}


class SELFTALK_OT_fit_scene(bpy.types.Operator):
    """Have the scene begin and end with the face's lines, and play in step with the sound"""

    bl_idname = "selftalk.fit_scene"
    bl_label = "Fit Scene to Lines"
    bl_options = {"REGISTER", "UNDO"}

    frame_range: bpy.props.BoolProperty(
        name="Frame Range", description="Set the scene's first and last frame", default=True
    )
    sync: bpy.props.BoolProperty(
        name="Sync to Audio",
        description="Drop frames in playback rather than come behind the sound",
        default=True,
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        face = context.scene.selftalk.face
        if face is None or not len(face.selftalk.lines):
            cls.poll_message_set("The chosen face has no lines yet. Press Animate from Audio.")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        scene = context.scene
        if self.frame_range:
            known = scene.selftalk.face.selftalk.lines
            scene.frame_start = min(line.first_frame for line in known)
            scene.frame_end = max(line.key_range[1] for line in known)
        if self.sync:
            scene.sync_mode = "AUDIO_SYNC"
        return {"FINISHED"}


class SELFTALK_UL_strips(bpy.types.UIList):
    """All sound strips, also inside meta strips, in the order of time."""

    def draw_item(
        self,
        context: bpy.types.Context,
        layout: bpy.types.UILayout,
        data: Any,
        item: Any,
        icon: int,
        active_data: Any,
        active_property: str,
    ) -> None:
        face, now = stands(context, item)
        row = layout.split(factor=0.55)
        row.label(text=item.name, icon=ICONS[now.kind])
        button = row.operator("selftalk.assign_strip", text=face or "No Face", emboss=False)
        button.strip, button.face = item.name, face

    def filter_items(
        self, context: bpy.types.Context, data: Any, propname: str
    ) -> tuple[list[int], list[int]]:
        items = getattr(data, propname)
        shown = [
            self.bitflag_filter_item
            if item.type == "SOUND" and self.filter_name.lower() in item.name.lower()
            else 0
            for item in items
        ]
        order = sorted(range(len(items)), key=lambda i: compat.strip_place(items[i])[2])
        places = [0] * len(items)
        for place_in_list, index in enumerate(order):
            places[index] = place_in_list
        return shown, places


class SELFTALK_PT_dialogue(panels.SidebarPanel, bpy.types.Panel):
    bl_label = "All Strips"
    bl_parent_id = "SELFTALK_PT_audio"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        layout, scene = self.layout, context.scene
        sequencer = compat.sequencer_scene(context)
        if not all_problem(context):
            owner, name = compat.all_strips(sequencer.sequence_editor)
            layout.template_list(
                "SELFTALK_UL_strips", "", owner, name, scene.selftalk, "listed_strip", rows=4
            )
            self.draw_listed(context, sequencer)
        row = layout.row(align=True)
        row.operator("selftalk.animate_all", icon="PLAY")
        row.operator("selftalk.animate_all", text="All Again").everything = True
        layout.operator("selftalk.place_lines", icon="FILE_REFRESH")
        face = scene.selftalk.face
        if face is None:
            return
        layout.prop(face.selftalk, "use_nla")
        layout.operator("selftalk.fit_scene", icon="TIME")
        lost = glance.once(
            "lost",
            (sequencer, scene, face),
            lambda: [(line.name, line.id) for line in lost_lines(sequencer, scene, face)],
        )
        for name, line_id in lost:
            row = layout.row(align=True)
            row.label(text=f"{name}: its strip is gone", icon="ERROR")
            button = row.operator("selftalk.remove_line", text="", icon="X")
            button.face, button.line = face.name, line_id

    def draw_listed(self, context: bpy.types.Context, sequencer: bpy.types.Scene) -> None:
        """What is to be said of the strip that is chosen in the list."""
        owner, name = compat.all_strips(sequencer.sequence_editor)
        items, index = getattr(owner, name), context.scene.selftalk.listed_strip
        if index >= len(items) or items[index].type != "SOUND":
            return
        _, now = stands(context, items[index])
        panels.paragraph(self.layout, context, now.text, ICONS[now.kind])


CLASSES = (
    SELFTALK_OT_animate_all,
    SELFTALK_OT_place_lines,
    SELFTALK_OT_remove_line,
    SELFTALK_OT_assign_strip,
    SELFTALK_OT_fit_scene,
    SELFTALK_UL_strips,
    SELFTALK_PT_dialogue,
)
