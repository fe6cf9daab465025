"""Sound strips of the sequencer: which there are, and what they play at a scene frame.

The strips of a face need not lie in the face's own scene: Blender 5 has a sequencer scene beside
the scene on view. Motion always lies in the scene of the face. A frame there belongs to the frame
of the sequencer at which it is seen: by a scene strip that shows the face's scene while the sound
is heard, frame by frame; where there is none, by the clock, both scenes begun at their first
frames.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..core.errors import SelfTalkError
from . import compat

# Bytes up to which a sound is told from its earlier self by what is in it, not by its file's time:
# so its lines stay up to date where a project is copied. More takes too long to read.
READ_WHOLE = 1 << 25


@dataclass(frozen=True)
class Heard:
    """What a strip plays, in plain values and frames of the face's scene.

    Attributes:
        clip: the file it plays, also where it is packed.
        sound: tells the sound as it is now from others and from its earlier self.
        first_frame, frames: where it is heard; the file may end before that.
        fps: frames of the face's scene per second of sound.
        start: second of the sound that is heard at first_frame.
        packed: name of the sound whose bytes are in the .blend, or "".
        mixed: whether Blender must mix the strip down, since it is retimed; then `start` is 0 and
            the sound begins at first_frame.
        pauses: frames from first_frame on, (first, after last) of each part at volume 0.
    """

    clip: Path
    sound: str
    first_frame: int
    frames: int
    fps: float
    start: float
    packed: str = ""
    mixed: bool = False
    pauses: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Clock:
    """Sequencer frame = sequencer + (face frame - face) * ratio; fps is of the face's frames."""

    sequencer: float
    face: float
    ratio: float
    fps: float

    def to_sequencer(self, frames: np.ndarray) -> np.ndarray:
        return self.sequencer + (frames - self.face) * self.ratio

    def to_face(self, frames: float) -> float:
        return self.face + (frames - self.sequencer) / self.ratio


def frame_rate(scene: bpy.types.Scene) -> float:
    """Frames per second of a scene, such as 29.97."""
    return scene.render.fps / scene.render.fps_base


def check_time(scene: bpy.types.Scene) -> None:
    """Whether a frame of a scene shows what is keyed there.

    Raises:
        SelfTalkError: time is stretched, which its sound is not.
    """
    old, new = scene.render.frame_map_old, scene.render.frame_map_new
    if old != new:
        raise SelfTalkError(
            f"{scene.name} stretches the time of its keys ({old} to {new}), and its sound goes on "
            "as before. Make Old and New the same in Output > Frame Range > Time Stretching."
        )


def sound_strips(scene: bpy.types.Scene) -> list[Any]:
    """The sound strips of a scene, also inside meta strips, in the order of their first frames."""
    if scene.sequence_editor is None:
        return []
    found = [s for s in walk(compat.editor_strips(scene.sequence_editor)) if s.type == "SOUND"]
    return sorted(found, key=lambda strip: (strip_range(strip)[0], strip.channel))


def walk(strips: Any) -> Iterator[Any]:
    """Some strips, and all that are inside the meta strips among them."""
    for strip in strips:
        yield strip
        if strip.type == "META":
            yield from walk(compat.meta_strips(strip))


def metas(strip: Any) -> Iterator[Any]:
    """The meta strips around a strip, from the inside."""
    meta = strip.parent_meta()
    while meta is not None:
        yield meta
        meta = meta.parent_meta()


def find_scene(name: str) -> bpy.types.Scene:
    """The scene of a name that was read a while ago.

    Raises:
        SelfTalkError: it is gone.
    """
    scene = bpy.data.scenes.get(name)
    if scene is None:
        raise SelfTalkError(f"Scene {name} was removed or renamed meanwhile. Try again.")
    return scene


def find_strip(scene: bpy.types.Scene, name: str) -> Any:
    """The sound strip of a name.

    Raises:
        SelfTalkError: no name, or no such strip.
    """
    sounds = sound_strips(scene)
    if not name:
        hint = "Choose one" if sounds else "Add one in the Sequencer, or choose a sound file"
        raise SelfTalkError(f"No sound strip is chosen. {hint}.")
    strip = next((strip for strip in sounds if strip.name == name), None)
    if strip is not None:
        return strip
    editor = scene.sequence_editor
    others = walk(compat.editor_strips(editor)) if editor is not None else ()
    if any(other.name == name for other in others):
        raise SelfTalkError(f"{name} is no sound strip. Choose a sound strip.")
    raise SelfTalkError(f"There is no sound strip {name} in scene {scene.name}. Choose another.")


