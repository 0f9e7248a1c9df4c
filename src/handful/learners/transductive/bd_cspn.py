"""BD-CSPN: prototypes rectified by the queries, after both sets are moved onto each other.

Paper: Liu, Song & Qin 2020, arXiv:1911.10713.
    cosine similarity prototypes (eq. 1) -> Labeled.means        rectified by pseudo-labels (eq. 4, 5) -> rectified
    shift ξ (eq. 7) -> shifted
Departures:
    1. Every query is used under its pseudo-label; the authors take the most confident ones of each class.
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn.functional import normalize

from ...ops.classes import membership
from ...ops.rectification import Labeled, rectified, shifted
from ...pretrained_learner import PretrainedLearner

__all__ = ["BDCSPN"]


@final
class BDCSPN(PretrainedLearner):
    """Cosine to rectified prototypes.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        classes: how many classes the training pool has; None: train episode by episode.
        scale: ε, of cosines, in the weights of examples and in the logits. An only example of a class has cosine 1
            to its mean: where features have small cosines, a large ε leaves the queries no weight.

    Raises:
        ShapeError: `classes` for an encoder that does not say its `out_features`.
    """

    paper = "Liu, Song & Qin 2020, arXiv:1911.10713"
    kind = "transductive"
    uses_queries = True

    def __init__(self, encoder: nn.Module, *, classes: int | None = None, scale: float = 10.0) -> None:
        super().__init__(encoder, classes=classes, scale=scale)
        self.scale = scale

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Labeled:
        """The support, of length one."""
        return Labeled(normalize(z, dim=-1), membership(y, ways, weight, dtype=z.dtype))

    def predict_features(self, state: Labeled, z: Tensor) -> Tensor:
        """Logits ε · cos(x, p'_k)."""
        z = shifted(state, normalize(z, dim=-1))
        prototypes = rectified(state, z, self.scale)
        return self.scale * normalize(z, dim=-1) @ normalize(prototypes, dim=-1).mT  # [B, Q, N]
