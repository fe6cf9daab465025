"""Products of matrices where numpy has no BLAS, as in Blender: the same ones."""

from __future__ import annotations

import numpy as np
import pytest

from selftalk_blender.animator.audio import read_sound
from selftalk_blender.core import bundled_template
from selftalk_blender.core.template import ASSETS
from selftalk_blender.runtime import product
from selftalk_blender.runtime.animate import Animator


@pytest.fixture
def no_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "blas", lambda: False)
    monkeypatch.setattr(product, "THREADS", 3)


@pytest.mark.parametrize(
    ("left", "right"), [((7, 5), (5, 3)), ((200, 30), (30, 40)), ((2, 3, 9, 4), (2, 3, 4, 6))]
)
def test_products_are_numpys_own(no_blas, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in (left, right))
    turned = np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2)
    for each in (b, turned):
        np.testing.assert_allclose(product.product(a, each), a @ b, atol=1e-5)


@pytest.mark.parametrize(("told", "threads"), [("", 6), ("2", 2), ("99", 8), ("0", 6), ("4,2", 6)])
def test_as_many_threads_as_a_bake_leaves_each_job(monkeypatch, told: str, threads: int) -> None:
    monkeypatch.setattr(product.os, "cpu_count", lambda: 6)
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert product._threads() == threads


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_parts_come_back_in_order(no_blas, rows: int) -> None:
    first, second = np.arange(rows)[:, None], np.arange(rows * 2).reshape(rows, 2)
    calls = []

    def add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        calls.append(len(a))
        return a + b

    np.testing.assert_array_equal(product.in_parts(add, first, second), first + second)
    assert len(calls) == min(rows, 3) and max(calls) - min(calls) <= 1


def test_an_error_in_a_thread_is_one_of_the_whole(no_blas) -> None:
    def fail(part: np.ndarray) -> np.ndarray:
        if part[-1] == 99:
            raise MemoryError
        return part

    with pytest.raises(MemoryError):
        product.in_parts(fail, np.arange(100))


def test_speech_moves_the_lips_alike_without_blas(no_blas, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = read_sound(ASSETS / "sample.ogg")
    animator = Animator()
    without = animator.animate(sound).weights
    monkeypatch.undo()
    monkeypatch.setattr(product, "blas", lambda: True)
    lips = bundled_template().shape_deltas[:, bundled_template().regions["lips"]] * 1000
    apart = np.tensordot(without - animator.animate(sound).weights, lips, 1)
    assert np.linalg.norm(apart, axis=-1).max() < 0.001
