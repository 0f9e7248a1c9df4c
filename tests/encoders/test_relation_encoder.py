import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handful.encoders import Conv4, Identity, RelationEncoder, ResNet12
from handful.encoders.maps import map_shape
from handful.errors import ShapeError

pytestmark = pytest.mark.usefixtures("float64")


def test_maps_have_the_published_sizes() -> None:
    assert RelationEncoder().out_maps == (64, 5, 5)
    assert RelationEncoder(shape=(3, 84, 84)).out_maps == (64, 19, 19)
    assert RelationEncoder().out_features == 1600


@pytest.mark.parametrize("policy", ["running", "none"])
def test_two_blocks_without_padding_that_pool_and_two_that_do_not(policy: str) -> None:
    encoder = RelationEncoder(shape=(2, 18, 14), filters=4, normalization=policy)  # type: ignore[arg-type]
    x = torch.randn(3, 2, 18, 14)
    z: Tensor = x
    for number, block in enumerate(encoder.blocks):
        convolution, layer = block[0], block[1]  # type: ignore[index]
        z = F.relu(layer(F.conv2d(z, convolution.weight, convolution.bias, padding=number // 2)))
        z = F.max_pool2d(z, 2) if number < 2 else z
    assert z.shape[1:] == encoder.out_maps
    assert torch.allclose(encoder(x), z.flatten(1))


@pytest.mark.parametrize(
    "encoder", [Conv4(halvings=2), Conv4(average=True), ResNet12(shape=(3, 32, 32), widths=(4, 4, 4, 4), average=False)]
)
def test_every_encoder_of_pictures_says_the_shape_of_its_maps(encoder: nn.Module) -> None:
    channels, height, width = map_shape(encoder)
    assert channels * height * width == encoder.out_features
    encoder.float()
    assert encoder(torch.rand(2, *encoder.shape, dtype=torch.float32)).shape == (2, channels * height * width)  # type: ignore[misc]


def test_a_vector_is_a_map_of_one_place() -> None:
    assert map_shape(Identity(shape=(7,))) == (7, 1, 1)
    with pytest.raises(ShapeError, match="neither out_maps"):
        map_shape(nn.Flatten())


def test_pictures_that_are_too_small_are_refused() -> None:
    with pytest.raises(ShapeError, match="at least 10×10"):
        RelationEncoder(shape=(1, 9, 28))


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_lie_side_by_side_where_that_is_faster_and_change_nothing(channels: int) -> None:
    encoder = RelationEncoder(shape=(channels, 12, 12), filters=4).float()
    x = torch.rand(5, channels, 12, 12, dtype=torch.float32, requires_grad=True)
    seen: list[Tensor] = []
    encoder.blocks[0][0].register_forward_hook(lambda layer, given, result: seen.append(result))  # type: ignore[index]
    z = encoder(x)
    z.sum().backward()
    slope = x.grad
    assert seen[-1].is_contiguous(memory_format=torch.channels_last)
    x.grad = None
    plain = encoder.blocks(x).flatten(1)
    plain.sum().backward()
    assert not seen[-1].is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(z, plain, atol=1e-5)
    assert slope is not None
    assert x.grad is not None
    assert torch.allclose(slope, x.grad, atol=1e-5)
    encoder.eval()
    assert encoder(x[:0]).shape == (0, 4)
    alone = torch.func.vmap(encoder)(x[None].detach())  # plain inside a transformation
    assert torch.allclose(alone.squeeze(0), encoder(x), atol=1e-5)
