"""SimpleShot: the nearest class mean of features that are centered by the training classes and of length one.

Paper: Wang, Chao, Weinberger & van der Maaten 2019, arXiv:1911.04623.
    x̄ -> mean        CL2N: (x − x̄) / ‖x − x̄‖ -> _transformed        nearest centroid -> predict_features
Departures:
    1. x̄ is a running mean of the features that training sees, while the encoder learns, not one pass at the end.
    2. Logits are −scale · squared distances, so that they can be trained through; the order is the paper's.
"""

from __future__ import annotations

from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ...episode import Episode
from ...learner import features_of
from ...ops.classes import class_means
from ...ops.distances import squared_distances
from ...pretrained_learner import PretrainedLearner

__all__ = ["Centroids", "SimpleShot"]


class Centroids(NamedTuple):
    """What a support taught."""

    c: Tensor  # [B, N, F]


@final
class SimpleShot(PretrainedLearner):
    """Nearest class mean after CL2N.

    Args:
        encoder: any module from [examples, *shape] to [examples, F]; it must say its `out_features`.
        classes: how many classes the training pool has; None: train episode by episode.
        momentum: weight of a step's features in the running mean.
        scale: of distances, to logits.

    Raises:
        ShapeError: an encoder that does not say its `out_features`.
    """

    paper = "Wang, Chao, Weinberger & van der Maaten 2019, arXiv:1911.04623"
    kind = "baseline"
    mean: Tensor

    def __init__(
        self, encoder: nn.Module, *, classes: int | None = None, momentum: float = 0.01, scale: float = 10.0
    ) -> None:
        super().__init__(encoder, classes=classes)
        self.momentum, self.scale = momentum, scale
        self.register_buffer("mean", torch.zeros(features_of(encoder, "the mean of training features")))

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Centroids:
        """Class means of the transformed support."""
        return Centroids(class_means(self._transformed(z), y, ways, weight))

    def predict_features(self, state: Centroids, z: Tensor) -> Tensor:
        """Logits −scale · ‖CL2N(f(x)) − c_k‖²."""
        return -self.scale * squared_distances(self._transformed(z), state.c)  # [B, Q, N]

    def loss(self, episode: Episode) -> Tensor:
        """As every pre-trained learner's; in training mode the mean moves on."""
        features = self.embed_episode(episode)
        loss = self.feature_loss(episode, *features)
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(torch.cat(features, 1).mean((0, 1)).to(self.mean.dtype), self.momentum)
        return loss

    def _transformed(self, z: Tensor) -> Tensor:
        return normalize(z - self.mean, dim=-1)
