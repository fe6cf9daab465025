"""Train the bundled animator: `selftalk train CONFIG`.

(A configuration of the kind "folder" trains on a folder of faces, see `diagram.py`.)

Round 0 learns from recorded faces alone. Before each later round the animator labels all the
speech that has no face, phones correct those labels (`faces.py`), and the next round learns
from both. The same command goes on where an interrupted run stopped, bit by bit the same.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import time
from pathlib import Path

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
from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from ..core.lips import rest_weights
from . import losses
from .config import TrainConfig, load_config
from .corpus import FACE_FPS, Utterance, load_corpus
from .evaluate import evaluate
from .faces import PhoneCorrection
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
    """A training run with everything that a checkpoint must keep."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.template = bundled_template()
        names = [name for name in self.template.shape_names if name.startswith(MOVED)]
        self.shapes = [self.template.shape_names.index(name) for name in names]
        self.corpus = load_corpus(config, self.template)
        self.encoder: SpeechEncoder = load_encoder(config.encoder, config.encoder_layers)
        torch.manual_seed(config.seed)
        self.network = FacialAnimator(
            AnimatorConfig(
                self.encoder.width, tuple(names), config.width, config.layers, config.heads,
                config.reach, config.kernel, config.dropout,
            )
        )  # fmt: skip
        with torch.no_grad():
            self.network.head.bias.copy_(torch.from_numpy(rest_weights(self.template)[self.shapes]))
        self.average = FacialAnimator(self.network.config)
        self.average.load_state_dict(self.network.state_dict())
        self.geometry = losses.FaceGeometry(self.template, self.shapes)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.rng = np.random.default_rng(config.seed)
        self.output = Path(config.output)
        self.round = self.step = 0
        self.optimiser = self._optimiser()
        self.variants: list[Tracks] = []

    def _optimiser(self) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            self.network.parameters(), lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay, betas=(0.9, 0.98),
        )  # fmt: skip

    # -- checkpoints ------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        return self.output / "checkpoint.pt"

    def save(self) -> None:
        """Keep all that the rest of the run depends on."""
        state = {
            "config": json.dumps(self.config.to_dict()),
            "round": self.round,
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "torch_random": torch.get_rng_state(),
            "numpy_random": json.dumps(self.rng.bit_generator.state),
        }
        with atomic_path(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def resume(self) -> bool:
        """Go on from the checkpoint if there is one.

        Raises:
            SelfTalkError: it belongs to another configuration.
        """
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, weights_only=True)
        if json.loads(state["config"]) != json.loads(json.dumps(self.config.to_dict())):
            raise SelfTalkError(
                f"{self.checkpoint} was made with another configuration; choose another output "
                "folder or remove it."
            )
        self.round, self.step = state["round"], state["step"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.network.to(self.device)
        self.average.to(self.device)
        self.optimiser = self._optimiser()
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["torch_random"])
        self.rng.bit_generator.state = json.loads(state["numpy_random"])
        return True

    # -- labels -----------------------------------------------------------------------------

    def labels(self) -> Labels:
        """What this round learns from: recorded faces, and from round 1 on the animator's own."""
        correction = PhoneCorrection(self.template)
        path = self.output / "cache" / f"faces-round-{self.round}.npz"
        made = self._own_faces(path) if self.round > 0 else {}

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

    def _own_faces(self, path: Path) -> dict[str, np.ndarray]:
        if not path.exists():
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
        with np.load(path, allow_pickle=False) as file:
            return dict(file)

    def animator(self) -> Animator:
        """The averaged network, ready to run."""
        self.average.eval()
        return Animator(self.encoder, self.average, self.template, self.config.window, self.device)

    # -- the loop ---------------------------------------------------------------------------

    def batch(self, labels: Labels) -> tuple[Tensor, Tensor, Tensor]:
        """Features (2 B, T, C), wanted (B, T, K), mask (B, T) of random crops.

        The second half of the features is the same sound with the windows elsewhere.
        """
        features, utterance, seconds = [], [], []
        while len(features) < self.config.batch:
            tracks = self.variants[self.rng.integers(len(self.variants))]
            part = tracks.crop(self.rng, self.config.crop)
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
            torch.from_numpy(array).float().to(self.device) for array in (both, wanted, mask)
        )  # type: ignore[return-value]

    def loss(self, predicted: Tensor, wanted: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The terms, each with its factor; predicted (2 B, T, K) for both places of the windows."""
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

    def rate(self) -> float:
        """Learning rate of this step: warm-up, then half a cosine to zero."""
        total, warm = self.config.steps[self.round], self.config.warmup
        done = max(self.step - warm, 0) / max(total - warm, 1)
        return self.config.learning_rate * min(
            (self.step + 1) / warm, 0.5 + 0.5 * math.cos(math.pi * done)
        )

    def train_step(self, labels: Labels) -> dict[str, float]:
        """One step of the optimiser; returns the loss terms."""
        self.network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate()
        features, wanted, mask = self.batch(labels)
        terms = self.loss(self.network(features), wanted, mask)
        self.optimiser.zero_grad(set_to_none=True)
        sum(terms.values(), torch.zeros((), device=self.device)).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for own, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
                own.lerp_(new, 1 - decay)
        return {name: float(term.detach()) for name, term in terms.items()}

    def validate(self, held_out: list[Utterance]) -> dict[str, float]:
        """Measure the averaged network on held-out clips."""
        return evaluate(self.animator(), held_out)

    def run(self) -> Path:
        """Train through all rounds; returns the final file."""
        config = self.config
        resumed = self.resume()
        self.network.to(self.device)
        self.average.to(self.device)
        self.geometry.to(self.device)
        for variant in range(config.variants):
            name = f"encoding speech {variant + 1}/{config.variants}"
            self.variants.append(
                cached_tracks(
                    config, self.corpus, self.encoder, variant, lambda done, n=name: show(n, done)
                )
            )
        held_out = [utterance for utterance in self.corpus if utterance.held_out]
        if resumed:
            print(f"going on from round {self.round}, step {self.step}", flush=True)
        while self.round < len(config.steps):
            labels = self.labels()
            begin, first = time.time(), self.step
            smooth: dict[str, float] = {}
            while self.step < config.steps[self.round]:
                for name, value in self.train_step(labels).items():
                    smooth[name] = 0.98 * smooth.get(name, value) + 0.02 * value
                if self.step % 50 == 0:
                    left = (time.time() - begin) / (self.step - first)
                    left *= config.steps[self.round] - self.step
                    terms = "  ".join(f"{name} {value:.3f}" for name, value in smooth.items())
                    show(
                        f"round {self.round} step {self.step}, {left / 60:.0f} min left: {terms}",
                        self.step / config.steps[self.round],
                    )
                if self.step % config.checkpoint_every == 0:
                    self.save()
                if self.step % config.validate_every == 0:
                    print_table(self.validate(held_out[::6]))
            self.round, self.step = self.round + 1, 0
            self.optimiser = self._optimiser()
            self.save()
        path = self.output / "animator.safetensors"
        save_animator(path, self.encoder, self.average, self.template.digest, config.window)
        table = self.validate(held_out)
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
            from .diagram import train_folder

            path = train_folder(config, processes)
        else:
            path = Run(config, processes).run()
    if processes.rank == 0:
        print(f"wrote {path} and {path.with_suffix('.json')}")
    return 0
