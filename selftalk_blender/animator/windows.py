"""Long sound in windows that overlap, so that memory stays flat and no joint shows.

Every frame is predicted in two windows, at two places of them, and the predictions are mixed
with weights that fall to zero towards a window's ends: what the encoder makes of a frame
depends a little on its place, and this averages it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor


def fade(frames: int, hop: int, at_start: bool, at_end: bool) -> Tensor:
    """(frames,) mixing weights of a window; no fade where the clip itself starts or ends."""
    position = torch.arange(frames) + 0.5
    weight = torch.ones(frames)
    if not at_start:
        weight = torch.minimum(weight, position / hop)
    if not at_end:
        weight = torch.minimum(weight, (frames - position) / hop)
    # Squared sine: most of the change lies where both windows have context enough.
    return torch.sin(weight * torch.pi / 2).square()


def windowed(
    mel: Iterable[Tensor], predict: Callable[[Tensor], Tensor], length: int
) -> Iterator[Tensor]:
    """Run `predict` over windows of a stream and mix the results.

    Args:
        mel: pieces (80, 2 n) of log-mel frames, two per output frame.
        predict: (80, 2 m) of one window, m <= length -> (m, K).
        length: frames per window; windows start every length // 2 frames.

    Yields:
        (n, K) pieces in order; together as many frames as came in.
    """
    hop = length // 2
    buffer: Tensor | None = None
    mixed = weights = None
    first = True

    def run(window: Tensor, last: bool) -> Iterator[Tensor]:
        nonlocal mixed, weights, first
        result = predict(window)  # (m, K)
        weight = fade(len(result), hop, first, last).to(result.device)[:, None]
        first = False
        total, norm = result * weight, weight
        if mixed is not None:
            overlap = len(mixed)
            total[:overlap] += mixed
            norm = norm.clone()
            norm[:overlap] += weights
        done = len(result) if last else hop
        yield total[:done] / norm[:done]
        mixed, weights = total[done:], norm[done:]

    for piece in mel:
        buffer = piece if buffer is None else torch.cat([buffer, piece], dim=1)
        # A window runs only once it is known not to be the last: the last fades differently.
        while buffer.shape[1] > 2 * length:
            yield from run(buffer[:, : 2 * length], last=False)
            buffer = buffer[:, 2 * hop :]
    if buffer is not None and buffer.shape[1]:
        yield from run(buffer, last=True)
