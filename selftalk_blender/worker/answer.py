"""A motion that comes from the animator's process in pieces."""

from __future__ import annotations

import numpy as np

from ..core import FaceTemplate, Motion, bundled_template
from ..core.errors import SelfTalkError
from .protocol import Message


class Answer:
    """A motion that comes in pieces."""

    def __init__(self) -> None:
        self._template: FaceTemplate | None = None
        self._fps = 0.0
        self._frames = np.zeros((0, 0), np.float32)
        self._filled = 0
        self._weights = False

    def begin(self, message: Message) -> None:
        """Take a "weights" or a "dense".

        Raises:
            SelfTalkError: it is of another head than ours.
        """
        self._weights = message.kind == "weights"
        if self._weights:
            template = bundled_template()
            if message.fields["head"] != template.digest:
                raise SelfTalkError(
                    "The animator moves another head than this SelfTalk's. Restart Blender."
                )
            shape: tuple[int, ...] = (len(template.shape_names),)
        else:
            vertices = np.array(message.arrays["vertices"], np.float32)
            template = FaceTemplate("template", vertices, np.zeros((0, 4), np.int32))
            shape = vertices.shape
        self._template, self._fps = template, float(message.fields["fps"])
        self._frames, self._filled = np.empty((message.fields["frames"], *shape), np.float32), 0

    def add(self, message: Message) -> None:
        """Take a "frames"; they come in order."""
        frames, first = message.arrays["frames"], message.fields["first"]
        if first != self._filled or first + len(frames) > len(self._frames):
            raise ValueError(f"frames from {first} came after {self._filled}")
        self._frames[first : first + len(frames)] = frames
        self._filled += len(frames)

    def motion(self) -> Motion:
        """The whole.

        Raises:
            ValueError: pieces are missing, or it holds values that are not finite.
        """
        if self._template is None or self._filled != len(self._frames):
            raise ValueError("the motion is not whole")
        if self._weights:
            return Motion(self._template, self._fps, weights=self._frames)
        return Motion(self._template, self._fps, dense=self._frames)
