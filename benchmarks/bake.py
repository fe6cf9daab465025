"""Clips per minute of `selftalk bake` with 1, 2 and 4 jobs, and what listening ahead saves.

.venv/bin/python -m benchmarks.bake [--clips 12] [--seconds 5] [--formats fbx,abc] [--jobs 1,2,4]

All rows are the same clips (pieces of the sample, each another). The rows take turns in each of the
rounds, and the best of the rounds is printed: other work on the machine only ever makes it slower.
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
    f"from {process.PACKAGE.name}.blender import bake; bake.listen = lambda *_: None; "
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
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    kinds: list[tuple[str, int, list[str] | None]] = [
        ("one by one", 1, [*process.command()[:2], ONE_BY_ONE])
    ]
    kinds += [(f"{n} job{'s' * (n > 1)}", n, None) for n in map(int, options.jobs.split(","))]
    best: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sound, rate = soundfile.read(ASSETS / "sample.ogg", dtype="float32")
        for number in range(options.clips):
            piece = np.roll(np.tile(sound, 20), number * rate // 7)
            soundfile.write(folder / f"{number}.wav", piece[: int(options.seconds * rate)], rate)
        for number in range(options.rounds):
            for title, jobs, command in kinds:
                taken = bake(folder, folder / f"{title} {number}", options, jobs, command)
                best[title] = tuple(map(min, taken, best.get(title, taken)))  # type: ignore[arg-type]
    print("                 clips   seconds   a minute   a minute, warm")
    for title, jobs, _ in kinds:
        whole, warm = best[title]
        pace = 60 * options.clips / whole, 60 * (options.clips - jobs) / warm
        print(f"{title:15} {options.clips:6} {whole:9.1f} {pace[0]:10.1f} {pace[1]:16.1f}")


def bake(
    folder: Path, out: Path, options: argparse.Namespace, jobs: int, command: list[str] | None
) -> tuple[float, float]:
    """Bake all clips; seconds from the beginning, and from when each job had done a clip."""
    tasks = [
        Task(str(folder / f"{n}.wav"), str(out), str(n), Settings(options.formats))
        for n in range(options.clips)
    ]
    ends = Ends()
    begin = time.perf_counter()
    Supervisor(out, jobs, ends, command=command).run(tasks)
    return ends.at[-1] - begin, ends.at[-1] - ends.at[jobs - 1]


if __name__ == "__main__":
    main()
