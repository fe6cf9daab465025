"""WAV files in numpy alone: every kind of samples as libsndfile reads them, and broken ones."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.wav import NotWavError, open_wav

soundfile = pytest.importorskip("soundfile", reason="reads and writes for comparison")
SOUND = np.random.default_rng(0).uniform(-0.9, 0.9, (40000, 2)).astype(np.float32)


def read(path: Path, start: float = 0.0, stop: float | None = None) -> np.ndarray:
    blocks = open_wav(path).blocks(start, stop, 0.3)
    return np.concatenate([np.zeros(0, np.float32), *blocks])


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64"])
@pytest.mark.parametrize("samples", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_samples_are_those_of_libsndfile(
    tmp_path: Path, kind: str, samples: str, channels: int
) -> None:
    path = tmp_path / "a.wav"
    sound = np.repeat(SOUND, 3, axis=1)[:, :channels]
    soundfile.write(path, sound, 16000, subtype=samples, format=kind)
    wanted = soundfile.read(path, dtype="float32", always_2d=True)[0].mean(1)
    np.testing.assert_allclose(read(path), wanted, atol=1e-7)
    np.testing.assert_array_equal(read(path, 0.5, 2.0), read(path)[8000:32000])


def test_floats_at_16_khz_come_through_bit_by_bit(tmp_path: Path) -> None:
    """As Blender's side writes them."""
    soundfile.write(tmp_path / "a.wav", SOUND[:, 0], 16000, subtype="FLOAT")
    np.testing.assert_array_equal(read(tmp_path / "a.wav"), SOUND[:, 0])


def wav(*chunks: tuple[bytes, bytes], form: bytes = b"RIFF") -> bytes:
    body = b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for name, data in chunks
    )
    return form + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def described(kind: int = 1, channels: int = 1, rate: int = 16000, bits: int = 16) -> bytes:
    frame = channels * bits // 8
    return struct.pack("<HHIIHH", kind, channels, rate, rate * frame, frame, bits)


NOISE = (b"data", np.arange(16000, dtype="<i2").tobytes())
FORMAT = (b"fmt ", described())
BROKEN = {
    "text": (b"Dear diary, " * 9, NotWavError, "not a WAV"),
    "another": (wav(FORMAT, NOISE, form=b"FORM"), NotWavError, "not a WAV"),
    "no format": (wav(NOISE), NotWavError, "no format"),
    "cut format": (wav((b"fmt ", described()[:10]), NOISE), NotWavError, "no format"),
    "compressed": (wav((b"fmt ", described(6, bits=8)), NOISE), NotWavError, "compressed"),
    "half floats": (wav((b"fmt ", described(3)), NOISE), NotWavError, "16 bits"),
    "no channels": (wav((b"fmt ", described(channels=0)), NOISE), SelfTalkError, "0 channels"),
    "no rate": (wav((b"fmt ", described(rate=0)), NOISE), SelfTalkError, "0 Hz"),
    "slow": (wav((b"fmt ", described(rate=10)), NOISE), SelfTalkError, "10 Hz"),
    "no sound": (wav(FORMAT, (b"data", b"")), SelfTalkError, "header but no sound"),
    "no samples": (wav(FORMAT, (b"LIST", b"abc")), SelfTalkError, "header but no sound"),
    "cut short": (wav(FORMAT, NOISE)[:-20000], SelfTalkError, r"ends at 0\.4 s although .* 1\.0 s"),
    "empty": (b"", SelfTalkError, "is empty"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_gets_a_sentence(tmp_path: Path, name: str) -> None:
    data, kind, words = BROKEN[name]
    path = tmp_path / f"{name}.wav"
    path.write_bytes(data)
    with pytest.raises(kind, match=words) as caught:
        read(path)
    assert name in str(caught.value) and type(caught.value) is kind


def test_other_chunks_and_unfinished_lengths_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    whole = wav((b"JUNK", b"abc"), FORMAT, (b"LIST", bytes(5)), NOISE, (b"id3 ", b"x"))
    path.write_bytes(whole)
    assert len(read(path)) == 16000
    streamed = wav(FORMAT, NOISE)
    path.write_bytes(streamed.replace(struct.pack("<I", 32000), b"\xff\xff\xff\xff"))
    assert len(read(path)) == 16000
    path.write_bytes(streamed[:-1])  # a frame that is not whole is left out
    assert len(read(path)) == 15999


def test_a_file_cut_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(FORMAT, NOISE))
    sound = open_wav(path)
    path.write_bytes(wav(FORMAT, NOISE)[:100])
    with pytest.raises(SelfTalkError, match="ends at"):
        list(sound.blocks())
