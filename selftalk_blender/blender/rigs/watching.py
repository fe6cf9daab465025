"""Where on a mesh its bones and sliders are watched: which vertices are chin, lips, lids."""

from __future__ import annotations

import bpy
import numpy as np

from ...core import places
from ...core.errors import SelfTalkError
from ...core.rigs import JAW, eye_bones
from .. import face
from .finding import Found

NEAR = 3  # vertices that stand for a place without a control of its own


def near_face(found: Found, at: np.ndarray) -> np.ndarray:
    """(n,) vertices that the face controls can be about, of (V, 3); all, if these are few."""
    controls = found.rig.controls if found.rig is not None else ()
    if len(controls) < 4:
        return np.arange(len(at))
    stand = np.array([_bone_place(found.armature, control.bone) for control in controls])
    spread = np.ptp(stand, axis=0).max()
    return np.flatnonzero(np.linalg.norm(at - stand.mean(0), axis=1) < 2.5 * spread)


def _bone_place(armature: bpy.types.Object, name: str) -> np.ndarray:
    """(3,) where a bone stands, in world space."""
    return np.array(armature.matrix_world @ armature.pose.bones[name].head)


def watch(
    target: bpy.types.Object, found: Found, at: np.ndarray, moves: np.ndarray
) -> tuple[dict[str, np.ndarray], places.Frame]:
    """The places that are watched, as vertices of (n, 3), and the frame.

    A mesh whose vertices we know has its places by index. On any other, a control's place is
    where the mesh follows it; the rest is found by fitting the bundled head to those.

    Raises:
        SelfTalkError: where the face is cannot be told.
    """
    watched = [point for point in places.positions() if point != "jaw" and "eye" not in point]
    mirror = found.armature.matrix_world.determinant() < 0
    spots = _spots_by_index(target, at)
    if spots:
        frame = places.fit_frame({point: at[spot].mean(0) for point, spot in spots.items()}, mirror)
        assert frame is not None
    else:
        spots = _spots_by_controls(found, at, moves)
        frame = _frame(found, at, moves, spots, mirror)
        if frame is None:
            raise SelfTalkError(
                f"Where the face of {target.name} is cannot be told from the bones of "
                f"{found.armature.name}: they do not move its chin. Check its vertex groups."
            )
        with_jaw = _jaw_field(found, moves)
        with_jaw = with_jaw > 0.5 * with_jaw.max()
        for point in (point for point in watched if point not in spots):
            distance = np.linalg.norm(at - frame(places.positions()[point]), axis=1)
            if "lip" in point and with_jaw.any():
                distance[with_jaw != ("lower" in point)] = np.inf
            spots[point] = np.argsort(distance)[:NEAR]
        for upper, lower in places.GAPS:
            for point, free in ((upper, ~with_jaw), (lower, with_jaw)):
                edge = places.lip_edge(at, frame, point, free)
                if edge is not None and with_jaw.any():
                    spots[point] = np.array([edge])
    return {point: spots[point] for point in watched}, frame


def _spots_by_index(target: bpy.types.Object, at: np.ndarray) -> dict[str, np.ndarray]:
    """Place -> its vertex, on a mesh that has the bundled head's; else nothing."""
    if len(at) != len(target.data.vertices):
        return {}
    try:
        fit = face.correspondence(target, face.driven_keys(target))
    except SelfTalkError:
        return {}
    to_target = dict(zip(fit.template_index.tolist(), fit.target_index.tolist(), strict=True))
    vertices = places.vertices()
    if not all(vertex in to_target for vertex in vertices.values()):
        return {}
    return {point: np.array([to_target[vertex]]) for point, vertex in vertices.items()}


def _spots_by_controls(found: Found, at: np.ndarray, moves: np.ndarray) -> dict[str, np.ndarray]:
    """Place -> the vertices that follow its own control most closely."""
    spots = {}
    for control in found.rig.controls if found.rig is not None else ():
        own = [
            i
            for i, axis in enumerate(found.axes)
            if axis.kind == "BONE" and not axis.turns and f'"{control.bone}"' in axis.path
        ]
        if control.part == JAW or not own:
            continue
        follows = np.linalg.norm(moves[:, :, own], axis=(1, 2))
        if follows.max() > 0:
            spots[control.point] = np.flatnonzero(follows > 0.8 * follows.max())
    return spots


def _frame(
    found: Found,
    at: np.ndarray,
    moves: np.ndarray,
    spots: dict[str, np.ndarray],
    mirror: bool,
) -> places.Frame | None:
    """How a face lies, from where its controls' places are, or from its jaw and eyes.

    Where it is from the jaw, the chin that was found so is added to `spots`.
    """
    seen = {point: at[spot].mean(0) for point, spot in spots.items()}
    frame = places.fit_frame(seen, mirror) if len(seen) > 3 else None
    if frame is not None or found.rig is None:
        return frame
    jaw = _jaw_field(found, moves)
    if not jaw.max() > 0:
        return None
    pivot = _bone_place(found.armature, found.rig.controls[0].bone)
    up = np.array([0.0, 0.0, 1.0])
    eyes = {
        point: _bone_place(found.armature, name)
        for point, name in eye_bones(found.armature.data.bones.keys()).items()
    }
    rough = places.fit_frame({"jaw": pivot, **eyes}, mirror)
    if rough is not None:
        up = rough.up
    chin = places.chin_of(jaw, at, pivot, up)
    spots["chin"] = np.array([chin])
    return places.fit_frame({"chin": at[chin], **eyes}, mirror) or places.frame_from_jaw(
        pivot, at[chin], up, mirror
    )


def _jaw_field(found: Found, moves: np.ndarray) -> np.ndarray:
    """(V,) how far vertices go with the jaw: as it turns, where it can."""
    jaw = [i for i, axis in enumerate(found.axes) if axis.part == JAW]
    turning = [i for i in jaw if found.axes[i].turns]
    return np.linalg.norm(moves[:, :, turning or jaw], axis=(1, 2))
