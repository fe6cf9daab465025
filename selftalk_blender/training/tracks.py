"""The corpus as the animator will meet it: long sound, noise, pauses, any level; and its features.

Utterances are strung together in random order into tracks, at random levels and some at another
pitch, with pauses of digital silence or noise between, some with noise throughout. A track is
encoded as in inference, twice, with the windows at two places, and the features are kept on
disk: the encoder is frozen, so they are computed once.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
import torch

from ..animator.network import SpeechEncoder, on_array
from ..core.files import atomic_path
from ..core.frontend import (
    FPS,
    FRAME,
    SAMPLE_RATE,
    SPEECH_LEVEL,
    Loudness,
    mel_stream,
)
from ..core.windows import step, windowed
from .config import TrainConfig
from .corpus import Utterance

SILENCE = -1  # utterance number of a frame in which nobody speaks
COMPOSITION = 0  # seed of the tracks: runs with other seeds learn from the same ones


@dataclass(frozen=True, eq=False)
class Tracks:
    """Features of tracks strung together, and what is spoken in each frame.

    Attributes:
        features: (2, N, C) float16, with the encoder's windows at two places.
        utterance: (N,) int32, number in the corpus, or SILENCE.
        time: (N,) float32, seconds within that utterance.
        ends: (tracks,) int64, the frame after each track's last.
    """

    features: np.ndarray
    utterance: np.ndarray
    time: np.ndarray
    ends: np.ndarray

    def crop(self, rng: np.random.Generator, frames: int) -> slice:
        """A random stretch within one track; every stretch is as likely."""
        starts = np.concatenate([[0], self.ends[:-1]])
        choices = np.cumsum(self.ends - starts - frames + 1)
        pick = int(rng.integers(choices[-1]))
        track = int(np.searchsorted(choices, pick, side="right"))
        start = int(self.ends[track] - frames - (choices[track] - 1 - pick))
        return slice(start, start + frames)


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
    read: Callable[[int], np.ndarray], shortest: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:  # fmt: skip
    """String utterances together; yields tracks as (samples, utterance, time).

    Args:
        numbers: which of the corpus, each once.
        read: number -> samples (N,) float32 at 16 kHz.
        shortest: least frames of a track; silence fills it up.

    Yields:
        samples (320 T,) with speech at SPEECH_LEVEL on average, utterance (T,), time (T,).
    """
    order = list(rng.permutation(numbers))
    babble = [read(n) for n in order if corpus[n].kind != "grid"][:6]
    while order:
        track = _Track([], [], [])
        seconds = 0.0
        wanted = rng.choice([1.0, 10.0, 30.0], p=[0.4, 0.3, 0.3])  # 1: an utterance alone
        while order and seconds < wanted:
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
        missing = shortest - sum(len(part) for part in track.time)
        track.add(np.zeros(max(missing, 0) * FRAME, np.float32), SILENCE, 1.0)
        samples = np.concatenate(track.samples)
        if rng.random() < 0.4:
            if babble and rng.random() < 0.4:
                bed = sum(np.resize(voice / voice.std(), len(samples)) for voice in babble)
                bed = np.asarray(bed, np.float32) / np.float32(len(babble) ** 0.5)
            else:
                bed = noise(rng, len(samples), KINDS[rng.integers(len(KINDS))])
            samples = samples + bed * _decibel(SPEECH_LEVEL - rng.uniform(8, 40))
        yield samples, np.concatenate(track.utterance), np.concatenate(track.time)


def encode(encoder: SpeechEncoder, samples: np.ndarray, length: int, first: int) -> np.ndarray:
    """Features (T, C) float16 of a track (320 T,), in windows of `length` frames.

    Args:
        first: where the second window starts (see `windowed`).
    """
    encode = functools.partial(on_array, encoder, torch.device("cpu"))
    pieces = windowed(mel_stream([samples]), encode, length, first)
    return np.concatenate(list(pieces)).astype(np.float16)


def cached_tracks(
    config: TrainConfig, corpus: list[Utterance], encoder: SpeechEncoder, variant: int,
    progress: Callable[[float], None],
) -> Tracks:  # fmt: skip
    """The training part of the corpus as tracks, composed with the variant's own randomness.

    Kept in the output folder's cache under a name that changes with all that it depends on.
    """
    numbers = [n for n, utterance in enumerate(corpus) if not utterance.held_out]
    key = json.dumps([
        config.encoder, config.encoder_layers, config.window, config.crop, COMPOSITION, variant,
        [corpus[n].name for n in numbers], "composition 3",
    ])  # fmt: skip
    name = hashlib.sha256(key.encode()).hexdigest()[:12]
    fields = ("features", "utterance", "time", "ends")
    folder = Path(config.output) / "cache"
    paths = {field: folder / f"tracks-{variant}-{name}-{field}.npy" for field in fields}
    if not all(path.exists() for path in paths.values()):
        rng = np.random.default_rng([COMPOSITION, variant])
        rows: dict[str, list[np.ndarray]] = {field: [] for field in fields}
        done = end = 0

        def read(number: int) -> np.ndarray:
            return corpus[number].samples()

        for samples, utterance, time in compose(corpus, numbers, rng, read, config.crop):
            hop = step(config.window)
            first = int(rng.integers(1, hop + 1))
            other = (first + hop // 2) % hop + 1
            rows["features"].append(
                np.stack([encode(encoder, samples, config.window, n) for n in (first, other)])
            )
            rows["utterance"].append(utterance)
            rows["time"].append(time)
            end += len(time)
            rows["ends"].append(np.array([end]))
            done += len(np.unique(utterance[utterance >= 0]))
            progress(done / len(numbers))
        for field, path in paths.items():
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.save(file, np.concatenate(rows[field], axis=1 if field == "features" else 0))
    return Tracks(*(np.load(paths[field], mmap_mode="r") for field in fields))
