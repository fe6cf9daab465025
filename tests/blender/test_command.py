"""`blender -c selftalk`: Blender's module has no `-c`, so what Blender would call is called."""

import os
import sys
import types
from pathlib import Path

import bpy
import pytest

import selftalk_blender
from selftalk_blender.batch import command as batch
from selftalk_blender.blender import command, preferences


@pytest.fixture
def program(monkeypatch, tmp_path) -> Path:
    """Blender's own program: it writes down how it was called, and then is the fake child."""
    fake = Path(__file__).resolve().parents[1] / "batch" / "fake_child.py"
    path = tmp_path / "blender"
    path.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/called"\n'
        f'PYTHONPATH="{fake.parents[2]}" exec "{sys.executable}" "{fake}"\n'
    )
    path.chmod(0o755)
    app = types.SimpleNamespace(binary_path=str(path))
    monkeypatch.setattr(command, "bpy", types.SimpleNamespace(app=app, context=bpy.context))
    return path


def test_it_is_known_while_the_add_on_is_enabled(monkeypatch) -> None:
    known = {}
    utils = types.SimpleNamespace(
        register_cli_command=lambda name, run: known.update({name: run}) or name,
        unregister_cli_command=known.pop,
    )
    selftalk_blender.unregister()
    monkeypatch.setattr(command, "bpy", types.SimpleNamespace(utils=utils))
    selftalk_blender.register()
    selftalk_blender.register()
    assert known == {"selftalk": command.run}
    selftalk_blender.unregister()
    selftalk_blender.unregister()
    assert known == {}


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")
def test_bake_starts_blenders_own_program(program, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "line.wav").write_text("x")
    monkeypatch.setattr(preferences, "animator_settings", lambda _: (sys.executable, None))
    monkeypatch.setenv("SELFTALK_PYTHON", "")
    out = tmp_path / "out"
    line = ["bake", str(tmp_path / "line.wav"), "-o", str(out), "--format", "fbx"]
    assert command.run(line) == 0
    assert capsys.readouterr().out.splitlines()[1].strip() == str(out / "line.fbx")
    assert os.environ["SELFTALK_PYTHON"] == sys.executable
    called = (tmp_path / "called").read_text()
    assert called.startswith("--background\n--factory-startup\n--disable-autoexec\n")
    assert called.endswith("from selftalk_blender.batch.child import main; main()\n")


def test_its_exit_codes_are_those_of_selftalk(program, tmp_path, monkeypatch, capsys) -> None:
    assert command.run(["bake", "line.wav"]) == 2  # no output
    assert command.run(["bake", "--help"]) == 0
    assert command.run(["bake", str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    assert "no sound file in the folder" in capsys.readouterr().err

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "run", interrupt)
    assert command.run(["bake", "line.wav", "-o", "out"]) == 130


def test_what_the_extension_has_no_part_of_is_said(program, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "selftalk_blender.training", None)
    for learning in ("train", "evaluate", "prepare"):
        assert command.run([learning, "x"]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"selftalk: `selftalk {learning}` is no part of the extension")


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")
def test_doctor_looks_at_the_blender_that_it_runs_in(tmp_path, monkeypatch, capsys) -> None:
    path = tmp_path / "blender"
    path.write_text("#!/bin/sh\necho Blender 4.3.2\n")
    path.chmod(0o755)
    app = types.SimpleNamespace(binary_path=str(path))
    monkeypatch.setattr(command, "bpy", types.SimpleNamespace(app=app, context=bpy.context))
    monkeypatch.delenv("SELFTALK_PYTHON", raising=False)
    command.run(["doctor"])
    said = capsys.readouterr().out
    assert (
        f"Blender      program: Blender 4.3.2, {path}" in said
        and "selftalk bake      would run\n" in said
    )
