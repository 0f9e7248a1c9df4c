"""The protocol of learners whose encoder learns by classifying all training classes at once, before there are tasks.

An episode is then a batch of labeled examples: its support and queries together, under the numbers that their classes
have in the pool. It should have many classes and few examples of each (`ways = 64`, `shots = 1`, `queries = 1`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from .encoders.placing import placed
from .episode import Episode
from .errors import LabelError, ShapeError
from .learner import EmbeddingLearner, features_of, task_losses, weights

__all__ = ["PretrainedLearner", "classification_loss", "classifier_of"]


class PretrainedLearner(EmbeddingLearner):
    """An embedding learner that can be trained by classification.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        classes: how many classes the training pool has: `loss` is then the cross-entropy of a linear classifier of all
            of them, which no task uses. None: `loss` is that of the queries of a task, as in meta-learning.
        scale: classify by this times the cosine to a vector for each class, instead of linearly.

    Raises:
        ShapeError: `classes` for an encoder that does not say its `out_features`.
    """

    def __init__(self, encoder: nn.Module, *, classes: int | None = None, scale: float | None = None) -> None:
        super().__init__(encoder)
        self.classifier = classifier_of(encoder, classes, bias=scale is None)
        self.classifier_scale = scale

    def loss(self, episode: Episode) -> Tensor:
        """Cross-entropy: of all examples among all training classes, or, without `classes`, of the queries."""
        return self.feature_loss(episode, *self.embed_episode(episode))

    def feature_loss(self, episode: Episode, z: Tensor, z_query: Tensor) -> Tensor:
        """`loss` of features [B, S, F] and [B, Q, F].

        Raises:
            ShapeError: the classifier is for another number of features.
        """
        support = episode.support
        ways = self._ways(support)
        if self.classifier is None:
            state = self.adapt_features(z, support.y, ways, support.weight)
            return task_losses(self.predict_features(state, z_query), episode.query.y).mean()
        every = torch.cat([z, z_query], 1)
        if every.shape[-1] != self.classifier.in_features:
            raise ShapeError(
                f"{type(self).__name__}: expected {self.classifier.in_features} features of each example, as its "
                f"encoder says, got {every.shape[-1]}: pictures of another size than its shape (as the augmentation's "
                "`side` makes them) need an encoder that averages its last map"
            )
        if self.classifier_scale is None:
            return classification_loss(self.classifier(every), episode)
        cosines = linear(normalize(every, dim=-1), normalize(self.classifier.weight, dim=-1))
        return classification_loss(self.classifier_scale * cosines, episode)


def classifier_of(encoder: nn.Module, classes: int | None, *, bias: bool = True) -> nn.Linear | None:
    """A linear classifier of features, where the encoder is and in its precision; None without classes.

    Raises:
        ShapeError: the encoder does not say its `out_features`.
    """
    if classes is None:
        return None
    return placed(nn.Linear(features_of(encoder, f"a classifier of {classes} classes"), classes, bias=bias), encoder)


def classification_loss(logits: Tensor, episode: Episode) -> Tensor:
    """Cross-entropy of an episode's examples, support first, among all training classes: [B, S + Q, classes] -> a mean.

    Raises:
        LabelError: the episode does not say the training classes, or they are not below `classes`.
    """
    return task_losses(logits, _training_classes(episode, logits.shape[-1]), weights(episode)).mean()


def _training_classes(episode: Episode, classes: int) -> Tensor:
    """[B, S + Q] the training class of each example, support first."""
    if episode.classes is None:
        raise LabelError(
            "pre-training: the episodes do not say which training classes their labels stand for; expected "
            "Episode(support, query, classes), as Episodes of a pool gives unless an augmentation turns "
            "their classes (`rotation`), or a learner without `classes`"
        )
    y = episode.classes.gather(1, torch.cat([episode.support.y, episode.query.y], 1))
    if y.device.type == "cpu" and int(y.max()) >= classes:
        raise LabelError(
            f"pre-training: expected classes 0 to {classes - 1} (classes={classes}), got class {int(y.max())}; "
            "set `classes` to the number of classes in the training pool"
        )
    return y
