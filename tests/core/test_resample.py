"""Another sample rate: as exact as the best resamplers, and the same from any block."""

from __future__ import annotations

import math

import numpy as np
import pytest

from selftalk_blender.core.resample import resampled

RATES = [8000, 11025, 16004, 22050, 32000, 44056, 44100, 48000, 96000, 192000]


def decibel(value: float) -> float:
    return 20 * math.log10(max(value, 1e-12))


def converted(samples: np.ndarray, rate: int, size: int = 65536) -> np.ndarray:
    pieces = (samples[i : i + size] for i in range(0, len(samples), size))
    return np.concatenate([np.zeros(0, np.float32), *resampled(pieces, rate)])


@pytest.mark.parametrize("rate", RATES)
def test_what_can_be_heard_stays_and_the_rest_is_gone(rate: int) -> None:
    """To 90 % of the lower rate's half: exact to 100 dB. Beyond it: 100 dB down."""
    time, half = np.arange(3 * rate) / rate, min(rate, 16000) / 2
    for frequency in (50, 1000, 0.5 * half, 0.9 * half):
        heard = converted(np.sin(2 * np.pi * frequency * time).astype(np.float32), rate)
        wanted = np.sin(2 * np.pi * frequency * np.arange(len(heard)) / 16000)
        assert decibel(np.abs(heard - wanted)[1000:-1000].max()) < -96, frequency
    for frequency in (8001, 10000, 0.499 * rate):
        if half < frequency < rate / 2:
            gone = converted(np.sin(2 * np.pi * frequency * time).astype(np.float32), rate)
            assert decibel(np.abs(gone)[1000:-1000].max()) < -96, frequency


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_images_of_a_lower_rate_and_the_best_resamplers_agree(rate: int) -> None:
    soxr = pytest.importorskip("soxr")
    rng = np.random.default_rng(0)
    spectrum = np.zeros(2 * rate + 1, complex)  # noise below 85 % of the lower half
    band = int(0.8 * min(rate, 16000) / 2) * 4
    spectrum[:band] = rng.standard_normal(band) + 1j * rng.standard_normal(band)
    samples = np.fft.irfft(spectrum)
    samples = (samples * np.hanning(len(samples)) / np.abs(samples).max()).astype(np.float32)
    ours = converted(samples, rate)
    theirs = soxr.resample(samples.astype(np.float64), rate, 16000, "VHQ")
    assert abs(len(ours) - len(theirs)) <= 1
    off = ours[2000:-2000] - theirs[2000 : len(ours) - 2000]
    assert decibel(np.abs(off).max()) < -90


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 44101])
def test_blocks_and_lengths(rate: int) -> None:
    """Any blocks give the same; n samples become the ceiling of n / rate * 16000."""
    samples = np.random.default_rng(1).uniform(-1, 1, 2 * rate + 17).astype(np.float32)
    whole = converted(samples, rate, len(samples))
    assert len(whole) == math.ceil(len(samples) * 16000 / rate)
    np.testing.assert_allclose(converted(samples, rate, 777), whole, atol=2e-6)
    for count in (0, 1, 2, 100):
        assert len(converted(samples[:count], rate)) == math.ceil(count * 16000 / rate)
    assert converted(np.ones(rate, np.float32), rate)[5000] == pytest.approx(1.0, abs=1e-6)
