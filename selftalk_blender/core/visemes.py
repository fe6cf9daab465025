"""What a viseme looks like on the bundled head."""

from __future__ import annotations

import functools

import numpy as np

from .template import bundled_template

# Weights of the bundled head's shapes, "*" for both sides: means over the frames of real phones,
# tuned by eye. The last four are Character Creator's, which are none of the fifteen of Oculus.
RECIPES: dict[str, dict[str, float]] = {
    "PP": {
        "jawOpen": 0.06, "mouthClose": 0.085, "mouthPucker": 0.08, "mouthRollUpper": 0.08,
        "mouthRollLower": 0.1, "mouthPress*": 0.25,
    },
    "FF": {
        "jawOpen": 0.03, "mouthShrugUpper": 0.25, "mouthSmile*": 0.06, "mouthUpperUp*":
        0.55, "mouthRollLower": 1.0,
    },
    "TH": {
        "jawOpen": 0.17, "mouthPucker": 0.05, "mouthRollUpper": 0.045, "mouthShrugUpper":
        0.056, "mouthUpperUp*": 0.2, "tongueOut": 0.42, "mouthLowerDown*": 0.15,
    },
    "DD": {
        "jawOpen": 0.13, "mouthLowerDown*": 0.25, "mouthPucker": 0.139, "mouthShrugUpper":
        0.141, "mouthUpperUp*": 0.18,
    },
    "kk": {
        "jawOpen": 0.24, "mouthLowerDown*": 0.048, "mouthPucker": 0.081, "mouthShrugUpper":
        0.199, "mouthSmile*": 0.047, "mouthUpperUp*": 0.188,
    },
    "CH": {
        "jawOpen": 0.05, "mouthLowerDown*": 0.15, "mouthPucker": 0.18, "mouthShrugUpper":
        0.15, "mouthUpperUp*": 0.15, "mouthFunnel": 0.4,
    },
    "SS": {
        "jawOpen": 0.03, "mouthLowerDown*": 0.5, "mouthShrugUpper": 0.15, "mouthSmile*":
        0.1, "mouthUpperUp*": 0.3, "mouthStretch*": 0.2,
    },
    "nn": {
        "jawOpen": 0.14, "mouthPucker": 0.14, "mouthRollUpper": 0.052, "mouthShrugUpper":
        0.083, "mouthUpperUp*": 0.12, "mouthLowerDown*": 0.2,
    },
    "RR": {
        "jawOpen": 0.14, "mouthPucker": 0.25, "mouthShrugUpper": 0.062, "mouthUpperUp*":
        0.06, "mouthFunnel": 0.3,
    },
    "aa": {
        "jawOpen": 0.42, "mouthLowerDown*": 0.15, "mouthRollUpper": 0.031,
        "mouthShrugUpper": 0.137, "mouthUpperUp*": 0.2,
    },
    "E": {
        "jawOpen": 0.3, "mouthLowerDown*": 0.2, "mouthShrugUpper": 0.212, "mouthSmile*":
        0.1, "mouthUpperUp*": 0.2, "mouthStretch*": 0.15,
    },
    "ih": {
        "jawOpen": 0.17, "mouthShrugUpper": 0.144, "mouthUpperUp*": 0.18, "mouthLowerDown*":
        0.3, "mouthStretch*": 0.25, "mouthSmile*": 0.15,
    },
    "oh": {"jawOpen": 0.3, "mouthPucker": 0.45, "mouthUpperUp*": 0.031, "mouthFunnel": 0.35},
    "ou": {"jawOpen": 0.13, "mouthClose": 0.06, "mouthPucker": 0.9, "mouthFunnel": 0.22},
    "tightO": {"jawOpen": 0.08, "mouthPucker": 1.0, "mouthFunnel": 0.3},
    "tight": {"mouthPucker": 0.45, "mouthPress*": 0.3},
    "wide": {"jawOpen": 0.1, "mouthStretch*": 0.4, "mouthSmile*": 0.3, "mouthLowerDown*": 0.3},
    "lipOpen": {"mouthUpperUp*": 0.4, "mouthLowerDown*": 0.6},
}  # fmt: skip


@functools.cache
def recipe(viseme: str) -> np.ndarray:
    """(52,) float32 weights of a viseme over `bundled_template().shape_names`.

    Raises:
        KeyError: there is no such viseme.
    """
    names = bundled_template().shape_names
    weights = np.zeros(len(names), np.float32)
    for name, weight in RECIPES[viseme].items():
        for side in ("Left", "Right") if "*" in name else ("",):
            weights[names.index(name.replace("*", side))] = weight
    weights.setflags(write=False)
    return weights
