"""Texts to vectors by a frozen sentence encoder (Reimers & Gurevych 2019, arXiv:1908.10084), of the extra `text`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import DataError, MissingExtraError
from .hub import PACKAGES

__all__ = ["SentenceGraph", "portable_sentences", "sentence_encoder", "sentence_vectors"]


def sentence_vectors(
    texts: Sequence[str], *, model: str = "minilm", advance: Callable[[float], object] = lambda _: None
) -> Tensor:
    """A vector of length 1 for each text: [M, F] float32.

    Args:
        texts: of any languages that the model knows; what is longer than it takes (minilm: 256 word pieces) is cut.
        model: "minilm" (all-MiniLM-L6-v2, 384 features), or a folder or name that sentence-transformers loads.
        advance: told how many texts were done, now and then.

    Raises:
        MissingExtraError: the extra `text` is not installed.
        DataError: no such model here, and none to be had.
    """
    encoder, parts = sentence_encoder(model), []
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # of like length together: little padding
    for start in range(0, len(order), 256):
        batch = [texts[index] for index in order[start : start + 256]]
        found = encoder.encode(batch, batch_size=64, normalize_embeddings=True, show_progress_bar=False)
        parts.append(torch.from_numpy(found).float())
        advance(len(batch))
    vectors = torch.cat(parts)
    return torch.empty_like(vectors).index_copy_(0, torch.tensor(order), vectors)


@cache
def sentence_encoder(model: str) -> Any:
    """The model as sentence-transformers has it; raises as `sentence_vectors`."""
    package = PACKAGES.get(model)
    missing = [name for name in ("sentence_transformers", package) if name and find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"text as vectors needs {', '.join(missing)}: pip install 'handful[text]'")
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it would run over ours
    place = model
    if package is not None:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        place = str(Path(spec.origin).parent / "model")
    try:
        return SentenceTransformer(place, device="cpu", model_kwargs={"use_safetensors": True})
    except (OSError, ValueError) as error:
        known = ", ".join(PACKAGES)
        raise DataError(
            f"sentence encoder {model!r} cannot be loaded ({str(error).splitlines()[0]}); expected {known}, a folder, "
            "or a name that sentence-transformers can fetch"
        ) from error


class _Sentence(nn.Module):
    """A sentence encoder from the numbers of word pieces on."""

    def __init__(self, parts: Iterable[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[n, length] int64 twice -> [n, F] of length 1."""
        features: Any = {"input_ids": input_ids, "attention_mask": attention_mask}
        for part in self.parts:
            features = part(features)
        return F.normalize(features["sentence_embedding"])


class SentenceGraph(NamedTuple):
    """What `handful.runtime` needs to do what `sentence_vectors` does."""

    module: nn.Module
    samples: tuple[Tensor, ...]
    preparation: dict[str, Any]
    files: dict[str, bytes]


def portable_sentences(model: str) -> SentenceGraph:
    """A sentence encoder as a module of tensors, and its tokenizer.

    Raises:
        MissingExtraError, DataError: as `sentence_vectors`; or its tokenizer cannot be written down.
    """
    encoder = sentence_encoder(model)
    tokenizer = encoder.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise DataError(f"sentence encoder {model!r}: its tokenizer has no form that the library tokenizers reads")
    first = encoder[0]
    ids = torch.tensor([[7, 8, 9, 10, 11, 12], [12, 11, 10, 0, 0, 0]])
    preparation = {
        "longest": int(encoder.max_seq_length),
        "lower": bool(getattr(first, "do_lower_case", False)),
        "before": str(encoder.prompts.get(encoder.default_prompt_name or "", "")),
        "pad": int(tokenizer.pad_token_id),
        "pad_token": str(tokenizer.pad_token),
    }
    module = _Sentence(list(encoder)).eval()
    return SentenceGraph(module, (ids, (ids > 0).long()), preparation, {"tokenizer.json": backend.to_str().encode()})
