"""Run this to take the pictures of the window in docs/ anew; minutes, for software draws it.

    .venv/bin/python tests/window/debian.py
    .venv/bin/python tests/window/photograph.py

Takes panel.png, animate.png, dialogue.png, export.png, adjust-panel.png, mapping.png and
preferences.png. Inside Blender this file is what acts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import bpy

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DOCS = ROOT / "docs"
CLIP = ROOT / "selftalk_blender" / "assets" / "sample.ogg"
FEW_COLORS = ("-strip", "+dither", "-colors", "128")
WHOLE = "1057x748+0+28"  # the 3D View and the timeline
SIDEBAR = "262x{height}+774+{top}"  # of it
# Session -> the panels that are open in it; None: as they are at first.
SESSIONS = {
    "panel": None,
    "dialogue": {"SELFTALK_PT_audio", "SELFTALK_PT_dialogue"},
    "export": {"SELFTALK_PT_export"},
    "mapping": {"SELFTALK_PT_face", "SELFTALK_PT_shapes"},
    "adjust": {"SELFTALK_PT_adjust", "SELFTALK_PT_regions", "SELFTALK_PT_eyes_brows"},
    "preferences": None,
}
INSTALLED = "preferences"  # the session of the extension as users have it


def main() -> None:
    """Open a screen and the window, and wait until the pictures are taken."""
    sys.path.insert(0, str(ROOT))
    import soundfile

    from tests.window import debian

    read, write = os.pipe()
    screen = debian.inside("Xvfb", "-displayfd", str(write), "-screen", "0", "1280x800x24")
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(screen, pass_fds=[write]) as server,
    ):
        os.close(write)
        with os.fdopen(read) as number:
            display = f":{number.readline().strip()}"
        samples, rate = soundfile.read(CLIP)
        soundfile.write(f"{folder}/sample.wav", samples, rate)  # Debian's Blender reads WAV alone
        environment = {
            **os.environ,
            "DISPLAY": display,
            "LIBGL_ALWAYS_SOFTWARE": "1",
            "HOME": folder,
            "BLENDER_USER_RESOURCES": f"{folder}/resources",
        }
        for name in ("PYTHONPATH", "SELFTALK_PYTHON"):
            environment.pop(name, None)
        for session in sys.argv[1:] or SESSIONS:
            blender = ["blender", "--factory-startup"]
            if session == INSTALLED:
                install(folder, environment)
                blender = ["blender"]
            command = debian.inside(
                *(*blender, "-p", "0", "0", "1280", "800"),
                *("-P", Path(__file__).resolve(), "--", session, folder),
            )
            subprocess.run(command, env=environment, check=True)
        server.terminate()


def install(folder: str, environment: dict[str, str]) -> None:
    """Install the extension, built anew."""
    from tests.window import debian

    build = [sys.executable, str(ROOT / "tools" / "build_extension.py"), f"{folder}/dist"]
    subprocess.run(build, check=True, capture_output=True)
    (package,) = Path(folder, "dist").glob("*.zip")
    options = ("--command", "extension", "install-file", "-r", "user_default", "--enable")
    subprocess.run(debian.inside("blender", *options, package), env=environment, check=True)


def take(name: str, region: str) -> None:
    """A picture of a part of the screen."""
    import hands

    hands.picture(f"PNG8:{DOCS / name}", "-crop", region, "+repage", *FEW_COLORS)


def steps() -> Iterator[float]:
    """What is photographed; yields seconds to wait for the window."""
    import bpy
    import hands

    session, folder = sys.argv[-2:]
    yield from hands.open_tab("SelfTalk")
    yield 0.5
    bpy.ops.selftalk.add_face()
    hands.look_at(0.35)
    bpy.context.scene.selftalk.sound_file = f"{folder}/sample.wav"
    yield from globals()[session](bpy.context.scene, folder)


def finished() -> Iterator[float]:
    """Until all jobs are."""
    from selftalk_blender.blender import jobs

    while jobs.running is not None or jobs.waiting:
        yield 0.1
    yield 1.0


def panel(scene: bpy.types.Scene, folder: str) -> Iterator[float]:
    """While it animates, and the widest open mouth."""
    import bpy

    from selftalk_blender.blender import compat, jobs

    bpy.ops.selftalk.animate_from_audio("INVOKE_DEFAULT")
    while jobs.running is not None and jobs.running.progress.done < 0.3:
        yield 0.02
    yield 0.3
    take("animate.png", SIDEBAR.format(top=80, height=480))
    yield from finished()
    face, strip = scene.selftalk.face, compat.editor_strips(scene.sequence_editor)[0]
    scene.selftalk.sound_strip, scene.frame_end = strip.name, strip.frame_final_end
    jaw, widest = face.data.shape_keys.key_blocks["jawOpen"], {}
    for frame in range(1, scene.frame_end):
        scene.frame_set(frame)
        widest[frame] = jaw.value
    scene.frame_set(max(widest, key=widest.__getitem__))
    face.select_set(False)
    bpy.context.area.spaces[0].shading.type = "MATERIAL"  # the iris is in the nodes
    yield 240.0  # software compiles its shaders
    take("panel.png", WHOLE)


def export(scene: bpy.types.Scene, folder: str) -> Iterator[float]:
    """Once the face has a motion."""
    import bpy

    bpy.ops.selftalk.animate_from_audio("INVOKE_DEFAULT")
    yield from finished()
    take("export.png", SIDEBAR.format(top=188, height=205))


def adjust(scene: bpy.types.Scene, folder: str) -> Iterator[float]:
    """Where blinks are on."""
    scene.selftalk.face.selftalk.controls.use_blinks = True
    yield 1.0
    take("adjust-panel.png", SIDEBAR.format(top=170, height=488))


def mapping(scene: bpy.types.Scene, folder: str) -> Iterator[float]:
    """Of a face that is not the bundled one any more, by its vertices and its shapes' names."""
    import bmesh
    import bpy

    face = scene.selftalk.face
    bpy.ops.object.mode_set(mode="EDIT")
    mesh = bmesh.from_edit_mesh(face.data)
    mesh.verts.remove(max(mesh.verts, key=lambda vertex: vertex.co.z))
    bmesh.update_edit_mesh(face.data)
    bpy.ops.object.mode_set(mode="OBJECT")
    for key in face.data.shape_keys.key_blocks[1:]:
        key.name = f"Ann_{key.name}"
    bpy.ops.selftalk.analyse_face()
    yield 1.0
    take("mapping.png", SIDEBAR.format(top=80, height=420))


