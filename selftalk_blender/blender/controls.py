"""The artist's controls of a face: kept in the .blend, and live on the lines that it speaks.

A changed control makes the curves of all lines of its face again from their takes, at once in the
background, and in a window line by line behind a short timer. It never does where that would lose
an artist's work: lines whose keys were edited by hand or reduced lock the controls until *Bake
Again*.

How an edit is noticed: `seal` notes what the curves of a line are right after we wrote them, as
a few sums; `touched` sees whether they still are. A line that never was sealed counts as ours.
The sums are kept with the face and with the line's actions: undo may take back one of them alone.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import bpy
import numpy as np
from mathutils import Euler, Matrix, Quaternion, Vector

from ..core import controls as core
from ..core import rhythm
from ..core.drive import Channel
from ..core.errors import SelfTalkError
from ..core.names import recognise
from ..core.steps import at_last
from ..core.take import SILENCE
from ..core.template import bundled_template
from . import artist, glance, jobs, lines, mesh_cache, parts, undoing
from . import face as faces
from .marks import REDUCED, SEAL, SEALS, WAITING
from .properties import ControlSettings

SEAL_SLACK = 1e-3  # of a sum; an edit that shows changes it by more
PAUSE = 0.03  # seconds in which the window may draw, before a dragged slider bakes again
# A head, with its neck or a bust of it, is at most so many times as large as its face; and its
# origin at most so many times as far from the face's middle.
WHOLE_BODY, FAR = 6.0, 3.0
HEAD_BONES = ("head", "c_head.x", "def-head", "mixamorig:head")  # in lower case


SPOKEN = tuple(f.name for f in fields(core.Controls) if f.name not in ("blinks", "brow_raises"))


def of(face: bpy.types.Object, frame_rate: float) -> core.Controls:
    """A face's controls.

    Args:
        frame_rate: frames per second of the scene that it speaks in; the offset counts them.
    """
    settings = face.selftalk.controls
    values = {name: getattr(settings, name) for name in SPOKEN}
    values["offset"] = settings.offset / frame_rate
    values["blinks"] = settings.blinks if settings.use_blinks else 0.0
    values["brow_raises"] = settings.brow_raises if settings.use_brow_raises else 0.0
    return core.Controls(**values)


# --- The head -------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Head:
    """What turns a head.

    Attributes:
        channels: of a rotation, as Euler angles (radians) or a quaternion.
        rest: (C,) their values unturned, as the artist set them.
        frame: turns the axes of the rotation's channels into those of the face (see _axes).
        order: of the Euler angles; "" for a quaternion.
        seed, amount: see `core.rhythm.head_motion`.
    """

    channels: tuple[Channel, ...]
    rest: np.ndarray
    frame: Matrix
    order: str
    seed: int
    amount: float

    def angles(self, loudness: np.ndarray, fps: float, times: np.ndarray) -> np.ndarray:
        """(T, 3) radians from a voice: pitch, yaw and roll, see `core.rhythm.head_motion`.

        Args:
            loudness: of the voice, dBFS per frame.
            fps: of the loudness.
            times: (T,) seconds of the voice at which the head is seen; at the first and the last
                it is at rest.
        """
        # Stress is seen at the loudness's own rate: a scene's may miss the peaks.
        fine = times[0] + np.arange(int(np.ceil((times[-1] - times[0]) * fps)) + 1) / fps
        heard = np.interp(fine * fps, np.arange(len(loudness)), loudness, SILENCE, SILENCE)
        turns = rhythm.head_motion(heard, fps, self.seed, self.amount)
        return np.stack([np.interp(times, fine, axis) for axis in turns.T], 1)

    def values(self, loudness: np.ndarray, fps: float, times: np.ndarray) -> np.ndarray:
        """(T, C) float32 of the channels from a voice, as `angles`."""
        angles = self.angles(loudness, fps, times)
        now = _rotation(self.rest, self.order)
        back = self.frame.transposed() @ now.to_matrix()
        values = np.empty((len(angles), len(self.channels)), np.float32)
        for row, (pitch, yaw, roll) in zip(values, angles.tolist(), strict=True):
            turn = self.frame @ Euler((pitch, roll, yaw)).to_matrix() @ back
            if self.order:
                now = turn.to_euler(self.order, now)
            else:
                before, now = now, turn.to_quaternion()
                now.make_compatible(before)
            row[:] = now
        return values


def _rotation(values: Sequence[float], order: str) -> Euler | Quaternion:
    """Euler angles of an order, or a quaternion where there is none."""
    numbers = [float(value) for value in values]
    return Euler(numbers, order) if order else Quaternion(numbers)


def head(face: bpy.types.Object) -> Head | None:
    """How the head of a face is turned; None where it is not to be.

    Raises:
        SelfTalkError: why it cannot be turned.
    """
    settings = face.selftalk.controls
    if not settings.use_head or not settings.head:
        return None
    rig = modifier_armature(face)
    if rig is None:
        _check_turning(face)
        holder, prefix, place = face, "delta_", ""
        # Deltas turn in the parent's axes, after the object's own rotation.
        own = _turned_by_parent(face)
    else:
        if rig.library is not None or rig.override_library is not None:
            raise SelfTalkError(f"{rig.name} is linked: its head cannot be turned from here.")
        holder, prefix = _head_bone(rig, settings.head_bone), ""
        place = f'pose.bones["{bpy.utils.escape_identifier(holder.name)}"].'
        own = (rig.matrix_world.to_3x3() @ holder.bone.matrix_local.to_3x3()).normalized()
    order = holder.rotation_mode
    if order == "AXIS_ANGLE":
        raise SelfTalkError(
            f"{holder.name} turns by axis and angle. Set its rotation mode to Euler or Quaternion."
        )
    quaternion = order == "QUATERNION"
    path = f"{place}{prefix}rotation_{'quaternion' if quaternion else 'euler'}"
    owner = face if rig is None else rig
    held = next((why for (of, _), why in artist.held(owner).items() if of == path), "")
    if held:
        raise SelfTalkError(
            f"The rotation of {holder.name} {held}, and is left alone. Untick Head Motion, or "
            "remove that."
        )
    rest = _rest_values(owner, path)
    kind = "PROPERTY" if rig is None else "BONE"
    channels = tuple(Channel(owner.name, kind, path, index) for index in range(len(rest)))
    order = "" if quaternion else order
    stands = _own_rotation(owner)
    if rig is None:
        stands = _rotation(rest, order).to_matrix() @ stands
    frame = own.inverted() @ _axes(_turned_by_parent(owner) @ stands)
    return Head(channels, rest, frame, order, settings.seed, settings.head)


def _rest_values(owner: bpy.types.Object, path: str) -> np.ndarray:
    """(C,) a rotation as the artist set it: what it was before lines of ours turned it."""
    ours = lines.rest_values(owner)
    now = owner.path_resolve(path)
    return np.array([ours.get((path, index), value) for index, value in enumerate(now)], np.float32)


def _check_turning(face: bpy.types.Object) -> None:
    """Whether an object without a rig can be turned as a head is.

    Raises:
        SelfTalkError: it is more than a head, turns about a far point, or leaves its eyes behind.
    """
    where = _place_of_face(face)
    if where is not None:
        middle, size, whole = where
        if whole > WHOLE_BODY * size:
            raise SelfTalkError(
                f"{face.name} is more than a head and has no rig, so all of it would nod. Untick "
                "Head Motion, or give it an armature with a head bone."
            )
        if np.linalg.norm(middle) > FAR * size:
            raise SelfTalkError(
                f"The origin of {face.name}, about which it would turn, is far from its face. Set "
                "it into the neck (Object > Set Origin > Origin to 3D Cursor), or untick Head "
                "Motion."
            )
    family = {face, *face.children_recursive}
    for other in bpy.context.scene.objects:
        if other.type == "MESH" and other not in family and parts.is_inside(face, other):
            raise SelfTalkError(
                f"{other.name} stands in the head of {face.name} and would not turn with it. Make "
                f"it a child of {face.name} (Ctrl P, Keep Transform), or untick Head Motion."
            )


def _place_of_face(face: bpy.types.Object) -> tuple[np.ndarray, float, float] | None:
    """Where the face of a mesh is: its middle (3,), its size, and that of the whole mesh.

    None where no shape key tells.
    """
    keys = face.data.shape_keys
    names = recognise(faces.key_names(face))
    chosen = [name for name in (*names.arkit, *names.visemes) if keys is not None]
    if not chosen:
        more = len(face.data.vertices) > len(bundled_template().vertices)
        body = more and faces.analyse(face).kind == "TEMPLATE"  # its shapes will be created
        return (np.zeros(3), 1.0, np.inf) if body else None
    at = faces.key_positions(keys.reference_key)
    moved = np.zeros(len(at), bool)
    for name in chosen[:: max(1, len(chosen) // 8)]:
        offset = np.linalg.norm(faces.key_offsets(keys.key_blocks[name]), axis=1)
        moved |= offset > 0.3 * max(offset.max(initial=0.0), 1e-9)
    if not moved.any():
        return None
    low, high = at[moved].min(0), at[moved].max(0)
    size, whole = float((high - low).max()), float(np.ptp(at, axis=0).max())
    return (low + high) / 2, size, whole


def head_channels(face: bpy.types.Object) -> tuple[Channel, ...]:
    """The channels of `head`, none where it is not to be turned."""
    turning = head(face)
    return turning.channels if turning is not None else ()


def modifier_armature(face: bpy.types.Object) -> bpy.types.Object | None:
    """The armature that moves a face, by its first Armature modifier."""
    for modifier in face.modifiers:
        if modifier.type == "ARMATURE" and modifier.object is not None:
            return modifier.object
    return None


def _head_bone(rig: bpy.types.Object, name: str) -> bpy.types.PoseBone:
    if name:
        if name not in rig.pose.bones:
            raise SelfTalkError(f"{rig.name} has no bone {name}. Choose its head's bone.")
        return rig.pose.bones[name]
    for bone in rig.pose.bones:
        if bone.name.lower() in HEAD_BONES:
            return bone
    raise SelfTalkError(f"Which bone of {rig.name} is the head? Choose it under Head.")


def _turned_by_parent(owner: bpy.types.Object) -> Matrix:
    whole = owner.matrix_world.to_3x3().normalized()
    return whole @ owner.matrix_basis.to_3x3().normalized().inverted()


def _own_rotation(owner: bpy.types.Object) -> Matrix:
    """An object's rotation without its delta, which may be ours."""
    if owner.rotation_mode == "QUATERNION":
        return owner.rotation_quaternion.to_matrix()
    if owner.rotation_mode == "AXIS_ANGLE":
        angle, *axis = owner.rotation_axis_angle
        return Matrix.Rotation(angle, 3, Vector(axis))
    return owner.rotation_euler.to_matrix()


