"""Clips per minute of `selftalk bake` with 1, 2 and 4 jobs, and what listening ahead saves.

.venv/bin/python -m benchmarks.bake [--clips 12] [--seconds 5] [--formats fbx,abc] [--jobs 1,2,4]

All rows are the same clips (pieces of the sample, each another), one after the other in this run.
"one by one" is a child that listens to a clip only when the one before is written. The first clips
of each job, for which Blender and the animator start, are not counted in "warm".
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from selftalk_blender.batch import process
from selftalk_blender.batch.manifest import Line
from selftalk_blender.batch.supervisor import Supervisor
from selftalk_blender.batch.task import Settings, Task, formats
from selftalk_blender.core.template import ASSETS

ONE_BY_ONE = process.ENTRY.replace(
    f"from {process.PACKAGE.name}.batch.child import main",
    f"from {process.PACKAGE.name}.blender import bake; bake.listen = lambda task: None; "
    f"from {process.PACKAGE.name}.batch.child import main",
)


class Ends:
    """A report that notes when each clip ended."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def step(self, place: str, done: float, text: str) -> None:
        pass

    def ended(self, line: Line, skipped: bool) -> None:
        assert line["error"] is None, line["error"]
        self.at.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--formats", type=formats, default=("fbx", "abc"))
    parser.add_argument("--jobs", default="1,2,4")
    options = parser.parse_args()
    print("                 clips   seconds   a minute   a minute, warm")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound, rate = soundfile.read(ASSETS / "sample.ogg", dtype="float32")
        for number in range(options.clips):
            piece = np.roll(np.tile(sound, 20), number * rate // 7)
            soundfile.write(folder / f"{number}.wav", piece[: int(options.seconds * rate)], rate)
        row("one by one", folder, options, 1, [*process.command()[:2], ONE_BY_ONE])
        for jobs in map(int, options.jobs.split(",")):
            row(f"{jobs} job{'s' * (jobs > 1)}", folder, options, jobs, None)


def row(
    title: str, folder: Path, options: argparse.Namespace, jobs: int, command: list[str] | None
) -> None:
    """Bake all clips and print how long it took."""
    out = folder / title
    tasks = [
        Task(str(folder / f"{n}.wav"), str(out), str(n), Settings(options.formats))
        for n in range(options.clips)
    ]
    ends = Ends()
    begin = time.perf_counter()
    Supervisor(out, jobs, ends, command=command).run(tasks)
    taken = ends.at[-1] - begin
    warm = 60 * (len(tasks) - jobs) / (ends.at[-1] - ends.at[jobs - 1])
    print(
        f"{title:15} {len(tasks):6} {taken:9.1f} {60 * len(tasks) / taken:10.1f} {warm:16.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
