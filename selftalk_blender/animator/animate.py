"""The animator that people use: a recording in, a Motion out."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from ..core import FaceTemplate, Motion, bundled_template
from ..core.errors import SelfTalkError
from ..core.lips import rest_weights, symmetric, tidy_lips
from ..core.template import ASSETS
from .audio import SAMPLE_RATE, open_sound, to_mono_16k
from .checkpoint import read_animator
from .device import usable_device
from .frontend import FPS, FRAME, Loudness, frame_levels, mel_filters, mel_stream
from .memory import with_less
from .network import FacialAnimator, SpeechEncoder
from .published import is_published, read_vertex_model
from .vertices import VertexAnimator
from .windows import in_context, windowed

BUNDLED = ASSETS / "animator.safetensors"
CONTEXT = 2.0  # seconds of sound read before and after a part of a file
# Seconds of silence that the encoder hears before and after a clip. Its features of what stands at
# the very beginning of a window are the worst: without a lead the gap's correlation with held-out
# clips of 3 s falls from 0.952 to 0.948.
LEAD, TAIL = 4.0, 1.0
BLOCK = 30.0  # seconds of sound in memory at once

Progress = Callable[[float, str], None]


def load_animator(
    path: str | os.PathLike[str] | None = None,
    device: str | None = None,
    template: np.ndarray | None = None,
) -> Animator | VertexAnimator:
    """The bundled animator, or one from a file.

    Args:
        path: an animator that SelfTalk trained, or a published checkpoint (`vocaset.pth`,
            `BIWI.pth`, one converted by `selftalk convert`).
        device: "cpu", "cuda", ...; None takes CUDA where there is one.
        template: (V, 3), the neutral face that a published checkpoint moves. Its motion keeps
            the template's axes and units.

    Raises:
        SelfTalkError: the file is missing or damaged, the template is missing or does not fit,
            or the device is not there.
    """
    place = usable_device(device)
    if path is not None and is_published(path):
        model = read_vertex_model(path)
        if template is None:
            raise SelfTalkError(
                f"{path} moves the {model.layout.vertices} vertices of a face that only its owner "
                "has. Name the file of its neutral face, too: the template."
            )
        return VertexAnimator(model, template, place)
    # Read first: a missing or damaged file is told of before a needless template.
    encoder, network, settings = read_animator(BUNDLED if path is None else path)
    if template is not None:
        raise SelfTalkError(
            f"{'The bundled animator' if path is None else path} moves the bundled head and "
            "takes no template. Leave the template out."
        )
    head = bundled_template()
    if settings["template"] != head.digest:
        raise SelfTalkError(f"{path} animates another head than the one of this SelfTalk.")
    return Animator(encoder, network, head, settings["window"], place)


class Animator:
    """A trained facial animator, ready to run.

    Attributes:
        template: the head that it moves.
        fps: frames per second of its motion.
        window: frames per window of inference.
        notices: sentences about the last clip that its owner should read.
        loudness: (T,) float32, dBFS of the last clip during each frame of its motion.
    """

    fps = FPS

    def __init__(
        self,
        encoder: SpeechEncoder,
        network: FacialAnimator,
        template: FaceTemplate,
        window: int,
        device: torch.device,
    ) -> None:
        self.template = template
        self.notices: list[str] = []
        self.loudness = np.zeros(0, np.float32)
        self.device = device
        self._encoder = encoder.eval()
        self._network = network.eval()
        self._filters = mel_filters()
        self.window = window
        names = template.shape_names
        self._columns = [names.index(name) for name in network.config.shape_names]

    def animate(self, samples: np.ndarray, sample_rate: int) -> Motion:
        """The motion of a recording.

        Args:
            samples: (N,) mono or (N, C) channels, float32 in -1..1.
            sample_rate: Hz.

        Returns:
            Motion of ceil(seconds * fps) frames, frame i at i / fps seconds.

        Raises:
            SelfTalkError: no samples, or samples that are not finite.
        """
        mono = to_mono_16k(samples, sample_rate)
        size = int(BLOCK * SAMPLE_RATE)
        return self._run(
            lambda: (mono[i : i + size] for i in range(0, len(mono), size)), len(mono), None
        )

    def animate_file(
        self,
        path: str | os.PathLike[str],
        start: float = 0.0,
        stop: float | None = None,
        progress: Progress | None = None,
    ) -> Motion:
        """The motion of a sound file, or of a part of it, read as a stream.

        Args:
            start, stop: seconds in the file; the whole file by default. Sound around the part
                is read as context.
            progress: called with the share done (0..1) and what is being done.

        Returns:
            Motion whose frame i is at start + i / fps seconds of the file.

        Raises:
            SelfTalkError: the file cannot be read, or has no sound in this part.
        """
        sound = open_sound(path)
        lead = min(math.floor(start * FPS), round(CONTEXT * FPS))  # frames of context
        begin = start - lead / FPS
        end = None if stop is None else stop + CONTEXT
        length = (sound.duration if end is None else min(end, sound.duration)) - begin
        motion = self._run(
            lambda: sound.blocks(begin, end, BLOCK), max(int(length * SAMPLE_RATE), 1), progress
        )
        last = None if stop is None else lead + math.ceil((stop - start) * FPS - 1e-6)
        assert motion.weights is not None
        self.loudness = self.loudness[lead:last]
        return Motion(self.template, FPS, motion.weights[lead:last])

    def _run(
        self, blocks: Callable[[], Iterable[np.ndarray]], samples: int, progress: Progress | None
    ) -> Motion:
        """Two passes over the sound: its level, then the motion."""
        self.notices = []
        report = progress or (lambda done, stage: None)
        loudness = Loudness()
        levels = []
        total = 0
        for block in blocks():
            loudness.add(block)
            levels.append(frame_levels(block, FPS))
            total += len(block)
            report(0.1 * min(total / samples, 1.0), "Listening")
        if total == 0:
            raise SelfTalkError("There is no sound in this part of the clip.")
        frames = -(-total // FRAME)
        self.loudness = np.concatenate(levels)  # blocks but the last are of whole frames
        if loudness.speechless:
            self.notices.append(
                "The clip is silent, or nothing in it stands out from faint noise: the mouth "
                "stays closed. If someone speaks in it, raise its volume and reduce its noise."
            )
            report(1.0, "Animating")
            return Motion(self.template, FPS, np.tile(rest_weights(self.template), (frames, 1)))
        furthest = 0.1

        def advance(done: int) -> None:
            nonlocal furthest  # what has to begin anew does not go back
            furthest = max(furthest, 0.1 + 0.9 * min(max(done / frames, 0.0), 1.0))
            report(furthest, "Animating")

        def predict(device: torch.device, divisor: int) -> np.ndarray:
            return self._predict(blocks, loudness.gain, device, self.window // divisor, advance)

        predicted = with_less(predict, self.device, self.notices)
        return Motion(self.template, FPS, self._weights(predicted[:frames]))

    def _predict(
        self,
        blocks: Callable[[], Iterable[np.ndarray]],
        gain: float,
        device: torch.device,
        window: int,
        advance: Callable[[int], None],
    ) -> np.ndarray:
        """(T, K) of the network's shapes, T as many as the sound has or a few more."""
        self._encoder.to(device)
        self._network.to(device)
        predicted: list[np.ndarray] = []
        lead, tail = (np.zeros(round(s * SAMPLE_RATE), np.float32) for s in (LEAD, TAIL))
        first = len(lead) // FRAME
        done = -first
        with torch.inference_mode():
            sound = itertools.chain([lead], blocks(), [tail])
            mel = mel_stream(sound, gain, self._filters.to(device))
            features = windowed(mel, self._encode, window)
            for piece in in_context(features, self._decode, self._network.context):
                predicted.append(piece.cpu().numpy())
                done += len(piece)
                advance(done)
        return np.concatenate(predicted)[first:]

    def _encode(self, mel: Tensor) -> Tensor:
        """(80, 2 T) log-mel of one window -> (T, C) features."""
        features: Tensor = self._encoder(mel[None])[0]
        return features

    def _decode(self, features: Tensor) -> Tensor:
        """(T, C) features -> (T, K) weights of the network's shapes."""
        weights: Tensor = self._network(features[None])[0]
        return weights

    def _weights(self, predicted: np.ndarray) -> np.ndarray:
        """(T, K) of the network's shapes -> (T, 52) of the head's."""
        weights = np.zeros((len(predicted), len(self.template.shape_names)), np.float32)
        weights[:, self._columns] = predicted
        weights = symmetric(self.template, np.clip(weights, 0.0, 1.0))
        return tidy_lips(self.template, weights)
