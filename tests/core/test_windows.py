"""Windows: every frame once, in order, and no joint that shows."""

import numpy as np
import pytest

from selftalk_blender.core.windows import in_context, windowed


def every_second(window: np.ndarray) -> np.ndarray:
    """A network that copies: (80, 2 m) -> (m, 1)."""
    return window[0, ::2, None]


@pytest.mark.parametrize("frames", [1, 37, 99, 100, 101, 150, 151, 333, 1000])
@pytest.mark.parametrize("piece", [7, 64, 5000])
@pytest.mark.parametrize("first", [0, 1, 17])
def test_every_frame_comes_out_once_and_in_order(frames: int, piece: int, first: int) -> None:
    mel = np.random.default_rng(0).normal(size=(80, 2 * frames)).astype(np.float32)
    pieces = np.split(mel, range(2 * piece, mel.shape[1], 2 * piece), axis=1)
    result = np.concatenate(list(windowed(pieces, every_second, 100, first)))
    assert np.allclose(result[:, 0], mel[0, ::2], atol=1e-5)


def test_windows_that_disagree_are_faded_into_each_other() -> None:
    calls = iter(range(100))

    def disagree(window: np.ndarray) -> np.ndarray:
        return np.full((window.shape[1] // 2, 1), float(next(calls) % 2))

    result = np.concatenate(list(windowed([np.zeros((80, 2 * 730), np.float32)], disagree, 100)))
    assert result.min() < 0.01
    assert result.max() > 0.99
    assert np.abs(np.diff(result, axis=0)).max() < 0.07  # half of pi / 25: the steepest of a sine


def test_no_window_is_longer_than_allowed_and_nothing_gives_nothing() -> None:
    lengths = []

    def measure(window: np.ndarray) -> np.ndarray:
        lengths.append(window.shape[1] // 2)
        return window[0, ::2, None]

    list(windowed([np.zeros((80, 2 * 455), np.float32)], measure, 100))
    assert max(lengths) == 100
    assert min(lengths) > 25  # the last one begins as much before what it adds
    assert list(windowed([], measure, 100)) == []


@pytest.mark.parametrize("least", [1, 40, 10000])
def test_what_looks_around_itself_is_exact_and_runs_no_more_often_than_is_wanted(least) -> None:
    values = np.random.default_rng(0).normal(size=(300, 1)).astype(np.float32)
    runs = []

    def smooth(part: np.ndarray) -> np.ndarray:
        runs.append(len(part))
        return np.convolve(np.pad(part[:, 0], 3), np.ones(7), "valid")[:, None]

    whole = smooth(values)
    runs.clear()
    result = np.concatenate(list(in_context(np.split(values, 20), smooth, 3, least)))
    np.testing.assert_allclose(result, whole, atol=1e-5)
    assert len(runs) == {1: 21, 40: 7, 10000: 1}[least]
