"""Measures of lip motion as pure functions of arrays.

The gap is the distance along the up axis between the two inner-lip landmarks, in millimetres
(`FaceTemplate.gap_mm`); negative values are pressed lips and count as 0 in means and
correlations. "Ours" marks a measure that was defined for this project.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .corpus import Phone
from .faces import CLOSED, OPEN

CLOSED_BELOW = 1.0  # mm
FALSELY_CLOSED_BELOW = 1.5  # mm
TOUCHING_BELOW = 2.0  # mm, lower lip to upper teeth at f and v
REACH = 0.04  # seconds
LONGEST_LAG = 0.2  # seconds
DTW_BAND = 0.1  # seconds
LONG_PAUSE = 0.3  # seconds
STILL = 1e-6  # a deviation that rounding alone makes, where mm are of the order of 1 to 100
LABIODENTAL = frozenset("F V".split())
ROUNDED = frozenset("UW W".split())
SPREAD = frozenset(["AA"])  # the open vowel that rounded phones are compared with


# -- the gap against a real speaker's ----------------------------------------------------------


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson correlation of two series (T,): no unit; nan where one of them is constant."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if min(one.std(), other.std()) < STILL:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


def gap_correlation(predicted: np.ndarray, real: np.ndarray) -> float:
    """Pearson correlation of two gaps (T,) in mm, negative values counted as 0; nan if constant."""
    return correlation(np.maximum(predicted, 0), np.maximum(real, 0))


def amplitude(predicted: np.ndarray, real: np.ndarray) -> float:
    """Standard deviation of the predicted gap (T,) over that of the real one (ours).

    Negative values count as 0; no unit, 1 is right; nan where the real gap is constant.
    """
    spread = np.maximum(real, 0).std()
    return float(np.maximum(predicted, 0).std() / spread) if spread > STILL else float("nan")


def dtw_distance(
    predicted: np.ndarray, real: np.ndarray, fps: float, band: float = DTW_BAND
) -> float:
    """Dynamic time warping distance of two gaps (T,), mm per frame, negative values as 0.

    min over paths of sum |predicted[i] - real[j]|, divided by T. A path leads from (0, 0) to
    (T-1, T-1) by steps of one frame in i, in j, or in both, and keeps |i - j| within `band`
    seconds. So motion that is right but up to `band` early or late costs little, and a
    constant difference of 1 mm costs 1 mm at most. Source: Sakoe and Chiba, "Dynamic
    programming algorithm optimization for spoken word recognition", 1978, their band; the
    steps are unweighted. Written here because no library that the project needs has it.

    Raises:
        ValueError: the gaps differ in length or are empty.
    """
    if len(predicted) != len(real) or not len(real):
        raise ValueError(f"gaps of {len(predicted)} and {len(real)} frames")
    reach = round(band * fps)
    cost = np.abs(np.maximum(predicted, 0)[:, None] - np.maximum(real, 0)[None])
    total = np.full((len(real) + 1, len(real) + 1), np.inf)  # with a border before frame 0
    total[0, 0] = 0.0
    for i in range(len(real)):
        for j in range(max(0, i - reach), min(len(real), i + reach + 1)):
            before = min(total[i, j], total[i, j + 1], total[i + 1, j])
            total[i + 1, j + 1] = cost[i, j] + before
    return float(total[-1, -1] / len(real))


def timing_offset(predicted: np.ndarray, real: np.ndarray, fps: float) -> float:
    """By how much the predicted gap (T,) is later than the real one, ms; positive = motion late.

    The lag d (within 0.2 s) that makes the Pearson correlation of predicted(t + d) and real(t)
    over their common frames largest; a parabola through the best lag and its two neighbours
    gives parts of a frame. Negative gaps count as 0; nan where a gap is constant. Source:
    cross-correlation peak with parabolic interpolation, a standard estimate of delay (as in
    J. O. Smith, "Spectral Audio Signal Processing", 2011, for peaks of spectra).
    """
    own, other = np.maximum(predicted, 0), np.maximum(real, 0)
    reach = min(round(LONGEST_LAG * fps), len(own) - 2)
    if reach < 1:
        return float("nan")
    lags = np.arange(-reach, reach + 1)
    fits = np.array(
        [
            correlation(own[max(d, 0) : len(own) + min(d, 0)], other[max(-d, 0) : len(own) - d])
            for d in lags
        ]
    )
    if not np.isfinite(fits).any():
        return float("nan")
    best = int(np.nanargmax(fits))
    lag = float(lags[best])
    if 0 < best < len(lags) - 1:
        before, top, after = fits[best - 1 : best + 2]
        bend = before - 2 * top + after
        if np.isfinite(bend) and bend < 0:
            lag += 0.5 * (before - after) / bend
    return 1000.0 * lag / fps


# -- vertices against a real speaker's ---------------------------------------------------------


def lip_vertex_error(predicted: np.ndarray, real: np.ndarray) -> float:
    """Mean over frames of the largest distance of a lip vertex, in the unit of the vertices.

    The plain definition, mean_t max_v |predicted - real|: what "in mm" needs. For the published
    one see `lip_vertex_error_squared`.

    Args:
        predicted, real: (T, n, 3) lip vertices.
    """
    return float(np.linalg.norm(predicted - real, axis=-1).max(-1).mean())


def lip_vertex_error_squared(predicted: np.ndarray, real: np.ndarray) -> float:
    """Mean over frames of the largest *squared* distance of a lip vertex, in unit^2.

    mean_t max_v |predicted - real|^2, as published (MeshTalk, Richard et al. 2021; SelfTalk,
    Peng et al. 2023), by torchmetrics' `lip_vertex_error`.

    Args:
        predicted, real: (T, n, 3) lip vertices.
    """
    import torch
    from torchmetrics.functional.multimodal.lve import lip_vertex_error as squared

    pair = (torch.from_numpy(np.ascontiguousarray(a, np.float64)) for a in (predicted, real))
    return float(squared(*pair, mouth_map=list(range(real.shape[1]))))


def pair_gap(faces: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Mean distance of pairs of vertices, (T,) in the unit of the faces (ours).

    The gap of inner lips where nobody says which axis is up: it is never negative.

    Args:
        faces: (T, V, 3).
        pairs: (2 p,) indices, the two of each pair side by side.
    """
    apart = faces[:, pairs[::2]] - faces[:, pairs[1::2]]  # (T, p, 3)
    return np.linalg.norm(apart, axis=-1).mean(-1)


