"""How a face is driven: the mapping that is saved with it, its parts, and its rig."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Iterator, Sequence

import bpy
import numpy as np

from ..core.aside import aside
from ..core.drive import Channel, Drive, join
from ..core.errors import SelfTalkError
from ..core.mapping import Entry, build_drive, entries_by_name, follow
from ..core.mouth import find_mouth
from ..core.names import Names, recognise
from ..core.steps import at_last, paced
from ..core.template import bundled_template
from . import artist, rigs
from . import face as faces
from .fcurves import key_path
from .parts import names_of_part, part_problem, parts_of
from .properties import MappingItem

analyse = rigs.judge
Ask = Callable[[bpy.types.ID], artist.Held]  # `artist.held`, remembered

NO_SHAPES = (
    "None of the shape keys of {} can be moved. See the reasons under Mapping, or press Analyse."
)


# --- The mapping -----------------------------------------------------------------------------


def entries_of(face: bpy.types.Object) -> list[Entry]:
    """The mapping of a face: as the user left it, or as found now where nothing is kept.

    Raises:
        SelfTalkError: the mesh has no shapes that speak.
    """
    if not face.selftalk.mapping:
        return detect(face)
    return [
        Entry(item.source, _channel(face, item), item.gain, item.offset)
        for item in face.selftalk.mapping
        if item.enabled
    ]


def _channel(face: bpy.types.Object, item: MappingItem) -> Channel:
    return Channel((item.object or face).name, item.kind, item.path, item.index)


def detect(face: bpy.types.Object) -> list[Entry]:
    """The mapping that a face's own shapes suggest.

    Raises:
        SelfTalkError: it has no shapes that speak, nor the vertices to make them.
    """
    analysis = analyse(face)
    if not analysis.talks:
        raise SelfTalkError(" ".join((f"{analysis.line}.", *analysis.reasons)))
    names = _recognise(faces.key_names(face))
    if analysis.kind != "TEMPLATE":
        return entries_by_name(names, face.name)
    # Shapes that it has under another name, the others as they will be created.
    entries = entries_by_name(Names(names.arkit, {}, ""), face.name, complete=False)
    have = {entry.source for entry in entries}
    return entries + [
        Entry(name, Channel(face.name, "KEY", name))
        for name in bundled_template().shape_names
        if name not in have
    ]


_recognise = functools.lru_cache(maxsize=32)(recognise)


def keep_mapping(face: bpy.types.Object, entries: Sequence[Entry]) -> None:
    """Replace the mapping that is saved with a face."""
    items = face.selftalk.mapping
    items.clear()
    for entry in entries:
        item = items.add()
        item.source, item.gain, item.offset = entry.source, entry.gain, entry.offset
        channel = entry.channel
        item.kind, item.path, item.index = channel.kind, channel.path, channel.index
        if channel.object != face.name:
            item.object = bpy.data.objects.get(channel.object)
    face.selftalk.mapping_index = 0


# --- What stands in the way -------------------------------------------------------------------


def left_alone(target: bpy.types.Object, name: str, held: Ask) -> str:
    """Why a shape key is not to be moved, or "".

    A key that is not there is to be moved: it may be created.

    Args:
        held: `artist.held`, remembered for all keys of a mesh.
    """
    keys = target.data.shape_keys
    key = keys.key_blocks.get(name) if keys is not None else None
    if key is None:
        return ""
    if key == keys.reference_key:
        return "is the shape that the others start from"
    if key.mute:
        return "is muted"
    return held(keys).get((key_path(name), 0), "")


def _range(target: bpy.types.Object, name: str, gains: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest value of a shape key; below 0 only where the user's gains mean that."""
    keys = target.data.shape_keys
    key = keys.key_blocks.get(name) if keys is not None else None
    if key is None:
        return 0.0, 1.0
    low, high = key.slider_min, key.slider_max
    below = all(gain < 0 for gain in gains) and bool(gains)
    return (low, max(low, high)) if below else (max(low, 0.0), max(low, 0.0, high))


def narrow_keys(
    face: bpy.types.Object, entries: Sequence[Entry]
) -> list[tuple[bpy.types.ShapeKey, float, float]]:
    """Shape keys whose sliders do not reach what a mapping asks for, and what it asks for."""
    found = []
    for target, leaders in _all_keys(face, _gains(entries)):
        for name, asked in leaders.items():
            keys = target.data.shape_keys
            key = keys.key_blocks.get(name) if keys is not None else None
            if key is None:
                continue
            low = min(0.0, sum(gain for gain in asked if gain < 0) if max(asked) < 0 else 0.0)
            high = max((gain for gain in asked if gain > 0), default=0.0)
            if key.slider_min > low + 1e-6 or key.slider_max < high - 1e-6:
                found.append((key, low, high))
    return found


