"""The animator that people use: a recording in, a Motion out."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator

import numpy as np
import torch

from ..core import FaceTemplate, Motion, bundled_template
from ..core.errors import SelfTalkError
from ..core.frontend import FPS, SAMPLE_RATE
from ..core.inference import (
    BLOCK,
    Blocks,
    Inferred,
    Networks,
    Progress,
    infer,
    infer_part,
    refuse_template,
)
from ..core.template import ASSETS
from .audio import open_sound, to_mono_16k
from .checkpoint import read_animator
from .device import usable_device
from .memory import with_less
from .network import FacialAnimator, SpeechEncoder, on_array
from .published import is_published, read_vertex_model
from .vertices import VertexAnimator

BUNDLED = ASSETS / "animator.safetensors"


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
    refuse_template(path, template)
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

        def blocks() -> Iterator[np.ndarray]:
            return (mono[i : i + size] for i in range(0, len(mono), size))

        notices: list[str] = []
        predict, names = self._predict(notices), self._network.config.shape_names
        return self._told(infer(predict, names, self.template, blocks, len(mono)), notices)

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
        notices: list[str] = []
        predict, names = self._predict(notices), self._network.config.shape_names
        sound = open_sound(path)
        inferred = infer_part(predict, names, self.template, sound, start, stop, progress)
        return self._told(inferred, notices)

    def _predict(
        self, notices: list[str]
    ) -> Callable[[Blocks, float, Callable[[int], None]], np.ndarray]:
        """Both networks, with less where memory runs out: a sentence of that goes to `notices`."""

        def predict(blocks: Blocks, gain: float, advance: Callable[[int], None]) -> np.ndarray:
            return with_less(
                lambda device, divisor: self._networks(device, divisor)(blocks, gain, advance),
                self.device,
                notices,
            )

        return predict

    def _told(self, inferred: Inferred, notices: list[str]) -> Motion:
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
