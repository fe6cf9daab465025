"""A motion of many vertices as a few shapes and their weights, for shape keys and FBX."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from .motion import Motion
from .template import FaceTemplate

NAME = "SelfTalk {:02}"
TOLERANCE = 1e-4  # of the face's size (RMS distance from its middle): 0.01 mm on a head
MOST = 256  # shapes; with more a mesh plays noticeably slower
# Frames, evenly spaced, that the shapes are made from: more than enough of speech.
SAMPLE = 512
CHUNK = 64  # frames worked on at a time


def principal_shapes(motion: Motion) -> Generator[float, None, tuple[Motion, float]]:
    """The principal components of a dense motion, as few as keep within TOLERANCE, at most MOST.

    Weights are in [0, 1], since negative ones come back wrong through FBX and USD: shape 0, at
    weight 1 all along, is the face with every component at its lowest; each further shape is one
    component over its range.

    Yields:
        How much is done, 0..1.

    Returns:
        The motion as weights, with the template's vertices, and the farthest that any vertex
        is from its place in any frame, in the template's unit.
    """
    dense = motion.dense
    assert dense is not None and len(dense)
    flat = dense.reshape(len(dense), -1)  # (T, 3V)
    mean = flat.mean(0)
    components = yield from _components(flat, mean, motion.template)  # (K, 3V), orthonormal
    values, error = np.empty((len(flat), len(components)), np.float32), 0.0  # values: (T, K)
    for start in range(0, len(flat), CHUNK):
        part = slice(start, start + CHUNK)
        values[part] = (flat[part] - mean) @ components.T
        error = max(error, _farthest(flat[part] - mean - values[part] @ components))
        yield 0.5 + 0.5 * start / len(flat)
    low = values.min(0)
    span = values.max(0) - low
    moves = span > 0
    low, span, components = low[moves], span[moves], components[moves]
    deltas = np.vstack([mean + low @ components, span[:, None] * components])
    weights = np.ones((len(flat), len(deltas)), np.float32)
    weights[:, 1:] = (values[:, moves] - low) / span
    template = FaceTemplate(
        motion.template.name,
        motion.template.vertices,
        motion.template.polygons,
        tuple(NAME.format(index) for index in range(len(deltas))),
        deltas.reshape(len(deltas), -1, 3).astype(np.float32),
    )
    return Motion(template, motion.fps, weights=weights), error


def _components(
    flat: np.ndarray, mean: np.ndarray, template: FaceTemplate
) -> Generator[float, None, np.ndarray]:
    """(K, 3V) orthonormal, the most moving first; as many as the sampled frames need."""
    chosen = np.unique(np.linspace(0, len(flat) - 1, SAMPLE).round().astype(np.int64))
    rest = flat[chosen] - mean
    # The eigenvectors of the small frame-by-frame matrix give those of the huge one.
    spread, frames = np.linalg.eigh((rest @ rest.T).astype(np.float64))
    largest = np.argsort(spread)[::-1][:MOST]
    largest = largest[spread[largest] > spread.max(initial=0.0) * 1e-12]
    yield 0.1
    components = np.linalg.qr((frames[:, largest].T.astype(np.float32) @ rest).T)[0].T
    around = template.vertices - template.vertices.mean(0)
    allowed = TOLERANCE * float(np.sqrt((around**2).sum(1).mean()))
    count = 0
    while count < len(components) and _farthest(rest) > allowed:
        yield 0.2 + 0.3 * count / len(components)
        more = components[count : count + max(4, count // 4)]
        rest -= (rest @ more.T) @ more
        count += len(more)
    return components[:count]


def _farthest(offsets: np.ndarray) -> float:
    """The longest of the vectors in (T, 3V)."""
    return float(np.sqrt((offsets.reshape(-1, 3) ** 2).sum(1).max(initial=0.0)))
