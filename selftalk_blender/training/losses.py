"""Loss terms of the animator as pure functions. Lengths in millimetres, weights without unit.

P predicted and W wanted weights (B, T, K), mask (B, T): 1 where a frame counts.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..core import FaceTemplate

MIDDLE = 0.013  # metres to each side
TOUCHING = 1.7  # mm between vertices; the surfaces between them are nearer


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

    Mean over frames, weighted by `biting` (B, T), of max(d - TOUCHING, 0)^2, where d is the
    smallest distance of a vertex of the lip's middle to one of the teeth's.
    """
    frames = biting > 0.5
    if not frames.any():
        return predicted.new_zeros(())
    weights, share = predicted[frames], biting[frames]  # (F, K), (F,)
    lip, teeth = (
        rest + torch.tensordot(weights, moved, 1) for rest, moved in (geometry.lip, geometry.teeth)
    )  # (F, n, 3)
    distance = torch.cdist(lip, teeth).flatten(1).amin(1)
    return ((distance - TOUCHING).clamp(min=0).square() * share).sum() / share.sum()


def width_loss(geometry: FaceGeometry, predicted: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the mouth's width, mm^2."""
    return mean(((predicted - wanted) @ geometry.width).square(), mask)


def weight_loss(predicted: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of the weights, summed over shapes: of poses alike, take the wanted."""
    return mean((predicted - wanted).square().sum(-1), mask)
