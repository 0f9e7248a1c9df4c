"""The protocol: a task is learned by a pure function of its support set.

`adapt(support)` returns what was learned, `predict(learned, x)` answers, `loss(episode)` is what meta-training
descends. Training, evaluation and everything else are shells around these three.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .encoders.normalization import policies_of, shares_statistics
from .encoders.placing import taken
from .episode import Data, Episode, Support, join_data, leading, map_data
from .errors import ShapeError, SpecError
from .ops.buffers import settle_
from .ops.tasks import call_with, explained, pure_call

__all__ = [
    "EmbeddingLearner",
    "Learner",
    "at_least_one",
    "embedded",
    "features_of",
    "plain_encoder",
    "query_loss",
    "task_losses",
    "weights",
]


class Learner(nn.Module, ABC):
    """Learns B tasks at once from their supports.

    Laws (each a test over every learner): a task's answers do not depend on the other tasks of the batch;
    adapting and predicting change no attribute, weight or buffer; permuting supports changes nothing and
    permuting classes permutes the answers; unless `transductive`, a query's answer does not depend on the
    other queries.
    """

    paper: ClassVar[str] = ""
    """Author, year and identifier."""
    kind: ClassVar[str] = ""
    """The family, and the package here: metric, gradient, memory, generative, closed_form, baseline, transductive or
    zero_shot."""
    regression: ClassVar[bool] = False
    """Whether it learns regression tasks (ways=None)."""
    any_ways: ClassVar[bool] = True
    """Whether one trained learner answers tasks of any number of ways."""
    uses_queries: ClassVar[bool] = False
    """Whether the method itself looks at all queries together."""

    @property
    def transductive(self) -> bool:
        """Whether queries share information: by the method, or by batch statistics in its encoder."""
        return self.uses_queries or shares_statistics(self)

    @abstractmethod
    def adapt(self, support: Support) -> Any:
        """What the support taught: a NamedTuple of tensors with a leading task axis."""

    @abstractmethod
    def predict(self, state: Any, x: Data) -> Tensor:
        """Logits [B, Q, ways], or outputs [B, Q, *out], for queries [B, Q, *shape]."""

    @abstractmethod
    def loss(self, episode: Episode) -> Tensor:
        """The scalar that meta-training descends: a mean over tasks."""

    def _ways(self, support: Support) -> int:
        """N; 0 for a regression, where the learner learns one."""
        if support.ways is None and not self.regression:
            raise ShapeError(f"{type(self).__name__} learns classes; a regression task (ways=None) came")
        return support.ways or 0


class EmbeddingLearner(Learner):
    """A learner that leaves its encoder alone while adapting: it works on features.

    Evaluation embeds each example once, and a recognizer keeps vectors instead of pictures. A subclass says
    only `adapt_features` and `predict_features`.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].

    Raises:
        ShapeError: the encoder's normalization needs a learner that adapts it.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = plain_encoder(encoder)

    @abstractmethod
    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Any:
        """What support features taught: z [B, S, F], y [B, S], weight [B, S] or None; in a regression ways is 0."""

    @abstractmethod
    def predict_features(self, state: Any, z: Tensor) -> Tensor:
        """Logits [B, Q, ways] for query features [B, Q, F]."""

    @final
    def embed(self, x: Data) -> Tensor:
        """Features of examples: [B, S, *shape] -> [B, S, F]. Buffers of the encoder stay as they are."""
        return embedded(self.encoder, x, keep=False)

    @final
    def adapt(self, support: Support) -> Any:
        """As `Learner.adapt`."""
        ways = self._ways(support)
        return self.adapt_features(self.embed(support.x), support.y, ways, support.weight)

    @final
    def predict(self, state: Any, x: Data) -> Tensor:
        """As `Learner.predict`."""
        return self.predict_features(state, self.embed(x))

    def loss(self, episode: Episode) -> Tensor:
        """Cross-entropy (squared error) of the queries."""
        support, query = episode.support, episode.query
        ways = self._ways(support)
        z_support, z_query = self.embed_episode(episode)
        state = self.adapt_features(z_support, support.y, ways, support.weight)
        return task_losses(self.predict_features(state, z_query), query.y).mean()

    @final
    def embed_episode(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Features [B, S, F] and [B, Q, F] for `loss`: support and queries of a task pass the encoder as one batch.

        In training, running estimates of the encoder move on.
        """
        support, query = episode.support, episode.query
        if shares_statistics(self.encoder):  # policy "batch": each set by itself, as in adapt and predict
            return embedded(self.encoder, support.x, keep=True), embedded(self.encoder, query.x, keep=True)
        features = embedded(self.encoder, join_data([support.x, query.x], 1), keep=True)
        z_support, z_query = torch.split(features, [support.y.shape[1], query.y.shape[1]], 1)
        return z_support, z_query


def embedded(encoder: nn.Module, x: Data, *, keep: bool) -> Tensor:
    """Features [B, S, F] of examples [B, S, *shape]. Statistics are shared in a task, never between tasks.

    With `keep`, running statistics become the mean over tasks, each from the same start; without, buffers stay.

    Raises:
        ShapeError: the encoder gives something else than a row of features for each example, or as `explained`.
    """
    with explained(encoder):
        return _embedded(encoder, taken(x, encoder), keep=keep)


def _embedded(encoder: nn.Module, x: Data, *, keep: bool) -> Tensor:
    tasks, examples = leading(x)
    call: Callable[[Data], Tensor] = encoder if keep else partial(pure_call, encoder)
    if not shares_statistics(encoder, training=encoder.training):
        z = _flat(encoder, call(map_data(lambda leaf: leaf.flatten(0, 1), x)))
        return z.view(tasks, examples, z.shape[1])
    parts = [map_data(itemgetter(task), x) for task in range(tasks)]
    if not keep or tasks == 1 or not encoder.training:
        return torch.stack([_flat(encoder, call(part)) for part in parts])
    own = dict(encoder.named_buffers())
    left = [{name: buffer.clone() for name, buffer in own.items()} for _ in parts]
    features = [_flat(encoder, call_with(encoder, buffers, (part,))) for buffers, part in zip(left, parts, strict=True)]
    for name, buffer in own.items():
        settle_(buffer, torch.stack([buffers[name] for buffers in left]))
    return torch.stack(features)


def _flat(encoder: nn.Module, z: Any) -> Tensor:
    """Features [examples, F] as floats."""
    if not isinstance(z, Tensor) or z.dim() != 2:
        came = f"a tensor of shape {tuple(z.shape)}" if isinstance(z, Tensor) else f"a {type(z).__name__}"
        raise ShapeError(
            f"{type(encoder).__name__} gives {came}; expected features [examples, F]: end the encoder with a pooling, "
            "and nn.Flatten()"
        )
    return z if z.is_floating_point() else z.to(torch.get_default_dtype())


def plain_encoder(encoder: nn.Module) -> nn.Module:
    """The encoder itself, if it can be trained without adapting it.

    Raises:
        ShapeError: its normalization needs a learner that adapts it.
    """
    wrong = policies_of(encoder) & {"support", "per_step", "episode"}
    if wrong:
        raise ShapeError(
            f"normalization {wrong.pop()!r} is for learners that adapt their encoder in training; "
            "expected running, frozen, batch, group, layer or instance"
        )
    return encoder


def features_of(encoder: nn.Module, what: str) -> int:
    """How many features an encoder gives, which `what` needs.

    Raises:
        ShapeError: it does not say its `out_features`.
    """
    features = getattr(encoder, "out_features", None)
    if not isinstance(features, int):
        raise ShapeError(
            f"{type(encoder).__name__} does not say its out_features, which {what} needs; "
            "give it that attribute, or leave `outputs` out if it ends in logits already"
        )
    return features


def at_least_one(who: str, **counts: int | None) -> None:
    """Refuse a number, by its name as an argument of `who`, that is below one; None passes.

    Raises:
        SpecError: there is such a number.
    """
    for what, count in counts.items():
        if count is not None and count < 1:
            raise SpecError(f"{who}: expected {what} of at least 1, got {count}")


def task_losses(output: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean loss (weighted by [B, S]) of each task: [B].

    Cross-entropy of logits [B, S, N] for integer y [B, S]; squared error of outputs [B, S, *out] for float y.
    """
    if y.is_floating_point():
        if output.shape != y.shape:
            raise ShapeError(
                f"loss: expected outputs of the targets' shape {tuple(y.shape)}, got {tuple(output.shape)}"
            )
        each = (output - y).square().reshape(*y.shape[:2], -1).mean(2)  # [B, S]
    else:
        each = F.cross_entropy(output.transpose(1, 2), y, reduction="none")  # [B, S]
    return each.mean(1) if weight is None else (each * weight).sum(1) / weight.sum(1)


def weights(episode: Episode) -> Tensor:
    """How much each example counts where support and queries are taken together: [B, S + Q], 1 for a query."""
    support, query = episode.support, episode.query
    own = torch.ones(support.y.shape[:2], device=support.y.device) if support.weight is None else support.weight
    return torch.cat([own, own.new_ones(query.y.shape[:2])], 1)


def query_loss(learner: Learner, episode: Episode) -> Tensor:
    """Mean over tasks of the query loss after adapting: what most learners descend."""
    return task_losses(learner.predict(learner.adapt(episode.support), episode.query.x), episode.query.y).mean()
