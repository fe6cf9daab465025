"""Lines: what a face says, strip by strip, each an action of its own.

A line is kept three times, each made from the one before:
- its take, what the animator gave: bytes in the face's custom property TAKES, by the line's id;
- its entry in `Object.selftalk.lines`: from which strip it is, and where it stands;
- its curves: an action `<face> · <strip>` that carries our marks, with a slot for each thing
  that the face's drive moves (Blender 4.2 has no slots: there each has an action of its own).
`rebake` makes the curves again from the takes, without the animator.

How lines play:
- One line of a face is the active action, as if the artist had keyed it. Its values are the
  channels' own; before and after it they are held, and its ends are the face at rest.
- With more than one line, where the user wants it (`Object.selftalk.use_nla`), or where the
  artist's own action is active, all lines are strips in NLA tracks of ours, each at its place.
  They add up: a strip holds how far the face is from rest, blends by ADD, and is nothing outside
  of itself. Below them lies one strip that holds the face at rest.
- A mesh cache is one for all lines, which add up in it in the same way.

The artist's actions, tracks, strips and curves stay, also curves that were added to our actions:
such a curve keeps its channel from us. What has drivers or is keyed in the artist's own active
action is no channel of a drive in the first place (`targets`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import bpy
import numpy as np

from ..core.drive import Channel, Drive
from ..core.ease import SECONDS, ease_to_rest
from ..core.errors import SelfTalkError
from ..core.lips import rest_weights
from ..core.motion import Motion
from ..core.take import SILENCE, Take
from ..core.template import bundled_template
from . import compat, controls, strips, targets, writers
from . import face as faces
from .strips import Heard

TAKES = "selftalk_takes"
# Custom properties of our actions: the line's id; its curves as "slot index path"; the channels'
# values at rest, curve by curve; and whether the curves tell the distance from these.
LINE, CURVES, REST, RELATIVE = (
    f"selftalk_{name}" for name in ("line", "curves", "rest", "relative")
)
REST_LINE = "rest"  # in place of an id: the action of the face at rest
TRACK = "SelfTalk"
# A channel that is nearer to its rest all along gets no curve (keys: 0.005 mm at most).
STILL = 1e-4
EDITED = (
    "Its keys were edited or reduced by hand, and that would be lost. Choose the strip and press "
    "Animate from Audio to have it again."
)
LINEAR = 1  # of Keyframe.interpolation, for foreach_set

Curve = tuple[str, int]  # RNA path on its owner, index in it (0 for a single number)


class LinePart(bpy.types.PropertyGroup):
    """An object that a line moves besides the face itself: teeth, an armature, ..."""

    object: bpy.props.PointerProperty(type=bpy.types.Object)


class Line(bpy.types.PropertyGroup):
    """One entry of `Object.selftalk.lines`; see `Spoken` for what the values mean."""

    id: bpy.props.StringProperty()
    name: bpy.props.StringProperty(description="As the strip is called, or the sound file")
    scene: bpy.props.StringProperty(description="Whose sequencer has the strip")
    strip: bpy.props.StringProperty(description="Empty for a sound file without a strip")
    clip: bpy.props.StringProperty(subtype="FILE_PATH")
    sound: bpy.props.StringProperty(description="What tells this sound from others")
    taken: bpy.props.FloatVectorProperty(size=2, description="Seconds of the sound in the take")
    first_frame: bpy.props.IntProperty()
    frames: bpy.props.IntProperty()
    fps: bpy.props.FloatProperty()
    start: bpy.props.FloatProperty()
    pauses: bpy.props.StringProperty(description="As `Spoken.pauses`, such as '3-17 40-52'")
    key_range: bpy.props.IntVectorProperty(
        size=2, description="First and last scene frame with the ways from and to rest"
    )
    parts: bpy.props.CollectionProperty(type=LinePart)


@dataclass(frozen=True)
class Spoken:
    """A line in plain values: which sound, and where it stands.

    Attributes:
        id: of the line; `find_id` gives it.
        name: as the strip is called, or the file.
        scene, strip: whose sequencer has which strip; no strip for a bare file.
        clip: the sound file, or what stands for it ("//packed").
        sound: tells this sound, as it is now, from others and from its earlier self.
        taken: seconds of the sound at which the take begins and ends.
        first_frame, frames: where the sound is heard, in frames of the face's scene.
        fps: frames of that scene per second.
        start: second of the sound that is heard at first_frame.
        pauses: frames from first_frame on, (first, after last) of each part in which the
            strip's volume is 0.
    """

    id: str
    name: str
    scene: str
    strip: str
    clip: str
    sound: str
    taken: tuple[float, float]
    first_frame: int
    frames: int
    fps: float
    start: float
    pauses: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, line: Line) -> Spoken:
        values = {value.name: getattr(line, value.name) for value in fields(cls)}
        pauses = tuple(tuple(map(int, pause.split("-"))) for pause in line.pauses.split())
        return cls(**{**values, "taken": tuple(line.taken), "pauses": pauses})


@dataclass(frozen=True, eq=False)
class Baked:
    """A line's curves: channels, values (T, C), values at rest (C,), and the first scene frame."""

    channels: tuple[Channel, ...]
    values: np.ndarray
    rest: np.ndarray
    first_frame: int

    @property
    def key_range(self) -> tuple[int, int]:
        return self.first_frame, self.first_frame + len(self.values) - 1


