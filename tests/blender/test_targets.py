"""Any face: what it is, what moves what, which meshes follow, and what is left alone."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from mathutils import Euler, Matrix
from pace import quietest, seconds
from scenes import body, play

from selftalk_blender.blender import compat, face, interface, marks, panels, parts, targets
from selftalk_blender.core import bundled_template
from selftalk_blender.core.drive import Channel
from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.core.lips import rest_weights
from selftalk_blender.core.visemes import recipe

HEAD = bundled_template()
REST = rest_weights(HEAD)
VOWELS = {"A": "aa", "I": "ih", "U": "ou", "E": "E", "O": "oh"}


@pytest.fixture(autouse=True)
def registered():
    interface.register()
    yield
    interface.unregister()


def mesh_object(name: str, vertices: np.ndarray, polygons=()) -> bpy.types.Object:
    mesh = bpy.data.meshes.new(name)
    mesh.from_pydata(vertices.tolist(), [], [list(p) for p in polygons])
    made = bpy.data.objects.new(name, mesh)
    bpy.context.collection.objects.link(made)
    return made


def add_keys(target: bpy.types.Object, deltas: dict[str, np.ndarray]) -> None:
    rest = face.rest_vertices(target)
    compat.add_shape_key(target, "Basis")
    for name, delta in deltas.items():
        compat.add_shape_key(target, name).data.foreach_set("co", (rest + delta).ravel())


def stranger(names: dict[str, str] | None = None, name: str = "Stranger") -> bpy.types.Object:
    """A head of a topology that nobody knows, with shapes: key name -> ARKit shape or viseme."""
    kept = len(HEAD.vertices) - 10
    polygons = [p for p in HEAD.polygons if p.max() < kept]
    made = mesh_object(name, HEAD.vertices[:kept], polygons)
    names = {shape: shape for shape in HEAD.shape_names} if names is None else names
    shapes = dict(zip(HEAD.shape_names, HEAD.shape_deltas, strict=True))
    deltas = {
        key: shapes[shape] if shape in shapes else np.tensordot(recipe(shape), HEAD.shape_deltas, 1)
        for key, shape in names.items()
    }
    add_keys(made, {key: delta[:kept] for key, delta in deltas.items()})
    bpy.context.scene.selftalk.face = made
    return made


def part(name: str, *keys: str, at: float = 0.2) -> bpy.types.Object:
    """A small mesh within the head's box, with shape keys."""
    made = mesh_object(name, np.random.default_rng(0).random((8, 3)) * 0.02 + [0, -0.05, at])
    add_keys(made, {key: np.full((8, 3), 0.01) for key in keys})
    return made


def said(**weights: float) -> np.ndarray:
    row = REST.copy()
    for name, weight in weights.items():
        row[HEAD.shape_names.index(name)] = weight
    return row[None]


def value(drive, key: str, weights: np.ndarray, owner: str = "Stranger") -> float:
    return float(drive(weights)[0, drive.channels.index(Channel(owner, "KEY", key))])


def notices(target: bpy.types.Object) -> str:
    return "\n".join(targets.drive_of(target).notices)


# --- What a face is ---------------------------------------------------------------------------


def test_the_panel_says_in_one_line_what_a_face_is(head) -> None:
    bpy.context.scene.selftalk.face = head
    assert panels.face_line(head) == "Head, 52 face shapes"
    assert panels.face_line(body(13380)) == "MakeHuman body, face shapes will be created"
    assert panels.face_line(stranger()) == "ARKit shapes, 52 of 52, by name"
    assert panels.face_line(stranger(VOWELS)) == "VRM vowels, 5, solved frame by frame"
    unknown = stranger({"Smirk": "mouthSmileLeft"})
    with pytest.raises(SelfTalkError, match="Another head: Create Face Shapes first.*4864 vert"):
        panels.face_line(unknown)
    assert panels.shows_animator(unknown) and not panels.shows_animator(stranger())


