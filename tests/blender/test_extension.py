"""The zip that users install: built by Blender's tool, installed, used and removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from animators import ramp, stand_in

ROOT = Path(__file__).parents[2]

# In a Blender of its own, whose user folder is empty. Its Python knows nothing of the repository.
SESSION = """
import sys
import bpy

zip_file, clip, python = sys.argv[1:]
name = "bl_ext.user_default.selftalk_blender"
bpy.ops.extensions.package_install_files(
    filepath=zip_file, repo="user_default", enable_on_install=True
)
assert name in bpy.context.preferences.addons, list(bpy.context.preferences.addons)
bpy.context.preferences.addons[name].preferences.python = python
assert bpy.ops.selftalk.add_face() == {"FINISHED"}
settings = bpy.context.scene.selftalk
settings.sound_file = clip
assert bpy.ops.selftalk.animate_from_audio() == {"FINISHED"}
print("RESULT", settings.face.selftalk.result)
client = sys.modules[name + ".worker.client"]
log = sys.modules[name + ".worker.log"]
assert log.log_file().is_relative_to(bpy.utils.user_resource("EXTENSIONS")), log.log_file()
assert "animate" in log.log_file().read_text()
(worker,) = client._workers.values()
process = worker._process
assert process.poll() is None  # warm
bpy.ops.extensions.package_uninstall(repo_index=1, pkg_id="selftalk_blender")
assert name not in bpy.context.preferences.addons
assert "selftalk" not in bpy.types.Scene.bl_rna.properties
process.wait(5)
print("GONE")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    tool = [sys.executable, str(ROOT / "tools" / "build_extension.py"), str(folder)]
    subprocess.run(tool, check=True, capture_output=True)
    (built,) = folder.glob("selftalk_blender-*.zip")
    return built


def session(zip_file: Path, tmp_path: Path, python: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    clean.pop("SELFTALK_PYTHON", None)
    (tmp_path / "session.py").write_text(SESSION)
    clip = ramp(tmp_path / "ramp.wav")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "session.py"), str(zip_file), str(clip), python],
        env={**clean, "BLENDER_USER_RESOURCES": str(tmp_path / "user")},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_installed_used_and_removed(built: Path, tmp_path: Path) -> None:
    output = session(built, tmp_path, stand_in(tmp_path))
    assert "RESULT 99 frames" in output and "GONE" in output


def test_training_stays_out_of_the_zip(built: Path) -> None:
    import zipfile

    names = zipfile.ZipFile(built).namelist()
    assert "__init__.py" in names and "blender_manifest.toml" in names
    assert not [name for name in names if "training" in name or "__pycache__" in name]
