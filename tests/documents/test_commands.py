"""What the documents tell a reader to type, typed: each command, in the order of the document.

They run in a folder with small files of the names that the documents use. What takes hours, or
would run this test again, is listed with the place where it is tested instead.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import DOCUMENTS, ROOT, Command, commands

pytest.importorskip("torch", reason="the commands are tried in the Python that has PyTorch")

from readers_folder import fill

from selftalk_blender import cli

# Command -> where it is run instead, or why it cannot be.
ELSEWHERE = {
    "python3.11 tools/run.py demo": "tests/test_cli.py bakes; a minute with the preview",
    "python3.11 tools/run.py test": "is what runs this test",
    "python3.11 tools/run.py test --blender all": "runs this test, too",
    "python3.11 tools/run.py test --blender 4.5 tests/blender/test_lines.py -k overlap": (
        "sets up another environment; .ci/run does it with all tests"
    ),
    "python3.11 tools/run.py test tests/window": "sets up another Blender; .ci/run does",
    "python3.11 tools/run.py bake line.wav -o baked --preview": (
        "a minute; tests/blender/test_preview.py"
    ),
    ".venv/bin/python tools/build_extension.py": "tests/blender/test_extension.py builds, too",
    ".venv/bin/python tools/build_extension.py --torch windows-x64 macos-arm64": (
        "needs the wheels of the command above it; tests/blender/test_extension.py"
    ),
    ".venv/bin/python tools/fetch_wheels.py --lock": (
        "asks the network; tests/tools/test_fetch_wheels.py"
    ),
    ".venv/bin/python tools/fetch_wheels.py windows-x64 macos-arm64": (
        "loads half a GB; tests/tools/test_fetch_wheels.py"
    ),
    'pip install ".[train]"': "sets up an environment",
    'pip install "selftalk-blender[bake,cluster]"': "sets up an environment",
    "ray start --head --port=6379 --disable-usage-stats": "another program's daemons",
    "ray start --address=farm1:6379": "of another machine",
    "selftalk bake dialogue -o baked --mesh character.blend --format fbx,usd --ray auto": (
        "needs the cluster of the two commands above it; tests/batch/test_cluster.py"
    ),
    "python -m torch.distributed.run --nproc-per-node 2 "
    "-m selftalk_blender.cli train configs/own.toml": (
        "in place of the command above it; tests/training/test_loop.py"
    ),
    "tensorboard --logdir runs/own": "another program, which never ends",
    "selftalk train configs/bundled.toml": "hours; a short run: tests/training/test_train.py",
    "selftalk evaluate configs/bundled.toml": "minutes; tests/training/test_evaluate.py",
}


def benchmark(command: Command) -> str | None:
    """The module of a command that runs a benchmark."""
    found = re.match(r"\S*python[\d.]* -m (benchmarks\.\w+)", command.text)
    return found and found[1]


def is_a_form(command: Command) -> bool:
    """`selftalk train CONFIG`: what stands in capitals is for the reader to fill in."""
    return re.search(r"(?<= )[A-Z]{2,}(?= |$)", command.text) is not None


def to_run(document: Path) -> list[Command]:
    return [
        command
        for command in commands(document)
        if not (command.text in ELSEWHERE or is_a_form(command) or benchmark(command))
    ]


@pytest.mark.parametrize(
    "document", [d for d in DOCUMENTS if to_run(d)], ids=lambda d: d.relative_to(ROOT).as_posix()
)
def test_commands_of(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numpy_alone: Path
) -> None:
    """Bakes have their motion made by numpy, which is there sooner than PyTorch."""
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SELFTALK_PYTHON", str(numpy_alone))
    for command in to_run(document):
        assert run(command) == 0, f"{command.document}: {command.text}"


def test_none_is_excused_that_no_document_has() -> None:
    told = {command.text for document in DOCUMENTS for command in commands(document)}
    assert set(ELSEWHERE) <= told


def test_benchmarks_are_there_and_load() -> None:
    """To run them takes minutes on a quiet machine."""
    named = {benchmark(command) for document in DOCUMENTS for command in commands(document)}
    assert python("-c", f"import {', '.join(sorted(named - {None}))}") == 0


def run(command: Command) -> int:
    """The exit code of a command; in this process where it is ours and leaves Blender out."""
    arguments = shlex.split(command.text)
    if arguments[:2] == ["python3.11", "tools/run.py"]:  # which sets up, and then is `selftalk`
        arguments[:2] = ["selftalk"]
    if arguments[:3] == ["blender", "-c", "selftalk"]:  # tests/blender/test_command.py: the same
        arguments[:3] = ["selftalk"]
    if arguments[0] == "selftalk" and arguments[1] != "bake":
        return cli.main(arguments[1:])
    if arguments[0] == "selftalk":
        arguments[:1] = ["python", "-m", "selftalk_blender.cli"]
    assert re.search(r"(^|/)python[\d.]*$", arguments[0]), command
    return python(*arguments[1:])


def python(*arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
    )
    print(done.stdout, done.stderr)
    return done.returncode