def test_the_head_is_driven_by_its_own_shapes(head) -> None:
    drive = targets.drive_of(head)
    assert [channel.path for channel in drive.channels] == list(HEAD.shape_names)
    assert np.allclose(drive(said(jawOpen=0.4)), said(jawOpen=0.4))
    assert np.allclose(drive.rest, REST)


def test_a_makehuman_body_uses_the_shapes_that_it_has_in_its_own_spelling() -> None:
    target = body(13380)
    add_keys(target, {name: np.zeros((13380, 3)) for name in ("Jaw_Open", "mouth_close")})
    paths = [channel.path for channel in targets.drive_of(target).channels]
    assert "Jaw_Open" in paths and "jawOpen" not in paths and len(paths) == 52


def test_speech_arrives_on_another_heads_shapes() -> None:
    target = stranger({f"ARKit_{name}": name for name in HEAD.shape_names})
    drive = targets.drive_of(target)
    weights = said(jawOpen=0.5, mouthPucker=0.4)
    for channel, number in zip(drive.channels, drive(weights)[0], strict=True):
        target.data.shape_keys.key_blocks[channel.path].value = number
    moved = play(target, 1) - HEAD.vertices[: len(target.data.vertices)]
    expected = np.tensordot(weights[0] - REST, HEAD.shape_deltas, 1)[: len(moved)]
    assert np.abs(moved - expected).max() < 2e-3  # the lips may be brought together


def test_visemes_are_solved_on_the_faces_own_lips() -> None:
    target = stranger(VOWELS)
    drive = targets.drive_of(target)
    entries, _ = targets.usable_entries(target)
    assert len(targets.lip_features(target, entries)) == 5
    open_wide = (REST + recipe("aa"))[None]
    assert value(drive, "A", open_wide) > 0.5
    assert value(drive, "U", (REST + recipe("ou"))[None]) > 0.5
    assert drive((REST + recipe("PP"))[None]).max() < 0.1 and not drive.rest.any()


# --- The mapping is the user's ----------------------------------------------------------------


def test_analyse_fills_a_list_that_is_saved_and_can_be_edited(tmp_path) -> None:
    target = stranger()
    assert bpy.ops.selftalk.analyse_face() == {"FINISHED"}
    items = target.selftalk.mapping
    assert len(items) == 52 and {item.source for item in items} == set(HEAD.shape_names)
    jaw = next(item for item in items if item.source == "jawOpen")
    jaw.gain = 0.5
    next(item for item in items if item.source == "mouthPucker").enabled = False
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "kept.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "kept.blend"))
    drive = targets.drive_of(bpy.data.objects["Stranger"])
    assert value(drive, "jawOpen", said(jawOpen=0.6, mouthPucker=1.0)) == pytest.approx(0.3)
    assert "mouthPucker" not in [channel.path for channel in drive.channels]


def test_lines_are_added_and_removed_and_analyse_begins_again() -> None:
    target = stranger()
    bpy.ops.selftalk.analyse_face()
    target.selftalk.mapping_index = 3
    bpy.ops.selftalk.mapping_remove()
    assert len(target.selftalk.mapping) == 51
    bpy.ops.selftalk.mapping_add()
    item = target.selftalk.mapping[target.selftalk.mapping_index]
    item.source, item.path, item.gain = "mouthPucker", "jawOpen", 0.5
    drive = targets.drive_of(target)
    assert value(drive, "jawOpen", said(jawOpen=0.2, mouthPucker=0.4)) == pytest.approx(
        0.4, abs=0.02
    )
    bpy.ops.selftalk.analyse_face()
    assert len(target.selftalk.mapping) == 52


