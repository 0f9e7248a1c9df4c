"""Encoders whose features are a map: channels at the places of a picture."""

from __future__ import annotations

from torch import nn

from ..errors import ShapeError

__all__ = ["map_shape"]


def map_shape(encoder: nn.Module) -> tuple[int, int, int]:
    """Channels, height and width of the map that an encoder gives flattened; a vector is a map of one place.

    Raises:
        ShapeError: the encoder says neither its `out_maps` nor its `out_features`.
    """
    shape = getattr(encoder, "out_maps", None)
    if shape is not None:
        channels, height, width = shape
        return int(channels), int(height), int(width)
    features = getattr(encoder, "out_features", None)
    if not isinstance(features, int):
        raise ShapeError(
            f"{type(encoder).__name__} says neither out_maps (channels, height, width) nor out_features; "
            "give it one of these attributes"
        )
    return features, 1, 1