def _gains(entries: Sequence[Entry]) -> dict[Channel, list[float]]:
    gains: dict[Channel, list[float]] = {}
    for entry in entries:
        gains.setdefault(entry.channel, []).append(entry.gain)
    return gains


def _all_keys(
    face: bpy.types.Object, gains: dict[Channel, list[float]]
) -> Iterator[tuple[bpy.types.Object, dict[str, list[float]]]]:
    """Each mesh that talks, with the names of its keys and their gains."""
    own = {c.path: asked for c, asked in gains.items() if c.kind == "KEY" and c.object == face.name}
    yield face, own
    for part in parts_of(face):
        if part.selftalk.follows:
            yield part, {name: own[name] for name in faces.key_names(part) if name in own}


def usable_entries(face: bpy.types.Object) -> tuple[list[Entry], list[str]]:
    """The lines of a face's mapping that can be followed, and sentences on the others.

    Raises:
        SelfTalkError: as `entries_of`.
    """
    template = analyse(face).kind == "TEMPLATE"
    creatable = set(bundled_template().shape_names) if template else set()
    entries, notices = [], []
    reasons: dict[Channel, str] = {}
    held = functools.cache(artist.held)
    for entry in entries_of(face):
        channel = entry.channel
        if channel not in reasons:
            reasons[channel] = _problem(face, channel, creatable, held)
            if reasons[channel]:
                notices.append(reasons[channel])
        if not reasons[channel]:
            entries.append(entry)
    return entries, notices


def _problem(face: bpy.types.Object, channel: Channel, creatable: set[str], held: Ask) -> str:
    """Why a channel cannot be moved, in a sentence, or ""."""
    target = bpy.data.objects.get(channel.object)
    if target is None:
        return f"{channel.object}, which the mapping moves, is gone."
    if channel.kind != "KEY":
        return ""
    if target.type != "MESH":
        return f"{target.name} is not a mesh, so it has no shape key {channel.path}."
    missing = channel.path not in faces.key_names(target)
    if missing and not (target == face and channel.path in creatable):
        return f"{target.name} has no shape key {channel.path}. Press Analyse to look again."
    reason = left_alone(target, channel.path, held)
    return (
        f"Shape key {channel.path} of {target.name} {reason}; it is left alone." if reason else ""
    )


# --- The drive -------------------------------------------------------------------------------


def drive_of(face: bpy.types.Object | None, measure: bool = True) -> Drive:
    """What moves a face: its own channels, those of the meshes that follow it, and its rig.

    Args:
        measure: as for `rigs.drive`; False where a panel asks, which also leaves out what every
            vertex of every shape key would be read for: the channels are right, values are not.

    Raises:
        SelfTalkError: why it cannot talk.
    """
    target = faces.usable(face)
    if rigs.deforming_armature(target) is None:
        return rigs.by_keys(*_drive_of_keys(target, measure))
    if analyse(target).kind == "RIG" and not target.selftalk.mapping:
        return rigs.with_rig(target, None, frozenset(), measure)
    try:
        keys, keyed = _drive_of_keys(target, measure)
    except SelfTalkError as error:
        try:
            return rigs.with_rig(target, None, frozenset(), measure)
        except SelfTalkError:
            raise error from None
    return rigs.with_rig(target, keys, keyed, measure)


def prepare(face: bpy.types.Object) -> Iterator[float]:
    """Measure the lips of a face, and its rig if that moves it and was not measured yet.

    Raises:
        SelfTalkError: as `rigs.calibrate`.
    """
    channels = drive_of(face, measure=False).channels
    if any(channel.kind == "KEY" for channel in channels) and analyse(face).kind != "TEMPLATE":
        yield from paced(measuring_lips(face, usable_entries(face)[0]), 0.0)
    if any(channel.kind != "KEY" for channel in channels) and not rigs.is_measured(face):
        yield from rigs.calibrate(face)


def _drive_of_keys(target: bpy.types.Object, measure: bool) -> tuple[Drive, frozenset[str]]:
    """What moves a face but for its rig, and the shapes that it makes."""
    same_head = analyse(target).kind == "TEMPLATE"
    entries, notices = usable_entries(target)
    if not entries:
        reasons = " ".join(notices[:1])
        raise SelfTalkError(f"{NO_SHAPES.format(target.name)} {reasons}".rstrip())
    gains = _gains(entries)
    ranges = {
        channel: _range(bpy.data.objects[channel.object], channel.path, asked)
        for channel, asked in gains.items()
        if channel.kind == "KEY"
    }
    for key, low, high in narrow_keys(target, entries):
        notices.append(
            f"The slider of shape key {key.name} goes from {key.slider_min:g} to "
            f"{key.slider_max:g}, not from {low:g} to {high:g}; the motion keeps within it. Press "
            "Widen Sliders to let it go farther."
        )
    features = lip_features(target, entries) if measure and not same_head else {}
    drive = build_drive(entries, ranges, features, tuple(notices), same_head)
    sources = frozenset(entry.source for entry in entries)
    return join([drive, *_followers(target, drive, entries)]), sources


