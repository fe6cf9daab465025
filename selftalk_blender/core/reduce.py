"""Many keys to few: curves that an animator can edit by hand, within an error of the geometry.

A curve is a chain of cubics with one slope at each key, as Blender draws it where both handles
are a third of the way to the next key (then frames are linear in the cubic's parameter, and the
curve is a Hermite spline in time). Keys are chosen from the frames, so that the curve is exact in
each; slopes fit the frames between (least squares, after Schneider, "An algorithm for
automatically fitting digitized curves", Graphics Gems, 1990). As in the same place, and in Douglas
and Peucker, "Algorithms for the reduction of the number of points required to represent a
digitized line", Cartographica 10, 1973, a key is added where the error is worst until none is too
large; but the error is that of the farthest vertex of the face under all curves together.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from .steps import at_last

# How much the slope of the frames themselves counts, against one frame's error: keys beside each
# other leave no frame between that would tell.
SLOPE_WEIGHT = 0.01
CHUNK = 500_000  # numbers of geometry looked at together


@dataclass(frozen=True, eq=False)
class Keys:
    """One curve by its keys.

    Attributes:
        frames: (n,) int, increasing, from 0.
        values: (n,) at the keys.
        slopes: (n,) change of value per frame at the keys.
    """

    frames: np.ndarray
    values: np.ndarray
    slopes: np.ndarray

    def at(self, frames: np.ndarray) -> np.ndarray:
        """The curve at any frames, held before the first key and after the last."""
        frames = np.clip(np.asarray(frames, np.float64), self.frames[0], self.frames[-1])
        if len(self.frames) == 1:
            return np.full(frames.shape, self.values[0])
        left = np.searchsorted(self.frames, frames, "right") - 1
        left = np.minimum(left, len(self.frames) - 2)
        span = np.diff(self.frames)[left]
        rise, lead, trail, fall = _hermite((frames - self.frames[left]) / span)
        return (
            fall * self.values[left]
            + rise * self.values[left + 1]
            + span * (lead * self.slopes[left] + trail * self.slopes[left + 1])
        )

    def handles(self) -> tuple[np.ndarray, np.ndarray]:
        """Bezier handles left and right of each key, (n, 2) each: frame, value."""
        gaps = np.diff(self.frames) / 3.0
        if not len(gaps):
            gaps = np.ones(1)
        points = np.stack([self.frames, self.values], 1).astype(np.float64)
        step = np.stack([np.ones(len(points)), self.slopes], 1)
        before, after = (np.r_[gaps[:1], gaps], np.r_[gaps, gaps[-1:]])
        before, after = before[: len(points), None], after[: len(points), None]
        return points - before * step, points + after * step


@dataclass(frozen=True, eq=False)
class Reduced:
    """What became of some curves.

    Attributes:
        curves: in their order.
        before, after: the number of keys.
        error_mm: by how much the farthest vertex is off in the worst frame.
    """

    curves: tuple[Keys, ...]
    before: int
    after: int
    error_mm: float


def reduce_keys(values: np.ndarray, deltas: np.ndarray, error_mm: float | np.ndarray) -> Reduced:
    """As `reducing`, at once."""
    return at_last(reducing(values, deltas, error_mm))


def reducing(
    values: np.ndarray, deltas: np.ndarray, error_mm: float | np.ndarray
) -> Generator[None, None, Reduced]:
    """Few keys for curves that move a face together; yields after each small piece of work.

    A curve's ends become keys, and its extremes do, with level handles, where it turns by more
    than what may be off.

    Args:
        values: (T, C), one row a frame.
        deltas: (C, V, 3) by how many mm each vertex moves for 1 of each curve.
        error_mm: how far any vertex may be off in any frame; (T,) for each frame on its own.

    Raises:
        ValueError: an error that is not positive, values that are not finite, or no frames.
    """
    values = np.ascontiguousarray(values, np.float64)
    count, curves = values.shape
    allowed = np.broadcast_to(np.asarray(error_mm, np.float64), (count,))
    if not (count and np.isfinite(values).all() and np.isfinite(deltas).all()):
        raise ValueError("there are no frames, or numbers that are not finite")
    if not (allowed > 0).all():
        raise ValueError(f"the allowed error is {allowed.min(initial=np.inf)} mm")
    if not curves:
        return Reduced((), 0, 0, 0.0)
    if count < 3:
        slope = values[-1:] - values[:1]
        keys = tuple(
            Keys(np.arange(count), column, np.repeat(step, count))
            for column, step in zip(values.T, slope.T, strict=True)
        )
        return Reduced(keys, values.size, values.size, 0.0)
    moved = np.linalg.norm(deltas, axis=2)  # (C, V)
    peak = moved.max(1, initial=0.0)
    own = allowed.max() / np.maximum(peak, 1e-9)  # (C,) in the curve's unit
    chain = _Chain(values)
    for curve, column in enumerate(values.T):
        chain.add_extremes(curve, turning_points(column, own[curve]))
    # Each curve by itself, cheaply; then all together, on the vertices that turn out to matter.
    limit = allowed[None] / np.maximum(peak, 1e-9)[:, None]  # (C, T)
    while chain.split(np.abs(chain.error()) > limit):
        yield
    watched = np.unique(moved.argmax(1))
    while True:
        while chain.split_worst(deltas[:, watched], allowed):
            yield
        error = chain.error()
        yield
        far, vertex = yield from _looking(error, deltas)
        if (far <= allowed).all():
            break
        watched = np.union1d(watched, vertex[far > allowed])
    keys = chain.curves()
    return Reduced(keys, values.size, sum(len(k.frames) for k in keys), float(far.max()))


def turning_points(values: np.ndarray, least: float) -> np.ndarray:
    """Frames of the extremes of (T,) between which it changes by more than `least`.

    The first and last frame are none of them.
    """
    found: list[int] = []
    low = high = 0
    rising: bool | None = None
    for frame, value in enumerate(values.tolist()):
        if value > values[high]:
            high = frame
        if value < values[low]:
            low = frame
        if rising is not False and values[high] - value > least:
            found.append(high)
            rising, low, high = False, frame, frame
        elif rising is not True and value - values[low] > least:
            found.append(low)
            rising, low, high = True, frame, frame
        # While one side is sought, the other starts anew from here.
        if rising is True:
            low = frame
        elif rising is False:
            high = frame
    return np.array([frame for frame in found if 0 < frame < len(values) - 1], np.int64)


def _hermite(u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The cubic Hermite basis at u in 0..1: value at 1, slope at 0, slope at 1, value at 0."""
    rise = u * u * (3 - 2 * u)
    return rise, u * (1 - u) ** 2, u * u * (u - 1), 1 - rise


