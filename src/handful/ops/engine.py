"""The engine of gradient learners: how tasks are mapped and how the gradient of the inner loop is formed.

A learner writes its inner loop plainly, on tensors with a leading task axis; whatever it does with the gradients is
ordinary `torch.autograd`, so that any differentiable inner optimizer will do:

    g = engine.gradients(loss, theta, buffers, adapted)
    theta = theta | {name: theta[name] - rate * g[name] for name in g}

`Engine.map` and `Engine.mean` hand chunks of tasks to such a loop: all at once, one chunk after the other, or to a
worker a core.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from ..errors import SpecError, unknown_name
from ..kernels import threads_inside
from ..kernels.functions import Function
from .choices import Plan, affordable_form, count_graph, graph_bytes, plan, within
from .gradients import Form, Loss, gradients_of
from .tasks import Named, chunks, mappable, plain_attention
from .workers import share, threadable, without_noise

__all__ = ["Engine"]

M = TypeVar("M", bound=nn.Module)
R = TypeVar("R")
Gradient = Literal["auto", "graph", "recompute", "hvp"]


@dataclass(frozen=True, slots=True)
class Engine:
    """How gradients through adaptation are computed. Every choice gives the same numbers, to rounding; but where a
    module draws random numbers (dropout), `tasks_at_once` says which task gets which.

    Args:
        tasks_at_once: tasks computed and held in memory together; 1 maps plainly, one task after the other. None: by
            device and size, see `plan`.
        workers: threads, each with tasks of its own; 1 for none. Only on the CPU. None: see `plan`.
        gradient: "graph" keeps the graph of every inner step; "recompute" keeps parameters only and computes each
            step again on the way back, so that activations take the memory of one step; "hvp" does that by
            Hessian-vector products, forward over reverse (by one worker, because torch's forward mode is one for the
            process). "auto": the graph of as many steps as fit 4 GiB, and recomputation beyond.

    Raises:
        SpecError: fewer than one; Hessian-vector products by several workers.
        UnknownNameError: no such way to form the gradient.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    tasks_at_once: int | None = None
    workers: int | None = None
    gradient: Gradient = "auto"

    def __post_init__(self) -> None:
        for name in ("tasks_at_once", "workers"):
            count = getattr(self, name)
            if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
                raise SpecError(f"engine: expected {name} of at least 1, got {count!r}")
        if self.gradient not in get_args(Gradient):
            raise unknown_name("gradient", self.gradient, get_args(Gradient))
        if self.gradient == "hvp" and self.workers not in (None, 1):
            raise SpecError(f"engine: gradient 'hvp' works with one worker, got {self.workers}; use 'recompute'")

    @staticmethod
    def of(value: Engine | Mapping[str, Any] | None) -> Engine:
        """An engine from itself, a table of its arguments, or None for one that chooses everything.

        Raises:
            SpecError: an unknown argument.
        """
        if isinstance(value, Engine):
            return value
        names = [field.name for field in fields(Engine)]
        for name in value or {}:
            if name not in names:
                raise unknown_name("engine option", str(name), names)
        return Engine(**(value or {}))

    def table(self) -> dict[str, Any]:
        """What was chosen, as JSON values: `Engine.of` makes an equal engine of it."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "auto")}

    def gradients(
        self, loss: Loss, theta: Named, buffers: Named, wanted: Sequence[str], *, first_order: bool = False
    ) -> dict[str, Tensor]:
        """∇ of the summed support losses in the wanted tensors; those that take no part are left out, with a warning.

        Differentiable where gradients are enabled, unless `first_order`.

        Args:
            loss: losses of any shape, from `theta` and `buffers` together, by name; it may be called again on the way
                back, with the same random numbers.
            theta: [B, ...] all tensors that meta-gradients are to pass through, adapted or not.
            buffers: [B, ...] what the loss may write into.
            wanted: names in `theta`.
        """
        form: Form = "none"
        if torch.is_grad_enabled() and not first_order:
            form = affordable_form() if self.gradient == "auto" else self.gradient
        if form in ("recompute", "hvp") and _outside.get():
            if self.gradient != "auto":
                raise SpecError(
                    f"engine: gradient {form!r} passes gradients to parameters only, and a tensor of the episode wants "
                    "one too; set gradient = 'graph'"
                )
            form = "graph"
        found = gradients_of(loss, theta, buffers, wanted, form, _module.get())
        if form == "graph" and self.gradient == "auto":
            count_graph(found.values())
        unused = [name for name in wanted if name not in found]
        if unused:
            _say(
                f"{', '.join(unused)} took no part in the forward pass and stays as it is; "
                "if that is meant, freeze it (requires_grad_(False)) before the learner is made"
            )
        return found

    def map(
        self,
        module: M,
        part: Callable[[M, int, int], R],
        tasks: int,
        numbers: int,
        outside: Sequence[Tensor] = (),
    ) -> list[R]:
        """part(module or a copy of it, start, stop) for each chunk of tasks, in order.

        Args:
            module: what the parts work with; copies share its tensors.
            part: a pure function of its arguments.
            tasks: B.
            numbers: of the examples of one task, see `plan`.
            outside: tensors that are not the module's, from which the parts compute and which may want gradients.
        """
        at_once, workers = self.plan(module, tasks, numbers)
        spans = list(chunks(tasks, at_once))
        bytes_a_chunk = graph_bytes(device_of(module)) / len(spans)

        def one(own: M, number: int) -> R:
            token = _module.set(own)
            try:
                return part(own, *spans[number])
            finally:
                _module.reset(token)

        def attempt(workers: int) -> list[R]:
            job = within(bytes_a_chunk, one)
            return list(share(module, job, len(spans), workers))

        with _told(), plain_attention(), _wanting(outside):
            return without_noise(module, attempt, workers)

    def mean(
        self,
        module: M,
        part: Callable[[M, int, int], tuple[Tensor, R]],
        tasks: int,
        numbers: int,
        outside: Sequence[Tensor] = (),
    ) -> tuple[Tensor, list[R]]:
        """Mean over tasks of a loss, and whatever else the parts give, in order; in the memory of a few chunks.

        Each chunk is differentiated as soon as it is computed, so that its graph can be forgotten. With more than
        one chunk the result has a first derivative only, in the module's parameters and what is outside.

        Args:
            module, tasks, numbers, outside: as for `map`.
            part: (module or a copy, start, stop) -> the mean loss over these tasks, and anything without a graph.
        """
        at_once, workers = self.plan(module, tasks, numbers)
        spans = list(chunks(tasks, at_once))
        wanted = [leaf for leaf in (*module.parameters(), *outside) if leaf.requires_grad]
        if len(spans) == 1 or not torch.is_grad_enabled() or not wanted:
            found = self.map(module, part, tasks, numbers, outside)
            losses = [loss * ((b - a) / tasks) for (loss, _), (a, b) in zip(found, spans, strict=True)]
            return sum(losses[1:], losses[0]), [extra for _, extra in found]

        def differentiated(own: M, number: int) -> tuple[Tensor, tuple[Tensor | None, ...], R]:
            start, stop = spans[number]
            loss, extra = part(own, start, stop)
            loss = loss * ((stop - start) / tasks)
            return loss.detach(), torch.autograd.grad(loss, wanted, allow_unused=True), extra

        def attempt(workers: int) -> tuple[Tensor, list[R]]:
            gradients = [torch.zeros_like(leaf) for leaf in wanted]
            losses, extras = [], []
            job = within(graph_bytes(device_of(module)) / workers, differentiated)
            for loss, slopes, extra in share(module, job, len(spans), workers):
                losses.append(loss)
                extras.append(extra)
                for gradient, slope in zip(gradients, slopes, strict=True):
                    if slope is not None:
                        gradient += slope
            total = sum(losses[1:], losses[0])
            value: Tensor = _Known.apply(total, gradients, tasks, *wanted)
            return value, extras

        with _told(), plain_attention(), _wanting(outside), _without_hooks(wanted):
            return without_noise(module, attempt, workers)

    def plan(self, module: nn.Module, tasks: int, numbers: int) -> Plan:
        """The plan for so many tasks of a module, where it is."""
        device = device_of(module)
        threads = torch.get_num_threads() if device.type == "cpu" and threadable() else 1
        workers = 1 if self.gradient == "hvp" else self.workers
        sizes = (tasks, numbers, sum(leaf.numel() for leaf in module.parameters()))
        inside = threads_inside(module) and mappable(module)
        at_once = self.tasks_at_once
        return plan(*sizes, device.type, threads, inside=inside, tasks_at_once=at_once, workers=workers)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters are."""
    return next((leaf.device for leaf in module.parameters()), torch.device("cpu"))


