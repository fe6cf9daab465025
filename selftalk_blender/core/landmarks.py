"""Where a face's mouth, chin, nose and eyes are: found on a mesh, whatever its axes and units.

The bundled head's front is laid over the mesh from many starts (iterated closest points: Besl and
McKay 1992), which finds the face on a head or on a whole body. Then a view of it from the front
shows the lines between the lips and around the eyes.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np

from .depth import DepthMap, depth_map
from .errors import SelfTalkError
from .retarget import similarity
from .surface import edges_of, islands_of, nearest, normals_of, weld_borders
from .template import FaceTemplate, bundled_template

# Left and right are the character's. The vertex of the bundled head, and what to point at.
LANDMARKS: dict[str, tuple[int, str]] = {
    "mouth_left": (2643, "Left corner of the mouth"),
    "mouth_right": (426, "Right corner of the mouth"),
    "upper_lip": (474, "Middle of the upper lip, where it meets the lower lip"),
    "lower_lip": (493, "Middle of the lower lip, where it meets the upper lip"),
    "chin": (1739, "Lowest point of the chin, in the middle"),
    "nose": (1497, "Tip of the nose"),
    "eye_left_inner": (3227, "Inner corner of the left eye"),
    "eye_left_outer": (2257, "Outer corner of the left eye"),
    "eye_right_inner": (1077, "Inner corner of the right eye"),
    "eye_right_outer": (15, "Outer corner of the right eye"),
}
NAMES = tuple(LANDMARKS)

# A face is searched at these shares of the mesh's height: a head, a bust, a body.
SHARES = (1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.14, 0.11)
FRONT_POINTS, MESH_POINTS = 500, 2500
FEW = 40  # vertices that are no head
PROMISING = 12  # starts that are followed to their end
TRIMMED = 0.85  # share of the points, the nearest, that count
TURN = 0.03  # metres that a wrong direction of the surface counts for
# Distance of the bundled head's front to the mesh, metres: people are below 5 mm, a sphere and
# the back of a head above 10.
FARTHEST = 0.009
NEAR = 0.0055
REACH = np.array([0.12, 0.14, 0.15])  # half of the box that a head is looked for in, metres
SKIN_SHARE = 0.08  # of the front's points: a loose part along so many is skin
PIXEL = 0.0005


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points on a face.

    Attributes:
        points: (10, 3) in the mesh's own axes and units, in the order of `NAMES`.
        notices: sentences about what is uncertain, for the user.
    """

    points: np.ndarray
    notices: tuple[str, ...] = ()


def template_landmarks() -> np.ndarray:
    """(10,) vertex indices on the bundled head, in the order of `NAMES`."""
    return np.array([index for index, _ in LANDMARKS.values()])


def suggest_landmarks(
    vertices: np.ndarray, triangles: np.ndarray
) -> Generator[float, None, Landmarks]:
    """Find a face's landmarks; no axes, units or position are assumed.

    Args:
        vertices: (V, 3); left is the character's left if the axes are right-handed.
        triangles: (T, 3) vertex indices; their normals may point in or out.

    Yields:
        The share done, 0 to 1.

    Raises:
        SelfTalkError: no face is found.
    """
    if len(triangles) < FEW:
        raise SelfTalkError(NO_FACE)
    used, triangles = np.unique(triangles, return_inverse=True)  # stray vertices are no head
    vertices, triangles = np.asarray(vertices, np.float64)[used], triangles.reshape(-1, 3)
    if not np.isfinite(vertices).all():
        raise SelfTalkError(NO_FACE)
    # Upright along its axes, as most are; else along those of its own shape.
    own = np.linalg.eigh(np.cov(vertices.T))[1]
    found = None
    for number, frame in enumerate((np.eye(3), own * np.sign(np.linalg.det(own)))):
        if found is None or found[3] > NEAR:
            other = yield from _find_front(vertices, triangles, frame, 0.4 * number)
            found = other if found is None or other[3] < found[3] else found
    assert found is not None
    linear, shift, misfit = _stretch(vertices, triangles, *found)
    if not misfit < FARTHEST:
        raise SelfTalkError(NO_FACE)
    yield 0.85
    placed = vertices @ linear.T + shift
    points, notices = _look(placed, triangles[skin_of(placed, triangles)])
    if misfit > NEAR and NO_LIPS in notices:
        raise SelfTalkError(NO_FACE)
    yield 1.0
    return Landmarks((points - shift) @ np.linalg.inv(linear).T, notices)


