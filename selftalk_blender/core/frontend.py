"""From samples to the log-mel frames that speech encoders of the Whisper family read.

Formula: Radford et al. 2022 (Whisper): 25 ms Hann windows every 10 ms, 80 Slaney mel bands,
log10, floored, (x + 4) / 4. Two things differ so that a frame never depends on where a window
of inference begins: the sound's level is set once for the whole clip, and the floor is fixed
instead of lying 8 below the loudest frame of the window.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator

import numpy as np

SAMPLE_RATE = 16000  # Hz, what speech encoders read
MEL_BANDS = 80
FFT = 400
HOP = 160
FRAME = 2 * HOP  # samples per encoder frame: 20 ms
FPS = SAMPLE_RATE / FRAME  # 50
FLOOR = -6.5  # log10 power; speech at SPEECH_LEVEL peaks near 1.5, and Whisper keeps 8 below
SPEECH_LEVEL = -22.0  # dBFS
LARGEST_GAIN = 12.0  # dB; a higher one makes speech of the noise of a quiet clip
SILENT = -66.0  # dBFS; a clip that is nowhere louder holds no speech that could be heard
FAINT = -44.0  # dBFS; speech may be as faint as this or fainter, but then
STANDS_OUT = 20.0  # dB by which its loud frames must stand out from its quiet ones


class Loudness:
    """Level of the speech in a stream of samples, in dBFS.

    Mean power of the 20 ms frames that lie within 25 dB below the loud ones (their 98th
    percentile): pauses, however long, and single knocks do not move it.
    """

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)
        self._histogram = np.zeros(1200, np.int64)  # 0.1 dB steps from -120 dBFS

    def add(self, samples: np.ndarray) -> None:
        """Take (N,) float32 samples at 16 kHz."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // FRAME * FRAME
        self._rest = samples[whole:]
        power = np.square(samples[:whole].reshape(-1, FRAME)).mean(1)
        step = (10 * np.log10(power + 1e-12) + 120) * 10
        self._histogram += np.bincount(np.clip(step, 0, 1199).astype(int), minlength=1200)

    @property
    def loudest(self) -> float:
        """Level of the loudest frame, dBFS; -120 where there is none."""
        used = np.flatnonzero(self._histogram)
        return float(used[-1] / 10 - 120) if len(used) else -120.0

    @property
    def speechless(self) -> bool:
        """Whether there is nothing but silence, or faint noise from which nothing stands out."""
        if self.loudest < SILENT:
            return True
        share = np.cumsum(self._histogram) / self._histogram.sum()
        quiet, loud = np.searchsorted(share, [0.2, 0.98]) / 10
        return bool(self.speech < FAINT and loud - quiet < STANDS_OUT)

    @property
    def speech(self) -> float:
        """Level of the speech, dBFS."""
        steps = self._histogram.copy()
        steps[:600] = 0  # below -60 dBFS nothing is speech if anything else is louder
        if not steps.any():
            steps = self._histogram
        if not steps.any():
            return -120.0
        loud = int(np.searchsorted(np.cumsum(steps), 0.98 * steps.sum()))
        steps[: max(loud - 250, 0)] = 0
        steps[loud + 1 :] = 0
        power = 10 ** ((np.arange(1200) / 10 - 120) / 10)
        return float(10 * np.log10((steps * power).sum() / steps.sum()))

    @property
    def gain(self) -> float:
        """Factor that brings the speech to SPEECH_LEVEL, within LARGEST_GAIN."""
        decibel = np.clip(SPEECH_LEVEL - self.speech, -LARGEST_GAIN, LARGEST_GAIN)
        return float(10 ** (decibel / 20))


