"""Face shapes for any head: landmarks, fit and transfer in one, here or in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from .errors import SelfTalkError
from .files import atomic_path
from .fit import Fit, fit_known, fit_template
from .landmarks import suggest_landmarks
from .retarget import match_by_index
from .steps import at_last, told
from .surface import edges_of
from .template import bundled_template
from .transfer import lips_are_joined, transfer_shapes

Result = TypeVar("Result")
# Share of the whole that each stage takes.
STAGES = (("Looking for the face", 0.3), ("Laying the head onto it", 0.3), ("Transferring", 0.4))


@dataclass(frozen=True, eq=False)
class FaceShapes:
    """What was made.

    Attributes:
        deltas: (52, V, 3) float32 in the mesh's axes and units, in the order of the bundled
            head's shapes.
        landmarks: (10, 3) the points that were used, or an empty array where none were needed.
        notices: sentences that the user should read.
    """

    deltas: np.ndarray
    landmarks: np.ndarray
    notices: tuple[str, ...]


def create_face_shapes(
    vertices: np.ndarray,
    triangles: np.ndarray,
    landmarks: np.ndarray | None = None,
    own: int | None = None,
) -> Generator[tuple[float, str], None, FaceShapes]:
    """Make the bundled head's 52 shapes for a mesh.

    Args:
        vertices: (V, 3) at rest, in right-handed axes of any direction and any unit; those of
            separate eyes, teeth, lashes follow those of the head.
        triangles: (T, 3) vertex indices.
        landmarks: (10, 3) in the order of `landmarks.NAMES`; looked for where None.
        own: how many of the vertices are the head's own; all where None. Heads of the bundled
            head's topology are known by it and need no landmarks.

    Yields:
        The share done, 0 to 1, and what is being done.

    Raises:
        SelfTalkError: no face is found, or the landmarks are no face's.
    """
    fit: Fit | None = None
    notices: tuple[str, ...] = ()
    points = np.empty((0, 3)) if landmarks is None else np.asarray(landmarks, np.float64)
    head = vertices[:own]
    if landmarks is None:
        try:
            inside = triangles[(triangles < len(head)).all(1)]
            match = match_by_index(bundled_template(), head, edges_of(inside))
        except SelfTalkError:
            found = yield from _part(suggest_landmarks(vertices, triangles), 0)
            points, notices = found.points, found.notices
        else:
            fit = fit_known(vertices, triangles, match)
    if fit is None:
        fit = yield from _part(fit_template(vertices, triangles, points), 1)
    deltas = yield from _part(transfer_shapes(fit, triangles), 2)
    if lips_are_joined(fit, triangles, deltas):
        notices += (
            "The lips of this mesh are one surface, so its mouth stretches where it should open. "
            "Cut the mesh along the line between the lips, add an inside of the mouth, and "
            "create the shapes again.",
        )
    return FaceShapes(deltas, points, notices)


def _part(
    steps: Generator[float, None, Result], number: int
) -> Generator[tuple[float, str], None, Result]:
    """A stage's steps as shares of the whole; its result."""
    begun = sum(share for _, share in STAGES[:number])
    text, share = STAGES[number]
    return told(steps, lambda done: (begun + share * done, text))


# --- In a process of its own ----------------------------------------------------------------


def main() -> None:
    """Read FOLDER/mesh.npz, tell the progress on stdout, write FOLDER/shapes.npz.

    mesh.npz has vertices, triangles, own, landmarks (empty: to be looked for) and
    only_landmarks. Each line on stdout is a JSON object: done and stage, or error, or notices at
    the end.
    """
    folder = Path(sys.argv[1])
    with np.load(folder / "mesh.npz", allow_pickle=False) as file:
        mesh = dict(file)

    def tell(**message: object) -> None:
        print(json.dumps(message), flush=True)

    try:
        landmarks = mesh["landmarks"] if len(mesh["landmarks"]) else None
        steps: Generator[tuple[float, str], None, FaceShapes]
        if mesh["only_landmarks"]:
            steps = _landmarks_alone(mesh["vertices"], mesh["triangles"])
        else:
            steps = create_face_shapes(
                mesh["vertices"], mesh["triangles"], landmarks, int(mesh["own"])
            )
        made = at_last(told(steps, lambda step: tell(done=step[0], stage=step[1])))
    except SelfTalkError as error:
        tell(error=str(error))
        return
    with atomic_path(folder / "shapes.npz") as temporary, open(temporary, "wb") as output:
        np.savez(output, deltas=made.deltas, landmarks=made.landmarks)
    tell(notices=made.notices)


def _landmarks_alone(
    vertices: np.ndarray, triangles: np.ndarray
) -> Generator[tuple[float, str], None, FaceShapes]:
    steps = suggest_landmarks(vertices, triangles)
    found = yield from told(steps, lambda done: (done, STAGES[0][0]))
    return FaceShapes(np.empty((0, 0, 3), np.float32), found.points, found.notices)
