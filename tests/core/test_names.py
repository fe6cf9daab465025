"""Face shapes are known by the names that people's characters really have, and by no others."""

import re

import pytest

from selftalk_blender.core import bundled_template
from selftalk_blender.core.names import recognise, tells

ARKIT = bundled_template().shape_names


def upper(name: str) -> str:
    return name[0].upper() + name[1:]


def snake(name: str) -> str:
    return re.sub("([A-Z])", r"_\1", name).lower()


def short(name: str, mark: str) -> str:
    """mouthSmileLeft -> mouthSmile_L; a way to go (jawLeft) keeps its word."""
    if name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
        return name
    return re.sub("(Left|Right)$", lambda side: mark + side[0][0], name)


def before(name: str, mark: str) -> str:
    """mouthSmileLeft -> L_mouthSmile."""
    found = re.fullmatch("(.*)(Left|Right)", name)
    if found is None or name == short(name, ""):
        return name
    rest = upper(found[1]) if not mark else found[1]
    return (found[2][0] if mark else found[2][0].lower()) + mark + rest


def inside(name: str) -> str:
    """eyeBlinkLeft -> eye_L_Blink."""
    found = re.fullmatch("([a-z]+)(.+)(Left|Right)", name)
    return f"{found[1]}_{found[3][0]}_{found[2]}" if found else name


SPELLINGS = {
    "Apple's own, as in ReadyPlayerMe": ARKIT,
    "Live Link and MetaHuman's ARKit": [upper(n) for n in ARKIT],
    "snake": [snake(n) for n in ARKIT],
    "words": [snake(n).replace("_", " ").title() for n in ARKIT],
    "lower": [n.lower() for n in ARKIT],
    "_L": [short(n, "_") for n in ARKIT],
    ".L": [short(n, ".") for n in ARKIT],
    "plain L": [short(n, "") for n in ARKIT],
    "side first": [before(n, "_") for n in ARKIT],
    "side first, joined": [before(n, "") for n in ARKIT],
    "side in the middle": [inside(n) for n in ARKIT],
    "prefix": [f"ARKit_{n}" for n in ARKIT],
    "a rig's prefix": [f"blendShape1.{n}" for n in ARKIT],
    "Rocketbox": [f"AK_{i:02d}_{upper(n)}" for i, n in enumerate(ARKIT, 1)],
    "Character Creator ExPlus": [
        f"A{i:02d}{snake(upper(n)).title()}" for i, n in enumerate(ARKIT, 1)
    ],
    "Daz Genesis 8.1": [f"facs_bs_{upper(n)}_div2" for n in ARKIT],
    "a duplicate's suffix": [f"{n}.001" for n in ARKIT],
}


@pytest.mark.parametrize("names", SPELLINGS.values(), ids=SPELLINGS)
def test_all_52_are_found_in_every_spelling(names) -> None:
    found = recognise(["Basis2", *names, "Muscular", "Age"])
    assert found.speaks_arkit and not found.visemes
    assert found.arkit == {name: ((shape, 1.0),) for name, shape in zip(names, ARKIT, strict=True)}


CC4 = """Brow_Raise_Inner_L Brow_Raise_Inner_R Brow_Raise_Outer_L Brow_Raise_Outer_R Brow_Drop_L
Brow_Drop_R Brow_Compress_L Brow_Compress_R Eye_Blink_L Eye_Blink_R Eye_Squint_L Eye_Squint_R
Eye_Wide_L Eye_Wide_R Eye_L_Look_L Eye_R_Look_L Eye_L_Look_R Eye_R_Look_R Eye_L_Look_Up
Eye_R_Look_Up Eye_L_Look_Down Eye_R_Look_Down Nose_Sneer_L Nose_Sneer_R Nose_Nostril_Raise_L
Cheek_Raise_L Cheek_Raise_R Cheek_Suck_L Cheek_Puff_L Cheek_Puff_R Mouth_Smile_L Mouth_Smile_R
Mouth_Smile_Sharp_L Mouth_Frown_L Mouth_Frown_R Mouth_Stretch_L Mouth_Stretch_R Mouth_Dimple_L
Mouth_Dimple_R Mouth_Press_L Mouth_Press_R Mouth_Tighten_L Mouth_Pucker_Up_L Mouth_Pucker_Up_R
Mouth_Pucker_Down_L Mouth_Pucker_Down_R Mouth_Funnel_Up_L Mouth_Funnel_Up_R Mouth_Funnel_Down_L
Mouth_Funnel_Down_R Mouth_Roll_In_Upper_L Mouth_Roll_In_Upper_R Mouth_Roll_In_Lower_L
Mouth_Roll_In_Lower_R Mouth_Roll_Out_Upper_L Mouth_Up_Upper_L Mouth_Up_Upper_R Mouth_Down_Lower_L
Mouth_Down_Lower_R Mouth_Shrug_Upper Mouth_Shrug_Lower Mouth_Close Mouth_L Mouth_R Jaw_Open
Jaw_Forward Jaw_L Jaw_R Tongue_Out Neck_Swallow_Up V_Open V_Explosive V_Dental_Lip V_Tight_O
V_Tight V_Wide V_Affricate V_Lip_Open V_Tongue_up""".split()


