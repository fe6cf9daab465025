"""Bones and sliders that move a face, by their names: which rig they are, and what each is for."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from .template import bundled_template

JAW, MOUTH, BROW, LID, TONGUE = "jaw", "mouth", "brow", "lid", "tongue"
PARTS = (JAW, MOUTH, BROW, LID, TONGUE)
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


# --- Which rig ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Control:
    """A bone that the animator may move.

    Attributes:
        bone: its name.
        part: one of PARTS.
        point: the place that it moves, a name of `places.positions`.
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
        constrained, turning: as of a `Rig`.
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

    def share(self, names: Collection[str]) -> float:
        """0..1, how many of its controls are among bone names."""
        usual = sum(2 if "{s}" in bone else 1 for bone in self.bones.values())
        return len(self.controls(names)) / usual


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
        constrained: whether the rig's own constraints stand on its controls.
        turning: parts whose controls are turned as well as moved.
    """

    title: str
    controls: tuple[Control, ...]
    constrained: bool = False
    turning: tuple[str, ...] = (JAW,)


def recognise(names: Iterable[str]) -> Rig | None:
    """The face rig that bone names belong to; None where there is no jaw among them.

    A known rig needs the bones that tell it from others; where several fit, it is the one of
    which most is there. Anything else with a jaw bone is driven by that jaw alone; Mixamo, Ready
    Player Me, VRM and Character Creator are of this kind.
    """
    names = tuple(names)
    known = [preset for preset in PRESETS if set(preset.needs) <= set(names)]
    if known:
        preset = max(known, key=lambda preset: preset.share(names))
        return Rig(preset.title, preset.controls(names), preset.constrained, preset.turning)
    jaws = [name for name in names if plain(name) in _JAW_NAMES]
    if not jaws:
        return None
    jaw = min(jaws, key=lambda name: (name.upper().startswith(("ORG", "MCH")), len(name)))
    return Rig("Jaw bone", (Control(jaw, JAW, "jaw"),))


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


def parts_of_shape(name: str) -> tuple[str, ...]:
    """The parts that serve a shape; () for those that are left alone."""
    return next((parts for begin, parts in PARTS_OF_SHAPE if name.startswith(begin)), ())


# --- Sliders --------------------------------------------------------------------------------

# Names of sliders that are no shape's, as `plain` writes them, and the shapes that they serve.
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


# --- Keys or bones --------------------------------------------------------------------------


def keys_alone(choice: str, keyed: Collection[str]) -> bool:
    """Whether a face's shape keys move it without its rig.

    Args:
        choice: "KEYS", "BONES", "BOTH" or "AUTO". AUTO leaves a face to its keys if they open
            the jaw: its other keys were made to go with that one. Otherwise it is BOTH: each
            shape by its key where there is one, else by the rig.
        keyed: shapes that the face has keys for.
    """
    return choice == "KEYS" or (choice == "AUTO" and "jawOpen" in keyed)
