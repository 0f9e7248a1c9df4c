"""The multi-class support vector machine of Crammer & Singer (2001), in batches of tasks, by its dual.

With kernel K [S, S], one-hot labels Y [S, N] and box C_i the dual problem is (Lee et al. 2019, arXiv:1904.03758, eq. 8)

    minimize  ½ tr αᵀ(K + δI)α − tr αᵀY     subject to  α_i ≤ C_i Y_i,  Σ_k α_ik = 0.

With α = C Y − p each row of p lies in a simplex of size C_i, so that projecting onto all constraints is a sort: the
problem is solved by accelerated projected gradients, started again where they overshoot (Beck & Teboulle 2009,
doi:10.1137/080716542; O'Donoghue & Candès 2015, arXiv:1204.3982). On the face where the solution lies it is a linear
system: a Newton step there, by conjugate gradients, takes away what is left of the error, and another one gives the
derivative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .conjugate import conjugate_gradients
from .implicit import implicit

__all__ = ["crammer_singer", "onto_simplex"]


def crammer_singer(
    kernel: Tensor, member: Tensor, *, box: float, damping: float = 1.0, steps: int = 3000, tolerance: float = 1e-8
) -> Tensor:
    """α [B, S, N] of the problem above; class k then scores Σ_i α_ik K(x_i, ·). Differentiable in the kernel, once.

    Found in double precision whatever is asked: the kernel of long features is too ill-conditioned for less. Where the
    steps do not suffice to tell on which face the solution lies, what they found is the answer, without a gradient.

    Args:
        kernel: [B, S, S] inner products of the examples.
        member: [B, S, N] one-hot labels, each times the weight of its example.
        box: C; C_i is C times the weight.
        damping: δ > 0 makes the solution unique. The same as examples with one more feature each, of size √δ. For an
            example of weight w it is δ / w, as for w examples.
        steps: projected gradients at most.
        tolerance: how wrong α may be before the Newton step, as a share of C; rounding permitting.
    """
    with torch.autocast(kernel.device.type, enabled=False):
        asked = torch.promote_types(kernel.dtype, torch.float32)
        kernel, upper = kernel.double(), box * member.double()  # upper: C_i Y_i
        label, weight = (member > 0).double(), member.sum(-1).double()
        kernel = kernel + torch.diag_embed(damping / torch.where(weight > 0, weight, 1))
        fixed = kernel.detach()
        rate = 1 / fixed.abs().sum(-1).amax(-1).view(-1, 1, 1)  # rows bound the largest eigenvalue
        enough = (tolerance * damping * rate).clamp_min(1e-15) * box
        p = _projected_gradients(fixed, upper, label, rate, steps, enough)
        free = p > 0

        def onto_face(v: Tensor) -> Tensor:
            v = torch.where(free, v, 0)
            count = free.sum(-1, keepdim=True).clamp_min(1)
            return torch.where(free, v - v.sum(-1, keepdim=True) / count, 0)

        def solve(v: Tensor) -> Tensor:
            v = onto_face(onto_face(v))  # twice: what the first takes away may be large, and its rounding with it
            return conjugate_gradients(lambda w: onto_face(fixed @ w), v, iterations=steps, tolerance=1e-13)

        with torch.no_grad():
            alpha = upper - p
            better = alpha - solve(fixed @ alpha - label)
            inside = (better - upper).flatten(1).amax(1).view(-1, 1, 1) <= 1e-6 * box  # the face was the right one
            alpha = torch.where(inside, better, alpha)
        solution = implicit(alpha, torch.where(inside, kernel @ alpha - label, 0), solve)
        return solution.to(asked)


def onto_simplex(v: Tensor, size: Tensor) -> Tensor:
    """The nearest p ≥ 0 with Σ p = size, along the last axis: [..., N], [..., 1] -> [..., N].

    Held, Wolfe & Crowder 1974, doi:10.1007/BF01580223.
    """
    ordered = v.sort(-1, descending=True).values
    excess = ordered.cumsum(-1) - size
    count = torch.arange(1, v.shape[-1] + 1, dtype=v.dtype, device=v.device)
    used = (ordered * count > excess).sum(-1, keepdim=True).clamp_min(1)
    return (v - excess.gather(-1, used - 1) / used).clamp_min(0)


@torch.no_grad()
def _projected_gradients(
    kernel: Tensor, upper: Tensor, label: Tensor, rate: Tensor, steps: int, enough: Tensor
) -> Tensor:
    size = upper.sum(-1, keepdim=True)  # [B, S, 1]
    p = onto_simplex(upper, size)
    ahead, momentum = p, torch.ones_like(rate)
    done = torch.zeros_like(rate, dtype=torch.bool)
    for _ in range(steps):
        slope = label - kernel @ (upper - ahead)
        new = onto_simplex(ahead - rate * slope, size)
        moved = (new - ahead).abs().flatten(1).amax(1).view(-1, 1, 1)
        back = ((ahead - new) * (new - p)).flatten(1).sum(1).view(-1, 1, 1) > 0  # overshot: momentum starts again
        following = torch.where(back, 1, (1 + (1 + 4 * momentum.square()).sqrt()) / 2)
        ahead_next = new + torch.where(back, 0, (momentum - 1) / following) * (new - p)
        p = torch.where(done, p, new)
        ahead, momentum = torch.where(done, ahead, ahead_next), following
        done = done | (moved <= enough)
        if bool(done.all()):
            break
    return p
