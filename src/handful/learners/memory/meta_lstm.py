"""Meta-LSTM: an LSTM learns a task, and another LSTM, which sees its hidden and cell states, changes its weights.

Papers, one for each form:
    "update"     Chen, Qiu, Liu & Huang 2018, arXiv:1802.08969: weights move on from step to step
    "hyper"      Ha, Dai & Le 2016, HyperLSTM, arXiv:1609.09106: the rows of the weights are scaled at each step
    "optimizer"  Andrychowicz et al. 2016, arXiv:1606.04474: a learned optimizer, one coordinate after the other
    "none"       a plain LSTM (Hochreiter & Schmidhuber 1997), the control
    h_t, c_t, W of the base -> h, c, weights [W_x W_h b]      u_t = [x_t; y_{t−1}; h_{t−1}; c_{t−1}] -> seen
    ĥ_t, ĉ_t of the meta-LSTM -> memory                       z_t = W_z ĥ_t -> z
    update: W_t = W_0 + ρ_t (W_{t−1} − W_0) + P diag(z_t) Q      hyper: W_t = diag(1 + D z_t) W_0, b_t = b_0 + D_b z_t
    optimizer: W ← W + 0.1 · m(∇L), T times, L being the loss of the supports, asked again after the sequence
In every form z = 0 (a step m = 0) is the plain LSTM exactly.
Departures:
    1. Queries are answered with the weights that the support left, each by itself.
    2. The generated bias of "update" is a column of P diag(z) Q, not a matrix of its own.
    3. "hyper" is the form without layer normalization, and starts near scales of 1.
    4. In "optimizer" the output layer is not adapted; ∇L is held constant, as in the paper.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple, final, get_args

import torch
from torch import Tensor, nn

from ...encoders.placing import placed
from ...encoders.weight_changes import Hyper, Optimizer, Update
from ...errors import unknown_name
from ...learner import at_least_one, task_losses
from ...ops.recurrent import lstm_step
from ...sequence_learner import SequenceLearner

__all__ = ["MetaLSTM", "Remembered"]

Form = Literal["update", "hyper", "optimizer", "none"]


class Remembered(NamedTuple):
    """What a support left."""

    h: Tensor  # [B, H]
    c: Tensor  # [B, H]
    y: Tensor  # [B, outputs] the label that is shown with the next example
    weights: Tensor  # [B, 4H, U] of the task's own LSTM, for [x; y; h; 1]


@final
class MetaLSTM(SequenceLearner):
    """An LSTM whose weights another LSTM changes while it hears a task.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        outputs: the ways of a task, or the targets of a regression.
        form: "update", "hyper", "optimizer", or "none" for a plain LSTM.
        hidden: H, units of the base LSTM.
        meta_hidden: units of the meta-LSTM; 20 in the paper of "optimizer".
        rank: of z_t, in "update" and "hyper".
        inner_steps: T, of "optimizer".

    Raises:
        ShapeError: the encoder does not say its `out_features`, or its normalization needs a learner that adapts it.
        SpecError: no inner step.
        UnknownNameError: no such form.
    """

    paper = (
        "Chen et al. 2018, arXiv:1802.08969; Ha et al. 2016, arXiv:1609.09106; "
        "Andrychowicz et al. 2016, arXiv:1606.04474"
    )
    meta: Update | Hyper | Optimizer | None

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int = 5,
        form: Form = "update",
        hidden: int = 64,
        meta_hidden: int = 32,
        rank: int = 8,
        inner_steps: int = 3,
    ) -> None:
        super().__init__(encoder, outputs)
        if form not in get_args(Form):
            raise unknown_name("form", form, get_args(Form))
        at_least_one("MetaLSTM", inner_steps=inner_steps)
        self.hidden, self.inner_steps = hidden, inner_steps
        width = self.features + outputs + hidden + 1
        start = torch.empty(4 * hidden, width).uniform_(-1, 1) / math.sqrt(hidden)
        self.weights = nn.Parameter(placed(start, encoder))
        with torch.no_grad():
            self.weights[hidden : 2 * hidden, -1] += 1  # forget little at first
        self.output = placed(nn.Linear(hidden, outputs), encoder)
        if form in ("update", "hyper"):
            self.meta = placed((Update if form == "update" else Hyper)(width, hidden, meta_hidden, rank), encoder)
        else:
            self.meta = placed(Optimizer(meta_hidden), encoder) if form == "optimizer" else None

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Remembered:
        """The states and the weights after all supports, each shown with the label before it."""
        labels = self.labels(y, ways, weight, z)
        weights = self.weights.repeat(len(z), 1, 1)
        if isinstance(self.meta, Optimizer):
            weights = self._optimized(self.meta, weights, z, labels, y)
        return self.hear(weights, z, labels)

    def predict_features(self, state: Remembered, z: Tensor) -> Tensor:
        """Outputs [B, Q, outputs], each query the next step after the support."""
        tasks, queries = z.shape[:2]
        shared = torch.cat([state.y, state.h, torch.ones_like(state.h[:, :1])], -1)
        u = torch.cat([z, shared.unsqueeze(1).expand(tasks, queries, -1)], -1)  # [B, Q, U]
        h, _ = lstm_step(u @ state.weights.mT, state.c.unsqueeze(1))
        outputs: Tensor = self.output(h)
        return outputs

    def hear(self, weights: Tensor, z: Tensor, y: Tensor) -> Remembered:
        """The states after a sequence z [B, S, F], y [B, S, outputs], by weights [B, 4H, U] that may change."""
        h = c = z.new_zeros(len(z), self.hidden)
        shown, one, memory = torch.zeros_like(y[:, 0]), torch.ones_like(h[:, :1]), None
        for t in range(z.shape[1]):
            seen = torch.cat([z[:, t], shown, h], -1)
            if isinstance(self.meta, Update | Hyper):
                weights, memory = self.meta(weights, self.weights, torch.cat([seen, c], -1), memory)
            gates = (weights @ torch.cat([seen, one], -1).unsqueeze(-1)).squeeze(-1)
            h, c = lstm_step(gates, c)
            shown = y[:, t]
        return Remembered(h, c, shown, weights)

    def _optimized(self, meta: Optimizer, weights: Tensor, z: Tensor, labels: Tensor, y: Tensor) -> Tensor:
        track = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.set_grad_enabled(track):
            z, labels, y = (leaf.clone().detach() for leaf in (z, labels, y))
            losses = partial(self._support_losses, z, labels, y)
            optimized: Tensor = meta(losses, weights.clone() if weights.is_inference() else weights, self.inner_steps)
        return optimized

    def _support_losses(self, z: Tensor, labels: Tensor, y: Tensor, weights: Tensor) -> Tensor:
        """L of each task [B]: after the sequence, its examples are asked as if they were queries."""
        return task_losses(self.predict_features(self.hear(weights, z, labels), z), y)
