"""Lines that are there already: baked again, moved with their strips, or removed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Generator, Iterator, Mapping

import bpy

from ...core.drive import Drive
from ...core.errors import SelfTalkError
from ...core.steps import paced
from ...core.take import Take
from .. import dense, mesh_cache, targets
from ..fcurves import discard, key_name
from ..marks import LINE, RELATIVE, WAITING
from .actions import (
    REST_LINE,
    Curve,
    Place,
    action_name,
    mark_curves,
    marked_curves,
    owners_of,
    places_of,
    places_of_line,
    remove_curves,
    set_value,
    shift_keys,
)
from .copies import Copies, are_shared
from .entries import (
    Spoken,
    change,
    find,
    forget,
    has_take,
    keep_entry,
    reaches,
    take_of,
    twins_of,
)
from .playing import add_strip, arrange, check_lines, clear_line, hold_rest, unplug
from .seals import Sums, break_seal, is_edited, seal, sums_of
from .turning import modifier_armature
from .values import Baked, baking, columns_of
from .writing import Made, check, create_keys, filling, write_cache, write_curves

EDITED = (
    "Its keys were edited or reduced by hand, and that would be lost. Choose the strip and press "
    "Animate from Audio to have it again."
)


def rebake(face: bpy.types.Object) -> None:
    """As `rebaking`, at once."""
    for _ in rebaking(face):
        pass


def rebaking(face: bpy.types.Object, which: Collection[str] | None = None) -> Iterator[float]:
    """Make the curves of lines again from their takes, or the mesh cache of all, bit by bit.

    Lines without a take, of an animator of the face's own, stay as they are. Where this is
    closed, whole lines stay; the one at work may be new in part, and counts as ours.

    Args:
        which: ids of the lines that are made again; None for all.

    Yields:
        Progress, 0 to 1. Meanwhile the artist may do what they like, but for undo.

    Raises:
        SelfTalkError: as `check`; a take is damaged.
    """
    known = [line.id for line in face.selftalk.lines if has_take(face, line.id)]
    known = [line_id for line_id in known if which is None or line_id in which]
    if not known:
        return
    if mesh_cache.plays(face):
        yield from write_cache(face, (), mesh_cache.played(face))
        return
    drive = targets.drive_of(face)
    check(face, drive)
    for number, line_id in enumerate(known):
        yield number / len(known)
        line, take = find(face, line_id), take_of(face, line_id)
        if line is not None and take is not None:
            for _ in _renewing(face, drive, Spoken.of(line), take):
                yield number / len(known)


def _renewing(face: bpy.types.Object, drive: Drive, spoken: Spoken, take: Take) -> Iterator[None]:
    """Give a line that stands where it stood new curves; where it has them already, in place."""
    baked = yield from baking(face, drive, spoken, take)
    yield from create_keys(face, [baked], [])
    places = {place.owner: place for place in places_of_line(face, spoken.id)}
    columns = columns_of(baked)
    line = find(face, spoken.id)
    same = line is not None and tuple(line.key_range) == baked.key_range
    if not same or are_shared(places.values()) or not set(columns) <= set(places):
        yield from _replacing(face, spoken, baked)
        return
    break_seal(face, spoken.id)
    sums: Sums = {}
    rows = sums_of(baked)
    for owner in places:
        ours = columns.get(owner, {})
        for written in (yield from _renewing_curves(face, spoken.id, owner, baked, ours)):
            sums[owner, written] = rows[ours[written]]
    for place in places_of_line(face, spoken.id):
        # The face may have another name now; a number that Blender put behind it stays.
        if not place.action.name.startswith(action_name(face, spoken.name)):
            place.action.name = action_name(face, spoken.name)
    seal(face, spoken.id, sums)


def _replacing(face: bpy.types.Object, spoken: Spoken, baked: Baked) -> Iterator[None]:
    """Give a line other curves in the place of those that it has; if closed, it keeps these."""
    made = Made(spoken, baked)
    yield from paced(filling(face, [made]), None)
    made.put(face)


def _renewing_curves(
    face: bpy.types.Object,
    line_id: str,
    owner: bpy.types.ID,
    baked: Baked,
    columns: Mapping[Curve, int],
) -> Generator[None, None, Mapping[Curve, float]]:
    """Renew an owner's curves of a line; those that are ours now."""
    places = places_of(owner, line_id)
    if not places:  # the artist took it off meanwhile
        return {}
    place = places[-1]
    old = marked_curves(place.action, place.slot)
    gone = [curve for curve in old if curve not in columns]
    remove_curves(place.curves, gone)
    for curve in gone:
        set_value(owner, curve, 0.0 if key_name(curve[0]) else old[curve])
    if not columns:
        mark_curves(place.action, place.slot, {})
        if not len(place.curves):
            unplug(place)
            discard(place.action)
        return {}
    relative = bool(place.action.get(RELATIVE))
    writing = write_curves(place.action, place.slot, baked, columns, relative)
    written = yield from paced(writing, None)
    if relative:
        hold_rest(face, owner, written)
    return written


def changed_by(face: bpy.types.Object) -> Iterator[bpy.types.ID]:
    """All of this file's data that `rebaking` may change, in any way but by making it."""
    known = face.selftalk.lines
    found = {face, modifier_armature(face)}
    found |= {part.object for line in known for part in line.parts}
    with contextlib.suppress(SelfTalkError):  # of which `rebaking` will tell
        channels = targets.drive_of(face, measure=False).channels
        found |= {bpy.data.objects.get(channel.object) for channel in channels}
    for target in found - {None}:
        yield target
        if target.type == "MESH":
            yield target.data.shape_keys or target.data
    ids = {REST_LINE, *(line.id for line in known)}
    yield from (action for action in bpy.data.actions if action.get(LINE) in ids)


