"""The lip reader of the bundled head: trained on real lips, then judge and teacher of the animator.

A reader that only ever sees the animator's lips agrees with it on a code of their own. This one
learns from recorded faces alone, against the recogniser's features and texts, and looks at half
a second to each side: far enough for a phone and its neighbours, too short to know the corpus's
few sentences by heart.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from ..animator.network import ENCODER_FPS, LipReader, ReaderConfig
from ..core import FaceTemplate, Motion
from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from ..core.lips import symmetric
from .corpus import FACE_FPS, Utterance
from .losses import frame_error, text_error
from .recogniser import Lessons, arpabet, greedy

FORMAT = 1
UNIT = 200.0  # lips are read in 5 mm, so that their numbers are about 1
REACH = 25  # frames
LAYERS = 2
HEADS = 4


def lip_basis(template: FaceTemplate) -> Tensor:
    """(K, 3 n): by how much each shape moves the lips, in the reader's unit."""
    return torch.from_numpy(template.deltas("lips") * UNIT).float()


def lip_terms(
    read: Tensor, logits: Tensor, heard: Tensor, known: Tensor, texts: list[list[int]], blank: int
) -> dict[str, Tensor]:
    """Both ways round the diagram compared: "latent" (no unit) and "text" (nats per phone).

    Args:
        read, logits: (B, S, C) and (B, S, N), what the lip reader makes of lips.
        heard: (B, S, C), the recogniser's features; each frame has mean 0 and variance 1.
        known: (B, S), where there are any.
        texts: the recogniser's.
    """
    own = functional.layer_norm(read.float(), read.shape[-1:])
    frames = [logits.shape[1]] * len(logits)
    return {
        "latent": frame_error(own, heard, known),
        "text": text_error(logits, frames, texts, blank),
    }


class TrainedReader:
    """A lip reader that can be asked.

    Attributes:
        network: reads lips in the unit of `lip_basis`.
        tokens: what its classes stand for.
        blank, boundary: classes of no phone.
    """

    def __init__(
        self,
        network: LipReader,
        template: FaceTemplate,
        tokens: list[str],
        blank: int,
        boundary: int,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.template = template
        self.tokens, self.blank, self.boundary = tokens, blank, boundary

    @torch.inference_mode()
    def __call__(self, lips: np.ndarray) -> list[str]:
        """Read lips.

        Args:
            lips: (T, n, 3) float32 offsets of the region "lips" in metres, 50 frames a second.

        Returns:
            ARPAbet phones, by the greedy path.
        """
        parameter = next(self.network.parameters())
        seen = torch.from_numpy(lips.reshape(1, len(lips), -1) * np.float32(UNIT))
        _, logits, _ = self.network(seen.to(parameter), None, [len(lips)])
        path = logits[0].argmax(-1).cpu().numpy()
        return arpabet([self.tokens[token] for token in greedy(path, self.blank, self.boundary)])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as safetensors."""
        settings = {
            "format": FORMAT, "kind": "reader", "template": self.template.digest,
            "network": asdict(self.network.config), "tokens": self.tokens, "blank": self.blank,
            "boundary": self.boundary,
        }  # fmt: skip
        tensors = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, {"selftalk": json.dumps(settings)})


def load_reader(path: str | os.PathLike[str], template: FaceTemplate) -> TrainedReader:
    """A reader that `TrainedReader.save` wrote.

    Raises:
        SelfTalkError: the file is missing, damaged, or reads another head.
    """
    try:
        with safe_open(path, "pt") as file:
            settings = json.loads((file.metadata() or {})["selftalk"])
            if settings["kind"] != "reader" or settings["format"] > FORMAT:
                raise ValueError("it is something else, or newer than this program")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = LipReader(ReaderConfig(**settings["network"]))
        network.load_state_dict(tensors)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise SelfTalkError(f"{path} is not a readable lip reader: {error}.") from error
    if settings["template"] != template.digest:
        raise SelfTalkError(f"{path} reads another head than the one of this SelfTalk.")
    return TrainedReader(
        network, template, settings["tokens"], settings["blank"], settings["boundary"]
    )


def train_reader(
    template: FaceTemplate,
    corpus: list[Utterance],
    lessons: Lessons,
    tokens: list[str],
    steps: int,
    seed: int,
    precision: str,
    progress: Callable[[str, float], None],
) -> TrainedReader:
    """Train a lip reader on the recorded faces of a corpus.

    Faces are mirrored, evened out, widened and slowed at random, so that the reader does not
    rely on how large or lopsided one speaker talks.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    basis = lip_basis(template)
    config = ReaderConfig(
        basis.shape[1], lessons.classes, lessons.features.shape[1], LAYERS, HEADS, reach=REACH,
        dropout=0.2,
    )  # fmt: skip
    network = LipReader(config)
    faces = [n for n, u in enumerate(corpus) if u.weights is not None and not u.held_out]
    swap = [
        template.shape_names.index(
            name.replace("Left", "~").replace("Right", "Left").replace("~", "Right")
        )
        for name in template.shape_names
    ]
    motions = [
        Motion(template, FACE_FPS, corpus[n].weights).resample(ENCODER_FPS).weights for n in faces
    ]
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, steps, pct_start=0.1)
    frames, batch = 150, 16
    for step in range(steps):
        network.train()
        weights, utterance, seconds = [], [], []
        for pick in rng.integers(len(faces), size=batch):
            motion = motions[pick]
            rate = rng.uniform(0.85, 1.18)
            time = np.arange(frames) / ENCODER_FPS * rate + rng.uniform(-0.3, 0.3)
            place = np.clip(time * ENCODER_FPS, 0, len(motion) - 1)
            before = place.astype(int)
            share = (place - before)[:, None].astype(np.float32)
            after = np.minimum(before + 1, len(motion) - 1)
            face = motion[before] * (1 - share) + motion[after] * share
            if rng.random() < 0.5:
                face = face[:, swap]
            if rng.random() < 0.5:
                face = symmetric(template, face)
            weights.append(face * np.float32(rng.uniform(0.8, 1.25)))
            inside = (time >= 0) & (time < len(motion) / ENCODER_FPS)
            utterance.append(np.where(inside, faces[pick], -1))
            seconds.append(time)
        features, path, mask = lessons.read(np.stack(utterance), np.stack(seconds))
        lips = torch.from_numpy(np.stack(weights)).float() @ basis
        lips = lips + 0.02 * torch.randn_like(lips)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            own, logits, _ = network(lips, None, [frames] * batch)
        terms = lip_terms(
            own, logits, torch.from_numpy(features).float(), torch.from_numpy(mask),
            [lessons.text(row) for row in path], lessons.blank,
        )  # fmt: skip
        optimiser.zero_grad(set_to_none=True)
        sum(terms.values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 49:
            said = ", ".join(f"{name} {float(term.detach()):.3f}" for name, term in terms.items())
            progress(f"lip reader, step {step + 1}: {said}", (step + 1) / steps)
    return TrainedReader(network, template, tokens, lessons.blank, lessons.boundary)
