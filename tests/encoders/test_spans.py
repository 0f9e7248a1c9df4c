from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from handful.encoders import spans as module
from handful.encoders.spans import span_vectors
from handful.errors import ShapeError

STATES = torch.randn(2, 300, 6, generator=torch.Generator().manual_seed(0))
"""Of two layers, for each character's number."""


class Pieces:
    """A tokenizer whose word pieces are single characters, between two marks, and a network that looks them up."""

    def __call__(self, texts: list[str], **options: object) -> dict[str, Tensor]:
        most = max(map(len, texts))
        ids, offsets = torch.zeros(len(texts), most + 2, dtype=torch.long), torch.zeros(len(texts), most + 2, 2).long()
        for row, text in enumerate(texts):
            ids[row, : len(text) + 2] = torch.tensor([1, *map(ord, text), 2])
            offsets[row, 1 : len(text) + 1] = torch.tensor([[at, at + 1] for at in range(len(text))])
        return {"input_ids": ids, "attention_mask": (ids > 0).long(), "offset_mapping": offsets}

    def auto_model(self, input_ids: Tensor, **options: object) -> SimpleNamespace:
        return SimpleNamespace(hidden_states=[layer[input_ids] for layer in STATES])


@pytest.fixture(autouse=True)
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model(list[Pieces]):
        tokenizer = Pieces()

    monkeypatch.setattr(module, "sentence_encoder", lambda model: Model([Pieces()]))


def test_a_place_is_the_mean_of_its_pieces() -> None:
    texts = ["long one", "short", "the longest of all"] * 30  # more than a batch, of unlike lengths
    z = span_vectors(texts, [[(0, 2), (1, 5), (4, 4), (90, 95)]] * 90, layer=1)
    for row, text in enumerate(texts):
        whole = STATES[1][torch.tensor([1, *map(ord, text), 2])].mean(0)
        parts = [STATES[1][torch.tensor([*map(ord, text[a:b])])].mean(0) for a, b in ((0, 2), (1, 5))]
        expected = torch.stack([*parts, whole, whole])  # a place without a piece is the text
        assert torch.allclose(z[row], expected / expected.norm(dim=1, keepdim=True), atol=1e-6)


def test_places_and_layers_that_cannot_be() -> None:
    with pytest.raises(ShapeError, match="expected as many in each of 2 texts, got 2 rows of"):
        span_vectors(["a", "b"], [[(0, 1)], []])
    with pytest.raises(ShapeError, match="expected a layer from -2 to 1, got -3"):
        span_vectors(["a"], [[(0, 1)]])
