"""Create Face Shapes: the bundled head's 52 shapes for any head.

The numbers are crunched by `core.create` in a process of its own, so that the window stays fluid;
the mesh changes at the very end.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..core import surface
from ..core.aside import aside
from ..core.errors import SelfTalkError
from ..core.progress import Progress
from ..core.steps import paced
from ..core.template import bundled_template
from ..core.words import listed
from ..worker.python import process_settings
from . import face, landmark_empties, shape_keys
from .marks import CREATED_KEYS

# Objects that go with a face without being asked, if they belong to the same character.
PARTS = "teeth tooth tongue gum mouth eye lash brow beard moustache mustache".split()
STILL = 1e-5  # of the head's size: less is no movement of a part
PACKAGE = Path(__file__).resolve().parent.parent
ENTRY = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from {package}.core.create import main; main()"
)


@dataclass(frozen=True, eq=False)
class Piece:
    """One mesh object that gets shapes.

    Attributes:
        name, uid: of the object.
        vertices: (V, 3) at rest, in its own space.
        linear: (3, 3) from its space to the world's axes and units.
        keys: names of the shapes that it will get; others of those names are not ours.
    """

    name: str
    uid: int
    vertices: np.ndarray
    linear: np.ndarray
    keys: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """What will be made of what, in plain values.

    Attributes:
        pieces: the face, then its parts.
        vertices: (n, 3) of all pieces in the world's axes, from the face's origin.
        triangles: (T, 3) vertex indices, outside where the world sees it.
        landmarks: (10, 3) where the user has them, or an empty array.
        notices: what is to be said already.
    """

    pieces: tuple[Piece, ...]
    vertices: np.ndarray
    triangles: np.ndarray
    landmarks: np.ndarray
    notices: tuple[str, ...]


# --- What can be done -----------------------------------------------------------------------


def check(target: bpy.types.Object | None) -> bpy.types.Object:
    """The mesh object, if shapes can be made on it; quick.

    Raises:
        SelfTalkError: why not.
    """
    target = face.usable(target)
    _check_mesh(target)
    for modifier in target.modifiers:
        if modifier.type == "MIRROR":
            raise SelfTalkError(
                f"Half of {target.name} is made by a Mirror modifier, so left and right cannot "
                "move apart. Apply the modifier first."
            )
    if not _keys_to_make(target):
        raise SelfTalkError(
            f"{target.name} has shape keys of all 52 names that were not made here, and they are "
            "left as they are. Rename or remove the ones to be made again."
        )
    return target


def _check_mesh(target: bpy.types.Object) -> None:
    if target.data.users > 1:
        raise SelfTalkError(
            f"The mesh of {target.name} has {target.data.users} users, which would all change. "
            "Give it its own (Object > Relations > Make Single User > Object & Data)."
        )
    if abs(np.linalg.det(np.array(target.matrix_world.to_3x3()))) < 1e-30:
        raise SelfTalkError(f"{target.name} is scaled to nothing. Clear its scale (Alt+S).")


def _keys_to_make(target: bpy.types.Object) -> tuple[str, ...]:
    """Names of the shapes that are not there, or were made here."""
    keys = target.data.shape_keys
    present = set(keys.key_blocks.keys()) if keys is not None else set()
    foreign = present - set(keys.get(CREATED_KEYS, ()) if keys is not None else ())
    return tuple(name for name in bundled_template().shape_names if name not in foreign)


def parts_of(context: bpy.types.Context, target: bpy.types.Object) -> list[bpy.types.Object]:
    """The other meshes that get shapes with a face: those selected, and eyes, teeth and such
    that are its children or have its parent."""
    found = []
    for other in context.scene.objects:
        if other.type != "MESH" or other == target:
            continue
        family = other.parent == target or (
            other.parent is not None and other.parent == target.parent
        )
        named = any(word in other.name.lower() for word in PARTS)
        if (other.select_get() and target.select_get()) or (family and named):
            found.append(other)
    return found


def plan(context: bpy.types.Context, target: bpy.types.Object | None) -> Plan:
    """Read the scene.

    Raises:
        SelfTalkError: why nothing can be made.
    """
    target = check(target)
    context.view_layer.update()  # a script may just have moved something
    notices = []
    objects = [target]
    for part in parts_of(context, target):
        try:
            _check_mesh(face.usable(part))
            objects.append(part)
        except SelfTalkError as error:
            notices.append(f"{part.name} does not follow: {error}")
    pieces, places, triangles = [], [], []
    count = 0
    for item in objects:
        world = np.array(item.matrix_world)
        linear, shift = world[:3, :3], world[:3, 3] - np.array(target.matrix_world)[:3, 3]
        rest = face.rest_vertices(item, frozenset(_created(item))).astype(np.float64)
        corners = _triangles(item.data)
        if np.linalg.det(linear) < 0:
            corners = corners[:, ::-1]
        pieces.append(Piece(item.name, item.session_uid, rest, linear, _keys_to_make(item)))
        places.append(rest @ linear.T + shift)
        triangles.append(corners + count)
        count += len(rest)
        left = set(bundled_template().shape_names) - set(pieces[-1].keys)
        if left:
            notices.append(
                f"{item.name}: left {listed(sorted(left))} as they are, since they were not "
                "made here."
            )
    return Plan(
        tuple(pieces),
        np.concatenate(places),
        np.concatenate(triangles),
        landmark_empties.points_of(target),
        tuple(notices),
    )


def _created(target: bpy.types.Object) -> list[str]:
    keys = target.data.shape_keys
    return list(keys.get(CREATED_KEYS, ())) if keys is not None else []


def _triangles(mesh: bpy.types.Mesh) -> np.ndarray:
    """(T, 3) of a mesh's polygons."""
    corners = np.empty(len(mesh.loops), np.int32)
    mesh.loops.foreach_get("vertex_index", corners)
    sizes = np.empty(len(mesh.polygons), np.int32)
    mesh.polygons.foreach_get("loop_total", sizes)
    return surface.triangulate(corners, sizes)


