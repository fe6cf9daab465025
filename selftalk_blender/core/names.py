"""Which face shapes a mesh has, by the names of its shape keys, in the spellings that are about.

Two kinds of shapes are known: single movements that go by ARKit's 52 names, and whole mouths for
a sound (visemes). A set counts only if enough of it is there: one shape called "A" is no vowel.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .template import bundled_template

# What is spoken with; the rest of the 52 is the upper face.
MOUTH = ("jaw", "mouth", "tongue", "cheekPuff")
# So many mouth shapes besides the jaw's make a face that speaks by ARKit names alone; and so many
# where the jaw has no shape, but perhaps a bone.
ENOUGH_MOUTH, ENOUGH_WITHOUT_JAW = 6, 14
SILENCE = "sil"  # the viseme of a mouth at rest, which nothing has to move

Parts = tuple[tuple[str, float], ...]  # (what moves a key, how much of it)


@dataclass(frozen=True)
class Names:
    """What the names of a mesh's shape keys say.

    Attributes:
        arkit: shape key -> the ARKit shapes that move it, with their share of it.
        visemes: shape key -> the viseme that it is, of `visemes.RECIPES`, or SILENCE.
        visemes_kind: what the visemes are called in the interface, or "".
    """

    arkit: dict[str, Parts]
    visemes: dict[str, str]
    visemes_kind: str

    @property
    def arkit_shapes(self) -> set[str]:
        """The ARKit shapes that at least one key is moved by."""
        return {source for parts in self.arkit.values() for source, _ in parts}

    @property
    def speaks_arkit(self) -> bool:
        """Whether the ARKit shapes alone make a mouth that speaks."""
        mouth = {name for name in self.arkit_shapes if is_mouth(name)}
        enough = ENOUGH_MOUTH if "jawOpen" in mouth else ENOUGH_WITHOUT_JAW
        return len(mouth - {"jawOpen"}) >= enough


def is_mouth(shape: str) -> bool:
    """Whether an ARKit shape belongs to speech rather than to the upper face."""
    return shape.startswith(MOUTH)


def recognise(names: Iterable[str]) -> Names:
    """The face shapes among names of shape keys, any number of others between them.

    Where several keys claim one movement, the plainest name has it; a combination of two
    movements ("jawOpen_mouthClose", a corrective) has none.
    """
    names = list(names)
    kind = ""
    visemes: dict[str, str] = {}
    for family in FAMILIES:
        found = family.find(names)
        if len(found) > len(visemes):
            kind, visemes = family.title, found
    arkit = arkit_keys([name for name in names if name not in visemes])
    result = Names(arkit, visemes, kind)
    if result.speaks_arkit or result.visemes:
        return result
    # A mouth that only opens still talks; anything less is chance.
    plain = {name for name in arkit if not _prefix(name)}
    if "jawOpen" in result.arkit_shapes and len(plain) >= 2:
        return result
    return Names({}, {}, "")


# --- ARKit ---------------------------------------------------------------------------------------

# Spellings that are not the ARKit name with other separators, capitals or sides; "*" is a side.
# Character Creator and iClone, Daz, ReadyPlayerMe, VRoid.
OTHER_SPELLINGS = {
    "mouthDownLower*": "mouthLowerDown*",
    "mouthUpUpper*": "mouthUpperUp*",
    "browDrop*": "browDown*",
    "browRaiseOuter*": "browOuterUp*",
    "cheekRaise*": "cheekSquint*",
    "eyeClose*": "eyeBlink*",
    "eyesClosed*": "eyeBlink*",
    "eyesBlink*": "eyeBlink*",
    "blink*": "eyeBlink*",
    "eyesLookUp": "eyeLookUp*",
    "eyesLookDown": "eyeLookDown*",
    "eyeLLookL": "eyeLookOutLeft",
    "eyeLLookR": "eyeLookInLeft",
    "eyeRLookL": "eyeLookInRight",
    "eyeRLookR": "eyeLookOutRight",
    "eyeLLookUp": "eyeLookUpLeft",
    "eyeRLookUp": "eyeLookUpRight",
    "eyeLLookDown": "eyeLookDownLeft",
    "eyeRLookDown": "eyeLookDownRight",
    "browRaiseInner*": "browInnerUp",
    "mouthRollInUpper*": "mouthRollUpper",
    "mouthRollInLower*": "mouthRollLower",
    "mouthPurseUpper*": "mouthPucker",
    "mouthPurseLower*": "mouthPucker",
    "mouthPressUpper*": "mouthPress*",
    "mouthPressLower*": "mouthPress*",
    "jawFwd": "jawForward",
    "mouthOpen": "jawOpen",
    "openMouth": "jawOpen",
    "まばたき": "eyeBlink*",
}
QUARTERED = ("mouthFunnel", "mouthPucker", "mouthClose")  # in some sets, by lip and side
SIDES = {"Left": ("left", "l"), "Right": ("right", "r")}


@functools.cache
def _spellings() -> dict[str, Parts]:
    """Spelling in lower case without separators -> what moves such a key."""
    known: dict[str, Parts] = {}

    def add(spelling: str, shape: str) -> None:
        """One spelling with "*" for its side, of a shape with or without a side."""
        both = tuple((shape.replace("*", side), 0.5) for side in SIDES)
        parts = both if "*" in shape else ((shape, 1.0),)
        known.setdefault(spelling.replace("*", "").lower(), parts)
        for side, letters in SIDES.items():
            for letter in letters if "*" in spelling else ():
                one = ((shape.replace("*", side), 1.0),)
                known.setdefault(spelling.replace("*", letter).lower(), one)
                if len(letter) > 1:
                    known.setdefault((letter + spelling.replace("*", "")).lower(), one)

    names = bundled_template().shape_names
    directions = ("jaw", "mouth")  # jawLeft is a way to go, not the left jaw
    for name in names:
        base = re.sub("(Left|Right)$", "", name)
        if base in directions:
            known[name.lower()] = known[(base + name[len(base)]).lower()] = ((name, 1.0),)
        elif base != name:
            add(base + "*", base + "*")
        else:
            add(name + "*", name)  # some sets split a shape that ARKit has whole
    for name in QUARTERED:
        for lip in ("Upper", "Lower", "Up", "Down"):
            add(f"{name}{lip}*", name)
    for spelling, shape in OTHER_SPELLINGS.items():
        add(spelling, shape)
    return known


def arkit_keys(names: Iterable[str]) -> dict[str, Parts]:
    """Shape key -> what moves it, for the plainest key of each spelling, however few."""
    claims: dict[str, tuple[int, str, Parts]] = {}
    for name in names:
        found = _match(name)
        if found is None:
            continue
        spelling, before, parts = found
        if spelling not in claims or before < claims[spelling][0]:
            claims[spelling] = (before, name, parts)
    # "jawOpen" before "mouthOpen", "mouthSmileLeft" before a "mouthSmile" of both sides.
    own = {shape.lower() for shape in bundled_template().shape_names}
    exact = {
        source
        for spelling, (_, _, parts) in claims.items()
        for source, _ in parts
        if spelling in own or _is_sided(spelling, parts)
    }
    return {
        name: parts
        for spelling, (_, name, parts) in claims.items()
        if spelling in own or _is_sided(spelling, parts) or not {s for s, _ in parts} <= exact
    }


@functools.lru_cache(4096)
def tells(name: str, shape: str) -> bool:
    """Whether a shape key is called after a face shape: `Mouth_Smile_L` after mouthSmileLeft."""
    found = _match(name)
    return found is not None and any(part == shape for part, _ in found[2])


def _is_sided(spelling: str, parts: Parts) -> bool:
    """Whether a spelling is of one piece of a shape, and so no rival of the shape's own name."""
    return len(parts) == 1 and spelling not in ("mouthopen", "openmouth")


