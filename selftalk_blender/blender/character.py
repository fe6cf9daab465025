"""A character in a .blend of its own: opened, its face found, ready to speak a line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import bpy

from ..core.errors import SelfTalkError, operator_reason
from ..core.files import check_name
from ..core.names import recognise
from . import face, lines, parts, rigs

# Of vertex groups. Teeth and tongues have groups of their own, and are no faces.
OF_A_FACE = re.compile("jaw|lip|mouth|brow|lid|cheek|chin|nose", re.IGNORECASE)
OURS = bpy.app.version[:2]


def open_character(path: str, name: str = "") -> tuple[bpy.types.Object, list[str]]:
    """Open a .blend and find the face that is to speak, with no line of ours on it.

    What was open is lost. Scripts in the file are not run.

    Args:
        path: absolute, of the .blend.
        name: the object; where empty, the face chosen in the file's SelfTalk panel, else the only
            mesh that can talk.

    Returns:
        The face, and sentences that the user should read.

    Raises:
        SelfTalkError: the file cannot be read or holds no such face.
    """
    if not Path(path).is_file():
        raise SelfTalkError(f"There is no file {path}. Choose the character's .blend.")
    check_name(path)
    try:
        bpy.ops.wm.open_mainfile(filepath=path, load_ui=True, use_scripts=False)
    except RuntimeError as error:
        raise SelfTalkError(
            f"{path} cannot be opened ({operator_reason(error)}). Choose a .blend, of Blender "
            f"{'.'.join(map(str, OURS))} or older."
        ) from error
    if bpy.data.version[:2] > OURS:
        newer, ours = (".".join(map(str, v[:2])) for v in (bpy.data.version, OURS))
        raise SelfTalkError(
            f"{path} was saved by Blender {newer}, and this is {ours}, which would lose what it "
            f"does not know. Bake with Blender {newer}."
        )
    if bpy.context.mode != "OBJECT":  # as an animator leaves it; exporters want it otherwise
        bpy.ops.object.mode_set(mode="OBJECT")
    warnings = [
        f"{path} uses {file}, which is not there."
        for file in libraries()
        if not os.path.isfile(file)
    ]
    if bpy.app.autoexec_fail:
        what = bpy.app.autoexec_fail_message
        warnings.append(f"{path} holds scripts, which are not run ({what}).")
    try:
        found = _named(path, name) if name else _only_face(path)
    except SelfTalkError as error:  # what is missing may be why
        raise SelfTalkError(" ".join([str(error), *warnings])) from error
    scene = next((s for s in (bpy.context.scene, *bpy.data.scenes) if s in found.users_scene), None)
    if scene is None:
        raise SelfTalkError(f"{found.name} is in no scene of {path}. Link it into one.")
    if scene != bpy.context.scene:
        bpy.context.window.scene = scene
    spoke = [line.id for line in found.selftalk.lines]
    for line_id in spoke:
        for _ in lines.removing(found, line_id):
            pass
    if spoke:
        count = "a line" if len(spoke) == 1 else f"{len(spoke)} lines"
        warnings.append(f"{found.name} speaks {count} in {path} already; not in what is baked.")
    return found, warnings


def libraries() -> list[str]:
    """Absolute paths of the .blend files that the open one takes things from, there or not."""
    return [os.path.abspath(bpy.path.abspath(each.filepath)) for each in bpy.data.libraries]


def _named(path: str, name: str) -> bpy.types.Object:
    found = bpy.data.objects.get(name)
    if found is None:
        raise SelfTalkError(f"There is no object {name} in {path}. {_list(_candidates())}")
    return found


def _only_face(path: str) -> bpy.types.Object:
    chosen = bpy.context.scene.selftalk.face
    if chosen is not None and bpy.context.scene.objects.get(chosen.name) == chosen:
        return chosen
    candidates = _candidates()
    if len(candidates) != 1:
        what = "No mesh" if not candidates else "More than one mesh"
        raise SelfTalkError(f"{what} in {path} can talk. {_list(candidates)}")
    return candidates[0]


def _list(candidates: list[bpy.types.Object]) -> str:
    if not candidates:
        for target in bpy.data.objects:
            if target.type == "MESH" and target.users_scene and target.data.shape_keys is not None:
                try:  # one that could, if it might be written
                    rigs.judge(target)
                except SelfTalkError as error:
                    return str(error)
        for target in bpy.data.objects:
            if target.type == "MESH" and not target.users_scene and _shapes(target):
                return f"{target.name} is in no scene. Link it into one."
        return "Give a face its shapes first (Create Face Shapes), or map it in the panel Mapping."
    return f"Choose by --object: {', '.join(target.name for target in candidates)}."


def _candidates() -> list[bpy.types.Object]:
    """The meshes of all scenes that can talk, without those that go with one of them."""
    talking = []
    for target in bpy.data.objects:
        if target.type == "MESH" and target.users_scene:
            try:
                if len(target.selftalk.mapping) or rigs.judge(target).talks:
                    talking.append(target)
            except SelfTalkError:
                continue
    if len(talking) < 2:
        return talking
    size = {target: (_shapes(target), _groups(target)) for target in talking}
    return [
        target
        for target in talking
        if not any(size[target] < size[other] and _goes_with(other, target) for other in talking)
    ]


def _goes_with(target: bpy.types.Object, other: bpy.types.Object) -> bool:
    rig = rigs.deforming_armature(target)
    return other in parts.parts_of(target) or (
        rig is not None and rig == rigs.deforming_armature(other)
    )


def _shapes(target: bpy.types.Object) -> int:
    """How many shapes of a face a mesh makes."""
    names = recognise(face.key_names(target))
    return len(names.arkit) + len(names.visemes)


def _groups(target: bpy.types.Object) -> int:
    """By how many bones of a face a mesh is bent: teeth by one or two, clothes by none."""
    used = {item.group for vertex in target.data.vertices for item in vertex.groups if item.weight}
    return sum(
        group.index in used and bool(OF_A_FACE.search(group.name)) for group in target.vertex_groups
    )


def set_controls(target: bpy.types.Object, values: Mapping[str, float]) -> None:
    """Set the artist's controls of a face that has no line yet.

    Args:
        values: by the names in `batch.table.CONTROLS`; what is missing stays as it is.

    Raises:
        SelfTalkError: a value is outside what the control takes.
    """
    settings = target.selftalk.controls
    for name, value in values.items():
        switch = f"use_{name}"
        if switch in settings.bl_rna.properties:
            setattr(settings, switch, value > 0)
            if not value:
                continue
        known = settings.bl_rna.properties[name]
        if not known.hard_min <= value <= known.hard_max:
            raise SelfTalkError(
                f"{name} is {value:g}: choose between {known.hard_min:g} and {known.hard_max:g}."
            )
        setattr(settings, name, type(known.default)(value))
