"""Blender's own exporters, each with what its format needs of the stage."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
from mathutils import Matrix

from .. import compat

Y_UP = Matrix.Rotation(-math.pi / 2, 4, "X")  # Z up, looking along -Y, to Y up, looking along Z


def _ascii_name(name: str) -> str:
    """A name as Maya takes it: letters, digits and underscores, no digit first."""
    plain = re.sub(r"[^0-9A-Za-z_]", "_", name.translate(_LATIN))
    return plain if plain[:1].isalpha() or plain[:1] == "_" else f"_{plain}"


_LATIN = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"}
)


@dataclass(frozen=True)
class Preset:
    """How a program likes its FBX.

    Attributes:
        label, description: for the interface.
        basis: what geometry goes through on the stage, metres being its unit before.
        rename: what names become.
        settings: of Blender's exporter.
    """

    label: str
    description: str
    basis: Matrix
    rename: Callable[[str], str]
    settings: dict[str, Any]


# The stage's data is written as it is: no object carries a scale of 100 or a turn of 90 degrees.
# Blender would multiply by 100 to reach centimetres; so where it has them already, by 1.
_CENTIMETRES = {
    "use_space_transform": False, "apply_scale_options": "FBX_SCALE_NONE", "global_scale": 0.01,
}  # fmt: skip
_METRES = {"use_space_transform": False, "apply_scale_options": "FBX_SCALE_ALL"}

PRESETS = {
    "UNREAL": Preset(
        "Unreal", "Centimetres, Y up; its importer turns that to its own axes",
        Y_UP @ Matrix.Scale(100.0, 4), str, _CENTIMETRES,
    ),
    "UNITY": Preset(
        "Unity", "Metres, Y up; scale 1 and no turn on any object", Y_UP, str, _METRES
    ),
    "MAYA": Preset(
        "Maya", "Centimetres, Y up; names of letters, digits and underscores",
        Y_UP @ Matrix.Scale(100.0, 4), _ascii_name, _CENTIMETRES,
    ),
    "BLENDER": Preset(
        "Blender", "As Blender's own FBX: metres, and a scale of 100 on objects",
        Matrix(), str, {},
    ),
}  # fmt: skip


TICKS = 46186158000  # FBX counts so many a second


def write_fbx(path: Path, preset: Preset, first: int, last: int, fps: float) -> set[str]:
    with compat.enabled_addon("io_scene_fbx"), compat.fbx_frames(first, last):
        finished = bpy.ops.export_scene.fbx(
            filepath=str(path),
            check_existing=False,
            object_types={"MESH", "ARMATURE"},
            # Applied modifiers would cost the shape keys.
            use_mesh_modifiers=False,
            mesh_smooth_type="FACE",
            axis_forward="-Z",
            axis_up="Y",
            add_leaf_bones=False,
            use_armature_deform_only=True,
            bake_anim=True,
            bake_anim_use_nla_strips=False,
            bake_anim_use_all_actions=False,
            bake_anim_simplify_factor=0.0,
            **preset.settings,
        )
    if "FINISHED" in finished:
        _set_span(path, first / fps, last / fps)
    return finished


def _set_span(path: Path, begin: float, end: float) -> None:
    """Note the seconds of the motion in an FBX's global settings: Blender writes 0 to 1 there."""
    with open(path, "r+b") as file:
        head = file.read(1 << 16)  # the settings come right after the header
        for name, seconds in ((b"TimeSpanStart", begin), (b"TimeSpanStop", end)):
            texts = (name, b"KTime", b"Time", b"")
            pattern = b"".join(b"S" + len(t).to_bytes(4, "little") + t for t in texts) + b"L"
            at = head.find(pattern)
            if at >= 0:
                file.seek(at + len(pattern))
                file.write(round(seconds * TICKS).to_bytes(8, "little", signed=True))


def write_gltf(path: Path, stage: bpy.types.Scene) -> set[str]:
    # It takes seconds from fps * fps_base (in 4.2 to 5.2), and thus 29.97 for 30.03.
    stage.render.fps_base = 1.0 / stage.render.fps_base
    with compat.enabled_addon("io_scene_gltf2"):
        return bpy.ops.export_scene.gltf(
            filepath=str(path),
            check_existing=False,
            export_format="GLB",
            use_active_scene=True,
            export_yup=True,
            export_apply=False,
            export_animations=True,
            export_animation_mode="SCENE",
            export_anim_scene_split_object=False,
            export_frame_range=True,
            export_force_sampling=True,
            export_optimize_animation_size=False,
            export_anim_slide_to_zero=True,
            export_def_bones=True,
            export_morph=True,
            export_morph_normal=True,
        )


def write_usd(path: Path, selected: bool, shape_keys: bool, textures: bool) -> set[str]:
    """Write a USD file of the scene on view, or of what is selected in it.

    Args:
        shape_keys: as blend shapes and a skeleton; else as points that move.
        textures: copy them beside it.
    """
    return bpy.ops.wm.usd_export(
        filepath=str(path),
        check_existing=False,
        selected_objects_only=selected,
        export_animation=True,
        export_armatures=shape_keys,
        export_shapekeys=shape_keys,
        # Of points that move there would be normals for each frame, three times as large.
        export_normals=shape_keys,
        # Deforming bones alone would lose the parents in between, and with them their place.
        only_deform_bones=False,
        evaluation_mode="VIEWPORT",
        allow_unicode=True,
        # The scene's sky is no part of a face; it would also leave a picture of it beside the file.
        convert_world_material=False,
        **compat.usd_textures(textures),
    )


def write_alembic(path: Path, first: int, last: int) -> set[str]:
    return bpy.ops.wm.alembic_export(
        filepath=str(path),
        check_existing=False,
        as_background_job=False,
        start=first,
        end=last,
        selected=True,
        face_sets=True,
        evaluation_mode="VIEWPORT",
    )
