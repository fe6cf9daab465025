"""Products of matrices, also where numpy was built without a BLAS, as Blender's own is.

There `@` is 10 to 30 times slower than `einsum`, whose inner loop is vectorised, and which leaves
the other cores to other threads.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

THREADS = min(os.cpu_count() or 1, 8)
WORTHWHILE = 1 << 22  # multiplications from which on a product is shared among threads
TRIAL = 192  # rows and columns of the product by which the faster way is found


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(..., M, K) @ (..., K, N) -> (..., M, N), float32; leading axes are the same or none."""
    if blas():
        return left @ right
    right = np.ascontiguousarray(right)
    result = np.empty((*left.shape[:-1], right.shape[-1]), np.float32)
    if right.ndim == 2:
        _rows(left, right, result)
    else:
        for place in np.ndindex(left.shape[:-2]):
            _summed(left[place], right[place], result[place])
    return result


@functools.cache
def blas() -> bool:
    """Whether numpy's own product is the faster one; tried once."""
    matrix = np.random.default_rng(0).random((TRIAL, TRIAL), np.float32)
    result = np.empty_like(matrix)

    def best(multiply: Callable[[], object]) -> float:
        times = []
        for _ in range(4):
            begun = time.perf_counter()
            multiply()
            times.append(time.perf_counter() - begun)
        return min(times)

    # With a BLAS it takes a fifth of the other's time, without one ten times as much.
    return best(lambda: matrix @ matrix) < 1.5 * best(lambda: _summed(matrix, matrix, result))


def _rows(left: np.ndarray, right: np.ndarray, result: np.ndarray) -> None:
    """Each thread does some rows."""
    rows, width = right.shape
    if len(left) * rows * width < WORTHWHILE or THREADS == 1:
        _summed(left, right, result)
        return
    share = -(-len(left) // THREADS)
    begins = range(0, len(left), share)
    parts = [(left[i : i + share], right, result[i : i + share]) for i in begins]
    for done in [_pool().submit(_summed, *part) for part in parts]:
        done.result()


def _summed(left: np.ndarray, right: np.ndarray, result: np.ndarray) -> None:
    np.einsum("ij,jk->ik", left, right, out=result)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="SelfTalk product")
