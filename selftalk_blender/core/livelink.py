"""ARKit weights as a CSV file in the layout that the app Live Link Face records."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from .files import atomic_path
from .template import bundled_template
from .timecode import timecode

# The order of the app's columns.
SHAPES = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft",
    "eyeSquintLeft", "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight",
    "eyeLookOutRight", "eyeLookUpRight", "eyeSquintRight", "eyeWideRight", "jawForward",
    "jawRight", "jawLeft", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthRight",
    "mouthLeft", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft",
    "mouthPressRight", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft",
    "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "noseSneerLeft",
    "noseSneerRight", "tongueOut",
)  # fmt: skip
TURNS = (
    "HeadYaw", "HeadPitch", "HeadRoll", "LeftEyeYaw", "LeftEyePitch", "LeftEyeRoll",
    "RightEyeYaw", "RightEyePitch", "RightEyeRoll",
)  # fmt: skip
COLUMNS = tuple(name[0].upper() + name[1:] for name in SHAPES) + TURNS


def lines(weights: np.ndarray, head: np.ndarray, first_frame: int, fps: float) -> Iterator[str]:
    """The lines of the file, the header first, each with its end.

    Args:
        weights: (T, 52) of the bundled head's shapes, in the order of its shape names.
        head: (T, 3) radians, pitch, yaw and roll as `rhythm.head_motion` gives them.
        first_frame: scene frame of the first row; the timecodes begin there.
        fps: frames per second of the rows.
    """
    names = bundled_template().shape_names
    chosen = weights[:, [names.index(name) for name in SHAPES]]
    yield ",".join(("Timecode", "BlendShapeCount", *COLUMNS)) + "\n"
    for number, (row, (pitch, yaw, roll)) in enumerate(zip(chosen, head.tolist(), strict=True)):
        # ARKit's third axis points out of the face, ours into it. Where the eyes look is in the
        # shapes EyeLook...; the eyeballs' own turn is not known.
        turns = (yaw, pitch, -roll, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
        values = ",".join(f"{value:.8f}" for value in (*row.tolist(), *turns))
        yield f"{timecode(first_frame + number, fps)}.000,{len(COLUMNS)},{values}\n"


def write_livelink(
    path: str | os.PathLike[str],
    weights: np.ndarray,
    head: np.ndarray,
    first_frame: int,
    fps: float,
) -> None:
    """Write the file, whole or not at all; for the arguments see `lines`.

    Raises:
        SelfTalkError: it cannot be written.
    """
    with atomic_path(path) as temporary, open(temporary, "w", encoding="ascii", newline="") as file:
        file.writelines(lines(weights, head, first_frame, fps))
