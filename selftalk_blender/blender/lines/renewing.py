"""Lines that are there already: baked again, moved with their strips, or removed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import bpy
import numpy as np

from ...core.errors import SelfTalkError
from .. import controls, targets, writers
from ..fcurves import discard, fill_keys, key_name
from ..marks import RELATIVE
from .actions import (
    Curve,
    Place,
    columns_of,
    mark_curves,
    marked_curves,
    places_of_line,
    remove_curves,
    set_value,
    shift_keys,
)
from .entries import (
    Line,
    Spoken,
    change,
    find,
    forget,
    has_take,
    keep_entry,
    other_lines,
    reaches,
    take_of,
    twins_of,
)
from .playing import add_strip, arrange, check_tweaking, clear_line, hold_rest, unplug
from .values import Baked, bake
from .writing import Made, check, create_keys, write_cache

EDITED = (
    "Its keys were edited or reduced by hand, and that would be lost. Choose the strip and press "
    "Animate from Audio to have it again."
)


def rebake(face: bpy.types.Object, line_id: str | None = None) -> None:
    """Make the curves of all lines of a face again from their takes, or its mesh cache.

    Lines without a take, of an animator of the face's own, stay as they are.

    Args:
        line_id: of the one line that is made again; None for all.

    Raises:
        SelfTalkError: as `check`; a take is damaged.
    """
    takes = [
        (Spoken.of(line), take_of(face, line.id))
        for line in face.selftalk.lines
        if line_id in (None, line.id)
    ]
    todo = [(spoken, take) for spoken, take in takes if take is not None]
    if not todo:
        return
    if writers.has_cache(face):
        for _ in rebaking(face):
            pass
        return
    drive = targets.drive_of(face)
    check(face, drive)
    for spoken, take in todo:
        _renew(face, spoken, bake(face, drive, spoken, take))


def rebaking(face: bpy.types.Object) -> Iterator[float]:
    """`rebake` in small pieces; when it is closed, whole lines stay.

    Yields:
        Progress, 0 to 1.
    """
    known = [line.id for line in face.selftalk.lines if has_take(face, line.id)]
    if known and writers.has_cache(face):
        take = take_of(face, known[0])
        line = find(face, known[0])
        if line is not None and take is not None:
            yield from write_cache(face, Spoken.of(line), take, writers.played_cache(face))
        return
    for number, line_id in enumerate(known):
        yield number / len(known)
        rebake(face, line_id)


def _renew(face: bpy.types.Object, spoken: Spoken, baked: Baked) -> None:
    """Give a line new curves; where it has them already, in place."""
    create_keys(face, [baked], [])
    places = {place.owner: place for place in places_of_line(face, spoken.id)}
    columns = columns_of(baked)
    line = find(face, spoken.id)
    same = line is not None and tuple(line.key_range) == baked.key_range
    shared = any(
        place.action.users - place.action.use_fake_user
        > sum(other.action == place.action for other in places.values())
        for place in places.values()
    )
    if not same or shared or not set(columns) <= set(places):
        made = Made(spoken, baked)
        for _ in made.fill(face):
            pass
        made.put(face)
    else:
        for owner, place in places.items():
            _renew_curves(face, place, baked, columns.get(owner, {}))
            if not len(place.curves):
                unplug(place)
                discard(place.action)
    controls.seal(face, spoken.id)


def _renew_curves(
    face: bpy.types.Object, place: Place, baked: Baked, columns: Mapping[Curve, int]
) -> None:
    old = marked_curves(place.action, place.slot)
    gone = [curve for curve in old if curve not in columns]
    curves = place.curves
    remove_curves(curves, gone)
    for curve in gone:
        set_value(place.owner, curve, 0.0 if key_name(curve[0]) else old[curve])
    relative = bool(place.action.get(RELATIVE))
    points = np.empty((len(baked.values), 2), np.float32)
    points[:, 0] = baked.first_frame + np.arange(len(points))
    written: dict[Curve, float] = {}
    for (path, index), column in columns.items():
        curve = curves.find(path, index=index)
        if curve is not None and (path, index) not in old:
            continue  # the artist's
        rest = float(baked.rest[column])
        points[:, 1] = baked.values[:, column] - (rest if relative else 0.0)
        fill_keys(curve or curves.new(path, index=index), points)
        written[path, index] = rest
    mark_curves(place.action, place.slot, written)
    if relative:
        hold_rest(face, place.owner, written)


def move(face: bpy.types.Object, line_id: str, spoken: Spoken) -> None:
    """Have a line stand where its strip stands now, from its take alone.

    A line that has only moved in time keeps its curves as they are, edited ones, too.

    Raises:
        SelfTalkError: as `rebake`; there is no such line, its take does not reach so far, or
            keys that the artist edited would be lost.
    """
    line, take = find(face, line_id), take_of(face, line_id)
    if line is None or take is None or not reaches(line, spoken):
        raise SelfTalkError(f"{spoken.name} is not animated that far. Animate it again.")
    check_tweaking(face)
    by = spoken.first_frame - line.first_frame
    if writers.has_cache(face):
        for _ in write_cache(face, spoken, take, writers.played_cache(face)):
            pass
    elif change(line, spoken) in ("", "Moved"):
        _move_keys(face, line, by)
        keep_entry(face, spoken, (line.key_range[0] + by, line.key_range[1] + by))
    else:
        if is_edited(face, line):
            raise SelfTalkError(EDITED)
        drive = targets.drive_of(face)
        check(face, drive)
        _renew(face, spoken, bake(face, drive, spoken, take))


def is_edited(face: bpy.types.Object, line: Line) -> bool:
    """Whether the artist has edited or reduced the keys of a line."""
    return controls.is_touched(face, line.id)


def _move_keys(face: bpy.types.Object, line: Line, by: int) -> None:
    """Have all of a line's curves, also the artist's among them, come `by` frames later."""
    places = places_of_line(face, line.id)
    muted = [place.strip is not None and place.strip.mute for place in places]
    for place in places:
        if place.strip is not None:
            unplug(place)
        for curve in place.curves:
            shift_keys(curve, by, 0.0)
    for place, mute in zip(places, muted, strict=True):
        if place.strip is not None:
            add_strip(place.owner, place.action, place.slot, mute)


def remove(face: bpy.types.Object, line_id: str) -> None:
    """Take a line off a face: its curves, its take and its entry. Others stay.

    Raises:
        SelfTalkError: an NLA strip is being tweaked, or the mesh cache of the other lines cannot
            be written.
    """
    line = find(face, line_id)
    if line is None:
        return
    check_tweaking(face)
    if any(twin.data == face.data for twin in twins_of(face, line)):
        forget(face, line)  # its curves are also the other's
        return
    others = other_lines(face, line_id)
    if writers.has_cache(face) and others:
        path = writers.played_cache(face)
        forget(face, line)
        spoken, take = others[0]
        for _ in write_cache(face, spoken, take, path):
            pass
        return
    if writers.has_cache(face):
        writers.remove_cache(face)
    clear_line(face, line)
    if not has_take(face, line_id):
        writers.remove_dense(face)
    forget(face, line)
    arrange(face)


def written_frames(face: bpy.types.Object) -> tuple[int, int] | None:
    """First and last scene frame of our motion on a face; None where there is none.

    Raises:
        SelfTalkError: its cache file is missing.
    """
    ranges = [tuple(line.key_range) for line in face.selftalk.lines]
    if not ranges or writers.has_cache(face):
        return writers.written_frames(face)
    for line in face.selftalk.lines:
        for place in places_of_line(face, line.id):
            if place.strip is not None:  # the artist may have moved it
                strip = place.strip
                ranges.append((math.floor(strip.frame_start), math.ceil(strip.frame_end)))
    return min(first for first, _ in ranges), max(last for _, last in ranges)
