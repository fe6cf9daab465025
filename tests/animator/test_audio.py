"""Sound files: every common kind, at its right time, in little memory; broken ones in words."""

from __future__ import annotations

import os
import sys
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from selftalk_blender.animator.audio import open_sound, to_mono_16k
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.frontend import SAMPLE_RATE

CLICK = 2.5  # seconds
LENGTH = 4.0


def sound_with_click(rate: int) -> np.ndarray:
    """(n,) quiet noise with 4 ms of a loud 1500 Hz tone that begins at CLICK."""
    samples = np.random.default_rng(0).standard_normal(round(LENGTH * rate)).astype(np.float32)
    samples *= 1e-3
    time = np.arange(round(0.004 * rate)) / rate
    begin = round(CLICK * rate)
    tone = 0.8 * np.sin(2 * np.pi * 1500 * time) * np.hanning(len(time))
    samples[begin : begin + len(time)] += tone.astype(np.float32)
    return samples


def read(path: Path, start: float = 0.0, stop: float | None = None) -> np.ndarray:
    blocks = list(open_sound(path).blocks(start, stop, seconds=0.7))
    assert all(block.dtype == np.float32 and block.ndim == 1 for block in blocks)
    assert all(len(block) == round(0.7 * SAMPLE_RATE) for block in blocks[:-1])
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def click_in(samples: np.ndarray) -> float:
    """Seconds at which the click begins."""
    energy = np.convolve(samples.astype(np.float64) ** 2, np.ones(64), "same")
    return float(np.argmax(energy)) / SAMPLE_RATE - 0.002


def by_libsndfile(path: Path, rate: int, channels: int = 1, **how: str) -> None:
    samples = sound_with_click(rate)
    soundfile.write(path, np.repeat(samples[:, None], channels, 1), rate, **how)


def by_ffmpeg(path: Path, codec: str, rate: int, layout: str = "mono", video: str = "") -> None:
    mono = sound_with_click(rate)
    samples = np.repeat(mono, av.AudioLayout(layout).nb_channels)[None]  # interleaved
    with av.open(str(path), "w") as container:
        if video:
            picture = container.add_stream(video, rate=25)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
        stream = container.add_stream(codec, rate=rate)
        stream.layout = layout
        if video:
            for index in range(int(LENGTH * 25)):
                image = av.VideoFrame(64, 64, "yuv420p")
                image.pts, image.time_base = index, Fraction(1, 25)
                container.mux(picture.encode(image))
            container.mux(picture.encode())
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


KINDS: dict[str, Callable[[Path], None]] = {
    **{f"{rate}.wav": lambda path, rate=rate: by_libsndfile(path, rate)
       for rate in (8000, 11025, 16000, 44100, 48000, 96000, 192000)},
    **{f"{kind}.wav": lambda path, kind=kind: by_libsndfile(path, 44100, subtype=kind)
       for kind in ("PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")},
    **{f"{channels}.wav": lambda path, channels=channels: by_libsndfile(path, 48000, channels)
       for channels in (2, 6, 8)},
    "a.flac": lambda path: by_libsndfile(path, 44100, 2),
    "44.mp3": lambda path: by_libsndfile(path, 44100, 2),
    "16.mp3": lambda path: by_libsndfile(path, 16000),
    "ffmpeg.mp3": lambda path: by_ffmpeg(path, "libmp3lame", 44100),
    "vorbis.ogg": lambda path: by_libsndfile(path, 44100, subtype="VORBIS"),
    "opus.ogg": lambda path: by_libsndfile(path, 48000, format="OGG", subtype="OPUS"),
    "aac.m4a": lambda path: by_ffmpeg(path, "aac", 44100, "stereo"),
    "16.m4a": lambda path: by_ffmpeg(path, "aac", 16000),
    "alac.m4a": lambda path: by_ffmpeg(path, "alac", 44100),
    "aac.mp4": lambda path: by_ffmpeg(path, "aac", 48000, "stereo", "mpeg4"),
    "mp3.mp4": lambda path: by_ffmpeg(path, "libmp3lame", 44100, video="mpeg4"),
    "aac.mkv": lambda path: by_ffmpeg(path, "aac", 48000, video="mpeg4"),
    "opus.webm": lambda path: by_ffmpeg(path, "libopus", 48000, video="libvpx"),
    "pcm.mov": lambda path: by_ffmpeg(path, "pcm_s16le", 48000, "7.1", "mpeg4"),
    "m4a named.wav": lambda path: by_ffmpeg(path.with_suffix(".m4a"), "aac", 44100) or
    path.with_suffix(".m4a").rename(path),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_click_keeps_its_time(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"ä b#1 {kind}"
    KINDS[kind](path)
    whole = read(path)
    assert open_sound(path).duration == pytest.approx(LENGTH, abs=0.05)
    assert len(whole) / SAMPLE_RATE == pytest.approx(LENGTH, abs=0.05)
    assert click_in(whole) == pytest.approx(CLICK, abs=0.005)
    assert np.abs(whole).max() == pytest.approx(0.8, rel=0.2)
    for start, stop in ((0.7, 3.3), (2.345, 2.6), (1.123, None)):
        part = read(path, start, stop)
        assert click_in(part) + start == pytest.approx(CLICK, abs=0.005)
        if stop is not None:
            assert len(part) == pytest.approx((stop - start) * SAMPLE_RATE, abs=1)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 192000])
