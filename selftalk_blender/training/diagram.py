"""Train SelfTalk on a folder of talking faces: `selftalk train CONFIG` with kind = "folder".

    audio ──speech recogniser (frozen, its lessons on disk)──▶ features and text
    audio ──facial animator──▶ face ──lip reader─────────────▶ features and text

First the lip reader learns to read recorded lips, so that it and the animator cannot agree on a
language of their own; then the animator learns from faces and, through the reader, from text.
Clips of sound alone have no face to learn from, but a text.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..animator.checkpoint import load_exactly
from ..animator.network import (
    ENCODER_FPS,
    AnimatorConfig,
    FacialAnimator,
    Layout,
    LipReader,
    MelEncoder,
    ReaderConfig,
    SelfTalk,
    SpeechRecogniser,
    greedy_text,
    padded,
)
from ..animator.pretrained import load_recogniser, load_speech_encoder
from ..animator.published import read_selftalk, save_vertex_model
from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from ..core.meshes import read_indices
from ..core.progress import ProgressLine
from ..core.words import counted
from . import losses
from .config import FolderConfig
from .examples import Example, Examples, Speech, find_speech, hear_all, motion_scale
from .folder import FolderClip, load_folder
from .loop import Loop, Settings, Team, read_checkpoint
from .metrics import lip_vertex_error
from .sheet import Row, draw_sheet
from .teacher import Teacher, fingerprint, identity, remembered, word_separator

PUBLISHED_SEPARATOR = 4  # of the recogniser in published checkpoints
PICTURED = 3  # validation clips on a contact sheet
LETTERS = "letter error rate"


class Batch(NamedTuple):
    """Clips at once, on the device; T and S of the longest.

    Attributes:
        sounds: B sounds as the encoder wants them.
        templates: (B, 3 V).
        frames, text_frames: per clip.
        faces: (F,) which of the clips have a face.
        offsets: (F, T, 3 V), recorded.
        features: (B, S, C), of the teacher; None where nobody reads lips.
        texts: per clip the teacher's text.
        silent: (B, T) bool.
    """

    sounds: list[Tensor]
    templates: Tensor
    frames: list[int]
    text_frames: list[int]
    faces: Tensor
    offsets: Tensor
    features: Tensor | None
    texts: list[list[int]]
    silent: Tensor


class Clips:
    """Clips in an order that is a matter of the seed alone, in batches."""

    def __init__(
        self,
        network: SelfTalk,
        examples: Examples,
        clips: Sequence[FolderClip | Speech],
        config: FolderConfig,
        device: torch.device,
    ) -> None:
        self.network, self.examples, self.clips = network, examples, clips
        self.size, self.seed, self.device = config.batch, config.seed, device

    def batch(self, number: int) -> Batch:
        """Batch `number` of the run: each epoch has every clip once, in an order of its own."""
        count, chosen = len(self.clips), []
        for place in range(number * self.size, (number + 1) * self.size):
            epoch, index = divmod(place, count)
            order = np.random.default_rng([self.seed, epoch]).permutation(count)
            chosen.append(self.examples.read(self.clips[order[index]]))
        return self.together(chosen)

    def together(self, examples: Sequence[Example]) -> Batch:
        """Pad examples, and put them on the device."""
        faces = [i for i, example in enumerate(examples) if example.offsets is not None]
        longest = max(example.frames for example in examples)
        wide = 3 * self.examples.corpus.vertex_count
        offsets = torch.zeros(len(faces), longest, wide)
        for row, index in enumerate(faces):
            known = examples[index].offsets
            offsets[row, : len(known)] = torch.from_numpy(known)  # type: ignore[arg-type]
        lessons = [example.lesson for example in examples if example.lesson is not None]
        features = [torch.from_numpy(lesson.features) for lesson in lessons]
        silent = [torch.from_numpy(example.silent) for example in examples]
        device = self.device
        return Batch(
            [self.network.encoder.prepare(example.samples).to(device) for example in examples],
            torch.from_numpy(np.stack([example.template for example in examples])).to(device),
            [example.frames for example in examples],
            [example.text_frames for example in examples],
            torch.tensor(faces, dtype=torch.int64, device=device),
            offsets.to(device),
            pad_sequence(features, batch_first=True).to(device) if features else None,
            [lesson.text for lesson in lessons],
            pad_sequence(silent, batch_first=True).to(device),
        )


class ReaderTask:
    """The lip reader learns to read recorded lips as the recogniser hears their sound."""

    measure = LETTERS
    lower_is_better = True

    def __init__(
        self, network: SelfTalk, clips: Clips, held_out: Sequence[FolderClip], facts: dict[str, Any]
    ) -> None:
        assert network.lip_reader is not None
        self.network, self.module = network, network.lip_reader
        self.clips, self.held_out, self.facts = clips, held_out, facts

    def batch(self, rng: np.random.Generator, number: int) -> Batch:
        return self.clips.batch(number)

    def counts(self, batch: Batch) -> dict[str, float]:
        return {"latent": float(sum(batch.text_frames)), "text": float(len(batch.texts))}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        mask = losses.mask_of(batch.frames, batch.offsets.device)
        features, logits, _ = self.network.read_lips(batch.offsets, mask, batch.text_frames)
        return _reading_losses(batch, features, logits, self.clips.examples)

    def validate(self) -> dict[str, float]:
        """The reader's letters on held-out recorded lips, against the recogniser's."""
        read, heard, errors = [], [], []
        for clip in self.held_out:
            batch = self.clips.together([self.clips.examples.read(clip)])
            features, logits, _ = self.network.read_lips(batch.offsets, None, batch.text_frames)
            terms = _reading_losses(batch, features, logits, self.clips.examples)
            errors.append(float(terms["latent"]))
            read.append(_letters(logits, self.clips.examples))
            heard += batch.texts
        return {LETTERS: letter_error_rate(read, heard), "latent": float(np.mean(errors))}

    def picture(self, path: Path) -> None:
        """Nothing moves here."""


class AnimatorTask:
    """The animator learns from faces and, round the diagram, from text."""

    lower_is_better = True

    def __init__(
        self,
        network: SelfTalk,
        clips: Clips,
        held_out: Sequence[FolderClip],
        config: FolderConfig,
        facts: dict[str, Any],
        cache: Path | None = None,
    ) -> None:
        """Args: cache: where the features of a frozen encoder are kept; None: nowhere."""
        self.network = self.module = network
        self.cache = None if config.train_encoder else cache
        self.clips, self.held_out, self.facts = clips, held_out, facts
        self.config, self.factors = config, config.loss
        corpus = clips.examples.corpus
        place = "lip vertex" if len(network.lip_vertices) < corpus.vertex_count else "vertex"
        unit = "mm" if corpus.mm_per_unit is not None else corpus.unit or "the folder's unit"
        self.measure = f"{place} error, {unit}"
        self.pairs = [
            torch.tensor(side, dtype=torch.int64, device=clips.device)
            for side in (config.upper_lips, config.lower_lips)
        ]

    def batch(self, rng: np.random.Generator, number: int) -> Batch:
        return self.clips.batch(number)

    def counts(self, batch: Batch) -> dict[str, float]:
        faces = [batch.frames[int(index)] for index in batch.faces]
        counts = {
            "vertices": sum(faces),
            "velocity": sum(count - 1 for count in faces),
            "latent": sum(batch.text_frames),
            "text": len(batch.texts),
            "closure": sum(faces),
            "silence": int(batch.silent.sum()),
        }
        return {name: float(counts[name]) for name in counts if getattr(self.factors, name)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        network, factors, scale = self.network, self.factors, self.network.scale
        offsets, mask = self.animate(batch)  # (B, T, 3 V)
        counted = losses.mask_of(batch.frames, offsets.device)
        terms: dict[str, Tensor] = {}
        if len(batch.faces):
            own, wanted = offsets[batch.faces] / scale, batch.offsets / scale
            faces = counted[batch.faces]
            terms["vertices"] = losses.frame_error(own, wanted, faces)
            terms["velocity"] = losses.change_error(own, wanted, faces)
            if factors.closure:
                neutral = batch.templates[batch.faces][:, None] / scale
                gaps = [losses.lip_gap(face + neutral, *self.pairs) for face in (own, wanted)]
                terms["closure"] = losses.gap_error(*gaps, faces)
        if factors.silence:
            terms["silence"] = losses.silence_error(offsets / scale, batch.silent)
        if batch.features is not None:
            features, logits, _ = network.read_lips(offsets, mask, batch.text_frames)
            terms |= _reading_losses(batch, features, logits, self.clips.examples)
        return {
            name: getattr(factors, name) * term
            for name, term in terms.items()
            if getattr(factors, name)
        }

    def animate(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Offsets (B, T, 3 V) and mask (B, T) or None of a batch's sounds."""
        network, learns = self.network, self.config.train_encoder
        if not learns:
            network.encoder.eval()
        if network.lip_reader is not None and self.config.reader == "frozen":
            network.lip_reader.eval()
        if self.cache is not None:
            features, mask = self._known_features(batch, self.cache)
        else:
            with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
                heard = [network.encoder.listen(sound) for sound in batch.sounds]
                features, mask = network.features(heard, batch.frames)
        return network.offsets(features, mask), mask

    def _known_features(self, batch: Batch, cache: Path) -> tuple[Tensor, Tensor | None]:
        """What a frozen encoder hears, (B, T, C) and mask: it hears each clip once."""
        clips = []
        for sound, count in zip(batch.sounds, batch.frames, strict=True):

            @torch.no_grad()
            def hear(_: np.ndarray, sound: Tensor = sound, count: int = count) -> dict[str, Any]:
                with torch.autocast(sound.device.type, enabled=False):
                    heard = self.network.encoder.listen(sound)
                    features = self.network.features([heard], [count])[0][0]
                return {"features": features.cpu().numpy().astype(np.float16)}

            samples = sound.cpu().numpy()
            path = cache / f"{fingerprint(samples)}-{count}.npz"
            known = remembered(path, hear, samples)["features"]
            clips.append(torch.from_numpy(known).float().to(sound.device))
        return padded(clips)

    def validate(self) -> dict[str, float]:
        """Largest distance of a lip vertex, mean over frames and held-out clips; and letters."""
        examples, corpus = self.clips.examples, self.clips.examples.corpus
        chosen = self.network.lip_vertices.cpu().numpy()
        errors, read, heard, squares = [], [], [], []
        for clip in self.held_out:
            batch = self.clips.together([examples.read(clip)])
            offsets, _ = self.animate(batch)
            own, real = (
                x[0].float().cpu().numpy().reshape(len(x[0]), -1, 3)
                for x in (offsets, batch.offsets)
            )
            scale = 1.0 if corpus.mm_per_unit is None else corpus.mm_per_unit[clip.subject]
            errors.append(scale * lip_vertex_error(own[:, chosen], real[:, chosen]))
            squares.append(float(np.square((own - real) / self.network.scale).mean()))
            if batch.features is not None:
                logits = self.network.read_lips(offsets, None, batch.text_frames)[1]
                read.append(_letters(logits, examples))
                heard += batch.texts
        table = {self.measure: float(np.mean(errors)), "vertices": float(np.mean(squares))}
        return table | ({LETTERS: letter_error_rate(read, heard)} if read else {})

    def picture(self, path: Path) -> None:
        """Some held-out clips: recorded and animated face, opening of the lips, wave."""
        rows = []
        places = np.linspace(0, len(self.held_out) - 1, min(PICTURED, len(self.held_out)))
        for clip in (self.held_out[round(place)] for place in places):
            example = self.clips.examples.read(clip)
            batch = self.clips.together([example])
            offsets = self.animate(batch)[0][0].float().cpu().numpy()
            both = [
                (x + example.template).reshape(len(x), -1, 3)
                for x in (batch.offsets[0].cpu().numpy(), offsets)
            ]
            rows.append(Row(clip.name, both[0], both[1], example.samples))
        fps = self.clips.examples.corpus.fps
        draw_sheet(path, rows, self.network.lip_vertices.cpu().numpy(), fps)


