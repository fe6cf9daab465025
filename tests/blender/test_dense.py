"""Shape keys made for one motion: what plays is the motion, and what is the artist's stays."""

import bpy
import numpy as np
import pytest
from scenes import NEUTRAL, TOLERANCE, check_played, make_awkward, own_shapes, play, talking

from selftalk_blender.blender import compat, dense, face, marks, mesh_cache
from selftalk_blender.core import FaceTemplate, Motion, bundled_template
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.principal import NAME


def animate(target, motion, first_frame) -> None:
    done = list(dense.write(target, motion, first_frame, NEUTRAL))
    assert done == sorted(done) and done[0] >= 0 and done[-1] == 1.0


def invented(weights: np.ndarray) -> Motion:
    """A motion of weights (T, K) at 24 frames per second, over shapes of the bundled head."""
    head, count = bundled_template(), weights.shape[1]
    names = tuple(NAME.format(index) for index in range(count))
    own = FaceTemplate("own", head.vertices, head.polygons, names, head.shape_deltas[:count])
    return Motion(own, 24.0, weights=weights.astype(np.float32))


def made_keys(target) -> list[str]:
    return [name for name in face.key_names(target) if "SelfTalk" in name]


def curve_paths(target) -> list[str]:
    keys = target.data.shape_keys
    return [c.data_path for c in compat.playing_curves(keys)]


@pytest.mark.parametrize(
    ("rate", "base", "first"), [(24, 1, 1), (24, 1.001, -7), (30, 1.001, 0), (60, 1, 101)]
)
def test_what_plays_is_the_motion(head, rate, base, first) -> None:
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = rate, base
    motion = talking(6, rate / base)
    animate(head, own_shapes(motion), first)
    check_played(head, motion, first)
    assert dense.written_frames(head) == (first, first + 5)


def test_a_turned_scaled_parented_head_with_modifiers(head) -> None:
    subdivision, motion = make_awkward(head), talking(4)
    animate(head, own_shapes(motion), 1)
    assert len(play(head, 2)) > 15000
    subdivision.show_viewport = False
    assert np.abs(play(head, 3) - motion.vertices()[2]).max() < TOLERANCE


def test_keys_lie_in_our_own_linear_action(head) -> None:
    animate(head, invented(np.array([[0.0, 1.0], [0.25, 1.0], [1.0, 1.0], [0.0, 1.0]])), 10)
    keys = head.data.shape_keys
    action = keys.animation_data.action
    assert action.name == "SelfTalk SelfTalk Head" and marks.MARK in action
    assert dense.written_frames(head) == (10, 13)
    assert [c.data_path for c in compat.playing_curves(keys)] == curve_paths(head)
    first = compat.playing_curves(keys)[0]
    assert [tuple(p.co) for p in first.keyframe_points] == [(10, 0), (11, 0.25), (12, 1), (13, 0)]
    assert {p.interpolation for p in first.keyframe_points} == {"LINEAR"}


def test_animating_again_replaces_ours_alone_even_after_reopening(head, tmp_path) -> None:
    smirk = head.shape_key_add(name="Smirk", from_mix=False)
    smirk.value = 0.4
    head.data.shape_keys.key_blocks["browInnerUp"].value = 0.3
    animate(head, invented(np.full((3, 3), 0.5)), 1)
    bpy.context.scene.frame_set(2)
    # The artist adds a curve to our action: Blender puts new keys there.
    smirk.keyframe_insert("value", frame=1)

    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    head = bpy.data.objects["SelfTalk Head"]
    animate(head, invented(np.full((3, 2), 0.75)), 5)
    bpy.context.scene.frame_set(6)
    assert len(bpy.data.actions) == 1 and made_keys(head) == ["SelfTalk 00", "SelfTalk 01"]
    assert sorted(curve_paths(head)) == [
        f'key_blocks["{name}"].value' for name in ("SelfTalk 00", "SelfTalk 01", "Smirk")
    ]
    now = {key.name: key.value for key in head.data.shape_keys.key_blocks}
    assert now["browInnerUp"] == pytest.approx(0.3) and now["Smirk"] == pytest.approx(0.4)
    assert now["SelfTalk 00"] == now["SelfTalk 01"] == 0.75

    dense.release(head)  # the action has a curve of the artist's, and stays
    assert curve_paths(head) == ['key_blocks["Smirk"].value'] and len(bpy.data.actions) == 1
    assert not any(head.data.shape_keys.key_blocks[name].value for name in made_keys(head))
    dense.remove(head, NEUTRAL)
    assert not made_keys(head) and "jawOpen" in head.data.shape_keys.key_blocks


