"""The training loop: a plain one, and the same for everything that is trained here.

What is trained is a `Task`: a module, batches, losses, a measure. The loop knows none of it.
Each loss term is a mean over things that can be counted in the batch (frames, clips). The loop
counts them over the whole step first (all its parts, all processes) and then weighs each part's
means by its share, so that the gradient of a step that is taken in parts, on one machine or on
several, is exactly that of the step in one piece.

Everything random in part n of a run comes from (seed, n), the learning rate from the step: a
run that goes on from a checkpoint repeats nothing and forgets nothing, bit by bit on a CPU, and
no random state has to be kept.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, distributed, nn

from ..core.errors import SelfTalkError
from ..core.files import atomic_path
from ..core.progress import ProgressLine

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SCHEDULES = ("constant", "cosine")
REPORT_EVERY = 10  # steps; the losses wait on the device until then


class Task(Protocol):
    """What a `Loop` trains.

    Attributes:
        module: its parameters that require gradients are trained.
        measure: the one of `validate` that tells which checkpoint is best.
        lower_is_better: of that measure.
        facts: numbers and strings that whoever reads a checkpoint must know.
    """

    module: nn.Module
    measure: str
    lower_is_better: bool
    facts: dict[str, Any]

    def batch(self, rng: np.random.Generator, number: int) -> Any:
        """Part `number` of the run, counted over all steps and processes; the same each time."""

    def counts(self, batch: Any) -> dict[str, float]:
        """Per loss term, how many things it is the mean of in a batch; every term, even if 0."""

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Per loss term its mean over those things, times its factor; absent where there are 0."""

    def validate(self) -> dict[str, float]:
        """Measures on what is held out, of the module as it is now."""

    def picture(self, path: Path) -> None:
        """Draw held-out clips (PNG), of the module as it is now; may do nothing."""


