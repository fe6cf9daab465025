"""A motion that begins and ends in mid-speech, led in from rest and out to rest."""

from __future__ import annotations

import numpy as np

from .lips import rest_weights
from .motion import Motion

SECONDS = 0.2  # about what lips take to open or close
AT_REST = 0.02  # weight by which a shape may be off without being seen to jump


def ease_to_rest(motion: Motion) -> tuple[Motion, int]:
    """Add frames at both ends where the face is not at rest there.

    Returns:
        The motion, longer by at most SECONDS at each end, and the number of frames that were
        added before the first. A motion without weights is returned as it is.
    """
    if motion.weights is None or not len(motion):
        return motion, 0
    rest = rest_weights(motion.template)
    count = max(1, round(SECONDS * motion.fps))
    share = np.arange(1, count + 1, dtype=np.float32)[:, None] / (count + 1)
    share = share * share * (3 - 2 * share)  # smoothstep, 0 and 1 themselves left out
    weights = motion.weights
    lead = rest + share * (weights[:1] - rest)
    tail = rest + share[::-1] * (weights[-1:] - rest)
    before, after = (np.abs(end - rest).max() > AT_REST for end in (weights[0], weights[-1]))
    # The outermost frame is rest itself: the curves hold it from there on.
    parts = [np.vstack([rest, lead])] if before else []
    parts += [weights] + ([np.vstack([tail, rest])] if after else [])
    eased = Motion(motion.template, motion.fps, weights=np.vstack(parts))
    return eased, len(lead) + 1 if before else 0
