"""The set-up script: it must find the right Python, say what is missing, and count honestly."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
posix = pytest.mark.skipif(os.name == "nt", reason="uses shell scripts as programs")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_script", ROOT / "tools" / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "run_script", module)
    spec.loader.exec_module(module)
    return module


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@posix
def test_a_shim_that_does_not_run_is_passed_over(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "shims" / "python9.8", "echo not installed >&2; exit 127")
    monkeypatch.setenv("PATH", str(tmp_path / "shims"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert script.find_python("9.8") is None
    real = program(tmp_path / "versions" / "9.8.1" / "bin" / "python", "exit 0")
    assert script.find_python("9.8") == str(real)


@posix
def test_missing_system_packages_are_named_with_the_command(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "apt-get", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(script.CannotError, match=r"sudo apt-get install .* libgl1 libsm6$"):
        script.install_packages(["libgl1", "libsm6"])
    (tmp_path / "apt-get").unlink()
    with pytest.raises(script.CannotError, match="called libgl1 on Debian"):
        script.install_packages(["libgl1"])


def test_an_unknown_blender_is_refused(script: ModuleType) -> None:
    with pytest.raises(script.CannotError, match=r"all or one of 4\.2, 4\.5, 5\.0, 5\.2"):
        script.test(Path(sys.executable), ["--blender", "2.79"])


@pytest.mark.parametrize(
    ("tests", "counts"),
    [
        ("def test_a(): pass\ndef test_b(): assert 0\n", (1, 1, 0)),
        ("import pytest\ndef test_a(): pytest.skip('x')\n", (0, 0, 1)),
        ("import os\ndef test_a(): pass\ndef test_b(): os._exit(7)\n", (0, 1, 0)),
        ("import nothing_like_that\n", (0, 1, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_counting(
    script: ModuleType, tmp_path: Path, tests: str, counts: tuple[int, int, int]
) -> None:
    path = tmp_path / "test_it.py"
    path.write_text(tests)
    outcome = script.pytest("a run", Path(sys.executable), [str(path), "-p", "no:cacheprovider"])
    assert (outcome.passed, outcome.failed, outcome.skipped) == counts


def test_without_arguments_it_tells_its_use() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "run.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "python3.11 tools/run.py demo" in done.stdout