class _Known(Function):
    """A value whose gradient is known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], tasks: int, *parameters: Tensor) -> Tensor:
        ctx.gradients, ctx.tasks = gradients, tasks
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # create_graph=True
            raise SpecError(
                "a loss computed in chunks of tasks has a first derivative only; for more, compute it in one piece: "
                f"set engine = {{ tasks_at_once = {ctx.tasks}, workers = 1 }}"
            )
        (scale,) = upstream
        return None, None, None, *(scale * gradient for gradient in ctx.gradients)


_module: ContextVar[nn.Module | None] = ContextVar("handful_module", default=None)
"""Of whose losses inner gradients are."""
_outside: ContextVar[bool] = ContextVar("handful_outside", default=False)


@contextmanager
def _wanting(outside: Sequence[Tensor]) -> Iterator[None]:
    """Inner gradients are functions of these tensors too, if one of them wants a gradient."""
    token = _outside.set(torch.is_grad_enabled() and any(leaf.requires_grad for leaf in outside))
    try:
        yield
    finally:
        _outside.reset(token)


@contextmanager
def _without_hooks(leaves: Sequence[Tensor]) -> Iterator[None]:
    """The hooks of these tensors wait for the finished gradient, and do not see those of chunks."""
    held = [(hooks, dict(hooks)) for leaf in leaves if (hooks := leaf._backward_hooks)]
    for hooks, _ in held:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, kept in held:
            hooks.update(kept)


_messages: ContextVar[list[str] | None] = ContextVar("handful_messages", default=None)


def _say(message: str) -> None:
    messages = _messages.get()
    if messages is None:
        warnings.warn(message, stacklevel=4)
    else:
        messages.append(message)


@contextmanager
def _told() -> Iterator[None]:
    """Warn of what was said in here, each once, whichever thread or chunk said it."""
    outer = _messages.get()
    messages: list[str] = []
    token = _messages.set(messages)
    try:
        yield
    finally:
        _messages.reset(token)
    for message in dict.fromkeys(messages):
        _say(message) if outer is not None else warnings.warn(message, stacklevel=5)
