"""Train the bundled animator: `selftalk train CONFIG`.

(A configuration of the kind "folder" trains on a folder of faces, see `diagram.py`.)

Round 0 learns from recorded faces alone. Before each later round the animator labels all the
speech that has no face, phones correct those labels (`faces.py`), and the next round learns
from both. The same command goes on where an interrupted run stopped, bit by bit the same.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..animator.animate import Animator
from ..animator.audio import SAMPLE_RATE
from ..animator.checkpoint import save_animator
from ..animator.frontend import FPS
from ..animator.network import AnimatorConfig, FacialAnimator, SpeechEncoder
from ..animator.pretrained import load_encoder
from ..core import Motion, bundled_template
from ..core.files import atomic_path
from ..core.lips import rest_weights
from . import losses
from .config import FolderConfig, TrainConfig, load_config
from .corpus import FACE_FPS, Utterance, load_corpus
from .evaluate import evaluate
from .faces import PhoneCorrection
from .loop import Loop, Settings, Team, team
from .tracks import SILENCE, Tracks, cached_tracks

MOVED = ("jaw", "mouth", "tongueOut")  # shapes that speech moves; eyes and brows stay at rest


class Labels:
    """The wanted weights of every utterance, at 50 fps, to be read at any time in it."""

    def __init__(self, rest: np.ndarray, faces: list[np.ndarray | None]) -> None:
        """Labels of all utterances.

        Args:
            rest: (K,) weights of silence.
            faces: per utterance (T, K) weights, or None where there is no label.
        """
        self.lengths = np.array([0 if face is None else len(face) for face in faces])
        self.starts = 1 + np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        self.table = np.concatenate([rest[None], *(face for face in faces if face is not None)])

    def read(self, utterance: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (B, T, K) and mask (B, T) of frames; silence is at rest, the unknown masked."""
        speaker = np.maximum(utterance, 0)
        length = self.lengths[speaker]
        known = (utterance >= 0) & (length > 0)
        position = np.clip(time * FPS, 0, np.maximum(length - 1, 0))
        before = position.astype(np.int64)
        share = (position - before)[..., None].astype(np.float32)
        after = np.minimum(before + 1, np.maximum(length - 1, 0))
        start = np.where(known, self.starts[speaker], 0)
        before, after = np.where(known, before, 0), np.where(known, after, 0)
        weights = self.table[start + before] * (1 - share) + self.table[start + after] * share
        return weights, (known | (utterance == SILENCE)).astype(np.float32)


