"""Prototypes that queries improve, for transductive learners."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import normalize, one_hot

__all__ = ["Labeled", "rectified", "shifted"]


class Labeled(NamedTuple):
    """A support as transductive learners keep it, until they see the queries."""

    z: Tensor  # [B, S, F]
    member: Tensor  # [B, S, N] how much an example counts in each class

    @property
    def means(self) -> Tensor:
        """[B, N, F] of each class."""
        return self.member.mT @ self.z / self.member.sum(1).unsqueeze(-1)

    @property
    def examples(self) -> Tensor:
        """[B, 1, 1] how many there are, by their weights."""
        return self.member.sum((1, 2)).view(-1, 1, 1)

    @property
    def mean(self) -> Tensor:
        """[B, 1, F] of all examples."""
        return self.member.sum(-1).unsqueeze(1) @ self.z / self.examples


def shifted(support: Labeled, z: Tensor) -> Tensor:
    """Queries [B, Q, F], moved so that their mean is that of the support (Liu et al. 2020, arXiv:1911.10713, eq. 7)."""
    return z + support.mean - z.mean(1, keepdim=True)


def rectified(support: Labeled, z: Tensor, scale: float, *, shares: bool = False) -> Tensor:
    """Prototypes [B, N, F] of the support and of the queries that are nearest to each class (ibid., eq. 4 and 5).

    Each query takes the class of the most similar mean. An example counts in its class by
    exp(scale · its cosine to the mean), or, with `shares`, by this over its sum for all classes.
    """
    means = normalize(support.means, dim=-1).mT
    similar, similar_query = (scale * normalize(part, dim=-1) @ means for part in (support.z, z))
    guess = one_hot(similar_query.argmax(-1), means.shape[-1]).to(z.dtype)  # [B, Q, N]
    if shares:
        own, asked = support.member * similar.softmax(-1), guess * similar_query.softmax(-1)
    else:
        own, asked = support.member * (similar - scale).exp(), guess * (similar_query - scale).exp()
    total = own.sum(1) + asked.sum(1)  # [B, N]
    return (own.mT @ support.z + asked.mT @ z) / total.unsqueeze(-1)
