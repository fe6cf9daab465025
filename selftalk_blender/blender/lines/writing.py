"""Giving a face a new line, as curves or in its mesh cache."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import bpy
import numpy as np

from ...core.aside import aside
from ...core.drive import Channel, Drive
from ...core.errors import SelfTalkError
from ...core.motion import Motion
from ...core.steps import paced, told
from ...core.take import Take
from ...core.template import bundled_template
from .. import compat, dense, mesh_cache, shape_keys
from .. import face as faces
from ..fcurves import fill_keys
from ..marks import LINE, RELATIVE, TAKES
from .actions import (
    Curve,
    action_name,
    mark_curves,
    marked_curves,
    object_of_owner,
    owner_of,
    places_of_line,
    remove_curves,
)
from .entries import Spoken, find, forget, keep_entry, other_lines, store_take
from .playing import arrange, attach, check_owner, clear_line, detach, plays_in_nla
from .seals import Sums, seal, sums_of
from .turning import head_channels
from .values import STILL, Baked, baking, columns_of, compose, speaking


def check(face: bpy.types.Object, drive: Drive) -> None:
    """Whether lines can be written onto a face.

    Raises:
        SelfTalkError: what stands in the way, and what to do about it.
    """
    faces.usable(face)
    mesh_cache.check_modifiers(face)
    everything = (*drive.channels, *head_channels(face))
    for target, channels in _by_object(everything).items():
        names = {channel.path for channel in channels if channel.kind == "KEY"}
        if names:
            shape_keys.check(target)
            keys = target.data.shape_keys
            lacking = names - set(keys.key_blocks.keys() if keys is not None else ())
            if target == face:
                lacking -= set(bundled_template().shape_names)  # these can be made
            if lacking:
                raise SelfTalkError(
                    f"{target.name} has no shape key {min(lacking)}. Look at the mapping again."
                )
        for owner in _by_owner(channels):
            check_owner(target, owner)


def _by_object(channels: Sequence[Channel]) -> dict[bpy.types.Object, list[Channel]]:
    found: dict[bpy.types.Object, list[Channel]] = {}
    for channel in channels:
        target = bpy.data.objects.get(channel.object)
        if target is None:
            raise SelfTalkError(f"{channel.object} is gone. Look at the face's mapping again.")
        found.setdefault(target, []).append(channel)
    return found


def _by_owner(channels: Sequence[Channel]) -> dict[bpy.types.ID, list[Channel]]:
    """Channels by owner; those of a face without any shape keys yet have none."""
    found: dict[bpy.types.ID, list[Channel]] = {}
    for channel in channels:
        target = bpy.data.objects.get(channel.object)
        if channel.kind == "KEY" and target is not None and target.data.shape_keys is None:
            continue
        found.setdefault(owner_of(channel), []).append(channel)
    return found


def write(face: bpy.types.Object, drive: Drive, new: Spoken, take: Take) -> Iterator[float]:
    """Give a face a line as curves, in the place of the line's earlier curves.

    Only channels that leave their rest get a curve. Shape keys that the bundled head has and
    the face (one of its topology) lacks are created. Where the face was animated by a mesh cache
    of ours, that goes, and the other lines become curves, too.

    Yields:
        How much is done, 0..1. If the generator is closed or fails, the scene is as before.

    Raises:
        SelfTalkError: as `check`; the face was removed meanwhile.
    """
    check(face, drive)
    made: list[Made] = []
    try:
        data = yield from paced(aside(take.to_bytes), 0.05)
        todo = [(new, take)]
        if mesh_cache.plays(face):
            for other in other_lines(face, (new.id,)):
                todo.append(other)
                yield 0.05
        for spoken, known in todo:
            baked = yield from paced(baking(face, drive, spoken, known), 0.08)
            made.append(Made(spoken, baked))
        yield from told(filling(face, made), lambda done: 0.1 + 0.85 * done)
    except ReferenceError as error:
        raise SelfTalkError("The face was removed while it was being animated.") from error
    # From here on nothing fails: the scene changes at once.
    _forget_dense(face, (new.id,))
    for line in made:
        line.put(face)
    mesh_cache.remove(face)
    store_take(face, new.id, data)
    yield 1.0


New = tuple[Spoken, Take]  # a line that is not written yet


def write_cache(
    face: bpy.types.Object, new: Sequence[New], path: Path, gone: str = ""
) -> Iterator[float]:
    """Write one mesh cache for all lines of a face, some of them new.

    Args:
        gone: id of a line that is left out; it is the caller's to remove.

    Yields, raises: as `mesh_cache.write`.
    """
    data: dict[str, bytes] = {}
    todo: list[tuple[Spoken, Motion, int]] = []
    ids = {spoken.id for spoken, _ in new}
    for spoken, take in itertools.chain(new, other_lines(face, {*ids, gone})):
        if spoken.id in ids:
            data[spoken.id] = yield from paced(aside(take.to_bytes), 0.0)
        eased, first = yield from paced(speaking(face, spoken, take), 0.0)
        todo.append((spoken, eased, first))
    together = aside(lambda: compose([(eased, first) for _, eased, first in todo]))
    motion, first_frame = yield from paced(together, 0.0)
    with contextlib.closing(mesh_cache.write(face, motion, first_frame, path)) as writing:
        for done in writing:
            if done < 1.0:
                yield done
    for spoken, eased, first in todo:
        line = find(face, spoken.id)
        if line is not None:
            clear_line(face, line)
        keep_entry(face, spoken, (first, first + len(eased) - 1))
    _forget_dense(face, ids)
    for line_id, kept in data.items():
        store_take(face, line_id, kept)
    yield 1.0


def _forget_dense(face: bpy.types.Object, new: Collection[str]) -> None:
    """A line without a take, of an animator of the face's own, does not stay beside others."""
    dense.release(face)
    takes = face.get(TAKES, {})
    for other in [line.id for line in face.selftalk.lines]:
        if other not in new and other not in takes:
            forget(face, find(face, other))


