"""The panel Adjust: the artist's controls, presets, and keys few enough to edit by hand."""

from __future__ import annotations

import bpy
from bl_operators.presets import AddPresetBase

from ..core.errors import SelfTalkError
from . import controls, glance, jobs, lines, mesh_cache, panels, reducing
from . import face as faces
from .paragraph import OURS, paragraph

# What a preset sets besides the defaults of PRESET_CONTROLS; blinks and the like stay as chosen.
PRESETS = {
    "SPOKEN": ("As Spoken", "The motion as the animator gave it", {}),
    "SUBTLE": (
        "Subtle",
        "Small and calm, for a close-up or a whisper",
        {"strength": 0.7, "smoothing": 0.06},
    ),
    "CLEAR": (
        "Clear",
        "Somewhat larger, with firm p, b and m",
        {"strength": 1.15, "closure": 1.0},
    ),
    "STAGE": (
        "Stage",
        "Large, for a figure far away or a cartoon",
        {"strength": 1.4, "jaw": 1.2, "closure": 1.5, "upper_face": 1.3},
    ),
}
# What a preset of the user's own leaves as it is: it belongs to one face.
OF_ONE_FACE = ("head_bone", "seed")
NO_PRESET = "Presets"
OWN_PRESETS = "selftalk/controls"  # folder of the user's own among Blender's presets
PRESET_CONTROLS = ("strength", "closure", "smoothing", "upper_face", "jaw", "mouth", "cheeks")

# Half a millimetre is a seventh of the keys at 24 fps and a sixteenth at 60, and less than what
# the animator itself is off by; a fifth of one would double their number.
ERROR_MM = 0.5


def _problem(face: bpy.types.Object | None) -> str:
    """Why nothing can be done to a face's lines now, or ""."""
    if face is None:
        return faces.NO_FACE
    if jobs.running is not None:
        return jobs.BUSY

    def ask() -> str:
        try:
            faces.usable(face)
            lines.check_lines(face)
        except SelfTalkError as error:
            return str(error)
        return ""

    return glance.once("lines", (face,), ask)


def adjust_problem(context: bpy.types.Context) -> str:
    """Why the controls of the chosen face cannot be changed now, or ""."""
    face = context.scene.selftalk.face
    problem = _problem(face)
    if problem:
        return problem
    known = face.selftalk.lines
    if len(known) and not any(lines.has_take(face, line.id) for line in known):
        return "Lines of an animator of the face's own have no controls."
    return controls.locked(face)


def reduce_problem(context: bpy.types.Context) -> str:
    """Why Reduce Keys cannot run now, or ""."""
    face = context.scene.selftalk.face
    problem = _problem(face)
    if problem:
        return problem
    if not len(face.selftalk.lines):
        return "There are no keys yet. Animate the face first."
    if mesh_cache.plays(face):
        return "A mesh cache has no keys. Choose the output Shape Keys and animate again."
    return ""


def bake_problem(context: bpy.types.Context) -> str:
    """Why Bake Again cannot run now, or ""."""
    face = context.scene.selftalk.face
    problem = _problem(face)
    if problem:
        return problem
    if not any(lines.has_take(face, line.id) for line in face.selftalk.lines):
        return "No line of this face was kept to be baked again. Animate it first."
    return ""


# --- Operators ------------------------------------------------------------------------------


class SELFTALK_OT_reduce_keys(jobs.Refusable, jobs.JobOperator, bpy.types.Operator):
    """Replace the keys of all lines of the face by few that can be edited by hand"""

    bl_idname = "selftalk.reduce_keys"
    bl_label = "Reduce Keys"
    bl_options = {"REGISTER", "UNDO"}

    error_mm: bpy.props.FloatProperty(
        name="Error (mm)",
        description=(
            "Millimetres by which any point of the face may be off in any frame; a quarter of "
            "that where the lips meet"
        ),
        default=ERROR_MM,
        min=0.01,
        soft_max=2.0,
        max=20.0,
        step=10,
    )

    problem = staticmethod(reduce_problem)

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        return reducing.reduce_lines(context.scene.selftalk.face, self.error_mm)

    def finish(self, context: bpy.types.Context, result: tuple[int, int, float]) -> None:
        before, after, error = result
        self.report({"INFO"}, f"{before} keys became {after}; largest error {error:.2f} mm")


class SELFTALK_OT_bake_again(jobs.Refusable, jobs.JobOperator, bpy.types.Operator):
    """Make the keys of all lines of the face again, from the recording and the controls. What was
    edited by hand or reduced in them is lost"""

    bl_idname = "selftalk.bake_again"
    bl_label = "Bake Again"
    bl_options = {"UNDO"}

    problem = staticmethod(bake_problem)
    stays = "the lines that were done stay"

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        return controls.bake_lines(context.scene.selftalk.face)

    def finish(self, context: bpy.types.Context, result: None) -> None:
        pass


