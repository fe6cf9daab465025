"""One clip to bake, and what became of it: plain values that travel as JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# What can be written: the formats of `blender.export`, and Blender's own.
FORMATS = ("blend", "fbx", "abc", "usd", "glb", "mdd", "pc2", "csv", "json")
NO_CACHE = ("fbx", "glb")  # those that cannot hold a mesh cache
USUAL = ("blend", "abc", "fbx")  # those that are written unless others are asked for
CACHE_FOLDER = "selftalk_cache"
METHODS = ("shape-keys", "mesh-cache")
FBX_PRESETS = ("blender", "unreal", "unity", "maya")  # those of `blender.formats`


@dataclass(frozen=True)
class Settings:
    """How a clip is baked.

    Attributes:
        formats: suffixes of the files to write, such as "fbx" and "blend".
        method: "shape-keys" or "mesh-cache".
        fbx_preset: of FBX_PRESETS; "blender", which comes first, where no FBX is written.
        fps: frames per second; None takes the character's own, 30 for the bundled head.
        preview: whether to render a contact sheet and a film.
        animator, template: absolute paths, "" for the bundled animator and no template.
        device: "cpu" or "cuda"; None takes CUDA where there is one.
        subject: which face, where the template's file holds several.
        controls: the artist's controls that differ from the character's own, by their names.
    """

    formats: tuple[str, ...]
    method: str = METHODS[0]
    fbx_preset: str = FBX_PRESETS[0]
    fps: float | None = None
    preview: bool = False
    animator: str = ""
    device: str | None = None
    template: str = ""
    subject: str = ""
    controls: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One clip to bake.

    Attributes:
        clip: absolute path of the sound file.
        out: absolute path of the output folder.
        place: where the results go below `out`, with forward slashes and without a suffix.
        mesh: absolute path of the character's .blend; "" for the bundled head.
        object: the name of its face; "" where there is only one mesh that can talk.
        settings: how.
    """

    clip: str
    out: str
    place: str
    settings: Settings
    mesh: str = ""
    object: str = ""

    def path(self, suffix: str) -> Path:
        """Where the result of a suffix, such as "fbx", goes."""
        return Path(self.out, f"{self.place}.{suffix}")

    @property
    def cache_folder(self) -> Path:
        """Where its mesh cache goes."""
        return self.path("").parent / CACHE_FOLDER / Path(self.place).name

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Task:
        settings = Settings(
            **{**fields["settings"], "formats": tuple(fields["settings"]["formats"])}
        )
        return cls(**{**fields, "settings": settings})


@dataclass(frozen=True)
class File:
    """A file that was written, or read.

    Attributes:
        path: below the output folder, with forward slashes; or absolute.
        size: bytes; -1 of one that was to be read and was not there.
        sha256: of its content.
        changed: when it was last changed, in nanoseconds, as the file system has it.
    """

    path: str
    size: int
    sha256: str
    changed: int


@dataclass(frozen=True)
class Done:
    """What became of a task.

    Attributes:
        clip, place: the task's.
        outputs: what was written, whole.
        blender: version of the Blender that wrote it, such as "5.0.1".
        animator: the hash of the animator's file.
        read: what was read beside what the task names: what the character's .blend names.
        duration: seconds of sound.
        times: seconds that its stages took: "animating", "writing", "preview".
        warnings: sentences that the user should read.
        error: why it failed, one or two sentences; None where it did not.
    """

    clip: str
    place: str
    outputs: tuple[File, ...] = ()
    blender: str = ""
    animator: str = ""
    read: tuple[File, ...] = ()
    duration: float = 0.0
    times: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Done:
        files = {what: tuple(File(**file) for file in fields[what]) for what in ("outputs", "read")}
        return cls(**{**fields, **files, "warnings": tuple(fields["warnings"])})


# --- Words, of a command line or a table ------------------------------------------------------


def number(text: str) -> float:
    """A finite number; half of all spreadsheets write a comma in it.

    Raises:
        ValueError: it is none.
    """
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        raise ValueError("choose a number") from None
    if not math.isfinite(value):
        raise ValueError("choose a number")
    return value


def rate(text: str) -> float:
    """Frames per second.

    Raises:
        ValueError: it is no number between 1 and 1000.
    """
    value = number(text)
    if not 1 <= value <= 1000:
        raise ValueError("choose between 1 and 1000 frames per second")
    return value


def preset(text: str) -> str:
    """Whom FBX is for.

    Raises:
        ValueError: it is unknown.
    """
    name = text.strip().lower()
    if name not in FBX_PRESETS:
        raise ValueError(f"choose {', '.join(FBX_PRESETS[:-1])} or {FBX_PRESETS[-1]}")
    return name


def formats(text: str) -> tuple[str, ...]:
    """What files to write, from names with commas, spaces or the like between.

    Raises:
        ValueError: one of them is unknown.
    """
    chosen = tuple(name.lower().lstrip(".") for name in re.split(r"[\s,;|+/]+", text) if name)
    if not chosen or not set(chosen) <= set(FORMATS):
        raise ValueError(f"choose from {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(chosen))
