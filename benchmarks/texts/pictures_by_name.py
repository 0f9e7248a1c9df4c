"""mini-ImageNet's classes told by their names alone.

Features of a frozen picture encoder (`--checkpoint`, of mini-ImageNet's training classes) are mapped to what a sentence
encoder makes of names. The map is learned on the 64 training classes; learner and penalty are chosen on the 16
validation classes; five trainings.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from handful import Identity, evaluate, train
from handful.checkpoint import load_checkpoint
from handful.data import ClassPool, DescribedPool, ZeroShotEpisodes, mini_imagenet
from handful.encoders.sentences import sentence_vectors
from handful.generalized import generalized
from handful.learner import EmbeddingLearner
from handful.learners import CLIP, DeViSE, ZeroShotPrototypical
from handful.scoring import evaluation_mode
from handful.zero_shot_learner import ZeroShotLearner

__all__ = ["MAPS", "run"]

SEEDS, TASKS, STEPS, RATE, WAYS = range(5), 1000, 1000, 1e-3, 32
MAP, HELD_OUT, OTHER = 100, 50, 100
"""Pictures a class: to learn the map, of the same classes to test it, of other classes to test it."""
PENALTIES = (0.0, *np.geomspace(0.003, 10, 40).tolist())
MAPS = {
    "clip": partial(CLIP, dimensions=128),
    "devise": DeViSE,
    "zero_shot_prototypical": partial(ZeroShotPrototypical, dimensions=128),
}


class Parts(NamedTuple):
    """Features by class, described by names."""

    train: DescribedPool
    held_out: ClassPool
    val: ClassPool
    test: ClassPool
    descriptions: ClassPool


def run(done: list[dict[str, Any]], _: float, checkpoint: Path) -> Iterator[dict[str, Any]]:
    """A row for each map and training where maps are chosen, then for each training of the best."""
    rows, parts = list(done), _parts(checkpoint)
    known = {(row["part"], row["map"], row["seed"]) for row in done}
    about = load_checkpoint(checkpoint)
    origin = {"encoder": about.spec.encoder.name, "encoder_step": about.step, "encoder_spec": about.spec.digest}
    for part in ("val", "test"):
        for label in MAPS if part == "val" else (_best(rows),):
            for seed in SEEDS:
                if (part, label, seed) in known:
                    continue
                rows.append(
                    {"part": part, "map": label, "seed": seed} | _scores(parts, label, seed, part, rows) | origin
                )
                yield rows[-1]


def _best(rows: list[dict[str, Any]]) -> str:
    found = {
        label: np.mean([row["value"] for row in rows if (row["part"], row["map"]) == ("val", label)]) for label in MAPS
    }
    return max(found, key=lambda label: found[label])


def _scores(parts: Parts, label: str, seed: int, part: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    learner, unseen = _trained(parts, label, seed), parts.val if part == "val" else parts.test
    described = DescribedPool(unseen, parts.descriptions)
    values = {
        ways: evaluate(
            learner,
            ZeroShotEpisodes(described, ways=ways, queries=15, batch=20, seed=1 if part == "val" else 2),
            tasks=TASKS,
        ).mean
        for ways in (min(5, unseen.classes), unseen.classes)
    }
    few = values[min(values)]
    both = DescribedPool(_joined(parts.held_out, unseen), parts.descriptions)
    seen = parts.held_out.names
    if part == "val":
        found = {penalty: generalized(learner, both, seen, penalty=penalty) for penalty in PENALTIES}
        penalty = max(found, key=lambda penalty: found[penalty].harmonic)
        result = found[penalty]
    else:
        mine = [row["penalty"] for row in rows if (row["part"], row["map"]) == ("val", label)]
        penalty = float(np.median(mine))
        result = generalized(learner, both, seen, penalty=penalty)
    plain = generalized(learner, both, seen)
    return {
        "value": few.value,
        "ci95": few.ci95,
        "all_ways": unseen.classes,
        "all_ways_value": values[unseen.classes].value,
        "all_ways_ci95": values[unseen.classes].ci95,
        "penalty": penalty,
        "seen": result.seen,
        "unseen": result.unseen,
        "harmonic": result.harmonic,
        "plain_seen": plain.seen,
        "plain_unseen": plain.unseen,
        "plain_harmonic": plain.harmonic,
    }


def _trained(parts: Parts, label: str, seed: int) -> ZeroShotLearner:
    torch.manual_seed(seed)
    learner: ZeroShotLearner = MAPS[label](Identity(shape=parts.train.shape), description=parts.descriptions.shape)
    episodes = ZeroShotEpisodes(parts.train, ways=WAYS, queries=5, seed=seed)
    optimizer = torch.optim.Adam(learner.parameters(), lr=RATE, weight_decay=1e-4)
    for _ in train(learner, episodes, optimizer, steps=STEPS):
        pass
    return learner.eval()


def _parts(checkpoint: Path) -> Parts:
    pool, learner = mini_imagenet(), load_checkpoint(checkpoint).learner
    assert isinstance(learner, EmbeddingLearner)
    texts = [f"a photo of a {name}" for name in pool.names]
    descriptions = ClassPool.grouped(sentence_vectors(texts), [1] * len(texts), pool.names)
    with evaluation_mode(learner):
        train_part = _features(learner, pool.split("train"), 0, MAP)
        return Parts(
            DescribedPool(train_part, descriptions),
            _features(learner, pool.split("train"), MAP, HELD_OUT),
            _features(learner, pool.split("val"), 0, OTHER),
            _features(learner, pool.split("test"), 0, OTHER),
            descriptions,
        )


@torch.no_grad()
def _features(learner: EmbeddingLearner, pool: ClassPool, start: int, count: int) -> ClassPool:
    """Unit features of `count` pictures of each class, from the `start`-th on."""
    rows = (pool.starts[:, None] + torch.arange(start, start + count)).flatten()
    z = torch.cat([learner.embed(pool.gather(part)[None])[0] for part in rows.split(200)])
    return ClassPool.grouped(torch.nn.functional.normalize(z, dim=1), [count] * pool.classes, pool.names)


def _joined(one: ClassPool, other: ClassPool) -> ClassPool:
    x = torch.cat([one.gather(one.rows()), other.gather(other.rows())])
    return ClassPool.grouped(x, [*one.counts.tolist(), *other.counts.tolist()], [*one.names, *other.names])
