"""Centers of classes that a few wrong examples move little: by the order of the values of each feature."""

from __future__ import annotations

import torch
from torch import Tensor

from .classes import membership

__all__ = ["class_medians", "class_trimmed_means"]


def class_medians(z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Tensor:
    """Median of each feature over the examples of each class: [B, S, F], [B, S] in [0, ways) -> [B, ways, F].

    Half of the class's weight lies on either side; between two middle examples, their mean.
    """
    ascending, passed = _ascending(z, y, ways, weight)
    half = passed[..., -1:] / 2
    below, above = (passed >= half).long().argmax(-1), (passed > half).long().argmax(-1)  # [B, N, F]: the first such
    return (ascending.gather(1, below) + ascending.gather(1, above)) / 2


def class_trimmed_means(z: Tensor, y: Tensor, ways: int, trim: float, weight: Tensor | None = None) -> Tensor:
    """Mean of each feature without the least and the greatest values of each class: [B, S, F] -> [B, ways, F].

    Args:
        z, y, ways, weight: features [B, S, F], labels [B, S] in [0, ways), how much each example counts [B, S].
        trim: share of a class's weight that is left out at either end, in [0, 0.5); in part of an example if need be.
    """
    ascending, passed = _ascending(z, y, ways, weight)
    total = passed[..., -1:]
    inside = passed.clamp(trim * total, (1 - trim) * total)  # [B, N, F, S]
    kept = torch.cat([inside[..., :1] - trim * total, inside.diff(dim=-1)], -1)
    return torch.einsum("bnfs,bsf->bnf", kept, ascending) / ((1 - 2 * trim) * total.squeeze(-1))


def _ascending(z: Tensor, y: Tensor, ways: int, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """The values of each feature in order [B, S, F], and the weight of each class up to there [B, N, F, S]."""
    order = z.argsort(1)
    counts = membership(y, ways, weight, dtype=z.dtype).mT  # [B, N, S]
    tasks, examples, features = z.shape
    index = order.mT.reshape(tasks, 1, features * examples).expand(-1, ways, -1)
    passed = counts.gather(2, index).view(tasks, ways, features, examples).cumsum(-1)
    return z.gather(1, order), passed
