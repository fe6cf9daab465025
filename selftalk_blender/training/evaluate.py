"""How good animators are, side by side, on clips that none of them has seen.

A clip's kind says what can be measured on it; each kind has one function that gives the clip's
*sums* per measure (see intervals.py), and `metrics.py` has each measure's formula and unit.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torchmetrics  # noqa: F401 - metrics.py needs it; missed here, not after hours of training

from ..animator import Animator, VertexAnimator, load_animator
from ..animator.published import is_published
from ..core import Motion, bundled_template
from ..core.errors import SelfTalkError
from ..core.files import check_writable
from ..core.frontend import FPS, SAMPLE_RATE
from ..core.meshes import read_template
from ..core.progress import ProgressLine
from . import metrics
from .config import load_config
from .corpus import FACE_FPS, Utterance, load_corpus
from .intervals import difference_sums, mean_sums, moments
from .reader import load_reader
from .report import (
    Rows,
    Table,
    check_clips,
    lines,
    over,
    read_evaluation,
    summary,
    write_evaluation,
)

if TYPE_CHECKING:
    from .folder import FolderClip, FolderCorpus
    from .plots import Album, FolderAlbum

NOISE_LEVEL = -50.0  # dBFS, of noise without speech
SNR = 15.0  # dB, of speech in noise
TEETH_REACH = 0.02  # seconds around the middle of f and v
NOISY_SHARE = 8  # one clip in so many is animated again with noise
TALKERS = 6  # voices that make babble, at least

# Lip vertices as offsets from the neutral face (T, n, 3) in the template's unit, 50 frames a
# second, the region "lips" -> the phones that a reader sees in them.
Reader = Callable[[np.ndarray], list[str]]
Clip = TypeVar("Clip")
Progress = Callable[[float, str], None]
Seen = Callable[[str, Utterance, Motion], None]


def evaluate(
    animator: Animator, held_out: Sequence[Utterance], reader: Reader | None = None
) -> dict[str, float]:
    """All measures over held-out clips; a kind that is not there gives no numbers.

    What the training loop calls. Raises what the animator raises.
    """
    rows = measure({"": animator}, held_out, reader)[""]
    kinds = [clip.kind for clip in held_out]
    counts = {f"{kind} clips": float(kinds.count(kind)) for kind in dict.fromkeys(kinds)}
    return counts | {row: over(row, clips) for row, clips in rows.items()}


def measure(
    animators: Mapping[str, Animator],
    held_out: Sequence[Utterance],
    reader: Reader | None = None,
    progress: Progress | None = None,
    seen: Seen | None = None,
) -> dict[str, Rows]:
    """The sums of every measure and clip, for each animator, from one motion of each clip.

    Args:
        progress: called with the share done and what is being done.
        seen: called with an animator's name, a clip, and its motion.
    """
    report = progress or (lambda done, stage: None)
    results: dict[str, Rows] = {name: {} for name in animators}
    sounds = _silences(held_out)
    spoken = [clip for clip in held_out if clip.kind in ("grid", "tts")]
    noisy = {clip.name for clip in spoken[::NOISY_SHARE]}
    babble = make_babble([clip for clip in held_out if clip.kind == "libri"])
    work = len(held_out) + 2 * len(noisy) + len(sounds)
    done = 0
    for clip in held_out:
        report(done / work, "Measuring")
        samples = clip.samples()
        disturbed = _disturbed(samples, babble, done) if clip.name in noisy else {}
        for name, animator in animators.items():
            motion = animator.animate(samples, SAMPLE_RATE)
            if seen is not None:
                seen(name, clip, motion)
            found = {f"{clip.kind} {m}": sums for m, sums in _clip(motion, clip, reader).items()}
            for noise, sound in disturbed.items():
                again = _gap(animator.animate(sound, SAMPLE_RATE))
                found[f"gap correlation under {noise}"] = _positive_moments(again, _gap(motion))
            for row, sums in found.items():
                results[name].setdefault(row, {})[clip.name] = sums
        done += 1 + len(disturbed)
    for kind, samples in sounds.items():
        report(done / work, "Measuring silence")
        for name, animator in animators.items():
            gap = _gap(animator.animate(samples, SAMPLE_RATE))
            rows = results[name]
            rows[f"gap in {kind}, mm"] = {kind: mean_sums(np.maximum(gap, 0))}
            rows[f"jitter in {kind}, mm"] = {kind: mean_sums(metrics.changes(gap, animator.fps))}
        done += 1
    return results


def measure_folder(
    animators: Mapping[str, Animator],
    corpus: FolderCorpus,
    clips: Sequence[FolderClip],
    progress: Progress | None = None,
    seen: Callable[[str, FolderClip, np.ndarray, np.ndarray], None] | None = None,
) -> dict[str, Rows]:
    """`measure` for a folder of vertices that knows its `lips`.

    Animators of vertices move the folder's template of each clip's subject, whatever their own.

    Args:
        progress: called with the share done and what is being done.
        seen: called with an animator's name, a clip, and what `in_step` gives of it.

    Raises:
        SelfTalkError: an animator moves a mesh of another vertex count.
    """
    for name, animator in animators.items():
        if len(animator.template.vertices) != corpus.vertex_count:
            raise SelfTalkError(
                f"{name} moves {len(animator.template.vertices)} vertices, but the faces in "
                f"{corpus.path} have {corpus.vertex_count}: choose another animator or folder."
            )
    results: dict[str, Rows] = {name: {} for name in animators}
    for number, clip in enumerate(clips):
        if progress is not None:
            progress(number / len(clips), "Measuring")
        samples, neutral = clip.samples(), corpus.templates[clip.subject]
        real = clip.vertices().reshape(-1, *neutral.shape)
        scale = None if corpus.mm_per_unit is None else corpus.mm_per_unit[clip.subject]
        for name, animator in animators.items():
            if isinstance(animator, VertexAnimator):
                animator = animator.with_template(neutral)
            motion = animator.animate(samples, SAMPLE_RATE)
            if seen is not None:
                seen(name, clip, *in_step(motion, real, neutral, corpus.fps))
            found = dense_sums(motion, real, neutral, corpus.fps, corpus.parts, scale)
            for row, sums in found.items():
                results[name].setdefault(f"folder {row}", {})[clip.name] = sums
    return results


# -- what a clip of each kind gives ------------------------------------------------------------


def _clip(motion: Motion, clip: Utterance, reader: Reader | None) -> dict[str, np.ndarray]:
    sums = face_sums(motion, clip) if clip.weights is not None else {}
    sums |= phone_sums(motion, clip)
    if reader is not None and clip.kind != "libri":  # whose phones are incomplete
        sums |= _reader_sums(motion, clip, reader)
    return sums


def face_sums(motion: Motion, clip: Utterance) -> dict[str, np.ndarray]:
    """What a clip with a recorded face (shape weights at 25 fps) gives."""
    real = Motion(motion.template, FACE_FPS, clip.weights)
    own = motion.at(np.arange(len(real)) / FACE_FPS, FACE_FPS)
    # The animator's frames, twice as many: on the finer grid the lag is found more exactly.
    often = real.at(np.arange(len(motion)) / motion.fps, motion.fps)
    offset = metrics.timing_offset(_gap(motion), _gap(often), motion.fps)
    regions = motion.template.regions
    here = np.concatenate([regions["lips"], regions["upper_face"]])
    count = len(regions["lips"])
    return {
        **gap_sums(_gap(own), _gap(real), FACE_FPS),
        "timing offset, ms": mean_sums([offset]),
        "width correlation": moments(_width(own), _width(real)),
        **vertex_sums(
            _part(own, here), _part(real, here), np.arange(count), np.arange(count, len(here)),
            per_mm=1000.0,
        ),
        "deepest overlap, mm": np.array([-_gap(motion).min()]),
    }  # fmt: skip


def gap_sums(
    own: np.ndarray, real: np.ndarray, fps: float, unit: str = "mm"
) -> dict[str, np.ndarray]:
    """What the gaps (T,) of animator and speaker at the same times give."""
    both = _positive_moments(own, real)
    return {
        "gap correlation, all frames": both,
        "gap correlation, mean of clips": mean_sums([metrics.gap_correlation(own, real)]),
        "timing offset, ms": mean_sums([metrics.timing_offset(own, real, fps)]),
        f"gap distance after time warping, {unit}": mean_sums(
            [metrics.dtw_distance(own, real, fps)]
        ),
        "amplitude": both,
    }


def vertex_sums(
    own: np.ndarray,
    real: np.ndarray,
    lips: np.ndarray,
    upper: np.ndarray | None,
    per_mm: float | None,
) -> dict[str, np.ndarray]:
    """What offsets (T, V, 3) of animator and speaker at the same times give.

    Args:
        lips, upper: indices into V; None where the upper face is not known.
        per_mm: millimetres per unit of the offsets, or None where the unit is not known.
    """
    unit, scale = ("unit", 1.0) if per_mm is None else ("mm", per_mm)
    pair = scale * own[:, lips], scale * real[:, lips]
    values = {
        f"lip vertex error, {unit}": metrics.lip_vertex_error(*pair),
        f"lip vertex error squared, {unit}^2": metrics.lip_vertex_error_squared(*pair),
    }
    if upper is not None:
        pair = scale * own[:, upper], scale * real[:, upper]
        values |= {
            f"upper-face deviation (FDD), {unit}": metrics.upper_face_deviation(*pair),
            f"upper-face deviation, absolute, {unit}": metrics.upper_face_deviation_absolute(*pair),
        }
    return {name: mean_sums([value]) for name, value in values.items()}


def phone_sums(motion: Motion, clip: Utterance) -> dict[str, np.ndarray]:
    """What a clip with phones gives; no face is needed."""
    gap, fps, phones = _gap(motion), motion.fps, clip.phones
    contact = _contact(motion, metrics.middles(phones, metrics.LABIODENTAL))
    wide = [
        metrics.at_middles(_width(motion), fps, phones, kind)
        for kind in (metrics.ROUNDED, metrics.SPREAD)
    ]
    sums = {
        "p/b/m closed": mean_sums(metrics.closures(gap, fps, phones)),
        "open vowels falsely closed": mean_sums(metrics.false_closures(gap, fps, phones)),
        "f/v lip to teeth, mm": mean_sums(contact),
        "f/v within 2 mm": mean_sums(contact <= metrics.TOUCHING_BELOW),
        "width at oo/w minus ah, mm": difference_sums(*wide),
    }
    if clip.weights is None:
        sums["gap deviation, mm"] = mean_sums([np.maximum(gap, 0).std()])
    if clip.kind == "tts":  # elsewhere the pauses are not aligned well enough
        sums["gap in pauses, mm"] = mean_sums(metrics.gap_in_pauses(gap, fps, phones))
        sums["jitter in pauses, mm"] = mean_sums(metrics.changes_in_pauses(gap, fps, phones))
    return sums


def dense_sums(
    motion: Motion,
    vertices: np.ndarray,
    neutral: np.ndarray,
    fps: float,
    parts: Mapping[str, np.ndarray],
    per_mm: float | None = None,
) -> dict[str, np.ndarray]:
    """What a clip with recorded vertices gives, whatever the mesh.

    The animator's offsets are compared with the speaker's offsets from his own neutral face, so
    that one animator serves all speakers. The gap is here the mean distance of the pairs of
    inner-lip vertices, since nobody says which axis is up.

    Args:
        vertices: (T, V, 3) of the speaker, in the folder's unit.
        neutral: (V, 3) the speaker's face at rest.
        fps: frames per second of `vertices`.
        parts: indices of the vertices `lips`, and where known of `upper_face` and `inner_lips`
            (pairs: above, below, above, ...).
        per_mm: millimetres per unit, or None where the unit is not known.
    """
    own, real = in_step(motion, vertices, neutral, fps)
    sums = vertex_sums(own, real, parts["lips"], parts.get("upper_face"), per_mm)
    if "inner_lips" in parts:
        own_gap, real_gap = (
            (per_mm or 1.0) * metrics.pair_gap(face, parts["inner_lips"])
            for face in (neutral + own, neutral + real)
        )
        unit = "unit" if per_mm is None else "mm"
        sums |= gap_sums(own_gap, real_gap, fps, unit)
    return sums


def in_step(
    motion: Motion, vertices: np.ndarray, neutral: np.ndarray, fps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets (T, V, 3) of animator and speaker at the same times; see `dense_sums`."""
    frames = min(len(vertices), int(np.ceil(motion.duration * fps - 1e-6)))
    own = motion.at(np.arange(frames) / fps, fps).offsets()
    return own, vertices[:frames] - neutral


