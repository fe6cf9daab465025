"""Windows: every frame once, in order, and no joint that shows."""

import pytest
import torch

from selftalk_blender.animator.windows import windowed


def every_second(window: torch.Tensor) -> torch.Tensor:
    """A network that copies: (80, 2 m) -> (m, 1)."""
    return window[0, ::2, None]


@pytest.mark.parametrize("frames", [1, 37, 99, 100, 101, 150, 151, 333, 1000])
@pytest.mark.parametrize("piece", [7, 64, 5000])
@pytest.mark.parametrize("first", [0, 1, 17])
def test_every_frame_comes_out_once_and_in_order(frames: int, piece: int, first: int) -> None:
    mel = torch.randn(80, 2 * frames)
    pieces = mel.split(2 * piece, dim=1)
    result = torch.cat(list(windowed(pieces, every_second, 100, first)))
    assert torch.allclose(result[:, 0], mel[0, ::2], atol=1e-5)


def test_windows_that_disagree_are_faded_into_each_other() -> None:
    calls = iter(range(100))

    def disagree(window: torch.Tensor) -> torch.Tensor:
        return torch.full((window.shape[1] // 2, 1), float(next(calls) % 2))

    result = torch.cat(list(windowed([torch.zeros(80, 2 * 730)], disagree, 100)))
    assert result.min() < 0.01
    assert result.max() > 0.99
    assert result.diff(dim=0).abs().max() < 0.04  # half of pi / 100: the steepest of a sine


def test_no_window_is_longer_than_allowed_and_nothing_gives_nothing() -> None:
    lengths = []

    def measure(window: torch.Tensor) -> torch.Tensor:
        lengths.append(window.shape[1] // 2)
        return window[0, ::2, None]

    list(windowed([torch.zeros(80, 2 * 455)], measure, 100))
    assert max(lengths) == 100
    assert min(lengths) > 50  # the last one keeps its context
    assert list(windowed([], measure, 100)) == []
