"""Which meshes can be animated and by what, and where their vertices and shape keys are."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..core.errors import SelfTalkError
from ..core.match import match_template
from ..core.names import recognise
from ..core.progress import Progress
from ..core.retarget import BODIES, Correspondence, match_by_index
from ..core.target import Analysis, judge
from ..core.template import bundled_template
from . import jobs
from .marks import MADE_KEYS
from .neutral import TEMPLATE_NEEDED, Neutral, check_checkpoint, read_neutral

NO_FACE = "No face is chosen. Choose the face mesh, or press Add Face."
VERDICTS = 4  # meshes that `check` remembers
_verdicts: dict[tuple, str] = {}


def correspondence(
    face: bpy.types.Object | None,
    driven: frozenset[str] = frozenset(),
    template: Neutral | None = None,
) -> Correspondence:
    """How a motion fits a mesh object, or why it does not.

    Args:
        driven: shape keys that the motion will set; the others count with their present value.
        template: the neutral face that the motion moves; None for the bundled head.

    Raises:
        SelfTalkError: no mesh, data of another file, an open Edit Mode, absolute shape keys,
            or vertices that match nothing that we know.
    """
    target = usable(face)
    return _match(template, rest_vertices(target, driven), _edges(target, template))


def check(face: bpy.types.Object | None, template: Neutral | None = None) -> None:
    """Whether a motion fits a mesh object; quick, for an interface that asks with each drawing.

    The verdict on a mesh is kept until its vertices or its own shape keys' values change.

    Raises:
        SelfTalkError: as `correspondence`.
    """
    target = usable(face)
    positions = mesh_positions(target.data)
    keys = target.data.shape_keys
    driven = driven_keys(target, template)
    look = tuple(
        (key.name, key.value, key.mute, key.vertex_group)
        for key in (keys.key_blocks if keys is not None else ())
        if key.name not in driven
    )
    edges = _edges(target, template)
    state = positions.tobytes(), edges.tobytes(), look, template and template.source
    if state not in _verdicts:
        try:
            _match(template, rest_vertices(target, driven), edges)
            verdict = ""
        except SelfTalkError as error:
            verdict = str(error)
        if len(_verdicts) >= VERDICTS:
            _verdicts.pop(next(iter(_verdicts)))
        _verdicts[state] = verdict
    if _verdicts[state]:
        raise SelfTalkError(_verdicts[state])


def analyse(face: bpy.types.Object | None) -> Analysis:
    """What a mesh object is and how it can talk; quick, as `check`.

    Raises:
        SelfTalkError: it may not be written at all, as `usable`.
    """
    target = usable(face)
    try:
        check(target)
        problem = ""
    except SelfTalkError as error:
        problem = str(error)
    return judge(len(target.data.vertices), key_names(target), problem)


def key_names(target: bpy.types.Object) -> tuple[str, ...]:
    """The names of a mesh's shape keys, without the one that the others start from."""
    keys = target.data.shape_keys
    return tuple(keys.key_blocks.keys()[1:]) if keys is not None else ()


def _match(template: Neutral | None, rest: np.ndarray, edges: np.ndarray) -> Correspondence:
    if template is None:
        return match_by_index(bundled_template(), rest, edges)
    return match_template(template.vertices, template.faces, rest, edges)


def _edges(target: bpy.types.Object, template: Neutral | None) -> np.ndarray:
    """(E, 2) int32 of a mesh; none where they do not matter."""
    own = bundled_template() if template is None else template
    counts = (len(own.vertices), *(BODIES if template is None else ()))
    if len(target.data.vertices) not in counts:
        return np.empty((0, 2), np.int32)
    edges = np.empty(len(target.data.edges) * 2, np.int32)
    if len(edges):
        # Two hundred times as fast as edges.foreach_get.
        target.data.attributes[".edge_verts"].data.foreach_get("value", edges)
    return edges.reshape(-1, 2)


def chosen_template(
    face: bpy.types.Object | None, animator: Path | None, template: Path | None, subject: str
) -> Neutral | None:
    """The neutral face that a chosen animator moves; None where it moves the bundled head.

    Args:
        animator: None for the bundled one.
        template, subject: see `neutral.read_neutral`.

    Raises:
        SelfTalkError: what is still to be chosen, or cannot be read.
    """
    target = usable(face)
    if animator is None:
        if template is not None:
            raise SelfTalkError(
                f"Choose the checkpoint that animates {template.name} under Animator, or empty "
                "the field Template."
            )
        return None
    check_checkpoint(animator)
    if template is not None:
        return read_neutral(template, subject)
    needed = (
        f"{animator.name} needs a face template. Choose the file of the neutral face of "
        f"{target.name} under Template."
    )
    if animator.suffix.lower() in TEMPLATE_NEEDED:
        raise SelfTalkError(needed)
    try:
        check(target)
    except SelfTalkError as error:
        raise SelfTalkError(needed) from error
    return None


def driven_keys(target: bpy.types.Object, template: Neutral | None = None) -> frozenset[str]:
    """Names of the shape keys that a motion of a template (None: the bundled head's) may set."""
    if template is None:
        own = _recognised(key_names(target))
        return frozenset(bundled_template().shape_names) | own
    keys = target.data.shape_keys
    return frozenset(keys.get(MADE_KEYS, ())) if keys is not None else frozenset()


