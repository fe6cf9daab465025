"""Faces and vertex lists come out of every kind of file in the order that they have there."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from selftalk_blender.core import FaceTemplate
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.meshes import read_indices, read_template, read_templates

FACE = np.array([[0, 0, 0], [1, 0, 0.5], [1, 1, 0], [0, 1, 0], [0.5, 2, -3.25]], np.float32)
FACES = [(0, 1, 2, 3), (3, 2, 4)]


def same(path: Path, faces: list | None = None, subject: str | None = None) -> None:
    vertices, found = read_template(path, subject)
    assert vertices.dtype == np.float32
    np.testing.assert_array_equal(vertices, FACE)
    assert found == faces


def test_arrays(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FACE.astype(np.float64))
    np.save(tmp_path / "b.npy", FACE.reshape(-1))
    np.savez(tmp_path / "c.npz", FACE.reshape(1, -1))
    np.savez(tmp_path / "d.npz", anna=FACE, ben=FACE + 1)
    (tmp_path / "e.pkl").write_bytes(pickle.dumps({"anna": FACE.reshape(-1), "ben": FACE + 1}))
    for name, subject in (
        ("a.npy", None), ("b.npy", None), ("c.npz", None), ("d.npz", "anna"), ("e.pkl", "anna"),
    ):  # fmt: skip
        same(tmp_path / name, subject=subject)
    FaceTemplate("me", FACE, np.array([[0, 1, 2, 3]], np.int32)).save(tmp_path / "f.npz")
    same(tmp_path / "f.npz", [(0, 1, 2, 3)])
    for name in ("d.npz", "e.pkl"):
        with pytest.raises(SelfTalkError, match="holds anna, ben; say which"):
            read_template(tmp_path / name)
        with pytest.raises(SelfTalkError, match="holds anna, ben, but not carl"):
            read_template(tmp_path / name, "carl")
        assert list(read_templates(tmp_path / name)) == ["anna", "ben"]


def test_obj_with_negative_indices_textures_and_colours(tmp_path: Path) -> None:
    path = tmp_path / "face.OBJ"
    path.write_text(
        "# Gesicht\nmtllib face.mtl\n"
        "v 0 0 0 1.0 0.5 0.5\nv 1 0 .5\nv 1 1 0\nv 0 1 0 # corner\nvt 0 0\nvn 0 0 1\n"
        "f 1/1/1 2/1/1 \\\n 3//1 4/1\nv 5e-1 2 -3.25\nf -2 -3/1 -1//1\ng lips\ns off\n"
    )
    same(path, FACES)
    path.write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\n")
    assert read_template(path)[1] is None


@pytest.mark.parametrize("order", ["", "<", ">"])
def test_ply_of_every_format(tmp_path: Path, order: str) -> None:
    kind = {"": "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    head = (
        f"ply\nformat {kind} 1.0\ncomment from a scanner\nelement vertex 5\nproperty uchar red\n"
        "property double z\nproperty float x\nproperty float32 y\nelement face 2\n"
        "property list uchar int vertex_indices\nproperty short label\nend_header\n"
    )
    if order:
        body = b"".join(struct.pack(order + "Bdff", 9, z, x, y) for x, y, z in FACE.tolist())
        for face in FACES:
            body += struct.pack(f"{order}B{len(face)}ih", len(face), *face, -1)
    else:
        rows = [f"9 {z} {x} {y}" for x, y, z in FACE.tolist()]
        rows += [" ".join(map(str, (len(face), *face, -1))) for face in FACES]
        body = "\n".join(rows).encode()
    path = tmp_path / "face.ply"
    path.write_bytes(head.encode() + body)
    same(path, FACES)
    path.write_bytes(head.encode() + body[:-4])
    with pytest.raises(SelfTalkError, match=r"face\.ply is not a whole PLY file"):
        read_template(path)


def test_what_is_no_face_gets_a_sentence_with_its_name(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", np.zeros((5, 2)))
    np.save(tmp_path / "nan.npy", FACE * np.nan)
    np.save(tmp_path / "objects.npy", np.array([None, {}], object))
    np.save(tmp_path / "words.npy", np.array(["a", "b", "c"]))
    (tmp_path / "empty.obj").touch()
    (tmp_path / "none.obj").write_text("vt 0 0\n")
    (tmp_path / "torn.obj").write_text("v 0 0 0\nv 1 0\n")
    (tmp_path / "far.obj").write_text("v 0 0 0\nf 1 2 3\n")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "face.stl").write_text("solid")
    for name, words in (
        ("flat.npy", r"shape \(5, 2\)"), ("nan.npy", "not finite"),
        ("objects.npy", "cannot be read"), ("words.npy", "no face"), ("empty.obj", "empty"),
        ("none.obj", "no vertices"), ("torn.obj", "line 'v 1 0'"), ("far.obj", "that it lacks"),
        ("broken.npz", "cannot be read"), ("face.stl", r"choose \.npy"), ("gone.npy", "no file"),
    ):  # fmt: skip
        with pytest.raises(SelfTalkError, match=words) as refused:
            read_template(tmp_path / name)
        assert name in str(refused.value)


def test_vertex_lists(tmp_path: Path) -> None:
    lips = np.array([7, 3, 12])
    np.save(tmp_path / "a.npy", lips.astype(np.float32)[:, None])
    np.savez(tmp_path / "b.npz", lips)
    (tmp_path / "c.txt").write_text("7, 3,\n12\n")
    (tmp_path / "d.txt").write_text("7 3 12")
    (tmp_path / "e.json").write_text(json.dumps(lips.tolist()))
    (tmp_path / "f.pkl").write_bytes(pickle.dumps(lips.tolist()))
    (tmp_path / "g.pkl").write_bytes(pickle.dumps({"mouth": lips}))
    (tmp_path / "masks.pkl").write_bytes(pickle.dumps({"nose": np.arange(4), "lips": lips}))
    for path in sorted(tmp_path.iterdir()):
        found = read_indices(path)
        assert found.dtype == np.int64 and found.tolist() == [7, 3, 12], path.name


def test_what_is_no_vertex_list_gets_a_sentence_with_its_name(tmp_path: Path) -> None:
    np.save(tmp_path / "half.npy", [1.5, 2])
    np.save(tmp_path / "square.npy", np.eye(3, dtype=int))
    np.save(tmp_path / "mask.npy", np.array([True, False]))
    (tmp_path / "words.txt").write_text("1 two 3")
    (tmp_path / "blank.txt").write_text("\n")
    (tmp_path / "minus.json").write_text("[1, -2]")
    (tmp_path / "dict.json").write_text('{"a": [1], "b": [2]}')
    (tmp_path / "torn.json").write_text("[1, 2")
    for name, words in (
        ("half.npy", "whole numbers"), ("square.npy", r"shape \(3, 3\)"), ("mask.npy", "bool"),
        ("words.txt", "two"), ("blank.txt", "lists no vertices"), ("minus.json", "-2"),
        ("dict.json", "holds a, b; say which"), ("torn.json", "no list of vertex numbers"),
        ("gone.txt", "no file"), ("face.obj", r"choose \.npy"),
    ):  # fmt: skip
        with pytest.raises(SelfTalkError, match=words) as refused:
            read_indices(tmp_path / name)
        assert name in str(refused.value)
