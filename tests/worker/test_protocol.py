"""Messages between Blender and the animator's process: what arrives, and what is turned away."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from selftalk_blender.worker import protocol
from selftalk_blender.worker.protocol import Message, ProtocolError, VersionError, read, write

ROOT = Path(__file__).parents[2]


def through(*args: object, **fields: object) -> Message | None:
    stream = io.BytesIO()
    write(stream, *args, **fields)  # type: ignore[arg-type]
    stream.seek(0)
    message = read(stream)
    assert read(stream) is None
    return message


def raw(header: object, payload: bytes = b"", version: int = protocol.VERSION) -> io.BytesIO:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return io.BytesIO(struct.pack("<3sBI", b"STW", version, len(text)) + text + payload)


def test_fields_and_arrays_arrive_as_they_were() -> None:
    frames = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    empty = np.zeros((0, 52), np.float32)
    message = through(
        "frames", {"a": frames, "b": np.arange(4, dtype=np.int32), "empty": empty}, job=3, clip="ü"
    )
    assert message is not None and message.kind == "frames"
    assert message.fields == {"job": 3, "clip": "ü"}
    np.testing.assert_array_equal(message.arrays["a"], frames)
    np.testing.assert_array_equal(message.arrays["b"], np.arange(4))
    assert message.arrays["empty"].shape == (0, 52)


@pytest.mark.parametrize(
    ("stream", "words"),
    [
        (io.BytesIO(b"Hello, I am a library\n"), "begins with"),
        (io.BytesIO(b"ST"), "begins with"),
        (io.BytesIO(b"STW\x01"), "cut off"),
        (io.BytesIO(struct.pack("<3sBI", b"STW", 1, 1 << 30)), "too long"),
        (raw(b"{"), "not JSON"),
        (raw(b"[" * 100000), "not JSON"),
        (raw(["kind"]), "no kind"),
        (raw({"kind": 3}), "no kind"),
        (raw({"kind": "a", "arrays": ["b"]}), "not one"),
        (raw({"kind": "a", "arrays": {"b": ["|O", [1]]}}), "array b"),
        (raw({"kind": "a", "arrays": {"b": [["<f4"], [1]]}}), "array b"),
        (raw({"kind": "a", "arrays": {"b": ["<f4", [-1]]}}), "array b"),
        (raw({"kind": "a", "arrays": {"b": ["<f4", [True]]}}), "array b"),
        (raw({"kind": "a", "arrays": {"b": ["<f4", [1 << 40, 1 << 40]]}}), "too large"),
        (raw({"kind": "a", "arrays": {"b": ["<f4", [2]]}}, b"1234567"), "cut off"),
    ],
)
def test_garbage_is_told_from_a_message(stream: io.BytesIO, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        read(stream)


def test_another_version_is_told_from_garbage() -> None:
    with pytest.raises(VersionError, match="version 9"):
        read(raw({"kind": "hello"}, version=9))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3),
        np.zeros((4, 4), np.float32).T[:, :2],
        np.array([None]),
        np.zeros(protocol.LARGEST_PAYLOAD // 4 + 1, np.float32),
    ],
)
def test_what_could_not_be_read_is_not_sent(array: np.ndarray) -> None:
    stream = io.BytesIO()
    with pytest.raises(ValueError):
        write(stream, "frames", {"frames": array})
    assert stream.getvalue() == b""


def test_a_python_without_numpy_can_speak() -> None:
    code = (
        "import sys, io; sys.modules['numpy'] = None\n"
        "from selftalk_blender.worker.protocol import read, write\n"
        "s = io.BytesIO(); write(s, 'failed', error='lacks numpy'); s.seek(0)\n"
        "assert read(s).fields['error'] == 'lacks numpy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
