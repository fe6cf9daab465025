"""What of the artist's moves something already, which SelfTalk leaves alone."""

from __future__ import annotations

import bpy

from . import compat
from .marks import CURVES, MARK

# RNA path and index (0 for a single number) -> the end of a sentence on what moves it.
Held = dict[tuple[str, int], str]


def held(owner: bpy.types.ID) -> Held:
    """What of some data the artist drives or keys, also in the NLA."""
    data = owner.animation_data
    found: Held = {}
    if data is None:
        return found
    # What stands in the way first comes last.
    for track in reversed(list(data.nla_tracks)):
        for strip in reversed(list(track.strips)) if not track.mute else ():
            if not strip.mute:
                found |= dict.fromkeys(_keys(strip), f"is keyed in your NLA strip {strip.name}")
    if data.action is not None:
        found |= dict.fromkeys(_keys(data), f"is keyed in your action {data.action.name}")
    return found | {(c.data_path, c.array_index): "has a driver" for c in data.drivers}


def _keys(user: bpy.types.AnimData | bpy.types.NlaStrip) -> list[tuple[str, int]]:
    """Paths and indices that the artist keys in an action."""
    action = user.action
    if action is None:
        return []
    slot = compat.slot_number(user)
    ours, paths = set(action.get(CURVES, ())), set(action.get(MARK, ()))
    return [
        (curve.data_path, curve.array_index)
        for curve in compat.strip_curves(user)
        if curve.data_path not in paths
        and f"{slot} {curve.array_index} {curve.data_path}" not in ours
    ]
