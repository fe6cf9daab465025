"""Where a card's memory runs out: smaller windows, then the CPU, and the user is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from selftalk_blender.animator import load_animator
from selftalk_blender.animator.memory import with_less
from selftalk_blender.core.frontend import frame_levels
from selftalk_blender.core.template import ASSETS

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def wanted() -> np.ndarray:
    """(T, 52) of the clip in whole windows."""
    weights = load_animator(device="cpu").animate_file(ASSETS / "sample.ogg").weights
    assert weights is not None
    return weights


@pytest.mark.parametrize(
    ("failures", "words", "close"),
    [
        (0, "", 1e-6),
        (1, "windows of 1/2", 0.1),
        (2, "windows of 1/4", 0.1),
        (3, "on the CPU", 1e-6),
    ],
)
def test_a_clip_is_animated_all_the_same(
    failures: int, words: str, close: float, wanted: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The motion is that of whole windows, or near it; progress never goes back."""
    animator = load_animator(device="cpu")
    encoder, left, done = animator._encoder, failures, []
    forward = encoder.forward

    def short(*args: object) -> object:
        nonlocal left
        if left:
            left -= 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(*args)

    monkeypatch.setattr(encoder, "forward", short)
    motion = animator.animate_file(
        ASSETS / "sample.ogg", progress=lambda share, stage: done.append(share)
    )
    assert motion.weights is not None
    assert np.abs(motion.weights - wanted).mean() < close
    assert len(animator.notices) == bool(words) and words in "".join(animator.notices)
    assert done == sorted(done) and done[-1] == 1.0


def test_another_fault_is_not_hidden() -> None:
    def broken(device: torch.device, divisor: int) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        with_less(broken, CPU, [])


def test_what_failed_is_freed_before_the_next_try() -> None:
    class Large:
        alive = 0

        def __init__(self) -> None:
            Large.alive += 1

        def __del__(self) -> None:
            Large.alive -= 1

    def run(device: torch.device, divisor: int) -> int:
        assert Large.alive == 0
        large = Large()
        if divisor < 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        del large
        return divisor

    assert with_less(run, CPU, []) == 4


def test_levels_are_those_of_each_frame(tmp_path: Path) -> None:
    """Also where a frame is no whole number of samples, and where the last is a part."""
    samples = np.repeat([0.0, 0.1, 1.0, 0.01], [8000, 8000, 8000, 4000]).astype(np.float32)
    levels = frame_levels(samples, 30.0)
    assert len(levels) == 53
    np.testing.assert_allclose(levels[[0, 14, 15, 29, 30, 44, 45, 52]],
                               [-120, -120, -20, -20, 0, 0, -40, -40], atol=1e-3)  # fmt: skip
    assert len(frame_levels(np.zeros(0, np.float32), 50.0)) == 0
    assert len(frame_levels(np.zeros(321, np.float32), 50.0)) == 2
