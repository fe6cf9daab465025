"""What moves a face, whatever its kind: shape keys, bones and properties as numbered channels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .lips import rest_weights
from .template import bundled_template

KINDS = ("KEY", "BONE", "PROPERTY")


@dataclass(frozen=True)
class Channel:
    """One number of the user's scene that speech sets.

    Attributes:
        object: name of the object that has it.
        kind: one of KINDS.
        path: of a KEY the shape key's name; else the RNA data path on the object, such as
            'pose.bones["jaw"].rotation_euler' or '["Jaw"]'.
        index: component of a vector path; -1 for a single number.
    """

    object: str
    kind: str
    path: str
    index: int = -1


@dataclass(frozen=True, eq=False)
class Drive:
    """How one face is moved: weights of the bundled head's shapes in, values of channels out.

    Attributes:
        channels: C of them, each once.
        solve: (T, 52) weights over `bundled_template().shape_names`, float32 -> (T, C) values in
            each channel's own unit and range.
        notices: sentences about what is left alone or limited.
    """

    channels: tuple[Channel, ...]
    solve: Callable[[np.ndarray], np.ndarray]
    notices: tuple[str, ...] = ()

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        """Values (T, C) float32 from weights (T, 52), one row for each frame in order."""
        return np.asarray(self.solve(np.asarray(weights, np.float32)), np.float32)

    @functools.cached_property
    def rest(self) -> np.ndarray:
        """(C,) values at the resting face."""
        return self(rest_weights(bundled_template())[None])[0]


def join(drives: Sequence[Drive]) -> Drive:
    """Several drives as one. Of a channel that more than one sets, the first's value counts."""
    owner: dict[Channel, tuple[int, int]] = {}
    for number, drive in enumerate(drives):
        for column, channel in enumerate(drive.channels):
            owner.setdefault(channel, (number, column))
    taken = [
        [column for which, column in owner.values() if which == number]
        for number in range(len(drives))
    ]
    channels = tuple(
        drive.channels[column]
        for drive, columns in zip(drives, taken, strict=True)
        for column in columns
    )

    def solve(weights: np.ndarray) -> np.ndarray:
        parts = [drive(weights)[:, columns] for drive, columns in zip(drives, taken, strict=True)]
        return np.concatenate([np.empty((len(weights), 0), np.float32), *parts], 1)

    return Drive(channels, solve, tuple(notice for drive in drives for notice in drive.notices))
