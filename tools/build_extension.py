"""Run this to get SelfTalk as a zip that Blender installs:

    .venv/bin/python tools/build_extension.py [FOLDER]
    .venv/bin/python tools/build_extension.py [FOLDER] --torch PLATFORM... [--cuda]

Checks and builds with Blender's own tool, from the `bpy` module of that Python. To FOLDER, `dist/`
by default, go

    selftalk_blender-VERSION.zip    needs nothing but Blender, on every system
    repository/                     the same zip and an index.json: a repository for Blender

and with --torch one zip for each platform, selftalk_blender-VERSION-torch-PLATFORM.zip, which
carries PyTorch: the wheels that tools/fetch_wheels.py put into wheels/PLATFORM.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from fetch_wheels import PLATFORMS, folder_of

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "selftalk_blender"


class CannotError(Exception):
    """Something the one who releases can put right."""


def main(arguments: list[str]) -> int:
    """Build the zips into a folder; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist", metavar="FOLDER")
    parser.add_argument("--torch", nargs="+", choices=PLATFORMS, default=[], metavar="PLATFORM")
    parser.add_argument("--cuda", action="store_true", help="the wheels of wheels/PLATFORM-cuda")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as work:
            stage = Path(work) / PACKAGE
            if options.torch:
                for platform in options.torch:
                    build_torch(stage, platform, options.cuda, options.folder)
            else:
                build_embedded(stage, options.folder)
    except CannotError as error:
        print(f"build_extension: {error}", file=sys.stderr)
        return 1
    return 0


def version() -> str:
    """Of the manifest."""
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text("utf-8"))
    return str(manifest["version"])


def build_embedded(stage: Path, output: Path) -> None:
    """The zip without wheels, and the repository that has it alone.

    Raises:
        CannotError: Blender's tool refuses.
    """
    fill(stage)
    zip_file = output / f"{PACKAGE}-{version()}.zip"
    build(stage, zip_file)
    repository = output / "repository"
    if repository.exists():
        shutil.rmtree(repository)
    repository.mkdir()
    shutil.copy(zip_file, repository)
    blenders_tool("server-generate", "--repo-dir", str(repository))


def build_torch(stage: Path, platform: str, cuda: bool, output: Path) -> None:
    """The zip for one platform, with wheels.

    Raises:
        CannotError: there are no wheels, or Blender's tool refuses.
    """
    wheels = folder_of(platform, cuda)
    names = sorted(wheel.name for wheel in wheels.glob("*.whl"))
    if not names:
        flags = f"{platform} --cuda" if cuda else platform
        raise CannotError(f"{wheels} has no wheels: run tools/fetch_wheels.py {flags} first.")
    fill(stage)
    (stage / "wheels").mkdir()
    for name in names:
        # A link where the disk allows it: wheels are large.
        try:
            (stage / "wheels" / name).hardlink_to(wheels / name)
        except OSError:
            shutil.copy(wheels / name, stage / "wheels")
    manifest = stage / "blender_manifest.toml"
    listed = "".join(f'    "./wheels/{name}",\n' for name in names)
    before, permissions, after = manifest.read_text("utf-8").partition("[permissions]")
    carried = f'platforms = ["{platform}"]\nwheels = [\n{listed}]\n\n'
    manifest.write_text(before + carried + permissions + after, "utf-8")
    suffix = f"torch-{platform}-cuda" if cuda else f"torch-{platform}"
    build(stage, output / f"{PACKAGE}-{version()}-{suffix}.zip")


def fill(stage: Path) -> None:
    """Put what every zip has into an empty or new folder."""
    if stage.exists():
        shutil.rmtree(stage)
    shutil.copytree(ROOT / PACKAGE, stage, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("blender_manifest.toml", "LICENSE"):
        shutil.copy(ROOT / name, stage)


def build(stage: Path, zip_file: Path) -> None:
    """Check and build; the zip appears when it is whole.

    Raises:
        CannotError: Blender's tool refuses.
    """
    zip_file.parent.mkdir(parents=True, exist_ok=True)
    blenders_tool("validate", str(stage))
    blenders_tool("build", "--source-dir", str(stage), "--output-filepath", str(zip_file))
    blenders_tool("validate", str(zip_file))


def blenders_tool(*arguments: str) -> None:
    """Run Blender's command line for extensions; it needs no Blender to run.

    Raises:
        CannotError: it is not there, or refuses.
    """
    module = importlib.util.find_spec("bpy")
    if module is None or module.origin is None:
        raise CannotError(f"{sys.executable} has no bpy module. Use the Python in .venv.")
    pattern = "*/scripts/addons_core/bl_pkg/cli/blender_ext.py"
    found = sorted(Path(module.origin).parent.glob(pattern))
    if not found:
        raise CannotError(f"No extension tool beside {module.origin}. Reinstall bpy.")
    done = subprocess.run([sys.executable, str(found[-1]), *arguments], check=False)
    if done.returncode:
        raise CannotError(f"Blender's tool refuses to {arguments[0]}; see above.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