def write_curves(
    action: bpy.types.Action,
    slot: int,
    baked: Baked,
    columns: Mapping[Curve, int],
    relative: bool,
) -> Generator[float, None, dict[Curve, float]]:
    """Fill F-curves, one linear key per frame, and mark them; the artist's keep their channels.

    Yields:
        How much is done. The curves are looked up anew each time: some may be gone.

    Returns:
        The curves that are ours now, and the value at rest of each.
    """
    ours, curves = marked_curves(action, slot), compat.slot_curves(action, slot)
    written = {
        curve: float(baked.rest[column])
        for curve, column in columns.items()
        if curve in ours or curves.find(curve[0], index=curve[1]) is None
    }
    mark_curves(action, slot, written)
    points = np.empty((len(baked.values), 2), np.float32)
    points[:, 0] = baked.first_frame + np.arange(len(points))
    for number, ((path, index), rest) in enumerate(written.items(), 1):
        points[:, 1] = baked.values[:, columns[path, index]] - (rest if relative else 0.0)
        curves = compat.slot_curves(action, slot)
        fill_keys(curves.find(path, index=index) or curves.new(path, index=index), points)
        yield number / len(written)
    return written


@dataclass(eq=False)
class Made:
    """A line's new actions, not played by anything yet; `actions` has them by owner, with slots."""

    spoken: Spoken
    baked: Baked
    actions: dict[bpy.types.ID, tuple[bpy.types.Action, int]] = field(default_factory=dict)
    sums: Sums = field(default_factory=dict)

    def fill(self, face: bpy.types.Object) -> Iterator[float]:
        """Make the actions: copies of the line's present ones with our curves renewed."""
        relative = plays_in_nla(face, self.spoken.id)
        old = places_of_line(face, self.spoken.id)
        copies: dict[bpy.types.Action, bpy.types.Action] = {}
        for place in old:
            if place.action not in copies:
                copies[place.action] = place.action.copy()
            self.actions[place.owner] = copies[place.action], place.slot
        for action, slot in self.actions.values():
            remove_curves(compat.slot_curves(action, slot), marked_curves(action, slot))
            mark_curves(action, slot, {})
        columns, sums = columns_of(self.baked), sums_of(self.baked)
        for number, (owner, ours) in enumerate(columns.items()):
            if owner not in self.actions:
                self.actions[owner] = self._new_slot(face, owner)
            action, slot = self.actions[owner]
            writing = write_curves(action, slot, self.baked, ours, relative)
            written = yield from told(
                writing, lambda done, begun=number: (begun + done) / len(columns)
            )
            for curve in written:
                self.sums[owner, curve] = sums[ours[curve]]
        for owner, (action, slot) in list(self.actions.items()):
            if owner not in columns and not len(compat.slot_curves(action, slot)):
                del self.actions[owner]
        for action in set(copies.values()) - set(self.unique):
            bpy.data.actions.remove(action)
        for action in self.unique:
            compat.keep_slots(
                action, [slot for own, slot in self.actions.values() if own == action]
            )
            action[LINE], action[RELATIVE] = self.spoken.id, relative

    @property
    def unique(self) -> list[bpy.types.Action]:
        return list(dict.fromkeys(action for action, _ in self.actions.values()))

    def _new_slot(
        self, face: bpy.types.Object, owner: bpy.types.ID
    ) -> tuple[bpy.types.Action, int]:
        shared = self.unique[0] if self.unique and compat.SLOTTED_ACTIONS else None
        action = shared or bpy.data.actions.new(action_name(face, self.spoken.name))
        return action, compat.add_slot(action, owner)

    def put(self, face: bpy.types.Object) -> None:
        """Have the actions played in the place of the line's earlier ones, which go."""
        muted = False
        for place in places_of_line(face, self.spoken.id):
            muted = muted or (place.strip is not None and place.strip.mute)
            detach(face, place, self.actions.get(place.owner))
        line = keep_entry(face, self.spoken, self.baked.key_range)
        line.parts.clear()
        for target in dict.fromkeys(object_of_owner(owner, face) for owner in self.actions):
            if target is not None and target != face:
                line.parts.add().object = target
        arrange(face)
        nla = plays_in_nla(face)
        for owner, (action, slot) in self.actions.items():
            attach(face, owner, action, slot, nla, muted)
        for action in self.unique:
            action.name = action_name(face, self.spoken.name)
        seal(face, self.spoken.id, self.sums)

    def discard(self) -> None:
        """Remove the actions, which nothing plays."""
        for action in self.unique:
            bpy.data.actions.remove(action)


