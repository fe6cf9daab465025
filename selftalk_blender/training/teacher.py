"""What frozen networks hear in a clip, from the disk if known.

The speech recogniser gives features and a text. It is frozen, so it hears each clip once:
afterwards it need not be in memory, or even there.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers.utils import cached_file

from ..animator.network import SpeechRecogniser, WaveEncoder, greedy_text
from ..core.errors import SelfTalkError
from ..core.files import atomic_path

WEIGHTS = (".json", ".safetensors", ".bin", ".pth", ".pt")  # files that make a recogniser


@dataclass(frozen=True, eq=False)
class Lesson:
    """What the recogniser hears in one clip.

    Attributes:
        features: (S, C) float32, its last layer.
        text: classes of its greedy text, without blanks.
    """

    features: np.ndarray
    text: list[int]


class Teacher:
    """A recogniser that remembers.

    Attributes:
        width: C.
        classes: N.
        blank: class of no letter.
        separator: class of word boundaries, or None.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], SpeechRecogniser],
        folder: str | os.PathLike[str],
        device: torch.device,
        separator: int | None = None,
    ) -> None:
        """Args:
        name: tells this recogniser from all others, see `identity`.
        load: reads it; called only when a clip is not known yet.
        folder: where lessons are kept.
        """
        self._load, self._device = load, device
        self._recogniser: SpeechRecogniser | None = None
        self._folder = Path(folder) / name[:16]
        self.separator = separator
        facts = self._folder / "recogniser.json"
        if not facts.exists():
            config = self._loaded().model.config
            sizes = {
                "width": config.hidden_size,
                "classes": config.vocab_size,
                "blank": config.pad_token_id or 0,
            }
            with atomic_path(facts) as temporary:
                temporary.write_text(json.dumps(sizes), "utf-8")
        sizes = json.loads(facts.read_text("utf-8"))
        self.width, self.classes = int(sizes["width"]), int(sizes["classes"])
        self.blank = int(sizes["blank"])

    def _loaded(self) -> SpeechRecogniser:
        if self._recogniser is None:
            self._recogniser = self._load().to(self._device)
        return self._recogniser

    def forget(self) -> None:
        """Give the recogniser's memory back; what it heard stays known."""
        self._recogniser = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def lesson(self, samples: np.ndarray) -> Lesson:
        """What the recogniser hears in samples (L,) at 16 kHz.

        Raises:
            SelfTalkError: the recogniser is needed and cannot be read, or the disk is full.
        """
        lesson = remembered(self._folder / f"{fingerprint(samples)}.npz", self._hear, samples)
        return Lesson(lesson["features"].astype(np.float32), lesson["text"].tolist())

    def _hear(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        recogniser = self._loaded()
        sound = WaveEncoder(recogniser.model.base_model).prepare(samples).to(self._device)
        features, logits = recogniser([sound])  # (1, S, C), (1, S, N)
        text = greedy_text(logits[0], self.blank, self.separator)
        # Half precision is far finer than the lip reader will ever match them.
        half = features[0].cpu().numpy().astype(np.float16)
        return {"features": half, "text": np.array(text, np.int64)}


def fingerprint(samples: np.ndarray) -> str:
    """A hash of samples, for the name of a file."""
    return hashlib.sha256(np.ascontiguousarray(samples, np.float32).tobytes()).hexdigest()[:32]


def remembered(
    path: Path, make: Callable[[np.ndarray], dict[str, np.ndarray]], samples: np.ndarray
) -> dict[str, np.ndarray]:
    """Arrays from a file, which is made of the samples if it is not there.

    Raises:
        SelfTalkError: the file is damaged, or the disk is full.
    """
    if not path.exists():
        made = make(samples)
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **made)  # type: ignore[arg-type]
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise SelfTalkError(f"{path} is damaged; remove it.") from error


def identity(source: str | os.PathLike[str]) -> str:
    """A hash of what a recogniser is made of: its files' contents; of a hub name the name."""
    path = Path(source)
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(path.glob("*")) if path.is_dir() else []
    for file in files:
        if file.suffix in WEIGHTS:
            digest.update(file.name.encode())
            with open(file, "rb") as opened:
                digest.update(hashlib.file_digest(opened, "sha256").digest())
    if not files:
        digest.update(str(source).encode())
    return digest.hexdigest()


def word_separator(source: str | os.PathLike[str], network: bool = False) -> int | None:
    """The class of word boundaries ("|"), from a recogniser's vocab.json; None where unknown.

    Not from its tokenizer, which makes up a class for what the vocabulary lacks.

    Args:
        source: a folder; or a hub name, whose file is taken from the cache on this machine, or
            where there is none and `network` allows it, from the hub.
    """
    for offline in (True, False) if network else (True,):
        try:
            found = cached_file(str(source), "vocab.json", local_files_only=offline)
            separator = json.loads(Path(found or "").read_text("utf-8")).get("|")
            return None if separator is None else int(separator)
        except (OSError, ValueError, TypeError, AttributeError):
            continue  # no such file, or a vocabulary of another kind
    return None
