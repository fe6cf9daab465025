"""Clips on their way into a prepared folder, which is written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import soundfile

from ..core.errors import SelfTalkError
from ..core.frontend import SAMPLE_RATE
from ..core.pickles import Progress
from ..core.words import counted
from . import folder as layout

TOLERANCE = 0.5  # seconds by which sound and face may differ in length


@dataclass(frozen=True)
class Take:
    """One clip of a download, not yet read.

    Attributes:
        samples: gives (N,) float32, mono, 16 kHz.
        vertices: gives (T, 3V).
    """

    subject: str
    sentence: str
    split: str
    samples: Callable[[], np.ndarray]
    vertices: Callable[[], np.ndarray]

    @property
    def name(self) -> str:
        return f"{self.subject}_{self.sentence}"


@dataclass
class Plan:
    """All that becomes a prepared folder.

    Attributes:
        kind: voca, biwi or folder.
        source: where it comes from.
        fps: frames per second.
        templates: subject -> (V, 3) float32.
        takes: the clips.
        unit: of the vertices, "" where unknown.
        mm_per_unit: one number, one for each subject, or None where unknown.
        strict: a clip that cannot be used is an error; else it is left out with a word.
        notices: sentences for the user.
    """

    kind: str
    source: Path
    fps: float
    templates: Mapping[str, np.ndarray]
    takes: list[Take]
    unit: str = ""
    mm_per_unit: float | dict[str, float] | None = None
    strict: bool = False
    notices: list[str] = field(default_factory=list)


def silent(done: float, stage: str) -> None:
    pass


def write(
    plan: Plan,
    out: Path,
    parts: Mapping[str, np.ndarray] = MappingProxyType({}),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the folder; it appears at `out` when all of it is there.

    Args:
        plan: what to write; sentences about clips that were left out are added to its notices.
        out: a folder that does not exist yet, or is empty.
        parts: name of a part of the face (see `folder.PARTS`) -> (n,) vertex indices, kept beside
            the clips.
        progress: called with the part done (0..1) and the clip's name.

    Returns:
        What dataset.json holds.

    Raises:
        SelfTalkError: `out` is taken or cannot be written; or clips cannot be used, all told.
    """
    check_free(out)
    if not plan.takes:
        raise SelfTalkError(f"There is no clip of {plan.kind}'s split in {plan.source}.")
    counts = {len(face) for face in plan.templates.values()}
    if len(counts) > 1:
        raise SelfTalkError(f"The templates differ in their vertices: {sorted(counts)}.")
    count = counts.pop()
    layout.check_parts(parts, count)
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        card = _write_into(temporary, plan, count, parts, progress)
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o777 & ~mask)  # mkdtemp makes private ones
        if out.exists():
            out.rmdir()
        temporary.rename(out)
        return card
    except OSError as error:
        raise SelfTalkError(
            f"Cannot write {out}: {error.strerror or error}. Free some space or choose another "
            "folder."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def check_free(out: Path) -> None:
    """Raises: SelfTalkError: there is something at `out` already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SelfTalkError(f"{out} is there already. Remove it, or choose another folder.")


def _write_into(
    folder: Path, plan: Plan, count: int, parts: Mapping[str, np.ndarray], progress: Progress
) -> dict[str, Any]:
    (folder / "wav").mkdir()
    (folder / "vertices_npy").mkdir()
    split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    problems = []
    takes = sorted(plan.takes, key=lambda take: take.name)
    for i, take in enumerate(takes):
        progress(i / len(takes), take.name)
        try:
            samples, vertices = take.samples(), take.vertices()
        except SelfTalkError as error:
            problems.append(f"{take.name}: {error}")
            continue
        if wrong := _faults(samples, vertices, plan.fps, count):
            problems += [f"{take.name}: {sentence}" for sentence in wrong]
            continue
        if plan.strict and problems:
            continue  # nothing will come of it, but all problems are told
        _write_wav(folder / f"wav/{take.name}.wav", samples)
        np.save(folder / f"vertices_npy/{take.name}.npy", vertices.astype(np.float32, copy=False))
        split.setdefault(take.split, []).append(take.name)
    if plan.strict or not any(split.values()):
        layout.complain(plan.source, problems)
    if problems:
        plan.notices.append("Left out:\n  " + "\n  ".join(problems))
    if not split["train"]:
        raise SelfTalkError(f"No clip of {plan.source} is left to train on.")
    np.savez(folder / "templates.npz", **plan.templates)
    for name, here in parts.items():
        np.save(folder / f"{name}.npy", here)
    card = {
        "format": layout.FORMAT,
        "kind": plan.kind,
        "source": str(plan.source.resolve()),
        "fps": plan.fps,
        "vertices": count,
        "unit": plan.unit,
        "mm_per_unit": plan.mm_per_unit,
        **{name: f"{name}.npy" if name in parts else None for name in layout.PARTS},
        "split": split,
    }
    (folder / layout.CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    return card


def _faults(samples: np.ndarray, vertices: np.ndarray, fps: float, count: int) -> list[str]:
    faults = []
    sound, face = len(samples) / SAMPLE_RATE, len(vertices) / fps
    if abs(sound - face) > TOLERANCE:
        faults.append(
            f"the sound lasts {sound:.2f} s, the face {face:.2f} s "
            f"({counted(len(vertices), 'frame')})."
        )
    if vertices.shape[1] != 3 * count:
        faults.append(f"it has {vertices.shape[1] / 3:g} vertices, its template {count}.")
    bad = np.flatnonzero(~np.isfinite(vertices).all(1))
    if len(bad):
        frames = counted(len(bad), "frame")
        faults.append(f"vertices are not numbers in {frames}, from {bad[0]} on.")
    return faults


def _write_wav(path: Path, samples: np.ndarray) -> None:
    whole = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    soundfile.write(path, whole, SAMPLE_RATE, subtype="PCM_16")


def still_packed(source: Path) -> str:
    """A sentence about archives in a folder that should be unpacked; empty where there are none."""
    archives = [p for p in source.rglob("*") if p.suffix.lower() in (".tgz", ".tar", ".zip", ".gz")]
    if not archives:
        return ""
    return (
        f"{archives[0].name} and its like are still packed: unpack them there first "
        "(those inside them, too)."
    )
