"""Motion as a mesh cache: an MDD file that a Mesh Cache modifier plays.

Ours are the modifier whose name stands in the object's custom property MARK, and files that end
in CACHE_SUFFIX.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import bpy
import numpy as np

from ..core.aside import aside
from ..core.errors import SelfTalkError
from ..core.files import atomic_path, check_name, check_writable, freed_aside
from ..core.mdd import write_mdd
from ..core.motion import Motion
from ..core.steps import paced
from . import face, shape_keys
from .marks import MARK
from .neutral import Neutral

MODIFIER = "SelfTalk Mesh Cache"
CACHE_FOLDER = "//selftalk_cache/"
CACHE_SUFFIX = ".selftalk.mdd"
# A weight below this all along moves the head's largest shape by less than 0.005 mm.
STILL = 1e-4
CHUNK = 80_000  # vertices that are written at a time


def default_path(target: bpy.types.Object, folder: str = "") -> Path:
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


def check(target: bpy.types.Object | None, path: Path, template: Neutral | None = None) -> None:
    """Whether `write` can write onto a mesh and to a file.

    Args:
        template: the neutral face that will move; None for the bundled head.

    Raises:
        SelfTalkError: what stands in the way, and what to do about it.
    """
    face.check(target, template)
    assert target is not None
    check_modifiers(target)
    sharing = shape_keys.other_users(target)
    if sharing and shape_keys.talk(target):
        raise SelfTalkError(
            f"The mesh of {target.name} is shared with {sharing[0]}, and both talk by its shape "
            "keys. Make it single-user first (Object > Relations > Make Single User > Object & "
            "Data)."
        )
    if not path.name.endswith(CACHE_SUFFIX):
        raise SelfTalkError(f"{path.name} is no name of a cache: it must end in {CACHE_SUFFIX}.")
    check_name(path)  # the mesh would just not move
    other = _cache_owner(path, target)
    if other:
        raise SelfTalkError(
            f"{other} already plays {path}. Rename {target.name} or choose another cache folder."
        )
    check_writable(path)


def write(
    target: bpy.types.Object,
    motion: Motion,
    first_frame: int,
    path: Path,
    template: Neutral | None = None,
) -> Iterator[float]:
    """Animate a mesh by an MDD file and a Mesh Cache modifier in front of all others.

    The cache replaces what shape keys do. So the mesh as its other keys stand now is what
    talks: a character made by shape keys keeps its look, but an animated key stands still.

    Args:
        motion: at the scene's frame rate; its frame i stands at scene frame first_frame + i.
        path: from `default_path`; its folder is made if need be.
        template: the neutral face that moves; None for the bundled head.

    Yields:
        How much is done, 0..1. If the generator is closed or fails, the scene and an older
        file of that name are as before.

    Raises:
        SelfTalkError: as `check`; the disk is full; the face was removed meanwhile.
    """
    check(target, path, template)
    driven = _moving(motion) | shape_keys.driven(target)
    if template is not None:
        driven |= face.driven_keys(target, template)
    fit = face.correspondence(target, driven, template)
    rest = face.rest_vertices(target, driven)
    chunks = (rest + fit.offsets(chunk) for chunk in motion.chunks(max(1, CHUNK // len(rest))))
    new_folders = [parent for parent in path.parents if not parent.exists()]
    try:
        with freed_aside(path), atomic_path(path) as temporary:
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
            if not path.exists():
                with contextlib.suppress(OSError):  # not made, or another file is in it by now
                    folder.rmdir()
    _place_modifier(target, path, first_frame)
    yield 1.0


def _moving(motion: Motion) -> frozenset[str]:
    """The shapes that are ever away from 0; all, for a motion without weights."""
    names = motion.template.shape_names
    if motion.weights is None:
        return frozenset(names)
    highest = motion.weights.max(0, initial=0.0)
    return frozenset(name for name, weight in zip(names, highest, strict=True) if weight > STILL)


def _place_modifier(target: bpy.types.Object, path: Path, first_frame: int) -> None:
    """Point our modifier at a cache; a new one goes before Armature, Subdivision and the rest."""
    modifier = _our_modifier(target)
    if modifier is None:
        modifier = target.modifiers.new(MODIFIER, "MESH_CACHE")
        target.modifiers.move(len(target.modifiers) - 1, 0)
        modifier = target.modifiers[0]
        target[MARK] = modifier.name
    have_play(modifier, path, first_frame)
    modifier.filepath = _blend_relative(path)
    target.update_tag()


def have_play(modifier: bpy.types.MeshCacheModifier, path: Path, first_frame: int) -> None:
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


def played(target: bpy.types.Object) -> Path:
    """The file of our mesh cache on a mesh that has one."""
    modifier = _our_modifier(target)
    assert modifier is not None
    return _absolute(modifier)


def remove(target: bpy.types.Object) -> None:
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


def written_frames(target: bpy.types.Object) -> tuple[int, int]:
    """First and last scene frame of our mesh cache on a mesh that has one.

    Raises:
        SelfTalkError: its file is missing.
    """
    modifier = _our_modifier(target)
    assert modifier is not None
    path, first = _absolute(modifier), round(modifier.frame_start)
    try:
        count = int(np.fromfile(path, ">i4", 1)[0])
    except (OSError, IndexError) as error:
        raise SelfTalkError(
            f"The mesh cache of {target.name} is missing: {path}. Animate it again."
        ) from error
    return first, first + count - 1


def plays(target: bpy.types.Object) -> bool:
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
