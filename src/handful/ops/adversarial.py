"""The losses of an (N+1)-way discriminator whose logit of "generated" is fixed at zero.

With s = logsumexp(l_1..l_N): log p(y ≤ N) = −softplus(−s), log p(N+1) = −softplus(s) (Salimans et al. 2016,
arXiv:1606.03498, section 5; Zhang et al. 2018, MetaGAN).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = ["called_fake", "called_real"]


def called_real(logits: Tensor) -> Tensor:
    """−log p(y ≤ N | x): what it costs to call these real: [..., N] -> [...]."""
    return F.softplus(-logits.logsumexp(-1))


def called_fake(logits: Tensor) -> Tensor:
    """−log p(N+1 | x): what it costs to call these generated: [..., N] -> [...]."""
    return F.softplus(logits.logsumexp(-1))
