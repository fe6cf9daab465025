"""The bundled head as a Blender object, and which meshes can be animated like it."""

from __future__ import annotations

import functools
from pathlib import Path

import bpy
import numpy as np

from ..core.errors import SelfTalkError
from ..core.match import match_template
from ..core.names import recognise
from ..core.retarget import Correspondence, match_by_index
from ..core.target import Analysis, judge
from ..core.template import FaceTemplate, bundled_template
from . import compat
from .marks import MADE_KEYS
from .neutral import TEMPLATE_NEEDED, Neutral, check_checkpoint, read_neutral

# Linear colour, roughness: the look in the viewport and in a render.
MATERIALS = {
    "Skin": ((0.53, 0.30, 0.22), 0.5),
    "Lips": ((0.42, 0.13, 0.11), 0.4),
    "Mouth": ((0.09, 0.012, 0.012), 0.6),
    "Eyes": ((0.80, 0.80, 0.78), 0.12),
    "Teeth": ((0.80, 0.74, 0.62), 0.3),
    "Tongue": ((0.42, 0.11, 0.12), 0.5),
}
MATERIAL_OF_PART = {
    "skin": "Skin",
    "eye_l": "Eyes",
    "eye_r": "Eyes",
    "teeth_upper": "Teeth",
    "teeth_lower": "Teeth",
    "tongue": "Tongue",
}
EYE_MAP = "SelfTalk Eyes"
# Share of the eyeball's radius.
IRIS, PUPIL = 0.42, 0.18


def add_head(context: bpy.types.Context, location: tuple[float, float, float]) -> bpy.types.Object:
    """Put the bundled head into the active collection, selected and active.

    Where that collection is another file's, the head goes into the scene's own.

    Args:
        location: where the middle of the neck's lower edge stands, in metres.

    Returns:
        A mesh object of the template's vertices with all its shapes as shape keys at 0.
    """
    template = bundled_template()
    mesh = bpy.data.meshes.new(template.name)
    mesh.from_pydata(template.vertices.tolist(), [], template.polygons.tolist())
    mesh.shade_smooth()
    mesh.uv_layers.new(name="UVMap").data.foreach_set("uv", template.loop_uv.ravel())
    mesh.uv_layers.new(name=EYE_MAP).data.foreach_set("uv", _eye_map(template).ravel())
    mesh.uv_layers.active_index = 0
    for name in MATERIALS:
        mesh.materials.append(_material(name))
    mesh.polygons.foreach_set("material_index", _material_indices(template))
    mesh.update()

    head = bpy.data.objects.new(template.name, mesh)
    head.location = location
    collection = context.collection
    if collection.library is not None or collection.override_library is not None:
        collection = context.scene.collection
    collection.objects.link(head)
    for other in context.selected_objects:
        other.select_set(False)
    head.select_set(True)
    context.view_layer.objects.active = head

    compat.add_shape_key(head, "Basis")
    for name, delta in zip(template.shape_names, template.shape_deltas, strict=True):
        key = compat.add_shape_key(head, name)
        set_key(key, template.vertices + delta)
    return head


def correspondence(
    face: bpy.types.Object | None,
    driven: frozenset[str] = frozenset(),
    template: Neutral | None = None,
) -> Correspondence:
    """How a motion fits a mesh object, or why it does not.

    Args:
        driven: shape keys that the motion will set; the others count with their present value.
        template: the neutral face that the motion moves; None for the bundled head.

    Raises:
        SelfTalkError: no mesh, data of another file, an open Edit Mode, absolute shape keys,
            or vertices that match nothing that we know.
    """
    target = usable(face)
    return _match(template, rest_vertices(target, driven), _edges(target, template))


