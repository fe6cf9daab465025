"""The kinds of files that faces are exported to, and how programs like their FBX."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mathutils import Matrix

from ..core.errors import SelfTalkError


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes:
        label, description: for the interface.
        suffixes: of its files; the first is the usual one.
        holds: "SHAPES" for shape keys and bones, "VERTICES" for what is seen, "WEIGHTS" for
            ARKit weights.
        several: whether more than one mesh fits.
    """

    label: str
    description: str
    suffixes: tuple[str, ...]
    holds: str
    several: bool = True


FORMATS = {
    "fbx": Format(
        "FBX", "For game engines and animation programs: shape keys, bones and their curves",
        (".fbx",), "SHAPES",
    ),
    "abc": Format(
        "Alembic", "For rendering and simulation elsewhere: each vertex in each frame, as seen",
        (".abc",), "VERTICES",
    ),
    "usd": Format(
        "USD", "For film pipelines: blend shapes and skeleton, or the points of a mesh cache",
        (".usd", ".usdc", ".usda", ".usdz"), "SHAPES",
    ),
    "glb": Format(
        "glTF", "For the web: morph targets with their names, skeleton and curves in one file",
        (".glb",), "SHAPES",
    ),
    "mdd": Format(
        "MDD", "Point cache of the face alone, for a mesh that is there already", (".mdd",),
        "VERTICES", False,
    ),
    "pc2": Format(
        "PC2", "Point cache of the face alone, for a mesh that is there already", (".pc2",),
        "VERTICES", False,
    ),
    "csv": Format(
        "Live Link Face CSV", "52 ARKit weights and the head's turn, for any ARKit face", (".csv",),
        "WEIGHTS", False,
    ),
    "json": Format(
        "JSON Curves", "52 ARKit weights and the head's turn, for programs of your own", (".json",),
        "WEIGHTS", False,
    ),
}  # fmt: skip


def format_of(suffix: str) -> str:
    """The key in FORMATS of a suffix such as ".fbx".

    Raises:
        SelfTalkError: there is none.
    """
    for name, known in FORMATS.items():
        if suffix.lower() in known.suffixes:
            return name
    names = ", ".join(suffix for known in FORMATS.values() for suffix in known.suffixes)
    raise SelfTalkError(
        f"{suffix or 'No suffix'} is no known format. Name the file one of {names}."
    )


Y_UP = Matrix.Rotation(-math.pi / 2, 4, "X")  # Z up, looking along -Y, to Y up, looking along Z


def _ascii_name(name: str) -> str:
    """A name as Maya takes it: letters, digits and underscores, no digit first."""
    plain = re.sub(r"[^0-9A-Za-z_]", "_", name.translate(_LATIN))
    return plain if plain[:1].isalpha() or plain[:1] == "_" else f"_{plain}"


_LATIN = str.maketrans(
    {"ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "ß": "ss"}
)


def usd_name(name: str) -> str:
    """A name as USD takes it: letters of any script, digits and underscores, no digit first."""
    plain = re.sub(r"\W", "_", name)
    return f"_{plain}" if plain[:1].isdigit() else plain


@dataclass(frozen=True)
class Preset:
    """How a program likes its FBX.

    Attributes:
        label, description: for the interface.
        basis: what geometry goes through on the stage, metres being its unit before.
        rename: what names become.
        settings: of Blender's exporter.
    """

    label: str
    description: str
    basis: Matrix
    rename: Callable[[str], str]
    settings: dict[str, Any]


# The stage's data is written as it is: no object carries a scale of 100 or a turn of 90 degrees.
# Blender would multiply by 100 to reach centimetres; so where it has them already, by 1.
_CENTIMETRES = {
    "use_space_transform": False, "apply_scale_options": "FBX_SCALE_NONE", "global_scale": 0.01,
}  # fmt: skip
_METRES = {"use_space_transform": False, "apply_scale_options": "FBX_SCALE_ALL"}

PRESETS = {
    "UNREAL": Preset(
        "Unreal", "Centimetres, Y up; its importer turns that to its own axes",
        Y_UP @ Matrix.Scale(100.0, 4), str, _CENTIMETRES,
    ),
    "UNITY": Preset(
        "Unity", "Metres, Y up; scale 1 and no turn on any object", Y_UP, str, _METRES
    ),
    "MAYA": Preset(
        "Maya", "Centimetres, Y up; names of letters, digits and underscores",
        Y_UP @ Matrix.Scale(100.0, 4), _ascii_name, _CENTIMETRES,
    ),
    "BLENDER": Preset(
        "Blender", "As Blender's own FBX: metres, and a scale of 100 on objects",
        Matrix(), str, {},
    ),
}  # fmt: skip
