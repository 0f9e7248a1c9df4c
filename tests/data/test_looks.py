from __future__ import annotations

import tracemalloc

import numpy as np

from handful.data.looks import alike


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_groups_are_the_connected_parts() -> None:
    """Against every pair joined one by one."""
    random = np.random.default_rng(0)
    centers = random.normal(size=(60, 16)).repeat(random.integers(1, 20, 60), 0)
    vectors = unit(random.permutation(centers + 0.05 * random.normal(size=centers.shape)))
    vectors[7] = 0  # blank, so like no other
    near = vectors @ vectors.T > 0.99
    expected, left = [], set(range(len(vectors)))
    while left:
        part = {left.pop()}
        while grown := {int(i) for i in np.flatnonzero(near[sorted(part)].any(0))} - part:
            part |= grown
        left -= part
        if len(part) > 1:
            expected.append(sorted(part))
    assert len(vectors) > 512
    assert any(not near[np.ix_(part, part)].all() for part in expected)  # joined only by way of others
    assert sorted(alike(vectors)) == sorted(expected)
    assert alike(np.zeros((0, 16), np.float32)) == []


def test_many_of_one_kind_take_no_memory_for_pairs() -> None:
    vectors = unit(np.random.default_rng(0).normal(size=(1, 256))).repeat(3000, 0)
    tracemalloc.start()
    assert alike(vectors) == [list(range(3000))]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6  # all pairs took 0.9 GB
