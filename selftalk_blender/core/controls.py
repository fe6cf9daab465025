"""What the artist changes of a motion after the animator gave it, without asking it again."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields

import numpy as np

from .lips import DEEPEST, move_gap, rest_weights
from .rhythm import blinks, brow_raises
from .template import FaceTemplate

# Every shape is in one of these, by how its name begins; the first that fits counts.
REGIONS = {
    # mouthClose shuts the lips over an open jaw: without the jaw it would push them together.
    "jaw": ("jaw", "mouthClose"),
    "mouth": ("mouth",),
    "cheeks": ("cheek", "nose"),
    "tongue": ("tongue",),
    "eyes": ("eye",),
    "brows": ("brow",),
}
UPPER_FACE = ("eye", "brow", "cheekSquint", "nose")
# mm of inner-lip gap: up to TOUCHING lips count as closed, from APART on as open.
TOUCHING, APART = 0.5, 3.0
LONGEST_SMOOTHING = 1.0  # seconds


@dataclass(frozen=True)
class Controls:
    """How a motion is changed; as made, it is not changed at all.

    Attributes:
        strength: the whole motion as a share of its own size, about the face at rest: 0 is rest,
            1 as spoken, 2 twice as much.
        closure: by how many mm lips are pressed that come near each other (p, b, m); they stop
            where they are sealed as at rest. 0 leaves them, and nothing opens them.
        smoothing: seconds that are averaged (width at half height of a Gaussian); lips that were
            closed stay closed.
        offset: seconds by which the motion comes later; negative for earlier. May be a fraction
            of a frame. What the voice's rhythm adds stays where the voice is.
        jaw, mouth, cheeks, tongue, eyes, brows: gain of one region's shapes, as `strength`.
        upper_face: gain of all that the animator moves above the mouth, and of `brow_raises`.
        blinks: how far blinks close the eyes: 0 none, 1 fully.
        brow_raises: brow raises at stressed syllables: 0 none, 1 small and natural.
        seed: another number places the blinks and raises otherwise.

    Raises:
        ValueError: a number is negative that must not be, or not finite, or too large.
    """

    strength: float = 1.0
    closure: float = 0.0
    smoothing: float = 0.0
    offset: float = 0.0
    jaw: float = 1.0
    mouth: float = 1.0
    cheeks: float = 1.0
    tongue: float = 1.0
    eyes: float = 1.0
    brows: float = 1.0
    upper_face: float = 1.0
    blinks: float = 0.0
    brow_raises: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for control in fields(self):
            value = getattr(self, control.name)
            if not np.isfinite(value) or (value < 0 and control.name != "offset"):
                raise ValueError(f"{control.name} is {value}")
        if self.smoothing > LONGEST_SMOOTHING:
            raise ValueError(f"smoothing is {self.smoothing} s, more than {LONGEST_SMOOTHING}")


def apply(
    controls: Controls,
    template: FaceTemplate,
    weights: np.ndarray,
    fps: float,
    loudness: np.ndarray,
) -> np.ndarray:
    """A motion as the artist wants it.

    Pure, and continuous in every control but the seed. With strength and gains up to 1 lips that
    were closed are at least as closed as the face at rest; with more, too: shapes grow, the
    closures stay.

    Args:
        template: the bundled head, or a face with its shapes.
        weights: (T, K) float32 in 0..1, as the animator gave them.
        fps: of weights and loudness.
        loudness: (T,) dBFS; only what the voice's rhythm adds needs it.

    Returns:
        (T, K) float32 in 0..1; with `Controls()` an exact copy.
    """
    if controls == Controls() or not len(weights):
        return weights.copy()
    rest = rest_weights(template)
    spoken = shifted(weights, controls.offset * fps)
    changed = smoothed(spoken, controls.smoothing * fps)
    gain = _gains(controls, template)
    if (gain != 1.0).any():
        changed = rest + gain * (changed - rest)
    touched = changed is not spoken
    changed = np.clip(changed, 0.0, 1.0)  # a copy: the rest works in place
    if touched:
        _keep_lips(template, spoken, changed, rest)
    if controls.closure:
        _press(template, changed, controls.closure, rest)
    _add_rhythm(controls, template, changed, fps, loudness)
    return np.clip(changed, 0.0, 1.0, out=changed)


def shifted(weights: np.ndarray, frames: float) -> np.ndarray:
    """Weights (T, K) that come `frames` later, linear between frames; the ends are held."""
    if not frames:
        return weights
    position = np.clip(np.arange(len(weights)) - frames, 0, len(weights) - 1)
    before = np.floor(position).astype(np.int64)
    after = np.minimum(before + 1, len(weights) - 1)
    share = (position - before).astype(np.float32)[:, None]
    return weights[before] * (1 - share) + weights[after] * share


def smoothed(weights: np.ndarray, frames: float) -> np.ndarray:
    """Weights (T, K) averaged by a Gaussian `frames` wide at half height; the ends are held."""
    sigma = frames / np.sqrt(8 * np.log(2))
    reach = int(np.ceil(3 * sigma))
    if not reach:
        return weights
    moving = weights.max(0) > weights.min(0)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    padded = np.pad(weights[:, moving], ((reach, reach), (0, 0)), mode="edge")
    result = weights.copy()
    result[:, moving] = sum(
        share * padded[start : start + len(weights)] for start, share in enumerate(kernel)
    )
    return result


def _gains(controls: Controls, template: FaceTemplate) -> np.ndarray:
    """(K,) float32, what each shape's distance from rest is multiplied by."""
    regions, upper = _membership(template.shape_names)
    each = np.array([getattr(controls, region) for region in REGIONS] + [1.0], np.float32)
    gains = controls.strength * each[regions]
    gains[upper] *= controls.upper_face
    return gains


