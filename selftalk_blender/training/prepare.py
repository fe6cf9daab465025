"""Turn the downloads of VOCASET and BIWI, or one's own captures, into a folder to train on.

    selftalk prepare voca SOURCE OUT       the "Training Data" of https://voca.is.tue.mpg.de
    selftalk prepare biwi SOURCE OUT       B3D(AC)^2, unpacked
    selftalk prepare folder SOURCE OUT     wav/, vertices_npy/ and templates of your own

OUT gets the layout that `folder.py` describes. It appears when it is whole, and not before.
--lips, --upper-face and --inner-lips become lips.npy, upper_face.npy and inner_lips.npy there: the
first is needed for training with the lip reader and for an evaluation, the others measure more.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..animator.audio import read_sound
from ..core.errors import SelfTalkError
from ..core.meshes import read_indices
from ..core.pickles import Progress
from ..core.words import counted
from . import folder as layout
from .biwi import plan_biwi
from .takes import Plan, Take, check_free, silent, write
from .voca import FILES, plan_voca

UNITS = {"metres": 1000.0, "centimetres": 10.0, "millimetres": 1.0}


def plan_folder(source: Path, fps: float | None = None, unit: str | None = None) -> Plan:
    """Captures that are in about the layout already; see `folder.py` for what may stand where.

    Raises:
        SelfTalkError: the frame rate is not known, or clips lack something; all is told at once.
    """
    card = layout.read_card(source)
    templates = layout.find_templates(source, [])
    sounds, motions = layout.find_sounds(source), layout.find_motions(source)
    problems = [f"{name}: there is no sound of it in wav/." for name in motions.keys() - sounds]
    problems += [f"{name}: it is not in vertices_npy/." for name in sounds.keys() - motions]
    names = {}
    for name in sorted(sounds.keys() & motions):
        parts = layout.split_name(name, templates)
        if parts is None:
            problems.append(f"{name}: no template has the name of its subject.")
        elif "_".join(parts) in names:
            problems.append(f"{name}: another clip has that name, too.")
        else:
            names["_".join(parts)] = (name, *parts)
    layout.complain(source, sorted(problems))
    if not names:
        raise SelfTalkError(f"{source} has no clips in wav/ and vertices_npy/.")
    if fps is None and card is None:
        pairs = [(sounds[name], motions[name]) for name, _, _ in names.values()]
        raise SelfTalkError(
            "The frame rate is written nowhere: give it with --fps. By the lengths of the sounds "
            f"it may be {layout.estimate_fps(pairs):.2f}."
        )
    splits = card["split"] if card else layout.hold_out(names)
    where = {name: split for split in splits for name in splits[split]}
    rate = fps or float(card["fps"])  # type: ignore[index]
    plan = Plan("folder", source, rate, templates, [], strict=True)
    if unlisted := names.keys() - where:
        plan.notices.append(f"Left out, as {layout.CARD} does: {layout.some(unlisted)}.")
    if unit:
        plan.unit, plan.mm_per_unit = unit, UNITS[unit]
    elif card:
        plan.unit, plan.mm_per_unit = card["unit"], card["mm_per_unit"]
    for whole, (name, subject, sentence) in names.items():
        if whole not in where:
            continue
        plan.takes.append(
            Take(
                subject, sentence, where[whole],
                partial(read_sound, sounds[name]),
                partial(layout.read_motion, motions[name]),
            )
        )  # fmt: skip
    return plan


def _inputs(options: argparse.Namespace) -> list[Path]:
    """The files that the command will read, as far as they may be pickles."""
    given = [getattr(options, name) for name in layout.PARTS]
    inputs = [path for path in (*given, getattr(options, "templates", None)) if path]
    if options.kind == "voca":
        inputs += [options.source / name for name in FILES]
    elif options.kind == "folder":
        inputs += [options.source / "templates.pkl"] * (options.source / "templates.pkl").is_file()
        inputs += layout.find_motions(options.source).values()
    return inputs


def main(
    arguments: list[str] | None = None,
    progress: Progress = silent,
    say: Callable[[str], object] = print,
) -> int:
    """The command `selftalk prepare`; `say` shows a line of text beside the progress."""
    parser = argparse.ArgumentParser(
        prog="selftalk prepare", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, text in (
        ("voca", "VOCASET, as VOCA's training data"), ("biwi", "BIWI, that is B3D(AC)^2, unpacked"),
        ("folder", "captures of your own"),
    ):  # fmt: skip
        one = kinds.add_parser(kind, help=text)
        one.add_argument("source", type=Path, metavar="SOURCE", help="the folder to read")
        one.add_argument("out", type=Path, metavar="OUT", help="the folder to write")
        for name, text in (
            ("--lips", "which vertices are the lips: .npy, .npz, .txt, .json or .pkl"),
            ("--upper-face", "which are brows, forehead and eyes, likewise"),
            ("--inner-lips", "pairs that meet when the mouth closes: upper, lower, upper, ..."),
        ):
            one.add_argument(name, type=Path, metavar="FILE", help=text)
        if kind == "biwi":
            one.add_argument(
                "--templates", type=Path, metavar="FILE",
                help="bring the faces onto these (templates.pkl or .npz of a published checkpoint)",
            )  # fmt: skip
        if kind == "folder":
            one.add_argument("--fps", type=float, help="frames per second")
            one.add_argument("--unit", choices=tuple(UNITS), help="of the vertices")
    options = parser.parse_args(arguments)
    source: Path = options.source
    if not source.is_dir():
        raise SelfTalkError(
            f"There is no folder {source}. Unpack the download and name its folder."
        )
    check_free(options.out)
    if getattr(options, "fps", None) is not None and not 1 <= options.fps <= 1000:
        raise SelfTalkError("Choose between 1 and 1000 frames per second.")
    if any(path.suffix.lower() == ".pkl" for path in _inputs(options)):
        say("Pickles are read as plain arrays; nothing in them is executed.")
    parts = layout.find_parts(source) if options.kind == "folder" else {}
    for name in layout.PARTS:
        if file := getattr(options, name):
            parts[name] = read_indices(file, name)
    if options.kind == "voca":
        plan = plan_voca(source, progress)
    elif options.kind == "biwi":
        plan = plan_biwi(source, options.templates, progress)
    else:
        plan = plan_folder(source, options.fps, options.unit)
    card = write(plan, options.out, parts, progress)
    for notice in plan.notices:
        say(notice)
    told = ", ".join(f"{len(names)} {split}" for split, names in card["split"].items() if names)
    say(
        f"{options.out}: {told} clips of {counted(len(plan.templates), 'subject')}, "
        f"{card['vertices']} vertices, {card['fps']:g} frames per second"
    )
    return 0
