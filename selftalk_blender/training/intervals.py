"""From what each clip adds to a measure to its value over all clips, with an interval.

A clip gives a short row of *sums* from which the measure over any set of clips follows, so that
resampling clips is one matrix product and never looks at a frame again:

    form           sums of a clip                            value over clips
    mean           total, count                              total / count (a rate: hits / phones)
    correlation    n, sum x, sum y, sum xx, sum yy, sum xy   Pearson correlation of all frames
    amplitude      the same                                  deviation of x / deviation of y
    difference     total a, count a, total b, count b        mean a - mean b
    largest        the value                                 the largest; has no interval
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
SEED = 0
SHARE = 95.0  # per cent inside the interval


def mean_sums(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Sums of the form "mean" from a clip's values, nan left out."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    return np.array([values.sum(), len(values)])


def moments(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sums of the forms "correlation" and "amplitude" from two series (T,)."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return np.array([len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y])


def difference_sums(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sums of the form "difference" from two lists of values."""
    return np.concatenate([mean_sums(a), mean_sums(b)])


def value(form: str, sums: np.ndarray) -> np.ndarray:
    """The measure (...) from added sums (..., n); nan where it is not defined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if form == "mean":
            return sums[..., 0] / sums[..., 1]
        if form == "difference":
            return sums[..., 0] / sums[..., 1] - sums[..., 2] / sums[..., 3]
        if form in ("correlation", "amplitude"):
            n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
            spread_x, spread_y = n * xx - x * x, n * yy - y * y
            # What rounding leaves of a constant series is no motion.
            spread_x = np.where(spread_x > 1e-9 * n * xx, spread_x, 0.0)
            spread_y = np.where(spread_y > 1e-9 * n * yy, spread_y, np.nan)
            if form == "amplitude":
                return np.sqrt(spread_x / spread_y)
            return np.where(spread_x > 0, n * xy - x * y, np.nan) / np.sqrt(spread_x * spread_y)
    raise ValueError(f"there is no form {form}")


def over_clips(form: str, clips: np.ndarray) -> float:
    """The measure over all clips from their sums (C, n)."""
    if form == "largest":
        return float(clips.max())
    return float(value(form, clips.sum(0)))


def resampled(form: str, clips: np.ndarray) -> np.ndarray:
    """The measure over 2,000 resamples of the clips, (2000,), from their sums (C, n).

    Clips are drawn with replacement (B. Efron, "Bootstrap methods", 1979). The draws depend on
    the number of clips alone: two animators on the same clips get the same draws, so that the
    difference of two results is the paired bootstrap.
    """
    count = len(clips)
    rng = np.random.default_rng(SEED)
    often = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)  # (2000, C)
    return value(form, often @ clips)


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The percentile interval that holds 95 % of the draws; (nan, nan) where there are none."""
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return float("nan"), float("nan")
    low, high = np.percentile(draws, [50 - SHARE / 2, 50 + SHARE / 2])
    return float(low), float(high)
