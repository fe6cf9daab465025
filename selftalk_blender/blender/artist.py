"""What of the artist's moves something already, which SelfTalk leaves alone."""

from __future__ import annotations

import bpy

from . import compat
from .marks import CURVES, MARK


def holds(owner: bpy.types.ID) -> dict[str, str]:
    """What the artist drives or keys of some data: RNA path -> the end of a sentence about it.

    Of a vector any component counts.
    """
    data = owner.animation_data
    if data is None:
        return {}
    held: dict[str, str] = {}
    for track in data.nla_tracks:
        for strip in track.strips if not track.mute else ():
            if not strip.mute:
                for path in _keys(strip):
                    held[path] = f"is keyed in your NLA strip {strip.name}"
    for path in _keys(data):
        held[path] = f"is keyed in your action {data.action.name}"
    return held | {curve.data_path: "has a driver" for curve in data.drivers}


def _keys(user: bpy.types.AnimData | bpy.types.NlaStrip) -> set[str]:
    action = user.action
    if action is None:
        return set()
    slot, ours = compat.slot_number(user), set(action.get(CURVES, ()))
    return {
        curve.data_path
        for curve in compat.strip_curves(user)
        if f"{slot} {curve.array_index} {curve.data_path}" not in ours
    }.difference(action.get(MARK, ()))
