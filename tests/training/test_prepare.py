"""Small downloads of each kind become the folder that training reads; nothing half-done stays."""

from __future__ import annotations

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from selftalk_blender import cli
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.training.biwi import read_vl
from selftalk_blender.training.folder import load_folder
from selftalk_blender.training.voca import SUBJECTS

RNG = np.random.default_rng(0)
V = 60
HEAD = RNG.normal(size=(V, 3)).astype(np.float32) * [0.06, 0.09, 0.05]


def prepare(*arguments: object) -> int:
    return cli.main(["prepare", *map(str, arguments)])


def noise(seconds: float, rate: int) -> np.ndarray:
    return RNG.uniform(-0.5, 0.5, round(seconds * rate))


def talking(frames: int, face: np.ndarray) -> np.ndarray:
    """(T, V, 3): a third of the vertices goes up and down."""
    clip = np.repeat(face[None], frames, 0)
    clip[:, : V // 3, 1] -= 0.1 * np.ptp(face) * np.abs(np.sin(np.arange(frames)))[:, None]
    return clip


# VOCASET


@pytest.fixture
def voca(tmp_path: Path) -> Path:
    """Three subjects with two sentences each, frames shuffled as rows may be."""
    source = tmp_path / "trainingdata"
    source.mkdir()
    subjects = [SUBJECTS[split][0] for split in ("train", "val", "test")]
    rows, sounds, frames = {}, {}, []
    for subject in subjects:
        for number in (3, 25):
            start, sentence = len(frames), f"sentence{number:02d}"
            frames += list(talking(91, HEAD))
            rows.setdefault(subject, {})[sentence] = {i: start + i for i in reversed(range(91))}
            audio = (noise(1.5, 22000) * 32767).astype(np.int16)
            sounds.setdefault(subject, {})[sentence] = {"audio": audio, "sample_rate": 22000}
    np.save(source / "data_verts.npy", np.array(frames, np.float32))
    for name, data in (
        ("subj_seq_to_idx", rows), ("raw_audio_fixed", sounds),
        ("templates", dict.fromkeys([*subjects, "someone else"], HEAD)),
    ):  # fmt: skip
        (source / f"{name}.pkl").write_bytes(pickle.dumps(data, 2))
    return source


def test_voca(voca: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lips.txt").write_text("3, 1, 2")
    out = tmp_path / "vocaset"
    assert prepare("voca", voca, out, "--lips", tmp_path / "lips.txt") == 0
    said = capsys.readouterr().out
    assert "nothing in them is executed" in said
    assert "2 train, 1 val, 1 test clips of 3 subjects, 60 vertices, 30 frames" in said
    assert not list(out.rglob("*.pkl"))
    corpus = load_folder(out)
    assert (corpus.fps, corpus.vertex_count, corpus.unit) == (30.0, V, "metres")
    assert set(corpus.mm_per_unit.values()) == {1000.0} and corpus.lips.tolist() == [3, 1, 2]
    assert not corpus.notices
    train, val, test = (SUBJECTS[split][0] for split in ("train", "val", "test"))
    assert {clip.name: clip.split for clip in corpus.clips} == {
        f"{train}_sentence03": "train", f"{train}_sentence25": "train",
        f"{val}_sentence25": "val", f"{test}_sentence25": "test",
    }  # fmt: skip
    clip = corpus.split("val")[0]
    np.testing.assert_allclose(clip.vertices().reshape(-1, V, 3), talking(91, HEAD)[::2], atol=1e-6)
    info = soundfile.info(out / f"wav/{clip.name}.wav")
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    assert len(clip.samples()) == pytest.approx(24000, abs=1)
    assert np.abs(clip.samples()).max() > 0.3  # 16-bit values were taken for what they are


def test_a_clip_of_voca_that_does_not_fit_is_left_out_with_a_word(
    voca: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = SUBJECTS["train"][0]
    sounds = pickle.loads((voca / "raw_audio_fixed.pkl").read_bytes())
    sounds[subject]["sentence03"]["audio"] = np.zeros(100, np.int16)
    (voca / "raw_audio_fixed.pkl").write_bytes(pickle.dumps(sounds))
    assert prepare("voca", voca, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert f"{subject}_sentence03: the sound lasts 0.00 s, the face 1.53 s (46 frames)" in said
    assert len(load_folder(tmp_path / "out").clips) == 3


def test_a_malicious_download_does_nothing(
    voca: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "trap"),)

    (voca / "raw_audio_fixed.pkl").write_bytes(pickle.dumps(Evil()))
    assert prepare("voca", voca, tmp_path / "out") == 1
    assert "nothing was executed" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trainingdata"]


def test_an_incomplete_download_of_voca(
    voca: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (voca / "templates.pkl").unlink()
    assert prepare("voca", voca, tmp_path / "out") == 1
    assert "lacks templates.pkl" in capsys.readouterr().err


# BIWI


@pytest.fixture
def biwi(tmp_path: Path) -> Path:
    """A known and a new speaker; frames stand elsewhere and turned against the templates, in mm."""
    source = tmp_path / "B3DAC2"
    turn = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    for subject, sentences in (("F2", ("e01", "e33", "e40", "05")), ("M1", ("e38", "e02"))):
        face = (HEAD * 1000).astype(np.float32)
        (source / "rigid_scans").mkdir(parents=True, exist_ok=True)
        (source / f"rigid_scans/{subject}.obj").write_text(
            "".join(f"v {x} {y} {z}\n" for x, y, z in face.tolist()) + "f 1 2 3\n"
        )
        (source / f"audio/{subject}").mkdir(parents=True)
        for sentence in sentences:
            folder = source / "faces" / subject / sentence
            folder.mkdir(parents=True)
            for i, frame in enumerate(talking(25, face) @ turn + [5, -40, 900], 1):
                data = struct.pack("<i", V) + frame.astype("<f4").tobytes()
                (folder / f"frame_{i:03d}.vl").write_bytes(data)
            soundfile.write(source / f"audio/{subject}/{sentence}.wav", noise(1, 44100), 44100)
    return source


def test_biwi(biwi: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "BIWI"
    assert prepare("biwi", biwi, out) == 0
    corpus = load_folder(out)
    assert (corpus.fps, corpus.vertex_count) == (25.0, V)
    assert {clip.name: clip.split for clip in corpus.clips} == {
        "F2_e01": "train", "F2_e33": "val", "F2_e40": "test", "M1_e38": "test_b",
    }  # fmt: skip
    # The faces have their field's size and stand on their templates; mm can be had back.
    size = np.ptp(HEAD, 0).max()
    np.testing.assert_allclose(corpus.templates["F2"], (HEAD - HEAD.mean(0)) / size, atol=1e-5)
    assert corpus.mm_per_unit["F2"] == pytest.approx(1000 * size, rel=1e-4)
    moved = (talking(25, HEAD) - HEAD.mean(0)) / size
    np.testing.assert_allclose(corpus.clips[0].vertices().reshape(-1, V, 3), moved, atol=1e-4)


def test_biwi_in_the_space_of_given_templates(biwi: Path, tmp_path: Path) -> None:
    given = {"F2": HEAD[:, [1, 2, 0]] * 7, "M1": HEAD * 7}
    (tmp_path / "templates.pkl").write_bytes(pickle.dumps(given))
    assert prepare("biwi", biwi, tmp_path / "out", "--templates", tmp_path / "templates.pkl") == 0
    corpus = load_folder(tmp_path / "out")
    moved = talking(25, HEAD)[:, :, [1, 2, 0]] * 7
    np.testing.assert_allclose(corpus.clips[0].vertices().reshape(-1, V, 3), moved, atol=1e-4)
    assert corpus.mm_per_unit["F2"] == pytest.approx(1000 / 7, rel=1e-4)


@pytest.mark.parametrize(
    ("head", "kind"),
    [("", "<f4"), ("", ">f4"), ("", "<f8"), ("<i", "<f4"), (">i", ">f4"), ("<i", "<f8")],
)
def test_vl_with_and_without_a_count(tmp_path: Path, head: str, kind: str) -> None:
    path = tmp_path / "frame_001.vl"
    face = HEAD * 1000
    path.write_bytes((struct.pack(head, V) if head else b"") + face.astype(kind).tobytes())
    np.testing.assert_allclose(read_vl(path, V), face, rtol=1e-6)
    for count in (V - 1, V + 1):
        with pytest.raises(SelfTalkError, match="fit no known way"):
            read_vl(path, count)


def test_biwi_with_faults(biwi: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (biwi / "faces/F2/e33/frame_007.vl").unlink()
    (biwi / "audio/F2/e40.wav").unlink()
    assert prepare("biwi", biwi, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "F2_e33: frame 7 is missing" in said and "F2_e40: there is no sound" in said
    mixed = "".join(f"v {x} {y} {z}\n" for x, y, z in HEAD[::-1].tolist())
    (biwi / "rigid_scans/M1.obj").write_text(mixed)
    assert prepare("biwi", biwi, tmp_path / "out2") == 1
    assert "The frames of M1 do not look like the template" in capsys.readouterr().err
    assert not (tmp_path / "out2").exists()


def test_biwi_still_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in/faces/F1").mkdir(parents=True)
    (tmp_path / "in/faces/F1/01.tgz").write_bytes(b"x")
    assert prepare("biwi", tmp_path / "in", tmp_path / "out") == 1
    assert "01.tgz and its like are still packed" in capsys.readouterr().err


# one's own


@pytest.fixture
def own(tmp_path: Path) -> Path:
    source = tmp_path / "captures"
    for place in ("audio", "vertices_npy", "templates"):
        (source / place).mkdir(parents=True)
    (source / "templates/me.obj").write_text("".join(f"v {x} {y} {z}\n" for x, y, z in HEAD))
    clip = talking(50, HEAD)
    np.save(source / "vertices_npy/me_a.npy", clip)
    np.savez(source / "vertices_npy/take 2.npz", clip.reshape(50, -1))
    (source / "vertices_npy/me_c.pkl").write_bytes(pickle.dumps(clip))
    for name in ("me_a.flac", "take 2.ogg", "me_c.wav"):
        soundfile.write(source / "audio" / name, noise(1.0, 48000), 48000)
    return source


def test_own_captures(own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("folder", own, tmp_path / "out") == 1
    assert "give it with --fps. By the lengths of the sounds it may be 50.00" in (
        capsys.readouterr().err
    )
    (tmp_path / "lips.txt").write_text("4 5")
    masks = {"lips": [0], "upper_face": [7, 8, 9]}
    (tmp_path / "masks.json").write_text(json.dumps(masks))
    np.save(tmp_path / "pairs.npy", [4, 5, 6, 3])
    lips = ["--lips", tmp_path / "lips.txt", "--upper-face", tmp_path / "masks.json"]
    lips += ["--inner-lips", tmp_path / "pairs.npy"]
    assert prepare("folder", own, tmp_path / "out", "--fps", 50, "--unit", "metres", *lips) == 0
    assert "nothing in them is executed" in capsys.readouterr().out
    corpus = load_folder(tmp_path / "out")
    assert {name: here.tolist() for name, here in corpus.parts.items()} == {
        "lips": [4, 5], "upper_face": [7, 8, 9], "inner_lips": [4, 5, 6, 3],
    }  # fmt: skip
    assert [clip.name for clip in corpus.clips] == ["me_a", "me_c", "me_take 2"]
    assert corpus.mm_per_unit == {"me": 1000.0} and len(corpus.split("val")) == 1
    for clip in corpus.clips:
        np.testing.assert_allclose(clip.vertices().reshape(-1, V, 3), talking(50, HEAD), atol=1e-6)
    # What was prepared can be prepared again, to the same.
    assert prepare("folder", tmp_path / "out", tmp_path / "again") == 0
    first, second = (
        json.loads((tmp_path / n / "dataset.json").read_text()) for n in ("out", "again")
    )
    assert first.pop("source") != second.pop("source") and first == second
    for path in (tmp_path / "out").rglob("*.[wn][ap][vy]"):  # .wav and .npy
        other = tmp_path / "again" / path.relative_to(tmp_path / "out")
        assert other.read_bytes() == path.read_bytes()


def test_all_faults_of_own_captures_are_told_and_nothing_is_written(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = talking(50, HEAD).astype(np.float32)
    clip[7, 3] = np.nan
    np.save(own / "vertices_npy/me_a.npy", clip)
    np.savez(own / "vertices_npy/take 2.npz", clip[:10, 1:])
    soundfile.write(own / "audio/me_c.wav", noise(0.2, 16000), 16000)
    assert prepare("folder", own, tmp_path / "out", "--fps", 50) == 1
    said = capsys.readouterr().err
    for words in (
        "me_a: vertices are not numbers in 1 frame, from 7 on",
        "me_take 2: it has 59 vertices, its template 60",
        "me_take 2: the sound lasts 1.00 s, the face 0.20 s",
        "me_c: the sound lasts 0.20 s, the face 1.00 s (50 frames)",
    ):
        assert words in said
    (own / "audio/me_a.flac").unlink()
    assert prepare("folder", own, tmp_path / "out", "--fps", 50) == 1
    assert "me_a: there is no sound of it" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["captures"]


def test_what_is_there_is_never_replaced(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    assert prepare("folder", own, tmp_path / "out", "--fps", 50) == 0  # it was empty
    before = (tmp_path / "out/dataset.json").stat().st_mtime_ns
    assert prepare("folder", own, tmp_path / "out", "--fps", 50) == 1
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "out/dataset.json").stat().st_mtime_ns == before


def test_lips_beyond_the_face_are_refused(
    own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lips.txt").write_text("60")
    arguments = ["--fps", 50, "--lips", tmp_path / "lips.txt"]
    assert prepare("folder", own, tmp_path / "out", *arguments) == 1
    assert "lips names 60, but the faces' last is 59" in capsys.readouterr().err
    (tmp_path / "lips.txt").write_text("1 2 3")
    arguments = ["--fps", 50, "--inner-lips", tmp_path / "lips.txt"]
    assert prepare("folder", own, tmp_path / "out", *arguments) == 1
    assert "inner_lips has 3, but pairs are needed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
