"""Faces moved by bones: which rig it is, and how far each control goes for each shape.

A bone's name says what it moves, never how far or which way: that is measured in Blender on the
skinned mesh, and fitted here to what the shapes of the bundled head do at the same places.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .lips import rest_weights
from .retarget import similarity
from .template import FaceTemplate, bundled_template

JAW, MOUTH, BROW, LID, TONGUE = "jaw", "mouth", "brow", "lid", "tongue"
# Which parts serve a shape, by how its name begins. Gaze (eyeLook...) is left to the artist.
PARTS_OF_SHAPE = (
    ("jaw", (JAW, MOUTH)),
    ("mouth", (MOUTH,)),
    ("cheekPuff", (MOUTH,)),
    ("brow", (BROW,)),
    ("eyeBlink", (LID,)),
    ("eyeSquint", (LID,)),
    ("eyeWide", (LID,)),
    ("tongue", (TONGUE,)),
)
# Where on the face each part is watched.
WATCHED = {
    JAW: re.compile("chin|lower_lip"),
    MOUTH: re.compile("lip|corner|cheek|chin"),
    BROW: re.compile("brow"),
    LID: re.compile("lid"),
    TONGUE: re.compile("tongue"),
}
# Lips that meet: the gaps between them count more than where they are.
GAPS = tuple((f"inner_upper_lip{s}", f"inner_lower_lip{s}") for s in ("", "_left", "_right"))
GAP_WEIGHT = 4.0
# Ridge: what a control's largest millimetre anywhere on the mesh costs in millimetres missed.
# Small for what opens a mouth by nature (turning the jaw), larger for what only helps.
TURN_COST, MOVE_COST, JAW_MOVE_COST = 0.03, 0.06, 0.3


# --- Which rig ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Control:
    """A bone that the animator may move.

    Attributes:
        bone: its name.
        part: one of JAW, MOUTH, BROW, LID, TONGUE.
        point: the place that it moves, a name of `places`.
    """

    bone: str
    part: str
    point: str


@dataclass(frozen=True)
class Preset:
    """The face of one rigging system.

    Attributes:
        title: what the user knows it as.
        bones: place -> the bone that moves it; "{s}" stands for the side.
        sides: how left and right are written.
        needs: bones that tell this rig from others.
        constrained: whether the rig's own constraints stand on its controls.
        turning: parts whose controls are turned as well as moved.
    """

    title: str
    bones: Mapping[str, str]
    sides: tuple[str, str]
    needs: tuple[str, ...]
    constrained: bool = False
    turning: tuple[str, ...] = (JAW,)

    def controls(self, names: Collection[str]) -> tuple[Control, ...]:
        """Those of its controls that are among bone names."""
        found = []
        for point, bone in self.bones.items():
            for side, written in zip(("left", "right"), self.sides, strict=True):
                name = bone.format(s=written)
                control = Control(name, part_of(point), point.format(s=side))
                if name in names and control not in found:
                    found.append(control)
        return tuple(found)


_RIGIFY = {
    "jaw": "jaw_master",
    "chin": "chin",
    "upper_lip": "lip.T",
    "lower_lip": "lip.B",
    "upper_lip_{s}": "lip.T.{s}.001",
    "lower_lip_{s}": "lip.B.{s}.001",
    "cheek_{s}": "cheek.B.{s}.001",
    "brow_inner_{s}": "brow.T.{s}.003",
    "brow_middle_{s}": "brow.T.{s}.002",
    "brow_outer_{s}": "brow.T.{s}.001",
    "lid_upper_{s}": "lid.T.{s}.002",
    "lid_upper_inner_{s}": "lid.T.{s}.003",
    "lid_upper_outer_{s}": "lid.T.{s}.001",
    "lid_lower_{s}": "lid.B.{s}.002",
}
PRESETS = (
    Preset(
        "Rigify face",
        {**_RIGIFY, "corner_{s}": "lips.{s}", "tongue": "tongue_master"},
        ("L", "R"),
        ("jaw_master", "lip.T", "lip.B", "lips.L"),
        constrained=True,
    ),
    Preset(
        "Rigify face (skin)",
        {**_RIGIFY, "corner_{s}": "lip_end.{s}.001", "tongue": "tongue"},
        ("L", "R"),
        ("jaw_master", "jaw_master_mouth", "lip.T", "lip.B"),
        constrained=True,
    ),
    Preset(
        "Auto-Rig Pro face",
        {
            "jaw": "c_jawbone.x",
            "chin": "c_chin_01.x",
            "upper_lip": "c_lips_top.x",
            "lower_lip": "c_lips_bot.x",
            "upper_lip_{s}": "c_lips_top.{s}",
            "lower_lip_{s}": "c_lips_bot.{s}",
            "corner_{s}": "c_lips_smile.{s}",
            "brow_inner_{s}": "c_eyebrow_01.{s}",
            "brow_middle_{s}": "c_eyebrow_02.{s}",
            "brow_outer_{s}": "c_eyebrow_03.{s}",
            "lid_upper_{s}": "c_eyelid_top.{s}",
            "lid_lower_{s}": "c_eyelid_bot.{s}",
            "tongue": "c_tong_01.x",
        },
        ("l", "r"),
        ("c_jawbone.x", "c_lips_top.x", "c_lips_bot.x"),
        constrained=True,
        turning=(JAW, LID),
    ),
    Preset(
        "MakeHuman default rig",
        {
            "jaw": "jaw",
            "upper_lip": "oris05",
            "lower_lip": "oris01",
            "upper_lip_{s}": "oris03.{s}",
            "lower_lip_{s}": "oris07.{s}",
            "brow_middle_{s}": "oculi01.{s}",
            "lid_upper_{s}": "orbicularis03.{s}",
            "lid_lower_{s}": "orbicularis04.{s}",
        },
        ("L", "R"),
        ("jaw", "oris01", "oris05"),
        turning=(JAW, LID),
    ),
)
# What engines, scanners and exporters put before a bone's name.
_PREFIX = re.compile(r"^(.*[:|]|mixamorig|cc_base_|def[-_]|j_bip_c_|bip01[ _]|facial_c_|c_)", re.I)
_JAW_NAMES = {"jaw", "jawbone", "jawroot", "lowerjaw", "jawlower", "jaw01", "jawmaster", "mandible"}
_EYE_NAMES = {
    **dict.fromkeys(("lefteye", "eyeleft", "eyel", "leye", "jadjlfaceeye"), "eye_left"),
    **dict.fromkeys(("righteye", "eyeright", "eyer", "reye", "jadjrfaceeye"), "eye_right"),
}


@dataclass(frozen=True)
class Rig:
    """What a set of bones is.

    Attributes:
        title: what the user knows it as.
        controls: bones that the animator may move.
        confidence: 0..1, the share of the rig's usual face controls that are there.
        reason: by which bones it was recognised.
        constrained: whether the rig's own constraints stand on its controls.
        turning: parts whose controls are turned as well as moved.
    """

    title: str
    controls: tuple[Control, ...]
    confidence: float
    reason: str
    constrained: bool = False
    turning: tuple[str, ...] = (JAW,)


def recognise(names: Iterable[str]) -> Rig | None:
    """The face rig that bone names belong to; None where there is no jaw among them.

    A known rig needs the bones that tell it from others. Anything else with a jaw bone is driven
    by that jaw alone; Mixamo, Ready Player Me, VRM and Character Creator are of this kind.
    """
    names = tuple(names)
    known = []
    for preset in PRESETS:
        if set(preset.needs) <= set(names):
            controls = preset.controls(names)
            usual = sum(2 if "{s}" in bone else 1 for bone in preset.bones.values())
            reason = f"it has the bones {', '.join(preset.needs[:-1])} and {preset.needs[-1]}"
            known.append(
                Rig(
                    preset.title,
                    controls,
                    len(controls) / usual,
                    reason,
                    preset.constrained,
                    preset.turning,
                )
            )
    if known:
        return max(known, key=lambda rig: rig.confidence)
    jaws = [name for name in names if plain(name) in _JAW_NAMES]
    if not jaws:
        return None
    jaw = min(jaws, key=lambda name: (name.upper().startswith(("ORG", "MCH")), len(name)))
    return Rig(
        "Jaw bone", (Control(jaw, JAW, "jaw"),), 0.5, f"{jaw} is the only bone of the face known"
    )


def eye_bones(names: Iterable[str]) -> dict[str, str]:
    """Bones that stand in the eyes: "eye_left" and "eye_right" -> name, where there are any."""
    found: dict[str, str] = {}
    for name in names:
        point = _EYE_NAMES.get(plain(name))
        if point:
            found.setdefault(point, name)
    return found


def plain(name: str) -> str:
    """A bone's or slider's name in small letters and digits, without a known prefix."""
    return re.sub(r"[^a-z0-9]", "", _PREFIX.sub("", name).lower())


def part_of(point: str) -> str:
    """The part of the face that a place belongs to."""
    for beginning, part in (("jaw", JAW), ("brow", BROW), ("lid", LID), ("tongue", TONGUE)):
        if point.startswith(beginning):
            return part
    return MOUTH


# --- Sliders --------------------------------------------------------------------------------

# Names of sliders that are no shape's: the place whose motion tells how far they go, and the
# shapes that they serve. "{s}" stands for the side; a slider without one serves both.
_SLIDERS = {
    **dict.fromkeys(("jaw", "openjaw", "mouthopen", "openmouth", "jawdown"), ("jawOpen",)),
    **dict.fromkeys(("closemouth", "mouthclosed", "lipsclose", "lipsclosed"), ("mouthClose",)),
    **dict.fromkeys(("smile", "happy"), ("mouthSmileLeft", "mouthSmileRight")),
    **dict.fromkeys(("frown", "sad"), ("mouthFrownLeft", "mouthFrownRight")),
    **dict.fromkeys(("wide", "mouthwide"), ("mouthStretchLeft", "mouthStretchRight")),
    **dict.fromkeys(("pucker", "kiss", "narrow", "mouthnarrow"), ("mouthPucker",)),
    **dict.fromkeys(("funnel", "mouthround", "round"), ("mouthFunnel",)),
    **dict.fromkeys(("blink", "eyesclosed", "closeeyes"), ("eyeBlinkLeft", "eyeBlinkRight")),
    **dict.fromkeys(
        ("browsup", "browup", "eyebrowsup"),
        ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    ),
    **dict.fromkeys(("browsdown", "browdown"), ("browDownLeft", "browDownRight")),
}


@functools.cache
def slider_shapes(name: str) -> tuple[str, ...]:
    """The shapes that a slider's name promises; () where it says nothing.

    A shape's own name in any usual spelling (jawOpen, jaw_open, JawOpen, mouthSmile_L) is that
    shape; a shape's name without its side is both sides.
    """
    return named_shapes(name) or _SLIDERS.get(plain(name), ())


@functools.cache
def named_shapes(name: str) -> tuple[str, ...]:
    """The shapes whose name, in any usual spelling, a control has; () where it has none."""
    return _spellings().get(plain(name), ())


@functools.cache
def _spellings() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for shape in bundled_template().shape_names:
        found[shape.lower()] = (shape,)
        base = re.sub("(Left|Right)$", "", shape).lower()
        if base != shape.lower() and base not in ("jaw", "mouth"):
            found[base + shape[len(base)].lower()] = (shape,)
            found[base] = (*found.get(base, ()), shape)
    return found


# --- The bundled head's places --------------------------------------------------------------


@functools.cache
def places() -> dict[str, np.ndarray]:
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


# --- Where those places are on another face --------------------------------------------------


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
    names = [name for name in found if name in places()]
    if len(names) < 3:
        return None
    source = np.stack([places()[name] for name in names]).astype(np.float64)
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
    own = places()["chin"] - places()["jaw"]
    scale = length / np.linalg.norm(own)
    # The bundled head looks along -Y with +X to its left.
    linear = np.stack([left, -forward, up], 1) * scale
    return Frame(linear, chin - linear @ places()["chin"])


def chin_of(moved: np.ndarray, positions: np.ndarray, pivot: np.ndarray, up: np.ndarray) -> int:
    """The vertex that is the chin, by what a jaw moves.

    Among the vertices that move nearly as the jaw does, the one as far ahead and down from the
    axis as any, in the direction in which it lies on the bundled head.

    Args:
        moved: (V,) how far each vertex goes for a turn of the jaw.
        positions: (V, 3) at rest; pivot (3,); up (3,) unit.
    """
    arm = positions - pivot
    height = arm @ up
    flat = arm - height[:, None] * up
    firm = moved > 0.5 * moved.max()
    ahead = flat[firm].mean(0)
    ahead /= max(np.linalg.norm(ahead), 1e-12)
    own = places()["chin"] - places()["jaw"]
    direction = np.array([-own[1], own[2]]) / np.linalg.norm(own)
    score = direction[0] * (flat @ ahead) + direction[1] * height
    return int(np.where(firm, score, -np.inf).argmax())


def lip_edge(positions: np.ndarray, frame: Frame, point: str, belongs: np.ndarray) -> int | None:
    """The vertex where a lip ends: the upper lip's lowest or the lower lip's highest.

    Looked for around where the bundled head has it, and not behind it: there the mouth begins.

    Args:
        positions: (V, 3); point: a place of GAPS; belongs: (V,) bool, vertices of that lip's jaw.
    """
    there = positions - frame(places()[point])
    left, behind, above = (there @ np.linalg.inv(frame.linear).T).T  # metres on the bundled head
    near = belongs & (np.abs(left) < 0.004) & (np.abs(behind + 0.003) < 0.006)
    near &= np.abs(above) < 0.015
    if not near.any():
        return None
    height = above if "lower" in point else -above
    return int(np.where(near, height, -np.inf).argmax())


# --- How far each control goes ----------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """One number of a control that can be set.

    Attributes:
        object, path, index: as of a `drive.Channel`.
        part: the part of the face that it serves.
        turns: whether it is a rotation.
        kind: "BONE" or "PROPERTY".
        shapes: the shapes that it is for; () for all of its part.
        low, high: the range that it may take.
        rest: its value at the resting face.
    """

    object: str
    path: str
    index: int
    part: str
    turns: bool = False
    kind: str = "BONE"
    shapes: tuple[str, ...] = ()
    low: float = -np.inf
    high: float = np.inf
    rest: float = 0.0


def solve(
    axes: Sequence[Axis],
    points: Sequence[str],
    jacobian: np.ndarray,
    reach: np.ndarray,
    frame: Frame,
) -> np.ndarray:
    """How far each axis goes for each shape of the bundled head.

    Ridge regression, part by part: first the jaw for the shapes of the jaw, then the lips for
    what is left, so that a rig with a jaw opens its mouth by the jaw. Where the rig has no lips
    to move, the jaw opens as far as the lips would part.

    Args:
        axes: D of them.
        points: S places of `places` that are watched.
        jacobian: (S, 3, D) how far each place goes per unit of each axis.
        reach: (D,) how far the vertex goes that each axis moves most, per unit.
        frame: of this face, in the jacobian's unit and axes.

    Returns:
        (52, D) amounts in each axis' unit at weight 1.
    """
    names = bundled_template().shape_names
    wanted = np.stack([motions(point) for point in points], 1) @ frame.linear.T  # (52, S, 3)
    # What a constraint holds back costs as much as what goes freely: it is not pushed harder.
    together: dict[tuple[str, str], float] = {}
    for axis, far in zip(axes, reach, strict=True):
        vector = (axis.object, axis.path)
        together[vector] = max(together.get(vector, 0.0), float(far))
    reach = np.array([together[axis.object, axis.path] for axis in axes])
    left = wanted.copy()
    matrix = np.zeros((len(names), len(axes)))
    for part in (JAW, MOUTH, BROW, LID, TONGUE):
        watched = [i for i, point in enumerate(points) if WATCHED[part].search(point)]
        # What a slider promises by name comes before what bones may add.
        for named in (True, False):
            for row, name in enumerate(names):
                columns = [
                    column
                    for column, axis in enumerate(axes)
                    if axis.part == part
                    and bool(axis.shapes) == named
                    and (name in axis.shapes if named else part in parts_of_shape(name))
                ]
                if columns and watched:
                    amounts = _fit(
                        [axes[column] for column in columns],
                        [points[i] for i in watched],
                        jacobian[np.ix_(watched, range(3), columns)],
                        reach[columns],
                        left[row, watched],
                        frame,
                    )
                    matrix[row, columns] += amounts
                    left[row] -= jacobian[:, :, columns] @ amounts
    if not has_lips(axes):
        opening = names.index("jawOpen")
        lips = gap_share() * (np.arange(len(names)) != opening)
        matrix += np.outer(lips, matrix[opening])
    return matrix


def has_lips(axes: Iterable[Axis]) -> bool:
    """Whether a rig can part and close the lips without its jaw."""
    return any(
        axis.part == MOUTH and (not axis.shapes or "mouthClose" in axis.shapes) for axis in axes
    )


@functools.cache
def gap_share() -> np.ndarray:
    """(52,) how far jawOpen and the shapes of the lips part them, as a share of jawOpen."""
    template = bundled_template()
    share = template.gap_per_weight / template.gap_per_weight[template.shape_names.index("jawOpen")]
    lips = [name.startswith(("jawOpen", "mouth", "cheek")) for name in template.shape_names]
    return np.where(lips, share, 0.0)


def parts_of_shape(name: str) -> tuple[str, ...]:
    """The parts that serve a shape; () for those that are left alone."""
    return next((parts for begin, parts in PARTS_OF_SHAPE if name.startswith(begin)), ())


def _fit(
    axes: Sequence[Axis],
    points: Sequence[str],
    jacobian: np.ndarray,
    reach: np.ndarray,
    wanted: np.ndarray,
    frame: Frame,
) -> np.ndarray:
    """(D,) amounts that move places (S, 3) as wanted, by ridge regression in lengths."""
    count = jacobian.shape[2]
    useful = reach > 1e-9 * frame.scale
    if not useful.any() or np.linalg.norm(wanted) < 1e-6 * frame.scale:
        return np.zeros(count)
    scaled = jacobian / np.where(useful, reach, 1.0)
    rows = [scaled.reshape(-1, count)]
    goal = [wanted.ravel()]
    for upper, lower in GAPS:
        if upper in points and lower in points:
            u, low = points.index(upper), points.index(lower)
            rows.append(GAP_WEIGHT * (frame.up @ (scaled[u] - scaled[low]))[None])
            goal.append(GAP_WEIGHT * np.array([frame.up @ (wanted[u] - wanted[low])]))
    turning = any(axis.turns and ok for axis, ok in zip(axes, useful, strict=True))
    cost = [
        TURN_COST
        if axis.turns or axis.kind == "PROPERTY"
        else JAW_MOVE_COST
        if axis.part == JAW and turning
        else MOVE_COST
        for axis in axes
    ]
    rows.append(np.diag(cost) * np.sqrt(len(points)))
    goal.append(np.zeros(count))
    system = np.concatenate(rows) * np.where(useful, 1.0, 0.0)
    lengths = np.linalg.lstsq(system, np.concatenate(goal), rcond=None)[0]
    return np.where(useful, lengths / np.where(useful, reach, 1.0), 0.0)


def values(
    weights: np.ndarray,
    matrix: np.ndarray,
    rest: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    gap: np.ndarray | None = None,
) -> np.ndarray:
    """Values of channels (T, C) from weights (T, 52); the resting weights give `rest` itself.

    Args:
        matrix: (52, C) from `solve`; rest, low, high: (C,).
        gap: (52,) `gap_share` of the shapes that a jaw without lips serves: it opens and closes
            with them, but does not bite.
    """
    template = bundled_template()
    moved = weights - rest_weights(template)
    result = rest + moved @ matrix
    if gap is not None:
        opening = matrix[template.shape_names.index("jawOpen")]
        result -= np.minimum(moved @ gap, 0.0)[:, None] * opening
    return np.clip(result, low, high).astype(np.float32)


def stretch(wanted: float, got: float) -> float:
    """By how much an amount is multiplied that goes a way other than wanted.

    A turning jaw and a lid that slides over the eye go along arcs, which no fixed map foresees.
    Where next to nothing is got, there is nothing to go by.
    """
    return float(np.clip(wanted / got, 0.7, 1.4)) if got > 0.3 * wanted > 0 else 1.0


# --- Keys or bones ----------------------------------------------------------------------------


def keys_alone(choice: str, keyed: Collection[str]) -> bool:
    """Whether a face's shape keys move it without its rig.

    Args:
        choice: "KEYS", "BONES", "BOTH" or "AUTO". AUTO leaves a face to its keys if they open
            the jaw: its other keys were made to go with that one. Otherwise it is BOTH: each
            shape by its key where there is one, else by the rig.
        keyed: shapes that the face has keys for.
    """
    return choice == "KEYS" or (choice == "AUTO" and "jawOpen" in keyed)
