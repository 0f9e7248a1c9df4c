"""Relation networks: a learned comparison of a class's map with a query's map.

Paper: Sung, Yang, Zhang, Xiang, Torr & Hospedales 2018, arXiv:1711.06025.
    f_φ -> encoder        C(·, ·) -> concatenated channels        g_φ -> relation        r_{i,j} (eq. 1) -> σ(logits)
Departures:
    1. Batch normalization by a policy; the authors' code always uses the statistics of the present batch.
    2. In regression, which the paper does not have, the query is related to each support example, and the answer is
       the mean of their targets by the softmax of these relations.
    3. A class may be the mean of its maps too (`combine`), which does not grow with the shots.
    4. The second pooling of the relation module is left out where a map has but one place left.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ...encoders.maps import map_shape
from ...encoders.normalization import Policy
from ...encoders.normalization import normalization as make_normalization
from ...encoders.placing import placed
from ...encoders.relation import relation_block, start_as_published
from ...episode import Episode
from ...errors import ShapeError, unknown_name
from ...learner import EmbeddingLearner, embedded, task_losses
from ...ops.attention import attend
from ...ops.classes import class_means, membership

__all__ = ["Related", "RelationNetwork"]


class Related(NamedTuple):
    """What a support taught."""

    maps: Tensor  # [B, N, F] of classes; in regression [B, S, F] of examples
    y: Tensor | None  # [B, S, *out] targets of a regression
    weight: Tensor | None  # [B, S] in regression


@final
class RelationNetwork(EmbeddingLearner):
    """Relates maps of classes to maps of queries by a network.

    Args:
        encoder: any module from [examples, *shape] to [examples, F]; the shape of its maps is its `out_maps`, or else
            the features are a map of one place.
        combine: a class is the "sum" of its support maps (the paper's), or their "mean", which other numbers of shots
            than those of training leave as large as it was.
        objective: "mse" between relations σ(logits) and 0 or 1 (the paper's), or "cross_entropy" over the classes.
        filters: of the relation module's two blocks.
        hidden: width of its hidden layer.
        padding: of its convolutions: 1 for Omniglot, 0 for mini-ImageNet.
        normalization: in its blocks; see `handful.encoders.normalization`.

    Raises:
        UnknownNameError: no such combination, objective or normalization.
        ShapeError: maps too small for convolutions without padding, no features known, or a normalization for
            learners that adapt their encoder.
    """

    paper = "Sung, Yang, Zhang, Xiang, Torr & Hospedales 2018, arXiv:1711.06025"
    kind = "metric"
    regression = True

    def __init__(
        self,
        encoder: nn.Module,
        *,
        combine: Literal["sum", "mean"] = "sum",
        objective: Literal["mse", "cross_entropy"] = "mse",
        filters: int = 64,
        hidden: int = 8,
        padding: Literal[0, 1] = 1,
        normalization: Policy = "running",
    ) -> None:
        super().__init__(encoder)
        if combine not in ("sum", "mean"):
            raise unknown_name("combination", combine, ("sum", "mean"))
        if objective not in ("mse", "cross_entropy"):
            raise unknown_name("objective", objective, ("mse", "cross_entropy"))
        if normalization in ("support", "per_step", "episode"):
            raise ShapeError(f"normalization {normalization!r} is for learners that adapt; expected running or another")
        self.combine, self.objective = combine, objective
        self.shape = channels, height, width = map_shape(encoder)
        blocks: list[nn.Module] = []
        for inputs in (2 * channels, filters):
            height, width = height - 2 + 2 * padding, width - 2 + 2 * padding
            if min(height, width) < 1:
                raise ShapeError(
                    f"RelationNetwork: maps of {self.shape[1:]} are too small for padding=0; set padding=1"
                )
            pool = min(height, width) >= 2
            layer = make_normalization(normalization, filters, area=height * width)
            blocks.append(relation_block(inputs, filters, layer, padding=padding, pool=pool))
            height, width = (height // 2, width // 2) if pool else (height, width)
        last = [nn.Linear(filters * height * width, hidden), nn.ReLU(), nn.Linear(hidden, 1)]
        self.relation = nn.Sequential(*blocks, nn.Flatten(), *last)
        start_as_published(placed(self.relation, encoder))

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Related:
        """The sum of each class's support maps (section 3.2), or their mean; in regression every map by itself."""
        if ways == 0:
            return Related(z, y, weight)
        if self.combine == "mean":
            return Related(class_means(z, y, ways, weight), None, None)
        return Related(membership(y, ways, weight, dtype=z.dtype).mT @ z, None, None)

    def predict_features(self, state: Related, z: Tensor) -> Tensor:
        """Logits of the relations r [B, Q, N]; in regression outputs [B, Q, *out]."""
        return self._answer(state, z, keep=False)

    def loss(self, episode: Episode) -> Tensor:
        """MSE of the relations with 1 for the query's class and 0 for others (eq. 2), or what `objective` says."""
        support, query = episode.support, episode.query
        z_support, z_query = self.embed_episode(episode)
        state = self.adapt_features(z_support, support.y, self._ways(support), support.weight)
        output = self._answer(state, z_query, keep=True)
        if support.ways is None or self.objective == "cross_entropy":
            return task_losses(output, query.y).mean()
        return F.mse_loss(output.sigmoid(), one_hot(query.y, support.ways).to(output.dtype))

    def _answer(self, state: Related, z: Tensor, *, keep: bool) -> Tensor:
        tasks, queries, compared = *z.shape[:2], state.maps.shape[1]
        size = (tasks, queries, compared, -1)
        both = [state.maps.unsqueeze(1).expand(size), z.unsqueeze(2).expand(size)]  # [B, Q, N, C·H·W] each
        channels, height, width = self.shape
        pairs = torch.cat(both, -1).view(tasks, queries * compared, 2 * channels, height, width)
        relations = embedded(self.relation, pairs, keep=keep).view(tasks, queries, compared)
        if state.y is None:
            return relations  # [B, Q, N]
        targets = state.y.flatten(2) if state.y.ndim > 2 else state.y.unsqueeze(-1)  # [B, S, O]
        return attend(relations, targets, state.weight).view(tasks, queries, *state.y.shape[2:])
