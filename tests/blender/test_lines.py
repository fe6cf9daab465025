"""Lines of one face: where they stand, how they add up, and what is the artist's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest
from pace import quietest, seconds
from scenes import play

from selftalk_blender.blender import (
    adjust_panel,
    compat,
    lines,
    marks,
    mesh_cache,
    reducing,
    shape_keys,
    targets,
)
from selftalk_blender.core import bundled_template
from selftalk_blender.core.drive import Channel, Drive
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.lips import SEAL, rest_weights
from selftalk_blender.core.take import Take

NAMES = bundled_template().shape_names
JAW, CLOSE, PUCKER = (NAMES.index(name) for name in ("jawOpen", "mouthClose", "mouthPucker"))


def take(seconds: float = 2.0, height: float = 0.5, shape: int = JAW) -> Take:
    """One shape rises evenly to `height` in the middle and falls again; sealed at both ends."""
    count = round(seconds * 50)
    weights = np.tile(rest_weights(bundled_template()), (count, 1))
    rise = 1 - np.abs(np.linspace(-1, 1, count))
    weights[:, shape] += height * np.clip((rise - 0.1) / 0.9, 0, 1)
    return Take(weights.astype(np.float32), 50.0, np.full(count, -20.0, np.float32))


def spoken(name: str, first_frame: int = 11, seconds: float = 2.0, fps: float = 24.0):
    return lines.Spoken(
        id=f"id-{name}", name=name, scene="Scene", strip="", clip=f"/{name}.wav", sound=name,
        taken=(0.0, seconds), first_frame=first_frame, frames=round(seconds * fps), fps=fps,
        start=0.0,
    )  # fmt: skip


def say(face, name: str, first_frame: int = 11, made: Take | None = None) -> None:
    made = made or take()
    new = spoken(name, first_frame, made.duration)
    done = list(lines.write(face, targets.drive_of(face), new, made))
    assert done == sorted(done) and done[-1] == 1.0


def weights(face, frame: int) -> np.ndarray:
    """(52,) as Blender evaluates them."""
    bpy.context.scene.frame_set(frame)
    blocks = face.data.shape_keys.key_blocks
    return np.array([blocks[name].value if name in blocks else 0.0 for name in NAMES])


def expected(*stated: tuple[int, Take], frame: int) -> np.ndarray:
    """Rest and what each take adds to it at a scene frame."""
    rest = rest_weights(bundled_template())
    total = rest.copy()
    for first, made in stated:
        seconds = (frame - first) / 24.0
        if 0 <= seconds < made.duration:
            total += made.motion().at(np.array([seconds]), 24.0).weights[0] - rest
    return np.clip(total, 0.0, 1.0)


def line_strips(face) -> list[tuple[str, float, float]]:
    data = face.data.shape_keys.animation_data
    return sorted(
        (strip.action.name, strip.frame_start, strip.frame_end)
        for track in data.nla_tracks
        for strip in track.strips
        if strip.action[marks.LINE] != lines.REST_LINE
    )


def test_one_line_is_the_active_action(head) -> None:
    say(head, "hello")
    data = head.data.shape_keys.animation_data
    assert data.action.name == "SelfTalk Head · hello" and not len(data.nla_tracks)
    for frame in (0, 11, 35, 40, 100):
        assert np.abs(weights(head, frame) - expected((11, take()), frame=frame)).max() < 1e-3
    assert lines.written_frames(head) == (11, 58)


def test_lines_that_overlap_add_up_and_silence_adds_nothing(head) -> None:
    """Before, between, within and after: in one frame both, and rest is rest."""
    first, second = take(2.0, 0.4), take(2.0, 0.3)
    say(head, "one", 11, first)
    say(head, "two", 40, second)
    say(head, "far", 200, take(1.0, 0.8, PUCKER))
    stated = ((11, first), (40, second), (200, take(1.0, 0.8, PUCKER)))
    for frame in (-50, 11, 30, 41, 47, 55, 58, 70, 87, 88, 150, 205, 212, 224, 500):
        assert np.abs(weights(head, frame) - expected(*stated, frame=frame)).max() < 1e-3, frame
    assert [name for name, *_ in line_strips(head)] == [
        "SelfTalk Head · far", "SelfTalk Head · one", "SelfTalk Head · two",
    ]  # fmt: skip
    assert head.data.shape_keys.animation_data.action is None
    assert weights(head, 150)[CLOSE] == pytest.approx(SEAL, abs=1e-4)


def test_two_loud_lines_at_once_stop_at_1(head) -> None:
    say(head, "one", 11, take(2.0, 0.8))
    say(head, "two", 11, take(2.0, 0.7))
    assert weights(head, 35)[JAW] == 1.0


def test_a_line_animated_again_replaces_itself_alone(head) -> None:
    say(head, "one", 11)
    say(head, "two", 100)
    say(head, "one", 11, take(2.0, 0.9))
    assert weights(head, 35)[JAW] > 0.8 and 0.45 < weights(head, 124)[JAW] < 0.51
    assert len(line_strips(head)) == 2 and len(head.selftalk.lines) == 2
    lined = [action for action in bpy.data.actions if action.get(marks.LINE) != "rest"]
    assert len(lined) == 2


def test_removing_lines_leaves_the_last_as_the_active_action_and_then_nothing(head) -> None:
    say(head, "one", 11)
    say(head, "two", 100)
    list(lines.removing(head, "id-two"))
    data = head.data.shape_keys.animation_data
    assert data.action.name == "SelfTalk Head · one" and not len(data.nla_tracks)
    for frame in (0, 35, 124):
        assert np.abs(weights(head, frame) - expected((11, take()), frame=frame)).max() < 1e-3
    list(lines.removing(head, "id-one"))
    assert not bpy.data.actions and not len(head.selftalk.lines) and not head[marks.TAKES]
    assert not weights(head, 35).any()


def test_a_user_can_have_one_line_in_the_nla_and_back(head) -> None:
    say(head, "one", 11)
    head.selftalk.use_nla = True
    assert line_strips(head) == [("SelfTalk Head · one", 11, 58)]
    for frame in (0, 35, 124):
        assert np.abs(weights(head, frame) - expected((11, take()), frame=frame)).max() < 1e-3
    (strip,) = [
        strip
        for track in head.data.shape_keys.animation_data.nla_tracks
        for strip in track.strips
        if strip.action[marks.LINE] == "id-one"
    ]
    strip.mute = True
    say(head, "one", 11, take(2.0, 0.9))  # a strip that was muted stays so
    assert weights(head, 35)[JAW] == pytest.approx(0.0, abs=1e-3)
    head.selftalk.use_nla = False
    assert not line_strips(head) and weights(head, 35)[JAW] > 0.8


def test_the_artists_action_tracks_and_curves_stay(head) -> None:
    keys = head.data.shape_keys
    blink = keys.key_blocks["eyeBlinkLeft"]
    blink.keyframe_insert("value", frame=1)
    own = keys.animation_data.action
    own.name = "Hand made"
    say(head, "one", 11)
    assert keys.animation_data.action == own and len(line_strips(head)) == 1
    assert weights(head, 35)[JAW] > 0.45
    # A curve that the artist adds to our action keeps its channel, and stays when the line goes.
    line_action = next(a for a in bpy.data.actions if a.get(marks.LINE) == "id-one")
    slot = 0 if not compat.SLOTTED_ACTIONS else line_action.slots[0].handle
    curve = compat.slot_curves(line_action, slot).new('key_blocks["mouthPucker"].value')
    curve.keyframe_points.insert(20, 0.25)
    say(head, "one", 11, take(2.0, 0.5, PUCKER))
    line_action = next(a for a in bpy.data.actions if a.get(marks.LINE) == "id-one")
    curve = compat.slot_curves(line_action, slot).find('key_blocks["mouthPucker"].value')
    assert [tuple(point.co) for point in curve.keyframe_points] == [(20, 0.25)]
    list(lines.removing(head, "id-one"))
    assert "Hand made" in bpy.data.actions and keys.animation_data.action == own
    kept = next(a for a in bpy.data.actions if a != own)
    assert [c.data_path for c in compat.slot_curves(kept, slot)] == [
        'key_blocks["mouthPucker"].value'
    ]
    assert marks.LINE not in kept


def test_what_the_artist_drives_or_keys_is_left_alone(head) -> None:
    """Blinks and gaze are often the artist's own: the face speaks all the same, and says so."""
    blocks = head.data.shape_keys.key_blocks
    blocks["eyeBlinkLeft"].driver_add("value").driver.expression = "0.75"
    blocks["browInnerUp"].keyframe_insert("value", frame=1)
    head.data.shape_keys.animation_data.action.name = "Brows"
    made = take()
    made.weights[:, [NAMES.index("eyeBlinkLeft"), NAMES.index("browInnerUp")]] = 0.5
    say(head, "one", 11, made)
    seen = weights(head, 35)
    assert seen[NAMES.index("eyeBlinkLeft")] == 0.75 and seen[NAMES.index("browInnerUp")] == 0.0
    assert seen[JAW] > 0.45
    notices = " ".join(targets.drive_of(head).notices)
    assert "eyeBlinkLeft" in notices and "Brows" in notices


