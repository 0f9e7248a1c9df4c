"""Meta-training as a generator: validation, logging and saving are the body of the caller's `for`.

    for step in train(learner, episodes, optimizer, steps=1000):
        print(step.t, step.loss)

Step t's tasks, noise and learning rate are functions of (seed, t), so a run that starts again at any t, from the
weights and the optimizer's state of that moment, continues bit for bit.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .data.episodes import drawn
from .distributed import ALONE, Ranks
from .episode import Episode, EpisodeSource
from .errors import DataError, SpecError, unknown_name
from .learner import Learner
from .ops.buffers import Buffers
from .ops.seeds import seed_of

__all__ = ["ANY_LENGTH", "OPTIMIZERS", "PARTS", "REMEDY", "SCHEDULES", "Schedule", "Step", "check_device", "train"]

REMEDY = "lower the learning rates or clip gradients"
"""What to do when training diverges."""

IDLE = (
    "training: some of the {} processes have no task in a step and wait for the others; "
    "raise `batch` or `accumulate`, or start fewer"
)

Schedule = Callable[[int], float]
"""From a step to a factor on the learning rate."""

PARTS = 10_000
"""Into how many parts a schedule takes a budget of time, in place of steps."""


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
    _share("cosine", "floor", floor)
    return lambda t: floor + (1 - floor) * (1 + math.cos(math.pi * t / steps)) / 2


def step(steps: int, *, every: int = 2000, factor: float = 0.5) -> Schedule:
    """Times `factor` after each `every` steps (Snell et al. 2017: half each 2000 episodes)."""
    if every < 1:
        raise SpecError(f"schedule 'step': expected `every` to be at least 1 step, got {every}")
    _share("step", "factor", factor)
    return lambda t: factor ** (t // every)


def linear(steps: int, *, floor: float = 0.0) -> Schedule:
    """From 1 to `floor` in a straight line over all steps."""
    _share("linear", "floor", floor)
    return lambda t: 1 - (1 - floor) * t / steps


def _share(schedule: str, name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise SpecError(f"schedule {schedule!r}: expected `{name}` to be a share from 0 to 1, got {value}")


ANY_LENGTH = ("constant", "step")
"""Schedules whose rate at step t does not depend on the number of steps."""
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


def check_device(device: str) -> None:
    """See that numbers can be computed there.

    Raises:
        SpecError: no such device.
    """
    try:
        torch.zeros((), device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__).split(". ")[0]
        raise SpecError(f"device {device!r} is not to be had: {reason}; use 'cpu'") from None


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
    ranks: Ranks = ALONE,
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
        accumulate: batches a step, their gradients averaged. Running statistics see them as one larger batch: each
            begins from those before the step, and the mean stays.
        precision: "bfloat16" runs the forward pass in automatic mixed precision.
        seed: of the learner's own noise (dropout, sampling). The global random state stays as it was.
        ranks: processes that share the tasks of each step; each yields the same steps and has the same weights.

    Raises:
        SpecError, UnknownNameError: an argument is out of range, or the learner has no parameters.
        DataError: the loss (or, with `clip`, a gradient) is not finite; the weights are those before the step. An
            accelerator is not waited for: there the loss is for the caller to check.
    """
    device = _checked(learner, start, clip, accumulate, precision)
    checked = device.type == "cpu"
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    rates: Sequence[float] = []
    if schedule is not None:
        rates = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
    frozen = [module for module in learner.modules() if learner.training and not module.training]
    mixed = torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
    devices = [device] if device.type == "cuda" else []
    apart = [ranks.rank] if ranks.rank else []  # noise of its own for every rank
    ranks.broadcast_([*learner.parameters(), *learner.buffers()])
    for t in range(start, steps):
        learner.train()
        for module in frozen:
            module.training = False
        if schedule is not None:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(t)
        optimizer.zero_grad(set_to_none=True)
        total, idle = torch.zeros((), device=device), True
        buffers = Buffers(learner.buffers()) if accumulate > 1 or ranks.size > 1 else None
        with torch.random.fork_rng(devices):
            torch.default_generator.manual_seed(seed_of("noise", seed, t, *apart))  # torch.manual_seed is slow
            if devices:
                torch.cuda.manual_seed(seed_of("noise", seed, t, *apart))
            for part in range(accumulate):
                episode, weight = _own(episodes, t * accumulate + part, ranks, part)
                if episode is None:
                    continue
                episode = episode.to(device, non_blocking=True)
                with mixed:
                    loss = learner.loss(episode) * weight / accumulate
                loss.backward()
                total, idle = total + loss.detach(), False
                if buffers is not None:
                    buffers.add(weight / accumulate)
        if ranks.size > 1:
            if t == start and ranks.any(idle) and ranks.first:
                warnings.warn(IDLE.format(ranks.size), stacklevel=2)
            total = _summed(ranks, parameters, total, buffers)
        if buffers is not None:
            buffers.settle()
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


def _checked(learner: Learner, start: int, clip: float | None, accumulate: int, precision: str) -> torch.device:
    """The learner's device, if arguments are in range."""
    first = next(learner.parameters(), None)
    if first is None:
        raise SpecError(f"training: {type(learner).__name__} has no parameters to learn; evaluate it as it is")
    if accumulate < 1:
        raise SpecError(f"training: expected `accumulate` to be at least 1 batch a step, got {accumulate}")
    if clip is not None and not clip > 0:
        raise SpecError(f"training: expected `clip` to be a norm above 0, or None; got {clip}")
    if start < 0:
        raise SpecError(f"training: expected `start` to be a step, counted from 0; got {start}")
    if precision not in ("float32", "bfloat16"):
        raise unknown_name("precision", precision, ["float32", "bfloat16"])
    return first.device


def _own(episodes: EpisodeSource, t: int, ranks: Ranks, turn: int) -> tuple[Episode | None, float]:
    """This rank's tasks of batch t, and how large a part of it they are. No other pictures are gathered."""
    try:
        batch, make = drawn(episodes, t)
    except IndexError:
        raise DataError(f"training: the episodes end before batch {t}; give more, or train for fewer steps") from None
    start, stop = ranks.share(batch.tasks, turn)
    return (make(start, stop) if start < stop else None), (stop - start) / batch.tasks


def _summed(ranks: Ranks, parameters: Sequence[Tensor], loss: Tensor, buffers: Buffers | None) -> Tensor:
    """Add up the gradients, the loss and what happened to the buffers; the loss.

    A parameter without a gradient on every rank stays without one. Which have one is asked on the CPU, which waits
    for no accelerator, and where a rank that ended is noticed before anyone waits for it there.
    """
    found = torch.tensor([parameter.grad is not None for parameter in parameters]).long()
    ranks.sum_([found])
    gradients = []
    for parameter, count in zip(parameters, found.tolist(), strict=True):
        if count:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradients.append(parameter.grad)
    loss = loss.double()  # a rank without tasks does not know its type
    ranks.sum_([*gradients, loss, *([] if buffers is None else buffers.changes)])
    ranks.broadcast_([] if buffers is None else buffers.counters)
    return loss
