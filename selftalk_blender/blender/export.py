"""Animated faces as FBX and Alembic files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import bpy

from ..core.errors import SelfTalkError
from ..core.files import atomic_path, check_writable
from . import compat, lines, writers


def check_export(
    context: bpy.types.Context,
    faces: Sequence[bpy.types.Object],
    path: Path,
    frames: tuple[int, int] | None = None,
) -> tuple[int, int]:
    """Whether faces can be exported to an .fbx or .abc file; the frames that will be in it.

    Args:
        frames: first and last scene frame; by default those of our motion on the faces (in
            FBX from frame 0 on: Blender's exporter knows no earlier one).

    Raises:
        SelfTalkError: what stands in the way, and what to do about it.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    check_faces(context, faces, suffix)
    if frames is None:
        frames = motion_range(faces)
        if suffix == ".fbx" and frames[1] >= 0:
            frames = max(frames[0], 0), frames[1]
    first, last = frames
    if last < first:
        raise SelfTalkError(f"From frame {first} to {last} there is nothing. Choose other frames.")
    if suffix == ".fbx" and first < 0:
        raise SelfTalkError(
            "FBX starts at frame 0 at the earliest. Move the strip or export Alembic."
        )
    check_writable(path)
    if suffix == ".abc":
        _check_room(context, faces, path, last - first + 1)
    return frames


def _check_room(
    context: bpy.types.Context, faces: Sequence[bpy.types.Object], path: Path, frames: int
) -> None:
    """Refuse an Alembic file that the disk cannot hold: Blender's exporter would crash midway."""
    graph = context.evaluated_depsgraph_get()
    need = 0
    for target in faces:
        mesh = target.evaluated_get(graph).data
        # Measured: 12 bytes a vertex and frame, and once 72 a vertex for all that stands still.
        need += len(mesh.vertices) * (12 * frames + 100)
        need += len(mesh.loops) * 12 * frames * mesh.has_custom_normals
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < need * 1.02:
        raise SelfTalkError(
            f"Cannot write {path}: it needs {need / 1e6:.0f} MB and {free / 1e6:.0f} MB are free. "
            "Free some space or choose another folder."
        )


def check_faces(context: bpy.types.Context, faces: Sequence[bpy.types.Object], suffix: str) -> None:
    """Whether faces can be exported to a file of a suffix; quick, and the disk is not touched.

    Raises:
        SelfTalkError: what stands in the way, and what to do about it.
    """
    suffix = suffix.lower()
    if suffix not in (".fbx", ".abc"):
        raise SelfTalkError(f"{suffix} is no known format. Name the file .fbx or .abc.")
    if not faces:
        raise SelfTalkError("No face is chosen. Choose the face to export.")
    if context.mode != "OBJECT":
        raise SelfTalkError("Go to Object Mode (Tab) to export.")
    for target in faces:
        if target.type != "MESH":
            raise SelfTalkError(f"{target.name} is not a mesh. Choose the face to export.")
        if target.name not in context.view_layer.objects or not target.visible_get():
            raise SelfTalkError(f"{target.name} is hidden in this scene. Show it to export it.")
        if target.hide_select:
            raise SelfTalkError(f"{target.name} cannot be selected. Allow it in the Outliner.")
        if suffix == ".fbx" and writers.has_cache(target):
            raise SelfTalkError(
                f"{target.name} is animated by a mesh cache, which FBX cannot hold. Export "
                "Alembic, or animate with the output Shape Keys."
            )


def motion_range(faces: Sequence[bpy.types.Object]) -> tuple[int, int]:
    """First and last scene frame of our motion on any of the faces.

    Raises:
        SelfTalkError: there is none, or a cache file is missing.
    """
    known = [r for r in map(lines.written_frames, faces) if r is not None]
    if not known:
        raise SelfTalkError(f"{faces[0].name} has no motion yet. Press Animate from Audio.")
    return min(first for first, _ in known), max(last for _, last in known)


def export(
    context: bpy.types.Context,
    faces: Sequence[bpy.types.Object],
    path: Path,
    frames: tuple[int, int] | None = None,
) -> None:
    """Write faces and their motion to an .fbx or .abc file at the scene's frame rate.

    FBX holds the shape keys and no modifiers; Alembic the mesh as it is seen, both outputs.
    The file appears whole or not at all, and the scene's frame, range and selection are as
    before.

    Raises:
        SelfTalkError: as `check_export`; the exporter failed or the disk is full.
    """
    path = Path(path)
    first, last = check_export(context, faces, path, frames)
    write = _write_fbx if path.suffix.lower() == ".fbx" else _write_alembic
    with _only(context, faces, first, last), atomic_path(path) as temporary:
        try:
            finished = write(temporary, first, last)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise SelfTalkError(f"Cannot write {path}: {reason}.") from error
        if "FINISHED" not in finished or not _is_whole(temporary):
            raise SelfTalkError(f"Cannot write {path}. Free some space or choose another folder.")


def _write_fbx(path: Path, first: int, last: int) -> set[str]:
    with compat.enabled_addon("io_scene_fbx"):
        return bpy.ops.export_scene.fbx(
            filepath=str(path),
            check_existing=False,
            use_selection=True,
            object_types={"MESH"},
            # Applied modifiers would cost the shape keys.
            use_mesh_modifiers=False,
            mesh_smooth_type="FACE",
            bake_anim=True,
            bake_anim_use_nla_strips=False,
            bake_anim_use_all_actions=False,
            bake_anim_simplify_factor=0.0,
        )


def _write_alembic(path: Path, first: int, last: int) -> set[str]:
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


def _is_whole(path: Path) -> bool:
    """Whether an exporter finished a file; Alembic's does not say when the disk was full."""
    with open(path, "rb") as file:
        head = file.read(6)
        if head.startswith(b"Ogawa"):
            return head[5] == 0xFF  # set when the archive is closed
        return head.startswith(b"Kaydar")


@contextlib.contextmanager
def _only(
    context: bpy.types.Context, faces: Sequence[bpy.types.Object], first: int, last: int
) -> Iterator[None]:
    """Have only these objects selected and only these frames in the scene, for a block."""
    scene, layer = context.scene, context.view_layer
    selected, active = list(context.selected_objects), layer.objects.active
    frame, subframe = scene.frame_current, scene.frame_subframe
    start, end = scene.frame_start, scene.frame_end
    preview = scene.use_preview_range
    try:
        for other in selected:
            other.select_set(False)
        for target in faces:
            target.select_set(True)
        layer.objects.active = faces[0]
        scene.use_preview_range = False
        scene.frame_start, scene.frame_end = first, last
        yield
    finally:
        scene.frame_start, scene.frame_end = start, end
        scene.use_preview_range = preview
        scene.frame_set(frame, subframe=subframe)
        for target in faces:
            target.select_set(False)
        for other in selected:
            other.select_set(True)
        layer.objects.active = active
