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
such a curve keeps its channel from us.
"""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import bpy
import numpy as np

from ..core.drive import Channel, Drive
from ..core.ease import ease_to_rest
from ..core.errors import SelfTalkError
from ..core.lips import rest_weights
from ..core.motion import Motion
from ..core.take import Take
from ..core.template import bundled_template
from . import compat, targets, writers
from . import face as faces

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
    speed: bpy.props.FloatProperty(default=1.0)
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
        speed: seconds of the sound that are heard in a second.
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
    speed: float = 1.0

    @classmethod
    def of(cls, line: Line) -> Spoken:
        values = {field.name: getattr(line, field.name) for field in fields(cls)}
        return cls(**{**values, "taken": tuple(line.taken)})


@dataclass(frozen=True, eq=False)
class Baked:
    """A line's curves: channels, their values (T, C) and (C,) at rest, and the first scene frame."""

    channels: tuple[Channel, ...]
    values: np.ndarray
    rest: np.ndarray
    first_frame: int

    @property
    def key_range(self) -> tuple[int, int]:
        return self.first_frame, self.first_frame + len(self.values) - 1


# --- Lines and takes ------------------------------------------------------------------------


def find_id(face: bpy.types.Object, scene: str, strip: str, clip: str, first_frame: int) -> str:
    """The id of a face's line of a strip (of a file at a frame, where there is none), or a new."""
    for line in face.selftalk.lines:
        same_file = line.clip == clip and line.first_frame == first_frame
        if line.strip == strip and (line.scene == scene if strip else same_file):
            return line.id
    return uuid.uuid4().hex[:12]


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
    for field in fields(Spoken):
        setattr(line, field.name, getattr(spoken, field.name))
    line.key_range = key_range
    return line


# --- From takes to values -------------------------------------------------------------------


def motion_of(spoken: Spoken, take: Take) -> tuple[Motion, int]:
    """A line's weights at scene frames, led from rest and back to it, and its first frame."""
    times = spoken.start - spoken.taken[0] + np.arange(spoken.frames) * (spoken.speed / spoken.fps)
    heard = take.motion().at(times, spoken.fps)
    eased, lead = ease_to_rest(heard)
    return eased, spoken.first_frame - lead


def bake(drive: Drive, spoken: Spoken, take: Take) -> Baked:
    """A line's curves for a face."""
    motion, first_frame = motion_of(spoken, take)
    return Baked(drive.channels, drive(motion.weights), drive.rest, first_frame)


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
