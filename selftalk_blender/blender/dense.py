"""A motion of vertices as shape keys: what a user's own animator gives, for FBX and for editing.

The motion comes as few shapes and their weights (`core.principal`). Ours are
- the shape keys made for it: their names stand in the keys' custom property MADE_KEYS;
- an action with the custom property MARK: the list of F-curve paths that we wrote in it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import bpy
import numpy as np

from ..core.errors import SelfTalkError
from ..core.motion import Motion
from ..core.principal import MOST, NAME
from ..core.steps import paced
from . import compat, face, mesh_cache, shape_keys
from .fcurves import discard, fill_keys, key_name, key_path
from .marks import LINE, MADE_KEYS, MARK
from .neutral import Neutral


def check(target: bpy.types.Object, template: Neutral) -> None:
    """Whether `write` can write onto a mesh.

    Args:
        template: the neutral face that will move.

    Raises:
        SelfTalkError: what stands in the way, and what to do about it.
    """
    face.check(target, template)
    mesh_cache.check_modifiers(target)
    keys = target.data.shape_keys
    names = {NAME.format(index) for index in range(MOST + 1)}
    others = names.intersection(face.key_names(target)) - face.driven_keys(target, template)
    if others:
        raise SelfTalkError(
            f"Shape key {min(others)} of {target.name} has the name of one of SelfTalk's, but "
            "SelfTalk did not make it. Rename it."
        )
    shape_keys.check(target, names)
    data = keys.animation_data if keys is not None else None
    if data is None:
        return
    if data.use_tweak_mode:
        raise SelfTalkError(
            f"An NLA strip of {target.name} is being tweaked. Leave Tweak Mode (Tab)."
        )
    driven = names & {key_name(curve.data_path) for curve in data.drivers}
    if driven:
        raise SelfTalkError(
            f"Shape key {min(driven)} of {target.name} has a driver, which SelfTalk leaves alone. "
            "Remove it, or choose the output Mesh Cache."
        )
    action = data.action
    if action is not None and not shape_keys.is_dense(action) and LINE not in action:
        raise SelfTalkError(
            f"The shape keys of {target.name} have the action {action.name}, which SelfTalk "
            "leaves alone. Push it down or unlink it in the Action Editor (Shape Key mode), or "
            "choose the output Mesh Cache."
        )


def write(
    target: bpy.types.Object, motion: Motion, first_frame: int, template: Neutral
) -> Iterator[float]:
    """Animate a mesh by shape keys made for one motion, one linear key per frame.

    Keys that we made for an earlier motion are replaced. F-curves that the artist added to our
    action stay, and keep their shape from us. A mesh cache of ours is removed.

    Args:
        motion: from `core.principal`, at the scene's frame rate; its frame i stands at scene
            frame first_frame + i.
        template: the neutral face that moves.

    Yields:
        How much is done, 0..1. If the generator is closed or fails, the scene is as before.

    Raises:
        SelfTalkError: as `check`; the face was removed meanwhile.
    """
    check(target, template)
    had_keys = target.data.shape_keys is not None
    old = shape_keys.dense_action(target)
    created: list[str] = []
    action = None
    try:
        renewed = yield from paced(_make_keys(target, motion, template, created), 0.1)
        yield 0.1
        keys = target.data.shape_keys
        if old is not None:
            action, slot = old.copy(), compat.slot_number(keys.animation_data)
        else:
            action = bpy.data.actions.new("SelfTalk")
            slot = compat.add_slot(action, keys)
        yield from _write_curves(compat.slot_curves(action, slot), action, motion, first_frame)
    except ReferenceError as error:
        _undo(target, had_keys, created, action)
        raise SelfTalkError("The face was removed while it was being animated.") from error
    except BaseException:
        _undo(target, had_keys, created, action)
        raise
    # From here on nothing fails: the scene changes at once.
    compat.play_action(keys.animation_data or keys.animation_data_create(), action, slot)
    if old is not None:
        discard(old)
    action.name = f"SelfTalk {target.name}"
    for name, positions in renewed.items():
        face.set_key(keys.key_blocks[name], positions)
    _remove_made_keys(target, template, but=motion.template.shape_names)
    mesh_cache.remove(target)
    yield 1.0


def _make_keys(
    target: bpy.types.Object, motion: Motion, template: Neutral, created: list[str]
) -> Generator[None, None, dict[str, np.ndarray]]:
    """Add the shapes of a motion that a mesh lacks, and their names to `created`.

    Returns:
        For keys that we made for an earlier motion: their new positions (V, 3).
    """
    fit = face.correspondence(target, face.driven_keys(target, template), template)
    present = face.key_names(target)
    shapes = zip(motion.template.shape_names, motion.template.shape_deltas, strict=True)
    offsets = {name: fit.offsets(delta) for name, delta in shapes}
    new = [(name, moved) for name, moved in offsets.items() if name not in present]
    yield from shape_keys.add(target, new, created)
    basis = face.key_positions(target.data.shape_keys.reference_key)
    return {name: basis + moved for name, moved in offsets.items() if name in present}


def _undo(
    target: bpy.types.Object, had_keys: bool, created: list[str], action: bpy.types.Action | None
) -> None:
    if action is not None:
        bpy.data.actions.remove(action)
    shape_keys.take_back(target, had_keys, created)


def _write_curves(
    curves: Any, action: bpy.types.Action, motion: Motion, first_frame: int
) -> Iterator[float]:
    """Replace our F-curves in an action by those of a motion; mark them."""
    assert motion.weights is not None
    _remove_curves(curves, action)
    points = np.empty((len(motion), 2), np.float32)
    points[:, 0] = first_frame + np.arange(len(motion))
    written = []
    for index, name in enumerate(motion.template.shape_names):
        path = key_path(name)
        if curves.find(path) is None:
            points[:, 1] = motion.weights[:, index]
            fill_keys(curves.new(path), points)
            written.append(path)
        yield 0.1 + 0.85 * (index + 1) / len(motion.template.shape_names)
    action[MARK] = written


def _remove_curves(curves: Any, action: bpy.types.Action) -> None:
    for path in action.get(MARK, ()):
        curve = curves.find(path)
        if curve is not None:
            curves.remove(curve)


def _remove_made_keys(target: bpy.types.Object, template: Neutral, but: Sequence[str] = ()) -> None:
    """Remove all keys made for a motion but some, which are marked as made."""
    keys = target.data.shape_keys
    for name in face.driven_keys(target, template):
        if name not in but and name in keys.key_blocks:
            target.shape_key_remove(keys.key_blocks[name])
    keys[MADE_KEYS] = list(but)
    target.data.update()


def release(target: bpy.types.Object) -> None:
    """Take our F-curves off a mesh; the keys stay, at 0, and so does what the artist added."""
    action = shape_keys.dense_action(target)
    if action is None:
        return
    keys = target.data.shape_keys
    moved = shape_keys.driven(target)
    curves = compat.slot_curves(action, compat.slot_number(keys.animation_data))
    if all(curve.data_path in action[MARK] for curve in curves):
        keys.animation_data.action = None
        discard(action)
    else:
        _remove_curves(curves, action)
        action[MARK] = []
    for name in moved.intersection(keys.key_blocks.keys()):
        keys.key_blocks[name].value = 0.0


def remove(target: bpy.types.Object, template: Neutral) -> None:
    """`release` a mesh, and remove the keys that were made for it."""
    release(target)
    if target.data.shape_keys is not None:
        _remove_made_keys(target, template)


def written_frames(target: bpy.types.Object) -> tuple[int, int] | None:
    """First and last scene frame of our keys on a mesh; None where there are none."""
    action = shape_keys.dense_action(target)
    for curve in compat.playing_curves(target.data.shape_keys) if action is not None else ():
        if curve.data_path in action[MARK] and len(curve.keyframe_points):
            first, last = curve.range()
            return round(first), round(last)
    return None
