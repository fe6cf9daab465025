"""PyTorch installed for our own Python alone, in a folder of ours; and removed. No torch here.

In the folder lies one sub-folder for each version of Python, whole or not there. Work in progress
is beside it under a name of its own, and goes away however the work ends; what a killed Blender
left is removed by the next one.
"""

from __future__ import annotations

import abc
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import traceback
import zipfile
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import SelfTalkError
from .inquiry import Inquiry
from .python import Python, process_settings

LOCK = Path(__file__).with_name("pytorch.lock")
CPU, CUDA = "CPU", "CUDA"
ADDRESSES = ("https://", "http://", "file://")
# Which of them pip's usual index has for a system; the other lies on PyTorch's own index.
USUAL = {"linux": CUDA, "win32": CPU, "darwin": CPU}
# Bytes of what is downloaded and unpacked together, about.
SIZES = {("linux", CUDA): 9.5e9, ("win32", CUDA): 8e9, ("darwin", CPU): 0.8e9}
SIZE = 1.3e9  # of all others
ONLY_CUDA = ("nvidia-", "cuda-", "triton")  # begin the names of packages for graphics cards

_TURN = 0.2  # seconds between two looks at pip
_LEFT = 120.0  # seconds after which work in progress that nobody touched is a killed Blender's
_ABOUT = "selftalk.json"
_WORKING = ".working-"


def usual_build() -> str:
    """CPU or CUDA: which PyTorch pip's usual index has for this system."""
    return USUAL.get(sys.platform, CPU)


def size(build: str) -> float:
    """Bytes of disk that installing takes, about."""
    return SIZES.get((sys.platform, build), SIZE)


def installed_in(folder: Path) -> Path:
    """Where in our folder the libraries for this Python lie, if they do."""
    return folder / (sys.implementation.cache_tag or "python")


