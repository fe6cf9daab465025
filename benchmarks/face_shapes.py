"""Create Face Shapes: how near to the truth, and how long. Prints one table.

SELFTALK_SHARED=FOLDER OMP_NUM_THREADS=1 python -m benchmarks.face_shapes

Heads, none of them by help: landmarks are those that are found. "ICT" is another person's head
of another topology with ARKit shapes of its own (USC-ICT FaceKit). The others are the bundled
head, decimated (by Blender's modifier) and subdivided; and, as people whose shapes are known, its
pack's six looks, subdivided: the pack's shapes are the same on each of them.

Error of one shape, after the best amplitude for it, on the skin: the median over the vertices
that move by a twentieth of the peak or more, as a share of each vertex's own motion, of their
mean motion, and of the shape's peak motion. A row tells the median over the jaw and mouth
shapes, then the worst by peak. For the lips alone the mean motion is theirs. "torn" are edges that
jawOpen makes 5 mm longer: between lips that should part, or lips that are not told apart.

Shapes of one name differ by design between ICT's head and the bundled one, so on ICT no transfer
comes to 0. Further rows say how much, each with ICT's own shapes at hand: "best mix" is the best
mix of all 52 transferred ones; "its points" gives each vertex the motion of that point within
4 mm which is nearest to its own in all shapes, as no registration could do better; "its ways"
moves each vertex as far as created in the very direction of its own; "its amounts" in the created
direction by the very amount of its own. "copied" is plain nearest-point copying, from the bundled
head laid over by its landmarks. A second table tells the median error by which vertices count as
moving.
"""

from __future__ import annotations

import time

import numpy as np

from selftalk_blender.core.create import create_face_shapes
from selftalk_blender.core.landmarks import template_landmarks
from selftalk_blender.core.retarget import similarity
from selftalk_blender.core.surface import (
    barycentric,
    edges_of,
    islands_of,
    nearest,
    normals_of,
)
from tests.core.heads import (
    MOUTH_SHAPES,
    SHARED,
    TEMPLATE,
    TRIANGLES,
    VERTICES,
    finer,
    ict_head,
    misfit,
    result,
    subdivided,
)

Shapes = dict[str, np.ndarray]
TORN = 0.005  # metres, on a head of the bundled one's size


def row(
    head: str, count: int, how: str, made: Shapes, own: Shapes, lips: np.ndarray, torn: int
) -> str:
    """One line of errors; made and own: name -> (n, 3) on the skin; lips: (n,) bool."""
    names = [name for name in MOUTH_SHAPES if name in own]
    errors = np.array([misfit(made[name], own[name]) for name in names])
    on_lips = []
    for name in names:
        scale = amplitude(made[name], own[name])
        motion = np.linalg.norm(own[name], axis=1)
        moving = lips & (motion > 0.05 * motion.max())
        error = np.linalg.norm(scale * made[name] - own[name], axis=1)
        if moving.any():
            on_lips.append(np.median(error[moving]) / motion[moving].mean())
    middle = np.median(errors, 0)
    cells = [*middle, errors[:, 2].max(), float(np.median(on_lips))]
    return (
        f"{head:18s} {count:7d}  {how:10s}"
        + "".join(f"{100 * cell:8.1f}" for cell in cells)
        + f"{torn:7d}"
    )


