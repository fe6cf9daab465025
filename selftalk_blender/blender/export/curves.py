"""What a face says as ARKit weights, frame by frame: for LiveLink CSV and JSON."""

from __future__ import annotations

from collections.abc import Generator

import bpy
import numpy as np

from ...core.errors import SelfTalkError
from ...core.lips import rest_weights
from ...core.steps import paced
from ...core.template import bundled_template
from .. import lines, mesh_cache, targets


def check(face: bpy.types.Object) -> None:
    """Whether a face's motion is known as ARKit weights.

    Raises:
        SelfTalkError: an animator of its own gave it vertices.
    """
    if not any(lines.has_take(face, line.id) for line in face.selftalk.lines):
        raise SelfTalkError(
            f"{face.name} was animated by moving vertices, which are no ARKit shapes. Export "
            "Alembic, FBX or a point cache, or animate it with the bundled animator."
        )


def weights_of(
    context: bpy.types.Context, face: bpy.types.Object, first: int, last: int
) -> Generator[float, None, tuple[np.ndarray, np.ndarray, list[str]]]:
    """ARKit weights of a face in scene frames.

    A shape that has a key of its own on the face is read from that, as it is played: edited,
    moved in the NLA, by hand or a driver, or muted. The others come from the lines' takes after
    the controls, and are at rest where no line is.

    Yields:
        How much is done, 0..1.

    Returns:
        (T, 52) weights in the order of the bundled head's shapes, (T, 3) radians of the head as
        `rhythm.head_motion` has them, and sentences that the user should read.

    Raises:
        SelfTalkError: a take is damaged, or the head cannot be turned.
    """
    count = last - first + 1
    rest = rest_weights(bundled_template())
    weights = np.tile(rest, (count, 1))
    head = np.zeros((count, 3), np.float32)
    notices = []
    turning = lines.head(face)
    direct = {} if mesh_cache.plays(face) else _own_keys(face)
    for line in face.selftalk.lines:
        take = lines.take_of(face, line.id)
        moved = _moved_by(face, line)
        if take is None or moved is None:
            continue
        said = lines.Spoken.of(line)
        motion, begin = yield from paced(lines.speaking(face, said, take), 0.0)
        _add(weights, motion.weights - rest, begin + moved - first)
        if turning is not None:
            _add(head, lines.head_angles(turning, said, take, begin, len(motion)),
                 begin + moved - first)  # fmt: skip
        if lines.is_edited(face, line) and len(direct) < len(rest):
            notices.append(
                f"The keys of {line.name} were edited by hand; the weights are those from before."
            )
    weights = np.clip(weights, 0.0, 1.0)
    yield 0.1
    if direct:
        names = bundled_template().shape_names
        columns = [names.index(shape) for shape in direct]
        blocks = face.data.shape_keys.key_blocks
        for number in range(count):
            context.scene.frame_set(first + number)
            weights[number, columns] = [
                0.0 if blocks[key].mute else blocks[key].value for key in direct.values()
            ]
            yield 0.1 + 0.9 * (number + 1) / count
    return weights, head, notices


def _add(total: np.ndarray, values: np.ndarray, begin: int) -> None:
    """Add values (n, K) to a total (T, K) from a row on, which may be before the first."""
    skip = max(-begin, 0)
    into = total[max(begin, 0) : max(begin + len(values), 0)]
    into += values[skip : skip + len(into)]


def _moved_by(face: bpy.types.Object, line: lines.Line) -> int | None:
    """Frames by which the artist moved a line's NLA strips; None where they are muted."""
    placed = [p.strip for p in lines.places_of_line(face, line.id) if p.strip is not None]
    if placed and all(strip.mute for strip in placed):
        return None
    return round(placed[0].frame_start) - line.key_range[0] if placed else 0


def _own_keys(face: bpy.types.Object) -> dict[str, str]:
    """ARKit shape -> the shape key of the face that is that shape and nothing else."""
    keys = face.data.shape_keys
    if keys is None:
        return {}
    shapes = set(bundled_template().shape_names)
    by_key: dict[str, list] = {}
    by_shape: dict[str, list] = {}
    for entry in targets.entries_of(face):
        channel = entry.channel
        if channel.kind == "KEY" and channel.object == face.name:
            by_key.setdefault(channel.path, []).append(entry)
        by_shape.setdefault(entry.source, []).append(entry)
    return {
        shape: entry.channel.path
        for shape, (entry, *more) in by_shape.items()
        if shape in shapes
        and not more
        and (entry.gain, entry.offset) == (1.0, 0.0)
        and len(by_key.get(entry.channel.path, ())) == 1
        and keys.key_blocks.get(entry.channel.path) not in (None, keys.reference_key)
    }
