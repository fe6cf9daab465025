"""Reduce Keys: the curves of a face's lines read, given few keys, and written back."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Generator
from dataclasses import dataclass

import bpy
import numpy as np

from ..core import reduce
from ..core.aside import aside
from ..core.errors import SelfTalkError
from ..core.progress import Progress
from ..core.steps import paced
from ..core.template import bundled_template
from . import controls, lines
from . import face as faces
from .fcurves import LINEAR, key_name
from .marks import WAITING

# Where lips meet they may be off by this share of the error alone.
CLOSED_SHARE = 0.25
CLOSED_MM = 0.5  # inner-lip gap on the bundled head
BEZIER, ALIGNED = 2, 3  # of Keyframe.interpolation and .handle_left_type, for foreach_set
# mm that a custom property of a rig is taken to move the face for 1: as a wide open jaw does.
PROPERTY_MM = 40.0
CHANGED = "The keys were changed meanwhile. Press Reduce Keys again."


@dataclass(eq=False)
class Read:
    """The curves of one line: what `core.reduce.reducing` takes.

    Attributes:
        id: of the line.
        curves: C of them: owner, path, index.
        first_frame: scene frame of the first row.
        values: (T, C) at scene frames.
        deltas: (C, V, 3) mm that 1 of each curve moves each vertex that moves at all.
        allowed: (T,) mm.
    """

    id: str
    curves: list[tuple[str, str, int]]
    first_frame: int
    values: np.ndarray
    deltas: np.ndarray
    allowed: np.ndarray


def reduce_lines(
    face: bpy.types.Object, error_mm: float
) -> Generator[Progress, None, tuple[int, int, float]]:
    """Reduce the keys of all lines of a face.

    Yields:
        What is done.

    Returns:
        Keys before, keys after, and the largest error in mm. Nothing is changed before the end.

    Raises:
        SelfTalkError: there is nothing to reduce; as `lines.check_lines`.
    """
    lines.check_lines(face)
    while WAITING in face:
        yield Progress(0.0, "Reducing keys")
        controls.bake_slice(face)
    done: list[tuple[Read, reduce.Reduced]] = []
    ids = [line.id for line in face.selftalk.lines]
    for number, line_id in enumerate(ids):
        now = Progress(number / len(ids), "Reducing keys")
        yield now
        line = yield from paced(_read(face, line_id, error_mm), now)
        if line is not None:
            work = functools.partial(reduce.reducing, line.values, line.deltas, line.allowed)
            done.append((line, (yield from paced(aside(work), now))))
    if not done:
        raise SelfTalkError("The lines of this face have no keys of SelfTalk's to reduce.")
    with contextlib.ExitStack() as unless_swapped:
        copies = []
        for line, reduced in done:
            copies.append(lines.Copies(face, line.id))
            unless_swapped.callback(copies[-1].discard)
            yield Progress(1.0, "Writing")
            for name, keys in zip(line.curves, reduced.curves, strict=True):
                curve = copies[-1].find(*name)
                # While the window was free, the artist may have removed some.
                if curve is None:
                    raise SelfTalkError(CHANGED)
                write_keys(curve, keys, line.first_frame)
                yield Progress(1.0, "Writing")
        unless_swapped.pop_all()
    for copied, (line, reduced) in zip(copies, done, strict=True):
        copied.swap()
        lines.mark_reduced(face, line.id, reduced.error_mm)
    results = [reduced for _, reduced in done]
    return (
        sum(r.before for r in results),
        sum(r.after for r in results),
        max(r.error_mm for r in results),
    )


def write_keys(curve: bpy.types.FCurve, keys: reduce.Keys, first_frame: int) -> None:
    """Give an F-curve Bezier keys with aligned handles."""
    points, count = curve.keyframe_points, len(keys.frames)
    left, right = keys.handles()
    places = np.stack([keys.frames, keys.values], 1)
    points.clear()
    points.add(count)
    for name, place in (("co", places), ("handle_left", left), ("handle_right", right)):
        points.foreach_set(name, (place + (first_frame, 0)).astype(np.float32).ravel())
    for name, value in (
        ("interpolation", BEZIER),
        ("handle_left_type", ALIGNED),
        ("handle_right_type", ALIGNED),
    ):
        points.foreach_set(name, np.full(count, value, np.int32))
    curve.update()


def _curves(face: bpy.types.Object, line_id: str) -> list[tuple[bpy.types.ID, bpy.types.FCurve]]:
    """A line's curves that can be reduced, and whose they are."""
    return [
        (owner, curve)
        for owner, curve, _ in lines.curves(face, line_id)
        if len(curve.keyframe_points) and not len(curve.modifiers) and _moves(owner, curve)
    ]


def _moves(owner: bpy.types.ID, curve: bpy.types.FCurve) -> bool:
    """Whether what a curve moves is there: the artist may have removed a shape key or a bone."""
    try:
        owner.path_resolve(curve.data_path)
    except ValueError:
        return False
    return True


def _name(owner: bpy.types.ID, curve: bpy.types.FCurve) -> tuple[str, str, int]:
    return owner.name, curve.data_path, curve.array_index


