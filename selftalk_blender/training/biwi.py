"""BIWI, that is B3D(AC)^2, the Biwi 3D audiovisual corpus of affective communication."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from ..animator.audio import read_sound
from ..core.errors import SelfTalkError
from ..core.meshes import read_template, read_templates
from ..core.pickles import Progress
from . import folder as layout
from .takes import Plan, Take, silent, still_packed

# BIWI's split: six subjects in all of train, val and test (Test-A); test_b (Test-B) is the
# sentences 37-40 of the eight others. Subjects as in FaceFormer's README.
SUBJECTS = ("F2", "F3", "F4", "M3", "M4", "M5")
SENTENCES = {"train": range(1, 33), "val": range(33, 37), "test": range(37, 41)}
FPS = 25.0
SENTENCE = re.compile(r"(e?)0*(\d{1,2})", re.IGNORECASE)  # e07 is told with feeling, 07 without
SIZES_MM = (100.0, 400.0)  # what a head can measure


def plan_biwi(source: Path, templates: Path | None = None, progress: Progress = silent) -> Plan:
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
    frames = _frames(source)
    if not frames:
        packed = still_packed(source)
        raise SelfTalkError(
            f"There is no faces/<subject>/<sentence>/frame_*.vl in {source}. "
            + (packed or "Give the folder that holds faces/, audio/ and rigid_scans/.")
        )
    feeling = any(sentence.startswith("e") for _, sentence in frames)
    sounds = _sounds(source, {subject for subject, _ in frames})
    meshes = sorted(source.rglob("*.obj"))
    targets: dict[str, np.ndarray] = {}
    given = read_templates(templates) if templates else {}
    scales: dict[str, float] = {}
    sizes: list[float] = []
    plan = Plan("biwi", source, FPS, targets, [], "face sizes")
    subjects = sorted({subject for subject, _ in frames})
    problems = []
    for i, subject in enumerate(subjects):
        progress(i / len(subjects), f"looking at {subject}")
        mine = {
            sentence: paths
            for (who, sentence), paths in sorted(frames.items())
            if who == subject and sentence.startswith("e") == feeling and _split(who, sentence)
        }
        if not mine:
            continue
        try:
            face = given.get(subject) if given else _template(meshes, subject)
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
                    subject, sentence, _split(subject, sentence),
                    partial(_sound, sounds.get((subject, sentence))),
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


def _split(subject: str, sentence: str) -> str:
    """train, val, test or test_b; empty for what the field leaves out."""
    number = int(sentence.lstrip("e"))
    if subject not in SUBJECTS:
        return "test_b" if number in SENTENCES["test"] else ""
    return next((split for split, range_ in SENTENCES.items() if number in range_), "")


def _sentence(text: str) -> str | None:
    """e01 or 01, however the number is written; None for anything else."""
    match = SENTENCE.fullmatch(text)
    return f"{match[1].lower()}{int(match[2]):02d}" if match else None


def _frames(source: Path) -> dict[tuple[str, str], list[Path]]:
    """(subject, sentence) -> its frames in order."""
    groups = defaultdict(list)
    for path in source.rglob("*.vl"):
        groups[path.parent].append(path)
    frames = {}
    for folder, paths in groups.items():
        sentence = _sentence(folder.name.rpartition("_")[2])
        if sentence:
            frames[folder.parent.name.upper(), sentence] = sorted(paths, key=_number)
    return frames


def _number(path: Path) -> int:
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else -1


def _sounds(source: Path, subjects: set[str]) -> dict[tuple[str, str], Path]:
    """(subject, sentence) -> sound, whether named F1/e01.wav, F1_e01.wav or F1/F1_e01.wav."""
    sounds: dict[tuple[str, str], Path] = {}
    paths = [path for path in source.rglob("*") if path.suffix.lower() in layout.SOUNDS]
    # Of two, what is a sound of its own comes before the sound of a film.
    for path in sorted(paths, key=lambda p: (layout.SOUNDS.index(p.suffix.lower()), p)):
        words = [*path.relative_to(source).parent.parts, *re.split(r"[_\-. ]", path.stem)]
        sentence = _sentence(words[-1])
        subject = next((word.upper() for word in words[-2::-1] if word.upper() in subjects), None)
        if sentence and subject:
            sounds.setdefault((subject, sentence), path)
    return sounds


def _sound(path: Path | None) -> np.ndarray:
    if path is None:
        raise SelfTalkError("there is no sound of it in audio/.")
    return read_sound(path)


def _template(meshes: list[Path], subject: str) -> np.ndarray:
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
