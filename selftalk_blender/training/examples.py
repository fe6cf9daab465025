"""Clips of a folder of faces for the diagram: sound, offsets, and the teacher's lesson."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..animator.audio import read_sound
from ..animator.network import Layout
from ..animator.vertices import SHORTEST, SPAN, STEP
from ..core.errors import SelfTalkError
from ..core.frontend import SAMPLE_RATE
from .folder import SOUNDS, FolderClip, FolderCorpus
from .teacher import Lesson, Teacher

LOOSE = 0.1  # seconds that sound and motion may differ in length and yet be stretched to fit
# Silence in dB of a clip's speech: at most FLOOR above its quietest frames, which is what its
# room sounds like; QUIETEST is silence anywhere, LOUDEST nowhere.
FLOOR, QUIETEST, LOUDEST = 6.0, -40.0, -20.0
HUSH = 0.1  # seconds around a frame that must be quiet, too: lips move before they sound
SKIP = 8  # one frame in this many tells how large the motion is


@dataclass(frozen=True)
class Speech:
    """A sound without a face."""

    name: str
    sound: Path

    def samples(self) -> np.ndarray:
        """(N,) float32, mono, 16 kHz.

        Raises:
            SelfTalkError: the sound cannot be read.
        """
        return read_sound(self.sound)


@dataclass(frozen=True, eq=False)
class Example:
    """One clip, ready to be learnt from.

    Attributes:
        samples: (L,) float32 at 16 kHz.
        template: (3 V,) neutral face.
        offsets: (T, 3 V) recorded face minus neutral face, or None for sound alone.
        frames: T.
        text_frames: S.
        lesson: of its sound, S frames; None where nobody reads lips.
        silent: (T,) bool, frames in which nobody speaks.
    """

    samples: np.ndarray
    template: np.ndarray
    offsets: np.ndarray | None
    frames: int
    text_frames: int
    lesson: Lesson | None
    silent: np.ndarray


@dataclass(frozen=True, eq=False)
class Examples:
    """A folder's clips, read when they are needed.

    Attributes:
        corpus: the folder.
        layout: of the animator.
        teacher: None where nobody reads lips.
    """

    corpus: FolderCorpus
    layout: Layout
    teacher: Teacher | None

    def read(self, clip: FolderClip | Speech) -> Example:
        """Read a clip, and hear it if the teacher has not yet.

        Raises:
            SelfTalkError: its files cannot be read, or it is too short.
        """
        samples, motion = clip.samples(), None
        template = np.zeros(3 * self.corpus.vertex_count, np.float32)
        if isinstance(clip, FolderClip):
            template = np.asarray(self.corpus.templates[clip.subject], np.float32).ravel()
            samples, motion = aligned(samples, clip.vertices(), self.corpus.fps)
        if len(samples) < SHORTEST:
            raise SelfTalkError(
                f"{clip.name} has {len(samples)} samples at 16 kHz; {SHORTEST} is the least. "
                "Remove it from the folder."
            )
        heard = (len(samples) - SPAN) // STEP + 1  # S, as wav2vec 2.0 counts
        frames = self.layout.frames(heard) if motion is None else len(motion)
        frames, text_frames = self.layout.matched(heard, frames)
        offsets = None if motion is None else motion[:frames] - template
        lesson = None if self.teacher is None else self.teacher.lesson(samples)
        if lesson is not None:
            lesson = Lesson(lesson.features[:text_frames], lesson.text)
        silent = silent_frames(samples, frames, self.corpus.fps)
        return Example(samples, template, offsets, frames, text_frames, lesson, silent)


def aligned(samples: np.ndarray, motion: np.ndarray, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Samples (L,) and motion (T, 3 V) cut to the shorter of both, where they differ by much.

    Small differences stay: the network stretches the sound's features over the motion's frames,
    as published. It must not stretch a second of sound that nobody recorded a face for.
    """
    heard, seen = len(samples) / SAMPLE_RATE, len(motion) / fps
    if heard > seen + LOOSE:
        return samples[: round(seen * SAMPLE_RATE)], motion
    if seen > heard + LOOSE:
        return samples, motion[: max(round(heard * fps), 1)]
    return samples, motion


def silent_frames(samples: np.ndarray, frames: int, fps: float) -> np.ndarray:
    """(frames,) bool: nobody speaks in a frame, nor for HUSH seconds around it.

    Volume is the root mean square over a frame; speech, the 95th percentile of the volumes; the
    quietest frames, the 5th. Frames within FLOOR dB of the quietest are silent, but all that are
    QUIETEST dB of speech, and none above LOUDEST.
    """
    edges = np.minimum(np.arange(frames + 1) / fps * SAMPLE_RATE, len(samples)).astype(np.int64)
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    power = np.diff(energy[edges]) / np.maximum(np.diff(edges), 1)
    if not frames:
        return np.zeros(0, bool)
    floor, speech = np.percentile(power, (5, 95))
    limit = np.clip(
        floor * 10 ** (FLOOR / 10), *speech * 10 ** (np.array([QUIETEST, LOUDEST]) / 10)
    )
    reach = round(HUSH * fps)
    near = np.convolve(power > limit, np.ones(2 * reach + 1), "full")[reach : reach + frames]
    return near < 0.5


def motion_scale(corpus: FolderCorpus, clips: Sequence[FolderClip]) -> float:
    """Root mean square of all offsets of clips from their neutral faces, in the folder's unit.

    Raises:
        SelfTalkError: nothing moves.
    """
    total, count = 0.0, 0
    for clip in clips:
        template = np.asarray(corpus.templates[clip.subject], np.float32).ravel()
        offsets = clip.vertices()[::SKIP] - template
        total += float(np.square(offsets, dtype=np.float64).sum())
        count += offsets.size
    if not total > 0:
        raise SelfTalkError(f"No face in {corpus.path} moves; the frames equal the templates.")
    return (total / count) ** 0.5


def find_speech(folder: str | os.PathLike[str]) -> list[Speech]:
    """All sounds in a folder and below it.

    Raises:
        SelfTalkError: there are none.
    """
    place = Path(folder)
    found = [
        Speech(str(path.relative_to(place)), path)
        for path in sorted(place.rglob("*"))
        if path.suffix.lower() in SOUNDS and not path.name.startswith(".")
    ]
    if not found:
        raise SelfTalkError(f"There is no sound in the folder {place} of speech without faces.")
    return found


def hear_all(
    examples: Examples,
    clips: Sequence[FolderClip | Speech],
    rank: int,
    world: int,
    report: Callable[[float, str], None],
) -> None:
    """Read every clip, and let the teacher hear it; each process its share.

    What is wrong with a clip is then said before anything is trained.

    Raises:
        SelfTalkError: as `Examples.read`.
    """
    mine = clips[rank::world]
    for number, clip in enumerate(mine, 1):
        examples.read(clip)
        report(number / len(mine), clip.name)