def _axes(turn: Matrix) -> Matrix:
    """The axes of a face that an object's rotation turns, in the world: its left, its back, up.

    It looks along the object's -Y, or, where that is up or down, along +Z, as imports do.
    """
    ahead = turn @ Vector((0.0, -1.0, 0.0))
    if abs(ahead.z) > 0.7:
        ahead = turn @ Vector((0.0, 0.0, 1.0))
    ahead.z = 0.0
    if ahead.length < 1e-6:  # it lies
        ahead = Vector((0.0, -1.0, 0.0))
    ahead.normalize()
    up = Vector((0.0, 0.0, 1.0))
    return Matrix((up.cross(ahead), -ahead, up)).transposed()


# --- Seals ----------------------------------------------------------------------------------


# What changes where an artist edits a line's keys, and not where the line moves: of each curve
# the number of its keys, and their times and distances from rest, each key with a factor of its
# own. By owner, path and index.
Sums = dict[tuple[bpy.types.ID, tuple[str, int]], np.ndarray]
CHUNK = 100_000  # keys that are read at a time


def sums_of(times: np.ndarray, away: np.ndarray) -> np.ndarray:
    """(C, 3) the sums of C curves.

    Args:
        times: (T,) frames from the line's first.
        away: (T, C) from rest.
    """
    factors = np.cos(1.0 + np.arange(len(times)))
    rows = np.empty((away.shape[1], 3))
    rows[:, 0], rows[:, 1], rows[:, 2] = len(times), factors @ times, factors @ away
    return rows


