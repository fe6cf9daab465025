"""The command line: which clips it takes, what it says, and how it ends."""

from __future__ import annotations

import io
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from selftalk_blender import cli, doctor
from selftalk_blender.core import FaceTemplate, Motion, progress
from selftalk_blender.core.progress import ProgressLine
from selftalk_blender.core.template import ASSETS

ROOT = Path(__file__).resolve().parent.parent
needs_animator = pytest.mark.skipif(
    not (ASSETS / "animator.safetensors").is_file(),
    reason="needs assets/animator.safetensors, which `selftalk train` makes",
)


class Terminal(io.StringIO):
    """A terminal's stderr."""

    def isatty(self) -> bool:
        return True


def test_the_progress_line_tells_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(sys, "stderr", Terminal())
    line = ProgressLine("2/7 a.wav")
    now = 130.0
    line(0.25, "Animating")
    assert sys.stderr.getvalue() == "\r2/7 a.wav: Animating 25%, 1:30 left"
    line.clear()
    assert sys.stderr.getvalue().endswith("\r")


def test_a_line_that_renews_itself_is_no_wider_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would wrap, and each renewal would begin another line."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "_terminal_columns", lambda: 20)
    line = progress.StatusLine()
    line.show("こんにちは、世界。こんにちは。")  # each two columns wide
    line.show("a\nb\udcff")
    line.show("long" * 20)
    _, wide, odd, long = sys.stderr.getvalue().split("\r")
    assert wide == "こんにちは、世界。"
    assert odd == "a?b?" + " " * 14
    assert long == "long" * 4 + "lon"


@pytest.mark.parametrize(
    "arguments",
    [[], ["dance"], ["animate", "a.wav"], ["bake", "a.wav", "-o", "x", "--format", "docx"],
     ["bake", "a.wav", "-o", "x", "--fps", "0"], ["bake", "a.wav", "-o", "x", "--jobs", "0"],
     ["bake", "a.wav", "-o", "x", "--quiet", "--json"]],
)  # fmt: skip
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2


def test_the_help_of_every_command() -> None:
    for command in ("animate", "bake", "train", "evaluate", "prepare", "convert", "doctor"):
        with pytest.raises(SystemExit) as ended:
            cli.main([command, "--help"])
        assert not ended.value.code


