"""A take survives its stay in a .blend."""

from __future__ import annotations

import numpy as np
import pytest

from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.take import SILENCE, Take


def spoken(frames: int) -> Take:
    random = np.random.default_rng(0)
    weights = random.random((frames, 52), np.float32) ** 3
    return Take(weights, 50.0, np.linspace(SILENCE, -3.0, frames, dtype=np.float32))


def test_a_take_comes_back_as_it_was() -> None:
    take = spoken(500)
    back = Take.from_bytes(take.to_bytes())
    assert back.fps == 50.0 and back.duration == 10.0
    assert np.abs(back.weights - take.weights).max() < 5e-4
    assert np.abs(back.loudness - take.loudness).max() < 0.04
    assert back.weights.dtype == back.loudness.dtype == np.float32
    assert len(back.motion()) == 500


def test_a_damaged_take_is_a_sentence() -> None:
    data = spoken(5).to_bytes()
    for broken in (b"", b"nonsense", data[: len(data) // 2]):
        with pytest.raises(SelfTalkError, match="cannot be read.*Animate the line again"):
            Take.from_bytes(broken)


def test_weights_and_loudness_must_fit() -> None:
    with pytest.raises(ValueError, match="have a loudness"):
        Take(np.zeros((3, 52), np.float32), 50.0, np.zeros(2, np.float32))
    with pytest.raises(ValueError, match=r"not \(T, 52\)"):
        Take(np.zeros((3, 5), np.float32), 50.0, np.zeros(3, np.float32))