def lose(owner: bpy.types.ID, strip: str, line_id: str) -> None:
    """What played a line for an owner is without an action: have the line made again.

    Args:
        strip: its name; "" for the active action.
    """
    empty = [(t, s) for t in owner.animation_data.nla_tracks for s in t.strips if s.name == strip]
    for track, found in empty:
        unplug(Place(owner, None, 0, track, found))
    for action in [action for action in bpy.data.actions if action.get(LINE) == line_id]:
        discard(action)  # of before the slider: nothing plays it
    for face in bpy.data.objects:
        line = find(face, line_id)
        if line is not None and owner in owners_of(face, line) and face.library is None:
            break_seal(face, line_id)
            face[WAITING] = " ".join({*face.get(WAITING, "").split(), line_id})


def moving(face: bpy.types.Object, line_id: str, spoken: Spoken) -> Iterator[float]:
    """Have a line stand where its strip stands now, from its take alone, bit by bit.

    A line that has only moved in time keeps its curves as they are, edited ones, too. Where this
    is closed, the line stands where it stood.

    Yields:
        Progress, 0 to 1.

    Raises:
        SelfTalkError: as `rebaking`; there is no such line, its take does not reach so far, or
            keys that the artist edited would be lost.
    """
    take, line = take_to_move(face, line_id, spoken), find(face, line_id)
    assert line is not None
    if mesh_cache.plays(face):
        yield from write_cache(face, [(spoken, take)], mesh_cache.played(face))
    elif change(line, spoken) in ("", "Moved"):
        by = spoken.first_frame - line.first_frame
        yield from _moving_keys(face, line_id, by)
        first, last = line.key_range
        for twin in twins_of(face, line):
            if twin.data == face.data:  # and so are the keys
                keep_entry(twin, spoken, (first + by, last + by))
        keep_entry(face, spoken, (first + by, last + by))
    else:
        if is_edited(face, line):
            raise SelfTalkError(EDITED)
        drive = targets.drive_of(face)
        check(face, drive)
        baked = yield from paced(baking(face, drive, spoken, take), 0.5)
        yield from paced(_replacing(face, spoken, baked), 0.5)


def take_to_move(face: bpy.types.Object, line_id: str, spoken: Spoken) -> Take:
    """The take of a line that may be placed anew.

    Raises:
        SelfTalkError: as `moving`, but for keys.
    """
    line, take = find(face, line_id), take_of(face, line_id)
    if line is None or take is None or not reaches(line, spoken):
        raise SelfTalkError(f"{spoken.name} is not animated that far. Animate it again.")
    check_lines(face)
    return take


def _moving_keys(face: bpy.types.Object, line_id: str, by: int) -> Iterator[float]:
    """Have all of a line's curves, also the artist's among them, come `by` frames later."""
    places = places_of_line(face, line_id)
    with contextlib.ExitStack() as unless_moved:
        if are_shared(places):
            copies = Copies(face, line_id)
            unless_moved.callback(copies.discard)
            todo = copies.curves
        else:
            copies, todo = None, [curve for place in places for curve in place.curves]
        for done, curve in enumerate(todo):
            yield done / len(todo)
            shift_keys(curve, by, 0.0)
            if copies is None:
                unless_moved.callback(shift_keys, curve, -by, 0.0)
        unless_moved.pop_all()
    if copies is not None:
        copies.swap()
    for place in places_of_line(face, line_id):
        if place.strip is not None:
            muted = place.strip.mute
            unplug(place)
            add_strip(place.owner, place.action, place.slot, muted)


def removing(face: bpy.types.Object, line_id: str) -> Iterator[float]:
    """Take a line off a face: its curves, its take and its entry. Others stay.

    Yields:
        Progress, 0 to 1; where this is closed, the line stays.

    Raises:
        SelfTalkError: as `check_lines`, or the mesh cache of the other lines cannot
            be written.
    """
    line = find(face, line_id)
    if line is None:
        return
    check_lines(face)
    if any(twin.data == face.data for twin in twins_of(face, line)):
        forget(face, line)  # its curves are also the other's
        return
    if mesh_cache.plays(face):
        if any(has_take(face, other.id) for other in face.selftalk.lines if other != line):
            yield from write_cache(face, (), mesh_cache.played(face), gone=line_id)
            forget(face, find(face, line_id))
            return
        mesh_cache.remove(face)
    clear_line(face, line)
    if not has_take(face, line_id):
        dense.release(face)
    forget(face, line)
    arrange(face)


def written_frames(face: bpy.types.Object) -> tuple[int, int] | None:
    """First and last scene frame of our motion on a face; None where there is none.

    Raises:
        SelfTalkError: its cache file is missing.
    """
    if mesh_cache.plays(face):
        return mesh_cache.written_frames(face)
    if not len(face.selftalk.lines):
        return dense.written_frames(face)
    ranges: list[tuple[int, int]] = []
    for line in face.selftalk.lines:
        strips = [p.strip for p in places_of_line(face, line.id) if p.strip is not None]
        if strips:  # the artist may have moved or trimmed them
            ranges += [(math.floor(s.frame_start), math.ceil(s.frame_end)) for s in strips]
        else:
            ranges.append(tuple(line.key_range))
    return min(first for first, _ in ranges), max(last for _, last in ranges)
