"""Fused kernels for a CPU: what a convolutional block does in one pass, with its first and second derivatives."""

from .block import Pooled, framed, pooled_block, unframed
from .library import available, fusable, plain, reason, variant

__all__ = ["Pooled", "available", "framed", "fusable", "plain", "pooled_block", "reason", "unframed", "variant"]