@functools.lru_cache(maxsize=32)
def _recognised(names: tuple[str, ...]) -> frozenset[str]:
    found = recognise(names)
    return frozenset((*found.arkit, *found.visemes))


def usable(face: bpy.types.Object | None) -> bpy.types.Object:
    """The mesh object, if its data may be written at all.

    Raises:
        SelfTalkError: it may not, whatever its vertices are.
    """
    if face is None:
        raise SelfTalkError(NO_FACE)
    if face.type != "MESH":
        raise SelfTalkError(f"{face.name} is not a mesh. Choose the face mesh, or press Add Face.")
    check_own(face)
    if face.mode == "EDIT":
        raise SelfTalkError(f"{face.name} is in Edit Mode. Leave it (Tab) and try again.")
    keys = face.data.shape_keys
    if keys is not None and not keys.use_relative:
        raise SelfTalkError(
            f"The shape keys of {face.name} are absolute. Tick Relative in its Shape Keys panel."
        )
    return face


def again(blocks: Any, uid: int) -> Any:
    """Data of `bpy.data.objects`, say, by its session uid, or None: names change, and undo makes
    all data anew."""
    return next((block for block in blocks if block.session_uid == uid), None)


def out_of_edit_mode(uids: Sequence[int], done: float) -> Iterator[Progress]:
    """Wait while the artist edits one of some objects, or the armature of one: Blender takes no
    shapes or keys for them then, and what was made for them is not to be lost.

    Only behind the window: nobody can leave Edit Mode while a script or a bake waits.
    """
    while jobs.running is not None and any(_edited(again(bpy.data.objects, uid)) for uid in uids):
        yield Progress(done, "Leave Edit Mode (Tab)", waiting=True)


def _edited(target: bpy.types.Object | None) -> bool:
    if target is None:
        return False
    armatures = (m.object for m in target.modifiers if m.type == "ARMATURE")
    return any(known is not None and known.mode == "EDIT" for known in (target, *armatures))


def check_own(face: bpy.types.Object) -> None:
    """Whether a mesh object is this file's own, so that what is done to it is saved.

    Raises:
        SelfTalkError: it is another file's.
    """
    for block in (face, face.data):
        if block.library is not None:
            raise SelfTalkError(
                f"{face.name} is linked from {block.library.filepath}. Make it local first "
                "(Object > Relations > Make Local > Selected Objects and Data)."
            )
        if block.override_library is not None:
            raise SelfTalkError(
                f"{face.name} is a library override, and with one Blender saves neither lines nor "
                "takes. Make it local first (Object > Relations > Make Local > Selected Objects "
                "and Data; its rig may stay an override), or animate it in its own file."
            )
        if not block.is_editable:
            raise SelfTalkError(f"{face.name} cannot be edited. Choose a mesh of this file.")


def rest_vertices(face: bpy.types.Object, driven: frozenset[str] = frozenset()) -> np.ndarray:
    """(V, 3) float32 of a mesh in object space as its shape keys stand, without the driven ones.

    A character may be made by shape keys (MakeHuman's and MPFB's are): they are part of it.
    """
    mesh = face.data
    if mesh.shape_keys is None:
        return mesh_positions(mesh).reshape(-1, 3)
    rest = key_positions(mesh.shape_keys.reference_key)
    for key in mesh.shape_keys.key_blocks[1:]:
        if key.mute or key.value == 0.0 or key.name in driven:
            continue
        delta = key_offsets(key) * key.value
        if key.vertex_group in face.vertex_groups:
            delta *= group_weights(face, key.vertex_group)
        rest += delta
    return rest


def mesh_positions(mesh: bpy.types.Mesh) -> np.ndarray:
    """(V * 3,) float32 of a mesh without its shape keys."""
    positions = np.empty(len(mesh.vertices) * 3, np.float32)
    if len(positions):
        # Two hundred times as fast as vertices.foreach_get.
        mesh.attributes["position"].data.foreach_get("vector", positions)
    return positions


def key_positions(key: bpy.types.ShapeKey) -> np.ndarray:
    """(V, 3) float32 of a mesh's shape key at 1."""
    positions = np.empty((len(key.data), 3), np.float32)
    key.points.foreach_get("co", positions.ravel())  # three hundred times as fast as data
    return positions


def set_key(key: bpy.types.ShapeKey, positions: np.ndarray) -> None:
    """Give a mesh's shape key new positions (V, 3)."""
    key.points.foreach_set("co", np.asarray(positions, np.float32).ravel())


def key_offsets(key: bpy.types.ShapeKey) -> np.ndarray:
    """(V, 3) float32: what a mesh's shape key adds at 1, without its vertex group."""
    return key_positions(key) - key_positions(key.relative_key)


def group_weights(face: bpy.types.Object, name: str) -> np.ndarray:
    """(V, 1) weights of a vertex group."""
    index = face.vertex_groups[name].index
    weights = np.zeros((len(face.data.vertices), 1), np.float32)
    for vertex in face.data.vertices:
        for group in vertex.groups:
            if group.group == index:
                weights[vertex.index] = group.weight
    return weights
