"""A sound heard by the animator in its own process; the scene is left alone."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core import Motion
from ..core.inference import CONTEXT
from ..core.progress import Progress
from ..core.steps import told
from ..worker import STARTING
from ..worker.client import AnimateJob
from . import sound, strip_sound

# Share of the whole that the animator takes; the rest is writing.
ANIMATOR_SHARE = 0.85


@dataclass(frozen=True)
class Listened:
    """What the animator made of a sound.

    Attributes:
        motion: frame i is at start + i / fps seconds of the clip.
        loudness: (T,) float32, dBFS during each frame; see `core.frontend.frame_levels`.
        notices: sentences about the clip that the user should read.
        ready: when the animator had started, by `time.monotonic`.
    """

    motion: Motion
    loudness: np.ndarray
    notices: list[str]
    ready: float


Listening = Generator[Progress, None, Listened]


def listen(
    clip: Path,
    start: float = 0.0,
    stop: float | None = None,
    *,
    packed: str = "",
    mixed: tuple[str, str] | None = None,
    python: str = "",
    device: str | None = None,
    animator: Path | None = None,
    template: Path | None = None,
    subject: str = "",
) -> Listening:
    """Read a sound and have its motion made; the scene is left alone.

    From the first step that is `waiting` on, the animator is at work by itself: one may do
    something else and come back. Closing the generator cancels.

    Args:
        clip, start, stop: the sound, and seconds in it.
        packed, mixed: for a strip's sound that is no file of its own; see `strip_sound.write`.
        python, device, animator, template, subject: see `worker.client.AnimateJob`.

    Raises:
        SelfTalkError: what went wrong, and what to do about it.
    """
    ready = time.monotonic()
    notices: list[str] = []
    written = packed or mixed or sound.needs_reading(clip)
    with strip_sound.temporary_folder() if written else contextlib.nullcontext() as folder:
        if packed or mixed:
            what = "Mixing the strip down" if mixed else "Unpacking the sound"
            clip = yield from told(
                strip_sound.write(folder, clip, packed, mixed),
                lambda done: Progress(0.0, f"{what}, {100 * done:.0f} %"),
            )
        if not mixed and sound.needs_reading(clip):
            # An animator of other vertices hears the whole file.
            whole = template is not None
            first = 0 if whole else max(math.floor(start - CONTEXT) - 1, 0)
            last = None if whole or stop is None else stop + CONTEXT + 0.1
            wav = folder / "sound.wav"
            with contextlib.closing(sound.write_wav(clip, first, last, wav, notices)) as reading:
                for done in reading:
                    yield Progress(0.0, f"Reading the sound, {100 * done:.0f} %")
            clip, start, stop = wav, start - first, None if stop is None else stop - first
        job = AnimateJob(
            clip, start, stop, python, device, animator=animator, template=template, subject=subject
        )
        try:
            for progress in _animate(job):
                if progress.text == STARTING:
                    ready = time.monotonic()
                yield progress
            motion = job.result()
        finally:
            job.cancel()
    return Listened(motion, job.loudness, notices + job.notices, ready)


def _animate(job: AnimateJob) -> Iterator[Progress]:
    job.start()
    now = Progress(0.0, STARTING, waiting=True)
    while not job.finished:
        yield now
        for step in job.poll():
            now = Progress(ANIMATOR_SHARE * step.done, step.text, waiting=True)
