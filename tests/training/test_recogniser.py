"""The speech recogniser's lessons: the same each time, frozen, and read at the right place."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recognisers import TOKENS, write_recogniser

from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.training.corpus import Utterance
from selftalk_blender.training.recogniser import (
    PhoneRecogniser,
    arpabet,
    cached_lessons,
    greedy,
    normalised,
)

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

SHARED = Path(os.environ.get("SELFTALK_SHARED", "../shared"))


def utterance(folder: Path, name: str, samples: np.ndarray) -> Utterance:
    soundfile.write(folder / f"{name}.wav", samples, 16000)
    return Utterance(name, "tts", "v", folder / f"{name}.wav", (), None, False)


@pytest.fixture
def corpus(tmp_path: Path) -> list[Utterance]:
    loud = np.repeat([0.0, 0.5, 0.0, 0.5], [3200, 3200, 1600, 1600])
    return [utterance(tmp_path, "one", loud), utterance(tmp_path, "two", np.full(3200, 0.5))]


def test_lessons_are_computed_once_and_read_by_time(corpus: list[Utterance], tmp_path) -> None:
    recogniser = PhoneRecogniser(write_recogniser(tmp_path / "tiny"))
    told: list[float] = []
    lessons = cached_lessons(recogniser, "tiny", corpus, tmp_path / "cache", told.append)
    assert told == [0.5, 1.0]
    assert lessons.lengths.tolist() == [30, 10]
    assert lessons.classes == len(TOKENS) + 2
    assert lessons.text(lessons.path[:30]) == [2, 2]  # spoken twice, with a pause between
    again = cached_lessons(recogniser, "tiny", corpus, tmp_path / "cache", told.append)
    assert len(told) == 2
    assert np.array_equal(again.features, lessons.features)

    who = np.array([[0, 0, 1, -1]])
    features, path, known = lessons.read(who, np.array([[0.1, 0.3, 0.1, 0.0]]))
    assert path[0].tolist() == [lessons.blank, 2, 2, lessons.blank]
    assert known[0].tolist() == [True, True, True, False]
    assert np.array_equal(features[0, 2], lessons.features[30 + 5])
    beyond = lessons.read(np.array([[0]]), np.array([[9.0]]))[1]
    assert beyond[0, 0] == lessons.path[29]


def test_features_of_a_frame_have_one_size() -> None:
    features = normalised(np.random.default_rng(0).normal(3, 40, (5, 64)).astype(np.float32))
    assert np.allclose(features.mean(-1), 0, atol=1e-5)
    assert np.allclose(features.std(-1), 1, atol=1e-3)


def test_greedy_text_collapses_before_it_removes() -> None:
    assert greedy(np.array([1, 1, 9, 1, 8, 2, 2]), 9, 8) == [1, 1, 2]
    assert arpabet(["b", "ɑ", "ː", "t͡ʃ", "ju"]) == ["B", "AA", "CH", "UW"]


def test_a_missing_recogniser_is_told_of(tmp_path) -> None:
    with pytest.raises(SelfTalkError, match="No speech recogniser"):
        PhoneRecogniser(tmp_path)


def test_the_real_recogniser_hears_words() -> None:
    folder = SHARED / "models/hama-phoneme-ctc"
    clip = Path(__file__).parents[2] / "selftalk_blender/assets/sample.ogg"
    if not folder.is_dir():
        pytest.skip("the recogniser is not here; set SELFTALK_SHARED")
    recogniser = PhoneRecogniser(folder)
    sound = Utterance("sample", "tts", "v", clip, (), None, False)
    features, log_probabilities = recogniser(sound.samples())
    assert features.shape == (len(log_probabilities), 256)
    path = log_probabilities.argmax(-1)
    phones = arpabet([recogniser.tokens[i] for i in greedy(path, recogniser.blank)])
    assert len(phones) > 30
    assert np.allclose(np.exp(log_probabilities).sum(-1), 1, atol=1e-2)