@functools.cache
def _membership(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(K,) index into REGIONS (their count where none fits), (K,) whether in the upper face."""
    regions = [
        next((i for i, starts in enumerate(REGIONS.values()) if name.startswith(starts)), -1)
        for name in names
    ]
    return np.array(regions), np.array([name.startswith(UPPER_FACE) for name in names])


def _keep_lips(
    template: FaceTemplate, before: np.ndarray, after: np.ndarray, rest: np.ndarray
) -> None:
    """What larger, smaller or smoother shapes must not do to the lips; `after` in place.

    Lips that touched still touch, none are pressed deeper than DEEPEST, and the tongue comes out
    no farther between lips that are closer now (see lips.tidy_lips).
    """
    had, has = template.gap_mm(before), template.gap_mm(after)
    sealed = template.gap_mm(rest)
    opened = np.maximum(has - np.maximum(had, sealed), 0.0)
    sunk = np.maximum(np.minimum(had, -DEEPEST) - has, 0.0)
    move_gap(template, after, sunk - _closed(had) * opened)
    room = [np.clip((gap - 1.0) / 2.0, 0.0, 1.0) for gap in (had, template.gap_mm(after))]
    share = np.divide(room[1], room[0], out=np.ones_like(room[0]), where=room[0] > 0)
    after[:, template.shape_names.index("tongueOut")] *= np.minimum(share, 1.0)


def _press(template: FaceTemplate, weights: np.ndarray, closure: float, rest: np.ndarray) -> None:
    """Bring lips that are near each other together by up to `closure` mm, in place."""
    gap = template.gap_mm(weights)
    # What is left to the seal bounds it: no lips sink into each other.
    left = np.maximum(gap - template.gap_mm(rest), 0.0)
    move_gap(template, weights, -np.minimum(closure * _closed(gap), left))


def _closed(gap: np.ndarray) -> np.ndarray:
    """How closed lips are, from their gap in mm: 1 up to TOUCHING, 0 from APART on."""
    share = np.clip((APART - gap) / (APART - TOUCHING), 0.0, 1.0)
    return share * share * (3 - 2 * share)


def _add_rhythm(
    controls: Controls,
    template: FaceTemplate,
    weights: np.ndarray,
    fps: float,
    loudness: np.ndarray,
) -> None:
    """Blink and raise the brows with the voice; `weights` in place."""
    names = template.shape_names
    if controls.blinks:
        closed = controls.blinks * blinks(loudness, fps, controls.seed)
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):
            index = names.index(name)
            weights[:, index] = np.maximum(weights[:, index], closed)
    raised = controls.brow_raises * controls.upper_face * controls.brows
    if raised:
        # The inner brows lead: so they do when a stress is raised, not a question asked.
        curve = raised * brow_raises(loudness, fps, controls.seed)
        for name, share in (
            ("browInnerUp", 1.0),
            ("browOuterUpLeft", 0.6),
            ("browOuterUpRight", 0.6),
        ):
            weights[:, names.index(name)] += share * curve
