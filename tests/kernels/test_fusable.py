"""The compiled kernels are taken only where they do the same as the layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import prune

from handful import Conv4
from handful.encoders.normalization import adapting
from handful.kernels import available, plain, reason

pytestmark = pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}")


def test_only_where_it_does_the_same() -> None:
    x = torch.rand(4, 1, 28, 28)
    assert Conv4()._fusable(x)
    assert not Conv4().eval()._fusable(x), "running estimates are no batch statistics"
    assert not Conv4(filters=48)._fusable(x)
    assert not Conv4(downsample="stride")._fusable(x)
    assert not Conv4(halvings=2)._fusable(x)
    assert not Conv4(normalization="group")._fusable(x)
    assert not Conv4()._fusable(x.clone().requires_grad_())
    assert not Conv4()._fusable(x.double())
    assert not Conv4().half()._fusable(x.half())
    assert not Conv4()._fusable(x[:0])
    support = Conv4(normalization="support")
    assert support._fusable(x)
    with adapting(1, 2):
        assert support._fusable(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert not Conv4()._fusable(x)
    with plain():
        assert not Conv4()._fusable(x)
    with torch.autograd.forward_ad.dual_level():
        assert not Conv4()._fusable(x)


@pytest.mark.parametrize("shape", [(4, 3, 28, 28), (1, 28, 28), (2, 4, 1, 28, 28), (4, 1, 8, 8), (4, 1, 28, 8)])
@pytest.mark.parametrize("training", [True, False])
def test_pictures_that_do_not_fit_are_refused(shape: tuple[int, ...], training: bool) -> None:
    """The kernels would read beyond the weights."""
    with torch.no_grad(), pytest.raises(RuntimeError):
        Conv4(filters=32).train(training)(torch.rand(shape))


def tanh(encoder: Conv4) -> None:
    for block in encoder.blocks:
        block[3] = nn.Tanh()  # type: ignore[index]


def biased(encoder: Conv4) -> None:
    encoder.blocks[0][0] = nn.Conv2d(1, 32, 3, padding=1)  # type: ignore[index]


def normalized_by_torch(encoder: Conv4) -> None:
    encoder.blocks[1][1] = nn.BatchNorm2d(32)  # type: ignore[index]


def averaged(encoder: Conv4) -> None:
    encoder.blocks[2][2] = nn.AvgPool2d(2)  # type: ignore[index]


class Residual(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2  # type: ignore[no-any-return]


def residual(encoder: Conv4) -> None:
    encoder.blocks[3] = Residual(*encoder.blocks[3])  # type: ignore[arg-type]


def patched(encoder: Conv4) -> None:
    layer = encoder.blocks[1][3]  # type: ignore[index]
    layer.forward = torch.tanh


def longer(encoder: Conv4) -> None:
    encoder.blocks.append(nn.Hardtanh(0, 0.1))


def watched(encoder: Conv4) -> None:
    encoder.blocks[3][2].register_forward_hook(lambda _, __, z: z + 1)  # type: ignore[index]


def pruned(encoder: Conv4) -> None:
    prune.l1_unstructured(encoder.blocks[0][0], "weight", 0.5)  # type: ignore[index]


def parametrized(encoder: Conv4) -> None:
    nn.utils.parametrizations.weight_norm(encoder.blocks[0][0])  # type: ignore[index]


CHANGES = [tanh, biased, normalized_by_torch, averaged, residual, patched, longer, watched, pruned, parametrized]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_layers_are_heard(change: Callable[[Conv4], None]) -> None:
    torch.manual_seed(0)
    encoder, x = Conv4(filters=32), torch.rand(4, 1, 28, 28)
    change(encoder)
    for _ in range(2):
        encoder(x).square().mean().backward()
        torch.optim.SGD(encoder.parameters(), 0.1).step()
    result = encoder(x)
    with plain():
        torch.testing.assert_close(result, encoder(x), atol=1e-4, rtol=1e-4)


def test_hooks_of_any_kind_are_called() -> None:
    encoder, x, heard = Conv4(filters=32), torch.rand(4, 1, 28, 28), []
    kinds = ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook")
    handles = [getattr(encoder.blocks[1][0], kind)(lambda *_: heard.append(1)) for kind in kinds]  # type: ignore[index]
    encoder(x).sum().backward()
    assert len(heard) == 3
    for handle in handles:
        handle.remove()
    assert encoder._fusable(x)
    with torch.nn.modules.module.register_module_forward_hook(lambda *_: None):
        assert not encoder._fusable(x)


class Own(Tensor):
    pass


def test_tensors_without_memory_are_left_to_torch() -> None:
    encoder = Conv4(filters=32).eval()
    with torch.no_grad():
        assert not encoder._fusable(torch.rand(4, 1, 28, 28).as_subclass(Own))
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            assert encoder(mode.from_tensor(torch.rand(4, 1, 28, 28))).shape == (4, 32)


def test_another_default_device_changes_nothing() -> None:
    encoder, x = Conv4(filters=32, normalization="batch"), torch.rand(4, 1, 28, 28)
    expected = encoder(x)
    with torch.device("meta"):
        torch.testing.assert_close(encoder(x), expected, rtol=0, atol=0)
