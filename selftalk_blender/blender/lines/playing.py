"""Having actions of ours played: as the active action, or in NLA tracks (see the package)."""

from __future__ import annotations

from collections.abc import Mapping

import bpy
import numpy as np

from ...core.errors import SelfTalkError
from .. import compat, shape_keys
from .. import face as faces
from ..fcurves import discard, fill_keys, key_name
from ..marks import LINE, RELATIVE
from ..properties import Line
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
    set_relative,
    set_value,
)
from .copies import Copies, are_shared

TRACK = "SelfTalk"


def check_lines(face: bpy.types.Object) -> None:
    """Whether a face's lines may be changed.

    Raises:
        SelfTalkError: the face is another file's, or an NLA strip is being tweaked.
    """
    faces.check_own(face)
    for line in face.selftalk.lines:
        for owner in owners_of(face, line):
            check_owner(face, owner)


def check_owner(target: bpy.types.Object, owner: bpy.types.ID) -> None:
    """Whether the animation of an owner (an object, or its shape keys) may be changed.

    Raises:
        SelfTalkError: an NLA strip of it is being tweaked.
    """
    data = owner.animation_data
    if data is not None and data.use_tweak_mode:
        raise SelfTalkError(
            f"An NLA strip of {target.name} is being tweaked. Leave Tweak Mode (Tab)."
        )


def plays_in_nla(face: bpy.types.Object, line_id: str = "") -> bool:
    """Whether a face's lines are NLA strips (see the top) and not one active action.

    Args:
        line_id: of a line that may be about to be added.
    """
    lines = face.selftalk.lines
    known = {line.id for line in lines} | ({line_id} if line_id else set())
    if face.selftalk.use_nla or len(known) > 1:
        return True
    for line in lines:
        for owner in owners_of(face, line):
            if _has_own_action(owner):
                return True
    return False


def _has_own_action(owner: bpy.types.ID) -> bool:
    """Whether an owner's active action is the artist's, or its slot of one of ours is."""
    data = owner.animation_data
    action = data.action if data is not None else None
    if action is None or shape_keys.is_dense(action):
        return False
    return LINE not in action or not marked_curves(action, compat.slot_number(data))


def arrange(face: bpy.types.Object) -> None:
    """Have all lines of a face played as they should be now; the rest strip follows.

    Nothing where `check_lines` refuses; the next line that is written does it.
    """
    try:
        check_lines(face)
    except SelfTalkError:
        return
    nla = plays_in_nla(face)
    for line in face.selftalk.lines:
        if not _elsewhere(face, line, nla):
            continue
        if are_shared(places_of_line(face, line.id)):
            Copies(face, line.id).swap()
        for place in _elsewhere(face, line, nla):
            muted = place.strip is not None and place.strip.mute
            unplug(place)
            attach(face, place.owner, place.action, place.slot, nla, muted)
    if not nla:
        for owner in {o for line in face.selftalk.lines for o in owners_of(face, line)} | set(
            owners_of(face, None)
        ):
            _drop_rest(owner)


def _elsewhere(face: bpy.types.Object, line: Line, nla: bool) -> list[Place]:
    """Where a line plays that is to be in the NLA, or not to be; the artist may have moved it."""
    return [
        place
        for place in places_of_line(face, line.id)
        if (place.strip is not None, bool(place.action.get(RELATIVE))) != (nla, nla)
    ]


def attach(
    face: bpy.types.Object,
    owner: bpy.types.ID,
    action: bpy.types.Action,
    slot: int,
    nla: bool,
    muted: bool = False,
) -> None:
    """Have an owner play an action of ours."""
    set_relative(action, nla)
    if not nla:
        compat.play_action(owner.animation_data or owner.animation_data_create(), action, slot)
        return
    hold_rest(face, owner, marked_curves(action, slot))
    add_strip(owner, action, slot, muted)


def add_strip(owner: bpy.types.ID, action: bpy.types.Action, slot: int, muted: bool) -> None:
    """Put an action into the first track of ours that is free there."""
    data = owner.animation_data
    # Not the action's range: another slot of it may have keys of the artist's.
    ranges = [curve.range() for curve in compat.slot_curves(action, slot)]
    first, last = round(min(r[0] for r in ranges)), round(max(r[1] for r in ranges))
    track = next((t for t in data.nla_tracks if _is_free(t, first, last)), None)
    if track is None:
        track = data.nla_tracks.new()
        track.name = TRACK
    strip = track.strips.new(action.name, first, action)
    compat.play_action(strip, action, slot)
    strip.action_frame_start, strip.action_frame_end = first, last
    strip.frame_start, strip.frame_end = first, last
    strip.blend_type, strip.extrapolation, strip.mute = "ADD", "NOTHING", muted


