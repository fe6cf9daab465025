"""A line of speech on a character that bones move: through the same writer as any other."""

from __future__ import annotations

import bpy
import characters
import numpy as np
import pytest
from scenes import play

from selftalk_blender.blender import interface, lines, marks, targets
from selftalk_blender.core import bundled_template
from selftalk_blender.core.lips import rest_weights
from selftalk_blender.core.take import Take

TEMPLATE = bundled_template()


@pytest.fixture(autouse=True)
def registered():
    interface.register()
    yield
    interface.unregister()


def test_a_line_is_written_onto_the_bones_of_another_head():
    head = characters.jaw_rig("mixamorig:Jaw", "XYZ")
    kept = characters.cut(head)
    rig = head.modifiers["Armature"].object
    assert targets.analyse(head).kind == "RIG"
    # What a panel asks measures nothing.
    planned = targets.drive_of(head, measure=False)
    assert marks.CALIBRATION not in head and {c.kind for c in planned.channels} == {"BONE"}
    lines.check(head, planned)

    weights = np.tile(rest_weights(TEMPLATE), (100, 1)).astype(np.float32)
    jaw = TEMPLATE.shape_names.index("jawOpen")
    weights[:, jaw] += 0.3 * np.sin(np.linspace(0, np.pi, 100))
    take = Take(weights, 50.0, np.full(100, -20.0, np.float32))
    spoken = lines.Spoken(
        id="one", name="one", scene="Scene", strip="", clip="/one.wav", sound="one",
        taken=(0.0, 2.0), first_frame=11, frames=48, fps=24.0, start=0.0,
    )  # fmt: skip
    still = characters.shown(head)
    assert list(targets.prepare(head))[-1] == 1.0
    assert list(targets.prepare(head)) == []
    for _ in lines.write(head, targets.drive_of(head), spoken, take):
        pass
    assert rig.animation_data.action is not None

    lip = kept.tolist().index(TEMPLATE.landmarks["inner_lower_lip"])
    opened = [1000 * (still - play(head, frame))[lip, 2] for frame in range(5, 70)]
    assert opened[0] == pytest.approx(0, abs=0.05) and opened[-1] == pytest.approx(0, abs=0.5)
    assert max(opened) == pytest.approx(0.3 * TEMPLATE.gap_per_weight[jaw], rel=0.2)
    assert 25 <= 5 + int(np.argmax(opened)) <= 45
    lines.rebake(head)
    assert 1000 * (still - play(head, 35))[lip, 2] == pytest.approx(opened[30], abs=0.1)
    bpy.context.scene.frame_set(1)


def test_keys_of_the_bundled_head_still_come_before_its_jaw_bone(head):
    other = characters.jaw_rig()
    assert {channel.kind for channel in targets.drive_of(other).channels} == {"KEY"}
    other.selftalk.rig_share = "BONES"
    assert {channel.kind for channel in targets.drive_of(other).channels} == {"BONE"}
    assert {channel.kind for channel in targets.drive_of(head).channels} == {"KEY"}
