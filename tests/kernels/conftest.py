"""Each build of the kernels that this processor runs, and several numbers of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from handful.kernels import available, library, reason


@pytest.fixture(params=["avx512", "avx2"])
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The kernels are of this build."""
    if request.param == "avx512" != library.variant():
        pytest.skip("this processor has no AVX-512")

    def forget() -> None:
        library._load.cache_clear()
        library._function.cache_clear()

    forget()
    with monkeypatch.context() as patched:
        patched.setattr(library, "variant", lambda: request.param)
        assert available(), reason()
        yield request.param
    forget()


@pytest.fixture(params=[1, 3, 9])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """So many threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
