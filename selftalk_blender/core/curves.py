"""ARKit weights as a JSON file that any program can read."""

from __future__ import annotations

import json
import os

import numpy as np

from .files import atomic_path
from .template import bundled_template
from .timecode import timecode

FORMAT, VERSION = "selftalk-curves", 1
DIGITS = 6


def write_curves(
    path: str | os.PathLike[str],
    weights: np.ndarray,
    head: np.ndarray,
    first_frame: int,
    rate: tuple[int, float],
    face: str = "",
    sound: str = "",
) -> None:
    """Write the file, whole or not at all. docs/export.md says what is in it.

    Args:
        weights: (T, 52) of the bundled head's shapes, in the order of its shape names.
        head: (T, 3) radians, pitch, yaw and roll as `rhythm.head_motion` gives them.
        first_frame: scene frame of the first row.
        rate: frames per second as a whole number and what it is divided by: (30, 1.001).
        face: what the face is called.
        sound: name of a sound file beside it that begins with the first row; "" for none.

    Raises:
        SelfTalkError: it cannot be written.
    """
    fps = rate[0] / rate[1]
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        told = {
            "format": FORMAT,
            "version": VERSION,
            "face": face,
            "fps": fps,
            "first_frame": first_frame,
            "start_timecode": timecode(first_frame, fps),
            "sound": sound or None,
            "names": bundled_template().shape_names,
            "head_names": ("pitch", "yaw", "roll"),
        }
        start = json.dumps(told, ensure_ascii=False, indent=1)[: -len("\n}")]
        file.write(start)
        # A frame a line: an hour of them is readable, and never a tree in memory.
        for name, values in (("weights", weights), ("head", head)):
            file.write(f',\n "{name}": [')
            for number, row in enumerate(values.tolist()):
                text = ", ".join(f"{round(value, DIGITS):.7g}" for value in row)
                file.write(f"{',' if number else ''}\n  [{text}]")
            file.write("\n ]")
        file.write("\n}\n")