# --- Lines and takes ------------------------------------------------------------------------


def spoken(
    line_id: str, scene: str, strip: str, heard: Heard, taken: tuple[float, float]
) -> Spoken:
    """The line of what a strip (or a bare file) plays; see `Spoken`."""
    return Spoken(
        id=line_id,
        name=strip or heard.clip.stem,
        scene=scene,
        strip=strip,
        clip=str(heard.clip),
        sound=heard.sound,
        taken=taken,
        first_frame=heard.first_frame,
        frames=heard.frames,
        fps=heard.fps,
        start=heard.start,
        pauses=heard.pauses,
    )


def find_id(face: bpy.types.Object, scene: str, strip: str, heard: Heard) -> str:
    """The id of a face's line of a strip (of a file at a frame, where there is none), or a new."""
    line = line_of(face, scene, strip, heard)
    return line.id if line is not None else uuid.uuid4().hex[:12]


def line_of(face: bpy.types.Object, scene: str, strip: str, heard: Heard | None) -> Line | None:
    """The line of a strip, also of one that was renamed since.

    Args:
        heard: None where it is not known; then a renamed strip is not found.
    """
    lost = []
    for line in face.selftalk.lines:
        if not strip and heard is not None:
            same_file = line.clip == str(heard.clip) and line.first_frame == heard.first_frame
            if not line.strip and same_file:
                return line
        elif line.scene == scene and line.strip == strip:
            return line
        elif heard is not None and line.sound == heard.sound and is_lost(line):
            lost.append(line)
    if heard is None or not strip:
        return None
    return min(lost, key=lambda line: abs(line.first_frame - heard.first_frame), default=None)


def is_lost(line: Line) -> bool:
    """Whether the strip of a line is gone, or has another name now."""
    scene = bpy.data.scenes.get(line.scene)
    if not line.strip:
        return False
    return scene is None or all(s.name != line.strip for s in strips.sound_strips(scene))


def find(face: bpy.types.Object, line_id: str) -> Line | None:
    """The line of an id."""
    return next((line for line in face.selftalk.lines if line.id == line_id), None)


def take_of(face: bpy.types.Object, line_id: str) -> Take | None:
    """The take of a line; None for a motion of an animator of its own face.

    Raises:
        SelfTalkError: it is damaged.
    """
    data = face.get(TAKES, {}).get(line_id)
    return _decoded(data) if data is not None else None


@functools.lru_cache(maxsize=16)
def _decoded(data: bytes) -> Take:
    return Take.from_bytes(data)


def _keep(face: bpy.types.Object, spoken: Spoken, key_range: tuple[int, int]) -> Line:
    line = find(face, spoken.id) or face.selftalk.lines.add()
    for value in fields(Spoken):
        if value.name != "pauses":
            setattr(line, value.name, getattr(spoken, value.name))
    line.pauses = " ".join(f"{first}-{stop}" for first, stop in spoken.pauses)
    line.key_range = key_range
    return line


# --- From takes to values -------------------------------------------------------------------


def motion_of(spoken: Spoken, take: Take) -> tuple[Motion, int]:
    """A line's weights at scene frames, led from rest and back to it, and its first frame."""
    # A strip may reach beyond the end of its file.
    known = math.ceil((spoken.taken[1] - spoken.start) * spoken.fps - 1e-3)
    frames = max(min(spoken.frames, known), 1)
    times = spoken.start - spoken.taken[0] + np.arange(frames) / spoken.fps
    heard = take.motion().at(times, spoken.fps)
    eased, lead = ease_to_rest(_with_pauses(heard, spoken.pauses))
    return eased, spoken.first_frame - lead


