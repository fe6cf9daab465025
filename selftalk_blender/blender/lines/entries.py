"""The list of a face's lines, `Object.selftalk.lines`, and the takes that are kept with it."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields

import bpy

from ...core.take import Take
from .. import strips
from ..marks import REDUCED, SEALS, TAKES
from ..properties import Line
from ..strips import Heard


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
    """The line of a strip, also of one that was renamed since, or copied with its scene.

    Args:
        heard: None where it is not known; then a renamed or copied strip is not found.
    """
    known = face.selftalk.lines
    if strip:
        exact = (line for line in known if line.strip == strip and line.scene == scene)
    else:
        exact = (
            line
            for line in known
            if heard is not None
            and not line.strip
            and line.clip == str(heard.clip)
            and line.first_frame == heard.first_frame
        )
    found = next(exact, None)
    if found is not None or heard is None or not strip:
        return found
    same = [line for line in known if line.sound == heard.sound]
    copied = [line for line in same if line.strip == strip]  # a second would be said on top of it
    return min(
        copied or [line for line in same if is_lost(line)],
        key=lambda line: abs(line.first_frame - heard.first_frame),
        default=None,
    )


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


def keep_entry(face: bpy.types.Object, spoken: Spoken, key_range: tuple[int, int]) -> Line:
    """Note a line in the list of its face, in the place of what it was.

    Args:
        key_range: first and last scene frame of its keys.
    """
    line = find(face, spoken.id) or face.selftalk.lines.add()
    for value in fields(Spoken):
        if value.name != "pauses":
            setattr(line, value.name, getattr(spoken, value.name))
    line.pauses = " ".join(f"{first}-{stop}" for first, stop in spoken.pauses)
    line.key_range = key_range
    return line


def twins_of(face: bpy.types.Object, line: Line) -> list[bpy.types.Object]:
    """Other objects with this line: duplicates of the face, or what it is one of."""
    return [
        other
        for other in bpy.data.objects
        if TAKES in other and other != face and find(other, line.id) is not None
    ]


def other_lines(face: bpy.types.Object, but: Collection[str]) -> Iterator[tuple[Spoken, Take]]:
    """The lines of a face that can be made again, but for some of these ids; one by one."""
    for line_id in [line.id for line in face.selftalk.lines if line.id not in but]:
        line, take = find(face, line_id), take_of(face, line_id)
        if line is not None and take is not None:
            yield Spoken.of(line), take


def store_take(face: bpy.types.Object, line_id: str, take: bytes) -> None:
    """Keep the take of a line (`Take.to_bytes`) with its face."""
    if TAKES not in face:
        face[TAKES] = {}
    # In the place of other bytes Blender keeps new ones up to their first zero alone.
    face[TAKES].pop(line_id, None)
    face[TAKES][line_id] = take


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
    """Whether a line can be made again; the take itself is not looked at."""
    return line_id in face.get(TAKES, {})


def forget(face: bpy.types.Object, line: Line) -> None:
    """Remove a line's take and entry."""
    for name in (TAKES, SEALS, REDUCED):
        face.get(name, {}).pop(line.id, None)
    lines = face.selftalk.lines
    lines.remove(next(i for i, other in enumerate(lines) if other.id == line.id))