def skin_of(placed: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(T,) which triangles of a mesh laid over the bundled head are its skin.

    Skin are the loose parts that lie along the bundled head's front; eyeballs, teeth, lashes and
    hair are not.
    """
    joined = weld_borders(placed, triangles)[triangles]
    island = islands_of(len(placed), edges_of(joined))[joined[:, 0]]
    middles = placed[triangles].mean(1)
    normals = _directions(placed, triangles)
    points, directions = _front(bundled_template())
    near = np.flatnonzero((np.abs(middles - points.mean(0)) < REACH).all(1))
    pick = near[
        nearest(
            np.hstack([points, directions * TURN]),
            np.hstack([middles[near], normals[near] * TURN]),
        )
    ]
    votes = np.bincount(island[pick], minlength=island.max() + 1)
    return np.isin(island, np.flatnonzero(votes > len(points) * SKIN_SHARE))


def _directions(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(T, 3) unit normals of triangles, turned outward."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    cross = np.cross(b - a, c - a)
    if np.einsum("ij,ij->", a - vertices.mean(0), cross) < 0:
        cross = -cross
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    return cross / np.where(length == 0, 1.0, length)


NO_LIPS = "The line between the lips was not found; check the mouth's landmarks."
NO_FACE = (
    "No face was found on this mesh. Choose the mesh with the face, or place the ten landmarks "
    "by hand."
)


# --- Finding the face -----------------------------------------------------------------------


def _front(template: FaceTemplate) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) points and normals of the bundled head's face, without ears, neck and mouth."""
    skin = template.regions["skin"]
    quads = template.polygons[np.isin(template.polygons, skin).all(1)]
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    normals = normals_of(template.vertices.astype(np.float64), triangles)
    front = np.zeros(len(template.vertices), bool)
    front[skin] = True
    front[template.regions["inside_mouth"]] = False
    front[template.regions["ears"]] = False
    chin = template.vertices[LANDMARKS["chin"][0], 2]
    front &= (normals[:, 1] < -0.2) & (template.vertices[:, 1] < 0)
    front &= template.vertices[:, 2] > chin - 0.005
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(front))[:FRONT_POINTS]
    return template.vertices[chosen].astype(np.float64), normals[chosen]


def _orientations() -> list[np.ndarray]:
    """The 24 rotations of a cube (3, 3), the usual ways to model a head first."""
    turns = [
        np.eye(3)[list(order)] * np.array(signs)[:, None]
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1.0, -1.0), repeat=3)
    ]
    return [turn for turn in turns if np.linalg.det(turn) > 0]


def _find_front(
    vertices: np.ndarray, triangles: np.ndarray, frame: np.ndarray, begun: float
) -> Generator[float, None, tuple[np.ndarray, float, np.ndarray, float]]:
    """Rotation, scale and shift that bring the mesh's face onto the bundled head's, and misfit.

    The 24 ways to stand in a frame (3, 3: its axes in columns) are tried.
    """
    template = bundled_template()
    points, _ = front = _front(template)
    normals = _outward(vertices, triangles)
    top = float(template.vertices[:, 2].max())
    height = top - float(template.vertices[LANDMARKS["chin"][0], 2])
    random = np.random.default_rng(0)
    starts = []
    for number, turn in enumerate(_orientations()):
        yield begun + 0.25 * number / 24
        turn = turn @ frame.T
        turned = vertices @ turn.T
        low, high = turned.min(0), turned.max(0)
        for share in SHARES:
            tall = (high[2] - low[2]) * share
            head = turned[turned[:, 2] > high[2] - tall * 0.9]
            if len(head) < FEW or tall == 0:
                continue
            scale = height / tall
            middle = (head[:, 0].min() + head[:, 0].max()) / 2
            at = np.array([middle, head[:, 1].min(), high[2]])
            shift = np.array([0.0, points[:, 1].min(), top]) - scale * at
            placed = _lay(vertices, normals, front, (turn, scale, shift), 4, random)
            if placed is not None:
                starts.append(placed)
    starts.sort(key=lambda placed: placed[3])
    ends = []
    for number, (turn, scale, shift, _) in enumerate(starts[:PROMISING]):
        yield begun + 0.25 + 0.15 * number / PROMISING
        placed = _lay(vertices, normals, front, (turn, scale, shift), 25, random)
        if placed is not None:
            ends.append(placed)
    return min(ends, key=lambda placed: placed[3], default=(np.eye(3), 1.0, np.zeros(3), np.inf))


