"""The recordings that the bundled animator learns from, and their split.

Three kinds: `grid` has a face (shape weights at 25 fps) and phones, `tts` is synthetic speech
with exact phone times, `libri` is real speech of many voices with roughly aligned phones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..animator.audio import read_sound
from ..core import FaceTemplate
from ..core.errors import SelfTalkError
from .config import TrainConfig

FACE_FPS = 25.0
Phone = tuple[str, float, float]  # ARPAbet or SIL, start and end in seconds


@dataclass(frozen=True, eq=False)
class Utterance:
    """One recording.

    Attributes:
        name: unique.
        kind: grid, tts or libri.
        voice: who speaks.
        path: sound file.
        phones: in order; empty where unknown.
        weights: (T, K) at 25 fps, or None.
        held_out: for validation, never trained on.
    """

    name: str
    kind: str
    voice: str
    path: Path
    phones: tuple[Phone, ...]
    weights: np.ndarray | None
    held_out: bool

    def samples(self) -> np.ndarray:
        """(N,) float32 at 16 kHz."""
        return read_sound(self.path)


def load_corpus(config: TrainConfig, template: FaceTemplate) -> list[Utterance]:
    """All recordings, sorted by name, with their part in the split.

    Raises:
        SelfTalkError: a folder is missing.
    """
    data = Path(config.data)
    if not data.is_dir():
        raise SelfTalkError(f"There is no training data at {data}; set SELFTALK_SHARED.")
    return [*_grid(data, config, template), *_tts(data, config), *_libri(data, config)]


def _phones(rows: list[list[object]]) -> tuple[Phone, ...]:
    return tuple((str(p), float(a), float(b)) for p, a, b in rows)  # type: ignore[arg-type]


def _grid(data: Path, config: TrainConfig, template: FaceTemplate) -> list[Utterance]:
    card = json.loads((data / "makehuman/grid_s1.json").read_text("utf-8"))
    phones = json.loads((data / "grid_s1/phones.json").read_text("utf-8"))
    if tuple(card["shape_names"]) != template.shape_names:
        raise SelfTalkError("The recorded faces use other shapes than the bundled head.")
    with np.load(data / "makehuman/grid_s1_weights.npz", allow_pickle=False) as file:
        faces = {name: file[name].astype(np.float32) for name in sorted(file.files)}
    kept = [name for name in faces if name not in card["excluded"]]
    # Equal distances: neighbours in the list share words, and every word is met in both parts.
    chosen = np.linspace(0, len(kept) - 1, config.validation_clips).round().astype(int)
    held_out = {kept[i] for i in chosen}
    return [
        Utterance(
            name, "grid", "s1", data / f"grid_s1/audio/{name}.flac",
            _phones(phones.get(name, [])), faces[name], name in held_out,
        )
        for name in kept
    ]  # fmt: skip


def _tts(data: Path, config: TrainConfig) -> list[Utterance]:
    utterances = []
    for path in sorted((data / "tts").glob("*.ogg")):
        card = json.loads(path.with_suffix(".json").read_text("utf-8"))
        utterances.append(
            Utterance(
                path.stem, "tts", card["voice"], path, _phones(card["phones"]), None,
                card["voice"] in config.held_out_voices,
            )
        )  # fmt: skip
    return utterances


def _libri(data: Path, config: TrainConfig) -> list[Utterance]:
    cards = json.loads((data / "librispeech/transcripts.json").read_text("utf-8"))
    paths = sorted((data / "librispeech").glob("*.flac"))
    voices = sorted({path.stem.split("-")[0] for path in paths})
    chosen = np.linspace(0, len(voices) - 1, config.validation_readers).round().astype(int)
    held_out = {voices[i] for i in chosen}
    return [
        Utterance(
            path.stem, "libri", path.stem.split("-")[0], path,
            _phones(cards.get(path.stem, {}).get("phones", [])), None,
            path.stem.split("-")[0] in held_out,
        )
        for path in paths
    ]  # fmt: skip
