"""From a stream of samples to the face's weights, whoever computes the networks.

Torch and the plain numpy runtime share all of it: level, silence, windows, and what is done to the
weights in the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from .errors import SelfTalkError
from .frontend import FRAME, SAMPLE_RATE, Loudness, mel_stream
from .lips import rest_weights, symmetric, tidy_lips
from .template import FaceTemplate
from .windows import in_context, windowed

# Seconds of silence that the encoder hears before and after a clip. Its features of what stands at
# the very beginning of a window are the worst: without a lead the gap's correlation with held-out
# clips of 3 s falls from 0.952 to 0.948.
LEAD, TAIL = 4.0, 1.0

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class Networks:
    """A trained animator's two networks as functions of arrays.

    Attributes:
        encode: (80, 2 T) log-mel of one window -> (T, C) features.
        decode: (T, C) features -> (T, K) weights, not yet clamped.
        shape_names: the K shapes.
        window: frames per window of the encoder.
        context: frames on each side that a frame of `decode` depends on.
    """

    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]
    shape_names: tuple[str, ...]
    window: int
    context: int


def infer(
    networks: Networks,
    template: FaceTemplate,
    blocks: Callable[[], Iterable[np.ndarray]],
    samples: int,
    progress: Progress | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Two passes over a sound: its level, then the motion; memory stays flat.

    Args:
        blocks: begins a stream of (n,) float32 blocks, mono, 16 kHz; called twice.
        samples: how many there are, or an estimate of it; for the progress alone.
        progress: called with the share done (0..1) and what is being done.

    Returns:
        (T, K) float32 weights of the template's shapes, frame i at i / 50 seconds, and sentences
        about the clip that its owner should read.

    Raises:
        SelfTalkError: there are no samples.
    """
    report = progress or (lambda done, stage: None)
    loudness = Loudness()
    total = 0
    for block in blocks():
        loudness.add(block)
        total += len(block)
        report(0.1 * min(total / samples, 1.0), "Listening")
    if total == 0:
        raise SelfTalkError("There is no sound in this part of the clip.")
    frames = -(-total // FRAME)
    if loudness.speechless:
        notice = (
            "The clip is silent, or nothing in it stands out from faint noise: the mouth "
            "stays closed. If someone speaks in it, raise its volume and reduce its noise."
        )
        report(1.0, "Animating")
        return np.tile(rest_weights(template), (frames, 1)), [notice]
    predicted: list[np.ndarray] = []
    lead, tail = (np.zeros(round(s * SAMPLE_RATE), np.float32) for s in (LEAD, TAIL))
    first = len(lead) // FRAME
    done = -first
    mel = mel_stream(itertools.chain([lead], blocks(), [tail]), loudness.gain)
    features = windowed(mel, networks.encode, networks.window)
    for piece in in_context(features, networks.decode, networks.context):
        predicted.append(piece)
        done += len(piece)
        report(0.1 + 0.9 * min(max(done / frames, 0.0), 1.0), "Animating")
    whole = np.concatenate(predicted)[first : first + frames]
    return finished(template, networks.shape_names, whole), []


def finished(
    template: FaceTemplate, shape_names: tuple[str, ...], predicted: np.ndarray
) -> np.ndarray:
    """(T, K') of the network's shapes -> (T, K) of the head's: in 0..1, symmetric, tidy."""
    weights = np.zeros((len(predicted), len(template.shape_names)), np.float32)
    columns = [template.shape_names.index(name) for name in shape_names]
    weights[:, columns] = np.clip(predicted, 0.0, 1.0)
    return tidy_lips(template, symmetric(template, weights))
