"""The LSTM meta-learner: gradient descent written as the cell of an LSTM, whose gates are learned.

Paper: Ravi & Larochelle 2017, Optimization as a model for few-shot learning, ICLR, openreview:rJY0-Kcll.
    θ_t = c_t -> theta        c_I -> the model's parameters        ∇L_t, L_t -> g, loss (both held constant)
    x_t (first LSTM, on preprocessed L_t and ∇L_t) -> h        f̃_t, ĩ_t (gates before their sigmoid) -> f, i
    T -> inner_steps          preprocessing (appendix) -> log_and_sign
One coordinate of θ is one example of a batch to both LSTMs, which all coordinates and tasks share.
Batch normalization by the policy "episode" is the paper's protocol: each task begins its statistics anew, and in
meta-test a query is normalized by the running statistics of its support.
Departures:
    1. The authors' code divides the gradient of the mean loss by the size of the batch once more; here it is not.
    2. Mini-batches take supports in turn, in the order given, where algorithm 1 draws them.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from ...encoders.placing import placed
from ...episode import Support
from ...errors import SpecError
from ...gradient_learner import Adapted, GradientLearner, mini_batch, with_head
from ...learner import at_least_one
from ...ops.engine import Engine
from ...ops.recurrent import log_and_sign
from ...ops.tasks import Named
from ...ops.vectors import joined, parted

__all__ = ["LSTMMetaLearner"]


class Gates(NamedTuple):
    """What both LSTMs remember of n coordinates of each task."""

    h: Tensor  # [B, n, hidden]
    c: Tensor  # [B, n, hidden]
    f: Tensor  # [B, n] before the sigmoid
    i: Tensor  # [B, n] before the sigmoid


@final
class LSTMMetaLearner(GradientLearner):
    """An LSTM that replaces gradient descent, and the initialization that it starts from.

    Args:
        encoder: any module from [examples, *shape] to features, or, without `outputs`, to logits or outputs.
        outputs: adds a linear layer to so many outputs: the ways of a task, or the targets of a regression.
        inner_steps: T, updates by the support while training; 12 for 1 shot and 8 for 5 in the paper.
        evaluation_steps: updates in evaluation mode; None for the same.
        hidden: units of the first LSTM.
        inner_rate: where the input gate starts: b_I is uniform within ½ of its logit (the paper's −5 to −4).
        support_batch: supports of an update, taken in turn; None for all, as in the paper's experiments.
        engine: how tasks are mapped, as an Engine or a table; None: chosen by device and size.

    Raises:
        SpecError: a number of steps or supports below one; a rate not between 0 and 1; an embedding with max_norm.
        ShapeError: nothing to adapt, or `outputs` for an encoder that does not say its `out_features`.
    """

    paper = "Ravi & Larochelle 2017, ICLR, openreview:rJY0-Kcll"
    takes_complex = False

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int | None = None,
        inner_steps: int = 12,
        evaluation_steps: int | None = None,
        hidden: int = 20,
        inner_rate: float = 0.011,
        support_batch: int | None = None,
        engine: Engine | None = None,
    ) -> None:
        model = with_head(encoder, outputs)
        super().__init__(model, inner_steps=inner_steps, evaluation_steps=evaluation_steps, engine=engine)
        if not 0 < inner_rate < 1:
            raise SpecError(f"LSTMMetaLearner: expected inner_rate between 0 and 1, got {inner_rate}")
        at_least_one("LSTMMetaLearner", support_batch=support_batch)
        self.support_batch = support_batch
        self.lstm = nn.LSTMCell(4, hidden)
        self.forget_gate = nn.Linear(hidden + 2, 1)  # W_F, b_F
        self.input_gate = nn.Linear(hidden + 2, 1)  # W_I, b_I
        for part in (self.lstm, self.forget_gate, self.input_gate):
            for leaf in part.parameters():
                nn.init.uniform_(leaf, -0.01, 0.01)
        logit = math.log(inner_rate / (1 - inner_rate))
        nn.init.uniform_(self.forget_gate.bias, 4.0, 5.0)
        nn.init.uniform_(self.input_gate.bias, logit - 0.5, logit + 0.5)
        for part in (self.lstm, self.forget_gate, self.input_gate):
            placed(part, model)

    def descend(self, support: Support) -> Adapted:
        """θ_T from θ_0 = c_I, by T cells (algorithm 1, lines 7 to 13)."""
        state, past = self.begin(support), None
        for step in range(self.steps):
            g, loss = self._look(state, support, step)
            theta = {name: state.parameters[name] for name in g}
            moved, past = self.advance(joined(theta), joined(g), loss, past)
            state = state._replace(parameters=state.parameters | parted(moved, theta))
        return state

    def advance(self, theta: Tensor, g: Tensor, loss: Tensor, past: Gates | None) -> tuple[Tensor, Gates]:
        """θ_t = σ(f̃_t)·θ_{t−1} − σ(ĩ_t)·∇L_t for coordinates [B, n], from losses [B] (eq. 2 and 3)."""
        shown = torch.stack([loss.unsqueeze(1).expand_as(g), g], -1)  # [B, n, 2]
        inputs = log_and_sign(shown).flatten(-2)  # [B, n, 4]
        if past is None:
            zero = theta.new_zeros(*theta.shape, self.lstm.hidden_size)
            past = Gates(zero, zero, torch.zeros_like(theta), torch.zeros_like(theta))
        memory = past.h.flatten(0, 1), past.c.flatten(0, 1)
        h, c = (leaf.view_as(past.h) for leaf in self.lstm(inputs.flatten(0, 1), memory))
        f = self._gate(self.forget_gate, h, theta, past.f)
        i = self._gate(self.input_gate, h, theta, past.i)
        return f.sigmoid() * theta - i.sigmoid() * g, Gates(h, c, f, i)

    def _look(self, state: Adapted, support: Support, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """∇L_t by name and L_t of each task [B], neither with a graph."""
        tasks, examples = support.y.shape[:2]
        order = torch.arange(examples, device=support.y.device).expand(tasks, examples)
        rows = None if self.support_batch is None else mini_batch(order, step, self.support_batch)
        losses, seen = self.support_losses(support, step, rows), list[Tensor]()

        def watched(own: Named) -> Tensor:
            seen.append(losses(own))
            return seen[-1]

        theta, buffers = state.parameters, state.buffers
        g = self.engine.gradients(watched, theta, buffers, self.adapted, first_order=True)
        return g, seen[-1].detach()

    @staticmethod
    def _gate(gate: nn.Module, h: Tensor, theta: Tensor, past: Tensor) -> Tensor:
        value: Tensor = gate(torch.cat([h, theta.unsqueeze(-1), past.unsqueeze(-1)], -1))
        return value.squeeze(-1)
