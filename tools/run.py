"""Set up SelfTalk on a bare Python 3.11 and run it. Nothing but the standard library is needed.

    python3.11 tools/run.py demo                       bake the sample clip into demo-output/
    python3.11 tools/run.py test                       lint, types, import rules, and all tests
    python3.11 tools/run.py test --blender all         in 4.2, 4.5, 5.2 and a window, too
    python3.11 tools/run.py test [--blender 4.5] ...   anything else goes to pytest
    python3.11 tools/run.py test tests/window          the button in a real window
    python3.11 tools/run.py ANYTHING                   is `selftalk ANYTHING`

What it needs goes into .venv in the repository, once; system libraries are installed where that
is allowed, else named.
"""

from __future__ import annotations

import ctypes
import functools
import glob
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / "tools"
TESTS = ROOT / "tests"
MAIN = "5.0"  # the Blender in .venv, which also runs `selftalk bake`
# Blender -> (the Python that its module is made for, folder of its environment).
BLENDERS = {
    "4.2": ("3.11", ".venv-bpy-4.2"),
    "4.5": ("3.11", ".venv-bpy-4.5"),
    MAIN: ("3.11", ".venv"),
    "5.2": ("3.13", ".venv-bpy-5.2"),
}
# Two threads that want an environment do not both make it.
MAKING = {name: threading.Lock() for name in BLENDERS}
# What the bpy module loads of the system, and the Debian package that has it.
LIBRARIES = {
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libXrender.so.1": "libxrender1",
    "libXfixes.so.3": "libxfixes3",
    "libXi.so.6": "libxi6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libSM.so.6": "libsm6",
    "libICE.so.6": "libice6",
    "libXxf86vm.so.1": "libxxf86vm1",
    "libgomp.so.1": "libgomp1",
}
# Run in each Blender; and in a Blender of its own, with a screen.
APART = ("blender", "window")
NEEDS_BLENDER = ("demo", "bake", "test")
WELL = (0, 5)  # exit codes of pytest: all passed; nothing to run


class CannotError(Exception):
    """What is wrong and what to do, for the user."""


