"""Faces for speech that has none: the animator's own prediction, corrected where phones demand.

A phone fixes some of the mouth and leaves the rest to the neighbours: p, b and m close the
lips, f and v bring the lower lip to the teeth, "oo" rounds, silence shuts; open vowels only
must not be closed. Everything else stays as predicted, so that the faces keep a real speaker's
amplitude and coarticulation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core import FaceTemplate
from ..core.frontend import FPS
from ..core.lips import move_gap, rest_weights
from .corpus import Phone
from .losses import MIDDLE

CLOSED = frozenset("P B M".split())
BITTEN = frozenset("FV")
OPEN = frozenset("AA AE AH AO AY AW EH".split())
CLOSED_GAP = -0.5  # mm, at p, b, m
LONGEST_PHONE = 0.3  # seconds; synthesised sentences end in a phone drawn out into silence
LONG_PAUSE = 0.25  # seconds of silence in which the mouth shuts

# Poses in weights of the head's ARKit shapes, ours: means of real phones, then tuned by eye.
FF = {
    "jawOpen": 0.03, "mouthShrugUpper": 0.2, "mouthUpperUpLeft": 0.5, "mouthUpperUpRight": 0.5,
    "mouthRollLower": 1.0,
}  # fmt: skip
OU = {"jawOpen": 0.13, "mouthClose": 0.06, "mouthPucker": 0.9, "mouthFunnel": 0.22}
OH = {"jawOpen": 0.27, "mouthPucker": 0.45, "mouthFunnel": 0.3}
CH = {
    "jawOpen": 0.05, "mouthLowerDownLeft": 0.1, "mouthLowerDownRight": 0.1, "mouthPucker": 0.25,
    "mouthShrugUpper": 0.1, "mouthUpperUpLeft": 0.1, "mouthUpperUpRight": 0.1, "mouthFunnel": 0.3,
}  # fmt: skip
SS = {
    "jawOpen": 0.04, "mouthLowerDownLeft": 0.4, "mouthLowerDownRight": 0.4,
    "mouthShrugUpper": 0.15, "mouthSmileLeft": 0.1, "mouthSmileRight": 0.1,
    "mouthUpperUpLeft": 0.2, "mouthUpperUpRight": 0.2, "mouthStretchLeft": 0.15,
    "mouthStretchRight": 0.15,
}  # fmt: skip
IH = {
    "jawOpen": 0.15, "mouthShrugUpper": 0.14, "mouthUpperUpLeft": 0.15,
    "mouthUpperUpRight": 0.15, "mouthLowerDownLeft": 0.25, "mouthLowerDownRight": 0.25,
    "mouthStretchLeft": 0.2, "mouthStretchRight": 0.2, "mouthSmileLeft": 0.12,
    "mouthSmileRight": 0.12,
}  # fmt: skip

# phone -> (pose, how far towards it at its middle)
DEMANDS = {
    **dict.fromkeys(("F", "V"), (FF, 1.0)),
    **dict.fromkeys(("UW", "W"), (OU, 0.65)),
    **dict.fromkeys(("OW", "UH", "OY"), (OH, 0.5)),
    **dict.fromkeys(("CH", "JH", "SH", "ZH"), (CH, 0.5)),
    **dict.fromkeys(("S", "Z"), (SS, 0.4)),
    "IY": (IH, 0.35),
}
TONGUE = {"TH": 0.4, "DH": 0.3}


def bump(times: np.ndarray, start: float, end: float, rise: float) -> np.ndarray:
    """1 from `start` to `end`, 0 beyond `rise` seconds outside, half cosines between; (T,)."""
    outside = np.maximum(np.maximum(start - times, times - end), 0.0)
    return 0.5 + 0.5 * np.cos(np.pi * np.minimum(outside / rise, 1.0))


class PhoneCorrection:
    """Corrects predicted weights by the phones spoken."""

    def __init__(self, template: FaceTemplate) -> None:
        self.template = template
        names = template.shape_names
        self.index = {name: i for i, name in enumerate(names)}
        self.rest = rest_weights(template)
        # What opens the lips, and gives way when they must close.
        self.openers = [
            i for name, i in self.index.items()
            if name in ("jawOpen", "mouthFunnel")
            or name.startswith(("mouthUpperUp", "mouthLowerDown"))
        ]  # fmt: skip

    def pose(self, weights: dict[str, float]) -> np.ndarray:
        """(K,) weights of a named pose."""
        pose = np.zeros(len(self.index), np.float32)
        for name, value in weights.items():
            pose[self.index[name]] = value
        return pose

    def closed(self, weights: np.ndarray) -> np.ndarray:
        """(T, K) -> the same mouths with lips that touch; rounding and jaw are half kept."""
        closed = weights.copy()
        closed[:, self.openers] *= 0.4
        for side in ("Left", "Right"):
            closed[:, self.index[f"mouthPress{side}"]] = np.maximum(
                closed[:, self.index[f"mouthPress{side}"]], 0.12
            )
        move_gap(self.template, closed, CLOSED_GAP - self.template.gap_mm(closed))
        return closed

    def __call__(
        self, weights: np.ndarray, phones: Sequence[Phone], complete: bool = True
    ) -> np.ndarray:
        """Weights (T, K) at 50 fps, corrected.

        Args:
            complete: whether all that is spoken is in `phones`, so that a silence is one.
        """
        times = np.arange(len(weights)) / FPS
        result = weights.copy()
        spoken = [
            (phone, start, min(end, start + LONGEST_PHONE))
            for phone, start, end in phones
            if phone != "SIL"
        ]
        for phone, start, end in spoken:
            if phone in DEMANDS:
                pose, share = DEMANDS[phone]
                part = share * bump(times, start + 0.02, end - 0.02, 0.08)[:, None]
                result = result * (1 - part) + self.pose(pose) * part
        self._open_vowels(result, times, spoken, least=2.5, rise=0.07)
        self._tongue(result, times, spoken)
        if complete:
            for start, end in pauses(phones, len(weights) / FPS):
                part = bump(times, start + 0.04, end - 0.06, 0.08)[:, None]
                result = result * (1 - part) + self.rest * part
        for phone, start, end in spoken:
            if phone in CLOSED:
                # Within the phone, so that a short vowel beside it has time to open.
                first = min(start + 0.01, (start + end) / 2)
                part = bump(times, first, max(end - 0.02, first + 0.01), 0.05)[:, None]
                result = result * (1 - part) + self.closed(result) * part
        self._open_vowels(result, times, spoken, least=2.2, rise=0.035)
        return np.clip(result, 0.0, 1.0)

    def _open_vowels(
        self,
        weights: np.ndarray,
        times: np.ndarray,
        phones: Sequence[Phone],
        least: float,
        rise: float,
    ) -> None:
        """Open the lips in the middle of open vowels to `least` mm, long vowels to 2 mm more."""
        for phone, start, end in phones:
            if phone in OPEN and end > start:
                wanted = least + np.interp(end - start, [0.04, 0.12], [0.0, 2.0])  # mm
                middle = (start + end) / 2
                gap = np.interp(middle, times, self.template.gap_mm(weights))
                lift = max(wanted - gap, 0.0) * bump(times, middle - 0.01, middle + 0.01, rise)
                move_gap(self.template, weights, lift)

    def unseen(self, weights: np.ndarray, phones: Sequence[Phone]) -> np.ndarray:
        """Recorded faces (T, K) at 50 fps with what no camera saw.

        That is the tongue at "th", and at f and v the lower lip under the teeth: the tracker
        sees the lip's outer edge and leaves it in front of them.
        """
        weights = weights.copy()
        self._tongue(weights, np.arange(len(weights)) / FPS, phones)
        bite = bites(phones, len(weights))
        here = bite > 0
        share = bite[here, None]
        weights[here] = weights[here] * (1 - share) + self.bitten(weights[here]) * share
        return weights

    def bitten(self, weights: np.ndarray) -> np.ndarray:
        """The nearest mouths (T, K) whose lower lip is under the upper teeth.

        Bounded least squares: the inner edge of the lower lip goes where it is in the pose FF,
        while gap and width of the mouth, the upper lip and the weights stay as they are.
        """
        template = self.template
        shapes = [i for name, i in self.index.items() if name.startswith(("jawOpen", "mouth"))]
        deltas = template.shape_deltas * 1000  # (K, V, 3) in mm
        lip, teeth = (
            region[np.abs(template.vertices[region, 0]) < MIDDLE]
            for region in (template.regions["lips_lower"], template.regions["teeth_upper"])
        )
        pose = self.pose(FF)
        posed = template.vertices * 1000 + np.tensordot(pose, deltas, 1)
        near = np.linalg.norm(posed[lip, None] - posed[teeth], axis=-1).min(1)
        edge = lip[np.argsort(near)[:6]]
        # Forward and up alone: sideways the lip may be where it is. It counts twice, else the other
        # terms keep the lip half a millimetre away.
        reach = 2 * deltas[:, edge, 1:].reshape(len(pose), -1) / np.sqrt(len(edge))
        upper = deltas[shapes][:, template.regions["lips_upper"]].reshape(len(shapes), -1)
        step = 0.01
        width = template.width_mm(np.eye(len(pose)) * step) - template.width_mm(np.zeros_like(pose))
        terms = np.column_stack([
            reach[shapes],
            template.gap_per_weight[shapes],
            width[shapes] / step,
            np.sqrt(0.1 / len(template.regions["lips_upper"])) * upper,
            np.eye(len(shapes)),
        ])  # fmt: skip
        gram = terms @ terms.T
        missing = (weights - pose) @ reach @ reach[shapes].T  # (T, shapes)
        rate = 1 / np.linalg.eigvalsh(gram)[-1]
        before = weights[:, shapes]
        now = ahead = before
        momentum = 1.0
        for _ in range(400):  # Beck and Teboulle 2009 (FISTA), projected onto 0..1
            slope = missing + (ahead - before) @ gram
            new = np.clip(ahead - rate * slope, 0.0, 1.0)
            faster = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead = new + (momentum - 1) / faster * (new - now)
            now, momentum = new, faster
        result = weights.copy()
        result[:, shapes] = now
        return result

    def _tongue(self, weights: np.ndarray, times: np.ndarray, phones: Sequence[Phone]) -> None:
        tongue, jaw = self.index["tongueOut"], self.index["jawOpen"]
        for phone, start, end in phones:
            if phone in TONGUE:
                part = bump(times, start + 0.02, end - 0.02, 0.07)
                # The tip needs room between the teeth.
                weights[:, jaw] = np.maximum(weights[:, jaw], 0.12 * part)
                weights[:, tongue] = np.maximum(weights[:, tongue], TONGUE[phone] * part)


def bites(phones: Sequence[Phone], frames: int) -> np.ndarray:
    """(T,) at 50 fps: 1 in f and v, where the lower lip is at the teeth; 0 elsewhere."""
    times = np.arange(frames) / FPS
    found = np.zeros(frames, np.float32)
    for phone, start, end in phones:
        if phone in BITTEN:
            end = min(end, start + LONGEST_PHONE)
            found = np.maximum(
                found, bump(times, start + 0.02, max(end - 0.02, start + 0.02), 0.06)
            )
    return found


def pauses(
    phones: Sequence[Phone], duration: float, least: float = LONG_PAUSE
) -> list[tuple[float, float]]:
    """Stretches without speech of at least `least` seconds, and what lies before and after."""
    if not phones:
        return []
    found, silent_since = [], 0.0
    for phone, start, end in phones:
        if phone == "SIL":
            continue
        if start - silent_since >= least or silent_since == 0.0:
            found.append((silent_since if silent_since else -1.0, start))
        silent_since = end
    found.append((silent_since, duration + 1.0))
    return found