def seal(face: bpy.types.Object, line_id: str, sums: Sums) -> None:
    """Note that a line's curves are as we wrote them."""
    break_seal(face, line_id)
    if SEALS not in face:
        face[SEALS] = {}
    flat = _flat((curve, row) for (_, curve), row in sums.items())
    face[SEALS][line_id] = flat
    for place in lines.places_of_line(face, line_id):
        place.action[SEAL] = flat


def break_seal(face: bpy.types.Object, line_id: str) -> None:
    """Have a line's curves count as ours, whatever they are."""
    for name in (SEALS, REDUCED):
        face.get(name, {}).pop(line_id, None)
    for place in lines.places_of_line(face, line_id):
        place.action.pop(SEAL, None)


def _flat(rows: Iterable[tuple[tuple[str, int], np.ndarray]]) -> list[float]:
    """Sums of curves in an order that no owner's name changes."""
    ordered = sorted((curve, tuple(row)) for curve, row in rows)
    return [float(value) for _, row in ordered for value in row]


def mark_reduced(face: bpy.types.Object, line_id: str, error_mm: float) -> None:
    """Note that a line's curves are reduced, by a largest error."""
    if REDUCED not in face:
        face[REDUCED] = {}
    face[REDUCED][line_id] = error_mm


def touched(face: bpy.types.Object) -> list[str]:
    """As `touched_lines`, at once."""
    return at_last(touched_lines(face))