def test_shapes_in_another_language_are_mapped_by_hand() -> None:
    face = stranger({"Mund_offen": "jawOpen", "Kuss": "mouthPucker"})
    with pytest.raises(SelfTalkError, match=r"under Mapping \(\+\)"):
        panels.face_line(face)
    for source, key in (("jawOpen", "Mund_offen"), ("mouthPucker", "Kuss")):
        bpy.ops.selftalk.mapping_add()
        line = face.selftalk.mapping[-1]
        line.source, line.path = source, key
    assert panels.face_line(face) == "Another head, moved as its mapping says"
    weights = REST[None].copy()
    weights[0, HEAD.shape_names.index("jawOpen")] = 0.5
    assert targets.drive_of(face)(weights)[0] == pytest.approx([0.5, 0.0], abs=1e-3)


def test_a_line_may_move_another_object_which_may_be_renamed() -> None:
    target = stranger()
    bpy.ops.selftalk.analyse_face()
    other = bpy.data.objects.new("Slider", None)
    item = target.selftalk.mapping.add()
    item.source, item.object, item.kind, item.path, item.gain = (
        "jawOpen", other, "PROPERTY", '["Jaw"]', -20.0,
    )  # fmt: skip
    other.name = "Control"
    drive = targets.drive_of(target)
    column = drive.channels.index(Channel("Control", "PROPERTY", '["Jaw"]'))
    assert drive(said(jawOpen=0.5))[0, column] == pytest.approx(-10.0)


def test_a_key_of_the_list_that_is_gone_is_told_and_the_rest_goes_on() -> None:
    target = stranger()
    bpy.ops.selftalk.analyse_face()
    target.data.shape_keys.key_blocks["mouthPucker"].name = "Kiss"
    drive = targets.drive_of(target)
    assert "has no shape key mouthPucker" in "\n".join(drive.notices)
    assert len(drive.channels) == 51


def test_analyse_refuses_a_mesh_without_shapes_with_the_reason() -> None:
    stranger({"Smirk": "mouthSmileLeft"})
    with pytest.raises(RuntimeError, match="Create Face Shapes first"):
        bpy.ops.selftalk.analyse_face()
    bpy.context.scene.selftalk.face = None
    with pytest.raises(RuntimeError, match="No face is chosen"):
        bpy.ops.selftalk.analyse_face()


# --- What is left alone -----------------------------------------------------------------------


def test_a_key_with_a_driver_is_left_alone_and_the_rest_goes_on() -> None:
    target = stranger()
    target.data.shape_keys.key_blocks["jawOpen"].driver_add("value")
    drive = targets.drive_of(target)
    assert "Shape key jawOpen of Stranger has a driver; it is left alone." in drive.notices
    assert "jawOpen" not in [channel.path for channel in drive.channels]
    assert value(drive, "mouthPucker", said(mouthPucker=0.5)) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("rig", ["none", "of the body", "left out"])
@pytest.mark.parametrize("jaw", ["driven", "missing"])
def test_lips_are_not_pulled_through_each_other_where_the_jaw_stays(jaw, rig) -> None:
    names = {n: n for n in HEAD.shape_names if jaw == "driven" or n != "jawOpen"}
    face = stranger(names)
    if rig != "none":
        armature = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
        bpy.context.collection.objects.link(armature)
        face.modifiers.new("Armature", "ARMATURE").object = armature
        bpy.context.view_layer.update()
        face.selftalk.rig_share = "KEYS" if rig == "left out" else "AUTO"
    if jaw == "driven":
        face.data.shape_keys.driver_add('key_blocks["jawOpen"].value')
    spoken = np.tile(REST, (3, 1))
    spoken[:, HEAD.shape_names.index("jawOpen")] = [0.3, 0.2, 0.0]
    spoken[:, HEAD.shape_names.index("mouthClose")] += [0.1, 0.23, 0.03]
    drive = targets.drive_of(face)
    keys = [channel.path for channel in drive.channels]
    moved = np.zeros((3, len(HEAD.shape_names)), np.float32)
    moved[:, [HEAD.shape_names.index(key) for key in keys]] = drive(spoken)
    gap = HEAD.gap_mm(moved + REST) - HEAD.gap_mm(REST[None])
    assert gap.min() > -2.0
    assert gap[2] < -0.5  # what presses them, stays


