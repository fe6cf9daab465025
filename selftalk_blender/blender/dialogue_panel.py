"""What the user sees of a scene full of dialogue: the panel All Strips, its list and buttons."""

from __future__ import annotations

import contextlib
from typing import Any

import bpy

from ..core.errors import SelfTalkError
from ..core.progress import Progress
from ..core.words import counted
from . import casting, compat, dialogue, glance, jobs, lines, panels, strips
from .paragraph import OURS, paragraph


def stands(context: bpy.types.Context, strip: Any) -> tuple[str, dialogue.Status]:
    """For the list: the name of the face that says a strip ("" for none), and how it stands."""
    sequencer, scene = compat.sequencer_scene(context), context.scene

    def ask() -> tuple[str, dialogue.Status]:
        said = glance.once("cast", (sequencer, scene), names)
        face = bpy.data.objects.get(said.get(strip.name, ""))
        return face.name if face is not None else "", dialogue.status(sequencer, strip, scene, face)

    def names() -> dict[str, str]:
        return {name: face.name for name, face in casting.cast(sequencer, scene).items() if face}

    return glance.once("strip", (sequencer, scene, strip), ask)


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
    bl_options = {"UNDO"}

    everything: bpy.props.BoolProperty(
        name="All Again",
        description="Also animate strips that are up to date",
        options={"SKIP_SAVE"},
    )

    problem = staticmethod(all_problem)
    stays = "the lines that were done stay"

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        return dialogue.animate_all(context, self.everything)

    def finish(self, context: bpy.types.Context, result: dialogue.Report) -> None:
        self.report({"INFO"}, result.text)
        for strip, reason in result.failed.items():
            self.report({"WARNING"}, f"{strip}: {reason}")


class SELFTALK_OT_place_lines(jobs.Refusable, jobs.JobOperator, bpy.types.Operator):
    """Move lines to where their sound strips are now, without animating them again"""

    bl_idname = "selftalk.place_lines"
    bl_label = "Place Lines"
    bl_options = {"UNDO"}

    problem = staticmethod(all_problem)
    stays = "the lines that were placed stay"

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        return dialogue.place_all(context)

    def finish(self, context: bpy.types.Context, result: dialogue.Report) -> set[str]:
        for strip, reason in result.failed.items():
            self.report({"WARNING"}, f"{strip}: {reason}")
        count = len(result.placed)
        text = f"{counted(count, 'line')} placed" if count else "All lines are in their places"
        self.report({"INFO"}, text)
        return {"FINISHED"} if count else {"CANCELLED"}


class SELFTALK_OT_remove_line(jobs.JobOperator, bpy.types.Operator):
    """Remove a line from the face: its curves and what the animator made for it"""

    bl_idname = "selftalk.remove_line"
    bl_label = "Remove Line"
    bl_options = {"UNDO"}

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
                yield Progress(done, "Writing")

    def finish(self, context: bpy.types.Context, result: None) -> None:
        pass


class SELFTALK_OT_assign_strip(bpy.types.Operator):
    """Choose the face that says this sound strip"""

    bl_idname = "selftalk.assign_strip"
    bl_label = "Choose Face of Strip"
    bl_options = {"REGISTER", "UNDO"}

    strip: bpy.props.StringProperty(name="Strip", description="Name of the sound strip")
    face: bpy.props.StringProperty(
        name="Face",
        description="Name of the face; where empty, by name, channel or choice",
        translation_context=OURS,
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
        casting.assign(compat.sequencer_scene(context), self.strip, face)
        return {"FINISHED"}


class SELFTALK_OT_fit_scene(bpy.types.Operator):
    """Set the scene's frame range to the face's lines, and keep playback in sync with the sound"""

    bl_idname = "selftalk.fit_scene"
    bl_label = "Fit Scene to Lines"
    bl_options = {"REGISTER", "UNDO"}

    frame_range: bpy.props.BoolProperty(
        name="Frame Range", description="Set the scene's first and last frame", default=True
    )
    sync: bpy.props.BoolProperty(
        name="Sync to Audio",
        description="Drop frames in playback rather than fall behind the sound",
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
        row.label(text=item.name, icon=dialogue.ICONS[now.kind], translate=False)
        said = face or "No Face"
        button = row.operator("selftalk.assign_strip", text=said, emboss=False, translate=False)
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
            lambda: [(line.name, line.id) for line in dialogue.lost_lines(sequencer, scene, face)],
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
        paragraph(self.layout, context, now.text, dialogue.ICONS[now.kind])


CLASSES = (
    SELFTALK_OT_animate_all,
    SELFTALK_OT_place_lines,
    SELFTALK_OT_remove_line,
    SELFTALK_OT_assign_strip,
    SELFTALK_OT_fit_scene,
    SELFTALK_UL_strips,
    SELFTALK_PT_dialogue,
)
