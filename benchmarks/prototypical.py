"""How long does a training step of prototypical networks take: forward, loss, backward and Adam?

A Conv4 with 64 filters, max-pooling and running statistics, on one task: Omniglot 60-way 1-shot with 5 queries (360
pictures of 28×28, as in the paper) and mini-ImageNet 5-way 1-shot with 15 queries (80 pictures of 84×84).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from handful import Episode, Query, Support
from handful.learners import PrototypicalNetwork

from . import peers
from .common import OURS, Contender, Place, Work
from .networks import StandardConv4, conv4, copy_weights, gradients


@dataclass(frozen=True, kw_only=True)
class Metric(Work):
    """One task a step."""

    channels: int
    side: int
    filters: int = 64
    ways: int
    shots: int = 1
    queries: int


APART = (
    "it embeds support and queries apart and takes the distance, not its square, so the step is not quite the same; "
    "gradients agree in evaluation mode and with the distance squared"
)
WORKS: tuple[Work, ...] = (
    Metric(
        name="prototypical-omniglot-60w1s",
        title="Omniglot 60-way 1-shot, 5 queries",
        peers=("learn2learn", "easyfsl"),
        notes=(("easyfsl", APART),),
        channels=1,
        side=28,
        ways=60,
        queries=5,
    ),
    Metric(
        name="prototypical-mini-imagenet-5w1s",
        title="mini-ImageNet 5-way 1-shot, 15 queries",
        peers=("learn2learn", "easyfsl"),
        notes=(("easyfsl", APART),),
        channels=3,
        side=84,
        ways=5,
        queries=15,
    ),
)


def contender(work: Metric, who: str, place: Place) -> Contender:
    """Ours or a peer, with the same weights and task."""
    torch.manual_seed(0)
    reference = StandardConv4(work.channels, work.filters, work.side, outputs=None, estimates=True)
    task = made_up(work, place)
    network, loss = LOSSES[who](work, reference, task, place)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with place.casting():
            value = loss()
        value.backward()
        optimizer.step()

    def answer() -> Mapping[str, Tensor]:
        found = {}
        for training in (False, True):  # training moves the running estimates
            network.train(training).zero_grad(set_to_none=True)
            with peers.squared_distances() if who == "easyfsl" else nullcontext():
                loss().backward()
            if not (training and who == "easyfsl"):
                found |= {f"{name}, training {training}": leaf for name, leaf in gradients(network).items()}
        return found

    return Contender(step, answer)


Loss = tuple[nn.Module, Callable[[], Tensor]]


def _ours(work: Metric, reference: nn.Module, task: peers.Tasks, place: Place) -> Loss:
    learner = PrototypicalNetwork(conv4(work.channels, work.filters, work.side, batch_statistics=False))
    copy_weights(reference, learner)
    learner.to(place.device, place.dtype)
    support_x, support_y, query_x, query_y = (leaf.unsqueeze(0) for leaf in task)
    episode = Episode(Support(support_x, support_y, work.ways), Query(query_x, query_y))
    if place.compiled:
        learner.encoder = torch.compile(learner.encoder)
    return learner, lambda: learner.loss(episode)


def _learn2learn(work: Metric, reference: nn.Module, task: peers.Tasks, place: Place) -> Loss:
    network = peers.learn2learn_backbone(work.channels, work.filters)
    copy_weights(reference, network)
    network = _placed(network, place)
    return network, peers.learn2learn_prototypical(network, task)


def _easyfsl(work: Metric, reference: nn.Module, task: peers.Tasks, place: Place) -> Loss:
    network = _placed(reference, place)
    return network, peers.easyfsl_prototypical(network, task)


def _plain(work: Metric, reference: nn.Module, task: peers.Tasks, place: Place) -> Loss:
    network = _placed(reference, place)

    def loss() -> Tensor:
        z = network(torch.cat([task.support_x, task.query_x]))
        support, query = z.split([len(task.support_x), len(task.query_x)])
        prototypes = support.view(work.shots, work.ways, -1).mean(
            0
        )  # in `made_up`'s order; a mask would wait for a GPU
        return F.cross_entropy(-(query.unsqueeze(1) - prototypes).square().sum(2), task.query_y)

    return network, loss


LOSSES = {OURS: _ours, "learn2learn": _learn2learn, "easyfsl": _easyfsl, "plain": _plain}


def _placed(network: nn.Module, place: Place) -> nn.Module:
    network = network.to(place.device, place.dtype)
    return torch.compile(network) if place.compiled else network


def made_up(work: Metric, place: Place) -> peers.Tasks:
    """A task of random pictures, always the same."""
    random = torch.Generator().manual_seed(1)

    def side(each: int) -> tuple[Tensor, Tensor]:
        shape = (work.ways * each, work.channels, work.side, work.side)
        x = torch.randn(shape, generator=random, dtype=torch.float64).to(place.device, place.dtype)
        return x, torch.arange(work.ways, device=place.device).repeat(each)

    return peers.Tasks(*side(work.shots), *side(work.queries))


def checked(work: Metric) -> Metric:
    """The work on which gradients are compared: all of it."""
    return work


def flops(work: Metric) -> float:
    """Of the plain step."""
    step = contender(work, "plain", Place()).step
    with FlopCounterMode(display=False) as counter:
        step()
    return float(counter.get_total_flops())


def tiny(work: Metric) -> Metric:
    """For a test that only wants to see it run."""
    return replace(work, side=16, filters=8, ways=3, queries=2)
