"""Animators with a dense head (published checkpoints): a recording in, moving vertices out.

They attend to everything, so they run on the whole clip, normalised over the whole file. A clip
that is too long for that is heard in wide windows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..core import FaceTemplate, Motion
from ..core.errors import SelfTalkError
from ..core.frontend import SAMPLE_RATE, frame_levels
from .audio import read_sound, to_mono_16k
from .memory import with_less
from .network import clip_features
from .published import VertexModel

# Seconds that are heard at once. The memory of a minute is some 1 GB beside the weights, and the
# time of attention grows with the square.
LONGEST = 120.0
WINDOW = 60.0  # seconds of a longer clip whose motion is kept from each run
CONTEXT = 20.0  # seconds heard before and after them
SHORTEST = 720  # samples; less is no frame
# Samples that a frame of wav2vec 2.0's convolutions hears, and from one to the next.
SPAN, STEP = 400, 320

Progress = Callable[[float, str], None]
Window = tuple[int, int, int, int | None]


class VertexAnimator:
    """A published animator with the neutral face that it moves.

    Attributes:
        template: the neutral face, in the axes and units that it was given in; no shapes.
        fps: frames per second of its motion.
        notices: sentences about the last clip that its owner should read.
        loudness: (T,) float32, dBFS of the last clip during each frame of its motion.
    """

    def __init__(self, model: VertexModel, template: np.ndarray, device: torch.device) -> None:
        """Put a model and a neutral face together.

        Args:
            template: (V, 3) or (3 V,).

        Raises:
            SelfTalkError: the template is not one of the model's vertex count, or not finite.
        """
        array = np.asarray(template)
        numeric = np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)
        wanted = model.layout.vertices
        if not numeric or array.shape not in ((wanted, 3), (3 * wanted,), (1, 3 * wanted)):
            raise SelfTalkError(
                f"The animator moves {wanted} vertices, but the template's shape is {array.shape}. "
                f"Give the neutral face that it was trained with, ({wanted}, 3)."
            )
        array = np.array(array.reshape(wanted, 3), np.float32)
        if not np.isfinite(array).all():
            raise SelfTalkError("The template holds values that are not finite.")
        self.template = FaceTemplate("template", array, np.zeros((0, 4), np.int32))
        self.fps = model.layout.fps
        self.notices: list[str] = []
        self.loudness = np.zeros(0, np.float32)
        self.device = device
        self._model = model.eval()

    def with_template(self, template: np.ndarray) -> VertexAnimator:
        """The same network with another neutral face; nothing is loaded again.

        Args:
            template: (V, 3) or (3 V,).

        Raises:
            SelfTalkError: as `VertexAnimator`.
        """
        return VertexAnimator(self._model, template, self.device)

    def animate(self, samples: np.ndarray, sample_rate: int) -> Motion:
        """The motion of a recording.

        Args:
            samples: (N,) mono or (N, C) channels, floats in -1..1.
            sample_rate: Hz.

        Returns:
            Dense motion; as many frames as the published network gives.

        Raises:
            SelfTalkError: samples that are not finite, or too few for a frame.
        """
        return self._run(to_mono_16k(samples, sample_rate), None)

    def animate_file(
        self,
        path: str | os.PathLike[str],
        start: float = 0.0,
        stop: float | None = None,
        progress: Progress | None = None,
    ) -> Motion:
        """The motion of a sound file, or of a part of it; the whole file is heard either way.

        Args:
            start, stop: seconds in the file; the whole file by default.
            progress: called with the share done (0..1) and what is being done.

        Returns:
            Dense motion whose frame i is at start + i / fps seconds of the file.

        Raises:
            SelfTalkError: the file cannot be read, or has no sound in this part.
        """
        samples = read_sound(path)
        motion = self._run(samples, progress)
        if start <= 0 and stop is None:
            return motion
        end = len(motion) / self.fps if stop is None else min(stop, len(motion) / self.fps)
        count = math.ceil((end - start) * self.fps - 1e-6)
        if count < 1:
            raise SelfTalkError("There is no sound in this part of the clip.")
        first = round(start * SAMPLE_RATE)
        self.loudness = self._levels(samples[first : round(end * SAMPLE_RATE)], count)
        return motion.at(start + np.arange(count) / self.fps, self.fps)

    def _run(self, samples: np.ndarray, progress: Progress | None) -> Motion:
        self.notices = []
        report = progress or (lambda done, stage: None)
        if len(samples) < SHORTEST:
            raise SelfTalkError(
                f"The clip has {1000 * len(samples) / SAMPLE_RATE:.1f} ms of sound; this animator "
                f"needs {1000 * SHORTEST / SAMPLE_RATE:.1f} ms at least."
            )
        heard = self._model.encoder.prepare(samples)
        seconds = len(samples) / SAMPLE_RATE
        if seconds > LONGEST:
            self.notices.append(
                f"The clip is {seconds:.0f} s long. This animator hears {LONGEST:.0f} s at once, "
                f"so it was run in windows of {WINDOW:.0f} s with {CONTEXT:.0f} s around each."
            )
        furthest = 0.0

        def advance(done: float, stage: str) -> None:
            nonlocal furthest  # what has to begin anew does not go back
            furthest = max(furthest, done)
            report(furthest, stage)

        dense = with_less(
            lambda device, divisor: self._predict(heard, device, divisor, advance),
            self.device,
            self.notices,
        )
        report(1.0, "Animating")
        self.loudness = self._levels(samples, len(dense))
        return Motion(self.template, self.fps, dense=dense)

    def _levels(self, samples: np.ndarray, frames: int) -> np.ndarray:
        """(frames,) dBFS of samples (N,); silence where the motion is longer than they are."""
        levels = frame_levels(samples, self.fps)[:frames]
        return np.pad(levels, (0, frames - len(levels)), constant_values=-120.0)

    def _predict(
        self, heard: Tensor, device: torch.device, divisor: int, report: Progress
    ) -> np.ndarray:
        """(T, V, 3) offsets from the samples that the encoder hears, (N,)."""
        self._model.to(device)
        total = len(heard)
        windows: list[Window] = [(0, 0, total, None)]
        if total > LONGEST / divisor * SAMPLE_RATE:
            windows = list(self._windows(total, divisor))
        pieces = []
        with torch.inference_mode():
            for number, (skip, first, last, count) in enumerate(windows):
                part = heard[first:last].to(device)
                with self._reporting(report, number, len(windows)):
                    listened = self._model.encoder.listen(part)
                    frames = None
                    if len(windows) > 1 and self._model.layout.resample == "convolutions":
                        listened = self._resampled(listened, first, total)
                        frames = [len(listened)]
                    offsets = self._offsets(listened, frames)
                end = None if count is None else skip + count
                pieces.append(offsets[skip:end].cpu().numpy())
        return np.concatenate(pieces).reshape(-1, self._model.layout.vertices, 3)

    def _windows(self, total: int, divisor: int) -> Iterator[Window]:
        """Frames to skip, first and last sample, frames to keep, of the windows of a long clip.

        Windows start at whole seconds, where frames of 25 and 30 fps and samples fall together.
        """
        window, context = WINDOW // divisor, CONTEXT // divisor
        seconds = 0.0
        while seconds * SAMPLE_RATE < total:
            begin = seconds - min(context, seconds)
            first = round(begin * SAMPLE_RATE)
            last = round((seconds + window + context) * SAMPLE_RATE)
            ends = last >= total
            frame, following = round(seconds * self.fps), round((seconds + window) * self.fps)
            skip = frame - round(begin * self.fps)
            yield skip, first, min(last, total), None if ends else following - frame
            if ends:
                return
            seconds += window

    def _resampled(self, listened: Tensor, first: int, total: int) -> Tensor:
        """Encoder frames (S, 512) of a window -> (T, 512), each where the whole clip has it.

        The published resampling puts a clip's last frame of motion onto its last encoder frame;
        to do so in each window would move frames by up to 20 ms, and show at the joints.

        Args:
            first: sample of the clip with which the window begins.
            total: samples of the clip.
        """
        layout = self._model.layout
        count = (total - SPAN) // STEP + 1  # of the whole clip's encoder frames
        frames = layout.frames(count)
        step = (count - 1) / (frames - 1)
        before = first / STEP
        begin = round(first / SAMPLE_RATE * self.fps)
        end = min(int((before + len(listened) - 1) / step + 1e-6) + 1, frames)
        place = torch.arange(begin, end, dtype=torch.float64) * step - before
        place = place.clamp(0, len(listened) - 1)
        low = place.floor().long()
        high = (low + 1).clamp(max=len(listened) - 1)
        share = (place - low)[:, None].float().to(listened.device)
        return listened[low] * (1 - share) + listened[high] * share

    def _offsets(self, listened: Tensor, frames: list[int] | None) -> Tensor:
        """Encoder frames (S, 512), and how many of motion are wanted -> offsets (T, 3 V)."""
        model = self._model
        features, mask = clip_features(model.layout, model.encoder, [listened], frames)
        offsets: Tensor = model.animator(features, mask)[0]
        return offsets

    def _reporting(self, report: Progress, number: int, windows: int) -> _LayerProgress:
        return _LayerProgress(self._model.encoder.layers, report, number / windows, 1 / windows)


class _LayerProgress:
    """While it is open, each layer of the encoder that is done moves the progress on."""

    def __init__(
        self, layers: list[torch.nn.Module], report: Progress, begin: float, share: float
    ) -> None:
        self._layers, self._report = layers, report
        self._begin, self._share = begin, share
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> None:
        for number, layer in enumerate(self._layers, 1):
            done = self._begin + self._share * 0.9 * number / len(self._layers)
            self._handles.append(
                layer.register_forward_hook(lambda *_, done=done: self._report(done, "Animating"))
            )

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