def _reader_sums(motion: Motion, clip: Utterance, reader: Reader) -> dict[str, np.ndarray]:
    spoken = [phone for phone, _, _ in clip.phones if phone != "SIL"]

    def errors(face: Motion) -> np.ndarray:
        lips = _part(face.resample(FPS), face.template.regions["lips"])
        read = reader(lips.astype(np.float32))
        rate = metrics.token_error_rate(read, spoken)
        return np.array([rate * len(spoken), len(spoken)]) if spoken else np.zeros(2)

    sums = {"lip-reader error": errors(motion)}
    if clip.weights is not None:
        real = Motion(motion.template, FACE_FPS, clip.weights)
        sums["lip-reader error on the speaker"] = errors(real)
    return sums


def _part(motion: Motion, here: np.ndarray) -> np.ndarray:
    """Offsets of some vertices in metres, (T, n, 3), without those of the rest of the face."""
    if motion.dense is not None:
        return motion.dense[:, here]
    assert motion.weights is not None
    deltas = motion.template.shape_deltas[:, here].reshape(len(motion.template.shape_names), -1)
    return (motion.weights @ deltas).reshape(len(motion), -1, 3)


def _between(motion: Motion, one: str, other: str) -> np.ndarray:
    """From one landmark to another, (T, 3) millimetres."""
    template = motion.template
    a, b = template.landmarks[one], template.landmarks[other]
    moved = _part(motion, np.array([a, b]))
    return 1000.0 * (template.vertices[b] - template.vertices[a] + moved[:, 1] - moved[:, 0])


