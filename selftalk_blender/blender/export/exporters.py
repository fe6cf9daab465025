"""Blender's own exporters, each with what its format needs of the stage."""

from __future__ import annotations

from pathlib import Path

import bpy

from .. import compat
from ..formats import Preset

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
        vcolors=True,  # those of `cast.COLOURS`
        evaluation_mode="VIEWPORT",
    )
