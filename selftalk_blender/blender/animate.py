"""From a sound in a scene to a talking face: the one path of button, command and script.

`plan` reads the scene into plain values and refuses whatever can be refused; `run` has the
animator hear the sound, then writes the motion.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import bpy
import numpy as np

from ..core import Motion
from ..core.aside import aside
from ..core.errors import SelfTalkError
from ..core.files import check_name
from ..core.principal import principal_shapes
from ..core.progress import Progress
from ..core.steps import paced
from ..core.take import Take
from ..core.words import counted
from ..worker.python import find_python
from . import compat, dense, lines, mesh_cache, strips, targets
from .face import (
    NO_FACE,
    again,
    chosen_template,
    correspondence,
    driven_keys,
    out_of_edit_mode,
)
from .hearing import ANIMATOR_SHARE, Listened, Listening, listen
from .neutral import Neutral, read_neutral
from .strips import Heard


@dataclass(frozen=True)
class Plan:
    """What will be animated from what, in plain values.

    Attributes:
        scene, face: session uids, which stay while names are changed.
        sequencer, strip: the scene that the strip is in, and its name; no strip for a bare file.
        heard: what is played when, in frames of the face's scene; the frames of a bare file are
            not known before it is animated: 0.
        cache: the mesh cache to write, or None for shape keys.
        python, device, animator, template, subject: see `worker.client.AnimateJob`.
    """

    scene: int
    face: int
    sequencer: int
    strip: str
    heard: Heard
    cache: Path | None
    python: str
    device: str | None
    animator: Path | None
    template: Path | None
    subject: str


@dataclass(frozen=True)
class Result:
    """What a job has done.

    Attributes:
        first_frame, frames: the motion on the timeline, lead-in and lead-out included.
        seconds: of sound that were animated.
        starting: seconds until the animator was ready.
        elapsed: seconds that animating and writing took from then on.
        notices: sentences that the user should read.
    """

    first_frame: int
    frames: int
    seconds: float
    starting: float
    elapsed: float
    notices: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        frames = counted(self.frames, "frame")
        return f"{frames}, {self.seconds:.1f} s of sound in {self.elapsed:.1f} s"

    @property
    def text(self) -> str:
        return (
            f"{self.summary}: {self.seconds / max(self.elapsed, 1e-3):.1f} times real time, "
            f"after {self.starting:.1f} s of starting"
        )


def plan(
    scene: bpy.types.Scene,
    face: bpy.types.Object | None,
    *,
    strip: str = "",
    sequencer: bpy.types.Scene | None = None,
    clip: str | os.PathLike[str] = "",
    first_frame: int = 1,
    output: str = "SHAPE_KEYS",
    cache_folder: str = "",
    python: str = "",
    device: str | None = None,
    animator: str | os.PathLike[str] = "",
    template: str | os.PathLike[str] = "",
    subject: str = "",
) -> Plan:
    """Check everything and say what `run` will do; nothing is changed.

    Args:
        strip: the name of a sound strip; used where no clip is given.
        sequencer: the scene that has the strip; the face's own by default.
        clip: a sound file; it gets a strip of its own unless it has one at that frame already.
        first_frame: where the clip begins.
        output: "SHAPE_KEYS" or "MESH_CACHE".
        cache_folder: of the mesh cache; see `mesh_cache.default_path`.
        animator: a file; the bundled animator where empty.
        template: the neutral face of the mesh, for an animator that needs one.
        python, device, subject: see `worker.client.AnimateJob`.

    Raises:
        SelfTalkError: why this cannot be done, and what to do about it.
    """
    if face is None:
        raise SelfTalkError(NO_FACE)
    if scene.objects.get(face.name) != face:
        raise SelfTalkError(f"{face.name} is not in scene {scene.name}. Choose another face.")
    strips.check_time(scene)
    animator_file, template_file = (
        strips.absolute(os.fspath(path)) if path else None for path in (animator, template)
    )
    neutral = chosen_template(face, animator_file, template_file, subject)
    cache = None
    if output == "MESH_CACHE":
        cache = mesh_cache.default_path(face, cache_folder)
        mesh_cache.check(face, cache, neutral)
    elif neutral is not None:
        dense.check(face, neutral)
    else:
        lines.check(face, targets.drive_of(face, measure=False))
    find_python(python)
    sequencer = scene if clip or sequencer is None else sequencer
    if clip:
        strip, heard = _heard_of_file(scene, strips.absolute(os.fspath(clip)), first_frame)
    else:
        heard = strips.heard(sequencer, strips.find_strip(sequencer, strip), scene)
    return Plan(
        scene=scene.session_uid,
        face=face.session_uid,
        sequencer=sequencer.session_uid,
        strip=strip,
        heard=heard,
        cache=cache,
        python=python,
        device=device,
        animator=animator_file,
        template=template_file,
        subject=subject,
    )


def _heard_of_file(scene: bpy.types.Scene, clip: Path, first_frame: int) -> tuple[str, Heard]:
    """The strip that plays a sound file from a frame on ("" for none yet), and what is heard.

    Raises:
        SelfTalkError: there is no such file.
    """
    if not clip.is_file():
        raise SelfTalkError(f"There is no file {clip}. Choose a sound file.")
    check_name(clip)
    known = strips.strip_of_file(scene, clip, first_frame)
    heard = Heard(
        clip=clip,
        sound=strips.file_mark(clip),
        first_frame=first_frame,
        frames=0,
        fps=strips.frame_rate(scene),
        start=0.0,
    )
    return known.name if known is not None else "", heard


def listen_to(plan: Plan) -> Listening:
    """`listen` to what was planned."""
    heard, sequencer = plan.heard, _sequencer(plan)
    return listen(
        heard.clip,
        heard.start,
        heard.start + heard.frames / heard.fps if heard.frames else None,
        packed=heard.packed,
        mixed=(sequencer.name, plan.strip) if heard.mixed else None,
        python=plan.python,
        device=plan.device,
        animator=plan.animator,
        template=plan.template,
        subject=plan.subject,
    )


def run(
    plan: Plan,
    listening: Listening | None = None,
    caching: dict[str, lines.New] | None = None,
) -> Generator[Progress, None, Result]:
    """Do what was planned; the scene changes in the last moment alone.

    Closing the generator cancels: the scene and the disk are then as before, as they are
    after an error.

    Args:
        listening: `listen` to this plan's sound, where it was begun before.
        caching: where the line of a mesh cache goes, by its strip, for `lines.write_cache` to
            write with others; nothing is written here.

    Raises:
        SelfTalkError: what went wrong, and what to do about it.
    """
    begun = time.monotonic()
    heard = plan.heard
    with contextlib.closing(listening or listen_to(plan)) as steps:
        said = yield from steps
    frames = math.ceil(said.motion.duration * heard.fps - 1e-6)
    if heard.frames:
        frames = min(frames, heard.frames)  # beyond the end of the file a strip is silent
    if frames == 0:
        raise SelfTalkError(f"{heard.clip.name} is too short to animate.")
    notices = list(said.notices)
    starting, waiting = max(said.ready - begun, 0.0), time.monotonic()
    yield from out_of_edit_mode([plan.face], ANIMATOR_SHARE)
    begun += time.monotonic() - waiting
    yield Progress(ANIMATOR_SHARE, "Writing")
    first, last = yield from _write(plan, said, frames, notices, caching)
    return Result(
        first_frame=first,
        frames=last - first + 1,
        seconds=frames / heard.fps,
        starting=starting,
        elapsed=time.monotonic() - begun - starting,
        notices=notices,
    )


def _write(
    plan: Plan,
    said: Listened,
    frames: int,
    notices: list[str],
    caching: dict[str, lines.New] | None,
) -> Generator[Progress, None, tuple[int, int]]:
    """Write line and strip, both or neither; returns first and last frame of the motion."""
    scene, face = again(bpy.data.scenes, plan.scene), again(bpy.data.objects, plan.face)
    if scene is None or face is None or scene.objects.get(face.name) != face:
        raise SelfTalkError("The face was removed meanwhile. Animate it again.")
    neutral, motion = None, said.motion
    if plan.template is not None:
        template, subject, fps = plan.template, plan.subject, plan.heard.fps
        now = Progress(ANIMATOR_SHARE, "Writing")
        neutral = yield from paced(aside(lambda: read_neutral(template, subject)), now)
        motion = yield from paced(aside(lambda: said.motion.at(np.arange(frames) / fps, fps)), now)
        motion = yield from _for_template(plan, scene, face, neutral, motion, notices)
    with _strip(plan, scene, notices) as strip:
        spoken = _spoken(plan, face, strip, frames, motion.duration)
        if neutral is not None:
            writing = _write_dense(plan, face, spoken, motion, neutral)
        else:
            for _ in targets.prepare(face):
                yield Progress(ANIMATOR_SHARE, "Measuring the face")
            drive = targets.drive_of(face)
            notices += drive.notices
            take = Take(motion.weights, motion.fps, said.loudness)
            if caching is not None:
                caching[plan.strip] = spoken, take
                return spoken.first_frame, spoken.first_frame + frames - 1
            if plan.cache is not None:
                writing = lines.write_cache(face, [(spoken, take)], plan.cache)
            else:
                writing = lines.write(face, drive, spoken, take)
        with contextlib.closing(writing):
            for done in writing:
                if done < 1.0:  # afterwards it is written, and no longer to be cancelled
                    yield Progress(ANIMATOR_SHARE + (1 - ANIMATOR_SHARE) * done, "Writing")
    line = lines.find(face, spoken.id)
    return tuple(line.key_range)


@contextlib.contextmanager
def _strip(plan: Plan, scene: bpy.types.Scene, notices: list[str]) -> Iterator[str]:
    """The name of the strip that plays what was planned; "" where this Blender can make none.

    A bare file gets one, which is taken back where the block fails.
    """
    had_editor = scene.sequence_editor is not None
    added = None
    try:
        name = plan.strip
        if not name:  # another press may have added one meanwhile
            known = strips.strip_of_file(scene, plan.heard.clip, plan.heard.first_frame)
            name = known.name if known is not None else ""
        if not name and compat.HAS_SOUND:
            added = strips.add_strip(scene, plan.heard.clip, plan.heard.first_frame)
            name = added.name
        elif not name:
            notices.append("This Blender is built without sound, so no sound strip was added.")
        yield name
    except BaseException:
        if added is not None:
            strips.remove_strip(scene, added)
        if not had_editor and scene.sequence_editor is not None:
            scene.sequence_editor_clear()
        raise


def _spoken(
    plan: Plan, face: bpy.types.Object, strip: str, frames: int, duration: float
) -> lines.Spoken:
    """The line that is written, in the place of that strip's earlier one."""
    heard, sequencer = plan.heard, _sequencer(plan)
    if not heard.frames:
        heard = dataclasses.replace(heard, frames=frames)
        if strip:  # its length is what says later whether it was trimmed
            heard = strips.heard(sequencer, strips.find_strip(sequencer, strip), sequencer)
    line_id = lines.find_id(face, sequencer.name, strip, heard)
    taken = heard.start, heard.start + duration
    return lines.spoken(line_id, sequencer.name, strip, heard, taken)


