"""Measures of lip motion as pure functions of arrays.

The gap is the distance along the up axis between the two inner-lip landmarks, in millimetres
(`FaceTemplate.gap_mm`); negative values are pressed lips and count as 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .corpus import Phone
from .faces import CLOSED, OPEN

CLOSED_BELOW = 1.0  # mm
FALSELY_CLOSED_BELOW = 1.5  # mm
REACH = 0.04  # seconds


def gap_correlation(predicted: np.ndarray, real: np.ndarray) -> float:
    """Pearson correlation of two gaps (T,) in mm, negative values counted as 0."""
    return float(np.corrcoef(np.maximum(predicted, 0), np.maximum(real, 0))[0, 1])


def amplitude(predicted: np.ndarray, real: np.ndarray) -> float:
    """Standard deviation of the predicted gap (T,) over that of the real one."""
    return float(np.maximum(predicted, 0).std() / np.maximum(real, 0).std())


def lip_vertex_error(predicted: np.ndarray, real: np.ndarray) -> float:
    """Mean over frames of the largest distance of a lip vertex, in the unit of the vertices.

    Args:
        predicted, real: (T, n, 3) lip vertices.
    """
    return float(np.linalg.norm(predicted - real, axis=-1).max(-1).mean())


def smallest_gap(gap: np.ndarray, fps: float, start: float, end: float) -> float:
    """Smallest gap (mm) from 40 ms before `start` to 40 ms after `end`, linear between frames."""
    times = np.arange(len(gap)) / fps
    inside = np.arange(start - REACH, end + REACH + 1e-9, 0.005)
    return float(np.interp(inside, times, gap).min())


def closures(gap: np.ndarray, fps: float, phones: Sequence[Phone]) -> list[bool]:
    """For each p, b and m whether the lips close: smallest gap under 1 mm."""
    return [
        smallest_gap(gap, fps, start, end) < CLOSED_BELOW
        for phone, start, end in phones
        if phone in CLOSED
    ]


def false_closures(gap: np.ndarray, fps: float, phones: Sequence[Phone]) -> list[bool]:
    """For each open vowel whether the lips are closed at its middle: gap under 1.5 mm."""
    times = np.arange(len(gap)) / fps
    return [
        bool(np.interp((start + end) / 2, times, gap) < FALSELY_CLOSED_BELOW)
        for phone, start, end in phones
        if phone in OPEN
    ]


def gap_in_pauses(
    gap: np.ndarray, fps: float, phones: Sequence[Phone], least: float = 0.3
) -> np.ndarray:
    """Gaps (n,) of all frames in silences longer than `least` seconds, negative ones as 0."""
    times = np.arange(len(gap)) / fps
    inside = np.zeros(len(gap), bool)
    for phone, start, end in phones:
        if phone == "SIL" and end - start > least:
            inside |= (times >= start) & (times < end)
    return np.maximum(gap[inside], 0)


def jitter(gap: np.ndarray, fps: float) -> float:
    """Mean absolute change of the gap (T,) per 1/60 s, mm."""
    times = np.arange(0, (len(gap) - 1) / fps, 1 / 60)
    return float(np.abs(np.diff(np.interp(times, np.arange(len(gap)) / fps, gap))).mean())