def test_parts_blocks_and_arrays_are_the_same_sound(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "stereo.wav"
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, (round(4.3 * rate), 2))
    samples = samples.astype(np.float32)
    soundfile.write(path, samples, rate, subtype="FLOAT")
    whole = to_mono_16k(samples, rate)
    assert len(whole) == pytest.approx(4.3 * SAMPLE_RATE, abs=1)
    np.testing.assert_allclose(read(path), whole, atol=1e-6)
    sound = open_sound(path)
    assert (sound.sample_rate, sound.channels) == (rate, 2)
    np.testing.assert_array_equal(np.concatenate(list(sound.blocks())), read(path))
    for start, stop in ((0.5, 1.5), (2.7113, 4.0), (3.9, None), (4.29, 60.0)):
        first = round(start * SAMPLE_RATE)
        last = len(whole) if stop is None else round(stop * SAMPLE_RATE)
        np.testing.assert_allclose(read(path, start, stop), whole[first:last], atol=2e-4)
    assert len(read(path, 5.0)) == 0
    assert len(read(path, 2.0, 2.0)) == 0


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_very_short_sounds(rate: int) -> None:
    for count in (0, 1, 2, 5, 100):
        short = to_mono_16k(np.ones(count, np.float32), rate)
        assert len(short) == pytest.approx(count * SAMPLE_RATE / rate, abs=1)


def test_a_gap_in_a_recording_is_silence(tmp_path: Path) -> None:
    path = tmp_path / "gap.mkv"
    tone = np.full((1, 48000), 0.5, np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=48000)
        stream.layout = "mono"
        for second in (0, 3):
            frame = av.AudioFrame.from_ndarray(
                (tone * 32767).astype(np.int16), format="s16", layout="mono"
            )
            frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
            frame.pts = second * 48000
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    whole = read(path)
    assert len(whole) / SAMPLE_RATE == pytest.approx(4.0, abs=0.01)
    level = np.abs(whole).reshape(-1, 1600).mean(1)
    np.testing.assert_allclose(level[[5, 15, 25, 35]], [0.5, 0, 0, 0.5], atol=0.01)
    np.testing.assert_allclose(np.abs(read(path, 3.2, 3.9)).mean(), 0.5, atol=0.01)


def wav_bytes(tmp_path: Path) -> bytes:
    by_libsndfile(tmp_path / "good.wav", 16000, subtype="PCM_16")
    return (tmp_path / "good.wav").read_bytes()


