"""Encoders: from an example to F features."""

from torch import nn

from .conv4 import Conv4
from .identity import Identity
from .message_passing import MessagePassing
from .mlp import MLP
from .normalization import BatchNorm, shares_statistics
from .relation import RelationEncoder
from .resnet12 import ResNet12
from .resnet18 import ResNet18
from .siamese import SiameseNet
from .text_cnn import TextCNN

__all__ = [
    "ENCODERS",
    "MLP",
    "BatchNorm",
    "Conv4",
    "Identity",
    "MessagePassing",
    "RelationEncoder",
    "ResNet12",
    "ResNet18",
    "SiameseNet",
    "TextCNN",
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
