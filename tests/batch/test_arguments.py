"""What `selftalk bake` makes of its arguments, and what it refuses before anything runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from selftalk_blender import cli
from selftalk_blender.batch import command, manifest
from selftalk_blender.batch.clips import Clip
from selftalk_blender.batch.task import Done, File, Settings, Task
from selftalk_blender.core.errors import SelfTalkError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("clips/act 1/a.wav", "clips/b.wav", "ann.blend", "bob.blend", "clips/table.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tasks(*arguments: str) -> dict[str, Task]:
    options = cli._parser().parse_args(["bake", *arguments])
    todo = command.tasks_of(options)
    command.check(todo, options.table)
    return {task.place: task for task in todo}


def test_a_folder_keeps_its_sub_folders(folder: Path) -> None:
    todo = tasks("clips", "-o", "out", "--mesh", "ann.blend", "--object", "Face", "--fps", "25")
    assert list(todo) == ["act 1/a", "b"]
    task = todo["act 1/a"]
    assert task.clip == str(folder / "clips" / "act 1" / "a.wav")
    assert (task.mesh, task.object) == (str(folder / "ann.blend"), "Face")
    assert task.settings == Settings(("blend", "abc", "fbx"), fps=25.0)
    assert task.path("fbx") == folder / "out" / "act 1" / "a.fbx"


def test_a_table_says_who_says_what(folder: Path) -> None:
    table = folder / "clips" / "table.csv"
    table.write_text("clip,mesh,object,jaw,format\nact 1/a.wav,../bob.blend,,2,fbx\nb.wav,,Eve,,\n")
    todo = tasks("-o", "out", "--table", str(table), "--mesh", "ann.blend", "--object", "Ann")
    a, b = todo["act 1/a"], todo["b"]
    assert (a.mesh, a.object) == (str(folder / "bob.blend"), "")  # Ann is nobody in there
    assert a.settings == Settings(("fbx",), controls={"jaw": 2.0})
    assert (b.mesh, b.object) == (str(folder / "ann.blend"), "Eve")
    assert b.settings.formats == ("blend", "abc", "fbx")
    # With clips the table says how, the arguments say which.
    (a,) = tasks("clips/act 1", "-o", "out", "--table", str(table)).values()
    assert (a.place, a.mesh) == ("a", str(folder / "bob.blend"))


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_two_clips_of_a_table_may_be_links_to_one_file(folder: Path) -> None:
    (folder / "clips" / "c.wav").symlink_to("b.wav")
    table = folder / "clips" / "table.csv"
    table.write_text("clip,jaw\nb.wav,2\nc.wav,3\n")
    todo = tasks("-o", "out", "--table", str(table))
    assert [task.settings.controls["jaw"] for task in todo.values()] == [2, 3]


def test_a_folder_that_cannot_be_read_is_told_of_and_the_others_are_baked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def find(_: object, __: object, ___: object, unread: list[str] | None) -> list[Clip]:
        if unread is None:
            raise SelfTalkError("It cannot be read.")
        unread.append("It cannot be read.")
        return [Clip(folder / "clips" / "b.wav", Path("b"))]

    monkeypatch.setattr(command, "find_clips", find)
    monkeypatch.setattr(command.Supervisor, "run", lambda *_: 0)
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda _: True)
    for option in ("--quiet", "--fail-fast", "--json"):
        assert cli.main(["bake", "clips", "-o", "out", option]) == 1
    said = capsys.readouterr()
    assert said.err == 2 * "selftalk: It cannot be read.\n"
    assert json.loads(said.out.splitlines()[1]) == {
        "event": "notice", "text": "It cannot be read."
    }  # fmt: skip


def test_a_clip_of_a_table_that_is_not_there_fails_alone(folder: Path) -> None:
    table = folder / "clips" / "table.csv"
    table.write_text("clip\nb.wav\n\nnone.wav\n")
    assert list(tasks("-o", "out", "--table", str(table))) == ["b", "none"]
    with pytest.raises(SelfTalkError, match=r"line 4: there is no file .*none\.wav"):
        tasks("clips", "-o", "out", "--table", str(table))


def test_films_made_beside_their_clips_are_no_clips(folder: Path) -> None:
    (task,) = tasks("clips/b.wav", "-o", "clips").values()
    made = Done(task.clip, "b", (File("b.mp4", 3, "ab", 5),))
    manifest.Manifest(folder / "clips").add(task, "", made)
    (folder / "clips" / "b.mp4").write_text("a film")
    assert list(tasks("clips", "-o", "clips")) == ["act 1/a", "b"]


def test_a_mesh_cache_leaves_out_what_cannot_hold_one(folder: Path) -> None:
    task = tasks("clips", "-o", "out", "--method", "mesh-cache")["b"]
    assert task.settings.formats == ("blend", "abc")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "No clip is named"),
        (["clips/b.wav", "--format", "fbx", "--method", "mesh-cache"], "FBX cannot hold"),
        (["clips/b.wav", "--animator", "vocaset.pth"], "moves another face"),
        (["clips/b.wav", "--object", "Ann"], "Whose is the object Ann"),
        (["clips/b.wav", "--template", "ann.blend"], "Whose is the template"),
        (["clips/b.wav", "--mesh", "none.blend"], "no file .*none.blend"),
        (["clips/b.wav", "--animator", "none.safetensors"], "no file .*none.safetensors"),
        (["clips/b.wav", "--table", "none.csv"], "cannot be read"),
    ],
)
def test_what_is_refused(folder: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(SelfTalkError, match=words):
        tasks(*arguments, "-o", "out")
    assert not (folder / "out").exists()


def test_an_empty_output_is_not_the_present_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tasks("clips", "-o", "")
    assert "choose a folder" in capsys.readouterr().err


def test_no_result_replaces_what_is_read(folder: Path) -> None:
    (folder / "clips" / "ann.wav").write_text("x")
    (folder / "film.mp4").write_text("x")
    with pytest.raises(SelfTalkError, match=r"would replace .*ann\.blend"):
        tasks("clips", "-o", ".", "--mesh", "ann.blend")
    with pytest.raises(SelfTalkError, match=r"would replace .*film\.mp4"):
        tasks("film.mp4", "-o", ".", "--preview")
    (folder / "other").symlink_to(folder)
    with pytest.raises(SelfTalkError, match="would replace"):
        tasks("film.mp4", "-o", "other", "--preview")


def test_whom_fbx_is_for(folder: Path) -> None:
    table = folder / "clips" / "table.csv"
    table.write_text("clip;FBX preset;format\nact 1/a.wav;Unity;\nb.wav;;abc\n")
    todo = tasks("-o", "out", "--table", str(table), "--fbx-preset", "Unreal")
    assert todo["act 1/a"].settings.fbx_preset == "unity"
    assert todo["b"].settings.fbx_preset == "blender"  # none is written
    assert tasks("clips", "-o", "out", "--fbx-preset", "maya")["b"].settings.fbx_preset == "maya"
    with pytest.raises(SelfTalkError, match="--fbx-preset is for FBX, which is not written"):
        tasks("clips", "-o", "out", "--fbx-preset", "maya", "--format", "abc,usd")
    with pytest.raises(SelfTalkError, match=r"line 2: fbx_preset is for FBX"):
        tasks("-o", "out", "--table", str(table), "--format", "abc")
    with pytest.raises(SystemExit):
        tasks("clips", "-o", "out", "--fbx-preset", "houdini")


def test_tasks_and_what_became_of_them_travel_as_json() -> None:
    task = Task("/a.wav", "/out", "act/a", Settings(("fbx",), controls={"jaw": 2.0}), "/m.blend")
    assert Task.from_json(task.to_json()) == task
    done = Done(
        "/a.wav", "act/a", (File("act/a.fbx", 3, "ab", 5),), "5.0.1", "cd",
        (File("/lib.blend", 4, "ef", 6),), 1.5, {"writing": 1.0}, ("x",),
    )  # fmt: skip
    assert Done.from_json(done.to_json()) == done
