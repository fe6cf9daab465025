"""The button in a real window: modal, with progress, cancel and undo."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.blender.animators import ramp, stand_in
from tests.window import debian

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(
    not debian.there(), reason="no Blender with a window: python tests/window/debian.py sets one up"
)


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A screen of its own."""
    read, write = os.pipe()
    with subprocess.Popen(
        debian.inside("Xvfb", "-displayfd", str(write), "-screen", "0", "1280x800x24"),
        pass_fds=[write],
        stderr=subprocess.DEVNULL,
    ) as screen:
        os.close(write)
        with os.fdopen(read) as number:
            yield f":{number.readline().strip()}"
        screen.terminate()


def press(display: str, tmp_path: Path, mode: str) -> dict[str, Any]:
    """Start Blender, press the button, and return what was seen."""
    report = tmp_path / "report.json"
    clip = ramp(tmp_path / "ramp.wav")
    command = debian.inside(
        *("blender", "--factory-startup", "-p", "0", "0", "1280", "800"),
        *("-P", HERE / "talk.py", "--", report, clip, mode),
    )
    environment = {
        **os.environ,
        "DISPLAY": display,
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "HOME": str(tmp_path),
        "SELFTALK_PYTHON": stand_in(tmp_path, wait=2.0, python=debian.python()),
    }
    for name in ("PYTHONPATH", "PYTHONHOME", "BLENDER_USER_RESOURCES"):
        environment.pop(name, None)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=180
    )
    assert report.exists(), done.stdout + done.stderr
    seen: dict[str, Any] = json.loads(report.read_text())
    assert "fault" not in seen, seen["fault"]
    assert "Traceback" not in done.stdout + done.stderr  # of a panel, for instance
    return seen


def test_the_button_animates_while_the_window_lives(display: str, tmp_path: Path) -> None:
    seen = press(display, tmp_path, "finish")
    assert seen["operator"] == ["RUNNING_MODAL"]
    assert {"Animating", "Writing"} <= set(seen["stages"])
    assert seen["result"].startswith("99 frames, 4.0 s of sound")
    assert (seen["actions"], seen["strips"]) == (1, 1)
    assert seen["actions after undo"] == 0  # one step back is before the button


@pytest.fixture(scope="module")
def cancelled(display: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return press(display, tmp_path_factory.mktemp("cancelled"), "cancel")


def test_a_script_is_answered_anew_and_drawing_by_what_is_known(cancelled: dict[str, Any]) -> None:
    assert cancelled["answers"] == [True, False, True]
    assert cancelled["drawn"] >= 5 and cancelled["forgotten by drawing"] == 0


def test_escape_cancels_and_leaves_nothing(cancelled: dict[str, Any]) -> None:
    assert cancelled["cancelled in"] < 1.0  # half a second where the machine is quiet
    assert (cancelled["result"], cancelled["actions"], cancelled["strips"]) == ("", 0, 0)


def test_a_dragged_slider_and_its_keys_are_one_undo_step(display: str, tmp_path: Path) -> None:
    seen = press(display, tmp_path, "drag")
    before, dragged, after = seen["before"], seen["dragged"], seen["after"]
    assert before["strength"] == 1.0 < after["strength"] == dragged["strength"]
    assert len(before["keys"]) == len(after["keys"]) == 3 * 40
    assert all(after["keys"][name] != value for name, value in before["keys"].items())
    assert seen["undone"] == before
    assert seen["redone"] == after
    assert seen["typed"]["strength"] == 0.5 and seen["typed"]["keys"] != after["keys"]
    assert seen["typed undone"] == after
    assert seen["typed redone"] == seen["typed"]
    assert seen["slices"] > 1
    assert seen["held"] < 0.1  # 0.03 where the machine is quiet


def test_a_second_press_waits_and_has_its_turn(display: str, tmp_path: Path) -> None:
    """Also where the first is cancelled."""
    seen = press(display, tmp_path, "queue")
    assert (seen["in line"], seen["in line then"]) == (["Waiting"], 0)
    assert seen["result"].startswith("99 frames, 4.0 s of sound")
    assert (seen["actions"], seen["strips"]) == (1, 1)
