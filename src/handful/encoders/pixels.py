"""From the bytes of a decoded picture to an encoder's features, as one module, so that it can be exported."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

__all__ = ["FromPixels"]


@final
class FromPixels(nn.Module):
    """An encoder of pictures whose values are bytes.

    Args:
        encoder: takes values in [0, 1].
        bright_ink: whether it knows writing as its data sets have it, bright on dark: then pictures with a bright
            border are inverted.
    """

    def __init__(self, encoder: nn.Module, *, bright_ink: bool) -> None:
        super().__init__()
        self.encoder, self.bright_ink = encoder, bright_ink

    def forward(self, pictures: Tensor) -> Tensor:
        """uint8 [n, channels, height, width] -> [n, F]."""
        if self.bright_ink:
            edges = (pictures[:, :, 0], pictures[:, :, -1], pictures[..., 0], pictures[..., -1])
            border = torch.cat(edges, -1).flatten(1).to(torch.int64)
            bright = border.sum(1) > 127 * border.shape[1]
            pictures = torch.where(bright[:, None, None, None], 255 - pictures, pictures)
        z: Tensor = self.encoder(pictures.to(torch.float32) / 255)
        return z
