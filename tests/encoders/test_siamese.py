import pytest
import torch

from handful.encoders import SiameseNet
from handful.errors import ShapeError


def test_the_sizes_of_figure_4() -> None:
    encoder = SiameseNet()
    sizes, z = [], torch.rand(1, 1, 105, 105)
    for layer in encoder.body:
        z = layer(z)
        sizes.append(tuple(z.shape[1:]))
    assert [sizes[i] for i in (0, 2, 3, 5, 6, 8, 9)] == [
        (64, 96, 96), (64, 48, 48), (128, 42, 42), (128, 21, 21), (128, 18, 18), (128, 9, 9), (256, 6, 6)
    ]  # fmt: skip
    assert encoder.top.weight.shape == (4096, 9216)
    assert float(encoder.top.weight.detach().std()) == pytest.approx(0.2, abs=0.01)
    assert float(encoder.body[0].bias.detach().mean()) == pytest.approx(0.5, abs=0.01)


def test_features_are_of_a_sigmoid() -> None:
    z = SiameseNet(shape=(3, 65, 70), widths=(2, 2, 2, 2), features=5)(torch.rand(2, 3, 65, 70)).detach()
    assert z.shape == (2, 5)
    assert float(z.min()) > 0
    assert float(z.max()) < 1


@pytest.mark.parametrize("options", [{"shape": (1, 64, 99)}, {"shape": (84, 84)}, {"widths": (1, 2)}, {"features": 0}])
def test_what_cannot_be_built(options: dict[str, object]) -> None:
    with pytest.raises(ShapeError, match="SiameseNet"):
        SiameseNet(**options)  # type: ignore[arg-type]
