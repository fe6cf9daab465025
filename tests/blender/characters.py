"""Characters to test with: the bundled head on rigs of several kinds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import bpy
import numpy as np

from selftalk_blender.blender import bundled_head
from selftalk_blender.core.places import positions
from selftalk_blender.core.template import bundled_template

# Places of the bundled head -> bones of Rigify's human metarig, by where they begin.
METARIG = {
    "upper_lip": "lip.T.L",
    "lower_lip": "lip.B.L",
    "corner_left": "lip.T.L.001:tail",
    "corner_right": "lip.T.R.001:tail",
    "upper_lip_left": "lip.T.L.001",
    "upper_lip_right": "lip.T.R.001",
    "lower_lip_left": "lip.B.L.001",
    "lower_lip_right": "lip.B.R.001",
    "chin": "chin.001",
    "eye_left": "eye.L",
    "eye_right": "eye.R",
    "brow_inner_left": "brow.T.L.003",
    "brow_inner_right": "brow.T.R.003",
    "lid_upper_left": "lid.T.L.002",
    "lid_upper_right": "lid.T.R.002",
}


def rigify(skin: bool, folder: Path) -> bpy.types.Object:
    """The bundled head on a generated Rigify human whose face was fitted to it.

    Made by another process: Blender 4.5 as a module hangs at its end where Rigify was on.

    Args:
        skin: the newer modular face instead of super_face.
        folder: where a file may be written.
    """
    path = folder / "rigify.blend"
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, __file__, str(path), *["skin"] * skin],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    with bpy.data.libraries.load(str(path)) as (_, into):
        into.objects = ["Character"]
    head = into.objects[0]
    for made in (head, head.modifiers["Armature"].object):
        bpy.context.collection.objects.link(made)
    bpy.context.view_layer.update()
    return head


def make_rigify(skin: bool) -> bpy.types.Object:
    """As `rigify`, in this Blender."""
    import addon_utils  # found through bpy alone

    addon_utils.enable("rigify", default_set=True)
    bpy.ops.object.armature_human_metarig_add()
    metarig = bpy.context.object
    head = bundled_head.add_head(bpy.context, (0.0, 0.0, 0.0))
    head.shape_key_clear()
    _activate(metarig)
    if skin:
        bpy.ops.object.mode_set(mode="POSE")
        metarig.data.bones.active = metarig.data.bones["face"]
        bpy.ops.pose.rigify_upgrade_face()
    bpy.ops.object.mode_set(mode="EDIT")
    bones = metarig.data.edit_bones
    source, target = [], []
    for place, name in METARIG.items():
        bone, _, end = name.partition(":")
        if bone in bones:
            source.append(bones[bone].tail[:] if end == "tail" else bones[bone].head[:])
            target.append(positions()[place])
    # The whole rig goes to the head by rotation and scale, and the face the rest of the way.
    warp = _warp(np.array(source, float), np.array(target, float))
    kept = {bone.name: (bone.use_connect, bone.roll) for bone in bones}
    for bone in bones:
        bone.use_connect = False
    ends = [(bone, warp(np.array([bone.head, bone.tail]))) for bone in bones]
    for bone, (first, last) in ends:
        bone.head, bone.tail = first, last
    for bone in bones:
        bone.use_connect, bone.roll = kept[bone.name]
    bpy.ops.object.mode_set(mode="OBJECT")
    bpy.ops.pose.rigify_generate()
    rig = bpy.context.object
    bpy.data.objects.remove(metarig)
    skull = next(n for n in ("DEF-spine.006", "DEF-spine.005") if n in rig.data.bones)
    deforming = [
        bone.name
        for bone in rig.data.bones
        if bone.use_deform and _under(bone, ("ORG-face", "face")) and "eye" not in bone.name
    ]
    weigh(head, rig, deforming, skull)
    return head


def jaw_rig(name: str = "Jaw", mode: str = "QUATERNION", roll: float = 0.0) -> bpy.types.Object:
    """The bundled head on two bones, head and jaw, as game characters have them."""
    head = bundled_head.add_head(bpy.context, (0.0, 0.0, 0.0))
    head.shape_key_clear()
    rig = _armature({"Head": ((0, 0, 0), (0, 0, 0.12), None)})
    _activate(rig)
    bpy.ops.object.mode_set(mode="EDIT")
    jaw = rig.data.edit_bones.new(name)
    jaw.head = positions()["jaw"]
    jaw.tail = positions()["chin"]
    jaw.roll = roll
    jaw.parent = rig.data.edit_bones["Head"]
    bpy.ops.object.mode_set(mode="OBJECT")
    rig.pose.bones[name].rotation_mode = mode
    weigh(head, rig, [name], "Head")
    return head


LOWER = ("jaw", "chin", "lip.b", "lips_bot", "teeth.b", "tongue", "oris01", "oris02", "oris07")


def named_rig(bones: dict[str, str], jaw: str, lower: tuple[str, ...]) -> bpy.types.Object:
    """The bundled head on a rig of plain bones.

    Args:
        bones: bone -> the place of the bundled head that it stands at.
        jaw: the bone of the jaw; lower: those that hang on it.
    """
    places = positions()
    ends = {"Head": ((0, 0, 0), (0, 0, 0.12), None), jaw: (places["jaw"], places["chin"], "Head")}
    for name, place in bones.items():
        ahead = places[place] + (0.0, -0.008, 0.0)
        ends[name] = (places[place], ahead, jaw if name in lower else "Head")
    head = bundled_head.add_head(bpy.context, (0.0, 0.0, 0.0))
    head.shape_key_clear()
    rig = _armature(ends)
    weigh(head, rig, [jaw, *bones], "Head")
    return head


def cut(head: bpy.types.Object) -> np.ndarray:
    """Take the ears off a head, so that it is a mesh that nobody knows; the vertices left."""
    import bmesh  # found through bpy alone

    mesh = bmesh.new()
    mesh.from_mesh(head.data)
    mesh.verts.ensure_lookup_table()
    ears = bundled_template().regions["ears"]
    bmesh.ops.delete(mesh, geom=[mesh.verts[i] for i in ears], context="VERTS")
    mesh.to_mesh(head.data)
    mesh.free()
    return np.setdiff1d(np.arange(len(bundled_template().vertices)), ears)


def weigh(head: bpy.types.Object, rig: bpy.types.Object, deforming: list[str], skull: str) -> None:
    """Bind a head: each part of it to the bones of that part, by distance.

    What jawOpen moves goes with the lower bones and what eyeBlink moves with the upper lids, so
    that lips and lids part.
    """
    template = bundled_template()
    at = template.vertices.astype(np.float64)
    deltas = np.linalg.norm(template.shape_deltas, axis=2)
    # By its arm: all of the jaw turns by one angle.
    turned = deltas[template.shape_names.index("jawOpen")]
    turned = turned / np.linalg.norm((at - positions()["jaw"])[:, 1:], axis=1)
    lower = np.clip(turned / np.quantile(turned, 0.97), 0, 1)
    blink = sum(deltas[template.shape_names.index(f"eyeBlink{s}")] for s in ("Left", "Right"))
    lids = np.zeros(len(at))
    lids[template.regions["eyelids"]] = 1.0
    upper_lids = lids * np.clip(blink / (0.6 * blink.max()), 0, 1)
    firm = np.zeros(len(at))
    firm[np.concatenate([template.regions[part] for part in ("eyes", "teeth_upper")])] = 1.0
    jaw = next((n for n in ("DEF-jaw_master", "DEF-jaw", *deforming) if n in deforming), skull)

    def named(*words: str) -> list[str]:
        return [name for name in deforming if any(word in name.lower() for word in words)]

    below = named(*LOWER)
    lid_bones = named("lid.")
    above = [name for name in deforming if name not in below and name not in lid_bones]
    weights = {name: np.zeros(len(at)) for name in [*deforming, skull]}
    weights[skull] += firm
    if not lid_bones:
        lids, upper_lids = 0 * lids, 0 * lids
    for names, share, rest in (
        (below, lower * (1 - lids), jaw),
        (above, (1 - lower) * (1 - lids), skull),
        (named("lid.t"), upper_lids, skull),
        (named("lid.b"), lids - upper_lids, skull),
    ):
        share = share * (1 - firm)
        if len(names) < 2:
            weights[names[0] if names else rest] += share
            continue
        distance = np.stack([_distance(at, *_ends(rig, name)) for name in names])
        close = np.exp(-((distance / 0.007) ** 2)) + 1e-12
        held = np.exp(-((distance.min(0) / 0.02) ** 2))
        for name, part in zip(names, close / close.sum(0), strict=True):
            weights[name] += share * held * part
        weights[rest] += share * (1 - held)
    for name, values in weights.items():
        group = head.vertex_groups.new(name=name)
        levels = np.round(values, 2)
        for level in np.unique(levels[levels > 0]):
            group.add(np.flatnonzero(levels == level).tolist(), float(level), "REPLACE")
    modifier = head.modifiers.new("Armature", "ARMATURE")
    modifier.object = rig
    bpy.context.view_layer.update()


def _ends(rig: bpy.types.Object, name: str) -> tuple[np.ndarray, np.ndarray]:
    bone = rig.data.bones[name]
    return np.array(bone.head_local), np.array(bone.tail_local)


def slider_rig() -> bpy.types.Object:
    """A jaw rig whose jaw bone is turned by the slider "Jaw" of the armature, 0..1."""
    head = jaw_rig("jaw", "XYZ")
    rig = head.modifiers["Armature"].object
    rig["Jaw"] = 0.0
    rig.id_properties_ui("Jaw").update(min=0.0, max=1.0, default=0.0)
    driver = rig.pose.bones["jaw"].driver_add("rotation_euler", 0).driver
    variable = driver.variables.new()
    variable.targets[0].id = rig
    variable.targets[0].data_path = '["Jaw"]'
    driver.expression = f"{variable.name} * 0.6"
    return head


def talk(channels, values: np.ndarray) -> None:
    """Set channels to one frame's values."""
    for channel, value in zip(channels, values, strict=True):
        owner = bpy.data.objects[channel.object]
        if channel.index >= 0:
            owner.path_resolve(channel.path)[channel.index] = value
        else:
            owner[channel.path[2:-2]] = float(value)
            owner.update_tag()
    bpy.context.view_layer.update()


