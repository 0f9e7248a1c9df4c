"""Pretrained picture encoders: of the Hugging Face hub by transformers (`hf:NAME`), of timm (`timm:NAME`).

Neither needs torchvision for its pictures: resizing and normalization are done here, as the model's own files say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import DataError, ShapeError
from .hub import digest_of, first_line, loaded, model_folder, needs, read_json
from .hub_network import Pretrained
from .preprocessing import Preprocessing, of_hub, of_timm, standardized

__all__ = ["Features", "HubPictures", "TimmPictures"]

Features = Literal["auto", "pooled", "first", "mean"]
"""What of a model's output is taken: what it pools itself, its first token, or the mean over places."""

OWN_FIRST = ("vit", "deit")
"""Kinds of models whose pooler is no part of what was pretrained, or is made for one task."""

PREPARATIONS = dict.fromkeys(("beit", "data2vec-vision", "efficientnet", "ijepa", "levit", "vit_mae"), 2)
"""By kind of model how often the pictures it gets, or the features taken, were made otherwise; of all others 1."""


class _Pictures(Pretrained):
    """What the two kinds share: the shape of what comes in, and its preparation."""

    shape: tuple[int, ...]
    form: Preprocessing

    def settle(self, model: str, form: Preprocessing, shape: Sequence[int] | None) -> None:
        self.shape = (3, form.height, form.width) if shape is None else tuple(shape)
        if len(self.shape) != 3 or self.shape[0] not in (1, 3) or min(self.shape) < 1:
            raise ShapeError(f"{model}: expected pictures of shape [1 or 3, height, width], got {list(self.shape)}")
        self.form = form

    def prepared(self, x: Tensor) -> tuple[Tensor, ...]:
        """[n, 1 or 3, h, w] in [0, 1], standardized; another size than the model's is stretched to it."""
        return (standardized(x, self.form),)


@final
class HubPictures(_Pictures):
    """A pretrained picture encoder of the Hugging Face hub: DINOv2, SigLIP, CLIP's vision tower, ViT, ConvNeXT ...

    Args:
        model: its name on the hub, or a folder of the same form; weights are read from safetensors only.
        revision: of the hub: a branch, tag or commit.
        features: "pooled" (what the model pools itself), "first" (its first token), "mean" (over all places); "auto":
            pooled where that was pretrained, else the first token if that stands for the whole picture, else the mean.
        frozen: it is a fixed function. Otherwise it is trained on.
        freeze_layers: so many of its first layers, and what comes before them, stay as they are.
        shape: of the pictures that come, for other parts of a spec to check; by default what the model takes.

    Raises:
        DataError, DownloadError, MissingExtraError: no such model, or it cannot be used; see `model_folder`.
        SpecError, ShapeError: fewer layers, or another shape.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        features: Features = "auto",
        frozen: bool = False,
        freeze_layers: int = 0,
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        folder = model_folder(model, revision)
        about = read_json(folder, "preprocessor_config.json")
        about = about or (read_json(folder, "processor_config.json") or {}).get("image_processor")
        if about is None:
            raise DataError(
                f"model {model!r}: no preprocessor_config.json in {folder}, which says what pictures it takes; "
                "expected a model of pictures, with that file beside its weights"
            )
        form = of_hub(about, str(folder / "preprocessor_config.json"))
        network, config, pooler = loaded(folder, vision=True)
        self.sha256, preparation = digest_of(folder), PREPARATIONS.get(config.model_type, 1)
        if preparation > 1:  # so that old vectors are not compared with new ones
            self.sha256 = hashlib.sha256(f"{self.sha256} {preparation}".encode()).hexdigest()
        first = _has_class_token(network) and not getattr(config, "use_mean_pooling", False)
        own: Features = "first" if first else "mean"
        if features == "auto":
            features = "pooled" if pooler and config.model_type not in OWN_FIRST else own
        elif features == "pooled" and not pooler:
            raise DataError(f'model {model!r}: its file holds no pooler; expected features = "first" or "mean"')
        self.features = features
        self.settle(model, form, shape)
        try:
            with torch.no_grad():  # still in evaluation: nothing is learned of it
                example = network(pixel_values=torch.zeros(1, 3, form.height, form.width))
            self.features = own if features == "pooled" and example.get("pooler_output") is None else features
            self.out_features = int(self._taken(example).shape[1])
        except Exception as error:  # whatever a model of another kind asks for: SigLIP's naflex, ViLT
            raise DataError(
                f"model {model!r}: a {config.model_type}, which gives no features of pictures of one size alone "
                f"({first_line(error)}); expected a model of pictures, such as CLIP, SigLIP or DINOv2"
            ) from error
        self.keep(network, frozen, freeze_layers, model)

    def features_of(self, *inputs: Tensor) -> Tensor:
        """[n, out_features] of standardized pictures."""
        return self._taken(self.network(pixel_values=inputs[0]))

    def _taken(self, output: Any) -> Tensor:
        found: Tensor = output["pooler_output" if self.features == "pooled" else "last_hidden_state"]
        if self.features == "pooled":
            return found.flatten(1)
        if found.ndim == 4:  # a map [n, F, h, w]
            return found.mean((-2, -1))
        return found[:, 0] if self.features == "first" else found.mean(1)


def _has_class_token(network: nn.Module) -> bool:
    names = (name.rpartition(".")[2] for name, _ in network.named_parameters())
    return any(name in ("cls_token", "class_token", "class_embedding") for name in names)


@final
class TimmPictures(_Pictures):
    """A pretrained picture encoder of timm, where that is installed: its features before the classifier.

    Args:
        model: its name in timm, as "resnet18.a1_in1k" (weights: timm/NAME on the hub); or a folder with config.json
            and model.safetensors as the hub has them.
        revision, frozen, freeze_layers, shape: as `HubPictures`.

    Raises:
        DataError, DownloadError, MissingExtraError, SpecError, ShapeError: as `HubPictures`.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str | None = None,
        frozen: bool = False,
        freeze_layers: int = 0,
        shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        needs(f"the model timm:{model}", "pretrained", "timm")
        import timm

        folder = model_folder(model if "/" in model else f"timm/{model}", revision)
        about = read_json(folder, "config.json") or {}
        form = of_timm(about.get("pretrained_cfg") or about, str(folder / "config.json"))
        try:
            options = about.get("model_args") or {}
            network = timm.create_model(about["architecture"], pretrained=False, num_classes=0, **options)
            state = load_file(folder / "model.safetensors")
            report = network.load_state_dict(state, strict=False)
        except (KeyError, RuntimeError, OSError, TypeError, SafetensorError) as error:
            raise DataError(f"{folder}: not a model that this timm knows ({error})") from error
        if report.missing_keys:
            raise DataError(f"{folder}: its file does not hold the weights {', '.join(report.missing_keys[:3])}")
        self.sha256, self.out_features = digest_of(folder), int(network.num_features)
        self.settle(model, form, shape)
        self.keep(network.to(torch.get_default_dtype()), frozen, freeze_layers, model)

    def features_of(self, *inputs: Tensor) -> Tensor:
        """[n, out_features] of standardized pictures."""
        found: Tensor = self.network(*inputs)
        return found
