"""The protocol of learners that are told what a class is: the support's `x` are descriptions, queries are examples.

A subclass says where a described class lies (`codes`), how near an example is to it (`similarity`), and its loss.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, final

from torch import Tensor, nn

from .encoders.shapes import shape_of
from .episode import Data, Episode, Support
from .errors import ShapeError
from .learner import Learner, embedded, features_of, plain_encoder

__all__ = ["Described", "ZeroShotLearner"]


class Described(NamedTuple):
    """What the descriptions taught."""

    c: Tensor  # [B, N, F]


class ZeroShotLearner(Learner):
    """A learner that embeds descriptions and examples, each by a network of its own, into one space.

    Args:
        encoder: of examples, any module from [examples, *shape] to [examples, E]; it says its `out_features`.
        description: shape of a description; None: that of an example.

    Raises:
        ShapeError: the encoder's normalization needs a learner that adapts it, or its sizes are not known.
    """

    kind = "zero_shot"

    def __init__(self, encoder: nn.Module, *, description: Sequence[int] | None = None) -> None:
        super().__init__()
        self.encoder = plain_encoder(encoder)
        self.description = shape_of(encoder) if description is None else tuple(description)
        self.features = features_of(encoder, "a map into the common space")

    @abstractmethod
    def codes(self, a: Tensor, y: Tensor, ways: int, weight: Tensor | None) -> Tensor:
        """Where the described classes lie: [B, N, F] from descriptions [B, S, *description], y and weight [B, S]."""

    @abstractmethod
    def similarity(self, z: Tensor, c: Tensor) -> Tensor:
        """Logits [B, Q, N] of example features [B, Q, E] for classes [B, N, F]."""

    @abstractmethod
    def losses(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss of each task [B], from logits [B, Q, N] and the classes of the queries [B, Q]."""

    @final
    def adapt(self, support: Support) -> Described:
        """As `Learner.adapt`."""
        ways = self._ways(support)
        if not isinstance(support.x, Tensor) or support.x.shape[2:] != self.description:
            came = tuple(support.x.shape[2:]) if isinstance(support.x, Tensor) else "tensors by name"
            wanted = f"expected descriptions of shape {self.description}"
            raise ShapeError(f"{type(self).__name__}: {wanted}, got {came}; set description= to their shape")
        a = support.x.to(next(self.parameters()).dtype)  # integers as yes and no
        return Described(self.codes(a, support.y, ways, support.weight))

    @final
    def predict(self, state: Described, x: Data) -> Tensor:
        """As `Learner.predict`."""
        return self.similarity(embedded(self.encoder, x, keep=False), state.c)

    @final
    def loss(self, episode: Episode) -> Tensor:
        """Mean over tasks of `losses`."""
        c = self.adapt(episode.support).c
        z = embedded(self.encoder, episode.query.x, keep=True)  # [B, Q, E]
        return self.losses(self.similarity(z, c), episode.query.y).mean()
