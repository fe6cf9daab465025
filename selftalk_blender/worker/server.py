"""The animator as a process of its own; see the package's docstring for what it prints.

Started by `client.AnimateJob`, never by hand: it ends as soon as its input ends.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import traceback
from typing import TextIO

from . import STARTING

# What the animator needs, as pip knows it.
REQUIREMENTS = "numpy torch transformers safetensors soundfile soxr av"


def main(argv: list[str] | None = None) -> None:
    """Animate one clip, or a part of it, and write the motion; leaves the process."""
    channel = _own_output()
    threading.Thread(target=_end_with_client, daemon=True).start()
    parser = argparse.ArgumentParser(prog="selftalk worker")
    parser.add_argument("clip")
    parser.add_argument("--start", type=float, default=0.0, help="seconds in the file")
    parser.add_argument("--stop", type=float, help="seconds in the file; to its end by default")
    parser.add_argument("--output", required=True, help="the motion file to write (.npz)")
    parser.add_argument("--animator", help="an animator file; the bundled one by default")
    parser.add_argument("--template", help="the neutral face to move, if the animator needs one")
    parser.add_argument("--subject", help="which face, where the template's file holds several")
    parser.add_argument("--device", help="cpu or cuda; by default CUDA where there is one")
    error = _run(parser.parse_args(argv), channel)
    if error:
        _say(channel, error=error)
    sys.exit(1 if error else 0)


def _run(args: argparse.Namespace, channel: TextIO) -> str | None:
    """Do it; returns what to tell the user where it failed. The log gets the traceback."""
    try:
        _say(channel, stage=STARTING, done=0.0)
        # Not at the top: a Python without numpy or torch is told of in words, too.
        from ..animator import load_animator
        from ..core.errors import SelfTalkError
        from ..core.meshes import read_template

        template = None
        if args.template is not None:
            template, _ = read_template(args.template, args.subject)
        animator = load_animator(args.animator, args.device, template=template)
        motion = animator.animate_file(
            args.clip,
            args.start,
            args.stop,
            lambda done, stage: _say(channel, stage=stage, done=done),
        )
        motion.save(args.output)
        _say(channel, result=args.output, notices=animator.notices)
        return None
    except ImportError as error:
        traceback.print_exc()
        missing = error.name or str(error)
        if isinstance(error, ModuleNotFoundError):
            wrong = f"The Python that runs the animator ({sys.executable}) lacks {missing}."
        else:
            wrong = f"The Python that runs the animator ({sys.executable}) cannot load {missing}."
        return (
            f"{wrong} Install it with: "
            f'"{sys.executable}" -m pip install {REQUIREMENTS} - or choose a Python that has '
            "it in the SelfTalk preferences."
        )
    except SelfTalkError as error:
        traceback.print_exc()
        return str(error)
    except MemoryError:
        traceback.print_exc()
        return "Memory ran out. Close other programs, or animate a shorter part of the clip."
    except RuntimeError as error:
        traceback.print_exc()
        if "out of memory" in str(error):
            return "The graphics card's memory ran out. Choose the device CPU in the preferences."
        raise


def _own_output() -> TextIO:
    """The process's output for our lines alone; whatever libraries print goes to the log."""
    channel = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)
    return channel


def _say(channel: TextIO, **message: object) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def _end_with_client() -> None:
    """The system closes our input when the client ends, however it ends."""
    while os.read(0, 4096):
        pass
    os._exit(1)
