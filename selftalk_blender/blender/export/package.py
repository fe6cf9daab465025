"""Sound in USD: a reference in a .usda, and the package .usdz, which holds the sound itself."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

ALIGNMENT = 64  # bytes at which each file of a .usdz begins

SOUND = """
    def SpatialAudio "Sound"
    {{
        uniform asset filePath = @./{name}@
        uniform token auralMode = "nonSpatial"
        uniform token playbackMode = "onceFromStartToEnd"
        uniform timecode startTime = {first}
        uniform timecode endTime = {end}
    }}
"""


def add_sound(path: Path, name: str, first: int, frames: int) -> None:
    """Have a .usda file play a sound file beside it from its first frame on.

    Raises:
        ValueError: it is not a file as Blender writes it.
    """
    text = path.read_text(encoding="utf-8")
    found = re.search(r'^def [A-Za-z]+ "root"[^{]*?(?:\([\s\S]*?^\)\s*)?^\{\n', text, re.MULTILINE)
    if found is None:
        raise ValueError(f"{path} has no root")
    prim = SOUND.format(name=name, first=first, end=first + frames)
    path.write_text(text[: found.end()] + prim.lstrip("\n") + text[found.end() :], encoding="utf-8")


def write_package(
    path: Path,
    folder: Path,
    layer: str,
    start: int,
    sound: str,
    first: int,
    frames: int,
    fps: float,
    metre: float,
) -> None:
    """Pack a folder's files as a .usdz.

    Args:
        layer: name of the USD layer in the folder that holds the scene.
        start: frame at which the layer begins.
        sound: name of the sound file in the folder, or "".
        first, frames, fps: of the package.
        metre: metres in a unit of the layer.
    """
    moved = f" (offset = {first - start})" if first != start else ""
    stage = (
        "#usda 1.0\n(\n"
        f'    defaultPrim = "root"\n    startTimeCode = {first}\n'
        f"    endTimeCode = {first + frames - 1}\n"
        f"    timeCodesPerSecond = {fps!r}\n    framesPerSecond = {fps!r}\n"
        f'    metersPerUnit = {metre!r}\n    upAxis = "Z"\n'
        f"    subLayers = [@./{layer}@{moved}]\n)\n"
    )
    if sound:
        prim = SOUND.format(name=sound, first=first, end=first + frames)
        stage += f'\nover "root"\n{{{prim.rstrip()}\n}}\n'
    files: Sequence[Path] = sorted(file for file in folder.rglob("*") if file.is_file())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as package:
        _store(package, "stage.usda", stage.encode())  # the first is the one that is opened
        for file in files:
            _store(package, file.relative_to(folder).as_posix(), file.read_bytes())


def _store(package: zipfile.ZipFile, name: str, data: bytes) -> None:
    """Add a file whose bytes begin where the format wants them, by padding in the zip header."""
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # the same bytes for the same scene
    assert package.fp is not None
    start = package.fp.tell() + 30 + len(name.encode()) + 4
    info.extra = b"\x86\x19" + (pad := -start % ALIGNMENT).to_bytes(2, "little") + bytes(pad)
    package.writestr(info, data)
