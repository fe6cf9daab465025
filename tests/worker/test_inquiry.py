"""What a Python has for the animator, as the preferences tell it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from selftalk_blender.worker import inquiry
from selftalk_blender.worker.inquiry import Inquiry
from selftalk_blender.worker.python import Python

TORCH = """
__version__ = "2.0.1"
class cuda:
    is_available = staticmethod(lambda: False)
"""


def ask(folder: Path, **bodies: str) -> Inquiry:
    """Our own Python, with such libraries before its own."""
    for name in ("torch", "transformers", "safetensors"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(bodies.get(name, ""))
    return Inquiry(Python(Path(sys.executable), (folder,))).wait()


def test_a_pytorch_that_the_other_libraries_refuse(tmp_path: Path) -> None:
    """It imports, and yet the animator runs without it; the preferences must not praise it."""
    found = ask(tmp_path, torch=TORCH, transformers="raise NameError('nn is not defined')")
    assert found.usable and found.torch == ""
    assert found.text == (
        "Without PyTorch 2.0.1, which does not load (NameError: nn is not defined)"
    )


def test_a_pytorch_that_does_not_load(tmp_path: Path) -> None:
    found = ask(tmp_path, torch="raise OSError('no DLL')")
    assert found.usable and found.torch == ""
    assert found.text == "Without PyTorch, which does not load (OSError: no DLL)"


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning", "error")
def test_programs_that_are_no_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry, "LONGEST", 0.3)
    for number, (script, words) in enumerate(
        (
            ("exec sleep 60", "gave no answer within 0 seconds"),
            ("exit 3", "it says nothing"),
            ("echo '{}'", "no Python that runs here ({})"),
            ("echo 7", "no Python that runs here (7)"),
            ("echo '[1]'", "no Python that runs here ([1])"),
        )
    ):
        program = tmp_path / f"{number}"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        found = Inquiry(Python(program)).wait()
        assert found.answered and not found.usable and words in found.text, found.text
