"""How long does a step take: the meta-gradient of a batch of tasks, by MAML of second and first order, ANIL, Reptile?

The published settings of Omniglot (28×28, 64 filters) and mini-ImageNet (84×84, 32 filters), a Conv4 with max-pooling
and batch statistics. A step computes the mean gradient of all tasks and leaves the update out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from handful import Episode, Query, Support
from handful.gradient_learner import GradientLearner
from handful.learners import ANIL, MAML, Reptile

from . import peers
from .common import OURS, Contender, Place, Work
from .networks import SmallResNet, SmallTransformer, StandardConv4, conv4, copy_weights, gradients


@dataclass(frozen=True, kw_only=True)
class Training(Work):
    """A batch of tasks and the inner loop."""

    compiles = False
    channels: int
    side: int
    filters: int
    ways: int
    shots: int
    queries: int
    tasks: int
    steps: int
    rate: float
    method: str = "maml"
    first_order: bool = False
    network: str = "conv4"


LIBRARIES = ("learn2learn", "higher", "torchopt")
OMNIGLOT = {"channels": 1, "side": 28, "filters": 64, "shots": 1, "queries": 1}
MINI = {"channels": 3, "side": 84, "filters": 32, "ways": 5, "queries": 15, "tasks": 4, "steps": 5, "rate": 0.01}
SETTINGS = {
    "mini-imagenet-5w1s": ("mini-ImageNet 5-way 1-shot, 4 tasks × 5 steps", MINI | {"shots": 1}),
    "mini-imagenet-5w5s": ("mini-ImageNet 5-way 5-shot, 4 tasks × 5 steps", MINI | {"shots": 5}),
    "omniglot-5w1s": (
        "Omniglot 5-way 1-shot, 32 tasks × 1 step",
        OMNIGLOT | {"ways": 5, "tasks": 32, "steps": 1, "rate": 0.4},
    ),
    "omniglot-20w1s": (
        "Omniglot 20-way 1-shot, 16 tasks × 5 steps",
        OMNIGLOT | {"ways": 20, "tasks": 16, "steps": 5, "rate": 0.1},
    ),
}


def training(name: str, order: str, /, **changes: object) -> Training:
    """One of the settings, of one order, with some sizes changed."""
    title, sizes = SETTINGS[name]
    first = order == "first"
    libraries = LIBRARIES[:2] if first else LIBRARIES  # torchopt has no first order
    work = Training(
        name=f"maml-{order}-order-{name}",
        title=f"{title}, {order} order",
        peers=libraries,
        first_order=first,
        **sizes,
    )
    return replace(work, **changes)


def relative(name: str, method: str) -> Training:
    """One of the settings, by ANIL or Reptile; Reptile trains on supports and queries together, by plain descent."""
    title, sizes = SETTINGS[name]
    words = {"anil": "ANIL", "reptile": "Reptile"}[method]
    return Training(name=f"{method}-{name}", title=f"{title}, {words}", peers=("learn2learn",), method=method, **sizes)


WORKS: tuple[Work, ...] = (
    *(training(name, order) for order in ("second", "first") for name in SETTINGS),
    *(relative(name, method) for method in ("anil", "reptile") for name in ("mini-imagenet-5w1s", "omniglot-20w1s")),
)


def contender(work: Training, who: str, place: Place) -> Contender:
    """Ours or a peer, with the same weights and tasks."""
    network, tasks = standard(work).to(place.device, place.dtype), made_up(work, place)
    if who == OURS:
        learner = ours(work, network).to(place.device, place.dtype)
        episode = Episode(Support(tasks.support_x, tasks.support_y, work.ways), Query(tasks.query_x, tasks.query_y))

        def run() -> None:
            learner.zero_grad(set_to_none=True)
            learner.loss(episode).backward()

        network = learner.model
    else:
        step_of = peers.STEPS[work.method][who]
        run = step_of(network, tasks, peers.Descent(work.steps, work.rate, work.first_order))

    def step() -> None:
        with place.casting():
            run()

    def answer() -> Mapping[str, Tensor]:
        step()
        return gradients(network)

    return Contender(step, answer)


def ours(work: Training, network: nn.Module) -> GradientLearner:
    """Handful's learner: around its own Conv4 with these weights, or around the network as it is."""
    inner = {"inner_rate": work.rate, "inner_steps": work.steps}
    if work.network != "conv4":
        return MAML(network, first_order=work.first_order, **inner)
    encoder = conv4(work.channels, work.filters, work.side, batch_statistics=True)
    learner: GradientLearner
    if work.method == "maml":
        learner = MAML(encoder, outputs=work.ways, first_order=work.first_order, **inner)
    elif work.method == "anil":
        learner = ANIL(encoder, outputs=work.ways, **inner)
    else:
        learner = Reptile(encoder, outputs=work.ways, optimizer={"name": "sgd"}, **inner)
    copy_weights(network, learner.model)
    return learner


def standard(work: Training) -> nn.Module:
    """The network as users of the peers write it, always with the same weights."""
    torch.manual_seed(0)
    if work.network == "resnet":
        return SmallResNet(work.channels, work.filters, work.ways)
    if work.network == "transformer":
        return SmallTransformer(work.channels, work.side, work.filters, work.ways)
    return StandardConv4(work.channels, work.filters, work.side, outputs=work.ways, estimates=False)


def made_up(work: Training, place: Place) -> peers.Tasks:
    """Random pictures, always the same."""
    random = torch.Generator().manual_seed(1)

    def side(each: int) -> tuple[Tensor, Tensor]:
        shape = (work.tasks, work.ways * each, work.channels, work.side, work.side)
        x = torch.randn(shape, generator=random, dtype=torch.float64).to(place.device, place.dtype)
        return x, torch.arange(work.ways, device=place.device).repeat(each).expand(work.tasks, -1).contiguous()

    return peers.Tasks(*side(work.shots), *side(work.queries))


def checked(work: Training) -> Training:
    """The work on which gradients are compared: two tasks of the batch, at most three queries a class."""
    return replace(work, tasks=min(work.tasks, 2), queries=min(work.queries, 3))


def flops(work: Training) -> float:
    """Of a plain loop over one task, times the tasks."""
    one = replace(work, tasks=1)
    step = contender(one, "plain", Place()).step
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops() * work.tasks)


def tiny(work: Training) -> Training:
    """For a test that only wants to see it run."""
    return replace(
        work,
        side=16 if work.network != "transformer" else 14,
        filters=8,
        ways=2,
        tasks=2,
        steps=min(work.steps, 2),
        queries=2,
    )
