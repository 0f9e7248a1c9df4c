"""SNAIL: a sequence of examples and labels read by causal convolutions and causal attention.

Paper: Mishra, Rohaninejad, Chen & Abbeel 2018, arXiv:1707.03141.
    DenseBlock(R, D) -> Dense        TCBlock(T, D) -> Dense of 2, 4, ... 2^⌈log₂T⌉        T = N·K + 1 -> length
    AttentionBlock(K, V) -> Attention(keys, values)
For few-shot pictures (section 5.1): Attention(64, 32), TC(T, 128), Attention(256, 128), TC(T, 128),
Attention(512, 256), and a 1×1 convolution to N outputs; the query comes last, with a label of zeros.
Every layer sees a support by itself and those before it. So what a layer was given is all that a query needs: it is
the next step after the support, whatever other queries there are.
Departures:
    1. Keys have no bias: the softmax over keys does not see one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ...encoders.placing import placed
from ...errors import SpecError
from ...sequence_learner import SequenceLearner

__all__ = ["SNAIL", "Heard"]


class Heard(NamedTuple):
    """What each layer was given of the support."""

    inputs: tuple[Tensor, ...]  # each [B, S, channels]


class Dense(nn.Module):
    """x and, beside it, tanh(f) · σ(g) of a causal convolution of two steps, `dilation` apart."""

    def __init__(self, channels: int, dilation: int, filters: int) -> None:
        super().__init__()
        self.dilation, self.out_features = dilation, channels + filters
        self.convolution = nn.Linear(2 * channels, 2 * filters)

    def forward(self, x: Tensor, past: Tensor | None = None) -> Tensor:
        """A sequence [B, T, C], or, with a past [B, S, C], steps [B, Q, C] each of which is the next after it."""
        if past is None:
            before = pad(x, (0, 0, self.dilation, 0))[:, : x.shape[1]]
        else:
            before = pad(past, (0, 0, self.dilation, 0))[:, past.shape[1], None].expand_as(x)
        f, g = self.convolution(torch.cat([before, x], -1)).chunk(2, -1)
        return torch.cat([x, f.tanh() * g.sigmoid()], -1)


class Attention(nn.Module):
    """x and, beside it, what a query finds among the keys of its own and all former steps."""

    def __init__(self, channels: int, keys: int, values: int) -> None:
        super().__init__()
        self.out_features = channels + values
        self.query, self.value = nn.Linear(channels, keys), nn.Linear(channels, values)
        self.key = nn.Linear(channels, keys, bias=False)

    def forward(self, x: Tensor, past: Tensor | None = None) -> Tensor:
        """As of Dense."""
        q, k, v = self.query(x) / math.sqrt(self.key.out_features), self.key(x), self.value(x)
        if past is None:
            later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)  # [query, key]
            found = (q @ k.mT).masked_fill(later, -math.inf).softmax(-1) @ v
        else:
            own = (q * k).sum(-1, keepdim=True)  # [B, Q, 1]
            share = torch.cat([q @ self.key(past).mT, own], -1).softmax(-1)  # [B, Q, S + 1]
            found = share[..., :-1] @ self.value(past) + share[..., -1:] * v
        return torch.cat([x, found], -1)


@final
class SNAIL(SequenceLearner):
    """Simple neural attentive meta-learner; the loss is that of the queries, each the last step of its sequence.

    Args:
        encoder: any module from [examples, *shape] to [examples, F].
        outputs: the ways of a task, or the targets of a regression.
        length: T, supports and one query: how far back convolutions must reach. Attention sees longer sequences too.
        filters: D, of each convolution.
        keys: width of the keys of each attention; a stack of convolutions stands between two of them.
        values: width of its values.

    Raises:
        ShapeError: the encoder does not say its `out_features`, or its normalization needs a learner that adapts it.
        SpecError: a length below 2, or not as many keys as values.
    """

    paper = "Mishra et al. 2018, arXiv:1707.03141"

    def __init__(
        self,
        encoder: nn.Module,
        *,
        outputs: int = 5,
        length: int = 6,
        filters: int = 128,
        keys: Sequence[int] = (64, 256, 512),
        values: Sequence[int] = (32, 128, 256),
    ) -> None:
        super().__init__(encoder, outputs)
        if length < 2:
            raise SpecError(f"SNAIL: expected a length of at least 2, supports and a query, got {length}")
        if len(keys) != len(values) or not keys:
            raise SpecError(f"SNAIL: expected as many keys as values, one at least; got {len(keys)} and {len(values)}")
        channels, layers = self.features + outputs, list[Dense | Attention]()
        for number, (key, value) in enumerate(zip(keys, values, strict=True)):
            for power in range(1, 1 + math.ceil(math.log2(length))) if number else ():
                layers.append(Dense(channels, 2**power, filters))
                channels = layers[-1].out_features
            layers.append(Attention(channels, key, value))
            channels = layers[-1].out_features
        self.layers = placed(nn.ModuleList(layers), encoder)
        self.output = placed(nn.Linear(channels, outputs), encoder)

    def adapt_features(self, z: Tensor, y: Tensor, ways: int, weight: Tensor | None = None) -> Heard:
        """The support as a sequence of (x_t, y_t)."""
        x, inputs = torch.cat([z, self.labels(y, ways, weight, z)], -1), list[Tensor]()
        for layer in self.layers:
            inputs.append(x)
            x = layer(x)
        return Heard(tuple(inputs))

    def predict_features(self, state: Heard, z: Tensor) -> Tensor:
        """Outputs [B, Q, outputs], each query the next step after the support."""
        x = pad(z, (0, self.outputs))
        for layer, past in zip(self.layers, state.inputs, strict=True):
            x = layer(x, past)
        outputs: Tensor = self.output(x)
        return outputs
