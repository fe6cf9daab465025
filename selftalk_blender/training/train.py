"""Train the bundled animator: `selftalk train CONFIG`.

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
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..animator.animate import Animator
from ..animator.audio import SAMPLE_RATE
from ..animator.checkpoint import read_animator, save_animator
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
from .faces import PhoneCorrection, bites
from .reader import (
    TrainedReader,
    latent_loss,
    lip_basis,
    load_reader,
    text_loss,
    train_reader,
)
from .recogniser import Lessons, PhoneRecogniser, cached_lessons
from .tracks import SILENCE, Tracks, cached_tracks

MOVED = ("jaw", "mouth", "tongueOut")  # shapes that speech moves; eyes and brows stay at rest


class Batch(NamedTuple):
    """What a step learns from: B crops of T frames."""

    features: Tensor  # (2 B, T, C): the second half is the same sound, the windows elsewhere
    wanted: Tensor  # (B, T, K)
    mask: Tensor  # (B, T): 1 where the face is known
    biting: Tensor  # (B, T): how much f or v it is
    # Recogniser's features (B, T, C'), mask (B, T), B texts; None without the diagram.
    lesson: tuple[Tensor, Tensor, list[list[int]]] | None


class Labels:
    """The wanted weights of every utterance, at 50 fps, to be read at any time in it.

    A last column, beside the weights, tells how much of f or v a frame is.
    """

    def __init__(self, rest: np.ndarray, faces: list[np.ndarray | None]) -> None:
        """Labels of all utterances.

        Args:
            rest: (K + 1,) of silence.
            faces: per utterance (T, K + 1), or None where there is no label.
        """
        self.lengths = np.array([0 if face is None else len(face) for face in faces])
        self.starts = 1 + np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        self.table = np.concatenate([rest[None], *(face for face in faces if face is not None)])

    def read(self, utterance: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, T, K + 1) and mask (B, T) of frames; silence is at rest, the unknown masked."""
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
                config.reach or None, config.kernel, config.dropout,
            )
        )  # fmt: skip
        with torch.no_grad():
            self.network.head.bias.copy_(torch.from_numpy(rest_weights(self.template)[self.shapes]))
        if config.start:
            self.network.load_state_dict(read_animator(config.start)[1].state_dict())
        self.average = FacialAnimator(self.network.config)
        self.average.load_state_dict(self.network.state_dict())
        self.geometry = losses.FaceGeometry(self.template, self.shapes)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.rng = np.random.default_rng(config.seed)
        self.output = Path(config.output)
        self.round = self.step = 0
        self.optimiser = self._optimiser()
        self.variants: list[Tracks] = []
        self.lessons: Lessons | None = None
        self.reader: TrainedReader | None = None
        self.lips = lip_basis(self.template)[self.shapes]

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

        recorded_names = [u.name for u in self.corpus if u.weights is not None and not u.held_out]
        count = max(round(self.config.faces * len(recorded_names)), 1)
        kept = set(recorded_names[:: max(len(recorded_names) // count, 1)][:count])

        def label(utterance: Utterance) -> np.ndarray | None:
            if utterance.name in kept:
                assert utterance.weights is not None
                times = np.arange(2 * len(utterance.weights)) / FPS
                recorded = Motion(self.template, FACE_FPS, utterance.weights).at(times, FPS)
                assert recorded.weights is not None
                weights = correction.unseen(recorded.weights, utterance.phones)
            elif utterance.name in made:
                weights = made[utterance.name].astype(np.float32)
                # Where the alignment of kind libri failed, phones are missing.
                weights = correction(weights, utterance.phones, utterance.kind != "libri")
            else:
                return None
            bite = bites(utterance.phones, len(weights))
            return np.column_stack([weights[:, self.shapes], bite])

        rest = np.append(rest_weights(self.template)[self.shapes], np.float32(0))
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

    def batch(self, labels: Labels) -> Batch:
        """Random crops.

        The second half of the features is the same sound with the windows elsewhere.
        """
        config = self.config
        features, utterance, seconds = [], [], []
        while len(features) < config.batch:
            tracks = self.variants[self.rng.integers(len(self.variants))]
            part = tracks.crop(self.rng, config.crop)
            spoken = tracks.utterance[part]
            # Half of a batch at least has faces; the diagram can do without.
            if self.lessons is None or not config.speech or len(features) < config.batch // 2:
                known = (spoken == SILENCE) | (labels.lengths[np.maximum(spoken, 0)] > 0)
                if known.mean() < 0.5:  # too little to learn from
                    continue
            features.append(tracks.features[:, part])
            utterance.append(spoken)
            seconds.append(tracks.time[part])
        who, when = np.stack(utterance), np.stack(seconds)
        wanted, mask = labels.read(who, when)
        both = np.concatenate(np.stack(features, axis=1))  # (2 B, T, C)
        lesson = None
        if self.lessons is not None:
            heard, path, known = self.lessons.read(who, when)
            texts = [self.lessons.text(row) for row in path]
            lesson = (self.tensor(heard), self.tensor(known), texts)
        wanted, biting = wanted[..., :-1], wanted[..., -1] * mask
        return Batch(*map(self.tensor, (both, wanted, mask, biting)), lesson)

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array in single precision where the network is."""
        return torch.from_numpy(array).float().to(self.device)

    def loss(self, predicted: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms, each with its factor; predicted (2 B, T, K) for both places of the windows."""
        factor, geometry = self.config.loss, self.geometry
        wanted, mask = batch.wanted, batch.mask
        one, other = predicted.chunk(2)
        consistency = losses.vertex_loss(geometry, one, other, torch.ones_like(mask))
        wanted, mask = wanted.repeat(2, 1, 1), mask.repeat(2, 1)
        terms = {
            "vertices": factor.vertices * losses.vertex_loss(geometry, predicted, wanted, mask),
            "velocity": factor.velocity * losses.velocity_loss(geometry, predicted, wanted, mask),
            "gap": factor.gap * losses.gap_loss(geometry, predicted, wanted, mask),
            "closure": factor.closure * losses.closure_loss(geometry, predicted, wanted, mask),
            "width": factor.width * losses.width_loss(geometry, predicted, wanted, mask),
            "weights": factor.weights * losses.weight_loss(predicted, wanted, mask),
            "consistency": factor.consistency * consistency,
        }
        if factor.contact:
            biting = batch.biting.repeat(2, 1)
            terms["contact"] = factor.contact * losses.contact_loss(geometry, predicted, biting)
        if self.reader is not None and batch.lesson is not None:
            heard, known, texts = batch.lesson
            read, logits, _ = self.reader.network(one @ self.lips, None, [one.shape[1]] * len(one))
            terms["latent"] = factor.latent * latent_loss(read, heard, known)
            terms["text"] = factor.text * text_loss(logits, texts, self.reader.blank)
        return terms

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
        batch = self.batch(labels)
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
        ):
            predicted = self.network(batch.features)
        terms = self.loss(predicted.float(), batch)
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

    def prepare(self) -> None:
        """Encode and, for the diagram, recognise the corpus, where the cache lacks it."""
        config = self.config
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
        if config.loss.latent or config.loss.text:
            self.teach()

    def run(self) -> Path:
        """Train through all rounds; returns the final file."""
        config = self.config
        resumed = self.resume()
        self.prepare()
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

    def teach(self) -> None:
        """Have the recogniser hear the corpus, and a lip reader learn from the recorded faces."""
        config = self.config
        recogniser = PhoneRecogniser(config.recogniser)
        self.lessons = cached_lessons(
            recogniser, config.recogniser, self.corpus, self.output / "cache",
            lambda done: show("recognising speech", done),
        )  # fmt: skip
        path = self.output / "reader.safetensors"
        if not path.exists():
            train_reader(
                self.template, self.corpus, self.lessons, recogniser.tokens, config.reader_steps,
                config.seed, config.precision, show,
            ).save(path)  # fmt: skip
        self.reader = load_reader(path, self.template)
        self.reader.network.to(self.device)
        self.lips = self.lips.to(self.device)

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
    path = Run(load_config(options.config)).run()
    print(f"wrote {path} and {path.with_suffix('.json')}")
    return 0