def shown(target: bpy.types.Object) -> np.ndarray:
    """(V, 3) of a mesh as it is seen, in world space."""
    bpy.context.view_layer.update()
    evaluated = target.evaluated_get(bpy.context.evaluated_depsgraph_get())
    at = np.empty(len(evaluated.data.vertices) * 3, np.float32)
    evaluated.data.vertices.foreach_get("co", at)
    matrix = np.array(evaluated.matrix_world)
    return at.reshape(-1, 3) @ matrix[:3, :3].T + matrix[:3, 3]


def _armature(bones: dict) -> bpy.types.Object:
    rig = bpy.data.objects.new("Rig", bpy.data.armatures.new("Rig"))
    bpy.context.collection.objects.link(rig)
    _activate(rig)
    bpy.ops.object.mode_set(mode="EDIT")
    for name, (first, last, parent) in bones.items():
        bone = rig.data.edit_bones.new(name)
        bone.head, bone.tail = first, last
        if parent is not None:
            bone.parent = rig.data.edit_bones[parent]
    bpy.ops.object.mode_set(mode="OBJECT")
    return rig


def _activate(target: bpy.types.Object) -> None:
    for other in bpy.context.selected_objects:
        other.select_set(False)
    target.select_set(True)
    bpy.context.view_layer.objects.active = target


