"""Products of matrices, also where numpy was built without a BLAS, as Blender's own is.

There `@` is 10 to 30 times slower than `einsum`, whose inner loop is vectorised, and which leaves
the other cores to other threads. That loop adds a multiple of a row of `right` to a row of the
result, so it is the faster the longer these rows are: 13 thousand million operations per second of
a core at 64 numbers, 19 at 256, 23 at 2048 (numpy 1.26, 2.4). Strassen's seven products of halves
in place of eight were worth nothing: their rows are shorter.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def _threads() -> int:
    """One for each core, or as OMP_NUM_THREADS says: by it a bake shares the cores out."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(told) if told.isdigit() and int(told) else os.cpu_count() or 1, 8)


THREADS = _threads()
TRIAL = 192  # rows and columns of the product by which the faster way is found


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(..., M, K) @ (..., K, N) -> (..., M, N), float32; leading axes are the same or none."""
    if blas():
        return left @ right
    right = np.ascontiguousarray(right)
    result = np.empty((*left.shape[:-1], right.shape[-1]), np.float32)
    for place in np.ndindex(left.shape[:-2]):  # einsum's own loop over them is slow in numpy 1.26
        _summed(left[place], right[place], result[place])
    return result


def in_parts(function: Callable[..., np.ndarray], *arrays: np.ndarray) -> np.ndarray:
    """What a function makes of some arrays, each thread of some of their rows.

    A BLAS has threads of its own: there the function is called once. The more a thread does in a
    row the better: the others run while it is in numpy's loops, and wait while it is in Python.

    Args:
        function: n rows of each array -> n rows, each of which depends on no other.
        arrays: of as many rows (frames, heads or blocks of frames) each.
    """
    rows = len(arrays[0])
    count = 1 if blas() else min(THREADS, rows)
    if count == 1:
        return function(*arrays)
    edges = [rows * i // count for i in range(count + 1)]
    own, *others = (
        [array[first:last] for array in arrays]
        for first, last in zip(edges[:-1], edges[1:], strict=True)
    )
    running = [_pool().submit(function, *part) for part in others]
    return np.concatenate([function(*own), *(part.result() for part in running)])


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


def _summed(left: np.ndarray, right: np.ndarray, result: np.ndarray) -> None:
    np.einsum("ij,jk->ik", left, right, out=result)


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="SelfTalk product")
