"""Loss terms of the animator as pure functions, each a mean over what its mask counts.

First those of the bundled head: lengths in millimetres, weights without unit; P predicted and W
wanted weights (B, T, K), mask (B, T): 1 where a frame counts. Then those of vertices of any face.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..animator.network import Diagram, greedy_text
from ..core import FaceTemplate

MIDDLE = 0.013  # metres to each side of the mouth's middle, where it bites
TOUCHING = 1.2  # mm between vertices; the surfaces between them are nearer


class FaceGeometry:
    """What the losses need of a head: linear maps from weights to millimetres.

    Attributes:
        root: (K, K) with |w @ root|^2 = mean squared distance in mm^2 over the lip and mouth
            vertices that weights w move (Cholesky root of the Gram matrix of the shapes, so
            that no vertex needs to be computed).
        gap, width: (K,) mm per weight of inner-lip gap and mouth width (linearised at rest).
        rest_gap: mm.
        lip, teeth: middles of the lower lip and of the upper teeth: (n, 3) mm at rest, and
            (K, n, 3) by how much each shape moves them.
    """

    def __init__(self, template: FaceTemplate, shapes: list[int]) -> None:
        gram = torch.zeros(len(shapes), len(shapes), dtype=torch.float64)
        for region, share in (("lips", 1.0), ("mouth_region", 0.5), ("teeth_lower", 0.1)):
            deltas = torch.from_numpy(template.deltas(region)[shapes] * 1000.0).double()
            gram += share * deltas @ deltas.T / (deltas.shape[1] / 3)
        gram += 1e-4 * torch.eye(len(shapes), dtype=torch.float64)
        self.root = torch.linalg.cholesky(gram).float()
        eye = torch.eye(len(template.shape_names))[shapes].numpy()
        zero = eye[:1] * 0
        self.rest_gap = float(template.gap_mm(zero)[0])
        self.gap = torch.from_numpy(template.gap_per_weight[shapes]).float()
        self.lip, self.teeth = (
            self._middle(template, shapes, region) for region in ("lips_lower", "teeth_upper")
        )
        step = 0.01
        self.width = torch.from_numpy(
            (template.width_mm(eye * step) - template.width_mm(zero)) / step
        ).float()

    @staticmethod
    def _middle(template: FaceTemplate, shapes: list[int], region: str) -> tuple[Tensor, Tensor]:
        index = template.regions[region]
        index = index[np.abs(template.vertices[index, 0]) < MIDDLE]
        moved = template.shape_deltas[shapes][:, index]
        return torch.from_numpy(template.vertices[index] * 1000), torch.from_numpy(moved * 1000)

    def to(self, device: torch.device) -> None:
        """Move to a device."""
        self.root, self.gap, self.width = (
            tensor.to(device) for tensor in (self.root, self.gap, self.width)
        )
        self.lip, self.teeth = (
            (rest.to(device), moved.to(device)) for rest, moved in (self.lip, self.teeth)
        )


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (B, T) values where the mask is 1."""
    return (values * mask).sum() / mask.sum().clamp(min=1.0)


