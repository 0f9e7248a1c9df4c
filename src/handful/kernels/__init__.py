"""Fused kernels for a CPU: what a convolutional block does in one pass, with its first and second derivatives."""

from .block import Pooled, embedded_block, framed, pooled_block, unframed
from .library import available, fusable, plain, reason, traced, variant
from .operators import Fused, compiled_operators, threads_inside

__all__ = [
    "Fused",
    "Pooled",
    "available",
    "compiled_operators",
    "embedded_block",
    "framed",
    "fusable",
    "plain",
    "pooled_block",
    "reason",
    "threads_inside",
    "traced",
    "unframed",
    "variant",
]
