"""Who goes into a file: the face, what goes along with it, and the armature that moves it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import bpy

from ...core.words import counted
from .. import parts

# Modifiers that FBX, glTF and USD can do without: smoothing is made again where the file goes.
SMOOTHING = ("SUBSURF", "MULTIRES", "WEIGHTED_NORMAL", "EDGE_SPLIT", "TRIANGULATE", "WELD")
COLOURS = ("BYTE_COLOR", "CORNER")  # the kind of color attributes that Alembic holds


@dataclass(frozen=True)
class Cast:
    """Meshes and armatures of a file, each once; `rig_of` tells which armature bends a mesh."""

    meshes: tuple[bpy.types.Object, ...]
    rigs: tuple[bpy.types.Object, ...]

    def rig_of(self, mesh: bpy.types.Object) -> bpy.types.Object | None:
        rig = bending_rig(mesh)
        return rig if rig in self.rigs else None


def bending_rig(mesh: bpy.types.Object) -> bpy.types.Object | None:
    """The armature that bends a mesh, by modifier or as its parent."""
    for modifier in mesh.modifiers:
        if modifier.type == "ARMATURE" and modifier.object is not None:
            return modifier.object if modifier.show_viewport else None
    if mesh.parent_type == "ARMATURE" and mesh.parent is not None:
        return mesh.parent
    return None


def cast_of(
    context: bpy.types.Context, faces: Sequence[bpy.types.Object], with_parts: bool
) -> Cast:
    """The faces; with their parts, the meshes that hang on them, and their armatures, if asked.

    Hidden parts stay behind: a file holds what is seen.
    """
    if not with_parts:
        return Cast(tuple(faces), ())
    wanted = dict.fromkeys(faces)
    for face in faces:
        for other in (*parts.parts_of(face), *face.children_recursive):
            here = other.name in context.view_layer.objects
            if other.type == "MESH" and here and other.visible_get():
                wanted[other] = None
    rigs = dict.fromkeys(rig for rig in map(bending_rig, wanted) if rig is not None)
    return Cast(tuple(wanted), tuple(rigs))


def over_four(cast: Cast) -> list[str]:
    """A sentence on each mesh with vertices that more than four bones bend, as glTF's do not."""
    notices = []
    for mesh in cast.meshes:
        rig = cast.rig_of(mesh)
        if rig is None:
            continue
        bends = {
            group.index
            for group in mesh.vertex_groups
            if (bone := rig.data.bones.get(group.name)) is not None and bone.use_deform
        }
        many = sum(
            sum(g.weight > 0 and g.group in bends for g in vertex.groups) > 4
            for vertex in mesh.data.vertices
        )
        if many:
            notices.append(
                f"More than four bones bend {counted(many, 'vertex', 'vertices')} of {mesh.name}; "
                "glTF keeps the four strongest of each."
            )
    return notices


def uncoloured(cast: Cast) -> list[str]:
    """A sentence on each mesh with colours that Blender's Alembic exporter leaves out."""
    notices = []
    for mesh in cast.meshes:
        lost = [c.name for c in mesh.data.color_attributes if (c.data_type, c.domain) != COLOURS]
        if lost:
            notices.append(
                f"Not in the file: the colours {' and '.join(lost)} of {mesh.name}. Alembic holds "
                "byte colours of face corners; Convert Color Attribute makes them so."
            )
    return notices


def left_out(cast: Cast) -> list[str]:
    """Sentences on what shape keys and bones cannot hold of these meshes."""
    notices = []
    for mesh in cast.meshes:
        lost = [
            modifier.name
            for modifier in mesh.modifiers
            if modifier.show_viewport and modifier.type not in (*SMOOTHING, "ARMATURE")
        ]
        if lost:
            notices.append(
                f"Not in the file: what {' and '.join(lost)} does to {mesh.name}. Alembic holds it."
            )
        keeping = [m for m in mesh.modifiers if m.type == "ARMATURE" and m.show_viewport]
        if any(m.use_deform_preserve_volume for m in keeping) and cast.rig_of(mesh) is not None:
            notices.append(
                f"{mesh.name} is bent with Preserve Volume, which few programs know; elsewhere it "
                "may bend a little otherwise."
            )
        if bending_rig(mesh) is not None and cast.rig_of(mesh) is None:
            notices.append(f"{mesh.name} is in the file without its armature, unbent.")
    return notices