def create(vertices: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Shapes, landmarks and seconds of one core."""
    begun = time.process_time()
    made = result(create_face_shapes(vertices, triangles))
    return made.deltas, made.landmarks, time.process_time() - begun


def skin_and_lips(
    vertices: np.ndarray, triangles: np.ndarray, marks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(V,) bool each: the largest loose part, and what of it lies along the bundled head's lips."""
    island = islands_of(len(vertices), edges_of(triangles))
    skin = island == np.bincount(island).argmax()
    linear, _ = similarity(VERTICES[template_landmarks()], marks)
    placed = (vertices - marks.mean(0)) @ np.linalg.inv(linear).T
    lips = VERTICES[TEMPLATE.regions["lips"]] - VERTICES[template_landmarks()].mean(0)
    apart = np.linalg.norm(placed - lips[nearest(placed, lips)], axis=1)
    return skin, skin & (apart < 0.003)


def compare(
    head: str, vertices: np.ndarray, triangles: np.ndarray, own: Shapes
) -> tuple[float, dict[str, Shapes], Shapes]:
    """Print the rows of a head whose shapes are known; seconds, what was made, what is true."""
    deltas, marks, seconds = create(vertices, triangles)
    skin, lips = skin_and_lips(vertices, triangles, marks)
    linear, _ = similarity(VERTICES[template_landmarks()], marks)
    shift = marks.mean(0) - linear @ VERTICES[template_landmarks()].mean(0)
    copied = nearest((vertices[skin] - shift) @ np.linalg.inv(linear).T, VERTICES)
    truth = {name: own[name][skin] for name in own}
    edges, back = edges_of(triangles[skin[triangles].all(1)]), np.linalg.inv(linear)
    ways: dict[str, Shapes] = {
        "copied": {
            name: TEMPLATE.shape_deltas[i, copied] @ linear.T
            for i, name in enumerate(TEMPLATE.shape_names)
        },
        "created": {
            name: deltas[i, skin].astype(np.float64) for i, name in enumerate(TEMPLATE.shape_names)
        },
    }
    if head == "ICT":
        cm = float(np.cbrt(np.linalg.det(linear)))
        ways |= bounds(vertices[skin], 0.004 * cm, ways["created"], truth)
    for how, made in ways.items():
        opened = vertices.copy()
        opened[skin] += made["jawOpen"]
        grown = np.linalg.norm(np.diff(opened[edges], axis=1) @ back.T, axis=2)
        grown -= np.linalg.norm(np.diff(vertices[edges], axis=1) @ back.T, axis=2)
        torn = int(np.count_nonzero(grown > TORN))
        print(row(head, len(vertices), how, made, truth, lips[skin], torn), flush=True)
    return seconds, ways, truth


def bounds(points: np.ndarray, reach: float, made: Shapes, own: Shapes) -> dict[str, Shapes]:
    """What would come of the created shapes, were one of their faults mended by the native ones."""
    names = [name for name in MOUTH_SHAPES if name in own]
    basis = np.stack([delta.ravel() for delta in made.values()], 1)
    table = np.stack([amplitude(made[name], own[name]) * made[name] for name in names], 1)
    truth = np.stack([own[name] for name in names], 1)  # (n, K, 3), as the table
    shares = np.linalg.norm(truth, axis=2).mean(0)
    chosen = np.arange(len(points))
    for begin in range(0, len(points), 200):
        some = slice(begin, begin + 200)
        near = np.linalg.norm(points[some, None] - points, axis=2) < reach
        which, there = np.nonzero(near)
        errors = np.linalg.norm(table[there] - truth[some][which], axis=2) @ (1 / shares)
        order = np.lexsort([errors, which])
        chosen[some] = there[order[np.unique(which[order], return_index=True)[1]]]
    found: dict[str, Shapes] = {"best mix": {}, "its points": {}, "its ways": {}, "its amounts": {}}
    for k, name in enumerate(names):
        mix = np.linalg.lstsq(basis, own[name].ravel(), rcond=1e-6)[0]
        amount, wanted = (
            np.linalg.norm(x, axis=1, keepdims=True) for x in (table[:, k], own[name])
        )
        way = table[:, k] / np.maximum(amount, 1e-12)
        found["best mix"][name] = (basis @ mix).reshape(-1, 3)
        found["its points"][name] = table[chosen, k]
        found["its ways"][name] = own[name] / np.maximum(wanted, 1e-12) * amount
        found["its amounts"][name] = way * np.maximum((way * own[name]).sum(1, keepdims=True), 0)
    return found


def amplitude(made: np.ndarray, own: np.ndarray) -> float:
    """The factor that brings one shape (n, 3) nearest to another."""
    return float((made * own).sum() / max((made**2).sum(), 1e-30))


def by_moving(ways: dict[str, Shapes], own: Shapes) -> None:
    """Median errors over those vertices that move by more than a share of the peak."""
    print(f"\n{'moving above, of peak':30s}" + "".join(f"{share:>8.0%}" for share in SHARES))
    for how, made in ways.items():
        for kind in ("own %", "mean %"):
            line = []
            for share in SHARES:
                errors = []
                for name in (name for name in MOUTH_SHAPES if name in own):
                    motion = np.linalg.norm(own[name], axis=1)
                    moving = motion > share * motion.max()
                    scale = amplitude(made[name], own[name])
                    error = np.linalg.norm(scale * made[name] - own[name], axis=1)[moving]
                    by = motion[moving] if kind == "own %" else motion[moving].mean()
                    errors.append(np.median(error / by))
                line.append(100 * float(np.median(errors)))
            print(f"ICT {how:18s}{kind:8s}" + "".join(f"{value:8.1f}" for value in line))


SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)