class _ControlsOperator(jobs.Refusable):
    bl_options = {"REGISTER", "UNDO"}

    problem = staticmethod(adjust_problem)


class SELFTALK_OT_controls_preset(_ControlsOperator, bpy.types.Operator):
    """Set the sliders of the speech; blinks, head, offset and seed stay as chosen"""

    bl_idname = "selftalk.controls_preset"
    bl_label = "Controls Preset"

    preset: bpy.props.EnumProperty(
        name="Preset",
        items=[(key, name, text) for key, (name, text, _) in PRESETS.items()],
        translation_context=OURS,
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties):
        return PRESETS[properties.preset][1]

    def execute(self, context: bpy.types.Context) -> set[str]:
        plain = controls.defaults()
        values = {name: plain[name] for name in PRESET_CONTROLS} | PRESETS[self.preset][2]
        controls.set_all(context.scene.selftalk.face, values)
        _show_preset(PRESETS[self.preset][0])
        return {"FINISHED"}


class SELFTALK_OT_own_preset(_ControlsOperator, bpy.types.Operator):
    """Set all controls as they were when this preset was saved"""

    bl_idname = "selftalk.own_preset"
    bl_label = "Controls Preset"

    filepath: bpy.props.StringProperty(subtype="FILE_PATH", options={"HIDDEN", "SKIP_SAVE"})
    menu_idname: bpy.props.StringProperty(options={"HIDDEN", "SKIP_SAVE"})  # Blender fills it in

    def execute(self, context: bpy.types.Context) -> set[str]:
        with controls.at_once(context.scene.selftalk.face):
            return bpy.ops.script.execute_preset(
                filepath=self.filepath, menu_idname=self.menu_idname
            )


class SELFTALK_OT_save_preset(AddPresetBase, bpy.types.Operator):
    """Save all controls as a preset of your own, for any face in any file"""

    bl_idname = "selftalk.save_preset"
    bl_label = "Save Controls Preset"

    preset_menu = "SELFTALK_MT_controls_presets"
    preset_subdir = OWN_PRESETS
    preset_defines = ()  # Blender 4.3 cannot use any where its Python is 3.13, as Debian's is

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.scene.selftalk.face is None:
            cls.poll_message_set(faces.NO_FACE)
            return False
        return True

    @property
    def preset_values(self) -> list[str]:
        names = [name for name in controls.defaults() if name not in OF_ONE_FACE]
        return [f"bpy.context.scene.selftalk.face.selftalk.controls.{name}" for name in names]

    @classmethod
    def description(cls, context: bpy.types.Context, properties: bpy.types.OperatorProperties):
        return "Remove the preset of your own that was chosen last" * properties.remove_active

    def execute(self, context: bpy.types.Context) -> set[str]:
        chosen = SELFTALK_MT_controls_presets.bl_label
        given = {NO_PRESET, *(name for name, _, _ in PRESETS.values())}
        done = {"CANCELLED"} if self.remove_active and chosen in given else super().execute(context)
        if self.remove_active and done == {"CANCELLED"}:
            text = "No preset of your own is chosen. Choose the one to remove first."
            self.report({"ERROR"}, text)
        return done


class SELFTALK_OT_reset_controls(_ControlsOperator, bpy.types.Operator):
    """Set every control back: the motion as the animator gave it"""

    bl_idname = "selftalk.reset_controls"
    bl_label = "Reset Controls"

    def execute(self, context: bpy.types.Context) -> set[str]:
        controls.set_all(context.scene.selftalk.face, controls.defaults())
        _show_preset(NO_PRESET)
        return {"FINISHED"}


# --- Panels ---------------------------------------------------------------------------------


class SELFTALK_MT_controls_presets(bpy.types.Menu):
    bl_label = NO_PRESET  # Blender has the name of the last one that was chosen or saved here
    preset_subdir = OWN_PRESETS
    preset_operator = "selftalk.own_preset"

    def draw(self, context: bpy.types.Context) -> None:
        for key, (name, _, _) in PRESETS.items():
            row = self.layout.operator("selftalk.controls_preset", text=name, translate=False)
            row.preset = key
        if bpy.utils.preset_paths(OWN_PRESETS):  # without any, Blender speaks of missing paths
            self.layout.separator()
            bpy.types.Menu.draw_preset(self, context)


def _show_preset(name: str) -> None:
    SELFTALK_MT_controls_presets.bl_label = name