def _gap(motion: Motion) -> np.ndarray:
    if motion.weights is not None:
        return motion.template.gap_mm(motion.weights)
    return _between(motion, "inner_lower_lip", "inner_upper_lip")[:, 2]


def _width(motion: Motion) -> np.ndarray:
    if motion.weights is not None:
        return motion.template.width_mm(motion.weights)
    return np.linalg.norm(_between(motion, "mouth_corner_left", "mouth_corner_right"), axis=-1)


def _contact(motion: Motion, middles: np.ndarray) -> np.ndarray:
    """Smallest distance of lower lip and upper teeth around each of the times, (n,) mm."""
    if not len(middles):
        return np.zeros(0)
    times = middles[:, None] + np.array([-TEETH_REACH, 0.0, TEETH_REACH])
    face = motion.at(times.ravel(), motion.fps)
    lip, teeth = (
        face.template.vertices[here] + _part(face, here)
        for here in (face.template.regions[name] for name in ("lips_lower", "teeth_upper"))
    )
    distance = 1000.0 * metrics.smallest_distance(lip, teeth)
    return distance.reshape(times.shape).min(1)


def _positive_moments(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return moments(np.maximum(one, 0), np.maximum(other, 0))


# -- sounds without speech, and speech in noise ------------------------------------------------


def _silences(held_out: Sequence[Utterance]) -> dict[str, np.ndarray]:
    """Samples of eight seconds of each sort of silence, noise at -50 dBFS."""
    rng = np.random.default_rng(0)
    count = 8 * SAMPLE_RATE
    sounds = {"digital silence": np.zeros(count, np.float32)}
    sounds["white noise"] = rng.standard_normal(count).astype(np.float32)
    # A room as recorded: what is heard before the first word, strung together.
    rooms = [
        clip.samples()[1600 : int(clip.phones[0][2] * SAMPLE_RATE) - 3200]
        for clip in held_out
        if clip.kind == "grid"
        and clip.phones
        and clip.phones[0][0] == "SIL"
        and clip.phones[0][2] > 0.5
    ]
    if rooms:
        sounds["room noise"] = np.resize(np.concatenate(rooms), count)
    for name, samples in sounds.items():
        if samples.std() > 0:
            sounds[name] = samples / samples.std() * np.float32(10 ** (NOISE_LEVEL / 20))
    return sounds


def make_babble(clips: Sequence[Utterance]) -> np.ndarray | None:
    """Ten seconds of up to 12 voices at once, equally loud, (N,); None for fewer than 6."""
    voices = list({clip.voice: clip for clip in clips}.values())[: 2 * TALKERS]
    if len(voices) < TALKERS:
        return None
    talk = [np.resize(clip.samples(), 10 * SAMPLE_RATE) for clip in voices]
    return np.sum([one / max(one.std(), 1e-9) for one in talk], axis=0, dtype=np.float32)


def in_noise(samples: np.ndarray, noise: np.ndarray, snr: float = SNR) -> np.ndarray:
    """Samples (N,) with noise (N,) added so that their mean powers differ by `snr` dB."""
    factor = samples.std() / max(noise.std(), 1e-9) * 10 ** (-snr / 20)
    return (samples + noise * np.float32(factor)).astype(np.float32)


def _disturbed(samples: np.ndarray, babble: np.ndarray | None, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    sounds = {"white noise": in_noise(samples, rng.standard_normal(len(samples)))}
    if babble is not None:
        shifted = np.roll(babble, rng.integers(len(babble)))
        sounds["babble"] = in_noise(samples, np.resize(shifted, len(samples)))
    return sounds


def speed(animator: Animator, samples: np.ndarray) -> float:
    """Seconds of sound (N,) at 16 kHz animated per second, best of three, the model loaded."""
    animator.animate(samples, SAMPLE_RATE)
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        animator.animate(samples, SAMPLE_RATE)
        taken.append(time.perf_counter() - begin)
    return len(samples) / SAMPLE_RATE / min(taken)


# -- the command -------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """The command `selftalk evaluate`."""
    parser = argparse.ArgumentParser(prog="selftalk evaluate", description=__doc__)
    parser.add_argument(
        "config", help="the training run's TOML file (data and split), or a folder of vertices"
    )
    parser.add_argument(
        "--animator", nargs="+", default=["bundled"], metavar="FILE",
        help='animators to measure side by side; "bundled", the default, is the bundled one',
    )  # fmt: skip
    parser.add_argument(
        "--template", type=Path,
        help="neutral face for a published animator; a folder of vertices has its own, but the "
        "faces of this file's mesh make the picture of the error a surface",
    )  # fmt: skip
    parser.add_argument("--reader", type=Path, metavar="FILE", help="lip reader that judges, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values here too")
    parser.add_argument(
        "--against", type=Path, metavar="FILE",
        help="compare with the animators of this file, written by --json on the same clips",
    )  # fmt: skip
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw pictures into this folder")
    parser.add_argument(
        "--clips", type=int, metavar="N", help="at most N clips of each kind, for a quick look"
    )
    parser.add_argument(
        "--subject", metavar="NAME", help="which face, where the template's file holds several"
    )
    parser.add_argument("--device", help="cpu, cuda, ...")
    options = parser.parse_args(arguments)
    if options.clips is not None and options.clips < 1:
        parser.error("--clips must be at least 1")
    for path in (options.json, options.plots and options.plots / "error.png"):
        if path:
            check_writable(path)
    tables = read_evaluation(options.against) if options.against else {}
    data = Path(options.config)
    if not data.is_dir():
        data = Path(load_config(data).data)
    line = ProgressLine("Evaluating")
    try:
        album: Album | FolderAlbum | None
        if (data / "vertices_npy").is_dir():
            results, album = _folder(data, options, tables, line)
        else:
            animators = _load(options)
            results, album = _bundled(animators, options, tables, line)
    finally:
        line.clear()
    measured = {title: summary(rows) for title, rows in results.items()}
    tables = {f"{t} (stored)" if t in measured else t: table for t, table in tables.items()}
    tables |= measured
    print("\n".join(lines(tables)))
    if options.json:
        write_evaluation(options.json, tables, measured)
    if album:
        for path in album.draw(options.plots):
            print(path)
    return 0


def _bundled(
    animators: dict[str, Animator],
    options: argparse.Namespace,
    stored: dict[str, Table],
    line: ProgressLine,
) -> tuple[dict[str, Rows], Album | None]:
    """Results on the recordings that the bundled animator learns from, and what is to be drawn."""
    head = bundled_template()
    for title, animator in animators.items():
        if animator.template.digest != head.digest:
            raise SelfTalkError(
                f"{title} does not move the bundled head, whose motion the recordings show: "
                "evaluate it on a folder of vertices of its own mesh."
            )
    held_out = [u for u in load_corpus(load_config(options.config), head) if u.held_out]
    held_out = fewer(held_out, [clip.kind for clip in held_out], options.clips)
    if not held_out:
        raise SelfTalkError(
            "The configuration holds no clips out: there is nothing to evaluate on."
        )
    check_clips(stored, [clip.name for clip in held_out])
    album = None
    if options.plots:
        from .plots import Album

        album = Album(held_out)
    see = album.see if album else None
    reader = load_reader(options.reader, head) if options.reader else None
    results = measure(animators, held_out, reader, progress=line, seen=see)
    _add_speed(results, animators, max(held_out, key=lambda clip: clip.kind == "libri"))
    return results, album


def _folder(
    data: Path,
    options: argparse.Namespace,
    stored: dict[str, Table],
    line: ProgressLine,
) -> tuple[dict[str, Rows], FolderAlbum | None]:
    """Results on a folder of vertices: on its test clips, or where it has none on its val clips."""
    from .folder import load_folder

    corpus = load_folder(data)
    for notice in corpus.notices:
        print(notice, file=sys.stderr)
    if corpus.lips is None:
        raise SelfTalkError(f"{data} has no lips.npy with the numbers of the lip vertices: add it.")
    clips = corpus.split("test") or corpus.split("val")
    clips = fewer(clips, [""] * len(clips), options.clips)
    if not clips:
        raise SelfTalkError(f"{data} has neither test nor val clips: there is nothing to evaluate.")
    check_clips(stored, [clip.name for clip in clips])
    animators = _load(options, corpus.templates[clips[0].subject])
    album = None
    if options.plots:
        from .plots import FolderAlbum

        faces = read_template(options.template, options.subject)[1] if options.template else None
        album = FolderAlbum(corpus, clips, faces)
    results = measure_folder(animators, corpus, clips, line, album.see if album else None)
    _add_speed(results, animators, clips[0])
    return results, album


def _add_speed(
    results: dict[str, Rows], animators: dict[str, Animator], clip: Utterance | FolderClip
) -> None:
    for title, animator in animators.items():
        taken = mean_sums([speed(animator, clip.samples())])
        results[title]["times real time"] = {clip.name: taken}


def fewer(clips: Sequence[Clip], kinds: Sequence[str], most: int | None) -> list[Clip]:
    """At most so many clips of each kind, at equal distances; all where None."""
    kept: list[Clip] = []
    for kind in dict.fromkeys(kinds):
        same = [clip for clip, own in zip(clips, kinds, strict=True) if own == kind]
        count = len(same) if most is None else min(most, len(same))
        kept += [same[i] for i in np.linspace(0, len(same) - 1, count).round().astype(int)]
    return kept


def _load(options: argparse.Namespace, neutral: np.ndarray | None = None) -> dict[str, Animator]:
    """The animators by their titles.

    Args:
        neutral: (V, 3), the face of those that need one, where the user names none.
    """
    names = list(dict.fromkeys(options.animator))
    given = read_template(options.template, options.subject)[0] if options.template else None
    loaded = []
    for name in names:
        path = None if name == "bundled" else name
        face = neutral if given is None and path and is_published(path) else given
        faces = [] if face is None else [face]
        loaded.append(load_animator(path, options.device, *faces))
    return dict(zip(titles(names), loaded, strict=True))


def titles(names: Sequence[str]) -> list[str]:
    """Short names for different animator files: with as many folders as tell them apart."""
    paths = [Path(name).with_suffix("") for name in names]
    for depth in range(1, 99):
        short = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(short)) == len(short):
            return short
    return list(names)  # a.pth and a.safetensors
