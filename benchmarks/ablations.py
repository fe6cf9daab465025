"""The paper's ablations on the bundled head's data, and what speech without faces buys.

    python -m benchmarks.ablations configs/bundled.toml [--steps N] [--seeds N] [--only NAME ...]

Every run has the paper's four terms alone, on recorded faces, and is measured on the held-out
ones; a second lip reader, which no animator learned from, is the judge. Results are kept as JSON
beside the runs, so that the command goes on where it stopped. It prints Markdown tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from selftalk_blender.core import bundled_template
from selftalk_blender.core.files import atomic_path
from selftalk_blender.training.config import LossWeights, TrainConfig, load_config
from selftalk_blender.training.evaluate import evaluate
from selftalk_blender.training.loop import Loop
from selftalk_blender.training.reader import load_reader, train_reader
from selftalk_blender.training.recogniser import PhoneRecogniser, cached_lessons
from selftalk_blender.training.train import Run, show

PAPER = LossWeights(
    vertices=1.0, velocity=1.0, gap=0.0, closure=0.0, width=0.0, weights=0.1, consistency=0.0,
    contact=0.0, latent=1.0, text=0.2,
)  # fmt: skip
ALONE = {"latent": 0.0, "text": 0.0}
# name -> loss terms and settings that differ from the full system
ABLATIONS: dict[str, tuple[dict[str, float], dict[str, Any]]] = {
    "full": ({}, {}),
    "without velocity": ({"velocity": 0.0}, {}),
    "without latent": ({"latent": 0.0}, {}),
    "without text": ({"text": 0.0}, {}),
    "animator alone": ({**ALONE, "velocity": 0.0}, {}),
    "one layer over the whole clip, as the paper": ({}, {"reach": 0, "layers": 1, "width": 352}),
    "a tenth of the faces": (ALONE, {"faces": 0.1}),
    "a tenth of the faces, diagram": ({}, {"faces": 0.1}),
    "a tenth of the faces, diagram and speech without faces": ({}, {"faces": 0.1, "speech": True}),
}
COLUMNS = {
    "lip vertex error, mm": "grid lip vertex error, mm",
    "gap correlation": "grid gap correlation, all frames",
    "width correlation": "grid width correlation",
    "amplitude": "grid amplitude",
    "p/b/m closed": "grid p/b/m closed",
    "FDD, mm": "grid upper-face deviation (FDD), mm",
    "reader's phone errors": "grid lip-reader error",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="where data and encoder are; its output folder is used")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=ABLATIONS, default=list(ABLATIONS))
    options = parser.parse_args()
    base = dataclasses.replace(
        load_config(options.config), start="", speech=False, precision="bf16", batch=8, warmup=50,
        steps=(options.steps,), validate_every=10**9, average=0.99,
    )  # fmt: skip
    folder = Path(base.output)
    judge = a_judge(base)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for name in options.only:
            path = folder / "ablations" / f"{name}, {options.steps} steps, seed {seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                terms, settings = ABLATIONS[name]
                config = dataclasses.replace(
                    base, loss=dataclasses.replace(PAPER, **terms), **settings
                )
                results = one(config, seed, judge, path.with_suffix(""))
                with atomic_path(path) as temporary:
                    temporary.write_text(json.dumps(results, indent=1))
            found.setdefault(name, []).append(json.loads(path.read_text("utf-8")))
            print(table(found), flush=True)


def a_judge(config: TrainConfig) -> Any:
    """A lip reader of another seed than the one that teaches."""
    path = Path(config.output) / "judge.safetensors"
    template = bundled_template()
    if not path.exists():
        run = Run(config)
        recogniser = PhoneRecogniser(config.recogniser)
        lessons = cached_lessons(
            recogniser, config.recogniser, run.corpus, run.output / "cache",
            lambda done: show("recognising speech", done),
        )  # fmt: skip
        train_reader(
            template, run.corpus, lessons, recogniser.tokens, config.reader_steps, 1000,
            config.precision, show,
        ).save(path)  # fmt: skip
    return load_reader(path, template)


def one(config: TrainConfig, seed: int, judge: Any, folder: Path) -> dict[str, float]:
    """Train once and measure."""
    run = Run(dataclasses.replace(config, seed=seed))
    run.prepare()
    begin = time.process_time()
    loop = Loop(run, run.settings(), folder, run.config.to_dict(), title=folder.name)
    loop.run()
    taken = time.process_time() - begin
    clips = [clip for clip in run.held_out if clip.kind == "grid"]
    with loop.averaged():
        return evaluate(run.animator(), clips, judge) | {"CPU s": taken}


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Mean and standard deviation over seeds, as Markdown."""
    rows = ["| | seeds | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, results in found.items():
        cells = []
        for column in COLUMNS.values():
            values = np.array([result[column] for result in results])
            cells.append(f"{values.mean():.3f} ± {values.std():.3f}")
        rows.append(f"| {name} | {len(results)} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