def test_a_key_of_the_artists_action_is_left_alone_but_not_one_of_ours() -> None:
    target = stranger()
    keys = target.data.shape_keys
    keys.key_blocks["jawOpen"].keyframe_insert("value", frame=1)
    name = keys.animation_data.action.name
    assert f"jawOpen of Stranger is keyed in your action {name}" in notices(target)
    slot = compat.slot_number(keys.animation_data)
    keys.animation_data.action[marks.LINE] = "one"
    keys.animation_data.action[marks.CURVES] = [f'{slot} 0 key_blocks["jawOpen"].value']
    assert not notices(target)


def test_a_key_of_the_artists_nla_strip_is_left_alone_unless_it_is_muted() -> None:
    target = stranger()
    keys = target.data.shape_keys
    keys.key_blocks["jawOpen"].keyframe_insert("value", frame=1)
    data = keys.animation_data
    track = data.nla_tracks.new()
    strip = track.strips.new("Yawn", 1, data.action)
    compat.play_action(strip, data.action, compat.slot_number(data))
    data.action = None
    assert "jawOpen of Stranger is keyed in your NLA strip Yawn" in notices(target)
    track.mute = True
    assert not notices(target)


def test_muted_keys_are_told_and_locked_ones_are_moved() -> None:
    target = stranger()
    blocks = target.data.shape_keys.key_blocks
    blocks["mouthPucker"].mute = True
    blocks["jawOpen"].lock_shape = True
    assert "mouthPucker of Stranger is muted" in notices(target)
    assert value(targets.drive_of(target), "jawOpen", said(jawOpen=0.3)) == pytest.approx(
        0.3, abs=0.02
    )


def test_where_nothing_can_be_moved_the_reason_is_given() -> None:
    target = stranger(VOWELS)
    for name in VOWELS:
        target.data.shape_keys.key_blocks[name].driver_add("value")
    with pytest.raises(SelfTalkError, match="None of the shape keys of Stranger.*has a driver"):
        targets.drive_of(target)


def test_sliders_are_respected_until_the_user_widens_them() -> None:
    target = stranger()
    jaw = target.data.shape_keys.key_blocks["jawOpen"]
    jaw.slider_min, jaw.slider_max = -1.0, 0.3
    assert value(targets.drive_of(target), "jawOpen", said(jawOpen=0.5)) == pytest.approx(0.3)
    assert "The slider of shape key jawOpen goes from -1 to 0.3" in notices(target)
    assert bpy.ops.selftalk.widen_sliders() == {"FINISHED"}
    assert (jaw.slider_min, jaw.slider_max) == (-1.0, 1.0) and not notices(target)
    assert value(targets.drive_of(target), "jawOpen", said(jawOpen=0.5)) == pytest.approx(
        0.5, abs=0.02
    )


def test_a_negative_slider_is_used_only_where_the_user_asks_for_it() -> None:
    target = stranger({n: n for n in HEAD.shape_names if n != "mouthClose"})
    jaw = target.data.shape_keys.key_blocks["jawOpen"]
    jaw.slider_min = -1.0
    assert value(targets.drive_of(target), "jawOpen", said(mouthClose=0.5)) == 0.0
    bpy.ops.selftalk.analyse_face()
    items = target.selftalk.mapping
    for index in reversed(range(len(items))):
        if items[index].path == "jawOpen":
            items.remove(index)
    item = items.add()
    item.source, item.path, item.gain = "jawOpen", "jawOpen", -1.0
    assert value(targets.drive_of(target), "jawOpen", said(jawOpen=0.5)) == pytest.approx(-0.5)


