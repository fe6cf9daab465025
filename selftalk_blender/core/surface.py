"""Plain geometry of triangle meshes: normals, loose parts, nearest points."""

from __future__ import annotations

import numpy as np

CHUNK = 4_000_000  # numbers in one table of distances: some milliseconds


def triangulate(corners: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(T, 3) triangles of polygons, each a fan from its first corner.

    Args:
        corners: (C,) vertex indices of all polygons, one after the other.
        sizes: (P,) corners of each polygon.
    """
    ends = np.cumsum(sizes)
    fans = np.maximum(sizes - 2, 0)
    polygon = np.repeat(np.arange(len(sizes)), fans)
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(fans) - fans, fans)
    first = (ends - sizes)[polygon]
    return np.stack(
        [corners[first], corners[first + step + 1], corners[first + step + 2]], 1
    ).astype(np.int64)


def edge_numbers(edges: np.ndarray, count: int) -> np.ndarray:
    """(E,) int64, a number for each edge (E, 2) of a mesh of `count` vertices, the same from either
    end: n * count + m of its vertices n <= m."""
    ends = np.asarray(edges, np.int64)
    return np.asarray(ends.min(1) * count + ends.max(1))


def edges_of(triangles: np.ndarray) -> np.ndarray:
    """(E, 2) edges of triangles (T, 3), each once, smaller index first."""
    pairs = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    size = int(triangles.max(initial=0)) + 1
    keys = np.unique(edge_numbers(pairs, size))
    return np.stack([keys // size, keys % size], 1)


def border_of(triangles: np.ndarray) -> np.ndarray:
    """Indices of the vertices on open edges of triangles (T, 3)."""
    pairs = triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    size = int(triangles.max(initial=0)) + 1
    keys, count = np.unique(edge_numbers(pairs, size), return_counts=True)
    once = keys[count == 1]
    return np.unique(np.concatenate([once // size, once % size]))


def normals_of(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals of vertices, triangles counted by area; 0 where there are none."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    cross = np.cross(b - a, c - a)
    corners = triangles.T.ravel()
    normals = np.stack(
        [np.bincount(corners, np.tile(cross[:, axis], 3), len(vertices)) for axis in range(3)], 1
    )
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return normals / np.where(length == 0, 1.0, length)


def weld_borders(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V,) for each vertex the one that stands for it: itself, or one in its place.

    Files of games and halves that were mirrored split the surface along seams. Vertices on open
    edges alone are joined, so that lips that touch stay apart.
    """
    stands = np.arange(len(vertices))
    border = border_of(triangles)
    if not len(border):
        return stands
    size = np.ptp(vertices[triangles].reshape(-1, 3), axis=0).max()
    grid = np.round((vertices[border] - vertices[border].min(0)) / (size * 1e-6 + 1e-30))
    _, first, which = np.unique(grid, axis=0, return_index=True, return_inverse=True)
    stands[border] = border[first[which.ravel()]]
    return stands


def islands_of(count: int, edges: np.ndarray) -> np.ndarray:
    """(count,) number of the loose part that each vertex is in, 0, 1, ... by smallest vertex.

    Labels fall along edges (E, 2) to the smallest one, with jumps (Shiloach and Vishkin 1982).
    """
    label = np.arange(count)
    while True:
        low = np.minimum(label[edges[:, 0]], label[edges[:, 1]])
        lowered = label.copy()
        np.minimum.at(lowered, label[edges[:, 0]], low)
        np.minimum.at(lowered, label[edges[:, 1]], low)
        lowered = lowered[lowered]
        lowered = lowered[lowered]
        if np.array_equal(lowered, label):
            return np.unique(label, return_inverse=True)[1].ravel()
        label = lowered


def nearest(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,) index of the point (m, d) nearest to each query (n, d).

    Every pair is compared, by matrix product: on the sizes of faces that is fast enough.
    """
    middle = points.mean(0)
    there = np.ascontiguousarray((points - middle).T, dtype=np.float32)
    half = (there**2).sum(0) / 2
    rows = max(CHUNK // max(len(points), 1), 1)
    found = np.empty(len(queries), np.int64)
    for first in range(0, len(queries), rows):
        here = (queries[first : first + rows] - middle).astype(np.float32)
        found[first : first + rows] = (half - here @ there).argmin(1)
    return found


def barycentric(
    points: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest points on triangles: (n, 3) their barycentric weights, (n,) squared distances.

    All arguments (n, 3). By Voronoi regions (Ericson, Real-Time Collision Detection, 5.1.5):
    inside, or the best of the three edges.
    """
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = (np.einsum("ij,ij->i", *pair) for pair in ((ab, ab), (ab, ac), (ac, ac)))
    d20, d21 = np.einsum("ij,ij->i", ap, ab), np.einsum("ij,ij->i", ap, ac)
    area = d00 * d11 - d01 * d01
    area = np.where(area == 0, 1.0, area)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    inside = (v >= 0) & (w >= 0) & (v + w <= 1)
    weights = np.stack([1 - v - w, v, w], 1)
    best = np.where(inside, 0.0, np.inf)
    for start, end, corners in ((a, b, (0, 1)), (b, c, (1, 2)), (c, a, (2, 0))):
        along = end - start
        length = np.einsum("ij,ij->i", along, along)
        share = np.einsum("ij,ij->i", points - start, along) / np.where(length == 0, 1.0, length)
        share = np.clip(share, 0.0, 1.0)
        apart = ((start + share[:, None] * along - points) ** 2).sum(1)
        better = ~inside & (apart < best)
        best[better] = apart[better]
        weights[better] = 0.0
        weights[better, corners[0]] = 1 - share[better]
        weights[better, corners[1]] = share[better]
    place = weights[:, :1] * a + weights[:, 1:2] * b + weights[:, 2:] * c
    return weights, ((place - points) ** 2).sum(1)
