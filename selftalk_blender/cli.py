"""The command `selftalk`: thin subcommands over the functions that the add-on uses, too.

Nothing heavy is imported before a subcommand needs it, so that `selftalk doctor` can tell what
is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .worker.lanes import AnyAnimator

# What is taken for a clip in a folder; a file named by itself may be called anything.
SOUND_SUFFIXES = frozenset(
    ".wav .flac .mp3 .ogg .oga .opus .m4a .aac .aif .aiff .au .caf .w64 .wma .mka "
    ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts".split()
)
FORMATS = ("blend", "abc", "fbx")
INTERRUPTED = 130


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


def find_clips(arguments: Iterable[str], output: Path | None = None) -> list[Clip]:
    """The clips that the arguments name: files, folders (with all below them), or globs.

    A folder or a glob gives only files that are called like sound or video, and none below
    the output folder, which has to be given as an absolute path.

    Raises:
        SelfTalkError: an argument names nothing, or the results of two clips would have one name.
    """
    from .core.errors import SelfTalkError

    clips: dict[Path, Clip] = {}

    def add(path: Path, place: Path) -> None:
        clips.setdefault(path.resolve(), Clip(path, place.with_suffix("")))

    def add_folder(folder: Path) -> int:
        inside = [path for path in sorted(folder.rglob("*")) if _is_clip(path, folder, output)]
        for path in inside:
            add(path, path.relative_to(folder))
        return len(inside)

    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            if not add_folder(path):
                raise SelfTalkError(f"There is no sound file in the folder {path}.")
        elif not path.exists() and glob.has_magic(argument):
            # Windows leaves globs to the program.
            found = 0
            for name in sorted(glob.glob(argument, recursive=True)):
                match = Path(name)
                if match.is_dir():
                    found += add_folder(match)
                elif match.suffix.lower() in SOUND_SUFFIXES:
                    add(match, Path(match.name))
                    found += 1
            if not found:
                raise SelfTalkError(f"No sound file matches {argument}.")
        else:
            add(path, Path(path.name))

    taken: dict[Path, Path] = {}
    for clip in clips.values():
        other = taken.setdefault(clip.place, clip.path)
        if other != clip.path:
            raise SelfTalkError(
                f"The results of {other} and {clip.path} would have the same name, "
                f"{clip.place}. Rename one, or give them different output folders."
            )
    return list(clips.values())


def _is_clip(path: Path, folder: Path, output: Path | None) -> bool:
    if path.suffix.lower() not in SOUND_SUFFIXES or not path.is_file():
        return False
    if any(part.startswith(".") for part in path.relative_to(folder).parts):
        return False  # the system's own, such as ._name on macOS
    return output is None or output == folder.resolve() or output not in path.resolve().parents


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        Exit code: 0 all well, 1 something failed and a sentence on stderr says what,
        2 wrong usage, 130 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments[:1] if arguments[:1] in LEARNING else arguments)
    if options.command == "doctor":
        from . import doctor

        return doctor.main()
    try:
        from .core.errors import SelfTalkError
    except ModuleNotFoundError as error:
        return _complain(_lacks(options.command, error))
    try:
        if options.command == "animate":
            return _animate(options)
        if options.command == "bake":
            return _bake(options)
        if options.command == "train":
            from .training import train

            return train.main(arguments[1:])
        if options.command == "prepare":
            return _prepare(arguments[1:])
        if options.command == "convert":
            return _convert(options)
        from .training import evaluate

        return evaluate.main(arguments[1:])
    except SelfTalkError as error:
        return _complain(str(error))
    except ModuleNotFoundError as error:
        return _complain(_lacks(options.command, error))
    except KeyboardInterrupt:
        print("\nInterrupted; nothing half-written is left.", file=sys.stderr)
        return INTERRUPTED


LEARNING = (["train"], ["evaluate"], ["prepare"])  # their arguments are parsed in training/


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="selftalk", description="A talking 3D face from a voice recording."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    clips = argparse.ArgumentParser(add_help=False)
    clips.add_argument(
        "clips", nargs="+", metavar="CLIP", help="sound or video files, folders of them, or globs"
    )
    clips.add_argument("--animator", metavar="FILE", help="an animator; the bundled one by default")
    clips.add_argument("--device", help="cpu or cuda; by default CUDA where there is one")

    animate = commands.add_parser(
        "animate", parents=[clips], help="write the motion of a clip (.npz), without Blender"
    )
    animate.add_argument(
        "--template", type=Path, metavar="FILE",
        help="the neutral face to move, for a published checkpoint (.ply .obj .npy .npz .pkl)",
    )  # fmt: skip
    animate.add_argument(
        "--subject", metavar="NAME", help="which face, where the template's file holds several"
    )
    animate.add_argument(
        "-o", "--output", required=True, type=Path, metavar="PATH",
        help="the motion file (.npz) of one clip, or a folder",
    )  # fmt: skip

    bake = commands.add_parser(
        "bake", parents=[clips], help="write a talking head: .blend, .abc, .fbx"
    )
    bake.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="folder")
    bake.add_argument(
        "--formats", default=",".join(FORMATS), type=_formats, metavar="LIST",
        help="what to write, with commas between (default: %(default)s)",
    )  # fmt: skip
    bake.add_argument(
        "--method", choices=("shape-keys", "mesh-cache"), default="shape-keys",
        help="how the mesh is moved (default: %(default)s; FBX needs shape keys)",
    )  # fmt: skip
    bake.add_argument("--fps", type=_rate, default=30.0, help="frames per second (default: 30)")
    bake.add_argument(
        "--preview", action="store_true",
        help="also a contact sheet (.png) and, where this Blender can, a video (.mp4)",
    )  # fmt: skip

    commands.add_parser("train", help="train an animator from a configuration", add_help=False)
    commands.add_parser(
        "prepare", help="make VOCASET, BIWI or own captures a folder to train on", add_help=False
    )
    commands.add_parser("evaluate", help="measure an animator on held-out clips", add_help=False)
    convert = commands.add_parser(
        "convert", help="make a published checkpoint (vocaset.pth, BIWI.pth) small and safe"
    )
    convert.add_argument("source", metavar="IN.pth", help="the checkpoint; it stays as it is")
    convert.add_argument(
        "target", metavar="OUT.safetensors", help="what animates of it, and nothing else"
    )
    convert.add_argument(
        "--half", action="store_true", help="in half precision: half as large, a little off"
    )
    commands.add_parser("doctor", help="tell what is installed and what would run")
    return parser


def _formats(text: str) -> tuple[str, ...]:
    chosen = tuple(part.strip().lower().lstrip(".") for part in text.split(",") if part.strip())
    if not chosen or not set(chosen) <= set(FORMATS):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(FORMATS)}")
    return chosen


def _rate(text: str) -> float:
    rate = float(text)
    if not 1 <= rate <= 1000:
        raise argparse.ArgumentTypeError("choose between 1 and 1000 frames per second")
    return rate


def _prepare(arguments: list[str]) -> int:
    from .core.progress import ProgressLine
    from .training import prepare

    line = ProgressLine("Preparing")

    def say(text: str) -> None:
        line.clear()
        print(text, flush=True)

    try:
        return prepare.main(arguments, line, say)
    finally:
        line.clear()


def _convert(options: argparse.Namespace) -> int:
    from .animator.published import convert

    print(f"Converting {options.source} ...", file=sys.stderr, flush=True)
    print(convert(options.source, options.target, options.half))
    return 0


def _animate(options: argparse.Namespace) -> int:
    from .core.errors import SelfTalkError

    output: Path = options.output
    clips = find_clips(options.clips, output.resolve())
    one_file = output.suffix.lower() == ".npz" and not output.is_dir()
    if one_file and len(clips) > 1:
        raise SelfTalkError(
            f"{len(clips)} clips cannot go into the one file {output}. Give a folder."
        )
    from .worker.lanes import load_animator

    template = None
    if options.template is not None:
        from .core.meshes import read_template

        template, _ = read_template(options.template, options.subject)
    animator = load_animator(options.animator, options.device, template)
    failed = 0
    for number, clip in enumerate(clips, 1):
        target = output if one_file else _below(output, clip, ".npz")
        try:
            _animate_one(animator, clip, target, f"{number}/{len(clips)} {clip.path.name}")
        except SelfTalkError as error:
            failed += 1
            _complain(str(error))
    return _tally(failed, len(clips))


def _animate_one(animator: AnyAnimator, clip: Clip, target: Path, title: str) -> None:
    from .core.progress import ProgressLine

    line = ProgressLine(title)
    begun = time.monotonic()
    try:
        motion = animator.animate_file(clip.path, progress=line)
        motion.save(target)
    finally:
        line.clear()
    _tell_notices(clip, animator.notices)
    took = time.monotonic() - begun
    print(
        f"{target}: {len(motion)} frames at {motion.fps:g} fps, {motion.duration:.1f} s in "
        f"{took:.1f} s ({motion.duration / took:.0f} times real time)",
        flush=True,
    )


def _bake(options: argparse.Namespace) -> int:
    from .core.errors import SelfTalkError

    if options.method == "mesh-cache" and "fbx" in options.formats:
        if options.formats != FORMATS:
            raise SelfTalkError(
                "FBX cannot hold a mesh cache: leave fbx out of --formats, or choose "
                "--method shape-keys."
            )
        options.formats = tuple(name for name in FORMATS if name != "fbx")
    if options.animator is not None and options.animator.lower().endswith((".pth", ".pt")):
        raise SelfTalkError(
            f"`selftalk bake` moves SelfTalk's own head, and {options.animator} moves another "
            "face. Choose it in Blender, in the tab SelfTalk, for a mesh of its vertices; or "
            "write its motion by `selftalk animate` with --template."
        )
    clips = find_clips(options.clips, options.output.resolve())
    for clip in clips:
        film = _below(options.output, clip, ".mp4")
        if options.preview and film.resolve() == clip.path.resolve():
            raise SelfTalkError(
                f"The preview would replace the clip {clip.path} itself. Choose another folder."
            )
    from .blender.bake import bake
    from .core.progress import ProgressLine

    failed = 0
    for number, clip in enumerate(clips, 1):
        line = ProgressLine(f"{number}/{len(clips)} {clip.path.name}")
        try:
            with _quiet_blender():
                results = bake(
                    [clip.path],
                    _below(options.output, clip, "").parent,
                    formats=options.formats,
                    output=options.method.upper().replace("-", "_"),
                    fps=options.fps,
                    preview=options.preview,
                    progress=line,
                    animator=options.animator,
                    device=options.device,
                )
        finally:
            line.clear()
        for result in results:
            if result.error is not None:
                failed += 1
                _complain(f"{clip.path}: {result.error}")
                continue
            _tell_notices(clip, result.notices)
            speed = result.duration / result.seconds
            print(
                f"{clip.path}: {result.duration:.1f} s of speech in {result.seconds:.1f} s "
                f"({speed:.1f} times real time), after {result.starting:.1f} s to start the "
                "animator",
                *(f"  {path}" for path in result.files),
                sep="\n",
                flush=True,
            )
    return _tally(failed, len(clips))


@contextlib.contextmanager
def _quiet_blender() -> Iterator[None]:
    """Keep what Blender's exporters print, in C and in Python, off stdout; stderr stays."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
        sys.stdout.flush()
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _below(output: Path, clip: Clip, suffix: str) -> Path:
    return output / clip.place.with_name(clip.place.name + suffix)


def _tell_notices(clip: Clip, notices: Iterable[str]) -> None:
    for notice in notices:
        print(f"{clip.path.name}: {notice}", file=sys.stderr)


def _tally(failed: int, total: int) -> int:
    if failed and total > 1:
        print(f"{failed} of {total} clips failed.", file=sys.stderr)
    return 1 if failed else 0


def _complain(sentence: str) -> int:
    print(f"selftalk: {sentence}", file=sys.stderr)
    return 1


def _lacks(command: str, error: ModuleNotFoundError) -> str:
    from .doctor import PACKAGES, TRAINING

    name = (error.name or str(error)).partition(".")[0]
    if name not in (*PACKAGES, *TRAINING, "bpy"):
        raise error  # a fault of ours
    learns = command not in ("animate", "bake") and name in PACKAGES
    packages = " ".join(PACKAGES) if learns else name
    return (
        f"`selftalk {command}` needs {name}, which this Python ({sys.executable}) lacks. Install "
        f'it with: "{sys.executable}" -m pip install {packages}{os.linesep}'
        "`selftalk doctor` tells what else is missing."
    )


if __name__ == "__main__":
    sys.exit(main())