def _is_free(track: bpy.types.NlaTrack, first: int, last: int) -> bool:
    """Whether a track has lines of ours alone, and none in a range of frames."""
    for strip in track.strips:
        ours = strip.action is not None and LINE in strip.action
        if not ours or strip.action[LINE] == REST_LINE:
            return False
        # Strips may touch, but not share a frame: there both would add.
        if strip.frame_start < last + 1 and first < strip.frame_end + 1:
            return False
    return bool(len(track.strips))


def hold_rest(face: bpy.types.Object, owner: bpy.types.ID, curves: Mapping[Curve, float]) -> None:
    """Have a strip below all lines of an owner that holds their channels at rest.

    Without it a channel would fall to its default (1 for a shape key in Blender 5.0).
    """
    data = owner.animation_data or owner.animation_data_create()
    places = places_of(owner)
    rest = next((p for p in places if p.action[LINE] == REST_LINE), None)
    if rest is not None:
        action, slot = rest.action, rest.slot
    else:
        above = [place for place in places if place.strip is not None]
        muted = [place.strip.mute for place in above]
        for place in above:
            unplug(place)
        action = bpy.data.actions.new(action_name(face, "rest"))
        slot = compat.add_slot(action, owner)
        action[LINE] = REST_LINE
    held = marked_curves(action, slot)
    missing = {curve: value for curve, value in curves.items() if curve not in held}
    fcurves = compat.slot_curves(action, slot)
    for (path, index), value in missing.items():
        fill_keys(fcurves.new(path, index=index), np.array([[0.0, value]], np.float32))
    mark_curves(action, slot, {**held, **missing})
    if rest is None:
        track = data.nla_tracks.new()
        track.name = f"{TRACK} rest"
        strip = track.strips.new(action.name, 0, action)
        compat.play_action(strip, action, slot)
        strip.blend_type, strip.extrapolation = "REPLACE", "HOLD"
        for place, mute in zip(above, muted, strict=True):
            add_strip(owner, place.action, place.slot, mute)


def _drop_rest(owner: bpy.types.ID) -> None:
    """Remove the strip that holds an owner at rest."""
    for place in places_of(owner, REST_LINE):
        unplug(place)
        discard(place.action)


def unplug(place: Place) -> None:
    """Have an owner play an action of ours no longer; an empty track of ours goes."""
    data = place.owner.animation_data
    if place.strip is None:
        data.action = None
        return
    place.track.strips.remove(place.strip)
    if not len(place.track.strips) and place.track.name.startswith(TRACK):
        data.nla_tracks.remove(place.track)


def detach(
    face: bpy.types.Object, place: Place, new: tuple[bpy.types.Action, int] | None = None
) -> None:
    """Take a line's action from an owner; what it moved and nothing moves now goes to rest."""
    ours = marked_curves(place.action, place.slot)
    kept = set(marked_curves(*new)) if new is not None else set()
    foreign = [
        curve
        for curve in (place.curves if new is None else ())
        if (curve.data_path, curve.array_index) not in ours
    ]
    if foreign:
        # The artist's curves in our action stay, and so the action becomes the artist's.
        remove_curves(place.curves, ours)
        mark_curves(place.action, place.slot, {})
        del place.action[LINE]
    else:
        unplug(place)
        discard(place.action)
    for other in places_of(place.owner):
        if other.action[LINE] != REST_LINE:
            kept |= set(marked_curves(other.action, other.slot))
    for curve, rest in ours.items():
        if curve not in kept:
            set_value(place.owner, curve, 0.0 if key_name(curve[0]) else rest)


def clear_line(face: bpy.types.Object, line: Line) -> None:
    """Remove a line's curves."""
    for place in places_of_line(face, line.id):
        detach(face, place)
    for owner in list(owners_of(face, line)):
        if all(place.action[LINE] == REST_LINE for place in places_of(owner)):
            _drop_rest(owner)
