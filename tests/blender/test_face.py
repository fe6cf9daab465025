"""Add Face gives a whole head; a mesh that cannot talk gets a sentence."""

import bpy
import numpy as np
import pytest
from mathutils import Matrix
from pace import quietest, seconds
from scenes import body, play

from selftalk_blender.blender import bundled_head, face
from selftalk_blender.core import bundled_template
from selftalk_blender.core.errors import SelfTalkError


def test_the_head_has_everything_an_artist_expects() -> None:
    head = bundled_head.add_head(bpy.context, (1.0, 2.0, 0.5))
    template = bundled_template()
    assert tuple(head.location) == (1.0, 2.0, 0.5)
    assert bpy.context.object == head and head.select_get()
    assert head.data.shape_keys.key_blocks.keys() == ["Basis", *template.shape_names]
    assert all(polygon.use_smooth for polygon in head.data.polygons)
    assert head.data.uv_layers.active.name == "UVMap"
    names = [slot.material.name for slot in head.material_slots]
    assert names == [f"SelfTalk {n}" for n in ("Skin", "Lips", "Mouth", "Eyes", "Teeth", "Tongue")]
    used = np.bincount([polygon.material_index for polygon in head.data.polygons], minlength=6)
    assert used.min() >= 48
    assert not head.data.validate()


def test_each_shape_key_is_the_templates_shape(head) -> None:
    template = bundled_template()
    for index in (10, 24, 37, 51):
        head.data.shape_keys.key_blocks[index + 1].value = 1.0
        moved = play(head, 1) - template.vertices
        assert np.abs(moved - template.shape_deltas[index]).max() < 1e-6
        head.data.shape_keys.key_blocks[index + 1].value = 0.0


def test_the_head_faces_the_artist_outside_out(head) -> None:
    nose = min(head.data.polygons, key=lambda polygon: polygon.center.y)
    assert nose.normal.y < -0.5


def test_no_skin_shows_between_lips_and_mouth(head) -> None:
    slots = {name: index for index, name in enumerate(bundled_head.MATERIALS)}
    corners = {name: set() for name in slots.values()}
    for polygon in head.data.polygons:
        corners[polygon.material_index] |= set(polygon.vertices)
    assert not corners[slots["Skin"]] & corners[slots["Mouth"]]
    landmarks = {bundled_template().landmarks[n] for n in ("inner_upper_lip", "inner_lower_lip")}
    assert landmarks <= corners[slots["Lips"]] and not landmarks & corners[slots["Skin"]]


def test_two_heads_and_an_artists_material_of_our_name(head) -> None:
    bpy.data.materials["SelfTalk Skin"].diffuse_color = (0, 1, 0, 1)
    other = bundled_head.add_head(bpy.context, (0.5, 0.0, 0.0))
    assert other.data != head.data
    assert not head.select_get() and other.select_get()
    assert tuple(other.material_slots[0].material.diffuse_color) != (0, 1, 0, 1)


def test_the_pupil_looks_where_the_eye_looks(head) -> None:
    """The iris is painted on the surface, around the foremost point of each eye."""
    mesh, template = head.data, bundled_template()
    uv = np.empty(len(mesh.loops) * 2, np.float32)
    mesh.uv_layers[bundled_head.EYE_MAP].data.foreach_get("uv", uv)
    inside = np.linalg.norm(uv.reshape(-1, 2) - 0.5, axis=1) < 0.2
    corners = template.polygons.ravel()[inside]
    centre = template.vertices[np.unique(corners)]
    assert (centre[:, 1] < -0.105).all()
    assert {round(abs(float(x)), 2) for x in centre[:, 0].round(2)} <= {0.02, 0.03, 0.04}


@pytest.mark.parametrize("count", [13380, 19158])
def test_a_makehuman_body_in_decimetres_with_y_up_fits(count) -> None:
    turn = np.array(Matrix.Rotation(np.radians(-90), 3, "X"))
    fit = face.correspondence(body(count, turn, 10.0, (0.0, 14.0, 0.3)))
    template = bundled_template()
    offsets = fit.offsets(template.shape_deltas[24])
    known = template.source_index < count
    expected = template.shape_deltas[24][known] @ turn.T * 10.0
    assert np.abs(offsets[template.source_index[known]] - expected).max() < 1e-5
    assert np.count_nonzero(np.abs(offsets).max(1)) <= known.sum()


def test_a_character_made_by_shape_keys_fits_as_it_stands() -> None:
    target = body(13380)
    target.shape_key_add(name="Basis")
    look = target.shape_key_add(name="$md-head", from_mix=False)
    positions = np.empty(13380 * 3, np.float32)
    look.data.foreach_get("co", positions)
    look.data.foreach_set("co", positions * 1.5)
    look.value = 1.0
    assert np.allclose(face.correspondence(target).linear, np.eye(3) * 1.5, atol=1e-4)
    assert np.allclose(face.rest_vertices(target), positions.reshape(-1, 3) * 1.5, atol=1e-6)
    target.vertex_groups.new(name="half").add(range(6000), 0.5, "REPLACE")
    look.vertex_group = "half"
    expected = positions.reshape(-1, 3) * (1.0 + 0.25 * (np.arange(13380) < 6000))[:, None]
    assert np.allclose(face.rest_vertices(target), expected, atol=1e-6)