def test_what_may_not_be_written_is_refused_with_the_reason() -> None:
    target = stranger()
    target.data.shape_keys.use_relative = False
    with pytest.raises(SelfTalkError, match="absolute"):
        targets.drive_of(target)
    target.data.shape_keys.use_relative = True
    bpy.context.view_layer.objects.active = target
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(SelfTalkError, match="Edit Mode"):
        targets.drive_of(target)
    bpy.ops.object.mode_set(mode="OBJECT")
    assert targets.drive_of(target)


def test_a_linked_face_is_refused(tmp_path) -> None:
    stranger()
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "library.blend"))
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, here):
        here.objects = ["Stranger"]
    with pytest.raises(SelfTalkError, match=r"linked from .*Make it local"):
        targets.drive_of(here.objects[0])


def test_turned_scaled_mirrored_and_parented_faces_are_driven_the_same() -> None:
    target = stranger(VOWELS)
    plain = targets.drive_of(target)((REST + recipe("aa"))[None])
    parent = bpy.data.objects.new("Parent", None)
    bpy.context.collection.objects.link(parent)
    parent.matrix_world = Matrix.Diagonal((2, 2, 2, 1)) @ Euler((1, 2, 3)).to_matrix().to_4x4()
    target.parent = parent
    target.scale = (-1, 1, 3)
    target.modifiers.new("Subdivision", "SUBSURF")
    bpy.context.view_layer.update()
    assert np.allclose(targets.drive_of(target)((REST + recipe("aa"))[None]), plain)
    # Also where the mesh itself lies otherwise, as after Apply Transform.
    target.data.transform(
        Euler((1, 2, 3)).to_matrix().to_4x4() @ Matrix.Scale(100, 4), shape_keys=True
    )
    turned = targets.drive_of(target)((REST + recipe("aa"))[None])
    assert np.abs(turned - plain).max() < 0.05


# --- Meshes that follow -----------------------------------------------------------------------


def test_teeth_and_lashes_of_the_same_armature_follow() -> None:
    target = stranger()
    rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    bpy.context.collection.objects.link(rig)
    teeth, lash = part("Teeth", "jawOpen", "Sharp"), part("Lash", "eyeBlinkLeft", at=5.0)
    target.parent = rig
    teeth.modifiers.new("Armature", "ARMATURE").object = rig
    lash.parent = rig
    assert parts.parts_of(target) == [lash, teeth]
    drive = targets.drive_of(target)
    weights = said(jawOpen=0.5, eyeBlinkLeft=0.7)
    assert value(drive, "jawOpen", weights, "Teeth") == value(drive, "jawOpen", weights)
    assert value(drive, "eyeBlinkLeft", weights, "Lash") == pytest.approx(0.7)
    assert Channel("Teeth", "KEY", "Sharp") not in drive.channels
    teeth.selftalk.follows = False
    assert Channel("Teeth", "KEY", "jawOpen") not in targets.drive_of(target).channels


def test_viseme_faces_take_their_teeth_along() -> None:
    target, teeth = stranger(VOWELS), part("Teeth", "A", "E")
    teeth.parent = target
    drive = targets.drive_of(target)
    weights = (REST + recipe("aa"))[None]
    assert value(drive, "A", weights, "Teeth") == value(drive, "A", weights) > 0.5


def test_teeth_do_not_open_where_the_jaw_is_left_to_its_driver() -> None:
    target, teeth = stranger(), part("Teeth", "jawOpen")
    teeth.parent = target
    target.data.shape_keys.key_blocks["jawOpen"].driver_add("value")
    assert "Teeth" not in {channel.object for channel in targets.drive_of(target).channels}


def test_a_tongue_with_the_only_tongue_out_moves_it() -> None:
    target = stranger({n: n for n in HEAD.shape_names if n != "tongueOut"})
    part("Tongue", "tongueOut").parent = target
    assert value(targets.drive_of(target), "tongueOut", said(tongueOut=0.4), "Tongue") == (
        pytest.approx(0.4)
    )


