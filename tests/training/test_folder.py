"""Folders in the field's layout are read, prepared or not, and what is wrong is told at once."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import soundfile

from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.training.folder import hold_out, load_folder

V = 4
FACES = {"anna": np.ones((V, 3), np.float32), "anna_b": np.zeros((V, 3), np.float32)}


def add_clip(folder: Path, name: str, frames: int = 25, fps: float = 25.0, vertices: int = V):
    for place in ("wav", "vertices_npy"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(frames)
    soundfile.write(
        folder / f"wav/{name}.wav", rng.uniform(-0.5, 0.5, int(frames / fps * 22050)), 22050
    )
    motion = rng.normal(size=(frames, vertices * 3)).astype(np.float32)
    np.save(folder / f"vertices_npy/{name}.npy", motion)
    return motion


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As other programs leave it: a pickle of templates, no dataset.json."""
    for i in range(12):
        add_clip(tmp_path, f"{'anna_b' if i % 2 else 'anna'}_s{i:02d}", 20 + i)
    (tmp_path / "templates.pkl").write_bytes(pickle.dumps(FACES))
    return tmp_path


def test_a_folder_that_was_never_prepared(folder: Path) -> None:
    corpus = load_folder(folder)
    assert (corpus.fps, corpus.vertex_count, corpus.mm_per_unit) == (25.0, V, None)
    clip = next(clip for clip in corpus.clips if clip.name == "anna_b_s01")
    assert (clip.subject, clip.sentence) == ("anna_b", "s01")
    assert clip.samples().dtype == np.float32 and len(clip.samples()) == pytest.approx(
        16000 * 21 / 25, abs=2
    )
    motion = clip.vertices()
    assert motion.shape == (21, 3 * V) and isinstance(motion, np.memmap)
    np.testing.assert_array_equal(motion, np.load(folder / "vertices_npy/anna_b_s01.npy"))
    assert len(corpus.split("train")) == 11 and len(corpus.split("val")) == 1
    told = " ".join(corpus.notices)
    assert "pickle" in told and "every tenth" in told and "frame rate, 25, was judged" in told
    assert load_folder(folder, fps=60.0).fps == 60.0


def test_frames_of_points_and_doubles_are_read_too(folder: Path) -> None:
    path = folder / "vertices_npy/anna_s00.npy"
    motion = np.load(path)
    np.save(path, motion.reshape(-1, V, 3).astype(np.float64))
    read = load_folder(folder).clips[-6].vertices()
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, motion)


def test_a_tenth_is_held_out_the_same_each_time() -> None:
    names = [f"c{i:03d}" for i in range(100)]
    split = hold_out(reversed(names))
    assert len(split["val"]) == 10 and sorted(split["train"] + split["val"]) == names
    assert split == hold_out(names)
    assert hold_out(["one"]) == {"train": ["one"], "val": [], "test": []}
    assert len(hold_out(["a", "b"])["val"]) == 1


def test_all_that_is_wrong_is_told_at_once(folder: Path) -> None:
    add_clip(folder, "anna_other", vertices=5)
    add_clip(folder, "carl_s01")
    (folder / "vertices_npy/anna_s00.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(SelfTalkError) as refused:
        load_folder(folder)
    for words in ("anna_other: it has 5 vertices, its template 4", "carl_s01: no template",
                  "anna_s00: anna_s00.npy cannot be read"):  # fmt: skip
        assert words in str(refused.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SelfTalkError, match="no folder"):
        load_folder(tmp_path / "gone")
    with pytest.raises(SelfTalkError, match="no face templates"):
        load_folder(tmp_path)
    np.savez(tmp_path / "templates.npz", **FACES)
    with pytest.raises(SelfTalkError, match="no clips"):
        load_folder(tmp_path)
    add_clip(tmp_path, "anna_s00", 25, 27.0)
    with pytest.raises(SelfTalkError, match="27.00 frames per second.*--fps"):
        load_folder(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(SelfTalkError, match="format 99 is newer"):
        load_folder(tmp_path)
    np.savez(tmp_path / "templates.npz", anna=FACES["anna"], ben=np.zeros((5, 3)))
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(SelfTalkError, match="differ in their vertices: anna 4, ben 5"):
        load_folder(tmp_path)