def vertex_loss(geometry: FaceGeometry, predicted: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Mean squared distance of the mouth's vertices, mm^2 (the paper's reconstruction loss)."""
    return mean(((predicted - wanted) @ geometry.root).square().sum(-1), mask)


def velocity_loss(
    geometry: FaceGeometry, predicted: Tensor, wanted: Tensor, mask: Tensor
) -> Tensor:
    """The same for the differences of neighbouring frames (the paper's velocity loss), mm^2."""
    both = mask[:, 1:] * mask[:, :-1]
    return vertex_loss(geometry, predicted.diff(dim=1), wanted.diff(dim=1), both)


def gap_loss(geometry: FaceGeometry, predicted: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the inner-lip gap, mm^2."""
    return mean(((predicted - wanted) @ geometry.gap).square(), mask)


def closure_loss(geometry: FaceGeometry, predicted: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Squared gap error weighted by exp(-wanted gap / 1 mm): closed lips must close, mm^2.

    A gap is counted as at least -0.7 mm on both sides: how hard closed lips are pressed is
    no matter of closing.
    """
    own, aim = (
        (weights @ geometry.gap + geometry.rest_gap).clamp(min=-0.7)
        for weights in (predicted, wanted)
    )
    return mean((own - aim).square() * torch.exp(-aim.clamp(min=0.0)), mask)


def contact_loss(geometry: FaceGeometry, predicted: Tensor, biting: Tensor) -> Tensor:
    """How far the lower lip stays from the upper teeth at f and v, beyond TOUCHING: mm^2.

    Mean over the frames where `biting` (B, T) is 1 of max(d - TOUCHING, 0)^2, where d is the
    smallest distance of a vertex of the lip's middle to one of the teeth's.
    """
    frames = biting > 0
    if not frames.any():
        return predicted.new_zeros(())
    weights = predicted[frames]  # (F, K)
    lip, teeth = (
        rest + torch.tensordot(weights, moved, 1) for rest, moved in (geometry.lip, geometry.teeth)
    )  # (F, n, 3)
    distance = torch.cdist(lip, teeth).flatten(1).amin(1)
    return (distance - TOUCHING).clamp(min=0).square().mean()


def width_loss(geometry: FaceGeometry, predicted: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the mouth's width, mm^2."""
    return mean(((predicted - wanted) @ geometry.width).square(), mask)


def weight_loss(predicted: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the weights, summed over shapes: of poses alike, take the wanted."""
    return mean((predicted - wanted).square().sum(-1), mask)


# --- Vertices of any face, and text --------------------------------------------------------------
#
# The paper's four (Peng et al. 2023, arXiv 2306.10799), then closure and silence. Offsets are in
# the unit that the caller gives them in; mask (B, T) or (B, S): true where a frame counts.


def mask_of(frames: list[int], device: torch.device) -> Tensor:
    """(B, T), true in the first frames of each clip."""
    counts = torch.tensor(frames, device=device)
    return torch.arange(max(frames, default=0), device=device) < counts[:, None]


def frame_error(predicted: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over all numbers of the frames that count.

    sum_t sum_i (p_ti - w_ti)^2 / (T N), in squared units of (B, T, N). Of vertices it is the
    paper's reconstruction loss, of lip reader's and recogniser's features its latent
    consistency loss.
    """
    return mean((predicted.float() - wanted.float()).square().mean(-1), mask)


def change_error(predicted: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """`frame_error` of the differences of neighbouring frames: the paper's velocity loss.

    In squared units per frame; a pair counts where both its frames do.
    """
    both = mask[:, 1:] & mask[:, :-1]
    return frame_error(predicted.float().diff(dim=1), wanted.float().diff(dim=1), both)


def text_error(logits: Tensor, frames: list[int], texts: list[list[int]], blank: int = 0) -> Tensor:
    """Connectionist temporal classification (Graves et al. 2006) of wanted texts: nats per letter.

    Per clip -ln p(text) / max(letters, 1), then the mean over clips: the paper's text
    consistency loss, and the "mean" of `torch.nn.functional.ctc_loss`. An empty text wants
    blanks throughout; one with more letters than frames can tell costs nothing.

    Args:
        logits: (B, S, N).
        frames: S of each clip.
        texts: per clip the wanted classes, without blanks.
    """
    device = logits.device
    letters = torch.tensor([len(text) for text in texts], device=device)
    wanted = torch.tensor([token for text in texts for token in text], device=device).long()
    nats = functional.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1), wanted,
        torch.tensor(frames, device=device), letters, blank, "none", zero_infinity=True,
    )  # fmt: skip
    return (nats / letters.clamp(min=1)).mean()


def diagram_losses(
    diagram: Diagram, target: Tensor, blank: int = 0, separator: int | None = 4
) -> dict[str, Tensor]:
    """The paper's four, as published: of vertices in their own unit, without factors.

    Args:
        diagram: of `SelfTalk.forward`.
        target: (B, T, 3 V), recorded faces.
        blank, separator: classes of the text, see `greedy_text`.

    Returns:
        vertices (squared unit), velocity (squared unit per frame), latent (no unit), text (nats
        per letter). The paper weighs them 1000, 1000, 0.001, 0.0001.
    """
    faces = mask_of(diagram.frames, target.device)
    heard = mask_of(diagram.text_frames, target.device)
    wanted = target[:, : diagram.vertices.shape[1]]
    texts = [
        greedy_text(logits[:count], blank, separator)
        for logits, count in zip(diagram.text_logits, diagram.text_frames, strict=True)
    ]
    return {
        "vertices": frame_error(diagram.vertices, wanted, faces),
        "velocity": change_error(diagram.vertices, wanted, faces),
        "latent": frame_error(diagram.lip_features, diagram.text_features, heard),
        "text": text_error(diagram.lip_logits, diagram.text_frames, texts, blank),
    }


def lip_gap(vertices: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """(B, T, 3 V) -> (B, T) mean distance of pairs of inner-lip vertices, in their unit.

    Args:
        upper, lower: (p,) indices; number i of one is above number i of the other.
    """
    points = vertices.float().unflatten(-1, (-1, 3))  # (B, T, V, 3)
    between = points[:, :, upper] - points[:, :, lower]  # (B, T, p, 3)
    # Lips that touch: the square root has no slope there.
    return (between.square().sum(-1) + 1e-12).sqrt().mean(-1)


def gap_error(predicted: Tensor, wanted: Tensor, mask: Tensor, softness: float = 1.0) -> Tensor:
    """Closure: squared error of the gap, weighted by exp(-wanted gap / softness); squared units.

    mean over frames of exp(-w_t / softness) (p_t - w_t)^2: lips of p, b and m must close; an open
    mouth is left to the other terms. Ours, as `closure_loss` of the bundled head.

    Args:
        predicted, wanted: (B, T), see `lip_gap`.
    """
    return mean((predicted - wanted).square() * torch.exp(-wanted / softness), mask)


def silence_error(offsets: Tensor, silent: Tensor) -> Tensor:
    """Silence: mean squared offset from the neutral face, and change of it, in silent frames.

    (sum over silent frames of |o_t|^2 + sum over pairs of silent frames of |o_t - o_{t-1}|^2)
    / (silent frames * N), in squared units of (B, T, N). Ours.

    Args:
        silent: (B, T), true in silent frames.
    """
    still = offsets.float().square().mean(-1) * silent
    steps = offsets.float().diff(dim=1).square().mean(-1) * (silent[:, 1:] & silent[:, :-1])
    return (still.sum() + steps.sum()) / silent.sum().clamp(min=1)
