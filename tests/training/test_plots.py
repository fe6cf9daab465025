"""Pictures of an evaluation: they are there and show what they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.training.corpus import Utterance

pytest.importorskip("matplotlib")

from matplotlib.colors import to_rgb
from matplotlib.image import imread

from selftalk_blender.training.plots import COLOURS, HEAT, Album

HEAD = bundled_template()


def share(path: Path, colour: str) -> float:
    """Share of a picture's pixels that have (nearly) this colour."""
    return float((np.abs(imread(path)[..., :3] - to_rgb(colour)).max(-1) < 0.03).mean())


def face(jaw: float, frames: int, fps: float) -> Motion:
    weights = np.zeros((frames, 52), np.float32)
    weights[:, HEAD.shape_names.index("jawOpen")] = jaw * np.sin(np.arange(frames) / fps * 9) ** 2
    return Motion(HEAD, fps, weights)


def test_pictures_show_each_animator_and_where_it_errs(tmp_path: Path) -> None:
    sound = tmp_path / "a.wav"
    soundfile.write(sound, np.random.default_rng(0).normal(0, 0.1, 32000), 16000)
    phones = (("P", 0.2, 0.3), ("AA", 0.3, 0.6), ("SIL", 0.6, 2.0))
    real = face(0.4, 50, 25.0).weights
    clips = [
        Utterance("a", "grid", "s", sound, phones, real, True),
        Utterance("b", "tts", "t", sound, phones, None, True),
    ]
    album = Album(clips)
    for clip in clips:
        album.see("good", clip, face(0.4, 100, 50.0))
        album.see("poor", clip, face(0.1, 100, 50.0))
    paths = album.draw(tmp_path / "plots")
    assert [path.name for path in paths] == ["gap-a.png", "gap-b.png", "error.png"]
    assert sorted(paths) == sorted((tmp_path / "plots").iterdir())
    for path in paths[:2]:
        assert share(path, COLOURS[0]) > 1e-4 and share(path, COLOURS[1]) > 1e-4
        assert share(path, "#fff0c2") > 1e-3  # where p is spoken
    # The chin of the poor one is dark red, the good one's whole head grey.
    picture = imread(paths[2])[..., :3]
    good, poor = np.split(picture[: len(picture) // 2 * 2], 2)
    head = slice(0, int(0.75 * picture.shape[1]))  # not the colour bar

    def red(part: np.ndarray) -> float:
        return float((part[:, head, 0] - part[:, head, 2] > 0.5).mean())

    assert red(good) == 0 and red(poor) > 0.01
    assert len(HEAT) == 5