def m4a_half(tmp_path: Path) -> bytes:
    by_ffmpeg(tmp_path / "good.m4a", "aac", 44100)
    whole = (tmp_path / "good.m4a").read_bytes()
    return whole[: len(whole) // 2]


def coded_half(tmp_path: Path, name: str) -> bytes:
    by_libsndfile(tmp_path / name, 44100)
    whole = (tmp_path / name).read_bytes()
    return whole[: len(whole) // 2]


def junk(tmp_path: Path) -> bytes:
    return np.random.default_rng(1).integers(0, 256, 100_000, np.uint8).tobytes()


BROKEN: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty.wav": (lambda _: b"", "is empty"),
    "text.wav": (lambda _: b"Dear diary, " * 99, "not a sound file"),
    "text.txt": (lambda _: b"Dear diary, " * 99, "not a sound file"),
    "list.m3u8": (lambda _: b"#EXTM3U\n#EXTINF:10\nhttp://localhost/a.mp3\n", "not a sound file"),
    "junk.wav": (junk, "not a sound file"),
    "junk.mp3": (junk, "damaged|no sound|not a sound file"),
    "zeros.mp3": (lambda _: bytes(9999), "not a sound file"),
    "header.wav": (lambda path: wav_bytes(path)[:44], "header but no sound"),
    "cut header.wav": (lambda path: wav_bytes(path)[:20], "not a sound file"),
    "no channels.wav": (
        lambda path: wav_bytes(path)[:22] + bytes(2) + wav_bytes(path)[24:],
        "no sound|channels",
    ),
    "half.wav": (lambda path: wav_bytes(path)[:64000], "ends at 2.0 s although"),
    "half.flac": (lambda path: coded_half(path, "good.flac"), "damaged"),
    "half.mp3": (lambda path: coded_half(path, "good.mp3"), "ends at .* although"),
    "half.m4a": (m4a_half, "not a sound file"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_gets_a_sentence(tmp_path: Path, name: str) -> None:
    make, message = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(make(tmp_path))
    with pytest.raises(SelfTalkError, match=message) as caught:
        list(open_sound(path).blocks())
    assert name in str(caught.value)


def test_missing_file_folder_and_silent_film(tmp_path: Path) -> None:
    with pytest.raises(SelfTalkError, match="There is no file"):
        open_sound(tmp_path / "nothing.wav")
    with pytest.raises(SelfTalkError, match="is a folder"):
        open_sound(tmp_path)
    film = tmp_path / "film.mp4"
    with av.open(str(film), "w") as container:
        picture = container.add_stream("mpeg4", rate=25)
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        container.mux(picture.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(picture.encode())
    with pytest.raises(SelfTalkError, match="has no sound in it"):
        open_sound(film)


def test_an_unfinished_recording_without_a_length_is_read(tmp_path: Path) -> None:
    path = tmp_path / "streamed.wav"
    whole = wav_bytes(tmp_path)
    path.write_bytes(whole[:40] + b"\xff\xff\xff\xff" + whole[44:])
    assert len(read(path)) == LENGTH * SAMPLE_RATE


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_numbers(tmp_path: Path, value: float) -> None:
    samples = sound_with_click(16000)
    samples[20000] = value
    path = tmp_path / "bad.wav"
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    with pytest.raises(SelfTalkError, match=r"not numbers \(at 1\.25 s\)"):
        read(path)
    with pytest.raises(SelfTalkError, match="not numbers"):
        to_mono_16k(samples, 16000)


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((2, 16000), np.float32), 16000, "shape"),
        (np.zeros((9, 0), np.float32), 16000, "no channels"),
        (np.zeros(9, np.int16), 16000, "int16"),
        (np.zeros(9, np.float32), 0, "sample rate"),
        (np.zeros(9, np.float32), float("nan"), "sample rate"),
    ],
)
def test_wrong_arrays_get_a_sentence(samples: np.ndarray, rate: int, message: str) -> None:
    with pytest.raises(SelfTalkError, match=message):
        to_mono_16k(samples, rate)


def test_memory_stays_flat_on_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    minute = np.zeros((60 * 44100, 2), np.int16)
    with soundfile.SoundFile(path, "w", 44100, 2) as file:
        for _ in range(5):
            file.write(minute)
    del minute
    tracemalloc.start()
    assert sum(map(len, open_sound(path).blocks())) == 5 * 60 * SAMPLE_RATE
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6  # the decoded file would be 106 MB


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="names are text here")
def test_a_name_that_is_no_text_is_refused_where_libraries_cannot_read_it(tmp_path: Path) -> None:
    for suffix in ("wav", "flac", "m4a"):
        path = tmp_path / os.fsdecode(b"\xff." + suffix.encode())
        soundfile.write(path.with_name("a.wav"), np.zeros(800), 16000, format="WAV")
        path.with_name("a.wav").rename(path)
        if suffix == "wav":
            assert open_sound(path).duration == 0.05
        else:
            path.write_bytes(b"no WAV file")
            with pytest.raises(SelfTalkError, match="its path is no text in UTF-8"):
                open_sound(path)