def _farthest(error: np.ndarray, deltas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The farthest vertex in each frame: how far, (T,) mm, and which, (T,).

    Args:
        error: (C, T) of the curves.
        deltas: (C, V, 3) mm.
    """
    return at_last(_looking(error, deltas))


def _looking(
    error: np.ndarray, deltas: np.ndarray
) -> Generator[None, None, tuple[np.ndarray, np.ndarray]]:
    """As `_farthest`, bit by bit."""
    flat = deltas.reshape(len(deltas), -1).astype(np.float32, copy=False)
    far, vertex = np.empty(error.shape[1]), np.empty(error.shape[1], np.int64)
    step = max(1, CHUNK // max(flat.shape[1], 1))
    for start in range(0, len(far), step):
        part = slice(start, start + step)
        off = (error[:, part].T.astype(np.float32) @ flat).reshape(-1, deltas.shape[1], 3)
        distance = np.sqrt(np.einsum("tvx,tvx->tv", off, off))
        vertex[part] = distance.argmax(1)
        far[part] = distance.max(1)
        yield
    return far, vertex


class _Chain:
    """All curves one behind the other, as one series, with the keys chosen so far."""

    def __init__(self, values: np.ndarray) -> None:
        self.count, self.number = values.shape
        self.values = values.T.ravel()  # (C * T,)
        self.trend = np.gradient(values, axis=0).T.ravel()  # slope of the frames
        self.is_key = np.zeros(values.size, bool)
        self.is_flat = np.zeros(values.size, bool)
        ends = np.arange(self.number)[:, None] * self.count + (0, self.count - 1)
        self.is_key[ends] = True
        low, high = (np.repeat(f(values.T, axis=1), self.count) for f in (np.min, np.max))
        self.low, self.high = low, high
        # A curve that does not move is level.
        self.is_flat[ends.ravel()] = (low == high)[ends.ravel()]
        self.fitted: np.ndarray | None = None
        self.slopes = np.zeros(0)

    def add_extremes(self, curve: int, frames: np.ndarray) -> None:
        self.is_key[curve * self.count + frames] = True
        self.is_flat[curve * self.count + frames] = True
        self.fitted = None

    def error(self) -> np.ndarray:
        """(C, T) of the curves through the keys."""
        if self.fitted is None:
            self._fit()
        assert self.fitted is not None
        return (self.fitted - self.values).reshape(self.number, self.count)

    def split(self, wrong: np.ndarray) -> bool:
        """Add a key in each piece with a wrong frame, (C, T) bool, where its error is worst."""
        error = np.where(wrong, np.abs(self.error()), 0.0).ravel()
        keys = np.flatnonzero(self.is_key)
        worst = np.maximum.reduceat(error, keys)
        pieces = np.flatnonzero(worst > 0)
        for piece in pieces:
            end = keys[piece + 1]
            self._add(keys[piece] + int(error[keys[piece] : end].argmax()))
        return bool(len(pieces))

    def split_worst(self, deltas: np.ndarray, allowed: np.ndarray) -> bool:
        """Where vertices are too far off, give the curve that moves them most a key.

        One key for each stretch of such frames, where it is worst.

        Args:
            deltas: (C, n, 3) of the vertices that are looked at.
            allowed: (T,) mm.
        """
        error = self.error()
        far, vertex = _farthest(error, deltas)
        excess = far / allowed
        wrong = excess > 1.0
        edges = np.flatnonzero(np.diff(wrong, prepend=False, append=False))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            frame = start + int(excess[start:end].argmax())
            moved = error[:, frame, None] * deltas[:, vertex[frame]]  # (C, 3)
            curve = int((moved @ moved.sum(0)).argmax())
            # Beside the frame the curve itself may be off more; and there a key does more.
            near = slice(max(start - 1, 0), min(end + 1, self.count))
            here = np.abs(error[curve, near])
            index = curve * self.count + near.start + int(here.argmax())
            if not self.is_key[index]:  # the stretch before may have chosen it
                self._add(index)
        return bool(len(edges))

    def curves(self) -> tuple[Keys, ...]:
        keys = np.flatnonzero(self.is_key)
        found = []
        for curve in range(self.number):
            own = keys // self.count == curve
            index = keys[own]
            frames, values, slopes = index % self.count, self.values[index], self.slopes[own]
            if len(index) == 2 and not (np.diff(values).any() or slopes.any()):
                frames, values, slopes = frames[:1], values[:1], slopes[:1]  # it stands still
            found.append(Keys(frames, values, slopes))
        return tuple(found)

    def _add(self, index: int) -> None:
        assert not self.is_key[index]
        self.is_key[index] = True
        self.fitted = None

    def _fit(self) -> None:
        """The slopes at the keys that fit the frames between, and the curve at each frame."""
        keys = np.flatnonzero(self.is_key)
        piece = np.cumsum(self.is_key) - 1  # of each frame: the key before or at it
        start = keys[piece]
        span = np.diff(keys, append=keys[-1] + 1)[piece].astype(np.float64)
        u = (np.arange(len(self.values)) - start) / span
        next_key = np.minimum(piece + 1, len(keys) - 1)
        rise, lead, trail, fall = _hermite(u)
        base = fall * self.values[start] + rise * self.values[keys[next_key]]
        lead, trail = lead * span, trail * span
        rest = self.values - base
        # Normal equations, one row a key: each piece ties a key to the next alone.
        n = len(keys)

        def at_keys(here: np.ndarray, there: np.ndarray) -> np.ndarray:
            """Each piece's sums at its two keys."""
            return np.bincount(piece, here, n) + np.bincount(next_key, there, n)

        diagonal = np.asarray(at_keys(lead * lead, trail * trail) + SLOPE_WEIGHT)
        right = np.asarray(at_keys(lead * rest, trail * rest) + SLOPE_WEIGHT * self.trend[keys])
        beside = np.bincount(piece, lead * trail, n)
        flat = self.is_flat[keys]
        diagonal[flat], right[flat] = 1.0, 0.0
        to_next = np.where(flat, 0.0, beside)
        from_previous = np.where(np.roll(flat, -1), 0.0, beside)
        slopes = _tridiagonal(from_previous, diagonal, to_next, right)
        # Handles stay within the curve's own range, so that no weight leaves 0..1.
        first, last = keys % self.count == 0, keys % self.count == self.count - 1
        gap = np.diff(keys, append=keys[-1] + 1) / 3.0
        up, down = self.high[keys] - self.values[keys], self.values[keys] - self.low[keys]
        # Behind its last key a curve is held, and so it is before its first.
        after, before = np.where(last, 0.0, gap), np.where(first, 0.0, np.roll(gap, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            rising = np.fmin(up / after, down / before)
            falling = np.fmin(down / after, up / before)
        slopes = np.clip(slopes, -falling, rising)
        self.slopes = slopes
        self.fitted = base + lead * slopes[piece] + trail * slopes[next_key]


def _tridiagonal(
    down: np.ndarray, diagonal: np.ndarray, up: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """Solves for x: down[i-1] x[i-1] + diagonal[i] x[i] + up[i] x[i+1] = right[i] (Thomas)."""
    below, middle, above, result = (a.tolist() for a in (down, diagonal, up, right))
    for i in range(1, len(middle)):
        factor = below[i - 1] / middle[i - 1]
        middle[i] -= factor * above[i - 1]
        result[i] -= factor * result[i - 1]
    result[-1] /= middle[-1]
    for i in range(len(middle) - 2, -1, -1):
        result[i] = (result[i] - above[i] * result[i + 1]) / middle[i]
    return np.array(result)