def _under(bone: bpy.types.Bone, names: tuple[str, ...]) -> bool:
    return any(parent.name in names for parent in bone.parent_recursive)


def _distance(at: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """(V,) from points to a segment."""
    along = last - first
    share = np.clip((at - first) @ along / max(along @ along, 1e-12), 0, 1)
    return np.linalg.norm(at - first - share[:, None] * along, axis=1)


def _warp(source: np.ndarray, target: np.ndarray):
    """The thin-plate spline (kernel r) that carries points onto others."""
    count = len(source)
    kernel = np.linalg.norm(source[:, None] - source[None], axis=-1)
    affine = np.concatenate([np.ones((count, 1)), source], 1)
    system = np.block([[kernel, affine], [affine.T, np.zeros((4, 4))]])
    solved = np.linalg.solve(system, np.concatenate([target, np.zeros((4, 3))]))

    def warp(points: np.ndarray) -> np.ndarray:
        near = np.linalg.norm(points[:, None] - source[None], axis=-1)
        return (
            near @ solved[:count]
            + np.concatenate([np.ones((len(points), 1)), points], 1) @ solved[count:]
        )

    return warp


if __name__ == "__main__":
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    make_rigify("skin" in sys.argv).name = "Character"
    bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1])
    os._exit(0)
