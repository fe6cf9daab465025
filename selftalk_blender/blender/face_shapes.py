"""Create Face Shapes: the bundled head's 52 shapes for any head, by landmarks to see and move.

The numbers are crunched by `core.create` in a process of its own, so that the window stays fluid;
the mesh changes at the very end.
"""

from __future__ import annotations

import contextlib
import json
import os
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

from ..core import landmarks, surface
from ..core.aside import aside
from ..core.errors import SelfTalkError
from ..core.progress import Progress
from ..core.steps import paced
from ..core.template import bundled_template
from . import face, jobs, writers
from .marks import CREATED_KEYS, LANDMARK, SHAPES_RESULT
from .panels import SidebarPanel, paragraph

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
        name: of the object.
        vertices: (V, 3) at rest, in its own space.
        linear: (3, 3) from its space to the world's axes and units.
        keys: names of the shapes that it will get; others of those names are not ours.
    """

    name: str
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
            "left as they are. Rename or remove those that shall be made anew."
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


def landmark_objects(target: bpy.types.Object) -> dict[str, bpy.types.Object]:
    """The empties that mark a face, by landmark."""
    return {
        child[LANDMARK]: child
        for child in target.children
        if child.get(LANDMARK) in landmarks.LANDMARKS
    }


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
        pieces.append(Piece(item.name, rest, linear, _keys_to_make(item)))
        places.append(rest @ linear.T + shift)
        triangles.append(corners + count)
        count += len(rest)
        left = set(bundled_template().shape_names) - set(pieces[-1].keys)
        if left:
            notices.append(
                f"{item.name}: left {_listed(sorted(left))} as they are, since they were not "
                "made here."
            )
    marks = landmark_objects(target)
    missing = [landmarks.LANDMARKS[name][1] for name in landmarks.NAMES if name not in marks]
    if marks and missing:
        raise SelfTalkError(
            f"{len(missing)} of the ten landmarks are missing ({missing[0]}, ...). Remove the "
            "landmarks, or place them anew."
        )
    points = [
        np.array(marks[name].matrix_world.translation - target.matrix_world.translation)
        for name in landmarks.NAMES
        if marks
    ]
    return Plan(
        tuple(pieces),
        np.concatenate(places),
        np.concatenate(triangles),
        np.array(points).reshape(-1, 3),
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


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


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
        command = [sys.executable, "-c", ENTRY.format(package=PACKAGE.name), str(PACKAGE.parent)]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        with open(folder / "out.txt", "wb") as out, open(folder / "log.txt", "wb") as log:
            try:
                process = subprocess.Popen(
                    [*command, str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=log,
                    cwd=folder,
                    env=environment,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
            except OSError as error:
                raise SelfTalkError(
                    f"Blender's own Python, {sys.executable}, cannot be started "
                    f"({error.strerror or error}). Reinstall Blender."
                ) from error
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
            lines = (folder / "log.txt").read_text("utf-8", "replace").strip().splitlines()
            print("\n".join(lines), file=sys.stderr)
            raise SelfTalkError(
                "The face shapes could not be computed: "
                f"{lines[-1][:200] if lines else f'exit code {process.returncode}'}. The system "
                "console has more; perhaps memory ran out."
            )
        made = yield from paced(aside(lambda: _shapes(folder)), now)
        return *made, tuple(last["notices"])
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


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
    now = Progress(0.96, "Writing")
    objects = []
    for piece in plan.pieces:
        target = bpy.data.objects.get(piece.name)
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
        text += f"; {_listed(followers)} {'follow' if len(followers) > 1 else 'follows'}"
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
    names = bundled_template().shape_names
    chosen = []
    for name in piece.keys:
        if np.abs(deltas[names.index(name)]).max(initial=0) > least:
            chosen.append(name)
        yield
    if not chosen:
        return 0
    keys = target.data.shape_keys
    had_keys, present = keys is not None, set(keys.key_blocks.keys()) if keys is not None else set()
    created: list[str] = []
    unless_done.callback(writers.remove_keys, target, had_keys, created)
    shapes = ((name, deltas[names.index(name)] @ back.T) for name in chosen)
    yield from writers.add_keys(target, (s for s in shapes if s[0] not in present), created)
    keys = target.data.shape_keys
    for name in chosen:
        if name in present:
            key = keys.key_blocks[name]
            unless_done.callback(face.set_key, key, face.key_positions(key))
            at = face.key_positions(key.relative_key)
            face.set_key(key, at + deltas[names.index(name)] @ back.T)
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


def place_landmarks(target: bpy.types.Object, points: np.ndarray) -> None:
    """Put empties at (10, 3) points, in the world's axes from the face's origin; those that are
    there already move."""
    present = landmark_objects(target)
    into_face = target.matrix_world.inverted()
    names = landmarks.NAMES
    eyes = points[names.index("eye_left_outer")] - points[names.index("eye_right_outer")]
    scale = float(np.cbrt(abs(np.linalg.det(np.array(target.matrix_world.to_3x3())))))
    for name, point in zip(names, points, strict=True):
        empty = present.get(name)
        if empty is None:
            label = name.replace("_", " ").title()
            empty = bpy.data.objects.new(f"{target.name} {label}", None)
            for collection in target.users_collection:
                if collection.library is None and collection.override_library is None:
                    collection.objects.link(empty)
                    break
            else:
                bpy.context.scene.collection.objects.link(empty)
            empty.parent = target
            empty[LANDMARK] = name
            empty.empty_display_type = "SPHERE"
            empty.show_in_front = empty.show_name = True
            empty.lock_rotation = empty.lock_scale = (True, True, True)
        empty.empty_display_size = float(np.linalg.norm(eyes)) * 0.025 / scale
        place = target.matrix_world.to_translation()
        empty.matrix_parent_inverse.identity()
        empty.location = into_face @ (place + place.__class__(point.tolist()))


def remove_landmarks(target: bpy.types.Object) -> None:
    """Take the empties away."""
    bpy.data.batch_remove(list(landmark_objects(target).values()))


# --- Operators and panel --------------------------------------------------------------------


def problem(context: bpy.types.Context) -> str:
    """Why no face shapes can be created now, or ""."""
    if jobs.running is not None:
        return jobs.BUSY
    try:
        check(context.scene.selftalk.face)
    except SelfTalkError as error:
        return str(error)
    return ""


class SELFTALK_OT_create_face_shapes(jobs.Refusable, jobs.JobOperator, bpy.types.Operator):
    """Make the 52 ARKit shape keys on the chosen face, whatever its topology. Eyes, teeth, \
