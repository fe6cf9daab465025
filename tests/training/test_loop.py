"""The loop: exact in parts and processes, resumed bit by bit, whole checkpoints, sentences."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from selftalk_blender.core.errors import SelfTalkError
from selftalk_blender.training.loop import Loop, Settings, read_checkpoint

WIDTH = 4


class Clips:
    """Fits padded clips of random lengths; one in three has no face, its text counts alone."""

    measure = "error"
    lower_is_better = True

    def __init__(self, size: int = 2, dropout: float = 0.0) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(
            nn.Linear(WIDTH, 8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 1)
        )
        self.size, self.facts, self.errors = size, {"scale": 0.5}, []
        self.drawn: list[Path] = []

    def batch(self, rng: np.random.Generator, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """Clip i of the run is always the same, however the clips are dealt out."""
        clips = [np.random.default_rng(number * self.size + i) for i in range(self.size)]
        lengths = [int(own.integers(1, 6)) for own in clips]
        mask = torch.arange(6)[None] < torch.tensor(lengths)[:, None]
        sound = torch.tensor(np.array([own.normal(size=(6, WIDTH)) for own in clips])).float()
        face = torch.tensor([(number * self.size + i) % 3 > 0 for i in range(self.size)])
        return sound, mask, face

    def counts(self, batch) -> dict[str, float]:
        _, mask, face = batch
        return {"vertices": float(mask[face].sum()), "text": float(len(mask))}

    def losses(self, batch) -> dict[str, Tensor]:
        sound, mask, face = batch
        out = self.module(sound).squeeze(-1).float()
        error = (out - sound.sum(-1)).square() * mask
        terms = {"text": 0.1 * (error.sum(1) / mask.sum(1)).mean()}
        if face.any():
            terms["vertices"] = error[face].sum() / mask[face].sum()
        return terms

    def validate(self) -> dict[str, float]:
        assert not self.module.training and not torch.is_grad_enabled()
        sound, *_ = self.batch(np.random.default_rng(0), 10**6)
        error = float((self.module(sound).squeeze(-1) - sound.sum(-1)).square().mean())
        self.errors.append(error)
        return {"error": error, "other": -error}

    def picture(self, path: Path) -> None:
        self.drawn.append(path)


SETTINGS = Settings(
    6, 1e-2, warmup=2, schedule="cosine", weight_decay=0.01, clip=1.0, average=0.9,
    validate_every=2, checkpoint_every=3,
)  # fmt: skip


def trained(folder: Path, task: Clips | None = None, **changes: object) -> Loop:
    settings = dataclasses.replace(SETTINGS, **changes)
    loop = Loop(task or Clips(), settings, folder, {"batch": 2})
    loop.run()
    return loop


def same(one: dict, other: dict) -> bool:
    """Whether two checkpoints hold the same, to the last bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, Tensor) else one == other


def test_resume_is_bit_identical(tmp_path: Path) -> None:
    """With dropout, an average, and a schedule; interrupted between two checkpoints."""
    whole = trained(tmp_path / "whole", Clips(dropout=0.3))
    halves = Loop(Clips(dropout=0.3), SETTINGS, tmp_path / "halves", {"batch": 2})

    def interrupted() -> dict[str, Tensor]:
        if halves.step == 5:
            raise KeyboardInterrupt
        return Loop.advance(halves)

    halves.advance = interrupted
    with pytest.raises(KeyboardInterrupt):
        halves.run()
    state = read_checkpoint(tmp_path / "halves/last.pt", "cpu")
    assert state["step"] == 3 and json.loads(state["facts"]) == {"scale": 0.5}
    torch.randn(7), np.random.default_rng(3).normal()  # what else happens in between
    again = trained(tmp_path / "halves", Clips(dropout=0.3))
    assert again.step == whole.step == 6
    for name in ("last.pt", "best.pt"):
        files = [read_checkpoint(tmp_path / f"{run}/{name}", "cpu") for run in ("whole", "halves")]
        assert same(*files)
    assert not same(whole.average, dict(whole.trained))


def test_a_step_in_parts_is_the_whole_step(tmp_path: Path) -> None:
    """Parts of other lengths, with and without faces, give the gradient of the big batch."""
    gradients = []
    for size, parts in ((12, 1), (4, 3), (1, 12)):
        task = Clips(size)
        loop = Loop(task, dataclasses.replace(SETTINGS, accumulate=parts, clip=0.0), tmp_path, {})
        told = loop.advance()
        gradients.append(
            [p.grad for p in task.module.parameters()] + [torch.stack([*told.values()])]
        )
    for other in gradients[1:]:
        for one, two in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


SCRIPT = """
import sys, torch
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
from test_loop import Clips, SETTINGS
from selftalk_blender.training.loop import Loop, team
with team() as those:
    torch.manual_seed(those.rank)
    loop = Loop(Clips(2), SETTINGS, {folder!r}, {{"batch": 2}}, those)
    loop.advance()
    gradients = [p.grad.clone() for p in loop.trained.values()]
    torch.save(gradients, {folder!r} + f"-gradients-{{those.rank}}.pt")
    loop = Loop(Clips(2), SETTINGS, {folder!r}, {{"batch": 2}}, those)
    loop.run()
    loop.run()
    torch.save(dict(loop.trained), {folder!r} + f"-{{those.rank}}.pt")
"""