def check(face: bpy.types.Object | None, template: Neutral | None = None) -> None:
    """Whether a motion fits a mesh object; quick, for an interface that asks with each drawing.

    The verdict on a mesh is kept until its vertices or its own shape keys' values change.

    Raises:
        SelfTalkError: as `correspondence`.
    """
    target = usable(face)
    positions = mesh_positions(target.data)
    keys = target.data.shape_keys
    driven = driven_keys(target, template)
    look = tuple(
        (key.name, key.value, key.mute, key.vertex_group)
        for key in (keys.key_blocks if keys is not None else ())
        if key.name not in driven
    )
    edges = _edges(target, template)
    state = positions.tobytes(), edges.tobytes(), look, template and template.source
    if state not in _verdicts:
        try:
            _match(template, rest_vertices(target, driven), edges)
            verdict = ""
        except SelfTalkError as error:
            verdict = str(error)
        if len(_verdicts) >= VERDICTS:
            _verdicts.pop(next(iter(_verdicts)))
        _verdicts[state] = verdict
    if _verdicts[state]:
        raise SelfTalkError(_verdicts[state])


def analyse(face: bpy.types.Object | None) -> Analysis:
    """What a mesh object is and how it can talk; quick, as `check`.

    Raises:
        SelfTalkError: it may not be written at all, as `usable`.
    """
    target = usable(face)
    try:
        check(target)
        problem = ""
    except SelfTalkError as error:
        problem = str(error)
    return judge(len(target.data.vertices), key_names(target), problem)


def key_names(target: bpy.types.Object) -> tuple[str, ...]:
    """The names of a mesh's shape keys, without the one that the others start from."""
    keys = target.data.shape_keys
    return tuple(keys.key_blocks.keys()[1:]) if keys is not None else ()


VERDICTS = 4  # meshes that `check` remembers
_verdicts: dict[tuple, str] = {}


def _match(template: Neutral | None, rest: np.ndarray, edges: np.ndarray) -> Correspondence:
    if template is None:
        return match_by_index(bundled_template(), rest)
    return match_template(template.vertices, template.faces, rest, edges)


def _edges(target: bpy.types.Object, template: Neutral | None) -> np.ndarray:
    """(E, 2) int32 of a mesh; none where they do not matter."""
    if template is None or len(target.data.vertices) != len(template.vertices):
        return np.empty((0, 2), np.int32)
    edges = np.empty(len(target.data.edges) * 2, np.int32)
    if len(edges):
        # Two hundred times as fast as edges.foreach_get.
        target.data.attributes[".edge_verts"].data.foreach_get("value", edges)
    return edges.reshape(-1, 2)


def chosen_template(
    face: bpy.types.Object | None, animator: Path | None, template: Path | None, subject: str
) -> Neutral | None:
    """The neutral face that a chosen animator moves; None where it moves the bundled head.

    Args:
        animator: None for the bundled one.
        template, subject: see `neutral.read_neutral`.

    Raises:
        SelfTalkError: what is still to be chosen, or cannot be read.
    """
    target = usable(face)
    if animator is None:
        if template is not None:
            raise SelfTalkError(
                f"Choose the checkpoint that animates {template.name} under Animator, or empty "
                "the field Template."
            )
        return None
    check_checkpoint(animator)
    if template is not None:
        return read_neutral(template, subject)
    needed = (
        f"{animator.name} needs a face template. Choose the file of the neutral face of "
        f"{target.name} under Template."
    )
    if animator.suffix.lower() in TEMPLATE_NEEDED:
        raise SelfTalkError(needed)
    try:
        check(target)
    except SelfTalkError as error:
        raise SelfTalkError(needed) from error
    return None


def driven_keys(target: bpy.types.Object, template: Neutral | None = None) -> frozenset[str]:
    """Names of the shape keys that a motion of a template (None: the bundled head's) may set."""
    if template is None:
        own = _recognised(key_names(target))
        return frozenset(bundled_template().shape_names) | own
    keys = target.data.shape_keys
    return frozenset(keys.get(MADE_KEYS, ())) if keys is not None else frozenset()


@functools.lru_cache(maxsize=32)
def _recognised(names: tuple[str, ...]) -> frozenset[str]:
    found = recognise(names)
    return frozenset((*found.arkit, *found.visemes))