def frame_levels(samples: np.ndarray, fps: float) -> np.ndarray:
    """Root mean square of the sound during each frame of a motion.

    Args:
        samples: (N,) float32 at 16 kHz.
        fps: frame i is from i / fps to (i + 1) / fps seconds.

    Returns:
        (T,) float32 dBFS, T = ceil(N / 16000 * fps), -120 in digital silence; the last frame
        may be a shorter one.
    """
    count = math.ceil(len(samples) * fps / SAMPLE_RATE - 1e-6)
    starts = np.round(np.arange(count) * SAMPLE_RATE / fps).astype(np.int64)
    starts = starts[starts < len(samples)]
    if not len(starts):
        return np.zeros(0, np.float32)
    sums = np.add.reduceat(np.square(samples, dtype=np.float64), starts)
    power = sums / np.diff(starts, append=len(samples))
    return (10 * np.log10(np.maximum(power, 1e-12))).astype(np.float32)


@functools.cache
def mel_filters() -> np.ndarray:
    """(201, 80) triangular filters from 0 to 8 kHz, each of area 1 (Slaney 1998, Auditory Toolbox).

    Bands are even on a scale that is linear below 1 kHz and logarithmic above.
    """
    low, step = 200 / 3, np.log(6.4) / 27  # Hz per mel below 1 kHz, log Hz per mel above
    knee = 1000 / low

    def hertz(mel: np.ndarray) -> np.ndarray:
        return np.where(mel < knee, low * mel, 1000 * np.exp(step * (mel - knee)))

    highest = knee + np.log(SAMPLE_RATE / 2 / 1000) / step
    edges = hertz(np.linspace(0.0, highest, MEL_BANDS + 2))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, FFT // 2 + 1)[:, None]
    rising = (bins - edges[:-2]) / np.diff(edges)[:-1]
    falling = (edges[2:] - bins) / np.diff(edges)[1:]
    filters = np.maximum(np.minimum(rising, falling), 0.0) * 2 / (edges[2:] - edges[:-2])
    return filters.astype(np.float32)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Log-mel frames of samples that already carry 200 samples of margin on both sides.

    Args:
        samples: (N,) float32, N = 400 + 160 * (frames - 1) or a little more.

    Returns:
        (80, frames) float32; frame i is centred 200 + 160 i samples from the start.
    """
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)
    frames = np.lib.stride_tricks.sliding_window_view(samples, FFT)[::HOP] * window
    spectrum = np.fft.rfft(frames)  # (frames, 201)
    power = np.ascontiguousarray((np.square(spectrum.real) + np.square(spectrum.imag)).T)
    bands = np.empty((MEL_BANDS, len(frames)))
    # Each filter hears few bins. `@`, which takes all, is slow where numpy has no BLAS.
    for band, weights in zip(bands, mel_filters().T.astype(float), strict=True):
        heard = slice(np.flatnonzero(weights)[0], np.flatnonzero(weights)[-1] + 1)
        np.einsum("k,kt->t", weights[heard], power[heard], out=band)
    logarithm = np.maximum(np.log10(np.maximum(bands, 1e-10)), FLOOR)
    return ((logarithm + 4) / 4).astype(np.float32)


def mel_stream(blocks: Iterable[np.ndarray], gain: float = 1.0) -> Iterator[np.ndarray]:
    """Log-mel frames (80, 2n) of a stream of (N,) blocks: 2 per encoder frame, none lost.

    A clip of N samples gives ceil(N / 320) encoder frames; frame j is centred on sample 320 j.
    """
    buffer = np.zeros(FFT // 2, np.float32)
    total = given = 0  # samples taken, encoder frames given

    def emit(frames: int) -> np.ndarray:
        nonlocal buffer
        used = frames * FRAME
        samples, buffer = buffer[: used + FFT - HOP], buffer[used:]
        return log_mel(samples)

    for block in blocks:
        buffer = np.concatenate([buffer, block.astype(np.float32) * np.float32(gain)])
        total += len(block)
        frames = (len(buffer) - (FFT - HOP)) // FRAME
        if frames > 0:
            given += frames
            yield emit(frames)
    remaining = -(-total // FRAME) - given
    if remaining > 0:
        missing = remaining * FRAME + FFT - HOP - len(buffer)
        buffer = np.concatenate([buffer, np.zeros(max(missing, 0), np.float32)])
        yield emit(remaining)
