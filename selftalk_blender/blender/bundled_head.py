"""The bundled head as a Blender object: its mesh, shape keys and materials."""

from __future__ import annotations

import bpy
import numpy as np
from mathutils import Vector

from ..core.template import FaceTemplate, bundled_template
from . import compat
from .face import set_key

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
MARGIN = 0.01  # metres
FAR = 1e4  # metres to an eye that looks in parallel


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


def hidden_by(context: bpy.types.Context, location: Vector) -> bpy.types.Object | None:
    """The object around a place that would hide the head there from whoever looks, or None.

    In Blender's first scene that is the cube. Who looks from inside it sees the head.
    """
    seen_from = context.region_data
    if seen_from is None:
        return None
    vertices = bundled_template().vertices
    low, high = (Vector(ends.tolist()) + location for ends in (vertices.min(0), vertices.max(0)))
    towards_eye = seen_from.view_matrix.inverted()
    middle = (low + high) / 2
    if seen_from.is_perspective:
        direction, far = towards_eye.translation - middle, (towards_eye.translation - middle).length
    else:
        direction, far = towards_eye.col[2].to_3d(), FAR
    depsgraph = context.evaluated_depsgraph_get()
    hit, *_, hider, _ = context.scene.ray_cast(depsgraph, middle, direction, distance=far)
    if not hit:
        return None
    least, most = _bounds(hider)
    # Clearly inside: two heads in one place are seen.
    inside = all(
        a + MARGIN < b and c - MARGIN > d for a, b, c, d in zip(least, low, most, high, strict=True)
    )
    return hider if inside else None


def top_of(target: bpy.types.Object) -> float:
    """The highest z of an object in the world."""
    return _bounds(target)[1].z


def _bounds(target: bpy.types.Object) -> tuple[Vector, Vector]:
    """The lowest and highest coordinates of an object in the world."""
    corners = np.array([target.matrix_world @ Vector(corner) for corner in target.bound_box])
    return Vector(corners.min(0).tolist()), Vector(corners.max(0).tolist())


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
