"""`selftalk doctor`: what is installed, and what would run. Works with the bare Python alone."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

# What the animator needs; pip and Python call these by the same names.
PACKAGES = ("numpy", "torch", "transformers", "safetensors", "soundfile", "soxr", "av")
TRAINING = ("torchmetrics",)  # what training and evaluation cannot do without beside those
ANIMATOR = Path(__file__).resolve().parent / "assets" / "animator.safetensors"
SECONDS = 120  # longest wait for a program that is asked about itself


def main() -> int:
    """Print the findings.

    Returns:
        0 if clips can be animated here, else 1.
    """
    print(f"SelfTalk     {Path(__file__).resolve().parent}")
    print(f"Python       {platform.python_version()}, {sys.executable}")
    print(f"System       {platform.platform()}, {os.cpu_count()} CPU cores")
    missing = [name for name in PACKAGES if _version(name) is None]
    for name in PACKAGES:
        print(f"{name:12} {_version(name) or 'missing'}")
    print(f"Device       {'unknown without torch' if 'torch' in missing else _device()}")
    animator_is_there = ANIMATOR.is_file()
    print(f"Animator     {_animator() if animator_is_there else f'missing: {ANIMATOR}'}")
    module, module_runs = _bpy_module()
    print(f"Blender      {module}")
    program = shutil.which("blender")
    if program:
        words = _ask([program, "--version"]).splitlines()
        print(f"             program: {words[0] if words else 'does not start'}, {program}")
    worker, worker_runs = _worker(missing)
    print(f"Add-on uses  {worker}")

    print()
    animates = not missing and animator_is_there
    if animates:
        print("selftalk animate   would run")
    elif missing:
        command = f'"{sys.executable}" -m pip install {" ".join(missing)}'
        print(f"selftalk animate   would not run: install what is missing with {command}")
    else:
        print("selftalk animate   would not run: the bundled animator is missing; see Animator")
    if not module_runs:
        print("selftalk bake      would not run: it needs the bpy module; see Blender above")
    elif not (worker_runs and animator_is_there):
        print("selftalk bake      would not run: it needs a Python that animates; see above")
    else:
        print("selftalk bake      would run")
    lacking = missing or [name for name in TRAINING if _version(name) is None]
    without = f"not run: it needs {', '.join(lacking)}" if lacking else "run"
    print(f"selftalk train     would {without}")
    return 0 if animates else 1


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device() -> str:
    try:
        import torch
    except (ImportError, OSError) as error:
        return f"torch is installed, but cannot be loaded ({error})"
    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    return f"cpu, {torch.get_num_threads()} threads (torch finds no CUDA)"


def _animator() -> str:
    text = f"bundled, {ANIMATOR.stat().st_size / 1e6:.1f} MB"
    try:
        card = json.loads(ANIMATOR.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{text}, without a readable card"
    return f"{text}, trained by revision {card.get('revision', 'unknown')}"


def _bpy_module() -> tuple[str, bool]:
    """What can be said about bpy, and whether it runs. It is asked in a process of its own."""
    if _version("bpy") is None:
        return f'no bpy module here; install it with "{sys.executable}" -m pip install bpy', False
    answer = _ask([sys.executable, "-c", "import bpy; print('bpy', bpy.app.version_string)"])
    found = [line for line in answer.splitlines() if line.startswith("bpy ")]
    if found:
        return f"module: {found[-1]}", True
    last = (answer.splitlines() or ["no reason given"])[-1]
    return f"module {_version('bpy')} does not start: {last}", False


def _worker(missing: list[str]) -> tuple[str, bool]:
    """The Python that the add-on would start, and whether it has what the animator needs."""
    chosen = os.environ.get("SELFTALK_PYTHON")
    if not chosen:
        here = f"this Python, {sys.executable}, unless Blender is another"
        return here + (f"; lacks {', '.join(missing)}" if missing else ""), not missing
    python = shutil.which(os.path.expanduser(chosen))
    if python is None:
        return f"SELFTALK_PYTHON={chosen}, which is not there", False
    code = (
        "import importlib.util as u, sys; "
        "print('lacks', *(n for n in sys.argv[1:] if u.find_spec(n) is None))"
    )
    answer = _ask([python, "-c", code, *PACKAGES]).splitlines()
    if not answer or not answer[-1].startswith("lacks"):
        return f"SELFTALK_PYTHON={chosen}, which does not start", False
    lacks = answer[-1].split()[1:]
    return f"SELFTALK_PYTHON={chosen}" + (f", lacks {', '.join(lacks)}" if lacks else ""), not lacks


def _ask(command: list[str]) -> str:
    """What a program says, stdout after stderr; nothing if it cannot be started."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stderr + done.stdout).strip()
