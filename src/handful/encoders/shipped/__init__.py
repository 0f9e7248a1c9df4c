"""Encoders trained by Handful that come with it: weights as safetensors, and beside them as JSON what they are.

`python -m handful.cli.shipping CHECKPOINT NAME` makes the two files of one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from torch import nn

from ...errors import ShapeError, StorageError, unknown_name
from ...files import storage_errors
from ..conv4 import Conv4
from ..normalization import BATCH_POLICIES, Policy
from ..power import PowerTransform
from ..resnet12 import ResNet12

__all__ = ["ARCHITECTURES", "FOLDER", "characters", "photos", "shipped", "shipped_about", "shipped_names"]

FOLDER = Path(__file__).parent
ARCHITECTURES: Mapping[str, type[Conv4 | ResNet12]] = {"conv4": Conv4, "resnet12": ResNet12}
"""What can be shipped, by the name that a spec gives it."""


@cache
def shipped_names() -> tuple[str, ...]:
    """Those that this installation has."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


@cache
def shipped_about(name: str) -> Mapping[str, Any]:
    """What an encoder is.

    `summary`, `trained_on`, `note`, `ledger`; `spec`; `encoder`, its options; `power`, whether a `PowerTransform` comes
    after it; `bright_ink`; `weights`, their digest in the ledger; `sha256` of its file.

    Raises:
        UnknownNameError: no such encoder here.
    """
    if name not in shipped_names():
        raise unknown_name("shipped encoder", name, shipped_names())
    about: Mapping[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return about


def shipped(
    name: str, *, shape: Sequence[int] | None = None, normalization: Policy = "running", frozen: bool = False
) -> Conv4 | ResNet12 | PowerTransform:
    """A shipped encoder with its weights.

    Args:
        name: one of `shipped_names`.
        shape: of a picture; the weights fit any size of as many channels. By default that of training.
        normalization: a batch policy; estimates are the trained ones where it keeps any.
        frozen: neither weights nor estimates change in training.

    Raises:
        UnknownNameError: no such encoder here, or a normalization that the weights are not for.
        ShapeError: another number of channels, or pictures that are too small.
        StorageError: the installation is damaged.
    """
    about = shipped_about(name)
    options = dict(about["encoder"])
    trained = options.pop("shape")
    size = list(trained if shape is None else shape)
    if len(size) != 3 or size[0] != trained[0]:
        raise ShapeError(f"encoder {name!r}: expected pictures of shape [{trained[0]}, height, width], got {size}")
    if normalization not in BATCH_POLICIES:
        raise unknown_name(f"normalization of {name!r}", normalization, BATCH_POLICIES)
    path = FOLDER / f"{name}.safetensors"
    with storage_errors(path, "read"):
        content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise StorageError(f"{path}: changed or cut short; install Handful again")
    options |= {"shape": size, "normalization": "frozen" if frozen else normalization}
    network = ARCHITECTURES[about["spec"]["encoder"]["name"]](**options)
    encoder = PowerTransform(network) if about["power"] else network
    wanted = encoder.state_dict().keys()
    encoder.load_state_dict({key: tensor for key, tensor in load_tensors(content).items() if key in wanted})
    return encoder.to(torch.get_default_dtype()).requires_grad_(not frozen)


def characters(
    *, shape: Sequence[int] = (1, 28, 28), normalization: Policy = "running", frozen: bool = False
) -> nn.Module:
    """Conv4 trained on Omniglot: handwriting, bright on dark. As `shipped`."""
    return shipped("characters", shape=shape, normalization=normalization, frozen=frozen)


def photos(*, shape: Sequence[int] = (3, 84, 84), normalization: Policy = "running", frozen: bool = False) -> nn.Module:
    """ResNet-12 of half the width trained on mini-ImageNet: photographs in color. As `shipped`."""
    return shipped("photos", shape=shape, normalization=normalization, frozen=frozen)