def touched_lines(face: bpy.types.Object) -> Generator[None, None, list[str]]:
    """Names of a face's lines whose keys were reduced, or edited since; yields meanwhile."""
    names = []
    for line_id, name in [(line.id, line.name) for line in face.selftalk.lines]:
        if (yield from touching(face, line_id)):
            names.append(name)
    return names


def is_touched(face: bpy.types.Object, line_id: str) -> bool:
    """As `touching`, at once."""
    return at_last(touching(face, line_id))


def touching(face: bpy.types.Object, line_id: str) -> Generator[None, None, bool]:
    """Whether a line's keys were reduced, or edited since we wrote them; yields meanwhile."""
    if line_id in face.get(REDUCED, {}):
        return True
    if line_id not in face.get(SEALS, {}):
        return False
    seals = [tuple(place.action.get(SEAL, ())) for place in lines.places_of_line(face, line_id)]
    if len(set(seals)) > 1 or () in seals:  # undone in part: begun by us, or made at two times
        return False
    old = np.array(seals[0] if seals else face[SEALS][line_id])
    now = yield from _summing(face, line_id)
    slack = SEAL_SLACK * np.maximum(1.0, np.abs(old))
    return len(old) != len(now) or not bool((np.abs(old - now) <= slack).all())


def _summing(face: bpy.types.Object, line_id: str) -> Generator[None, None, list[float]]:
    """The sums of a line's curves as they are now, in the order of `_flat`."""
    rows: list[tuple[tuple[str, int], np.ndarray]] = []
    line = lines.find(face, line_id)
    while line is not None:
        # Anew each time: what was looked up before may be gone.
        curves = list(lines.curves(face, line_id))[len(rows) :]
        if not curves:
            break
        counts = np.cumsum([len(curve.keyframe_points) for _, curve, _ in curves])
        curves = curves[: max(1, int(np.searchsorted(counts, CHUNK)))]
        rows += _rows(curves, line.key_range[0])
        yield
        line = lines.find(face, line_id)
    return _flat(rows)


def _rows(
    curves: Sequence[tuple[bpy.types.ID, bpy.types.FCurve, float]], first_frame: int
) -> list[tuple[tuple[str, int], np.ndarray]]:
    """The sums of some curves."""
    counts = np.array([len(curve.keyframe_points) for _, curve, _ in curves])
    starts = np.cumsum(counts) - counts
    points = np.zeros((counts.sum() + 1, 2), np.float32)  # one more, for a last curve without keys
    for (_, curve, _), start, count in zip(curves, starts, counts, strict=True):
        curve.keyframe_points.foreach_get("co", points[start : start + count].reshape(-1))
    away = points.astype(np.float64)
    away[:-1] -= np.repeat([(first_frame, rest) for _, _, rest in curves], counts, 0)
    away[:-1] *= np.cos(1.0 + np.arange(counts.sum()) - np.repeat(starts, counts))[:, None]
    sums = np.where(counts[:, None] > 0, np.add.reduceat(away, starts), 0.0)
    names = [(curve.data_path, curve.array_index) for _, curve, _ in curves]
    return list(zip(names, np.column_stack([counts, sums]), strict=True))


# --- Baking live ----------------------------------------------------------------------------

SLICE = 0.02  # seconds after which the window draws before more is done
_quiet = False
_seconds = 0.0  # that the last slice took
_changes = 0  # of controls
_work: Generator[None, None, None] | None = None  # on the line that is made now


def bake_soon(face: bpy.types.Object) -> None:
    """Have a changed control seen on a face: at once in the background, else very soon.

    In a window the lines about the playhead come first, and each is made bit by bit. A mesh cache
    waits there for *Bake Again*: no slider could be dragged while it is written.
    """
    if _quiet or not len(face.selftalk.lines):
        return
    if bpy.app.background:
        bake_now(face)
        return
    # Lines that still wait were looked at when they began to.
    if mesh_cache.plays(face) or (WAITING not in face and locked(face)):
        return
    wait(face)
    _wake(max(PAUSE, _seconds))


def wait(face: bpy.types.Object) -> None:
    """Have all lines of a face wait to be made bit by bit."""
    global _changes
    _changes += 1
    undoing.touch(lines.changed_by(face))
    face[WAITING] = " ".join(line.id for line in face.selftalk.lines)


def _wake(seconds: float) -> None:
    if not bpy.app.timers.is_registered(_tick):
        # As long as a bake takes, the window may draw: a dragged slider stays fluid.
        bpy.app.timers.register(_tick, first_interval=seconds)


