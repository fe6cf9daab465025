"""The bundled head's shapes carried over to another head that it was laid onto."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from .fit import EYES, MOUTH_PARTS, Fit, part_vertices, template_triangles
from .landmarks import LANDMARKS, eye_rims, front_view, template_landmarks
from .sparse import Sparse
from .steps import paced
from .surface import (
    barycentric,
    edges_of,
    islands_of,
    nearest,
    normals_of,
    weld_borders,
)
from .template import FaceTemplate, bundled_template

# Metres that a wrong direction of the surface counts for where points of the mesh are looked up
# on the bundled head; so that the upper lip finds the upper lip.
TURN = 0.02
# From so far off, or turned away by so much, a point's neighbours know better.
DOUBT, ASIDE = 0.004, 0.3
ANCHOR = 50.0  # pull of a shape's own displacement against its gradients, per square metre
MEET = 3.0  # pull on pairs that are to meet
TORN = 0.003  # metres that an edge may grow, beside its own length
FEW = 0.05  # share of the vertices that is no lip but a stray patch of one
OVERLAP = 0.0008  # metres by which a closed lid lies on the other
JOINED = 0.008  # metres by which no edge of lips that are apart grows
# Shapes that bring lids or lips together.
MEETING = ("eyeBlinkLeft", "eyeBlinkRight", "mouthClose")
SMOOTH = 0.3  # pull of a vertex's neighbours against its own displacement, where that is sure
STILL = 2e-6  # metres that are no movement
COLUMNS = 12  # solved at a time: some milliseconds for each step


def transfer_shapes(fit: Fit, triangles: np.ndarray) -> Generator[float, None, np.ndarray]:
    """The shapes of the bundled head on a mesh.

    Args:
        fit: of the mesh, by `fit.fit_template`.
        triangles: (T, 3) vertex indices of the mesh.

    Yields:
        The share done, 0 to 1.

    Returns:
        (52, V', 3) float32 displacements in the mesh's axes and units, in the order of the
        bundled head's shapes.
    """
    template = bundled_template()
    moved = yield from _on_laid(template, fit.laid)
    yield 0.4
    deltas = yield from _on_mesh(template, fit, triangles, moved)
    return deltas @ fit.linear.T.astype(np.float32)


def lips_are_joined(fit: Fit, triangles: np.ndarray, deltas: np.ndarray) -> bool:
    """Whether jawOpen stretches edges across the middle of the mouth instead of opening it."""
    template = bundled_template()
    edges = edges_of(triangles[fit.skin])
    jaw = deltas[template.shape_names.index("jawOpen")] @ np.linalg.inv(fit.linear).T
    rest, opened = (
        np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
        for points in (fit.placed, fit.placed + jaw)
    )
    left, right, upper = (
        fit.laid[LANDMARKS[name][0]] for name in ("mouth_left", "mouth_right", "upper_lip")
    )
    middle = fit.placed[edges].mean(1) - upper
    reach = 0.3 * (left - right)[0]
    here = (np.abs(middle[:, 0]) < reach) & (np.linalg.norm(middle, axis=1) < 0.03)
    return bool(np.count_nonzero(here & (opened - rest > JOINED)) > 2)


# --- From the bundled head to the same head as it is laid ----------------------------------


def _on_laid(template: FaceTemplate, laid: np.ndarray) -> Generator[float, None, np.ndarray]:
    """(K, V, 3) shapes of the laid head: each triangle turns and stretches as it does at home.

    Deformation transfer (Sumner and Popović, SIGGRAPH 2004) between meshes of one topology, as a
    Poisson equation (Botsch et al., VMV 2006): of all displacements d those whose gradients are
    nearest to the deformation's at home, J - 1, by area, held softly to the displacements there.
    """
    skin = len(template.regions["skin"])
    equations = _Equations(template, laid[:skin])
    shapes = template.shape_deltas[:, :skin].astype(np.float64)
    moved = np.array(template.shape_deltas, np.float32)
    names = template.shape_names
    usual = equations.system()
    batches = [
        [names.index(name) for name in names[begin : begin + COLUMNS // 3] if name not in MEETING]
        for begin in range(0, len(names), COLUMNS // 3)
    ]
    for number, chosen in enumerate(batches):
        right = np.stack([equations.right(shapes[shape]) for shape in chosen], 1)
        start = shapes[chosen].transpose(1, 0, 2).reshape(skin, -1)
        steps = usual.solve(right.reshape(skin, -1), start, tolerance=1e-4, most=300)
        solved = yield from paced(steps, number / (len(batches) + len(MEETING)))
        moved[chosen, :skin] = solved.reshape(skin, -1, 3).transpose(1, 0, 2)
    # Those that meet come last: where the jaw went is known by then.
    for number, name in enumerate(MEETING, len(batches)):
        shape = names.index(name)
        pairs, goal, more = _meetings(template, laid[:skin], moved[:, :skin], name)
        right = more * equations.right(shapes[shape]) + equations.pull(pairs, goal)
        steps = equations.system(pairs).solve(right, shapes[shape], tolerance=1e-4, most=300)
        moved[shape, :skin] = yield from paced(steps, number / (len(batches) + len(MEETING)))
    for part in (*MOUTH_PARTS, *EYES):
        index = part_vertices(template, part)
        middle = template.vertices[index].mean(0)
        size = np.linalg.norm(laid[index] - laid[index].mean(0)) / np.linalg.norm(
            template.vertices[index] - middle
        )
        moved[:, index] *= np.float32(size)
    return moved


class _Equations:
    """The linear equations of `_on_laid`, whose unknowns are displacements of the skin (n, 3)."""

    def __init__(self, template: FaceTemplate, there: np.ndarray) -> None:
        """Args: there: (n, 3) the skin of the laid head."""
        self.triangles = template_triangles(template)
        self.home = template.vertices[: len(there)].astype(np.float64)
        self.back = np.linalg.inv(_frames(self.home, self.triangles))
        inverse = np.linalg.inv(_frames(there, self.triangles))
        # (T, 3 corners, 3): gradients of the functions that are 1 at a corner and 0 at the others.
        self.hats = np.stack([-(inverse[:, 0] + inverse[:, 1]), inverse[:, 0], inverse[:, 1]], 1)
        a, b, c = (there[self.triangles[:, corner]] for corner in range(3))
        self.area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        third = np.repeat(self.area / 3, 3)
        self.share = np.bincount(self.triangles.ravel(), third, len(there)) * ANCHOR

    def system(self, pairs: np.ndarray | None = None) -> Sparse:
        """The left side, where given with pairs of vertices (m, 2) that are to meet."""
        count, triangles = len(self.home), self.triangles
        everyone = np.arange(count)
        gradients = np.einsum("tia,tja,t->tij", self.hats, self.hats, self.area)
        rows = [np.repeat(triangles, 3, 1).ravel(), everyone]
        columns = [np.tile(triangles, (1, 3)).ravel(), everyone]
        values = [gradients.ravel(), self.share + 1e-12]
        if pairs is not None:
            rows += [pairs.T.ravel(), pairs.T.ravel()]
            columns += [pairs.T.ravel(), pairs[:, ::-1].T.ravel()]
            values.append(np.repeat([MEET, -MEET], 2 * len(pairs)))
        return Sparse(count, *map(np.concatenate, (rows, columns, values)))

    def right(self, shape: np.ndarray) -> np.ndarray:
        """(n, 3) the right side of a shape (n, 3) of the head at home."""
        gradient = _frames(self.home + shape, self.triangles) @ self.back - np.eye(3)
        parts = np.einsum("tka,tca,t->tck", gradient, self.hats, self.area)
        corners = self.triangles.ravel()
        axes = [np.bincount(corners, axis.ravel(), len(shape)) for axis in np.moveaxis(parts, 2, 0)]
        return np.stack(axes, 1) + self.share[:, None] * shape

    def pull(self, pairs: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """(n, 3) to be added to the right side: pairs (m, 2) part by a goal (m, 3)."""
        first, second = pairs.T
        axes = [
            np.bincount(first, way, len(self.home)) - np.bincount(second, way, len(self.home))
            for way in goal.T
        ]
        return MEET * np.stack(axes, 1)


def _meetings(
    template: FaceTemplate, there: np.ndarray, moved: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray, float]:
    """Pairs of vertices (m, 2) that a shape brings together; how far it has to move the first
    of them against the second (m, 3) on the laid head to do so there; and by how much that is
    more than at home. Gradients alone do not know how far the lids of another head are open.
    """
    if name != "mouthClose":
        return _lids(template, there, name)
    index = np.union1d(template.regions["lips"], template.regions["inside_mouth"])
    jaw, close = (template.shape_names.index(shape) for shape in ("jawOpen", name))
    home = template.vertices[index].astype(np.float64)
    apart = home + template.shape_deltas[jaw, index]
    met = apart + template.shape_deltas[close, index]
    far = np.linalg.norm(apart[:, None] - apart, axis=2) > 0.003
    near = np.linalg.norm(met[:, None] - met, axis=2) < 0.002
    first, second = np.nonzero(np.triu(far & near))
    pairs = np.stack([index[first], index[second]], 1)
    # As near to each other as they are at rest, here as there.
    change = (met - home)[first] - (met - home)[second]
    return pairs, change - (moved[jaw, pairs[:, 0]] - moved[jaw, pairs[:, 1]]), 1.0


def _lids(
    template: FaceTemplate, there: np.ndarray, name: str
) -> tuple[np.ndarray, np.ndarray, float]:
    """As `_meetings`, of a blink: the edge of the upper lid comes to that of the lower lid.

    At home it goes on over the lower lid, by 3 mm; elsewhere that would look wrong.
    """
    skin = template.vertices[: len(there)].astype(np.float64)
    view = front_view(skin, template_triangles(template))
    rim = eye_rims(view, skin[template_landmarks()])[name.removeprefix("eyeBlink").lower()]
    pairs = np.unique(nearest(rim, skin).reshape(2, -1).T, axis=0)
    upper, lower = pairs.T
    delta = template.shape_deltas[template.shape_names.index(name)]
    goal = there[lower] - there[upper] - [0.0, 0.0, OVERLAP]
    goal[:, 0] = delta[upper, 0] - delta[lower, 0]
    travel = (delta[upper, 2] - delta[lower, 2]).sum()
    return pairs, goal, float(goal[:, 2].sum() / travel)


def _frames(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(T, 3, 3) columns: two edges of each triangle, and its normal, as long as they are."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    normal = np.cross(b - a, c - a)
    length = np.sqrt(np.linalg.norm(normal, axis=1, keepdims=True))
    return np.stack([b - a, c - a, normal / np.maximum(length, 1e-12)], 2)


# --- From the laid head to the mesh --------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Places:
    """For n vertices of the mesh: a triangle of the laid head, weights in it, how sure."""

    corners: np.ndarray  # (n, 3)
    weights: np.ndarray  # (n, 3)
    ways: np.ndarray  # (n, 3 corners, 3) from the corners to the place, metres
    apart: np.ndarray  # (n,) metres
    aside: np.ndarray  # (n,) cosine of the angle between the surfaces

    def of(self, moved: np.ndarray, gradients: np.ndarray) -> np.ndarray:
        """(n, 3) displacements from those of the laid head (V, 3) and their gradients (V, 3, 3).

        Not flat over each triangle, else its edges would be seen on a finer mesh: the corners'
        linear motions are blended (Boubekeur and Alexa, Phong Tessellation, 2008, with its 3/4).
        """
        flat = np.einsum("nk,nkc->nc", self.weights, moved[self.corners])
        bent = np.einsum("nk,nkcd,nkd->nc", self.weights, gradients[self.corners], self.ways)
        return flat + np.float32(0.75) * bent


def _find(
    points: np.ndarray,
    normals: np.ndarray,
    laid: np.ndarray,
    triangles: np.ndarray,
    turn: float = TURN,
) -> _Places:
    """Where points (n, 3) are on the laid head: near, and on a surface that faces as they do."""
    facing = normals_of(laid, triangles)
    used = np.unique(triangles)
    pick = used[
        nearest(np.hstack([points, normals * turn]), np.hstack([laid[used], facing[used] * turn]))
    ]
    order = np.argsort(triangles.ravel(), kind="stable")
    counts = np.bincount(triangles.ravel(), minlength=len(laid))
    begin = np.cumsum(counts) - counts
    best = np.full(len(points), np.inf)
    corners, weights = np.zeros((len(points), 3), np.int64), np.zeros((len(points), 3))
    for step in range(int(counts.max())):
        rows = np.flatnonzero(counts[pick] > step)
        some = triangles[order[begin[pick[rows]] + step] // 3]
        inside, apart = barycentric(points[rows], *(laid[some[:, corner]] for corner in range(3)))
        better = apart < best[rows]
        rows = rows[better]
        best[rows], corners[rows], weights[rows] = apart[better], some[better], inside[better]
    place = np.einsum("nk,nkc->nc", weights, laid[corners])
    ways = place[:, None] - laid[corners]
    aside = np.einsum("nk,nkc,nc->n", weights, facing[corners], normals)
    return _Places(
        corners, weights.astype(np.float32), ways.astype(np.float32), np.sqrt(best), aside
    )


class _Gradients:
    """How displacements of the laid head change along its surface."""

    def __init__(self, laid: np.ndarray, triangles: np.ndarray) -> None:
        a, b, c = (laid[triangles[:, corner]] for corner in range(3))
        self.triangles = triangles
        self.count = len(laid)
        self.inverse = np.linalg.inv(_frames(laid, triangles))[:, :2]
        self.area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        total = np.bincount(triangles.ravel(), np.repeat(self.area, 3), self.count)
        self.total = np.where(total == 0, 1.0, total)

    def of(self, moved: np.ndarray) -> np.ndarray:
        """(V, 3, 3) float32 at the vertices, of displacements (V, 3): means by area."""
        a, b, c = (moved[self.triangles[:, corner]] for corner in range(3))
        each = np.stack([b - a, c - a], 2) @ self.inverse * self.area[:, None, None]
        corners = self.triangles.ravel()
        summed = [
            np.bincount(corners, np.repeat(entry, 3), self.count) / self.total
            for entry in each.reshape(-1, 9).T
        ]
        return np.stack(summed, 1).reshape(-1, 3, 3).astype(np.float32)


def _on_mesh(
    template: FaceTemplate, fit: Fit, triangles: np.ndarray, moved: np.ndarray
) -> Generator[float, None, np.ndarray]:
    """(K, V', 3) float32 shapes on the mesh, in the bundled head's axes and size."""
    count = len(fit.placed)
    stands = weld_borders(fit.placed, triangles)
    joined = stands[triangles]
    skin = np.unique(joined[fit.skin])
    deltas = np.zeros((len(moved), count, 3), np.float32)
    skin_triangles = template_triangles(template)
    reach = fit.laid.min(0) - 0.02, fit.laid.max(0) + 0.02
    near = skin[((fit.placed[skin] > reach[0]) & (fit.placed[skin] < reach[1])).all(1)]
    normals = normals_of(fit.placed, joined)
    if _inside_out(fit.placed, joined[fit.skin]):
        normals = -normals
    gradients = _Gradients(fit.laid, skin_triangles)
    places = _find(fit.placed[near], normals[near], fit.laid, skin_triangles)
    yield 0.5
    sure = np.exp(-((places.apart / DOUBT) ** 2)) * (places.aside > ASIDE)
    links = _links(near, joined[fit.skin], count)
    for name in ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight"):
        shape = moved[template.shape_names.index(name)]
        sure[_strays(fit.placed[near], places.of(shape, gradients.of(shape)), links)] = 0.0
    spread = _Spread(links, sure)
    names = range(len(moved))
    for shape in names:
        copied = places.of(moved[shape], gradients.of(moved[shape]))
        if np.abs(copied).max(initial=0) > STILL:
            deltas[shape, near] = yield from spread.smooth(copied)
        yield 0.5 + 0.45 * (shape + 1) / len(moved)
    _follow(template, fit, joined, moved, deltas)
    return deltas[:, stands]


def _inside_out(vertices: np.ndarray, triangles: np.ndarray) -> bool:
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    middle = vertices[np.unique(triangles)].mean(0)
    return bool(np.einsum("ij,ij->", a - middle, np.cross(b - a, c - a)) < 0)


def _links(near: np.ndarray, triangles: np.ndarray, count: int) -> np.ndarray:
    """(E, 2) edges between the vertices `near`, by their place in it."""
    place = np.full(count, -1)
    place[near] = np.arange(len(near))
    edges = place[edges_of(triangles)]
    return edges[(edges >= 0).all(1)]


def _strays(points: np.ndarray, moved: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(n,) which vertices an opening jaw or a closing lid would tear off from those around them.

    Where lips press against each other, some of one lip may have been found on the other. They
    are few, and all edges from them to the rest would be torn; those of lips that are joined
    hold together at the corners.
    """
    a, b = edges.T
    length = np.linalg.norm(points[a] - points[b], axis=1)
    torn = np.linalg.norm(moved[a] - moved[b], axis=1) > TORN + length
    patch = islands_of(len(points), edges[~torn])
    at_tear = np.zeros(len(points), bool)
    at_tear[edges[torn]] = True
    small = np.bincount(patch)[patch] < len(points) * FEW
    torn_patches = np.unique(patch[at_tear & small])
    return np.isin(patch, torn_patches)


class _Spread:
    """Displacements that are sure here and doubtful there, made whole over the mesh's edges."""

    def __init__(self, edges: np.ndarray, sure: np.ndarray) -> None:
        # Where both ends are sure, nothing is smoothed.
        pull = SMOOTH * (1 - sure[edges[:, 0]] * sure[edges[:, 1]])
        total = np.bincount(edges.ravel(), np.repeat(pull, 2), len(sure))
        everyone = np.arange(len(sure))
        self.sure = sure[:, None]
        self.system = Sparse(
            len(sure),
            np.concatenate([edges[:, 0], edges[:, 1], everyone]),
            np.concatenate([edges[:, 1], edges[:, 0], everyone]),
            np.concatenate([-pull, -pull, total + sure + 1e-5]),
        )

    def smooth(self, copied: np.ndarray) -> Generator[float, None, np.ndarray]:
        """(n, 3): least squares of sure (d - copied)² and of differences along doubtful edges."""
        return self.system.solve(self.sure * copied, copied, tolerance=1e-3, most=200)


# --- Eyes, teeth, tongue and whatever else is loose ----------------------------------------


def _follow(
    template: FaceTemplate,
    fit: Fit,
    triangles: np.ndarray,
    moved: np.ndarray,
    deltas: np.ndarray,
) -> None:
    """Move the loose parts, in place: eyeballs turn, teeth go with their jaw, the rest follows."""
    loose = triangles[~fit.skin]
    if not len(loose):
        return
    used = np.unique(loose)
    place = np.zeros(len(fit.placed), np.int64)
    place[used] = np.arange(len(used))
    edges = place[edges_of(loose)]
    island = islands_of(len(used), edges)
    points = fit.placed[used]
    index = {part: part_vertices(template, part) for part in (*MOUTH_PARTS, *EYES)}
    parts = {part: _Part(fit.laid[rows], moved[:, rows]) for part, rows in index.items()}
    inside = np.union1d(
        np.concatenate([index[part] for part in MOUTH_PARTS]), template.regions["inside_mouth"]
    )
    whole = nearest(points, fit.laid)
    in_mouth = np.isin(whole, inside)
    skin_triangles = template_triangles(template)
    for number in range(int(island.max()) + 1):
        rows = np.flatnonzero(island == number)
        some = points[rows]
        eye = next((eye for eye in EYES if parts[eye].is_like(some)), None)
        if eye is not None:
            result = parts[eye].turned(some)
        elif in_mouth[rows].mean() > 0.6:
            own = edges[island[edges[:, 0]] == number]
            result = _in_mouth(parts, some, np.searchsorted(rows, own))
        else:
            result = _on_skin(some, fit.laid, skin_triangles, moved)
        deltas[:, used[rows]] = result


LOOSE = 0.01, 0.03  # metres off the skin up to which a loose part goes with it fully, and at all
SMALL = 0.008  # metres: what is smaller goes as one piece


class _Part:
    """One of the laid head's parts and how its shapes move it: (n, 3) and (K, n, 3)."""

    def __init__(self, points: np.ndarray, moved: np.ndarray) -> None:
        self.points, self.moved = points, moved
        self.middle = (points.min(0) + points.max(0)) / 2
        self.radius = float(np.ptp(points, axis=0).max()) / 2
        self.known = self._table(points)

    def _table(self, points: np.ndarray) -> np.ndarray:
        """(m, 4): places in the part's own size, and 1."""
        return np.hstack([(points - self.middle) / self.radius, np.ones((len(points), 1))])

    def field(self, points: np.ndarray) -> np.ndarray:
        """(K, m, 3) at any points, by the linear field nearest to the part's own motion."""
        count = len(self.moved)
        flat = self.moved.transpose(1, 0, 2).reshape(len(self.points), -1).astype(np.float64)
        # Flat or straight parts leave a direction open: there nothing changes.
        linear = np.linalg.lstsq(self.known, flat, rcond=0.02)[0]
        there = self._table(points) @ linear
        return there.reshape(len(points), count, 3).transpose(1, 0, 2).astype(np.float32)

    def is_like(self, points: np.ndarray) -> bool:
        """Whether a loose part (m, 3) is an eyeball, or a shell of one, in this one's place."""
        size = np.ptp(points, axis=0)
        away = np.linalg.norm(points - self.middle, axis=1)
        return bool(
            np.sort(size)[1] > 0.8 * self.radius
            and size.max() < 3.2 * self.radius
            and np.quantile(away, 0.9) < 1.6 * self.radius
            and np.linalg.norm((points.min(0) + points.max(0)) / 2 - self.middle) < self.radius
        )

    def turned(self, points: np.ndarray) -> np.ndarray:
        """(K, m, 3) of an eyeball of any size, about its own middle."""
        middle, radius = _sphere(points)
        if np.linalg.norm(middle - self.middle) > 0.7 * self.radius:
            middle, radius = self.middle, self.radius
        ratio = self.radius / radius
        return self.field((points - middle) * ratio + self.middle) / np.float32(ratio)


def _sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Middle and radius of the sphere nearest to points (m, 3), linear least squares."""
    middle = points.mean(0)
    some = points - middle
    table = np.hstack([2 * some, np.ones((len(some), 1))])
    solved = np.linalg.lstsq(table, (some**2).sum(1), rcond=None)[0]
    return middle + solved[:3], float(np.sqrt(max(solved[3] + (solved[:3] ** 2).sum(), 1e-12)))


ROW = 0.65  # share of the votes that makes a piece one row of teeth


def _in_mouth(parts: dict[str, _Part], points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(K, m, 3) of teeth, gums and tongue: each goes with the nearest of the laid head's."""
    single = np.ptp(points, axis=0).max() < parts["teeth_upper"].radius  # a tooth
    names = MOUTH_PARTS[:2] if single else MOUTH_PARTS
    everything = np.concatenate([parts[part].points for part in names])
    kind = np.repeat(np.arange(len(names)), [len(parts[part].points) for part in names])
    pick = nearest(points, everything)
    votes = np.bincount(kind[pick], minlength=3) / len(points)
    chosen = int(votes[:2].argmax())
    # Teeth stand a few millimetres higher or lower in each head: some of a row is nearer to the
    # other one. Both rows in one piece have about as many votes each.
    if single or (votes[chosen] > ROW * votes[:2].sum() and votes[2] < 1 - ROW):
        return parts[MOUTH_PARTS[chosen]].field(points)
    tongue = parts["tongue"].moved[:, nearest(points, parts["tongue"].points)]
    if votes[2] > 0.8:
        return _relaxed(tongue, edges, rounds=2)
    fields = [*(parts[part].field(points) for part in MOUTH_PARTS[:2]), tongue]
    return _relaxed(np.choose(kind[pick][None, :, None], fields), edges)


def _relaxed(moved: np.ndarray, edges: np.ndarray, rounds: int = 10) -> np.ndarray:
    """(K, m, 3) with each vertex moved to the mean of itself and its neighbours, some times."""
    count = moved.shape[1]
    rows = np.concatenate([edges[:, 0], edges[:, 1], np.arange(count)])
    columns = np.concatenate([edges[:, 1], edges[:, 0], np.arange(count)])
    degree = np.bincount(rows, minlength=count)
    mean = Sparse(count, rows, columns, 1.0 / degree[rows])
    flat = moved.transpose(1, 0, 2).reshape(count, -1)
    for _ in range(rounds):
        flat = mean @ flat
    return flat.reshape(count, -1, 3).transpose(1, 0, 2)


def _on_skin(
    points: np.ndarray, laid: np.ndarray, triangles: np.ndarray, moved: np.ndarray
) -> np.ndarray:
    """(K, m, 3) of lashes, brows, beards: they go with the skin below them."""
    place = _find(points, np.zeros_like(points), laid, triangles, turn=0.0)
    share = np.clip((LOOSE[1] - place.apart) / (LOOSE[1] - LOOSE[0]), 0.0, 1.0)
    gradients = _Gradients(laid, triangles)
    result = np.zeros((len(moved), len(points), 3), np.float32)
    for shape in range(len(moved)):
        result[shape] = place.of(moved[shape], gradients.of(moved[shape])) * share[:, None]
    if np.ptp(points, axis=0).max() < SMALL:
        result[:] = result.mean(1, keepdims=True)
    return result
