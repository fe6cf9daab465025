"""From takes to the values of channels, frame by frame; the scene is only read."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace

import bpy
import numpy as np

from ...core.aside import aside
from ...core.controls import Controls, apply
from ...core.drive import Channel, Drive
from ...core.ease import SECONDS, ease_to_rest
from ...core.lips import rest_weights
from ...core.motion import Motion
from ...core.take import SILENCE, Take
from ...core.template import bundled_template
from .actions import Curve, curve_of, owner_of
from .entries import Spoken
from .turning import Head, head

# A channel that is nearer to its rest all along gets no curve (keys: 0.005 mm at most).
STILL = 1e-4
# Those that a face has under the same name and in the same unit.
PLAIN = tuple(
    control.name
    for control in fields(Controls)
    if control.name not in ("offset", "blinks", "brow_raises")
)


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


def columns_of(baked: Baked) -> dict[bpy.types.ID, dict[Curve, int]]:
    """Owner -> curve -> column of the channels that leave their rest (or are not 0 there)."""
    away = np.abs(baked.values - baked.rest).max(0, initial=0.0) > STILL
    found: dict[bpy.types.ID, dict[Curve, int]] = {}
    for column, channel in enumerate(baked.channels):
        sealed = channel.kind == "KEY" and abs(baked.rest[column]) > STILL
        if away[column] or sealed:
            found.setdefault(owner_of(channel), {})[curve_of(channel)] = column
    return found


def motion_of(spoken: Spoken, take: Take) -> tuple[Motion, int]:
    """A line's weights at scene frames, led from rest and back to it, and its first frame."""
    # A strip may reach beyond the end of its file.
    known = math.ceil((spoken.taken[1] - spoken.start) * spoken.fps - 1e-3)
    frames = max(min(spoken.frames, known), 1)
    times = spoken.start - spoken.taken[0] + np.arange(frames) / spoken.fps
    heard = take.motion().at(times, spoken.fps)
    whole = spoken.start * spoken.fps < 1  # the strip begins with its sound
    eased, lead = ease_to_rest(_with_pauses(heard, spoken.pauses), whole)
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


def speaking(
    face: bpy.types.Object, spoken: Spoken, take: Take
) -> Generator[None, None, tuple[Motion, int]]:
    """As `motion_of`, as the face's controls want it; yields while it is made."""
    wanted = _controls(face, spoken.fps)
    return (yield from aside(lambda: motion_of(spoken, _adjusted(wanted, take))))


def _controls(face: bpy.types.Object, frame_rate: float) -> Controls:
    """A face's controls, in a scene of a frame rate: the offset counts its frames."""
    settings = face.selftalk.controls
    values = {name: getattr(settings, name) for name in PLAIN}
    return Controls(
        **values,
        offset=settings.offset / frame_rate,
        blinks=settings.blinks if settings.use_blinks else 0.0,
        brow_raises=settings.brow_raises if settings.use_brow_raises else 0.0,
    )


def _adjusted(wanted: Controls, take: Take) -> Take:
    weights = apply(wanted, bundled_template(), take.weights, take.fps, take.loudness)
    return replace(take, weights=weights)


def baking(
    face: bpy.types.Object, drive: Drive, spoken: Spoken, take: Take
) -> Generator[None, None, Baked]:
    """A line's curves for a face, as its controls want them; yields while they are made.

    Raises:
        SelfTalkError: the head cannot be turned.
    """
    wanted, turning = _controls(face, spoken.fps), head(face)
    return (yield from aside(lambda: _bake(wanted, turning, drive, spoken, take)))


def _bake(
    wanted: Controls, turning: Head | None, drive: Drive, spoken: Spoken, take: Take
) -> Baked:
    motion, first_frame = motion_of(spoken, _adjusted(wanted, take))
    channels, values, rest = drive.channels, drive(motion.weights), drive.rest
    if turning is not None:
        channels = (*channels, *turning.channels)
        heard = _voice(spoken, take, first_frame, len(motion))
        values = np.hstack([values, turning.values(*heard)])
        rest = np.concatenate([rest, turning.rest])
    return Baked(channels, values, rest, first_frame)


def _voice(
    spoken: Spoken, take: Take, first_frame: int, frames: int
) -> tuple[np.ndarray, float, np.ndarray]:
    """What turns a line's head: loudness, its rate, and the seconds at which it is seen."""
    seen = first_frame - spoken.first_frame + np.arange(frames)
    times = spoken.start - spoken.taken[0] + seen / spoken.fps
    loudness = take.loudness.copy()
    for pause in spoken.pauses:
        begin, end = times[0] + (np.array(pause) + spoken.first_frame - first_frame) / spoken.fps
        loudness[max(round(begin * take.fps), 0) : max(round(end * take.fps), 0)] = SILENCE
    return loudness, take.fps, times


def head_angles(
    turning: Head, spoken: Spoken, take: Take, first_frame: int, frames: int
) -> np.ndarray:
    """(T, 3) radians by which a line turns the head: pitch, yaw, roll; see `rhythm.head_motion`."""
    return turning.angles(*_voice(spoken, take, first_frame, frames))


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