def _has_motion(face: bpy.types.Object | None) -> bool:
    """Whether a face speaks, or can be made to."""
    return face is not None and (len(face.selftalk.lines) > 0 or not panels.face_problem(face))


def sliders(layout: bpy.types.UILayout, enabled: bool) -> bpy.types.UILayout:
    """A column for controls."""
    column = layout.column()
    column.use_property_split = True
    column.use_property_decorate = False
    column.enabled = enabled
    return column


class SELFTALK_PT_adjust(panels.SidebarPanel, bpy.types.Panel):
    bl_label = "Adjust"
    bl_order = 50

    def draw(self, context: bpy.types.Context) -> None:
        layout, face = self.layout, context.scene.selftalk.face
        if not _has_motion(face):
            what = "first" if face is None else "that talks"
            layout.label(text=f"Choose a face {what}", icon="INFO")
            return
        problem = adjust_problem(context)
        if problem and problem != jobs.BUSY:  # of which the bar above tells
            paragraph(layout, context, problem, "INFO")
        settings = face.selftalk.controls
        cached = mesh_cache.plays(face)
        if (problem and problem == controls.locked(face)) or cached:
            layout.operator("selftalk.bake_again", icon="FILE_REFRESH")
        if cached:
            text = "A mesh cache follows the controls when you press this. It has no keys."
            paragraph(layout, context, text, "INFO")
        if settings.problem and not problem:
            paragraph(layout, context, settings.problem, "ERROR")
        column = sliders(layout, not problem)
        row = column.row(align=True)
        row.menu("SELFTALK_MT_controls_presets", text=SELFTALK_MT_controls_presets.bl_label)
        row.operator("selftalk.save_preset", text="", icon="ADD")
        row.operator("selftalk.save_preset", text="", icon="REMOVE").remove_active = True
        row.operator("selftalk.reset_controls", text="", icon="LOOP_BACK")
        for name in ("strength", "jaw", "closure", "smoothing", "offset"):
            column.prop(settings, name)
        layout.operator("selftalk.reduce_keys", icon="KEYFRAME")


class _SubPanel(panels.SidebarPanel):
    bl_parent_id = "SELFTALK_PT_adjust"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return _has_motion(context.scene.selftalk.face)


class SELFTALK_PT_regions(_SubPanel, bpy.types.Panel):
    bl_label = "Regions"
    bl_translation_context = OURS

    def draw(self, context: bpy.types.Context) -> None:
        column = sliders(self.layout, not adjust_problem(context))
        settings = context.scene.selftalk.face.selftalk.controls
        for name in ("mouth", "cheeks", "tongue", "eyes", "brows", "upper_face"):
            column.prop(settings, name)


class SELFTALK_PT_eyes_brows(_SubPanel, bpy.types.Panel):
    bl_label = "Blinks and Brows"

    def draw(self, context: bpy.types.Context) -> None:
        column = sliders(self.layout, not adjust_problem(context))
        settings = context.scene.selftalk.face.selftalk.controls
        for name in ("blinks", "brow_raises"):
            row = column.row(heading=settings.bl_rna.properties[name].name)
            row.prop(settings, f"use_{name}", text="")
            amount = row.row()
            amount.active = getattr(settings, f"use_{name}")
            amount.prop(settings, name, text="")
        column.prop(settings, "seed")


class SELFTALK_PT_head(_SubPanel, bpy.types.Panel):
    bl_label = "Head Motion"

    def draw_header(self, context: bpy.types.Context) -> None:
        row = self.layout.row()
        row.enabled = not adjust_problem(context)
        row.prop(context.scene.selftalk.face.selftalk.controls, "use_head", text="")

    def draw(self, context: bpy.types.Context) -> None:
        column = sliders(self.layout, not adjust_problem(context))
        face = context.scene.selftalk.face
        settings = face.selftalk.controls
        column.active = settings.use_head
        column.prop(settings, "head", text="Amount")
        rig = lines.modifier_armature(face)
        if rig is not None:
            column.prop_search(settings, "head_bone", rig.pose, "bones")
        if settings.use_head:
            try:
                lines.head(face)
            except SelfTalkError as error:
                paragraph(self.layout, context, str(error), "ERROR")


CLASSES = (
    SELFTALK_OT_reduce_keys,
    SELFTALK_OT_bake_again,
    SELFTALK_OT_controls_preset,
    SELFTALK_OT_own_preset,
    SELFTALK_OT_save_preset,
    SELFTALK_OT_reset_controls,
    SELFTALK_MT_controls_presets,
    SELFTALK_PT_adjust,
    SELFTALK_PT_regions,
    SELFTALK_PT_eyes_brows,
    SELFTALK_PT_head,
)