def clip_of(strip: Any) -> Path:
    """The file that a sound strip plays.

    Raises:
        SelfTalkError: there is none.
    """
    sound = strip.sound
    if sound is None:
        raise SelfTalkError(f"Strip {strip.name} has no sound. Choose another.")
    clip = absolute(sound.filepath, sound.library)
    if sound.packed_file is None and not clip.is_file():
        raise SelfTalkError(
            f"The sound of strip {strip.name} is missing: {clip}. Find it (File > External Data > "
            "Find Missing Files) or choose another strip."
        )
    return clip


def absolute(path: str, library: bpy.types.Library | None = None) -> Path:
    """A path as Blender keeps it, "//" being the folder of its .blend, as an absolute one."""
    return Path(os.path.abspath(bpy.path.abspath(path, library=library)))


def file_mark(clip: Path) -> str:
    """What tells a sound from others and from its earlier self, wherever its file lies."""
    state = clip.stat()
    if state.st_size > READ_WHOLE:
        return f"{clip.name} {state.st_size} {state.st_mtime_ns}"
    with contextlib.suppress(OSError):  # the animator says better what is wrong with it
        return _content_mark(clip, state.st_size, state.st_mtime_ns)
    return f"{clip.name} {state.st_size}"


@functools.lru_cache(maxsize=1024)
def _content_mark(clip: Path, size: int, changed: int) -> str:
    return _mark(clip.read_bytes())


def _packed_mark(sound: bpy.types.Sound, clip: Path) -> str:
    """As `file_mark`: the same whether it is packed or not."""
    packed = sound.packed_file
    if packed.size > READ_WHOLE:
        return f"{clip.name} {packed.size} packed"
    key = sound.as_pointer(), packed.as_pointer(), packed.size
    if key not in _packed_marks:
        if len(_packed_marks) > 1000:
            _packed_marks.clear()
        _packed_marks[key] = _mark(packed.data)
    return _packed_marks[key]


_packed_marks: dict[tuple[int, int, int], str] = {}


def _mark(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha1(data, usedforsecurity=False).hexdigest()}"


def strip_range(strip: Any) -> tuple[int, int]:
    """First and last scene frame of a strip that meta strips around it let through."""
    _, _, first, end = compat.strip_place(strip)
    for meta in metas(strip):
        _, _, meta_first, meta_end = compat.strip_place(meta)
        first, end = max(first, meta_first), min(end, meta_end)
    return round(first), round(end) - 1


def source_times(scene: bpy.types.Scene, strip: Any, frames: np.ndarray) -> np.ndarray:
    """Seconds in the file that a sound strip plays at scene frames (n,); not for retimed ones.

    Outside the file, before 0 or after its end, the strip is silent.
    """
    start, trim, _, _ = compat.strip_place(strip)
    return (frames - start + trim) / frame_rate(scene) - compat.sound_strip_offset(strip)


def muted(scene: bpy.types.Scene, strip: Any) -> str:
    """Why a strip is not heard, or ""."""
    for each in (strip, *metas(strip)):
        if each.mute:
            return "Muted" if each == strip else f"Its meta strip {each.name} is muted"
        channel = channel_of(scene, each)
        if channel is not None and channel.mute:
            return f"Its channel {channel.name} is muted"
    return ""


def channel_of(scene: bpy.types.Scene, strip: Any) -> Any | None:
    """The channel on which a strip lies, of the scene or of its meta strip."""
    meta = strip.parent_meta()
    channels = meta.channels if meta is not None else scene.sequence_editor.channels
    return channels[strip.channel] if strip.channel < len(channels) else None


def clock(scene: bpy.types.Scene, strip: Any, face_scene: bpy.types.Scene) -> Clock:
    """How frames of a face's scene belong to those of the sequencer's; see the top."""
    fps = frame_rate(scene)
    if scene == face_scene:
        return Clock(0.0, 0.0, 1.0, fps)
    first, last = strip_range(strip)
    for shown in walk(compat.editor_strips(scene.sequence_editor)):
        if shown.type == "SCENE" and shown.scene == face_scene and not muted(scene, shown):
            begin, trim, _, _ = compat.strip_place(shown)
            shown_first, shown_last = strip_range(shown)
            if shown_first <= last and first <= shown_last:
                return Clock(begin - trim, face_scene.frame_start, 1.0, fps)
    face_fps = frame_rate(face_scene)
    return Clock(scene.frame_start, face_scene.frame_start, fps / face_fps, face_fps)


