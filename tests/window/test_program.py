"""The zip in a whole Blender, as its users have it: installed, and used from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.blender.animators import ramp
from tests.window import debian

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not debian.there(), reason="no Blender with a window: python tests/window/debian.py sets one up"
)


def test_the_installed_extension_bakes_from_the_command_line(tmp_path: Path) -> None:
    """Nothing else is installed: Blender's own Python animates."""
    build = [sys.executable, ROOT / "tools" / "build_extension.py", tmp_path / "dist"]
    subprocess.run([str(word) for word in build], check=True, capture_output=True)
    (package,) = (tmp_path / "dist").glob("*.zip")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SELFTALK_")},
        "HOME": str(tmp_path),
        "BLENDER_USER_RESOURCES": str(tmp_path / "resources"),
    }

    def blender(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            debian.inside("blender", *words),
            env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    options = ("--command", "extension", "install-file", "-r", "user_default", "--enable")
    installed = blender(*options, package)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    clips, baked = tmp_path / "clips", tmp_path / "baked"
    clips.mkdir()
    ramp(clips / "good.wav")
    (clips / "bad.wav").write_bytes(b"no sound")
    done = blender("-c", "selftalk", "bake", clips, "-o", baked, "--format", "blend,csv,mdd")
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in said, said  # one clip failed
    lines = [json.loads(line) for line in (baked / "manifest.jsonl").read_text().splitlines()]
    told = {Path(line["clip"]).name: line for line in lines}
    assert told["bad.wav"]["error"] and not told["bad.wav"]["outputs"]
    assert not told["good.wav"]["error"]
    files = {"good.blend", "good.csv", "good.mdd"}
    assert {each["path"] for each in told["good.wav"]["outputs"]} == files
    assert {path.name for path in baked.glob("good*")} == files