def _waiting() -> list[bpy.types.Object]:
    return [face for face in bpy.data.objects if WAITING in face and face.library is None]


def _tick() -> float | None:
    global _seconds
    if jobs.running is not None:
        return 0.2  # the job may be about to write the same lines
    begun = time.monotonic()
    waiting = _waiting()
    if not waiting:
        undoing.settled()
        return None
    bake_slice(waiting[0])
    _seconds = time.monotonic() - begun
    return max(PAUSE, _seconds)


def bake_slice(face: bpy.types.Object) -> None:
    """Work for SLICE seconds on the lines of a face that wait."""
    undoing.touch([face])  # no two undo steps are alike while its lines change
    with undoing.without_step():
        _work_on(face)


def _work_on(face: bpy.types.Object) -> None:
    global _work
    begun = time.monotonic()
    while WAITING in face:
        _work = _work or _baking_nearest(face)
        try:
            next(_work)
        except StopIteration:
            _work = None
        except ReferenceError:  # what was worked on is gone
            _work = None
        if time.monotonic() - begun >= SLICE:
            break


def _baking_nearest(face: bpy.types.Object) -> Generator[None, None, None]:
    """Make the line that waits and is nearest to the playhead."""

    frame, waiting, changes = bpy.context.scene.frame_current, face[WAITING].split(), _changes

    def away(line: lines.Line) -> int:
        return max(line.key_range[0] - frame, frame - line.key_range[1])

    todo = [line for line in face.selftalk.lines if line.id in waiting]
    if todo:
        line_id = min(todo, key=away).id
        if not (yield from touching(face, line_id)):  # meanwhile
            yield from _baking(face, [line_id])
        if changes != _changes:  # its controls have changed since it was begun
            return
        todo = [line for line in face.selftalk.lines if line.id in waiting and line.id != line_id]
    if todo:
        face[WAITING] = " ".join(line.id for line in todo)
    else:
        del face[WAITING]


def rest() -> None:
    """Leave the line that is made now as it is: it waits, and is begun anew later."""
    global _work
    if _work is not None:
        _work.close()
        _work = None


def resume() -> None:
    """Make the lines that waited when this state of the file was kept."""
    if not bpy.app.background:
        _wake(PAUSE)
        return
    bpy.context.view_layer.update()  # where what undo has read stands
    for face in _waiting():
        while WAITING in face:
            bake_slice(face)
    undoing.settled()


def bake_now(face: bpy.types.Object) -> None:
    """Make the curves of a face's lines again, as its controls are.

    What stands in the way is left in `controls.problem`.
    """
    if locked(face):
        return
    for _ in _baking(face, None):
        pass
    if WAITING in face:
        del face[WAITING]


def _baking(face: bpy.types.Object, which: Sequence[str] | None) -> Generator[None, None, None]:
    settings = face.selftalk.controls
    try:
        for _ in lines.rebaking(face, which):  # which seals what it writes
            yield
        problem = ""
    except SelfTalkError as error:
        problem = str(error)
    except ReferenceError:
        raise
    except Exception as error:  # in a timer nobody would hear of it
        traceback.print_exc()
        problem = f"A fault of SelfTalk's own: {error}. Please report it."
    settings.problem = problem


def locked(face: bpy.types.Object) -> str:
    """Why a face's controls do not change its motion now, or ""; in a window as last known."""
    return glance.by_and_by("locked", (face,), lambda: _locking(face), "")


def _locking(face: bpy.types.Object) -> Generator[None, None, str]:
    names = yield from touched_lines(face)
    if not names:
        return ""
    whose = f"the line {names[0]}" if len(names) == 1 else f"{len(names)} lines"
    return (
        f"The keys of {whose} were edited or reduced. Controls work on the recording's own: "
        "press Bake Again to lose the edits and have these."
    )


@contextlib.contextmanager
def at_once(face: bpy.types.Object) -> Iterator[None]:
    """Have controls of a face set within a block, and bake once after it."""
    global _quiet
    _quiet = True
    try:
        yield
    finally:
        _quiet = False
    bake_soon(face)


def set_all(face: bpy.types.Object, values: dict[str, float]) -> None:
    """Set several controls of a face, and bake once."""
    with at_once(face):
        for name, value in values.items():
            setattr(face.selftalk.controls, name, value)


def defaults() -> dict[str, float]:
    """Every control as it is made: the motion as the animator gave it."""
    names = [name for name in ControlSettings.__annotations__ if name != "problem"]
    return {name: ControlSettings.bl_rna.properties[name].default for name in names}


def stop() -> None:
    """Bake no more: the add-on is disabled."""
    rest()
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
