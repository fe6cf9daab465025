"""Pickles of plain data are read, whatever wrote them; anything else is refused unexecuted."""

from __future__ import annotations

import datetime
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.pickles import load_numpy_pickle


def load(tmp_path: Path, data: bytes) -> Any:
    path = tmp_path / "data.pkl"
    path.write_bytes(data)
    return load_numpy_pickle(path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("package", [b"numpy.core", b"numpy._core"])
def test_every_protocol_of_both_numpys(tmp_path: Path, protocol: int, package: bytes) -> None:
    shared = np.arange(6.0).reshape(2, 3)
    ragged = np.empty(2, object)
    ragged[:] = [np.arange(3), "text"]
    data = OrderedDict(
        face=shared,
        fortran=np.asfortranarray(shared.astype(">f4")),
        again=[shared, (np.zeros((0, 3), np.float32), np.float32(0.5), np.bool_(True))],
        words=np.array(["a", "bc"]),
        ragged=ragged,
        rest={1: 2.5, b"raw": None, "set": {1, 2}, "whole": -(2**70), "complex": 1j},
    )
    raw = pickle.dumps(data, protocol)
    for name in (b"numpy.core", b"numpy._core"):  # whichever numpy runs this test
        if protocol < 4:
            raw = raw.replace(b"c" + name + b".", b"c" + package + b".")
        else:
            for module in (b".multiarray", b".numeric"):
                old, new = name + module, package + module
                raw = raw.replace(
                    b"\x8c" + bytes([len(old)]) + old, b"\x8c" + bytes([len(new)]) + new
                )
    loaded = load(tmp_path, raw)
    assert list(loaded) == list(data)
    for name in ("face", "fortran", "words"):
        assert type(loaded[name]) is np.ndarray and loaded[name].dtype == data[name].dtype
        np.testing.assert_array_equal(loaded[name], data[name])
    assert loaded["again"][0] is loaded["face"]
    assert loaded["again"][1][0].shape == (0, 3)
    assert loaded["again"][1][1:] == (0.5, True)
    np.testing.assert_array_equal(loaded["ragged"][0], np.arange(3))
    assert loaded["rest"] == data["rest"]


def text(value: bytes) -> bytes:
    return b"U" + bytes([len(value)]) + value


def array(dtype: bytes, count: int, data: bytes) -> bytes:
    """An array (1, count) as Python 2 and its numpy wrote it."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b") + b"\x87R"
        b"(K\x01K\x01K" + bytes([count]) + b"\x86cnumpy\ndtype\n" + text(dtype) + b"K\x00K\x01\x87R"
        b"(K\x03" + text(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", len(data)) + data + b"tb"
    )  # fmt: skip


def test_a_pickle_of_python_2(tmp_path: Path) -> None:
    values = np.array([[1.5, -2.0, 200.25]], "<f4")
    raw = b"\x80\x02}" + text(b"FaceTalk_\xfc") + array(b"f4", 3, values.tobytes()) + b"s."
    loaded = load(tmp_path, raw)
    assert list(loaded) == ["FaceTalk_ü"]
    np.testing.assert_array_equal(loaded["FaceTalk_ü"], values)


def test_a_malicious_pickle_does_nothing(tmp_path: Path) -> None:
    trap = tmp_path / "trap"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(trap),)

    bait = np.empty(1, object)
    bait[0] = Evil()
    for data in (Evil(), {"face": [Evil()]}, bait):
        with pytest.raises(SelfTalkError, match=r"data\.pkl asks for \w+\.mkdir.*nothing was exec"):
            load(tmp_path, pickle.dumps(data))
    assert not trap.exists()


@pytest.mark.parametrize(
    "data",
    [
        datetime.date(2020, 1, 1),
        getattr,
        np.zeros(2, [("x", "f4"), ("y", "O")]),
        np.zeros(2, "M8[s]"),
        np.random.default_rng(0),
    ],
)
def test_anything_but_plain_data_is_refused(tmp_path: Path, data: Any) -> None:
    with pytest.raises(SelfTalkError):
        load(tmp_path, pickle.dumps(data))


def test_forged_arrays_are_refused(tmp_path: Path) -> None:
    """An object array whose state says that its pointers come as bytes would crash Python."""
    for data in (
        b"\x80\x02" + array(b"O", 8, b"AAAAAAAA") + b".",
        b"\x80\x02" + array(b"f4", 3, b"AAAAAAAA") + b".",  # shorter than its shape
        b"cnumpy\nndarray\n(I4\nU\x01O\x86tR.",  # np.ndarray called by itself
        b"cnumpy\ndtype\n(N}U\x04realNstb0.",  # changes the reader
        b"ccollections\nOrderedDict\n(N}U\x01xI1\nstb.",
    ):
        with pytest.raises(SelfTalkError):
            load(tmp_path, data)


def test_damaged_files_give_a_sentence(tmp_path: Path) -> None:
    whole = pickle.dumps({"face": np.zeros((50, 3))})
    for data in (whole[:-30], whole[:40], b"", b"not a pickle at all", b"\x89PNG\r\n", whole[9:]):
        with pytest.raises(SelfTalkError, match=r"data\.pkl is not a whole pickle"):
            load(tmp_path, data)
    with pytest.raises(SelfTalkError, match="No such file"):
        load_numpy_pickle(tmp_path / "missing.pkl")


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    path = tmp_path / "data.pkl"
    path.write_bytes(pickle.dumps([np.zeros(1 << 16), np.ones(1 << 16)]))
    told: list[float] = []
    loaded = load_numpy_pickle(path, lambda done, stage: told.append(done))
    assert loaded[1].sum() == 1 << 16
    assert told == sorted(told) and told[-1] == 1.0
