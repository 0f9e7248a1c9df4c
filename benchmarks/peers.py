"""The peers, each called as its own documentation shows.

What they need to be importable is done here, once, and said:

- learn2learn imports torchvision for its data sets, easyfsl for its networks and its data sets; nothing measured here
  uses it. Where torchvision cannot be imported, an empty stand-in takes its place.
- easyfsl 1.5.0 gives torch's `Sampler` an argument that torch no longer takes; the argument is dropped.
"""

from __future__ import annotations

import copy
import importlib
import importlib.abc
import importlib.machinery
import io
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Tasks(NamedTuple):
    """B tasks: [B, S, *shape], [B, S], [B, Q, *shape], [B, Q]."""

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


class Descent(NamedTuple):
    """The inner loop."""

    steps: int
    rate: float
    first_order: bool


Step = Callable[[], None]


def load(name: str) -> Any:
    """The peer's package."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # gym, which learn2learn imports, prints a notice
        warnings.simplefilter("ignore")
        if name in ("learn2learn", "easyfsl"):
            _stand_in_for_torchvision()
        if name == "easyfsl":
            torch.utils.data.Sampler.__init__ = _sampler_init
        return importlib.import_module(name)


# --- second- and first-order MAML: each leaves the mean gradient in the network's parameters


def learn2learn_maml(network: nn.Module, tasks: Tasks, descent: Descent) -> Step:
    maml = load("learn2learn").algorithms.MAML(network, lr=descent.rate, first_order=descent.first_order)

    def step() -> None:
        maml.zero_grad(set_to_none=True)
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            learner = maml.clone()
            for _ in range(descent.steps):
                learner.adapt(F.cross_entropy(learner(support_x), support_y))
            F.cross_entropy(learner(query_x), query_y).backward()
        _divide(network, len(tasks.support_x))

    return step


def higher_maml(network: nn.Module, tasks: Tasks, descent: Descent) -> Step:
    higher = load("higher")
    optimizer = torch.optim.SGD(network.parameters(), lr=descent.rate)
    exact = not descent.first_order

    def step() -> None:
        network.zero_grad(set_to_none=True)
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            with higher.innerloop_ctx(network, optimizer, copy_initial_weights=False, track_higher_grads=exact) as (
                learner,
                inner,
            ):
                for _ in range(descent.steps):
                    inner.step(F.cross_entropy(learner(support_x), support_y))
                loss = F.cross_entropy(learner(query_x), query_y)
                if exact:
                    loss.backward()
                else:
                    _accumulate(network, torch.autograd.grad(loss, list(learner.parameters())))
        _divide(network, len(tasks.support_x))

    return step


def torchopt_maml(network: nn.Module, tasks: Tasks, descent: Descent) -> Step:
    if descent.first_order:
        raise NotImplementedError("torchopt's differentiable optimizers are of second order only")
    torchopt = load("torchopt")
    inner = torchopt.MetaSGD(network, lr=descent.rate)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        start = torchopt.extract_state_dict(network, by="reference", detach_buffers=True)
        fresh = torchopt.extract_state_dict(inner, by="reference")
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            for _ in range(descent.steps):
                inner.step(F.cross_entropy(network(support_x), support_y))
            F.cross_entropy(network(query_x), query_y).backward()
            torchopt.recover_state_dict(network, start)
            torchopt.recover_state_dict(inner, fresh)
        _divide(network, len(tasks.support_x))

    return step


def plain_maml(network: nn.Module, tasks: Tasks, descent: Descent) -> Step:
    """No library: torch's `functional_call` in a loop."""
    names, start = zip(*network.named_parameters(), strict=True)

    def answer(theta: Sequence[Tensor], x: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(network, dict(zip(names, theta, strict=True)), (x,))
        return output

    def step() -> None:
        network.zero_grad(set_to_none=True)
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            theta: list[Tensor] = list(start)
            for _ in range(descent.steps):
                loss = F.cross_entropy(answer(theta, support_x), support_y)
                found = torch.autograd.grad(loss, theta, create_graph=not descent.first_order)
                theta = [p - descent.rate * g for p, g in zip(theta, found, strict=True)]
            F.cross_entropy(answer(theta, query_x), query_y).backward()
        _divide(network, len(tasks.support_x))

    return step


# --- ANIL and Reptile, as learn2learn's examples have them; `network` is a body of blocks with a linear head at its end


def learn2learn_anil(network: nn.Sequential, tasks: Tasks, descent: Descent) -> Step:
    """The head alone is wrapped, and adapted on features."""
    body, head = nn.Sequential(*list(network)[:-1]), network[-1]
    maml = load("learn2learn").algorithms.MAML(head, lr=descent.rate)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            learner, support, query = maml.clone(), body(support_x), body(query_x)
            for _ in range(descent.steps):
                learner.adapt(F.cross_entropy(learner(support), support_y))
            F.cross_entropy(learner(query), query_y).backward()
        _divide(network, len(tasks.support_x))

    return step


def plain_reptile(network: nn.Module, tasks: Tasks, descent: Descent) -> Step:
    """A deep copy for each task, torch's optimizer, and what it moved: the example does it without the library."""

    def step() -> None:
        network.zero_grad(set_to_none=True)
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            learner, x, y = copy.deepcopy(network), torch.cat([support_x, query_x]), torch.cat([support_y, query_y])
            optimizer = torch.optim.SGD(learner.parameters(), lr=descent.rate)
            for _ in range(descent.steps):
                optimizer.zero_grad()
                F.cross_entropy(learner(x), y).backward()
                optimizer.step()
            with torch.no_grad():
                moved = [p - q for p, q in zip(network.parameters(), learner.parameters(), strict=True)]
            _accumulate(network, moved)
        _divide(network, len(tasks.support_x))

    return step


def plain_anil(network: nn.Sequential, tasks: Tasks, descent: Descent) -> Step:
    """No library."""
    body, head = nn.Sequential(*list(network)[:-1]), network[-1]

    def step() -> None:
        network.zero_grad(set_to_none=True)
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            support, query, weight, bias = body(support_x), body(query_x), head.weight, head.bias
            for _ in range(descent.steps):
                loss = F.cross_entropy(F.linear(support, weight, bias), support_y)
                found = torch.autograd.grad(loss, (weight, bias), create_graph=True)
                weight, bias = weight - descent.rate * found[0], bias - descent.rate * found[1]
            F.cross_entropy(F.linear(query, weight, bias), query_y).backward()
        _divide(network, len(tasks.support_x))

    return step


STEPS: dict[str, dict[str, Callable[[Any, Tasks, Descent], Step]]] = {
    "maml": {"learn2learn": learn2learn_maml, "higher": higher_maml, "torchopt": torchopt_maml, "plain": plain_maml},
    "anil": {"learn2learn": learn2learn_anil, "plain": plain_anil},
    "reptile": {"learn2learn": plain_reptile, "plain": plain_reptile},
}


def _divide(network: nn.Module, tasks: int) -> None:
    for parameter in network.parameters():
        if parameter.grad is not None:
            parameter.grad.div_(tasks)


def _accumulate(network: nn.Module, found: Sequence[Tensor]) -> None:
    for parameter, gradient in zip(network.parameters(), found, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


# --- prototypical networks: each gives a function that computes the loss of the task


def learn2learn_backbone(channels: int, filters: int) -> nn.Module:
    """Its own Conv4."""
    load("learn2learn")
    network: nn.Module = importlib.import_module("learn2learn.vision.models").CNN4Backbone(
        hidden_size=filters, channels=channels, max_pool=True
    )
    return network


def learn2learn_prototypical(network: nn.Module, task: Tasks) -> Callable[[], Tensor]:
    """As its LightningPrototypicalNetworks: support and queries embedded together, then its classifier."""
    load("learn2learn")
    classifier = importlib.import_module("learn2learn.nn").PrototypicalClassifier()

    def loss() -> Tensor:
        z = network(torch.cat([task.support_x, task.query_x]))
        support, query = z[: len(task.support_x)], z[len(task.support_x) :]
        classifier.fit_(support, task.support_y)
        return F.cross_entropy(classifier(query), task.query_y)

    return loss


def easyfsl_prototypical(network: nn.Module, task: Tasks) -> Callable[[], Tensor]:
    """As its training notebook: the support is processed, then the queries are classified."""
    model = load_easyfsl_methods().PrototypicalNetworks(network)

    def loss() -> Tensor:
        model.process_support_set(task.support_x, task.support_y)
        return F.cross_entropy(model(task.query_x), task.query_y)

    return loss


def load_easyfsl_methods() -> Any:
    """Its classifiers."""
    load("easyfsl")
    return importlib.import_module("easyfsl.methods")


@contextmanager
def squared_distances() -> Iterator[None]:
    """easyfsl with the distance squared, as in the paper, so that gradients can be compared."""
    classifier = load_easyfsl_methods().FewShotClassifier
    shipped = classifier.l2_distance_to_prototypes

    def squared(self: Any, samples: Tensor) -> Tensor:
        return -(samples.unsqueeze(1) - self.prototypes).square().sum(2)

    classifier.l2_distance_to_prototypes = squared
    try:
        yield
    finally:
        classifier.l2_distance_to_prototypes = shipped


# --- episodes out of memory: each gives a function that makes one


def learn2learn_episodes(x: Tensor, y: Tensor, ways: int, each: int) -> Callable[[], Any]:
    """A TaskDataset without end, with its fused sampling transform."""
    load("learn2learn")
    data = importlib.import_module("learn2learn.data")
    transforms = importlib.import_module("learn2learn.data.transforms")
    pictures = data.MetaDataset(torch.utils.data.TensorDataset(x, y))
    chain = [
        transforms.FusedNWaysKShots(pictures, n=ways, k=each),
        transforms.LoadData(pictures),
        transforms.RemapLabels(pictures),
        transforms.ConsecutiveLabels(pictures),
    ]
    tasks = data.TaskDataset(pictures, chain, num_tasks=-1)
    sample: Callable[[], Any] = tasks.sample
    return sample


def easyfsl_episodes(x: Tensor, y: Tensor, ways: int, shots: int, queries: int) -> Callable[[], Any]:
    """A TaskSampler in a DataLoader without workers."""
    load("easyfsl")
    base: type = importlib.import_module("easyfsl.datasets").FewShotDataset
    sampler_type = importlib.import_module("easyfsl.samplers").TaskSampler

    class Pictures(base):
        def __len__(self) -> int:
            return len(y)

        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            return x[row], int(y[row])

        def get_labels(self) -> list[int]:
            labels: list[int] = y.tolist()
            return labels

    data = Pictures()
    sampler = sampler_type(data, n_way=ways, n_shot=shots, n_query=queries, n_tasks=1_000_000_000)
    loader: Any = torch.utils.data.DataLoader(data, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
    tasks = iter(loader)
    return lambda: next(tasks)


# --- what importing takes


class _Empty(types.ModuleType):
    """A module in which every name is an empty class."""

    __path__: list[str] = []  # noqa: RUF012 - what makes a module a package

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *given, **named: None})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        wanted = name.partition(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if wanted else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def _stand_in_for_torchvision() -> None:
    try:
        importlib.import_module("torchvision")
    except Exception:  # not installed, or built for another torch
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.meta_path.insert(0, _Finder())


def _sampler_init(self: Any, data_source: Any = None) -> None:
    pass
