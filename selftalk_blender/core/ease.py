"""A motion that begins and ends in mid-speech, led in from rest and out to rest."""

from __future__ import annotations

import numpy as np

from .lips import rest_weights
from .motion import Motion

SECONDS = 0.2  # about what lips take to open or close
AT_REST = 0.02  # weight by which a shape may be off without being seen to jump


def ease_to_rest(motion: Motion, whole: bool = False) -> tuple[Motion, int]:
    """Ease both ends where the face is not at rest there: half outside of the motion, half within.

    The shares of two motions of which one begins where the other ends are 1 together. So the
    halves of a motion that was cut in two add up to the whole again.

    Args:
        whole: whether it begins where its sound begins. Then no other ends there, and it is led in
            altogether outside: the first word is as it was spoken.

    Returns:
        The motion, longer by at most SECONDS and a frame at each end, and the number of frames
        that were added before the first. A motion without weights is returned as it is.
    """
    if motion.weights is None or not len(motion):
        return motion, 0
    rest = rest_weights(motion.template)
    first, last = motion.weights[0], motion.weights[-1]
    length = max(SECONDS * motion.fps, 1.0)  # frames
    # Frames outside, with one of rest itself: the curves hold it from there on.
    ahead, behind = (
        int(np.ceil(part - 0.5)) + 1 for part in (length * (1 if whole else 0.5), length / 2)
    )
    lead, tail = (
        count if np.abs(end - rest).max() > AT_REST else 0
        for count, end in ((ahead, first), (behind, last))
    )
    padded = np.pad(motion.weights, ((lead, tail), (0, 0)), mode="edge")
    frames = np.arange(len(padded)) - lead
    share = np.ones(len(padded), np.float32)
    if lead:
        share *= _rise((frames + 0.5) / length + (0.5 if whole else 0.0))
    if tail:
        share *= _rise((len(motion) - 0.5 - frames) / length)
    weights = rest + share[:, None] * (padded - rest)
    return Motion(motion.template, motion.fps, weights=weights.astype(np.float32)), lead


def _rise(place: np.ndarray) -> np.ndarray:
    """From 0 to 1 (smoothstep) around the edge of a motion, at place 0; in lengths of the ease."""
    part = np.clip(place + 0.5, 0.0, 1.0).astype(np.float32)
    return part * part * (3 - 2 * part)
