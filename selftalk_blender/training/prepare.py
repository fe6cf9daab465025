"""Turn the downloads of VOCASET and BIWI, or one's own captures, into a folder to train on.

    selftalk prepare voca SOURCE OUT       the "Training Data" of https://voca.is.tue.mpg.de
    selftalk prepare biwi SOURCE OUT       B3D(AC)^2, unpacked
    selftalk prepare folder SOURCE OUT     wav/, vertices_npy/ and templates of your own

OUT gets the layout that `folder.py` describes. It appears when it is whole, and not before.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..animator.audio import SAMPLE_RATE, open_sound, to_mono_16k
from ..core.errors import SelfTalkError
from ..core.meshes import read_indices, read_template, read_templates
from ..core.pickles import Progress, load_numpy_pickle
from . import folder as layout

TOLERANCE = 0.5  # seconds by which sound and face may differ in length
UNITS = {"metres": 1000.0, "centimetres": 10.0, "millimetres": 1.0}

# VOCASET's split as its users write it, among them FaceFormer's README: eight subjects to train on,
# two each to validate and to test; of those the sentences 21-40.
VOCA_SUBJECTS = {
    "train": (
        "FaceTalk_170728_03272_TA", "FaceTalk_170904_00128_TA", "FaceTalk_170725_00137_TA",
        "FaceTalk_170915_00223_TA", "FaceTalk_170811_03274_TA", "FaceTalk_170913_03279_TA",
        "FaceTalk_170904_03276_TA", "FaceTalk_170912_03278_TA",
    ),
    "val": ("FaceTalk_170811_03275_TA", "FaceTalk_170908_03277_TA"),
    "test": ("FaceTalk_170809_00138_TA", "FaceTalk_170731_00024_TA"),
}  # fmt: skip
VOCA_SENTENCES = {"train": range(1, 41), "val": range(21, 41), "test": range(21, 41)}
VOCA_FPS = 60.0  # of the recording; every second frame is used
VOCA_FILES = ("data_verts.npy", "subj_seq_to_idx.pkl", "raw_audio_fixed.pkl", "templates.pkl")

# BIWI's split: six subjects in all of train, val and test (Test-A); test_b (Test-B) is the
# sentences 37-40 of the eight others. Subjects as in FaceFormer's README.
BIWI_SUBJECTS = ("F2", "F3", "F4", "M3", "M4", "M5")
BIWI_SENTENCES = {"train": range(1, 33), "val": range(33, 37), "test": range(37, 41)}
BIWI_FPS = 25.0
BIWI_SENTENCE = re.compile(
    r"(e?)0*(\d{1,2})", re.IGNORECASE
)  # e07 is told with feeling, 07 without
SIZES_MM = (100.0, 400.0)  # what a head can measure


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


def _silent(done: float, stage: str) -> None:
    pass


def write(
    plan: Plan, out: Path, lips: np.ndarray | None = None, progress: Progress = _silent
) -> dict[str, Any]:
    """Write the folder; it appears at `out` when all of it is there.

    Args:
        plan: what to write; sentences about clips that were left out are added to its notices.
        out: a folder that does not exist yet, or is empty.
        lips: (n,) vertex indices, kept beside the clips.
        progress: called with the part done (0..1) and the clip's name.

    Returns:
        What dataset.json holds.

    Raises:
        SelfTalkError: `out` is taken or cannot be written; or clips cannot be used, all told.
    """
    check_free(out)
    if not plan.takes:
        raise SelfTalkError(f"There is no clip of {plan.kind}'s split in {plan.source}.")
    count = len(next(iter(plan.templates.values())))
    if lips is not None and lips.max() >= count:
        raise SelfTalkError(
            f"The list of lip vertices names {lips.max()}, but the faces' last is {count - 1}."
        )
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
        card = _write_into(temporary, plan, count, lips, progress)
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
    folder: Path, plan: Plan, count: int, lips: np.ndarray | None, progress: Progress
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
    if lips is not None:
        np.save(folder / layout.LIPS, lips)
    card = {
        "format": layout.FORMAT,
        "kind": plan.kind,
        "source": str(plan.source.resolve()),
        "fps": plan.fps,
        "vertices": count,
        "unit": plan.unit,
        "mm_per_unit": plan.mm_per_unit,
        "lips": None if lips is None else layout.LIPS,
        "split": split,
    }
    (folder / layout.CARD).write_text(json.dumps(card, indent=1) + "\n")
    return card


def _faults(samples: np.ndarray, vertices: np.ndarray, fps: float, count: int) -> list[str]:
    faults = []
    sound, face = len(samples) / SAMPLE_RATE, len(vertices) / fps
    if abs(sound - face) > TOLERANCE:
        faults.append(
            f"the sound lasts {sound:.2f} s, the face {face:.2f} s ({len(vertices)} frames)."
        )
    if vertices.shape[1] != 3 * count:
        faults.append(f"it has {vertices.shape[1] / 3:g} vertices, its template {count}.")
    bad = np.flatnonzero(~np.isfinite(vertices).all(1))
    if len(bad):
        faults.append(f"{len(bad)} frames have vertices that are not numbers, from {bad[0]} on.")
    return faults


def _write_wav(path: Path, samples: np.ndarray) -> None:
    whole = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    soundfile.write(path, whole, SAMPLE_RATE, subtype="PCM_16")


def _sound(path: Path) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.float32), *open_sound(path).blocks()])


# VOCASET


def plan_voca(source: Path, progress: Progress = _silent) -> Plan:
    """VOCA's training data: every second frame of the sequences, and the sounds.

    The download holds data_verts.npy (all frames, V, 3), subj_seq_to_idx.pkl (subject -> sentence
    -> frame number -> row there), raw_audio_fixed.pkl (subject -> sentence -> audio and
    sample_rate) and templates.pkl. FLAME's unit is the metre. Two sequences are known to be missing
    (github.com/TimoBolkart/voca/issues/120).

    Raises:
        SelfTalkError: a file is missing or is something else.
    """
    lacking = [name for name in VOCA_FILES if not (source / name).is_file()]
    if lacking:
        packed = _packed(source)
        raise SelfTalkError(
            f"{source} lacks {', '.join(lacking)}. "
            + (packed or 'They are in the "Training Data" of https://voca.is.tue.mpg.de.')
        )
    try:
        frames = np.load(source / VOCA_FILES[0], mmap_mode="r", allow_pickle=False)
        assert frames.ndim == 3 and frames.shape[2] == 3
    except (OSError, ValueError, AssertionError) as error:
        raise SelfTalkError(f"{VOCA_FILES[0]} holds no frames (N, V, 3): {error}.") from error
    rows = load_numpy_pickle(source / VOCA_FILES[1], progress)
    sounds = load_numpy_pickle(source / VOCA_FILES[2], progress)
    templates = read_templates(source / VOCA_FILES[3])
    if not isinstance(rows, dict) or not isinstance(sounds, dict):
        raise SelfTalkError(f"{VOCA_FILES[1]} or {VOCA_FILES[2]} is not sorted by subject.")
    plan = Plan("voca", source, VOCA_FPS / 2, {}, [], "metres", UNITS["metres"])
    missing = []
    for split, subjects in VOCA_SUBJECTS.items():
        for subject in subjects:
            for number in VOCA_SENTENCES[split]:
                sentence = f"sentence{number:02d}"
                try:
                    where, sound = rows[subject][sentence], sounds[subject][sentence]
                    templates[subject]
                except (KeyError, TypeError):
                    missing.append(f"{subject}_{sentence}")
                    continue
                plan.takes.append(
                    Take(
                        subject, sentence, split,
                        partial(_voca_sound, sound),
                        partial(_voca_frames, frames, where),
                    )
                )  # fmt: skip
    plan.templates = {take.subject: templates[take.subject] for take in plan.takes}
    if missing:
        plan.notices.append(
            f"{len(missing)} clips are not in the download: {layout.some(missing)}."
        )
    return plan


def _voca_sound(entry: Any) -> np.ndarray:
    """(N,) float32 at 16 kHz from {"audio": integers or floats, "sample_rate": Hz}."""
    try:
        audio, rate = np.asarray(entry["audio"]), float(entry["sample_rate"])
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SelfTalkError("its sound has no audio and sample_rate.") from error
    if audio.dtype.kind == "i":
        audio = audio.astype(np.float32) / 2.0 ** (8 * audio.dtype.itemsize - 1)
    elif audio.dtype.kind == "f" and audio.size and np.abs(audio).max() > 2:
        audio = audio / 32768.0  # 16-bit values that were kept as floats
    return to_mono_16k(audio, rate)  # type: ignore[arg-type]


def _voca_frames(frames: np.ndarray, where: Any) -> np.ndarray:
    """(T, 3V) at half the frame rate; `where` is frame number -> row, or rows in order."""
    if isinstance(where, dict):
        where = [where[number] for number in sorted(where)]
    index = np.asarray(where)
    if index.ndim != 1 or index.dtype.kind not in "iu" or not len(index):
        raise SelfTalkError("its frames are not listed by number.")
    if index.min() < 0 or index.max() >= len(frames):
        raise SelfTalkError(f"its frames lie beyond the {len(frames)} of data_verts.npy.")
    return np.asarray(frames[index[::2]], np.float32).reshape(-1, 3 * frames.shape[1])


# BIWI


def plan_biwi(source: Path, templates: Path | None = None, progress: Progress = _silent) -> Plan:
    """B3D(AC)^2: the frames of faces/, the sounds of audio/ (or wav/, videos/), the templates.

    The field does not use the recorded coordinates (in size some 180 mm): faces are centred and
    divided by their size (github.com/EvelynFan/FaceFormer/issues/20 and 45). Here each template is
    centred at its mean and divided by its largest extent, and all frames of a speaker go through
    the one similarity that brings the calmer half of the speaker's vertices onto the template. With
    `templates`, such as the templates.pkl that came with a published checkpoint, those faces are
    the target instead, and the frames come out in that checkpoint's space.

    Only the sentences told with feeling (e01-e40) are in the split, as in FaceFormer's paper; if a
    copy has none, those without.

    Raises:
        SelfTalkError: something is missing or still packed.
    """
    frames = _biwi_frames(source)
    if not frames:
        packed = _packed(source)
        raise SelfTalkError(
            f"There is no faces/<subject>/<sentence>/frame_*.vl in {source}. "
            + (packed or "Give the folder that holds faces/, audio/ and rigid_scans/.")
        )
    feeling = any(sentence.startswith("e") for _, sentence in frames)
    sounds = _biwi_sounds(source, {subject for subject, _ in frames})
    meshes = sorted(source.rglob("*.obj"))
    targets: dict[str, np.ndarray] = {}
    given = read_templates(templates) if templates else {}
    scales: dict[str, float] = {}
    sizes: list[float] = []
    plan = Plan("biwi", source, BIWI_FPS, targets, [], "face sizes")
    subjects = sorted({subject for subject, _ in frames})
    problems = []
    for i, subject in enumerate(subjects):
        progress(i / len(subjects), f"looking at {subject}")
        mine = {
            sentence: paths
            for (who, sentence), paths in sorted(frames.items())
            if who == subject and sentence.startswith("e") == feeling and _biwi_split(who, sentence)
        }
        if not mine:
            continue
        try:
            face = given.get(subject) if given else _biwi_template(meshes, subject)
            if face is None:
                raise SelfTalkError(f"{templates} has no template of {subject}.")
            turn = _onto(_sampled(mine.values(), len(face)), face, subject)
        except SelfTalkError as error:
            problems.append(str(error))
            continue
        targets[subject] = face
        scales[subject] = 1.0 / float(np.linalg.det(turn[0])) ** (1 / 3)
        sizes.append(scales[subject] * float(np.ptp(face, 0).max()))
        for sentence, paths in mine.items():
            plan.takes.append(
                Take(
                    subject, sentence, _biwi_split(subject, sentence),
                    partial(_biwi_sound, sounds.get((subject, sentence))),
                    partial(_turned, paths, turn, len(face)),
                )
            )  # fmt: skip
    layout.complain(source, problems)
    if all(SIZES_MM[0] < size < SIZES_MM[1] for size in sizes):
        plan.mm_per_unit = scales
    else:
        plan.notices.append("The recorded faces are not of a head's size in mm: no unit is kept.")
    if not feeling:
        plan.notices.append("There are no sentences told with feeling (e01-e40): taken are 01-40.")
    return plan


def _biwi_split(subject: str, sentence: str) -> str:
    """train, val, test or test_b; empty for what the field leaves out."""
    number = int(sentence.lstrip("e"))
    if subject not in BIWI_SUBJECTS:
        return "test_b" if number in BIWI_SENTENCES["test"] else ""
    return next((split for split, range_ in BIWI_SENTENCES.items() if number in range_), "")


def _biwi_sentence(text: str) -> str | None:
    """e01 or 01, however the number is written; None for anything else."""
    match = BIWI_SENTENCE.fullmatch(text)
    return f"{match[1].lower()}{int(match[2]):02d}" if match else None


def _biwi_frames(source: Path) -> dict[tuple[str, str], list[Path]]:
    """(subject, sentence) -> its frames in order."""
    groups = defaultdict(list)
    for path in source.rglob("*.vl"):
        groups[path.parent].append(path)
    frames = {}
    for folder, paths in groups.items():
        sentence = _biwi_sentence(folder.name.rpartition("_")[2])
        if sentence:
            frames[folder.parent.name.upper(), sentence] = sorted(paths, key=_number)
    return frames


def _number(path: Path) -> int:
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else -1


def _biwi_sounds(source: Path, subjects: set[str]) -> dict[tuple[str, str], Path]:
    """(subject, sentence) -> sound, whether named F1/e01.wav, F1_e01.wav or F1/F1_e01.wav."""
    sounds: dict[tuple[str, str], Path] = {}
    paths = [path for path in source.rglob("*") if path.suffix.lower() in layout.SOUNDS]
    # Of two, what is a sound of its own comes before the sound of a film.
    for path in sorted(paths, key=lambda p: (layout.SOUNDS.index(p.suffix.lower()), p)):
        words = [*path.relative_to(source).parent.parts, *re.split(r"[_\-. ]", path.stem)]
        sentence = _biwi_sentence(words[-1])
        subject = next((word.upper() for word in words[-2::-1] if word.upper() in subjects), None)
        if sentence and subject:
            sounds.setdefault((subject, sentence), path)
    return sounds


def _biwi_sound(path: Path | None) -> np.ndarray:
    if path is None:
        raise SelfTalkError("there is no sound of it in audio/.")
    return _sound(path)


def _biwi_template(meshes: list[Path], subject: str) -> np.ndarray:
    """The subject's .obj (of rigid_scans/), (V, 3) float32, centred and divided by its size."""
    found = [p for p in meshes if subject in (p.stem.upper(), p.parent.name.upper())]
    if not found:
        raise SelfTalkError(f"There is no template {subject}.obj in rigid_scans/.")
    named = [path for path in found if path.stem.upper() == subject]
    vertices = read_template((named or found)[0])[0].astype(np.float64)
    size = np.ptp(vertices, 0).max()
    if not size:
        raise SelfTalkError(f"The template {found[0]} is a single point.")
    return ((vertices - vertices.mean(0)) / size).astype(np.float32)


