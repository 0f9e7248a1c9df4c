"""For one's own inner loop: a module with tensors of its own, moved by gradients that can themselves be differentiated.

own = Adaptable(module, SGD(lr=0.4))
for _ in range(5):
    own = own.adapt(loss_of(own(x), y))
loss_of(own(queries), targets).backward()  # into the module's parameters
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, final

import torch
from torch import Tensor, nn

from .encoders.normalization import adapting, policies_of
from .errors import ShapeError, SpecError
from .ops.optimizers import SGD, InnerOptimizer, Memory, Rate
from .ops.tasks import call_with, check_embeddings, plain_attention, without_checkpoints

__all__ = ["Adaptable"]


@final
class Adaptable:
    """A module called with tensors of its own. `adapt` gives the next one; this one and the module stay as they are.

    Buffers are its own too: what batch norm notes while it adapts to a task reaches neither the module nor other tasks,
    but goes on to what `adapt` gives. Layers with statistics for each inner step see how many steps were taken.

    Args:
        module: what to start from. Its normalization knows no support, so it is by another policy than "support" and
            "episode". Without `torch.utils.checkpoint`, which would compute again with the module's own tensors.
        optimizer: the update rule; its numbers may be tensors that get gradients. None: SGD at rate 0.01.
        adapted: names of the parameters to move, frozen ones too; None for all that require gradients now.
        memory: what the optimizer remembers of parameters by name, from `handful.ops.from_torch.memory_of` or the
            `memory` of another; None: nothing.

    Raises:
        ShapeError: there is no parameter to adapt, a name that no parameter has, or normalization by a support.
        SpecError: rates by name that leave out a parameter to adapt; no optimizer of `ops.optimizers`; the memory of
            another rule; an embedding with max_norm or sparse gradients.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: InnerOptimizer | None = None,
        *,
        adapted: Sequence[str] | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.module, self.optimizer = module, SGD(lr=0.01) if optimizer is None else optimizer
        if not isinstance(self.optimizer, InnerOptimizer):
            raise SpecError(
                f"Adaptable: expected an optimizer of handful.ops.optimizers, got {type(optimizer).__name__}; "
                "handful.ops.from_torch.like makes one of torch's"
            )
        check_embeddings(module, "Adaptable")
        told = policies_of(module) & {"support", "episode"}
        if told:
            raise ShapeError(
                f"Adaptable: normalization {min(told)!r} must be told what the support is, and a call does not say so; "
                "expected running, per_step, frozen, batch, group, layer or instance, or a learner such as MAML"
            )
        self.parameters: dict[str, Tensor] = dict(module.named_parameters())
        self.buffers = {name: leaf.clone() for name, leaf in module.named_buffers()}
        self.adapted = [name for name, leaf in self.parameters.items() if leaf.requires_grad]
        if adapted is not None:
            adapted = [adapted] if isinstance(adapted, str) else list(adapted)
            unknown = sorted(set(adapted) - set(self.parameters))
            if unknown:
                raise ShapeError(
                    f"Adaptable: no parameter {unknown[0]!r}; expected some of {', '.join(self.parameters)}"
                )
            self.adapted = adapted
        if not self.adapted:
            raise ShapeError("Adaptable: no parameter requires a gradient, so there is nothing to adapt; unfreeze some")
        self._check_rates(self.optimizer.lr)
        for name in self.adapted:
            if not self.parameters[name].requires_grad:
                self.parameters[name] = self.parameters[name].detach().requires_grad_()
        self.memory: Memory = self.optimizer.init({name: self.parameters[name] for name in self.adapted})
        if memory is not None:
            kept = {name: slots for name, slots in memory.items() if name in self.memory}
            if any(slots.keys() != self.memory[name].keys() for name, slots in kept.items()):
                raise SpecError(f"Adaptable: expected memory of {type(self.optimizer).__name__}, got another rule's")
            self.memory = {**self.memory, **kept}
        self.steps = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the module gives with these tensors.

        Raises:
            SpecError: it uses `torch.utils.checkpoint`, or is of a kind that takes no other tensors.
            ShapeError: an input is of another type than the parameters.
        """
        state = {**self.parameters, **self.buffers}
        with adapting(self.steps), plain_attention(), without_checkpoints():
            result = call_with(self.module, state, args, kwargs)
        self.buffers = {name: state[name] for name in self.buffers}
        return result

    def adapt(
        self,
        loss: Tensor,
        *,
        lr: Rate | None = None,
        first_order: bool = False,
        transform: Callable[[dict[str, Tensor]], Mapping[str, Tensor | None]] | None = None,
    ) -> Adaptable:
        """This module after one step of the optimizer down a loss that was computed with it.

        Args:
            loss: a scalar, or a tensor of one number.
            lr: another rate for this step, as the optimizer takes it: a schedule, or rates learned for each step.
            first_order: leave out second derivatives.
            transform: from the gradients by name to those that the optimizer gets, clipped or learned for instance; a
                parameter that it leaves out stays as it is.

        Raises:
            ShapeError: the loss is no scalar, has no gradient, or was computed without this module's tensors; a
                transformed gradient of no adapted parameter, or of another shape.
            SpecError: rates by name that leave out an adapted parameter.
        """
        self._check_rates(lr)
        if loss.numel() != 1:
            raise ShapeError(f"Adaptable: expected a scalar loss, got shape {tuple(loss.shape)}; take its mean or sum")
        if not loss.requires_grad:
            raise ShapeError(
                "Adaptable: the loss has no gradient; expected one of what this module gave, outside torch.no_grad"
            )
        inputs = [self.parameters[name] for name in self.adapted]
        found = torch.autograd.grad(loss, inputs, create_graph=not first_order, allow_unused=True)
        gradients = {name: g for name, g in zip(self.adapted, found, strict=True) if g is not None}
        if not gradients:
            raise ShapeError("Adaptable: the loss depends on no adapted tensor; was it computed by an earlier one?")
        if transform is not None:
            gradients = self._transformed(transform(gradients))
        after = object.__new__(Adaptable)
        after.__dict__.update(self.__dict__)
        after.parameters, after.memory = self.optimizer.step(self.parameters, gradients, self.memory, lr=lr)
        after.buffers = {name: leaf.clone() for name, leaf in self.buffers.items()}
        after.steps = self.steps + 1
        return after

    def __deepcopy__(self, memo: dict[int, Any]) -> Adaptable:
        """A copy with a module of its own, before the first step.

        Raises:
            SpecError: it was adapted: its tensors are functions of the module's, which no copy is.
        """
        if self.steps:
            raise SpecError(
                "Adaptable: expected no deepcopy after a step, as a copy would lose what its gradients go to; keep it "
                "itself, which no step changes, or deepcopy the module and adapt that"
            )
        after = object.__new__(Adaptable)
        memo[id(self)] = after
        after.__dict__.update(deepcopy(self.__dict__, memo))
        return after

    def _transformed(self, gradients: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
        found = {name: g for name, g in gradients.items() if g is not None}
        for name, g in found.items():
            if name not in self.adapted or g.shape != self.parameters[name].shape:
                expected = tuple(self.parameters[name].shape) if name in self.adapted else "no such parameter"
                raise ShapeError(f"Adaptable: transform gives {name!r} {tuple(g.shape)}; expected {expected}")
        return found

    def _check_rates(self, rates: Rate | None) -> None:
        missing = [name for name in self.adapted if isinstance(rates, Mapping) and name not in rates]
        if missing:
            raise SpecError(f"Adaptable: lr has no rate for {missing[0]!r}; expected one by each name in `adapted`")
