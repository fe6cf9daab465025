"""The bundled animator, on the bundled clip and on sounds that a user may bring."""

import json

import numpy as np
import pytest
import soundfile
import soxr

from selftalk_blender.animator import load_animator
from selftalk_blender.animator.animate import BUNDLED
from selftalk_blender.core import bundled_template
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.template import ASSETS
from selftalk_blender.core.windows import step
from selftalk_blender.training import metrics

HEAD = bundled_template()
CLIP = ASSETS / "sample.ogg"
PHONES = [tuple(row) for row in json.loads((ASSETS / "sample.json").read_text())["phones"]]
RATE = 16000


@pytest.fixture(scope="module")
def animator():
    return load_animator(device="cpu")


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return soundfile.read(CLIP, dtype="float32")[0]


@pytest.fixture(scope="module")
def motion(animator):
    return animator.animate_file(CLIP)


def gap(motion) -> np.ndarray:
    return HEAD.gap_mm(motion.weights)


def lips_rms(one, other) -> float:
    """Root mean square distance of the lip vertices, mm, over the frames that both have."""
    count = min(len(one), len(other))
    deltas = HEAD.deltas("lips")
    difference = (one.weights[:count] - other.weights[:count]) @ deltas
    return 1000 * float(np.sqrt((difference.reshape(-1, 3) ** 2).sum(-1).mean()))


def test_sample_clip_closes_opens_and_rests(motion, speech) -> None:
    assert motion.fps == 50
    assert len(motion) == -(-len(speech) // 320)
    assert motion.weights.min() >= 0
    assert motion.weights.max() <= 1
    closed = metrics.closures(gap(motion), motion.fps, PHONES)
    assert len(closed) >= 5
    assert np.mean(closed) >= 0.9
    assert np.mean(metrics.false_closures(gap(motion), motion.fps, PHONES)) <= 0.05
    assert metrics.gap_in_pauses(gap(motion), motion.fps, PHONES, least=0.15).mean() < 1.0
    assert gap(motion).max() > 6
    assert gap(motion).min() > -1.3


def test_oo_and_w_are_narrower_than_ah(motion) -> None:
    width = HEAD.width_mm(motion.weights)

    def at(*wanted: str) -> list[float]:
        times = [(a + b) / 2 for phone, a, b in PHONES if phone in wanted]
        return [float(width[round(time * 50)]) for time in times]

    assert np.mean(at("UW", "OW", "W")) < np.mean(at("AA", "AE", "AH", "AY", "EH", "IY", "IH")) - 1


def test_teeth_and_tongue_follow_the_jaw(motion) -> None:
    jaw = motion.weights[:, HEAD.shape_names.index("jawOpen")]
    widest = int(jaw.argmax())
    offsets = motion.offsets(widest, widest + 1)[0]
    for region in ("teeth_lower", "tongue"):
        assert offsets[HEAD.regions[region], 2].mean() < -0.002
    assert np.abs(offsets[HEAD.regions["teeth_upper"]]).max() < 1e-4


def test_samples_and_file_agree_at_any_rate_and_channel_count(animator, motion, speech) -> None:
    assert lips_rms(animator.animate(speech, RATE), motion) < 0.01
    stereo = np.stack([speech, speech], 1)
    assert lips_rms(animator.animate(stereo, RATE), motion) < 0.01
    high = soxr.resample(speech, RATE, 44100)
    assert lips_rms(animator.animate(high, 44100), motion) < 0.25


def test_loudness_of_the_recording_does_not_matter(animator, motion, speech) -> None:
    assert lips_rms(animator.animate(speech * 0.1, RATE), motion) < 0.05
    assert lips_rms(animator.animate(np.clip(speech * 2, -1, 1), RATE), motion) < 0.4


def test_a_part_of_a_file_moves_as_it_does_in_the_whole(animator, motion) -> None:
    part = animator.animate_file(CLIP, start=1.313, stop=2.5)
    assert len(part) == 60  # ceil(1.187 s * 50)
    whole = motion.at(1.313 + np.arange(60) / 50, 50.0)
    assert lips_rms(part, whole) < 0.6  # it hears two seconds to each side, not all


def test_place_of_the_windows_does_not_show(animator, speech) -> None:
    """Clips of 27 s on grids that are half a step apart, and silence around that they are not."""
    clip = np.tile(speech, 8)[: 27 * RATE]
    usual = animator.animate(clip, RATE)
    half = step(animator.window) // 2
    silence = np.zeros(half * 320, np.float32)
    moved = animator.animate(np.concatenate([silence, clip]), RATE)
    interior = slice(half, len(usual) - half)
    one = HEAD.deltas("lips")
    difference = ((usual.weights - moved.weights[half:])[interior] @ one).reshape(-1, 3)
    assert 1000 * np.sqrt((difference**2).sum(-1).mean()) < 0.2  # seen: 0.156


@pytest.mark.parametrize("sound", ["digital silence", "white noise", "hum"])
def test_without_speech_the_mouth_stays_shut(animator, sound: str) -> None:
    count = 8 * RATE
    samples = {
        "digital silence": np.zeros(count),
        "white noise": np.random.default_rng(3).standard_normal(count),
        "hum": np.sin(2 * np.pi * 50 * np.arange(count) / RATE),
    }[sound].astype(np.float32)
    if sound != "digital silence":
        samples *= 10 ** (-50 / 20) / samples.std()
    shut = gap(animator.animate(samples, RATE))
    assert np.maximum(shut, 0).mean() < 1.0
    assert shut.min() > -1.3
    assert "mouth stays closed" in animator.notices[0]


def test_noise_in_pauses_keeps_the_mouth_shut_and_faint_speech_moves_it(animator, speech) -> None:
    rng = np.random.default_rng(3)
    pause = np.zeros(3 * RATE, np.float32)
    clip = np.concatenate([pause, speech, pause])
    clip += rng.standard_normal(len(clip)).astype(np.float32) * 10 ** (-50 / 20)
    moved = gap(animator.animate(clip, RATE))
    assert np.maximum(moved[10:140], 0).mean() < 0.3
    assert np.maximum(moved[-140:], 0).mean() < 0.3
    assert moved.max() > 6
    assert not animator.notices
    assert gap(animator.animate(speech * 0.01, RATE)).max() > 6


def test_progress_rises_to_the_end(animator) -> None:
    seen: list[float] = []
    animator.animate_file(CLIP, progress=lambda done, stage: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)
    assert seen[-2] < 0.99


def test_sounds_that_cannot_be_animated_are_sentences(animator, tmp_path) -> None:
    with pytest.raises(SelfTalkError):
        animator.animate(np.zeros(0, np.float32), RATE)
    with pytest.raises(SelfTalkError, match=r"no sound|beyond|after the end"):
        animator.animate_file(CLIP, start=1000.0)
    with pytest.raises(SelfTalkError):
        animator.animate_file(tmp_path / "nothing.wav")


def test_file_is_small_and_has_its_card() -> None:
    assert BUNDLED.stat().st_size + (ASSETS / "head.npz").stat().st_size < 30_000_000
    card = json.loads(BUNDLED.with_suffix(".json").read_text())
    assert {"data", "licence", "revision", "validation"} <= set(card)
    assert card["validation"]["grid clips"] >= 60
