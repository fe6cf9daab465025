"""An animator whose motion the tests know, in the place of the trained one."""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np

from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.core.lips import rest_weights

SECONDS = 4.0  # of the test clip

# To the shell the second line starts Python, to Python it is a string: a path in the first
# line could not hold spaces.
SCRIPT = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
import sys, time
sys.path.insert(0, sys.argv[3])
import numpy as np
from selftalk_blender.core import Motion
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.worker import server

class StandIn:
    notices = {notices!r}

    def animate_file(self, clip, start, stop, progress):
        progress(0.5, "Animating")
        for _ in range(round({wait} / 0.05)):
            time.sleep(0.05)
            progress(0.5, "Animating")
        if {error!r}:
            raise SelfTalkError({error!r})
        motion = Motion.load({motion!r})
        stop = min(stop or 1e9, motion.duration)
        times = start + np.arange(np.ceil((stop - start) * motion.fps - 1e-6)) / motion.fps
        self.loudness = np.linspace(-60, -20, len(times), dtype=np.float32)
        return motion.at(times, motion.fps)

server.load_animator = lambda *_: StandIn()
server.main()
"""


def opening(seconds: float = SECONDS) -> Motion:
    """The jaw opens evenly over the clip: its weight tells which second of the file is seen."""
    template = bundled_template()
    weights = np.tile(rest_weights(template), (round(seconds * 50), 1))
    weights[:, template.shape_names.index("jawOpen")] = np.arange(len(weights)) / 50 / seconds
    return Motion(template, 50.0, weights=weights)


def stand_in(
    folder: Path,
    motion: Motion | None = None,
    error: str = "",
    wait: float = 0.0,
    notices: tuple[str, ...] = (),
    python: str = sys.executable,
) -> str:
    """A program that is the animator's process with a motion made beforehand.

    Client, protocol and server are the real ones; only torch and the network are missing.

    Args:
        error: what it refuses the clip with.
        wait: seconds that it takes.
        python: the Python of the process.
    """
    (motion or opening()).save(folder / "made.npz")
    program = folder / "python"
    program.write_text(
        SCRIPT.format(
            python=python,
            motion=str(folder / "made.npz"),
            error=error,
            wait=wait,
            notices=list(notices),
        )
    )
    program.chmod(0o755)
    return str(program)


def ramp(path: Path, seconds: float = SECONDS, rate: int = 48000) -> Path:
    """A sound whose sample value tells the second that is heard: from 0.05 to 0.85."""
    samples = 0.05 + 0.8 * np.arange(round(seconds * rate)) / (seconds * rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path