def test_what_would_hide_the_motion_is_refused_with_the_way_out(head) -> None:
    head.show_only_shape_key = True
    with pytest.raises(SelfTalkError, match=f"Turn off {shape_keys.SOLO}"):
        say(head, "one")
    head.show_only_shape_key = False
    twin = bpy.data.objects.new("Twin", head.data)
    bpy.context.collection.objects.link(twin)
    with pytest.raises(SelfTalkError, match=r"shared with Twin.*single-user"):
        say(head, "one")
    bpy.data.objects.remove(twin)
    head.modifiers.new("Alembic", "MESH_SEQUENCE_CACHE")
    with pytest.raises(SelfTalkError, match="modifier Alembic.*replaces the whole mesh"):
        say(head, "one")
    assert not len(head.selftalk.lines) and marks.TAKES not in head


def test_an_action_of_ours_that_was_pushed_down_plays_on(head) -> None:
    """By the artist, with Blender's own button: the next line finds it there."""
    say(head, "one", 11)
    data = head.data.shape_keys.animation_data
    action = data.action
    track = data.nla_tracks.new()
    strip = track.strips.new(action.name, 11, action)
    if compat.SLOTTED_ACTIONS:
        strip.action_slot = data.action_slot
    data.action = None
    say(head, "two", 100)
    stated = ((11, take()), (100, take()))
    for frame in (0, 35, 80, 124, 300):
        assert np.abs(weights(head, frame) - expected(*stated, frame=frame)).max() < 1e-3, frame


