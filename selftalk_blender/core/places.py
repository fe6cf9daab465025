"""Places on a face: where they are on the bundled head, and where that makes them on another."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .retarget import similarity
from .template import FaceTemplate, bundled_template

# Places where the lips meet: upper, lower.
GAPS = tuple((f"inner_upper_lip{s}", f"inner_lower_lip{s}") for s in ("", "_left", "_right"))


# --- On the bundled head ----------------------------------------------------------------------


@functools.cache
def positions() -> dict[str, np.ndarray]:
    """Place -> (3,) metres on the bundled head; "jaw" is the axis that jawOpen turns about."""
    template = bundled_template()
    found = {name: template.vertices[index] for name, index in vertices().items()}
    for side, part in (("left", "eye_l"), ("right", "eye_r")):
        polygons = template.polygons[template.polygon_part == template.part_names.index(part)]
        found[f"eye_{side}"] = template.vertices[np.unique(polygons)].mean(0)
    found["jaw"] = _jaw_axis(template)
    return found


def motions(point: str) -> np.ndarray:
    """(52, 3) metres: what each shape of the bundled head does at a place, at weight 1."""
    return bundled_template().shape_deltas[:, vertices()[point]]


@functools.cache
def vertices() -> dict[str, int]:
    """Place -> vertex of the bundled head."""
    template = bundled_template()
    at, shapes = template.vertices, template.shape_names
    skin = np.unique(template.polygons[template.polygon_part == template.part_names.index("skin")])

    def front(candidates: np.ndarray, x: float) -> int:
        """The most forward of those near a distance from the middle."""
        near = candidates[np.abs(at[candidates, 0] - x) < 0.003]
        return int(near[at[near, 1].argmin()])

    def inner(candidates: np.ndarray, others: np.ndarray, x: float) -> int:
        """The closest to the other lip of those near a distance from the middle."""
        near = candidates[np.abs(at[candidates, 0] - x) < 0.003]
        apart = np.linalg.norm(at[near, None] - at[None, others], axis=-1).min(1)
        return int(near[apart.argmin()])

    def peak(shape: str, low: float = 0.0, high: float = 1.0) -> int:
        """Where a shape moves the skin most, within a range of distances to the left."""
        moved = np.linalg.norm(template.shape_deltas[shapes.index(shape)], axis=1)
        moved = np.where((at[:, 0] > low) & (at[:, 0] < high), moved, 0.0)
        return int(skin[moved[skin].argmax()])

    def mirrored(vertex: int) -> int:
        image = at[vertex] * (-1, 1, 1)
        return int(skin[np.linalg.norm(at[skin] - image, axis=1).argmin()])

    upper, lower = template.regions["lips_upper"], template.regions["lips_lower"]
    corner = float(at[template.landmarks["mouth_corner_left"], 0])
    below = skin[at[skin, 2] < at[template.landmarks["inner_lower_lip"], 2] - 0.02]
    found = {
        "inner_upper_lip": template.landmarks["inner_upper_lip"],
        "inner_lower_lip": template.landmarks["inner_lower_lip"],
        "upper_lip": front(upper, 0.0),
        "lower_lip": front(lower, 0.0),
        "chin": front(below, 0.0),
        "tongue": int(
            np.linalg.norm(template.shape_deltas[shapes.index("tongueOut")], axis=1).argmax()
        ),
    }
    blink = peak("eyeBlinkLeft")
    left = {
        "upper_lip": front(upper, corner / 2),
        "lower_lip": front(lower, corner / 2),
        "inner_upper_lip": inner(upper, lower, corner / 2),
        "inner_lower_lip": inner(lower, upper, corner / 2),
        "cheek": peak("cheekPuff"),
        "brow_inner": peak("browInnerUp"),
        "brow_middle": peak("browDownLeft"),
        "brow_outer": peak("browOuterUpLeft"),
        "lid_upper": blink,
        "lid_upper_inner": peak("eyeBlinkLeft", at[blink, 0] - 0.011, at[blink, 0] - 0.007),
        "lid_upper_outer": peak("eyeBlinkLeft", at[blink, 0] + 0.007, at[blink, 0] + 0.011),
        "lid_lower": peak("eyeSquintLeft"),
    }
    for name, vertex in left.items():
        found[f"{name}_left"], found[f"{name}_right"] = vertex, mirrored(vertex)
    for side in ("left", "right"):
        found[f"corner_{side}"] = template.landmarks[f"mouth_corner_{side}"]
    return found


def _jaw_axis(template: FaceTemplate) -> np.ndarray:
    """(3,) the point in the middle plane that jawOpen leaves in place.

    The lower teeth move as one piece: q = R p + t (Kabsch 1976); the point with R c + t = c.
    """
    teeth = template.regions["teeth_lower"]
    rest = template.vertices[teeth].astype(np.float64)
    open_ = rest + template.shape_deltas[template.shape_names.index("jawOpen"), teeth]
    turn, _ = similarity(rest, open_)
    turn = turn / np.cbrt(np.linalg.det(turn))
    shift = open_.mean(0) - turn @ rest.mean(0)
    flat = np.ix_([1, 2], [1, 2])
    centre = np.linalg.solve(np.eye(2) - turn[flat], shift[[1, 2]])
    return np.array([0.0, *centre])


# --- On another face --------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Frame:
    """How another face lies to the bundled head: place @ linear.T + offset."""

    linear: np.ndarray  # (3, 3)
    offset: np.ndarray  # (3,)

    def __call__(self, positions: np.ndarray) -> np.ndarray:
        """Positions (..., 3) of the bundled head on the other face."""
        return positions @ self.linear.T + self.offset

    @property
    def scale(self) -> float:
        """Lengths there per metre of the bundled head."""
        return float(np.cbrt(abs(np.linalg.det(self.linear))))

    @property
    def up(self) -> np.ndarray:
        """(3,) unit vector from chin to forehead."""
        return self.linear[:, 2] / np.linalg.norm(self.linear[:, 2])


def fit_frame(found: Mapping[str, np.ndarray], mirror: bool = False) -> Frame | None:
    """The frame of a face from places found on it; None where they are too few.

    Least squares over rotation, scale and shift. Three places that are not in one line decide.

    Args:
        found: place -> (3,).
        mirror: the face is its own mirror image (an object of negative scale).
    """
    names = [name for name in found if name in positions()]
    if len(names) < 3:
        return None
    source = np.stack([positions()[name] for name in names]).astype(np.float64)
    target = np.stack([found[name] for name in names]).astype(np.float64)
    for cloud in (source, target):
        size = np.linalg.svd(cloud - cloud.mean(0), compute_uv=False)
        if not (size[0] > 0 and size[1] > 0.15 * size[0]):
            return None
    linear, _ = similarity(source, target, mirror)
    return Frame(linear, target.mean(0) - linear @ source.mean(0))


def frame_from_jaw(
    pivot: np.ndarray, chin: np.ndarray, up: np.ndarray, mirror: bool = False
) -> Frame | None:
    """The frame of a face of which only the jaw's axis, the chin and the up direction are known.

    Args:
        pivot, chin, up: (3,) each.
    """
    up = up / np.linalg.norm(up)
    forward = chin - pivot
    forward = forward - up * (forward @ up)
    length = np.linalg.norm(chin - pivot)
    if np.linalg.norm(forward) < 0.2 * length or length == 0:
        return None
    forward /= np.linalg.norm(forward)
    left = np.cross(up, -forward) if mirror else np.cross(-forward, up)
    own = positions()["chin"] - positions()["jaw"]
    scale = length / np.linalg.norm(own)
    # The bundled head looks along -Y with +X to its left.
    linear = np.stack([left, -forward, up], 1) * scale
    return Frame(linear, chin - linear @ positions()["chin"])


def chin_of(moved: np.ndarray, at: np.ndarray, pivot: np.ndarray, up: np.ndarray) -> int:
    """The vertex that is the chin, by what a jaw moves.

    Among the vertices that move nearly as the jaw does, the one as far ahead and down from the
    axis as any, in the direction in which it lies on the bundled head.

    Args:
        moved: (V,) how far each vertex goes for a turn of the jaw.
        at: (V, 3) at rest; pivot (3,); up (3,) unit.
    """
    arm = at - pivot
    height = arm @ up
    flat = arm - height[:, None] * up
    firm = moved > 0.5 * moved.max()
    ahead = flat[firm].mean(0)
    ahead /= max(np.linalg.norm(ahead), 1e-12)
    own = positions()["chin"] - positions()["jaw"]
    direction = np.array([-own[1], own[2]]) / np.linalg.norm(own)
    score = direction[0] * (flat @ ahead) + direction[1] * height
    return int(np.where(firm, score, -np.inf).argmax())


def lip_edge(at: np.ndarray, frame: Frame, point: str, belongs: np.ndarray) -> int | None:
    """The vertex where a lip ends: the upper lip's lowest or the lower lip's highest.

    Looked for around where the bundled head has it, and not behind it: there the mouth begins.

    Args:
        at: (V, 3); point: a place of GAPS; belongs: (V,) bool, vertices of that lip's jaw.
    """
    there = at - frame(positions()[point])
    left, behind, above = (there @ np.linalg.inv(frame.linear).T).T  # metres on the bundled head
    near = belongs & (np.abs(left) < 0.004) & (np.abs(behind + 0.003) < 0.006)
    near &= np.abs(above) < 0.015
    if not near.any():
        return None
    height = above if "lower" in point else -above
    return int(np.where(near, height, -np.inf).argmax())
