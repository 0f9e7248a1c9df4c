"""A metric for requests, meta-learned on intents: what it is worth on a set that it has not seen, and the one shipped.

    python -m benchmarks.texts metric
    python -m benchmarks.texts.metric          (learns on all three sets and writes the file that Handful ships)

The unit mean states of all-MiniLM-L6-v2 after its third and its last layer, in which rare words count more
(`handful.encoders.intents`), the third times a share, go through a matrix I + M. Episodes of all intents of one set,
one sentence of each to be told by and three to be told, teach it on the training parts of the sets: cosines after the
middle of what is shown was taken away, as the head does it. Weight decay holds M near zero. Then it is cut to the 384
directions in which most of the training sentences lies.

For figures on a set it is learned on the two others. The share was chosen by the mean over the three sets and the
numbers of shots, with questions of the training part (CLINC150: the validation part) that were not shown: rows "val".
By such questions, too, it was chosen how tokens are weighed and how episodes are made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from handful import ClassPool, Episodes
from handful.data.cache import cached_pool
from handful.encoders.intents import NAME
from handful.encoders.sentences import TOGETHER, with_layers
from handful.encoders.shipped import FOLDER
from handful.files import write_file
from handful.ops.intervals import mean_interval
from handful.ops.seeds import generator
from handful.progress import progress

from .heads import head
from .sentences import ASKED, INTENTS, Name, Sentences, intents, shown

__all__ = ["HEAD", "chosen", "features", "run", "vectors"]

SHARES = (0.0, 0.3, 0.5, 0.7)
"""Of the third layer; 0: the last alone; None: the encoder as it is, whose tokens count alike."""
HEAD = "centered Baseline++ 20 0.3"
"""Chosen in `intents.py`, without a metric."""
SHOTS = (1, 5, 10)
SEEDS, CHOOSING = tuple(range(10)), (100, 101, 102)
STEPS, RATE, DECAY, SCALE = 100, 3e-4, 1.0, 20.0
QUERIES = 3
KEPT = 384


class Metric(nn.Module):
    """x + M x, of length 1."""

    out_features = 2 * KEPT

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(self.out_features, self.out_features))

    def forward(self, x: Tensor) -> Tensor:
        """[n, F] -> [n, F]."""
        return F.normalize(x + F.linear(x, self.weight))


def run(done: list[dict[str, Any]], _: float) -> Iterator[dict[str, Any]]:
    """Each set as it is, and by the metric of the two others: first every share, then the one that is chosen."""
    known = {(row["data"], row["part"], row["shots"], row["share"], row["learned"]) for row in done}
    rows = list(done)
    for part in ("val", "test"):
        shares = SHARES if part == "val" else (chosen(rows),)
        for name, (share, learn) in product(INTENTS, [(None, False), *product(shares, (False, True))]):
            wanted = [shots for shots in SHOTS if (name, part, shots, share, learn) not in known]
            if not wanted:
                continue
            others = tuple(other for other in INTENTS if other != name)
            data = intents(name)
            if share is not None:
                data = data._replace(z=features(name, share, others if learn else ()))
            for shots in wanted:
                values = accuracies(data, shots, part)
                mean = mean_interval(values)
                row = {"data": name, "part": part, "shots": shots, "share": share, "learned": learn}
                row |= {"head": HEAD, "value": mean.value, "ci95": mean.ci95}
                row |= {"values": [round(float(value), 6) for value in values]}
                rows.append(row)
                yield row


def chosen(rows: Sequence[dict[str, Any]]) -> float:
    """The share that does best with a metric where shares are chosen."""

    def mean(share: float) -> float:
        found = [row["value"] for row in rows if (row["part"], row["learned"], row["share"]) == ("val", True, share)]
        return float(np.mean(found))

    return max(SHARES, key=mean)


def accuracies(data: Sentences, shots: int, part: str) -> NDArray[np.float64]:
    """Of each draw: of all test sentences; or, to choose by, of sentences for that."""
    learner, y, values = head(HEAD, data.z.shape[1]), torch.from_numpy(data.y), []
    for seed in SEEDS if part == "test" else CHOOSING:
        support = shown(data, shots, seed)
        asked = torch.from_numpy(data.rows("test") if part == "test" else _unshown(data, support))
        rows = torch.from_numpy(support)
        with torch.no_grad():
            state = learner.adapt_features(data.z[rows][None], y[rows][None], len(data.names))
            logits = learner.predict_features(state, data.z[asked][None])[0]
        values.append(float((logits.argmax(-1) == y[asked]).double().mean()))
    return np.array(values)


def _unshown(data: Sentences, support: NDArray[np.int64]) -> NDArray[np.int64]:
    validation = data.rows("val")
    rest = validation if len(validation) else np.setdiff1d(data.rows("train"), support)
    return np.sort(generator("unshown", 0).permutation(rest)[:ASKED])


def features(name: Name, share: float, learned_on: tuple[Name, ...]) -> Tensor:
    """[M, F] of the sentences of a set, by the metric of others; of none: as they are."""
    z = layers(name, share)
    return F.normalize(z @ learned(share, learned_on).T) if learned_on else z


def vectors(texts: Sequence[str], share: float, learned_on: tuple[Name, ...]) -> Tensor:
    """[n, F] of texts, made anew."""
    found = _encoder(share, learned_on).encode(list(texts), batch_size=TOGETHER, normalize_embeddings=True)
    return torch.from_numpy(found)


@cache
def _encoder(share: float, learned_on: tuple[Name, ...]) -> Any:
    return with_layers(_whole(share, learned_on))


def _whole(share: float, learned_on: tuple[Name, ...]) -> Tensor:
    """The metric with the share in it."""
    return learned(share, learned_on) * torch.tensor([share, 1.0]).repeat_interleave(KEPT)


@cache
def learned(share: float, sets: tuple[Name, ...]) -> Tensor:
    """[384, 768]: the metric of these sets."""
    pools = []
    for name in sets:
        data = intents(name)
        rows = data.rows("train")
        rows = rows[np.bincount(data.y[rows])[data.y[rows]] > QUERIES]
        z, labels = layers(name, share)[torch.from_numpy(rows)], [data.names[label] for label in data.y[rows]]
        pools.append(ClassPool.from_labels(z, labels))
    encoder = Metric()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    tasks = [iter(Episodes(pool, ways=len(pool.names), shots=1, queries=QUERIES, batch=1, seed=0)) for pool in pools]
    with progress(f"metric of {', '.join(sets)}", STEPS) as advance:
        for step in range(STEPS):
            task = next(tasks[step % len(tasks)])
            shown, asked = (encoder(part.x[0]) for part in (task.support, task.query))
            shown = shown[task.support.y[0].argsort()]  # one of each intent
            shown, asked = (F.normalize(part - shown.mean(0)) for part in (shown, asked))
            optimizer.zero_grad()
            F.cross_entropy(SCALE * asked @ shown.T, task.query.y[0]).backward()
            optimizer.step()
            schedule.step()
            advance(1)
    with torch.no_grad():
        z = torch.cat([encoder(pool.examples) for pool in pools]).double()
        _, directions = torch.linalg.eigh(z.T @ z)
        whole = torch.eye(Metric.out_features) + encoder.weight
        return directions.flip(1)[:, :KEPT].T.float() @ whole


@cache
def layers(name: Name, share: float) -> Tensor:
    """[M, 768] of length 1: the third layer times a share, and the last, rare words counting more in both."""
    data = intents(name)
    digest = hashlib.sha256("\n".join(["weighted", *data.texts]).encode()).hexdigest()

    def make() -> ClassPool:
        order = np.argsort([len(text) for text in data.texts], kind="stable")
        z = with_layers(None).encode([data.texts[row] for row in order], batch_size=TOGETHER)
        return ClassPool.grouped(torch.from_numpy(z)[torch.from_numpy(np.argsort(order))], [len(z)], [name])

    both = cached_pool(f"layers-{digest[:16]}", {"sha256": digest}, make).examples.unflatten(-1, (2, -1))
    return F.normalize((F.normalize(both, dim=-1) * torch.tensor([[share], [1.0]])).flatten(-2))


def main() -> None:
    """Learn on all three sets and write the file."""
    import json
    from pathlib import Path

    rows = json.loads((Path(__file__).parents[2] / "results" / "texts" / "metric.json").read_text())
    share = chosen(rows)
    content = save(
        {"matrix": _whole(share, tuple(INTENTS)).half().contiguous()},
        {"learned on": "training parts of " + ", ".join(INTENTS.values())},
    )
    write_file(FOLDER / f"{NAME}.safetensors", content)
    print(f"share {share}, {len(content):,} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