def vertex_error(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Mean over frames of each vertex's distance, (V,) in the unit of the vertices (T, V, 3)."""
    return np.linalg.norm(predicted - real, axis=-1).mean(0)


def dynamics_deviations(predicted: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Per vertex, how much less the prediction moves than the speaker, (V,), unit of the offsets.

    d_v = std_t |real_tv| - std_t |predicted_tv|: the standard deviation over time of the
    Euclidean norm of the vertex's offset from the neutral face, real minus predicted.

    Args:
        predicted, real: (T, V, 3) offsets.
    """
    return np.linalg.norm(real, axis=-1).std(0) - np.linalg.norm(predicted, axis=-1).std(0)


def upper_face_deviation(predicted: np.ndarray, real: np.ndarray) -> float:
    """Upper-face dynamics deviation (FDD), signed as published, in the unit of the offsets.

    The mean of `dynamics_deviations` over the upper face (T, V, 3): positive where the
    prediction moves too little. Source: CodeTalker, Xing et al. 2023, equation of FDD: the
    standard deviation over time of the L2 norm, which is taken here as it stands, with its
    square root, so that the result is a length. Programs behind published numbers may take the
    spread of the squared norm instead (we have not read them): compare values of one tool only.
    """
    return float(dynamics_deviations(predicted, real).mean())


def upper_face_deviation_absolute(predicted: np.ndarray, real: np.ndarray) -> float:
    """FDD without cancellation: mean over the upper face of the absolute deviation (ours).

    One vertex that moves too much does not make up for one that moves too little. Unit of the
    offsets (T, V, 3).
    """
    return float(np.abs(dynamics_deviations(predicted, real)).mean())


# -- phones ------------------------------------------------------------------------------------


def smallest_gap(gap: np.ndarray, fps: float, start: float, end: float) -> float:
    """Smallest gap (mm) from 40 ms before `start` to 40 ms after `end`, linear between frames."""
    times = np.arange(len(gap)) / fps
    inside = np.arange(start - REACH, end + REACH + 1e-9, 0.005)
    return float(np.interp(inside, times, gap).min())


def closures(gap: np.ndarray, fps: float, phones: Sequence[Phone]) -> list[bool]:
    """For each p, b and m whether the lips close: smallest gap under 1 mm (ours)."""
    return [
        smallest_gap(gap, fps, start, end) < CLOSED_BELOW
        for phone, start, end in phones
        if phone in CLOSED
    ]


def false_closures(gap: np.ndarray, fps: float, phones: Sequence[Phone]) -> list[bool]:
    """For each open vowel whether the lips are closed at its middle: gap under 1.5 mm (ours)."""
    return [bool(g < FALSELY_CLOSED_BELOW) for g in at_middles(gap, fps, phones, OPEN)]


def middles(phones: Sequence[Phone], wanted: frozenset[str]) -> np.ndarray:
    """Middles of the wanted phones, (n,) seconds."""
    return np.array([(start + end) / 2 for phone, start, end in phones if phone in wanted])


def at_middles(
    series: np.ndarray, fps: float, phones: Sequence[Phone], wanted: frozenset[str]
) -> np.ndarray:
    """A series (T,) at the middles of the wanted phones, (n,), linear between frames."""
    return np.interp(middles(phones, wanted), np.arange(len(series)) / fps, series)


def smallest_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Smallest distance between a vertex of one part and one of the other, (T,), their unit.

    For f and v (ours): lower lip against upper teeth, the smallest over the frames around the
    middle of the phone. From vertex to vertex, so never less than from surface to surface.

    Args:
        one: (T, n, 3).
        other: (T, m, 3).
    """
    between = np.linalg.norm(one[:, :, None] - other[:, None], axis=-1)
    return between.min((1, 2))


def rounding(width: np.ndarray, fps: float, phones: Sequence[Phone]) -> float:
    """Mouth width (T,) at the middles of "oo" and "w" minus that at "ah", mm; negative = rounded.

    Difference of the two means (ours); nan where one of the two is not spoken.
    """
    round_, open_ = (at_middles(width, fps, phones, kind) for kind in (ROUNDED, SPREAD))
    if not (len(round_) and len(open_)):
        return float("nan")
    return float(round_.mean() - open_.mean())


def token_error_rate(read: Sequence[str], spoken: Sequence[str]) -> float:
    """Edits that turn the tokens read into those spoken, over the number spoken; 0 is right.

    (substitutions + deletions + insertions) / spoken, Levenshtein: torchmetrics' word error
    rate over tokens joined by blanks. nan where nothing is spoken.
    """
    from torchmetrics.functional.text import word_error_rate

    if not spoken:
        return float("nan")
    return float(word_error_rate(" ".join(read), " ".join(spoken)))


# -- silence -----------------------------------------------------------------------------------


def long_pauses(phones: Sequence[Phone], least: float = LONG_PAUSE) -> list[tuple[float, float]]:
    """Start and end (s) of the silences longer than `least` seconds."""
    return [(start, end) for phone, start, end in phones if phone == "SIL" and end - start > least]


def gap_in_pauses(
    gap: np.ndarray, fps: float, phones: Sequence[Phone], least: float = LONG_PAUSE
) -> np.ndarray:
    """Gaps (n,) of all frames in silences longer than `least` seconds, negative ones as 0."""
    times = np.arange(len(gap)) / fps
    inside = np.zeros(len(gap), bool)
    for start, end in long_pauses(phones, least):
        inside |= (times >= start) & (times < end)
    return np.maximum(gap[inside], 0)


def changes(gap: np.ndarray, fps: float, start: float = 0.0, end: float = np.inf) -> np.ndarray:
    """Absolute changes of the gap (T,) per 1/60 s from `start` to `end` (s), (n,) mm.

    Linear between frames; pressed lips count as they are.
    """
    end = min(end, (len(gap) - 1) / fps)
    times = np.arange(start, end, 1 / 60)
    return np.abs(np.diff(np.interp(times, np.arange(len(gap)) / fps, gap)))


def jitter(gap: np.ndarray, fps: float) -> float:
    """Mean absolute change of the gap (T,) per 1/60 s, mm (ours); nan under two steps."""
    steps = changes(gap, fps)
    return float(steps.mean()) if len(steps) else float("nan")


def changes_in_pauses(
    gap: np.ndarray, fps: float, phones: Sequence[Phone], least: float = LONG_PAUSE
) -> np.ndarray:
    """`changes` (n,) within silences longer than `least` seconds: their mean is the jitter there.

    The shutting and opening of the mouth at a pause's ends is part of it.
    """
    parts = [changes(gap, fps, start, end) for start, end in long_pauses(phones, least)]
    return np.concatenate([np.zeros(0), *parts])
