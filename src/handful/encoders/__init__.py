"""Encoders: from an example to F features."""

from collections.abc import Callable, Mapping

from torch import nn

from .conv4 import Conv4
from .hub_pictures import HubPictures, TimmPictures
from .hub_texts import HubTexts
from .identity import Identity
from .message_passing import MessagePassing
from .mlp import MLP
from .normalization import BatchNorm, shares_statistics
from .relation import RelationEncoder
from .resnet12 import ResNet12
from .resnet18 import ResNet18
from .shipped import characters, photos
from .siamese import SiameseNet
from .text_cnn import TextCNN

__all__ = [
    "ENCODERS",
    "MLP",
    "PRETRAINED",
    "BatchNorm",
    "Conv4",
    "HubPictures",
    "HubTexts",
    "Identity",
    "MessagePassing",
    "RelationEncoder",
    "ResNet12",
    "ResNet18",
    "SiameseNet",
    "TextCNN",
    "TimmPictures",
    "shares_statistics",
]

ENCODERS: dict[str, type[nn.Module]] = {
    "conv4": Conv4,
    "resnet12": ResNet12,
    "relation": RelationEncoder,
    "resnet18": ResNet18,
    "siamese": SiameseNet,
    "mlp": MLP,
    "text_cnn": TextCNN,
    "message_passing": MessagePassing,
    "identity": Identity,
}
"""Every encoder by the name a spec gives it. Keyword arguments of the class are its configuration."""

PRETRAINED: Mapping[str, Callable[..., nn.Module]] = {
    "characters": characters,
    "photos": photos,
    "hf": HubPictures,
    "hf_text": HubTexts,
    "timm": TimmPictures,
}
"""Encoders that come with weights, likewise. In a spec `name = "hf:NAME"` is short for the keys name and model."""
