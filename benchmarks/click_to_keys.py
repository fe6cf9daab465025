"""From the click on Animate from Audio to keys on the timeline: prints times.

.venv/bin/python -m benchmarks.click_to_keys [--seconds 60] [--runs 5]

The sample clip, repeated, lies in the sequencer as a strip. The job runs as it does behind a
window, in turns of one timer tick, only without a window. "Held" is the longest that the window
would have stood still at once; the click itself counts, too.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import bpy  # first: it fills sys.path
import numpy as np
import soundfile

import selftalk_blender
from selftalk_blender.blender import compat, jobs, operators, strips, use_next
from selftalk_blender.core.template import ASSETS
from selftalk_blender.worker import STARTING, client


def click() -> tuple[float, float, float]:
    """Press the button and wait.

    Returns:
        Seconds until the keys are there, seconds until the animator was ready, and the longest
        that the window was held.
    """
    begun = time.perf_counter()
    job = jobs.Job(operators.SELFTALK_OT_animate_from_audio.steps(Pressed(), bpy.context))
    longest = time.perf_counter() - begun
    ready = 0.0
    while True:
        turn = time.perf_counter()
        try:
            job.advance()
        except StopIteration:
            end = time.perf_counter()
            return end - begun, ready, max(longest, end - turn)
        now = time.perf_counter()
        longest = max(longest, now - turn)
        if job.progress.text == STARTING:
            ready = now - begun
        if job.progress.waiting:
            time.sleep(jobs.TICK)


class Pressed:
    """What the operator keeps of a press."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    selftalk_blender.register()
    while use_next():  # as a window does before anyone can click
        pass
    bpy.ops.selftalk.add_face()
    scene = bpy.context.scene
    settings = scene.selftalk
    print(f"{options.seconds:g} s of speech at {strips.frame_rate(scene):g} frames per second")
    print(f"{'':24}{'click to keys':>14}{'of it starting':>16}{'window held':>13}")
    with tempfile.TemporaryDirectory() as folder:
        samples, rate = soundfile.read(ASSETS / "sample.ogg", dtype="float32")
        path = Path(folder) / "speech.wav"
        soundfile.write(path, np.resize(samples, round(options.seconds * rate)), rate)
        if compat.HAS_SOUND:
            settings.sound_strip = strips.add_strip(scene, path, 1).name
        else:
            settings.sound_file = str(path)
        settings.face.selftalk.cache_folder = folder
        for output, name in (("SHAPE_KEYS", "shape keys"), ("MESH_CACHE", "mesh cache")):
            settings.face.selftalk.output = output
            client.stop_workers()
            cold = click()
            warm = [click() for _ in range(options.runs)]
            middle = [statistics.median(column) for column in zip(*warm, strict=True)]
            for kind, (total, ready, held) in (
                ("cold", cold),
                ("warm", (middle[0], middle[1], max(run[2] for run in warm))),
            ):
                print(
                    f"{name + ', ' + kind:24}{total:12.2f} s{ready:14.2f} s{1000 * held:10.0f} ms"
                )
    selftalk_blender.unregister()


if __name__ == "__main__":
    main()
