"""Which Python runs the animator, and with which libraries. No torch here."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import SelfTalkError

# What the animator imports where it runs by PyTorch; without one of them it runs without any.
LIBRARIES = ("torch", "transformers", "safetensors")

_BLENDER = re.compile(r"blender(-?[\d.]+)?(-launcher)?(\.exe)?", re.IGNORECASE)
_folder: Path | None = None


@dataclass(frozen=True)
class Python:
    """A Python as the animator's process is started with it.

    Attributes:
        program: the Python program.
        libraries: folders that come before its own in its `sys.path`.
    """

    program: Path
    libraries: tuple[Path, ...] = ()


def look_for_libraries_in(folder: Path | None) -> None:
    """Where *Install PyTorch* puts what the animator runs by (None: nowhere)."""
    global _folder
    _folder = folder


def find_python(chosen: str | None = None) -> Python:
    """The Python that runs the animator: the chosen one, else SELFTALK_PYTHON, else our own.

    Our own comes with the libraries that *Install PyTorch* or an extension's wheels brought, where
    there are any.

    Raises:
        SelfTalkError: there is no such program, or it is Blender.
    """
    for path, source in (
        (chosen, "chosen in the SelfTalk preferences"),
        (os.environ.get("SELFTALK_PYTHON"), "named by the environment variable SELFTALK_PYTHON"),
    ):
        # Windows copies a path with quotes around it.
        name = (path or "").strip().strip('"')
        if name:
            found = shutil.which(os.path.expanduser(name))
            if found is None:
                raise SelfTalkError(
                    f"There is no Python at {name}, {source}. Choose the python program itself "
                    "(python.exe on Windows, bin/python elsewhere)."
                )
            if _is_blender(Path(found)):
                raise SelfTalkError(
                    f"{name}, {source}, is Blender and no Python. Choose a python program "
                    "(python.exe on Windows, bin/python elsewhere)."
                )
            return Python(Path(found).absolute())
    return Python(Path(sys.executable), _libraries())


def _is_blender(program: Path) -> bool:
    """By its name, under which it may be a link: asked as a Python is, it would open a window."""
    names = (program.name, program.resolve().name)
    return any(_BLENDER.fullmatch(name) for name in names)


def process_settings() -> dict[str, Any]:
    """How a Python is started beside Blender: what `subprocess.Popen` is given.

    Its environment is ours without what Blender's Python, or a test runner's, sets for itself.
    """
    # Threads that spin while they wait for each other take the cores from Blender and, where
    # anything else runs, from each other: on two busy cores a clip took ten times as long.
    waiting = {"OMP_WAIT_POLICY": "PASSIVE"}
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {
        "env": waiting | ours,
        "creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0),
    }


def _libraries() -> tuple[Path, ...]:
    """The folders that our own Python would not look into by itself."""
    if _folder is not None and _folders([str(_folder)]):
        return (_folder,)
    # Blender puts the wheels of all extensions into one folder, on the path of its own process.
    own = {_real(folder) for folder in _own_folders()}
    return tuple(folder for folder in _folders(sys.path) or () if _real(folder) not in own)


def _folders(path: Sequence[str]) -> tuple[Path, ...] | None:
    """Where on a path all LIBRARIES lie; None where one is missing. Nothing is imported."""
    folders: dict[Path, None] = {}
    for name in LIBRARIES:
        # Without the file it is what is left of one that was removed.
        there = (Path(folder) for folder in path if Path(folder, name, "__init__.py").is_file())
        folder = next(there, None)
        if folder is None:
            return None
        folders[folder] = None
    return tuple(folders)


def _own_folders() -> list[str]:
    """Where a new process of this Python finds packages."""
    folders = site.getsitepackages()
    return [*folders, site.getusersitepackages()] if site.ENABLE_USER_SITE else folders


def _real(folder: str | Path) -> str:
    return os.path.normcase(os.path.realpath(folder))
