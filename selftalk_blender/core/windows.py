"""Long sound piece by piece, so that memory stays flat and no joint shows.

The encoder sees windows that overlap by a quarter. What it makes of a frame depends a little on
its place, so where two windows see a frame the features are mixed, with weights that fall to zero
towards a window's ends. What follows the encoder depends on nearby frames alone, and gets them:
its pieces are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np


def step(length: int) -> int:
    """Frames from the start of a window of `length` frames to that of the next."""
    return length - length // 4


def fade(frames: int, overlap: int, at_start: bool, at_end: bool) -> np.ndarray:
    """(frames,) mixing weights of a window; no fade where the clip itself starts or ends."""
    position = np.arange(frames, dtype=np.float32) + np.float32(0.5)
    weight = np.ones(frames, np.float32)
    if not at_start:
        weight = np.minimum(weight, position / overlap)
    if not at_end:
        weight = np.minimum(weight, (frames - position) / overlap)
    # Squared sine: most of the change lies where both windows have context enough.
    return np.square(np.sin(weight * np.float32(np.pi / 2)))


def windowed(
    mel: Iterable[np.ndarray],
    encode: Callable[[np.ndarray], np.ndarray],
    length: int,
    first: int = 0,
) -> Iterator[np.ndarray]:
    """Run `encode` over windows of a stream and mix the results.

    Args:
        mel: pieces (80, 2 n) of log-mel frames, two per output frame.
        encode: (80, 2 m) of one window, m <= length -> (m, C).
        length: frames per window; a quarter of them is the next one's, too.
        first: frames after which the second window starts; moves the grid. 0: as always.

    Yields:
        (n, C) pieces in order; together as many frames as came in.
    """
    overlap = length - step(length)
    hop = first or step(length)
    buffer: np.ndarray | None = None
    mixed: np.ndarray | None = None
    weights = np.zeros((0, 1), np.float32)

    def run(window: np.ndarray, last: bool) -> np.ndarray:
        nonlocal mixed, weights
        result = encode(window)  # (m, C)
        weight = fade(len(result), overlap, mixed is None, last)[:, None]
        total = result * weight
        if mixed is not None:
            total[: len(mixed)] += mixed
            weight[: len(mixed)] += weights
        done = len(result) if last else hop
        mixed, weights = total[done:], weight[done:]
        return total[:done] / weight[:done]

    for piece in mel:
        buffer = piece if buffer is None else np.concatenate([buffer, piece], axis=1)
        # A window runs only once it is known not to be the last: the last fades differently.
        while buffer.shape[1] > 2 * length:
            yield run(buffer[:, : 2 * length], last=False)
            buffer = buffer[:, 2 * hop :]
            hop = step(length)
    if buffer is not None and buffer.shape[1]:
        yield run(buffer, last=True)


def in_context(
    pieces: Iterable[np.ndarray],
    decode: Callable[[np.ndarray], np.ndarray],
    context: int,
    least: int = 1,
) -> Iterator[np.ndarray]:
    """Run `decode`, whose frames depend on `context` frames to each side, as if on the whole.

    Args:
        pieces: (n, C) frames in order.
        decode: (m, C) -> (m, K).
        least: new frames that a run waits for: every run does 2 `context` frames once more.

    Yields:
        (n, K) pieces in order; together as many frames as came in.
    """
    buffer: np.ndarray | None = None
    before = 0  # frames of the buffer that are already done

    for piece in pieces:
        buffer = piece if buffer is None else np.concatenate([buffer, piece])
        ready = len(buffer) - context
        if ready >= before + least:
            yield decode(buffer)[before:ready]
            kept = max(ready - context, 0)
            buffer, before = buffer[kept:], ready - kept
    if buffer is not None and len(buffer) > before:
        yield decode(buffer)[before:]