def decimated(count: int) -> tuple[np.ndarray, np.ndarray, Shapes]:
    """The bundled head through Blender's Decimate modifier, and its shapes at the new places."""
    import bpy

    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    fine, triangles, shapes = finer(1)
    mesh = bpy.data.meshes.new("Head")
    mesh.from_pydata(fine.tolist(), [], triangles.tolist())
    head = bpy.data.objects.new("Head", mesh)
    bpy.context.collection.objects.link(head)
    head.modifiers.new("Decimate", "DECIMATE").ratio = count / len(fine)
    mesh = head.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    vertices = np.empty(len(mesh.vertices) * 3, np.float32)
    mesh.vertices.foreach_get("co", vertices)
    corners = np.empty(len(mesh.polygons) * 3, np.int32)
    mesh.loops.foreach_get("vertex_index", corners)
    vertices, few = vertices.reshape(-1, 3).astype(np.float64), corners.reshape(-1, 3)
    # Each new vertex lies on or near a triangle of the old surface that faces as it does.
    middles = fine[triangles].mean(1)
    a, b, c = (fine[triangles[:, corner]] for corner in range(3))
    facing = np.cross(b - a, c - a)
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-30)
    normals = normals_of(vertices, few)
    pick = nearest(np.hstack([vertices, 0.005 * normals]), np.hstack([middles, 0.005 * facing]))
    weights, _ = barycentric(vertices, a[pick], b[pick], c[pick])
    own = np.einsum("nk,snkc->snc", weights, shapes[:, triangles[pick]])
    return vertices, few.astype(np.int64), dict(zip(TEMPLATE.shape_names, own, strict=True))


def looks() -> list[tuple[str, np.ndarray]]:
    """The pack's six looks of the bundled head, as vertices."""
    path = SHARED / "data" / "makehuman" / "makehuman_head.npz"
    with np.load(path, allow_pickle=False) as file:
        names = [str(name) for name in file["identity_names"]]
        raw = file["vertices"] + file["identity_deltas_i16"] * file["identity_scale"]
    x, y, z = np.moveaxis(raw * 0.1, -1, 0)
    return list(zip(names, np.stack([x, -z, y], -1).astype(np.float64), strict=True))


def main() -> None:
    print(
        f"{'head':18s} {'vertices':>7s} {'shapes':11s}"
        + "".join(f"{title:>8s}" for title in ("own %", "mean %", "peak %", "worst", "lips %"))
        + f"{'torn':>7s}"
    )
    seconds = []
    vertices, triangles, own = ict_head()
    took, ways, native = compare("ICT", vertices, triangles, own)
    seconds.append(("ICT", len(vertices), took))
    few, fewer, truth = decimated(5000)
    seconds.append(
        ("bundled, decimated", len(few), compare("bundled, decimated", few, fewer, truth)[0])
    )
    for times in (1, 2):
        more, faces, shapes = finer(times)
        truth = dict(zip(TEMPLATE.shape_names, shapes, strict=True))
        seconds.append(
            ("bundled, subdivided", len(more), compare("bundled, finer", more, faces, truth)[0])
        )
    shapes = TEMPLATE.shape_deltas.transpose(1, 0, 2).reshape(len(VERTICES), -1)
    for name, look in looks():
        table, faces = subdivided(np.hstack([look, shapes]), TRIANGLES)
        truth_array = table[:, 3:].reshape(len(table), -1, 3).transpose(1, 0, 2)
        truth = dict(zip(TEMPLATE.shape_names, truth_array, strict=True))
        compare(name.removesuffix("-young"), table[:, :3], faces, truth)
    many, faces = subdivided(vertices, triangles)
    seconds.append(("ICT, subdivided", len(many), create(many, faces)[2]))
    by_moving({how: ways[how] for how in ("copied", "created")}, native)
    print(f"\n{'head':22s} {'vertices':>8s} {'CPU seconds':>12s}")
    for head, count, took in seconds:
        print(f"{head:22s} {count:8d} {took:12.1f}")


if __name__ == "__main__":
    main()
