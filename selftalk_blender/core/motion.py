"""A face over time: what the animator gives and everything in Blender takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .errors import SelfTalkError
from .files import atomic_path
from .template import FaceTemplate, bundled_template

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Motion:
    """A face template and how it moves; frame i is the face at i / fps seconds.

    Exactly one of `weights` and `dense` is given; shape weights can always give vertices.

    Attributes:
        template: the face that moves.
        fps: frames per second.
        weights: (T, K) float32 weights of the template's shapes, or None.
        dense: (T, V, 3) float32 offsets from the neutral face in the template's unit, or None.
    """

    template: FaceTemplate
    fps: float
    weights: np.ndarray | None = None
    dense: np.ndarray | None = None

    def __post_init__(self) -> None:
        if (self.weights is None) == (self.dense is None):
            raise ValueError("a motion has either weights or dense offsets")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"fps is {self.fps}")
        data, shape = self._data, self.template.vertices.shape
        wanted = (len(self.template.shape_names),) if self.weights is not None else shape
        if data.shape[1:] != wanted:
            raise ValueError(f"frames have shape {data.shape[1:]}, the template needs {wanted}")
        if not np.isfinite(data).all():
            raise ValueError("the motion has values that are not finite")

    @property
    def _data(self) -> np.ndarray:
        data = self.weights if self.weights is not None else self.dense
        assert data is not None
        return data

    def _with(self, data: np.ndarray, fps: float) -> Motion:
        data = np.ascontiguousarray(data, np.float32)
        if self.weights is not None:
            return Motion(self.template, fps, weights=data)
        return Motion(self.template, fps, dense=data)

    def __len__(self) -> int:
        return len(self._data)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return len(self) / self.fps

    def offsets(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Offsets from the neutral face, (stop - start, V, 3), for a range of frames."""
        data = self._data[start:stop]
        if self.weights is None:
            return data
        return (data @ self.template.deltas()).reshape(len(data), -1, 3)

    def vertices(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Vertex positions, (stop - start, V, 3), for a range of frames."""
        return self.template.vertices + self.offsets(start, stop)

    def chunks(self, frames: int = 64) -> Iterator[np.ndarray]:
        """Offsets (n <= frames, V, 3) piece by piece: an hour never stands in memory."""
        for start in range(0, len(self), frames):
            yield self.offsets(start, start + frames)

    def at(self, times: np.ndarray, fps: float) -> Motion:
        """The face at the given times (seconds, any order), as frames of a motion of `fps`.

        Linear between frames; before the first and after the last frame the face stays as
        it is there.

        Raises:
            ValueError: the motion has no frames.
        """
        if not len(self):
            raise ValueError("the motion has no frames")
        position = np.clip(np.asarray(times, np.float64) * self.fps, 0, len(self) - 1)
        before = np.floor(position).astype(np.int64)
        after = np.minimum(before + 1, len(self) - 1)
        share = (position - before).astype(np.float32)
        share = share.reshape(-1, *[1] * (self._data.ndim - 1))
        data = np.empty((len(position), *self._data.shape[1:]), np.float32)
        for i in range(0, len(data), 256):  # dense motions are too large for copies of the whole
            part = slice(i, i + 256)
            data[part] = self._data[before[part]] * (1 - share[part])
            data[part] += self._data[after[part]] * share[part]
        return self._with(data, fps)

    def resample(self, fps: float) -> Motion:
        """The same motion at another frame rate, sampled linearly.

        No smoothing: closed lips of p, b and m last two or three frames and must stay closed.
        """
        count = max(1, round(len(self) * fps / self.fps)) if len(self) else 0
        if count == 0 or fps == self.fps:
            return self._with(self._data, fps)
        return self.at(np.arange(count) / fps, fps)

    def slice(self, start: float, stop: float) -> Motion:
        """The frames from `start` (seconds, inclusive) to `stop` (exclusive)."""
        first, last = (int(np.ceil(second * self.fps - 1e-9)) for second in (start, stop))
        return self._with(self._data[max(first, 0) : max(last, 0)], self.fps)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the motion as .npz (no pickles), whole or not at all.

        A motion of the bundled head names that head; any other template is kept whole.

        Raises:
            SelfTalkError: the file cannot be written.
        """
        arrays = {"format": np.array(FORMAT), "fps": np.array(self.fps, np.float64)}
        arrays["weights" if self.weights is not None else "dense"] = self._data
        arrays["shape_names"] = np.array(self.template.shape_names, dtype=np.str_)
        if self.template.digest == bundled_template().digest:
            arrays["bundled_template"] = np.array(self.template.digest)
        else:
            arrays.update(
                {f"template_{key}": value for key, value in self.template.to_arrays().items()}
            )
        # Dense offsets hardly shrink, and that little takes long.
        write = np.savez_compressed if self.weights is not None else np.savez
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            write(file, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Motion:
        """Read a motion written by `save`.

        Raises:
            SelfTalkError: the file is missing, damaged, newer than this program, or was made
                for another version of the bundled head.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
            if int(arrays["format"]) > FORMAT:
                raise ValueError(f"format {int(arrays['format'])} is newer than this program")
            if "bundled_template" in arrays:
                template = bundled_template()
                if str(arrays["bundled_template"]) != template.digest:
                    raise ValueError("it was made for another version of the bundled head")
            else:
                template = FaceTemplate.from_arrays(
                    {key[9:]: arrays[key] for key in arrays if key.startswith("template_")}
                )
            return cls(template, float(arrays["fps"]), arrays.get("weights"), arrays.get("dense"))
        except Exception as error:
            raise SelfTalkError(f"{path} is not a readable motion file: {error}.") from error
