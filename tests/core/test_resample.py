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
def test_noise_is_what_its_spectrum_says(rate: int) -> None:
    """Noise below 80 % of the lower half, made at both rates from one spectrum (Fourier 1822)."""
    rng, seconds = np.random.default_rng(0), 4
    band = int(0.8 * min(rate, 16000) / 2) * seconds
    spectrum = np.zeros(max(rate, 16000) * seconds // 2 + 1, complex)
    spectrum[1:band] = rng.standard_normal(band - 1) + 1j * rng.standard_normal(band - 1)

    def sound(rate: int) -> np.ndarray:
        count = rate * seconds
        return np.fft.irfft(spectrum[: count // 2 + 1], count) * count

    samples, wanted = sound(rate), sound(16000)
    scale = np.abs(samples).max()
    off = converted((samples / scale).astype(np.float32), rate) - wanted / scale
    assert decibel(np.abs(off)[1000:-1000].max()) < -96


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
