"""Run this to get SelfTalk as a zip that Blender installs:

    .venv/bin/python tools/build_extension.py [FOLDER]

Checks and builds with Blender's own tool, from the `bpy` module of that Python. The zip goes to
FOLDER, `dist/` by default. It carries no PyTorch: the animator runs in the Python that the
add-on's preferences or SELFTALK_PYTHON name.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "selftalk_blender"


def main(output: Path) -> int:
    """Build the zip into a folder; returns the exit code."""
    tool = blenders_tool()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / PACKAGE
        shutil.copytree(ROOT / PACKAGE, stage, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("blender_manifest.toml", "LICENSE"):
            shutil.copy(ROOT / name, stage)
        for arguments in (
            ["validate", str(stage)],
            ["build", "--source-dir", str(stage), "--output-dir", str(output)],
        ):
            done = subprocess.run([sys.executable, str(tool), *arguments], check=False)
            if done.returncode:
                return done.returncode
    return 0


def blenders_tool() -> Path:
    """Blender's command line for extensions; it needs no Blender to run."""
    module = importlib.util.find_spec("bpy")
    if module is None or module.origin is None:
        raise SystemExit(f"{sys.executable} has no bpy module. Use the Python in .venv.")
    pattern = "*/scripts/addons_core/bl_pkg/cli/blender_ext.py"
    found = sorted(Path(module.origin).parent.glob(pattern))
    if not found:
        raise SystemExit(f"No extension tool beside {module.origin}. Reinstall bpy.")
    return found[-1]


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"))
