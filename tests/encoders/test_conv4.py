import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handful.encoders.conv4 import Conv4
from handful.encoders.normalization import BatchNorm
from handful.errors import ShapeError, UnknownNameError

pytestmark = pytest.mark.usefixtures("float64")


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes_and_weights_are_the_published_ones() -> None:
    assert Conv4().out_features == 64
    assert Conv4(shape=(3, 84, 84)).out_features == 1600
    assert Conv4(shape=(3, 84, 84), filters=32).out_features == 800
    assert Conv4(downsample="stride").out_features == 256
    assert Conv4(downsample="stride", average=True).out_features == 64
    assert count(Conv4()) == 9 * 64 + 3 * 9 * 64 * 64 + 4 * 2 * 64
    assert count(Conv4(shape=(3, 84, 84), filters=32)) == 9 * 32 * 3 + 3 * 9 * 32 * 32 + 4 * 2 * 32


@pytest.mark.parametrize("downsample", ["pool", "stride"])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("policy", ["running", "batch", "group", "none"])
def test_blocks_are_convolution_normalization_relu_and_halving(downsample: str, average: bool, policy: str) -> None:
    encoder = Conv4(shape=(2, 28, 20), filters=8, downsample=downsample, average=average, normalization=policy)  # type: ignore[arg-type]
    x = torch.randn(6, 2, 28, 20)
    z: Tensor = x
    for block in encoder.blocks:
        convolution, layer = block[0], block[1]  # type: ignore[index]
        stride = 1 if downsample == "pool" else 2
        z = F.relu(layer(F.conv2d(z, convolution.weight, convolution.bias, stride=stride, padding=1)))
        z = F.max_pool2d(z, 2) if downsample == "pool" else z
        assert (convolution.bias is None) == (policy != "none")
    expected = z.mean((2, 3)) if average else z.flatten(1)
    assert torch.allclose(encoder(x), expected)
    assert encoder(x).shape == (6, encoder.out_features)
    assert encoder.shape == (2, 28, 20)


def test_the_policy_and_steps_reach_every_block() -> None:
    layers = [m for m in Conv4(normalization="per_step", steps=5).modules() if isinstance(m, BatchNorm)]
    assert [layer.policy for layer in layers] == ["per_step"] * 4
    assert [layer.weight.shape[0] for layer in layers] == [5] * 4


@pytest.mark.parametrize(("downsample", "side"), [("pool", 3), ("stride", 3)])
def test_only_the_last_blocks_halve(downsample: str, side: int) -> None:
    encoder = Conv4(shape=(1, 12, 14), filters=4, downsample=downsample, halvings=2)  # type: ignore[arg-type]
    x, maps = torch.randn(2, 1, 12, 14), []
    for block in encoder.blocks:
        x = block(x)
        maps.append(x.shape[-2:])
    width = 3 if downsample == "pool" else 4
    assert maps == [(12, 14), (12, 14), (6, 7), (side, width)]
    assert encoder.out_features == 4 * side * width
    assert Conv4(shape=(1, 5, 5), filters=4, halvings=0).out_features == 100
    for halvings in (-1, 5):
        with pytest.raises(ShapeError, match=f"expected 0 to 4 halvings.*got {halvings} halvings"):
            Conv4(halvings=halvings)


@pytest.mark.parametrize(("downsample", "least"), [("pool", 16), ("stride", 2)])
def test_the_least_size_works_and_less_is_refused(downsample: str, least: int) -> None:
    encoder = Conv4(shape=(1, least, 30), filters=4, downsample=downsample)  # type: ignore[arg-type]
    assert encoder(torch.randn(3, 1, least, 30)).shape == (3, encoder.out_features)
    with pytest.raises(ShapeError, match=f"at least {least}×{least}, got 4 halvings and 30×{least - 1}"):
        Conv4(shape=(1, 30, least - 1), downsample=downsample)  # type: ignore[arg-type]


def test_instance_normalization_needs_more_than_a_pixel() -> None:
    Conv4(shape=(1, 16, 16), normalization="instance")  # 2×2 before the last pooling
    Conv4(shape=(1, 17, 17), downsample="stride", normalization="instance")  # 2×2 after the last stride
    with pytest.raises(ShapeError, match="instance normalization: one value"):
        Conv4(shape=(1, 16, 16), downsample="stride", normalization="instance")


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ShapeError, match=r"expected a shape \[channels, height, width\], got \[28, 28\]"):
        Conv4(shape=(28, 28))
    with pytest.raises(UnknownNameError, match="did you mean 'batch'"):
        Conv4(normalization="batc")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match=r"unknown downsampling 'max'\. Valid: pool, stride"):
        Conv4(downsample="max")  # type: ignore[arg-type]
    for wrong in ({"filters": 0}, {"shape": (0, 28, 28)}):
        with pytest.raises(ShapeError, match="at least one channel and one filter"):
            Conv4(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="multiple of 8 channels, got 12"):
        Conv4(filters=12, normalization="group")
