"""Learners of features as plainly as they can be written: one task after the other, `torch.autograd` only.

A head here is a function of one task: support features [S, F], labels [S], ways, query features [Q, F] -> logits
[Q, ways]. It shares nothing with the library but the modules it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.optimize
import torch
import torch.nn.functional as F
from torch import Tensor

from handful.episode import Episode

Head = Callable[[Tensor, Tensor, int, Tensor], Tensor]


def by_tasks(head: Callable[[Any], Head]) -> Callable[[Any, Episode], tuple[Tensor, None]]:
    """A reference: the mean query loss of a head, which `head` makes of a learner."""

    def reference(learner: Any, episode: Episode) -> tuple[Tensor, None]:
        assert episode.support.ways is not None
        losses = []
        for x, y, qx, qy in zip(episode.support.x, episode.support.y, episode.query.x, episode.query.y, strict=True):
            z, zq = learner.encoder(torch.cat([x, qx])).split([len(x), len(qx)])
            losses.append(F.cross_entropy(head(learner)(z, y, episode.support.ways, zq), qy))
        return torch.stack(losses).mean(), None

    return reference


def by_classes(learner: Any, episode: Episode) -> tuple[Tensor, None]:
    """A reference: cross-entropy of each example among all training classes, by a linear or a cosine classifier."""
    losses = []
    assert episode.classes is not None
    for task in range(episode.tasks):
        x = torch.cat([episode.support.x[task], episode.query.x[task]])  # type: ignore[index]
        y = torch.cat([episode.support.y[task], episode.query.y[task]])
        for z, label in zip(learner.encoder(x), episode.classes[task][y], strict=True):
            w = learner.classifier.weight
            if getattr(learner, "classifier_scale", None) is None:
                logits = w @ z + learner.classifier.bias
            else:
                logits = torch.stack([learner.classifier_scale * cosine(z, row) for row in w])
            losses.append(-logits.log_softmax(0)[label])
    return torch.stack(losses).mean(), None


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b) / (a.square().sum().sqrt() * b.square().sum().sqrt())


def unit(z: Tensor) -> Tensor:
    return z / z.square().sum(-1, keepdim=True).sqrt()


def means(z: Tensor, y: Tensor, ways: int) -> Tensor:
    return torch.stack([z[y == label].mean(0) for label in range(ways)])


def distances(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None] - b[None]).square().sum(-1)


def r2d2(learner: Any) -> Head:
    def head(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        gram = z.T @ z + 10**learner.log_ridge * torch.eye(z.shape[1], dtype=z.dtype)
        return 10**learner.log_scale * (zq @ torch.linalg.inv(gram) @ z.T @ F.one_hot(y, ways).to(z.dtype))

    return head


def metaoptnet(learner: Any) -> Head:
    def head(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        return learner.scale * (zq @ (z.T @ svm_dual(z @ z.T, y, ways, learner.box, learner.damping)))

    return head


def svm_dual(kernel: Tensor, y: Tensor, ways: int, box: float, damping: float) -> Tensor:
    """α [S, N]: SciPy finds which constraints hold, then the optimality conditions are one dense linear system."""
    examples = len(y)
    whole = torch.kron(kernel + damping * torch.eye(examples, dtype=kernel.dtype), torch.eye(ways, dtype=kernel.dtype))
    label = F.one_hot(y, ways).to(kernel.dtype).flatten()
    h, e = whole.detach().numpy(), label.numpy()
    rows = np.kron(np.eye(examples), np.ones((1, ways)))
    found = scipy.optimize.minimize(
        lambda a: 0.5 * a @ h @ a - a @ e,
        np.zeros(examples * ways),
        jac=lambda a: h @ a - e,
        bounds=[(None, box * one) for one in e],
        constraints={"type": "eq", "fun": lambda a: rows @ a, "jac": lambda a: rows},
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    upper = box * label
    at_bound = torch.tensor(found.x) > upper - 1e-7
    free = (~at_bound).nonzero().flatten()
    a = torch.tensor(rows)[:, free]
    system = torch.cat([torch.cat([whole[free][:, free], a.T], 1), torch.cat([a, torch.zeros(examples, examples)], 1)])
    fixed = torch.where(at_bound, upper, 0)
    right = torch.cat([label[free] - whole[free] @ fixed, -torch.tensor(rows) @ fixed])
    used = torch.cat([torch.ones(len(free)), a.any(1)]).bool()  # an example without free entries has no multiplier
    solved = torch.linalg.solve(system[used][:, used], right[used])
    return fixed.index_put((free,), solved[: len(free)]).view(examples, ways)


def nearest(learner: Any) -> Head:
    def head(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        rows = []
        for query in zq:
            d = (query - z).square().sum(1)
            votes = torch.bincount(y[d.argsort()[: learner.k]], minlength=ways)
            m = torch.stack([d[y == n].min() for n in range(ways)])
            rows.append(votes - m / (m.mean() + m))
        return torch.stack(rows)

    return head


def frozen(learner: Any) -> Head:
    def ridge(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        z, zq = unit(z), unit(zq)
        target = F.one_hot(y, ways).to(z.dtype)
        a, t = z - z.mean(0), target - target.mean(0)
        w = torch.linalg.inv(a.T @ a + learner.strength * torch.eye(z.shape[1], dtype=z.dtype)) @ a.T @ t
        return zq @ w + target.mean(0) - z.mean(0) @ w

    def logistic(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        """Newton's steps with the whole Hessian; the last class's b stays 0, which moves all logits alike."""
        one = torch.ones(len(z), 1, dtype=z.dtype)
        x, target = torch.cat([unit(z), one], 1), F.one_hot(y, ways).to(z.dtype)
        size = x.shape[1]
        penalty = torch.full((size, ways), learner.strength, dtype=z.dtype)
        penalty[-1] = 0
        kept = torch.arange(size * ways) != size * ways - 1
        w = torch.zeros(size, ways, dtype=z.dtype)
        for _ in range(12):
            p = (x @ w).softmax(1)
            slope = (x.T @ (p - target) + penalty * w).flatten()
            curved = torch.diag_embed(p) - p[:, :, None] * p[:, None]  # [S, N, N]
            hessian = torch.einsum("sf,sg,snm->fngm", x, x, curved).reshape(size * ways, -1) + penalty.flatten().diag()
            step = torch.linalg.solve(hessian[kept][:, kept], slope[kept])
            w = w - torch.cat([step, step.new_zeros(1)]).view(size, ways)
        return torch.cat([unit(zq), torch.ones(len(zq), 1, dtype=z.dtype)], 1) @ w

    return ridge if learner.head == "ridge" else logistic


def baseline(learner: Any) -> Head:
    def head(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        w = torch.zeros(z.shape[1], ways, dtype=z.dtype, requires_grad=True)
        b = torch.zeros(ways, dtype=z.dtype, requires_grad=True)
        rate = min(0.1, 2 / z.square().sum(1).mean().item())
        for _ in range(learner.steps):
            loss = F.cross_entropy(z @ w + b, y) + learner.decay / 2 * (w.square().sum() + b.square().sum())
            slope_w, slope_b = torch.autograd.grad(loss, (w, b), create_graph=True)
            w, b = w - rate * slope_w, b - rate * slope_b
        return zq @ w + b

    return head


def baseline_plus(learner: Any) -> Head:
    def head(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        z, zq = unit(z), unit(zq)
        if learner.center:
            middle = torch.stack([*means(z, y, ways)]).mean(0)
            z, zq = z - middle, zq - middle
        w = means(unit(z), y, ways)
        if not w.requires_grad:
            w.requires_grad_()
        for _ in range(learner.steps):
            loss = F.cross_entropy(learner.scale * unit(z) @ unit(w).T, y)
            w = w - learner.rate * torch.autograd.grad(loss, w, create_graph=True)[0]
        return learner.scale * unit(zq) @ unit(w).T

    return head


def simpleshot(learner: Any) -> Head:
    mean = learner.mean.clone()

    def head(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        return -learner.scale * distances(unit(zq - mean), means(unit(z - mean), y, ways))

    return head


def soft_kmeans(learner: Any) -> Head:
    def head(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        c = means(z, y, ways)
        for _ in range(learner.steps):
            share = (-distances(zq, c)).softmax(1)
            rows = []
            for n in range(ways):
                top = z[y == n].sum(0) + sum(share[j, n] * zq[j] for j in range(len(zq)))
                rows.append(top / ((y == n).sum() + share[:, n].sum()))
            c = torch.stack(rows)
        return -distances(zq, c)

    return head


def tim(learner: Any) -> Head:
    tau, lam, alpha = learner.temperature, learner.supervised, learner.conditional

    def objective(w: Tensor, z: Tensor, y: Tensor, zq: Tensor) -> Tensor:
        p = (-tau / 2 * distances(zq, w)).softmax(1)
        marginal = p.mean(0)
        entropy, conditional = -(marginal * marginal.log()).sum(), -(p * p.log()).sum(1).mean()
        return lam * F.cross_entropy(-tau / 2 * distances(z, w), y) - (entropy - alpha * conditional)

    def head(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        z, zq = unit(z), unit(zq)
        w = means(z, y, ways)
        for _ in range(learner.steps):
            if learner.method == "gd":
                (slope,) = torch.autograd.grad(objective(w, z, y, zq), w, create_graph=True)
                w = w - learner.rate * slope
                continue
            p, ps = (-tau / 2 * distances(zq, w)).softmax(1), (-tau / 2 * distances(z, w)).softmax(1)
            q = p ** (1 + alpha) / (p ** (1 + alpha)).sum(0).sqrt()
            q = q / q.sum(1, keepdim=True)
            rows = []
            for k in range(ways):
                own = sum((y[i] == k).to(z.dtype) * z[i] + ps[i, k] * (w[k] - z[i]) for i in range(len(z)))
                asked = sum(q[i, k] * zq[i] + p[i, k] * (w[k] - zq[i]) for i in range(len(zq)))
                a, b = lam / (1 + alpha), len(z) / len(zq)
                rows.append((a * own + b * asked) / (a * int((y == k).sum()) + b * q[:, k].sum()))
            w = torch.stack(rows)
        return -tau / 2 * distances(zq, w)

    return head


def rectified(
    z: Tensor, y: Tensor, ways: int, zq: Tensor, scale: float, *, shares: bool = False
) -> tuple[Tensor, Tensor]:
    """Prototypes and moved queries."""
    zq = zq + z.mean(0) - zq.mean(0)
    c = means(z, y, ways)
    guess = torch.stack([torch.stack([cosine(query, row) for row in c]).argmax() for query in zq])
    every, labels = torch.cat([z, zq]), torch.cat([y, guess])
    rows = []
    for k in range(ways):
        mine = every[labels == k]
        weight = torch.stack([torch.stack([scale * cosine(one, row) for row in c]).exp() for one in mine])  # [S, N]
        weight = weight[:, k] / weight.sum(1) if shares else weight[:, k]
        rows.append(weight @ mine / weight.sum())
    return torch.stack(rows), zq


def laplacianshot(learner: Any) -> Head:
    def head(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        z, zq = unit(z), unit(zq)
        c = means(z, y, ways)
        if learner.rectify:
            c, zq = rectified(z, y, ways, zq, 10.0, shares=True)
        a = distances(zq, c)
        share = (-a).softmax(1)
        between = distances(zq, zq).detach()
        logits = -a
        for _ in range(learner.steps):
            rows = []
            for i in range(len(zq)):
                others = [j for j in between[i].argsort().tolist() if j != i][: learner.neighbors]
                rows.append(-a[i] + learner.strength * sum(share[j] for j in others))
            logits = torch.stack(rows)
            share = logits.softmax(1)
        return logits

    return head


def pt_map(learner: Any) -> Head:
    def transformed(z: Tensor) -> Tensor:
        return unit(z.sign() * ((z.abs() + 1e-6).pow(learner.power) - math.pow(1e-6, learner.power)))

    def plan(zq: Tensor, c: Tensor) -> Tensor:
        p = (-learner.regularity * distances(zq, c)).exp()
        for _ in range(400):
            p = p / p.sum(1, keepdim=True)
            p = p / p.sum(0) * (len(zq) / len(c))
        return p

    def head(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        z, zq = transformed(z), transformed(zq)
        z, zq = unit(z - z.mean(0)), unit(zq - zq.mean(0))
        c = means(z, y, ways)
        for _ in range(learner.steps):
            p = plan(zq, c)
            best = torch.stack(
                [(z[y == k].sum(0) + p[:, k] @ zq) / ((y == k).sum() + p[:, k].sum()) for k in range(ways)]
            )
            c = c + learner.rate * (best - c)
        return plan(zq, c).log()

    return head


def bd_cspn(learner: Any) -> Head:
    def head(z: Tensor, y: Tensor, ways: int, zq: Tensor) -> Tensor:
        c, moved = rectified(unit(z), y, ways, unit(zq), learner.scale)
        return learner.scale * unit(moved) @ unit(c).T

    return head