@pytest.mark.parametrize("earlier", [0, 1, 2])
def test_closed_at_any_point_everything_is_as_before(head, earlier) -> None:
    for number in range(earlier):
        say(head, f"line {number}", 11 + 100 * number)

    def state():
        frames = np.array([weights(head, frame) for frame in (0, 35, 135, 235)])
        known = sorted(action.name for action in bpy.data.actions)
        return frames.tobytes(), known, len(head.selftalk.lines), sorted(head.get(marks.TAKES, {}))

    before = state()
    for point in range(1, 100):
        steps = lines.write(head, targets.drive_of(head), spoken("line 0", 211), take(shape=PUCKER))
        done = [next(steps, None) for _ in range(point)]
        if done[-1] is None or done[-1] == 1.0:
            break
        steps.close()
        assert state() == before, point
    assert point > 2 and state() != before


def test_undo_takes_a_line_back_with_its_take(head) -> None:
    bpy.context.preferences.edit.use_global_undo = True
    say(head, "one", 11)
    bpy.ops.ed.undo_push(message="one")
    say(head, "two", 100)
    bpy.ops.ed.undo_push(message="two")
    bpy.ops.ed.undo()
    head = bpy.data.objects["SelfTalk Head"]
    assert [line.name for line in head.selftalk.lines] == ["one"]
    assert sorted(head[marks.TAKES]) == ["id-one"] and not line_strips(head)
    assert weights(head, 35)[JAW] > 0.45 and weights(head, 124)[JAW] < 1e-3
    bpy.ops.ed.redo()
    head = bpy.data.objects["SelfTalk Head"]
    assert len(line_strips(head)) == 2 and weights(head, 124)[JAW] > 0.45
    lines.rebake(head)


def test_lines_are_saved_with_the_file_and_baked_again_from_it(head, tmp_path) -> None:
    say(head, "one", 11)
    say(head, "two", 40)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "shot.blend"))
    head = bpy.data.objects["SelfTalk Head"]
    before = [weights(head, frame) for frame in (0, 35, 50, 64)]
    for curve in all_curves(head):
        curve.keyframe_points.foreach_set("co", np.zeros(2 * len(curve.keyframe_points)))
    lines.rebake(head)
    after = [weights(head, frame) for frame in (0, 35, 50, 64)]
    assert np.abs(np.array(after) - before).max() < 1e-3


def all_curves(face) -> list:
    keys = face.data.shape_keys
    places = [p for p in lines.places_of(keys) if p.action[marks.LINE] != lines.REST_LINE]
    return [curve for place in places for curve in place.curves]


