"""Files of ARKit weights and point caches, read by the layout alone."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from selftalk_blender.core import bundled_template
from selftalk_blender.core.curves import write_curves
from selftalk_blender.core.livelink import COLUMNS, write_livelink
from selftalk_blender.core.pc2 import write_pc2
from selftalk_blender.core.timecode import timecode

NAMES = bundled_template().shape_names
WEIGHTS = np.random.default_rng(0).random((5, 52)).astype(np.float32)
HEAD = np.array([[0.1, 0.2, 0.3]] * 5, np.float32)


@pytest.mark.parametrize(
    ("frame", "fps", "expected"),
    [
        (0, 24.0, "00:00:00:00"),
        (25, 24.0, "00:00:01:01"),
        (30, 30 / 1.001, "00:00:01:00"),
        (24 * 60 + 5, 24 / 1.001, "00:01:00:05"),
        (60 * 3600 * 2 + 59, 60.0, "02:00:00:59"),
        (-1, 25.0, "23:59:59:24"),
    ],
)
def test_timecodes_count_frames(frame, fps, expected) -> None:
    assert timecode(frame, fps) == expected


def test_live_link_face_csv(tmp_path) -> None:
    write_livelink(tmp_path / "a.csv", WEIGHTS, HEAD, 59, 60.0)
    header, *rows = (tmp_path / "a.csv").read_text().splitlines()
    assert header.split(",") == ["Timecode", "BlendShapeCount", *COLUMNS]
    assert [row.split(",")[0] for row in rows[:2]] == ["00:00:00:59.000", "00:00:01:00.000"]
    assert {row.split(",")[1] for row in rows} == {"61"}
    found = np.array([[float(v) for v in row.split(",")[2:]] for row in rows])
    for column, name in enumerate(COLUMNS[:52]):
        shape = NAMES.index(name[0].lower() + name[1:])
        assert np.abs(found[:, column] - WEIGHTS[:, shape]).max() < 1e-7
    assert np.allclose(found[0, 52:], [0.2, 0.1, -0.3, 0, 0, 0, 0, 0, 0])


def test_json_curves(tmp_path) -> None:
    write_curves(tmp_path / "a.json", WEIGHTS, HEAD, 12, (30, 1.001), "Zoë", "a_sound.wav")
    told = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert np.abs(np.array(told.pop("weights")) - WEIGHTS).max() < 1e-6
    assert np.abs(np.array(told.pop("head")) - HEAD).max() < 1e-6
    assert told.pop("names") == list(NAMES)
    assert told == {
        "format": "selftalk-curves", "version": 1, "face": "Zoë", "fps": 30 / 1.001,
        "first_frame": 12, "start_timecode": "00:00:00:12", "sound": "a_sound.wav",
        "head_names": ["pitch", "yaw", "roll"],
    }  # fmt: skip


def test_pc2(tmp_path) -> None:
    positions = np.random.default_rng(0).random((7, 5, 3)).astype(np.float32)
    with open(tmp_path / "a.pc2", "wb") as file:
        assert list(write_pc2(file, 7, 5, 3.0, [positions[:4], positions[4:]])) == [4, 7]
    data = (tmp_path / "a.pc2").read_bytes()
    assert struct.unpack("<12siiffi", data[:32]) == (b"POINTCACHE2\0", 1, 5, 3.0, 1.0, 7)
    assert (np.frombuffer(data, "<f4", offset=32).reshape(7, 5, 3) == positions).all()
    with open(tmp_path / "b.pc2", "wb") as file, pytest.raises(ValueError, match="4 frames"):
        list(write_pc2(file, 7, 5, 3.0, [positions[:4]]))
