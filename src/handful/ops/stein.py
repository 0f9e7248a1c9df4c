"""Stein variational gradient descent: particles that follow a density and keep apart.

Liu & Wang 2016, arXiv:1608.04471.

M particles of P numbers, for each of B tasks: [B, M, P].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .distances import squared_distances
from .precision import precise

__all__ = ["rbf_kernel", "stein_direction"]


def rbf_kernel(particles: Tensor) -> tuple[Tensor, Tensor]:
    """k(θ_j, θ_m) = exp(−‖θ_j − θ_m‖²/h) and the repulsion Σ_j ∇_{θ_j} k(θ_j, θ_m), for h held fixed.

    h = med²/log M, the median over pairs of different particles: then Σ_j k(θ_j, θ_m) is about 1 for the others
    together. Both results can be differentiated, and h takes part in that.

    Returns:
        k [B, M, M] and the repulsion [B, M, P].
    """
    count = particles.shape[1]
    if count == 1:
        return torch.ones_like(particles[:, :, :1]), torch.zeros_like(particles)
    squares = squared_distances(particles, particles)  # [B, M, M]
    upper = torch.ones(count, count, dtype=torch.bool, device=particles.device).triu(1)
    median = squares[:, upper].median(1).values  # [B]: the median of squares is the square of the median
    h = (median / math.log(count)).clamp_min(torch.finfo(squares.dtype).tiny ** 0.5)[:, None, None]
    k = (-squares / h).exp()
    repulsion = 2 / h * (particles * k.sum(1).unsqueeze(-1) - k.mT @ particles)
    return k, repulsion


def stein_direction(particles: Tensor, scores: Tensor) -> Tensor:
    """φ(θ_m) = 1/M Σ_j [k(θ_j, θ_m) ∇log p(θ_j) + ∇_{θ_j} k(θ_j, θ_m)] (eq. 8): [B, M, P].

    Args:
        particles: θ, [B, M, P].
        scores: ∇log p(θ), [B, M, P].
    """
    k, repulsion = rbf_kernel(precise(particles))
    return ((k.mT @ precise(scores) + repulsion) / particles.shape[1]).to(scores.dtype)
