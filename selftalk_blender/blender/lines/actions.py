"""A line's actions: where they are, which of their curves are ours, and how these are filled."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from ...core.drive import Channel
from ...core.errors import SelfTalkError
from .. import compat, targets
from ..fcurves import key_path
from ..marks import CURVES, LINE, RELATIVE, REST
from ..properties import Line
from .entries import find, twins_of

REST_LINE = "rest"  # in place of an id: the action of the face at rest
Curve = tuple[str, int]  # RNA path on its owner, index in it (0 for a single number)


@dataclass(frozen=True, eq=False)
class Place:
    """Where one owner plays an action of ours: as its active action, or in an NLA strip."""

    owner: bpy.types.ID
    action: bpy.types.Action
    slot: int
    track: bpy.types.NlaTrack | None = None
    strip: bpy.types.NlaStrip | None = None

    @property
    def curves(self) -> Any:
        return compat.slot_curves(self.action, self.slot)


def owner_of(channel: Channel) -> bpy.types.ID:
    """The data that a channel's animation belongs to: an object, or its mesh's shape keys.

    Raises:
        SelfTalkError: it is gone.
    """
    target = bpy.data.objects.get(channel.object)
    if target is None:
        raise SelfTalkError(f"{channel.object} is gone. Look at the face's mapping again.")
    if channel.kind != "KEY":
        return target
    keys = target.data.shape_keys if target.type == "MESH" else None
    if keys is None:
        raise SelfTalkError(f"{channel.object} has no shape keys. Look at the mapping again.")
    return keys


def curve_of(channel: Channel) -> Curve:
    """Path and index of a channel's F-curve."""
    if channel.kind == "KEY":
        return key_path(channel.path), 0
    return channel.path, max(channel.index, 0)


def owners_of(face: bpy.types.Object, line: Line | None) -> Iterator[bpy.types.ID]:
    """What a line may have animated."""
    parts = {part.object: None for part in line.parts if part.object} if line is not None else {}
    if parts and line is not None and twins_of(face, line):
        # A duplicate of the face still names the parts of its original.
        own = {channel.object for channel in targets.drive_of(face, measure=False).channels}
        parts = {part: None for part in parts if part.name in own}
    for target in dict.fromkeys([face, *parts]):
        yield target
        if target.type == "MESH" and target.data.shape_keys is not None:
            yield target.data.shape_keys


def places_of(owner: bpy.types.ID, line_id: str | None = None) -> list[Place]:
    """Where an owner plays actions of ours: of one line, or of all (and that of rest)."""
    data = owner.animation_data
    if data is None:
        return []

    def asked(action: bpy.types.Action | None) -> bool:
        return action is not None and LINE in action and line_id in (None, action[LINE])

    found = []
    for track in data.nla_tracks:
        for strip in track.strips:
            if asked(strip.action):
                slot = compat.slot_number(strip)
                found.append(Place(owner, strip.action, slot, track, strip))
    # In Tweak Mode the active action is that of a strip.
    if asked(data.action) and not data.use_tweak_mode:
        found.append(Place(owner, data.action, compat.slot_number(data)))
    # Blender puts what the artist keys of related data into the same action, in another slot.
    return [p for p in found if marked_curves(p.action, p.slot)]


def rest_values(owner: bpy.types.ID) -> dict[Curve, float]:
    """What lines of ours move of an owner, with the value that each has at rest."""
    found: dict[Curve, float] = {}
    for place in places_of(owner):
        found |= marked_curves(place.action, place.slot)
    return found


def marked_curves(action: bpy.types.Action, slot: int) -> dict[Curve, float]:
    """The curves that we wrote in a slot, and the value at rest of each."""
    found = {}
    for mark, rest in zip(action.get(CURVES, ()), action.get(REST, ()), strict=True):
        number, index, path = mark.split(" ", 2)
        if int(number) == slot:
            found[path, int(index)] = rest
    return found


