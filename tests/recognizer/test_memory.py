"""The vectors of a collection and those of its rule are all the memory that grows with it."""

from __future__ import annotations

import tracemalloc

import numpy as np

from handful.recognizer import teach


def test_at_most_three_times_the_vectors() -> None:
    random = np.random.default_rng(0)
    y = np.arange(4000) // 10
    x = (random.normal(size=(400, 1024))[y] + random.normal(size=(4000, 1024))).astype(np.float32)
    names = y.astype(str)
    teach((x[:30], names[:30])).recognize(x[0])
    tracemalloc.start()
    try:
        teach((x, names)).recognize(x[0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * x.nbytes
