"""Weights between bounds that come nearest to a wanted motion, for all frames at once."""

from __future__ import annotations

import numpy as np

ROUNDS = 400
SETTLED = 2e-5  # as a share of a weight's range, per round


def bounded_least_squares(
    columns: np.ndarray,
    wanted: np.ndarray,
    high: np.ndarray | float = 1.0,
    size: float = 0.0,
    change: float = 0.0,
) -> np.ndarray:
    """Minimise |v A - b|^2 + size |v|^2 + change |v_t - v_(t-1)|^2 over 0 <= v <= high.

    Accelerated projected gradients with restarts (FISTA: Beck and Teboulle 2009; restarts:
    O'Donoghue and Candes 2015), all frames in one matrix product per round.

    Args:
        columns: (K, F) A: what each of K weights does to F features at 1.
        wanted: (T, F) b, the features wanted in each frame.
        high: (K,) or one number, at least 0.
        size, change: in the features' unit, squared.

    Returns:
        (T, K) float64 v.
    """
    columns = np.asarray(columns, np.float64)
    count = len(columns)
    high = np.broadcast_to(np.asarray(high, np.float64), count)
    square = columns @ columns.T + size * np.eye(count)
    linear = np.asarray(wanted, np.float64) @ columns.T
    values = np.zeros((len(linear), count))
    if not count or not len(linear):
        return values
    # Each weight in a unit in which all are as steep: that is where most rounds are saved.
    unit = 1.0 / np.sqrt(np.maximum(np.diag(square), 1e-12))
    square, linear, high = square * unit * unit[:, None], linear * unit, high / unit
    smooth = change * unit**2
    step = 1.0 / max(np.linalg.eigvalsh(square)[-1] + 4.0 * smooth.max(), 1e-12)
    ahead, speed = values, 1.0
    for _ in range(ROUNDS):
        slope = ahead @ square - linear
        if change and len(ahead) > 1:
            moved = np.diff(ahead, axis=0) * smooth
            slope[1:] += moved
            slope[:-1] -= moved
        following = np.clip(ahead - step * slope, 0.0, high)
        travel = following - values
        restart = (slope * travel).sum() > 0.0
        faster = 1.0 if restart else (1.0 + np.sqrt(1.0 + 4.0 * speed**2)) / 2.0
        ahead = following if restart else following + (speed - 1.0) / faster * travel
        values, speed = following, faster
        if np.abs(travel * unit).max() < SETTLED:
            break
    return values * unit
