"""What a strip plays as a file of its own, where it is packed, or retimed and mixed down."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import wave
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import bpy

from ..core.errors import SelfTalkError, operator_reason
from . import compat, strips

MIX_RATE = 48000  # samples per second of a strip that is mixed down
MIX_SECONDS = 1.0  # of it that are mixed at once; Blender may take a third as long for it
PIECE = 1 << 22  # bytes that are written at once

_left_behind: set[str] = set()  # folders that could not be removed yet


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that goes with the block, and with it the sound in it.

    Raises:
        SelfTalkError: there is no place for it, or the disk is full.
    """
    folder = ""
    try:
        folder = tempfile.mkdtemp(prefix="selftalk-")
        yield Path(folder)
    except OSError as error:
        raise SelfTalkError(
            f"The sound cannot be written out for the animator: {error.strerror or error} "
            f"({tempfile.gettempdir()}). Free some space there, or choose another folder for "
            "temporary files in Blender's preferences."
        ) from error
    finally:
        # On Windows the animator's process may still read what is in one.
        for name in filter(None, [folder, *_left_behind]):
            shutil.rmtree(name, ignore_errors=True)
            if os.path.exists(name):
                _left_behind.add(name)
            else:
                _left_behind.discard(name)


def write(
    folder: Path, clip: Path, packed: str, mixed: tuple[str, str] | None
) -> Generator[float, None, Path]:
    """Write the file that the animator reads for a packed or retimed strip.

    Args:
        clip: the strip's own file.
        packed: the name of a packed sound, whose bytes become a file, or "".
        mixed: scene and strip to mix down, or None.

    Yields:
        How much is done, 0..1.

    Raises:
        SelfTalkError: scene, strip or sound are gone, or cannot be mixed down.
        OSError: the disk is full.
    """
    if mixed is not None:
        path = folder / f"{clip.stem}.wav"
        yield from _mix_down(*mixed, path)
        return path
    sound = bpy.data.sounds.get(packed)
    if sound is None or sound.packed_file is None:
        raise SelfTalkError(f"The packed sound {packed} is gone. Animate the strip again.")
    path, data = folder / clip.name, sound.packed_file.data
    with open(path, "wb") as file:
        for start in range(0, len(data), PIECE):
            file.write(data[start : start + PIECE])
            yield start / len(data)
    return path


def _mix_down(scene_name: str, strip_name: str, path: Path) -> Iterator[float]:
    """Write what is heard of one strip alone, from its first frame to its last, in pieces."""
    scene, strip = _strip_to_mix(scene_name, strip_name)
    first, last = strips.strip_range(strip)
    fps = strips.frame_rate(scene)
    step = max(round(MIX_SECONDS * fps), 1)
    piece = path.with_name("piece.wav")
    with wave.open(str(path), "wb") as whole:
        whole.setparams((1, 2, MIX_RATE, 0, "NONE", ""))
        for begin in range(first, last + 1, step):
            end = min(begin + step, last + 1)
            _mix_piece(*_strip_to_mix(scene_name, strip_name), begin, end - 1, piece)
            # Blender ends a file with a whole buffer; the next piece begins where its frame does.
            count = round((end - first) * MIX_RATE / fps) - round((begin - first) * MIX_RATE / fps)
            with wave.open(str(piece), "rb") as part:
                samples = part.readframes(count)
            whole.writeframes(samples.ljust(2 * count, b"\0"))
            yield (end - first) / (last + 1 - first)


def _strip_to_mix(scene_name: str, strip_name: str) -> tuple[bpy.types.Scene, Any]:
    scene = strips.find_scene(scene_name)
    return scene, strips.find_strip(scene, strip_name)


def _mix_piece(scene: bpy.types.Scene, strip: Any, first: int, last: int, path: Path) -> None:
    """Write what is heard of one strip alone in some frames; the scene is as before afterwards."""
    around = [strip, *strips.metas(strip)]
    silenced = [
        s for s in strips.walk(compat.editor_strips(scene.sequence_editor)) if s not in around
    ]
    channels = [c for c in (strips.channel_of(scene, each) for each in around) if c is not None]
    switches = [(each, each.mute) for each in (*silenced, *around, *channels)]
    before = scene.frame_start, scene.frame_end
    path.unlink(missing_ok=True)
    try:
        for each, was in switches:
            if was != (each in silenced):
                each.mute = each in silenced
        scene.frame_start, scene.frame_end = first, last
        with compat.as_sequencer_scene(bpy.context, scene):
            bpy.ops.sound.mixdown(
                filepath=str(path), check_existing=False, container="WAV", codec="PCM",
                format="S16", channels="MONO", mixrate=MIX_RATE,
            )  # fmt: skip
    except RuntimeError as error:
        reason = operator_reason(error)
        raise SelfTalkError(f"Strip {strip.name} cannot be mixed down: {reason}.") from error
    finally:
        for each, was in switches:
            if each.mute != was:
                each.mute = was
        scene.frame_start, scene.frame_end = before
    if not path.is_file():
        raise SelfTalkError(f"Strip {strip.name} cannot be mixed down. Look into the console.")
