"""What moves a face that has a rig: its bones and sliders, its shape keys, or each its share."""

from __future__ import annotations

import bpy
import numpy as np

from ...core.axes import gap_share, values
from ...core.drive import Drive, join
from ...core.errors import SelfTalkError
from ...core.mapping import with_still_jaw
from ...core.rigs import keys_alone
from ...core.template import bundled_template
from .calibrating import calibrate, stored
from .finding import find


def with_rig(
    target: bpy.types.Object, keys: Drive | None, keyed: frozenset[str], measure: bool = True
) -> Drive:
    """What moves a face: its shape keys, its rig, or each its share, as the user chose.

    Args:
        keys: the drive of its shape keys; None where it has none that speak.
        keyed: the shapes that these keys make.
        measure: as for `drive`.

    Raises:
        SelfTalkError: as `calibrate`; or the rig can make none of the shapes left to it.
    """
    choice = target.selftalk.rig_share
    if keys is None or choice == "BONES":
        return drive(target, measure=measure)
    if keys_alone(choice, keyed):
        return by_keys(keys, keyed)
    try:
        return join([keys, drive(target, keyed, measure)])
    except SelfTalkError as error:
        alone = by_keys(keys, keyed)
        return Drive(alone.channels, alone.solve, (*alone.notices, str(error)))


def by_keys(keys: Drive, keyed: frozenset[str]) -> Drive:
    """What moves a face whose rig does not: its shape keys, which make these shapes."""
    still = "mouthClose" in keyed and "jawOpen" not in keyed
    return with_still_jaw(keys) if still else keys


def drive(
    target: bpy.types.Object, keyed: frozenset[str] = frozenset(), measure: bool = True
) -> Drive:
    """The bones and sliders of a face as a drive.

    Args:
        keyed: the shapes that are left to the face's keys.
        measure: whether a rig may be measured that was not yet. Panels must not, for nothing
            may be moved while they are drawn: they get all channels that may be moved, at rest.

    Raises:
        SelfTalkError: as `calibrate`.
    """
    found = find(target)
    kept = stored(target, found)
    if kept is None and not measure:
        still = np.array([axis.rest for axis in found.axes])
        return Drive(
            tuple(axis.channel for axis in found.axes),
            lambda weights: np.tile(still, (len(weights), 1)),
            found.left_alone,
        )
    if kept is None:
        for _ in calibrate(target):
            pass
        kept = stored(target, found)
        assert kept is not None
    ours = np.array([name not in keyed for name in bundled_template().shape_names], np.float32)
    matrix = kept.matrix * ours[:, None]
    used = np.flatnonzero(np.abs(matrix).max(0) > 0)
    matrix, axes = matrix[:, used], [kept.axes[i] for i in used]
    gap = gap_share() * ours if kept.jaw_alone else None
    rest, low, high = (np.array([getattr(a, n) for a in axes]) for n in ("rest", "low", "high"))
    return Drive(
        tuple(axis.channel for axis in axes),
        lambda weights: values(weights, matrix, rest, low, high, gap),
        found.left_alone,
    )