def test_character_creators_shapes_go_by_arkits_names() -> None:
    found = recognise(CC4)
    assert found.speaks_arkit and found.arkit_shapes == set(ARKIT)
    assert found.arkit["Mouth_Down_Lower_L"] == (("mouthLowerDownLeft", 1.0),)
    assert found.arkit["Brow_Raise_Inner_R"] == (("browInnerUp", 1.0),)
    assert found.arkit["Eye_L_Look_R"] == (("eyeLookInLeft", 1.0),)
    for other in (
        "Mouth_Smile_Sharp_L",
        "Mouth_Roll_Out_Upper_L",
        "Cheek_Suck_L",
        "Brow_Compress_L",
    ):
        assert other not in found.arkit


OCULUS = "sil PP FF TH DD kk CH SS nn RR aa E I O U".split()
VISEMES = {
    "ReadyPlayerMe, MPFB": ([f"viseme_{v}" for v in OCULUS], "Oculus", 15),
    "VRChat": (
        [f"vrc.v_{v}" for v in "sil pp ff th dd kk ch ss nn rr aa e ih oh ou".split()],
        "Oculus", 15,
    ),
    "Rocketbox": ([f"AA_VI_{i:02d}_{v}" for i, v in enumerate(OCULUS)], "Oculus", 15),
    "ReadyPlayerMe, without the closed mouths": ([f"viseme_{v}" for v in OCULUS[3:]], "Oculus", 12),
    "five of Oculus": ([f"viseme_{v}" for v in OCULUS[-5:]], "Oculus", 5),
    "bare": (OCULUS, "Oculus", 15),
    "VRM 0": (list("AIUEO"), "VRM", 5),
    "VRM 1": (["aa", "ih", "ou", "ee", "oh"], "VRM", 5),
    "VRoid": ([f"Face.M_F00_000_00_Fcl_MTH_{v}" for v in "AIUEO"], "VRM", 5),
    "MMD": (list("あいうえおん"), "MMD", 6),
    "Preston-Blair": (["AI", "E", "O", "U", "WQ", "MBP", "FV", "L", "etc", "rest"], "Preston", 10),
    "Preston-Blair, as drawn": (
        ["A, I", "E", "O", "U", "C,D,G,K,N,R,S,Th,Y,Z", "L", "M, B, P", "F, V", "W, Q", "rest"],
        "Preston", 10,
    ),
    "Preston-Blair, with spaces": (
        ["A I", "E", "O", "U", "CDGKNRSThYZ", "L", "M B P", "F/V", "W/Q", "Rest"], "Preston", 10,
    ),
    "a duplicate's suffix": ([f"viseme_{v}.001" for v in OCULUS], "Oculus", 15),
    "VRoid's duplicate": ([f"Fcl_MTH_{v}.002" for v in "AIUEO"], "VRM", 5),
    "Papagayo": ([f"mouth_{v}" for v in ("AI", "E", "O", "U", "WQ", "MBP", "FV", "L", "etc")],
                 "Preston", 9),
    "CC3": (
        ["V_Open", "V_Explosive", "V_Dental_Lip", "V_Tight_O", "V_Tight", "V_Wide", "V_Affricate",
         "V_Lip_Open", "V_Tongue_up"],
        "Character Creator", 8,
    ),
    "iClone": (
        ["None", "AE", "Ah", "B_M_P", "Ch_J", "EE", "Er", "F_V", "Ih", "K_G_H_NG", "Oh", "R", "S_Z",
         "T_L_D_N", "Th", "W_OO"],
        "Character Creator", 16,
    ),
    "MPFB, Microsoft": (
        "aa_02 aa_ah_ax_01 ao_03 aw_09 ay_11 d_t_n_19 er_05 ey_eh_uh_04 f_v_18 h_12 k_g_ng_20 l_14 "
        "ow_08 oy_10 p_b_m_21 r_13 sh_ch_jh_zh_16 sil_00 s_z_15 th_dh_17 w_uw_07 "
        "y_iy_ih_ix_06".split(),
        "Microsoft", 22,
    ),
    "Daz Genesis 8": (
        [f"head__eCTRLv{v}" for v in
         "AA EE EH ER F IH IY K L M OW S SH T TH UW W".split()],
        "Daz", 17,
    ),
}  # fmt: skip


