"""What each control does to a real motion of speech, and what none of them may do."""

import dataclasses
import time

import numpy as np
import pytest
from sample import FPS, sample

from selftalk_blender.core import bundled_template
from selftalk_blender.core.controls import REGIONS, Controls, apply, smoothed
from selftalk_blender.core.lips import DEEPEST, rest_weights

HEAD = bundled_template()
WEIGHTS, LOUDNESS = sample()
REST = rest_weights(HEAD)
GAP = HEAD.gap_mm(WEIGHTS)
# One value of each control that changes something.
SOME = {
    "strength": 1.4,
    "closure": 1.0,
    "smoothing": 0.08,
    "offset": 0.03,
    "upper_face": 0.5,
    "blinks": 0.9,
    "brow_raises": 1.0,
    **dict.fromkeys(REGIONS, 1.5),
}


def changed(**controls: float) -> np.ndarray:
    return apply(Controls(**controls), HEAD, WEIGHTS, FPS, LOUDNESS)


def index(name: str) -> int:
    return HEAD.shape_names.index(name)


def test_untouched_controls_change_no_bit_and_nothing_is_changed_in_place() -> None:
    before = WEIGHTS.copy()
    same = changed()
    assert same is not WEIGHTS and same.tobytes() == WEIGHTS.tobytes()
    for controls in ({"closure": 1.0}, {"blinks": 1.0}, {"brow_raises": 1.0}, SOME):
        changed(**controls)
        assert np.array_equal(WEIGHTS, before)


@pytest.mark.parametrize("name", SOME)
def test_each_control_is_smooth_and_within_the_shapes_range(name) -> None:
    other = {"blinks": 0.5, "brow_raises": 0.5} if name == "upper_face" else {"seed": 1}
    default = getattr(Controls(), name)
    value = SOME[name]
    result = changed(**{name: value}, **other)
    assert result.dtype == np.float32 and result.shape == WEIGHTS.shape
    assert result.min() >= 0 and result.max() <= 1
    plain = changed(**other)
    # A tongue tip, eyes and brows hardly move in the sample: their gains show elsewhere.
    if name not in ("tongue", "cheeks", "eyes", "brows"):
        assert np.abs(result - plain).max() > 0.01
    for start in (default, value):
        near = changed(**{name: start + 1e-4}, **other)
        assert np.abs(near - changed(**{name: start}, **other)).max() < 0.01


def test_strength_scales_about_rest() -> None:
    assert np.allclose(changed(strength=0.0), REST, atol=1e-6)
    half = changed(strength=0.5)
    others = np.arange(52) != index("tongueOut")  # which needs an open mouth
    assert np.allclose((half - REST)[:, others], 0.5 * (WEIGHTS - REST)[:, others], atol=1e-6)
    jaw = [changed(strength=s)[:, index("jawOpen")].max() for s in (0.2, 0.6, 1.0, 1.4, 1.8)]
    assert np.all(np.diff(jaw) > 0.05)


@pytest.mark.parametrize("region", REGIONS)
def test_a_regions_gain_moves_that_region_alone(region) -> None:
    moving = np.full_like(WEIGHTS[:40], 0.2)
    result = apply(Controls(**{region: 0.5}), HEAD, moving, FPS, LOUDNESS[:40])
    differs = {HEAD.shape_names[i] for i in np.flatnonzero(np.abs(result - moving).max(0) > 1e-6)}
    own = {n for n in HEAD.shape_names if n.startswith(REGIONS[region])}
    if region == "mouth":
        own.discard("mouthClose")
    # The lips' promises are kept by these two, and the tongue stays behind closed lips.
    assert own <= differs <= own | {"mouthClose", "jawOpen", "tongueOut"}