@dataclass
class Outcome:
    """What a run of tests came to."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    remark: str = ""

    def __str__(self) -> str:
        counts = f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"
        return f"{self.name}: {counts}{f' ({self.remark})' if self.remark else ''}"


def main(arguments: list[str]) -> int:
    """Do what the arguments say; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    command = arguments[0]
    try:
        if command in NEEDS_BLENDER:
            system_libraries()
        python = environment(MAIN)
        if command == "demo":
            return demo(python, arguments[1:])
        if command == "test":
            return test(python, arguments[1:])
        return run([python, "-m", "selftalk_blender.cli", *arguments])
    except CannotError as error:
        print(f"tools/run.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run(command: Sequence[str | Path], output: IO[bytes] | None = None, **variables: str) -> int:
    """Run a program that finds the package wherever it is started; returns its exit code.

    Args:
        output: what it prints goes there; by default, where ours goes.
    """
    everything = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    process = subprocess.Popen(
        [str(part) for part in command], env=everything, stdout=output, stderr=output
    )
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # it got the signal too: let it tidy up and say so


# --- Setting up ----------------------------------------------------------------------------------


def environment(blender: str) -> Path:
    """The Python of a Blender's environment, which is made or brought up to date where needed."""
    with MAKING[blender]:
        return _environment(blender)


def _environment(blender: str) -> Path:
    version, folder = BLENDERS[blender]
    home = ROOT / folder
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    lists = [TOOLS / f"requirements-bpy-{blender}.txt"]
    if blender == MAIN:
        lists = [TOOLS / "requirements-torch.txt", TOOLS / "requirements.txt"]
    wanted = hashlib.sha256(str(home).encode())
    for file in lists:
        wanted.update(file.read_bytes())
    stamp = home / "selftalk-requirements.sha256"
    if stamp.is_file() and stamp.read_text("utf-8") == wanted.hexdigest() and python.is_file():
        return python

    base = find_python(version)
    if base is None:
        raise CannotError(
            f"SelfTalk is set up with Python {version}, which was not found here. Install "
            f"python{version} (with its venv module) and run this again."
        )
    begun = time.monotonic()
    print(f"Setting up {folder} for Blender {blender}: once, some minutes and up to 3 GB of disk.")
    if home.exists():
        shutil.rmtree(home)
    venv(base, version, home)
    for file in lists:
        what = "PyTorch" if "torch" in file.name else f"Blender {blender} and libraries"
        pip(python, file, what, home / "pip.log")
    stamp.write_text(wanted.hexdigest(), "utf-8")
    print(f"{folder} is ready after {time.monotonic() - begun:.0f} s.", flush=True)
    return python


def venv(base: str, version: str, home: Path) -> None:
    """Make an empty environment."""
    command = [base, "-m", "venv", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and "ensurepip" in done.stdout + done.stderr:
        # Debian keeps a part of the standard library in a package of its own.
        shutil.rmtree(home, ignore_errors=True)
        install_packages([f"python{version}-venv"])
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(home, ignore_errors=True)
        last = (done.stderr + done.stdout).strip().splitlines()[-1:]
        raise CannotError(f"Python cannot make an environment in {home}: {' '.join(last)}")


def pip(python: Path, requirements: Path, what: str, log: Path) -> None:
    """Install a list of packages; pip's own words go to the log."""
    print(f"Installing {what} ...", flush=True)
    command = [python, "-m", "pip", "install", "--disable-pip-version-check", "-r", requirements]
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=output, stderr=subprocess.STDOUT
        )
        begun = time.monotonic()
        while True:
            try:
                code = process.wait(timeout=60)
                break
            except subprocess.TimeoutExpired:
                print(f"  still at it after {time.monotonic() - begun:.0f} s", flush=True)
            except KeyboardInterrupt:
                process.terminate()
                raise
    if code:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
        raise CannotError(
            f"{what} could not be installed ({reason}). Check the network and the disk and run "
            f"this again; pip's log is {log}."
        )


def find_python(version: str) -> str | None:
    """A Python of this version that really runs, or None."""
    if f"{sys.version_info[0]}.{sys.version_info[1]}" == version:
        return sys.executable
    home = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    candidates = [f"python{version}", *sorted(glob.glob(f"{home}/versions/{version}.*/bin/python"))]
    if os.name == "nt":
        candidates.append(f"{os.path.expanduser('~')}/AppData/Local/Programs/Python/"
                          f"Python{version.replace('.', '')}/python.exe")  # fmt: skip
    code = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
    for candidate in candidates:
        program = shutil.which(candidate)  # a shim of pyenv may be there and yet not run
        if program and not subprocess.run([program, "-c", code], capture_output=True).returncode:
            return program
    return None


def system_libraries() -> None:
    """See that Blender's module finds its libraries, or install them, or say which are missing."""
    if not sys.platform.startswith("linux"):
        return
    missing = [package for library, package in LIBRARIES.items() if not loads(library)]
    if missing:
        install_packages(missing)


def loads(library: str) -> bool:
    """Whether the system has a shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def install_packages(packages: list[str]) -> None:
    """Install Debian packages where that is allowed.

    Raises:
        CannotError: it is not, and the user has to.
    """
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    words = f"Install the missing system packages with: sudo {' '.join(command)}"
    if shutil.which("apt-get") is None:
        raise CannotError(
            f"System packages are missing, called {', '.join(packages)} on Debian and Ubuntu. "
            "Install what your system calls them and run this again."
        )
    prefix: list[str] = []
    if os.geteuid() != 0:
        prefix = ["sudo", "-n"]
        if (
            not shutil.which("sudo")
            or subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False).returncode
        ):
            raise CannotError(words)
    print(f"Installing system packages: {', '.join(packages)} ...", flush=True)
    prefix += ["env", "DEBIAN_FRONTEND=noninteractive"]
    for step in (["apt-get", "update"], command):
        done = subprocess.run([*prefix, *step], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise CannotError(f"apt-get failed ({' '.join(last)}). {words}")


# --- Demo and tests ------------------------------------------------------------------------------


def demo(python: Path, arguments: list[str]) -> int:
    """Bake the sample clip."""
    output = ROOT / "demo-output"
    sample = ROOT / "selftalk_blender" / "assets" / "sample.ogg"
    print(f"Baking {sample.name} into {output} ...", flush=True)
    command = ["-m", "selftalk_blender.cli", "bake", str(sample), "-o", str(output), "--preview"]
    return run([python, *command, *arguments])


def test(python: Path, arguments: list[str]) -> int:
    """Run the checks and the tests, sum them up, and return the exit code."""
    blender = MAIN
    if "--blender" in arguments:
        index = arguments.index("--blender")
        blender = (arguments[index + 1 : index + 2] or [""])[0]
        del arguments[index : index + 2]
    if blender not in (*BLENDERS, "all"):
        raise CannotError(f"Choose --blender all or one of {', '.join(BLENDERS)}.")
    chosen = [MAIN, *(name for name in BLENDERS if name != MAIN)] if blender == "all" else [blender]

    # Paths that the user names belong to one side or the other; options to both.
    named = [a for a in arguments if not a.startswith("-") and Path(a.split("::")[0]).exists()]
    named_blender, named_window = ([a for a in named if lies_in(a, name)] for name in APART)
    options = [a for a in arguments if a not in named]
    sessions: list[Session] = []  # the longest first
    others = [a for a in named if a not in named_blender + named_window]
    if others or not named:
        paths = others or [str(TESTS), *(f"--ignore={TESTS / name}" for name in APART)]
        sessions.append(functools.partial(pytest, "without Blender", python, paths + options))
    if named and not named_blender:
        chosen = []
    else:
        paths = named_blender or [str(TESTS / "blender")]
        sessions += [
            functools.partial(in_a_blender, name, python, paths + options) for name in chosen
        ]
    if named_window or (blender == "all" and not named):
        paths = named_window or [str(TESTS / "window")]
        sessions.append(functools.partial(in_a_window, python, paths + options))
    if not arguments:
        sessions += checks(python)
    with ThreadPoolExecutor(1) as setting_up:  # while the first sessions run
        for name in chosen:
            setting_up.submit(environment, name)
        outcomes = at_once(sessions)

    print("\n" + "\n".join(str(outcome) for outcome in outcomes))
    for outcome in outcomes:
        if not arguments and not outcome.remark and not outcome.passed + outcome.failed:
            print(f"{outcome.name}: no test ran")
            outcome.failed += 1
    total = Outcome("", *(sum(getattr(o, key) for o in outcomes) for key in COUNTS))
    print(f"{total.passed} passed, {total.failed} failed, {total.skipped} skipped")
    return 1 if total.failed or not total.passed else 0


COUNTS = ("passed", "failed", "skipped")


def lies_in(argument: str, folder: str) -> bool:
    """Whether a test's path lies in a folder of the tests."""
    path = Path(argument.split("::")[0]).resolve()
    return path.is_relative_to(TESTS / folder)


Session = Callable[[IO[bytes] | None], Outcome]


def checks(python: Path) -> list[Session]:
    """Lint, format, types, import rules; each counts as one test."""
    program = python.parent
    commands: dict[str, list[str | Path]] = {
        "ruff check": [program / "ruff", "check", "--quiet", ROOT],
        "ruff format": [program / "ruff", "format", "--check", "--quiet", ROOT],
        "mypy": [program / "mypy", "--no-error-summary"],
        "import rules": [program / "lint-imports", "--no-cache"],
    }
    return [functools.partial(check, name, command) for name, command in commands.items()]


def check(name: str, command: Sequence[str | Path], output: IO[bytes] | None = None) -> Outcome:
    """Run a program that says nothing where all is well, or whose words count only then."""
    words = [str(part) for part in command]
    done = subprocess.run(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode and output is not None:
        output.write(f"{name} found:\n".encode() + done.stdout)
    return Outcome(name, int(done.returncode == 0), int(done.returncode != 0))


def at_once(sessions: Sequence[Session]) -> list[Outcome]:
    """Run tests side by side, one session for each core; what each prints stays together."""
    if len(sessions) < 2:
        return [session(None) for session in sessions]
    printing = threading.Lock()

    def one(session: Session) -> Outcome:
        with tempfile.TemporaryFile() as output:
            outcome = session(output)
            output.seek(0)
            with printing:
                print(output.read().decode("utf-8", "replace"), end="", flush=True)
        return outcome

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(one, sessions))


def in_a_blender(
    blender: str, worker: Path, arguments: list[str], output: IO[bytes] | None = None
) -> Outcome:
    """Tests in one Blender, with the animator in .venv's Python; or why there can be none."""
    title = f"in Blender {blender}"
    version, _ = BLENDERS[blender]
    if find_python(version) is None:
        return Outcome(title, remark=f"left out: no Python {version} was found here")
    try:
        python = environment(blender)
    except CannotError as error:
        return Outcome(title, failed=1, remark=str(error))
    with tempfile.TemporaryDirectory(prefix="selftalk-blender-") as folder:
        variables = {"SELFTALK_PYTHON": str(worker), "BLENDER_USER_RESOURCES": folder}
        return pytest(title, python, arguments, output, **variables)


def in_a_window(python: Path, arguments: list[str], output: IO[bytes] | None = None) -> Outcome:
    """Tests in a Blender with a window, which is set up first; or why there can be none."""
    title = "in a window"
    command = [python, TESTS / "window" / "debian.py"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return Outcome(title, remark=f"left out: {done.stderr.strip()}")
    return pytest(title, python, arguments, output)


def pytest(
    title: str, python: Path, arguments: list[str], output: IO[bytes] | None = None,
    **variables: str,
) -> Outcome:  # fmt: skip
    """Run pytest in a process of its own and read its report."""
    print(f"Tests {title} ...", flush=True)
    with tempfile.TemporaryDirectory(prefix="selftalk-report-") as folder:
        report = Path(folder) / "report.xml"
        config = ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml")]
        # Two sessions write no cache at once.
        config += ["-p", "no:cacheprovider", f"--junitxml={report}"]
        # Threads that wait for each other spin, and take the cores from the other session.
        variables = {"OMP_NUM_THREADS": "1", **variables}
        code = run([python, "-m", "pytest", "-q", *config, *arguments], output, **variables)
        outcome = Outcome(title)
        if report.is_file():
            for suite in ElementTree.parse(report).getroot().iter("testsuite"):
                tests, failures, errors, skipped = (
                    int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped")
                )
                outcome.failed += failures + errors
                outcome.skipped += skipped
                outcome.passed += tests - failures - errors - skipped
        if code not in WELL and not outcome.failed:
            outcome.failed += 1
            outcome.remark = f"pytest ended with code {code}"
    return outcome


if __name__ == "__main__":
    if importlib.util.find_spec("venv") is None:
        sys.exit("tools/run.py: this Python has no venv module: install python3.11-venv.")
    sys.exit(main(sys.argv[1:]))
