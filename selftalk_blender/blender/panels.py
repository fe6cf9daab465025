"""The tab SelfTalk in the 3D View's sidebar, in the order of the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ..core.errors import SelfTalkError
from ..worker.log import log_file
from . import compat, face, formats, glance, jobs, operators, preferences, properties, rigs, strips
from .paragraph import OURS, paragraph

SEVERAL_FACES = (".pkl", ".npz")  # endings of template files that may hold several


def path_field(layout: bpy.types.UILayout, owner: Any, name: str, usual: str, **look: Any) -> None:
    """A field that shows in grey what counts where it is empty."""
    layout.prop(owner, name, placeholder=usual, **look)


def face_problem(target: bpy.types.Object) -> str:
    """Why a chosen face cannot be animated, or ""."""
    return _face_words(target)[1]


def _face_words(target: bpy.types.Object) -> tuple[str, str]:
    """What a face is, or else why it cannot be animated."""

    def ask() -> tuple[str, str]:
        try:
            return face_line(target), ""
        except SelfTalkError as error:
            return "", str(error)

    return glance.once("face", (target,), ask)


def face_line(target: bpy.types.Object) -> str:
    """What a face is, in one line.

    Raises:
        SelfTalkError: why it cannot be animated.
    """
    neutral = operators.template_from_settings(target)
    if neutral is not None:
        face.check(target, neutral)
        return f"{len(neutral.vertices)} vertices, those of {Path(neutral.source[0]).name}"
    analysis = rigs.judge(target)
    if not analysis.talks and target.selftalk.mapping:
        return "Another head, moved as its mapping says"
    if not analysis.talks:
        raise SelfTalkError(" ".join((f"{analysis.line}.", *analysis.reasons)))
    return analysis.line


def shows_animator(target: bpy.types.Object) -> bool:
    """Whether another animator may be chosen for a face: one is, or the bundled does not fit."""
    if target.selftalk.animator or target.selftalk.template:
        return True
    try:
        return not rigs.judge(target).talks
    except SelfTalkError:
        return False  # first things first


class SidebarPanel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "SelfTalk"


class SELFTALK_PT_face(SidebarPanel, bpy.types.Panel):
    bl_label = "Face"
    bl_translation_context = OURS

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.selftalk
        row = layout.row(align=True)
        row.prop(settings, "face", text="")
        layout.operator("selftalk.add_face", icon="ADD")
        if settings.face is None:
            return
        line, problem = _face_words(settings.face)
        if problem:
            paragraph(layout, context, problem, "ERROR")
        else:
            paragraph(layout, context, line, "CHECKMARK")
        if glance.once("animator", (settings.face,), lambda: shows_animator(settings.face)):
            self.draw_animator(settings.face.selftalk)

    def draw_animator(self, settings: properties.FaceSettings) -> None:
        column = self.layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        path_field(column, settings, "animator", "Bundled")
        column.prop(settings, "template")
        if settings.subject or settings.template.lower().endswith(SEVERAL_FACES):
            column.prop(settings, "subject")


class SELFTALK_PT_audio(SidebarPanel, bpy.types.Panel):
    bl_label = "Audio"

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.selftalk
        layout.row().prop(settings, "source", expand=True)
        if settings.source == "FILE":
            layout.prop(settings, "sound_file", text="")
            layout.prop(settings, "start_frame")
            return
        layout.prop(settings, "sound_strip", text="", icon="SOUND")
        if not settings.sound_strip:
            if not strips.sound_strips(compat.sequencer_scene(context)):
                layout.label(text="No sound strips yet", icon="INFO")
            return
        try:
            sequencer = compat.sequencer_scene(context)
            strip = strips.find_strip(sequencer, settings.sound_strip)
            heard = strips.heard(sequencer, strip, context.scene)
        except SelfTalkError as error:
            paragraph(layout, context, str(error), "ERROR")
            return
        first, last = heard.first_frame, heard.first_frame + heard.frames - 1
        layout.label(text=f"Frames {first} to {last}, {heard.fps:.6g} fps", icon="TIME")


class SELFTALK_PT_animate(SidebarPanel, bpy.types.Panel):
    bl_label = "Animate"

    def draw(self, context: bpy.types.Context) -> None:
        layout, target = self.layout, context.scene.selftalk.face
        if target is not None:
            layout.row().prop(target.selftalk, "output", expand=True)
            if target.selftalk.output == "MESH_CACHE":
                usual = preferences.cache_folder(context) or "//selftalk_cache"
                path_field(layout, target.selftalk, "cache_folder", usual, text="")
        jobs.draw(layout)
        row = layout.row()
        row.scale_y = 1.5
        row.operator("selftalk.animate_from_audio", icon="PLAY")
        problem = operators.animate_problem(context)
        if problem and target is not None and problem == face_problem(target):
            layout.label(text="Not with this face yet", icon="INFO")  # Face says why
        elif problem:
            paragraph(layout, context, problem, "INFO")
        if jobs.failure:
            paragraph(layout, context, jobs.failure, "ERROR")
            log = log_file()
            if log.is_file():
                layout.operator("wm.path_open", text="Open Log", icon="TEXT").filepath = str(log)
        elif jobs.running is None and target is not None and target.selftalk.result:
            paragraph(layout, context, target.selftalk.result, "CHECKMARK")
            for notice in target.selftalk.notices.splitlines():
                paragraph(layout, context, notice, "ERROR")


class SELFTALK_PT_export(SidebarPanel, bpy.types.Panel):
    bl_label = "Export"
    bl_order = 100  # behind Adjust, which is registered later

    def draw(self, context: bpy.types.Context) -> None:
        layout, settings = self.layout, context.scene.selftalk.export
        problem = operators.export_problem(context, settings.file_format)
        known = formats.FORMATS[settings.file_format]
        layout.prop(settings, "file_format", text="")
        column = layout.column()
        column.use_property_split = True
        column.use_property_decorate = False
        if settings.file_format == "fbx":
            column.prop(settings, "preset")
        column.row().prop(settings, "frames", expand=True)
        column = layout.column()  # in the whole width: beside names a narrow sidebar cuts them
        if known.several:
            column.prop(settings, "with_parts")
        column.prop(settings, "with_sound")
        row = layout.row()
        row.enabled = not problem
        button = row.operator("selftalk.export", text=f"Export {known.label}", icon="EXPORT")
        for name in ("file_format", "preset", "frames", "with_parts", "with_sound"):
            setattr(button, name, getattr(settings, name))
        if jobs.running is not None or not problem:
            return  # the bar above says why; so does the button's tooltip
        if problem == face.NO_FACE:
            layout.label(text="Choose a face first", icon="INFO")
        else:
            paragraph(layout, context, problem, "INFO")


CLASSES = (SELFTALK_PT_face, SELFTALK_PT_audio, SELFTALK_PT_animate, SELFTALK_PT_export)
