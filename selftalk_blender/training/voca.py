"""VOCASET, as VOCA's training data download has it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..animator.audio import to_mono_16k
from ..core.errors import SelfTalkError
from ..core.meshes import read_templates
from ..core.pickles import Progress, load_numpy_pickle
from ..core.words import counted
from . import folder as layout
from .takes import Plan, Take, silent, still_packed

# VOCASET's split as its users write it, among them FaceFormer's README: eight subjects to train on,
# two each to validate and to test; of those the sentences 21-40.
SUBJECTS = {
    "train": (
        "FaceTalk_170728_03272_TA", "FaceTalk_170904_00128_TA", "FaceTalk_170725_00137_TA",
        "FaceTalk_170915_00223_TA", "FaceTalk_170811_03274_TA", "FaceTalk_170913_03279_TA",
        "FaceTalk_170904_03276_TA", "FaceTalk_170912_03278_TA",
    ),
    "val": ("FaceTalk_170811_03275_TA", "FaceTalk_170908_03277_TA"),
    "test": ("FaceTalk_170809_00138_TA", "FaceTalk_170731_00024_TA"),
}  # fmt: skip
SENTENCES = {"train": range(1, 41), "val": range(21, 41), "test": range(21, 41)}
FPS = 60.0  # of the recording; every second frame is used
FILES = ("data_verts.npy", "subj_seq_to_idx.pkl", "raw_audio_fixed.pkl", "templates.pkl")


def plan_voca(source: Path, progress: Progress = silent) -> Plan:
    """VOCA's training data: every second frame of the sequences, and the sounds.

    The download holds data_verts.npy (all frames, V, 3), subj_seq_to_idx.pkl (subject -> sentence
    -> frame number -> row there), raw_audio_fixed.pkl (subject -> sentence -> audio and
    sample_rate) and templates.pkl. FLAME's unit is the metre. Two sequences are known to be missing
    (github.com/TimoBolkart/voca/issues/120).

    Raises:
        SelfTalkError: a file is missing or is something else.
    """
    lacking = [name for name in FILES if not (source / name).is_file()]
    if lacking:
        packed = still_packed(source)
        raise SelfTalkError(
            f"{source} lacks {', '.join(lacking)}. "
            + (packed or 'They are in the "Training Data" of https://voca.is.tue.mpg.de.')
        )
    try:
        frames = np.load(source / FILES[0], mmap_mode="r", allow_pickle=False)
        if frames.ndim != 3 or frames.shape[2] != 3:
            raise ValueError(f"its shape is {frames.shape}")
    except (OSError, ValueError) as error:
        raise SelfTalkError(f"{FILES[0]} holds no frames (N, V, 3): {error}.") from error
    rows = load_numpy_pickle(source / FILES[1], progress)
    sounds = load_numpy_pickle(source / FILES[2], progress)
    templates = read_templates(source / FILES[3])
    if not isinstance(rows, dict) or not isinstance(sounds, dict):
        raise SelfTalkError(f"{FILES[1]} or {FILES[2]} is not sorted by subject.")
    plan = Plan("voca", source, FPS / 2, {}, [], "metres", 1000.0)
    missing = []
    for split, subjects in SUBJECTS.items():
        for subject in subjects:
            for number in SENTENCES[split]:
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
                        partial(_sound, sound),
                        partial(_frames, frames, where),
                    )
                )  # fmt: skip
    plan.templates = {take.subject: templates[take.subject] for take in plan.takes}
    if missing:
        plan.notices.append(
            f"Not in the download: {counted(len(missing), 'clip')}: {layout.some(missing)}."
        )
    return plan


def _sound(entry: Any) -> np.ndarray:
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


def _frames(frames: np.ndarray, where: Any) -> np.ndarray:
    """(T, 3V) at half the frame rate; `where` is frame number -> row, or rows in order."""
    if isinstance(where, dict):
        where = [where[number] for number in sorted(where)]
    index = np.asarray(where)
    if index.ndim != 1 or index.dtype.kind not in "iu" or not len(index):
        raise SelfTalkError("its frames are not listed by number.")
    if index.min() < 0 or index.max() >= len(frames):
        raise SelfTalkError(f"its frames lie beyond the {len(frames)} of data_verts.npy.")
    return np.asarray(frames[index[::2]], np.float32).reshape(-1, 3 * frames.shape[1])
