"""The bundled animator in plain numpy: a recording in, a Motion out; as `load_animator`."""

from __future__ import annotations

import json
import os

import numpy as np

from ..core import Motion, bundled_template
from ..core.errors import SelfTalkError
from ..core.frontend import FPS
from ..core.inference import Blocks, Networks, Progress, infer
from ..core.template import ASSETS
from .network import FacialAnimator, SpeechEncoder
from .tensors import read_tensors

BUNDLED = ASSETS / "animator.safetensors"
FORMAT = 1
BLOCK = 16000 * 30  # samples looked at at once


class Animator:
    """The bundled animator, or one trained like it, without PyTorch.

    Attributes:
        template: the head that it moves.
        fps: frames per second of its motion.
        notices: sentences about the last clip that its owner should read.
        loudness: (T,) float32, dBFS of the last clip during each frame of its motion.
    """

    fps = FPS

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Read an animator file; the bundled one by default.

        Raises:
            SelfTalkError: the file is missing, damaged, newer than this program, needs PyTorch, or
                moves another head than the one of this SelfTalk.
        """
        source = BUNDLED if path is None else path
        tensors, metadata = read_tensors(source)
        try:
            settings = json.loads(metadata["selftalk"])
            if settings["format"] > FORMAT:
                raise SelfTalkError(f"{source} was made by a newer SelfTalk. Update SelfTalk.")
            encoder = SpeechEncoder(_part(tensors, "encoder."), settings["encoder"])
            network = FacialAnimator(_part(tensors, "animator."), settings["animator"])
            window = int(settings["window"])
            digest = settings["template"]
        except (KeyError, TypeError, ValueError) as error:
            raise SelfTalkError(
                f"{source} is no animator that runs without PyTorch. Choose a Python that has "
                "PyTorch in the SelfTalk preferences."
            ) from error
        self.template = bundled_template()
        if digest != self.template.digest:
            raise SelfTalkError(f"{source} animates another head than the one of this SelfTalk.")
        self.notices: list[str] = []
        self.loudness = np.zeros(0, np.float32)
        self._networks = Networks(encoder, network, window, network.context)
        self._shape_names = network.shape_names

    def animate(self, samples: np.ndarray, progress: Progress | None = None) -> Motion:
        """The motion of a recording.

        Args:
            samples: (N,) float32, mono, 16 kHz.

        Returns:
            Motion of ceil(N / 320) frames, frame i at i / 50 seconds.

        Raises:
            SelfTalkError: no samples.
        """
        return self.animate_blocks(
            lambda: (samples[i : i + BLOCK] for i in range(0, len(samples), BLOCK)),
            len(samples),
            progress,
        )

    def animate_blocks(
        self,
        blocks: Blocks,
        samples: int,
        progress: Progress | None = None,
    ) -> Motion:
        """The motion of a stream; see `core.inference.infer`."""
        weights, self.loudness, self.notices = infer(
            self._networks, self._shape_names, self.template, blocks, samples, progress
        )
        return Motion(self.template, FPS, weights)


def _part(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n[len(prefix) :]: value for n, value in tensors.items() if n.startswith(prefix)}
