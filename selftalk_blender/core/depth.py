"""A mesh as seen from one side: which triangle each pixel shows, and how near it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TABLE = 2_000_000  # pixels looked at in one go


@dataclass(frozen=True, eq=False)
class DepthMap:
    """What is seen, without perspective, looking along +Y (a face that looks along -Y).

    Attributes:
        near: (H, W) how far each pixel's surface is forward, metres (-Y); -inf where nothing is.
        triangle: (H, W) the triangle that is seen, or -1.
        left, top, pixel: x of the left edge, z of the upper edge, size of a pixel, metres.
    """

    near: np.ndarray
    triangle: np.ndarray
    left: float
    top: float
    pixel: float

    def column(self, x: float) -> int:
        return min(max(int((x - self.left) / self.pixel), 0), self.near.shape[1] - 1)

    def row(self, z: float) -> int:
        return min(max(int((self.top - z) / self.pixel), 0), self.near.shape[0] - 1)

    def point(self, row: float, column: float) -> np.ndarray:
        """(3,) the place that a pixel shows."""
        near = self.near[int(row), int(column)]
        x, z = self.left + (column + 0.5) * self.pixel, self.top - (row + 0.5) * self.pixel
        return np.array([x, -near, z])


def depth_map(
    vertices: np.ndarray,
    triangles: np.ndarray,
    low: tuple[float, float],
    high: tuple[float, float],
    pixel: float,
) -> DepthMap:
    """Draw triangles (T, 3) of vertices (V, 3) between `low` and `high`, (x, z) in metres.

    All triangles of about one size are drawn at once, each as the square of pixels around it.
    """
    width, height = (int((b - a) / pixel) for a, b in zip(low, high, strict=True))
    flat = np.stack([(vertices[:, 0] - low[0]) / pixel, (high[1] - vertices[:, 2]) / pixel], 1)
    forward = -vertices[:, 1]
    corners = flat[triangles]  # (T, 3, 2)
    first = np.floor(corners.min(1) - 0.5).astype(np.int64)
    last = np.ceil(corners.max(1) - 0.5).astype(np.int64)
    seen = (last >= 0).all(1) & (first < [width, height]).all(1)
    extent = (last - first).max(1) + 1
    near = np.full(width * height, -np.inf)
    shown = np.full(width * height, -1, np.int64)
    size = 2
    while seen.any():
        chosen = np.flatnonzero(seen & (extent <= size))
        seen[chosen] = False
        offsets = np.stack(np.meshgrid(np.arange(size), np.arange(size)), -1).reshape(-1, 2)
        for begin in range(0, len(chosen), max(TABLE // size**2, 1)):
            some = chosen[begin : begin + max(TABLE // size**2, 1)]
            pixels = first[some][:, None] + offsets
            a, b, c = np.moveaxis(corners[some], 1, 0)
            ab, ac = b - a, c - a
            turn = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
            turn = np.where(turn == 0, np.inf, turn)[:, None]
            x, y = np.moveaxis(pixels + 0.5 - a[:, None], 2, 0)
            v = (x * ac[:, 1:] - y * ac[:, :1]) / turn
            w = (y * ab[:, :1] - x * ab[:, 1:]) / turn
            inside = (v >= 0) & (w >= 0) & (v + w <= 1) & np.isfinite(turn)
            inside &= (pixels >= 0).all(2) & (pixels < [width, height]).all(2)
            p, q, r = forward[triangles[some]].T[:, :, None]
            depth = (p * (1 - v - w) + q * v + r * w)[inside]
            place = (pixels[..., 1] * width + pixels[..., 0])[inside]
            which = some[np.nonzero(inside)[0]]
            order = np.argsort(depth, kind="stable")  # the nearest is written last
            nearest = np.full(width * height, -np.inf)
            nearest[place[order]] = depth[order]
            owner = np.full(width * height, -1, np.int64)
            owner[place[order]] = which[order]
            closer = nearest > near
            near[closer], shown[closer] = nearest[closer], owner[closer]
        size *= 2
    shape = height, width
    return DepthMap(near.reshape(shape), shown.reshape(shape), low[0], high[1], pixel)
