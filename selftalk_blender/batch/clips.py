"""Which clips the arguments of a command name, and where their results go."""

from __future__ import annotations

import glob
import os
import stat
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import SelfTalkError
from ..core.words import counted

# What is taken for a clip in a folder; a file named by itself may be called anything.
SOUND_SUFFIXES = frozenset(
    ".wav .flac .mp3 .ogg .oga .opus .m4a .aac .aif .aiff .au .caf .w64 .wma .mka "
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts".split()
)


@dataclass(frozen=True)
class Clip:
    """A sound file to work on.

    Attributes:
        path: the file.
        place: where its results go below the output folder, without a suffix: sub-folders
            of a folder are kept.
    """

    path: Path
    place: Path


def find_clips(
    arguments: Iterable[str],
    output: Path | None = None,
    made: Collection[Path] = (),
    unread: list[str] | None = None,
) -> list[Clip]:
    """The clips that the arguments name: files, folders (with all below them), or globs.

    A folder or a glob gives only files that are called like sound or video, and a folder that has
    the output folder (an absolute path) below it none from in there; no folder gives what was
    `made` there before (absolute paths), such as films.

    Args:
        unread: gets a sentence for each folder that cannot be read; without it one is an error.

    Raises:
        SelfTalkError: an argument names nothing, a folder cannot be read, or the results of two
            clips would have one name.
    """
    clips: dict[Path, Clip] = {}
    refused: list[str] = []

    def add(path: Path, place: Path) -> None:
        clips.setdefault(identity(path), Clip(path, place.with_suffix("")))

    def add_folder(folder: Path) -> int:
        below = output if output is not None and _real(folder) in output.parents else None
        inside = [
            path
            for path in sorted(_files(folder, refused))
            if _is_clip(path, below) and _real(path) not in made
        ]
        for path in inside:
            add(path, path.relative_to(folder))
        return len(inside)

    for argument in arguments:
        if not argument:  # a variable of a script that is not set; as a path it is this folder
            raise SelfTalkError("The name of a clip is empty. Name a sound file or a folder.")
        path = Path(argument)
        if os.path.isdir(path):
            if not add_folder(path):
                _raise_first(refused)
                raise SelfTalkError(f"There is no sound file in the folder {path}.")
        elif not os.path.exists(path) and glob.has_magic(argument):
            # Windows leaves globs to the program.
            found = 0
            for name in sorted(glob.glob(argument, recursive=True)):
                match = Path(name)
                if os.path.isdir(match):
                    found += add_folder(match)
                elif match.suffix.lower() in SOUND_SUFFIXES:
                    add(match, Path(match.name))
                    found += 1
            if not found:
                raise SelfTalkError(f"No sound file matches {argument}.")
        else:
            add(path, Path(path.name))
    if unread is None:
        _raise_first(refused)
    else:
        unread += refused
    check_places(clips.values())
    return list(clips.values())


def identity(path: Path) -> Path:
    """What is the same for two paths of one clip.

    Two links to one file are two clips: stores of large files keep lines that are alike so.
    """
    return _real(path.parent) / path.name


def check_places(clips: Iterable[Clip]) -> None:
    """Whether the results of clips stay apart.

    Raises:
        SelfTalkError: those of two would have one name.
    """
    taken: dict[str, Path] = {}
    twice: list[tuple[Path, Clip]] = []
    for clip in clips:
        place = clip.place.as_posix()
        # There two names that differ in case alone are one file.
        place = place.casefold() if sys.platform in ("win32", "darwin") else place
        other = taken.setdefault(place, clip.path)
        if other != clip.path:
            twice.append((other, clip))
    if twice:
        other, clip = twice[0]
        more = f"; so would those of {counted(len(twice) - 1, 'other clip')}" if twice[1:] else ""
        raise SelfTalkError(
            f"The results of {other} and {clip.path} would have the same name, "
            f"{clip.place}{more}. Rename one, or give them different output folders."
        )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve() fails for links in a circle


def _files(folder: Path, refused: list[str]) -> list[Path]:
    """All below a folder but what is the system's own, such as .Trash or ._name on macOS."""

    def refuse(error: OSError) -> None:
        refused.append(
            f"The folder {error.filename} cannot be read ({error.strerror or error}). Have it "
            "readable, or name the folders beside it."
        )

    files = []
    for at, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(at, name) for name in names if not name.startswith(".")]
    return files


def _raise_first(refused: list[str]) -> None:
    if refused:
        raise SelfTalkError(refused[0])


def _is_clip(path: Path, output: Path | None) -> bool:
    if path.suffix.lower() not in SOUND_SUFFIXES:
        return False
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
    except OSError:  # such as a link to nowhere: told when its turn comes
        pass
    return output is None or output not in _real(path).parents
