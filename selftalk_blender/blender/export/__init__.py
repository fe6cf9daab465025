"""Talking faces as files for other programs.

What moves by shape keys and bones (FBX, glTF, USD) is looked at frame by frame and keyed anew on a
stage, a scene of its own, which Blender's exporters then see (`stage`). Formats of moving vertices
(Alembic, USD of a mesh cache, MDD, PC2) take the scene as it is. CSV and JSON hold ARKit weights.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import bpy
from mathutils import Matrix

from ...core.curves import write_curves
from ...core.errors import SelfTalkError, operator_reason
from ...core.files import atomic_path, check_name, check_writable, part_of
from ...core.livelink import write_livelink
from ...core.progress import Progress
from ...core.steps import at_last, told
from .. import compat, lines, mesh_cache, shape_keys, strips
from ..formats import FORMATS, PRESETS, format_of, usd_name
from . import caches, curves, exporters, package, sound
from .cast import COLOURS, Cast, cast_of, left_out, over_four, uncoloured
from .stage import Sampled, sample, staged

__all__ = [
    "FORMATS",
    "PRESETS",
    "Exported",
    "check_export",
    "check_faces",
    "export",
    "exporting",
    "format_of",
    "motion_range",
]

ELSEWHERE = "Free some space or choose another folder."


@dataclass(frozen=True)
class Exported:
    """What came of an export: the files written, and sentences that the user should read."""

    files: tuple[Path, ...]
    notices: tuple[str, ...] = ()


def check_faces(context: bpy.types.Context, faces: Sequence[bpy.types.Object], suffix: str) -> None:
    """Whether faces can be exported to a file of a suffix; quick, and the disk is not touched.

    Raises:
        SelfTalkError: what stands in the way, and what to do about it.
    """
    name = format_of(suffix)
    known = FORMATS[name]
    if name in compat.NOT_BUILT:
        raise SelfTalkError(
            f"This Blender is built without {known.label}. Choose another format, or use Blender "
            "as blender.org has it."
        )
    if not faces:
        raise SelfTalkError("No face is chosen. Choose the face to export.")
    if context.mode != "OBJECT":
        raise SelfTalkError("Go to Object Mode (Tab) to export.")
    strips.check_time(context.scene)
    if len(faces) > 1 and not known.several:
        raise SelfTalkError(f"{known.label} holds one face. Export each face to a file of its own.")
    for target in faces:
        if target.type != "MESH":
            raise SelfTalkError(f"{target.name} is not a mesh. Choose the face to export.")
        if target.name not in context.view_layer.objects or not target.visible_get():
            raise SelfTalkError(f"{target.name} is hidden in this scene. Show it to export it.")
        if target.hide_select:
            raise SelfTalkError(f"{target.name} cannot be selected. Allow it in the Outliner.")
        if name in ("fbx", "glb") and mesh_cache.plays(target):
            raise SelfTalkError(
                f"{target.name} is animated by a mesh cache, which {known.label} cannot hold. "
                "Export Alembic or USD, or animate with the output Shape Keys."
            )
        keys = target.data.shape_keys
        if name in ("fbx", "glb") and keys is not None and not keys.use_relative:
            raise SelfTalkError(
                f"The shape keys of {target.name} are absolute, which {known.label} cannot hold. "
                "Tick Relative in its Shape Keys, or export Alembic."
            )
        alone = keys is not None and target.show_only_shape_key and not mesh_cache.plays(target)
        if known.holds == "VERTICES" and alone:
            raise SelfTalkError(
                f"Only one shape key of {target.name} is shown, and {known.label} holds what is "
                f"seen. Turn off {shape_keys.SOLO} (the pin in its Shape Keys panel)."
            )
        if known.holds == "WEIGHTS" and lines.written_frames(target) is not None:
            curves.check(target)


def motion_range(faces: Sequence[bpy.types.Object]) -> tuple[int, int]:
    """First and last scene frame of our motion on any of the faces.

    Raises:
        SelfTalkError: there is none, or a cache file is missing.
    """
    known = [r for r in map(lines.written_frames, faces) if r is not None]
    if not known:
        raise SelfTalkError(f"{faces[0].name} has no motion yet. Press Animate from Audio.")
    return min(first for first, _ in known), max(last for _, last in known)


def check_export(
    context: bpy.types.Context,
    faces: Sequence[bpy.types.Object],
    path: Path,
    frames: tuple[int, int] | None = None,
    preset: str = "BLENDER",
    with_parts: bool = True,
    with_sound: bool = False,
) -> tuple[int, int]:
    """Whether faces can be exported to a file; the frames that will be in it.

    Args:
        frames: first and last scene frame; by default those of our motion on the faces.
        preset, with_parts, with_sound: as for `exporting`.

    Raises:
        SelfTalkError: what stands in the way, and what to do about it.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    check_faces(context, faces, suffix)
    if preset not in PRESETS:
        raise SelfTalkError(f"{preset} is no FBX preset. Choose one of {', '.join(PRESETS)}.")
    motion = motion_range(faces)  # also says where there is none
    first, last = frames or motion
    if last < first:
        raise SelfTalkError(f"From frame {first} to {last} there is nothing. Choose other frames.")
    check_writable(path)
    if with_sound and suffix != ".usdz":
        sound.check(path)
    if suffix == ".abc":
        _check_room(context, cast_of(context, faces, with_parts), path, last - first + 1)
    if not FORMATS[format_of(suffix)].several and FORMATS[format_of(suffix)].holds == "VERTICES":
        caches.check(context, faces[0])
        need = 12 * len(faces[0].data.vertices) * (last - first + 1)
        _check_free(path, need)
    return first, last


