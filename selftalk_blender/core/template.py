"""A face at rest: its mesh, its shapes, and the names of its parts."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import SelfTalkError
from .files import atomic_path

FORMAT = 1
ASSETS = Path(__file__).resolve().parent.parent / "assets"


@dataclass(frozen=True, eq=False)
class FaceTemplate:
    """A neutral face and the shapes that move it.

    Axes are Blender's: metres, Z up, the face looks along -Y, +X is the character's left.

    Attributes:
        name: what the face is called.
        vertices: (V, 3) float32, the neutral face in metres.
        polygons: (P, 4) int32, quads as vertex indices, counter-clockwise from outside.
        shape_names: K names, in the order of `shape_deltas`.
        shape_deltas: (K, V, 3) float32, metres at weight 1.
        regions: name -> (n,) int32, vertex indices.
        landmarks: name -> vertex index.
        part_names: names of the parts (skin, eyes, ...); each gets a material.
        polygon_part: (P,) uint8, index into `part_names`.
        loop_uv: (P, 4, 2) float32 texture coordinates.
        source_index: (V,) int32, index of each vertex in the mesh that the face was cut from.
    """

    name: str
    vertices: np.ndarray
    polygons: np.ndarray
    shape_names: tuple[str, ...] = ()
    shape_deltas: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), np.float32))
    regions: Mapping[str, np.ndarray] = field(default_factory=dict)
    landmarks: Mapping[str, int] = field(default_factory=dict)
    part_names: tuple[str, ...] = ()
    polygon_part: np.ndarray | None = None
    loop_uv: np.ndarray | None = None
    source_index: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.vertices.ndim != 2 or self.vertices.shape[1] != 3:
            raise ValueError(f"vertices have shape {self.vertices.shape}, not (V, 3)")
        if self.shape_names and self.shape_deltas.shape != (
            len(self.shape_names),
            *self.vertices.shape,
        ):
            raise ValueError(
                f"{len(self.shape_names)} shapes of {len(self.vertices)} vertices need deltas of "
                f"{(len(self.shape_names), *self.vertices.shape)}, not {self.shape_deltas.shape}"
            )

    @functools.cached_property
    def digest(self) -> str:
        """A short hash of the geometry and shape names: two faces with one digest are the same."""
        digest = hashlib.sha256()
        for array in (self.vertices, self.polygons, self.shape_deltas):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update("\n".join(self.shape_names).encode())
        return digest.hexdigest()[:16]

    def deltas(self, region: str | None = None) -> np.ndarray:
        """The shapes as a matrix (K, n * 3) over a region's vertices, or over all of them."""
        deltas = self.shape_deltas if region is None else self.shape_deltas[:, self.regions[region]]
        return deltas.reshape(len(self.shape_names), -1)

    @functools.cached_property
    def gap_per_weight(self) -> np.ndarray:
        """By how much each shape opens the inner lips, (K,) millimetres at weight 1."""
        upper, lower = self.landmarks["inner_upper_lip"], self.landmarks["inner_lower_lip"]
        return (self.shape_deltas[:, upper, 2] - self.shape_deltas[:, lower, 2]) * 1000.0

    def gap_mm(self, weights: np.ndarray) -> np.ndarray:
        """The inner-lip gap in millimetres, (T,) from weights (T, K).

        Distance along the up axis between the landmarks `inner_upper_lip` and
        `inner_lower_lip`; negative where the lips are pressed together.
        """
        upper, lower = self.landmarks["inner_upper_lip"], self.landmarks["inner_lower_lip"]
        rest = self.vertices[upper, 2] - self.vertices[lower, 2]
        return weights @ self.gap_per_weight + rest * 1000.0

    def width_mm(self, weights: np.ndarray) -> np.ndarray:
        """Mouth width in millimetres, (T,) from weights (T, K): between the outer corners."""
        left, right = self.landmarks["mouth_corner_left"], self.landmarks["mouth_corner_right"]
        rest = self.vertices[left] - self.vertices[right]
        between = weights @ (self.shape_deltas[:, left] - self.shape_deltas[:, right]) + rest
        return np.linalg.norm(between, axis=-1) * 1000.0

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays for an .npz file; `from_arrays` reads them back exactly."""
        arrays: dict[str, np.ndarray] = {
            "format": np.array(FORMAT),
            "name": np.array(self.name),
            "vertices": self.vertices,
            "polygons": self.polygons,
            "shape_names": np.array(self.shape_names, dtype=np.str_),
            "part_names": np.array(self.part_names, dtype=np.str_),
            "landmark_names": np.array(list(self.landmarks), dtype=np.str_),
            "landmark_indices": np.array(list(self.landmarks.values()), np.int32),
        }
        # Shapes move few vertices: their non-zero entries alone keep the file small.
        moved = np.nonzero(np.abs(self.shape_deltas).max(-1) if len(self.shape_names) else ())
        if len(self.shape_names):
            arrays["shape_index"] = np.stack(moved).astype(np.int32)
            arrays["shape_values"] = self.shape_deltas[moved]
        for name in ("polygon_part", "loop_uv", "source_index"):
            value = getattr(self, name)
            if value is not None:
                arrays[name] = value
        arrays.update({f"region_{name}": index for name, index in self.regions.items()})
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> FaceTemplate:
        """The face kept by `to_arrays`.

        Raises:
            KeyError: an array is missing.
            ValueError: the arrays do not fit each other.
        """
        if int(arrays["format"]) > FORMAT:
            raise ValueError(
                f"format {int(arrays['format'])} is newer than this program's {FORMAT}"
            )
        vertices = arrays["vertices"].astype(np.float32)
        names = tuple(str(name) for name in arrays["shape_names"])
        deltas = np.zeros((len(names), *vertices.shape), np.float32)
        if names:
            shape, vertex = arrays["shape_index"]
            deltas[shape, vertex] = arrays["shape_values"]
        return cls(
            name=str(arrays["name"]),
            vertices=vertices,
            polygons=arrays["polygons"],
            shape_names=names,
            shape_deltas=deltas,
            regions={key[7:]: arrays[key] for key in arrays if key.startswith("region_")},
            landmarks={
                str(name): int(index)
                for name, index in zip(
                    arrays["landmark_names"], arrays["landmark_indices"], strict=True
                )
            },
            part_names=tuple(str(name) for name in arrays["part_names"]),
            polygon_part=arrays["polygon_part"] if "polygon_part" in arrays else None,
            loop_uv=arrays["loop_uv"] if "loop_uv" in arrays else None,
            source_index=arrays["source_index"] if "source_index" in arrays else None,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the face as .npz (no pickles).

        Raises:
            SelfTalkError: the file cannot be written.
        """
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **self.to_arrays())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FaceTemplate:
        """Read a face written by `save`.

        Raises:
            SelfTalkError: the file is missing, damaged, or newer than this program.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls.from_arrays(dict(file))
        except Exception as error:
            raise SelfTalkError(f"{path} is not a readable SelfTalk face: {error}.") from error


@functools.cache
def bundled_template() -> FaceTemplate:
    """The head that comes with SelfTalk (MakeHuman, CC0; see assets/head.md)."""
    return FaceTemplate.load(ASSETS / "head.npz")
