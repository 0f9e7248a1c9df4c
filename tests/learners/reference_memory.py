"""Learners that hear sequences as plainly as they can be written: a task, an example and a number after the other.

Shares nothing with the library but the parameters and the encoder it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handful.encoders.normalization import adapting
from handful.encoders.weight_changes import Hyper, Optimizer, Update
from handful.episode import Episode
from handful.learners import MANN, SNAIL, ConditionalNeuralProcess, LSTMMetaLearner, MetaLSTM

Task = tuple[Tensor, Tensor, Tensor, Tensor]


@contextmanager
def doubles() -> Iterator[None]:
    """New tensors are of double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def features(encoder: nn.Module, episode: Episode, *, together: bool) -> Iterator[Task]:
    """Features and labels of support and queries, one task after the other."""
    assert isinstance(episode.support.x, Tensor)
    for x, y, qx, qy in zip(episode.support.x, episode.support.y, episode.query.x, episode.query.y, strict=True):
        z, zq = encoder(torch.cat([x, qx])).split([len(x), len(qx)]) if together else (encoder(x), encoder(qx))
        yield z, y, zq, qy


def cell(lstm: nn.LSTMCell, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One LSTM step of one example."""
    return step(lstm.weight_ih @ x + lstm.bias_ih + lstm.weight_hh @ h + lstm.bias_hh, c)


def step(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    size = len(c)
    i, f, g, o = (gates[n * size : (n + 1) * size] for n in range(4))
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def over_tasks(encoder: nn.Module, episode: Episode, loss: Callable[..., Tensor], *, together: bool) -> Tensor:
    """The mean over tasks of loss(z, y, zq, qy)."""
    with doubles():
        return torch.stack([loss(*task) for task in features(encoder, episode, together=together)]).mean()


def mann_task(learner: MANN, z: Tensor, y: Tensor, zq: Tensor, qy: Tensor) -> Tensor:
    """Mean loss over all steps: a slot, a head and an example after the other."""
    heads, slots, width = learner.heads, learner.slots, learner.width
    hidden = learner.controller.hidden_size

    def advance(state: tuple, x: Tensor, label: Tensor) -> tuple[tuple, Tensor]:  # type: ignore[type-arg]
        rows, usage, read, r, h, c = state
        h, c = cell(learner.controller, torch.cat([x, label, *r]), h, c)
        keys = [torch.tanh(learner.key(h)[n * width : (n + 1) * width]) for n in range(heads)]
        order = sorted(range(slots), key=lambda slot: float(usage[slot].detach()))[:heads]
        write = []
        for n in range(heads):
            alpha = torch.sigmoid(learner.gate(h)[n])
            write.append([alpha * read[n][slot] + (1 - alpha) * float(slot == order[n]) for slot in range(slots)])
        rows = [torch.zeros(width) if slot in order else row for slot, row in enumerate(rows)]
        rows = [row + sum(write[n][slot] * keys[n] for n in range(heads)) for slot, row in enumerate(rows)]
        read = []
        for key in keys:
            cosine = [(key @ row) / ((key @ key + 1e-8) * (row @ row + 1e-8)).sqrt() for row in rows]
            read.append(torch.stack(cosine).softmax(0))
        usage = [
            learner.decay * usage[slot] + sum(read[n][slot] + write[n][slot] for n in range(heads))
            for slot in range(slots)
        ]
        r = [sum(weight * row for weight, row in zip(weights, rows, strict=True)) for weights in read]
        return (rows, usage, read, r, h, c), learner.output(torch.cat([h, *r]))

    none = torch.zeros(width)
    state: tuple = ([none] * slots, [torch.zeros(())] * slots, [torch.zeros(slots)] * heads, [none] * heads)  # type: ignore[type-arg]
    state = (*state, torch.zeros(hidden), torch.zeros(hidden))
    label, losses = torch.zeros(learner.outputs), []
    for x, k in zip(z, y, strict=True):
        state, output = advance(state, x, label)
        losses.append(F.cross_entropy(output[None], k[None]))
        label = F.one_hot(k, learner.outputs).to(z.dtype)
    for x, k in zip(zq, qy, strict=True):
        losses.append(F.cross_entropy(advance(state, x, label)[1][None], k[None]))
    return torch.stack(losses).mean()


def snail_task(learner: SNAIL, z: Tensor, y: Tensor, zq: Tensor, qy: Tensor) -> Tensor:
    """Mean query loss: every query makes a sequence of its own, computed whole, with attention masked by loops."""
    labels = F.one_hot(y, learner.outputs).to(z.dtype)
    losses = []
    for query, k in zip(zq, qy, strict=True):
        x = torch.cat([torch.cat([z, labels], 1), torch.cat([query, torch.zeros(learner.outputs)])[None]])
        for layer in learner.layers:
            rows = []
            for t in range(len(x)):
                if hasattr(layer, "dilation"):
                    past = x[t - layer.dilation] if t >= layer.dilation else torch.zeros_like(x[t])
                    f, g = layer.convolution(torch.cat([past, x[t]])).chunk(2)
                    rows.append(torch.cat([x[t], torch.tanh(f) * torch.sigmoid(g)]))
                else:
                    width = layer.key.out_features
                    match = torch.stack([layer.query(x[t]) @ layer.key(x[s]) / width**0.5 for s in range(t + 1)])
                    found = sum(share * layer.value(x[s]) for s, share in enumerate(match.softmax(0)))
                    rows.append(torch.cat([x[t], found]))
            x = torch.stack(rows)
        losses.append(F.cross_entropy(learner.output(x[-1])[None], k[None]))
    return torch.stack(losses).mean()


def meta_lstm_task(learner: MetaLSTM, z: Tensor, y: Tensor, zq: Tensor, qy: Tensor) -> Tensor:
    """Mean query loss: gates, ranks and coordinates by explicit matrices."""
    size, meta, first = learner.hidden, learner.meta, learner.weights

    def answers(weights: Tensor, z: Tensor, zq: Tensor) -> Tensor:
        h = c = torch.zeros(size)
        label, m = torch.zeros(learner.outputs), (torch.zeros(0), torch.zeros(0))
        if isinstance(meta, Update | Hyper):
            m = torch.zeros(meta.cell.hidden_size), torch.zeros(meta.cell.hidden_size)
        for x, k in zip(z, y, strict=True):
            if isinstance(meta, Update | Hyper):
                m = cell(meta.cell, torch.cat([x, label, h, c]), *m)
            if isinstance(meta, Update):
                code = meta.z.weight @ m[0]
                change = torch.cat([meta.p[gate] @ torch.diag(code) @ meta.q[gate] for gate in range(4)])
                rho = torch.sigmoid(meta.keep(m[0]))
                weights = rho * weights + (1 - rho) * first + change
            elif isinstance(meta, Hyper):
                code = (meta.z.weight @ m[0]).view(3, 4, -1)
                d_x, d_h, d_b = (
                    torch.cat([codes[g] @ d[g] for g in range(4)]) for codes, d in zip(code, meta.d, strict=True)
                )
                w_x, w_h, b = first[:, : -size - 1], first[:, -size - 1 : -1], first[:, -1]
                rows = [torch.diag(1 + d_x) @ w_x, torch.diag(1 + d_h) @ w_h, (b + d_b)[:, None]]
                weights = torch.cat(rows, 1)
            h, c = step(weights @ torch.cat([x, label, h, torch.ones(1)]), c)
            label = F.one_hot(k, learner.outputs).to(z.dtype)
        out = [step(weights @ torch.cat([query, label, h, torch.ones(1)]), c)[0] for query in zq]
        return learner.output(torch.stack(out))

    weights = first
    if isinstance(meta, Optimizer):
        lower = upper = (torch.zeros(first.numel(), meta.lower.hidden_size),) * 2
        for _ in range(learner.inner_steps):
            own = weights.detach().requires_grad_()
            (g,) = torch.autograd.grad(F.cross_entropy(answers(own, z.detach(), z.detach()), y), own)
            lower = meta.lower(preprocessed(g.flatten()), lower)
            upper = meta.upper(lower[0], upper)
            weights = weights + 0.1 * (upper[0] @ meta.step.weight[0]).view_as(first)
    return F.cross_entropy(answers(weights, z, zq), qy)


def preprocessed(x: Tensor) -> Tensor:
    """Two numbers of each, p = 10."""
    rows = [
        [value.abs().log() / 10, value.sign()]
        if abs(float(value)) >= 2.718281828459045**-10
        else [-1.0, 22026.465794806718 * value]
        for value in x
    ]
    return torch.tensor([[float(a), float(b)] for a, b in rows], dtype=x.dtype)


def process_task(learner: ConditionalNeuralProcess, z: Tensor, y: Tensor, zq: Tensor, qy: Tensor) -> Tensor:
    """Mean query loss: a support after the other, summed up class by class."""
    r = []
    for k in range(learner.outputs):
        code = F.one_hot(torch.tensor(k), learner.outputs).to(z.dtype)
        encoded = [learner.h(torch.cat([x, code])[None])[0] for x, label in zip(z, y, strict=True) if label == k]
        r.append(sum(encoded) / len(encoded))
    logits = [learner.g(torch.cat([query, *r])[None])[0, : learner.outputs] for query in zq]
    return F.cross_entropy(torch.stack(logits), qy)


@doubles()
def lstm_meta_learner(learner: LSTMMetaLearner, episode: Episode) -> tuple[Tensor, Tensor]:
    """Mean query loss and outputs: a task after the other, its model called with tensors of its own."""
    losses, outputs = [], []
    assert isinstance(episode.support.x, Tensor)
    names = list(dict(learner.model.named_parameters()))
    for x, y, qx, qy in zip(episode.support.x, episode.support.y, episode.query.x, episode.query.y, strict=True):
        theta = dict(learner.model.named_parameters())
        buffers = {name: leaf.clone() for name, leaf in learner.model.named_buffers()}
        shapes = [theta[name].shape for name in names]
        sizes = [shape.numel() for shape in shapes]
        flat = torch.cat([theta[name].flatten() for name in names])
        h = c = torch.zeros(len(flat), learner.lstm.hidden_size)
        f = i = torch.zeros(len(flat))
        for number in range(learner.steps):
            own = [
                part.view(shape).detach().requires_grad_()
                for part, shape in zip(flat.split(sizes), shapes, strict=True)
            ]
            rows = list(range(len(x)))
            if learner.support_batch:
                rows = [(number * learner.support_batch + n) % len(x) for n in range(learner.support_batch)]
            with adapting(number):
                output = torch.func.functional_call(
                    learner.model, {**dict(zip(names, own, strict=True)), **buffers}, (x[rows],)
                )
            loss = F.cross_entropy(output, y[rows])
            g = torch.cat([leaf.flatten() for leaf in torch.autograd.grad(loss, own)])
            inputs = torch.cat([preprocessed(loss.detach().expand(len(g))), preprocessed(g)], 1)
            h, c = learner.lstm(inputs, (h, c))
            f, i = (
                torch.cat([h, flat[:, None], before[:, None]], 1) @ gate.weight[0] + gate.bias
                for gate, before in ((learner.forget_gate, f), (learner.input_gate, i))
            )
            flat = torch.sigmoid(f) * flat - torch.sigmoid(i) * g
        last = {name: part.view(shape) for name, part, shape in zip(names, flat.split(sizes), shapes, strict=True)}
        with adapting(learner.steps, 0):
            outputs.append(torch.func.functional_call(learner.model, {**last, **buffers}, (qx,)))
        losses.append(F.cross_entropy(outputs[-1], qy))
    return torch.stack(losses).mean(), torch.stack(outputs)
