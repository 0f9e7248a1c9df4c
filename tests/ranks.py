"""What a rank does in tests/test_distributed.py: `torchrun tests/ranks.py JOB FOLDER`, in double precision."""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from handful.data import DATASETS, ClassPool
from handful.data.episodes import Episodes
from handful.distributed import ALONE, Ranks, joined
from handful.episode import Episode
from handful.errors import DataError
from handful.evaluation import Evaluation, evaluate
from handful.kinds import loaded
from handful.learner import Learner
from handful.learners import MAML, PrototypicalNetwork
from handful.ops.engine import Engine
from handful.run import Event, fit
from handful.spec import Spec
from handful.training import train

DIGITS = {"ways": 5, "shots": 1, "queries": 3, "steps": 6, "optimizer": {"name": "sgd", "momentum": 0.9}}
MLP = {"name": "mlp", "shape": [1, 8, 8], "hidden": [16], "normalization": "running"}

VARIED = {"rotation": True, "crop": 1, "flip": True, "color": 0.3, "cutout": 3, "mixup": 0.5}


def specs() -> dict[str, Spec]:
    """A run of each kind: uneven shares, batches smaller than the number of ranks, clipping, validation, patience."""
    prototypical = {"learner": {"name": "prototypical"}, "encoder": MLP, "data": {"name": "digits"}}
    trials = {"ways": 5, "shots": 1, "queries": 5, "batch": 4, "tasks": 10, "every": 2}
    maml = {
        "name": "maml",
        "outputs": 5,
        "inner_rate": 0.1,
        "inner_steps": 2,
        "rates": "learned",
        "engine": {"tasks_at_once": 2},
    }
    tables: dict[str, dict[str, Any]] = {
        "prototypical": {
            **prototypical,
            "train": {**DIGITS, "batch": 7, "accumulate": 2, "clip": 0.1, "schedule": {"name": "cosine"}},
            "validation": {**trials, "patience": 1},
        },
        "single": {**prototypical, "train": {**DIGITS, "accumulate": 3}},
        "idle": {**prototypical, "train": DIGITS},
        "augmented": {
            **prototypical,
            "train": {**DIGITS, "batch": 3, "accumulate": 2, "augmentation": VARIED},
        },
        "maml": {
            "learner": maml,
            "encoder": {**MLP, "normalization": "per_step", "steps": 2},
            "data": {"name": "digits"},
            "train": {**DIGITS, "batch": 4},
            "validation": trials,
        },
        "sinusoid": {
            "learner": {"name": "maml", "outputs": 1},
            "encoder": {"name": "mlp", "shape": [1], "hidden": [8]},
            "data": {"name": "sinusoid"},
            "train": {"steps": 6, "shots": 5, "queries": 5, "batch": 5},
            "validation": {"every": 3, "shots": 5, "batch": 3, "tasks": 7},
        },
    }
    return {name: Spec.of(table) for name, table in tables.items()}


def run(spec: Spec, folder: Path, ranks: Ranks = ALONE, *, until: int | None = None) -> Event:
    """Train, or go on; `until` a step after which the last rank, and no other, asks to stop."""
    asked = count(1)
    last = ranks.rank == ranks.size - 1
    return list(fit(spec, folder, resume=True, log_every=1, stop=lambda: next(asked) == until and last, ranks=ranks))[
        -1
    ]


def pool() -> ClassPool:
    """The digits to train on, in double precision."""
    found: ClassPool = DATASETS["digits"].load()
    return found.split("train")


