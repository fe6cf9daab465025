"""The panel Adjust: the artist's controls, presets, and keys few enough to edit by hand."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Generator
from dataclasses import dataclass

import bpy
import numpy as np
from bl_operators.presets import AddPresetBase

from ..core import reduce
from ..core.aside import aside
from ..core.errors import SelfTalkError
from ..core.progress import Progress
from ..core.steps import paced
from ..core.template import bundled_template
from . import controls, fcurves, glance, jobs, lines, mesh_cache, panels
from . import face as faces
from .marks import WAITING
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
# Where lips meet they may be off by this share of it alone.
CLOSED_SHARE = 0.25
CLOSED_MM = 0.5  # inner-lip gap on the bundled head
LINEAR, BEZIER, ALIGNED = (
    1,
    2,
    3,
)  # of Keyframe.interpolation and .handle_left_type, for foreach_set
# mm that a custom property of a rig is taken to move the face for 1: as a wide open jaw does.
PROPERTY_MM = 40.0


CHANGED = "The keys were changed meanwhile. Press Reduce Keys again."


def _problem(face: bpy.types.Object | None) -> str:
    """Why nothing can be done to a face's lines now, or ""."""
    if face is None:
        return faces.NO_FACE
    if jobs.running is not None:
        return jobs.BUSY

    def ask() -> str:
        try:
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


# --- Reducing -------------------------------------------------------------------------------


@dataclass(eq=False)
class Line:
    """The curves of one line, read: what `reducing` takes.

    Attributes:
        curves: C of them: owner, path, index.
        first_frame: scene frame of the first row.
        values: (T, C) at scene frames.
        deltas: (C, V, 3) mm that 1 of each curve moves each vertex that moves at all.
        allowed: (T,) mm.
    """

    id: str
    curves: list[tuple[str, str, int]]
    first_frame: int
    values: np.ndarray
    deltas: np.ndarray
    allowed: np.ndarray


def reduce_lines(face: bpy.types.Object, error_mm: float) -> jobs.Steps:
    """Reduce the keys of all lines of a face.

    Yields:
        What is done.

    Returns:
        Keys before, keys after, and the largest error in mm. Nothing is changed before the end.

    Raises:
        SelfTalkError: there is nothing to reduce; as `lines.check_lines`.
    """
    lines.check_lines(face)
    while WAITING in face:
        yield Progress(0.0, "Reducing keys")
        controls.bake_slice(face)
    done: list[tuple[Line, reduce.Reduced]] = []
    ids = [line.id for line in face.selftalk.lines]
    for number, line_id in enumerate(ids):
        now = Progress(number / len(ids), "Reducing keys")
        yield now
        line = yield from paced(_read(face, line_id, error_mm), now)
        if line is not None:
            work = functools.partial(reduce.reducing, line.values, line.deltas, line.allowed)
            done.append((line, (yield from paced(aside(work), now))))
    if not done:
        raise SelfTalkError("The lines of this face have no keys of SelfTalk's to reduce.")
    with contextlib.ExitStack() as unless_swapped:
        copies = []
        for line, reduced in done:
            copies.append(lines.Copies(face, line.id))
            unless_swapped.callback(copies[-1].discard)
            yield Progress(1.0, "Writing")
            for name, keys in zip(line.curves, reduced.curves, strict=True):
                curve = copies[-1].find(*name)
                # While the window was free, the artist may have removed some.
                if curve is None:
                    raise SelfTalkError(CHANGED)
                write_keys(curve, keys, line.first_frame)
                yield Progress(1.0, "Writing")
        unless_swapped.pop_all()
    for copied, (line, reduced) in zip(copies, done, strict=True):
        copied.swap()
        controls.mark_reduced(face, line.id, reduced.error_mm)
    results = [reduced for _, reduced in done]
    return (
        sum(r.before for r in results),
        sum(r.after for r in results),
        max(r.error_mm for r in results),
    )


def write_keys(curve: bpy.types.FCurve, keys: reduce.Keys, first_frame: int) -> None:
    """Give an F-curve Bezier keys with aligned handles."""
    points, count = curve.keyframe_points, len(keys.frames)
    left, right = keys.handles()
    places = np.stack([keys.frames, keys.values], 1)
    points.clear()
    points.add(count)
    for name, place in (("co", places), ("handle_left", left), ("handle_right", right)):
        points.foreach_set(name, (place + (first_frame, 0)).astype(np.float32).ravel())
    for name, value in (
        ("interpolation", BEZIER),
        ("handle_left_type", ALIGNED),
        ("handle_right_type", ALIGNED),
    ):
        points.foreach_set(name, np.full(count, value, np.int32))
    curve.update()


def _curves(face: bpy.types.Object, line_id: str) -> list[tuple[bpy.types.ID, bpy.types.FCurve]]:
    """A line's curves that can be reduced, and whose they are."""
    return [
        (owner, curve)
        for owner, curve, _ in lines.curves(face, line_id)
        if len(curve.keyframe_points) and not len(curve.modifiers) and _moves(owner, curve)
    ]


def _moves(owner: bpy.types.ID, curve: bpy.types.FCurve) -> bool:
    """Whether what a curve moves is there: the artist may have removed a shape key or a bone."""
    try:
        owner.path_resolve(curve.data_path)
    except ValueError:
        return False
    return True


def _name(owner: bpy.types.ID, curve: bpy.types.FCurve) -> tuple[str, str, int]:
    return owner.name, curve.data_path, curve.array_index


