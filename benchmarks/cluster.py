"""Clips per minute on one and on two nodes of a Ray cluster.

    python -m benchmarks.cluster

The nodes are on this machine, with half of its cores each. So this tells what the cluster itself
costs, not what a second machine brings: with enough cores two nodes do twice the clips of one.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import soundfile

from selftalk_blender.batch import manifest
from selftalk_blender.batch.cluster import Cluster
from selftalk_blender.batch.supervisor import Supervisor
from selftalk_blender.batch.task import Settings, Task
from selftalk_blender.core.template import ASSETS

CLIPS = 24
SECONDS = 4.0
ROOT = Path(__file__).resolve().parents[1]


class Times:
    """A report that knows when clips ended."""

    def __init__(self) -> None:
        self.ended_at: list[float] = []

    def step(self, place: str, done: float, text: str) -> None:
        pass

    def notice(self, text: str) -> None:
        print(text)

    def ended(self, line: manifest.Line, skipped: bool) -> None:
        assert line["error"] is None, line["error"]
        self.ended_at.append(time.monotonic())


def main() -> None:
    """Print the table."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    from ray.cluster_utils import Cluster as Nodes

    small = {"object_store_memory": 80 * 1024 * 1024}
    sound, rate = soundfile.read(ASSETS / "sample.ogg")
    print("| nodes | clips a minute | of them warm |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        clips = []
        for number in range(CLIPS):
            clips.append(Path(name, f"{number:02d}.wav"))
            part = sound[number * rate // 50 :][: int(SECONDS * rate)]
            soundfile.write(clips[-1], part, rate)
        for count in (1, 2):
            os.environ["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // 2))
            nodes = Nodes(
                initialize_head=True,
                head_node_args={"num_cpus": 0, "include_dashboard": False, **small},
            )
            for _ in range(count):
                nodes.add_node(num_cpus=1, **small)
            out, times = Path(name, f"out{count}"), Times()
            begun = time.monotonic()
            todo = [Task(str(c), str(out), c.stem, Settings(("fbx",))) for c in clips]
            Supervisor(out, 1, times, crew=Cluster(nodes.address, 1)).run(todo)
            took, first = times.ended_at[-1] - begun, times.ended_at[2 * count - 1]
            warm = 60 * (CLIPS - 2 * count) / (times.ended_at[-1] - first)
            print(f"| {count} | {60 * CLIPS / took:.0f} | {warm:.0f} |", flush=True)
            nodes.shutdown()


if __name__ == "__main__":
    main()
