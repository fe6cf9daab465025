"""The corpus as the animator will meet it: long sound, noise, pauses, any level; and its features.

Utterances are strung together in random order into tracks, at random levels and some at another
pitch, with pauses of digital silence or noise between, some with noise throughout. A track is
cut into the windows of inference at a random phase, and the encoder's features of every window
are kept on disk: the encoder is frozen, so they are computed once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch

from ..animator.audio import SAMPLE_RATE
from ..animator.frontend import (
    FFT,
    FPS,
    FRAME,
    HOP,
    SPEECH_LEVEL,
    Loudness,
    log_mel,
    mel_filters,
)
from ..animator.network import SpeechEncoder
from ..core.files import atomic_path
from .config import TrainConfig
from .corpus import Utterance

SILENCE = -1  # utterance number of a frame in which nobody speaks
PADDING = -2  # and of one beyond the end of a track


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of inference with their features, and what is spoken in each frame.

    Attributes:
        features: (N, T, C) float16 encoder features.
        mel: (N, 80, 2 T) float16 log-mel.
        utterance: (N, T) int32, number in the corpus, SILENCE or PADDING.
        time: (N, T) float32, seconds within that utterance.
    """

    features: np.ndarray
    mel: np.ndarray
    utterance: np.ndarray
    time: np.ndarray

    def __len__(self) -> int:
        return len(self.features)


def level(samples: np.ndarray) -> float:
    """Speech level of (N,) samples in dBFS."""
    loudness = Loudness()
    loudness.add(samples)
    return loudness.speech


def noise(rng: np.random.Generator, count: int, kind: str) -> np.ndarray:
    """(count,) float32 noise of power 1: white, pink or brown, or with the hum of mains."""
    if kind == "white":
        return rng.standard_normal(count, np.float32)
    spectrum = np.fft.rfft(rng.standard_normal(count, np.float32))
    frequency = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    spectrum /= np.maximum(frequency, 20.0) ** (0.5 if kind == "pink" else 1.0)
    result = np.fft.irfft(spectrum, count)
    result /= result.std() + 1e-9
    if kind == "hum":
        time = np.arange(count) / SAMPLE_RATE
        result += sum(
            np.sin(2 * np.pi * 50 * n * time + rng.uniform(0, 6.28)) / n for n in range(1, 8)
        )
        result /= result.std()
    return result.astype(np.float32)


KINDS = ("white", "pink", "brown", "hum")


def _decibel(value: float) -> np.float32:
    return np.float32(10 ** (value / 20))


