"""A scene of its own with copies of what is exported, every frame of them keyed.

Exporters see plain data there: shape keys, bones and transforms with a key in each frame, whatever
moved them in the artist's scene: actions, NLA strips that add up, drivers, constraints, parents.
Only the stage is changed for a format: units, axes, names, and the frame at which it begins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from .. import compat
from ..face import group_weights, key_positions, set_key
from ..fcurves import fill_keys, key_path
from ..mesh_cache import have_play
from .caches import unsmoothed
from .cast import Cast

STILL = 1e-6  # a value that moves by less gets no curve


@dataclass(eq=False)
class Sampled:
    """An object over T frames. Of a mesh with a cache that, and nothing else, says how it moves.

    Attributes:
        thing: the object.
        rig: the armature that bends it, or None.
        places: T matrices in the world; in its armature's space where one bends it.
        keys: (T, K) values of its shape keys, of a mesh that has some.
        bones: (T, B, 10) location, quaternion and scale of its bones' poses, of an armature.
        cache: file of the T places of its vertices in the world, as `caches.write_placed` has it.
    """

    thing: bpy.types.Object
    rig: bpy.types.Object | None = None
    places: list[Matrix] = field(default_factory=list)
    keys: np.ndarray | None = None
    bones: np.ndarray | None = None
    cache: Path | None = None


def sample(
    context: bpy.types.Context, cast: Cast, first: int, last: int
) -> Generator[float, None, list[Sampled]]:
    """Look at each frame of the scene; the scene's frame is another one afterwards.

    Yields:
        How much is done, 0..1.

    Returns:
        The armatures, then the meshes.
    """
    scene, count, found = context.scene, last - first + 1, []
    for thing in (*cast.rigs, *cast.meshes):
        made = Sampled(thing, cast.rig_of(thing) if thing.type == "MESH" else None)
        if thing.type == "ARMATURE":
            made.bones = np.empty((count, len(thing.pose.bones), 10), np.float32)
        elif thing.data.shape_keys is not None:
            made.keys = np.empty((count, len(thing.data.shape_keys.key_blocks)), np.float32)
        found.append(made)
    for number in range(count):
        scene.frame_set(first + number)
        graph = context.evaluated_depsgraph_get()
        for made in found:
            seen = made.thing.evaluated_get(graph)
            place = seen.matrix_world.copy()
            if made.rig is not None:
                place = made.rig.evaluated_get(graph).matrix_world.inverted_safe() @ place
            made.places.append(place)
            if made.keys is not None:
                keys = made.thing.data.shape_keys.key_blocks
                keys.foreach_get("value", made.keys[number])
                made.keys[number, [key.mute for key in keys]] = 0.0
            if made.bones is not None:
                made.bones[number] = [_pose(bone) for bone in seen.pose.bones]
        yield (number + 1) / count
    return found


def _pose(bone: bpy.types.PoseBone) -> list[float]:
    """Location, quaternion and scale that pose a bone as it is seen, constraints and all."""
    rest, parent = bone.bone.matrix_local, bone.parent
    if parent is None:
        own = bone.bone.convert_local_to_pose(bone.matrix, rest, invert=True)
    else:
        own = bone.bone.convert_local_to_pose(
            bone.matrix,
            rest,
            parent_matrix=parent.matrix,
            parent_matrix_local=parent.bone.matrix_local,
            invert=True,
        )
    return [part for vector in own.decompose() for part in vector]


@contextlib.contextmanager
def staged(
    context: bpy.types.Context,
    found: Sequence[Sampled],
    first: int,
    name: str,
    basis: Matrix | None = None,
    rename: Callable[[str], str] = str,
) -> Iterator[bpy.types.Scene]:
    """Have a scene with what was sampled on view for the length of a block, and nothing else.

    Args:
        first: frame at which it begins.
        name: of the scene, and so of the animation in some formats.
        basis: a turn and an even scale that all geometry goes through; none by default.
        rename: what objects, bones and shape keys are called in the file.
    """
    basis = basis or Matrix()
    scene = context.scene
    window = context.window or context.window_manager.windows[0]
    shown = window.scene
    stage = bpy.data.scenes.new(name)
    stage.render.fps, stage.render.fps_base = scene.render.fps, scene.render.fps_base
    stage.frame_end = first + len(found[0].places) - 1
    stage.frame_start = first  # at 0 at the earliest
    copies: dict[bpy.types.Object, bpy.types.Object] = {}
    borrowed: dict[bpy.types.ID, str] = {}
    made: list[bpy.types.ID] = []

    def take_name(original: bpy.types.ID, copy: bpy.types.ID) -> None:
        """The copy is called as the original, which is called otherwise meanwhile."""
        wanted = borrowed.get(original, original.name)
        made.append(copy)
        if original.library is None and original not in borrowed:
            borrowed[original] = wanted
            original.name = "SelfTalk export"
        _call(copy, wanted, rename(wanted), _blocks(copy))

    try:
        for each in found:
            copies[each.thing] = _copy(context, each, copies, basis, first, take_name)
            stage.collection.objects.link(copies[each.thing])
        window.scene = stage
        stage.view_layers[0].update()  # poses are made
        for each in found:
            copy = copies[each.thing]
            made += _animate(each, copy, first, basis)
            names = copy.data.bones if copy.type == "ARMATURE" else ()
            if copy.type == "MESH" and copy.data.shape_keys is not None:
                names = copy.data.shape_keys.key_blocks
            for part in names:
                _call(part, part.name, rename(part.name), names)
        stage.frame_set(first)
        # Exporters look at the scene of the context, some of them at the window's.
        view = {"window": window, "scene": stage, "view_layer": stage.view_layers[0]}
        with context.temp_override(**view):
            yield stage
    finally:
        window.scene = shown
        bpy.data.scenes.remove(stage)
        for copy in reversed(made):
            _remove(copy)
        for original, wanted in borrowed.items():
            original.name = wanted


def _blocks(block: bpy.types.ID) -> Any:
    """All of its kind in this file."""
    kinds = {"OBJECT": "objects", "MESH": "meshes", "ARMATURE": "armatures", "ACTION": "actions"}
    return getattr(bpy.data, kinds[block.id_type])


def _remove(block: bpy.types.ID) -> None:
    _blocks(block).remove(block)


def _call(thing: Any, name: str, wanted: str, others: Any) -> None:
    """Give a thing its new name, with a number where one of the others has it.

    Blender's own number would come with a dot, which renaming is there to avoid.
    """
    free, number = wanted, 1
    while wanted != name and free in others:
        number += 1
        free = f"{wanted[:58]}_{number}"
    if thing.name != free:
        thing.name = free


def _copy(
    context: bpy.types.Context,
    each: Sampled,
    copies: dict[bpy.types.Object, bpy.types.Object],
    basis: Matrix,
    first: int,
    take_name: Callable[[bpy.types.ID, bpy.types.ID], None],
) -> bpy.types.Object:
    """An object as it stands in the first frame, with data of its own and no animation."""
    thing = each.thing
    data = thing.data.copy() if each.cache is None else _as_seen(context, thing)
    take_name(thing.data, data)
    data.animation_data_clear()
    copy = bpy.data.objects.new("SelfTalk export", data)
    take_name(thing, copy)
    copy.rotation_mode = "QUATERNION"
    if thing.type == "ARMATURE":
        data.pose_position = "POSE"
        data.transform(basis)
        return copy
    # A parent may shear; no location, turn and scale can, so that is left in the mesh.
    place = each.places[0]
    shear = Matrix.LocRotScale(*place.decompose()).inverted_safe() @ place
    if data.shape_keys is not None:
        data.shape_keys.animation_data_clear()
        for key in data.shape_keys.key_blocks:
            key.mute = False
            key.slider_min, key.slider_max = -10.0, 10.0  # a slider's end is no end of the motion
        _make_plain(copy)
    data.transform(basis @ shear, shape_keys=True)
    for slot, own in zip(copy.material_slots, thing.material_slots, strict=False):
        if own.link == "OBJECT":
            slot.link, slot.material = "OBJECT", own.material
    if each.cache is not None:
        have_play(copy.modifiers.new("Cache", "MESH_CACHE"), each.cache, first)
    if each.rig is not None:
        copy.parent = copies[each.rig]
        own = next((m for m in thing.modifiers if m.type == "ARMATURE"), None)
        modifier = copy.modifiers.new("Armature", "ARMATURE")
        modifier.object = copies[each.rig]
        if own is not None:
            for setting in ("use_vertex_groups", "vertex_group", "invert_vertex_group"):
                setattr(modifier, setting, getattr(own, setting))
            modifier.use_deform_preserve_volume = own.use_deform_preserve_volume
    return copy


def _as_seen(context: bpy.types.Context, mesh: bpy.types.Object) -> bpy.types.Mesh:
    """A mesh of its own with all that modifiers, but smoothing, make of one in this frame."""
    with unsmoothed(mesh):
        graph = context.evaluated_depsgraph_get()
        seen = mesh.evaluated_get(graph)
        return bpy.data.meshes.new_from_object(seen, preserve_all_data_layers=True, depsgraph=graph)


def _make_plain(copy: bpy.types.Object) -> None:
    """Have each shape key hold all that it does: relative to the basis, without a vertex group.

    No exporter knows a shape key's vertex group, and not all of them its relative key.
    """
    keys = copy.data.shape_keys
    basis, groups = keys.reference_key, copy.vertex_groups
    uneven = [
        key
        for key in keys.key_blocks
        if key != basis and (key.vertex_group in groups or key.relative_key != basis)
    ]
    names = {key.vertex_group for key in uneven if key.vertex_group in groups}
    shares = {name: group_weights(copy, name) for name in names}
    start = key_positions(basis)
    moved = [key_positions(key) - key_positions(key.relative_key) for key in uneven]
    for key, offsets in zip(uneven, moved, strict=True):
        if key.vertex_group in groups:
            offsets *= shares[key.vertex_group]
        set_key(key, start + offsets)
        key.relative_key, key.vertex_group = basis, ""


def _animate(
    each: Sampled, copy: bpy.types.Object, first: int, basis: Matrix
) -> list[bpy.types.Action]:
    """Key a copy in each frame; the actions made."""
    back, scale = basis.inverted(), basis.median_scale
    places = [(basis @ place @ back).decompose() for place in each.places]
    location = np.array([place[0] for place in places])
    turn = _continuous(np.array([place[1] for place in places]))
    size = np.array([place[2] for place in places])
    curves: dict[str, np.ndarray] = {
        "location": location, "rotation_quaternion": turn, "scale": size,
    }  # fmt: skip
    for path, values in curves.items():
        setattr(copy, path, values[0])
    if each.bones is not None:
        for number, bone in enumerate(each.thing.data.bones):
            pose = copy.pose.bones[bone.name]
            pose.rotation_mode = "QUATERNION"
            values = each.bones[:, number]
            where = f'pose.bones["{bpy.utils.escape_identifier(bone.name)}"].'
            for path, part in (
                ("location", values[:, :3] * scale),
                ("rotation_quaternion", _continuous(values[:, 3:7])),
                ("scale", values[:, 7:]),
            ):
                setattr(pose, path, part[0])
                curves[where + path] = part
    actions = _key(copy, curves, first)
    keys = copy.data.shape_keys if copy.type == "MESH" else None
    if keys is not None and each.keys is not None:
        keys.key_blocks.foreach_set("value", each.keys[0])
        values = {
            key_path(key.name): each.keys[:, [number]]
            for number, key in enumerate(keys.key_blocks)
            if number
        }
        actions += _key(keys, values, first)
    return actions


def _continuous(turns: np.ndarray) -> np.ndarray:
    """Quaternions (T, 4) that never jump to their negative, which is the same turn."""
    signs = np.sign(np.einsum("tc,tc->t", turns[1:], turns[:-1]))
    signs[signs == 0] = 1
    return turns * np.concatenate([[1.0], np.cumprod(signs)])[:, None]


def _key(owner: bpy.types.ID, curves: dict[str, np.ndarray], first: int) -> list[bpy.types.Action]:
    moving = {path: v for path, v in curves.items() if np.ptp(v, axis=0).max() > STILL}
    if not moving:
        return []
    action = bpy.data.actions.new(owner.name)
    slot = compat.add_slot(action, owner)
    compat.play_action(owner.animation_data_create(), action, slot)
    into = compat.slot_curves(action, slot)
    for path, values in moving.items():
        points = np.empty((len(values), 2), np.float32)
        points[:, 0] = first + np.arange(len(points))
        for index, column in enumerate(values.T):
            points[:, 1] = column
            fill_keys(into.new(path, index=index), points)
    return [action]