def _with_pauses(motion: Motion, pauses: Sequence[tuple[int, int]]) -> Motion:
    """A motion that goes to rest, and back, where nothing is heard of the strip."""
    if not pauses:
        return motion
    heard = np.ones(len(motion), np.float32)
    for first, stop in pauses:
        heard[first:stop] = 0.0
    ease = 2 * (round(SECONDS * motion.fps) // 2) + 1
    padded = np.pad(heard, ease // 2, mode="edge")
    share = np.convolve(padded, np.full(ease, 1.0 / ease, np.float32), "valid")[:, None]
    rest = rest_weights(motion.template)
    return Motion(motion.template, motion.fps, weights=rest + share * (motion.weights - rest))


def adjusted(face: bpy.types.Object, spoken: Spoken, take: Take) -> Take:
    """A take as the face's controls want it."""
    weights = controls.adjusted(face, take.weights, take.fps, take.loudness, spoken.fps)
    return replace(take, weights=weights)


def bake(face: bpy.types.Object, drive: Drive, spoken: Spoken, take: Take) -> Baked:
    """A line's curves for a face, as its controls want them.

    Raises:
        SelfTalkError: the head cannot be turned.
    """
    motion, first_frame = motion_of(spoken, adjusted(face, spoken, take))
    channels, values, rest = drive.channels, drive(motion.weights), drive.rest
    turning = controls.head(face)
    if turning is not None:
        frames = first_frame - spoken.first_frame + np.arange(len(motion))
        times = spoken.start - spoken.taken[0] + frames / spoken.fps
        channels = (*channels, *turning.channels)
        loudness = take.loudness.copy()
        for pause in spoken.pauses:
            begin, end = (
                times[0] + (np.array(pause) + spoken.first_frame - first_frame) / spoken.fps
            )
            loudness[max(round(begin * take.fps), 0) : max(round(end * take.fps), 0)] = SILENCE
        values = np.hstack([values, turning.values(loudness, take.fps, times)])
        rest = np.concatenate([rest, turning.rest])
    return Baked(channels, values, rest, first_frame)


def compose(motions: Sequence[tuple[Motion, int]]) -> tuple[Motion, int]:
    """Motions and their first frames as one motion: distances from rest add up, within [0, 1]."""
    rest = rest_weights(bundled_template())
    first = min(start for _, start in motions)
    last = max(start + len(motion) for motion, start in motions)
    weights = np.tile(rest, (last - first, 1))
    for motion, start in motions:
        weights[start - first : start - first + len(motion)] += motion.weights - rest
    fps = motions[0][0].fps
    return Motion(bundled_template(), fps, weights=np.clip(weights, 0.0, 1.0)), first


# --- Where curves are -----------------------------------------------------------------------


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
        return f'key_blocks["{bpy.utils.escape_identifier(channel.path)}"].value', 0
    return channel.path, max(channel.index, 0)


def _owners(face: bpy.types.Object, line: Line | None) -> Iterator[bpy.types.ID]:
    """What a line may have animated."""
    parts = {part.object: None for part in line.parts if part.object} if line is not None else {}
    if parts and line is not None and _twins(face, line):
        # A duplicate of the face still names the parts of its original.
        own = {channel.object for channel in targets.drive_of(face, measure=False).channels}
        parts = {part: None for part in parts if part.name in own}
    for target in dict.fromkeys([face, *parts]):
        yield target
        if target.type == "MESH" and target.data.shape_keys is not None:
            yield target.data.shape_keys


def _twins(face: bpy.types.Object, line: Line) -> list[bpy.types.Object]:
    """Other objects with this line: duplicates of the face, or what it is one of."""
    return [
        other
        for other in bpy.data.objects
        if TAKES in other and other != face and find(other, line.id) is not None
    ]


def _places(owner: bpy.types.ID, line_id: str | None = None) -> list[Place]:
    """Where an owner plays actions of ours: of one line, or of all (and that of rest)."""
    data = owner.animation_data
    if data is None:
        return []
    found = []
    for track in data.nla_tracks:
        for strip in track.strips:
            if strip.action is not None and LINE in strip.action:
                slot = compat.slot_number(strip)
                found.append(Place(owner, strip.action, slot, track, strip))
    # In Tweak Mode the active action is that of a strip.
    if data.action is not None and LINE in data.action and not data.use_tweak_mode:
        found.append(Place(owner, data.action, compat.slot_number(data)))
    # Blender puts what the artist keys of related data into the same action, in another slot.
    found = [p for p in found if _marked(p.action, p.slot)]
    return [p for p in found if line_id is None or p.action[LINE] == line_id]


def rest_values(owner: bpy.types.ID) -> dict[Curve, float]:
    """What lines of ours move of an owner, with the value that each has at rest."""
    found: dict[Curve, float] = {}
    for place in _places(owner):
        found |= _marked(place.action, place.slot)
    return found


def _marked(action: bpy.types.Action, slot: int) -> dict[Curve, float]:
    """The curves that we wrote in a slot, and the value at rest of each."""
    found = {}
    for mark, rest in zip(action.get(CURVES, ()), action.get(REST, ()), strict=True):
        number, index, path = mark.split(" ", 2)
        if int(number) == slot:
            found[path, int(index)] = rest
    return found


def _mark(action: bpy.types.Action, slot: int, curves: Mapping[Curve, float]) -> None:
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


# --- Writing --------------------------------------------------------------------------------


def check(face: bpy.types.Object, drive: Drive) -> None:
    """Whether lines can be written onto a face.

    Raises:
        SelfTalkError: what stands in the way, and what to do about it.
    """
    faces.usable(face)
    writers.check_modifiers(face)
    everything = (*drive.channels, *controls.head_channels(face))
    for target, channels in _by_object(everything).items():
        names = {channel.path for channel in channels if channel.kind == "KEY"}
        if names:
            writers.check_keys(target)
            keys = target.data.shape_keys
            lacking = names - set(keys.key_blocks.keys() if keys is not None else ())
            if target == face:
                lacking -= set(bundled_template().shape_names)  # these can be made
            if lacking:
                raise SelfTalkError(
                    f"{target.name} has no shape key {min(lacking)}. Look at the mapping again."
                )
        for owner in _by_owner(channels):
            _check_owner(target, owner)


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


def _check_tweaking(face: bpy.types.Object) -> None:
    for line in face.selftalk.lines:
        for owner in _owners(face, line):
            _check_owner(face, owner)


def _check_owner(target: bpy.types.Object, owner: bpy.types.ID) -> None:
    data = owner.animation_data
    if data is not None and data.use_tweak_mode:
        raise SelfTalkError(
            f"An NLA strip of {target.name} is being tweaked. Leave Tweak Mode (Tab)."
        )


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
    todo = [(new, take)]
    if writers.has_cache(face):
        todo += [(spoken, known) for spoken, known in _others(face, new.id)]
    had_keys = face.data.shape_keys is not None
    created: list[str] = []
    made: dict[str, Made] = {}
    try:
        data = []
        for piece in take.pieces():
            data.append(piece)
            yield 0.05
        baked = [(spoken, bake(face, drive, spoken, known)) for spoken, known in todo]
        yield 0.08
        _create_keys(face, [b for _, b in baked], created)
        yield 0.1
        for number, (spoken, curves) in enumerate(baked):
            made[spoken.id] = Made(spoken, curves)
            for done in made[spoken.id].fill(face):
                yield 0.1 + 0.85 * (number + done) / len(baked)
    except ReferenceError as error:
        _undo(face, had_keys, created, made)
        raise SelfTalkError("The face was removed while it was being animated.") from error
    except BaseException:
        _undo(face, had_keys, created, made)
        raise
    # From here on nothing fails: the scene changes at once.
    _forget_dense(face, new.id)
    for line in made.values():
        line.put(face)
    writers.remove_cache(face)
    _store(face, new.id, b"".join(data))
    for line_id in made:
        controls.seal(face, line_id)
    yield 1.0


def write_cache(face: bpy.types.Object, new: Spoken, take: Take, path: Any) -> Iterator[float]:
    """Give a face a line by writing one mesh cache for all its lines.

    Yields, raises: as `writers.write_mesh_cache`.
    """
    data = []
    for piece in take.pieces():
        data.append(piece)
        yield 0.0
    todo = [
        (spoken, adjusted(face, spoken, known))
        for spoken, known in [(new, take), *_others(face, new.id)]
    ]
    motion, first_frame = compose([motion_of(spoken, known) for spoken, known in todo])
    with contextlib.closing(writers.write_mesh_cache(face, motion, first_frame, path)) as writing:
        for done in writing:
            if done < 1.0:
                yield done
    for spoken, known in todo:
        line = find(face, spoken.id)
        if line is not None:
            _clear(face, line)
        eased, first = motion_of(spoken, known)
        _keep(face, spoken, (first, first + len(eased) - 1))
    _forget_dense(face, new.id)
    _store(face, new.id, b"".join(data))
    yield 1.0


def _others(face: bpy.types.Object, line_id: str) -> list[tuple[Spoken, Take]]:
    """The other lines of a face that can be made again."""
    found = []
    for line in face.selftalk.lines:
        take = take_of(face, line.id) if line.id != line_id else None
        if take is not None:
            found.append((Spoken.of(line), take))
    return found


def _forget_dense(face: bpy.types.Object, line_id: str) -> None:
    """A line without a take, of an animator of the face's own, does not stay beside others."""
    writers.remove_dense(face)
    takes = face.get(TAKES, {})
    for other in [line.id for line in face.selftalk.lines]:
        if other != line_id and other not in takes:
            _forget(face, find(face, other))


def _store(face: bpy.types.Object, line_id: str, take: bytes) -> None:
    if TAKES not in face:
        face[TAKES] = {}
    # In the place of other bytes Blender keeps new ones up to their first zero alone.
    face[TAKES].pop(line_id, None)
    face[TAKES][line_id] = take


@dataclass(eq=False)
class Made:
    """A line's new actions, not played by anything yet; `actions` has them by owner, with slots."""

    spoken: Spoken
    baked: Baked
    actions: dict[bpy.types.ID, tuple[bpy.types.Action, int]] = field(default_factory=dict)

    def fill(self, face: bpy.types.Object) -> Iterator[float]:
        """Make the actions: copies of the line's present ones with our curves renewed."""
        old = _line_places(face, self.spoken.id)
        copies: dict[bpy.types.Action, bpy.types.Action] = {}
        for place in old:
            if place.action not in copies:
                copies[place.action] = place.action.copy()
            self.actions[place.owner] = copies[place.action], place.slot
        for action, slot in self.actions.values():
            _remove_curves(compat.slot_curves(action, slot), _marked(action, slot))
            _mark(action, slot, {})
        columns = _columns(self.baked)
        for number, (owner, ours) in enumerate(columns.items()):
            if owner not in self.actions:
                self.actions[owner] = self._new_slot(face, owner)
            action, slot = self.actions[owner]
            for done in _write_curves(action, slot, self.baked, ours):
                yield (number + done) / len(columns)
        for owner, (action, slot) in list(self.actions.items()):
            if owner not in columns and not len(compat.slot_curves(action, slot)):
                del self.actions[owner]
        for action in set(copies.values()) - set(self.unique):
            bpy.data.actions.remove(action)
        for action in self.unique:
            compat.keep_slots(
                action, [slot for own, slot in self.actions.values() if own == action]
            )
            action[LINE], action[RELATIVE] = self.spoken.id, False

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
        for place in _line_places(face, self.spoken.id):
            muted = muted or (place.strip is not None and place.strip.mute)
            _detach(face, place, self.actions.get(place.owner))
        line = _keep(face, self.spoken, self.baked.key_range)
        line.parts.clear()
        for target in dict.fromkeys(_object_of(owner, face) for owner in self.actions):
            if target is not None and target != face:
                line.parts.add().object = target
        arrange(face)
        nla = plays_in_nla(face)
        for owner, (action, slot) in self.actions.items():
            _attach(face, owner, action, slot, nla, muted)
        for action in self.unique:
            action.name = action_name(face, self.spoken.name)


def action_name(face: bpy.types.Object, line: str) -> str:
    """What a line's action is called; Blender cuts it where it is too long for it."""
    return f"{face.name} · {line}"


def _object_of(owner: bpy.types.ID, face: bpy.types.Object) -> bpy.types.Object | None:
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
    for place in _line_places(face, line_id):
        marked = _marked(place.action, place.slot)
        relative = bool(place.action.get(RELATIVE))
        for curve in place.curves:
            rest = marked.get((curve.data_path, curve.array_index))
            if rest is not None:
                yield place.owner, curve, 0.0 if relative else rest


def _line_places(face: bpy.types.Object, line_id: str) -> list[Place]:
    line = find(face, line_id)
    return [p for owner in _owners(face, line) for p in _places(owner, line_id)]


def _columns(baked: Baked) -> dict[bpy.types.ID, dict[Curve, int]]:
    """Owner -> curve -> column of the channels that leave their rest (or are not 0 there)."""
    away = np.abs(baked.values - baked.rest).max(0, initial=0.0) > STILL
    found: dict[bpy.types.ID, dict[Curve, int]] = {}
    for column, channel in enumerate(baked.channels):
        sealed = channel.kind == "KEY" and abs(baked.rest[column]) > STILL
        if away[column] or sealed:
            found.setdefault(owner_of(channel), {})[curve_of(channel)] = column
    return found


def _write_curves(
    action: bpy.types.Action, slot: int, baked: Baked, columns: Mapping[Curve, int]
) -> Iterator[float]:
    """Add F-curves, one linear key per frame, and mark them; the artist's keep their channels."""
    curves = compat.slot_curves(action, slot)
    points = np.empty((len(baked.values), 2), np.float32)
    points[:, 0] = baked.first_frame + np.arange(len(points))
    written: dict[Curve, float] = {}
    for number, ((path, index), column) in enumerate(columns.items(), 1):
        if curves.find(path, index=index) is None:
            points[:, 1] = baked.values[:, column]
            _fill(curves.new(path, index=index), points)
            written[path, index] = float(baked.rest[column])
        yield number / len(columns)
    _mark(action, slot, written)


def _fill(curve: bpy.types.FCurve, points: np.ndarray) -> None:
    """Give an F-curve linear keys (T, 2) of frames and values."""
    keys = curve.keyframe_points
    # Reduced curves are Bezier from their first key on, and may have as many.
    if len(keys) != len(points) or keys[0].interpolation != "LINEAR":
        keys.clear()
        keys.add(len(points))
        keys.foreach_set("interpolation", np.full(len(points), LINEAR, np.int32))
    keys.foreach_set("co", points.ravel())
    curve.update()


def _remove_curves(curves: Any, which: Iterable[Curve]) -> None:
    for path, index in which:
        curve = curves.find(path, index=index)
        if curve is not None:
            curves.remove(curve)


def _create_keys(face: bpy.types.Object, baked: Sequence[Baked], created: list[str]) -> None:
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
        writers.create_head_keys(face, list(wanted), created)


def _undo(
    face: bpy.types.Object, had_keys: bool, created: list[str], made: Mapping[str, Made]
) -> None:
    for action in {action for line in made.values() for action in line.unique}:
        bpy.data.actions.remove(action)
    writers.remove_keys(face, had_keys, created)


# --- Playing --------------------------------------------------------------------------------


def plays_in_nla(face: bpy.types.Object) -> bool:
    """Whether a face's lines are NLA strips (see the top) and not one active action."""
    lines = face.selftalk.lines
    if face.selftalk.use_nla or len(lines) > 1:
        return True
    for line in lines:
        for owner in _owners(face, line):
            if _has_own_action(owner):
                return True
    return False


def _has_own_action(owner: bpy.types.ID) -> bool:
    """Whether an owner's active action is the artist's, or its slot of one of ours is."""
    data = owner.animation_data
    action = data.action if data is not None else None
    if action is None or writers.is_ours(action):
        return False
    return LINE not in action or not _marked(action, compat.slot_number(data))


def arrange(face: bpy.types.Object) -> None:
    """Have all lines of a face played as they should be now; the rest strip follows.

    Nothing while an NLA strip of theirs is being tweaked; the next line that is written does it.
    """
    try:
        _check_tweaking(face)
    except SelfTalkError:
        return
    nla = plays_in_nla(face)
    moved = [
        place
        for line in face.selftalk.lines
        for place in _line_places(face, line.id)
        # The artist may have pushed it down by hand.
        if (place.strip is not None, bool(place.action.get(RELATIVE))) != (nla, nla)
    ]
    for place in moved:
        muted = place.strip is not None and place.strip.mute
        _unplug(place)
        _attach(face, place.owner, place.action, place.slot, nla, muted)
    if not nla:
        for owner in {o for line in face.selftalk.lines for o in _owners(face, line)} | set(
            _owners(face, None)
        ):
            _drop_rest(owner)


def _attach(
    face: bpy.types.Object,
    owner: bpy.types.ID,
    action: bpy.types.Action,
    slot: int,
    nla: bool,
    muted: bool = False,
) -> None:
    """Have an owner play an action of ours."""
    _set_relative(action, nla)
    if not nla:
        compat.play_action(owner.animation_data or owner.animation_data_create(), action, slot)
        return
    _hold_rest(face, owner, _marked(action, slot))
    _add_strip(owner, action, slot, muted)


def _add_strip(owner: bpy.types.ID, action: bpy.types.Action, slot: int, muted: bool) -> None:
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


def _hold_rest(face: bpy.types.Object, owner: bpy.types.ID, curves: Mapping[Curve, float]) -> None:
    """Have a strip below all lines of an owner that holds their channels at rest.

    Without it a channel would fall to its default (1 for a shape key in Blender 5.0).
    """
    data = owner.animation_data or owner.animation_data_create()
    places = _places(owner)
    rest = next((p for p in places if p.action[LINE] == REST_LINE), None)
    if rest is not None:
        action, slot = rest.action, rest.slot
    else:
        above = [place for place in places if place.strip is not None]
        muted = [place.strip.mute for place in above]
        for place in above:
            _unplug(place)
        action = bpy.data.actions.new(action_name(face, "rest"))
        slot = compat.add_slot(action, owner)
        action[LINE] = REST_LINE
    held = _marked(action, slot)
    missing = {curve: value for curve, value in curves.items() if curve not in held}
    fcurves = compat.slot_curves(action, slot)
    for (path, index), value in missing.items():
        _fill(fcurves.new(path, index=index), np.array([[0.0, value]], np.float32))
    _mark(action, slot, {**held, **missing})
    if rest is None:
        track = data.nla_tracks.new()
        track.name = f"{TRACK} rest"
        strip = track.strips.new(action.name, 0, action)
        compat.play_action(strip, action, slot)
        strip.blend_type, strip.extrapolation = "REPLACE", "HOLD"
        for place, mute in zip(above, muted, strict=True):
            _add_strip(owner, place.action, place.slot, mute)


def _drop_rest(owner: bpy.types.ID) -> None:
    """Remove the strip that holds an owner at rest."""
    for place in _places(owner, REST_LINE):
        _unplug(place)
        _discard(place.action)


def _unplug(place: Place) -> None:
    """Have an owner play an action of ours no longer; an empty track of ours goes."""
    data = place.owner.animation_data
    if place.strip is None:
        data.action = None
        return
    place.track.strips.remove(place.strip)
    if not len(place.track.strips) and place.track.name.startswith(TRACK):
        data.nla_tracks.remove(place.track)


def _detach(
    face: bpy.types.Object, place: Place, new: tuple[bpy.types.Action, int] | None = None
) -> None:
    """Take a line's action from an owner; what it moved and nothing moves now goes to rest."""
    ours = _marked(place.action, place.slot)
    kept = set(_marked(*new)) if new is not None else set()
    foreign = [
        curve
        for curve in (place.curves if new is None else ())
        if (curve.data_path, curve.array_index) not in ours
    ]
    if foreign:
        # The artist's curves in our action stay, and so the action becomes the artist's.
        _remove_curves(place.curves, ours)
        _mark(place.action, place.slot, {})
        del place.action[LINE]
    else:
        _unplug(place)
        _discard(place.action)
    for other in _places(place.owner):
        if other.action[LINE] != REST_LINE:
            kept |= set(_marked(other.action, other.slot))
    for curve, rest in ours.items():
        if curve not in kept:
            _set_value(place.owner, curve, 0.0 if writers.key_name(curve[0]) else rest)


def _discard(action: bpy.types.Action) -> None:
    """Remove an action of ours, unless the artist uses it elsewhere or protected it."""
    if action.users == 0 and not action.use_fake_user:
        bpy.data.actions.remove(action)


def _set_value(owner: bpy.types.ID, curve: Curve, value: float) -> None:
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


def _set_relative(action: bpy.types.Action, relative: bool) -> None:
    """Have our curves tell the distance from rest, or the channels' own values."""
    if bool(action.get(RELATIVE)) == relative:
        return
    for slot in {int(mark.split(" ", 1)[0]) for mark in action.get(CURVES, ())}:
        curves = compat.slot_curves(action, slot)
        for (path, index), rest in _marked(action, slot).items():
            curve = curves.find(path, index=index)
            if curve is not None and rest:
                _shift(curve, 0.0, -rest if relative else rest)
    action[RELATIVE] = relative


def _shift(curve: bpy.types.FCurve, frames: float, value: float) -> None:
    keys = curve.keyframe_points
    points = np.empty(len(keys) * 2, np.float32)
    for name in ("co", "handle_left", "handle_right"):
        keys.foreach_get(name, points)
        keys.foreach_set(name, (points.reshape(-1, 2) + np.float32([frames, value])).ravel())
    curve.update()


# --- Again, without the animator ------------------------------------------------------------


def rebake(face: bpy.types.Object) -> None:
    """Make the curves of all lines of a face again from their takes, or its mesh cache.

    Lines without a take, of an animator of the face's own, stay as they are.

    Raises:
        SelfTalkError: as `check`; a take is damaged.
    """
    takes = [(Spoken.of(line), take_of(face, line.id)) for line in face.selftalk.lines]
    todo = [(spoken, take) for spoken, take in takes if take is not None]
    if not todo:
        return
    if writers.has_cache(face):
        spoken, take = todo[0]
        for _ in write_cache(face, spoken, take, writers.played_cache(face)):
            pass
        return
    drive = targets.drive_of(face)
    check(face, drive)
    for spoken, take in todo:
        _renew(face, spoken, bake(face, drive, spoken, take))


def _renew(face: bpy.types.Object, spoken: Spoken, baked: Baked) -> None:
    """Give a line new curves; where it has them already, in place."""
    _create_keys(face, [baked], [])
    places = {place.owner: place for place in _line_places(face, spoken.id)}
    columns = _columns(baked)
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
                _unplug(place)
                _discard(place.action)
    controls.seal(face, spoken.id)


def _renew_curves(
    face: bpy.types.Object, place: Place, baked: Baked, columns: Mapping[Curve, int]
) -> None:
    old = _marked(place.action, place.slot)
    gone = [curve for curve in old if curve not in columns]
    curves = place.curves
    _remove_curves(curves, gone)
    for curve in gone:
        _set_value(place.owner, curve, 0.0 if writers.key_name(curve[0]) else old[curve])
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
        _fill(curve or curves.new(path, index=index), points)
        written[path, index] = rest
    _mark(place.action, place.slot, written)
    if relative:
        _hold_rest(face, place.owner, written)


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
    _check_tweaking(face)
    by = spoken.first_frame - line.first_frame
    if writers.has_cache(face):
        for _ in write_cache(face, spoken, take, writers.played_cache(face)):
            pass
    elif change(line, spoken) in ("", "Moved"):
        _move_keys(face, line, by)
        _keep(face, spoken, (line.key_range[0] + by, line.key_range[1] + by))
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
    places = _line_places(face, line.id)
    muted = [place.strip is not None and place.strip.mute for place in places]
    for place in places:
        if place.strip is not None:
            _unplug(place)
        for curve in place.curves:
            _shift(curve, by, 0.0)
    for place, mute in zip(places, muted, strict=True):
        if place.strip is not None:
            _add_strip(place.owner, place.action, place.slot, mute)


def reaches(line: Line, spoken: Spoken) -> bool:
    """Whether a line's take has all of the sound that is to be heard."""
    was = Spoken.of(line)
    # Where the strip reached beyond the end of its file, so may it now.
    stop = max(was.start + was.frames / was.fps, was.taken[1]) + 0.5 / spoken.fps
    return (
        was.sound == spoken.sound
        and was.taken[0] - 1e-3 <= spoken.start
        and spoken.start + spoken.frames / spoken.fps <= stop
    )


def change(line: Line, now: Spoken) -> str:
    """What has changed of a line's strip since, or "": "Moved", "Trimmed", ..."""
    was = Spoken.of(line)
    if was.sound != now.sound:
        return "Its sound is another, or the file has changed"
    if abs(was.fps - now.fps) > 1e-4 * now.fps:
        return "The frame rate has changed"
    if abs(was.start - now.start) > 1e-3 or was.frames != now.frames:
        return "Trimmed"
    if was.pauses != now.pauses:
        return "Its volume has changed"
    return "Moved" if was.first_frame != now.first_frame else ""


def has_take(face: bpy.types.Object, line_id: str) -> bool:
    return line_id in face.get(TAKES, {})


def remove(face: bpy.types.Object, line_id: str) -> None:
    """Take a line off a face: its curves, its take and its entry. Others stay.

    Raises:
        SelfTalkError: an NLA strip is being tweaked, or the mesh cache of the other lines cannot
            be written.
    """
    line = find(face, line_id)
    if line is None:
        return
    _check_tweaking(face)
    if any(twin.data == face.data for twin in _twins(face, line)):
        _forget(face, line)  # its curves are also the other's
        return
    others = _others(face, line_id)
    if writers.has_cache(face) and others:
        path = writers.played_cache(face)
        _forget(face, line)
        spoken, take = others[0]
        for _ in write_cache(face, spoken, take, path):
            pass
        return
    if writers.has_cache(face):
        writers.remove_cache(face)
    _clear(face, line)
    if not has_take(face, line_id):
        writers.remove_dense(face)
    _forget(face, line)
    arrange(face)


def _clear(face: bpy.types.Object, line: Line) -> None:
    """Remove a line's curves."""
    for place in _line_places(face, line.id):
        _detach(face, place)
    for owner in list(_owners(face, line)):
        if all(place.action[LINE] == REST_LINE for place in _places(owner)):
            _drop_rest(owner)


def _forget(face: bpy.types.Object, line: Line) -> None:
    """Remove a line's take and entry."""
    for name in (TAKES, controls.SEALS, controls.REDUCED):
        face.get(name, {}).pop(line.id, None)
    lines = face.selftalk.lines
    lines.remove(next(i for i, other in enumerate(lines) if other.id == line.id))


def keep_dense(face: bpy.types.Object, spoken: Spoken, key_range: tuple[int, int]) -> None:
    """Note the one line of a face whose own animator gave it vertices; other lines go."""
    for line in list(face.selftalk.lines):
        if line.id != spoken.id:
            _clear(face, line)
    for other in [line.id for line in face.selftalk.lines if line.id != spoken.id]:
        _forget(face, find(face, other))
    face.get(TAKES, {}).pop(spoken.id, None)
    _keep(face, spoken, key_range)


def written_frames(face: bpy.types.Object) -> tuple[int, int] | None:
    """First and last scene frame of our motion on a face; None where there is none.

    Raises:
        SelfTalkError: its cache file is missing.
    """
    ranges = [tuple(line.key_range) for line in face.selftalk.lines]
    if not ranges or writers.has_cache(face):
        return writers.written_frames(face)
    return min(first for first, _ in ranges), max(last for _, last in ranges)


CLASSES = (LinePart, Line)
