"""MetaGAN, relation form: relation scores are the logits of a discriminator with one more class for generated examples.

Paper: Zhang, Che, Ghahramani, Bengio & Song 2018, "MetaGAN: An Adversarial Approach to Few-Shot Learning", NeurIPS 31,
https://papers.nips.cc/paper/2018/hash/4e4e53aa080247bc31d0eb4e7aeb07a0-Abstract.html.
    f, the embedding -> encoder          g, the relation module -> relation      c_k, class features -> Classes.c
    l_k = g([f(x); c_k]) -> predict_features, and 0 for "generated"
    E -> generator.instances, G(z, h_T) -> generator, L_D and L_G -> halves
Departures:
    1. Features are vectors, c_k the class mean of them and g has one hidden layer (Sung et al. 2018: maps, their sum,
       convolutions). The score has no sigmoid, as the paper's has none.
    2. A loss is the mean over examples, and the meta-loss the sum of both halves: each sees the other's network as a
       constant.
    3. Networks E and G are small: see `encoders/generation.py`.
    4. Noise is a function of (seed, turn) and the same for all tasks of a batch.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ...encoders.generation import TaskGenerator
from ...encoders.placing import placed
from ...encoders.shapes import shape_of
from ...episode import Episode, Support
from ...learner import EmbeddingLearner, at_least_one, embedded, features_of, task_losses
from ...ops.adversarial import called_fake, called_real
from ...ops.classes import class_means
from ...ops.noise import Noise
from ...ops.tasks import call_each, call_with

__all__ = ["Classes", "MetaGANRelation"]


class Classes(NamedTuple):
    """What a support taught."""

    c: Tensor  # [B, N, F]


@final
class MetaGANRelation(EmbeddingLearner):
    """A relation network that has a class for generated examples, and a generator that knows the task.

    Args:
        encoder: any module from [examples, *shape] to [examples, F]; it says its `shape` and `out_features`.
        hidden: units of the relation module.
        generator: False: the relation network with the same initial weights and nothing else, to compare with.
        fakes: generated examples a task.
        latent: numbers in z.
        code: numbers in h_T.
        seed: of z.

    Raises:
        SpecError: a number below one.
        ShapeError: an encoder that does not say its `shape` or its `out_features`, or one that must be adapted.
    """

    paper = "Zhang, Che, Ghahramani, Bengio & Song 2018, NeurIPS, papers.nips.cc 4e4e53aa080247bc"
    kind = "generative"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        hidden: int = 64,
        generator: bool = True,
        fakes: int = 10,
        latent: int = 32,
        code: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(encoder)
        at_least_one("MetaGANRelation", hidden=hidden, fakes=fakes, latent=latent, code=code)
        features, shape = features_of(encoder, "a relation module"), shape_of(encoder)
        self.fakes = fakes
        relation = nn.Sequential(nn.Linear(2 * features, hidden), nn.ReLU(), nn.Linear(hidden, 1, bias=False))
        self.relation = placed(relation, encoder)
        self.generator = placed(TaskGenerator(shape, latent=latent, code=code), encoder) if generator else None
        self.noise = Noise(seed)

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Classes:
        """c_k, the (weighted) mean of each class."""
        return Classes(class_means(z, y, ways, weight))  # [B, N, F]

    def predict_features(self, state: Classes, z: Tensor) -> Tensor:
        """l_k = g([f(x); c_k])."""
        return self.relation(_pairs(z, state.c)).squeeze(-1)  # type: ignore[no-any-return]  # [B, Q, N]

    def loss(self, episode: Episode) -> Tensor:
        """L_D + L_G; in training mode the next call has other noise."""
        discriminator, generator = self.halves(episode)
        if self.training:
            self.noise.advance_()
        return discriminator + generator

    def halves(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """L_D, which reaches the encoder and g only; L_G, which reaches E and G only.

        L_D = −log p(y | x, y ≤ N) − log p(y ≤ N | x) of the queries − log p(N+1 | x) of generated examples,
        L_G = −log p(y ≤ N | x) of generated examples: means over each, and over tasks.
        """
        support, query = episode.support, episode.query
        ways = self._ways(support)
        z_support, z_query = self.embed_episode(episode)
        state = self.adapt_features(z_support, support.y, ways, support.weight)
        logits = self.predict_features(state, z_query)  # [B, Q, N]
        loss = task_losses(logits, query.y).mean()
        fakes = self._generated(support)  # [B, n, *shape]
        if fakes is None:
            return loss, logits.new_zeros(())
        seen = self.predict_features(state, embedded(self.encoder, fakes.detach(), keep=False))
        judged = self._held(state, fakes)
        return loss + called_real(logits).mean() + called_fake(seen).mean(), called_real(judged).mean()

    def _held(self, state: Classes, fakes: Tensor) -> Tensor:
        """Logits of generated examples by encoder, g and c_k as constants: [B, n, N]."""
        own = {**dict(self.encoder.named_parameters()), **dict(self.encoder.named_buffers())}
        each = {name: leaf.detach().expand(len(fakes), *leaf.shape).clone() for name, leaf in own.items()}
        relation = {name: leaf.detach() for name, leaf in self.relation.named_parameters()}
        pairs = _pairs(call_each(self.encoder, each, fakes), state.c.detach())
        return call_with(self.relation, relation, (pairs,)).squeeze(-1)  # type: ignore[no-any-return]

    def _generated(self, support: Support) -> Tensor | None:
        """G(z, h_T): [B, n, *shape], with h_T the (weighted) mean of E(x) over the support."""
        if self.generator is None:
            return None
        return self.generator.draw(support, self.fakes, self.noise, "outer", moving=True)


def _pairs(z: Tensor, c: Tensor) -> Tensor:
    """Every query beside every class: [B, Q, F], [B, N, F] -> [B, Q, N, 2F]."""
    queries, ways = z.shape[1], c.shape[1]
    return torch.cat([z.unsqueeze(2).expand(-1, -1, ways, -1), c.unsqueeze(1).expand(-1, queries, -1, -1)], -1)
