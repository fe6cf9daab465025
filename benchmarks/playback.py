"""What a talking face costs in each frame that is played: prints milliseconds for each output.

PYTHONPATH=. .venv/bin/python -m benchmarks.playback [--lines 5] [--frames 120]

The bundled head speaks the sample clip; as it is, and with its faces divided. A frame is
`Scene.frame_set`: curves, shapes, rig and modifiers of this one face are worked out, nothing is
drawn. "Still" is the same face before it is animated. Each number is a median.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bpy  # first: it fills sys.path

import bmesh  # isort: skip
import numpy as np

import selftalk_blender
from selftalk_blender.blender import bundled_head, face, lines, mesh_cache, targets
from selftalk_blender.blender.neutral import Neutral
from selftalk_blender.core import Motion, bundled_template
from selftalk_blender.core.take import Take
from selftalk_blender.core.template import FaceTemplate
from tests.blender import characters
from tests.core.sample import FPS, sample

VOWELS = {"A": "jawOpen", "I": "mouthStretchLeft", "U": "mouthPucker", "E": "mouthSmileLeft",
          "O": "mouthFunnel"}  # fmt: skip
SCENE_FPS = 24.0


def denser(target: bpy.types.Object, vertices: int) -> None:
    """Divide faces, shape keys with them, until the mesh has about so many vertices."""
    mesh = bmesh.new()
    mesh.from_mesh(target.data)
    while len(mesh.verts) < 0.95 * vertices:
        # A face of a grid that is divided adds three vertices.
        count = min(round((vertices - len(mesh.verts)) / 3.9), len(mesh.faces))
        mesh.faces.ensure_lookup_table()
        edges = {edge for polygon in mesh.faces[:count] for edge in polygon.edges}
        bmesh.ops.subdivide_edges(mesh, edges=list(edges), cuts=1, use_grid_fill=True)
    mesh.to_mesh(target.data)
    mesh.free()


def speak(target: bpy.types.Object, count: int) -> None:
    """Give a face lines, one after the other."""
    weights, loudness = sample()
    take = Take(weights, FPS, loudness)
    for _ in targets.prepare(target):
        pass
    frames = round(take.duration * SCENE_FPS)
    for number in range(count):
        new = lines.Spoken(
            id=f"line-{number}", name=f"line {number}", scene="Scene", strip="", clip="/clip.wav",
            sound=f"{number}", taken=(0.0, take.duration), first_frame=1 + number * (frames + 20),
            frames=frames, fps=SCENE_FPS, start=0.0,
        )  # fmt: skip
        for _ in lines.write(target, targets.drive_of(target), new, take):
            pass


def cached(target: bpy.types.Object, folder: str) -> None:
    """Give a face a mesh cache, as an animator of its own topology does."""
    weights, _ = sample()
    template = bundled_template()
    times = np.arange(int(len(weights) / FPS * SCENE_FPS)) / SCENE_FPS
    weights = Motion(template, FPS, weights=weights).at(times, SCENE_FPS).weights
    blocks = target.data.shape_keys.key_blocks
    offsets = np.stack([face.key_offsets(blocks[name]) for name in template.shape_names])
    rest = face.rest_vertices(target)
    own = FaceTemplate("own", rest, np.zeros((0, 4), np.int32))
    motion = Motion(own, SCENE_FPS, dense=np.einsum("tk,kvc->tvc", weights, offsets))
    neutral = Neutral(
        ("benchmark", 0, 0, ""), rest, [tuple(p.vertices) for p in target.data.polygons]
    )
    for _ in mesh_cache.write(target, motion, 1, Path(folder) / "face.selftalk.mdd", neutral):
        pass


def head(vertices: int) -> bpy.types.Object:
    """The bundled head with all its shape keys."""
    target = bundled_head.add_head(bpy.context, (0.0, 0.0, 0.0))
    denser(target, vertices)
    return target


def with_vowels(vertices: int) -> bpy.types.Object:
    """A face whose only shapes are five vowels, which are mixed to come near the speech."""
    target = head(vertices)
    for key in list(target.data.shape_keys.key_blocks)[1:]:
        name = next((name for name, shape in VOWELS.items() if shape == key.name), None)
        if name is None:
            target.shape_key_remove(key)
        else:
            key.name = name
    return target


def with_jaw(vertices: int) -> bpy.types.Object:
    """A face with a jaw bone and no shapes."""
    target = characters.jaw_rig()
    denser(target, vertices)
    return target


def with_rigify(vertices: int) -> bpy.types.Object:
    """A face on Rigify's controls and no shapes."""
    with tempfile.TemporaryDirectory() as folder:
        target = characters.rigify(False, Path(folder))
    denser(target, vertices)
    return target


def per_frame(frames: int) -> float:
    """Median milliseconds of a frame."""
    scene, taken = bpy.context.scene, []
    for frame in range(1, frames + 1):
        begun = time.perf_counter()
        scene.frame_set(frame)
        taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(taken[2:])


def measure(
    make: Callable[[int], bpy.types.Object], move: Callable[..., None], vertices: int, frames: int
) -> tuple[float, float, int]:
    """Milliseconds per frame still and talking, and the vertices that the mesh has."""
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bpy.context.scene.render.fps = round(SCENE_FPS)
    target = make(vertices)
    bpy.context.view_layer.update()
    still = per_frame(frames)
    move(target)
    return still, per_frame(frames), len(target.data.vertices)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=5)
    parser.add_argument("--frames", type=int, default=120)
    options = parser.parse_args()
    selftalk_blender.register()
    count = options.lines
    with tempfile.TemporaryDirectory() as folder:
        outputs: dict[str, tuple[Callable[[int], bpy.types.Object], Callable[..., None]]] = {
            "shape keys, one line": (head, lambda target: speak(target, 1)),
            f"shape keys, {count} lines in the NLA": (head, lambda target: speak(target, count)),
            "vowel shapes, one line": (with_vowels, lambda target: speak(target, 1)),
            "jaw bone, one line": (with_jaw, lambda target: speak(target, 1)),
            "Rigify face, one line": (with_rigify, lambda target: speak(target, 1)),
            "mesh cache": (head, lambda target: cached(target, folder)),
        }
        print(f"Blender {bpy.app.version_string}, milliseconds per frame of playback")
        print(f"{'':32}{'vertices':>10}{'still':>9}{'talking':>9}")
        for vertices in (4874, 27000):
            for name, (make, move) in outputs.items():
                still, talking, number = measure(make, move, vertices, options.frames)
                print(f"{name:32}{number:10}{still:9.2f}{talking:9.2f}", flush=True)


if __name__ == "__main__":
    main()