def _lay(
    vertices: np.ndarray,
    normals: np.ndarray,
    front: tuple[np.ndarray, np.ndarray],
    start: tuple[np.ndarray, float, np.ndarray],
    steps: int,
    random: np.random.Generator,
) -> tuple[np.ndarray, float, np.ndarray, float] | None:
    """Closest points and the best similarity, in turn; None where the mesh is elsewhere."""
    turn, scale, shift = start
    misfit = np.inf
    for _ in range(steps):
        there, facing = scale * vertices @ turn.T + shift, normals @ turn.T
        pairs = _closest(there, facing, front, random)
        if pairs is None:
            return None
        index, kept, misfit = pairs
        source, target = vertices[index], front[0][kept]
        linear, _ = similarity(source, target)
        scale = float(np.cbrt(np.linalg.det(linear)))
        if not scale > 0:
            return None
        turn = linear / scale
        shift = target.mean(0) - linear @ source.mean(0)
    return turn, scale, shift, misfit


def _closest(
    there: np.ndarray,
    facing: np.ndarray,
    front: tuple[np.ndarray, np.ndarray],
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """(n,) vertices of a mesh, with normals, that are nearest to points (n,) of the front, those
    points, and how far they are apart; None where the mesh is elsewhere."""
    points, directions = front
    index = np.flatnonzero((np.abs(there - points.mean(0)) < REACH).all(1))
    if len(index) < FEW:
        return None
    if len(index) > MESH_POINTS:
        index = index[random.permutation(len(index))[:MESH_POINTS]]
    there, facing = there[index], facing[index]
    pick = nearest(np.hstack([points, directions * TURN]), np.hstack([there, facing * TURN]))
    unlike = 1 - np.einsum("ij,ij->i", facing[pick], directions)
    apart = np.linalg.norm(there[pick] - points, axis=1) + TURN / 2 * unlike
    kept = np.flatnonzero(apart <= np.quantile(apart, TRIMMED))
    return index[pick[kept]], kept, float(np.sqrt((apart[kept] ** 2).mean()))


def _stretch(
    vertices: np.ndarray,
    triangles: np.ndarray,
    turn: np.ndarray,
    scale: float,
    shift: np.ndarray,
    misfit: float,
) -> tuple[np.ndarray, np.ndarray, float]:
    """A similarity made to fit a long or a wide face: linear (3, 3), shift (3,) and misfit.

    Along each of the bundled head's axes the mesh gets a scale of its own: else the mouth of a
    long face would be looked for below its nose. Where that gains little, nothing is stretched.
    """
    front = _front(bundled_template())
    normals = _outward(vertices, triangles)
    random = np.random.default_rng(0)
    linear = scale * turn
    best, least = (linear, shift, misfit), WORTH * misfit
    for _ in range(STRETCHES):
        back = np.linalg.inv(linear)
        facing = normals @ back
        facing = facing / np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)
        pairs = _closest(vertices @ linear.T + shift, facing, front, random)
        if pairs is None:
            break
        index, kept, apart = pairs
        if apart < least:
            best, least = (linear, shift, apart), apart
        source, target = vertices[index] @ linear.T, front[0][kept]
        more, _ = similarity(source, target)
        turned = (source - source.mean(0)) @ more.T
        sizes = (turned * (target - target.mean(0))).sum(0) / np.maximum((turned**2).sum(0), 1e-30)
        if not (sizes > 0.5).all():
            break
        linear = sizes[:, None] * more @ linear
        shift = target.mean(0) - linear @ vertices[index].mean(0)
    return best


