"""And how long if the network is any `nn.Module`, one of which Handful knows nothing?

Second-order MAML around a small residual network and around a small transformer encoder, both written in
`networks.py` as a user would, 5-way 1-shot.
"""

from __future__ import annotations

from .common import Work
from .maml import Training, checked, contender, flops, tiny

__all__ = ["THREADS", "WORKS", "checked", "contender", "flops", "tiny"]

THREADS = (1, 2)
COMMON = {"channels": 3, "ways": 5, "shots": 1, "queries": 15, "tasks": 4, "steps": 5, "rate": 0.01}
WORKS: tuple[Work, ...] = (
    Training(
        name="any-module-resnet",
        title="a residual network, 42×42 pictures, 4 tasks × 5 steps, second order",
        peers=("learn2learn",),
        network="resnet",
        side=42,
        filters=16,
        **COMMON,
    ),
    Training(
        name="any-module-transformer",
        title="a transformer encoder, 42×42 pictures, 4 tasks × 5 steps, second order",
        peers=("learn2learn",),
        network="transformer",
        side=42,
        filters=64,
        **COMMON,
    ),
)