@dataclass(frozen=True)
class Settings:
    """How a module is trained.

    Attributes:
        steps: of the optimiser.
        learning_rate: of AdamW, which without weight decay is Adam.
        warmup: steps in which the rate rises.
        schedule: "constant", or "cosine": half a cosine that ends at zero.
        weight_decay, betas: of AdamW.
        clip: largest norm of the gradient; 0: any.
        accumulate: parts of a step, one after the other, where memory holds no more.
        precision: "fp32", "bf16" or "fp16"; weights and optimiser stay in fp32.
        average: decay of the moving average of the weights, which is then what is validated and
            kept; 0: none.
        seed: of everything random.
        validate_every, checkpoint_every: steps; the last step always does both.
        picture_every: validations.
    """

    steps: int
    learning_rate: float = 1e-4
    warmup: int = 0
    schedule: str = "constant"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 0.0
    accumulate: int = 1
    precision: str = "fp32"
    average: float = 0.0
    seed: int = 0
    validate_every: int = 1000
    checkpoint_every: int = 1000
    picture_every: int = 5

    def __post_init__(self) -> None:
        for name, known in (("precision", tuple(PRECISIONS)), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise SelfTalkError(
                    f"{name} is {getattr(self, name)!r}; choose from {', '.join(known)}."
                )
        for name in ("steps", "accumulate", "validate_every", "checkpoint_every", "picture_every"):
            if getattr(self, name) < 1:
                raise SelfTalkError(f"{name} is {getattr(self, name)}; it must be 1 at least.")

    def rate(self, step: int) -> float:
        """Learning rate of the step after `step` steps."""
        rise = min((step + 1) / self.warmup, 1.0) if self.warmup else 1.0
        if self.schedule == "constant":
            return self.learning_rate * rise
        done = max(step - self.warmup, 0) / max(self.steps - self.warmup, 1)
        return self.learning_rate * min(rise, 0.5 + 0.5 * math.cos(math.pi * done))


# --- Several processes ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Team:
    """The processes that train one module together.

    Attributes:
        rank: this one's number; number 0 writes files and talks.
        world: how many there are.
        device: where this one's module is.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def total(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over all processes; all give the same names."""
        if self.world == 1:
            return dict(values)
        sums = torch.tensor([values[name] for name in values], dtype=torch.float64)
        sums = sums.to(self.device)
        distributed.all_reduce(sums)
        return dict(zip(values, sums.tolist(), strict=True))

    def share(self, module: nn.Module) -> None:
        """Give all processes the tensors of the first."""
        if self.world > 1:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, 0)

    def sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Add up the gradients of all processes.

        By hand rather than by DistributedDataParallel: parameters that some parts do not use
        (layers that are dropped, clips without a face) are then exact, too.
        """
        if self.world == 1:
            return
        used = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        distributed.all_reduce(used)
        for parameter, users in zip(parameters, used.tolist(), strict=True):
            if users:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad)

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            distributed.barrier()


@contextlib.contextmanager
def team() -> Iterator[Team]:
    """The processes that `torchrun` started, or this one alone; on CUDA where there is one."""
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(device)
    if world == 1:
        yield Team(device=torch.device(device))
        return
    # The others wait while the first validates, which may take long.
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=timedelta(hours=4))
    try:
        yield Team(rank, world, torch.device(device))
    finally:
        distributed.destroy_process_group()


# --- The loop ------------------------------------------------------------------------------------


class Loop:
    """A task on its way: step, weights, optimiser, and the folder that keeps them.

    The folder gets `last.pt` and `best.pt` (plain tensors and strings), `curves/` (TensorBoard)
    and `pictures/`.
    """

    def __init__(
        self,
        task: Task,
        settings: Settings,
        folder: str | os.PathLike[str],
        config: Mapping[str, Any],
        team: Team | None = None,
        title: str = "Training",
        say: Callable[[str], None] | None = None,
    ) -> None:
        """Get ready; nothing is written yet.

        Args:
            config: all that the run is made of, as JSON can hold it; a checkpoint of another
                config, or of another number of processes, is refused.
            title: of the progress line.
            say: prints a line; stdout by default.
        """
        self.task, self.settings, self.folder = task, settings, Path(folder)
        self.team = team or Team()
        # How many clips a step has, and so what step a run ends at, depends on it.
        several = {"processes": self.team.world} if self.team.world > 1 else {}
        self.config = json.dumps({**config, **several}, sort_keys=True)
        self.title, self.say = title, say or (lambda text: print(text, flush=True))
        self.step = 0
        self.best: float | None = None
        task.module.to(self.team.device)
        self.team.share(task.module)
        self.trained = {n: p for n, p in task.module.named_parameters() if p.requires_grad}
        self.average = {
            name: parameter.detach().clone()
            for name, parameter in self.trained.items()
            if settings.average
        }
        self.optimiser = torch.optim.AdamW(
            self.trained.values(), settings.learning_rate, settings.betas,
            weight_decay=settings.weight_decay,
        )  # fmt: skip
        self.scaler = torch.amp.GradScaler(
            self.team.device.type, enabled=settings.precision == "fp16"
        )

    def run(self) -> None:
        """Train to the last step, from the last checkpoint if there is one.

        Raises:
            SelfTalkError: that checkpoint cannot be used, the disk is full, or the weights are
                no longer finite.
        """
        settings, first = self.settings, self.team.rank == 0
        if self.resume() and first:
            self.say(f"{self.title}: going on from step {self.step} of {settings.steps}")
        if self.step >= settings.steps:
            return
        line = ProgressLine(self.title, self.step / settings.steps)
        curves = _curves(self.folder / "curves", self.step, self.say) if first else None
        recent: dict[str, Tensor] = {}
        shown = ""
        try:
            while self.step < settings.steps:
                for name, term in self.advance().items():
                    recent[name] = recent[name] + term if name in recent else term
                if self.step % REPORT_EVERY == 0 or self.step == settings.steps:
                    means = self._means(recent)
                    recent.clear()
                    shown = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
                    if curves is not None:
                        for name, value in means.items():
                            curves.add_scalar(f"loss/{name}", value, self.step)
                        curves.add_scalar("rate", settings.rate(self.step - 1), self.step)
                if first:
                    line(
                        self.step / settings.steps,
                        f"step {self.step} of {settings.steps}, {shown}",
                    )
                if self.step % settings.validate_every == 0 or self.step == settings.steps:
                    line.clear()
                    self._validate(curves)
                if self.step % settings.checkpoint_every == 0 or self.step == settings.steps:
                    self.save("last.pt")
                    self.team.wait()  # whoever reads it next finds it whole
        finally:
            line.clear()
            if curves is not None:
                curves.close()

    def advance(self) -> dict[str, Tensor]:
        """One step of the optimiser.

        Returns:
            This process's share of each loss term.
        """
        settings, team = self.settings, self.team
        self.task.module.train()
        for group in self.optimiser.param_groups:
            group["lr"] = settings.rate(self.step)
        parts = []
        for part in range(settings.accumulate):
            number = (self.step * settings.accumulate + part) * team.world + team.rank
            rng = np.random.default_rng([settings.seed, number])
            seed = int(rng.integers(2**62))
            batch = self.task.batch(rng, number)
            parts.append((seed, batch, self.task.counts(batch)))
        whole = team.total({name: sum(count[name] for *_, count in parts) for name in parts[0][2]})
        told: dict[str, Tensor] = {}
        self.optimiser.zero_grad(set_to_none=True)
        for seed, batch, count in parts:
            torch.manual_seed(seed)
            with torch.autocast(
                team.device.type, PRECISIONS[settings.precision],
                enabled=settings.precision != "fp32",
            ):  # fmt: skip
                terms = self.task.losses(batch)
            shares = {n: terms[n] * (count[n] / whole[n]) for n in terms if count[n]}
            if shares:
                self.scaler.scale(torch.stack(list(shares.values())).sum()).backward()
            for name, share in shares.items():
                told[name] = told.get(name, 0.0) + share.detach()
        team.sum_gradients(list(self.trained.values()))
        if settings.clip:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(list(self.trained.values()), settings.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.step += 1
        decay = min(settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, own in self.average.items():
                own.lerp_(self.trained[name], 1 - decay)
        return {name: told.get(name, torch.zeros((), device=team.device)) for name in whole}

    def _means(self, recent: dict[str, Tensor]) -> dict[str, float]:
        steps = (self.step - 1) % REPORT_EVERY + 1
        return self.team.total({name: float(total) / steps for name, total in recent.items()})

    def _validate(self, curves: Any) -> None:
        """Measure, keep the best, draw; the other processes wait."""
        if self.team.rank == 0:
            self.task.module.eval()
            with self.averaged(), torch.no_grad():
                table = self.task.validate()
                number = -(-self.step // self.settings.validate_every)
                last = self.step == self.settings.steps
                if last or (number - 1) % self.settings.picture_every == 0:
                    self._draw(self.folder / "pictures" / f"step-{self.step:07d}.png")
            self.say(f"{self.title}: step {self.step}")
            for name, value in table.items():
                self.say(f"    {name:40s} {value:10.4f}")
                if curves is not None:
                    curves.add_scalar(f"validation/{name}", value, self.step)
            value = table[self.task.measure]
            if self.best is None or (
                value <= self.best if self.task.lower_is_better else value >= self.best
            ):
                self.best = value if math.isfinite(value) else None  # anything beats that
                self.save("best.pt")
        self.team.wait()

    def _draw(self, path: Path) -> None:
        try:
            self.task.picture(path)
        except ModuleNotFoundError as error:
            self.say(f"There are no pictures: the package {error.name} is not installed.")

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The module with the moving average of its weights, where there is one."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, own in self.average.items():
            parameter = self.trained[name]
            self.average[name], parameter.data = parameter.data, own

    # -- checkpoints --------------------------------------------------------------------------

    def save(self, name: str) -> None:
        """Keep all that the rest of the run depends on, whole or not at all; process 0 alone.

        Raises:
            SelfTalkError: the weights are not finite, or the file cannot be written.
        """
        if not all(bool(torch.isfinite(p).all()) for p in self.trained.values()):
            raise SelfTalkError(
                f"At step {self.step} the weights are no longer finite. Lower the learning rate, "
                "clip the gradients, or use precision fp32; the last checkpoint is still good."
            )
        if self.team.rank:
            return
        state = {
            "config": self.config,
            "facts": json.dumps(self.task.facts),
            "step": self.step,
            "best": self.best,
            "module": self.task.module.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        with atomic_path(self.folder / name) as temporary:
            torch.save(state, temporary)

    def resume(self) -> bool:
        """Go on from `last.pt` if it is there.

        Raises:
            SelfTalkError: it is damaged, or belongs to another config.
        """
        path = self.folder / "last.pt"
        if not path.exists():
            return False
        state = read_checkpoint(path, self.team.device)
        if state["config"] != self.config:
            raise SelfTalkError(
                f"{path} was made with another configuration{_difference(state, self.config)}. "
                "Choose another output folder, or remove it."
            )
        self._put(state)
        self.step, self.best = state["step"], state["best"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        return True

    def _put(self, state: dict[str, Any]) -> None:
        self.task.module.load_state_dict(state["module"])
        for name, own in self.average.items():
            own.copy_(state["average"][name])

    def take_best(self) -> int:
        """Put the best weights (averaged, where there is an average) into the module, for good.

        Returns:
            The step that they are of.
        """
        state = read_checkpoint(self.folder / "best.pt", self.team.device)
        self.task.module.load_state_dict(state["module"] | state["average"])
        return int(state["step"])


def read_checkpoint(path: str | os.PathLike[str], device: torch.device | str) -> dict[str, Any]:
    """What `Loop.save` wrote.

    Raises:
        SelfTalkError: it is missing, damaged, or something else.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        if lacking := {"config", "facts", "step", "module", "average"} - set(state):
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
    except (RuntimeError, OSError, ValueError, EOFError, KeyError, pickle.UnpicklingError) as error:
        first = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise SelfTalkError(
            f"{path} is no readable checkpoint of SelfTalk's training: {first[0][:200]}."
        ) from error
    return dict(state)


def _difference(state: dict[str, Any], config: str) -> str:
    old, new = json.loads(state["config"]), json.loads(config)
    keys = sorted(key for key in old.keys() | new if old.get(key) != new.get(key))
    return f" ({', '.join(keys)})" if keys else ""


def _curves(folder: Path, step: int, say: Callable[[str], None]) -> Any:
    """A TensorBoard writer, or None where the package is absent."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        say(
            "No curves are drawn: the package tensorboard is not installed "
            f'("{sys.executable}" -m pip install tensorboard).'
        )
        return None
    return SummaryWriter(str(folder), purge_step=step)