def test_a_mesh_that_cannot_talk_gets_a_sentence(head) -> None:
    with pytest.raises(SelfTalkError, match="No face is chosen.*Add Face"):
        face.correspondence(None)
    light = bpy.data.objects.new("Lamp", bpy.data.lights.new("Lamp", "POINT"))
    with pytest.raises(SelfTalkError, match="Lamp is not a mesh"):
        face.correspondence(light)
    with pytest.raises(SelfTalkError, match="has 900 vertices"):
        face.correspondence(body(900))
    other = bpy.data.meshes.new("Other")
    other.from_pydata(np.random.default_rng(0).random((15000, 3)).tolist(), [], [])
    with pytest.raises(SelfTalkError, match="has 15000 vertices.*4874"):
        face.correspondence(bpy.data.objects.new("Other", other))
    head.data.shape_keys.use_relative = False
    with pytest.raises(SelfTalkError, match="absolute"):
        face.correspondence(head)
    head.data.shape_keys.use_relative = True
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(SelfTalkError, match="Edit Mode"):
        face.correspondence(head)
    bpy.ops.object.mode_set(mode="OBJECT")


def test_a_stretched_head_is_known_by_its_edges(head) -> None:
    for key in head.data.shape_keys.key_blocks:
        at = face.key_positions(key) * np.float32([0.8, 1.0, 1.4])
        face.set_key(key, at)
    assert face.analyse(head).kind == "TEMPLATE"


def test_shuffled_vertices_are_noticed() -> None:
    template = bundled_template()
    order = np.random.default_rng(0).permutation(len(template.vertices))
    mesh = bpy.data.meshes.new("Shuffled")
    mesh.from_pydata(template.vertices[order].tolist(), [], [])
    with pytest.raises(SelfTalkError, match="reordered"):
        face.correspondence(bpy.data.objects.new("Shuffled", mesh))


def test_a_head_cannot_go_into_another_files_collection(tmp_path) -> None:
    theirs = bpy.data.collections.new("Theirs")
    bpy.context.scene.collection.children.link(theirs)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "library.blend"))
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, here):
        here.collections = ["Theirs"]
    bpy.context.scene.collection.children.link(here.collections[0])
    layer = bpy.context.view_layer
    layer.active_layer_collection = layer.layer_collection.children["Theirs"]
    head = bundled_head.add_head(bpy.context, (0.0, 0.0, 0.0))
    assert head.users_collection == (bpy.context.scene.collection,) and bpy.context.object == head


def test_linked_and_overridden_faces_are_refused(head, tmp_path) -> None:
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "library.blend"))
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (there, here):
        here.objects = list(there.objects)
    (linked,) = here.objects
    with pytest.raises(SelfTalkError, match="linked from .*Make it local"):
        face.correspondence(linked)
    bpy.context.collection.objects.link(linked)
    override = linked.override_create(remap_local_usages=True)
    with pytest.raises(SelfTalkError, match="library override.*Selected Objects and Data"):
        face.correspondence(override)
    override.select_set(True)
    bpy.context.view_layer.objects.active = override
    bpy.ops.object.make_local(type="SELECT_OBDATA")  # as the sentence says
    assert face.correspondence(bpy.context.view_layer.objects.active)


def test_the_interface_hears_at_once_that_a_mesh_changed() -> None:
    """Its quick check remembers verdicts, and forgets them with the mesh's shape or look."""
    target = body(13380)
    target.shape_key_add(name="Basis")
    look = target.shape_key_add(name="$md-head", from_mix=False)
    positions = np.empty(13380 * 3, np.float32)
    look.data.foreach_get("co", positions)
    look.data.foreach_set("co", np.random.default_rng(0).permutation(positions))
    look.value = 0.0
    face.check(target)
    look.value = 1.0
    with pytest.raises(SelfTalkError, match="another order"):
        face.check(target)
    look.value = 0.0
    face.check(target)
    target.shape_key_clear()
    target.data.vertices.foreach_set("co", np.random.default_rng(0).permutation(positions))
    with pytest.raises(SelfTalkError, match="another order"):
        face.check(target)


def test_the_interfaces_check_is_quick() -> None:
    """A character of 80 shape keys is asked about several times per drawing."""
    target = body(19158)
    target.shape_key_add(name="Basis")
    for index in range(80):
        target.shape_key_add(name=f"look {index}", from_mix=False).value = 0.5
    face.check(target)
    assert quietest(lambda: seconds(lambda: face.check(target)), 0.01) < 0.01
