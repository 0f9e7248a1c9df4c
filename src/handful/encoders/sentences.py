"""Texts to vectors by a frozen sentence encoder (Reimers & Gurevych 2019, arXiv:1908.10084), of the extra `text`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from ..errors import DataError, DownloadError, MissingExtraError
from ..files import expanded
from . import intents
from .hub import PACKAGES, VOCABULARIES, first_line, learned_places, model_folder, quiet

__all__ = ["TOGETHER", "SentenceGraph", "portable_sentences", "sentence_encoder", "sentence_vectors"]

LONGEST = 1 << 20
"""Tokens of a text, where a model takes any number: more than a text that is allowed has."""
TOGETHER = 16
"""Texts that go through a model at once: enough to keep a core busy, few enough to be of like length."""
OWN = "sentence_transformers."
"""What the names of its parts begin with, if no code comes with a model."""


def sentence_vectors(
    texts: Sequence[str], *, model: str = "minilm", advance: Callable[[float], object] = lambda _: None
) -> Tensor:
    """A vector of length 1 for each text: [M, F] float32.

    Args:
        texts: of any languages that the model knows; what is longer than it takes (minilm: 256 word pieces) is cut.
        model: "minilm" (all-MiniLM-L6-v2, 384 features), "intents" (the same with a metric for requests, of as many),
            or a folder or a name of the hub that sentence-transformers loads.
        advance: told how many texts were done, now and then.

    Raises:
        MissingExtraError: the extra `text` is not installed.
        DataError, DownloadError: no such model here, and none to be had; or it cannot be used (`model_folder`).
    """
    encoder, parts = sentence_encoder(model), []
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # of like length together: little padding
    for start in range(0, len(order), 256):
        batch = [texts[index] for index in order[start : start + 256]]
        found = encoder.encode(batch, batch_size=_together(model), normalize_embeddings=True, show_progress_bar=False)
        parts.append(torch.from_numpy(found).float())
        advance(len(batch))
    vectors = torch.cat(parts)
    return torch.empty_like(vectors).index_copy_(0, torch.tensor(order), vectors)


@cache
def sentence_encoder(model: str) -> Any:
    """The model as sentence-transformers has it; raises as `sentence_vectors`."""
    return with_layers(intents.metric()) if model == intents.NAME else _loaded(model)


def with_layers(matrix: Tensor | None) -> Any:
    """all-MiniLM-L6-v2 with a metric over its layers; without a matrix, those side by side."""
    first = _loaded("minilm")[0]  # of its own: "minilm" has no use for states of other layers
    from sentence_transformers import SentenceTransformer

    first.auto_model.config.output_hidden_states = True
    return SentenceTransformer(modules=[first, intents.Layers(matrix)], device="cpu")


def _loaded(model: str) -> Any:
    package = PACKAGES.get(model)
    missing = [name for name in ("sentence_transformers", package) if name and find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"text as vectors needs {', '.join(missing)}: pip install 'handful[text]'")
    from sentence_transformers import SentenceTransformer

    bare = model not in PACKAGES and "/" not in model and not expanded(model).is_dir()
    try:
        folder = model_folder(f"sentence-transformers/{model}" if bare else model)
        modules = _modules(folder)
        with quiet():
            encoder = SentenceTransformer(
                str(folder), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
            )
            if package is None:
                _check_weights(encoder[0], folder / modules[0]["path"])
        places = learned_places(encoder[0])
        if places is not None and (encoder.max_seq_length or LONGEST) > places:  # RoBERTa's kind has fewer than it says
            encoder.max_seq_length = places
        tokenizer = encoder.tokenizer
        if getattr(tokenizer, "pad_token", "") is None:  # as in GPT; what fills up is masked
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        encoder.encode(["A text."], show_progress_bar=False)
    except (DownloadError, MissingExtraError):
        raise
    except Exception as error:  # sentence-transformers raises whatever its many parts do
        known = ", ".join(PACKAGES)
        raise DataError(
            f"sentence encoder {model!r} cannot be loaded ({first_line(error)}); expected {known}, a folder, or a name "
            "of the hub, of a model of texts whose weights are safetensors"
        ) from error
    return encoder


@cache
def _together(model: str) -> int:
    """How many texts are embedded at once: one where vectors depend on the padding (FNet has no attention mask)."""
    texts = ["A text.", "A text of more words, beside which the other one is filled up."]
    encoder = sentence_encoder(model)
    alone, beside = (encoder.encode(part, show_progress_bar=False)[0] for part in (texts[:1], texts))
    return TOGETHER if np.allclose(alone, beside, rtol=1e-2, atol=1e-3) else 1


def _modules(folder: Path) -> list[dict[str, str]]:
    """The parts of a sentence encoder, or its transformer alone.

    Raises:
        DataError: one with code of its own, with a pickle for weights, or without a tokenizer.
    """
    path = folder / "modules.json"
    found = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else [{"path": "", "type": f"{OWN}Transformer"}]
    )
    kinds = [one["type"] for one in found]
    for router in sorted(folder.rglob("router_config.json")):
        kinds += json.loads(router.read_text(encoding="utf-8")).get("types", {}).values()
    strange = [kind for kind in kinds if not kind.startswith(OWN)]
    if strange:
        raise DataError(f"its part {strange[0]} is code of its own, which is never run")
    for part in {path.parent for path in folder.rglob("pytorch_model.bin")}:
        if part != folder and not any(part.glob("*.safetensors")):
            raise DataError(f"{part.name}/pytorch_model.bin is a pickle, which is never read: convert the model")
    words = [path for name in VOCABULARIES for path in folder.rglob(name)]
    if kinds[0].endswith("Transformer") and not words:  # transformers would make one up
        raise DataError("it has no tokenizer: expected tokenizer.json beside its weights")
    return found


def _check_weights(first: Any, folder: Path) -> None:
    """Raises DataError for weights of a transformer that are in no file: they would be random numbers."""
    network: Any = getattr(first, "auto_model", None)
    if not hasattr(network, "from_pretrained"):
        return
    there = {name for file in folder.glob("*.safetensors") for name in _names(file)}
    if all(name in there or f"{network.base_model_prefix}.{name}" in there for name in network.state_dict()):
        return  # or else it is loaded once more: a file may have other names for the same weights
    _, report = network.from_pretrained(
        folder, use_safetensors=True, output_loading_info=True, local_files_only=True, trust_remote_code=False
    )
    strange = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if strange:
        raise DataError(f"its file does not hold {len(strange)} of the weights: {', '.join(strange[:3])}")


def _names(file: Path) -> list[str]:
    with safe_open(file, "pt") as weights:
        return list(weights.keys())


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
    preparation: dict[str, Any] = {
        "longest": min(int(encoder.max_seq_length or LONGEST), LONGEST),
        "cut": str(tokenizer.truncation_side),
        "lower": bool(getattr(first, "do_lower_case", False)),
        "before": str(encoder.prompts.get(encoder.default_prompt_name or "", "")),
        "pad": int(tokenizer.pad_token_id),
        "pad_token": str(tokenizer.pad_token),
    }
    module = _Sentence(list(encoder)).eval()
    numbers = backend.from_str(backend.to_str())  # as `handful.runtime` reads it
    numbers.enable_truncation(preparation["longest"], direction=preparation["cut"])
    numbers.enable_padding(pad_id=preparation["pad"], pad_token=preparation["pad_token"])
    texts = ["a text.", "another text, which is a little longer"]
    coded = numbers.encode_batch([preparation["before"] + text for text in texts])
    samples = torch.tensor([one.ids for one in coded]), torch.tensor([one.attention_mask for one in coded])
    with torch.no_grad():
        apart = float((module(*samples) - sentence_vectors(texts, model=model)).abs().max())
    if not apart < 1e-4:
        raise DataError(
            f"sentence encoder {model!r}: cannot be exported, its vectors depend on more than a text's numbers and "
            "which are there, as those of a model without an attention mask; expected minilm, or another of the hub"
        )
    return SentenceGraph(module, samples, preparation, {"tokenizer.json": backend.to_str().encode()})
