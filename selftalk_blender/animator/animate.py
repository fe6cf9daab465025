"""The animator that people use: a recording in, a Motion out."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable

import numpy as np
import torch

from ..core import FaceTemplate, Motion, bundled_template
from ..core.errors import SelfTalkError
from ..core.frontend import FPS, SAMPLE_RATE
from ..core.inference import Blocks, Networks, Progress, infer
from ..core.template import ASSETS
from .audio import open_sound, to_mono_16k
from .checkpoint import read_animator
from .device import usable_device
from .memory import with_less
from .network import FacialAnimator, SpeechEncoder, on_array
from .published import is_published, read_vertex_model
from .vertices import VertexAnimator

BUNDLED = ASSETS / "animator.safetensors"
CONTEXT = 2.0  # seconds of sound read before and after a part of a file
BLOCK = 30.0  # seconds of sound in memory at once


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
        self.window = window

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

    def _run(self, blocks: Blocks, samples: int, progress: Progress | None) -> Motion:
        notices: list[str] = []

        def predict(blocks: Blocks, gain: float, advance: Callable[[int], None]) -> np.ndarray:
            return with_less(
                lambda device, divisor: self._networks(device, divisor)(blocks, gain, advance),
                self.device,
                notices,
            )

        names = self._network.config.shape_names
        inferred = infer(predict, names, self.template, blocks, samples, progress)
        self.loudness, self.notices = inferred.loudness, inferred.notices + notices
        return Motion(self.template, FPS, inferred.weights)

    def _networks(self, device: torch.device, divisor: int) -> Networks:
        """Both networks on a device, in windows of a part of the usual length."""
        self._encoder.to(device)
        self._network.to(device)
        return Networks(
            functools.partial(on_array, self._encoder, device),
            functools.partial(on_array, self._network, device),
            self.window // divisor,
            self._network.context,
        )
