"""Train the bundled animator: `selftalk train CONFIG`.

(A configuration of the kind "folder" trains on a folder of faces, see `diagram.py`.)

Round 0 learns from recorded faces alone. Before each later round the animator labels all the
speech that has no face, phones correct those labels (`faces.py`), and the next round learns
from both. The same command goes on where an interrupted run stopped, bit by bit the same.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..animator.animate import Animator
from ..animator.checkpoint import read_animator, save_animator
from ..animator.network import AnimatorConfig, FacialAnimator, SpeechEncoder
from ..animator.pretrained import load_encoder
from ..core import Motion, bundled_template
from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from ..core.frontend import FPS, SAMPLE_RATE
from ..core.lips import rest_weights
from . import losses
from .config import FolderConfig, TrainConfig, load_config
from .corpus import FACE_FPS, Utterance, load_corpus
from .evaluate import evaluate
from .faces import PhoneCorrection, bites
from .loop import Loop, Settings, Team, team
from .reader import TrainedReader, lip_basis, lip_terms, load_reader, train_reader
from .recogniser import Lessons, PhoneRecogniser, cached_lessons
from .tracks import SILENCE, Tracks, cached_tracks

MOVED = ("jaw", "mouth", "tongueOut")  # shapes that speech moves; eyes and brows stay at rest


class Lesson(NamedTuple):
    """What the recogniser makes of the same crops."""

    heard: Tensor  # (B, T, C'), its features
    known: Tensor  # (B, T): 1 where there are any
    texts: list[list[int]]


class Batch(NamedTuple):
    """What a step learns from: B crops of T frames."""

    features: Tensor  # (2 B, T, C): the second half is the same sound, the windows elsewhere
    wanted: Tensor  # (B, T, K)
    mask: Tensor  # (B, T): 1 where the face is known
    biting: Tensor  # (B, T): 1 in f and v
    lesson: Lesson | None = None  # with the diagram


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
                config.reach or None, config.kernel, config.dropout,
            )
        )  # fmt: skip
        with torch.no_grad():
            self.network.head.bias.copy_(torch.from_numpy(rest_weights(self.template)[self.shapes]))
        if config.start:
            self.network.load_state_dict(read_animator(config.start)[1].state_dict())
        self.geometry = losses.FaceGeometry(self.template, self.shapes)
        self.geometry.to(self.team.device)
        self.facts: dict[str, Any] = {}
        self.output = Path(config.output)
        self.round = 0
        self.variants: list[Tracks] = []
        self.lessons: Lessons | None = None
        self.reader: TrainedReader | None = None
        self.lips = lip_basis(self.template)[self.shapes].to(self.team.device)
        self._labels: Labels | None = None  # of this round, made when first needed

    # -- labels -----------------------------------------------------------------------------

    def labels(self) -> Labels:
        """What this round learns from: recorded faces, and from round 1 on the animator's own."""
        correction = PhoneCorrection(self.template)
        made: dict[str, np.ndarray] = {}
        if self.round > 0:
            with np.load(self._faces_file(), allow_pickle=False) as file:
                made = dict(file)

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

    def _faces_file(self) -> Path:
        made_by = digest(self.config.to_dict())
        return self.output / "cache" / f"faces-round-{self.round}-{made_by}.npz"

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

    def batch(self, rng: np.random.Generator, number: int) -> Batch:
        """Random crops."""
        config = self.config
        if self._labels is None:
            self._labels = self.labels()
        labels = self._labels
        features, utterance, seconds = [], [], []
        while len(features) < config.batch:
            tracks = self.variants[rng.integers(len(self.variants))]
            part = tracks.crop(rng, config.crop)
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
        batch = Batch(
            *map(self._tensor, (both, wanted[..., :-1], mask, wanted[..., -1] * mask > 0.5))
        )
        if self.lessons is None:
            return batch
        heard, path, known = self.lessons.read(who, when)
        texts = [self.lessons.text(row) for row in path]
        return batch._replace(lesson=Lesson(self._tensor(heard), self._tensor(known), texts))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).float().to(self.team.device)

    def counts(self, batch: Batch) -> dict[str, float]:
        """What each term is the mean of: frames, pairs of frames, or clips."""
        mask = batch.mask
        frames = float(mask.sum())
        counts = dict.fromkeys(("vertices", "gap", "closure", "width", "weights"), frames)
        counts["velocity"] = float((mask[:, 1:] * mask[:, :-1]).sum())
        counts["consistency"] = float(mask.numel())
        if self.config.loss.contact:
            counts["contact"] = float(batch.biting.sum())
        if batch.lesson is not None:
            counts["latent"] = float(batch.lesson.known.sum())
            counts["text"] = float(len(batch.lesson.texts))
        return counts

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The terms, each with its factor."""
        predicted = self.network(batch.features).float()  # (2 B, T, K), windows at two places
        with torch.autocast(self.team.device.type, enabled=False):  # tenths of a millimetre count
            terms = self._face_terms(predicted, batch)
        if self.reader is not None and batch.lesson is not None:
            seen = predicted[: len(batch.mask)] @ self.lips  # (B, T, 3 n); once is enough
            read, logits, _ = self.reader.network(seen, None, [seen.shape[1]] * len(seen))
            terms |= lip_terms(read, logits, *batch.lesson, self.reader.blank)
        return {name: getattr(self.config.loss, name) * term for name, term in terms.items()}

    def _face_terms(self, predicted: Tensor, batch: Batch) -> dict[str, Tensor]:
        """The terms that ask for a known face, and consistency."""
        geometry = self.geometry
        one, other = predicted.chunk(2)
        consistency = losses.vertex_loss(geometry, one, other, torch.ones_like(batch.mask))
        wanted, mask = batch.wanted.repeat(2, 1, 1), batch.mask.repeat(2, 1)
        terms = {
            "vertices": losses.vertex_loss(geometry, predicted, wanted, mask),
            "velocity": losses.velocity_loss(geometry, predicted, wanted, mask),
            "gap": losses.gap_loss(geometry, predicted, wanted, mask),
            "closure": losses.closure_loss(geometry, predicted, wanted, mask),
            "width": losses.width_loss(geometry, predicted, wanted, mask),
            "weights": losses.weight_loss(predicted, wanted, mask),
            "consistency": consistency,
        }
        if self.config.loss.contact:
            biting = batch.biting.repeat(2, 1)
            terms["contact"] = losses.contact_loss(geometry, predicted, biting)
        return terms

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
            precision=config.precision,
            average=config.average,
            seed=config.seed,
            validate_every=config.validate_every,
            checkpoint_every=config.checkpoint_every,
        )

    def prepare(self) -> None:
        """Encode and, for the diagram, recognise the corpus, where the cache lacks it.

        Raises:
            SelfTalkError: the diagram is wanted, but there is no recogniser.
        """
        config = self.config
        diagram = bool(config.loss.latent or config.loss.text)
        if diagram and not config.recogniser:
            raise SelfTalkError("The terms latent and text need a recogniser: name its folder.")
        if self.team.rank:
            self.team.wait()  # until the first has done it
        for variant in range(config.variants):
            name = f"encoding speech {variant + 1}/{config.variants}"
            self.variants.append(
                cached_tracks(
                    config, self.corpus, self.encoder, variant, lambda done, n=name: show(n, done)
                )
            )
        if diagram:
            self.teach()
        if self.team.rank == 0:
            self.team.wait()

    def teach(self) -> None:
        """Have the recogniser hear the corpus, and a lip reader learn from the recorded faces."""
        config = self.config
        recogniser = PhoneRecogniser(config.recogniser)
        self.lessons = cached_lessons(
            recogniser, config.recogniser, self.corpus, self.output / "cache",
            lambda done: show("recognising speech", done),
        )  # fmt: skip
        parts = [config.recogniser, config.reader_steps, config.seed, config.precision]
        made_by = digest([*parts, self.template.digest, [u.name for u in self.corpus]])
        path = self.output / f"reader-{made_by}.safetensors"
        if not path.exists():
            train_reader(
                self.template, self.corpus, self.lessons, recogniser.tokens, config.reader_steps,
                config.seed, config.precision, show,
            ).save(path)  # fmt: skip
        self.reader = load_reader(path, self.template)
        self.reader.network.to(self.team.device)

    def run(self) -> Path:
        """Train through all rounds; returns the final file."""
        config, first = self.config, self.team.rank == 0
        self.prepare()
        loop: Loop | None = None
        for self.round, steps in enumerate(config.steps):
            if self.round:
                with loop.averaged() if loop else contextlib.nullcontext():
                    self.label_speech()
            if not steps:  # the network that the run starts from has had this round
                continue
            self._labels = None
            loop = Loop(
                self, self.settings(), self.output / f"round-{self.round}", config.to_dict(),
                self.team, f"Round {self.round}",
            )  # fmt: skip
            loop.run()
        path = self.output / "animator.safetensors"
        if first and loop is not None:
            with loop.averaged():
                self.amplify()
                table = evaluate(self.animator(), self.held_out)
                save_animator(path, self.encoder, self.network, self.template.digest, config.window)
            print_table(table)
            self.card(path.with_suffix(".json"), table)
        return path

    @torch.no_grad()
    def amplify(self) -> None:
        """Scale what the head gives about rest by `config.amplitude`."""
        head, factor = self.network.head, self.config.amplitude
        rest = torch.from_numpy(rest_weights(self.template)[self.shapes]).to(head.bias)
        head.weight.mul_(factor)
        head.bias.copy_(rest + factor * (head.bias - rest))

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
                if key not in ("data", "encoder", "recogniser", "output", "start")
            },
            "encoder": Path(self.config.encoder).name,
            "recogniser": Path(self.config.recogniser).name,
            "start": Path(self.config.start).name,
            "validation": {name: round(value, 4) for name, value in table.items()},
        }
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(card, indent=1) + "\n", "utf-8")


def digest(parts: object) -> str:
    """A short name for what a file is made of, so that no other is taken for it."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


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
