"""What learners that are recurrent networks share: one step of an LSTM, and how gradients enter one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["log_and_sign", "lstm_step"]


def lstm_step(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM (Hochreiter & Schmidhuber 1997) from what its gates receive: the next h and c.

    Args:
        gates: [..., 4H], those of input, forgetting, candidate and output one after the other, as in torch.
        c: [..., H] cells.
    """
    i, f, g, o = gates.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def log_and_sign(x: Tensor, p: float = 10.0) -> Tensor:
    """Numbers of any magnitude as two of the order of one: [...] -> [..., 2] (Andrychowicz et al. 2016, appendix A).

    (log|x| / p, sign x) where |x| ≥ e⁻ᵖ, else (−1, eᵖ x).
    """
    large = x.abs() >= math.exp(-p)
    log = torch.where(large, x.abs(), 1.0).log() / p
    return torch.stack([torch.where(large, log, -1.0), torch.where(large, x.sign(), math.exp(p) * x)], -1)
