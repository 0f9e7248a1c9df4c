"""Places of a sentence to vectors: means of a frozen encoder's word pieces there, of an inner layer.

Entities as the means of their own states: Baldini Soares et al. 2019, arXiv:1906.03158, figure 3 (entity pooling).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeError
from .sentences import sentence_encoder

__all__ = ["Span", "span_vectors"]

Span = tuple[int, int]
"""The first character, and the one after the last."""


@torch.no_grad()
def span_vectors(
    texts: Sequence[str],
    spans: Sequence[Sequence[Span]],
    *,
    model: str = "minilm",
    layer: int = -3,
    advance: Callable[[float], object] = lambda _: None,
) -> Tensor:
    """Unit vectors of each text's places: [M, places, F] float32.

    Args:
        texts: M of them; what is longer than the model takes is cut.
        spans: of each text, as many for all. One that holds no word piece (empty, or cut away) stands for the text.
        model: as `sentence_vectors`.
        layer: whose states, −1 the last.
        advance: told how many texts were done, now and then.

    Raises:
        MissingExtraError, DataError: as `sentence_vectors`.
        ShapeError: not as many places in each text, or no such layer.
    """
    counts = {len(of) for of in spans}
    if len(spans) != len(texts) or len(counts) != 1:
        raise ShapeError(f"places: expected as many in each of {len(texts)} texts, got {len(spans)} rows of {counts}")
    loaded = sentence_encoder(model)
    tokenizer, network = loaded.tokenizer, loaded[0].auto_model
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # of like length together: little padding
    parts = []
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        parts.append(_means(tokenizer, network, [texts[row] for row in rows], [spans[row] for row in rows], layer))
        advance(len(rows))
    vectors = torch.cat(parts)
    return torch.empty_like(vectors).index_copy_(0, torch.tensor(order), vectors)


def _means(tokenizer: Any, network: Any, texts: list[str], spans: list[Sequence[Span]], layer: int) -> Tensor:
    pieces = tokenizer(
        texts, padding=True, truncation=True, max_length=256, return_offsets_mapping=True, return_tensors="pt"
    )
    begin, end = pieces.pop("offset_mapping").unsqueeze(1).unbind(-1)  # [b, 1, L]
    states = network(**pieces, output_hidden_states=True).hidden_states
    if not -len(states) <= layer < len(states):
        raise ShapeError(f"places: expected a layer from {-len(states)} to {len(states) - 1}, got {layer}")
    first, last = torch.tensor([list(of) for of in spans]).unsqueeze(-2).unbind(-1)  # [b, places, 1]
    inside = (end > begin) & (begin >= first) & (end <= last)  # [b, places, L]
    there = pieces["attention_mask"].bool().unsqueeze(1)
    inside = torch.where(inside.any(-1, keepdim=True), inside, there).to(states[layer].dtype)
    return F.normalize(inside @ states[layer], dim=-1).float()  # a sum has the direction of the mean