# --- Doing it -------------------------------------------------------------------------------


def compute(
    plan: Plan, only_landmarks: bool = False
) -> Generator[Progress, None, tuple[np.ndarray, np.ndarray, tuple[str, ...]]]:
    """Have `core.create` do its work in another process; closing the generator ends it.

    Returns:
        Deltas (52, n, 3) of the plan's vertices, landmarks (10, 3) and notices.

    Raises:
        SelfTalkError: what it refused, or why it could not run.
    """
    folder = Path(tempfile.mkdtemp(prefix="selftalk-"))
    process = None
    try:
        np.savez(
            folder / "mesh.npz",
            vertices=plan.vertices,
            triangles=plan.triangles,
            own=len(plan.pieces[0].vertices),
            landmarks=plan.landmarks,
            only_landmarks=only_landmarks,
        )
        process = _start(folder)
        now = Progress(0.0, "Starting", waiting=True)
        while process.poll() is None:
            yield now
            last = _last_message(folder)
            if "stage" in last:
                now = Progress(0.95 * last["done"], last["stage"], waiting=True)
        last = _last_message(folder)
        if "error" in last:
            raise SelfTalkError(last["error"])
        if "notices" not in last:
            raise _died(folder, process.returncode)
        made = yield from paced(aside(lambda: _shapes(folder)), now)
        return *made, tuple(last["notices"])
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path) -> subprocess.Popen[bytes]:
    """The process that reads mesh.npz in a folder, and writes there what it says and makes."""
    command = [sys.executable, "-c", ENTRY.format(package=PACKAGE.name), str(PACKAGE.parent)]
    with open(folder / "out.txt", "wb") as out, open(folder / "log.txt", "wb") as log:
        try:
            return subprocess.Popen(
                [*command, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=folder,
                **process_settings(),
            )
        except OSError as error:
            raise SelfTalkError(
                f"Blender's own Python, {sys.executable}, cannot be started "
                f"({error.strerror or error}). Reinstall Blender."
            ) from error


def _died(folder: Path, code: int) -> SelfTalkError:
    """What to say of a process that ended without a result; the console gets its log."""
    lines = (folder / "log.txt").read_text("utf-8", "replace").strip().splitlines()
    print("\n".join(lines), file=sys.stderr)
    reason = lines[-1][:200] if lines else f"exit code {code}"
    return SelfTalkError(
        f"The face shapes could not be computed: {reason}. The system console has more; perhaps "
        "memory ran out."
    )


def _shapes(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(folder / "shapes.npz", allow_pickle=False) as file:
        return file["deltas"], file["landmarks"]


def _last_message(folder: Path) -> dict[str, Any]:
    """What the process has said last in a whole line."""
    text = (folder / "out.txt").read_text("utf-8", "replace")
    last = text[: text.rfind("\n") + 1].rstrip("\n").rpartition("\n")[2]
    return json.loads(last) if last else {}


def create(plan: Plan) -> Generator[Progress, None, str]:
    """Make the shapes; the meshes change at the end alone. What was made, in a sentence or more.

    Raises:
        SelfTalkError: why nothing was made.
    """
    begun = time.monotonic()
    deltas, _, notices = yield from compute(plan)
    waiting = time.monotonic()
    yield from face.out_of_edit_mode([piece.uid for piece in plan.pieces], 0.96)
    begun += time.monotonic() - waiting
    now = Progress(0.96, "Writing")
    objects = []
    for piece in plan.pieces:
        target = face.again(bpy.data.objects, piece.uid)
        if (
            target is None
            or target.type != "MESH"
            or len(target.data.vertices) != len(piece.vertices)
        ):
            raise SelfTalkError(f"{piece.name} was changed meanwhile. Create its shapes again.")
        _check_mesh(face.usable(target))
        objects.append(target)
    first, followers = 0, []
    size = float(np.ptp(plan.vertices[: len(plan.pieces[0].vertices)], axis=0).max())
    with contextlib.ExitStack() as unless_done:
        for piece, target in zip(plan.pieces, objects, strict=True):
            own = deltas[:, first : first + len(piece.vertices)]
            first += len(piece.vertices)
            is_part = target is not objects[0]
            least = STILL * size if is_part else -1.0
            writing = paced(_write(target, piece, own, least, unless_done), now)
            if (yield from writing) and is_part:
                followers.append(target.name)
        unless_done.pop_all()
    made = len(plan.pieces[0].keys)
    text = f"{made} face shapes made in {time.monotonic() - begun:.0f} s"
    if followers:
        text += f"; {listed(followers)} {'follow' if len(followers) > 1 else 'follows'}"
    return "\n".join([text, *plan.notices, *notices])


def _write(
    target: bpy.types.Object,
    piece: Piece,
    deltas: np.ndarray,
    least: float,
    unless_done: contextlib.ExitStack,
) -> Generator[None, None, int]:
    """Write shapes (52, V, 3), in the world's axes, that move more than `least`; how many.

    Args:
        unless_done: takes back what was written.
    """
    back = np.linalg.inv(piece.linear).astype(np.float32)
    of_name = dict(zip(bundled_template().shape_names, deltas, strict=True))
    chosen = []
    for name in piece.keys:
        if np.abs(of_name[name]).max(initial=0) > least:
            chosen.append(name)
        yield
    if not chosen:
        return 0
    had_keys, present = target.data.shape_keys is not None, face.key_names(target)
    created: list[str] = []
    unless_done.callback(shape_keys.take_back, target, had_keys, created)
    new = ((name, of_name[name] @ back.T) for name in chosen if name not in present)
    yield from shape_keys.add(target, new, created)
    keys = target.data.shape_keys
    for name in chosen:
        if name in present:
            key = keys.key_blocks[name]
            unless_done.callback(face.set_key, key, face.key_positions(key))
            face.set_key(key, face.key_positions(key.relative_key) + of_name[name] @ back.T)
            yield
    marked = list(keys[CREATED_KEYS]) if CREATED_KEYS in keys else None
    keys[CREATED_KEYS] = sorted({*_created(target), *chosen})
    if had_keys:
        unless_done.callback(_mark, keys, marked)
    target.data.update()
    return len(chosen)


def _mark(keys: bpy.types.Key, names: Any) -> None:
    """Have shape keys marked as they were."""
    if names is None:
        keys.pop(CREATED_KEYS, None)
    else:
        keys[CREATED_KEYS] = names
