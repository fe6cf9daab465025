"""Loss terms: padding that does not count, nothing that is not finite.

Their published numbers are compared in tests/animator/test_vertices.py, where the checkpoint is.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from selftalk_blender.animator.network import Diagram
from selftalk_blender.training import losses


def diagram(frames: list[int], text: list[int]) -> tuple[Diagram, torch.Tensor]:
    """Random, with nonsense beyond the clips."""
    torch.manual_seed(0)
    size = len(frames)
    faces, heard = torch.randn(2, size, max(frames), 6), torch.randn(2, size, max(text), 5)
    logits = torch.randn(2, size, max(text), 7)
    return Diagram(faces[0], *heard, *logits, frames, text), faces[1]


def test_padding_does_not_count() -> None:
    """A batch of clips gives the mean over their frames, and of their texts over the clips."""
    frames, text = [9, 4, 1], [15, 8, 6]
    both, target = diagram(frames, text)
    terms = losses.diagram_losses(both, target)
    alone = [
        losses.diagram_losses(
            Diagram(
                both.vertices[i : i + 1, :t],
                *(x[i : i + 1, :s] for x in both[1:5]),
                [t],
                [s],
            ),
            target[i : i + 1, :t],
        )
        for i, (t, s) in enumerate(zip(frames, text, strict=True))
    ]
    counts = {
        "vertices": frames, "velocity": [t - 1 for t in frames], "latent": text, "text": [1] * 3,
    }  # fmt: skip
    for name, count in counts.items():
        parts = torch.stack([one[name] for one in alone])
        weights = torch.tensor(count) / sum(count)
        torch.testing.assert_close(terms[name], (parts * weights).sum())
    first = alone[0]
    torch.testing.assert_close(
        first["velocity"],
        functional.mse_loss(both.vertices[0].diff(dim=0), target[0].diff(dim=0)),
    )


def test_texts_that_cannot_be_told_are_finite() -> None:
    """No letters, more letters than frames, and a plain one in a batch: as torch's mean."""
    logits = torch.randn(3, 6, 5, requires_grad=True)
    texts = [[], [1, 1, 1, 1, 1], [1, 2]]
    loss = losses.text_error(logits, [6, 6, 4], texts)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
    assert logits.grad[0].any() and not logits.grad[1].any() and not logits.grad[2, 4:].any()
    rival = functional.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1), torch.tensor([1, 1, 1, 1, 1, 1, 2]),
        torch.tensor([6, 6, 4]), torch.tensor([0, 5, 2]), zero_infinity=True,
    )  # fmt: skip
    torch.testing.assert_close(loss, rival)


def test_closure_minds_closed_lips_and_silence_still_ones() -> None:
    upper, lower = torch.tensor([0]), torch.tensor([1])
    face = torch.zeros(1, 3, 6)
    face[0, :, 1] = torch.tensor([0.0, 3.0, 4.0])
    gap = losses.lip_gap(face, upper, lower)
    torch.testing.assert_close(gap, torch.tensor([[0.0, 3.0, 4.0]]), atol=1e-5, rtol=0)
    mask = torch.tensor([[True, True, False]])
    error = losses.gap_error(gap + 1.0, gap, mask)
    assert float(error) == pytest.approx((1 + np.exp(-3)) / 2, rel=1e-4)
    silent = torch.tensor([[False, True, True]])
    expected = ((9 + 16) / 6 + 1 / 6) / 2
    assert float(losses.silence_error(face, silent)) == pytest.approx(expected)
    assert float(losses.silence_error(face, silent & False)) == 0.0
    face.requires_grad_()
    losses.lip_gap(face, upper, lower).sum().backward()
    assert torch.isfinite(face.grad).all()