def filling(face: bpy.types.Object, made: Sequence[Made]) -> Iterator[float]:
    """Make the actions of lines and the shape keys that they need, to be `put` afterwards.

    Yields:
        How much is done, 0..1. If this is closed or fails, nothing is left.

    Raises:
        SelfTalkError: the face may no longer be written; as `create_keys`.
    """
    had_keys = face.data.shape_keys is not None
    created: list[str] = []
    try:
        for _ in create_keys(face, [line.baked for line in made], created):
            yield 0.0
        for number, line in enumerate(made):
            for done in line.fill(face):
                yield (number + done) / len(made)
        faces.usable(face)
    except BaseException:
        for line in made:
            line.discard()
        shape_keys.take_back(face, had_keys, created)
        raise


def create_keys(
    face: bpy.types.Object, baked: Sequence[Baked], created: list[str]
) -> Iterator[None]:
    """Add the shape keys that the curves need and a face of the bundled topology lacks."""
    keys = face.data.shape_keys
    present = set(keys.key_blocks.keys()) if keys is not None else set()
    wanted: dict[str, None] = {}
    for curves in baked:
        highest = np.abs(curves.values).max(0, initial=0.0)
        for channel, most in zip(curves.channels, highest, strict=True):
            own = channel.kind == "KEY" and channel.object == face.name
            if own and most > STILL and channel.path not in present:
                wanted[channel.path] = None
    if wanted:
        yield from shape_keys.add_of_head(face, list(wanted), created)


def keep_dense(face: bpy.types.Object, spoken: Spoken, key_range: tuple[int, int]) -> None:
    """Note the one line of a face whose own animator gave it vertices; other lines go."""
    for line in list(face.selftalk.lines):
        if line.id != spoken.id:
            clear_line(face, line)
    for other in [line.id for line in face.selftalk.lines if line.id != spoken.id]:
        forget(face, find(face, other))
    face.get(TAKES, {}).pop(spoken.id, None)
    keep_entry(face, spoken, key_range)
