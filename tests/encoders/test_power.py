from __future__ import annotations

import torch
from torch.nn.functional import normalize

from handful.encoders import ResNet12
from handful.encoders.power import LEAST, PowerTransform


def made() -> PowerTransform:
    torch.manual_seed(0)
    encoder = PowerTransform(ResNet12(shape=(3, 16, 16), widths=(4, 4, 4, 6))).eval()
    encoder.mean.copy_(torch.rand(6) / 3)
    return encoder


def test_the_equation() -> None:
    encoder, x = made(), torch.rand(5, 3, 16, 16)
    features = encoder.encoder(x)
    assert (features < LEAST).any()  # after a leaky ReLU
    roots = features.clamp(min=LEAST).sqrt()
    expected = roots / roots.norm(dim=1, keepdim=True) - encoder.mean
    assert torch.allclose(encoder(x), expected / expected.norm(dim=1, keepdim=True), atol=1e-6)
    assert (encoder.shape, encoder.out_features) == ((3, 16, 16), 6)
    assert torch.allclose(encoder.powers(x), normalize(roots))


def test_it_can_be_trained_on() -> None:
    """Where a feature is zero or below, the slope of its root is zero, not endless."""
    encoder = made().train()
    encoder(torch.rand(5, 3, 16, 16))[:, 0].sum().backward()
    slopes = [parameter.grad for parameter in encoder.parameters()]
    assert all(slope is not None and slope.isfinite().all() for slope in slopes)
    assert any(slope.any() for slope in slopes if slope is not None)
