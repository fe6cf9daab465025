"""`selftalk bake` as it is: Blender in child processes, killed midway and gone on with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import wave
from pathlib import Path

import numpy as np
import pytest

from selftalk_blender.batch import manifest, task

ROOT = Path(__file__).resolve().parents[2]
BAKE = [sys.executable, "-m", "selftalk_blender.cli", "bake"]
# What Blender writes the same each time: in .blend files are addresses of its memory, and only
# Linux lets us have a say about a flag in .abc files.
SAME = tuple(name for name in task.FORMATS if name != "blend")


@pytest.mark.skipif(sys.platform != "linux", reason="kills as Linux does")
def test_killed_and_gone_on_with(tmp_path: Path, numpy_alone: Path) -> None:
    clips, out = tmp_path / "clips", tmp_path / "out"
    sound = np.random.default_rng(0).integers(-9000, 9000, 16000, np.int16).tobytes()
    for place in ("a", "b"):
        (clips / place).mkdir(parents=True)
        with wave.open(str(clips / place / "Zeile ü.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(sound)
    (clips / "bad.wav").write_text("not a sound")
    command = [*BAKE, "clips", "-o", "out", "--format", ",".join(task.FORMATS), "--resume"]
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT),
        "SELFTALK_PYTHON": str(numpy_alone),  # which is there sooner than one with PyTorch
    }  # fmt: skip
    with open(tmp_path / "said", "w") as said:
        killed = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=said, stderr=said)
    until = time.monotonic() + 120
    while "a/Zeile ü" not in manifest.read(out / "manifest.jsonl"):
        assert time.monotonic() < until and killed.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    begun = time.time()
    done = subprocess.run(
        [*command, "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1 and not done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1]["failed"] == events[-1]["skipped"] == events[-1]["baked"] == 1
    (error,) = (event["error"] for event in events if event.get("error"))
    assert "bad.wav" in error
    made = {f"{x}/Zeile ü.{suffix}" for x in "ab" for suffix in task.FORMATS}
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == made | {
        "manifest.jsonl", "bake.log"
    }  # fmt: skip
    # By another process, in another folder, and another clip: the same bytes.
    assert (out / "a/Zeile ü.fbx").stat().st_mtime < begun < (out / "b/Zeile ü.fbx").stat().st_mtime
    for suffix in SAME:
        first, last = ((out / place / f"Zeile ü.{suffix}").read_bytes() for place in "ab")
        assert first == last, suffix


def test_a_child_whose_owner_is_gone_ends(tmp_path: Path) -> None:
    """Also where it cannot say what went wrong: Blender 4.5 as a module hangs at its own end."""
    child = subprocess.Popen(
        [sys.executable, "-m", "selftalk_blender.batch.child"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    assert b"ready" in child.stdout.readline()
    child.stdout.close()
    child.stderr.close()
    todo = task.Task(str(tmp_path / "none.wav"), str(tmp_path), "none", task.Settings(("csv",)))
    child.stdin.write(json.dumps(todo.to_json()).encode() + b"\n")
    child.stdin.flush()
    try:
        assert child.wait(20) == 1
    finally:
        child.kill()
        child.stdin.close()
