"""MDD caches are written in pieces and read back exactly."""

import numpy as np
import pytest

from selftalk_blender.core.mdd import read_mdd, write_mdd


def test_pieces_add_up(tmp_path) -> None:
    positions = np.random.default_rng(0).random((7, 5, 3), np.float32)
    with open(tmp_path / "a.mdd", "wb") as file:
        assert list(write_mdd(file, 7, 5, 24.0, (positions[i : i + 3] for i in (0, 3, 6)))) == [
            3,
            6,
            7,
        ]
    times, again = read_mdd(tmp_path / "a.mdd")
    assert np.array_equal(again, positions)
    assert np.allclose(times, np.arange(7) / 24)
    assert (tmp_path / "a.mdd").stat().st_size == 8 + 7 * 4 + 7 * 5 * 12


def test_wrong_number_of_frames_or_vertices_is_an_error(tmp_path) -> None:
    frames = np.zeros((2, 5, 3), np.float32)
    with open(tmp_path / "a.mdd", "wb") as file, pytest.raises(ValueError, match="2 frames"):
        list(write_mdd(file, 3, 5, 24.0, [frames]))
    with open(tmp_path / "a.mdd", "wb") as file, pytest.raises(ValueError, match="vertices"):
        list(write_mdd(file, 2, 6, 24.0, [frames]))
    with pytest.raises(ValueError, match="not 2 x 6"):
        read_mdd(tmp_path / "a.mdd")
