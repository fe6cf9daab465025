"""What the user sees of a face rig: the sub-panel Rig, and the button that measures it."""

from __future__ import annotations

import bpy

from ..core.errors import SelfTalkError
from ..core.progress import Progress
from . import face as faces
from . import glance, jobs, rigs
from .panels import SELFTALK_PT_face, SidebarPanel
from .paragraph import paragraph


def measure_problem(context: bpy.types.Context) -> str:
    """Why Measure Rig cannot run now, or ""."""
    if jobs.running is not None:
        return jobs.BUSY
    target = context.scene.selftalk.face
    if target is None:
        return faces.NO_FACE
    found = _look(target)
    return found if isinstance(found, str) else ""


def _look(target: bpy.types.Object) -> rigs.Found | str:
    """The rig of a face, or why there is none to use."""

    def ask() -> rigs.Found | str:
        try:
            return rigs.find(target)
        except SelfTalkError as error:
            return str(error)

    return glance.once("rig", (target,), ask)


class SELFTALK_OT_measure_rig(jobs.Refusable, jobs.JobOperator, bpy.types.Operator):
    """Move each face control of the rig once, see where the mesh goes, and put it back.
    Done by itself before the first animation; do it again after changing vertex groups"""

    bl_idname = "selftalk.measure_rig"
    bl_label = "Measure Rig"
    bl_options = {"UNDO"}

    problem = staticmethod(measure_problem)

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        target = context.scene.selftalk.face
        self.face = target.session_uid
        return (Progress(done, "Measuring the rig") for done in rigs.calibrate(target))

    def finish(self, context: bpy.types.Context, result: None) -> None:
        target = faces.again(bpy.data.objects, self.face)
        self.report({"INFO"}, f"{target.name}: {rigs.summary(rigs.find(target))}")


class SELFTALK_PT_rig(SidebarPanel, bpy.types.Panel):
    bl_label = "Rig"
    bl_parent_id = SELFTALK_PT_face.__name__
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        target = context.scene.selftalk.face
        return target is not None and rigs.deforming_armature(target) is not None

    def draw(self, context: bpy.types.Context) -> None:
        layout, target = self.layout, context.scene.selftalk.face
        found = _look(target)
        if isinstance(found, str):
            paragraph(layout, context, found, "INFO")
            return
        paragraph(layout, context, rigs.summary(found), "CHECKMARK")
        for reason in found.left_alone:
            paragraph(layout, context, reason, "INFO")
        row = layout.row()
        row.use_property_split = True
        row.use_property_decorate = False
        row.prop(target.selftalk, "rig_share")
        layout.operator("selftalk.measure_rig", icon="DRIVER_DISTANCE")


CLASSES = (SELFTALK_OT_measure_rig, SELFTALK_PT_rig)
