"""MANN: a controller that writes each example into an external memory, at the slots used least recently.

Paper: Santoro, Bartunov, Botvinick, Wierstra & Lillicrap 2016, arXiv:1605.06065.
    (x_t, y_{t−1}), shown together -> z, Memory.y          k_t -> k            M_t (eq. 8) -> Memory.m
    w^r_t (eq. 3) -> read        r_t (eq. 4) -> Memory.r    w^u_t (eq. 5) -> usage       γ -> decay
    w^lu_t (eq. 6) -> least      w^w_t (eq. 7) -> write     σ(α) -> gate       controller -> an LSTM
With several heads, head h writes to the h-th least used slot, and all slots so chosen are emptied before.
Departures:
    1. A query is one more step from the state after the support and leaves no trace, so that queries are answered by
       themselves: the paper's sequences go on, and an answer is followed by its label.
    2. σ(α) is a gate that the controller sets for each head at each step; keys pass a tanh. The paper leaves both open.
    3. Slots begin empty, at zero.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ...encoders.placing import placed
from ...episode import Episode
from ...errors import SpecError
from ...learner import task_losses
from ...sequence_learner import SequenceLearner

__all__ = ["MANN", "Memory"]


class Memory(NamedTuple):
    """What has been written so far, and the controller."""

    m: Tensor  # [B, slots, width]
    usage: Tensor  # [B, slots]
    read: Tensor  # [B, heads, slots] where was read last
    r: Tensor  # [B, heads · width] what was read last
    h: Tensor  # [B, hidden]
    c: Tensor  # [B, hidden]
    y: Tensor  # [B, outputs] the label that is shown with the next example


@final
class MANN(SequenceLearner):
    """Memory-augmented neural network with least recently used access.

    The loss is taken at every step of the sequence: at each support before its label is shown, and at each query.

    Args:
        encoder: any module from [examples, *shape] to [examples, F]; `identity` for the paper's raw pixels.
        outputs: the ways of a task, or the targets of a regression.
        hidden: units of the controller.
        slots: rows of the memory.
        width: of a row.
        heads: read heads, each with a key of its own.
        decay: γ, what is left of a slot's usage after a step.

    Raises:
        ShapeError: the encoder does not say its `out_features`, or its normalization needs a learner that adapts it.
        SpecError: more heads than slots.
    """

    paper = "Santoro et al. 2016, arXiv:1605.06065"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int = 5,
        hidden: int = 200,
        slots: int = 128,
        width: int = 40,
        heads: int = 4,
        decay: float = 0.95,
    ) -> None:
        super().__init__(encoder, outputs)
        if not 1 <= heads <= slots:
            raise SpecError(f"MANN: expected from 1 to {slots} heads, as many as slots at most, got {heads}")
        self.slots, self.width, self.heads, self.decay = slots, width, heads, decay
        self.controller = placed(nn.LSTMCell(self.features + outputs + heads * width, hidden), encoder)
        self.key = placed(nn.Linear(hidden, heads * width), encoder)
        self.gate = placed(nn.Linear(hidden, heads), encoder)
        self.output = placed(nn.Linear(hidden + heads * width, outputs), encoder)

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Memory:
        """The memory after all supports."""
        return self.hear(z, self.labels(y, ways, weight, z))[0]

    def predict_features(self, state: Memory, z: Tensor) -> Tensor:
        """Outputs [B, Q, outputs]: each query is the next example, and the only one."""
        tasks, queries = z.shape[:2]
        each = Memory(*(leaf.repeat_interleave(queries, 0) for leaf in state))  # [B · Q, ...]
        answers: Tensor = self.answer(self.step(each, z.flatten(0, 1)))
        return answers.view(tasks, queries, answers.shape[1])

    def loss(self, episode: Episode) -> Tensor:
        """Mean cross-entropy (squared error) over all steps: supports, before their labels are shown, and queries."""
        support, query = episode.support, episode.query
        z, z_query = self.embed_episode(episode)
        state, answers = self.hear(z, self.labels(support.y, support.ways or 0, support.weight, z))
        outputs = torch.cat([answers, self.predict_features(state, z_query)], 1)  # [B, S + Q, outputs]
        return task_losses(outputs, torch.cat([support.y, query.y], 1)).mean()

    def hear(self, z: Tensor, y: Tensor) -> tuple[Memory, Tensor]:
        """The memory after a sequence z [B, S, F], y [B, S, outputs], and the answers at each step [B, S, outputs]."""
        state, answers = self.begin(z), []
        for t in range(z.shape[1]):
            state = self.step(state, z[:, t])
            answers.append(self.answer(state))
            state = state._replace(y=y[:, t])
        return state, torch.stack(answers, 1)

    def begin(self, z: Tensor) -> Memory:
        """An empty memory for each task of features [B, ...]."""

        def zeros(*shape: int) -> Tensor:
            return z.new_zeros(len(z), *shape)

        h = zeros(self.controller.hidden_size)
        r, read = zeros(self.heads * self.width), zeros(self.heads, self.slots)
        return Memory(zeros(self.slots, self.width), zeros(self.slots), read, r, h, h, zeros(self.outputs))

    def step(self, past: Memory, z: Tensor) -> Memory:
        """One example z [B, F]: write where little is used, then read (eq. 2 to 8)."""
        h, c = self.controller(torch.cat([z, past.y, past.r], -1), (past.h, past.c))
        k = self.key(h).tanh().unflatten(-1, (self.heads, self.width))  # [B, heads, width]
        gate = self.gate(h).sigmoid().unsqueeze(-1)  # [B, heads, 1]
        least = one_hot(past.usage.argsort(dim=-1, stable=True)[:, : self.heads], self.slots).to(z.dtype)  # eq. 6
        write = gate * past.read + (1 - gate) * least  # [B, heads, slots], eq. 7
        m = past.m * (1 - least.sum(1)).unsqueeze(-1) + write.mT @ k  # [B, slots, width], eq. 8
        read = (_unit(k) @ _unit(m).mT).softmax(-1)  # [B, heads, slots], eq. 2 and 3
        usage = self.decay * past.usage + (read + write).sum(1)  # eq. 5
        return Memory(m, usage, read, (read @ m).flatten(1), h, c, past.y)  # eq. 4

    def answer(self, state: Memory) -> Tensor:
        """Outputs [B, outputs] from the controller and what it read."""
        outputs: Tensor = self.output(torch.cat([state.h, state.r], -1))
        return outputs


def _unit(x: Tensor) -> Tensor:
    """Rows of length one; an empty row stays empty."""
    return x * (x.square().sum(-1, keepdim=True) + 1e-8).rsqrt()