def _check_room(context: bpy.types.Context, cast: Cast, path: Path, frames: int) -> None:
    """Refuse an Alembic file that the disk cannot hold: Blender's exporter would crash midway."""
    graph = context.evaluated_depsgraph_get()
    need = 0
    for target in cast.meshes:
        mesh = target.evaluated_get(graph).data
        # Measured: 12 bytes a vertex and frame, and once 72 a vertex for all that stands still.
        need += len(mesh.vertices) * (12 * frames + 100)
        need += len(mesh.loops) * 12 * frames * mesh.has_custom_normals
        colours = sum((c.data_type, c.domain) == COLOURS for c in mesh.color_attributes)
        need += len(mesh.loops) * 20 * colours
    _check_free(path, need)


def _check_free(path: Path, need: float) -> None:
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < need * 1.02:
        raise SelfTalkError(
            f"Cannot write {path}: it needs {need / 1e6:.0f} MB and {free / 1e6:.0f} MB are free. "
            f"{ELSEWHERE}"
        )


def export(
    context: bpy.types.Context,
    faces: Sequence[bpy.types.Object],
    path: Path,
    frames: tuple[int, int] | None = None,
    preset: str = "BLENDER",
    with_parts: bool = True,
    with_sound: bool = False,
) -> Exported:
    """`exporting` from beginning to end."""
    return at_last(exporting(context, faces, path, frames, preset, with_parts, with_sound))


def exporting(
    context: bpy.types.Context,
    faces: Sequence[bpy.types.Object],
    path: Path,
    frames: tuple[int, int] | None = None,
    preset: str = "BLENDER",
    with_parts: bool = True,
    with_sound: bool = False,
) -> Generator[Progress, None, Exported]:
    """Write faces and their motion to a file at the scene's frame rate; the suffix is the format.

    The file appears whole or not at all, also if the generator is closed. The scene's frame,
    range and selection are as before.

    Args:
        frames: first and last scene frame; by default those of our motion on the faces.
        preset: of PRESETS, for FBX.
        with_parts: also write the meshes that follow the faces and the armatures that bend them.
        with_sound: also write what is heard in these frames: as a WAV file beside it, or into it.

    Raises:
        SelfTalkError: as `check_export`; the exporter failed or the disk is full.
    """
    path = Path(path)
    first, last = check_export(context, faces, path, frames, preset, with_parts, with_sound)
    return _exporting(context, faces, path, first, last, preset, with_parts, with_sound)


def _exporting(
    context: bpy.types.Context,
    faces: Sequence[bpy.types.Object],
    path: Path,
    first: int,
    last: int,
    preset: str,
    with_parts: bool,
    with_sound: bool,
) -> Generator[Progress, None, Exported]:
    suffix = path.suffix.lower()
    name = format_of(suffix)
    heard = sound.heard_scene(context.scene, faces, first, last) if with_sound else None
    files, notices = [path], []
    # A glTF begins at 0 seconds, and Blender's USD exporter knows no frame before 0.
    start = 0 if name == "glb" else max(first, 0) if name == "usd" else first
    if name == "usd" and start != first and suffix != ".usdz":
        notices.append(
            f"Blender's USD exporter knows no frame before 0: frame {first} of the scene is frame "
            "0 of the file."
        )
    if with_sound and not compat.HAS_SOUND:
        notices.append("This Blender was built without sound; the file has none.")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_as_before(context.scene))
        temporary = stack.enter_context(atomic_path(path))
        track = None
        if heard is not None:
            if suffix == ".usdz":
                folder = stack.enter_context(tempfile.TemporaryDirectory(dir=path.parent))
                track = Path(folder) / "sound.wav"
            else:
                track = stack.enter_context(atomic_path(sound.beside(path)))
                files.append(sound.beside(path))
            yield Progress(0.0, "Mixing the sound")
            sound.write(*heard, track)
        job = _Job(context, faces, temporary, path, first, last, start, track)
        if FORMATS[name].holds == "WEIGHTS":
            yield from job.weights(name, notices)
        elif name in ("mdd", "pc2"):
            for done in caches.write(context, faces[0], temporary, suffix, first, last):
                yield Progress(0.1 + 0.9 * done, "Writing")
        elif name == "abc" or (name == "usd" and _as_points(faces)):
            cast = cast_of(context, faces, with_parts)
            notices += uncoloured(cast) if name == "abc" else []
            if name == "abc" or (start == first and _in_metres(context.scene)):
                job.seen(cast, name)
            else:
                yield from job.points(cast, stack)
        else:
            yield from job.shapes(cast_of(context, faces, with_parts), name, preset, notices)
    return Exported(tuple(files), tuple(notices))


