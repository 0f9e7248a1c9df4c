"""Pretrained text encoders of the Hugging Face hub, trainable end to end (`hf_text:NAME`).

An example is the numbers of its tokens, as the model's own tokenizer cuts them, each plus one; 0 stands for none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from ..errors import DataError, ShapeError, SpecError
from .hub import VOCABULARIES, digest_of, first_line, learned_places, loaded, model_folder, needs, quiet
from .hub_network import Pretrained
from .normalization import called_plainly

__all__ = ["HubTexts", "check_tokens", "token_numbers"]


@final
class HubTexts(Pretrained):
    """A pretrained transformer of texts (BERT, MiniLM, RoBERTa ...), fine-tuned or frozen; mean of its tokens.

    Args:
        model: its name on the hub, a folder of the same form, or "minilm" of the extra `text`; weights are read from
            safetensors only. The data's `model` must be the same, with `reading = "tokens"`.
        revision: of the hub: a branch, tag or commit.
        pooling: "mean" over the tokens, or the "first" one.
        frozen: it is a fixed function. Otherwise it is trained on.
        freeze_layers: so many of its first layers, and the embeddings, stay as they are.
        shape: [length], the tokens of a text.

    Raises:
        DataError, DownloadError, MissingExtraError: no such model, or it cannot be used; see `model_folder`.
        SpecError, ShapeError: fewer layers, or another shape; when called, a number that is no token of this model.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        pooling: Literal["mean", "first"] = "mean",
        frozen: bool = False,
        freeze_layers: int = 0,
        shape: Sequence[int] = (64,),
    ) -> None:
        super().__init__()
        folder = model_folder(model, revision)
        network, config, _ = loaded(folder, vision=False)
        places = _places(network, config)
        if not hasattr(config, "vocab_size"):
            raise DataError(f"model {model!r}: a {config.model_type}; expected an encoder of texts, such as BERT")
        if len(shape) != 1 or not 1 <= shape[0] <= (places or shape[0]):
            raise ShapeError(f"{model}: expected a shape [tokens] of 1 to {places or 4096}, got {list(shape)}")
        if hasattr(network, "pooler"):
            setattr(network, "pooler", None)  # noqa: B010 - it takes no part
        self.model, self.revision, self.pooling = model, revision, pooling
        self.shape, self.out_features, self.vocabulary = tuple(shape), int(config.hidden_size), int(config.vocab_size)
        self.sha256, pad = digest_of(folder), getattr(config, "pad_token_id", None)
        self.pad = pad if isinstance(pad, int) and 0 <= pad < self.vocabulary else 0
        self.network, self.cuts = network, False
        self.cuts = self._cuts(model, config.model_type)
        self.keep(network, frozen, freeze_layers, model)

    def prepared(self, x: Tensor) -> tuple[Tensor, ...]:
        """[examples, length] integers -> the numbers of tokens, and which are there."""
        there = x > 0
        if called_plainly() and len(x):
            if self.cuts:
                x = x[:, : max(1, int(there.sum(1).max()))]  # no work on what is empty in all of them
                there = x > 0
            if int(x.max()) > self.vocabulary:
                raise ShapeError(
                    f"{self.model}: knows {self.vocabulary} tokens, got number {int(x.max())}; expected texts read "
                    f'with reading = "tokens" and model = "{self.model}" in [data]'
                )
        return torch.where(there, x.long() - 1, self.pad), there

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """[M, length] int32: texts as this encoder takes them."""
        return token_numbers(texts, self.shape[0], self.model, self.revision)

    def features_of(self, *inputs: Tensor) -> Tensor:
        """[examples, out_features] of numbers of tokens."""
        numbers, there = inputs
        z: Tensor = self.network(input_ids=numbers, attention_mask=there.long()).last_hidden_state  # [n, length, F]
        if self.pooling == "first":
            return z[:, 0]
        weight = there.to(z.dtype).unsqueeze(-1)
        return (z * weight).sum(1) / weight.sum(1).clamp(min=1)

    def _cuts(self, model: str, kind: str) -> bool:
        """Whether a text has the same features however much stands empty behind it, so that this may be cut off.

        FNet has no attention mask, and Funnel pools: their texts keep the whole length, or they would depend on the
        longest text beside them.
        """
        length = self.shape[0]
        x = torch.zeros(1, length, dtype=torch.int32)
        x[:, : -(-length // 3)] = 1 + torch.arange(-(-length // 3)) % self.vocabulary
        try:
            with torch.no_grad():  # still in evaluation
                short, whole = (self.features_of(*self.prepared(part)) for part in (x[x > 0].unsqueeze(0), x))
        except Exception as error:  # whatever a model of another kind asks for
            raise DataError(
                f"model {model!r}: a {kind}, which cannot be called with tokens alone ({first_line(error)}); expected "
                "an encoder of texts, such as BERT"
            ) from error
        return torch.allclose(short, whole, rtol=1e-2, atol=1e-3)


def _places(network: nn.Module, config: Any) -> int | None:
    """How many tokens a text may have; None: any number."""
    places = learned_places(network) or getattr(config, "max_position_embeddings", None)
    return None if places is None or places <= 0 else int(places)


def token_numbers(texts: Sequence[str], length: int, model: str, revision: str | None = None) -> Tensor:
    """[M, length] int32: one more than the numbers of each text's tokens, cut to `length`, and 0 for none.

    Args:
        texts: M of them.
        length: tokens of a text, those that begin and end it included.
        model, revision: whose tokenizer, as `HubTexts`.

    Raises:
        DataError, DownloadError, MissingExtraError: no such model, or it has no tokenizer.
        ShapeError: a length below 1.
    """
    if not 1 <= length <= 4096:
        raise ShapeError(f"texts: expected a length of 1 to 4096 tokens, got {length}")
    tokenizer = _tokenizer(model, revision)
    numbers = torch.zeros(len(texts), length, dtype=torch.int32)
    for start in range(0, len(texts), 1024):
        found = tokenizer(list(texts[start : start + 1024]), truncation=True, max_length=length)["input_ids"]
        for row, tokens in enumerate(found, start):
            numbers[row, : len(tokens)] = 1 + torch.tensor(tokens, dtype=torch.int32)
    return numbers


def check_tokens(model: object, data: Mapping[str, object]) -> None:
    """Raises `SpecError` unless the [data] of a spec are read as tokens of the encoder's model."""
    if (data.get("reading"), data.get("model")) != ("tokens", model):
        raise SpecError(
            f'encoder \'hf_text\' reads the tokens of its own model: set reading = "tokens" and model = "{model}" in '
            f"[data]; got reading = {data.get('reading')!r} and model = {data.get('model')!r}"
        )


@lru_cache(maxsize=4)
def _tokenizer(model: str, revision: str | None) -> Any:
    folder = model_folder(model, revision)
    needs("a pretrained text encoder", "pretrained", "transformers")
    if not any(path.is_file() for name in VOCABULARIES for path in folder.glob(name)):
        raise DataError(f"model {model!r}: no tokenizer in {folder}; expected tokenizer.json beside its weights")
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever its many files do
        raise DataError(f"model {model!r}: its tokenizer in {folder} cannot be read ({error}); get it again") from error