def mark_curves(action: bpy.types.Action, slot: int, curves: Mapping[Curve, float]) -> None:
    """Note which curves of a slot are ours, with the value at rest of each."""
    marks = [
        (mark, rest)
        for mark, rest in zip(action.get(CURVES, ()), action.get(REST, ()), strict=True)
        if int(mark.split(" ", 1)[0]) != slot
    ]
    marks += [(f"{slot} {index} {path}", rest) for (path, index), rest in curves.items()]
    for name, values in ((CURVES, [m for m, _ in marks]), (REST, [r for _, r in marks])):
        if values:
            action[name] = values
        elif name in action:  # Blender keeps no empty lists
            del action[name]


def action_name(face: bpy.types.Object, line: str) -> str:
    """What a line's action is called; Blender cuts it where it is too long for it."""
    return f"{face.name} · {line}"


def object_of_owner(owner: bpy.types.ID, face: bpy.types.Object) -> bpy.types.Object | None:
    """The object whose data an owner is; the face, where other objects share its mesh."""
    if isinstance(owner, bpy.types.Object):
        return owner
    if face.data.shape_keys == owner:
        return face
    return next(
        (o for o in bpy.data.objects if o.type == "MESH" and o.data.shape_keys == owner), None
    )


def curves(
    face: bpy.types.Object, line_id: str
) -> Iterator[tuple[bpy.types.ID, bpy.types.FCurve, float]]:
    """A line's curves that we wrote: whose each is, and its value where the face is at rest."""
    for place in places_of_line(face, line_id):
        marked = marked_curves(place.action, place.slot)
        relative = bool(place.action.get(RELATIVE))
        for curve in place.curves:
            rest = marked.get((curve.data_path, curve.array_index))
            if rest is not None:
                yield place.owner, curve, 0.0 if relative else rest


def places_of_line(face: bpy.types.Object, line_id: str) -> list[Place]:
    """Where a line of a face plays: on the face, its parts and its rig."""
    line = find(face, line_id)
    return [p for owner in owners_of(face, line) for p in places_of(owner, line_id)]


def remove_curves(curves: Any, which: Iterable[Curve]) -> None:
    """Remove some F-curves, as far as they are there."""
    for path, index in which:
        curve = curves.find(path, index=index)
        if curve is not None:
            curves.remove(curve)


def set_value(owner: bpy.types.ID, curve: Curve, value: float) -> None:
    """Set what an F-curve would set; nothing where it is gone."""
    path, index = curve
    found = re.fullmatch(r'(?:(.*)\.)?(\w+)|(.*?)\["((?:[^"\\]|\\.)*)"\]', path)
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        prefix = found[1] or found[3]
        holder = owner.path_resolve(prefix) if prefix else owner
        name = found[2] or bpy.utils.unescape_identifier(found[4])
        now = getattr(holder, name) if found[2] else holder[name]
        if hasattr(now, "__len__"):
            now[index] = value
        elif found[2]:
            setattr(holder, name, value)
        else:
            holder[name] = type(now)(value)


def set_relative(action: bpy.types.Action, relative: bool) -> None:
    """Have our curves tell the distance from rest, or the channels' own values."""
    if bool(action.get(RELATIVE)) == relative:
        return
    for slot in {int(mark.split(" ", 1)[0]) for mark in action.get(CURVES, ())}:
        curves = compat.slot_curves(action, slot)
        for (path, index), rest in marked_curves(action, slot).items():
            curve = curves.find(path, index=index)
            if curve is not None and rest:
                shift_keys(curve, 0.0, -rest if relative else rest)
    action[RELATIVE] = relative


def shift_keys(curve: bpy.types.FCurve, frames: float, value: float) -> None:
    """Move all keys of a curve with their handles, by frames and in value."""
    keys = curve.keyframe_points
    points = np.empty(len(keys) * 2, np.float32)
    for name in ("co", "handle_left", "handle_right"):
        keys.foreach_get(name, points)
        keys.foreach_set(name, (points.reshape(-1, 2) + np.float32([frames, value])).ravel())
    curve.update()
