"""Faces and vertex lists from the files that people have them in; numpy alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .errors import SelfTalkError
from .pickles import load_numpy_pickle
from .template import FaceTemplate

Faces = list[tuple[int, ...]]
TEMPLATE_SUFFIXES = (".npy", ".npz", ".obj", ".ply", ".pkl")
INDEX_SUFFIXES = (".npy", ".npz", ".txt", ".json", ".pkl")
LIPS = "lips"  # the region's name in FLAME's file of vertex masks
PLY_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "float": "f4", "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2",
    "int32": "i4", "uint32": "u4", "float32": "f4", "float64": "f8",
}  # fmt: skip


def read_template(
    path: str | os.PathLike[str], subject: str | None = None
) -> tuple[np.ndarray, Faces | None]:
    """A face at rest, in the file's own axes and unit.

    Args:
        path: .npy ((V, 3), (3V,) or (1, 3V)); .npz or .pkl (one such array, or subject -> array;
            .npz also a SelfTalk face); .obj or .ply (vertices in the file's order, faces of any
            size).
        subject: which one, where a file holds several.

    Returns:
        (V, 3) float32, and the faces as tuples of vertex indices, or None where the file has none.

    Raises:
        SelfTalkError: the file is missing, empty, damaged, or no face; or it holds several subjects
            and none of them was chosen.
    """
    path = Path(path)
    suffix = _suffix(path, TEMPLATE_SUFFIXES, "face template")
    faces: Faces | None = None
    if suffix == ".obj":
        vertices, faces = _read_obj(path)
    elif suffix == ".ply":
        vertices, faces = _read_ply(path)
    else:
        data = _load(path)
        if isinstance(data, Mapping) and {"format", "vertices", "polygons"} <= data.keys():
            face = FaceTemplate.load(path)
            return face.vertices, [tuple(map(int, polygon)) for polygon in face.polygons]
        if isinstance(data, Mapping):
            data = data[_chosen(path, list(data), subject)]
        vertices = as_vertices(data, path.name)
    return as_vertices(vertices, path.name), faces


def read_templates(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """All faces of a file of subjects (.npz or .pkl), subject -> (V, 3) float32.

    Raises:
        SelfTalkError: the file is missing or damaged, or does not hold arrays by subject.
    """
    path = Path(path)
    _suffix(path, (".npz", ".pkl"), "file of templates")
    data = _load(path)
    if not isinstance(data, Mapping) or not data:
        raise SelfTalkError(f"{path.name} holds no templates by subject ({{subject: (V, 3)}}).")
    return {name: as_vertices(data[name], f"{path.name}, {name}") for name in data}


def read_indices(path: str | os.PathLike[str], name: str = LIPS) -> np.ndarray:
    """A list of vertices, such as those of the lips, (n,) int64, in the file's order.

    Args:
        path: .npy or .npz (one array); .txt (numbers with spaces, commas or new lines between);
            .json (a list); .pkl (an array, a list, or a dict). A dict or .npz of several needs
            a list called `name`.
        name: which one, where a file holds several; FLAME's vertex masks have `lips`.

    Raises:
        SelfTalkError: the file is missing, empty, damaged, or no list of whole numbers from 0.
    """
    path = Path(path)
    suffix = _suffix(path, INDEX_SUFFIXES, "list of vertices")
    data: Any
    try:
        if suffix == ".txt":
            data = [float(word) for word in path.read_text("utf-8").replace(",", " ").split()]
        elif suffix == ".json":
            data = json.loads(path.read_text("utf-8"))
        else:
            data = _load(path)
    except (OSError, ValueError) as error:
        raise SelfTalkError(f"{path.name} is no list of vertex numbers: {error}.") from error
    if isinstance(data, Mapping):
        data = data[_chosen(path, list(data), name if name in data else None)]
    try:
        values = np.asarray(data).squeeze()
        indices = np.atleast_1d(values).astype(np.int64)
    except (ValueError, TypeError) as error:
        raise SelfTalkError(f"{path.name} is no list of vertex numbers.") from error
    if (
        values.dtype == bool
        or values.ndim > 1
        or not np.array_equal(indices, np.atleast_1d(values))
    ):
        raise SelfTalkError(
            f"{path.name} holds {values.dtype} of shape {values.shape}, not a list of whole "
            "numbers."
        )
    if not len(indices):
        raise SelfTalkError(f"{path.name} lists no vertices.")
    if indices.min() < 0:
        raise SelfTalkError(f"{path.name} has the vertex number {indices.min()}; the first is 0.")
    return indices


def as_vertices(data: Any, name: str) -> np.ndarray:
    """(V, 3) float32 from (V, 3), (3V,) or (1, 3V).

    Raises:
        SelfTalkError: another shape, no numbers, or numbers that are not finite; `name` says whose.
    """
    values = np.asarray(data)
    if values.ndim == 2 and len(values) == 1:
        values = values[0]
    if values.ndim == 1 and len(values) % 3 == 0:
        values = values.reshape(-1, 3)
    if (
        values.ndim != 2
        or values.shape[1] != 3
        or not len(values)
        or values.dtype.kind not in "iuf"
    ):
        raise SelfTalkError(
            f"{name} is no face: it holds {values.dtype} of shape {np.shape(data)}, not vertices "
            "(V, 3)."
        )
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise SelfTalkError(f"{name} has vertices that are not finite numbers. Export it again.")
    return values


def _suffix(path: Path, known: tuple[str, ...], what: str) -> str:
    suffix = path.suffix.lower()
    if suffix not in known:
        raise SelfTalkError(f"{path} is no {what} that can be read: choose {', '.join(known)}.")
    if not path.is_file():
        raise SelfTalkError(f"There is no file {path}. Check its name and folder.")
    if path.stat().st_size == 0:
        raise SelfTalkError(f"{path.name} is empty (0 bytes). Export or copy it again.")
    return suffix


def _load(path: Path) -> Any:
    """What .npy, .npz or .pkl holds; an .npz as a dict, and dicts with text for keys."""
    if path.suffix.lower() == ".pkl":
        data = load_numpy_pickle(path)
        return {str(name): data[name] for name in data} if isinstance(data, Mapping) else data
    try:
        with open(path, "rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded:
                return {name: loaded[name] for name in loaded.files}
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds
        raise SelfTalkError(f"{path.name} cannot be read: {error}.") from error


def _chosen(path: Path, names: list[str], wanted: str | None) -> str:
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted in names:
        return str(wanted)
    has = f"{path.name} holds {', '.join(sorted(names)) or 'nothing'}"
    raise SelfTalkError(
        f"{has}; say which one is meant." if wanted is None else f"{has}, but not {wanted}."
    )


def _read_obj(path: Path) -> tuple[Any, Faces | None]:
    """The lines v and f of a Wavefront file (x y z; v, v/vt, v//vn or v/vt/vn, negative from the
    end so far)."""
    vertices: list[list[float]] = []
    faces: Faces = []
    row = ""
    try:
        text = path.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
        for row in text.splitlines():
            words = row.split("#", 1)[0].split()
            if not words:
                continue
            if words[0] == "v":
                x, y, z = words[1:4]
                vertices.append([float(x), float(y), float(z)])
            elif words[0] == "f":
                corners = [int(word.split("/")[0]) for word in words[1:]]
                faces.append(tuple(n - 1 if n > 0 else len(vertices) + n for n in corners))
    except ValueError as error:
        raise SelfTalkError(f"{path.name} cannot be read at the line {row[:60]!r}.") from error
    except OSError as error:
        raise SelfTalkError(f"{path} cannot be read: {error.strerror or error}.") from error
    return np.array(vertices, np.float32).reshape(-1, 3), _checked(path, faces, len(vertices))


def _read_ply(path: Path) -> tuple[Any, Faces | None]:
    """A Stanford polygon file: ascii, or binary of either byte order."""
    try:
        data = path.read_bytes()
        head, mark, body = data.partition(b"end_header")
        order, elements = _ply_header(head.decode("ascii", "replace"))
        if not mark:
            raise ValueError("its header has no end")
        body = body[2:] if body.startswith(b"\r\n") else body[1:]
        tables = _ply_ascii(elements, body) if order == "" else _ply_binary(order, elements, body)
        vertex = tables.get("vertex", {})
        if not {"x", "y", "z"} <= vertex.keys():
            raise ValueError("it has no vertices with x, y and z")
        vertices = np.stack([np.asarray(vertex[axis], np.float32) for axis in "xyz"], axis=1)
        face = tables.get("face", {})
        corners = face.get("vertex_indices", face.get("vertex_index", []))
        faces = [tuple(int(corner) for corner in polygon) for polygon in corners]
    except OSError as error:
        raise SelfTalkError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, IndexError, TypeError, UnicodeError) as error:
        raise SelfTalkError(f"{path.name} is not a whole PLY file: {error}.") from error
    return vertices, _checked(path, faces, len(vertices))


# An element of a PLY file: name, count, and its properties as (name, type of a list's length or "",
# type of the values).
_Element = tuple[str, int, list[tuple[str, str, str]]]


def _ply_header(text: str) -> tuple[str, list[_Element]]:
    """Byte order ("<", ">" or "" for ascii) and the elements."""
    rows = [row.split() for row in text.splitlines()]
    if not rows or rows[0] != ["ply"]:
        raise ValueError("it does not start with the word ply")
    order = None
    elements: list[_Element] = []
    for row in rows[1:]:
        if row[:1] == ["format"]:
            order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}[row[1]]
        elif row[:1] == ["element"]:
            elements.append((row[1], int(row[2]), []))
        elif row[:2] == ["property", "list"]:
            elements[-1][2].append((row[4], PLY_TYPES[row[2]], PLY_TYPES[row[3]]))
        elif row[:1] == ["property"]:
            elements[-1][2].append((row[2], "", PLY_TYPES[row[1]]))
    if order is None:
        raise ValueError("it does not say its format")
    return order, elements


def _ply_ascii(elements: list[_Element], body: bytes) -> dict[str, dict[str, Any]]:
    words = body.split()
    tables: dict[str, dict[str, Any]] = {}
    at = 0
    for name, count, properties in elements:
        table: dict[str, Any] = {title: [] for title, _, _ in properties}
        for _ in range(count):
            for title, length, _ in properties:
                if length:
                    size = int(words[at])
                    values = [int(float(word)) for word in words[at + 1 : at + 1 + size]]
                    if len(values) < size:
                        raise ValueError("it ends too early")
                    table[title].append(values)
                    at += 1 + size
                else:
                    table[title].append(float(words[at]))
                    at += 1
        tables[name] = table
    return tables


def _ply_binary(order: str, elements: list[_Element], body: bytes) -> dict[str, dict[str, Any]]:
    tables: dict[str, dict[str, Any]] = {}
    at = 0
    for name, count, properties in elements:
        if not any(length for _, length, _ in properties):
            dtype = np.dtype([(title, order + kind) for title, _, kind in properties])
            rows = np.frombuffer(body, dtype, count, at)
            tables[name] = {title: rows[title] for title, _, _ in properties}
            at += count * dtype.itemsize
            continue
        table: dict[str, Any] = {title: [] for title, _, _ in properties}
        for _ in range(count):
            for title, length, kind in properties:
                size = 1
                if length:
                    size = int(np.frombuffer(body, order + length, 1, at)[0])
                    at += np.dtype(length).itemsize
                values = np.frombuffer(body, order + kind, size, at)
                table[title].append(values if length else values[0])
                at += values.nbytes
        tables[name] = table
    return tables


def _checked(path: Path, faces: Faces, count: int) -> Faces | None:
    if not count:
        raise SelfTalkError(f"{path.name} has no vertices. Export the mesh again.")
    for polygon in faces:
        if min(polygon, default=0) < 0 or max(polygon, default=0) >= count:
            raise SelfTalkError(
                f"{path.name} has a face of vertices that it lacks (there are {count}). "
                "Export the mesh again."
            )
    return faces or None
