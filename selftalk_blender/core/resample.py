"""Another sample rate, by a windowed sinc: sound piece by piece, in numpy alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from .frontend import SAMPLE_RATE

# What lies above the lower rate's Nyquist frequency is 100 dB down; up to PASS of it, nothing is.
STOP_BAND = 100.0  # dB
PASS = 0.91
TOGETHER = 64  # outputs that share a matrix
# Rates up to EXACT are met exactly, whatever they are; a higher one that is no round number is
# taken for one close by, at most 2e-5 off.
EXACT = 96000  # Hz
MOST_PHASES = 4000  # outputs until the same phase comes again, beyond EXACT


def resampled(chunks: Iterator[np.ndarray], rate: float) -> Iterator[np.ndarray]:
    """(n,) float32 chunks of any length at `rate` -> the same sound at SAMPLE_RATE.

    N samples become ceil(N * SAMPLE_RATE / rate); the first ones of both are at the same time.
    """
    if rate == SAMPLE_RATE:
        yield from chunks
        return
    reach, period, outputs, matrices = _filter(Fraction(rate) / SAMPLE_RATE)
    buffer = np.zeros(reach, np.float32)
    taken = given = 0

    def emit(count: int) -> np.ndarray:
        """(count * outputs,) float32 of as many whole periods."""
        nonlocal buffer
        result = np.empty((count, outputs), np.float32)
        for begin, first, matrix in matrices:
            near = np.lib.stride_tricks.sliding_window_view(buffer[first:], len(matrix))
            # Not `@`, which is slow where numpy has no BLAS, as in Blender.
            result[:, begin : begin + matrix.shape[1]] = np.einsum(
                "ij,jk->ik", np.ascontiguousarray(near[::period][:count]), matrix
            )
        buffer = buffer[count * period :]
        return result.reshape(-1)

    for chunk in chunks:
        taken += len(chunk)
        buffer = np.concatenate([buffer, chunk])
        count = (len(buffer) - 2 * reach) // period
        if count > 0:
            given += count * outputs
            yield emit(count)
    left = math.ceil(taken * SAMPLE_RATE / Fraction(rate)) - given
    if left > 0:
        count = -(-left // outputs)
        missing = count * period + 2 * reach - len(buffer)
        buffer = np.concatenate([buffer, np.zeros(max(missing, 0), np.float32)])
        yield emit(count)[:left]


@functools.lru_cache(maxsize=4)
def _filter(step: Fraction) -> tuple[int, int, int, list[tuple[int, int, np.ndarray]]]:
    """The filter that steps through the samples by `step` of them per output.

    Kaiser's window (Kaiser 1974; Oppenheim and Schafer, Discrete-Time Signal Processing, 7.5.3).

    Returns:
        How many samples it reaches to each side of an output; samples and outputs of a period;
        and, for each few of these outputs, where they begin, where the samples begin that they are
        made of (`reach` before the period's first one is 0), and (samples, outputs) factors.
    """
    if step > EXACT / SAMPLE_RATE:
        step = step.limit_denominator(MOST_PHASES)
    nyquist = 0.5 / max(1.0, float(step))  # of the lower rate, cycles per sample
    width = 2 * math.pi * (1 - PASS) * nyquist
    half = (STOP_BAND - 7.95) / (2.285 * width) / 2  # samples
    cutoff = nyquist * (1 + PASS) / 2
    reach = math.ceil(half) + 1
    whole = max(TOGETHER // step.denominator, 1)
    period, outputs = step.numerator * whole, step.denominator * whole
    matrices = []
    for begin in range(0, outputs, TOGETHER):
        places = [float(step * i) for i in range(begin, min(begin + TOGETHER, outputs))]
        first = math.floor(places[0] - half)
        samples = np.arange(first, math.ceil(places[-1] + half) + 1)
        distance = samples[:, None] - np.array(places)
        window = np.i0(
            0.1102 * (STOP_BAND - 8.7) * np.sqrt(np.maximum(1 - np.square(distance / half), 0.0))
        )
        factors = np.sinc(2 * cutoff * distance) * np.where(np.abs(distance) < half, window, 0.0)
        factors /= factors.sum(0)  # what does not move keeps its level
        matrices.append((begin, first + reach, np.ascontiguousarray(factors, np.float32)))
    return reach, period, outputs, matrices