def test_a_duplicate_speaks_for_itself(head) -> None:
    """Its curves are its own, though it was copied with its lines and takes."""
    say(head, "one", 11)
    other = head.copy()
    other.data = head.data.copy()
    bpy.context.collection.objects.link(other)
    other[marks.TAKES] = {"id-one": take(2.0, 0.9).to_bytes()}
    lines.rebake(other)
    assert weights(other, 35)[JAW] > 0.8 and 0.45 < weights(head, 35)[JAW] < 0.51


def test_a_duplicate_leaves_its_originals_teeth_alone(head) -> None:
    """It was copied without them, but its lines know them."""
    teeth = head.copy()
    teeth.name, teeth.data, teeth.parent = "Teeth", head.data.copy(), head
    bpy.context.collection.objects.link(teeth)
    say(head, "one", 11)
    other = head.copy()
    other.data = head.data.copy()
    bpy.context.collection.objects.link(other)
    other[marks.TAKES] = {"id-one": take(2.0, 0.9).to_bytes()}
    lines.rebake(other)
    assert weights(other, 35)[JAW] > 0.8 and 0.45 < weights(teeth, 35)[JAW] < 0.51
    list(lines.removing(other, "id-one"))
    assert 0.45 < weights(teeth, 35)[JAW] < 0.51 and weights(head, 35)[JAW] > 0.45


def test_while_a_strip_is_tweaked_or_the_mesh_edited_nothing_is_changed(head) -> None:
    say(head, "one", 11)
    say(head, "two", 100)
    data = head.data.shape_keys.animation_data
    track = next(t for t in data.nla_tracks if t.name == lines.TRACK)
    data.nla_tracks.active = track
    track.strips[0].select = True
    data.use_tweak_mode = True
    assert data.use_tweak_mode
    for act in (
        lambda: say(head, "one", 11),
        lambda: lines.rebake(head),
        lambda: list(lines.removing(head, "id-one")),
        lambda: list(reducing.reduce_lines(head, 0.5)),
    ):
        with pytest.raises(SelfTalkError, match="being tweaked. Leave Tweak Mode"):
            act()
    bpy.context.scene.selftalk.face = head
    for button in ("adjust", "reduce", "bake"):
        problem = getattr(adjust_panel, f"{button}_problem")
        assert "Leave Tweak Mode" in problem(bpy.context)  # so that no slider moves in vain
    head.selftalk.use_nla = True
    data.use_tweak_mode = False
    assert not adjust_panel.adjust_problem(bpy.context)
    bpy.context.view_layer.objects.active = head
    bpy.ops.object.mode_set(mode="EDIT")
    assert "Leave it (Tab)" in adjust_panel.adjust_problem(bpy.context)
    bpy.ops.object.mode_set(mode="OBJECT")
    assert weights(head, 35)[JAW] > 0.45 and len(line_strips(head)) == 2


def test_teeth_and_bones_follow_in_the_same_line(head) -> None:
    """One action with several slots (one action each on 4.2): keys of two meshes and a bone."""
    teeth = head.copy()
    teeth.name, teeth.data = "Teeth", head.data.copy()
    bpy.context.collection.objects.link(teeth)
    armature = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    bpy.context.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    bone = armature.data.edit_bones.new("jaw")
    bone.tail = (0, 0, 1)
    bpy.ops.object.mode_set(mode="OBJECT")
    armature.pose.bones["jaw"].rotation_mode = "XYZ"
    armature["Wide"] = 0.25
    drive = Drive(
        (
            Channel("SelfTalk Head", "KEY", "jawOpen"),
            Channel("SelfTalk Head", "KEY", "mouthClose"),
            Channel("Teeth", "KEY", "jawOpen"),
            Channel("Rig", "BONE", 'pose.bones["jaw"].rotation_euler', 0),
            Channel("Rig", "PROPERTY", '["Wide"]'),
        ),
        lambda w: np.stack(
            [w[:, JAW], w[:, CLOSE], w[:, JAW], -0.4 * w[:, JAW], 0.25 + w[:, JAW]], 1
        ),
    )
    body = bpy.data.actions.new("Walk")
    armature.animation_data_create().action = body
    armature.location.x = 0.0
    armature.keyframe_insert("location", frame=1)

    def seen(frame: int) -> list[float]:
        bpy.context.scene.frame_set(frame)
        blocks = [m.data.shape_keys.key_blocks["jawOpen"].value for m in (head, teeth)]
        evaluated = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
        return [*blocks, evaluated.pose.bones["jaw"].rotation_euler.x, evaluated["Wide"]]

    for name, first in (("one", 11), ("two", 100)):
        list(lines.write(head, drive, spoken(name, first), take()))
        middle = seen(first + 24)
        high = middle[0]
        assert high > 0.45
        assert middle == pytest.approx([high, high, -0.4 * high, 0.25 + high], abs=1e-3)
        assert seen(70) == pytest.approx([0, 0, 0, 0.25], abs=1e-3)
    assert armature.animation_data.action == body
    made = [a for a in bpy.data.actions if a.get(marks.LINE) == "id-one"]
    assert len(made) == (1 if compat.SLOTTED_ACTIONS else 3)
    list(lines.removing(head, "id-one"))
    assert seen(35) == pytest.approx([0, 0, 0, 0.25], abs=1e-3) and seen(124)[1] > 0.45
    list(lines.removing(head, "id-two"))
    assert [a.name for a in bpy.data.actions] == ["Walk"]