def test_keys_take_a_mesh_cache_away(head, tmp_path) -> None:
    motion = talking(4)
    list(mesh_cache.write(head, motion, 1, mesh_cache.default_path(head, str(tmp_path))))
    animate(head, own_shapes(motion), 1)
    assert not head.modifiers and marks.MARK not in head
    assert np.abs(play(head, 2) - motion.vertices()[1]).max() < TOLERANCE


def test_the_artists_action_of_our_name_stays(head) -> None:
    theirs = bpy.data.actions.new("SelfTalk SelfTalk Head")
    theirs.use_fake_user = True
    animate(head, own_shapes(talking(3)), 1)
    dense.remove(head, NEUTRAL)
    assert list(bpy.data.actions) == [theirs] and marks.MARK not in theirs


def test_drivers_and_actions_of_the_artist_are_refused_with_the_way_out(head) -> None:
    motion = own_shapes(talking(3))

    def refuses(sentence: str) -> None:
        with pytest.raises(SelfTalkError, match=sentence):
            dense.check(head, NEUTRAL)
        with pytest.raises(SelfTalkError, match=sentence):
            animate(head, motion, 1)

    keys = head.data.shape_keys
    animate(head, motion, 1)
    dense.release(head)
    first = keys.key_blocks["SelfTalk 00"]
    first.driver_add("value")
    refuses("SelfTalk 00.*driver.*Mesh Cache")
    first.driver_remove("value")
    keys.key_blocks["jawOpen"].keyframe_insert("value", frame=1)
    keys.animation_data.action.name = "Hand made"
    refuses("Hand made.*Push it down or unlink")
    assert bpy.data.actions["Hand made"].users == 1
    keys.animation_data.action = None
    first.name = "SelfTalk 99"
    refuses("SelfTalk 99.*SelfTalk did not make it")


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_cancelling_leaves_no_trace(head, steps) -> None:
    head.shape_key_clear()
    generator = dense.write(head, own_shapes(talking(100)), 1, NEUTRAL)
    for _ in range(steps):
        next(generator)
    generator.close()
    assert head.data.shape_keys is None and not bpy.data.actions


def test_cancelling_a_second_result_keeps_the_first(head) -> None:
    motion = talking(10)
    animate(head, own_shapes(motion), 1)
    generator = dense.write(head, own_shapes(talking(10, seed=3)), 1, NEUTRAL)
    for _ in range(4):
        next(generator)
    generator.close()
    assert len(bpy.data.actions) == 1
    assert np.abs(play(head, 5) - motion.vertices()[4]).max() < TOLERANCE


def test_deleting_the_face_meanwhile_is_a_sentence(head) -> None:
    steps = dense.write(head, own_shapes(talking(20)), 1, NEUTRAL)
    next(steps)
    bpy.data.objects.remove(head)
    with pytest.raises(SelfTalkError, match="removed while"):
        list(steps)
    assert not bpy.data.actions


def test_an_hour_of_keys_takes_seconds(head) -> None:
    weights = np.random.default_rng(0).random((86400, 52))
    assert len(list(dense.write(head, invented(weights), 1, NEUTRAL))) > 50


def test_undo_takes_a_result_back_and_it_can_be_made_again(head) -> None:
    motion = talking(3)
    bpy.ops.ed.undo_push(message="Before")
    animate(head, own_shapes(motion), 1)
    bpy.ops.ed.undo_push(message="Animate")
    bpy.ops.ed.undo()
    head = bpy.data.objects["SelfTalk Head"]
    assert not bpy.data.actions and not made_keys(head)
    bpy.ops.ed.redo()
    head = bpy.data.objects["SelfTalk Head"]
    assert np.abs(play(head, 2) - motion.vertices()[1]).max() < TOLERANCE
    bpy.ops.ed.undo()
    head = bpy.data.objects["SelfTalk Head"]
    animate(head, own_shapes(motion), 1)
    assert np.abs(play(head, 2) - motion.vertices()[1]).max() < TOLERANCE