def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tests = Path(__file__).parent
    code = SCRIPT.format(
        tests=str(tests), root=str(tests.parents[1]), folder=str(tmp_path / "team")
    )
    environment = os.environ | {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment | {"RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [process.communicate(timeout=120) for process in both]
    assert all(process.returncode == 0 for process in both), told
    assert told[0][0] and not told[1][0]  # the second is silent
    alone = Loop(Clips(4), SETTINGS, tmp_path / "alone", {"batch": 2})
    alone.advance()
    gradients = [torch.load(f"{tmp_path}/team-gradients-{rank}.pt") for rank in range(2)]
    for one, two, own in zip(*gradients, alone.trained.values(), strict=True):
        assert torch.equal(one, two)
        torch.testing.assert_close(one, own.grad, rtol=1e-5, atol=1e-7)
    alone = trained(tmp_path / "alone", Clips(4))
    weights = [torch.load(f"{tmp_path}/team-{rank}.pt") for rank in range(2)]
    for name, value in alone.trained.items():
        assert torch.equal(weights[0][name], weights[1][name])
        torch.testing.assert_close(weights[0][name], value, rtol=1e-4, atol=1e-5)
    assert read_checkpoint(tmp_path / "team/last.pt", "cpu")["step"] == 6
    with pytest.raises(SelfTalkError, match=r"another configuration \(processes\)"):
        Loop(Clips(4), SETTINGS, tmp_path / "team", {"batch": 2}).run()


def test_best_is_the_best_of_the_average_and_last_the_last(tmp_path: Path) -> None:
    task = Clips()
    loop = trained(tmp_path, task, steps=8, learning_rate=0.5, warmup=0, picture_every=2)
    assert len(task.errors) == 4 and len(set(task.errors)) == 4
    best = task.errors.index(min(task.errors))
    assert loop.best == min(task.errors)
    assert loop.take_best() == 2 * (best + 1)
    task.module.eval()
    with torch.no_grad():
        assert task.validate()["error"] == min(task.errors)
    assert read_checkpoint(tmp_path / "last.pt", "cpu")["step"] == 8
    assert [path.name for path in task.drawn] == [f"step-000000{n}.png" for n in (2, 6, 8)]
    assert list((tmp_path / "curves").glob("events*"))


def test_a_measure_that_is_not_a_number_loses_to_any_that_is(tmp_path: Path) -> None:
    task, told = Clips(), iter([float("nan"), 3.0, float("nan")])
    task.validate = lambda: {"error": next(told)}
    assert trained(tmp_path, task).best == 3.0
    assert read_checkpoint(tmp_path / "best.pt", "cpu")["step"] == 4


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_the_same(precision: str, tmp_path: Path) -> None:
    full, half = (
        trained(tmp_path / name, steps=20, precision=name) for name in ("fp32", precision)
    )
    for name, value in full.trained.items():
        assert half.trained[name].dtype == torch.float32
        assert (half.trained[name] - value).abs().max() < 0.05
    assert not torch.equal(half.trained["3.weight"], full.trained["3.weight"])


def test_interrupt_while_writing_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch) -> None:
    trained(tmp_path)
    before = (tmp_path / "last.pt").read_bytes()

    def half_written(state: object, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half_written)
    with pytest.raises(KeyboardInterrupt):
        Loop(Clips(), SETTINGS, tmp_path, {"batch": 2}).save("last.pt")
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not list(tmp_path.glob(".last*"))


def test_what_cannot_be_used_is_a_sentence(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(SelfTalkError, match=r"another configuration \(batch\)"):
        Loop(Clips(), SETTINGS, tmp_path, {"batch": 3}).run()
    (tmp_path / "last.pt").write_bytes(b"nothing")
    with pytest.raises(SelfTalkError, match="no readable checkpoint"):
        Loop(Clips(), SETTINGS, tmp_path, {"batch": 2}).run()
    for wrong, said in (
        ({"precision": "fp8"}, "choose from fp32, bf16, fp16"),
        ({"schedule": "linear"}, "choose from constant, cosine"),
        ({"accumulate": 0}, "accumulate is 0"),
    ):
        with pytest.raises(SelfTalkError, match=said):
            dataclasses.replace(SETTINGS, **wrong)
    with pytest.raises(SelfTalkError, match="no longer finite"):
        trained(tmp_path / "wild", learning_rate=float("inf"))
    assert not (tmp_path / "wild/last.pt").exists()


def test_absent_tensorboard_is_told_once(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    trained(tmp_path)
    assert capsys.readouterr().out.count("tensorboard is not installed") == 1
    assert (tmp_path / "last.pt").exists()