def _as_points(faces: Sequence[bpy.types.Object]) -> bool:
    """Whether vertices move that no shape key does."""
    return any(
        mesh_cache.plays(face)
        or (face.data.shape_keys is not None and not face.data.shape_keys.use_relative)
        for face in faces
    )


def _in_metres(scene: bpy.types.Scene) -> bool:
    """Whether Blender's USD exporter writes the scene's size as it is; newer ones call any unit a
    metre."""
    return abs(scene.unit_settings.scale_length - 1.0) < 1e-6 or compat.usd_knows_units()


@dataclass(frozen=True)
class _Job:
    """An export under way: faces and frames into a temporary file, for its final path.

    `start` is the first frame of the file; `track` is its sound, written already, or None.
    """

    context: bpy.types.Context
    faces: Sequence[bpy.types.Object]
    temporary: Path
    path: Path
    first: int
    last: int
    start: int
    track: Path | None

    def weights(self, name: str, notices: list[str]) -> Iterator[Progress]:
        face, scene = self.faces[0], self.context.scene
        reading = curves.weights_of(self.context, face, self.first, self.last)
        weights, head, said = yield from told(
            reading, lambda done: Progress(0.1 + 0.8 * done, "Reading the motion")
        )
        notices += said
        if name == "csv":
            write_livelink(self.temporary, weights, head, self.first, strips.frame_rate(scene))
            return
        rate = scene.render.fps, scene.render.fps_base
        track = sound.beside(self.path).name if self.track is not None else ""
        write_curves(self.temporary, weights, head, self.first, rate, face.name, track)

    def seen(self, cast: Cast, name: str) -> None:
        """Alembic, or USD of moving points: the scene itself, with these objects selected."""
        with _only(self.context, cast.meshes, self.first, self.last):
            if name == "abc":
                self._run(lambda: exporters.write_alembic(self.temporary, self.first, self.last))
            else:
                self._usd(points=True, selected=True)

    def points(self, cast: Cast, stack: contextlib.ExitStack) -> Iterator[Progress]:
        """USD of moving points as the scene does not have them: in metres, at other frames."""
        found = []
        for number, mesh in enumerate(cast.meshes):
            cache = stack.enter_context(part_of(self.path.with_suffix(".mdd")))
            check_name(cache)  # of what cannot be opened a mesh would just not move
            for done in caches.write_placed(self.context, mesh, cache, self.first, self.last):
                share = (number + done) / len(cast.meshes)
                yield Progress(0.1 + 0.6 * share, "Reading the motion")
            still = [Matrix()] * (self.last - self.first + 1)
            found.append(Sampled(mesh, places=still, cache=cache))
        yield Progress(0.75, f"Writing {self.path.name}")
        with staged(self.context, found, self.start, self.path.stem, rename=usd_name):
            self._usd(points=True)

    def shapes(self, cast: Cast, name: str, preset: str, notices: list[str]) -> Iterator[Progress]:
        """FBX, glTF, or USD with blend shapes: from the stage."""
        notices += left_out(cast) + (over_four(cast) if name == "glb" else [])
        found = yield from told(
            sample(self.context, cast, self.first, self.last),
            lambda done: Progress(0.1 + 0.6 * done, "Reading the motion"),
        )
        yield Progress(0.75, f"Writing {self.path.name}")
        metre = self.context.scene.unit_settings.scale_length
        basis: Matrix = Matrix.Scale(metre, 4)
        rename: Callable[[str], str] = str
        if name == "fbx":
            basis, rename = basis @ PRESETS[preset].basis, PRESETS[preset].rename
        elif name == "usd":
            rename = usd_name  # its exporter would give two shape keys one name
        with staged(self.context, found, self.start, self.path.stem, basis, rename) as stage:
            if name == "fbx":
                span = self.first, self.last, strips.frame_rate(self.context.scene)
                self._run(lambda: exporters.write_fbx(self.temporary, PRESETS[preset], *span))
            elif name == "glb":
                self._run(lambda: exporters.write_gltf(self.temporary, stage))
            else:
                self._usd(points=False)

    def _usd(self, points: bool, selected: bool = False) -> None:
        frames = self.last - self.first + 1
        if self.temporary.suffix != ".usdz":
            self._run(lambda: exporters.write_usd(self.temporary, selected, not points, False))
            if self.temporary.suffix == ".usda" and self.track is not None:
                package.add_sound(self.temporary, sound.beside(self.path).name, self.start, frames)
            return
        with tempfile.TemporaryDirectory(dir=self.path.parent) as name:
            folder = Path(name)
            layer = folder / "face.usdc"
            self._run(lambda: exporters.write_usd(layer, selected, not points, True), layer)
            if self.track is not None:
                shutil.copyfile(self.track, folder / "sound.wav")
            fps = strips.frame_rate(self.context.scene)
            track = "sound.wav" if self.track is not None else ""
            # Of the scene itself the exporter writes the unit, if it is not a metre.
            metre = self.context.scene.unit_settings.scale_length if selected else 1.0
            package.write_package(
                self.temporary,
                folder,
                layer.name,
                self.start,
                track,
                self.first,
                frames,
                fps,
                metre,
            )

    def _run(self, write: Callable[[], set[str]], made: Path | None = None) -> None:
        """Have an exporter write the temporary file, or another that is `made`.

        Raises:
            SelfTalkError: it failed, or the file is not whole.
        """
        try:
            finished = write()
        except RuntimeError as error:
            reason = operator_reason(error)
            # Blender keeps the exporter's traceback, and so its file stays open, which Windows
            # would not remove. That the exporter does not close it is no news to anyone.
            with warnings.catch_warnings(action="ignore", category=ResourceWarning):
                for name in ("last_traceback", "last_value", "last_exc"):
                    if hasattr(sys, name):
                        delattr(sys, name)
            raise SelfTalkError(f"Cannot write {self.path}: {reason}. {ELSEWHERE}") from error
        if "FINISHED" not in finished or not _is_whole(made or self.temporary):
            raise SelfTalkError(f"Cannot write {self.path}. {ELSEWHERE}")


