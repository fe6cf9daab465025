"""Small rules about lips that hold for every motion of the bundled head."""

from __future__ import annotations

import numpy as np

from .template import FaceTemplate

SEAL = 0.0225  # mouthClose that closes the slit between the neutral lips
DEEPEST = 1.0  # mm by which pressed lips may overlap; from 1.3 it shows


def rest_weights(template: FaceTemplate) -> np.ndarray:
    """(K,) weights of the face at rest: lips sealed."""
    weights = np.zeros(len(template.shape_names), np.float32)
    weights[template.shape_names.index("mouthClose")] = SEAL
    return weights


def symmetric(template: FaceTemplate, weights: np.ndarray) -> np.ndarray:
    """Weights (T, K) with the mean of left and right on both sides.

    The speaker who taught the animator talks with a raised right lip; nobody wants to inherit
    that. It costs 0.01 mm of lip vertex error on his own clips.
    """
    weights = weights.copy()
    names = template.shape_names
    for left, name in enumerate(names):
        if "Left" in name:
            both = [left, names.index(name.replace("Left", "Right"))]
            weights[:, both] = weights[:, both].mean(1, keepdims=True)
    return weights


def move_gap(template: FaceTemplate, weights: np.ndarray, change: np.ndarray) -> None:
    """Change the inner-lip gap of (T, K) weights by (T,) millimetres, in place.

    Closing adds mouthClose. Opening takes mouthClose back, and where there is too little of it
    opens the jaw.
    """
    close, jaw = (template.shape_names.index(name) for name in ("mouthClose", "jawOpen"))
    closing, opening = -template.gap_per_weight[close], template.gap_per_weight[jaw]
    wider, narrower = np.maximum(change, 0.0), np.maximum(-change, 0.0)
    back = np.minimum(wider / closing, weights[:, close])
    weights[:, close] += narrower / closing - back
    weights[:, jaw] += (wider - back * closing) / opening


def tidy_lips(template: FaceTemplate, weights: np.ndarray) -> np.ndarray:
    """Weights (T, K) with lips that overlap by at most DEEPEST, and no tongue between closed ones.

    The tongue comes out as the gap goes from 1 to 3 mm.
    """
    weights = weights.copy()
    gap = template.gap_mm(weights)
    weights[:, template.shape_names.index("tongueOut")] *= np.clip((gap - 1.0) / 2.0, 0.0, 1.0)
    move_gap(template, weights, np.maximum(-DEEPEST - gap, 0.0))
    return weights
