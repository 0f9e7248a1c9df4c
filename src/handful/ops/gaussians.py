"""Normal distributions with a variance for each coordinate."""

from __future__ import annotations

from torch import Tensor

__all__ = ["kl_divergence"]


def kl_divergence(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(other mean, other variance)) of each coordinate, in the common shape.

    ½ [log σ²/v + (v + (μ_q − μ_p)²)/σ² − 1] with v, μ_q of the first and σ², μ_p of the second.
    """
    ratio = log_variance - other_log_variance
    return 0.5 * (ratio.exp() - ratio - 1 + (mean - other_mean).square() * (-other_log_variance).exp())
