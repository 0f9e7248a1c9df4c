import math

import pytest
import torch
from torch import nn

from handful.ops.recurrent import log_and_sign, lstm_step

pytestmark = pytest.mark.usefixtures("float64")


def test_a_step_is_that_of_torch() -> None:
    cell, x, h, c = nn.LSTMCell(3, 4), torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)
    gates = x @ cell.weight_ih.mT + cell.bias_ih + h @ cell.weight_hh.mT + cell.bias_hh
    for mine, its in zip(lstm_step(gates, c), cell(x, (h, c)), strict=True):
        assert torch.allclose(mine, its)


def test_logarithm_and_sign() -> None:
    x = torch.tensor([0.0, 1.0, -1.0, math.exp(-5), -math.exp(-5), math.exp(-11), -1e3])
    expected = [[-1, 0], [0, 1], [0, -1], [-0.5, 1], [-0.5, -1], [-1, math.exp(-1)], [math.log(1e3) / 10, -1]]
    assert torch.allclose(log_and_sign(x), torch.tensor(expected))
    assert log_and_sign(x.view(7, 1)).shape == (7, 1, 2)


def test_its_gradient_is_finite_everywhere() -> None:
    x = torch.tensor([0.0, 1e-30, -1e-4, 1e9], requires_grad=True)
    log_and_sign(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