def preferences() -> Iterator[float]:
    """The extension's own, in the window that they open."""
    import bpy

    yield 2.0
    with bpy.context.temp_override(window=bpy.context.window_manager.windows[0]):
        bpy.ops.preferences.addon_show(module="bl_ext.user_default.selftalk_blender")
    yield 5.0
    take("preferences.png", "506x272+472+386")


def dialogue(scene: bpy.types.Scene, folder: str) -> Iterator[float]:
    """Two speakers; one of their strips is moved, one is muted."""
    import bpy
    import hands

    from selftalk_blender.blender import compat

    for name, place in (("Bob", 0.3), ("Anna", 0.0)):
        if name == "Anna":
            bpy.ops.selftalk.add_face()
        face = scene.selftalk.face
        face.name, face.location.x = name, place
    bpy.ops.object.select_all(action="SELECT")
    hands.look_at(0.0)
    bpy.ops.object.select_all(action="DESELECT")
    strips = compat.editor_strips(scene.sequence_editor_create())
    for number in range(5):
        name = f"{('anna', 'bob')[number % 2]}_{1 + number // 2:02}"
        shutil.copy(f"{folder}/sample.wav", f"{folder}/{name}.wav")
        strips.new_sound(name, f"{folder}/{name}.wav", 1 + number % 2, 1 + 140 * number)
    scene.selftalk.sound_strip = "anna_02"
    bpy.ops.selftalk.animate_all("INVOKE_DEFAULT")
    yield from finished()
    strips["anna_02"].frame_start += 10
    strips["bob_02"].mute = True
    scene.selftalk.listed_strip = [strip.name for strip in strips].index("anna_02")
    yield 2.0
    take("dialogue.png", "640x600+420+28")


def end(fault: str) -> None:
    print(fault, file=sys.stderr, flush=True)
    os._exit(bool(fault))


def register(opened: set[str] | None) -> None:
    """Have the panels of this repository, of which some are open."""
    import bpy

    import selftalk_blender
    from selftalk_blender.blender import interface

    for cls in interface.CLASSES:
        if opened is not None and issubclass(cls, bpy.types.Panel):
            others = getattr(cls, "bl_options", set()) - {"DEFAULT_CLOSED"}
            cls.bl_options = others if cls.__name__ in opened else others | {"DEFAULT_CLOSED"}
    selftalk_blender.register()


if __name__ == "__main__":
    if "bpy" in sys.modules:
        sys.path.insert(0, str(HERE))
        import hands

        if sys.argv[-2] == INSTALLED:
            hands.run(preferences, end)
        else:
            register(SESSIONS[sys.argv[-2]])
            hands.run(steps, end)
    else:
        main()