def _followers(face: bpy.types.Object, drive: Drive, entries: Sequence[Entry]) -> Iterator[Drive]:
    """Drives of the meshes that follow a face, and what is to be said of those that cannot."""
    gains = _gains(entries)
    # A movement that the face itself leaves to its rig is not for its teeth, either.
    sources = {entry.source for entry in entries_of(face)}
    sources |= {item.source for item in face.selftalk.mapping}
    ours = {c.path: c for c in drive.channels if c.kind == "KEY" and c.object == face.name}
    held = functools.cache(artist.held)
    for part in parts_of(face):
        if not part.selftalk.follows:
            continue
        problem = part_problem(part)
        if problem:
            yield build_drive((), notices=(problem,))
            continue
        keys = faces.key_names(part)
        followers = {Channel(part.name, "KEY", name): ours[name] for name in keys if name in ours}
        own = entries_by_name(names_of_part(keys), part.name, complete=False)
        own = [e for e in own if e.source not in sources and e.channel not in followers]
        notices = []
        for channel in [*followers, *(entry.channel for entry in own)]:
            reason = left_alone(part, channel.path, held)
            if reason:
                notices.append(
                    f"Shape key {channel.path} of {part.name} {reason}; it is left alone."
                )
                followers.pop(channel, None)
                own = [entry for entry in own if entry.channel != channel]
        limits = {c: _range(part, c.path, gains[leader]) for c, leader in followers.items()}
        led = follow(drive, followers, limits)
        columns = [led.channels.index(channel) for channel in followers]
        yield Drive(
            tuple(followers), lambda w, led=led, columns=columns: led(w)[:, columns], tuple(notices)
        )
        if own:
            yield build_drive(own)


def lip_features(face: bpy.types.Object, entries: Sequence[Entry]) -> dict[Channel, np.ndarray]:
    """As `measuring_lips`, at once."""
    return at_last(measuring_lips(face, entries))


def measuring_lips(
    face: bpy.types.Object, entries: Sequence[Entry]
) -> Generator[None, None, dict[Channel, np.ndarray]]:
    """What each shape key of a face does to its lips; empty where the lips are not clear.

    It is remembered until a shape changes. Yields while it is worked out.
    """
    own = [e for e in entries if e.channel.kind == "KEY" and e.channel.object == face.name]
    by_source: dict[str, str] = {}
    for entry in own:
        if entry.gain > 0:
            by_source.setdefault(entry.source, entry.channel.path)
    opener = next((by_source[s] for s in ("jawOpen", "aa") if s in by_source), None)
    rounders = ("mouthPucker", "mouthFunnel", "ou", "tightO", "oh")
    rounder = next((by_source[s] for s in rounders if s in by_source), None)
    if opener is None or rounder is None:
        return {}
    names = tuple(dict.fromkeys(entry.channel.path for entry in own))
    found = yield from _lip_features(face, names, opener, rounder)
    return {Channel(face.name, "KEY", name): row for name, row in found.items()}


_lips: dict[tuple, dict[str, np.ndarray]] = {}
FACES = 4  # whose lips are remembered


def _lip_features(
    face: bpy.types.Object, names: tuple[str, ...], opener: str, rounder: str
) -> Generator[None, None, dict[str, np.ndarray]]:
    blocks = face.data.shape_keys.key_blocks
    rest = faces.key_positions(face.data.shape_keys.reference_key)
    # As good as a hash, and ten times as fast: an edit of any of the shapes changes its sum.
    sums = (faces.key_positions(blocks[name]).sum(dtype=np.float64) for name in names)
    state = opener, rounder, rest.sum(dtype=np.float64), *zip(names, sums, strict=True)
    if state not in _lips:
        moved = [faces.key_offsets(blocks[name]) for name in (opener, rounder)]
        mouth = yield from aside(lambda: find_mouth(rest, *moved))
        found = {}
        for name in names if mouth is not None else ():
            found[name] = mouth.features(faces.key_offsets(blocks[name])[None])[0]
            yield
        if len(_lips) >= FACES:
            _lips.pop(next(iter(_lips)))
        _lips[state] = found
    return _lips[state]
