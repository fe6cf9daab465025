"""What the user sees of Create Face Shapes: its panel and buttons."""

from __future__ import annotations

import bpy

from ..core.errors import SelfTalkError
from ..core.words import listed
from . import face as faces
from . import face_shapes, jobs, landmark_empties
from .marks import SHAPES_RESULT
from .panels import SidebarPanel
from .paragraph import paragraph


def problem(context: bpy.types.Context) -> str:
    """Why no face shapes can be created now, or ""."""
    if jobs.running is not None:
        return jobs.BUSY
    try:
        face_shapes.check(context.scene.selftalk.face)
    except SelfTalkError as error:
        return str(error)
    return ""


class SELFTALK_OT_create_face_shapes(jobs.Refusable, jobs.JobOperator, bpy.types.Operator):
    """Make the 52 ARKit shape keys on the chosen face, whatever its topology. Eyes, teeth, \
tongue, lashes of the same character, and selected meshes, get those that move them. \
Landmarks are looked for where none are placed. Keys that were not made here stay as they are"""

    bl_idname = "selftalk.create_face_shapes"
    bl_label = "Create Face Shapes"
    bl_options = {"UNDO"}

    problem = staticmethod(problem)

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        chosen = face_shapes.plan(context, context.scene.selftalk.face)
        self.face = chosen.pieces[0].uid
        return face_shapes.create(chosen)

    def finish(self, context: bpy.types.Context, result: str) -> None:
        text, *notices = result.splitlines()
        target = faces.again(bpy.data.objects, self.face)
        self.report({"INFO"}, f"{target.name}: {text}")
        for notice in notices:
            self.report({"WARNING"}, notice)
        target[SHAPES_RESULT] = result


class SELFTALK_OT_place_landmarks(jobs.Refusable, jobs.JobOperator, bpy.types.Operator):
    """Find the ten landmarks of the chosen face and mark them with empties, which you may then \
move. Create Face Shapes uses them where they are"""

    bl_idname = "selftalk.place_landmarks"
    bl_label = "Place Landmarks"
    bl_options = {"UNDO"}

    problem = staticmethod(problem)

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        chosen = face_shapes.plan(context, context.scene.selftalk.face)
        self.face = chosen.pieces[0].uid
        return self._place(chosen)

    def _place(self, chosen: face_shapes.Plan) -> jobs.Steps:
        try:
            _, points, notices = yield from face_shapes.compute(chosen, only_landmarks=True)
        except SelfTalkError as error:
            own = chosen.vertices[: len(chosen.pieces[0].vertices)]
            points, notices = landmark_empties.guess(own), (f"{error} They stand before it now.",)
        target = faces.again(bpy.data.objects, self.face)
        if target is None:
            raise SelfTalkError("The face was removed meanwhile. Choose another.")
        landmark_empties.place(target, points)
        return notices

    def finish(self, context: bpy.types.Context, result: tuple[str, ...]) -> None:
        self.report({"INFO"}, "Ten landmarks placed. Move those that are off, then create.")
        for notice in result:
            self.report({"WARNING"}, notice)


class SELFTALK_OT_remove_landmarks(bpy.types.Operator):
    """Remove the landmarks of the chosen face; Create Face Shapes then looks for them itself"""

    bl_idname = "selftalk.remove_landmarks"
    bl_label = "Remove Landmarks"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        target = context.scene.selftalk.face
        if target is None or not landmark_empties.empties_of(target):
            cls.poll_message_set("The face has no landmarks")
            return False
        return jobs.running is None

    def execute(self, context: bpy.types.Context) -> set[str]:
        landmark_empties.remove(context.scene.selftalk.face)
        return {"FINISHED"}


class SELFTALK_PT_face_shapes(SidebarPanel, bpy.types.Panel):
    bl_label = "Create Face Shapes"
    bl_parent_id = "SELFTALK_PT_face"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        target = context.scene.selftalk.face
        return target is not None and target.type == "MESH"

    def draw(self, context: bpy.types.Context) -> None:
        layout, target = self.layout, context.scene.selftalk.face
        row = layout.row(align=True)
        row.operator("selftalk.place_landmarks", icon="EMPTY_AXIS")
        row.operator("selftalk.remove_landmarks", text="", icon="X")
        layout.operator("selftalk.create_face_shapes", icon="SHAPEKEY_DATA")
        reason = problem(context)
        if reason:
            paragraph(layout, context, reason, "INFO")
            return
        parts = [part.name for part in face_shapes.parts_of(context, target)]
        if parts:
            paragraph(layout, context, f"With {listed(parts)}", "LINKED")
        for number, line in enumerate(target.get(SHAPES_RESULT, "").splitlines()):
            paragraph(layout, context, line, "ERROR" if number else "CHECKMARK")


CLASSES = (
    SELFTALK_OT_create_face_shapes,
    SELFTALK_OT_place_landmarks,
    SELFTALK_OT_remove_landmarks,
    SELFTALK_PT_face_shapes,
)
