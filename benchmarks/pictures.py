"""How well encoders do on pictures of other data sets (one matrix), and on faces of people they have never seen.

    python -m benchmarks.pictures transfer --checkpoint runs/prototypical-c07b4ea4ff6d/best ...
    python -m benchmarks.pictures faces --checkpoint runs/prototypical-c07b4ea4ff6d/best ...

Raw pixels and an untrained Conv4 are always beside the checkpoints. Results are written to results/pictures, in the
place of older ones of the same encoder; the tables of docs/data/transfer.md and docs/data/faces.md are made of all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from handful.checkpoint import load_checkpoint
from handful.data import DATASETS, Episodes, faces
from handful.data.fitting import fitted
from handful.data.pool import ClassPool
from handful.encoders import Identity
from handful.evaluation import Evaluation, evaluate
from handful.files import write_file
from handful.learner import EmbeddingLearner
from handful.learners import PrototypicalNetwork
from handful.ledger import between_marks
from handful.machine import commit, describe_machine, tune_allocator, versions
from handful.ops.seeds import generator
from handful.reproduce import load_recipe, weights_digest
from handful.scoring import evaluation_mode
from handful.spec import build, expected_shape
from handful.verification import Pairs, equal_error_rate, mean_average_precision, pairs_within_folds, verify

ROOT = Path(__file__).parents[1]
TARGETS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "mini-imagenet": ("test", 15, {}),
    "cifar-fs": ("test", 15, {}),
    "omniglot": ("test", 15, {"rotations": False}),
    "faces": ("all", 5, {}),
}
"""What is tested on: the split, queries a class, and options."""
HALF = {"train": 0.5, "test": 0.5}
"""As the recipe faces-prototypical-20w5s divides the people."""
MARKS = "<!-- {0}: made by `python -m benchmarks.pictures {0}`, do not edit -->", "<!-- end of {0} -->"


class Eye(NamedTuple):
    """An encoder to be tested, by prototypes of its features."""

    name: str
    learner: EmbeddingLearner | None  # None: raw pixels
    shape: tuple[int, ...]
    trained_on: str | None
    about: dict[str, Any]

    def features(self, pool: ClassPool) -> ClassPool:
        """The same classes, with features [F] in the place of pictures, which are fitted to the encoder."""
        rows = pool.rows()
        if self.learner is None:
            z = pool.gather(rows).flatten(1)
        else:
            pool = fitted(pool, self.shape)
            rows = pool.rows()
            with torch.no_grad(), evaluation_mode(self.learner):
                parts = [self.learner.embed(pool.gather(part).unsqueeze(0))[0].flatten(1) for part in rows.split(512)]
            z = torch.cat(parts)
        return ClassPool.grouped(z, pool.counts.tolist(), pool.names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("transfer", "faces"))
    parser.add_argument("--checkpoint", type=Path, nargs="*", default=[], help="folders of checkpoints")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "pictures")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "data")
    options = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    measure, table = (transfer, transfer_table) if options.what == "transfer" else (recognition, faces_table)
    path = options.results / f"{options.what}.json"
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    chosen = list(eyes(options.checkpoint, {row["encoder"] for row in kept}))
    rows = [row for row in kept if row["encoder"] not in {eye.name for eye in chosen}]
    place = {"commit": commit(), "date": datetime.now(UTC).date().isoformat(), "tasks": options.tasks, "seed": 2}
    for row in measure(chosen, options.tasks):
        print(json.dumps(row), flush=True)
        rows.append(row | place)
    about = {"command": f"python -m benchmarks.pictures {options.what}", "versions": versions()}
    result = about | {"machine": describe_machine("cpu"), "rows": rows}
    write_file(path, json.dumps(result, indent=2) + "\n")
    page = options.docs / f"{options.what}.md"
    begin, end = (mark.format(options.what) for mark in MARKS)
    write_file(page, between_marks(page.read_text(), begin, end, table(rows)))


def eyes(checkpoints: list[Path], measured: set[str]) -> Iterator[Eye]:
    """Raw pixels and an untrained encoder, unless they were measured before; and the encoders of the checkpoints."""
    spec = load_recipe("mini-imagenet-prototypical-5shot").spec
    untrained = build(spec)
    assert isinstance(untrained, EmbeddingLearner)
    controls = (
        Eye("raw pixels", None, (), None, {}),
        Eye("Conv4, untrained", untrained, expected_shape(spec) or (), None, {"seed": spec.train.seed}),
    )
    yield from (eye for eye in controls if eye.name not in measured)
    for path in checkpoints:
        found = load_checkpoint(path)
        data, learner = found.spec.data.name, found.learner
        if not isinstance(learner, EmbeddingLearner):
            raise SystemExit(f"{path}: expected a learner that leaves its encoder alone, got {found.spec.learner.name}")
        about = {"spec": found.spec.digest, "step": found.step, "weights": weights_digest(learner)}
        about["commit"] = found.notes.get("commits", [None])[-1]
        yield Eye(f"Conv4 of {data}", learner, expected_shape(found.spec) or (), data, about)


def transfer(encoders: list[Eye], tasks: int) -> Iterator[dict[str, Any]]:
    """Every encoder on every data set, 5-way 1-shot and 5-shot."""
    for eye in encoders:
        if eye.trained_on == "faces":
            continue  # half of the people of the test are those it was trained on
        for target, (split, queries, options) in TARGETS.items():
            pool = eye.features(DATASETS[target].load(**options).split(split))
            for shots in (1, 5):
                result = identified(pool, 5, shots, queries, tasks)
                where = {"target": target, "split": split, "shots": shots, "queries": queries}
                yield {"encoder": eye.name, "trained_on": eye.trained_on, **where} | {
                    "value": result.mean.value,
                    "ci95": result.mean.ci95,
                    "record": result.record,
                    "about": eye.about,
                }


def recognition(encoders: list[Eye], tasks: int) -> Iterator[dict[str, Any]]:
    """Verification, identification and retrieval of all forty people, and of the half that nobody was trained on."""
    for people, whole in (("all 40", faces()), ("20 of them", faces(split=HALF).split("test"))):
        for eye in encoders:
            if eye.trained_on == "faces" and people == "all 40":
                continue
            pool = eye.features(whole)
            z = pool.examples - pool.examples.mean(0)
            y = torch.repeat_interleave(torch.arange(pool.classes), pool.counts)
            pairs = pairs_within_folds(z, y, folds=pool.classes // 4)
            found = verify(pairs, far=0.01)
            row: dict[str, Any] = {"encoder": eye.name, "trained_on": eye.trained_on, "people": people}
            row |= {"auc": found.auc, "eer": found.eer, "eer_interval": eer_interval(pairs)}
            row |= {"tar": list(found.tar), "far": list(found.far), "map": list(mean_average_precision(z, y))}
            for shots in (1, 5):
                row[f"identified_{shots}_shot"] = list(identified(pool, pool.classes, shots, 5, tasks).mean)
            yield row | {"about": eye.about}


def identified(pool: ClassPool, ways: int, shots: int, queries: int, tasks: int) -> Evaluation:
    """Prototypes of features on tasks of seed 2."""
    episodes = Episodes(pool, ways=ways, shots=shots, queries=queries, batch=20, seed=2)
    return evaluate(PrototypicalNetwork(Identity(shape=pool.shape)), episodes, tasks=tasks)


def eer_interval(pairs: Pairs, draws: int = 1000) -> tuple[float, float]:
    """95% of the equal error rates of folds of people drawn with replacement."""
    folds = [np.flatnonzero(pairs.fold == index) for index in np.unique(pairs.fold)]
    random, rates = generator("bootstrap", 0), []
    for _ in range(draws):
        rows = np.concatenate([folds[index] for index in random.integers(0, len(folds), len(folds))])
        rates.append(equal_error_rate(pairs.same[rows], pairs.similarity[rows]))
    low, high = np.quantile(rates, [0.025, 0.975])
    return float(low), float(high)


def percent(mean: list[float]) -> str:
    return f"{100 * mean[0]:.1f} ± {100 * mean[1]:.1f}"


def transfer_table(rows: list[dict[str, Any]]) -> str:
    """A row an encoder, a column a data set: 5-way 1-shot and 5-shot."""
    lines = ["| encoder | " + " | ".join(f"`{target}`" for target in TARGETS) + " |", "|---" * (len(TARGETS) + 1) + "|"]
    cells = {(row["encoder"], row["target"], row["shots"]): percent([row["value"], row["ci95"]]) for row in rows}
    for name in dict.fromkeys(row["encoder"] for row in rows):
        own = next(row["trained_on"] for row in rows if row["encoder"] == name)
        shown = [f"{cells[name, target, 1]}<br>{cells[name, target, 5]}" for target in TARGETS]
        marked = [f"*{cell}*" if target == own else cell for target, cell in zip(TARGETS, shown, strict=True)]
        lines.append(f"| {name} | {' | '.join(marked)} |")
    return "\n".join(lines)


def faces_table(rows: list[dict[str, Any]]) -> str:
    """A row an encoder and group of people."""
    lines = [
        "| people | encoder | equal error rate | true acceptance at 1% | measured false acceptance | retrieval, mAP "
        "| identified, 1 shot | 5 shots |",
        "|---" * 8 + "|",
    ]
    for row in sorted(rows, key=lambda row: row["people"], reverse=True):
        low, high = row["eer_interval"]
        cells = [f"{100 * row['eer']:.1f} ({100 * low:.1f} to {100 * high:.1f})"]
        cells += [percent(row[key]) for key in ("tar", "far", "map", "identified_1_shot", "identified_5_shot")]
        lines.append(f"| {row['people']} | {row['encoder']} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