@pytest.mark.parametrize(
    "controls",
    [
        {"strength": 2.0},
        {"jaw": 1.8},
        {"mouth": 2.0},
        {"smoothing": 0.06},
        {"smoothing": 0.3},
        {"strength": 1.5, "jaw": 0.3, "smoothing": 0.1},
    ],
)
def test_lips_that_met_still_meet(controls) -> None:
    touching = GAP < 0.5
    assert 20 < touching.sum() < 200
    gap = HEAD.gap_mm(changed(**controls))
    assert np.all(gap[touching] <= GAP[touching] + 1e-3)
    assert gap.min() >= -DEEPEST - 1e-3
    # Smoothing alone would have opened them.
    if controls == {"smoothing": 0.3}:
        assert HEAD.gap_mm(smoothed(WEIGHTS, 0.3 * FPS))[touching].max() > 1.5


def test_closure_presses_near_lips_more_and_more_and_opens_none() -> None:
    gaps = [HEAD.gap_mm(changed(closure=c)) for c in (0.0, 0.5, 1.0, 2.0)]
    for less, more in zip(gaps, gaps[1:], strict=False):
        assert np.all(more <= less + 1e-4)
        near = (less < 2.0) & (less > 0.2)
        assert near.any() and np.all(more[near] < less[near] - 0.05)
    sealed = HEAD.gap_mm(REST[None])[0]
    assert np.all(gaps[-1] >= np.minimum(gaps[0], sealed) - 1e-3)
    assert np.array_equal(gaps[-1][GAP > 3.0], GAP[GAP > 3.0])


def test_smoothing_calms_the_motion() -> None:
    def restless(weights: np.ndarray) -> float:
        return float(np.abs(np.diff(weights[:, index("mouthPucker")], n=2)).mean())

    calm = [restless(changed(smoothing=s)) for s in (0.0, 0.04, 0.1, 0.3)]
    assert np.all(np.diff(calm) < 0) and calm[2] < 0.5 * calm[0]


@pytest.mark.parametrize("frames", [3, -2, 0.5])
def test_offset_brings_the_motion_later_or_earlier(frames) -> None:
    moved = changed(offset=frames / FPS)
    within = np.arange(10, len(WEIGHTS) - 10)
    jaw = WEIGHTS[:, index("jawOpen")]
    expected = np.interp(within - frames, np.arange(len(jaw)), jaw)
    assert np.allclose(moved[within, index("jawOpen")], expected, atol=1e-5)


def test_blinks_and_brows_are_added_and_can_be_dimmed() -> None:
    blink = index("eyeBlinkLeft")
    half, full = changed(blinks=0.5), changed(blinks=1.0)
    assert full[:, blink].max() == pytest.approx(1.0, abs=0.02)
    assert np.allclose(half[:, blink], 0.5 * full[:, blink], atol=1e-3)
    assert np.array_equal(full[:, blink], full[:, index("eyeBlinkRight")])
    raised = changed(brow_raises=1.0)[:, index("browInnerUp")]
    assert 0.05 < raised.max() < 0.4
    assert changed(brow_raises=1.0, upper_face=0.0)[:, index("browInnerUp")].max() == 0.0
    again, other = changed(blinks=1.0), changed(blinks=1.0, seed=5)
    assert np.array_equal(again, full) and not np.array_equal(other, full)


def test_an_empty_motion_stays_empty() -> None:
    assert apply(Controls(**SOME), HEAD, WEIGHTS[:0], FPS, LOUDNESS[:0]).shape == (0, 52)


def test_a_minute_takes_milliseconds() -> None:
    weights, loudness = np.tile(WEIGHTS, (12, 1))[:3000], np.tile(LOUDNESS, 12)[:3000]
    controls = Controls(**{**SOME, "smoothing": 0.0})
    seconds = []
    for _ in range(5):
        begun = time.process_time()
        apply(controls, HEAD, weights, FPS, loudness)
        seconds.append(time.process_time() - begun)
    assert min(seconds) < 0.1  # 6 ms here


@pytest.mark.parametrize(
    "wrong", [{"strength": -0.1}, {"jaw": np.nan}, {"smoothing": 5.0}, {"offset": np.inf}]
)
def test_senseless_values_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Controls(**wrong)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Controls().jaw = 2.0