class Foreign(nn.Module):
    """Native batch norm that averages over all time, with its counter, and a buffer that no step may change."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 12)
        self.norm = nn.BatchNorm1d(12, momentum=None)
        self.register_buffer("mask", torch.tensor([0.1, -torch.inf]))
        self.unused = nn.Parameter(torch.ones(3))
        self.out_features = 12

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.norm(self.linear(x.flatten(1))))


class Plain:
    """Episodes of which nothing is known but that they can be asked for."""

    def __init__(self, episodes: Episodes) -> None:
        self.episodes = episodes

    def __getitem__(self, t: int) -> Episode:
        return self.episodes[t]


def foreign(kind: str, ranks: Ranks = ALONE) -> tuple[dict[str, Tensor], list[float]]:
    """Weights, buffers and losses of an encoder from elsewhere; weight decay shows a gradient that should be None."""
    torch.manual_seed(ranks.rank)  # the first one's weights count
    encoder = Foreign()
    encoder.unused.requires_grad_(kind != "maml")
    learner = (
        PrototypicalNetwork(encoder)
        if kind == "prototypical"
        else MAML(encoder, outputs=4, engine=Engine(tasks_at_once=1))
    )
    optimizer = torch.optim.SGD(learner.parameters(), 0.1, weight_decay=0.1)
    episodes = Plain(Episodes(pool(), ways=4, shots=2, queries=3, batch=4))
    steps = train(learner, episodes, optimizer, steps=4, accumulate=2, ranks=ranks)
    losses = [float(step.loss) for step in steps]
    return learner.state_dict(), losses


def evaluations(ranks: Ranks = ALONE) -> Iterator[Evaluation]:
    """Of learners that embed each example once and of others, on episodes known and unknown, and on few tasks."""
    torch.manual_seed(0)
    learners: list[Learner] = [PrototypicalNetwork(Foreign()), MAML(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))]
    for learner in learners:
        for batch, tasks in ((5, 12), (1, 5), (3, 1)):
            episodes = Episodes(pool(), ways=4, shots=1, queries=3, batch=batch, seed=1)
            yield evaluate(learner, episodes, tasks=tasks, ranks=ranks)
            yield evaluate(learner, Plain(episodes), tasks=tasks, ranks=ranks)


class Poisoned(PrototypicalNetwork):
    """Its loss is not finite on one rank, which alone has this task."""

    def loss(self, episode: Episode) -> Tensor:
        """Infinite in the second step, for the share with the last task."""
        self.calls = getattr(self, "calls", 0) + 1
        wrong = self.calls == 2 and self.rank == 1
        return super().loss(episode) * (torch.inf if wrong else 1)

    rank = 0


def poisoned(ranks: Ranks) -> str:
    """What the training says that fails on one rank only."""
    learner = Poisoned(Foreign())
    learner.rank = ranks.rank
    optimizer = torch.optim.SGD(learner.parameters(), 0.1)
    try:
        list(train(learner, Episodes(pool(), ways=4, shots=1, queries=3, batch=4), optimizer, steps=4, ranks=ranks))
    except DataError as error:
        return str(error)
    return "no error"


def digest(tensors: dict[str, Tensor]) -> str:
    """Equal bits, equal digests."""
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors.values())).hexdigest()


def everything(folder: Path, ranks: Ranks) -> None:
    """All that is compared with one process; each rank writes what it found."""
    found: dict[str, Any] = {"size": ranks.size}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found["last"] = {
            name: [*run(spec, folder / name, ranks)._replace(seconds=0, loss=0)] for name, spec in specs().items()
        }
    found["warnings"] = [str(warning.message) for warning in said]
    for name in ("prototypical", "maml"):  # begun by all, to be gone on with by one; and the other way round
        run(specs()[name], folder / f"{name}-begun", ranks, until=2)
        run(specs()[name], folder / f"{name}-alone", ranks)
    found["foreign"] = {}
    for kind in ("prototypical", "maml"):
        state, losses = foreign(kind, ranks)
        found["foreign"][kind] = [{name: leaf.tolist() for name, leaf in state.items()}, losses, digest(state)]
    found["evaluations"] = [
        [one.values.tolist(), one.by_class, one.tasks_digest, one.not_finite] for one in evaluations(ranks)
    ]
    found["poisoned"] = poisoned(ranks)
    found["sent"] = [part.decode() for part in ranks.send([b"one", b"", b"three"] if ranks.first else [])]
    found["speaks"] = ranks.speaks()
    found["rank"], machines = ranks.rank, replace(ranks, local=0)  # each process on a machine of its own
    found["alike"] = {
        "one machine": ranks.alike(lambda: str(ranks.rank)),
        "the same": machines.alike(lambda: "data"),
        "another": machines.alike(lambda: str(ranks.rank)),
    }
    try:
        found["other data"] = loaded("digits", lambda: pool().subset(range(ranks.rank, 9)), ranks=machines).digest
    except DataError as error:
        found["other data"] = str(error)
    (folder / f"rank{ranks.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    with joined() as all_ranks:
        everything(Path(sys.argv[1]), all_ranks)
