"""The front end: Whisper's log-mel, streamed, at a level set once for the clip."""

import numpy as np
import pytest

from selftalk_blender.core.frontend import SAMPLE_RATE, Loudness, log_mel, mel_filters, mel_stream

SPEECH = np.random.default_rng(0).normal(0, 0.1, 3 * SAMPLE_RATE).astype(np.float32)


def test_agrees_with_whispers_own_front_end() -> None:
    """Bands and scaling are those that the encoder was trained on (rival: transformers)."""
    rivals = pytest.importorskip("transformers", reason="the rival needs transformers")
    loud = SPEECH / np.abs(SPEECH).max()
    rival = rivals.WhisperFeatureExtractor()(loud, sampling_rate=SAMPLE_RATE, return_tensors="np")
    rival = rival["input_features"][0][:, 5:290]
    own = log_mel(np.pad(loud, 200))[:, 5:290]
    assert np.abs(own - rival).max() < 2e-3


def test_bands_are_those_of_librosa_and_transformers() -> None:
    utils = pytest.importorskip("transformers.audio_utils", reason="the rival is transformers")
    rival = utils.mel_filter_bank(201, 80, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    np.testing.assert_allclose(mel_filters(), rival, atol=1e-7)


def test_pieces_give_the_same_frames_as_the_whole() -> None:
    whole = np.concatenate(list(mel_stream([SPEECH])), axis=1)
    cuts = [0, 1, 320, 1111, 20000, 20001, len(SPEECH)]
    pieces = [SPEECH[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    joined = np.concatenate(list(mel_stream(pieces)), axis=1)
    assert joined.shape == whole.shape
    assert (joined == whole).all()


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 48000])
def test_frames_cover_the_sound(samples: int) -> None:
    mel = np.concatenate(list(mel_stream([SPEECH[:samples]])), axis=1)
    assert mel.shape == (80, 2 * -(-samples // 320))


def gain(*parts: np.ndarray) -> float:
    loudness = Loudness()
    for part in parts:
        loudness.add(part)
    return loudness.gain


def test_level_ignores_pauses_and_knocks_but_not_loudness() -> None:
    alone = gain(SPEECH)
    pause = np.zeros(30 * SAMPLE_RATE, np.float32)
    assert gain(pause, SPEECH, pause) == pytest.approx(alone, rel=0.01)
    knock = SPEECH.copy()
    knock[1000:1200] = 0.99
    assert gain(knock) == pytest.approx(alone, rel=0.1)
    assert gain(SPEECH * 0.25) == pytest.approx(alone * 4, rel=0.02)
    assert gain(SPEECH[:7], SPEECH[7:999], SPEECH[999:]) == pytest.approx(alone, rel=1e-6)
