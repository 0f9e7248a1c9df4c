"""iMAML: the meta-gradient at the solution of a regularized inner problem, whatever way led there.

Paper: Rajeswaran, Finn, Kakade & Levine 2019, arXiv:1909.04630.
    φ* = argmin_φ L(φ) + λ/2 ‖φ − θ‖² (eq. 4) -> Adapted.parameters        λ -> strength
    (I + ∇²L(φ*)/λ)⁻¹ ∇L_Q(φ*) (eq. 6) -> meta_loss, by `conjugate_gradients`
Departures:
    1. The inner problem, with its proximal term, is descended for `inner_steps`; the authors' code takes plain steps
       and one proximal step at the end.
    2. Evaluation solves the same problem as training; the authors' code evaluates with λ = 0.
    3. No damping beyond λ.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from ...episode import Episode, Support
from ...errors import SpecError
from ...gradient_learner import Adapted, GradientLearner, with_head
from ...learner import task_losses
from ...ops.conjugate import conjugate_gradients
from ...ops.engine import Engine
from ...ops.tasks import Named
from ...ops.vectors import joined, parted

__all__ = ["IMAML"]


@final
class IMAML(GradientLearner):
    """Regularized descent; the meta-gradient keeps no inner step in memory and is exact where the descent has ended.

    Args:
        encoder: any module from [examples, *shape] to features, or, without `outputs`, to logits or outputs.
        outputs: adds a linear layer to so many outputs: the ways of a task, or the targets of a regression.
        strength: λ, how strongly a task is held to θ.
        inner_rate: of the descent; stable below 2 / (λ + the largest curvature of the support loss).
        inner_steps: steps of the descent while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        conjugate_steps: products with the Hessian for a meta-gradient.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Raises:
        SpecError: a λ that is not positive; a number of steps below one; an embedding with max_norm.
        ShapeError: nothing to adapt, or `outputs` for an encoder that does not say its `out_features`.
    """

    paper = "Rajeswaran, Finn, Kakade & Levine 2019, arXiv:1909.04630"
    takes_complex = False

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int | None = None,
        strength: float = 2.0,
        inner_rate: float = 0.1,
        inner_steps: int = 16,
        evaluation_steps: int | None = None,
        conjugate_steps: int = 5,
        engine: Engine | None = None,
    ) -> None:
        model = with_head(encoder, outputs)
        super().__init__(model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, engine=engine)
        if not strength > 0 or conjugate_steps < 1:
            got = f"{strength} and {conjugate_steps}"
            raise SpecError(f"IMAML: expected a strength above 0 and conjugate_steps of at least 1, got {got}")
        self.strength, self.inner_rate, self.conjugate_steps = strength, inner_rate, conjugate_steps

    def descend(self, support: Support) -> Adapted:
        """φ ← φ − rate·(∇L(φ) + λ(φ − θ)), `inner_steps` times from θ."""
        state = self.begin(support)
        theta = phi = state.parameters
        for step in range(self.steps):
            g = self.slopes(phi, state.buffers, support, step, first_order=True)
            pull = {name: g[name] + self.strength * (phi[name] - theta[name]) for name in g}
            phi = phi | {name: phi[name] - self.inner_rate * pull[name] for name in g}
        return state._replace(parameters=phi)

    def meta_loss(self, episode: Episode) -> tuple[Tensor, Named]:
        """L_Q(φ*), whose gradient in θ is (I + ∇²L(φ*)/λ)⁻¹ ∇L_Q(φ*) (eq. 6)."""
        with torch.no_grad():
            state = self.descend(episode.support)
        before = {name: leaf.clone() for name, leaf in state.buffers.items()}
        if not torch.is_grad_enabled():
            return task_losses(self.answer(state, episode.query.x), episode.query.y).mean(), state.buffers
        phi = self.by_name(state.parameters[name].detach().requires_grad_() for name in self.adapted)
        leaves = list(phi.values())
        state = state._replace(parameters=state.parameters | phi)
        loss = task_losses(self.answer(state, episode.query.x), episode.query.y).mean()
        v = self.by_name(torch.autograd.grad(loss, leaves, materialize_grads=True))
        g = self.slopes(state.parameters, before, episode.support, self.steps)

        def product(direction: Tensor) -> Tensor:
            pieces = parted(direction, phi)
            along = [pieces[name] for name in g]
            curved = torch.autograd.grad(list(g.values()), leaves, along, retain_graph=True, materialize_grads=True)
            return direction + joined(self.by_name(curved)) / self.strength

        u = parted(conjugate_gradients(product, joined(v), iterations=self.conjugate_steps), phi)
        theta = self.begin(episode.support).parameters
        known = [((theta[name] - theta[name].detach()) * u[name]).sum() for name in u]
        return loss.detach() + torch.stack(known).sum(), state.buffers  # what is added is 0, its gradient is u
