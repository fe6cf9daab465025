from __future__ import annotations

import pytest

from selftalk_blender.core import rigs

RIGIFY = ["root", "spine", "jaw_master", "lip.T", "lip.B", "chin", "lip.T.L.001", "lip.T.R.001"]


@pytest.mark.parametrize(
    ("bones", "title"),
    [
        ([*RIGIFY, "lips.L", "lips.R", "tongue_master"], "Rigify face"),
        ([*RIGIFY, "jaw_master_mouth", "lip_end.L.001"], "Rigify face (skin)"),
        (["c_jawbone.x", "c_lips_top.x", "c_lips_bot.x", "c_lips_smile.l"], "Auto-Rig Pro face"),
        (["jaw", "oris01", "oris05", "oris03.L", "head"], "MakeHuman default rig"),
        (["mixamorig:Head", "mixamorig:Jaw"], "Jaw bone"),
        (["Head", "LeftEye", "RightEye", "Jaw"], "Jaw bone"),
        (["J_Bip_C_Head", "J_Bip_C_Jaw"], "Jaw bone"),
        (["CC_Base_Head", "CC_Base_JawRoot"], "Jaw bone"),
    ],
)
def test_a_rig_is_recognised_by_its_bones(bones, title):
    rig = rigs.recognise(bones)
    assert rig is not None and rig.title == title
    assert {control.bone for control in rig.controls} <= set(bones)
    assert any(control.part == rigs.JAW for control in rig.controls)


def test_a_rig_without_a_jaw_is_no_face():
    assert rigs.recognise(["Hips", "Spine", "Head", "mixamorig:LeftArm", "jawbreaker"]) is None


def test_of_the_rigs_that_fit_it_is_the_one_of_which_most_is_there():
    both = [*RIGIFY, "lips.L", "lips.R", "jaw_master_mouth"]
    assert rigs.recognise(both).title == "Rigify face"
    skin = [*both, "lip_end.L.001", "lip_end.R.001", "tongue"]
    assert rigs.recognise(skin).title == "Rigify face (skin)"


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("jawOpen", ("jawOpen",)),
        ("jaw_open", ("jawOpen",)),
        ("CTRL_JawOpen", ()),
        ("Jaw", ("jawOpen",)),
        ("Mouth Open", ("jawOpen",)),
        ("mouthSmile_L", ("mouthSmileLeft",)),
        ("MouthSmileRight", ("mouthSmileRight",)),
        ("smile", ("mouthSmileLeft", "mouthSmileRight")),
        ("IK/FK", ()),
        ("mouth_lock", ()),
    ],
)
def test_sliders_are_known_by_name(name, shapes):
    assert rigs.slider_shapes(name) == shapes


def test_keys_that_open_the_jaw_are_preferred_to_bones():
    assert rigs.keys_alone("AUTO", {"jawOpen", "mouthClose"})
    assert not rigs.keys_alone("AUTO", {"mouthSmileLeft"})
    assert not rigs.keys_alone("BOTH", {"jawOpen"}) and not rigs.keys_alone("BONES", {"jawOpen"})
    assert rigs.keys_alone("KEYS", set())
