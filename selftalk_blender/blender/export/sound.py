"""The sound of what is exported, as a WAV file beside it."""

from __future__ import annotations

import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path

import bpy
import numpy as np

from ...core.errors import SelfTalkError, operator_reason
from .. import compat, strips

MIX_RATE, BYTES = 48000, 2  # of the file: samples per second, 16 bits


def beside(path: Path) -> Path:
    """Where the sound goes that belongs to a file: never where a recording may be."""
    return path.with_name(f"{path.stem}_sound.wav")


def heard_scene(
    scene: bpy.types.Scene, faces: Sequence[bpy.types.Object], first: int, last: int
) -> tuple[bpy.types.Scene, float, float] | None:
    """Whose sequencer is heard in these frames, and from which frame to which there.

    None where nothing is, or where this Blender has no sound.
    """
    if not compat.HAS_SOUND:
        return None
    names = [line.scene for face in faces for line in face.selftalk.lines if line.scene]
    for owner in dict.fromkeys(filter(None, [scene, *map(bpy.data.scenes.get, names)])):
        for strip in strips.sound_strips(owner):
            if strips.muted(owner, strip) or strip.sound is None:
                continue
            clock = strips.clock(owner, strip, scene)
            begin, end = clock.to_sequencer(np.array([first, last + 1], np.float64))
            from_frame, to_frame = strips.strip_range(strip)
            if from_frame < end and begin <= to_frame:
                return owner, float(begin), float(end)
    return None


def check(path: Path) -> None:
    """Whether the sound of a file may be written.

    Raises:
        SelfTalkError: the file there is one that this scene plays.
    """
    target = beside(path)
    if any(strips.absolute(sound.filepath, sound.library) == target for sound in bpy.data.sounds):
        raise SelfTalkError(
            f"{target.name} is a sound of this scene and would be overwritten. Choose another "
            "name, or untick Sound."
        )


def write(owner: bpy.types.Scene, begin: float, end: float, path: Path) -> None:
    """Mix a sequencer down from one frame to another (not itself in it), to the sample.

    Before frame 0, where Blender mixes nothing, the file is silent.

    Raises:
        SelfTalkError: Blender cannot mix it.
        OSError: the disk is full.
    """
    fps = strips.frame_rate(owner)
    first, last = max(int(np.floor(begin)), 0), max(int(np.ceil(end)) - 1, 0)
    count = round((end - begin) * MIX_RATE / fps)
    ahead = round((first - begin) * MIX_RATE / fps)  # samples that are missing, or too many (-)
    with tempfile.TemporaryDirectory(prefix=".selftalk-", dir=path.parent) as folder:
        mixed = Path(folder) / "mixed.wav"
        channels = _mix_down(owner, first, last, mixed)
        size = BYTES * channels
        with wave.open(str(mixed), "rb") as source, wave.open(str(path), "wb") as file:
            file.setparams((channels, BYTES, MIX_RATE, 0, "NONE", ""))
            source.readframes(max(-ahead, 0))
            silence = min(max(ahead, 0), count)
            file.writeframes(bytes(silence * size))
            left = count - silence
            while left > 0:
                piece = source.readframes(min(left, MIX_RATE))
                # Blender may end the file a buffer early or late.
                piece = piece or bytes(min(left, MIX_RATE) * size)
                file.writeframes(piece)
                left -= len(piece) // size


def _mix_down(owner: bpy.types.Scene, first: int, last: int, path: Path) -> int:
    """Mix some frames down; how many channels the file has: 1 where all sounds have 1."""
    sounds = [strip.sound for strip in strips.sound_strips(owner) if strip.sound is not None]
    # Blender plays what is mono 3 dB softer on each of two speakers.
    mono = all(heard.channels == "MONO" for heard in sounds)
    before = owner.frame_start, owner.frame_end, owner.use_preview_range
    try:
        owner.use_preview_range = False
        owner.frame_start, owner.frame_end = first, last
        with compat.as_sequencer_scene(bpy.context, owner):
            bpy.ops.sound.mixdown(
                filepath=str(path), check_existing=False, container="WAV", codec="PCM",
                format="S16", channels="MONO" if mono else "STEREO", mixrate=MIX_RATE,
            )  # fmt: skip
    except RuntimeError as error:
        reason = operator_reason(error)
        raise SelfTalkError(
            f"The sound cannot be mixed down: {reason}. Untick Sound to export without it."
        ) from error
    finally:
        owner.frame_start, owner.frame_end, owner.use_preview_range = before
    if not path.is_file():
        raise SelfTalkError("The sound cannot be mixed down. Untick Sound to export without it.")
    return 1 if mono else 2
