"""Motion: what goes in comes out, at any frame rate, from any file, whole or not at all."""

import numpy as np
import pytest

from selftalk_blender.core import FaceTemplate, Motion, bundled_template
from selftalk_blender.core.errors import SelfTalkError


@pytest.fixture
def motion() -> Motion:
    rng = np.random.default_rng(0)
    return Motion(bundled_template(), 50.0, rng.random((101, 52), np.float32))


def test_weights_and_vertices_agree(motion: Motion) -> None:
    template = motion.template
    frame = template.vertices + np.einsum("k,kvc->vc", motion.weights[7], template.shape_deltas)
    assert np.allclose(motion.vertices(7, 8)[0], frame, atol=1e-6)
    assert motion.vertices().shape == (101, 4874, 3)
    assert motion.vertices().dtype == np.float32
    assert np.array_equal(np.concatenate(list(motion.chunks(13))), motion.offsets())


def test_saved_motion_is_the_same(motion: Motion, tmp_path) -> None:
    motion.save(tmp_path / "motion.npz")
    again = Motion.load(tmp_path / "motion.npz")
    assert np.array_equal(again.weights, motion.weights)
    assert again.fps == motion.fps
    assert again.template.digest == motion.template.digest
    assert (tmp_path / "motion.npz").stat().st_size < 60_000  # names the bundled head only


def test_dense_motion_of_another_face_keeps_its_template(tmp_path) -> None:
    face = FaceTemplate("square", np.eye(4, 3, dtype=np.float32), np.array([[0, 1, 2, 3]]))
    dense = np.random.default_rng(1).random((5, 4, 3), np.float32)
    Motion(face, 29.97, dense=dense).save(tmp_path / "square.npz")
    again = Motion.load(tmp_path / "square.npz")
    assert np.array_equal(again.offsets(1, 3), dense[1:3])
    assert again.template.digest == face.digest
    assert again.resample(59.94).dense.shape == (10, 4, 3)


def test_resampling_keeps_time(motion: Motion) -> None:
    half = motion.resample(25.0)
    assert np.allclose(half.weights, motion.weights[::2][: len(half)])
    assert abs(motion.resample(23.976).duration - motion.duration) < 1 / 23.976
    odd = motion.at(np.array([0.03, -5.0, 99.0]), 24.0)
    assert np.allclose(odd.weights[0], (motion.weights[1] + motion.weights[2]) / 2, atol=1e-6)
    assert np.array_equal(odd.weights[1:], motion.weights[[0, -1]])


def test_slice_by_time(motion: Motion) -> None:
    assert np.array_equal(motion.slice(0.5, 1.0).weights, motion.weights[25:50])
    assert len(motion.slice(9.0, 10.0)) == 0


@pytest.mark.parametrize("content", [b"", b"not a motion", None])
def test_unreadable_file_is_a_sentence(tmp_path, content) -> None:
    path = tmp_path / "motion.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SelfTalkError, match="not a readable motion file"):
        Motion.load(path)


def test_newer_format_is_refused(motion: Motion, tmp_path) -> None:
    np.savez(tmp_path / "new.npz", format=99, fps=25.0, weights=motion.weights)
    with pytest.raises(SelfTalkError, match="newer"):
        Motion.load(tmp_path / "new.npz")


def test_failed_write_leaves_the_old_file(motion: Motion, tmp_path, monkeypatch) -> None:
    path = tmp_path / "motion.npz"
    motion.save(path)
    before = path.read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(SelfTalkError, match="No space left"):
        motion.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["motion.npz"]


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        Motion(bundled_template(), 50.0, np.full((2, 52), np.nan, np.float32))
