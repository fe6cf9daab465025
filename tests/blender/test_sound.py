"""Sound by Blender's own decoders: every kind, in parts, at its time; broken ones in words."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from animators import stand_in
from pace import paced, quietest
from scenes import patiently

from selftalk_blender.animator.audio import read_sound
from selftalk_blender.blender import compat, hearing, sound
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.resample import resampled
from selftalk_blender.core.template import ASSETS
from selftalk_blender.core.wav import open_wav

pytestmark = pytest.mark.skipif(
    not compat.HAS_SOUND, reason="this Blender is built without sound: WAV files alone are read"
)

SECONDS = 13.0  # some parts


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """(n,) at 48 kHz: the sample clip, again and again, with digital silence from 7 to 10 s."""
    import aud

    clip = aud.Sound(str(ASSETS / "sample.ogg"))
    samples, rate = np.asarray(clip.data())[:, 0], clip.specs[0]
    samples = np.interp(np.arange(round(SECONDS * 48000)) / 48000 % (len(samples) / rate),
                        np.arange(len(samples)) / rate, samples)  # fmt: skip
    samples[7 * 48000 : 10 * 48000] = 0.0
    return samples.astype(np.float32)


def encoded(path: Path, samples: np.ndarray) -> Path:
    """Stereo in the container and codec of its suffix, by Blender; mp4 and m4a by FFmpeg."""
    import aud

    both = np.stack([samples, 0.5 * samples], 1)
    if path.suffix in (".m4a", ".mp4"):
        return by_ffmpeg(path, both, video=path.suffix == ".mp4")
    container, codec = KINDS[path.suffix[1:]]
    aud.Sound.buffer(both, 48000).write(
        str(path), 48000, aud.CHANNELS_STEREO, aud.FORMAT_S16,
        getattr(aud, f"CONTAINER_{container}"), getattr(aud, f"CODEC_{codec}"), 192000, 4096,
    )  # fmt: skip
    return path


def by_ffmpeg(path: Path, samples: np.ndarray | None, video: bool) -> Path:
    av = pytest.importorskip("av", reason="encodes the sounds; it is in 5.0's environment")
    with av.open(str(path), "w") as container:
        if samples is not None:
            stream = container.add_stream("aac", rate=48000)
            stream.layout = "stereo"
        if video:
            picture = container.add_stream("mpeg4", rate=25)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
            for index in range(round(SECONDS * 25)):
                image = av.VideoFrame(64, 64, "yuv420p")
                image.pts, image.time_base = index, Fraction(1, 25)
                container.mux(picture.encode(image))
            container.mux(picture.encode())
        if samples is not None:
            frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "flt", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return path


KINDS = {
    "flac": ("FLAC", "FLAC"), "mp3": ("MP3", "MP3"), "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"), "mkv": ("MATROSKA", "AAC"), "m4a": None, "mp4": None,
}  # fmt: skip


def written(clip: Path, start: float = 0, stop: float | None = None) -> np.ndarray:
    path = clip.with_name("written.wav")

    def longest_turn() -> float:
        notices: list[str] = []
        longest = max(turn for turn, _ in paced(sound.write_wav(clip, start, stop, path, notices)))
        assert notices == []
        return longest

    assert quietest(longest_turn, 0.05) < 0.05
    return np.concatenate([np.zeros(0, np.float32), *open_wav(path).blocks()])


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_the_whole(tmp_path: Path, speech: np.ndarray, kind: str) -> None:
    """As Blender decodes the whole file at once, mixed down and brought to 16 kHz."""
    import aud

    clip = encoded(tmp_path / f"ä #1.{kind}", speech)
    ours = written(clip)
    whole = np.asarray(aud.Sound(str(clip)).data()).mean(1, dtype=np.float32)
    wanted = np.concatenate(list(resampled(iter([whole]), 48000)))
    if kind in ("mkv", "m4a", "mp4"):  # AAC: its decoder makes up a little noise, each time another
        for second in (0, 1, 3, 4, 5, 6, 11):
            at = slice(16000 * second, 16000 * second + 16000)
            assert abs(lag(ours[at], wanted[at])) <= 16, f"1 ms off in second {second}"
    else:
        assert abs(len(ours) - len(wanted)) <= 1
        count = min(len(ours), len(wanted))
        np.testing.assert_allclose(ours[:count], wanted[:count], atol=1e-5)
        np.testing.assert_allclose(written(clip, 3, 8.5), wanted[48000:136000], atol=1e-5)
    if find_spec("av") is None:
        return
    # And when the animator's own libraries hear it. Blender plays AAC in Matroska a block late.
    late = lag(ours[:64000], read_sound(clip)[:64000])
    assert abs(late - (341 if kind == "mkv" else 0)) <= 32, "2 ms apart"


def lag(ours: np.ndarray, theirs: np.ndarray) -> int:
    """Samples by which ours comes late."""
    size = 1 << (len(ours) + len(theirs)).bit_length()
    product = np.fft.rfft(ours, size) * np.conj(np.fft.rfft(theirs, size))
    return (int(np.argmax(np.fft.irfft(product))) + size // 2) % size - size // 2


def test_a_part_far_into_a_file_begins_by_a_seek(
    tmp_path: Path, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound, "NEAR", 1.0)
    clip = encoded(tmp_path / "a.flac", speech)
    ours = written(clip, 3, 6)
    np.testing.assert_allclose(ours[100:], written(clip)[48100:96000], atol=1e-5)


def test_parts_are_joined_where_they_repeat() -> None:
    samples = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    before, part = samples[1000:2000], samples[900:4000]
    for expected in (1100, 1000, 1300, 1900):
        assert sound.joined_at(before, part, expected, 1000) == 1100
    assert sound.joined_at(before, part, 2500, 1000) == 2500  # nothing is repeated there
    noise = 0.1 * np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    assert sound.joined_at(before + noise, part, 1130, 1000) == 1100
    silence = np.zeros(3000, np.float32)
    assert sound.joined_at(silence[:100], silence, 700, 1000) == 700
    assert sound.joined_at(silence[:100], silence[:50], 700, 1000) == 50
    assert sound.joined_at(silence[:0], silence, 700, 1000) == 700
    assert sound.quiet_end(np.array([0, 1, 0, 0])) == 2
    assert sound.quiet_end(np.array([0, 1])) == sound.quiet_end(silence) == 0


def broken(path: Path, speech: np.ndarray, kind: str) -> Path:
    data = {
        "text.ogg": b"Dear diary, " * 99,
        "text.mp3": b"Dear diary, " * 9999,  # ends Blender if its samples are asked for
        "zeros.mp3": bytes(99999),
        "empty.ogg": b"",
    }
    clip = path / kind
    if kind in data:
        clip.write_bytes(data[kind])
    elif kind == "film.mp4":
        by_ffmpeg(clip, None, video=True)
    elif kind == "folder.ogg":
        clip.mkdir()
    elif kind != "none.ogg":
        whole = encoded(path / f"whole.{kind.partition('.')[2]}", speech)
        clip.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return clip


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text.ogg", "no sound that Blender can play"), ("film.mp4", "no sound that Blender can"),
        ("text.mp3", "no sound that Blender can play"), ("zeros.mp3", "no sound that Blender can"),
        ("empty.ogg", "is empty"), ("folder.ogg", "is a folder"), ("none.ogg", "There is no file"),
        ("half.m4a", "no sound that Blender can play"),
        ("half.flac", r"ends at .* although it should last 13\.0 s"),
        ("half.mkv", "ends at 0.0 s although|ends at .* although"),
    ],
)  # fmt: skip
def test_a_broken_file_gets_a_sentence(
    tmp_path: Path, speech: np.ndarray, kind: str, words: str
) -> None:
    clip = broken(tmp_path, speech, kind)
    with pytest.raises(SelfTalkError, match=words):
        for _ in patiently(hearing.listen(clip, python=stand_in(tmp_path))):
            pass


def test_a_file_that_may_be_longer_than_it_is_gets_a_notice(
    tmp_path: Path, speech: np.ndarray
) -> None:
    """The length of an MP3 is an estimate."""
    clip, notices = tmp_path / "half.mp3", []
    encoded(tmp_path / "whole.mp3", speech)
    data = (tmp_path / "whole.mp3").read_bytes()
    clip.write_bytes(data[: len(data) // 2])
    assert list(sound.write_wav(clip, 0, None, tmp_path / "a.wav", notices))[-1] > 0.3
    assert len(notices) == 1 and "half.mp3 ends at" in notices[0]


def test_wav_files_are_left_to_the_animator(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile", reason="writes a file; it is in 5.0's environment")
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 8000)
    assert not sound.needs_reading(tmp_path / "a.wav")
    soundfile.write(tmp_path / "phone.wav", np.zeros(16000), 8000, subtype="ALAW")
    assert sound.needs_reading(tmp_path / "phone.wav")
    assert len(written(tmp_path / "phone.wav")) == 32000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    made = tmp_path / "temporary"
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    return made


def test_nothing_is_left_behind(tmp_path: Path, speech: np.ndarray, folder: Path) -> None:
    """Neither by a job that is done nor by one that is cancelled while it reads."""
    clip = encoded(tmp_path / "a.flac", speech)
    listening = hearing.listen(clip, python=stand_in(tmp_path))
    assert next(listening).text.startswith("Reading the sound")
    assert len(list(folder.iterdir())) == 1
    listening.close()
    assert list(folder.iterdir()) == []
    for _ in patiently(hearing.listen(clip, python=stand_in(tmp_path))):
        pass
    assert [path for path in folder.iterdir() if path.suffix == ".wav"] == []


def test_the_end_of_one_sound_leaves_the_next_one_which_is_read_ahead(
    tmp_path: Path, speech: np.ndarray, folder: Path
) -> None:
    clip = encoded(tmp_path / "a.flac", speech[:48000])
    first, second = (hearing.listen(clip, python=stand_in(tmp_path)) for _ in range(2))
    assert next(first).text.startswith("Reading the sound")
    while not next(second).waiting:
        pass
    first.close()
    assert len(list(folder.glob("*/sound.wav"))) == 1
    second.close()
    assert not list(folder.glob("*/sound.wav"))


def test_a_full_disk_is_told_of(
    full_disk: Path, tmp_path: Path, speech: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    clip = encoded(tmp_path / "a.flac", speech)
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    with pytest.raises(SelfTalkError, match="cannot be written out for the animator: No space"):
        for _ in patiently(hearing.listen(clip, python=stand_in(tmp_path))):
            pass
    assert list(full_disk.iterdir()) == []
