import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handful.encoders import ResNet18
from handful.errors import ShapeError, UnknownNameError


def test_parameters_of_the_paper() -> None:
    encoder = ResNet18(shape=(3, 224, 224))
    assert sum(p.numel() for p in encoder.parameters()) == 11_689_512 - 513_000, "ResNet-18 without its 1000 classes"
    assert sum(isinstance(layer, nn.Conv2d) for layer in encoder.modules()) == 17 + 3


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("stem", ["large", "small"])
def test_the_network_by_hand(stem: str) -> None:
    encoder = ResNet18(shape=(2, 19, 24), widths=(3, 4, 5, 6), stem=stem, normalization="none")  # type: ignore[arg-type]
    weights = [(layer.weight, layer.bias) for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    x = torch.randn(2, 2, 19, 24)

    def convolve(z: Tensor, stride: int = 1) -> Tensor:
        weight, bias = weights.pop(0)
        return F.conv2d(z, weight, bias, stride, weight.shape[-1] // 2)

    z = convolve(x, 2 if stem == "large" else 1).relu()
    z = F.max_pool2d(z, 3, 2, 1) if stem == "large" else z
    for stage in range(4):
        for number in range(2):
            stride = 2 if stage > 0 and number == 0 else 1
            body = convolve(convolve(z, stride).relu())
            z = (body + (convolve(z, stride) if stride == 2 else z)).relu()
    assert not weights
    assert torch.allclose(encoder(x), z.mean((-2, -1)))


def test_what_cannot_be_built() -> None:
    for options in ({"shape": (84, 84)}, {"widths": (1, 2, 3)}):
        with pytest.raises(ShapeError, match="ResNet18"):
            ResNet18(**options)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="large, small"):
        ResNet18(stem="tiny")  # type: ignore[arg-type]