def _read(
    face: bpy.types.Object, line_id: str, error_mm: float
) -> Generator[None, None, Read | None]:
    """A line's curves as they are now, whoever made their keys; None where there are none."""
    line = lines.find(face, line_id)
    found = _curves(face, line_id)
    if line is None or not found:
        return None
    first, last = line.key_range
    names = [_name(owner, curve) for owner, curve in found]
    columns = []
    for number in range(len(found)):
        yield
        again = _curves(face, line_id)
        if [_name(owner, curve) for owner, curve in again] != names:
            raise SelfTalkError(CHANGED)
        columns.append(_values(again[number][1], first, last))
    values = np.stack(columns, 1)
    allowed = np.full(len(values), error_mm)
    spoken, take = lines.Spoken.of(line), lines.take_of(face, line_id)
    moved = [(owner, curve.data_path) for owner, curve in found]
    yield
    if take is not None:
        motion, start = yield from lines.speaking(face, spoken, take)
        if start == first and len(motion) == len(values):
            weights = motion.weights
            gap = yield from aside(lambda: bundled_template().gap_mm(weights))
            allowed[gap < CLOSED_MM] = CLOSED_SHARE * error_mm
    yield
    deltas = yield from _deltas(moved)
    return Read(line_id, names, first, values, deltas, allowed)


def _values(curve: bpy.types.FCurve, first: int, last: int) -> np.ndarray:
    """(T,) of a curve at scene frames."""
    points, frames = curve.keyframe_points, np.arange(first, last + 1)
    kinds = np.empty(len(points), np.int32)
    points.foreach_get("interpolation", kinds)
    at = np.empty(2 * len(points), np.float32)
    points.foreach_get("co", at)
    if (kinds == LINEAR).all():  # as we baked it: far faster
        return np.interp(frames, at[::2], at[1::2])
    return np.array([curve.evaluate(frame) for frame in frames.tolist()])


def _deltas(
    curves: list[tuple[bpy.types.ID, str]],
) -> Generator[None, None, np.ndarray]:
    """(C, V, 3) float32 mm by which 1 of each curve (its owner and path) moves what it moves.

    A shape key's are those of its mesh. For anything else stands one vertex of its own: the
    farthest that it turns or shifts.
    """
    blocks: list[np.ndarray] = []
    meshes: dict[bpy.types.Key, list[tuple[int, str]]] = {}
    for number, (owner, path) in enumerate(curves):
        name = key_name(path)
        if isinstance(owner, bpy.types.Key) and name in owner.key_blocks:
            meshes.setdefault(owner, []).append((number, name))
        else:
            alone = np.zeros((len(curves), 1, 3), np.float32)
            alone[number, 0, 0] = _reach_mm(owner, path)
            blocks.append(alone)
    for keys, shapes in meshes.items():
        to_mm, offsets = _mm_of(keys), []
        for _, name in shapes:
            offsets.append(faces.key_offsets(keys.key_blocks[name]) @ to_mm)
            yield
        numbers = [number for number, _ in shapes]
        blocks.append((yield from aside(functools.partial(_moving, len(curves), numbers, offsets))))
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, 1)


def _moving(count: int, numbers: list[int], offsets: list[np.ndarray]) -> np.ndarray:
    """(count, n, 3) offsets (V, 3) of curves by their numbers, of the vertices that move at all."""
    moved = np.zeros(len(offsets[0]), bool)
    for offset in offsets:
        moved |= np.abs(offset).max(1) > 1e-4
    block = np.zeros((count, np.count_nonzero(moved), 3), np.float32)
    for number, offset in zip(numbers, offsets, strict=True):
        block[number] = offset[moved]
    return block


def _mm_of(keys: bpy.types.Key) -> np.ndarray:
    """(3, 3) from a mesh's own unit to mm in the world; the largest of its objects counts."""
    users = [o for o in bpy.data.objects if o.data == keys.user]
    largest = max(users, key=lambda o: abs(o.matrix_world.to_3x3().determinant()))
    return np.array(largest.matrix_world.to_3x3(), np.float32).T * _mm_per_unit()


def _mm_per_unit() -> float:
    settings = bpy.context.scene.unit_settings
    return 1000.0 * (settings.scale_length if settings.system != "NONE" else 1.0)


def _reach_mm(owner: bpy.types.Object, path: str) -> float:
    """About how many mm 1 of an object's or a bone's channel moves a face."""
    mm = max(abs(side) for side in owner.matrix_world.to_scale()) * _mm_per_unit()
    bone = re.fullmatch(r'pose\.bones\["(.*)"\]\.(\w+)', path)
    if bone:
        name = bpy.utils.unescape_identifier(bone[1])
        length, kind = owner.data.bones[name].length, bone[2]
    elif path.startswith("delta_rotation"):
        length, kind = np.linalg.norm(np.array(owner.bound_box), axis=1).max(), path
    else:
        return PROPERTY_MM
    if kind == "location":
        return mm
    # A quaternion's part is half the angle.
    return float(mm * length * (2.0 if kind.endswith("quaternion") else 1.0))
