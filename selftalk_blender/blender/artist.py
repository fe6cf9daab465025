"""What of the artist's moves something already, which SelfTalk leaves alone."""

from __future__ import annotations

import bpy

from . import compat
from .marks import CURVES, MARK


def held(owner: bpy.types.ID) -> dict[str, str]:
    """What of some data is driven or keyed: RNA path to the end of a sentence about it."""
    data = owner.animation_data
    found: dict[str, str] = {}
    if data is None:
        return found
    # What stands in the way first comes last.
    for track in reversed(list(data.nla_tracks)):
        for strip in reversed(list(track.strips)) if not track.mute else ():
            if not strip.mute:
                found |= dict.fromkeys(_keys(strip), f"is keyed in your NLA strip {strip.name}")
    if data.action is not None:
        found |= dict.fromkeys(_keys(data), f"is keyed in your action {data.action.name}")
    return found | {curve.data_path: "has a driver" for curve in data.drivers}


def _keys(user: bpy.types.AnimData | bpy.types.NlaStrip) -> list[str]:
    """Paths that the artist keys in an action; of a vector any component counts."""
    action = user.action
    if action is None:
        return []
    slot, ours, paths = (
        compat.slot_number(user),
        set(action.get(CURVES, ())),
        set(action.get(MARK, ())),
    )
    return [
        curve.data_path
        for curve in compat.strip_curves(user)
        if curve.data_path not in paths
        and f"{slot} {curve.array_index} {curve.data_path}" not in ours
    ]