def test_without_an_armature_what_lies_in_the_head_and_its_collection_follows() -> None:
    people = bpy.data.collections.new("Ann")
    bpy.context.scene.collection.children.link(people)
    target, teeth, far = stranger(), part("Teeth", "jawOpen"), part("Far", "jawOpen", at=3.0)
    alone = part("Alone", "jawOpen")
    for member in (target, teeth, far):
        bpy.context.scene.collection.objects.unlink(member)
        people.objects.link(member)
    bpy.context.view_layer.update()
    assert parts.parts_of(target) == [teeth]
    assert alone not in parts.parts_of(target)


def test_pieces_of_a_head_that_lie_about_in_the_scene_follow_and_other_heads_do_not() -> None:
    ann, teeth, far = stranger(name="Ann"), part("Teeth", "jawOpen"), part("Far", "jawOpen", at=3.0)
    bob = stranger(name="Bob")
    bpy.context.view_layer.update()
    assert parts.parts_of(ann) == [teeth] and bob != ann
    far.location.z = -2.8
    bpy.context.view_layer.update()
    assert parts.parts_of(ann) == [far, teeth]


def test_another_character_never_follows() -> None:
    ann, bob = stranger(name="Ann"), stranger(name="Bob")
    people = bpy.data.collections.new("People")
    bpy.context.scene.collection.children.link(people)
    rigs = []
    for person, place in ((ann, 0.0), (bob, 1.0)):
        people.objects.link(person)
        rig = bpy.data.objects.new(f"{person.name} Rig", bpy.data.armatures.new("Rig"))
        bpy.context.collection.objects.link(rig)
        rigs.append(rig)
        person.location.x = place
    bpy.context.view_layer.update()
    assert not parts.parts_of(ann)  # side by side in one collection
    for person, rig in zip((ann, bob), rigs, strict=True):
        person.parent = rig
        person.location.x = 0.0
    bpy.context.view_layer.update()
    assert not parts.parts_of(ann) and not parts.parts_of(bob)  # in one place, other armatures
    bob.parent = rigs[0]
    assert parts.parts_of(ann) == [bob]
    bob[marks.TAKES] = {"line": b""}
    assert not parts.parts_of(ann)  # it speaks for itself


def test_parts_that_cannot_follow_are_told() -> None:
    target = stranger()
    teeth, lash = part("Teeth", "jawOpen"), part("Lash", "eyeBlinkLeft")
    for member in (teeth, lash):
        member.parent = target
    twin = bpy.data.objects.new("Twin", teeth.data)
    bpy.context.collection.objects.link(twin)
    lash.data.shape_keys.key_blocks["eyeBlinkLeft"].driver_add("value")
    told = notices(target)
    assert "Teeth shares its mesh with Twin" in told
    assert "eyeBlinkLeft of Lash has a driver" in told
    assert {channel.object for channel in targets.drive_of(target).channels} == {"Stranger"}


# --- Quick enough for a panel -----------------------------------------------------------------


def test_the_panel_and_the_drive_are_quick_on_a_large_mesh() -> None:
    copies = 21  # 102,000 vertices
    kept = len(HEAD.vertices) - 10
    far = np.arange(copies)[:, None, None] * [10.0, 0, 0]
    target = mesh_object("Large", (HEAD.vertices[:kept] + far).reshape(-1, 3))
    still = np.zeros((copies, kept, 3), np.float32)
    deltas = {}
    for name, delta in zip(HEAD.shape_names, HEAD.shape_deltas, strict=True):
        still[0] = delta[:kept]
        deltas[name] = still.reshape(-1, 3).copy()
    add_keys(target, deltas)
    bpy.context.scene.selftalk.face = target
    targets.drive_of(target)
    for question, limit in ((panels.face_line, 0.01), (targets.drive_of, 0.03)):
        question(target)
        taken = quietest(lambda question=question: seconds(lambda: question(target)), limit)
        assert taken < limit, question