tongue, lashes of the same character, and selected meshes, get those that move them. \
Landmarks are looked for where none are placed. Keys that were not made here stay as they are"""

    bl_idname = "selftalk.create_face_shapes"
    bl_label = "Create Face Shapes"
    bl_options = {"UNDO"}

    problem = staticmethod(problem)

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        chosen = plan(context, context.scene.selftalk.face)
        self.face = chosen.pieces[0].name
        return create(chosen)

    def finish(self, context: bpy.types.Context, result: str) -> None:
        text, *notices = result.splitlines()
        self.report({"INFO"}, f"{self.face}: {text}")
        for notice in notices:
            self.report({"WARNING"}, notice)
        bpy.data.objects[self.face][SHAPES_RESULT] = result


class SELFTALK_OT_place_landmarks(jobs.Refusable, jobs.JobOperator, bpy.types.Operator):
    """Find the ten landmarks of the chosen face and mark them with empties, which you may then \
move. Create Face Shapes uses them where they are"""

    bl_idname = "selftalk.place_landmarks"
    bl_label = "Place Landmarks"
    bl_options = {"UNDO"}

    problem = staticmethod(problem)

    def steps(self, context: bpy.types.Context) -> jobs.Steps:
        chosen = plan(context, context.scene.selftalk.face)
        self.face = chosen.pieces[0].name
        return self._place(chosen)

    def _place(self, chosen: Plan) -> jobs.Steps:
        try:
            _, points, notices = yield from compute(chosen, only_landmarks=True)
        except SelfTalkError as error:
            points, notices = _guess(chosen), (f"{error} They stand before it now.",)
        target = bpy.data.objects.get(self.face)
        if target is None:
            raise SelfTalkError(f"{self.face} was removed or renamed meanwhile. Try again.")
        place_landmarks(target, points)
        return notices

    def finish(self, context: bpy.types.Context, result: tuple[str, ...]) -> None:
        self.report({"INFO"}, "Ten landmarks placed. Move those that are off, then create.")
        for notice in result:
            self.report({"WARNING"}, notice)


def _guess(plan: Plan) -> np.ndarray:
    """(10, 3) landmarks as on the bundled head, at the top of a mesh's bounds, facing -Y."""
    own = plan.vertices[: len(plan.pieces[0].vertices)]
    low, high = own.min(0), own.max(0)
    template = bundled_template()
    at = [index for index, _ in landmarks.LANDMARKS.values()]
    marks = template.vertices[at].astype(np.float64)
    head_low, head_high = template.vertices.min(0), template.vertices.max(0)
    scale = min((high - low) / (head_high - head_low))
    anchor = np.array([0.0, head_low[1], head_high[2]])
    return (marks - anchor) * scale + [(low[0] + high[0]) / 2, low[1], high[2]]


class SELFTALK_OT_remove_landmarks(bpy.types.Operator):
    """Remove the landmarks of the chosen face; Create Face Shapes then looks for them itself"""

    bl_idname = "selftalk.remove_landmarks"
    bl_label = "Remove Landmarks"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        target = context.scene.selftalk.face
        if target is None or not landmark_objects(target):
            cls.poll_message_set("The face has no landmarks")
            return False
        return jobs.running is None

    def execute(self, context: bpy.types.Context) -> set[str]:
        remove_landmarks(context.scene.selftalk.face)
        return {"FINISHED"}


class SELFTALK_PT_face_shapes(SidebarPanel, bpy.types.Panel):
    bl_label = "Create Face Shapes"
    bl_parent_id = "SELFTALK_PT_face"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        target = context.scene.selftalk.face
        return target is not None and target.type == "MESH"

    def draw(self, context: bpy.types.Context) -> None:
        layout, target = self.layout, context.scene.selftalk.face
        row = layout.row(align=True)
        row.operator("selftalk.place_landmarks", icon="EMPTY_AXIS")
        row.operator("selftalk.remove_landmarks", text="", icon="X")
        layout.operator("selftalk.create_face_shapes", icon="SHAPEKEY_DATA")
        reason = problem(context)
        if reason:
            paragraph(layout, context, reason, "INFO")
            return
        parts = [part.name for part in parts_of(context, target)]
        if parts:
            paragraph(layout, context, f"With {_listed(parts)}", "LINKED")
        for number, line in enumerate(target.get(SHAPES_RESULT, "").splitlines()):
            paragraph(layout, context, line, "ERROR" if number else "CHECKMARK")


CLASSES = (
    SELFTALK_OT_create_face_shapes,
    SELFTALK_OT_place_landmarks,
    SELFTALK_OT_remove_landmarks,
    SELFTALK_PT_face_shapes,
)
