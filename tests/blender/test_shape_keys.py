"""Shape keys of a mesh: what stands in the way of animating them, and how some are added."""

import bpy
import numpy as np
import pytest
from mathutils import Matrix
from scenes import body, play

from selftalk_blender.blender import shape_keys
from selftalk_blender.core import bundled_template
from selftalk_blender.core.errors import SelfTalkError


@pytest.mark.parametrize("count", [13380, 19158])
def test_a_makehuman_body_in_decimetres_with_y_up_gets_the_heads_shapes(count) -> None:
    turn = np.array(Matrix.Rotation(np.radians(-90), 3, "X"))
    target, template = body(count, turn, 10.0, (0.0, 14.0, 0.3)), bundled_template()
    rest = play(target, 1)
    created = []
    list(shape_keys.add_of_head(target, ["jawOpen", "mouthPucker"], created))
    blocks = target.data.shape_keys.key_blocks
    assert created == ["jawOpen", "mouthPucker"] and blocks.keys() == ["Basis", *created]
    assert not any(key.value for key in blocks)
    blocks["jawOpen"].value = 0.5
    known = template.source_index < count
    moved = (play(target, 1) - rest)[template.source_index[known]]
    expected = 0.5 * template.shape_deltas[template.shape_names.index("jawOpen")][known]
    assert np.abs(moved - expected @ turn.T * 10.0).max() < 1e-4
    others = np.setdiff1d(np.arange(count), template.source_index)
    assert np.array_equal(play(target, 1)[others], rest[others])
    shape_keys.take_back(target, False, created)
    assert target.data.shape_keys is None


def test_what_stands_in_the_way_is_refused_with_the_way_out(head) -> None:
    def refuses(sentence: str) -> None:
        with pytest.raises(SelfTalkError, match=sentence):
            shape_keys.check(head, ("jawOpen",))

    shape_keys.check(head, ("jawOpen",))
    jaw = head.data.shape_keys.key_blocks["jawOpen"]
    jaw.mute = True
    refuses("jawOpen.*muted")
    shape_keys.check(head, ("mouthPucker",))
    jaw.mute = False
    jaw.slider_max = 0.5
    refuses("jawOpen.*range to 0..1")
    jaw.slider_max = 1.0
    head.show_only_shape_key = True
    refuses("Turn off (Shape Key Lock|Solo Active Shape Key)")
    head.show_only_shape_key = False
    twin = bpy.data.objects.new("Twin", head.data)
    refuses("shared with Twin.*single-user")
    bpy.data.objects.remove(twin)
    shape_keys.check(head, ("jawOpen",))


def test_keys_that_are_taken_back_leave_the_active_one_active(head) -> None:
    head.active_shape_key_index = 3
    created: list[str] = []
    offsets = np.zeros((len(head.data.vertices), 3), np.float32)
    steps = shape_keys.add(head, [(f"New {index}", offsets) for index in range(4)], created)
    next(steps)
    next(steps)
    steps.close()
    shape_keys.take_back(head, True, created)
    assert "New 0" not in head.data.shape_keys.key_blocks
    assert head.active_shape_key_index == 3