def read_vl(path: Path, count: int) -> np.ndarray:
    """One tracked frame of B3D(AC)^2, (V, 3) float32 in the recording's unit.

    All that is public about the format is that a .vl file is binary and holds the 3D coordinates
    of each vertex of the generic face after head motion was removed (BIWI/README.md of
    github.com/Doubiiu/CodeTalker, which quotes the corpus). Its layout was not found described, so
    the length of the file decides: V points of 3 numbers, of 4 or of 8 bytes, with or without the
    number of vertices (4 bytes) before them; a number that is there must be right and gives the
    byte order, else it is little-endian if that gives lengths that a head can have.

    Args:
        path: the file.
        count: V, from the template.

    Raises:
        SelfTalkError: none of these fits.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SelfTalkError(f"{path} cannot be read: {error.strerror or error}.") from error
    for bytes_each in (4, 8):
        head = len(data) - 3 * bytes_each * count
        if head not in (0, 4):
            continue
        for order in "<>":
            if head and np.frombuffer(data, order + "i4", 1)[0] != count:
                continue
            points = np.frombuffer(data, f"{order}f{bytes_each}", offset=head).reshape(count, 3)
            with np.errstate(invalid="ignore", over="ignore"):
                size = np.abs(points).max()
            if 1e-6 < size < 1e6:  # of the other byte order come NaN, 1e-40 and 1e30
                return points.astype(np.float32)
    raise SelfTalkError(
        f"{path.parent.name}/{path.name} has {len(data)} bytes, which fit no known way to keep "
        f"{count} vertices. Has it been copied whole, and is the template the speaker's?"
    )


def _sampled(clips: Iterable[list[Path]], count: int) -> np.ndarray:
    """(n, V, 3): a few frames of each clip."""
    paths = [paths[i] for paths in clips for i in sorted({0, len(paths) // 2, len(paths) - 1})]
    return np.stack([read_vl(path, count) for path in paths]).astype(np.float64)


def _onto(frames: np.ndarray, face: np.ndarray, subject: str) -> tuple[np.ndarray, np.ndarray]:
    """The similarity that brings a speaker's frames onto the template.

    Least squares over the half of the vertices that moves least (Umeyama 1991).

    Args:
        frames: (n, V, 3).
        face: (V, 3).

    Returns:
        (3, 3) scaled rotation A and (3,) shift b; a point p becomes p A + b.

    Raises:
        SelfTalkError: the frames do not look like the template.
    """
    moves = frames.std(0).sum(1)
    calm = np.argsort(moves, kind="stable")[: max(len(moves) // 2, 4)]
    mean = frames.mean(0)
    a, b = mean[calm], face[calm].astype(np.float64)
    left, right = a - a.mean(0), b - b.mean(0)
    u, s, vt = np.linalg.svd(left.T @ right)
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    turn = (u * flip) @ vt * ((s * flip).sum() / (left**2).sum())
    shift = b.mean(0) - a.mean(0) @ turn
    error = np.sqrt(((a @ turn + shift - b) ** 2).sum(1).mean()) / np.ptp(face, 0).max()
    if not error < 0.05:
        raise SelfTalkError(
            f"The frames of {subject} do not look like the template (they differ by {error:.0%} of "
            "the head): its vertices have another order, or it is another's."
        )
    return turn, shift


def _turned(paths: list[Path], similarity: tuple[np.ndarray, np.ndarray], count: int) -> np.ndarray:
    """(T, 3V) float32 of a clip's frames."""
    numbers = [_number(path) for path in paths]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        gap = next(n for n in range(numbers[0], numbers[-1] + 2) if n not in numbers)
        raise SelfTalkError(f"frame {gap} is missing or there twice.")
    turn, shift = similarity
    clip = np.empty((len(paths), count, 3), np.float32)
    for i, path in enumerate(paths):
        clip[i] = read_vl(path, count) @ turn + shift
    return clip.reshape(len(paths), -1)