STRETCHES = 25
WORTH = 0.9  # of the misfit before: from here on a stretch is one


def _outward(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals of vertices, turned outward."""
    normals = normals_of(vertices, triangles)
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    inward = np.einsum("ij,ij->", a - vertices.mean(0), np.cross(b - a, c - a)) < 0
    return -normals if inward else normals


# --- Looking at it --------------------------------------------------------------------------


def front_view(placed: np.ndarray, triangles: np.ndarray) -> DepthMap:
    """The face of a mesh laid over the bundled head, from the front."""
    return depth_map(placed, triangles, (-0.07, 0.02), (0.07, 0.21), PIXEL)


def _look(placed: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """(10, 3) landmarks of a mesh laid over the bundled head, and what is uncertain."""
    template = bundled_template()
    expected = {
        name: template.vertices[index].astype(np.float64) for name, (index, _) in LANDMARKS.items()
    }
    view = front_view(placed, triangles)
    notices = []
    found = dict(expected)
    for name, place in expected.items():  # where nothing better is found: the surface there
        pixel = view.row(place[2]), view.column(place[0])
        if np.isfinite(view.near[pixel]):
            found[name] = view.point(*pixel)

    row = _forward_most(view, expected["nose"][2], 0.02)
    if row is not None:
        found["nose"] = view.point(row, view.column(0.0))
    lips = _mouth(view, expected)
    if lips is None:
        notices.append(NO_LIPS)
    else:
        found |= lips
    chin = _chin(view, found["lower_lip"])
    if chin is not None:
        found["chin"] = chin
    eyes = _eyes(view, expected)
    found |= eyes
    if len(eyes) < 4:
        notices.append("The eyes' openings were not found; check the corners of the eyes.")
    return np.array([found[name] for name in NAMES]), tuple(notices)


def _middle(view: DepthMap) -> np.ndarray:
    """(H,) how far forward the face is along its middle."""
    column = view.column(0.0)
    return np.nan_to_num(view.near[:, column - 1 : column + 2].mean(1), neginf=-1.0)


def _forward_most(view: DepthMap, height: float, reach: float) -> int | None:
    """The row of the foremost point of the middle; None where there is none but at the ends."""
    first, last = view.row(height + reach), view.row(height - reach)
    foremost = int(_middle(view)[first:last].argmax())
    return first + foremost if 2 < foremost < last - first - 3 else None


def _crease(near: np.ndarray, steps: int) -> np.ndarray:
    """How deep each pixel (H, W) lies behind what is up to `steps` pixels above and below it."""
    above, below = np.full_like(near, -np.inf), np.full_like(near, -np.inf)
    for step in range(1, steps + 1):
        above[step:] = np.maximum(above[step:], near[:-step])
        below[:-step] = np.maximum(below[:-step], near[step:])
    return np.minimum(above, below) - near


WIDTH = 0.004
DEEP = 0.0006  # metres: a line between lips that is one


def _mouth(view: DepthMap, expected: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Lip middles and corners by the crease between the lips or an open mouth, or None."""
    near = np.maximum(view.near, -1.0)
    crease = np.minimum(_crease(near, round(WIDTH / view.pixel)), WIDTH)
    middle = view.column(0.0)
    height = (expected["upper_lip"][2] + expected["lower_lip"][2]) / 2
    strength = WIDTH
    gap = _gap(view, height)
    if gap is None:
        first, last = view.row(height + 0.016), view.row(height - 0.016)
        rows = np.arange(first, last)
        # Of two creases (below the lower lip is another one) the nearer counts more.
        away = np.abs(rows - view.row(height)) * view.pixel / 0.016
        depth = crease[rows, middle - 2 : middle + 3].mean(1)
        best = int((depth * (1 - 0.7 * away**2)).argmax())
        if depth[best] < DEEP:
            return None
        row = first + best
        strength = float(np.median(crease[row - 1 : row + 2, middle - 16 : middle + 17].max(0)))
        gap = {middle: (row, row)}
    faintest = max(FADED * strength, DEEP / 2)
    found = {}
    for name, at, step in (("upper_lip", gap[middle][0], -1), ("lower_lip", gap[middle][1], 1)):
        lip, last = near[max(at - 16, 0) : at + 17, middle].max(), at + 40 * step
        while near[at, middle] < lip - 0.0065 and at != last:
            at += step
        found[name] = view.point(at, middle)
    for name, column, step in (("mouth_left", max(gap), 1), ("mouth_right", min(gap), -1)):
        row, last = sum(gap[column]) // 2, middle + step * round(0.045 / view.pixel)
        found[name] = _beside(view, *_crease_end(crease, row, column, last, faintest), step)
    if not 0.02 < found["mouth_left"][0] - found["mouth_right"][0] < 0.085:
        return None
    return found


FADED = 0.12


def _crease_end(
    crease: np.ndarray, row: int, column: int, last: int, faintest: float
) -> tuple[int, int]:
    """The pixel where a crease ends that is followed from a pixel towards a column."""
    step = 1 if last > column else -1
    end = row, column
    while (last - column) * step > 0:
        column += step
        some = crease[row - 2 : row + 3, column]
        deepest = int(some.argmax())
        if some[deepest] > faintest:
            end = row + deepest - 2, column
            row += int(np.sign(deepest - 2)) if abs(deepest - 2) else 0
        elif abs(column - end[1]) > 4:  # a gap of some pixels may be noise
            break
    return end


def _gap(view: DepthMap, height: float) -> dict[int, tuple[int, int]] | None:
    """By column, the first and last row of pixels between the lips of an open mouth, or None."""
    top, bottom = view.row(height + 0.016), view.row(height - 0.06)
    near = np.maximum(view.near[top:bottom], -1.0)
    deep = _crease(near, round(GAPING / view.pixel)) > OPEN
    middle = view.column(0.0)
    run = _longest(deep[:, middle])
    if len(run) * view.pixel < WIDTH or top + run[0] > view.row(height - 0.016):  # the throat
        return None
    gap = {middle: (top + int(run[0]), top + int(run[-1]))}
    for step in (1, -1):
        column, (first, last) = middle, gap[middle]
        while 0 < column < deep.shape[1] - 1:
            column += step
            rows = np.flatnonzero(deep[first - top : last - top + 1, column])
            if not len(rows):
                break
            first, last = first + int(rows[0]), first + int(rows[-1])
            gap[column] = first, last
    return gap


GAPING = 0.05  # metres up to which a mouth may be open
OPEN = 0.01  # metres that its inside lies behind both lips; no fold of a face is so deep


def _chin(view: DepthMap, lip: np.ndarray) -> np.ndarray | None:
    """Where the middle's outline turns under the chin: farthest down and a little forward.

    The foremost point alone would not do: a receding chin is nowhere in front of the lip.
    """
    near = _middle(view)
    first, last = view.row(lip[2] - 0.014), view.row(lip[2] - 0.055)
    outline = near[first:last]
    throat = np.flatnonzero(outline < outline.max(initial=-1.0) - THROAT)
    outline = outline[: throat[0]] if len(throat) else outline
    if not len(outline):
        return None
    down = view.pixel * np.arange(len(outline))
    return view.point(first + int((outline + UNDER * down).argmax()), view.column(0.0))


THROAT = 0.035  # metres behind the foremost point of lip and chin
UNDER = 2.0  # how much more than forward down counts, so that the bundled head's is its own


def _eyes(view: DepthMap, expected: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Corners of the eyes: the ends of the openings in the skin."""
    found = {}
    for side, sign in (("left", 1), ("right", -1)):
        names = f"eye_{side}_inner", f"eye_{side}_outer"
        opening = _opening(view, (expected[names[0]] + expected[names[1]]) / 2)
        if opening is None:
            continue
        columns, upper, lower = opening
        for name, end, step in ((names[0], 0, -1), (names[1], -1, 1)):
            at = end if sign > 0 else -1 - end
            row = int(upper[at] + lower[at]) // 2
            found[name] = _beside(view, row, int(columns[at]), step * sign)
    return found


def eye_rims(view: DepthMap, marks: np.ndarray) -> dict[str, np.ndarray]:
    """By "left" and "right", (2 * len(ALONG), 3) points on the upper and lower lids' edges.

    Args:
        view: of the skin, laid over the bundled head.
        marks: (10, 3) landmarks there. An opening whose ends are not at them is left out.
    """
    found = {}
    for side in ("left", "right"):
        ends = np.array([marks[NAMES.index(f"eye_{side}_{end}")] for end in ("inner", "outer")])
        opening = _opening(view, ends.mean(0))
        if opening is None:
            continue
        columns, upper, lower = opening
        seen = view.left + (columns[[0, -1]] + 0.5) * view.pixel
        if np.abs(seen - np.sort(ends[:, 0])).max() > 0.004:
            continue
        chosen = np.round((len(columns) - 1) * ALONG).astype(int)
        found[side] = np.array(
            [view.point(upper[at] - 1, columns[at]) for at in chosen]
            + [view.point(lower[at] + 1, columns[at]) for at in chosen]
        )
    return found


ALONG = np.linspace(0.12, 0.88, 9)  # of an eye's width


def _opening(
    view: DepthMap, middle: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Columns of pixels of the eye's opening around a place, first and last row in each, or None.

    Behind an opening the skin lies far back: steps down and up again in a column of pixels.
    """
    first, last = view.row(middle[2] + 0.016), view.row(middle[2] - 0.016)
    left, right = (view.column(middle[0] + reach) for reach in (-0.024, 0.024))
    near = np.maximum(view.near, -1.0)[first : last + 1, left:right]
    if min(near.shape) < 2:
        return None
    opening = _between(near)
    columns = _longest(opening.any(0))
    if not 0.012 < len(columns) * view.pixel < 0.046:
        return None
    columns = columns[opening[:, columns].any(0)]
    upper = first + opening[:, columns].argmax(0)
    lower = first + len(opening) - 1 - opening[::-1, columns].argmax(0)
    return left + columns, upper, lower


SOCKET = 0.0015  # metres between two neighbouring pixels that are no slope


def _between(near: np.ndarray) -> np.ndarray:
    """(H, W) pixels around the deepest one of each column, up to steps down to it and up from it.

    Of several steps on a side that nearest to the deepest pixel counts: lids have folds.
    """
    drop = np.diff(near, axis=0)
    rows = np.arange(len(drop))[:, None]
    deepest = near.argmin(0)
    above = np.where((drop < -SOCKET) & (rows < deepest), rows, -1).max(0)
    below = np.where((drop > SOCKET) & (rows >= deepest), rows, len(drop)).min(0)
    found = (rows > above) & (rows <= below) & (above >= 0) & (below < len(drop))
    return np.asarray(found)


def _longest(present: np.ndarray) -> np.ndarray:
    """Indices of the longest run of True in (n,), gaps of one allowed."""
    filled = present.copy()
    filled[1:-1] |= present[:-2] & present[2:]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], filled, [False]]).astype(np.int8)))
    if not len(edges):
        return np.empty(0, np.int64)
    run = int((edges[1::2] - edges[::2]).argmax())
    return np.arange(edges[2 * run], edges[2 * run + 1])


def _beside(view: DepthMap, row: int, column: int, step: int) -> np.ndarray:
    """(3,) the skin at the end of a slit that ends at a pixel; `step` goes away from the slit."""
    some = view.near[row - 2 : row + 3, column : column + 3 * step : step]
    return np.array([*view.point(row, column)[:1], -some.max(), view.point(row, column)[2]])
