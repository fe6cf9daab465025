"""What the user sees of a face's mapping: the sub-panel Mapping, and its buttons."""

from __future__ import annotations

import bpy

from ..core.errors import SelfTalkError
from ..core.names import tells
from . import face as faces
from . import glance, jobs, parts, targets
from .panels import SidebarPanel
from .paragraph import paragraph


def problem_of(context: bpy.types.Context) -> str:
    """Why the chosen face cannot be analysed, or ""."""
    target = context.scene.selftalk.face

    def ask() -> str:
        try:
            faces.usable(target)
        except SelfTalkError as error:
            return str(error)
        return ""

    return glance.once("usable", (context.scene, target), ask)


def _part_words(target: bpy.types.Object) -> list[tuple[str, str]]:
    """Names of the meshes that may follow a face, each with why it cannot, or ""."""
    return [(part.name, parts.part_problem(part)) for part in parts.parts_of(target)]


def _mapping_words(target: bpy.types.Object) -> tuple[list[str], str]:
    """Sentences on lines of a face's mapping that move nothing, and one on its sliders, or ""."""
    try:
        entries, notices = targets.usable_entries(target)
        narrow = targets.narrow_keys(target, entries)
    except SelfTalkError:
        return [], ""  # the panel Face says it
    if not narrow:
        return notices, ""
    more = f" and {len(narrow) - 1} more" if len(narrow) > 1 else ""
    return notices, (
        f"The slider of {narrow[0][0].name}{more} ends before the motion does, which keeps "
        "within it."
    )


class FaceOperator(jobs.Refusable):
    """An operator on the chosen face, which it must be possible to write."""

    bl_options = {"REGISTER", "UNDO"}

    problem = staticmethod(problem_of)


class SELFTALK_OT_analyse_face(FaceOperator, bpy.types.Operator):
    """Look at the face's shapes again and fill the list of what moves what. Edits are lost"""

    bl_idname = "selftalk.analyse_face"
    bl_label = "Analyse Face"

    def execute(self, context: bpy.types.Context) -> set[str]:
        target = context.scene.selftalk.face
        try:
            analysis = targets.analyse(target)
            targets.keep_mapping(target, targets.detect(target))
            notices = targets.drive_of(target, measure=False).notices
        except SelfTalkError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"{target.name}: {analysis.line}")
        for notice in (*analysis.reasons, *notices):
            self.report({"WARNING"}, notice)
        return {"FINISHED"}


class SELFTALK_OT_mapping_add(FaceOperator, bpy.types.Operator):
    """Add a line to the list of what moves what"""

    bl_idname = "selftalk.mapping_add"
    bl_label = "Add Shape Line"

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.selftalk.face.selftalk
        item = settings.mapping.add()
        item.source = "jawOpen"
        settings.mapping_index = len(settings.mapping) - 1
        return {"FINISHED"}


class SELFTALK_OT_mapping_remove(FaceOperator, bpy.types.Operator):
    """Remove the chosen line. Without any line the face is analysed each time"""

    bl_idname = "selftalk.mapping_remove"
    bl_label = "Remove Shape Line"

    def execute(self, context: bpy.types.Context) -> set[str]:
        settings = context.scene.selftalk.face.selftalk
        if not 0 <= settings.mapping_index < len(settings.mapping):
            self.report({"ERROR"}, "No line is chosen. Choose one in the list.")
            return {"CANCELLED"}
        settings.mapping.remove(settings.mapping_index)
        settings.mapping_index = max(min(settings.mapping_index, len(settings.mapping) - 1), 0)
        return {"FINISHED"}


class SELFTALK_OT_widen_sliders(FaceOperator, bpy.types.Operator):
    """Let the sliders of the face's shape keys go as far as the motion does"""

    bl_idname = "selftalk.widen_sliders"
    bl_label = "Widen Sliders"

    def execute(self, context: bpy.types.Context) -> set[str]:
        try:
            target = context.scene.selftalk.face
            narrow = targets.narrow_keys(target, targets.usable_entries(target)[0])
        except SelfTalkError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        for key, low, high in narrow:
            key.slider_min, key.slider_max = min(key.slider_min, low), max(key.slider_max, high)
        self.report({"INFO"}, f"Sliders widened: {len(narrow)}")
        return {"FINISHED"}


class SELFTALK_UL_mapping(bpy.types.UIList):
    def draw_item(
        self, context, layout, data, item, icon, active_data, active_property, index=0, flag=0
    ) -> None:
        row = layout.row(align=True)
        row.prop(item, "enabled", text="")
        split = row.split(factor=0.67)
        names = split.row(align=True)
        said = tells(item.path, item.source)  # a narrow sidebar has no room to say it twice
        if not said:
            names.label(text=item.source, translate=False)
        names.label(text=item.path, icon="NONE" if said else "FORWARD", translate=False)
        split.prop(item, "gain", text="", emboss=False)


class SELFTALK_PT_shapes(SidebarPanel, bpy.types.Panel):
    bl_label = "Mapping"
    bl_parent_id = "SELFTALK_PT_face"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.scene.selftalk.face is not None and not problem_of(context)

    def draw(self, context: bpy.types.Context) -> None:
        layout, target = self.layout, context.scene.selftalk.face
        settings = target.selftalk
        layout.operator("selftalk.analyse_face", text="Analyse", icon="VIEWZOOM")
        if settings.mapping:
            self.draw_mapping(layout, settings)
        for name, problem in glance.once("parts", (target,), lambda: _part_words(target)):
            part = bpy.data.objects.get(name)
            if part is None:
                continue
            layout.row().prop(part.selftalk, "follows", text=name, translate=False)
            if problem and part.selftalk.follows:
                self.say(layout, context, problem)
        notices, narrow = glance.once("mapping", (target,), lambda: _mapping_words(target))
        for notice in notices:
            self.say(layout, context, notice)
        if narrow:
            self.say(layout, context, narrow)
            layout.operator("selftalk.widen_sliders")

    def draw_mapping(self, layout: bpy.types.UILayout, settings) -> None:
        row = layout.row()
        row.template_list(
            "SELFTALK_UL_mapping", "", settings, "mapping", settings, "mapping_index", rows=4
        )
        buttons = row.column(align=True)
        buttons.operator("selftalk.mapping_add", icon="ADD", text="")
        buttons.operator("selftalk.mapping_remove", icon="REMOVE", text="")
        if not 0 <= settings.mapping_index < len(settings.mapping):
            return
        item = settings.mapping[settings.mapping_index]
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        for name in ("source", "object", "kind", "path"):
            column.prop(item, name)
        if item.kind != "KEY":
            column.prop(item, "index")
        column.prop(item, "gain")
        column.prop(item, "offset")

    def say(self, layout: bpy.types.UILayout, context: bpy.types.Context, text: str) -> None:
        paragraph(layout, context, text, "INFO")


CLASSES = (
    SELFTALK_OT_analyse_face,
    SELFTALK_OT_mapping_add,
    SELFTALK_OT_mapping_remove,
    SELFTALK_OT_widen_sliders,
    SELFTALK_UL_mapping,
    SELFTALK_PT_shapes,
)