# --- Mesh cache -----------------------------------------------------------------------------


def say_by_cache(face, folder: Path, name: str, first_frame: int, made: Take) -> None:
    path = mesh_cache.default_path(face, str(folder))
    list(lines.write_cache(face, [(spoken(name, first_frame, made.duration), made)], path))


def test_a_mesh_cache_is_one_for_all_lines(head, tmp_path) -> None:
    first, second = take(2.0, 0.4), take(2.0, 0.7, PUCKER)
    say_by_cache(head, tmp_path, "one", 11, first)
    say_by_cache(head, tmp_path, "two", 40, second)
    assert len(list(tmp_path.iterdir())) == 1
    template = bundled_template()

    def right(stated, frame) -> bool:
        wanted = np.tensordot(expected(*stated, frame=frame), template.shape_deltas, 1)
        return np.abs(play(head, frame) - template.vertices - wanted).max() < 2e-5

    for frame in (0, 35, 50, 64, 300):
        assert right(((11, first), (40, second)), frame), frame
    list(lines.removing(head, "id-one"))
    assert right(((40, second),), 50) and right(((40, second),), 35)
    list(lines.removing(head, "id-two"))
    assert not head.modifiers and not len(head.selftalk.lines)


def test_the_output_changes_for_all_lines_of_a_face(head, tmp_path) -> None:
    say(head, "one", 11)
    say_by_cache(head, tmp_path, "two", 100, take())
    assert not bpy.data.actions and mesh_cache.plays(head)
    assert np.abs(play(head, 35) - play(head, 124)).max() < 1e-5
    say(head, "three", 200)
    assert not head.modifiers and len(line_strips(head)) == 3
    assert min(weights(head, frame)[JAW] for frame in (35, 124, 224)) > 0.45


# --- Fast -----------------------------------------------------------------------------------


def test_ten_seconds_are_baked_again_while_a_slider_is_dragged(head) -> None:
    random = np.random.default_rng(0)
    made = Take(random.random((500, 52), np.float32), 50.0, np.full(500, -20.0, np.float32))
    say(head, "one", 11, made)
    # 0.01 on a fast machine; a dragged slider must stay fluid
    assert quietest(lambda: seconds(lambda: lines.rebake(head)), 0.05) < 0.05


# --- Long -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [(24, 1.001), (30, 1.001)])
def test_ten_minutes_keep_in_step_at_broadcast_rates(head, rate) -> None:
    """The jaw tells the second of the sound, a saw of 10 s; the frame tells the second that
    Blender plays the sound at."""
    fps = rate[0] / rate[1]
    seconds = np.arange(600 * 50) / 50
    weights_ = np.tile(rest_weights(bundled_template()), (len(seconds), 1))
    weights_[:, JAW] = np.abs(seconds % 10 - 5) / 5
    made = Take(weights_.astype(np.float32), 50.0, np.full(len(seconds), -20.0, np.float32))
    new = spoken("long", 1, 600.0, fps)
    list(lines.write(head, targets.drive_of(head), new, made))
    (curve,) = [c for c in all_curves(head) if "jawOpen" in c.data_path]
    for second in (1.0, 299.0, 301.0, 597.0, 599.0):
        frame = 1 + second * fps
        wanted = abs(second % 10 - 5) / 5
        # A frame changes the jaw by 1 / (5 fps): half of it is half a frame.
        assert abs(curve.evaluate(frame) - wanted) < 0.5 / (5 * fps), second


