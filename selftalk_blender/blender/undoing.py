"""Undo after work that is no undo step of its own: the lines that follow a slider.

Blender's undo leaves the data-blocks in memory that are the same in two neighbouring steps, as they
are now: whatever was done to them since the later step stays, and what then plays an action that
undo frees crashes Blender. Therefore
- `touch` makes what a slider is about to change differ from the step before the slider's own;
- where a step of the artist's comes while lines still wait, it may be like the slider's all the
  same. Actions made since are taken off what plays them before undo, and put back after it where
  they are still there; and `controls` knows by an action's seal which keys were left as they are.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import bpy

from . import compat, lines
from .marks import CHANGING, LINE

_made: set[int] = set()  # session uids of actions


class _Taken(NamedTuple):
    """An action that was taken off: whose, in which strip ("": it was the active one)."""

    owner: int  # session uid
    strip: str
    action: int  # session uid
    slot: int
    line: str  # id


_taken: list[_Taken] = []


def touch(blocks: Iterable[bpy.types.ID]) -> None:
    """Data will be changed after the undo step that comes next: have it differ from the last."""
    for block in blocks:
        if block.library is None:
            block[CHANGING] = time.time()


def settled() -> None:
    """Nothing waits to be changed: take the marks of `touch` off."""
    for blocks in (bpy.data.actions, bpy.data.objects, bpy.data.meshes, bpy.data.shape_keys):
        for block in blocks:
            if CHANGING in block and block.library is None:
                del block[CHANGING]


@contextlib.contextmanager
def without_step() -> Iterator[None]:
    """Work in this block may make actions though no undo step follows."""
    before = {action.session_uid for action in bpy.data.actions}
    try:
        yield
    finally:
        _made.update({action.session_uid for action in bpy.data.actions} - before)


def _players(owner: bpy.types.ID) -> dict[str, Any]:
    """What plays an action for an owner: the strips by their names, and "" for its own data."""
    data = owner.animation_data
    if data is None or data.use_tweak_mode:  # in which Blender lets no action go
        return {}
    return {"": data} | {strip.name: strip for track in data.nla_tracks for strip in track.strips}


def _owners() -> Iterator[bpy.types.ID]:
    yield from bpy.data.objects
    yield from bpy.data.shape_keys


def begin() -> None:
    """Before undo or redo: take off the actions that it may free."""
    _taken.clear()
    for owner in _owners() if _made else ():
        for strip, player in _players(owner).items():
            action = player.action
            if action is not None and action.session_uid in _made:
                uids, slot = (owner.session_uid, action.session_uid), compat.slot_number(player)
                _taken.append(_Taken(uids[0], strip, uids[1], slot, action.get(LINE, "")))
                player.action = None


def end() -> None:
    """After undo or redo: put back what is still there, and have lines made again without."""
    owners = {owner.session_uid: owner for owner in _owners()} if _taken else {}
    actions = {action.session_uid: action for action in bpy.data.actions} if _taken else {}
    for taken in _taken:
        owner = owners.get(taken.owner)
        player = _players(owner).get(taken.strip) if owner is not None else None
        if player is None or player.action is not None:  # undo has read it anew
            continue
        if taken.action in actions:
            compat.play_action(player, actions[taken.action], taken.slot)
        else:
            lines.lose(owner, taken.strip, taken.line)
    _taken.clear()


def forget() -> None:
    """A file was loaded: all data is new."""
    _made.clear()
    _taken.clear()