def _match(name: str) -> tuple[str, int, Parts] | None:
    """(spelling, words before it, what moves it) of a key's name, or None."""
    words = _words(name)
    found = _spelled(words)
    if found is not None and len(found[2]) == 1:
        return found
    for at, word in enumerate(words[:-1]):  # L_eyeBlink, eye_L_Blink
        if any(word.lower() in letters for letters in SIDES.values()):
            moved = _spelled([*words[:at], *words[at + 1 :], word])
            if moved is not None:
                return moved
    return found


def _spelled(words: Sequence[str]) -> tuple[str, int, Parts] | None:
    """As `_match`, of a name's words in their order."""
    known = _spellings()
    for start in range(len(words)):
        spelling = "".join(words[start:]).lower()
        if spelling in known:
            before = "".join(words[:start]).lower()
            if any(before.endswith(other) for other in known if len(other) > 5):
                return None  # a corrective of two movements
            return spelling, start, known[spelling]
    return None


def _words(name: str) -> list[str]:
    """The words of a name, without what exporters append."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]+", name)
    while words and (words[-1].isdigit() or words[-1].lower() == "div"):  # .001, _div2
        words.pop()
    return words


def _prefix(name: str) -> int:
    found = _match(name)
    return found[1] if found is not None else 0


# --- Visemes -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Family:
    """One convention of naming visemes.

    Attributes:
        title: what the interface calls it.
        pattern: finds in a key's name what stands before (group 1) and the viseme (group 2).
        members: viseme as written there, lower case -> ours (of `visemes.RECIPES`, or SILENCE).
        needed: ours that must all be there.
        enough: how many keys there must be.
        accepts: None, or a further test of all names that share what stands before.
    """

    title: str
    pattern: re.Pattern[str]
    members: dict[str, str]
    needed: frozenset[str]
    enough: int
    accepts: Callable[[list[str]], bool] | None = None

    def find(self, names: Sequence[str]) -> dict[str, str]:
        """Shape key -> viseme, for the names of the most complete set; empty where none is."""
        groups: dict[str, dict[str, str]] = {}
        present = set(names)
        for name in names:
            plain = DUPLICATE.sub("", name)
            if plain != name and plain in present:
                continue
            match = self.pattern.fullmatch(plain)
            member = _plain(match[2]) if match else ""
            if match and member in self.members:
                # Some number their visemes: AA_VI_01_PP.
                before = re.sub(r"\d+[_. -]?$", "", match[1]).lower()
                groups.setdefault(before, {})[name] = self.members[member]
        best: dict[str, str] = {}
        for before, found in groups.items():
            kin = [name for name in names if name.lower().startswith(before)]
            if (
                len(found) > len(best)
                and len(found) >= self.enough
                and self.needed <= set(found.values())
                and (self.accepts is None or self.accepts(kin))
            ):
                best = found
        return best


DUPLICATE = re.compile(r"\.\d{3}$")  # what Blender appends to a name that is taken


def _plain(text: str) -> str:
    return re.sub(r"[\W_]", "", text).lower()


def _few_letters(names: list[str]) -> bool:
    """Whether single letters at the ends are vowels of speech rather than a whole alphabet."""
    plain = {DUPLICATE.sub("", name) for name in names}
    return len([name for name in plain if re.search(r"(?:^|[\W_])[A-Za-z]$", name)]) <= 8


def _regex(before: str, members: Iterable[str]) -> re.Pattern[str]:
    longest = sorted(members, key=len, reverse=True)
    return re.compile(f"({before})({'|'.join(longest)})", re.IGNORECASE)


OCULUS = {
    **{name.lower(): name for name in "PP FF TH DD kk CH SS nn RR aa E ih oh ou".split()},
    "sil": SILENCE, "i": "ih", "o": "oh", "u": "ou",
}  # fmt: skip
VOWELS = {"a": "aa", "i": "ih", "u": "ou", "e": "E", "o": "oh"}
VRM1 = {"aa": "aa", "ih": "ih", "ou": "ou", "ee": "E", "oh": "oh"}
KANA = {"あ": "aa", "い": "ih", "う": "ou", "え": "E", "お": "oh", "ん": "PP"}
PRESTON_BLAIR = {
    "a": "aa", "ai": "aa", "e": "E", "o": "oh", "u": "ou", "wq": "ou", "mbp": "PP", "fv": "FF",
    "l": "nn", "etc": "DD", "cdgknrsthyz": "DD", "rest": SILENCE,
}  # fmt: skip
CREATOR = {
    "open": "aa", "explosive": "PP", "dentallip": "FF", "tighto": "tightO", "tight": "tight",
    "wide": "wide", "affricate": "CH", "lipopen": "lipOpen", "none": SILENCE,
}  # fmt: skip
CREATOR_DIRECT = {
    "ae": "E", "ah": "aa", "bmp": "PP", "chj": "CH", "ee": "ih", "er": "RR", "fv": "FF", "ih": "ih",
    "kghng": "kk", "oh": "oh", "r": "RR", "sz": "SS", "tldn": "DD", "th": "TH", "woo": "ou",
    "none": SILENCE,
}  # fmt: skip
# MPFB's, by the numbers of Microsoft's speech interface: p_b_m_21.
MICROSOFT = {
    "aa": "aa", "aa_ah_ax": "aa", "ao": "oh", "aw": "aa", "ay": "aa", "d_t_n": "DD", "er": "RR",
    "ey_eh_uh": "E", "f_v": "FF", "h": "kk", "k_g_ng": "kk", "l": "nn", "ow": "oh", "oy": "oh",
    "p_b_m": "PP", "r": "RR", "sh_ch_jh_zh": "CH", "sil": SILENCE, "s_z": "SS", "th_dh": "TH",
    "w_uw": "ou", "y_iy_ih_ix": "ih",
}  # fmt: skip
DAZ = {
    "aa": "aa", "ee": "ih", "eh": "E", "er": "RR", "f": "FF", "ih": "ih", "iy": "ih", "k": "kk",
    "l": "nn", "m": "PP", "ow": "oh", "s": "SS", "sh": "CH", "t": "DD", "th": "TH", "uw": "ou",
    "w": "ou",
}  # fmt: skip
# What may stand before a viseme: nothing, or as little as can be that ends with a separator.
ANY = r"(?:.*?[\W_])??"
COMMA = r"[\W_]{0,2}"  # between the letters of one mouth: "M, B, P"
FAMILIES = (
    Family(
        "Oculus visemes",
        _regex(rf"{ANY}(?:visemes?|vis|v|vi)[\W_]?(?:\d+[\W_])?", OCULUS),
        OCULUS,
        frozenset({"aa", "ou"}),
        5,
    ),
    Family(
        "Oculus visemes", _regex(ANY, OCULUS), OCULUS, frozenset({"PP", "FF", "kk", "aa", "ou"}), 10
    ),
    Family("VRM vowels", _regex(ANY, VOWELS), VOWELS, frozenset(VOWELS.values()), 5, _few_letters),
    Family("VRM vowels", _regex(ANY, VRM1), VRM1, frozenset(VRM1.values()), 5),
    Family("MMD vowels", _regex(ANY, KANA), KANA, frozenset(VOWELS.values()), 5),
    Family(
        "Preston-Blair mouths",
        _regex(ANY, [rf"A(?:{COMMA}I)?", "E", "O", "U", rf"W{COMMA}Q", rf"M{COMMA}B{COMMA}P",
                     rf"F{COMMA}V", "L", "etc", COMMA.join([*"CDGKNRS", "Th", *"YZ"]),
                     "rest"]),
        PRESTON_BLAIR,
        frozenset({"aa", "PP", "FF", "oh"}),
        6,
    ),
    Family(
        "Character Creator visemes",
        _regex(
            rf"{ANY}(?:V[\W_])?",
            ["Open", "Explosive", r"Dental[\W_]Lip", r"Tight[\W_]O", "Tight", "Wide", "Affricate",
             r"Lip[\W_]Open", "None"],
        ),
        CREATOR,
        frozenset({"aa", "PP", "FF", "tightO"}),
        6,
    ),
    Family(
        "Character Creator visemes",
        _regex(
            ANY,
            ["AE", "Ah", "B_M_P", "Ch_J", "EE", "Er", "F_V", "Ih", "K_G_H_NG", "Oh", "R", "S_Z",
             "T_L_D_N", "Th", "W_OO", "None"],
        ),
        CREATOR_DIRECT,
        frozenset({"PP", "FF", "aa", "ou"}),
        8,
    ),
    Family(
        "Microsoft visemes",
        re.compile(rf"({ANY})({'|'.join(sorted(MICROSOFT, key=len, reverse=True))})_\d\d", re.I),
        {_plain(name): viseme for name, viseme in MICROSOFT.items()},
        frozenset({"PP", "FF", "aa", "ou"}),
        9,
    ),
    Family(
        "Daz visemes",
        _regex(rf"{ANY}(?:e?CTRL_?)?v(?:SM)?", DAZ),
        DAZ,
        frozenset({"aa", "PP", "FF", "ou"}),
        9,
    ),
)  # fmt: skip
