"""An hour of 44.1 kHz stereo through the animator: prints time and memory.

.venv/bin/python -m benchmarks.long_clip [--minutes 60] [--lane numpy]

The sample clip is repeated into a WAV file, and animated on the CPU. Memory is the process's peak
resident size over what it was once the animator was loaded and had animated a few seconds.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from selftalk_blender.core.template import ASSETS
from selftalk_blender.worker.lanes import load_animator

RATE = 44100


def peak() -> float:
    """Largest resident size of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--lane", choices=("torch", "numpy"), default="torch")
    options = parser.parse_args()
    minutes = options.minutes
    if options.lane == "numpy":
        sys.modules["torch"] = None  # type: ignore[assignment]  # it cannot be imported now
    begin = time.perf_counter()
    animator = load_animator(device="cpu")
    loading = time.perf_counter() - begin
    animator.animate_file(ASSETS / "sample.ogg")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.wav"
        mono, rate = soundfile.read(ASSETS / "sample.ogg", dtype="float32")
        places = np.arange(len(mono) * RATE // rate) * rate / RATE
        mono = np.interp(places, np.arange(len(mono)), mono)
        with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
            for _ in range(int(minutes * 60 * RATE / len(mono)) + 1):
                file.write(np.stack([mono, mono], 1))
        before = peak()
        begin = time.perf_counter()
        motion = animator.animate_file(path)
        taken = time.perf_counter() - begin
    print(f"load                 {loading:10.2f} s")
    print(f"sound                {motion.duration:10.0f} s")
    print(f"animated in          {taken:10.1f} s")
    print(f"times real time      {motion.duration / taken:10.1f}")
    print(f"memory, loaded       {before:10.0f} MB")
    print(f"memory, more         {peak() - before:10.0f} MB")


if __name__ == "__main__":
    main()
