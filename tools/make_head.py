"""Build assets/head.npz from the MakeHuman head pack. Run it when the pack or the format changes.

python tools/make_head.py PACK_FOLDER     (the folder with makehuman_head.npz)

The look is the mean of the pack's six identities. Axes become Blender's (metres, Z up, facing
-Y) and the origin moves to the middle of the neck's edge, so that a new head stands on the floor.
The pack's teeth stand so far back that no shape brings the lower lip to them: they move forward.
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from selftalk_blender.core.template import ASSETS, FaceTemplate  # noqa: E402

REGIONS = (
    "lips lips_upper lips_lower mouth_region inside_mouth jaw upper_face eyelids ears eyes "
    "teeth teeth_upper teeth_lower tongue skin neck_boundary"
).split()

# Metres. The lips of recorded clips stay clear of them; at f and v the lower lip meets them.
TEETH_FORWARD = 0.0029


def to_blender(points: np.ndarray) -> np.ndarray:
    """Decimetres, Y up, facing +Z -> metres, Z up, facing -Y."""
    x, y, z = np.moveaxis(points, -1, 0)
    return np.stack([x, -z, y], -1) * 0.1 + 0.0  # no negative zeros: the file keeps none


def main(folder: str) -> None:
    with np.load(Path(folder) / "makehuman_head.npz", allow_pickle=False) as file:
        pack = dict(file)
    mean_identity = (pack["identity_deltas_i16"] * pack["identity_scale"]).mean(0)
    vertices = to_blender(pack["vertices"] + mean_identity)
    vertices -= vertices[pack["neck_loop"]].mean(0)
    vertices[pack["mask_teeth"].astype(bool), 1] -= TEETH_FORWARD
    (left, right), _ = pack["mouth_corners"]
    template = FaceTemplate(
        name="SelfTalk Head",
        vertices=vertices.astype(np.float32),
        polygons=pack["polygons"],
        shape_names=tuple(str(name) for name in pack["shape_names"]),
        shape_deltas=to_blender(pack["shape_deltas_i16"] * pack["shape_scale"]).astype(np.float32),
        regions={name: np.flatnonzero(pack[f"mask_{name}"]).astype(np.int32) for name in REGIONS},
        landmarks={
            "inner_upper_lip": int(pack["inner_upper_mid"][1]),
            "inner_lower_lip": int(pack["inner_lower_mid"][1]),
            "mouth_corner_left": int(left),
            "mouth_corner_right": int(right),
        },
        part_names=tuple(str(name) for name in pack["part_names"]),
        polygon_part=pack["polygon_part"],
        loop_uv=pack["loop_uv"],
        source_index=pack["source_index"],
    )
    template.save(ASSETS / "head.npz")
    print(f"{ASSETS / 'head.npz'}: {template.digest}, {(ASSETS / 'head.npz').stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