def test_importing_the_package_and_the_command_is_light() -> None:
    code = (
        "import sys, selftalk_blender.cli; "
        "print(sorted({'bpy', 'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_doctor_tells_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["doctor"])
    told = capsys.readouterr().out
    for words in ("Python", "torch", "Lane", "Reads", "Animator", "Blender", "Add-on uses"):
        assert words in told
    assert ("selftalk animate   would run" in told) == (code == 0)


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
def test_doctor_tells_of_what_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Blender that is too old, and a chosen Python that is none."""
    for name, says in (("blender", "Blender 3.6.2"), ("python", "hello")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {says}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "_bpy_module", lambda: ("module: bpy 5.0.1", True))
    monkeypatch.setattr(doctor, "_lane", lambda: (doctor.IN_NUMPY, "numpy"))
    for chosen, words in (
        (tmp_path / "python", "It is no Python that runs here (hello)"),
        (tmp_path / "blender", "is Blender and no Python"),
        (tmp_path / "none", "There is no Python at"),
    ):
        monkeypatch.setenv("SELFTALK_PYTHON", str(chosen))
        cli.main(["doctor"])
        told = capsys.readouterr().out
        assert words in told and "selftalk bake      would not run" in told
        assert "Blender 3.6.2" in told and "too old: SelfTalk needs 4.2" in told


def test_doctor_on_a_bare_python() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "selftalk_blender.cli", "doctor"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "torch        missing" in done.stdout
    assert "pip install numpy\n" in done.stdout
    done = subprocess.run(
        [sys.executable, "-S", "-m", "selftalk_blender.cli", "animate", "a.wav", "-o", "b"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "needs numpy" in done.stderr
    assert "Traceback" not in done.stderr


@needs_animator
def test_animate_writes_the_motion_of_a_clip(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """tests/worker/test_lanes.py does so in a process of its own."""
    clip = ASSETS / "sample.ogg"
    assert cli.main(["animate", str(clip), "-o", str(tmp_path / "motion.npz")]) == 0
    motion = Motion.load(tmp_path / "motion.npz")
    assert motion.duration == pytest.approx(soundfile.info(clip).duration, abs=1 / motion.fps)
    assert "times real time" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["motion.npz"]


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """An animator that moves any template, by three frames."""
    from selftalk_blender import animator

    class Moves:
        notices: list[str] = []

        def __init__(self, template: np.ndarray) -> None:
            self.face = FaceTemplate("template", template, np.zeros((0, 4), np.int32))

        def animate_file(self, *_: object, **__: object) -> Motion:
            return Motion(self.face, 30.0, dense=np.ones((3, 4, 3), np.float32))

    monkeypatch.setattr(
        animator, "load_animator", lambda path, device=None, template=None: Moves(template)
    )


def test_animate_moves_a_template_of_ones_own(
    tmp_path: Path, moves: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The chosen subject of its file reaches the animator, and its motion the file."""
    faces = {"FaceTalk_1": np.eye(4, 3), "FaceTalk_2": np.full((4, 3), 2.0)}
    (tmp_path / "templates.pkl").write_bytes(pickle.dumps(faces))
    output = tmp_path / "motion.npz"
    command = ["animate", str(ASSETS / "sample.ogg"), "-o", str(output), "--animator", "a.pth"]
    command += ["--template", str(tmp_path / "templates.pkl")]
    assert cli.main(command) == 1
    assert "FaceTalk_1, FaceTalk_2; say which" in capsys.readouterr().err
    assert cli.main([*command, "--subject", "FaceTalk_2"]) == 0
    assert np.array_equal(Motion.load(output).vertices(), np.full((3, 4, 3), 3.0))


def test_names_that_the_terminal_cannot_show(
    tmp_path: Path, moves: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a file that takes what is said on Windows, whose encoding has few letters."""
    np.save(tmp_path / "face.npy", np.eye(4, 3))
    said = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, "ascii"))
    command = ["animate", str(ASSETS / "sample.ogg"), "-o", str(tmp_path / "声.npz")]
    assert cli.main([*command, "--template", str(tmp_path / "face.npy")]) == 0
    assert b"\\u58f0.npz: 3 frames at 30 fps" in said.getvalue()


@needs_animator
def test_one_bad_clip_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    (clips / "bad.wav").write_bytes(b"x")
    (clips / "act 1").mkdir()
    shutil.copy(ASSETS / "sample.ogg", clips / "act 1" / "good.ogg")
    soundfile.write(clips / "silent.wav", np.zeros(16000), 16000)
    assert cli.main(["animate", str(clips), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "bad.wav is not a sound file" in said
    assert "silent.wav: The clip is silent" in said
    assert "1 of 3 clips failed" in said
    written = sorted(path.relative_to(tmp_path / "out") for path in tmp_path.glob("out/**/*.npz"))
    assert written == [Path("act 1/good.npz"), Path("silent.npz")]


@needs_animator
def test_errors_are_sentences_without_tracebacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    for arguments, words in (
        ([tmp_path / "no.wav", "-o", tmp_path / "a.npz"], "There is no file"),
        ([ASSETS / "sample.ogg", "-o", tmp_path / "taken" / "a.npz"], "Cannot write"),
        (
            [ASSETS / "sample.ogg", "-o", tmp_path / "a.npz", "--animator", tmp_path / "mine"],
            "mine",
        ),
        ([ASSETS, ASSETS / "sample.json", "-o", tmp_path / "a.npz"], "one file|same name"),
    ):
        assert cli.main(["animate", *map(str, arguments)]) == 1
        assert re.search(words, capsys.readouterr().err)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@needs_animator
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT as POSIX does")
def test_interrupting_leaves_nothing_half_written(tmp_path: Path, numpy_alone: Path) -> None:
    clip = tmp_path / "long.wav"
    soundfile.write(clip, np.random.default_rng(0).uniform(-0.2, 0.2, 16000 * 900), 16000)
    process = subprocess.Popen(
        [numpy_alone, "-m", "selftalk_blender.cli", "animate", clip, "-o", tmp_path / "a.npz"],
        stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    time.sleep(3)  # imports, then into the clip, which takes half a minute
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Interrupted" in said
    assert [path.name for path in tmp_path.iterdir()] == ["long.wav"]
