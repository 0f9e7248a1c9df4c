"""MetaGAN, MAML form: a task's classifier also learns to tell its examples from generated ones.

Paper: Zhang, Che, Ghahramani, Bengio & Song 2018, "MetaGAN: An Adversarial Approach to Few-Shot Learning", NeurIPS 31,
https://papers.nips.cc/paper/2018/hash/4e4e53aa080247bc31d0eb4e7aeb07a0-Abstract.html.
    D, logits l_1..l_N and 0 for "generated" -> model    E -> generator.instances
    G(z, h_T), h_T the mean of E over the support -> generator         L_D, L_G -> halves
Departures:
    1. A loss is the mean over examples, and the meta-loss the sum of both halves: each sees the other's network as a
       constant. Generated examples of the inner steps are constants too.
    2. Networks E and G are small: see `encoders/generation.py`.
    3. Noise is a function of (seed, turn) and the same for all tasks of a batch, so that no task's answers depend on
       the others. Adapting always uses the same.
"""

from __future__ import annotations

from functools import partial
from typing import final

import torch
from torch import Tensor, nn

from ...encoders.generation import TaskGenerator
from ...encoders.normalization import adapting
from ...encoders.placing import placed
from ...encoders.shapes import shape_of
from ...episode import Episode, Support
from ...gradient_learner import Adapted, GradientLearner, with_head
from ...learner import at_least_one, task_losses
from ...ops.adversarial import called_fake, called_real
from ...ops.engine import Engine
from ...ops.noise import Noise
from ...ops.tasks import Named, call_each, map_tasks

__all__ = ["MetaGAN"]


@final
class MetaGAN(GradientLearner):
    """MAML whose discriminator has a class for generated examples, and a generator that knows the task.

    Args:
        encoder: any module from [examples, *shape] to features, or, without `outputs`, to logits; it says its `shape`.
        outputs: adds a linear layer to so many outputs, the ways of a task.
        inner_rate: α.
        inner_steps: gradient steps on the support while training.
        evaluation_steps: steps in evaluation mode; None for the same.
        first_order: leave out second derivatives.
        generator: False: MAML with the same initial weights and nothing else, to compare with.
        fakes: generated examples a task, in every inner step and in the loss.
        latent: numbers in z.
        code: numbers in h_T.
        seed: of z.
        engine: how gradients are computed, as an Engine or a table; None: chosen by device and size.

    Raises:
        SpecError: a number below one; an embedding with max_norm.
        ShapeError: nothing to adapt, or an encoder that does not say its `shape` or its `out_features`.
    """

    paper = "Zhang, Che, Ghahramani, Bengio & Song 2018, NeurIPS, papers.nips.cc 4e4e53aa080247bc"
    kind = "generative"
    regression = False

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int | None = None,
        inner_rate: float = 0.1,
        inner_steps: int = 1,
        evaluation_steps: int | None = None,
        first_order: bool = False,
        generator: bool = True,
        fakes: int = 10,
        latent: int = 32,
        code: int = 64,
        seed: int = 0,
        engine: Engine | None = None,
    ) -> None:
        model = with_head(encoder, outputs)
        super().__init__(model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, engine=engine)
        at_least_one("MetaGAN", fakes=fakes, latent=latent, code=code)
        self.inner_rate, self.first_order, self.fakes = inner_rate, first_order, fakes
        shape = shape_of(encoder)
        self.generator = placed(TaskGenerator(shape, latent=latent, code=code), encoder) if generator else None
        self.noise = Noise(seed)

    def descend(self, support: Support) -> Adapted:
        """θ' = θ − α·∇L_D(θ) on the support and generated examples."""
        return self._descend(support, self._generated(support, "inner", moving=False))

    def meta_loss(self, episode: Episode) -> tuple[Tensor, Named]:
        """L_D + L_G."""
        discriminator, generator, buffers = self.halves(episode)
        return discriminator + generator, {**buffers, ".noise.turn": self.noise.next_turn(episode.tasks)}

    def halves(self, episode: Episode) -> tuple[Tensor, Tensor, Named]:
        """L_D at θ', which reaches θ only; L_G, which reaches E and G only; and each task's buffers afterward.

        L_D = −log p(y | x, y ≤ N) − log p(y ≤ N | x) of the queries − log p(N+1 | x) of generated examples,
        L_G = −log p(y ≤ N | x) of generated examples: means over each, and over tasks.
        """
        support, query = episode.support, episode.query
        state = self._descend(support, self._generated(support, "inner", moving=True))
        logits = self.answer(state, query.x)  # [B, Q, N]
        loss = task_losses(logits, query.y).mean()
        fakes = self._generated(support, "outer", moving=True)  # [B, n, *shape]
        if fakes is None:
            return loss, logits.new_zeros(()), state.buffers
        seen = self._judged({**state.parameters, **state.buffers}, fakes.detach(), self.steps)
        held = map_tasks(torch.detach, {**state.parameters, **state.buffers})
        judged = self._judged(held, fakes, self.steps)
        return loss + called_real(logits).mean() + called_fake(seen).mean(), called_real(judged).mean(), state.buffers

    def _descend(self, support: Support, fakes: Tensor | None) -> Adapted:
        self._ways(support)
        fakes = None if fakes is None else fakes.detach()
        state = self.begin(support)
        theta = state.parameters
        for step in range(self.steps):
            losses = partial(self._discriminator_losses, support, fakes, step)
            g = self.engine.gradients(losses, theta, state.buffers, self.adapted, first_order=self.first_order)
            theta = theta | {name: theta[name] - self.inner_rate * g[name] for name in g}
        return state._replace(parameters=theta)

    def _discriminator_losses(self, support: Support, fakes: Tensor | None, step: int, state: Named) -> Tensor:
        """L_D(θ) of each task: [B]."""
        with adapting(step):
            logits = call_each(self.model, state, support.x)  # [B, S, N]
        self._check(logits, support.y, support.ways)
        loss = task_losses(logits, support.y, support.weight)  # [B]
        if fakes is None:
            return loss
        real, weight = called_real(logits), support.weight  # [B, S]
        real = real.mean(1) if weight is None else (real * weight).sum(1) / weight.sum(1)
        return loss + real + called_fake(self._judged(state, fakes, step)).mean(1)

    def _judged(self, state: Named, fakes: Tensor, step: int) -> Tensor:
        """Logits of generated examples, which leave no trace in running statistics: [B, n, N]."""
        copies = {name: state[name].clone() for name, _ in self.model.named_buffers()}
        with adapting(step):
            return call_each(self.model, {**state, **copies}, fakes)

    def _generated(self, support: Support, purpose: str, *, moving: bool) -> Tensor | None:
        """G(z, h_T): [B, n, *shape], with h_T the (weighted) mean of E(x) over the support."""
        if self.generator is None:
            return None
        return self.generator.draw(support, self.fakes, self.noise, purpose, moving=moving)
