"""Products of matrices where numpy has no BLAS, as in Blender: the same ones."""

from __future__ import annotations

import numpy as np
import pytest

from selftalk_blender.core import bundled_template
from selftalk_blender.runtime import product
from selftalk_blender.runtime.animate import Animator


@pytest.fixture
def no_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "blas", lambda: False)
    monkeypatch.setattr(product, "THREADS", 3)
    monkeypatch.setattr(product, "WORTHWHILE", 1000)


@pytest.mark.parametrize(
    ("left", "right"), [((7, 5), (5, 3)), ((200, 30), (30, 40)), ((2, 3, 9, 4), (2, 3, 4, 6))]
)
def test_products_are_numpys_own(no_blas, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in (left, right))
    turned = np.ascontiguousarray(b.swapaxes(-1, -2)).swapaxes(-1, -2)
    for each in (b, turned):
        np.testing.assert_allclose(product.product(a, each), a @ b, atol=1e-5)


def test_the_motion_is_the_same_without_blas(no_blas, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = (np.random.default_rng(0).standard_normal(32000) * 0.05).astype(np.float32)
    animator = Animator()
    without = animator.animate(sound).weights
    monkeypatch.undo()
    lips = bundled_template().shape_deltas[:, bundled_template().regions["lips"]] * 1000
    apart = np.tensordot(without - animator.animate(sound).weights, lips, 1)
    assert np.linalg.norm(apart, axis=-1).max() < 0.01
