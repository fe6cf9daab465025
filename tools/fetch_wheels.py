"""Run this before tools/build_extension.py --torch: it fetches the wheels that such a zip carries.

    .venv/bin/python tools/fetch_wheels.py PLATFORM... [--cuda] [--index INDEX] [--python PYTHON]
    .venv/bin/python tools/fetch_wheels.py --lock [--index INDEX]

PLATFORM is linux-x64, windows-x64 or macos-arm64. The wheels, for Python 3.11 (Blender 4.2 to 5.0)
and 3.13 (5.1 and later) or one of them, go to wheels/PLATFORM or wheels/PLATFORM-cuda; each must
have a hash of selftalk_blender/worker/pytorch.lock. numpy is not among them: Blender has its own.

pip's usual index has PyTorch for Linux with CUDA, and for Windows without. The other two, Linux
for the CPU alone and Windows with CUDA, come from an INDEX of PyTorch's own, an address or a
folder of wheels, and have their hashes in tools/pytorch-index.lock.

--lock writes pytorch.lock anew from tools/pytorch.in, with the newest versions that go together,
and with --index the other lock. It needs uv, which tools/requirements.txt names.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker

ROOT = Path(__file__).resolve().parent.parent
WHEELS = ROOT / "wheels"
LOCK = ROOT / "selftalk_blender" / "worker" / "pytorch.lock"
INDEX_LOCK = ROOT / "tools" / "pytorch-index.lock"
WANTED = ROOT / "tools" / "pytorch.in"
PYTHONS = ("3.11", "3.13")
ONLY_CUDA = ("nvidia-", "cuda-", "triton")  # begin the names of packages for graphics cards


@dataclass(frozen=True)
class Platform:
    """How pip and its markers name one of Blender's platforms, and what the usual index has."""

    tags: tuple[str, ...]
    sys_platform: str
    system: str
    machine: str
    usual_is_cuda: bool
    has_cuda: bool = True


PLATFORMS = {
    "linux-x64": Platform(
        (*(f"manylinux_2_{minor}_x86_64" for minor in range(28, 4, -1)), "manylinux2014_x86_64"),
        "linux", "Linux", "x86_64", True,
    ),
    "windows-x64": Platform(("win_amd64",), "win32", "Windows", "AMD64", False),
    "macos-arm64": Platform(("macosx_14_0_arm64",), "darwin", "Darwin", "arm64", False, False),
}  # fmt: skip


class CannotError(Exception):
    """Something the one who releases can put right."""


def main(arguments: list[str]) -> int:
    """Fetch or lock; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("platforms", nargs="*", metavar="PLATFORM", help=", ".join(PLATFORMS))
    parser.add_argument("--cuda", action="store_true", help="PyTorch for NVIDIA's cards")
    parser.add_argument("--index", help="an index of PyTorch's own, or a folder of wheels")
    parser.add_argument("--python", choices=PYTHONS, help="for this one alone")
    parser.add_argument("--lock", action="store_true", help="write the locks anew")
    options = parser.parse_args(arguments)
    unknown = set(options.platforms) - set(PLATFORMS)
    if unknown or options.lock == bool(options.platforms):
        parser.error(f"name platforms of {', '.join(PLATFORMS)}, or --lock alone")
    try:
        if options.lock:
            lock(options.index)
        for name in options.platforms:
            pythons = PYTHONS if options.python is None else (options.python,)
            fetch(name, options.cuda, options.index, pythons)
    except CannotError as error:
        print(f"fetch_wheels: {error}", file=sys.stderr)
        return 1
    return 0


def folder_of(platform: str, cuda: bool) -> Path:
    """Where a platform's wheels go."""
    return WHEELS / (f"{platform}-cuda" if cuda else platform)


def fetch(name: str, cuda: bool, index: str | None, pythons: tuple[str, ...] = PYTHONS) -> None:
    """Fetch the wheels of a platform; its folder is whole afterwards, or as it was.

    Raises:
        CannotError: what is missing, or pip's failure.
    """
    platform = PLATFORMS[name]
    if cuda and not platform.has_cuda:
        raise CannotError(f"{name} has no NVIDIA cards: leave out --cuda.")
    usual = cuda == platform.usual_is_cuda or not platform.has_cuda
    if not usual and index is None:
        raise CannotError(
            f"{name} {'with' if cuda else 'without'} CUDA comes from an index of PyTorch's own: "
            "give its address, which the page Get Started of pytorch.org tells, with --index."
        )
    final = folder_of(name, cuda)
    WHEELS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=WHEELS) as work:
        for python in pythons:
            wanted = requirements(LOCK, platform, python)
            if not cuda:
                wanted = [line for line in wanted if not line.startswith(ONLY_CUDA)]
            if not usual:
                wanted = [line for line in wanted if not line.startswith("torch==")]
                torch = requirements(INDEX_LOCK, platform, python)
                if not torch:
                    raise CannotError(
                        f"{INDEX_LOCK.name} has no PyTorch for {name} and Python {python}: "
                        "run --lock --index INDEX first."
                    )
                download(torch, platform, python, Path(work, "wheels"), index)
            # "===": pip may know of another build of that version, with other hashes.
            wanted = [line.replace("==", "===", 1) for line in wanted]
            download(wanted, platform, python, Path(work, "wheels"))
        if final.exists():
            shutil.rmtree(final)
        Path(work, "wheels").rename(final)
    files = sorted(final.iterdir())
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    print(f"{final.relative_to(ROOT)}: {len(files)} wheels, {megabytes:.0f} MB")


