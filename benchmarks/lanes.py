"""The two lanes beside each other: PyTorch and numpy alone, on the CPU; prints times.

.venv/bin/python -m benchmarks.lanes [--seconds 120] [--runs 3]

The sample clip is repeated. Both run by turns in one process; numpy also as if it had no BLAS, as
Blender's own has none. "First motion" is a new process until it has animated the sample clip, as
the first click of a session waits for it, by the Python that runs this.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from selftalk_blender.animator import load_animator
from selftalk_blender.animator.audio import read_sound
from selftalk_blender.core.template import ASSETS
from selftalk_blender.runtime import product
from selftalk_blender.runtime.animate import Animator

FIRST = """
import sys
if sys.argv[1] == "numpy":
    sys.modules["torch"] = None
from selftalk_blender.worker.lanes import load_animator
load_animator(device="cpu").animate_file(sys.argv[2])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    speech = np.resize(read_sound(ASSETS / "sample.ogg"), round(options.seconds * 16000))
    runtime, fast = Animator(), load_animator(device="cpu")

    def without_blas() -> None:
        product.blas = lambda: False
        try:
            runtime.animate(speech)
        finally:
            product.blas = with_blas

    with_blas = product.blas
    lanes: dict[str, Callable[[], object]] = {
        "PyTorch": lambda: fast.animate(speech, 16000),
        "numpy": lambda: runtime.animate(speech),
        "numpy without BLAS": without_blas,
    }
    times: dict[str, list[float]] = {name: [] for name in lanes}
    for _ in range(options.runs):
        for name, animate in lanes.items():
            begun = time.perf_counter()
            animate()
            times[name].append(time.perf_counter() - begun)
    lips = runtime.template.shape_deltas[:, runtime.template.regions["lips"]] * 1000
    ours, theirs = runtime.animate(speech).weights, fast.animate(speech, 16000).weights
    apart = np.linalg.norm(np.tensordot(ours - theirs, lips, 1), axis=-1).max()
    print(f"{options.seconds:g} s of speech, {os.cpu_count()} cores; lips {apart:.1e} mm apart")
    print(f"{'':20}{'seconds':>10}{'times real time':>18}{'first motion':>15}")
    for name, taken in times.items():
        middle = statistics.median(taken)
        lane = {"PyTorch": "torch", "numpy": "numpy"}.get(name)
        first = f"{first_motion(lane):13.2f} s" if lane else ""
        print(f"{name:20}{middle:10.2f}{options.seconds / middle:18.1f}{first}")


def first_motion(lane: str) -> float:
    """Seconds from the start of a process to the motion of the sample clip; the second of two."""
    command = [sys.executable, "-c", FIRST, lane, str(ASSETS / "sample.ogg")]
    for _ in range(2):
        begun = time.perf_counter()
        subprocess.run(command, check=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
