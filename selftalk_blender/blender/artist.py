"""What of the artist's moves something already, which SelfTalk leaves alone."""

from __future__ import annotations

import bpy

from . import compat

# Custom properties of actions that list SelfTalk's own curves (`writers`, `lines`).
PATHS, CURVES = "selftalk_mark", "selftalk_curves"


def holds(owner: bpy.types.ID, path: str) -> str:
    """What drives or keys a property of some data, as the end of a sentence about it, or "".

    Args:
        path: RNA path on the owner; of a vector any component counts.
    """
    data = owner.animation_data
    if data is None:
        return ""
    if any(curve.data_path == path for curve in data.drivers):
        return "has a driver"
    if _keys(data, path):
        return f"is keyed in your action {data.action.name}"
    for track in data.nla_tracks:
        for strip in track.strips if not track.mute else ():
            if not strip.mute and _keys(strip, path):
                return f"is keyed in your NLA strip {strip.name}"
    return ""


def _keys(user: bpy.types.AnimData | bpy.types.NlaStrip, path: str) -> bool:
    action = user.action
    if action is None or path in action.get(PATHS, ()):
        return False
    slot, ours = compat.slot_number(user), action.get(CURVES, ())
    return any(
        curve.data_path == path and f"{slot} {curve.array_index} {path}" not in ours
        for curve in compat.strip_curves(user)
    )