class Run:
    """A training run of several rounds, each a `Loop`; the run itself is their task."""

    measure = "grid lip vertex error, mm"
    lower_is_better = True

    def __init__(self, config: TrainConfig, team: Team | None = None) -> None:
        self.config, self.team = config, team or Team()
        self.template = bundled_template()
        names = [name for name in self.template.shape_names if name.startswith(MOVED)]
        self.shapes = [self.template.shape_names.index(name) for name in names]
        self.corpus = load_corpus(config, self.template)
        self.held_out = [utterance for utterance in self.corpus if utterance.held_out]
        self.encoder: SpeechEncoder = load_encoder(config.encoder, config.encoder_layers)
        torch.manual_seed(config.seed)
        self.network = self.module = FacialAnimator(
            AnimatorConfig(
                self.encoder.width, tuple(names), config.width, config.layers, config.heads,
                config.reach, config.kernel, config.dropout,
            )
        )  # fmt: skip
        with torch.no_grad():
            self.network.head.bias.copy_(torch.from_numpy(rest_weights(self.template)[self.shapes]))
        self.geometry = losses.FaceGeometry(self.template, self.shapes)
        self.geometry.to(self.team.device)
        self.facts: dict[str, Any] = {}
        self.output = Path(config.output)
        self.round = 0
        self.variants: list[Tracks] = []
        self._labels: Labels | None = None  # of this round, made when first needed

    # -- labels -----------------------------------------------------------------------------

    def labels(self) -> Labels:
        """What this round learns from: recorded faces, and from round 1 on the animator's own."""
        correction = PhoneCorrection(self.template)
        made: dict[str, np.ndarray] = {}
        if self.round > 0:
            with np.load(self._faces_file(), allow_pickle=False) as file:
                made = dict(file)

        def label(utterance: Utterance) -> np.ndarray | None:
            if utterance.weights is not None and not utterance.held_out:
                times = np.arange(2 * len(utterance.weights)) / FPS
                recorded = Motion(self.template, FACE_FPS, utterance.weights).at(times, FPS)
                assert recorded.weights is not None
                weights = correction.with_tongue(recorded.weights, utterance.phones)
            elif utterance.name in made:
                weights = made[utterance.name].astype(np.float32)
                rough = utterance.kind == "libri"
                weights = correction(weights, utterance.phones, only_closures=rough)
            else:
                return None
            return weights[:, self.shapes]

        rest = rest_weights(self.template)[self.shapes]
        return Labels(rest, [label(utterance) for utterance in self.corpus])

    def _faces_file(self) -> Path:
        return self.output / "cache" / f"faces-round-{self.round}.npz"

    def label_speech(self) -> None:
        """Let the network, as it is now, move a face to all speech that has none."""
        path = self._faces_file()
        if self.team.rank == 0 and not path.exists():
            animator = self.animator()
            faceless = [u for u in self.corpus if u.weights is None and not u.held_out]
            faces = {}
            for done, utterance in enumerate(faceless):
                motion = animator.animate(utterance.samples(), SAMPLE_RATE)
                assert motion.weights is not None
                faces[utterance.name] = motion.weights.astype(np.float16)
                show(f"round {self.round}: labelling speech", (done + 1) / len(faceless))
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, **faces)
        self.team.wait()

    def animator(self) -> Animator:
        """The network as it is now, ready to run."""
        self.network.eval()
        return Animator(
            self.encoder, self.network, self.template, self.config.window, self.team.device
        )

    # -- the task of the loop ---------------------------------------------------------------

    def batch(self, rng: np.random.Generator, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Features (2 B, T, C), wanted (B, T, K), mask (B, T) of random crops.

        The second half of the features is the same sound with the windows elsewhere.
        """
        if self._labels is None:
            self._labels = self.labels()
        labels = self._labels
        features, utterance, seconds = [], [], []
        while len(features) < self.config.batch:
            tracks = self.variants[rng.integers(len(self.variants))]
            part = tracks.crop(rng, self.config.crop)
            spoken = tracks.utterance[part]
            known = (spoken == SILENCE) | (labels.lengths[np.maximum(spoken, 0)] > 0)
            if known.mean() < 0.5:  # too little to learn from
                continue
            features.append(tracks.features[:, part])
            utterance.append(spoken)
            seconds.append(tracks.time[part])
        wanted, mask = labels.read(np.stack(utterance), np.stack(seconds))
        both = np.concatenate(np.stack(features, axis=1))  # (2 B, T, C)
        return tuple(
            torch.from_numpy(array).float().to(self.team.device) for array in (both, wanted, mask)
        )  # type: ignore[return-value]

    def counts(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, float]:
        """Frames, and for the velocity pairs of frames, that count."""
        mask = batch[2]
        frames = float(mask.sum())
        counts = dict.fromkeys(("vertices", "gap", "closure", "width", "weights"), frames)
        pairs = float((mask[:, 1:] * mask[:, :-1]).sum())
        return counts | {"velocity": pairs, "consistency": float(mask.numel())}

    def losses(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """The terms, each with its factor."""
        features, wanted, mask = batch
        predicted = self.network(features).float()  # (2 B, T, K) for both places of the windows
        factor, geometry = self.config.loss, self.geometry
        one, other = predicted.chunk(2)
        consistency = losses.vertex_loss(geometry, one, other, torch.ones_like(mask))
        wanted, mask = wanted.repeat(2, 1, 1), mask.repeat(2, 1)
        return {
            "vertices": factor.vertices * losses.vertex_loss(geometry, predicted, wanted, mask),
            "velocity": factor.velocity * losses.velocity_loss(geometry, predicted, wanted, mask),
            "gap": factor.gap * losses.gap_loss(geometry, predicted, wanted, mask),
            "closure": factor.closure * losses.closure_loss(geometry, predicted, wanted, mask),
            "width": factor.width * losses.width_loss(geometry, predicted, wanted, mask),
            "weights": factor.weights * losses.weight_loss(predicted, wanted, mask),
            "consistency": factor.consistency * consistency,
        }

    def validate(self) -> dict[str, float]:
        """Measure the network on some of the held-out clips."""
        return evaluate(self.animator(), self.held_out[::6])

    def picture(self, path: Path) -> None:
        """Some held-out clips: the gap between the lips, the speaker's and ours, and the sound."""
        from .plots import draw_sheet, telling

        clips, animator = telling(self.held_out, faced=2), self.animator()
        if clips:
            motions = [animator.animate(clip.samples(), SAMPLE_RATE) for clip in clips]
            draw_sheet(path, clips, motions)

    # -- the rounds -------------------------------------------------------------------------

    def settings(self) -> Settings:
        """Of this round's loop."""
        config = self.config
        return Settings(
            steps=config.steps[self.round],
            learning_rate=config.learning_rate,
            warmup=config.warmup,
            schedule="cosine",
            weight_decay=config.weight_decay,
            betas=(0.9, 0.98),
            clip=1.0,
            average=config.average,
            seed=config.seed,
            validate_every=config.validate_every,
            checkpoint_every=config.checkpoint_every,
        )

    def run(self) -> Path:
        """Train through all rounds; returns the final file."""
        config, first = self.config, self.team.rank == 0
        if not first:
            self.team.wait()  # until the first has encoded the speech
        for variant in range(config.variants):
            name = f"encoding speech {variant + 1}/{config.variants}"
            self.variants.append(
                cached_tracks(
                    config, self.corpus, self.encoder, variant, lambda done, n=name: show(n, done)
                )
            )
        if first:
            self.team.wait()
        loop: Loop | None = None
        for self.round in range(len(config.steps)):
            if loop is not None:
                with loop.averaged():
                    self.label_speech()
            self._labels = None
            loop = Loop(
                self, self.settings(), self.output / f"round-{self.round}", config.to_dict(),
                self.team, f"Round {self.round}",
            )  # fmt: skip
            loop.run()
        path = self.output / "animator.safetensors"
        if first and loop is not None:
            with loop.averaged():
                table = evaluate(self.animator(), self.held_out)
                save_animator(path, self.encoder, self.network, self.template.digest, config.window)
            print_table(table)
            self.card(path.with_suffix(".json"), table)
        return path

    def card(self, path: Path, table: dict[str, float]) -> None:
        """Write what the animator was made of and how good it is."""
        card = {
            "name": "SelfTalk bundled animator",
            "licence": "weights GPL-3.0-or-later; speech encoder layers from OpenAI Whisper, MIT",
            "data": {
                "GRID corpus (Cooke, Barker, Cunningham, Shao), speaker 1": "CC BY 4.0",
                "synthetic speech made with Kokoro-82M": "Apache-2.0",
                "LibriSpeech excerpts (Panayotov et al.)": "CC BY 4.0",
                "MakeHuman head and ARKit face units": "CC0-1.0",
            },
            "revision": revision(),
            "config": {
                key: value
                for key, value in self.config.to_dict().items()
                if key not in ("data", "encoder", "output")
            },
            "encoder": Path(self.config.encoder).name,
            "validation": {name: round(value, 4) for name, value in table.items()},
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(card, indent=1) + "\n")


def revision() -> str:
    """The git revision of the code, or "unknown"."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True,
        cwd=Path(__file__).parent, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def show(text: str, done: float) -> None:
    """One line of progress."""
    print(f"[{100 * done:5.1f}%] {text}", flush=True)


def print_table(table: dict[str, float]) -> None:
    """Print measures, one a line."""
    for name, value in table.items():
        print(f"    {name:40s} {value:8.3f}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    """The command `selftalk train`."""
    parser = argparse.ArgumentParser(prog="selftalk train", description=__doc__)
    parser.add_argument("config", help="TOML file; configs/bundled.toml makes the bundled animator")
    options = parser.parse_args(arguments)
    config = load_config(options.config)
    with team() as processes:
        if isinstance(config, FolderConfig):
            from transformers.utils import logging

            from .diagram import train_folder

            logging.set_verbosity_error()  # its reports on what a checkpoint has besides
            logging.disable_progress_bar()
            path = train_folder(config, processes)
        else:
            path = Run(config, processes).run()
    if processes.rank == 0:
        print(f"wrote {path} and {path.with_suffix('.json')}")
    return 0