def requirements(lock_file: Path, platform: Platform, python: str) -> list[str]:
    """The lines of a lock that hold for a platform and a Python, with hashes, without markers."""
    environment = {
        "implementation_name": "cpython",
        "os_name": "nt" if platform.system == "Windows" else "posix",
        "platform_machine": platform.machine,
        "platform_python_implementation": "CPython",
        "platform_system": platform.system,
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": platform.sys_platform,
    }
    lines = []
    for line in lock_file.read_text("utf-8").replace("\\\n", " ").splitlines():
        named, *hashes = line.split("--hash=")
        pinned, _, marker = named.partition(";")
        if hashes and (not marker.strip() or Marker(marker).evaluate(environment)):
            lines.append(" ".join([pinned.strip(), *(f"--hash={h.strip()}" for h in hashes)]))
    return lines


def download(
    wanted: list[str], platform: Platform, python: str, folder: Path, index: str | None = None
) -> None:
    """Have pip fetch exactly these; it checks hashes where lines have them.

    Raises:
        CannotError: pip says why not.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", python]
    for tag in platform.tags:
        command += ["--platform", tag]
    command += ["--quiet", "--dest", str(folder)]
    if index is not None:
        here = Path(index).is_dir()
        command += ["--no-index", "--find-links", index] if here else ["--index-url", index]
    with tempfile.TemporaryDirectory() as work:
        listed = Path(work, "requirements.txt")
        listed.write_text("\n".join(wanted) + "\n", "utf-8")
        done = subprocess.run([*command, "--requirement", str(listed)], check=False)
    if done.returncode:
        raise CannotError("pip could not fetch the wheels; see above.")


def lock(index: str | None) -> None:
    """Write the locks anew.

    Raises:
        CannotError: uv is missing, or finds no versions that go together.
    """
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise CannotError(f"uv is missing: {sys.executable} -m pip install uv")
    command = [uv, "pip", "compile", "--universal", "--python-version", PYTHONS[0], "--upgrade"]
    command += ["--only-binary", ":all:", "--generate-hashes", "--no-header", "--no-annotate"]
    command += ["--no-emit-package", "numpy", "--no-emit-index-url", "--quiet"]
    # One version for both Pythons: Blender takes one of a zip's wheels without code for a Python.
    command += ["--fork-strategy", "fewest"]
    with tempfile.TemporaryDirectory() as work:
        made = Path(work, LOCK.name)
        if subprocess.run([*command, str(WANTED), "-o", str(made)], check=False).returncode:
            raise CannotError("uv could not lock the versions; see above.")
        text = "\n".join(line for line in made.read_text("utf-8").splitlines() if line[0] != "#")
        words = f"# Made by tools/fetch_wheels.py --lock from {WANTED.name}."
        LOCK.write_text(f"{words}\n{text}\n", "utf-8")
    if index is not None:
        lock_index(index)


def lock_index(index: str) -> None:
    """Write the lock of PyTorch from an index of its own, for the platforms that this one has.

    What the lock has of other indices stays, if it is of the same version.
    """
    locked = LOCK.read_text("utf-8").splitlines()
    pinned = next(line for line in locked if line.startswith("torch==")).split()[0]
    old = INDEX_LOCK.read_text("utf-8").splitlines() if INDEX_LOCK.is_file() else []
    lines = [line for line in old if line.startswith(f"{pinned}+")]
    for name, platform in PLATFORMS.items():
        for python in PYTHONS if platform.has_cuda else ():
            marker = f"sys_platform == '{platform.sys_platform}' and python_version == '{python}'"
            with tempfile.TemporaryDirectory() as work:
                try:
                    download([pinned], platform, python, Path(work), index)
                except CannotError:
                    print(f"Not there: {pinned} for {name} and Python {python}", file=sys.stderr)
                    continue
                (wheel,) = Path(work).iterdir()
                with wheel.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            lines = [line for line in lines if marker not in line]
            local = wheel.name.split("-")[1]
            lines.append(f"torch=={local} ; {marker} --hash=sha256:{digest}")
    words = "# Made by tools/fetch_wheels.py --lock --index: PyTorch from an index of its own."
    INDEX_LOCK.write_text("\n".join([words, *sorted(lines)]) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
