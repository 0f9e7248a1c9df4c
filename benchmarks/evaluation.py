"""How long does an evaluation of 1,000 or 10,000 tasks take, of a learner that does not adapt its encoder?

A prototypical Conv4 with 64 filters on pictures of mini-ImageNet's test shape (20 classes of 600 × 3×84×84 bytes, made
up), 5-way 1-shot with 15 queries a class. `evaluate` embeds each of the 12,000 pictures once, whatever the number of
tasks; a peer embeds every task's 80 pictures anew.

Either would take minutes, so both are timed on a part: three tasks of a peer, which are 240 pictures; of ours the
embedding of as many pictures, and answering *all* tasks from features. The seconds are computed from that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from handful.data import ClassPool, Episodes
from handful.evaluation import evaluate
from handful.learners import PrototypicalNetwork

from . import peers
from .common import OURS, Contender, Place, Work
from .networks import StandardConv4, conv4, copy_weights

ALLOCATORS = ("default",)
SAMPLE = 3  # tasks of a peer, a turn
WAYS, QUERIES, CLASSES = 5, 15, 20


@dataclass(frozen=True, kw_only=True)
class Scoring(Work):
    """So many tasks."""

    tasks: int
    count: int = 600
    side: int = 84
    filters: int = 64


SCALED = "computed: timed on 3 tasks, and ours on as many pictures (answering all tasks was timed whole)"
WORKS: tuple[Work, ...] = tuple(
    Scoring(
        name=f"evaluation-{tasks}-tasks",
        title=f"mini-ImageNet 5-way 1-shot, {tasks:,} tasks",
        peers=("learn2learn", "easyfsl"),
        notes=(("learn2learn", SCALED), ("easyfsl", SCALED)),
        tasks=tasks,
    )
    for tasks in (1000, 10_000)
)


def contender(work: Scoring, who: str, place: Place) -> Contender:
    """Ours or a peer, with the same weights, pictures and tasks."""
    torch.manual_seed(0)
    reference = StandardConv4(3, work.filters, work.side, outputs=None, estimates=True)
    if who != OURS:
        return _peer(work, who, reference.eval().to(place.dtype), place)
    learner = PrototypicalNetwork(conv4(3, work.filters, work.side, batch_statistics=False)).eval()
    copy_weights(reference, learner)
    pool = pictures(work, SAMPLE * WAYS * (1 + QUERIES) // CLASSES)
    rows = pool.rows()
    features = torch.randn(CLASSES * work.count, learner.encoder.out_features)
    answering = PrototypicalNetwork(nn.Identity()).eval()
    tasks = episodes(_pool(features, work.count), batch=20)

    def step() -> float:
        began = time.perf_counter()
        with torch.no_grad():
            learner.embed(pool.gather(rows).unsqueeze(0))
        embedding = (time.perf_counter() - began) * CLASSES * work.count / len(rows)
        return embedding + evaluate(answering, tasks, tasks=work.tasks).seconds

    def answer() -> Mapping[str, Tensor]:
        small = pictures(work, 1 + QUERIES)
        learner.to(place.dtype)
        return {"scores": torch.from_numpy(evaluate(learner, _cast(small, place), tasks=SAMPLE).values)}

    return Contender(step, answer)


def _peer(work: Scoring, who: str, network: nn.Module, place: Place) -> Contender:
    """Each task's pictures through the network, as the peer does it."""
    few = _cast(pictures(work, 1 + QUERIES), place)
    given = [few[t] for t in range(SAMPLE)]
    classify = CLASSIFIERS[who](network)

    @torch.no_grad()
    def step() -> float:
        began = time.perf_counter()
        for episode in given:
            classify(episode.support.x[0], episode.support.y[0], episode.query.x[0])
        return (time.perf_counter() - began) / SAMPLE * work.tasks

    @torch.no_grad()
    def answer() -> Mapping[str, Tensor]:
        found = []
        for episode in given:
            logits = classify(episode.support.x[0], episode.support.y[0], episode.query.x[0])
            found.append((logits.argmax(1) == episode.query.y[0]).float().mean())
        return {"scores": torch.stack(found)}

    return Contender(step, answer)


Classify = Callable[[Tensor, Tensor, Tensor], Tensor]


def _learn2learn(network: nn.Module) -> Classify:
    peers.load("learn2learn")
    from learn2learn.nn import PrototypicalClassifier

    classifier = PrototypicalClassifier()

    def classify(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        z = network(torch.cat([support_x, query_x]))
        classifier.fit_(z[: len(support_x)], support_y)
        logits: Tensor = classifier(z[len(support_x) :])
        return logits

    return classify


def _easyfsl(network: nn.Module) -> Classify:
    model = peers.load_easyfsl_methods().PrototypicalNetworks(network).eval()

    def classify(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        model.process_support_set(support_x, support_y)
        logits: Tensor = model(query_x)
        return logits

    return classify


def _plain(network: nn.Module) -> Classify:
    def classify(support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        z = network(support_x)
        prototypes = torch.stack([z[support_y == label].mean(0) for label in range(WAYS)])
        return -torch.cdist(network(query_x), prototypes)

    return classify


CLASSIFIERS: dict[str, Callable[[nn.Module], Classify]] = {
    "learn2learn": _learn2learn,
    "easyfsl": _easyfsl,
    "plain": _plain,
}


def pictures(work: Scoring, count: int) -> ClassPool:
    """So many random pictures a class, always the same."""
    shape = (CLASSES * count, 3, work.side, work.side)
    return _pool(torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)), count)


def episodes(pool: ClassPool, batch: int) -> Episodes:
    """The tasks."""
    return Episodes(pool, ways=WAYS, shots=1, queries=QUERIES, batch=batch, seed=2)


def _pool(x: Tensor, count: int) -> ClassPool:
    return ClassPool.grouped(x, [count] * CLASSES, [str(index) for index in range(CLASSES)])


def _cast(pool: ClassPool, place: Place) -> Episodes:
    """Tasks of floats in the precision of the place."""
    return episodes(_pool(pool.gather(pool.rows()).to(place.dtype), int(pool.counts[0])), batch=1)


def checked(work: Scoring) -> Scoring:
    """The work on which scores are compared: a narrow network (and three tasks, whatever is asked)."""
    return replace(work, filters=8)


def flops(work: Scoring) -> float:
    """Of embedding each picture once."""
    network = StandardConv4(3, work.filters, work.side, outputs=None, estimates=True).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.randn(1, 3, work.side, work.side))
    return float(counter.get_total_flops() * CLASSES * work.count)


def tiny(work: Scoring) -> Scoring:
    """For a test that only wants to see it run."""
    return replace(work, tasks=work.tasks // 50, count=20, side=16, filters=8)
