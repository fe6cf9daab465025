"""Pictures of an evaluation: they are there and show what they should."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.training.corpus import Utterance

pytest.importorskip("matplotlib")

from matplotlib.colors import to_rgb
from matplotlib.image import imread

from selftalk_blender.training.plots import COLOURS, HEAT, Album, FolderAlbum, standing

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
    good, poor = red(paths[2])
    assert good == 0 and poor > 0.01
    assert len(HEAT) == 5


def red(path: Path) -> tuple[float, float]:
    """Share of each half of a picture that is dark red: the good one's whole head is grey."""
    picture = imread(path)[..., :3]
    head = slice(0, int(0.75 * picture.shape[1]))  # not the colour bar
    halves = np.split(picture[: len(picture) // 2 * 2, head], 2)
    good, poor = (float((half[..., 0] - half[..., 2] > 0.5).mean()) for half in halves)
    return good, poor


# -- a folder of vertices: the bundled head, but standing in another way ------------------------

TURN = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # y is up, z in front, as VOCASET's are
INNER = np.array([HEAD.landmarks[f"inner_{side}_lip"] for side in ("upper", "lower")])
LIPS = HEAD.regions["lips"]


@pytest.mark.parametrize("pairs", [INNER, None], ids=["gap", "motion"])
def test_pictures_of_a_folder_of_vertices(pairs: np.ndarray | None, tmp_path: Path) -> None:
    """With the mesh's faces and the gap; or without, as points, and the motion of the lips."""
    neutral = HEAD.vertices @ TURN.T
    real = face(0.4, 50, 25.0).offsets() @ TURN.T
    parts = {"lips": LIPS} | ({} if pairs is None else {"inner_lips": pairs})
    corpus = SimpleNamespace(
        parts=parts, templates={"s": neutral}, fps=25.0, unit="metres", mm_per_unit={"s": 1000.0}
    )
    samples = np.random.default_rng(0).normal(0, 0.1, 32000)
    clips = [SimpleNamespace(name=f"s_{i}", subject="s", samples=lambda: samples) for i in range(9)]
    faces = None if pairs is None else [tuple(polygon) for polygon in HEAD.polygons]
    album = FolderAlbum(corpus, clips, faces)
    for clip in clips:
        album.see("good", clip, real, real)
        album.see("poor", clip, 0.2 * real, real)
    paths = album.draw(tmp_path / "plots")
    kind = "lips" if pairs is None else "gap"
    assert [path.name for path in paths] == [f"{kind}-s_{i}.png" for i in (0, 3, 5, 8)] + [
        "error.png"
    ]
    assert share(paths[0], COLOURS[1]) > 1e-4
    good, poor = red(paths[-1])
    assert good == 0 and poor > 0.01


@pytest.mark.parametrize("pairs", [INNER, None])
def test_a_face_is_seen_upright_however_it_stands(pairs: np.ndarray | None) -> None:
    moved = face(0.4, 50, 25.0).offsets()
    for turn in (np.eye(3), TURN, TURN @ TURN, TURN.T, TURN[[2, 0, 1]]):
        up, front = standing(HEAD.vertices @ turn.T, moved @ turn.T, LIPS, pairs)
        np.testing.assert_array_equal(up, turn @ [0, 0, 1])
        np.testing.assert_array_equal(front, turn @ [0, -1, 0])
