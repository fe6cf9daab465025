"""What the buttons do. Each operator also runs at once from a script, without a window."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import bpy

from ..core.errors import SelfTalkError
from . import (
    animate,
    bundled_head,
    compat,
    export,
    face,
    formats,
    glance,
    jobs,
    neutral,
    preferences,
    properties,
    strips,
)


def animate_problem(context: bpy.types.Context) -> str:
    """Why Animate from Audio cannot run now, or "". While a job runs, another may get in line."""

    def ask() -> str:
        try:
            plan_from_settings(context)
        except SelfTalkError as error:
            return str(error)
        return ""

    return glance.once("animate", (context.scene, compat.sequencer_scene(context)), ask)


def export_problem(context: bpy.types.Context, file_format: str) -> str:
    """Why the chosen face cannot be exported now in a format of `formats.FORMATS`, or ""."""
    if jobs.running is not None:
        return jobs.BUSY
    target = context.scene.selftalk.face
    if target is None or context.scene.objects.get(target.name) != target:
        return face.NO_FACE

    def ask() -> str:
        try:
            export.check_faces(context, [target], formats.FORMATS[file_format].suffixes[0])
            export.motion_range([target])
        except SelfTalkError as error:
            return str(error)
        return ""

    return glance.once("export", (context.scene, target, file_format), ask)


def plan_from_settings(context: bpy.types.Context) -> animate.Plan:
    """What Animate from Audio would do with the scene's settings.

    Raises:
        SelfTalkError: why it cannot.
    """
    settings = context.scene.selftalk
    if settings.source == "FILE":
        if not settings.sound_file:
            raise SelfTalkError("No sound file is chosen. Choose one under Audio.")
        return plan_of(
            context, settings.face, clip=settings.sound_file, first_frame=settings.start_frame
        )
    sequencer = compat.sequencer_scene(context)
    return plan_of(context, settings.face, strip=settings.sound_strip, sequencer=sequencer)


def plan_of(
    context: bpy.types.Context, target: bpy.types.Object | None, **source: Any
) -> animate.Plan:
    """What animating a face from a sound would do, with the face's own settings.

    Args:
        source: `strip` and `sequencer`, or `clip` and `first_frame`; see `animate.plan`.

    Raises:
        SelfTalkError: why it cannot.
    """
    if target is None:
        raise SelfTalkError(face.NO_FACE)
    python, device = preferences.animator_settings(context)
    return animate.plan(
        context.scene,
        target,
        **source,
        output=target.selftalk.output,
        cache_folder=target.selftalk.cache_folder or preferences.cache_folder(context),
        python=python,
        device=device,
        animator=target.selftalk.animator,
        template=target.selftalk.template,
        subject=target.selftalk.subject,
    )


def template_from_settings(target: bpy.types.Object) -> neutral.Neutral | None:
    """The neutral face that the animator chosen for a face moves; None for the bundled head.

    Raises:
        SelfTalkError: what is still to be chosen, or cannot be read.
    """
    settings = target.selftalk
    animator, template = (
        strips.absolute(path) if path else None for path in (settings.animator, settings.template)
    )
    return face.chosen_template(target, animator, template, settings.subject)


def note_result(target: bpy.types.Object, result: animate.Result) -> None:
    """Have the panel tell what came of animating a face."""
    target.selftalk.result = result.summary
    target.selftalk.notices = "\n".join(result.notices)


class SELFTALK_OT_add_face(bpy.types.Operator):
    """Add SelfTalk's head at the 3D cursor, or on top of what would hide it there, and choose it \
as the face"""

    bl_idname = "selftalk.add_face"
    bl_label = "Add Face"
    bl_options = {"REGISTER", "UNDO"}

    location: bpy.props.FloatVectorProperty(
        name="Location",
        description="Where the neck stands; the 3D cursor where not given",
        subtype="TRANSLATION",
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        if context.mode != "OBJECT":
            cls.poll_message_set("Leave the present mode (Tab) first")
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        if not self.properties.is_property_set("location"):
            self.location = context.scene.cursor.location
            around = bundled_head.hidden_by(context, self.location)
            if around is not None:
                self.location.z = bundled_head.top_of(around)
                text = f"The 3D cursor is inside {around.name}, so the head stands on top of it"
                self.report({"INFO"}, text)
        return self.execute(context)

    def execute(self, context: bpy.types.Context) -> set[str]:
        if not self.properties.is_property_set("location"):
            self.location = context.scene.cursor.location
        try:
            head = bundled_head.add_head(context, tuple(self.location))
        except SelfTalkError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        context.scene.selftalk.face = head
        return {"FINISHED"}


class SELFTALK_OT_animate_from_audio(jobs.Refusable, jobs.JobOperator, bpy.types.Operator):
    """Animate the face from the chosen sound. A line of the same sound strip is replaced"""

    bl_idname = "selftalk.animate_from_audio"
    bl_label = "Animate from Audio"
    bl_options = {"UNDO"}

    problem = staticmethod(animate_problem)

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        plan = plan_from_settings(context)
        self.face = plan.face
        self.title = f"{context.scene.selftalk.face.name}: {plan.heard.clip.name}"
        return animate.run(plan)

    def finish(self, context: bpy.types.Context, result: animate.Result) -> None:
        target = face.again(bpy.data.objects, self.face)
        note_result(target, result)
        self.report({"INFO"}, f"{target.name}: {result.text}")
        for notice in result.notices:
            self.report({"WARNING"}, notice)


class SELFTALK_OT_export(properties.ExportOptions, jobs.JobOperator, bpy.types.Operator):
    """Write the face and its motion to a file for another program"""

    bl_idname = "selftalk.export"
    bl_label = "Export Face"

    filepath: bpy.props.StringProperty(
        subtype="FILE_PATH", options={"SKIP_SAVE"} | compat.RELATIVE_PATH
    )
    filter_glob: bpy.props.StringProperty(options={"HIDDEN", "SKIP_SAVE"})
    check_existing: bpy.props.BoolProperty(default=True, options={"HIDDEN"})
    file_format: bpy.props.EnumProperty(
        name="Format", items=properties.FORMAT_ITEMS, options={"HIDDEN"}
    )

    @classmethod
    def description(cls, context: bpy.types.Context, properties: SELFTALK_OT_export) -> str:
        return (
            export_problem(context, properties.file_format)
            or formats.FORMATS[properties.file_format].description
        )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        problem = export_problem(context, self.file_format)
        if bpy.app.background or context.window is None:
            return self.execute(context)
        if problem:
            self.report({"ERROR"}, problem)
            return {"CANCELLED"}
        suffixes = formats.FORMATS[self.file_format].suffixes
        if not self.filepath:
            folder = os.path.dirname(bpy.data.filepath)
            name = bpy.path.clean_name(context.scene.selftalk.face.name)
            self.filepath = os.path.join(folder, name + suffixes[0])
        self.filter_glob = ";".join(f"*{suffix}" for suffix in suffixes)
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def draw(self, context: bpy.types.Context) -> None:
        known = formats.FORMATS[self.file_format]
        column = self.layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        if self.file_format == "fbx":
            column.prop(self, "preset")
        column.prop(self, "frames")
        if known.several:
            column.prop(self, "with_parts")
        column.prop(self, "with_sound")

    def check(self, context: bpy.types.Context) -> bool:
        """The file browser shows the suffix that the file will have."""
        suffixes = formats.FORMATS[self.file_format].suffixes
        known = os.path.splitext(self.filepath)[1].lower() in suffixes
        named = self.filepath if known else bpy.path.ensure_ext(self.filepath, suffixes[0])
        changed = named != self.filepath
        self.filepath = named
        return changed

    def execute(self, context: bpy.types.Context) -> set[str]:
        if not self.properties.is_property_set("file_format"):
            # A script may name the format by the file alone.
            with contextlib.suppress(SelfTalkError):
                self.file_format = formats.format_of(Path(self.filepath).suffix)
        if self.options.is_invoke and context.window is not None and not bpy.app.background:
            # From the file browser: the work goes on behind the window.
            return super().invoke(context, None)
        return super().execute(context)

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        problem = export_problem(context, self.file_format)
        if not problem and not self.filepath:
            problem = "No file is named. Give the path of the file to write."
        if problem:
            raise SelfTalkError(problem)
        self.check(context)
        path = Path(bpy.path.abspath(self.filepath))
        self.title = f"Export {path.name}"
        scene = context.scene
        frames = None
        if self.frames == "SCENE":
            frames = scene.frame_start, scene.frame_end
            if scene.use_preview_range:
                frames = scene.frame_preview_start, scene.frame_preview_end
        return export.exporting(
            context, [scene.selftalk.face], path, frames, self.preset, self.with_parts,
            self.with_sound,
        )  # fmt: skip

    def finish(self, context: bpy.types.Context, result: export.Exported) -> None:
        file, *others = result.files
        beside = "".join(f" and {path.name}" for path in others)
        self.report({"INFO"}, f"Wrote {file}{beside}")
        for notice in result.notices:
            self.report({"WARNING"}, notice)


class SELFTALK_MT_export(bpy.types.Menu):
    bl_idname = "SELFTALK_MT_export"
    bl_label = "SelfTalk Face"

    def draw(self, context: bpy.types.Context) -> None:
        draw_formats(self.layout, context)


def draw_formats(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """A button for each format, grey where it is not to be had."""
    for name, known in formats.FORMATS.items():
        row = layout.row()
        row.enabled = not export_problem(context, name)
        text = f"{known.label} ({'/'.join(known.suffixes)})"
        row.operator("selftalk.export", text=text).file_format = name


def _in_file_menu(menu: bpy.types.Menu, context: bpy.types.Context) -> None:
    menu.layout.menu("SELFTALK_MT_export")


def add_to_file_menu() -> None:
    bpy.types.TOPBAR_MT_file_export.append(_in_file_menu)


def remove_from_file_menu() -> None:
    bpy.types.TOPBAR_MT_file_export.remove(_in_file_menu)


CLASSES = (
    SELFTALK_OT_add_face,
    SELFTALK_OT_animate_from_audio,
    SELFTALK_OT_export,
    SELFTALK_MT_export,
)
