"""A convolution over words and the places of two entities (Zeng et al. 2014; FewRel's CNN, Han et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from ..errors import ShapeError
from .normalization import called_plainly

__all__ = ["REACH", "TextCNN", "check_words"]

REACH = 64
"""Words further from an entity than this count as so far away."""


@final
class TextCNN(nn.Module):
    """Word embeddings, a convolution over them, the greatest value of each filter, ReLU.

    Word numbers are those of `handful.data.texts`: 0 for none. Relations have two more rows, the distances of each
    word from the head and from the tail entity, which are embedded beside the word.

    Args:
        shape: [words] of a text, or [3, words] of a relation.
        vocabulary: greatest word number plus one.
        width: features of a word.
        positions: features of a distance.
        filters: features of a text.
        window: words that a filter sees, an odd number.

    Raises:
        ShapeError: another shape, an even window, or a size below 1; when called, what is no number of a word.
    """

    def __init__(
        self,
        *,
        shape: Sequence[int] = (64,),
        vocabulary: int = 32768,
        width: int = 50,
        positions: int = 5,
        filters: int = 230,
        window: int = 3,
    ) -> None:
        super().__init__()
        if len(shape) not in (1, 2) or (len(shape) == 2 and shape[0] != 3):
            raise ShapeError(f"TextCNN: expected a shape [words], or [3, words] of relations, got {list(shape)}")
        if min(*shape, vocabulary, width, positions, filters, window) < 1 or window % 2 == 0:
            raise ShapeError(
                f"TextCNN: expected sizes of at least 1 and an odd window, got shape {list(shape)}, vocabulary "
                f"{vocabulary}, width {width}, positions {positions}, filters {filters}, window {window}"
            )
        self.shape, self.out_features = tuple(shape), filters
        self.words = nn.Embedding(vocabulary, width)
        self.distances = nn.ModuleList(nn.Embedding(2 * REACH + 1, positions) for _ in range(2) if len(shape) == 2)
        self.convolution = nn.Conv1d(width + positions * len(self.distances), filters, window, padding=window // 2)

    def forward(self, x: Tensor) -> Tensor:
        """[examples, *shape] whole numbers -> [examples, filters]."""
        rows = x.unsqueeze(1) if len(self.shape) == 1 else x  # [examples, 1 or 3, words]
        if called_plainly():
            self.check_examples(x)
        rows = rows.long()
        words = rows[:, 0]
        there = (words > 0).unsqueeze(1)  # [examples, 1, words]
        features = [self.words(words)]
        for index, table in enumerate(self.distances, 1):
            features.append(table(rows[:, index].clamp(-REACH, REACH) + REACH))
        z = torch.cat(features, -1).transpose(1, 2) * there  # [examples, features, words]
        found: Tensor = self.convolution(z).masked_fill(~there, -torch.inf).amax(-1).relu()
        return found

    def check_examples(self, x: Tensor) -> None:
        """Raises ShapeError unless [examples, *shape] hold numbers of words that it has."""
        check_words(x if len(self.shape) == 1 else x[:, 0], self.words.num_embeddings)


def check_words(words: Tensor, vocabulary: int) -> None:
    """Raises `ShapeError` unless these are whole numbers from 0 to below `vocabulary`."""
    if words.is_floating_point() and not bool((words == words.round()).all()):
        raise ShapeError('TextCNN: expected whole numbers of words, got others; for vectors use the encoder "mlp"')
    if words.numel() and not 0 <= int(words.min()) <= int(words.max()) < vocabulary:
        raise ShapeError(
            f"TextCNN: expected numbers of words from 0 to {vocabulary - 1}, got {int(words.min())} to "
            f'{int(words.max())}; set vocabulary = {int(words.max()) + 1} or more (32768 with reading = "words")'
        )