def test_what_the_artist_keys_of_the_object_is_no_line(head) -> None:
    """Blender puts keys of related data into the same action, if it has slots."""
    say(head, "one")
    for frame, y in ((1, 0.0), (300, 5.0)):
        head.location.y = y
        head.keyframe_insert("location", frame=frame)

    def walk() -> list[float]:
        found = []
        for frame in (1, 150, 300, 400):
            bpy.context.scene.frame_set(frame)
            found.append(head.location.y)
        return found

    walked = walk()
    say(head, "two", 400)
    assert walk() == walked
    list(lines.moving(head, "id-one", spoken("one", 60)))
    assert walk() == walked and weights(head, 84)[JAW] > 0.4
    say(head, "one", 60, take(2.0, 0.3))
    list(lines.removing(head, "id-one"))
    list(lines.removing(head, "id-two"))
    assert walk() == walked and weights(head, 84)[JAW] == 0.0


def test_a_line_taken_off_a_linked_duplicate_stays_with_the_original(head) -> None:
    say(head, "one")
    twin = head.copy()
    bpy.context.collection.objects.link(twin)
    list(lines.removing(twin, "id-one"))
    assert not len(twin.selftalk.lines) and weights(head, 35)[JAW] > 0.4
    list(lines.removing(head, "id-one"))
    assert weights(head, 35)[JAW] == 0.0


def later(face, frames: int):
    line = lines.find(face, "id-one")
    return replace(lines.Spoken.of(line), first_frame=line.first_frame + frames)


def test_a_line_moves_without_that_of_a_duplicate_that_shares_its_action(head) -> None:
    say(head, "one")
    other = head.copy()
    other.data = head.data.copy()
    bpy.context.collection.objects.link(other)
    if compat.SLOTTED_ACTIONS:  # else it has none, or one of its own
        assert lines.places_of(other.data.shape_keys)
    before, actions = weights(other, 35)[JAW], set(bpy.data.actions)
    steps = lines.moving(head, "id-one", later(head, 50))
    next(steps), next(steps)
    steps.close()
    assert set(bpy.data.actions) == actions and weights(head, 35)[JAW] > 0.45
    list(lines.moving(head, "id-one", later(head, 50)))
    assert weights(head, 85)[JAW] > 0.45 and weights(head, 35)[JAW] == 0.0
    assert weights(other, 35)[JAW] == before
    assert lines.touched(head) == lines.touched(other) == []


def test_a_linked_duplicate_knows_where_its_line_went(head) -> None:
    say(head, "one")
    twin = head.copy()
    bpy.context.collection.objects.link(twin)
    list(lines.moving(head, "id-one", later(head, 50)))
    assert lines.find(twin, "id-one").first_frame == 61 and lines.touched(twin) == []


def test_what_the_artist_keyed_beside_a_reduced_line_stays_alone(head) -> None:
    """Blender puts keys of the object into the action of its shape keys."""
    say(head, "one")
    head.keyframe_insert("location", frame=1)
    list(reducing.reduce_lines(head, 0.5))
    own = compat.playing_curves(head)
    assert {curve.data_path for curve in own} == {"location"}
    if compat.SLOTTED_ACTIONS:
        assert all(slot.users() for action in bpy.data.actions for slot in action.slots)


@pytest.mark.parametrize("share", [0.0, 0.08, 0.5])
def test_a_face_that_is_removed_while_it_is_written_is_a_sentence(head, share) -> None:
    steps = lines.write(head, targets.drive_of(head), spoken("one"), take())
    while next(steps) < share:
        pass
    bpy.data.objects.remove(head)
    with pytest.raises(SelfTalkError, match="removed while"):
        list(steps)
    assert not bpy.data.actions


def test_a_line_taken_off_a_duplicate_leaves_the_values_of_its_original(head) -> None:
    """What stays of the duplicate's leaves the NLA, and tells the channels' own values then."""
    say(head, "one")
    say(head, "two", 100)
    other = head.copy()
    other.data = head.data.copy()
    bpy.context.collection.objects.link(other)
    before = weights(head, 35)
    list(lines.removing(other, "id-two"))
    assert np.abs(weights(head, 35) - before).max() < 1e-6
    assert np.abs(weights(other, 35) - before).max() < 1e-6
