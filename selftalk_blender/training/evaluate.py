"""How good an animator is, on the part of the corpus that it has never seen.

`selftalk evaluate CONFIG [--animator FILE] [--json FILE]` prints the table.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from ..animator import Animator, load_animator
from ..animator.audio import SAMPLE_RATE
from ..core import Motion
from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from . import metrics
from .config import load_config
from .corpus import FACE_FPS, Utterance, load_corpus

NOISE_LEVEL = -50.0  # dBFS


def evaluate(animator: Animator, held_out: list[Utterance]) -> dict[str, float]:
    """All measures over held-out utterances; a kind that is not there gives no numbers."""
    table: dict[str, float] = {}
    kinds = {kind: [u for u in held_out if u.kind == kind] for kind in ("grid", "tts", "libri")}
    if kinds["grid"]:
        table.update(_faces(animator, kinds["grid"]))
    for kind in ("tts", "libri"):
        if kinds[kind]:
            table.update(_phones(animator, kinds[kind], kind))
    table.update(_silence(animator, kinds["grid"]))
    return table


def _gap(motion: Motion) -> np.ndarray:
    assert motion.weights is not None
    return motion.template.gap_mm(motion.weights)


def _faces(animator: Animator, clips: list[Utterance]) -> dict[str, float]:
    template = animator.template
    lips = template.regions["lips"]
    gaps: list[tuple[np.ndarray, np.ndarray]] = []
    widths: list[tuple[np.ndarray, np.ndarray]] = []
    errors, closed, lowest = [], [], []
    for clip in clips:
        assert clip.weights is not None
        whole = animator.animate(clip.samples(), SAMPLE_RATE)
        real = Motion(template, FACE_FPS, clip.weights)
        motion = whole.at(np.arange(len(real)) / FACE_FPS, FACE_FPS)
        gaps.append((_gap(motion), _gap(real)))
        assert motion.weights is not None
        widths.append((template.width_mm(motion.weights), template.width_mm(clip.weights)))
        errors.append(
            1000 * metrics.lip_vertex_error(motion.vertices()[:, lips], real.vertices()[:, lips])
        )
        closed += metrics.closures(_gap(whole), whole.fps, clip.phones)
        lowest.append(_gap(whole).min())
    own, real_gap = (np.concatenate(side) for side in zip(*gaps, strict=True))
    width = [np.concatenate(side) for side in zip(*widths, strict=True)]
    return {
        "grid clips": len(clips),
        "grid gap correlation, all frames": metrics.gap_correlation(own, real_gap),
        "grid gap correlation, mean of clips": float(
            np.mean([metrics.gap_correlation(*pair) for pair in gaps])
        ),
        "grid lip vertex error, mm": float(np.mean(errors)),
        "grid amplitude": metrics.amplitude(own, real_gap),
        "grid width correlation": float(np.corrcoef(*width)[0, 1]),
        "grid p/b/m closed": float(np.mean(closed)),
        "grid deepest overlap, mm": float(-np.min(lowest)),
    }


def _phones(animator: Animator, clips: list[Utterance], kind: str) -> dict[str, float]:
    closed, false, pauses, moves = [], [], [], []
    for clip in clips:
        motion = animator.animate(clip.samples(), SAMPLE_RATE)
        gap = _gap(motion)
        closed += metrics.closures(gap, motion.fps, clip.phones)
        false += metrics.false_closures(gap, motion.fps, clip.phones)
        pauses.append(metrics.gap_in_pauses(gap, motion.fps, clip.phones))
        moves.append(np.maximum(gap, 0).std())
    table = {
        f"{kind} clips": len(clips),
        f"{kind} p/b/m closed": float(np.mean(closed)),
        f"{kind} open vowels falsely closed": float(np.mean(false)),
        f"{kind} gap deviation, mm": float(np.mean(moves)),
    }
    if kind == "tts":  # elsewhere the pauses are not aligned well enough
        table[f"{kind} gap in pauses, mm"] = float(np.concatenate(pauses).mean())
    return table


def _silence(animator: Animator, recorded: list[Utterance]) -> dict[str, float]:
    rng = np.random.default_rng(0)
    count = 8 * SAMPLE_RATE
    sounds = {"digital silence": np.zeros(count, np.float32)}
    sounds["white noise"] = rng.standard_normal(count).astype(np.float32)
    # A room as recorded: what is heard before the first word, strung together.
    rooms = [
        clip.samples()[1600 : int(clip.phones[0][2] * SAMPLE_RATE) - 3200]
        for clip in recorded
        if clip.phones and clip.phones[0][0] == "SIL" and clip.phones[0][2] > 0.5
    ]
    if rooms:
        sounds["room noise"] = np.resize(np.concatenate(rooms), count)
    table = {}
    for name, samples in sounds.items():
        power = samples.std()
        if power > 0:
            samples = samples / power * np.float32(10 ** (NOISE_LEVEL / 20))
        gap = _gap(animator.animate(samples, SAMPLE_RATE))
        table[f"gap in {name}, mm"] = float(np.maximum(gap, 0).mean())
        table[f"jitter in {name}, mm"] = metrics.jitter(gap, animator.fps)
    return table


def speed(animator: Animator, clip: Utterance) -> float:
    """Seconds of sound animated per second, best of three, the model loaded."""
    samples = clip.samples()
    animator.animate(samples, SAMPLE_RATE)
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        animator.animate(samples, SAMPLE_RATE)
        taken.append(time.perf_counter() - begin)
    return len(samples) / SAMPLE_RATE / min(taken)


def main(arguments: list[str] | None = None) -> int:
    """The command `selftalk evaluate`."""
    parser = argparse.ArgumentParser(prog="selftalk evaluate", description=__doc__)
    parser.add_argument("config", help="the training run's TOML file (data and split)")
    parser.add_argument("--animator", type=Path, help="animator file; the bundled one by default")
    parser.add_argument("--json", type=Path, help="write the table here too")
    parser.add_argument("--device", help="cpu, cuda, ...")
    options = parser.parse_args(arguments)
    animator = load_animator(options.animator, options.device)
    held_out = [
        u for u in load_corpus(load_config(options.config), animator.template) if u.held_out
    ]
    if not held_out:
        raise SelfTalkError(
            "The configuration holds no clips out: there is nothing to evaluate on."
        )
    table = evaluate(animator, held_out)
    table["times real time"] = speed(animator, max(held_out, key=lambda u: u.kind == "libri"))
    for name, value in table.items():
        print(f"{name:40s} {value:8.3f}")
    if options.json:
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps(table, indent=1) + "\n")
    return 0
