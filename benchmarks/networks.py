"""The networks that are measured, as users of any library write them, and weights by names that all of them share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handful.encoders import Conv4
from handful.encoders.normalization import BatchNorm


class StandardConv4(nn.Sequential):
    """Four blocks of convolution, native batch norm, ReLU and max-pooling; with `outputs` a linear head."""

    def __init__(self, channels: int, filters: int, side: int, *, outputs: int | None, estimates: bool) -> None:
        layers: list[nn.Module] = []
        for inputs in (channels, filters, filters, filters):
            convolution = nn.Conv2d(inputs, filters, 3, padding=1)
            nn.init.zeros_(convolution.bias)
            norm = nn.BatchNorm2d(filters, track_running_stats=estimates)
            layers += [convolution, norm, nn.ReLU(), nn.MaxPool2d(2)]
            side //= 2
        layers.append(nn.Flatten())
        if outputs is not None:
            layers.append(nn.Linear(filters * side * side, outputs))
        super().__init__(*layers)


class SmallResNet(nn.Module):
    """Three residual blocks; batch statistics. Handful knows nothing of it."""

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(_Residual(width * 2**i, width * 2 ** (i + 1)) for i in range(3))
        self.head = nn.Linear(8 * width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        answer: Tensor = self.head(x.mean((2, 3)))
        return answer


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, track_running_stats=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.other = nn.BatchNorm2d(outputs, track_running_stats=False)
        self.skip = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        z = self.other(self.second(F.relu(self.norm(self.first(x)))))
        return F.relu(z + self.skip(x))


class SmallTransformer(nn.Module):
    """Two encoder layers over the patches of a picture. Handful knows nothing of it."""

    def __init__(self, channels: int, side: int, width: int, outputs: int, patch: int = 7) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, width, patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn((side // patch) ** 2, width))
        self.layers = nn.Sequential(_Layer(width), _Layer(width))
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        answer: Tensor = self.head(self.layers(tokens).mean(1))
        return answer


class _Layer(nn.Module):
    """Attention by matrix products: torch's fused attention has no second derivative, whoever asks for it."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.join = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.project(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        x = x + self.join((weights @ v).transpose(1, 2).flatten(2))
        narrowed: Tensor = self.narrow(F.gelu(self.wide(self.between(x))))
        return x + narrowed


def shared(network: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters by names that a Conv4 has in every library; of another network by their own names.

    The bias of a convolution before batch norm has no name: Handful leaves it out, for it changes nothing.
    """
    if isinstance(network, SmallResNet | SmallTransformer):
        return dict(network.named_parameters())
    found = {}
    kinds: dict[str, int] = {}
    for layer in network.modules():
        for kind, parts in (
            (nn.Conv2d, ("weight",)),
            (nn.BatchNorm2d | BatchNorm, ("weight", "bias")),
            (nn.Linear, ("weight", "bias")),
        ):
            if isinstance(layer, kind):
                name = {nn.Conv2d: "convolution", nn.Linear: "head"}.get(type(layer), "norm")
                number = kinds[name] = kinds.get(name, 0) + 1
                found |= {f"{name} {number} {part}": getattr(layer, part) for part in parts}
    return found


@torch.no_grad()
def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Make the target compute what the source does."""
    given, taken = shared(source), shared(target)
    if given.keys() != taken.keys():
        raise ValueError(f"the networks differ: {sorted(given.keys() ^ taken.keys())}")
    for name, parameter in taken.items():
        parameter.copy_(given[name].view_as(parameter))
    for layer in target.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            layer.bias.zero_()


def gradients(network: nn.Module) -> dict[str, Tensor]:
    """The gradients by shared names."""
    return {name: parameter.grad for name, parameter in shared(network).items() if parameter.grad is not None}


def conv4(channels: int, filters: int, side: int, *, batch_statistics: bool) -> Conv4:
    """Handful's own."""
    normalization = "batch" if batch_statistics else "running"
    return Conv4(shape=[channels, side, side], filters=filters, normalization=normalization)
