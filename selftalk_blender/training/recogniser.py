"""What the speech recogniser hears in the corpus: the two upper corners of the diagram.

The bundled animator's recogniser is a small phoneme recogniser kept as ONNX, which takes samples
and gives log-probabilities of phones, 50 times a second. It is frozen, so its features and its
greedy text are computed once for each recording and kept on disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..animator.network import ENCODER_FPS
from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from .corpus import Utterance

MODEL = "asr_waveform_fp16.onnx"
VOCABULARY = "g2p_vocab.json"
# The tensor that the last linear map makes log-probabilities of.
FEATURES = "/acoustic_model/export_attn_layers.1/Add_4_output_0"

ARPABET = dict(
    pair.split(":")
    for pair in (
        "aɪ:AY aʊ:AW a:AA ɑ:AA ɒ:AA æ:AE ʌ:AH ə:AH ɐ:AH ɔ:AO ɛ:EH eə:EH e:EH ɝ:ER ɚ:ER ɜ:ER eɪ:EY "
        "ɪ:IH ɪə:IH ɨ:IH i:IY o:OW oʊ:OW ɔɪ:OY ʊ:UH u:UW ju:UW ʉ:UW b:B t͡ʃ:CH d:D ð:DH f:F g:G ɡ:G "
        "h:HH d͡ʒ:JH k:K kʰ:K l:L ɫ:L m:M n:N ŋ:NG p:P pʰ:P r:R ɹ:R s:S ʃ:SH t:T tʰ:T ɾ:T θ:TH v:V "
        "w:W j:Y z:Z ʒ:ZH"
    ).split()
)


class PhoneRecogniser:
    """A CTC recogniser of phones in ONNX.

    Attributes:
        tokens: what each class stands for; then the word boundary and, last, the blank.
        blank, boundary: their numbers.
    """

    def __init__(self, folder: str | Path) -> None:
        """Load it; the CPU is fast enough (some 80 times real time on one core).

        Raises:
            SelfTalkError: a file or a package is missing.
        """
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            raise SelfTalkError(
                f"The speech recogniser needs {error.name}: pip install onnx onnxruntime."
            ) from error
        try:
            vocabulary = json.loads((Path(folder) / VOCABULARY).read_text("utf-8"))["decoder"]
            model = onnx.load(Path(folder) / MODEL)
        except (OSError, ValueError, KeyError) as error:
            raise SelfTalkError(f"No speech recogniser is at {folder}: {error}.") from error
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(FEATURES))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # more are no faster on so small a model
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self.tokens = [*vocabulary, "|", "_"]
        self.boundary, self.blank = len(vocabulary), len(vocabulary) + 1

    def __call__(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Hear samples (N,), mono, 16 kHz.

        Returns:
            Features (S, C) float32 and log-probabilities (S, N) float32, 50 per second.
        """
        log_probabilities, features = self._session.run(
            ["log_probs", FEATURES],
            {"waveform": samples[None].astype(np.float32),
             "waveform_lengths": np.array([len(samples)], np.int64)},
        )  # fmt: skip
        return features[0].astype(np.float32), log_probabilities[0].astype(np.float32)


@dataclass(frozen=True, eq=False)
class Lessons:
    """What the recogniser makes of each recording of a corpus.

    Attributes:
        features: (N, C) float16 of all recordings in a row; each frame with zero mean, variance 1.
        path: (N,) uint8, the greedy CTC class of each frame.
        starts, lengths: (recordings,) int64, where each begins and how many frames it has.
        classes: how many classes there are.
        blank, boundary: those of no phone.
    """

    features: np.ndarray
    path: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    classes: int
    blank: int
    boundary: int

    def read(self, utterance: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, ...]:
        """Frames of recordings at the given times.

        Args:
            utterance: (B, T) numbers of recordings; negative: nobody speaks.
            time: (B, T) seconds within them.

        Returns:
            Features (B, T, C) float16, path (B, T) uint8 (blank where nobody speaks), and a mask
            (B, T) bool of the frames that are known.
        """
        known = utterance >= 0
        speaker = np.maximum(utterance, 0)
        known &= self.lengths[speaker] > 0
        last = np.maximum(self.lengths[speaker] - 1, 0)
        frame = np.clip(np.round(time * ENCODER_FPS).astype(np.int64), 0, last)
        index = np.where(known, self.starts[speaker] + frame, 0)
        path = np.where(known, self.path[index], np.uint8(self.blank))
        return self.features[index], path, known

    def text(self, path: np.ndarray) -> list[int]:
        """The phones of a path (T,), without word boundaries, which lips do not show."""
        return greedy(path, self.blank, self.boundary)


def greedy(path: np.ndarray, *silent: int) -> list[int]:
    """A CTC path (T,) with repeats collapsed and the silent classes removed."""
    kept = path[np.concatenate([[True], path[1:] != path[:-1]])]
    return [int(token) for token in kept if token not in silent]


def arpabet(tokens: Sequence[str]) -> list[str]:
    """The recogniser's phones in ARPAbet; what has no place there (diacritics) is left out."""
    return [ARPABET[token] for token in tokens if token in ARPABET]


def normalised(features: np.ndarray) -> np.ndarray:
    """(S, C) -> each frame with mean 0 and variance 1."""
    centred = features - features.mean(-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True) + 1e-5)


def cached_lessons(
    recogniser: PhoneRecogniser,
    name: str,
    corpus: Sequence[Utterance],
    cache: Path,
    progress: Callable[[float], None],
) -> Lessons:
    """The recogniser's features and texts of all recordings; computed where the cache lacks them.

    Args:
        name: of the recogniser.
        cache: where files go, named by all that they depend on.
        progress: called with the share done.
    """
    key = json.dumps([name, [utterance.name for utterance in corpus], "lessons 1"])
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    fields = ("features", "path", "lengths")
    paths = {field: cache / f"lessons-{digest}-{field}.npy" for field in fields}
    if not all(path.exists() for path in paths.values()):
        rows: dict[str, list[np.ndarray]] = {field: [] for field in fields}
        for done, utterance in enumerate(corpus):
            features, log_probabilities = recogniser(utterance.samples())
            rows["features"].append(normalised(features).astype(np.float16))
            rows["path"].append(log_probabilities.argmax(-1).astype(np.uint8))
            rows["lengths"].append(np.array([len(features)]))
            progress((done + 1) / len(corpus))
        for field, path in paths.items():
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.save(file, np.concatenate(rows[field]))
    features, path, lengths = (np.load(paths[field]) for field in fields)
    starts = np.cumsum(lengths) - lengths
    return Lessons(
        features, path, starts, lengths, len(recogniser.tokens), recogniser.blank,
        recogniser.boundary,
    )  # fmt: skip
