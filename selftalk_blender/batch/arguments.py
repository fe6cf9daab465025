"""The arguments of `selftalk bake`. Nothing here needs more than Python itself."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .task import FBX_PRESETS, FORMATS, METHODS, USUAL, formats, preset, rate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Tell a parser what `selftalk bake` takes."""
    add = parser.add_argument
    add(
        "-o", "--output", required=True, type=_argument(_folder), metavar="OUT",
        help="folder of the results",
    )  # fmt: skip
    add(
        "--table", type=Path, metavar="FILE",
        help="a CSV of clips and who says them: columns clip, mesh, object, ...; without CLIP all "
        "of its clips are baked",
    )  # fmt: skip
    add(
        "--mesh",
        type=Path,
        metavar="FILE",
        help="the character's .blend; SelfTalk's head by default",
    )
    add("--object", metavar="NAME", help="its face; not needed where only one mesh can talk")
    add(
        "--format", type=_argument(formats), metavar="LIST",
        help=f"what to write, of {', '.join(FORMATS)}, with commas between "
        f"(default: {','.join(USUAL)})",
    )  # fmt: skip
    add(
        "--method", choices=METHODS, default=METHODS[0],
        help="how the mesh is moved (default: %(default)s; FBX needs shape keys)",
    )  # fmt: skip
    add(
        "--fbx-preset", type=_argument(preset), metavar="NAME",
        help=f"whom FBX is for: {', '.join(FBX_PRESETS)} (default: {FBX_PRESETS[0]})",
    )  # fmt: skip
    add(
        "--fps", type=_argument(rate),
        help="frames per second (default: the character's own; 30 for SelfTalk's head)",
    )  # fmt: skip
    add(
        "--template", type=Path, metavar="FILE",
        help="the character's neutral face, for an animator that moves vertices",
    )  # fmt: skip
    add("--subject", metavar="NAME", help="which face, where the template's file holds several")
    add(
        "--preview", action="store_true",
        help="also a contact sheet (.png) and, where this Blender can, a video (.mp4)",
    )  # fmt: skip
    add(
        "--jobs", type=_argument(_jobs), default=1, metavar="N",
        help="clips at a time, each with a Blender and an animator of its own (default: 1)",
    )  # fmt: skip
    add(
        "--ray", metavar="ADDRESS",
        help="bake on the nodes of a Ray cluster, --jobs clips at a time on each: auto, host:port "
        "or ray://host:port",
    )  # fmt: skip
    add("--resume", action="store_true", help="skip clips whose results are whole and up to date")
    add("--fail-fast", action="store_true", help="stop at the first clip that fails")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quiet", action="store_true", help="tell failures alone")
    how.add_argument("--json", action="store_true", help="tell all as JSON lines, for programs")


def _folder(text: str) -> Path:
    if not text:  # a variable of a script that is not set; as a path it is this folder
        raise ValueError("choose a folder")
    return Path(text)


def _jobs(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 1000:
        raise ValueError("choose a number from 1 on")
    return int(text)


def _argument(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader whose ValueError argparse tells in its own words."""

    def parse(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse
