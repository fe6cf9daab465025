"""The bundled head laid onto another head: each of its vertices goes to its place there."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from .errors import SelfTalkError
from .landmarks import LANDMARKS, NAMES, eye_rims, front_view, skin_of, template_landmarks
from .retarget import Correspondence, similarity
from .sparse import Sparse
from .steps import at_last
from .surface import border_of, edges_of, nearest, normals_of, triangulate, weld_borders
from .template import FaceTemplate, bundled_template

# How stiff the bundled head is, step by step, against a pull of 1 on each vertex; and how often
# the nearest points are looked for anew at each.
STIFFNESS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.05, 0.05)
STIFF_LIDS = 1.0
ROUNDS = 3
TURN = 0.03  # metres that a wrong direction of the surface counts for
FAR = 0.02  # metres from which a nearest point hardly counts
# The same inside the mouth and behind the eyelids, where the other head may have nothing.
FAR_INSIDE = 0.008
SLIDE = 0.15  # how much of the way along the surface to the nearest point is gone at a time
# Landmarks are known to some 2 mm, and lids in a view to 0.7: closer than that the surfaces
# tell better.
KNOWN_TO, SEEN_TO = 0.002, 0.0007
# RMS distance of ten landmarks to the bundled head's as a share of their size: people 0.1.
UNLIKE = 0.3
AJAR = 0.003  # metres by which lips are parted that are to be opened before the fit
POINTS = 30_000  # of the mesh that are looked at


@dataclass(frozen=True, eq=False)
class Fit:
    """Where the bundled head is on a mesh.

    Attributes:
        linear: (3, 3), shift: (3,) bring the bundled head's size, axes and place to the mesh's:
            mesh = linear @ head + shift.
        placed: (V', 3) the mesh's vertices in the bundled head's size, axes and place, metres.
        skin: (T,) which of the mesh's triangles are skin.
        laid: (V, 3) the bundled head's vertices on `placed`; eyes, teeth and tongue follow.
    """

    linear: np.ndarray
    shift: np.ndarray
    placed: np.ndarray
    skin: np.ndarray
    laid: np.ndarray


def template_triangles(template: FaceTemplate) -> np.ndarray:
    """(T, 3) triangles of the template's skin."""
    skin = np.isin(template.polygons, template.regions["skin"]).all(1)
    quads = template.polygons[skin]
    return triangulate(quads.ravel(), np.full(len(quads), 4))


def fit_template(
    vertices: np.ndarray, triangles: np.ndarray, landmarks: np.ndarray
) -> Generator[float, None, Fit]:
    """Lay the bundled head onto a mesh, stiff at first, then more and more softly.

    Nonrigid closest points (Amberg, Romdhani and Vetter, CVPR 2007), with the displacements'
    differences along edges as stiffness, and pulled towards the tangent planes.

    Args:
        vertices: (V', 3) in any right-handed axes and units.
        triangles: (T, 3) vertex indices.
        landmarks: (10, 3) in the mesh's axes and units, in the order of `landmarks.NAMES`.

    Yields:
        The share done, 0 to 1.

    Raises:
        SelfTalkError: the landmarks are no face's.
    """
    template = bundled_template()
    source, linear, misfit = _opened(template, landmarks)
    if not misfit < UNLIKE:
        raise SelfTalkError(
            "The landmarks are not placed as on a face. Check that none is on the wrong side; "
            "left is the character's left."
        )
    vertices = np.asarray(vertices, np.float64)
    shift = landmarks.mean(0) - linear @ source[template_landmarks()].mean(0)
    back = np.linalg.inv(linear)
    skin = skin_of((vertices - shift) @ back.T, triangles)
    yield 0.05
    surface = _Surface(vertices, triangles[skin])
    linear, shift = _align(template, source, surface, linear, shift)
    back = np.linalg.inv(linear)
    surface = surface.moved(back, -back @ shift)
    yield 0.1
    placed = (vertices - shift) @ back.T
    marks = (landmarks - shift) @ back.T
    index, ways = _guides(template, source, placed, triangles[skin], marks)
    laid = yield from _lay(template, source, surface, index, ways)
    return Fit(linear, shift, placed, skin, _with_parts(template, source, laid))


def _opened(template: FaceTemplate, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The bundled head (V, 3) with its mouth as open as the landmarks' (10, 3); the linear part
    of the similarity from it to them, and how much they are unlike it.

    Lips that touch are not torn apart by any smooth way from one head to the other.
    """
    source = template.vertices.astype(np.float64)
    jaw = template.shape_deltas[template.shape_names.index("jawOpen")].astype(np.float64)
    upper, lower = (NAMES.index(name) for name in ("upper_lip", "lower_lip"))
    own = source[template_landmarks()]
    moved = jaw[template_landmarks()]
    parting = moved[upper, 2] - moved[lower, 2]
    share = 0.0
    for _ in range(5):  # an open mouth is larger, which the similarity has to know
        linear, misfit = similarity(own + share * moved, landmarks)
        gap = np.linalg.inv(linear) @ (landmarks[upper] - landmarks[lower])
        more = gap[2] - (own[upper] - own[lower])[2]
        share = min(more / parting, 1.0) if more > AJAR else 0.0
    return source + share * jaw, linear, misfit


def _guides(
    template: FaceTemplate,
    source: np.ndarray,
    placed: np.ndarray,
    skin: np.ndarray,
    marks: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) vertices of the bundled head whose way is known, and their ways (n, 3).

    They are the landmarks', and those along the edges of the eyelids where a view from the front
    shows them on both heads: nearest points alone take lids for sockets.
    """
    own = source[template_landmarks()]
    index, ways = [template_landmarks()], [_beyond(marks - own, KNOWN_TO)]
    here, there = (
        eye_rims(front_view(points, triangles), places)
        for points, triangles, places in (
            (source, template_triangles(template), own),
            (placed, skin, marks),
        )
    )
    for side in here.keys() & there.keys():
        index.append(nearest(here[side], source[: len(template.regions["skin"])]))
        ways.append(_beyond(there[side] - here[side], SEEN_TO))
    return np.concatenate(index), np.concatenate(ways)


def _beyond(way: np.ndarray, known: float) -> np.ndarray:
    """Ways (n, 3) without what may be chance."""
    length = np.linalg.norm(way, axis=1, keepdims=True)
    return way * np.maximum(1 - known / np.maximum(length, known), 0)


def fit_known(vertices: np.ndarray, triangles: np.ndarray, match: Correspondence) -> Fit:
    """The fit to a mesh of the bundled head's topology, whose vertices are known by number.

    Args:
        vertices: (V', 3); there may be more than the match knows of.
        triangles: (T, 3) vertex indices.
        match: which vertices they are.
    """
    template = bundled_template()
    known, there = match.template_index, match.target_index
    linear = match.linear
    shift = vertices[there].mean(0) - linear @ template.vertices[known].mean(0)
    placed = (vertices - shift) @ np.linalg.inv(linear).T
    laid = template.vertices.astype(np.float64)
    laid[known] = placed[there]
    source = template.vertices.astype(np.float64)
    laid = _with_parts(template, source, laid[: len(template.regions["skin"])])
    laid[known] = placed[there]
    return Fit(linear, shift, placed, skin_of(placed, triangles), laid)


class _Surface:
    """Points and normals of a mesh's skin, those of its open edges left out."""

    def __init__(self, vertices: np.ndarray, triangles: np.ndarray) -> None:
        joined = weld_borders(vertices, triangles)[triangles]
        used = np.unique(joined)
        normals = normals_of(vertices, joined)
        border = border_of(joined)
        a, b, c = (vertices[joined[:, corner]] for corner in range(3))
        if np.einsum("ij,ij->", a - vertices[used].mean(0), np.cross(b - a, c - a)) < 0:
            normals = -normals
        self.points, self.normals = vertices[used], normals[used]
        self.border = np.isin(used, border)

    def moved(self, linear: np.ndarray, shift: np.ndarray) -> _Surface:
        """This surface after a similarity."""
        other = object.__new__(_Surface)
        other.points = self.points @ linear.T + shift
        other.normals = self.normals @ linear.T / np.cbrt(np.linalg.det(linear))
        other.border = self.border
        return other

    def around(self, points: np.ndarray) -> _Surface:
        """What of it is near points (n, 3), thinned to POINTS."""
        near = (self.points > points.min(0) - 0.03) & (self.points < points.max(0) + 0.03)
        index = np.flatnonzero(near.all(1))
        if len(index) > POINTS:
            index = np.sort(np.random.default_rng(0).permutation(index)[:POINTS])
        other = object.__new__(_Surface)
        other.points, other.normals = self.points[index], self.normals[index]
        other.border = self.border[index]
        return other

    def pull(
        self, points: np.ndarray, normals: np.ndarray, slide: float, far: np.ndarray | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) how far points are to go, mostly along the normals there; (n,) their weights."""
        there = np.hstack([self.points, self.normals * TURN])
        pick = nearest(np.hstack([points, normals * TURN]), there)
        way, facing = self.points[pick] - points, self.normals[pick]
        ahead = np.einsum("ij,ij->i", way, facing)[:, None] * facing
        alike = np.einsum("ij,ij->i", facing, normals) > 0.5
        weight = np.exp(-np.einsum("ij,ij->i", way, way) / far**2) * alike * ~self.border[pick]
        return ahead + slide * (way - ahead), weight


def _align(
    template: FaceTemplate,
    source: np.ndarray,
    surface: _Surface,
    linear: np.ndarray,
    shift: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The similarity that brings the front of the bundled head nearest to the mesh."""
    triangles = template_triangles(template)
    normals = normals_of(source, triangles)
    front = _front(template, normals)
    for _ in range(15):
        back = np.linalg.inv(linear)
        near = surface.moved(back, -back @ shift).around(source[front])
        way, weight = near.pull(source[front], normals[front], SLIDE, FAR)
        kept = weight > np.quantile(weight, 0.2)
        target = (source[front] + way)[kept]
        turn, _ = similarity(source[front][kept], target)
        offset = target.mean(0) - turn @ source[front][kept].mean(0)
        linear, shift = linear @ turn, linear @ offset + shift
    return linear, shift


def _front(template: FaceTemplate, normals: np.ndarray) -> np.ndarray:
    front = np.zeros(len(template.vertices), bool)
    front[template.regions["skin"]] = True
    front[template.regions["inside_mouth"]] = False
    front[template.regions["ears"]] = False
    chin = template.vertices[LANDMARKS["chin"][0], 2]
    front &= (normals[:, 1] < -0.2) & (template.vertices[:, 1] < 0)
    return np.flatnonzero(front & (template.vertices[:, 2] > chin - 0.005))


def _lay(
    template: FaceTemplate,
    everything: np.ndarray,
    surface: _Surface,
    index: np.ndarray,
    ways: np.ndarray,
) -> Generator[float, None, np.ndarray]:
    """(n, 3) places of the template's skin vertices, which are its first n."""
    count = len(template.regions["skin"])
    source = everything[:count]
    triangles = template_triangles(template)
    base = source + _spread(source, index, ways)
    goal = source[index] + ways

    inside, rim, socket = (np.zeros(count, bool) for _ in range(3))
    inside[template.regions["inside_mouth"]] = True
    for eye in EYES:
        ball = everything[part_vertices(template, eye)]
        middle, radius = (ball.min(0) + ball.max(0)) / 2, np.ptp(ball[:, 0]) / 2
        socket |= np.linalg.norm(source - middle, axis=1) < 1.03 * radius
    rim[template.regions["neck_boundary"]] = True
    far = np.where(inside | socket, FAR_INSIDE, FAR)
    edges = edges_of(triangles)
    ends = np.concatenate([edges[:, 0], edges[:, 1]]), np.concatenate([edges[:, 1], edges[:, 0]])
    # Lids are thin and folded: each layer would take the other's place.
    lids = socket.copy()
    lids[template.regions["eyelids"]] = True
    folded = lids[edges].any(1)
    everyone = np.arange(count)
    rows, columns = np.concatenate([ends[0], everyone]), np.concatenate([ends[1], everyone])

    laid = base.copy()
    near = surface.around(base)
    for number, stiffness in enumerate(STIFFNESS):
        firm = 20.0 if stiffness > 1 else 2.0
        hold = np.where(folded, max(stiffness, STIFF_LIDS), stiffness)
        total = np.bincount(edges.ravel(), np.repeat(hold, 2), count)
        for turn in range(ROUNDS):
            yield 0.1 + 0.9 * (number * ROUNDS + turn) / (len(STIFFNESS) * ROUNDS)
            pull, weight = near.pull(laid, normals_of(laid, triangles), SLIDE, far)
            weight = weight * ~rim * np.where(socket, 0.03, 1.0)
            if stiffness > 1:
                weight = np.where(inside, 0.1 * weight, weight)
            right = weight[:, None] * (laid + pull - base)
            held = weight + 1e-6
            np.add.at(held, index, firm)
            np.add.at(right, index, firm * (goal - base[index]))
            values = np.concatenate([-hold, -hold, total + held])
            system = Sparse(count, rows, columns, values)
            laid = base + at_last(system.solve(right, laid - base))
    return laid


def _spread(points: np.ndarray, index: np.ndarray, way: np.ndarray) -> np.ndarray:
    """(n, 3) displacements of all points that are `way` (m, 3) at those of an index.

    By the kernel -|x - y|, the smoothest one in space (Duchon 1977), and a shift.
    """
    known = points[index]
    count = len(known)
    matrix = np.ones((count + 1, count + 1))
    matrix[:count, :count] = -np.linalg.norm(known[:, None] - known, axis=-1)
    matrix[:count, :count] += 0.001 * np.eye(count)
    matrix[count, count] = 0.0
    parts = np.linalg.solve(matrix, np.vstack([way, np.zeros((1, 3))]))
    return -np.linalg.norm(points[:, None] - known, axis=-1) @ parts[:count] + parts[count]


def _with_parts(template: FaceTemplate, everything: np.ndarray, laid: np.ndarray) -> np.ndarray:
    """(V, 3): eyes, teeth and tongue go as a whole with the skin around them."""
    source = everything[: len(laid)]
    result = np.vstack([laid, everything[len(laid) :]])
    lids, mouth = template.regions["eyelids"], template.regions["inside_mouth"]
    for part, around in (
        ("eye_l", lids[source[lids, 0] > 0]),
        ("eye_r", lids[source[lids, 0] < 0]),
        *((part, np.union1d(mouth, template.regions["lips"])) for part in MOUTH_PARTS),
    ):
        vertices = part_vertices(template, part)
        linear, _ = similarity(source[around], laid[around])
        middle = laid[around].mean(0) - linear @ source[around].mean(0)
        result[vertices] = everything[vertices] @ linear.T + middle
    return result


EYES = ("eye_l", "eye_r")
MOUTH_PARTS = ("teeth_upper", "teeth_lower", "tongue")


def part_vertices(template: FaceTemplate, part: str) -> np.ndarray:
    """Indices of the vertices of one of the template's parts."""
    assert template.polygon_part is not None
    return np.unique(template.polygons[template.polygon_part == template.part_names.index(part)])