def _reading_losses(
    batch: Batch, features: Tensor, logits: Tensor, examples: Examples
) -> dict[str, Tensor]:
    assert batch.features is not None and examples.teacher is not None
    heard = losses.mask_of(batch.text_frames, logits.device)
    blank = examples.teacher.blank
    return {
        "latent": losses.frame_error(features, batch.features, heard),
        "text": losses.text_error(logits, batch.text_frames, batch.texts, blank),
    }


def _letters(logits: Tensor, examples: Examples) -> list[int]:
    assert examples.teacher is not None
    return greedy_text(logits[0], examples.teacher.blank, examples.teacher.separator)


def letter_error_rate(read: list[list[int]], heard: list[list[int]]) -> float:
    """Edits that turn the letters read into those heard, over the number heard; all clips.

    (substitutions + deletions + insertions) / heard, Levenshtein; word boundaries are letters.
    0 is right; nan where nothing was heard. torchmetrics' word error rate over letters.
    """
    from torchmetrics.functional.text import word_error_rate

    if not any(heard):
        return float("nan")
    one, other = ([" ".join(map(str, text)) for text in texts] for texts in (read, heard))
    return float(word_error_rate(one, other))


# --- The run -------------------------------------------------------------------------------------


def train_folder(config: FolderConfig, team: Team) -> Path:
    """Train the lip reader, then the animator; returns the final file.

    Raises:
        SelfTalkError: something that the config names is missing or does not fit.
    """
    run = FolderRun(config, team)
    reading = run.train_reader()
    return run.train_animator(reading)


