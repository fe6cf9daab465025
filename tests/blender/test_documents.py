"""The scripts that the documents show, run as they stand there."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import bpy
import pytest

sys.path.append(str(Path(__file__).parents[1] / "documents"))

from commands import DOCUMENTS, ROOT, scripts

from selftalk_blender.blender import bundled_head, compat
from selftalk_blender.core.template import ASSETS


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if scripts(d)], ids=lambda d: d.relative_to(ROOT).as_posix()
)
def test_scripts_of(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numpy_alone: Path
) -> None:
    """In a scene with a head that has no shapes, called MyHead, and a clip, line.ogg."""
    if compat.HAS_SOUND:  # else another library reads the clip
        monkeypatch.setenv("SELFTALK_PYTHON", str(numpy_alone))
    head = bundled_head.add_head(bpy.context, (0.0, 0.0, 0.0))
    head.shape_key_clear()
    head.name = "MyHead"
    shutil.copy(ASSETS / "sample.ogg", tmp_path / "line.ogg")
    monkeypatch.chdir(tmp_path)
    told = {"bpy": bpy}
    for script in scripts(document):
        exec(compile(script, str(document), "exec"), told)
    assert head.data.shape_keys is not None