def _read(
    face: bpy.types.Object, line_id: str, error_mm: float
) -> Generator[None, None, Line | None]:
    """A line's curves as they are now, whoever made their keys; None where there are none."""
    line = lines.find(face, line_id)
    found = _curves(face, line_id)
    if line is None or not found:
        return None
    first, last = line.key_range
    names = [_name(owner, curve) for owner, curve in found]
    columns = []
    for number in range(len(found)):
        yield
        again = _curves(face, line_id)
        if [_name(owner, curve) for owner, curve in again] != names:
            raise SelfTalkError(CHANGED)
        columns.append(_values(again[number][1], first, last))
    values = np.stack(columns, 1)
    allowed = np.full(len(values), error_mm)
    spoken, take = lines.Spoken.of(line), lines.take_of(face, line_id)
    moved = [(owner, curve.data_path) for owner, curve in found]
    yield
    if take is not None:
        motion, start = yield from lines.speaking(face, spoken, take)
        if start == first and len(motion) == len(values):
            weights = motion.weights
            gap = yield from aside(lambda: bundled_template().gap_mm(weights))
            allowed[gap < CLOSED_MM] = CLOSED_SHARE * error_mm
    yield
    deltas = yield from _deltas(moved)
    return Line(line_id, names, first, values, deltas, allowed)


def _values(curve: bpy.types.FCurve, first: int, last: int) -> np.ndarray:
    """(T,) of a curve at scene frames."""
    points, frames = curve.keyframe_points, np.arange(first, last + 1)
    kinds = np.empty(len(points), np.int32)
    points.foreach_get("interpolation", kinds)
    at = np.empty(2 * len(points), np.float32)
    points.foreach_get("co", at)
    if (kinds == LINEAR).all():  # as we baked it: far faster
        return np.interp(frames, at[::2], at[1::2])
    return np.array([curve.evaluate(frame) for frame in frames.tolist()])


def _deltas(
    curves: list[tuple[bpy.types.ID, str]],
) -> Generator[None, None, np.ndarray]:
    """(C, V, 3) float32 mm by which 1 of each curve (its owner and path) moves what it moves.

    A shape key's are those of its mesh. For anything else stands one vertex of its own: the
    farthest that it turns or shifts.
    """
    blocks: list[np.ndarray] = []
    meshes: dict[bpy.types.Key, list[tuple[int, str]]] = {}
    for number, (owner, path) in enumerate(curves):
        name = fcurves.key_name(path)
        if isinstance(owner, bpy.types.Key) and name in owner.key_blocks:
            meshes.setdefault(owner, []).append((number, name))
        else:
            alone = np.zeros((len(curves), 1, 3), np.float32)
            alone[number, 0, 0] = _reach_mm(owner, path)
            blocks.append(alone)
    for keys, shapes in meshes.items():
        to_mm, offsets = _mm_of(keys), []
        for _, name in shapes:
            offsets.append(faces.key_offsets(keys.key_blocks[name]) @ to_mm)
            yield
        numbers = [number for number, _ in shapes]
        blocks.append((yield from aside(functools.partial(_moving, len(curves), numbers, offsets))))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, 1)


def _moving(count: int, numbers: list[int], offsets: list[np.ndarray]) -> np.ndarray:
    """(count, n, 3) offsets (V, 3) of curves by their numbers, of the vertices that move at all."""
    moved = np.zeros(len(offsets[0]), bool)
    for offset in offsets:
        moved |= np.abs(offset).max(1) > 1e-4
    block = np.zeros((count, np.count_nonzero(moved), 3), np.float32)
    for number, offset in zip(numbers, offsets, strict=True):
        block[number] = offset[moved]
    return block


def _mm_of(keys: bpy.types.Key) -> np.ndarray:
    """(3, 3) from a mesh's own unit to mm in the world; the largest of its objects counts."""
    users = [o for o in bpy.data.objects if o.data == keys.user]
    largest = max(users, key=lambda o: abs(o.matrix_world.to_3x3().determinant()))
    return np.array(largest.matrix_world.to_3x3(), np.float32).T * _mm_per_unit()


def _mm_per_unit() -> float:
    settings = bpy.context.scene.unit_settings
    return 1000.0 * (settings.scale_length if settings.system != "NONE" else 1.0)


def _reach_mm(owner: bpy.types.Object, path: str) -> float:
    """About how many mm 1 of an object's or a bone's channel moves a face."""
    mm = max(abs(side) for side in owner.matrix_world.to_scale()) * _mm_per_unit()
    bone = re.fullmatch(r'pose\.bones\["(.*)"\]\.(\w+)', path)
    if bone:
        name = bpy.utils.unescape_identifier(bone[1])
        length, kind = owner.data.bones[name].length, bone[2]
    elif path.startswith("delta_rotation"):
        length, kind = np.linalg.norm(np.array(owner.bound_box), axis=1).max(), path
    else:
        return PROPERTY_MM
    if kind == "location":
        return mm
    # A quaternion's part is half the angle.
    return float(mm * length * (2.0 if kind.endswith("quaternion") else 1.0))


def bake_lines(face: bpy.types.Object) -> jobs.Steps:
    """Make the keys of all lines of a face again, or its mesh cache, whatever was edited."""
    with contextlib.closing(lines.rebaking(face)) as work:
        for done in work:
            yield Progress(done, "Baking again")
    face.pop(WAITING, None)  # not before: where this is closed, those that wait go on waiting
    face.selftalk.controls.problem = ""


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
        return reduce_lines(context.scene.selftalk.face, self.error_mm)

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
        return bake_lines(context.scene.selftalk.face)

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
        rig = controls.modifier_armature(face)
        if rig is not None:
            column.prop_search(settings, "head_bone", rig.pose, "bones")
        if settings.use_head:
            try:
                controls.head(face)
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
