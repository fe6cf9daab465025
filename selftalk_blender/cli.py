"""The command `selftalk`: thin subcommands over the functions that the add-on uses, too.

Nothing heavy is imported before a subcommand needs it, so that `selftalk doctor` can tell what
is missing.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .batch.arguments import add_arguments

if TYPE_CHECKING:
    from .batch.clips import Clip
    from .worker.lanes import AnyAnimator

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None, blender: str = "") -> int:
    """Run the command.

    Args:
        arguments: those of the process by default.
        blender: the program of the Blender that we run in; "" outside Blender.

    Returns:
        Exit code: 0 all well, 1 something failed and a sentence on stderr says what,
        2 wrong usage, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # whose encoding may not have a file's name
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments[:1] if arguments[:1] in LEARNING else arguments)
    if options.command == "doctor":
        from . import doctor

        return doctor.main(blender)
    try:
        from .core.errors import SelfTalkError
    except ModuleNotFoundError as error:
        return _complain(_lacks(options.command, error))
    try:
        if options.command == "animate":
            return _animate(options)
        if options.command == "bake":
            from .batch import command

            return 1 if command.run(options, blender) else 0
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
    except BrokenPipeError:  # whoever read what we say, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


LEARNING = (["train"], ["evaluate"], ["prepare"])  # their arguments are parsed in training/


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="selftalk", description="A talking 3D face from a voice recording."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    clips = "sound or video files, folders of them, or globs"
    animator = argparse.ArgumentParser(add_help=False)
    animator.add_argument(
        "--animator", metavar="FILE", help="an animator; the bundled one by default"
    )
    animator.add_argument("--device", help="cpu or cuda; by default CUDA where there is one")

    animate = commands.add_parser(
        "animate", parents=[animator], help="write the motion of a clip (.npz), without Blender"
    )
    animate.add_argument("clips", nargs="+", metavar="CLIP", help=clips)
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
        "bake", parents=[animator], help="write talking faces: .blend, .abc, .fbx and more"
    )
    bake.add_argument("clips", nargs="*", metavar="CLIP", help=clips)
    add_arguments(bake)

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
    from .batch.clips import find_clips
    from .core.errors import SelfTalkError

    output: Path = options.output
    unread: list[str] = []
    clips = find_clips(options.clips, output.resolve(), unread=unread)
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
    for sentence in unread:
        _complain(sentence)
    for number, clip in enumerate(clips, 1):
        target = output if one_file else _below(output, clip, ".npz")
        try:
            _animate_one(animator, clip, target, f"{number}/{len(clips)} {clip.path.name}")
        except SelfTalkError as error:
            failed += 1
            _complain(str(error))
    return _tally(failed, len(clips)) or (1 if unread else 0)


def _animate_one(animator: AnyAnimator, clip: Clip, target: Path, title: str) -> None:
    from .core.progress import ProgressLine
    from .core.words import counted

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
        f"{target}: {counted(len(motion), 'frame')} at {motion.fps:g} fps, "
        f"{motion.duration:.1f} s in {took:.1f} s ({motion.duration / took:.0f} times real time)",
        flush=True,
    )


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

    if error.name == f"{__package__}.training":
        return (
            f"`selftalk {command}` is no part of the extension for Blender. Use SelfTalk's "
            "repository or Python package."
        )
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
