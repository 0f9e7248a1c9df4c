"""Randomness as a function: the same key gives the same numbers, in any process and order."""

from __future__ import annotations

import zlib
from operator import index
from typing import SupportsIndex

import numpy as np

__all__ = ["generator", "seed_of"]

_MASK = (1 << 64) - 1


def seed_of(*key: SupportsIndex | str) -> int:
    """A number in [0, 2⁶³) that depends on every part of the key (splitmix64 steps)."""
    state = 0
    for part in key:
        number = zlib.crc32(part.encode()) if isinstance(part, str) else index(part)
        state = (state ^ (number & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state >> 1


def generator(*key: SupportsIndex | str) -> np.random.Generator:
    """A NumPy generator of its own for this key."""
    return np.random.Generator(np.random.PCG64(seed_of(*key)))
