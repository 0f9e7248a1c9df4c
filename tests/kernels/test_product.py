"""Products by the compiled kernel against PyTorch's, in each build that this processor runs."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from handful.kernels import available, product, reason

pytestmark = [
    pytest.mark.skipif(not available(), reason=f"no compiled kernels here: {reason()}"),
    pytest.mark.usefixtures("build"),
]


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a product is, the kernel has it."""
    monkeypatch.setattr(product, "LEAST", 1)
    monkeypatch.setattr(product, "LEAST_EACH", 1)


def matrices(batch: int, rows: int, columns: int, turned: bool) -> Tensor:
    """[batch, rows, columns], whose columns are neighbors if turned."""
    x = torch.randn(batch, columns, rows, dtype=torch.float64)
    return x.mT if turned else x.mT.contiguous()


def same(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-11, rtol=1e-11)


# rows and columns: every rest of a tile; depth: one block, its end, and several; few rows and many
@pytest.mark.parametrize("rows", [1, 2, 13, 14, 15, 31, 300])
@pytest.mark.parametrize("depth", [1, 7, 384, 385, 800])
def test_products(rows: int, depth: int, threads: int) -> None:
    torch.manual_seed(0)
    for outputs in (1, 7, 15, 16, 17, 32, 33, 64, 270):
        for turned in range(4):
            a, b = matrices(2, rows, depth, turned % 2 == 1), matrices(2, depth, outputs, turned > 1)
            assert product.product(a.requires_grad_(), b).grad_fn.name() == "_ProductBackward"  # type: ignore[union-attr]
            same(product.product(a, b), torch.bmm(a, b))


def test_a_product_in_float() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(3, 50, 200), torch.randn(3, 200, 70)
    torch.testing.assert_close(product.product(a, b).double(), a.double() @ b.double(), atol=1e-4, rtol=1e-5)


def test_matrices_that_lie_anyhow() -> None:
    """Views with gaps, one matrix for all, numbers of one row or column, and nan where there is one."""
    torch.manual_seed(0)
    wide = torch.randn(3, 40, 60, dtype=torch.float64)
    for a, b in (
        (wide[:, ::2, ::3], wide[:, ::2, 5:]),
        (wide[:1].expand(3, 40, 60), wide.mT),
        (wide.mT, wide[:1].expand(3, 40, 60)),
        (wide[:, :1], wide[:, :, :1].expand(3, 40, 60).mT),
        (wide[:, :, :1], wide[:, :1]),
        (wide[:, 3:4, 5:6], wide[:, 3:4, 5:6]),
        (torch.randn(60, 3, 40, dtype=torch.float64).permute(1, 2, 0), wide.mT),
    ):
        same(product.product(a, b), torch.bmm(a, b))
    wide[1, 3, 5] = torch.nan
    assert product.product(wide, wide.mT).isnan().equal(torch.bmm(wide, wide.mT).isnan())


# depth and columns: of a vector, one and two vectors, and more or less; rows: of a tile and the next
@pytest.mark.parametrize("rows", [1, 5, 36])
@pytest.mark.parametrize("depth", [3, 16, 36])
def test_small_matrices_of_heads(rows: int, depth: int, threads: int) -> None:
    """[B, heads, M, K]: views whose two axes of matrices are not one in memory, as attention has them."""
    torch.manual_seed(0)
    for outputs in (4, 8, 16, 20, 36, 50):
        first = torch.randn(3, rows, 2, depth, dtype=torch.float64).permute(0, 2, 1, 3)
        for a in (
            first,
            first.transpose(0, 1),
            first.contiguous().mT.contiguous().mT,
            first[:, :1].expand(3, 2, -1, -1),
        ):
            b = torch.randn(len(a), outputs, a.shape[1], depth, dtype=torch.float64).permute(0, 2, 3, 1)
            for other in (b, b.contiguous(), b[..., ::2]):
                got = product.product(a.requires_grad_(), other)
                assert got.grad_fn.name() == "_ProductBackward"  # type: ignore[union-attr]
                same(got, a @ other)


def test_derivatives_of_heads() -> None:
    torch.manual_seed(0)
    a = torch.randn(2, 3, 2, 4, dtype=torch.float64).permute(0, 2, 1, 3).requires_grad_()
    b = torch.randn(2, 5, 2, 4, dtype=torch.float64).permute(0, 2, 3, 1).requires_grad_()
    assert torch.autograd.gradcheck(product.product, (a, b))
    assert torch.autograd.gradgradcheck(product.product, (a, b))


def test_derivatives() -> None:
    torch.manual_seed(0)
    a = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 5, 4, dtype=torch.float64).mT.requires_grad_()
    assert torch.autograd.gradcheck(product.product, (a, b))
    assert torch.autograd.gradgradcheck(product.product, (a, b))
    (slope,) = torch.autograd.grad(product.product(a, b).sum(), b)
    assert slope.stride() == b.stride()  # what is added to it, or taken from it, lies alike


@pytest.mark.parametrize("turned", list(itertools.product((False, True), repeat=2)))
def test_what_is_given_as_its_transpose(turned: tuple[bool, bool]) -> None:
    torch.manual_seed(0)
    a, b = (leaf.requires_grad_() for leaf in (matrices(2, 3, 4, turned[0]), matrices(2, 4, 5, turned[1])))
    given = [leaf.mT.detach().requires_grad_() if turn else leaf for leaf, turn in zip((a, b), turned, strict=True)]
    c = product.product(*given, turned)  # type: ignore[misc]
    assert c.grad_fn.next_functions[0][0].name() == "torch::autograd::AccumulateGrad"  # type: ignore[union-attr]
    same(c, a @ b)
    slopes = torch.autograd.grad(c.square().sum(), given)
    for slope, leaf, turn, expected in zip(
        slopes, given, turned, torch.autograd.grad((a @ b).square().sum(), (a, b)), strict=True
    ):
        assert slope.stride() == leaf.stride()
        same(slope, expected.mT if turn else expected)
    assert torch.autograd.gradgradcheck(lambda a, b: product.product(a, b, turned), given)
    views = [leaf.detach().mT.contiguous().mT.requires_grad_() for leaf in given]  # that lie otherwise
    for slope, leaf in zip(torch.autograd.grad(product.product(*views, turned).sum(), views), views, strict=True):  # type: ignore[misc]
        assert slope.stride() == leaf.stride()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch compiles for forward mode
def test_what_the_kernel_cannot_read_is_left_to_torch() -> None:
    a, b = torch.randn(2, 8, 8), torch.randn(2, 8, 8)
    for x, y in ((a.half(), b.half()), (a.to(torch.complex64), b.to(torch.complex64)), (a[:, :0], b), (a[:0], b[:0])):
        assert product.product(x, y).equal(torch.bmm(x, y))
    assert torch.func.vmap(product.product)(a[None], b[None]).equal(torch.bmm(a, b)[None])
    jacobian = torch.autograd.functional.jacobian(lambda x: product.product(x, b), a, vectorize=True)
    torch.testing.assert_close(jacobian, torch.autograd.functional.jacobian(lambda x: torch.bmm(x, b), a))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(a, b)
        tangent = torch.autograd.forward_ad.unpack_dual(product.product(dual, b)).tangent
    torch.testing.assert_close(tangent, torch.bmm(b, b))


def test_small_products_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "LEAST", 8**3 * 2 + 1)
    a = torch.randn(2, 8, 8, requires_grad=True)
    assert product.product(a, a).grad_fn.name() == "UnsafeViewBackward0"  # type: ignore[union-attr]
