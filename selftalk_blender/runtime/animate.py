"""The bundled animator in plain numpy: a recording in, a Motion out; as `animator.Animator`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..core import Motion, bundled_template
from ..core.errors import SelfTalkError
from ..core.frontend import FPS, SAMPLE_RATE
from ..core.inference import BLOCK, Inferred, Networks, Progress, infer, infer_part
from ..core.sound import OpenSound
from ..core.template import ASSETS
from ..core.wav import open_wav
from .network import FacialAnimator, SpeechEncoder
from .tensors import read_tensors

BUNDLED = ASSETS / "animator.safetensors"
FORMAT = 1


class Animator:
    """The bundled animator, or one trained like it, without PyTorch.

    Attributes:
        template: the head that it moves.
        fps: frames per second of its motion.
        notices: sentences about the last clip that its owner should read.
        loudness: (T,) float32, dBFS of the last clip during each frame of its motion.
    """

    fps = FPS

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        open_sound: OpenSound = open_wav,
        remark: str = "",
    ) -> None:
        """Read an animator file; the bundled one by default.

        Args:
            open_sound: what opens sound files.
            remark: a sentence that belongs to the notices of every clip.

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
        self._open, self._remark = open_sound, remark

    def animate(self, samples: np.ndarray, progress: Progress | None = None) -> Motion:
        """The motion of a recording.

        Args:
            samples: (N,) float32, mono, 16 kHz.
            progress: called with the share done (0..1) and what is being done.

        Returns:
            Motion of ceil(N / 320) frames, frame i at i / 50 seconds.

        Raises:
            SelfTalkError: no samples.
        """
        size = int(BLOCK * SAMPLE_RATE)

        def blocks() -> Iterator[np.ndarray]:
            return (samples[i : i + size] for i in range(0, len(samples), size))

        names, count = self._shape_names, len(samples)
        return self._told(infer(self._networks, names, self.template, blocks, count, progress))

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
        sound = self._open(Path(path))
        names = self._shape_names
        return self._told(
            infer_part(self._networks, names, self.template, sound, start, stop, progress)
        )

    def _told(self, inferred: Inferred) -> Motion:
        self.loudness = inferred.loudness
        self.notices = [*inferred.notices, *([self._remark] if self._remark else [])]
        return Motion(self.template, FPS, inferred.weights)


def _part(tensors: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n[len(prefix) :]: value for n, value in tensors.items() if n.startswith(prefix)}
