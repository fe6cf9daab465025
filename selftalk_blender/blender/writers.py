"""Motion onto a mesh: as animated shape keys, or as a mesh cache.

Ours is what carries our mark (`marks`), and nothing else is replaced or removed:
- an action with the custom property MARK: the list of F-curve paths that we wrote in it;
- shape keys made for one motion: their names stand in the keys' custom property MADE_KEYS;
- a Mesh Cache modifier whose name stands in the object's custom property MARK;
- cache files, by their ending CACHE_SUFFIX.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..core.aside import aside
from ..core.errors import SelfTalkError
from ..core.files import atomic_path, check_writable
from ..core.mdd import write_mdd
from ..core.motion import Motion
from ..core.principal import MOST, NAME
from ..core.steps import paced
from ..core.template import bundled_template
from . import compat, face
from .fcurves import discard, fill_keys, key_name, key_path
from .marks import LINE, MADE_KEYS, MARK
from .neutral import Neutral

MODIFIER = "SelfTalk Mesh Cache"
CACHE_FOLDER = "//selftalk_cache/"
CACHE_SUFFIX = ".selftalk.mdd"
# A weight below this all along moves the head's largest shape by less than 0.005 mm.
STILL = 1e-4
CHUNK = 80_000  # vertices of a mesh cache that are written at a time


# --- Shape keys ---------------------------------------------------------------------------


def check_shape_keys(target: bpy.types.Object | None, template: Neutral | None = None) -> None:
    """Whether `write_shape_keys` can write onto a mesh.

    Args:
        template: the neutral face that will move; None for the bundled head.

    Raises:
        SelfTalkError: what stands in the way, and what to do about it.
    """
    face.check(target, template)
    assert target is not None
    check_modifiers(target)
    keys = target.data.shape_keys
    names = set(bundled_template().shape_names)
    if template is not None:
        names = {NAME.format(index) for index in range(MOST + 1)}
        present = set(keys.key_blocks.keys()) if keys is not None else set()
        others = sorted((names & present) - face.driven_keys(target, template))
        if others:
            raise SelfTalkError(
                f"Shape key {others[0]} of {target.name} has the name of one of SelfTalk's, but "
                "SelfTalk did not make it. Rename it."
            )
    check_keys(target, names)
    if keys is None:
        return
    data = keys.animation_data
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
            "Remove the drivers of its face shapes, or choose the output Mesh Cache."
        )
    if data.action is not None and not is_ours(data.action) and LINE not in data.action:
        raise SelfTalkError(
            f"The shape keys of {target.name} have the action {data.action.name}, which SelfTalk "
            "leaves alone. Push it down or unlink it in the Action Editor (Shape Key mode), or "
            "choose the output Mesh Cache."
        )


def check_keys(target: bpy.types.Object, names: Collection[str] = ()) -> None:
    """Whether a mesh shows its shape keys as they are animated, and those of these names in 0..1.

    Raises:
        SelfTalkError: what stands in the way, and what to do about it.
    """
    sharing = _other_users(target)
    if sharing:
        raise SelfTalkError(
            f"The mesh of {target.name} is shared with {sharing[0]}: both would talk. Make it "
            "single-user (Object > Relations > Make Single User > Object & Data), or choose the "
            "output Mesh Cache."
        )
    if target.show_only_shape_key:
        raise SelfTalkError(
            f"{target.name} shows only its active shape key. Turn off Shape Key Lock (the pin in "
            "its Shape Keys panel)."
        )
    keys = target.data.shape_keys
    for block in (
        key for key in (keys.key_blocks if keys is not None else ()) if key.name in names
    ):
        if block.mute:
            raise SelfTalkError(f"Shape key {block.name} of {target.name} is muted. Unmute it.")
        if block.slider_min > 0.0 or block.slider_max < 1.0:
            raise SelfTalkError(
                f"Shape key {block.name} of {target.name} cannot reach 0 and 1. Set its range to "
                "0..1 in the Shape Keys panel."
            )


def write_shape_keys(
    target: bpy.types.Object, motion: Motion, first_frame: int, template: Neutral | None = None
) -> Iterator[float]:
    """Animate a mesh by its face shape keys; keys that it lacks are created.

    Shapes of another template than the bundled head are made for one motion (by
    `core.principal`): keys that we made for an earlier one are replaced.

    Only shapes that move are animated, with weights in [0, 1], one linear key per frame. Shapes
    that our last result moved and this one does not go back to 0. F-curves that the artist
    added to our action stay, and keep their shape from us. A mesh cache of ours is removed.

    Args:
        motion: at the scene's frame rate; its frame i stands at scene frame first_frame + i.
        template: the neutral face that moves; None for the bundled head.

    Yields:
        How much is done, 0..1. If the generator is closed or fails, the scene is as before.

    Raises:
        SelfTalkError: as `check_shape_keys`; the face was removed meanwhile.
    """
    check_shape_keys(target, template)
    if motion.weights is None:
        raise SelfTalkError("This motion has no shape weights. Choose the output Mesh Cache.")
    had_keys = target.data.shape_keys is not None
    old = _our_action(target)
    created: list[str] = []
    action = None
    try:
        renewed = yield from paced(_create_keys(target, motion, template, created), 0.1)
        yield 0.1
        keys = target.data.shape_keys
        if keys is not None:
            action = old.copy() if old is not None else compat.new_action("SelfTalk", keys)
            yield from _write_curves(compat.owner_curves(action, keys), action, motion, first_frame)
    except ReferenceError as error:
        _undo(target, had_keys, created, action)
        raise SelfTalkError("The face was removed while it was being animated.") from error
    except BaseException:
        _undo(target, had_keys, created, action)
        raise
    # From here on nothing fails: the scene changes at once.
    if action is not None:
        compat.assign_action(keys, action)
        _reset_still_keys(keys, old, action)
        if old is not None:
            discard(old)
        action.name = f"SelfTalk {target.name}"
    if template is not None:
        _renew_made_keys(target, template, _moving(motion), renewed)
    remove_cache(target)
    yield 1.0


def _moving(motion: Motion) -> dict[str, int]:
    """Name -> index of the shapes that are ever away from 0 (all, for a motion without weights)."""
    names = motion.template.shape_names
    if motion.weights is None:
        return {name: index for index, name in enumerate(names)}
    highest = motion.weights.max(0, initial=0.0)
    return {name: index for index, name in enumerate(names) if highest[index] > STILL}


def _create_keys(
    target: bpy.types.Object, motion: Motion, template: Neutral | None, created: list[str]
) -> Generator[None, None, dict[str, np.ndarray]]:
    """Add the moving shapes that a mesh lacks, and their names to `created`.

    Returns:
        For keys that we made for an earlier motion and need again: their new positions (V, 3).
    """
    moving = _moving(motion)
    made = face.driven_keys(target, template) if template is not None else frozenset()
    fit = face.correspondence(target, made | frozenset(moving), template)
    present = set(target.data.shape_keys.key_blocks.keys()) if target.data.shape_keys else set()
    offsets = {
        name: fit.offsets(motion.template.shape_deltas[moving[name]])
        for name in moving
        if name not in present or name in made
    }
    new = [(name, offsets[name]) for name in moving if name not in present]
    yield from add_keys(target, new, created)
    again = [name for name in moving if name in made & present]
    if not again:
        return {}
    basis = face.key_positions(target.data.shape_keys.reference_key)
    return {name: basis + offsets[name] for name in again}


def create_head_keys(
    target: bpy.types.Object, names: Sequence[str], created: list[str]
) -> Iterator[None]:
    """Add shapes of the bundled head to a mesh of its topology, and their names to `created`.

    Raises:
        SelfTalkError: the mesh is of another topology.
    """
    template = bundled_template()
    fit = face.correspondence(target, frozenset(template.shape_names))
    deltas = (template.shape_deltas[template.shape_names.index(name)] for name in names)
    yield from add_keys(target, zip(names, map(fit.offsets, deltas), strict=True), created)


def add_keys(
    target: bpy.types.Object, offsets: Iterable[tuple[str, np.ndarray]], created: list[str]
) -> Iterator[None]:
    """Add shape keys of offsets (V, 3) from the Basis, at 0, and their names to `created`."""
    active = target.active_shape_key_index
    for name, moved in offsets:
        if target.data.shape_keys is None:
            compat.add_shape_key(target, "Basis")
        key = compat.add_shape_key(target, name)
        created.append(key.name)
        reference = target.data.shape_keys.reference_key
        key.relative_key = reference
        face.set_key(key, face.key_positions(reference) + moved)
        yield
    target.active_shape_key_index = active


def _renew_made_keys(
    target: bpy.types.Object,
    template: Neutral,
    moving: Mapping[str, int],
    renewed: Mapping[str, np.ndarray],
) -> None:
    """Give the keys of an earlier motion their new positions, and remove those left over."""
    keys = target.data.shape_keys
    for name, positions in renewed.items():
        face.set_key(keys.key_blocks[name], positions)
    for name in face.driven_keys(target, template):
        if name not in moving and name in keys.key_blocks:
            target.shape_key_remove(keys.key_blocks[name])
    keys[MADE_KEYS] = list(moving)
    target.data.update()


def _undo(
    target: bpy.types.Object, had_keys: bool, created: list[str], action: bpy.types.Action | None
) -> None:
    if action is not None:
        bpy.data.actions.remove(action)
    remove_keys(target, had_keys, created)


def remove_keys(target: bpy.types.Object, had_keys: bool, created: Sequence[str]) -> None:
    """Take back shape keys that were created; none where the face itself is gone."""
    try:
        if not had_keys:
            target.shape_key_clear()
        else:
            for name in created:
                target.shape_key_remove(target.data.shape_keys.key_blocks[name])
    except ReferenceError:
        pass  # the face is gone, and its keys with it


def _write_curves(
    curves: Any, action: bpy.types.Action, motion: Motion, first_frame: int
) -> Iterator[float]:
    """Replace our F-curves in an action by those of a motion; mark them."""
    for path in action.get(MARK, ()):
        curve = curves.find(path)
        if curve is not None:
            curves.remove(curve)
    points = np.empty((len(motion), 2), np.float32)
    points[:, 0] = first_frame + np.arange(len(motion))
    moving = _moving(motion)
    written = []
    for done, (name, index) in enumerate(moving.items(), 1):
        path = key_path(name)
        if curves.find(path) is None:
            assert motion.weights is not None
            points[:, 1] = np.clip(motion.weights[:, index], 0.0, 1.0)
            fill_keys(curves.new(path), points)
            written.append(path)
        yield 0.1 + 0.85 * done / len(moving)
    action[MARK] = written


def _reset_still_keys(
    keys: bpy.types.Key, old: bpy.types.Action | None, action: bpy.types.Action | None
) -> None:
    """Set the shapes to 0 that our old action moved and the present one does not."""
    if old is None:
        return
    curves = compat.owner_curves(action, keys) if action is not None else None
    for path in old[MARK]:
        name = key_name(path)
        if name in keys.key_blocks and (curves is None or curves.find(path) is None):
            keys.key_blocks[name].value = 0.0


def _our_action(target: bpy.types.Object) -> bpy.types.Action | None:
    keys = target.data.shape_keys
    data = keys.animation_data if keys is not None else None
    action = data.action if data is not None else None
    return action if action is not None and is_ours(action) else None


def _talks_by_keys(target: bpy.types.Object) -> bool:
    """Whether the shape keys of a mesh play an action of ours."""
    keys = target.data.shape_keys
    data = keys.animation_data if keys is not None else None
    if data is None:
        return False
    strips = [strip.action for track in data.nla_tracks for strip in track.strips]
    return any(a is not None and (LINE in a or is_ours(a)) for a in (data.action, *strips))


def is_ours(action: bpy.types.Action) -> bool:
    """Whether `write_shape_keys` made an action."""
    return MARK in action and action.is_editable and action.override_library is None


def remove_dense(target: bpy.types.Object) -> None:
    """Take our F-curves off a mesh; the keys stay, at 0, and so does what the artist added."""
    old = _our_action(target)
    if old is None:
        return
    keys = target.data.shape_keys
    curves = compat.owner_curves(old, keys)
    if all(curve.data_path in old[MARK] for curve in curves):
        keys.animation_data.action = None
        _reset_still_keys(keys, old, None)
        discard(old)
        return
    for path in old[MARK]:
        curve = curves.find(path)
        if curve is not None:
            curves.remove(curve)
    _reset_still_keys(keys, old, old)
    old[MARK] = []


# --- Mesh cache ---------------------------------------------------------------------------


def cache_path(target: bpy.types.Object, folder: str = "") -> Path:
    """Where the cache of a face goes: one file per .blend and object.

    Args:
        folder: a folder, absolute or "//relative" to the .blend; by default CACHE_FOLDER.

    Raises:
        SelfTalkError: the place is relative to a .blend that is not saved yet.
    """
    folder = folder or CACHE_FOLDER
    if folder.startswith("//") and not bpy.data.filepath:
        raise SelfTalkError("The mesh cache goes beside the .blend: save it, or choose a folder.")
    scene = f"{Path(bpy.data.filepath).stem}-" if bpy.data.filepath else ""
    name = re.sub(r"[^\w. -]", "_", scene + target.name)
    return Path(os.path.abspath(bpy.path.abspath(folder))) / (name + CACHE_SUFFIX)


def check_mesh_cache(
    target: bpy.types.Object | None, path: Path, template: Neutral | None = None
) -> None:
    """Whether `write_mesh_cache` can write onto a mesh and to a file.

    Args:
        template: the neutral face that will move; None for the bundled head.

    Raises:
        SelfTalkError: what stands in the way, and what to do about it.
    """
    face.check(target, template)
    assert target is not None
    check_modifiers(target)
    sharing = _other_users(target)
    if sharing and _talks_by_keys(target):
        raise SelfTalkError(
            f"The mesh of {target.name} is shared with {sharing[0]}, and both talk by its shape "
            "keys. Make it single-user first (Object > Relations > Make Single User > Object & "
            "Data)."
        )
    if not path.name.endswith(CACHE_SUFFIX):
        raise SelfTalkError(f"{path.name} is no name of a cache: it must end in {CACHE_SUFFIX}.")
    other = _cache_owner(path, target)
    if other:
        raise SelfTalkError(
            f"{other} already plays {path}. Rename {target.name} or choose another cache folder."
        )
    check_writable(path)


def write_mesh_cache(
    target: bpy.types.Object,
    motion: Motion,
    first_frame: int,
    path: Path,
    template: Neutral | None = None,
) -> Iterator[float]:
    """Animate a mesh by an MDD file and a Mesh Cache modifier in front of all others.

    The cache replaces what shape keys do. So the mesh as its other keys stand now is what
    talks: a character made by shape keys keeps its look, but an animated key stands still.
    Shape keys that we animated go back to 0.

    Args:
        motion: at the scene's frame rate; its frame i stands at scene frame first_frame + i.
        path: from `cache_path`; its folder is made if need be.
        template: the neutral face that moves; None for the bundled head.

    Yields:
        How much is done, 0..1. If the generator is closed or fails, the scene and an older
        file of that name are as before.

    Raises:
        SelfTalkError: as `check_mesh_cache`; the disk is full; the face was removed meanwhile.
    """
    check_mesh_cache(target, path, template)
    old = _our_action(target)
    driven = frozenset(_moving(motion)) | {key_name(p) for p in (old[MARK] if old else ())}
    if template is not None:
        driven |= face.driven_keys(target, template)
    fit = face.correspondence(target, driven, template)
    rest = face.rest_vertices(target, driven)
    chunks = (rest + fit.offsets(chunk) for chunk in motion.chunks(max(1, CHUNK // len(rest))))
    new_folders = [parent for parent in path.parents if not parent.exists()]
    try:
        with atomic_path(path) as temporary:
            with open(temporary, "wb") as file:
                for written in write_mdd(file, len(motion), len(rest), motion.fps, chunks):
                    yield 0.95 * written / len(motion)
                yield from paced(aside(file.close), 0.95)  # the disk takes its time
            if len(target.data.vertices) != len(rest):
                raise SelfTalkError(f"{target.name} was edited meanwhile. Animate it again.")
    except ReferenceError as error:
        raise SelfTalkError("The face was removed while it was being animated.") from error
    finally:
        for folder in new_folders:
            if not path.exists() and folder.is_dir():
                folder.rmdir()
    _place_modifier(target, path, first_frame)
    remove_dense(target)
    if template is not None and target.data.shape_keys is not None:
        _renew_made_keys(target, template, {}, {})
    yield 1.0


def _place_modifier(target: bpy.types.Object, path: Path, first_frame: int) -> None:
    """Point our modifier at a cache; a new one goes before Armature, Subdivision and the rest."""
    modifier = _our_modifier(target)
    if modifier is None:
        modifier = target.modifiers.new(MODIFIER, "MESH_CACHE")
        target.modifiers.move(len(target.modifiers) - 1, 0)
        modifier = target.modifiers[0]
        target[MARK] = modifier.name
    play_cache(modifier, path, first_frame)
    modifier.filepath = _blend_relative(path)
    target.update_tag()


def play_cache(modifier: bpy.types.MeshCacheModifier, path: Path, first_frame: int) -> None:
    """Have a modifier play an .mdd from a scene frame on, a sample for each frame."""
    modifier.cache_format, modifier.filepath = "MDD", str(path)
    modifier.deform_mode = "OVERWRITE"
    modifier.interpolation = "LINEAR"
    modifier.play_mode, modifier.time_mode = "SCENE", "FRAME"
    modifier.frame_start, modifier.frame_scale = first_frame, 1.0
    # The identity: caches are in object space, and object space is the mesh's own.
    modifier.forward_axis, modifier.up_axis = "POS_Y", "POS_Z"


def _blend_relative(path: Path) -> str:
    if bpy.data.filepath:
        # On Windows another drive has no relative path.
        with contextlib.suppress(ValueError):
            return bpy.path.relpath(str(path))
    return str(path)


def _absolute(modifier: bpy.types.Modifier) -> Path:
    library = modifier.id_data.library
    return Path(os.path.abspath(bpy.path.abspath(modifier.filepath, library=library)))


def _our_modifier(target: bpy.types.Object) -> bpy.types.Modifier | None:
    modifier = target.modifiers.get(target.get(MARK, ""))
    return modifier if modifier is not None and modifier.type == "MESH_CACHE" else None


def played_cache(target: bpy.types.Object) -> Path:
    """The file of our mesh cache on a mesh that has one."""
    modifier = _our_modifier(target)
    assert modifier is not None
    return _absolute(modifier)


def remove_cache(target: bpy.types.Object) -> None:
    """Remove our modifier. Its file stays: undo and other .blend files may play it."""
    modifier = _our_modifier(target)
    if modifier is not None:
        target.modifiers.remove(modifier)
    if MARK in target:
        del target[MARK]


def _cache_owner(path: Path, target: bpy.types.Object) -> str:
    """The name of another object of this .blend that plays a cache file, or ""."""
    for other in bpy.data.objects:
        modifier = _our_modifier(other) if other != target else None
        if modifier is not None and _absolute(modifier) == path:
            return other.name
    return ""


# --- Both ---------------------------------------------------------------------------------


def written_frames(target: bpy.types.Object) -> tuple[int, int] | None:
    """First and last scene frame of our motion on a mesh; None where there is none.

    Raises:
        SelfTalkError: its cache file is missing.
    """
    modifier = _our_modifier(target)
    if modifier is not None:
        path, first = _absolute(modifier), round(modifier.frame_start)
        try:
            count = int(np.fromfile(path, ">i4", 1)[0])
        except (OSError, IndexError) as error:
            raise SelfTalkError(
                f"The mesh cache of {target.name} is missing: {path}. Animate it again."
            ) from error
        return first, first + count - 1
    action = _our_action(target)
    if action is None:
        return None
    for curve in compat.playing_curves(target.data.shape_keys):
        if curve.data_path in action[MARK] and len(curve.keyframe_points):
            first, last = curve.range()
            return round(first), round(last)
    return None


def has_cache(target: bpy.types.Object) -> bool:
    """Whether a mesh is animated by a mesh cache of ours."""
    return _our_modifier(target) is not None


def check_modifiers(target: bpy.types.Object) -> None:
    """Whether a motion of a mesh would show.

    Raises:
        SelfTalkError: a modifier replaces the whole mesh.
    """
    ours = _our_modifier(target)
    for modifier in target.modifiers:
        if modifier.type in ("MESH_CACHE", "MESH_SEQUENCE_CACHE") and modifier != ours:
            raise SelfTalkError(
                f"The modifier {modifier.name} of {target.name} replaces the whole mesh, so the "
                "motion would not show. Remove it first."
            )


def _other_users(target: bpy.types.Object) -> list[str]:
    """Names of the other objects that share a mesh."""
    return [o.name for o in bpy.data.objects if o.data == target.data and o != target]