def heard(scene: bpy.types.Scene, strip: Any, face_scene: bpy.types.Scene) -> Heard:
    """What a strip plays, and when, for a face of a scene.

    Raises:
        SelfTalkError: its sound is missing, cannot be read, or is not heard at all.
    """
    clip = clip_of(strip)
    sound = strip.sound
    packed = sound.name if sound.packed_file is not None else ""
    mark = _packed_mark(sound, clip) if packed else file_mark(clip)
    keys = compat.retiming_frames(strip)
    if keys and not compat.HAS_SOUND:
        raise SelfTalkError(f"Strip {strip.name} is retimed, and this Blender has no sound.")
    watch = clock(scene, strip, face_scene)
    first, last = strip_range(strip)
    # A frame of the face that begins within the strip; rounding must not lose one.
    frames = np.arange(
        int(np.ceil(watch.to_face(first) - 1e-6)), int(np.ceil(watch.to_face(last + 1) - 1e-6))
    )
    if keys:
        start, trim, _, _ = compat.strip_place(strip)
        speeds = " ".join(str(round(key - start)) for key in keys)
        mark += f" retimed {speeds} {trim:.6g} {first - start:.6g} {last - first}"
        times = (watch.to_sequencer(frames) - first) / frame_rate(scene)
    else:
        times = source_times(scene, strip, watch.to_sequencer(frames))
    # Rounding may put the first frame a hair before the file.
    plays = times > -1e-6
    if not plays.any():
        raise SelfTalkError(f"Strip {strip.name} plays none of its sound. Check its trims.")
    begin = int(np.argmax(plays))
    pauses = _pauses(scene, strip, watch.to_sequencer(frames[begin:]))
    if sum(stop - first for first, stop in pauses) == len(frames) - begin:
        raise SelfTalkError(f"Strip {strip.name} is silent: its volume is 0.")
    return Heard(
        clip=clip,
        sound=mark,
        first_frame=int(frames[begin]),
        frames=len(frames) - begin,
        fps=watch.fps,
        start=max(float(times[begin]), 0.0),
        packed=packed,
        mixed=bool(keys),
        pauses=pauses,
    )


def _pauses(scene: bpy.types.Scene, strip: Any, frames: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Parts of frames (n,) of the sequencer, (first, after last), in which the volume is 0."""
    quiet = np.zeros(len(frames), bool)
    for each in (strip, *metas(strip)):
        curve = compat.volume_curve(scene, each)
        if curve is not None:
            quiet |= np.array([curve.evaluate(frame) <= 0.0 for frame in frames])
        elif compat.strip_volume(each) <= 0.0:
            quiet[:] = True
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]])))
    return tuple((int(a), int(b)) for a, b in edges.reshape(-1, 2))


def strip_of_file(scene: bpy.types.Scene, clip: Path, frame: int) -> Any | None:
    """A sound strip that plays a file from a frame on, as `add_strip` makes it."""
    for strip in sound_strips(scene):
        start, trim, first, _ = compat.strip_place(strip)
        untouched = start == first == frame and trim == 0
        if (
            untouched
            and strip.sound is not None
            and strip.sound.packed_file is None
            and absolute(strip.sound.filepath, strip.sound.library) == clip
        ):
            return strip
    return None


def add_strip(scene: bpy.types.Scene, clip: Path, frame: int) -> Any:
    """Put a sound file into the sequencer at a frame, on the first channel free from there on."""
    editor = scene.sequence_editor or scene.sequence_editor_create()
    strips = compat.editor_strips(editor)
    taken = {strip.channel for strip in strips if strip_range(strip)[1] >= frame}
    taken |= {number for number, channel in enumerate(editor.channels) if channel.lock}
    channel = min(set(range(1, 129)) - taken, default=128)
    return strips.new_sound(clip.stem, str(clip), channel, frame)


def remove_strip(scene: bpy.types.Scene, strip: Any) -> None:
    """Take back `add_strip`."""
    sound = strip.sound
    compat.editor_strips(scene.sequence_editor).remove(strip)
    if sound is not None and sound.users == 0:
        bpy.data.sounds.remove(sound)
