"""Sound strips of the sequencer: which there are, and what they play at a scene frame."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..core.errors import SelfTalkError
from . import compat


def frame_rate(scene: bpy.types.Scene) -> float:
    """Frames per second of a scene, such as 29.97."""
    return scene.render.fps / scene.render.fps_base


def sound_strips(scene: bpy.types.Scene) -> list[Any]:
    """The sound strips of a scene in the order of their first frames; none inside meta strips."""
    if scene.sequence_editor is None:
        return []
    found = [s for s in compat.editor_strips(scene.sequence_editor) if s.type == "SOUND"]
    return sorted(found, key=lambda strip: (strip_range(strip)[0], strip.channel))


def find_strip(scene: bpy.types.Scene, name: str) -> Any:
    """The sound strip of a name.

    Raises:
        SelfTalkError: no name, no such strip, or a strip whose sound cannot be read exactly.
    """
    sounds = sound_strips(scene)
    if not name:
        hint = "Choose one" if sounds else "Add one in the Sequencer, or choose a sound file"
        raise SelfTalkError(f"No sound strip is chosen. {hint}.")
    strip = next((strip for strip in sounds if strip.name == name), None)
    if strip is not None:
        clip_of(strip)
        return strip
    editor = scene.sequence_editor
    other = compat.editor_strips(editor).get(name) if editor is not None else None
    if other is not None and other.type == "META":
        raise SelfTalkError(
            f"{name} is a meta strip. Ungroup it (Ctrl Alt G) and choose the sound strip."
        )
    if other is not None:
        raise SelfTalkError(f"{name} is no sound strip. Choose a sound strip.")
    raise SelfTalkError(
        f"There is no sound strip {name} in scene {scene.name} (strips inside meta strips do "
        "not count). Choose another."
    )


def clip_of(strip: Any) -> Path:
    """The file that a sound strip plays.

    Raises:
        SelfTalkError: the strip is retimed, or its sound is packed or missing.
    """
    if compat.is_retimed(strip):
        raise SelfTalkError(
            f"Strip {strip.name} is retimed. Mix its sound down to a file and use that instead."
        )
    sound = strip.sound
    if sound is None:
        raise SelfTalkError(f"Strip {strip.name} has no sound. Choose another.")
    if sound.packed_file is not None:
        raise SelfTalkError(
            f"The sound of strip {strip.name} is packed into the .blend. Unpack it first "
            "(File > External Data > Unpack Resources)."
        )
    clip = absolute(sound.filepath, sound.library)
    if not clip.is_file():
        raise SelfTalkError(f"The sound of strip {strip.name} is missing: {clip}.")
    return clip


def absolute(path: str, library: bpy.types.Library | None = None) -> Path:
    """A path as Blender keeps it, "//" being the folder of its .blend, as an absolute one."""
    return Path(os.path.abspath(bpy.path.abspath(path, library=library)))


def strip_range(strip: Any) -> tuple[int, int]:
    """First and last scene frame of a strip."""
    _, _, first, end = compat.strip_place(strip)
    return round(first), round(end) - 1


def source_times(scene: bpy.types.Scene, strip: Any, frames: np.ndarray) -> np.ndarray:
    """Seconds in the file that a sound strip plays at scene frames (n,).

    Outside the file, before 0 or after its end, the strip is silent.
    """
    start, trim, _, _ = compat.strip_place(strip)
    return (frames - start + trim) / frame_rate(scene) - compat.sound_strip_offset(strip)


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
