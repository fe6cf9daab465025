"""The longest that each action holds Blender's window at once: prints a table.

.venv/bin/python -m benchmarks.held

Jobs run as they do behind a window, in turns of one timer tick, only without a window; each turn
takes 20 ms on purpose and then one step more. Takes are made up: the animator works in a process
of its own and holds nothing (see click_to_keys). What a draw of the panel costs is not in here,
but what the panel Adjust asks is. "Held" is by the clock; "busy" is what of it was Blender's own
thread at work, which other work on the machine hardly changes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import bpy  # first: it fills sys.path
import numpy as np

import selftalk_blender
from selftalk_blender.blender import (
    animate,
    controls,
    face_shapes,
    jobs,
    lines,
    mesh_cache,
    reducing,
    targets,
)
from selftalk_blender.blender.marks import WAITING
from selftalk_blender.core.take import Take
from selftalk_blender.core.template import bundled_template

FPS = 24.0


def spoken_take(seconds: float, seed: int) -> Take:
    """A take in which 40 shapes wander."""
    random = np.random.default_rng(seed)
    weights = np.zeros((round(seconds * 50), len(bundled_template().shape_names)), np.float32)
    steps = random.normal(0, 0.02, (len(weights), 40)).cumsum(0)
    weights[:, :40] = np.abs(steps % 2 - 1)
    return Take(weights, 50.0, random.uniform(-60, -20, len(weights)).astype(np.float32))


def line(number: int, seconds: float) -> lines.Spoken:
    """Line after line, a second apart."""
    return lines.Spoken(
        id=f"line{number}",
        name=f"line {number}",
        scene="Scene",
        strip="",
        clip=f"/line{number}.wav",
        sound=f"line{number}",
        taken=(0.0, seconds),
        first_frame=1 + round(number * (seconds + 1) * FPS),
        frames=round(seconds * FPS),
        fps=FPS,
        start=0.0,
    )


def job(begin: Callable[[], Iterator[Any]]) -> np.ndarray:
    """Run a job to its end; the longest turn, the click included, as `once`."""

    def steps() -> Generator[animate.Progress, None, None]:
        for step in made[0]:
            yield step if isinstance(step, animate.Progress) else animate.Progress(0.5, "")

    made: list[Iterator[Any]] = []
    longest = once(lambda: made.append(begin()))
    running, done = jobs.Job(steps()), []

    def turn() -> None:
        try:
            running.advance()
        except StopIteration:
            done.append(True)

    while not done:
        longest = np.maximum(longest, once(turn))
        time.sleep(jobs.TICK if running.progress.waiting else 0.005)
    return longest


def once(work: Callable[[], Any]) -> np.ndarray:
    """Seconds that something takes which is done at once: by the clock, and of the processor."""
    begun = np.array((time.perf_counter(), time.thread_time()))
    work()
    return (time.perf_counter(), time.thread_time()) - begun


def drag(face: bpy.types.Object) -> np.ndarray:
    """Move a slider as in a window; the longest turn until all lines follow."""
    with mock.patch.object(controls, "bake_soon"):  # in the background it bakes at once
        face.selftalk.controls.strength = 1.2
    longest = np.zeros(2)
    face[WAITING] = " ".join(line.id for line in face.selftalk.lines)
    while WAITING in face:
        longest = np.maximum(longest, once(lambda: controls.bake_slice(face)))
    return longest


def locked(face: bpy.types.Object) -> np.ndarray:
    """What the panel Adjust asks after each change; the longest step."""
    longest, steps, done = np.zeros(2), lines.touched_lines(face), []
    while not done:
        longest = np.maximum(longest, once(lambda: done.extend(next(steps, [True]) or [])))
    return longest


def show(case: str, action: str, seconds: np.ndarray) -> None:
    wall, busy = 1000 * seconds
    print(f"{case:34}{action:30}{wall:6.0f} ms{busy:12.0f} ms", flush=True)


def new_face() -> bpy.types.Object:
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bpy.context.scene.render.fps = round(FPS)
    bpy.ops.selftalk.add_face()
    return bpy.context.scene.selftalk.face


def by_keys(case: str, face: bpy.types.Object, count: int, seconds: float) -> None:
    """All that is done with lines as curves."""

    def write() -> Iterator[float]:
        for _ in targets.prepare(face):
            yield 0.0
        drive = targets.drive_of(face)
        yield from lines.write(face, drive, line(count - 1, seconds), take)

    take = spoken_take(seconds, count)

    for number in range(count - 1):
        drive = targets.drive_of(face)
        list(lines.write(face, drive, line(number, seconds), spoken_take(seconds, number)))
    show(case, "Animate, the last line", job(write))
    show(case, "a slider of Adjust", drag(face))
    show(case, "the panel Adjust", locked(face))
    show(case, "Bake Again", job(lambda: controls.bake_lines(face)))
    show(case, "Place Lines, one line", job(lambda: place(face, 0, seconds)))
    show(case, "Reduce Keys", job(lambda: reducing.reduce_lines(face, 0.5)))
    show(case, "Remove Line", job(lambda: lines.removing(face, "line0")))


def place(face: bpy.types.Object, number: int, seconds: float) -> Iterator[float]:
    """Have a line stand five frames later."""
    spoken = line(number, seconds)
    moved = lines.Spoken(**{**vars(spoken), "first_frame": spoken.first_frame + 5})
    return lines.moving(face, spoken.id, moved)


def by_cache(case: str, folder: Path, count: int, seconds: float) -> None:
    """All that is done with a mesh cache."""
    face = new_face()
    path = mesh_cache.default_path(face, str(folder))
    new = [(line(number, seconds), spoken_take(seconds, number)) for number in range(count)]
    show(case, "Animate All, writing", job(lambda: lines.write_cache(face, new, path)))
    show(case, "Bake Again", job(lambda: controls.bake_lines(face)))
    show(case, "Place Lines, one line", job(lambda: place(face, 0, seconds)))
    show(case, "Remove Line", job(lambda: lines.removing(face, "line0")))


def own_head() -> bpy.types.Object:
    """Another head, of 115,000 vertices."""
    import bmesh

    own = new_face()
    own.shape_key_clear()
    mesh = bmesh.new()
    mesh.from_mesh(own.data)
    bmesh.ops.subdivide_edges(mesh, edges=mesh.edges[:], cuts=4, use_grid_fill=True)
    mesh.to_mesh(own.data)
    mesh.free()
    return own


def own_face() -> None:
    """A face of one's own, and its mapping."""
    face = own_head()
    case = f"own face, {len(face.data.vertices):,} vertices"
    show(case, "choosing it (analysis)", once(lambda: targets.analyse(face)))
    show(case, "Create Face Shapes", job(lambda: face_shapes.create(plan(face))))
    show(case, "choosing it, with its shapes", once(lambda: targets.analyse(face)))
    show(case, "Analyse", once(bpy.ops.selftalk.analyse_face))
    face.selftalk.mapping[3].gain = 0.9
    show(case, "an edit of the mapping", once(lambda: targets.drive_of(face, measure=False)))
    by_keys(case, face, 1, 60.0)


def plan(face: bpy.types.Object) -> face_shapes.Plan:
    return face_shapes.plan(bpy.context, face)


def main() -> None:
    selftalk_blender.register()
    print(f"{'':34}{'':30}{'held':>9}{'of it busy':>15}")
    by_keys("keys, a line of 60 s", new_face(), 1, 60.0)
    by_keys("keys, a line of 10 minutes", new_face(), 1, 600.0)
    by_keys("keys, 30 lines of 10 s", new_face(), 30, 10.0)
    with tempfile.TemporaryDirectory() as folder:
        by_cache("mesh cache, a line of 60 s", Path(folder), 1, 60.0)
        by_cache("mesh cache, 6 lines of 10 s", Path(folder), 6, 10.0)
    own_face()
    selftalk_blender.unregister()


if __name__ == "__main__":
    main()
