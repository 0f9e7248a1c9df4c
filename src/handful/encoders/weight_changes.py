"""Networks that change the weights of an LSTM while it hears a task. See `learners/memory/meta_lstm.py`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..ops.gradients import gradients_of
from ..ops.recurrent import log_and_sign

__all__ = ["Hyper", "Optimizer", "Update"]

States = tuple[Tensor, Tensor]


class Update(nn.Module):
    """Weights that move by matrices of low rank, and fall back to where they began.

    W_t = W_0 + ρ_t (W_{t−1} − W_0) + P diag(z_t) Q, with z_t = W_z ĥ_t (Chen et al. 2018, arXiv:1802.08969).

    Args:
        width: U, inputs of the gates: example, label, h and 1.
        hidden: H.
        meta_hidden: units of the meta-LSTM, whose states are ĥ_t and ĉ_t.
        rank: of z_t.
    """

    def __init__(self, width: int, hidden: int, meta_hidden: int, rank: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(width - 1 + hidden, meta_hidden)
        self.z = nn.Linear(meta_hidden, rank, bias=False)
        self.keep = nn.Linear(meta_hidden, 1)
        nn.init.constant_(self.keep.bias, 2.0)
        self.p = nn.Parameter(torch.randn(4, hidden, rank) / math.sqrt(rank))
        self.q = nn.Parameter(torch.randn(4, rank, width) / math.sqrt(width))

    def forward(self, weights: Tensor, first: Tensor, seen: Tensor, memory: States | None) -> tuple[Tensor, States]:
        """W_{t−1} [B, 4H, U], W_0 [4H, U], u_t [B, U − 1 + H] -> W_t."""
        memory = self.cell(seen, memory)
        z, keep = self.z(memory[0]), self.keep(memory[0]).sigmoid().unsqueeze(-1)  # [B, rank], [B, 1, 1]
        change = torch.einsum("ghr,br,gru->bghu", self.p, z, self.q).flatten(1, 2)
        return first + keep * (weights - first) + change, memory


class Hyper(nn.Module):
    """Weights whose rows are scaled, those for x and for h by themselves, and whose bias is shifted.

    W_t = diag(1 + D z_t) W_0, b_t = b_0 + D_b z_t (HyperLSTM, Ha et al. 2016, arXiv:1609.09106). Arguments: of Update.
    """

    def __init__(self, width: int, hidden: int, meta_hidden: int, rank: int) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(width - 1 + hidden, meta_hidden)
        self.z = nn.Linear(meta_hidden, 12 * rank, bias=False)  # for x, h and bias of each gate
        self.d = nn.Parameter(torch.randn(3, 4, rank, hidden) / math.sqrt(rank))
        self.sizes = [width - 1 - hidden, hidden, 1]

    def forward(self, weights: Tensor, first: Tensor, seen: Tensor, memory: States | None) -> tuple[Tensor, States]:
        """As of Update."""
        memory = self.cell(seen, memory)
        z = self.z(memory[0]).unflatten(-1, self.d.shape[:3])  # [B, 3, 4, rank]
        x, h, bias = torch.einsum("bkgr,kgrh->kbgh", z, self.d).flatten(2).unsqueeze(-1)  # each [B, 4H, 1]
        w_x, w_h, b = torch.split(first, self.sizes, 1)
        return torch.cat([(1 + x) * w_x, (1 + h) * w_h, b + bias], -1), memory


class Optimizer(nn.Module):
    """m: two LSTMs, shared by all coordinates, from a coordinate's gradient to its step.

    W ← W + 0.1 · m(∇L) (Andrychowicz et al. 2016, arXiv:1606.04474).

    Args:
        hidden: units of each LSTM.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lower, self.upper = nn.LSTMCell(2, hidden), nn.LSTMCell(hidden, hidden)
        self.step = nn.Linear(hidden, 1, bias=False)

    def forward(self, losses: Callable[[Tensor], Tensor], weights: Tensor, steps: int) -> Tensor:
        """Weights [B, 4H, U] after so many steps down the losses [B] that they give."""
        lower, upper = None, None
        for _ in range(steps):
            g = gradients_of(lambda own: losses(own["w"]), {"w": weights}, {}, ["w"], "none")["w"]
            lower = self.lower(log_and_sign(g).flatten(0, -2), lower)
            upper = self.upper(lower[0], upper)
            weights = weights + 0.1 * self.step(upper[0]).view_as(weights)
        return weights