def usable(face: bpy.types.Object | None) -> bpy.types.Object:
    """The mesh object, if its data may be written at all.

    Raises:
        SelfTalkError: it may not, whatever its vertices are.
    """
    if face is None:
        raise SelfTalkError("No face is chosen. Choose the face mesh, or press Add Face.")
    if face.type != "MESH":
        raise SelfTalkError(f"{face.name} is not a mesh. Choose the face mesh, or press Add Face.")
    check_own(face)
    if face.mode == "EDIT":
        raise SelfTalkError(f"{face.name} is in Edit Mode. Leave it (Tab) and try again.")
    keys = face.data.shape_keys
    if keys is not None and not keys.use_relative:
        raise SelfTalkError(
            f"The shape keys of {face.name} are absolute. Tick Relative in its Shape Keys panel."
        )
    return face


def check_own(face: bpy.types.Object) -> None:
    """Whether a mesh object is this file's own, so that what is done to it is saved.

    Raises:
        SelfTalkError: it is another file's.
    """
    for block in (face, face.data):
        if block.library is not None:
            raise SelfTalkError(
                f"{face.name} is linked from {block.library.filepath}. Make it local first "
                "(Object > Relations > Make Local > Selected Objects and Data)."
            )
        if block.override_library is not None:
            raise SelfTalkError(
                f"{face.name} is a library override, and with one Blender saves neither lines nor "
                "takes. Make it local first (Object > Relations > Make Local > Selected Objects "
                "and Data; its rig may stay an override), or animate it in its own file."
            )
        if not block.is_editable:
            raise SelfTalkError(f"{face.name} cannot be edited. Choose a mesh of this file.")


def rest_vertices(face: bpy.types.Object, driven: frozenset[str] = frozenset()) -> np.ndarray:
    """(V, 3) float32 of a mesh in object space as its shape keys stand, without the driven ones.

    A character may be made by shape keys (MakeHuman's and MPFB's are): they are part of it.
    """
    mesh = face.data
    if mesh.shape_keys is None:
        return mesh_positions(mesh).reshape(-1, 3)
    rest = key_positions(mesh.shape_keys.reference_key)
    for key in mesh.shape_keys.key_blocks[1:]:
        if key.mute or key.value == 0.0 or key.name in driven:
            continue
        delta = key_offsets(key) * key.value
        if key.vertex_group in face.vertex_groups:
            delta *= group_weights(face, key.vertex_group)
        rest += delta
    return rest


def mesh_positions(mesh: bpy.types.Mesh) -> np.ndarray:
    """(V * 3,) float32 of a mesh without its shape keys."""
    positions = np.empty(len(mesh.vertices) * 3, np.float32)
    if len(positions):
        # Two hundred times as fast as vertices.foreach_get.
        mesh.attributes["position"].data.foreach_get("vector", positions)
    return positions


def key_positions(key: bpy.types.ShapeKey) -> np.ndarray:
    """(V, 3) float32 of a mesh's shape key at 1."""
    positions = np.empty((len(key.data), 3), np.float32)
    key.points.foreach_get("co", positions.ravel())  # three hundred times as fast as data
    return positions


def set_key(key: bpy.types.ShapeKey, positions: np.ndarray) -> None:
    """Give a mesh's shape key new positions (V, 3)."""
    key.points.foreach_set("co", np.asarray(positions, np.float32).ravel())


def key_offsets(key: bpy.types.ShapeKey) -> np.ndarray:
    """(V, 3) float32: what a mesh's shape key adds at 1, without its vertex group."""
    return key_positions(key) - key_positions(key.relative_key)


def group_weights(face: bpy.types.Object, name: str) -> np.ndarray:
    """(V, 1) weights of a vertex group."""
    index = face.vertex_groups[name].index
    weights = np.zeros((len(face.data.vertices), 1), np.float32)
    for vertex in face.data.vertices:
        for group in vertex.groups:
            if group.group == index:
                weights[vertex.index] = group.weight
    return weights


