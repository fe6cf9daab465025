"""Which clips a command takes, and what their results are called."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from selftalk_blender.batch import manifest
from selftalk_blender.batch.clips import find_clips
from selftalk_blender.core.errors import SelfTalkError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def places(
    *arguments: object, output: Path | None = None, unread: list[str] | None = None
) -> dict[str, str]:
    clips = find_clips(map(str, arguments), output, unread=unread)
    return {clip.path.name: clip.place.as_posix() for clip in clips}


def test_a_folder_gives_all_sounds_below_it_and_keeps_its_sub_folders(tmp_path: Path) -> None:
    touch(
        tmp_path, "a.WAV", "b.flac", "act 1/c.d.mp3", "act 1/x/e.mp4",
        "notes.txt", "._a.wav", ".hidden/f.wav", "out/a.mp4",
    )  # fmt: skip
    assert places(tmp_path, output=tmp_path / "out") == {
        "a.WAV": "a",
        "b.flac": "b",
        "c.d.mp3": "act 1/c.d",
        "e.mp4": "act 1/x/e",
    }


def test_a_relative_folder_also_leaves_its_output_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.wav", "out/b.mp4")
    monkeypatch.chdir(tmp_path)
    assert places(".", output=Path("out").resolve()) == {"a.wav": "a"}


def test_a_folder_that_cannot_be_read_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root reads everything, so it is made up."""
    touch(tmp_path, "a.wav", "locked/b.wav", ".Trash/c.wav")
    there = os.scandir

    def scan(folder: str) -> object:
        if Path(folder).name in ("locked", ".Trash"):
            raise PermissionError(13, "Permission denied", folder)
        return there(folder)

    monkeypatch.setattr(os, "scandir", scan)
    with pytest.raises(SelfTalkError, match=r"locked cannot be read \(Permission denied\)"):
        places(tmp_path)
    with pytest.raises(SelfTalkError, match=r"locked cannot be read"):
        places(tmp_path / "locked", unread=[])
    unread: list[str] = []  # for whoever goes on with the rest
    assert list(places(tmp_path, unread=unread)) == ["a.wav"]
    assert len(unread) == 1 and "locked cannot be read" in unread[0]
    (tmp_path / "locked").rename(tmp_path / "open")
    assert list(places(tmp_path)) == ["a.wav", "b.wav"]
    assert list(places("x" * 5000)) == ["x" * 5000]  # told when its turn comes


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_are_clips_of_their_own_and_those_to_nowhere_fail(tmp_path: Path) -> None:
    """As where a store of large files holds what is alike once, and not all of it is here."""
    touch(tmp_path, "a.wav", "readme")
    for name, of in (("b.wav", "a.wav"), ("gone.wav", "no.wav"), ("circle.wav", "circle.wav")):
        (tmp_path / name).symlink_to(of)
    (tmp_path / "again").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")
    assert list(places(tmp_path)) == ["a.wav", "b.wav", "circle.wav", "gone.wav"]
    circle = tmp_path / "circle.wav"
    assert list(places(circle, tmp_path / "again" / "circle.wav")) == ["circle.wav"]
    for name in ("gone.wav", "circle.wav"):
        with pytest.raises(SelfTalkError, match=name):
            manifest.content(str(tmp_path / name))


def test_globs_that_the_shell_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a1.wav", "a2.mp3", "b.wav", "a.txt", "sub/a3.wav")
    assert list(places(tmp_path / "a*")) == ["a1.wav", "a2.mp3"]
    assert list(places(tmp_path / "**" / "a?.wav")) == ["a1.wav", "a3.wav"]
    with pytest.raises(SelfTalkError, match="No sound file matches"):
        places(tmp_path / "*.ogg")


def test_a_file_named_by_itself_may_be_called_anything(tmp_path: Path) -> None:
    touch(tmp_path, "take [1].sound")
    take = tmp_path / "take [1].sound"
    assert places(take, take) == {"take [1].sound": "take [1]"}


def test_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(SelfTalkError, match="name of a clip is empty"):
        places("")
    with pytest.raises(SelfTalkError, match="no sound file in the folder"):
        places(tmp_path)
    touch(tmp_path, "a.wav", "a.mp3")
    with pytest.raises(SelfTalkError, match=r"a\.mp3 and .*a\.wav would have the same name, a\. R"):
        places(tmp_path)
    touch(tmp_path, "act/b.wav", "act/b.mp4", "act/b.flac")  # a recording and its film
    with pytest.raises(SelfTalkError, match=r"same name, a; so would those of 2 other clips\. "):
        places(tmp_path)