def _is_whole(path: Path) -> bool:
    """Whether an exporter finished a file; some of them do not say when the disk was full."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        size = path.stat().st_size
        head = file.read(12)
        if path.suffix == ".abc":
            return head.startswith(b"Ogawa") and head[5] == 0xFF  # set when the archive is closed
        if path.suffix == ".fbx":
            return head.startswith(b"Kaydar")
        if path.suffix == ".glb":
            return head.startswith(b"glTF") and int.from_bytes(head[8:], "little") == size
        if head.startswith(b"#usda"):
            file.seek(max(size - 64, 0))
            return file.read().rstrip().endswith(b"}")
        if head.startswith(b"PXR-USDC"):
            file.seek(16)  # where the table of contents is, which is written last
            file.seek(int.from_bytes(file.read(8), "little"))
            sections = int.from_bytes(file.read(8), "little")
            return sections > 0 and file.tell() + 32 * sections <= size
    return False


@contextlib.contextmanager
def _as_before(scene: bpy.types.Scene) -> Iterator[None]:
    """Have the scene at the frame at which it is now, after a block."""
    frame, subframe = scene.frame_current, scene.frame_subframe
    try:
        yield
    finally:
        scene.frame_set(frame, subframe=subframe)


@contextlib.contextmanager
def _only(
    context: bpy.types.Context, meshes: Sequence[bpy.types.Object], first: int, last: int
) -> Iterator[None]:
    """Have only these objects selected and only these frames in the scene, for a block."""
    scene, layer = context.scene, context.view_layer
    selected, active = list(context.selected_objects), layer.objects.active
    locked = [target for target in meshes if target.hide_select]
    start, end = scene.frame_start, scene.frame_end
    preview = scene.use_preview_range
    try:
        for other in selected:
            other.select_set(False)
        for target in locked:
            target.hide_select = False
        for target in meshes:
            target.select_set(True)
        layer.objects.active = meshes[0]
        scene.use_preview_range = False
        scene.frame_start, scene.frame_end = first, last
        yield
    finally:
        scene.frame_start, scene.frame_end = start, end
        scene.use_preview_range = preview
        for target in meshes:
            target.select_set(False)
        for target in locked:
            target.hide_select = True
        for other in selected:
            other.select_set(True)
        layer.objects.active = active