def _material_indices(template: FaceTemplate) -> np.ndarray:
    """(P,) slots: by part, and on the skin the lips and the inside of the mouth by region."""
    slots = list(MATERIALS)
    of_part = [slots.index(MATERIAL_OF_PART[part]) for part in template.part_names]
    indices = np.array(of_part, np.int32)[template.polygon_part]
    skin = indices == slots.index("Skin")
    polygons, regions = template.polygons, template.regions
    mouth = np.isin(polygons, regions["inside_mouth"])
    # Between both regions lies a seam that belongs to neither; it is seen as lip.
    seam = polygons[skin & mouth.any(1)]
    lips = np.isin(polygons, np.union1d(regions["lips"], seam)).all(1)
    indices[skin & lips] = slots.index("Lips")
    indices[skin & mouth.all(1)] = slots.index("Mouth")
    return indices


def _eye_map(template: FaceTemplate) -> np.ndarray:
    """(P, 4, 2) coordinates on the eyes as seen from the front, pupil at 0.5, radius 0.5.

    Kept on the surface, the iris turns with the eyeball; the back half gets a corner instead.
    """
    uv = np.zeros((len(template.polygons), 4, 2), np.float32)
    for part in ("eye_l", "eye_r"):
        eye = template.polygon_part == template.part_names.index(part)
        corners = template.vertices[template.polygons[eye]]  # (n, 4, 3)
        low, high = corners.min((0, 1)), corners.max((0, 1))
        centre, radius = (low + high) / 2, (high - low).max() / 2
        front = (corners[..., 1] < centre[1]).all(1)
        seen = (corners[..., [0, 2]] - centre[[0, 2]]) / (2 * radius) + 0.5
        uv[eye] = np.where(front[:, None, None], seen, 0.0)
    return uv


def _material(name: str) -> bpy.types.Material:
    """A new material of the table; an artist's material of that name stays untouched."""
    colour, roughness = MATERIALS[name]
    material = bpy.data.materials.new(f"SelfTalk {name}")
    material.diffuse_color = (*colour, 1.0)
    material.roughness = roughness
    tree = compat.use_nodes(material)
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = (*colour, 1.0)
    shader.inputs["Roughness"].default_value = roughness
    if name == "Eyes":
        _paint_iris(tree, shader)
    return material


def _paint_iris(tree: bpy.types.NodeTree, shader: bpy.types.ShaderNode) -> None:
    """Distance from the pupil -> black, brown, white."""
    nodes, links = tree.nodes, tree.links
    place = nodes.new("ShaderNodeUVMap")
    place.uv_map = EYE_MAP
    distance = nodes.new("ShaderNodeVectorMath")
    distance.operation = "DISTANCE"
    distance.inputs[1].default_value = (0.5, 0.5, 0.0)
    ramp = nodes.new("ShaderNodeValToRGB")
    ramp.color_ramp.interpolation = "EASE"
    white = shader.inputs["Base Color"].default_value
    stops = (
        (0.0, (0.004, 0.004, 0.004, 1.0)),
        (PUPIL / 2, (0.004, 0.004, 0.004, 1.0)),
        (PUPIL / 2 + 0.015, (0.16, 0.075, 0.03, 1.0)),
        (IRIS / 2 - 0.02, (0.09, 0.04, 0.018, 1.0)),
        (IRIS / 2 + 0.01, tuple(white)),
    )
    elements = ramp.color_ramp.elements
    while len(elements) < len(stops):
        elements.new(0.5)
    for element, (position, colour) in zip(elements, stops, strict=True):
        element.position, element.color = position, colour
    links.new(place.outputs["UV"], distance.inputs[0])
    links.new(distance.outputs["Value"], ramp.inputs["Fac"])
    links.new(ramp.outputs["Color"], shader.inputs["Base Color"])
