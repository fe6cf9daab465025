"""Tables as spreadsheets export them, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from selftalk_blender.batch.table import CONTROLS, read_table
from selftalk_blender.batch.task import Settings
from selftalk_blender.core.errors import SelfTalkError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("act 1/über.wav", "b.wav", "cast/ann.blend", "cast/me.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "lines.csv"
    path.write_bytes(text.encode(encoding))
    return path


COMMAS = """clip,Mesh,object,Strength,seed,format
act 1/über.wav,cast/ann.blend,"Face, of Ann",0.8,7,"fbx, blend"
b.wav,,,,,
"""
SEMICOLONS = """sep=;
clip;Mesh;object;Strength;seed;format\r
"act 1\\über.wav";cast/ann.blend;Face, of Ann;0,8;7;fbx blend\r
\r
b.wav;;;;;\r
"""


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (COMMAS, "utf-8"), (COMMAS, "utf-8-sig"), (COMMAS, "cp1252"), (SEMICOLONS, "utf-8-sig"),
        (SEMICOLONS.replace(";", "\t").replace("sep=\t\n", ""), "utf-16"),
    ],
)  # fmt: skip
def test_what_spreadsheets_write(folder: Path, text: str, encoding: str) -> None:
    first, second = read_table(write(folder, text, encoding))
    assert first.clip == folder / "act 1" / "über.wav" and second.clip == folder / "b.wav"
    assert first.mesh == str(folder / "cast" / "ann.blend") and first.object == "Face, of Ann"
    assert first.controls == {"strength": 0.8, "seed": 7}
    assert (second.mesh, second.object, second.changes, second.controls) == (None, None, {}, {})
    general = Settings(("abc",), fps=24.0, controls={"jaw": 2.0})
    settings = first.settings(general)
    assert settings.formats == ("fbx", "blend") and settings.fps == 24.0
    assert settings.controls == {"jaw": 2.0, "strength": 0.8, "seed": 7}
    assert second.settings(general) == general


def test_every_column_says_something(folder: Path) -> None:
    names = "clip,fps,method,device,animator,template,subject," + ",".join(CONTROLS)
    values = "b.wav,29.97,Mesh Cache,CUDA,cast/me.safetensors,cast/ann.blend,Ann,"
    (row,) = read_table(write(folder, f"{names}\n{values}{','.join('1' for _ in CONTROLS)}\n"))
    settings = row.settings(Settings(("fbx",)))
    assert (settings.fps, settings.method, settings.device) == (29.97, "mesh-cache", "cuda")
    assert settings.animator == str(folder / "cast" / "me.safetensors")
    assert (settings.template, settings.subject) == (str(folder / "cast" / "ann.blend"), "Ann")
    assert settings.controls == dict.fromkeys(CONTROLS, 1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clip,mood\nb.wav,sad\n", r"unknown: 'mood'. Known are clip, mesh, object.* jaw"),
        ("mesh\ncast/ann.blend\n", "no column clip"),
        ("PK\3\4\0\0", "is no CSV"),  # a spreadsheet's own file
        ("clip\nb\0.wav\n", "is no CSV"),
        ("clip,clip\nb.wav,b.wav\n", "two columns clip"),
        ("clip\n", "no line below"),
        ("", "no line below"),
        ("clip,object\n,Ann\n", "line 2: no clip is named"),
        ("clip,mesh\nb.wav,bob.blend\n", "line 2: there is no file .*bob.blend"),
        ("clip\nb.wav\n./b.wav\n", "lines 2 and 3 both name .*Keep one"),
        ("clip,strength\nb.wav,much\n", "line 2: strength is 'much'; choose a number"),
        ("clip,strength\nb.wav,nan\n", "choose a number"),
        ("clip,strength\nb.wav,-1\n", "choose between 0 and 5"),
        ("clip,seed\nb.wav,1.5\n", "choose a whole number"),
        ("clip,fps\nb.wav,0\n", "frames per second"),
        ("clip,format\nb.wav,docx\n", "choose from blend, fbx, abc"),
        ("clip,method\nb.wav,bones\n", "choose shape-keys or mesh-cache"),
        ("clip,device\nb.wav,tpu\n", "choose cpu or cuda"),
        ("clip,style\nb.wav,angry\n", "one style alone"),
        ("clip,object\nb.wav,Ann,Bob\n", "line 2: more cells than columns"),
        ('clip\n"b.wav\nc.wav\n', "line 3: .* quote that is not closed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(folder: Path, text: str, words: str) -> None:
    with pytest.raises(SelfTalkError, match=words):
        read_table(write(folder, text))


def test_an_empty_style_and_a_missing_table(folder: Path) -> None:
    assert read_table(write(folder, "clip,style\nb.wav,\n"))[0].changes == {}
    with pytest.raises(SelfTalkError, match="cannot be read"):
        read_table(folder / "none.csv")
