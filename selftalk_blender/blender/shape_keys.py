"""Shape keys of a mesh: whether they can be animated, and how some are added and taken back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import bpy
import numpy as np

from ..core.errors import SelfTalkError
from ..core.template import bundled_template
from . import compat, face
from .fcurves import key_name
from .marks import LINE, MARK

SOLO = bpy.types.Object.bl_rna.properties["show_only_shape_key"].name  # as this Blender calls it


def check(target: bpy.types.Object, names: Collection[str] = ()) -> None:
    """Whether a mesh shows its shape keys as they are animated, and those of these names in 0..1.

    Raises:
        SelfTalkError: what stands in the way, and what to do about it.
    """
    sharing = other_users(target)
    if sharing:
        raise SelfTalkError(
            f"The mesh of {target.name} is shared with {sharing[0]}: both would talk. Make it "
            "single-user (Object > Relations > Make Single User > Object & Data), or choose the "
            "output Mesh Cache."
        )
    if target.show_only_shape_key:
        raise SelfTalkError(
            f"{target.name} shows only its active shape key. Turn off {SOLO} (the pin in its Shape "
            "Keys panel)."
        )
    keys = target.data.shape_keys
    for block in keys.key_blocks if keys is not None else ():
        if block.name not in names:
            continue
        if block.mute:
            raise SelfTalkError(f"Shape key {block.name} of {target.name} is muted. Unmute it.")
        if block.slider_min > 0.0 or block.slider_max < 1.0:
            raise SelfTalkError(
                f"Shape key {block.name} of {target.name} cannot reach 0 and 1. Set its range to "
                "0..1 in the Shape Keys panel."
            )


def other_users(target: bpy.types.Object) -> list[str]:
    """Names of the other objects that share a mesh."""
    return [o.name for o in bpy.data.objects if o.data == target.data and o != target]


def add(
    target: bpy.types.Object, offsets: Iterable[tuple[str, np.ndarray]], created: list[str]
) -> Iterator[None]:
    """Add shape keys of offsets (V, 3) from the Basis, at 0, and their names to `created`."""
    for name, moved in offsets:
        active = target.active_shape_key_index
        if target.data.shape_keys is None:
            compat.add_shape_key(target, "Basis")
        key = compat.add_shape_key(target, name)
        created.append(key.name)
        reference = target.data.shape_keys.reference_key
        key.relative_key = reference
        face.set_key(key, face.key_positions(reference) + moved)
        target.active_shape_key_index = active
        yield


def add_of_head(
    target: bpy.types.Object, names: Sequence[str], created: list[str]
) -> Iterator[None]:
    """Add shapes of the bundled head to a mesh of its topology, and their names to `created`.

    Raises:
        SelfTalkError: the mesh is of another topology.
    """
    template = bundled_template()
    fit = face.correspondence(target, frozenset(template.shape_names))
    deltas = (template.shape_deltas[template.shape_names.index(name)] for name in names)
    yield from add(target, zip(names, map(fit.offsets, deltas), strict=True), created)


def take_back(target: bpy.types.Object, had_keys: bool, created: Sequence[str]) -> None:
    """Remove shape keys that were created; none where the face itself is gone."""
    try:
        if not had_keys:
            target.shape_key_clear()
        else:
            active = target.active_shape_key_index
            for name in created:
                target.shape_key_remove(target.data.shape_keys.key_blocks[name])
            target.active_shape_key_index = active
    except ReferenceError:
        pass  # the face is gone, and its keys with it


# --- Actions that they play -------------------------------------------------------------------


def is_dense(action: bpy.types.Action) -> bool:
    """Whether `dense` made an action."""
    return MARK in action and action.is_editable and action.override_library is None


def dense_action(target: bpy.types.Object) -> bpy.types.Action | None:
    """The action of `dense` that the shape keys of a mesh play."""
    keys = target.data.shape_keys
    data = keys.animation_data if keys is not None else None
    action = data.action if data is not None else None
    playing = action is not None and is_dense(action) and compat.playing_curves(keys)
    return action if playing else None


def driven(target: bpy.types.Object) -> frozenset[str]:
    """Names of the shape keys that the action of `dense` moves; none where there is none."""
    action = dense_action(target)
    return frozenset(map(key_name, action[MARK])) if action is not None else frozenset()


def talk(target: bpy.types.Object) -> bool:
    """Whether the shape keys of a mesh play an action of ours."""
    keys = target.data.shape_keys
    data = keys.animation_data if keys is not None else None
    if data is None:
        return False
    strips = [strip.action for track in data.nla_tracks for strip in track.strips]
    return any(a is not None and (LINE in a or is_dense(a)) for a in (data.action, *strips))
