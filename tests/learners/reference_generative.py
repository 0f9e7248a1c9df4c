"""Generative learners as plainly as they can be written: one task, sample or particle after the other.

They share with the library the modules they are given, and the noise, which is a learner's own.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from reference import Named, task_loss
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.func import functional_call

from handful.encoders.normalization import adapting
from handful.episode import Episode
from handful.learners import PLATIPUS, BayesianMAML, MetaGAN, MetaGANRelation

Batch = tuple[Tensor, Tensor]


def rows(episode: Episode, task: int) -> tuple[Batch, Batch]:
    """Support and queries of one task."""
    support, query = episode.support, episode.query
    assert isinstance(support.x, Tensor)
    assert isinstance(query.x, Tensor)
    return (support.x[task], support.y[task]), (query.x[task], query.y[task])


def slopes(model: torch.nn.Module, theta: Named, buffers: Named, batch: Batch, step: int = 0) -> Named:
    """∇L(θ) of one task."""
    with adapting(step):
        loss = task_loss(functional_call(model, {**theta, **buffers}, (batch[0],)), batch[1])
    return dict(zip(theta, torch.autograd.grad(loss, list(theta.values()), create_graph=True), strict=True))


def output(model: torch.nn.Module, theta: Named, buffers: Named, x: Tensor, step: int) -> Tensor:
    """Logits of one task."""
    with adapting(step):
        return functional_call(model, {**theta, **buffers}, (x,))


def platipus(learner: PLATIPUS, episode: Episode) -> tuple[Tensor, Tensor]:
    """The bound, and the logarithm of the mean probability of the samples [B, Q, N]."""
    model, names = learner.model, learner.adapted
    mu = dict(model.named_parameters())
    gamma_p, gamma_q, log_sigma2, log_v = (
        dict(zip(names, leaves, strict=True))
        for leaves in (learner.gamma_p, learner.gamma_q, learner.log_sigma2, learner.log_v)
    )

    def noise(name: str, count: int, moving: bool) -> Tensor:
        return learner.noise.normal("theta", name, shape=(count, *mu[name].shape), like=mu[name], moving=moving)

    def phi(theta: Named, batch: Batch) -> tuple[Named, Named]:
        own = {name: leaf.clone() for name, leaf in model.named_buffers()}
        for step in range(learner.steps):
            g = slopes(model, theta, own, batch, step)
            theta = {name: theta[name] - learner.inner_rate * g[name] for name in names}
        return theta, own

    losses, answers = [], []
    for task in range(episode.tasks):
        support, query = rows(episode, task)
        fresh = {name: leaf.clone() for name, leaf in model.named_buffers()}
        mu_p = {n: mu[n] - gamma_p[n] * g for n, g in slopes(model, mu, fresh, support).items()}
        fresh = {name: leaf.clone() for name, leaf in model.named_buffers()}
        mu_q = {n: mu[n] - gamma_q[n] * g for n, g in slopes(model, mu, fresh, query).items()}
        q = {n: Normal(mu_q[n], (log_v[n] / 2).exp()) for n in names}
        p = {n: Normal(mu_p[n], (log_sigma2[n] / 2).exp()) for n in names}
        divergence = sum(kl_divergence(q[n], p[n]).sum() for n in names)
        count = learner.training_samples
        drawn = {n: noise(n, count, True) for n in names}
        expected = []
        for sample in range(count):
            adapted, own = phi({n: q[n].loc + q[n].scale * drawn[n][sample] for n in names}, support)
            expected.append(task_loss(output(model, adapted, own, query[0], learner.steps), query[1]))
        losses.append(sum(expected) / count + learner.kl_weight * divergence)
        drawn = {n: noise(n, learner.samples, False) for n in names}
        probabilities = []
        for sample in range(learner.samples):
            adapted, own = phi({n: p[n].loc + p[n].scale * drawn[n][sample] for n in names}, support)
            probabilities.append(output(model, adapted, own, query[0], learner.steps).softmax(-1))
        answers.append((sum(probabilities) / learner.samples).log())
    return sum(losses) / len(losses), torch.stack(answers)


def bayesian_maml(learner: BayesianMAML, episode: Episode) -> tuple[Tensor, Tensor]:
    """The loss, and the logarithm of the mean probability of the particles [B, Q, N]."""
    model, names, count = learner.model, learner.adapted, learner.particles
    first = dict(model.named_parameters())
    cloud: list[Named] = [{n: first[n] for n in names}]
    cloud += [{n: other[m] for n, other in zip(names, learner.others, strict=True)} for m in range(count - 1)]

    def distance(a: Named, b: Named) -> Tensor:
        return torch.stack([(a[n] - b[n]).square().sum() for n in names]).sum()

    def moved(particles: list[Named], buffers: list[Named], batch: Batch, steps: range) -> list[Named]:
        for step in steps:
            scores = [slopes(model, theta, own, batch, step) for theta, own in zip(particles, buffers, strict=True)]
            pairs = sorted(distance(a, b) for a, b in itertools.combinations(particles, 2))
            h = pairs[(len(pairs) - 1) // 2] / math.log(count) if pairs else torch.ones(())
            after = []
            for mine in particles:
                new = {}
                for n in names:
                    total = torch.zeros_like(mine[n])
                    for theta, g in zip(particles, scores, strict=True):
                        k = (-distance(theta, mine) / h).exp()
                        total = total - k * g[n] - 2 / h * k * (theta[n] - mine[n])
                    new[n] = mine[n] + learner.inner_rate / count * total
                after.append(new)
            particles = after
        return particles

    losses, answers = [], []
    for task in range(episode.tasks):
        support, query = rows(episode, task)
        buffers = [{name: leaf.clone() for name, leaf in model.named_buffers()} for _ in cloud]
        chaser = moved(cloud, buffers, support, range(learner.steps))
        outputs = [output(model, t, dict(b), query[0], learner.steps) for t, b in zip(chaser, buffers, strict=True)]
        answers.append((sum(o.softmax(-1) for o in outputs) / count).log())
        if learner.objective == "query":
            losses.append(task_loss(answers[-1], query[1]))
            continue
        both = torch.cat([support[0], query[0]]), torch.cat([support[1], query[1]])
        steps = range(learner.steps, learner.steps + learner.leader_steps)
        leader = moved(chaser, buffers, both, steps)
        losses.append(
            torch.stack(
                [distance(a, {n: b[n].detach() for n in names}) for a, b in zip(chaser, leader, strict=True)]
            ).sum()
        )
    return sum(losses) / len(losses), torch.stack(answers)


def judged(logits: Tensor, real: bool) -> Tensor:
    """Mean cost of calling examples real or generated, by a softmax over the N logits and a zero."""
    every = torch.cat([logits, torch.zeros_like(logits[:, :1])], 1).softmax(1)
    return -(every[:, :-1].sum(1) if real else every[:, -1]).log().mean()


def _fakes(learner: MetaGAN | MetaGANRelation, x: Tensor, purpose: str, moving: bool) -> Tensor:
    h = learner.generator.instances(x).mean(0)
    z = learner.noise.normal(purpose, shape=(learner.fakes, learner.generator.latent), like=h, moving=moving)
    return torch.cat([learner.generator.examples(torch.cat([row, h])[None]) for row in z])


def metagan(learner: MetaGAN, episode: Episode) -> tuple[Tensor, Tensor]:
    """L_D + L_G, and logits [B, Q, N]."""
    model = learner.model

    def after(support: Batch, fakes: Tensor | None) -> tuple[Named, Named]:
        own = {name: leaf.clone() for name, leaf in model.named_buffers()}
        theta = dict(model.named_parameters())
        for step in range(learner.steps):
            logits = output(model, theta, own, support[0], step)
            loss = task_loss(logits, support[1])
            if fakes is not None:
                aside = {name: leaf.clone() for name, leaf in own.items()}
                loss = loss + judged(logits, True) + judged(output(model, theta, aside, fakes, step), False)
            g = torch.autograd.grad(loss, list(theta.values()), create_graph=True)
            theta = {name: leaf - learner.inner_rate * s for (name, leaf), s in zip(theta.items(), g, strict=True)}
        return theta, own

    losses, answers = [], []
    for task in range(episode.tasks):
        support, query = rows(episode, task)
        if learner.generator is None:
            theta, own = after(support, None)
            answers.append(output(model, theta, own, query[0], learner.steps))
            losses.append(task_loss(answers[-1], query[1]))
            continue
        theta, own = after(support, _fakes(learner, support[0], "inner", False).detach())
        answers.append(output(model, theta, own, query[0], learner.steps))
        theta, own = after(support, _fakes(learner, support[0], "inner", True).detach())
        logits = output(model, theta, own, query[0], learner.steps)
        fakes = _fakes(learner, support[0], "outer", True)
        seen = output(model, theta, dict(own), fakes.detach(), learner.steps)
        held = output(model, {n: leaf.detach() for n, leaf in theta.items()}, dict(own), fakes, learner.steps)
        losses.append(task_loss(logits, query[1]) + judged(logits, True) + judged(seen, False) + judged(held, True))
    return sum(losses) / len(losses), torch.stack(answers)


def metagan_relation(learner: MetaGANRelation, episode: Episode) -> tuple[Tensor, None]:
    """L_D + L_G. Running statistics of the encoder move as in the loss."""
    assert episode.support.ways is not None
    ways = range(episode.support.ways)

    def scores(z: Tensor, c: Tensor, relation: torch.nn.Module | Named) -> Tensor:
        pairs = torch.stack([torch.stack([torch.cat([row, own]) for own in c]) for row in z])
        if isinstance(relation, dict):
            return functional_call(learner.relation, relation, (pairs,)).squeeze(-1)
        return relation(pairs).squeeze(-1)

    losses = []
    for task in range(episode.tasks):
        support, query = rows(episode, task)
        start = {name: leaf.clone() for name, leaf in learner.encoder.named_buffers()}
        both = functional_call(learner.encoder, dict(start), (torch.cat([support[0], query[0]]),))
        z, zq = both[: len(support[0])], both[len(support[0]) :]
        c = torch.stack([z[support[1] == way].mean(0) for way in ways])
        logits = scores(zq, c, learner.relation)
        loss = F.cross_entropy(logits, query[1])
        if learner.generator is not None:
            fakes = _fakes(learner, support[0], "outer", True)
            seen = functional_call(learner.encoder, {n: leaf.clone() for n, leaf in start.items()}, (fakes.detach(),))
            fixed = {n: leaf.detach() for n, leaf in learner.encoder.named_parameters()}
            held = functional_call(learner.encoder, {**fixed, **start}, (fakes,))
            constant = {n: leaf.detach() for n, leaf in learner.relation.named_parameters()}
            loss = loss + judged(logits, True) + judged(scores(seen, c, learner.relation), False)
            loss = loss + judged(scores(held, c.detach(), constant), True)
        losses.append(loss)
    return torch.stack(losses).mean(), None
