"""Every test runs on one thread, from the same seed, and leaves no setting behind."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

from handful.data.pool import ClassPool

settings.register_profile("handful", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("handful")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_CACHE_MB", "0")  # nobody's cache of vectors
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - what a library may still draw from


@pytest.fixture
def float64() -> Iterator[None]:
    """New tensors are of double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def vectors() -> ClassPool:
    """Twelve classes of twelve noisy vectors of four numbers: eight classes to train on, four to test on."""
    random = torch.Generator().manual_seed(0)
    centers = torch.randn(12, 1, 4, generator=random)
    x = (centers + 0.7 * torch.randn(12, 12, 4, generator=random)).flatten(0, 1)
    labels = [f"class {index // 12:02d}" for index in range(144)]
    names = sorted(set(labels))
    return ClassPool.from_labels(x, labels, splits={"train": names[:8], "test": names[8:]})


@pytest.fixture
def digits_table() -> Callable[..., dict[str, Any]]:
    """Makes the tables of a spec that trains in a second: a small network with buffers, on the digits."""

    def make(*, steps: int = 12, validation: dict[str, Any] | None = None, **train: Any) -> dict[str, Any]:
        table: dict[str, Any] = {
            "learner": {"name": "prototypical"},
            "encoder": {"name": "mlp", "shape": [1, 8, 8], "hidden": [16], "normalization": "running"},
            "data": {"name": "digits"},
            "train": {"ways": 5, "shots": 1, "queries": 3, "batch": 2, "rate": 0.01, "steps": steps, **train},
        }
        if validation is not None:
            tasks = {"ways": 5, "shots": 1, "queries": 5, "batch": 4, "tasks": 8, "every": 3}
            table["validation"] = tasks | validation
        return table

    return make
