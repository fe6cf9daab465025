"""The wheels of a zip with PyTorch: what the lock says of each platform, and nothing else."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "fetch_wheels_tool", ROOT / "tools" / "fetch_wheels.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fetch_wheels_tool", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("python", ["3.11", "3.13"])
@pytest.mark.parametrize("platform", ["linux-x64", "windows-x64", "macos-arm64"])
def test_the_lock_has_what_each_platform_needs(
    tool: ModuleType, platform: str, python: str
) -> None:
    lines = tool.requirements(tool.LOCK, tool.PLATFORMS[platform], python)
    names = [line.split("==")[0] for line in lines]
    assert {"torch", "transformers", "safetensors"} <= set(names) and "numpy" not in names
    assert len(names) == len(set(names)), "two versions of one"
    assert all("==" in line and "--hash=sha256:" in line for line in lines)
    assert any(name.startswith("nvidia-") for name in names) == (platform == "linux-x64")


@pytest.mark.parametrize("right", [True, False])
def test_a_wheel_is_taken_with_the_right_hash_alone(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd, right: bool
) -> None:
    index = tmp_path / "index"
    index.mkdir()
    wheel = index / "torch-2.0+cpu-cp311-cp311-win_amd64.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name, text in (
            ("METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.0+cpu\n"),
            ("WHEEL", "Wheel-Version: 1.0\nTag: cp311-cp311-win_amd64\n"),
            ("RECORD", ""),
        ):
            file.writestr(f"torch-2.0+cpu.dist-info/{name}", text)
    digest = hashlib.sha256(wheel.read_bytes() if right else b"").hexdigest()
    wanted = [f"torch==2.0+cpu --hash=sha256:{digest}"]
    arguments = (wanted, tool.PLATFORMS["windows-x64"], "3.11", tmp_path / "wheels", str(index))
    if right:
        tool.download(*arguments)
        assert [path.name for path in (tmp_path / "wheels").iterdir()] == [wheel.name]
    else:
        with pytest.raises(tool.CannotError):
            tool.download(*arguments)
        assert "HASH" in capfd.readouterr().err.upper()
        assert not list((tmp_path / "wheels").glob("*"))


def test_what_the_usual_index_lacks_is_told(tool: ModuleType, capsys) -> None:
    assert tool.main(["macos-arm64", "--cuda"]) == 1
    assert "no NVIDIA cards" in capsys.readouterr().err
    assert tool.main(["linux-x64"]) == 1
    assert "--index" in capsys.readouterr().err
