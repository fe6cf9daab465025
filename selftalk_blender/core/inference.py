"""From a stream of samples to the face's weights, whoever computes the networks.

Torch and the plain numpy runtime share all of it: level, silence, windows, and what is done to the
weights in the end.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .errors import SelfTalkError
from .frontend import FPS, FRAME, SAMPLE_RATE, Loudness, frame_levels, mel_stream
from .lips import rest_weights, symmetric, tidy_lips
from .sound import Sound
from .template import FaceTemplate
from .windows import in_context, windowed

# Seconds of silence that the encoder hears before and after a clip. Its features of what stands at
# the very beginning of a window are the worst: without a lead the gap's correlation with held-out
# clips of 3 s falls from 0.952 to 0.948.
LEAD, TAIL = 4.0, 1.0
CONTEXT = 2.0  # seconds of sound read before and after a part of a file
BLOCK = 30.0  # seconds of sound in memory at once

Progress = Callable[[float, str], None]
Blocks = Callable[[], Iterable[np.ndarray]]  # begins a stream of (n,) float32, mono, 16 kHz


@dataclass(frozen=True)
class Networks:
    """A trained animator's two networks as functions of arrays.

    Attributes:
        encode: (80, 2 T) log-mel of one window -> (T, C) features.
        decode: (T, C) features -> (T, K') weights, not yet clamped.
        window: frames per window of the encoder.
        context: frames on each side that a frame of `decode` depends on.
    """

    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]
    window: int
    context: int

    def __call__(self, blocks: Blocks, gain: float, advance: Callable[[int], None]) -> np.ndarray:
        """(T, K') of a sound, T as many as it has frames, or a few more for the silence behind it.

        Args:
            gain: factor for the samples.
            advance: called with how many frames are encoded, which is most of the work.
        """
        lead, tail = (np.zeros(round(s * SAMPLE_RATE), np.float32) for s in (LEAD, TAIL))
        first = len(lead) // FRAME

        def features() -> Iterator[np.ndarray]:
            done = -first
            mel = mel_stream(itertools.chain([lead], blocks(), [tail]), gain)
            for piece in windowed(mel, self.encode, self.window):
                done += len(piece)
                advance(done)
                yield piece

        pieces = in_context(features(), self.decode, self.context, 2 * self.window)
        return np.concatenate(list(pieces))[first:]


class Inferred(NamedTuple):
    """What `infer` makes of a sound; frame i is at i / 50 seconds.

    Attributes:
        weights: (T, K) float32 of the template's shapes.
        loudness: (T,) float32, dBFS of the sound during each frame.
        notices: sentences about the clip that its owner should read.
    """

    weights: np.ndarray
    loudness: np.ndarray
    notices: list[str]


def infer(
    predict: Callable[[Blocks, float, Callable[[int], None]], np.ndarray],
    shape_names: tuple[str, ...],
    template: FaceTemplate,
    blocks: Blocks,
    samples: int,
    progress: Progress | None = None,
) -> Inferred:
    """Two passes over a sound: its level, then the motion; memory stays flat.

    Args:
        predict: `Networks`, or something that calls it.
        shape_names: the K' shapes that it gives.
        blocks: called twice; all but the last are of whole frames of 320 samples.
        samples: how many there are, or an estimate of it; for the progress alone.
        progress: called with the share done (0..1) and what is being done.

    Raises:
        SelfTalkError: there are no samples.
    """
    report = progress or (lambda done, stage: None)
    loudness = Loudness()
    levels = []
    total = 0
    for block in blocks():
        loudness.add(block)
        levels.append(frame_levels(block, FPS))
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
        rest = np.tile(rest_weights(template), (frames, 1))
        return Inferred(rest, np.concatenate(levels), [notice])
    furthest = 0.1

    def advance(done: int) -> None:
        nonlocal furthest  # what has to begin anew does not go back
        furthest = max(furthest, 0.1 + 0.9 * min(max(done / frames, 0.0), 1.0))
        report(furthest, "Animating")

    predicted = predict(blocks, loudness.gain, advance)[:frames]
    weights = np.zeros((frames, len(template.shape_names)), np.float32)
    columns = [template.shape_names.index(name) for name in shape_names]
    weights[:, columns] = np.clip(predicted, 0.0, 1.0)
    weights = tidy_lips(template, symmetric(template, weights))
    return Inferred(weights, np.concatenate(levels), [])


def infer_part(
    predict: Callable[[Blocks, float, Callable[[int], None]], np.ndarray],
    shape_names: tuple[str, ...],
    template: FaceTemplate,
    sound: Sound,
    start: float,
    stop: float | None,
    progress: Progress | None,
) -> Inferred:
    """`infer` on a part of a sound file; what is around the part is heard as context.

    Args:
        start, stop: seconds in the file; to its end where stop is None.

    Returns:
        Frame i is at start + i / 50 seconds of the file.

    Raises:
        SelfTalkError: the file cannot be read, or has no sound in this part.
    """
    lead = min(math.floor(start * FPS), round(CONTEXT * FPS))  # frames of context
    begin = start - lead / FPS
    end = None if stop is None else stop + CONTEXT
    length = (sound.duration if end is None else min(end, sound.duration)) - begin
    inferred = infer(
        predict,
        shape_names,
        template,
        lambda: sound.blocks(begin, end, BLOCK),
        max(int(length * SAMPLE_RATE), 1),
        progress,
    )
    last = None if stop is None else lead + math.ceil((stop - start) * FPS - 1e-6)
    part = slice(lead, last)
    return Inferred(inferred.weights[part], inferred.loudness[part], inferred.notices)


def refuse_template(path: str | os.PathLike[str] | None, template: np.ndarray | None) -> None:
    """Say that an animator of the bundled head (None: the bundled one) takes no template.

    Raises:
        SelfTalkError: there is one.
    """
    if template is not None:
        raise SelfTalkError(
            f"{'The bundled animator' if path is None else path} moves the bundled head and "
            "takes no template. Leave the template out."
        )
