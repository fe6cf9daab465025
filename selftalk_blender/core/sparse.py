"""Sparse linear systems of meshes, in numpy alone."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np


class Sparse:
    """A square matrix of few entries, kept for products with many columns at once.

    Rows are sorted by how many entries they have; then the j-th entries of all rows that have so
    many are one slice (jagged diagonals: Saad, Krylov subspace methods on supercomputers, 1989).
    A product is a few numpy calls on whole slices, where a row by row format would be a loop.
    """

    def __init__(
        self, size: int, rows: np.ndarray, columns: np.ndarray, values: np.ndarray
    ) -> None:
        """From coordinates (n,); entries in one place add up."""
        place, which = np.unique(rows.astype(np.int64) * size + columns, return_inverse=True)
        values = np.bincount(which.ravel(), values, len(place))
        rows, columns = place // size, place % size
        counts = np.bincount(rows, minlength=size)
        self.size = size
        self._order = np.argsort(-counts, kind="stable")
        self._back = np.argsort(self._order)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])[self._order]
        counts = counts[self._order]
        self._slices: list[tuple[np.ndarray, np.ndarray]] = []
        for entry in range(int(counts[0]) if size else 0):
            long = np.count_nonzero(counts > entry)
            at = starts[:long] + entry
            self._slices.append((self._back[columns[at]], values[at][:, None]))
        self.diagonal = np.zeros(size)
        on = rows == columns
        self.diagonal[rows[on]] = values[on]

    def __matmul__(self, other: np.ndarray) -> np.ndarray:
        """Product with (size, k)."""
        return self._product(other[self._order])[self._back]

    def _product(self, other: np.ndarray) -> np.ndarray:
        """Product with (size, k) of sorted rows, in sorted rows."""
        result = np.zeros(other.shape, other.dtype)
        for columns, values in self._slices:
            result[: len(columns)] += values.astype(other.dtype, copy=False) * other[columns]
        return result

    def solve(
        self,
        right: np.ndarray,
        start: np.ndarray | None = None,
        tolerance: float = 1e-4,
        most: int = 500,
    ) -> Generator[float, None, np.ndarray]:
        """x of self @ x = right for a symmetric, positive definite matrix.

        Conjugate gradients with the diagonal as preconditioner (Hestenes and Stiefel 1952), each
        column on its own, all at once.

        Args:
            right: (size, k).
            start: (size, k) to begin at; 0 where None.
            tolerance: of the residual, as a share of the right side, in each column.
            most: steps after which to be content.

        Yields:
            The largest residual so far, as a share, after each step.

        Returns:
            (size, k) x.
        """
        right = right[self._order]
        x = np.zeros_like(right) if start is None else start[self._order].astype(right.dtype)
        scale = (1.0 / self.diagonal[self._order])[:, None].astype(right.dtype)
        residual = right - self._product(x) if start is not None else right.copy()
        size = np.einsum("ij,ij->j", right, right)
        size[size == 0] = 1.0
        direction = scale * residual
        energy = np.einsum("ij,ij->j", residual, direction)
        for _ in range(most):
            left = np.sqrt((np.einsum("ij,ij->j", residual, residual) / size).max(initial=0.0))
            if left < tolerance:
                break
            yield float(left)
            product = self._product(direction)
            along = np.einsum("ij,ij->j", direction, product)
            step = energy / np.where(along == 0, 1.0, along)
            x += step * direction
            residual -= step * product
            scaled = scale * residual
            before, energy = energy, np.einsum("ij,ij->j", residual, scaled)
            direction *= energy / np.where(before == 0, 1.0, before)
            direction += scaled
        return x[self._back]
