"""Which Python runs the animator."""

from __future__ import annotations

import site
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.worker import python, pytorch
from selftalk_blender.worker.client import AnimateJob, stop_workers
from selftalk_blender.worker.python import LIBRARIES, Python, find_python, look_for_libraries_in


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is chosen, and no library lies anywhere."""
    monkeypatch.delenv("SELFTALK_PYTHON", raising=False)
    monkeypatch.setattr(sys, "path", [])
    yield
    look_for_libraries_in(None)
    stop_workers()


def libraries(folder: Path, names: tuple[str, ...] = LIBRARIES) -> Path:
    """Libraries that end the process that imports them."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text("raise SystemExit('imported')")
    return folder


def test_no_such_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SelfTalkError, match="no Python at .*nowhere, chosen in .*preferences"):
        find_python(str(tmp_path / "nowhere"))
    monkeypatch.setenv("SELFTALK_PYTHON", str(tmp_path / "elsewhere"))
    with pytest.raises(SelfTalkError, match="no Python at .*elsewhere.*SELFTALK_PYTHON"):
        find_python()


def test_a_path_as_windows_copies_it() -> None:
    assert find_python(f'"{sys.executable}" ').program == Path(sys.executable)
    assert find_python('""').program == Path(sys.executable)


def test_blender_is_no_python(tmp_path: Path) -> None:
    for name in ("blender", "Blender", "blender-4.5"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        with pytest.raises(SelfTalkError, match="is Blender and no Python. Choose a python"):
            find_python(str(program))
    (tmp_path / "python").symlink_to(sys.executable)
    assert find_python(str(tmp_path / "python")).program == tmp_path / "python"


def test_the_chosen_one_comes_first_then_the_environment_then_our_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Libraries are our own Python's alone: they fit no other."""
    own = Path(sys.executable)
    assert find_python() == Python(own)
    look_for_libraries_in(libraries(tmp_path / "torch"))
    assert find_python() == Python(own, (tmp_path / "torch",))
    monkeypatch.setenv("SELFTALK_PYTHON", "/bin/sh")
    assert find_python() == Python(Path("/bin/sh"))
    assert find_python(sys.executable) == Python(own)


def test_what_was_installed_comes_before_wheels(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wheels = libraries(tmp_path / "site-packages")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(wheels)])
    assert find_python().libraries == (wheels,)
    look_for_libraries_in(tmp_path / "torch")  # not there yet
    assert find_python().libraries == (wheels,)
    installed = libraries(tmp_path / "torch")
    assert find_python().libraries == (installed,)


def test_half_of_the_libraries_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another extension may bring torch alone; what an uninstalled one leaves is no library."""
    folder = libraries(tmp_path / "site-packages", LIBRARIES[:-1])
    monkeypatch.setattr(sys, "path", [str(folder)])
    assert find_python().libraries == ()
    (folder / LIBRARIES[-1]).mkdir()
    assert find_python().libraries == ()


def test_our_pythons_own_packages_are_left_where_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Put first they would hide modules of the standard library."""
    folder = libraries(tmp_path / "site-packages")
    monkeypatch.setattr(sys, "path", [str(folder)])
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(tmp_path / "." / "site-packages")])
    assert find_python().libraries == ()


def test_the_process_finds_the_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before its own, and without an import here."""
    for name, words in (("torch", "this one"), ("numpy", "not that one")):
        (tmp_path / name / name).mkdir(parents=True)
        (tmp_path / name / name / "__init__.py").write_text(f"raise SystemExit({words!r})")
    there = Python(Path(sys.executable), (tmp_path / "torch", tmp_path / "numpy"))
    monkeypatch.setattr("selftalk_blender.worker.client.find_python", lambda chosen: there)
    job = AnimateJob("clip.wav")
    job.start()
    while not job.finished:
        job.poll()
        time.sleep(0.01)
    with pytest.raises(SelfTalkError, match="that one"):
        job.result()
    assert python.find_python().libraries == ()


def test_an_index_that_is_none_is_refused(tmp_path: Path) -> None:
    """pip would take it for an address, and look elsewhere."""
    with pytest.raises(SelfTalkError, match="neither an address nor a folder"):
        pytorch.Installation(tmp_path, pytorch.usual_build(), str(tmp_path / "nowhere"))


def test_a_python_without_pip_is_told(tmp_path: Path) -> None:
    """As in Debian, where pip comes apart from Python."""
    with pytest.raises(SelfTalkError, match="has no pip"):
        pytorch.Installation(tmp_path, pytorch.usual_build())


def test_an_installation_with_a_fault_of_its_own_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "pip-1.0-py3-none-any.whl"
    wheel.write_text("damaged")
    monkeypatch.setattr(pytorch, "_pip_wheel", lambda: wheel)
    monkeypatch.setattr(pytorch, "size", lambda build: 0.0)
    work = pytorch.Installation(tmp_path / "ours", pytorch.usual_build())
    work.run()
    assert "a fault of its own (BadZipFile" in str(work.error)
    assert not (tmp_path / "ours").exists()
