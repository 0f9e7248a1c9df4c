"""TIM: class weights that classify the support and are informative about the queries.

Paper: Boudiaf, Masud Ziko, Rony, Dolz, Piantanida & Ben Ayed 2020, arXiv:2008.11297.
    p_ik (eq. 2), on features of length one -> _shares        λ·CE − H(Y) + α·H(Y|X) (eq. 3, 4) -> what w descends
    q_ik, w_k (prop. 1) -> _alternated
Departures:
    1. `method="gd"` takes plain gradient steps on w; the authors' are Adam's, 1,000 of rate 0.0001.
    2. Always the number of steps that is said; the authors' code does so too.
"""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ...errors import SpecError, unknown_name
from ...ops.classes import membership
from ...ops.distances import squared_distances
from ...ops.precision import precise
from ...ops.rectification import Labeled
from ...pretrained_learner import PretrainedLearner

__all__ = ["TIM"]


@final
class TIM(PretrainedLearner):
    """Transductive information maximization. H(Y) favors tasks with as many queries of each class.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        classes: how many classes the training pool has; None: train episode by episode, through the steps.
        method: "adm", alternating directions, or "gd", gradient descent.
        steps: of either.
        rate: of gradient steps.
        temperature: τ.
        supervised: λ, weight of the support's cross-entropy.
        conditional: α, weight of H(Y|X).

    Raises:
        UnknownNameError: no such method.
        SpecError: fewer than one step.
        ShapeError: `classes` for an encoder that does not say its `out_features`.
    """

    paper = "Boudiaf et al. 2020, arXiv:2008.11297"
    kind = "transductive"
    uses_queries = True

    def __init__(
        self,
        encoder: nn.Module,
        *,
        classes: int | None = None,
        method: Literal["adm", "gd"] = "adm",
        steps: int = 150,
        rate: float = 0.02,
        temperature: float = 15.0,
        supervised: float = 0.1,
        conditional: float = 0.1,
    ) -> None:
        super().__init__(encoder, classes=classes)
        if method not in ("adm", "gd"):
            raise unknown_name("method", method, ("adm", "gd"))
        if steps < 1:
            raise SpecError(f"TIM: expected at least 1 step, got {steps}")
        self.method, self.steps, self.rate, self.temperature = method, steps, rate, temperature
        self.supervised, self.conditional = supervised, conditional

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Labeled:
        """The support, of length one."""
        z = normalize(precise(z), dim=-1)
        return Labeled(z, membership(y, ways, weight, dtype=z.dtype))

    def predict_features(self, state: Labeled, z: Tensor) -> Tensor:
        """Logits −τ/2 · ‖w_k − f(x)‖² after all steps from w = class means."""
        z, w = normalize(precise(z), dim=-1), state.means  # [B, Q, F], [B, N, F]
        step = self._descended if self.method == "gd" else self._alternated
        for _ in range(self.steps):
            w = step(w, state, z)
        return self._logits(z, w)  # [B, Q, N]

    def _logits(self, z: Tensor, w: Tensor) -> Tensor:
        return -self.temperature / 2 * squared_distances(z, w)

    def _descended(self, w: Tensor, support: Labeled, z: Tensor) -> Tensor:
        """w − rate · ∇ of eq. 4; ∂logit_ik/∂w_k = τ (z_i − w_k)."""
        counted = support.member.sum(-1, keepdim=True)
        wrong = counted * self._logits(support.z, w).softmax(-1) - support.member
        wrong = self.supervised / support.examples * wrong  # [B, S, N] ∂/∂logits of the supervised part
        log_p = self._logits(z, w).log_softmax(-1)
        p = log_p.exp()
        marginal = p.mean(1, keepdim=True).clamp_min(torch.finfo(p.dtype).tiny).log()
        score = (marginal - self.conditional * log_p) / z.shape[1]  # [B, Q, N] ∂/∂p, up to a constant
        vague = p * (score - (p * score).sum(-1, keepdim=True))  # [B, Q, N] ∂/∂logits of the queries' part
        slope = wrong.mT @ support.z + vague.mT @ z - (wrong.sum(1) + vague.sum(1)).unsqueeze(-1) * w
        return w - self.rate * self.temperature * slope

    def _alternated(self, w: Tensor, support: Labeled, z: Tensor) -> Tensor:
        """q, then w, by proposition 1."""
        log_p, p_support = self._logits(z, w).log_softmax(-1), self._logits(support.z, w).softmax(-1)
        power = (1 + self.conditional) * log_p
        q = (power - power.logsumexp(1, keepdim=True) / 2).softmax(-1)  # [B, Q, N]
        p, own = log_p.exp(), support.member.sum(-1, keepdim=True) * p_support
        a, b = self.supervised / (1 + self.conditional), support.examples / z.shape[1]
        up = a * ((support.member - own).mT @ support.z + own.sum(1).unsqueeze(-1) * w)
        up = up + b * ((q - p).mT @ z + p.sum(1).unsqueeze(-1) * w)
        return up / (a * support.member.sum(1).unsqueeze(-1) + b * q.sum(1).unsqueeze(-1))
