"""Vectors of requests to an assistant: a frozen sentence encoder, and a metric over two of its layers, meta-learned.

Of all-MiniLM-L6-v2, the unit mean states of the tokens after its third layer (which words) and after its last (what
they mean) go side by side through a matrix. It was learned by episodes over intents, so that sentences of one intent
lie together (`benchmarks/texts/metric.py`); `docs/texts-figures.md` has figures on sets that it had not seen.

In the means a token counts by the logarithm of its number in the vocabulary, which is about in the order of how
frequent words are: signs and "I" little, rare words much. (Arora, Liang & Ma 2017, "A simple but tough-to-beat baseline
for sentence embeddings", weigh words likewise, by counts.)
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from ..errors import StorageError
from ..files import storage_errors
from .shipped import FOLDER

__all__ = ["LAYERS", "NAME", "SHA256", "Layers", "metric", "weights"]

NAME = "intents"
LAYERS = (3, 6)
SHA256 = "c1f4ab1e08eafcff603bc3a4dd2ba89d5ec93d0419c3ee52522b3ddfcefaf898"
"""Of the file with the matrix."""
WORDLESS = 997
"""The first 999 tokens are no words, but what fills up, begins or ends a text. The first sign counts log 2."""
LEAST = 1e-4
"""What these count: they decide only where there is nothing else."""


class Layers(nn.Module):
    """The last part of a sentence encoder of sentence-transformers: states of all layers -> a vector.

    Args:
        matrix: [F, 2 · 384], from the vectors of `LAYERS` side by side; None: these as they are.
    """

    def __init__(self, matrix: Tensor | None) -> None:
        super().__init__()
        self.matrix: Tensor | None
        self.register_buffer("matrix", matrix)

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Adds `sentence_embedding` [n, F], made of `all_layer_embeddings`, `input_ids` and `attention_mask`."""
        weight = weights(features["input_ids"]) * features["attention_mask"]  # [n, length]
        weight = weight.unsqueeze(-1).to(features["token_embeddings"].dtype)
        states = [(features["all_layer_embeddings"][layer] * weight).sum(1) for layer in LAYERS]
        z = torch.cat([F.normalize(state) for state in states], -1)
        features["sentence_embedding"] = z if self.matrix is None else F.linear(z, self.matrix)
        return features


def weights(tokens: Tensor) -> Tensor:
    """What tokens count in a mean, by their numbers in BERT's vocabulary of English: float32, above 0."""
    return (tokens - WORDLESS).clamp(min=1).float().log() + LEAST


def metric() -> Tensor:
    """The matrix that comes with Handful, [384, 768].

    Raises:
        StorageError: the installation is damaged.
    """
    path = FOLDER / f"{NAME}.safetensors"
    with storage_errors(path, "read"):
        content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise StorageError(f"{path}: changed or cut short; install Handful again")
    return load(content)["matrix"].float()
