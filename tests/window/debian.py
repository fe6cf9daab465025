"""Run this to set up a Blender with a window: Debian 13's 4.3, in a folder of its own.

    python3.11 tests/window/debian.py

Nothing else of the system changes. It needs root, Debian or Ubuntu, 1.5 GB of disk (1.8 meanwhile),
and a minute or two, once; `tools/run.py test tests/window` runs it. Where the system's own Blender
is 4.2 or newer, and Xvfb, xdotool and imagemagick are there, that one is used.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".blender-window"
READY = HOME / "selftalk-ready"
PROGRAMS = ("blender", "Xvfb", "xdotool", "import")
PACKAGES = ("blender", "xvfb", "xdotool", "imagemagick", "python3-numpy", "libgl1-mesa-dri")
OLDEST = (4, 2)
# In mounts of its own, which end with the program: the machine's devices, the repository, and
# temporary files, at the same places.
ENTER = """
set -e
mount --make-rprivate /
for place in /dev /proc /tmp "$ROOT"; do
    mkdir -p "$HOME_OF_DEBIAN$place"
    mount --rbind "$place" "$HOME_OF_DEBIAN$place"
done
exec chroot "$HOME_OF_DEBIAN" "$@"
"""


class CannotError(Exception):
    """Why there is no Blender with a window."""


@functools.cache
def own() -> bool:
    """Whether the system's own programs do."""
    if not all(map(shutil.which, PROGRAMS)):
        return False
    told = subprocess.run(["blender", "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"Blender (\d+)\.(\d+)", told.stdout)
    return version is not None and tuple(map(int, version.groups())) >= OLDEST


def there() -> bool:
    """Whether a Blender with a window can be started."""
    return own() or READY.is_file()


def inside(*command: str | Path) -> list[str]:
    """The command line of a program that is where that Blender is."""
    words = [str(word) for word in command]
    if own():
        return words
    names = ["env", f"ROOT={ROOT}", f"HOME_OF_DEBIAN={HOME}"]
    return [*names, "unshare", "--mount", "sh", "-c", ENTER, "sh", *words]


def python() -> str:
    """A Python with numpy that is there."""
    return sys.executable if own() else "/usr/bin/python3"


def set_up() -> None:
    """Make it, unless it is there.

    Raises:
        CannotError: what is missing.
    """
    if there():
        return
    if not sys.platform.startswith("linux") or shutil.which("apt-get") is None:
        raise CannotError("it is Debian's, which this system is not")
    if os.geteuid() != 0:
        raise CannotError("only root can set it up")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        raise CannotError("this system allows no mounts")
    print("Setting up a Blender with a window: once, a minute or two and 1.6 GB.", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    log = ROOT / ".blender-window.log"

    def do(*command: str | Path) -> None:
        with log.open("ab") as output:
            done = subprocess.run(
                [str(word) for word in command], env=quiet, stdout=output, stderr=output,
                stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        if done.returncode:
            raise CannotError(f"{command[0]} failed; its words are in {log}")

    shutil.rmtree(HOME, ignore_errors=True)
    if shutil.which("debootstrap") is None:
        do("apt-get", "update")
        do("apt-get", "install", "-y", "--no-install-recommends", "debootstrap")
    do("debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "trixie", HOME)
    shutil.rmtree(HOME / "var" / "cache" / "apt")
    READY.touch()
    log.unlink()


if __name__ == "__main__":
    try:
        set_up()
    except CannotError as reason:
        sys.exit(f"No Blender with a window: {reason}.")