# one's own


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
                partial(_sound, sounds[name]),
                partial(layout.read_motion, motions[name]),
            )
        )  # fmt: skip
    return plan


def _packed(source: Path) -> str:
    archives = [p for p in source.rglob("*") if p.suffix.lower() in (".tgz", ".tar", ".zip", ".gz")]
    if not archives:
        return ""
    return (
        f"{archives[0].name} and its like are still packed: unpack them there first "
        "(those inside them, too)."
    )


def _inputs(options: argparse.Namespace) -> list[Path]:
    """The files that the command will read, as far as they may be pickles."""
    inputs = [path for path in (options.lips, getattr(options, "templates", None)) if path]
    if options.kind == "voca":
        inputs += [options.source / name for name in VOCA_FILES]
    elif options.kind == "folder":
        inputs += [options.source / "templates.pkl"] * (options.source / "templates.pkl").is_file()
        inputs += layout.find_motions(options.source).values()
    return inputs


def main(arguments: list[str] | None = None, progress: Progress = _silent) -> int:
    """The command `selftalk prepare`."""
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
        one.add_argument(
            "--lips", type=Path, metavar="FILE",
            help="which vertices are the lips: .npy, .npz, .txt, .json or .pkl",
        )  # fmt: skip
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
        print("Pickles are read as plain arrays; nothing in them is executed.")
    if options.kind == "voca":
        plan = plan_voca(source, progress)
    elif options.kind == "biwi":
        plan = plan_biwi(source, options.templates, progress)
    else:
        plan = plan_folder(source, options.fps, options.unit)
    lips = read_indices(options.lips) if options.lips else None
    card = write(plan, options.out, lips, progress)
    for notice in plan.notices:
        print(notice)
    told = ", ".join(f"{len(names)} {split}" for split, names in card["split"].items() if names)
    print(
        f"{options.out}: {told} clips of {len(plan.templates)} subjects, {card['vertices']} "
        f"vertices, {card['fps']:g} frames per second"
    )
    return 0
