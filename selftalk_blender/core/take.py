"""What the animator made of one line of speech, kept so that all later steps can run again."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass

import numpy as np

from .errors import SelfTalkError
from .motion import Motion
from .template import bundled_template

FORMAT = 1
FPS = 50.0
SILENCE = -120.0  # dBFS


@dataclass(frozen=True, eq=False)
class Take:
    """The animator's weights before any of the artist's controls.

    Attributes:
        weights: (T, K) float32 of the bundled head's shapes, in the order of its shape names.
        fps: frames per second; frame i is at i / fps seconds.
        loudness: (T,) float32 of the sound in dBFS, SILENCE where nothing is heard.
    """

    weights: np.ndarray
    fps: float
    loudness: np.ndarray

    def __post_init__(self) -> None:
        shapes = len(bundled_template().shape_names)
        if self.weights.ndim != 2 or self.weights.shape[1] != shapes:
            raise ValueError(f"weights have shape {self.weights.shape}, not (T, {shapes})")
        if self.loudness.shape != self.weights.shape[:1]:
            raise ValueError(f"{len(self.loudness)} of {len(self.weights)} frames have a loudness")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps is {self.fps}")
        if not (np.isfinite(self.weights).all() and np.isfinite(self.loudness).all()):
            raise ValueError("the take has values that are not finite")

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return len(self.weights) / self.fps

    def motion(self, weights: np.ndarray | None = None) -> Motion:
        """The take, or other weights (T, K) in its place, as a motion of the bundled head."""
        return Motion(bundled_template(), self.fps, self.weights if weights is None else weights)

    def to_bytes(self) -> bytes:
        """The take compressed, weights rounded to 11 bits: about 20 kB for 10 s of speech."""
        arrays = {
            "format": np.array(FORMAT),
            "fps": np.array(self.fps, np.float64),
            "shape_names": np.array(bundled_template().shape_names, dtype=np.str_),
            "weights": self.weights.astype(np.float16),
            "loudness": self.loudness.astype(np.float16),
        }
        file = io.BytesIO()
        np.savez(file, allow_pickle=False, **arrays)
        return zlib.compress(file.getbuffer(), 1)  # the quickest level

    @classmethod
    def from_bytes(cls, data: bytes) -> Take:
        """The take kept by `to_bytes`.

        Raises:
            SelfTalkError: it is damaged, or from another version of the bundled head.
        """
        try:
            with np.load(io.BytesIO(zlib.decompress(data)), allow_pickle=False) as file:
                arrays = dict(file)
            if int(arrays["format"]) > FORMAT:
                raise ValueError(f"format {int(arrays['format'])} is newer than this program")
            if tuple(arrays["shape_names"].tolist()) != bundled_template().shape_names:
                raise ValueError("it was made for another version of the bundled head")
            return cls(
                arrays["weights"].astype(np.float32),
                float(arrays["fps"]),
                arrays["loudness"].astype(np.float32),
            )
        except Exception as error:
            raise SelfTalkError(
                f"A line's take cannot be read: {error}. Animate the line again."
            ) from error
