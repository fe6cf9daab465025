"""`selftalk doctor`: what is installed, and what would run. Works with the bare Python alone."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

# pip and Python call these by the same names.
FAST = ("torch", "transformers", "safetensors")  # what the lane of PyTorch needs beside numpy
SOUND = ("soundfile", "av")  # what reads sound files that are no WAV
PACKAGES = ("numpy", *FAST, *SOUND)
TRAINING = ("soxr", "torchmetrics")  # what training and evaluation need beside all those
ANIMATOR = Path(__file__).resolve().parent / "assets" / "animator.safetensors"
BY_TORCH, IN_NUMPY = "by PyTorch", "in numpy"  # the two lanes
OLDEST = (4, 2)  # Blender, as the manifest says
SECONDS = 120  # longest wait for a program that is asked about itself


def main(blender: str = "") -> int:
    """Print the findings.

    Args:
        blender: the program of the Blender that we run in; "" outside Blender.

    Returns:
        0 if clips can be animated here, else 1.
    """
    print(f"SelfTalk     {Path(__file__).resolve().parent}")
    print(f"Python       {platform.python_version()}, {sys.executable}")
    print(f"System       {platform.platform()}, {os.cpu_count()} CPU cores")
    for name in PACKAGES:
        print(f"{name:12} {_version(name) or 'missing'}")
    numpy_is_there = _version("numpy") is not None
    lane, how = _lane() if numpy_is_there else ("", "none: it needs numpy")
    print(f"Lane         {how}")
    without = [name for name in SOUND if _version(name) is None]
    print(f"Reads        {_reads(without)}")
    animator_is_there = ANIMATOR.is_file()
    print(f"Animator     {_animator() if animator_is_there else f'missing: {ANIMATOR}'}")
    if blender:
        module_runs = True
        print(f"Blender      {_program(blender)}")
    else:
        module, module_runs = _bpy_module()
        print(f"Blender      {module}")
        program = shutil.which("blender")
        if program:
            print(f"             {_program(program)}")
    worker, worker_runs = _worker(lane)
    print(f"Add-on uses  {worker}")

    print()
    animates = bool(lane) and animator_is_there
    if animates:
        print(f"selftalk animate   would run, {lane}{', with WAV files' if without else ''}")
    elif not lane:
        command = f'"{sys.executable}" -m pip install numpy'
        print(f"selftalk animate   would not run: install what is missing with {command}")
    else:
        print("selftalk animate   would not run: the bundled animator is missing; see Animator")
    if not module_runs:
        print("selftalk bake      would not run: it needs the bpy module; see Blender above")
    elif not (worker_runs and animator_is_there):
        print("selftalk bake      would not run: it needs a Python that animates; see above")
    else:
        print("selftalk bake      would run")
    lacking = [name for name in (*PACKAGES, *TRAINING) if _version(name) is None]
    trains = f"not run: it needs {', '.join(lacking)}" if lacking else "run"
    print(f"selftalk train     would {trains}")
    return 0 if animates else 1


def _version(name: str) -> str | None:
    """None where it is missing; Blender's own packages do not all tell their version."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "version unknown" if importlib.util.find_spec(name) is not None else None


def _lane() -> tuple[str, str]:
    """What `worker.lanes` would choose, in a few words and in a sentence."""
    missing = [name for name in FAST if _version(name) is None]
    if missing:
        return IN_NUMPY, f"numpy, on the CPU; PyTorch would be faster, but {_lacks(missing)}"
    try:
        from .animator import load_animator  # noqa: F401
    except Exception as error:  # as in `worker.lanes`
        from .worker.lanes import reason

        why = reason(error)
        return IN_NUMPY, f"numpy, on the CPU; PyTorch is installed, but cannot be loaded ({why})"
    import torch

    if torch.cuda.is_available():
        return BY_TORCH, f"PyTorch, on cuda: {torch.cuda.get_device_name()}"
    return BY_TORCH, f"PyTorch, on the CPU, {torch.get_num_threads()} threads (it finds no CUDA)"


def _lacks(missing: list[str]) -> str:
    return f"this Python lacks {', '.join(missing)}"


def _reads(missing: list[str]) -> str:
    if not missing:
        return "sound files of any kind, and videos"
    kinds = {"soundfile": "FLAC, MP3 and OGG", "av": "M4A and videos"}
    return "WAV files; " + "; ".join(f"{kinds[name]} need {name}" for name in missing)


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
        old = _too_old(found[-1])
        return f"module: {found[-1]}{old}", not old
    last = (answer.splitlines() or ["no reason given"])[-1]
    return f"module {_version('bpy')} does not start: {last}", False


def _program(path: str) -> str:
    words = (_ask([path, "--version"]).splitlines() or ["does not start"])[0]
    return f"program: {words}, {path}{_too_old(words)}"


def _too_old(words: str) -> str:
    """What to say of a version of Blender that the add-on does not run in; "" of others."""
    found = re.search(r"(\d+)\.(\d+)", words)
    if found is None or (int(found[1]), int(found[2])) >= OLDEST:
        return ""
    return f" - too old: SelfTalk needs {OLDEST[0]}.{OLDEST[1]}"


def _worker(lane: str) -> tuple[str, bool]:
    """The Python that the add-on would start, in which lane, and whether it animates."""
    chosen = os.environ.get("SELFTALK_PYTHON")
    if not chosen:
        here = f"this Python, {sys.executable}, unless Blender is another"
        return here + (f"; {lane}" if lane else "; lacks numpy"), bool(lane)
    if _version("numpy") is None:
        return f"SELFTALK_PYTHON={chosen}, which can be asked once numpy is here", False
    from .core.errors import SelfTalkError
    from .worker.inquiry import Inquiry
    from .worker.python import find_python

    try:
        found = Inquiry(find_python()).wait()
    except SelfTalkError as error:
        return str(error), False
    if not found.usable:
        return f"SELFTALK_PYTHON={chosen}: {found.text}", False
    return f"SELFTALK_PYTHON={chosen}; {BY_TORCH if found.torch else IN_NUMPY}: {found.text}", True


def _ask(command: list[str]) -> str:
    """What a program says, stdout after stderr; nothing if it cannot be started."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stderr + done.stdout).strip()