def _sequencer(plan: Plan) -> bpy.types.Scene:
    sequencer = again(bpy.data.scenes, plan.sequencer)
    if sequencer is None:
        raise SelfTalkError("The strip's scene was removed meanwhile. Animate another strip.")
    return sequencer


def _write_dense(
    plan: Plan,
    face: bpy.types.Object,
    spoken: lines.Spoken,
    motion: Motion,
    neutral: Neutral,
) -> Iterator[float]:
    """The one line of a face that an animator of its own moves: no take, nothing eased."""
    first = spoken.first_frame
    if plan.cache is None:
        writing = dense.write(face, motion, first, neutral)
    else:
        writing = mesh_cache.write(face, motion, first, plan.cache, neutral)
    with contextlib.closing(writing):
        for done in writing:
            if done == 1.0:
                if plan.cache is not None:
                    dense.remove(face, neutral)
                lines.keep_dense(face, spoken, (first, first + len(motion) - 1))
            yield done


def _for_template(
    plan: Plan,
    scene: bpy.types.Scene,
    face: bpy.types.Object,
    neutral: Neutral,
    motion: Motion,
    notices: list[str],
) -> Generator[Progress, None, Motion]:
    """A motion of the user's own template as it can be written, and what is to be said of it."""
    if motion.dense is None or motion.template.vertices.shape != neutral.vertices.shape:
        raise SelfTalkError(
            f"{plan.animator} does not animate the vertices of {plan.template}. Choose the "
            "template that goes with it, or none for an animator of SelfTalk's own head."
        )
    fit = correspondence(face, driven_keys(face, neutral), neutral)
    if fit.notice:
        notices.append(fit.notice)
    if plan.cache is not None:
        return motion
    whole = motion
    now = Progress(ANIMATOR_SHARE, "Making shape keys")
    motion, error = yield from paced(aside(lambda: principal_shapes(whole)), now)
    world = np.array(face.matrix_world.to_3x3()) @ fit.linear
    metres = scene.unit_settings.scale_length
    unit = abs(np.linalg.det(world)) ** (1 / 3) * metres
    notices.append(
        f"As {counted(len(motion.template.shape_names), 'shape key')}: no vertex is more than "
        f"{max(error * unit * 1000, 0.001):.2g} mm from its place. A Mesh Cache is exact."
    )
    return motion
