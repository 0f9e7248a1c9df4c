"""Matching networks: a query is answered by the labels of the support it attends to.

Paper: Vinyals, Blundell, Lillicrap, Kavukcuoglu & Wierstra 2016, arXiv:1606.04080.
    g'(x_i), f'(x̂) -> features        a(x̂, x_i) (section 2.1.1) -> softmax of scale · cosine
    g(x_i, S) (appendix A.2) -> Attended.g        attLSTM (eq. 3 to 6) -> attended        K -> reads
Departures:
    1. Cosines are multiplied by `scale`; 1 is the paper's, by which no class can be sure (5 ways: at most 0.40, if the
       other cosines are 0).
    2. The LSTM of the queries has weights of their own for h and r, as one matrix for [h, r] has.
With full context the order of the support matters, as the paper's bidirectional LSTM reads it as a sequence.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, final

import torch
from torch import Tensor, nn

from ...encoders.placing import placed
from ...errors import SpecError, unknown_name
from ...learner import EmbeddingLearner, features_of
from ...ops.attention import attend, class_evidence
from ...ops.classes import membership
from ...ops.distances import cosine_similarities

__all__ = ["Attended", "MatchingNetwork"]


class Attended(NamedTuple):
    """What a support taught: itself, in its context."""

    g: Tensor  # [B, S, F]
    member: Tensor  # [B, S, N] how often each example counts in each class


@final
class MatchingNetwork(EmbeddingLearner):
    """Attention over the support, by cosines in a learned embedding.

    Args:
        encoder: any module from [examples, *shape] to [examples, F]; with full context it must say its `out_features`.
        context: "none", or "full": the support is read by a bidirectional LSTM, and each query by an LSTM that attends
            to the support (full-context embeddings).
        reads: K, how often a query attends to the support before it answers.
        scale: what cosines are multiplied by.

    Raises:
        UnknownNameError: no such context.
        SpecError: fewer than one read.
        ShapeError: full context, and the encoder does not say its `out_features`.
    """

    paper = "Vinyals, Blundell, Lillicrap, Kavukcuoglu & Wierstra 2016, arXiv:1606.04080"
    kind = "metric"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        context: Literal["none", "full"] = "none",
        reads: int = 3,
        scale: float = 1.0,
    ) -> None:
        super().__init__(encoder)
        if context not in ("none", "full"):
            raise unknown_name("context", context, ("none", "full"))
        if reads < 1:
            raise SpecError(f"MatchingNetwork: expected at least one read of the support, got {reads}")
        self.reads, self.scale = reads, scale
        self.support_lstm: nn.LSTM | None = None
        if context == "full":
            features = features_of(encoder, "full context")
            self.support_lstm = placed(nn.LSTM(features, features, bidirectional=True, batch_first=True), encoder)
            self.query_lstm = placed(nn.LSTMCell(2 * features, features), encoder)

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Attended:
        """g(x_i, S) = forward and backward state of the LSTM over the support + g'(x_i)."""
        if self.support_lstm is not None:
            forward, backward = self.support_lstm(z)[0].chunk(2, -1)
            z = forward + backward + z
        return Attended(z, membership(y, ways, weight, dtype=z.dtype))

    def predict_features(self, state: Attended, z: Tensor) -> Tensor:
        """Logits: log of the sum of a(x̂, x_i) over the examples of each class, up to a constant."""
        if self.support_lstm is not None:
            z = self._read(state, z)
        scores = self.scale * cosine_similarities(z, state.g)  # [B, Q, S]
        return class_evidence(scores, state.member)  # [B, Q, N]

    def _read(self, state: Attended, z: Tensor) -> Tensor:
        """f(x̂, S) = h_K, beginning from h_0 = c_0 = 0 (eq. 3 to 6): [B, Q, F] -> [B, Q, F]."""
        h, c = torch.zeros_like(z), torch.zeros_like(z)
        weight = state.member.sum(-1)  # [B, S]
        for _ in range(self.reads):
            r = attend(h @ state.g.mT, state.g, weight)  # [B, Q, F]
            step, cell = self.query_lstm(torch.cat([z, r], -1).flatten(0, 1), (h.flatten(0, 1), c.flatten(0, 1)))
            h, c = step.view_as(z) + z, cell.view_as(z)
        return h