@dataclass(eq=False)
class _Track:
    samples: list[np.ndarray]
    utterance: list[np.ndarray]
    time: list[np.ndarray]

    def add(self, samples: np.ndarray, utterance: int, rate: float) -> None:
        frames = -(-len(samples) // FRAME)
        padded = np.zeros(frames * FRAME, np.float32)
        padded[: len(samples)] = samples
        self.samples.append(padded)
        self.utterance.append(np.full(frames, utterance, np.int32))
        self.time.append((np.arange(frames) / FPS * rate).astype(np.float32))


def compose(
    corpus: list[Utterance], numbers: list[int], rng: np.random.Generator,
    read: Callable[[int], np.ndarray],
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:  # fmt: skip
    """String utterances together; yields tracks as (samples, utterance, time).

    Args:
        numbers: which of the corpus, each once.
        read: number -> samples (N,) float32 at 16 kHz.

    Yields:
        samples (320 T,) with speech at SPEECH_LEVEL on average, utterance (T,), time (T,).
    """
    order = list(rng.permutation(numbers))
    babble = [read(n) for n in order if corpus[n].kind != "grid"][:6]
    while order:
        track = _Track([], [], [])
        seconds = 0.0
        while order and seconds < 30.0:
            if rng.random() < 0.55:
                pause = rng.uniform(2, 5) if rng.random() < 0.12 else rng.exponential(0.4)
                count = int(pause * FPS) * FRAME
                gap = np.zeros(count, np.float32)
                if count and rng.random() < 0.6:
                    kind = KINDS[rng.integers(len(KINDS))]
                    gap = noise(rng, count, kind) * _decibel(rng.uniform(-75, -25))
                track.add(gap, SILENCE, 1.0)
            number = order.pop()
            samples = read(number)
            rate = 1.0
            if corpus[number].kind == "grid" and rng.random() < 0.5:
                rate = rng.uniform(0.88, 1.22)  # faster is also higher: another throat
                samples = soxr.resample(samples, SAMPLE_RATE * rate, SAMPLE_RATE)
            gain = SPEECH_LEVEL - level(samples) + np.clip(rng.normal(0, 4), -12, 10)
            track.add(samples * _decibel(gain), int(number), rate)
            seconds += len(samples) / SAMPLE_RATE
        samples = np.concatenate(track.samples)
        if rng.random() < 0.4:
            if babble and rng.random() < 0.4:
                bed = sum(np.resize(voice / voice.std(), len(samples)) for voice in babble)
                bed = np.asarray(bed, np.float32) / np.float32(len(babble) ** 0.5)
            else:
                bed = noise(rng, len(samples), KINDS[rng.integers(len(KINDS))])
            samples = samples + bed * _decibel(SPEECH_LEVEL - rng.uniform(8, 40))
        yield samples, np.concatenate(track.utterance), np.concatenate(track.time)


def encode(
    encoder: SpeechEncoder, samples: np.ndarray, length: int, first: int = 0
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Windows of a track: (first frame, features (T, C), mel (80, 2 T)), float16.

    Args:
        samples: (320 T,).
        length: frames per window.
        first: frames in the first window, which shifts all others; 0 for a whole one.
    """
    margin = np.zeros(FFT // 2, np.float32)
    with torch.inference_mode():
        mel = log_mel(torch.from_numpy(np.concatenate([margin, samples, margin])), mel_filters())
        total = len(samples) // FRAME
        starts = [0, *range(first or length, total, length)]
        for start, stop in zip(starts, [*starts[1:], total], strict=True):
            window = mel[None, :, 2 * start : 2 * stop]
            features = encoder(window)[0]
            yield start, features.half().numpy(), window[0].half().numpy()


def cached_windows(
    config: TrainConfig, corpus: list[Utterance], encoder: SpeechEncoder, variant: int,
    progress: Callable[[float], None],
) -> Windows:  # fmt: skip
    """The training part of the corpus as windows, composed with the variant's own randomness.

    Kept in the output folder's cache under a name that changes with all that it depends on.
    """
    numbers = [n for n, utterance in enumerate(corpus) if not utterance.held_out]
    key = json.dumps([
        config.encoder, config.encoder_layers, config.window, config.seed, variant, HOP,
        [corpus[n].name for n in numbers], "composition 1",
    ])  # fmt: skip
    name = hashlib.sha256(key.encode()).hexdigest()[:12]
    folder = Path(config.output) / "cache"
    fields = ("features", "mel", "utterance", "time")
    paths = {field: folder / f"windows-{variant}-{name}-{field}.npy" for field in fields}
    if not all(path.exists() for path in paths.values()):
        rng = np.random.default_rng([config.seed, variant])
        rows: dict[str, list[np.ndarray]] = {field: [] for field in fields}
        done = 0

        def read(number: int) -> np.ndarray:
            return corpus[number].samples()

        for samples, utterance, time in compose(corpus, numbers, rng, read):
            first = int(rng.integers(config.crop, config.window + 1))
            for start, features, mel in encode(encoder, samples, config.window, first):
                if len(features) < config.crop:
                    continue
                stop, missing = start + len(features), config.window - len(features)
                rows["features"].append(np.pad(features, ((0, missing), (0, 0))))
                rows["mel"].append(np.pad(mel, ((0, 0), (0, 2 * missing))))
                # Beyond the end of a track there is nothing to learn.
                rows["utterance"].append(np.pad(utterance[start:stop], (0, missing), constant_values=PADDING))
                rows["time"].append(np.pad(time[start:stop], (0, missing)))
            done += len(np.unique(utterance[utterance >= 0]))
            progress(done / len(numbers))
        for field, path in paths.items():
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.save(file, np.stack(rows[field]))
    return Windows(*(np.load(paths[field], mmap_mode="r") for field in fields))