@pytest.mark.parametrize("names, kind, count", VISEMES.values(), ids=VISEMES)
def test_visemes_are_found_among_other_shapes(names, kind, count) -> None:
    found = recognise(["Muscular", *names, "Age", "Fcl_MTH_Angry", "Smile"])
    assert found.visemes_kind.startswith(kind)
    assert len(found.visemes) == count and set(found.visemes) <= set(names)
    closed = [n for n in names if re.search("PP|pp|M,? ?B,? ?P|p_b_m|Explosive|B_M_P|vM$|ん", n)]
    assert all(found.visemes[name] == "PP" for name in closed)


def test_of_a_viseme_and_its_duplicate_the_plain_one_is_taken() -> None:
    names = [f"viseme_{v}" for v in OCULUS]
    found = recognise([f"{name}.001" for name in names] + names)
    assert set(found.visemes) == set(names)


def test_vowels_are_the_right_ones() -> None:
    found = recognise([f"Fcl_MTH_{v}" for v in "AIUEO"]).visemes
    assert list(found.values()) == ["aa", "ih", "ou", "E", "oh"]


def test_vroids_blinks_come_with_its_vowels() -> None:
    names = [f"Fcl_MTH_{v}" for v in "AIUEO"] + [
        "Fcl_EYE_Close",
        "Fcl_EYE_Close_L",
        "Fcl_EYE_Close_R",
    ]
    found = recognise(names)
    assert found.arkit == {
        "Fcl_EYE_Close_L": (("eyeBlinkLeft", 1.0),),
        "Fcl_EYE_Close_R": (("eyeBlinkRight", 1.0),),
    }
    assert recognise(names[:6]).arkit == {
        "Fcl_EYE_Close": (("eyeBlinkLeft", 0.5), ("eyeBlinkRight", 0.5))
    }


FALSE_FRIENDS = {
    "a shape A among body morphs": ["A", "Muscular", "Heavy", "Old"],
    "a door": ["Open", "Closed", "Handle"],
    "an alphabet": [chr(65 + i) for i in range(26)],
    "four vowels": ["A", "I", "U", "E", "Heavy"],
    "vowels of three different sets": ["Eye_A", "Mouth_I", "Body_U", "Arm_E", "Leg_O"],
    "a few visemes": ["viseme_aa", "viseme_E", "viseme_PP"],
    "eyes alone": ["eyeBlinkLeft", "eyeBlinkRight", "eyeWideLeft"],
    "a dress": ["Wide", "Tight", "Open", "Long"],
    "nothing": [],
}


@pytest.mark.parametrize("names", FALSE_FRIENDS.values(), ids=FALSE_FRIENDS)
def test_what_only_looks_like_a_face_is_none(names) -> None:
    found = recognise(names)
    assert not found.arkit and not found.visemes


def test_the_plainest_key_of_several_is_taken_and_correctives_are_not() -> None:
    names = [*ARKIT, "Beard_jawOpen", "jawOpen_mouthClose", "mouthOpen", "mouthSmile"]
    found = recognise(names)
    assert set(found.arkit) == set(ARKIT)


def test_both_sides_in_one_shape_and_one_shape_in_two_sides() -> None:
    names = ["jawOpen", "mouthSmile", "mouthFrown", "mouthPucker", "mouthFunnel", "mouthClose",
             "mouthStretch", "browInnerUp_L", "browInnerUp_R"]  # fmt: skip
    found = recognise(names)
    assert found.arkit["mouthSmile"] == (("mouthSmileLeft", 0.5), ("mouthSmileRight", 0.5))
    assert found.arkit["browInnerUp_L"] == (("browInnerUp", 1.0),)


def test_a_mouth_that_only_opens_talks_all_the_same() -> None:
    """ReadyPlayerMe's smallest export."""
    assert recognise(["mouthOpen", "mouthSmile"]).arkit["mouthOpen"] == (("jawOpen", 1.0),)


def test_what_a_key_is_called_after() -> None:
    assert tells("Ann_Mouth_Smile_L", "mouthSmileLeft")
    assert not tells("Ann_Mouth_Smile_L", "mouthSmileRight")
    assert tells("mouthSmile", "mouthSmileRight")  # of both sides
    assert not tells("Grin", "mouthSmileLeft")
