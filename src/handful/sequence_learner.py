"""The protocol of learners that hear their supports one after the other, in the order given.

`Episodes` gives supports in random order, so that no order of classes can be learned by heart; supports of your own
should come in a random order too.
"""

from __future__ import annotations

from torch import Tensor, nn

from .errors import DataError
from .learner import EmbeddingLearner, features_of
from .ops.classes import label_vectors

__all__ = ["SequenceLearner"]


class SequenceLearner(EmbeddingLearner):
    """A learner whose supports are a sequence of features and labels. Its queries share the state that this leaves.

    Args:
        encoder: any module from [examples, *shape] to [examples, F] that says its `out_features`.
        outputs: the ways of a task, or the targets of a regression: the width of a label.

    Raises:
        ShapeError: the encoder does not say its `out_features`, or its normalization needs a learner that adapts it.
    """

    kind = "memory"
    regression = True
    any_ways = False

    def __init__(self, encoder: nn.Module, outputs: int) -> None:
        super().__init__(encoder)
        self.features, self.outputs = features_of(encoder, type(self).__name__), outputs

    def labels(self, y: Tensor, ways: int, weight: Tensor | None, like: Tensor) -> Tensor:
        """Labels as vectors [B, S, outputs] of the kind of `like`.

        Raises:
            LabelError: the task has another number of ways.
            ShapeError: the task has another number of targets.
            DataError: supports of unequal weight: what is heard once is heard once.
        """
        if weight is not None and bool((weight != weight[:, :1]).any()):
            raise DataError(
                f"{type(self).__name__} hears each support once and cannot weigh them; expected equal weights, "
                "or none; leave out what should not count"
            )
        return label_vectors(y, ways, self.outputs).to(like.dtype)