def about(folder: Path) -> tuple[str, int]:
    """Version and bytes of what is installed; ("", 0) where nothing is."""
    try:
        told = json.loads((installed_in(folder) / _ABOUT).read_text("utf-8"))
        return str(told["torch"]), int(told["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", 0


class Work(threading.Thread, abc.ABC):
    """Something with many files, in a thread of its own.

    Attributes:
        done, stage: how far it is (0..1) and at what.
        error: why it failed, once the thread has ended; None where it did not.
    """

    def __init__(self, folder: Path) -> None:
        # No daemon: Blender waits at its end until nothing half-done lies about.
        super().__init__(name="SelfTalk PyTorch")
        self.done, self.stage = 0.0, "Preparing"
        self.error: SelfTalkError | None = None
        self._folder = folder
        self._unwanted = threading.Event()

    def cancel(self) -> None:
        """Want it no more; returns at once. The thread takes back what it has done, and ends."""
        self._unwanted.set()

    def run(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for left in self._folder.glob(f"{_WORKING}*"):
                with contextlib.suppress(OSError):
                    if time.time() - left.stat().st_mtime > _LEFT:
                        shutil.rmtree(left, ignore_errors=True)
            work = Path(tempfile.mkdtemp(prefix=_WORKING, dir=self._folder))
            try:
                self._work(work)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        except SelfTalkError as error:
            self.error = error
        except OSError as error:
            self.error = SelfTalkError(
                f"Cannot write {error.filename or self._folder}: {error.strerror or error}. Free "
                "some space, end other Blenders, and try again."
            )
        except Exception as error:  # whoever waits would take it for done
            traceback.print_exc()
            self.error = SelfTalkError(
                f"SelfTalk met a fault of its own ({error!r}). Please report it."
            )
        with contextlib.suppress(OSError):
            self._folder.rmdir()  # where nothing is in it

    @abc.abstractmethod
    def _work(self, work: Path) -> None:
        """Do it, with a folder of ours for what is half-done; `run` removes that afterwards."""


class Removal(Work):
    """Remove all that was installed, for other versions of Python, too."""

    def _work(self, work: Path) -> None:
        self.stage = "Removing PyTorch"
        for there in self._folder.iterdir():
            if not there.name.startswith(_WORKING):
                _move(there, work / there.name)  # gone at once


class Installation(Work):
    """Have pip download PyTorch and what goes with it, as locked, and put it in place when whole.

    Attributes:
        text: what was installed.
    """

    def __init__(self, folder: Path, build: str, index: str = "") -> None:
        """Nothing starts yet.

        Args:
            folder: ours.
            build: CPU or CUDA.
            index: the address of a package index, or a folder of wheels, that has PyTorch in that
                build; pip's own where empty.

        Raises:
            SelfTalkError: this cannot be done here, and what to do instead.
        """
        super().__init__(folder)
        if not index and build != usual_build():
            raise SelfTalkError(
                f"The usual package index has no PyTorch for {build} on this system. Enter the "
                "address of PyTorch's own in Index (the page Get Started of pytorch.org tells "
                f"it), or choose {usual_build()}."
            )
        if index and not os.path.isdir(index) and not index.startswith(ADDRESSES):
            raise SelfTalkError(
                f"{index} is neither an address nor a folder that is there. Enter the address of "
                "a package index, which begins with https://, or a folder of wheels."
            )
        if importlib.util.find_spec("pip") is None and _pip_wheel() is None:
            raise SelfTalkError(
                "Blender's Python has no pip, which installs PyTorch. Have the system install it "
                "(Debian: python3-pip), or choose an existing Python that has PyTorch."
            )
        self._build, self._index = build, index
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        if free < size(build):
            raise SelfTalkError(
                f"PyTorch needs {size(build) / 1e9:.1f} GB while it is installed; "
                f"{free / 1e9:.1f} GB are free at {existing}. Free some space."
            )
        self.text = ""

    def _work(self, work: Path) -> None:
        torch, rest = _requirements(self._build, bool(self._index))
        site, pip = work / "site", work / "pip"
        command = [sys.executable, "-m", "pip", "install", "--no-deps", "--only-binary", ":all:"]
        command += ["--no-input", "--no-cache-dir", "--disable-pip-version-check"]
        command += ["--no-warn-script-location", "--target", str(site)]
        extra = ["--require-hashes"]
        if self._index:
            here = os.path.isdir(self._index)
            extra = ["--no-index", "--find-links"] if here else ["--index-url"]
            # No hash tells where it came from: what else pip was told to look through is left out.
            extra = ["--isolated", *extra, self._index]
        environment = {"TMPDIR": str(work), "TEMP": str(work), "TMP": str(work)}
        wheel = _pip_wheel()
        if wheel is not None:
            zipfile.ZipFile(wheel).extractall(pip)
            environment["PYTHONPATH"] = str(pip)
        for name, lines, options in (
            ("PyTorch", torch, extra),
            ("the rest", rest, ["--require-hashes"]),
        ):
            listed = work / "requirements.txt"
            listed.write_text(lines, "utf-8")
            self.stage = f"Downloading and unpacking {name}"
            self._run([*command, *options, "--requirement", str(listed)], work, environment)
        self.stage = "Trying PyTorch"
        found = Inquiry(Python(Path(sys.executable), (site,)))
        while not found.answered:
            self._check(found)
            time.sleep(_TURN)
        if not found.torch:
            raise SelfTalkError(f"PyTorch was installed, but does not run here. {found.text}.")
        told = {"torch": found.torch, "bytes": _bytes(site)}
        (site / _ABOUT).write_text(json.dumps(told), "utf-8")
        self._check(found)
        final = installed_in(self._folder)
        if final.exists():
            _move(final, work / "before")
        site.rename(final)
        self.text = found.text

    def _run(self, command: list[str], work: Path, environment: Mapping[str, str]) -> None:
        """Run pip to its end.

        Raises:
            SelfTalkError: it failed, or is unwanted.
        """
        settings = process_settings()
        settings["env"] = {**settings["env"], **environment}
        log = work / "pip.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **settings
            )
        whole, turn = size(self._build), 0
        try:
            while process.poll() is None:
                self._check()
                turn += 1
                if turn % 5 == 0:
                    self.done = min(_bytes(work) / whole, 0.95)
                    os.utime(work)
                time.sleep(_TURN)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            raise SelfTalkError(_why(log.read_text("utf-8", "replace")))

    def _check(self, inquiry: Inquiry | None = None) -> None:
        if self._unwanted.is_set():
            if inquiry is not None:
                inquiry.stop()
                inquiry.wait()
            raise SelfTalkError("Cancelled.")


def _move(folder: Path, to: Path) -> None:
    """Rename a folder; Windows lets it go only when the processes that used it have ended."""
    for wait in (0.2, 1.0, 4.0):
        with contextlib.suppress(PermissionError):
            folder.rename(to)
            return
        time.sleep(wait)
    folder.rename(to)


def _requirements(build: str, other_index: bool) -> tuple[str, str]:
    """What pip reads: PyTorch, and all that goes with it.

    Each is a line of the lock with its hashes; from another index than pip's own PyTorch comes in
    other files, which its version alone names.
    """
    torch, rest = "", ""
    for line in LOCK.read_text("utf-8").replace("\\\n", " ").splitlines():
        name, _, more = line.partition("==")
        if name == "torch":
            # "===": no other build of that version. Its hashes would not fit one.
            torch = f"torch=={more.split()[0]}\n" if other_index else f"torch==={more}\n"
        elif not (build == CPU and name.startswith(ONLY_CUDA)):
            rest += f"{line}\n"
    return torch, rest


def _pip_wheel() -> Path | None:
    """The pip that comes with Python: Blender's own may have none, and is not ours to change."""
    try:
        import ensurepip
    except ImportError:
        return None
    folders = [Path(ensurepip.__file__).with_name("_bundled")]
    of_system = sysconfig.get_config_var("WHEEL_PKG_DIR")  # Debian and Fedora keep it there
    if of_system:
        folders.append(Path(of_system))
    return next((wheel for folder in folders for wheel in folder.glob("pip-*.whl")), None)


def _bytes(folder: Path) -> int:
    """Of all files below a folder, some of which may vanish meanwhile."""
    total = 0
    for parent, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def _why(log: str) -> str:
    """A sentence about pip's failure."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors or lines[-1:] or ["it said nothing"])[0][:300].rstrip(".")
    return (
        f"PyTorch could not be installed: {reason}. Check the connection and the disk, and try "
        "again; or choose an existing Python that has it."
    )
