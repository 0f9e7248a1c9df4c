"""Meta-training as a generator: validation, logging and saving are the body of the caller's `for`.

    for step in train(learner, episodes, optimizer, steps=1000):
        print(step.t, step.loss)

Step t's tasks, noise and learning rate are functions of (seed, t), so a run that starts again at any t, from the
weights and the optimizer's state of that moment, continues bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .episode import EpisodeSource
from .errors import DataError, SpecError, unknown_name
from .learner import Learner
from .ops.seeds import seed_of

__all__ = ["OPTIMIZERS", "REMEDY", "SCHEDULES", "Schedule", "Step", "train"]

REMEDY = "lower the learning rates or clip gradients"
"""What to do when training diverges."""

Schedule = Callable[[int], float]
"""From a step to a factor on the learning rate."""


class Step(NamedTuple):
    """A finished step of meta-training."""

    t: int
    """Which step, from 0."""
    loss: Tensor
    """The loss before the step, a detached scalar."""


def constant(steps: int) -> Schedule:
    """The same rate throughout."""
    return lambda t: 1.0


def cosine(steps: int, *, floor: float = 0.0) -> Schedule:
    """From 1 to `floor` by half a cosine over all steps."""
    return lambda t: floor + (1 - floor) * (1 + math.cos(math.pi * t / steps)) / 2


def step(steps: int, *, every: int = 2000, factor: float = 0.5) -> Schedule:
    """Times `factor` after each `every` steps (Snell et al. 2017: half each 2000 episodes)."""
    if every < 1:
        raise SpecError(f"schedule 'step': expected `every` to be at least 1 step, got {every}")
    return lambda t: factor ** (t // every)


def linear(steps: int, *, floor: float = 0.0) -> Schedule:
    """From 1 to `floor` in a straight line over all steps."""
    return lambda t: 1 - (1 - floor) * t / steps


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "cosine": cosine,
    "step": step,
    "linear": linear,
}
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
}


def train(
    learner: Learner,
    episodes: EpisodeSource,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    start: int = 0,
    schedule: Schedule | None = None,
    clip: float | None = None,
    accumulate: int = 1,
    precision: Literal["float32", "bfloat16"] = "float32",
    seed: int = 0,
) -> Iterator[Step]:
    """Descend the learner's loss; yields after each step.

    Args:
        learner: in training mode during a step, in evaluation mode after it; its device is where episodes go.
            Parts that are in evaluation mode while the learner is in training mode, when the first step is asked
            for, stay so (`encoder.eval()`: a frozen batch norm).
        episodes: step t uses batches t·accumulate to (t + 1)·accumulate − 1.
        optimizer: over the learner's parameters; its learning rates at the start are the schedule's 1, and the
            caller's own affair without a schedule.
        steps: where to stop.
        start: where to begin; earlier steps are taken to be done.
        schedule: factor on the learning rates at each step.
        clip: greatest norm of all gradients together.
        accumulate: batches a step, their gradients averaged.
        precision: "bfloat16" runs the forward pass in automatic mixed precision.
        seed: of the learner's own noise (dropout, sampling). The global random state stays as it was.

    Raises:
        SpecError, UnknownNameError: an argument is out of range, or the learner has no parameters.
        DataError: the loss (or, with `clip`, a gradient) is not finite; the weights are those before the step. An
            accelerator is not waited for: there the loss is for the caller to check.
    """
    first = next(learner.parameters(), None)
    if first is None:
        raise SpecError(f"training: {type(learner).__name__} has no parameters to learn; evaluate it as it is")
    if accumulate < 1:
        raise SpecError(f"training: expected `accumulate` to be at least 1 batch a step, got {accumulate}")
    if precision not in ("float32", "bfloat16"):
        raise unknown_name("precision", precision, ["float32", "bfloat16"])
    device = first.device
    checked = device.type == "cpu"
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    rates: Sequence[float] = []
    if schedule is not None:
        rates = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
    frozen = [module for module in learner.modules() if learner.training and not module.training]
    mixed = torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
    devices = [device] if device.type == "cuda" else []
    for t in range(start, steps):
        learner.train()
        for module in frozen:
            module.training = False
        if schedule is not None:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(t)
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        with torch.random.fork_rng(devices):
            torch.default_generator.manual_seed(seed_of("noise", seed, t))  # torch.manual_seed is slow
            if devices:
                torch.cuda.manual_seed(seed_of("noise", seed, t))
            for part in range(accumulate):
                episode = episodes[t * accumulate + part].to(device, non_blocking=True)
                with mixed:
                    loss = learner.loss(episode) / accumulate
                loss.backward()  # type: ignore[no-untyped-call]
                total += loss.detach()
        if checked and not math.isfinite(total):
            raise DataError(f"training: the loss is {float(total)} at step {t}; {REMEDY}")
        if clip is not None:
            try:
                torch.nn.utils.clip_grad_norm_(parameters, clip, error_if_nonfinite=checked)
            except RuntimeError as error:
                raise DataError(f"training: the gradients are not finite at step {t}; {REMEDY}") from error
        optimizer.step()
        learner.eval()
        yield Step(t, total)