class FolderRun:
    """What a run on a folder is made of: clips, network, teacher, scale."""

    def __init__(self, config: FolderConfig, team: Team) -> None:
        self.config, self.team, self.output = config, team, Path(config.output)
        self.cache = Path(config.cache) if config.cache else self.output / "cache"
        self.corpus = load_folder(config.data)
        for notice in self.corpus.notices:
            self.say(notice)
        self.train, self.held_out = self.corpus.split("train"), self.corpus.split("val")
        if not (self.train and self.held_out):
            raise SelfTalkError(
                f"{config.data} has {counted(len(self.train), 'clip')} to train on and "
                f"{len(self.held_out)} for validation; both need one at least."
            )
        if config.loss.closure and not config.upper_lips:
            self.config = config = self._with_closure(config)
        lips = read_indices(config.lips) if config.lips else self.corpus.lips
        if lips is None and (config.reads or config.start):
            raise SelfTalkError(
                "The lip reader needs to know the lips: put their vertex indices into "
                f"{config.data}/lips.npy, name a file as lips, or train the animator alone "
                "(latent and text 0 in [loss])."
            )
        self.lips = np.arange(self.corpus.vertex_count) if lips is None else lips
        most = max((*self.lips, *config.upper_lips, *config.lower_lips))
        if most >= self.corpus.vertex_count:
            raise SelfTalkError(
                f"The lips name vertex {most}; the faces have {self.corpus.vertex_count}."
            )
        self.teacher = self._teacher() if config.reads else None
        self.reader_learnt = bool(config.start)  # a published reader has
        self.network = self._started() if config.start else self._fresh()
        if isinstance(self.network.encoder, MelEncoder) or not config.train_encoder:
            self.network.encoder.requires_grad_(False)
            self.config = config = dataclasses.replace(config, train_encoder=False)
        self.examples = Examples(self.corpus, self.network.layout, self.teacher)
        self.speech = find_speech(config.speech) if config.speech and config.reads else []
        line = ProgressLine("Reading and hearing the clips")
        try:
            everything = [*self.train, *self.held_out, *self.speech]
            hear_all(self.examples, everything, team.rank, team.world, line)
        finally:
            line.clear()
        team.wait()
        if self.teacher is not None:
            self.teacher.forget()
        scale = motion_scale(self.corpus, self.train)
        if config.start:
            self.network.work_in(scale)
        else:
            self.network.scale = scale
        self.facts = {"scale": scale, "unit": self.corpus.unit, "fps": self.corpus.fps}
        self.say(
            f"{counted(len(self.train), 'clip')} to train on, {len(self.held_out)} for validation, "
            f"{len(self.speech)} of sound alone; {self.corpus.vertex_count} vertices at "
            f"{self.corpus.fps:g} fps that move by {scale:.4g} {self.corpus.unit} (rms)."
        )

    def say(self, text: str) -> None:
        if self.team.rank == 0:
            print(text, flush=True)

    def _with_closure(self, config: FolderConfig) -> FolderConfig:
        """The folder's pairs of inner-lip vertices for a config that names none, if it has any."""
        pairs = self.corpus.parts.get("inner_lips")
        if pairs is None:
            self.say(
                "The closure term is left out: the folder has no inner_lips.npy, and upper_lips "
                "and lower_lips are not given."
            )
            without = dataclasses.replace(config.loss, closure=0.0)
            return dataclasses.replace(config, loss=without)
        upper, lower = pairs.reshape(-1, 2).T.tolist()
        return dataclasses.replace(config, upper_lips=tuple(upper), lower_lips=tuple(lower))

    def _teacher(self) -> Teacher:
        config = self.config
        source = config.recogniser or config.start

        def load() -> SpeechRecogniser:
            if config.recogniser:
                return load_recogniser(config.recogniser, config.network)
            whole = read_selftalk(config.start, self.lips)
            assert whole.recogniser is not None
            return whole.recogniser

        own: int | None = PUBLISHED_SEPARATOR
        if config.recogniser:
            own = word_separator(source, config.network)
        return Teacher(identity(source), load, self.cache, self.team.device, own)

    def _started(self) -> SelfTalk:
        """The network of a published checkpoint."""
        network = read_selftalk(self.config.start, self.lips)
        network.recogniser = None
        layout, corpus = network.layout, self.corpus
        if (layout.vertices, layout.fps) != (corpus.vertex_count, corpus.fps):
            raise SelfTalkError(
                f"{self.config.start} moves {layout.vertices} vertices at {layout.fps:g} fps; "
                f"{corpus.path} has {corpus.vertex_count} at {corpus.fps:g}."
            )
        reader = network.lip_reader
        if self.teacher is None:
            network.lip_reader = None
        elif reader is not None and (reader.config.classes, reader.config.width) != (
            self.teacher.classes, self.teacher.width,
        ):  # fmt: skip
            torch.manual_seed(self.config.seed)
            network.lip_reader = self._reader()
            self.reader_learnt = False
        self._check_sizes(network)
        return network.to(self.team.device)

    def _check_sizes(self, network: SelfTalk) -> None:
        """Nothing in the config may ask for another network than the checkpoint's.

        Raises:
            SelfTalkError: keys do, that is, have neither their defaults nor its values.
        """
        config, animator = self.config, network.animator.config
        known: dict[str, str | int] = {
            "encoder": "",  # it has its own, under no name
            "encoder_layers": len(network.encoder.layers),
            "resample": network.layout.resample or "none",
            "stack": network.layout.stack,
            "width": animator.width,
            "layers": animator.layers,
            "heads": animator.heads,
            "reach": animator.reach or 0,
        }
        if network.lip_reader is not None:
            reader = network.lip_reader.config
            known |= {"reader_layers": reader.layers, "reader_reach": reader.reach or 0}
        defaults = {field.name: field.default for field in dataclasses.fields(config)}
        wrong = [
            f"{key} = {json.dumps(getattr(config, key))}" + (f" (it has {own})" if own else "")
            for key, own in known.items()
            if getattr(config, key) not in (own, defaults[key])
        ]
        if wrong:
            raise SelfTalkError(
                f"Training goes on with the network of {config.start}, which is not to be had with "
                f"{', '.join(wrong)}: leave that out of the configuration, or leave out start."
            )

    def _fresh(self) -> SelfTalk:
        """The network that the config describes."""
        config, corpus = self.config, self.corpus
        encoder = load_speech_encoder(config.encoder, config.encoder_layers or None, config.network)
        mel = isinstance(encoder, MelEncoder)
        resample = {"none": "", "auto": "features" if mel else "convolutions"}.get(
            config.resample, config.resample
        )
        if mel and resample == "convolutions":
            raise SelfTalkError('Whisper\'s convolutions cannot be resampled: say "features".')
        if not mel and config.encoder_layers:
            raise SelfTalkError("encoder_layers is for Whisper alone: set it to 0.")
        if not resample and config.stack * corpus.fps != ENCODER_FPS:
            raise SelfTalkError(
                f"{corpus.fps:g} frames per second times stack = {config.stack} is not "
                f"{ENCODER_FPS:g}. Choose another resample, or layout."
            )
        if resample and config.stack != 1:
            raise SelfTalkError('stack is for resample = "none" alone.')
        layout = Layout(
            corpus.fps, resample, config.stack, corpus.vertex_count, len(self.lips)
        )  # fmt: skip
        torch.manual_seed(config.seed)
        animator = AnimatorConfig(
            config.stack * encoder.width, width=config.width, layers=config.layers,
            heads=config.heads, reach=config.reach or None, vertices=corpus.vertex_count,
        )  # fmt: skip
        reader = self._reader() if self.teacher is not None else None
        lips = torch.from_numpy(np.asarray(self.lips, np.int64))
        network = SelfTalk(layout, encoder, FacialAnimator(animator), None, reader, lips)
        return network.to(self.team.device)

    def _reader(self) -> LipReader:
        assert self.teacher is not None
        config = self.config
        return LipReader(
            ReaderConfig(
                3 * len(self.lips), self.teacher.classes, self.teacher.width,
                config.reader_layers, reach=config.reader_reach or None,
            )
        )  # fmt: skip

    def settings(self, epochs: int, clips: int) -> Settings:
        """Of the loop, which counts steps, for so many epochs of so many clips."""
        config = self.config
        each = -(-clips // (config.batch * config.accumulate * self.team.world))
        return Settings(
            steps=epochs * each,
            learning_rate=config.learning_rate,
            warmup=config.warmup,
            schedule=config.schedule,
            weight_decay=config.weight_decay,
            clip=config.clip,
            accumulate=config.accumulate,
            precision=config.precision,
            average=config.average,
            seed=config.seed,
            validate_every=config.validate_every * each,
            checkpoint_every=config.validate_every * each,
            picture_every=config.picture_every,
        )

    def train_reader(self) -> dict[str, float]:
        """Let the lip reader read recorded lips; returns how well it reads held-out ones."""
        config, reader = self.config, self.network.lip_reader
        if reader is None:
            return {}
        if config.reader_file:
            state = read_checkpoint(config.reader_file, "cpu")
            tensors = state["module"] | state["average"]
            load_exactly(reader, tensors, config.reader_file)
            with torch.no_grad():  # it read offsets in the unit of its own folder's motion
                then = json.loads(state["facts"])["scale"]
                reader.lip_map.weight *= self.network.scale / then
        clips = Clips(self.network, self.examples, self.train, config, self.team.device)
        task = ReaderTask(self.network, clips, self.held_out, self.facts)
        if config.reader_epochs:
            loop = Loop(
                task, self.settings(config.reader_epochs, len(self.train)), self.output / "reader",
                config.to_dict(), self.team, "Lip reader",
            )  # fmt: skip
            loop.run()
            loop.take_best()
        elif not (config.reader_file or self.reader_learnt or config.reader == "trained"):
            raise SelfTalkError(
                "A frozen lip reader that never learnt teaches nothing: give reader_epochs, "
                "reader_file, or start (with its own recogniser), or say "
                'reader = "trained".'
            )
        reader.eval()
        with torch.no_grad():
            table = task.validate()
        self.say(f"Letters misread on held-out recorded lips: {table[LETTERS]:.1%}")
        if config.reader == "frozen":
            reader.requires_grad_(False)
        return table

    def train_animator(self, reading: dict[str, float]) -> Path:
        """Train, and write the best animator and its card; returns the file."""
        config = self.config
        everything = [*self.train, *self.speech]
        clips = Clips(self.network, self.examples, everything, config, self.team.device)
        source = f"{config.encoder_layers}-{identity(config.start or config.encoder)[:16]}"
        layout = self.network.layout
        place = f"encoder-{source}-{layout.resample or 'stacked'}-{layout.stack}"
        cache = self.cache / place
        task = AnimatorTask(self.network, clips, self.held_out, config, self.facts, cache)
        settings = self.settings(config.epochs, len(everything))
        loop = Loop(task, settings, self.output, config.to_dict(), self.team, "Animator")
        loop.run()
        step = loop.take_best()
        path = self.output / "animator.safetensors"
        if self.team.rank:
            return path
        self.network.eval()
        with torch.no_grad():
            table = task.validate()
        self.network.work_in(1.0)
        save_vertex_model(path, self.network)
        card = {
            "config": config.to_dict(),
            "step": step,
            "scale": self.facts,
            "animator on held-out clips": table,
            "lip reader on held-out recorded lips": reading,
        }
        with atomic_path(path.with_suffix(".json")) as temporary:
            temporary.write_text(json.dumps(card, indent=1) + "\n", "utf-8")
        self.say(f"Best of held-out clips, step {step}:")
        for name, value in table.items():
            self.say(f"    {name:40s} {value:10.4f}")
        return path
