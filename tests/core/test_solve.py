"""Bounded least squares over frames, against scipy's."""

import numpy as np
import pytest

from selftalk_blender.core.solve import bounded_least_squares


def problem(seed: int = 0, frames: int = 40, shapes: int = 9, features: int = 30):
    random = np.random.default_rng(seed)
    columns = random.normal(size=(shapes, features)) * random.uniform(0.1, 2.0, (shapes, 1))
    wanted = random.uniform(-0.5, 1.5, (frames, shapes)) @ columns
    return columns, wanted + random.normal(size=wanted.shape) * 0.1


def test_each_frame_is_what_scipy_finds() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="the reference is scipy's")
    columns, wanted = problem()
    high = np.linspace(0.3, 1.0, len(columns))
    size = 0.05
    found = bounded_least_squares(columns, wanted, high, size)
    tall = np.concatenate([columns.T, np.sqrt(size) * np.eye(len(columns))])
    for frame, values in zip(wanted, found, strict=True):
        goal = np.concatenate([frame, np.zeros(len(columns))])
        reference = optimize.lsq_linear(tall, goal, (0.0, high)).x
        assert np.abs(values - reference).max() < 2e-3


def test_changes_from_frame_to_frame_are_what_scipy_finds() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="the reference is scipy's")
    columns, wanted = problem(frames=12, shapes=4, features=10)
    count, change = len(columns), 3.0
    found = bounded_least_squares(columns, wanted, 1.0, 0.01, change)
    rows = [np.kron(np.eye(12), columns.T), 0.1 * np.eye(12 * count)]
    rows.append(np.sqrt(change) * np.kron(np.diff(np.eye(12), axis=0), np.eye(count)))
    matrix = np.concatenate(rows)
    goal = np.zeros(len(matrix))
    goal[: wanted.size] = wanted.ravel()
    reference = optimize.lsq_linear(matrix, goal, (0.0, 1.0)).x.reshape(12, count)
    assert np.abs(found - reference).max() < 2e-3


def test_nothing_to_solve() -> None:
    assert bounded_least_squares(np.zeros((0, 5)), np.zeros((3, 5))).shape == (3, 0)
    assert bounded_least_squares(np.ones((2, 5)), np.zeros((0, 5))).shape == (0, 2)
    assert not bounded_least_squares(np.zeros((2, 5)), np.ones((3, 5))).any()
