"""A folder of talking faces in the layout that the field shares.

    wav/<subject>_<sentence>.wav            the sound
    vertices_npy/<subject>_<sentence>.npy   (T, 3V), or (T, V, 3): the face in each frame
    templates.npz or templates.pkl          subject -> (V, 3), the face at rest

`selftalk prepare` adds `dataset.json` (frame rate, unit, split, where it comes from) and, where it
is told of them, lists of vertex indices that name parts of the face:

    lips.npy         what the lip reader reads and the lip vertex error is measured on
    upper_face.npy   what the upper-face deviation is measured on
    inner_lips.npy   pairs of vertices that meet when the mouth closes: one of the upper lip, then
                     one of the lower lip below it, the next pair, and so on; for the gap in an
                     evaluation, and for the closure term of training

Folders that other programs made lack these: then a tenth of the clips is held out and the frame
rate is judged from the lengths of the sounds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..animator.audio import open_sound, read_sound
from ..core.errors import SelfTalkError
from ..core.meshes import read_indices, read_template, read_templates
from ..core.pickles import load_numpy_pickle
from ..core.words import counted

FORMAT = 1
CARD = "dataset.json"
PARTS = ("lips", "upper_face", "inner_lips")  # of the face; each a file NAME.npy
SPLITS = ("train", "val", "test", "test_b")
# What is taken for sound; of two with one name the first kind.
SOUNDS = (
    ".wav .flac .aif .aiff .w64 .au .ogg .opus .mp3 .m4a .aac .wma .mp4 .mov .mkv .webm .avi .flv"
).split()
MOTIONS = (".npy", ".npz", ".pkl")
ALONE = (".npy", ".obj", ".ply")  # files that hold one face
RATES = (24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 90.0, 100.0, 120.0)


@dataclass(frozen=True)
class FolderClip:
    """One sentence of one subject.

    Attributes:
        name: unique; `<subject>_<sentence>` where the folder was prepared.
        subject: who speaks.
        sentence: the rest of the name.
        sound: file.
        motion: file of the vertices.
        split: train, val, test or test_b.
    """

    name: str
    subject: str
    sentence: str
    sound: Path
    motion: Path
    split: str

    def samples(self) -> np.ndarray:
        """(N,) float32, mono, 16 kHz.

        Raises:
            SelfTalkError: the sound cannot be read.
        """
        return read_sound(self.sound)

    def vertices(self) -> np.ndarray:
        """(T, 3V) float32 in the folder's unit; mapped from the file where that holds float32.

        Raises:
            SelfTalkError: the file is damaged or holds something else.
        """
        return read_motion(self.motion)


@dataclass(frozen=True, eq=False)
class FolderCorpus:
    """A folder that can be trained on.

    Attributes:
        path: the folder.
        fps: frames per second of all clips.
        vertex_count: V.
        unit: the name of the vertices' unit; empty where unknown.
        mm_per_unit: subject -> millimetres per unit; None where unknown. (One number for all,
            unless each face was scaled to one size, as BIWI's are.)
        templates: subject -> (V, 3) float32.
        clips: sorted by name.
        parts: name of a part of the face -> (n,) int64 vertex indices, those of `PARTS` that are
            there; `inner_lips` in pairs.
        notices: sentences that the user should read.
    """

    path: Path
    fps: float
    vertex_count: int
    unit: str
    mm_per_unit: Mapping[str, float] | None
    templates: Mapping[str, np.ndarray]
    clips: tuple[FolderClip, ...]
    parts: Mapping[str, np.ndarray]
    notices: tuple[str, ...]

    @property
    def lips(self) -> np.ndarray | None:
        """(n,) int64 vertex indices, or None."""
        return self.parts.get("lips")

    def split(self, name: str) -> list[FolderClip]:
        """The clips of train, val, test or test_b."""
        return [clip for clip in self.clips if clip.split == name]


def load_folder(path: str | os.PathLike[str], fps: float | None = None) -> FolderCorpus:
    """Read what is in a folder; sounds and vertices stay on the disk.

    Args:
        path: the folder.
        fps: frames per second, where there is no dataset.json that says it.

    Raises:
        SelfTalkError: the folder is missing or lacks something; all that is wrong with its clips
            is told at once.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise SelfTalkError(f"There is no folder {folder}.")
    card = read_card(folder)
    notices: list[str] = []
    templates = find_templates(folder, notices)
    sounds, motions = find_sounds(folder), find_motions(folder, (".npy",))
    for kind, lone in (("vertices", sounds.keys() - motions), ("sound", motions.keys() - sounds)):
        if lone:
            clips = counted(len(lone), "clip")
            notices.append(f"Left out: {clips} without {kind}: {some(lone)}.")
    names = sorted(sounds.keys() & motions)
    if not names:
        raise SelfTalkError(
            f"{folder} has no clips: no file in wav/ has the name of one in vertices_npy/."
        )
    splits = card["split"] if card else hold_out(names)
    where = {name: split for split in splits for name in splits[split]}
    problems = []
    if missing := where.keys() - names:
        problems.append(f"{CARD} lists clips that are not there: {some(missing)}.")
    count = len(next(iter(templates.values())))
    clips = []
    for name in names:
        found = split_name(name, templates)
        if found is None:
            problems.append(f"{name}: no template has the name of its subject.")
        elif name in where:
            clips.append(FolderClip(name, *found, sounds[name], motions[name], where[name]))
            problems += [f"{name}: {wrong}" for wrong in _misfits(motions[name], count)]
    complain(folder, problems)
    if card is None:
        notices.append(f"{folder.name} has no {CARD}: every tenth clip is kept for validation.")
    fps = card["fps"] if card else fps
    if fps is None:
        fps = nearest_rate(estimate_fps((clip.sound, clip.motion) for clip in clips))
        notices.append(f"The frame rate, {fps:g}, was judged from the lengths of the sounds.")
    scale = card["mm_per_unit"] if card else None
    if isinstance(scale, int | float):
        scale = dict.fromkeys(templates, float(scale))
    parts = find_parts(folder)
    check_parts(parts, count)
    unit = card["unit"] if card else ""
    return FolderCorpus(
        folder, fps, count, unit, scale, templates, tuple(clips), parts, tuple(notices)
    )


def find_parts(folder: Path) -> dict[str, np.ndarray]:
    """Name of a part of the face -> (n,) int64 vertex indices, for those that are there.

    Raises:
        SelfTalkError: a file is no list of vertices.
    """
    files = {name: folder / f"{name}.npy" for name in PARTS}
    return {name: read_indices(path, name) for name, path in files.items() if path.is_file()}


def check_parts(parts: Mapping[str, np.ndarray], count: int) -> None:
    """Whether lists of vertices fit a face of so many.

    Raises:
        SelfTalkError: one names a vertex that is not there, or `inner_lips` has no pairs.
    """
    for name, here in parts.items():
        if here.max() >= count:
            raise SelfTalkError(
                f"The list of vertices {name} names {here.max()}, but the faces' last is "
                f"{count - 1}."
            )
        if name == "inner_lips" and len(here) % 2:
            raise SelfTalkError(
                f"The list of vertices inner_lips has {len(here)}, but pairs are needed: one of "
                "the upper lip, then the one of the lower lip that meets it, and so on."
            )


def _misfits(motion: Path, count: int) -> list[str]:
    try:
        columns = read_motion(motion).shape[1]
    except SelfTalkError as error:
        return [str(error)]
    if columns != 3 * count:
        return [f"it has {columns / 3:g} vertices, its template {count}."]
    return []


def read_card(folder: Path) -> dict[str, Any] | None:
    """dataset.json, or None where there is none.

    Raises:
        SelfTalkError: it cannot be read, lacks something, or is newer than this program.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_text("utf-8"))
        if card["format"] > FORMAT:
            raise ValueError(f"format {card['format']} is newer than this program's {FORMAT}")
        if lacking := {"unit", "mm_per_unit"} - card.keys():
            raise ValueError(f"it lacks {some(lacking)}")
        if not card["fps"] > 0 or not set(card["split"]) <= set(SPLITS):
            raise ValueError("its frame rate or its split is nonsense")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SelfTalkError(
            f"{path} cannot be used ({error}). Run `selftalk prepare` again."
        ) from error
    return dict(card)


def find_sounds(folder: Path) -> dict[str, Path]:
    """Clip name -> sound file, in wav/ or audio/."""
    return _by_name(folder, ("wav", "audio"), SOUNDS)


def find_motions(folder: Path, suffixes: Iterable[str] = MOTIONS) -> dict[str, Path]:
    """Clip name -> file of vertices, in vertices_npy/."""
    return _by_name(folder, ("vertices_npy",), list(suffixes))


def _by_name(folder: Path, places: Iterable[str], suffixes: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for suffix in suffixes:
        for place in places:
            for path in sorted((folder / place).glob("*")):
                if path.suffix.lower() == suffix and not path.name.startswith("."):
                    found.setdefault(path.stem, path)
    return found


def find_templates(folder: Path, notices: list[str]) -> dict[str, np.ndarray]:
    """Subject -> (V, 3): templates.npz or .pkl; else one file for each subject in templates/; else
    template.npy, .obj or .ply, the only subject's. Adds to `notices` where a pickle is read.

    Raises:
        SelfTalkError: there is none, or they differ in their number of vertices.
    """
    faces: dict[str, np.ndarray] = {}
    for path in (folder / "templates.npz", folder / "templates.pkl"):
        if path.is_file() and not faces:
            if path.suffix == ".pkl":
                notices.append(pickle_notice(path))
            faces = read_templates(path)
    places = sorted((folder / "templates").glob("*")) + sorted(folder.glob("template*"))
    for path in places if not faces else []:
        if path.suffix.lower() in ALONE and not path.name.startswith("."):
            faces[path.stem] = read_template(path)[0]
    if not faces:
        raise SelfTalkError(
            f"{folder} has no face templates: neither templates.npz or templates.pkl with "
            "{subject: (V, 3)}, nor a file for each subject (.npy, .obj, .ply) in templates/."
        )
    counts = {name: len(face) for name, face in faces.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        raise SelfTalkError(f"The templates in {folder} differ in their vertices: {told}.")
    return faces


def pickle_notice(path: Path) -> str:
    return f"{path.name} is a pickle; it is read as plain arrays and nothing in it is executed."


def split_name(name: str, subjects: Iterable[str]) -> tuple[str, str] | None:
    """Subject and sentence of a clip: the longest subject that its name begins with.

    Where there is one subject alone, clips need not have its name.
    """
    known = sorted(subjects, key=len, reverse=True)
    for subject in known:
        if name.startswith(f"{subject}_"):
            return subject, name[len(subject) + 1 :]
    return (known[0], name) if len(known) == 1 else None


def hold_out(names: Iterable[str]) -> dict[str, list[str]]:
    """A split that keeps a tenth of the clips, at equal distances, for validation."""
    names = sorted(names)
    count = min(max(round(len(names) / 10), 1), len(names) - 1)
    chosen = {names[i] for i in np.linspace(0, len(names) - 1, count + 2).round().astype(int)[1:-1]}
    return {
        "train": [name for name in names if name not in chosen],
        "val": sorted(chosen),
        "test": [],
    }


def read_motion(path: Path) -> np.ndarray:
    """(T, 3V) float32 from .npy (mapped where it can be), .npz or .pkl of (T, 3V) or (T, V, 3).

    Raises:
        SelfTalkError: the file is damaged or holds something else.
    """
    data: Any
    try:
        if path.suffix.lower() == ".pkl":
            data = load_numpy_pickle(path)
        elif path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                data = dict(file)
        else:
            data = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(data, Mapping):
            (data,) = data.values()
        data = np.asanyarray(data)
    except SelfTalkError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds
        raise SelfTalkError(f"{path.name} cannot be read: {error}.") from error
    if data.dtype.kind not in "fiu" or data.ndim not in (2, 3) or not data.size:
        raise SelfTalkError(f"{path.name} holds {data.dtype} of shape {data.shape}, not (T, 3V).")
    if (data.ndim == 3 and data.shape[2] != 3) or (data.ndim == 2 and data.shape[1] % 3):
        raise SelfTalkError(f"{path.name} holds the shape {data.shape}, not (T, 3V) or (T, V, 3).")
    return data.reshape(len(data), -1).astype(np.float32, copy=False)


def estimate_fps(clips: Iterable[tuple[Path, Path]]) -> float:
    """The middle of the clips' frames per second of sound; clips are (sound, motion)."""
    rates = []
    for sound, motion in clips:
        seconds = open_sound(sound).duration
        if seconds:
            rates.append(len(read_motion(motion)) / seconds)
    return float(np.median(rates)) if rates else 0.0


def nearest_rate(estimate: float) -> float:
    """The usual frame rate within 2 % of an estimate.

    Raises:
        SelfTalkError: there is none.
    """
    best = min(RATES, key=lambda rate: abs(rate - estimate))
    if abs(best - estimate) > 0.02 * best:
        raise SelfTalkError(
            f"The clips seem to have {estimate:.2f} frames per second, which is no usual rate. Run "
            "`selftalk prepare folder` with --fps."
        )
    return best


def some(names: Iterable[str], most: int = 5) -> str:
    """The first of many names."""
    names = sorted(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def complain(folder: Path, problems: list[str], most: int = 30) -> None:
    """Tell all problems at once.

    Raises:
        SelfTalkError: there is one.
    """
    if problems:
        rest = f"\n  and {len(problems) - most} more" if len(problems) > most else ""
        raise SelfTalkError(f"{folder} cannot be used:\n  " + "\n  ".join(problems[:most]) + rest)
