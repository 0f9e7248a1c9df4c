"""Heads on real vectors: `python -m benchmarks.heads choice|names|coverage NAME=FILE.npz ... [--tasks 300]`.

A file holds vectors x [M, F] and labels y [M], for `names` also t [classes, F], the vectors of what the classes are
called. Intervals are 95%, over tasks; those of differences are paired. `coverage` draws its tasks itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from handful.ops.choosing import Chosen
from handful.ops.conformal import candidates, p_values
from handful.ops.head_choice import FAMILY, fit_best, fit_named
from handful.ops.heads import fit_head, strangeness
from handful.ops.intervals import mean_interval

QUERIES, EPSILON = 10, 0.1


def drawn(
    y: np.ndarray, classes: np.ndarray, ways: int, shots: int, tasks: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Rows and labels of supports, of things asked (drawn from all classes together), and the classes."""
    random, rows = np.random.default_rng(0), {label: np.flatnonzero(y == label) for label in classes}
    for _ in range(tasks):
        chosen = random.choice(classes, ways, replace=False)
        orders = [random.permutation(rows[label]) for label in chosen]
        rest = np.concatenate([order[shots:] for order in orders])
        truth = np.repeat(np.arange(ways), [len(order) - shots for order in orders])
        asked = random.choice(len(rest), QUERIES, replace=False)
        support = np.concatenate([order[:shots] for order in orders])
        yield support, np.repeat(np.arange(ways), shots), rest[asked], truth[asked], chosen


def shown(values: list[float], scale: float = 100, digits: int = 1) -> str:
    found = mean_interval(np.array(values))
    return f"{scale * found.value:.{digits}f} ± {scale * found.ci95:.{digits}f}"


def choice(name: str, file: Path, classes: np.ndarray | None, tasks: int) -> None:
    """Fixed heads and the best of them: accuracy, coverage, labels a set, sets that are the true class alone."""
    data = np.load(file)
    x, y = data["x"], data["y"]
    classes = np.unique(y) if classes is None else classes
    most = np.bincount(y)[classes].min()
    for ways in (5, 20):
        for shots in (1, 2, 5, 10):
            if ways > len(classes) or shots >= most:
                continue
            scores: dict[str, list[list[float]]] = {head: [] for head in (*FAMILY, "auto")}
            for support, labels, asked, truth, _ in drawn(y, classes, ways, shots, tasks * 5 // ways):
                for head, kept in scores.items():
                    z, rows = x[asked], np.arange(QUERIES)
                    fitted = (
                        fit_best(x[support], labels, ways)[0]
                        if head == "auto"
                        else fit_head(head, x[support], labels, ways)[0]
                    )
                    stays = candidates(p_values(fitted, z), np.full(ways, shots), EPSILON)
                    inside = stays[rows, truth]
                    right = strangeness(fitted, z).argmin(1) == truth
                    count = stays.sum(1)
                    kept.append([right.mean(), inside.mean(), count.mean(), (inside & (count == 1)).mean()])
            base = np.array(scores["squared"])
            for head, kept in scores.items():
                values = np.array(kept)
                gain, size = values - base, shown(values[:, 2].tolist(), 1, 2)
                print(
                    f"| {name} | {ways} | {shots} | {head} | {shown(values[:, 0].tolist())} | "
                    f"{shown(gain[:, 0].tolist())} | {shown(values[:, 1].tolist())} | {size} | "
                    f"{shown(gain[:, 2].tolist(), 1, 2)} | {shown(gain[:, 3].tolist())} |",
                    flush=True,
                )


def names(name: str, file: Path, classes: np.ndarray | None, tasks: int) -> None:
    """Accuracy by names only, examples only, and both; the difference of both to the better one."""
    data = np.load(file)
    x, y, t = data["x"], data["y"], data["t"]
    classes = np.unique(y) if classes is None else classes
    for ways in (10, len(classes)):
        for shots in (0, 1, 2, 5, 10):
            scores: dict[str, list[float]] = {"names": [], "examples": [], "both": []}
            for support, labels, asked, truth, chosen in drawn(y, classes, ways, shots, tasks * 10 // ways):
                none = np.empty(0, np.int64)
                fitted = {"names": fit_named(x[none], none, t[chosen])[0]}
                if shots:
                    fitted |= {"examples": fit_best(x[support], labels, ways)[0]}
                fitted["both"] = fit_named(x[support], labels, t[chosen])[0]
                for what, head in fitted.items():
                    scores[what].append(float((strangeness(head, x[asked]).argmin(1) == truth).mean()))
            better = max((what for what in scores if what != "both" and scores[what]), key=lambda k: np.mean(scores[k]))
            gain = shown((np.array(scores["both"]) - scores[better]).tolist())
            cells = " | ".join(shown(values) if values else "–" for values in scores.values())
            print(f"| {name} | {ways} | {shots} | {cells} | {gain} |", flush=True)


def coverage(tasks: int) -> None:
    """The best of several heads on synthetic exchangeable tasks of three kinds, one thing asked in each."""
    random, inside, ways, n = np.random.default_rng(0), {0.05: 0, 0.1: 0, 0.2: 0}, 4, 25
    for _ in range(tasks):
        kind = random.integers(3)
        centers = random.normal(size=(ways, 6)) * (1.5 if kind else 0.8)
        y = np.append(
            random.permutation(np.append(np.arange(ways), random.integers(0, ways, n - ways))), random.integers(ways)
        )
        noise = random.normal(size=(n + 1, 6)) * (1 if kind else np.array([0.1, 0.1, 1, 1, 2, 3]))
        x = (centers[y] + noise) * (random.uniform(0.2, 4, (n + 1, 1)) if kind == 2 else 1)
        rules = tuple(fit_head(rule, x[:-1], y[:-1], ways)[0] for rule in FAMILY)
        p = p_values(Chosen(rules, 0), x[-1:])
        for epsilon in inside:
            inside[epsilon] += bool(candidates(p, np.bincount(y[:-1]), epsilon, each_class=False)[0, y[-1]])
    for epsilon, count in inside.items():
        share = count / tasks
        print(
            f"promised {100 * (1 - epsilon):.0f}: {100 * share:.1f} ± {196 * (share * (1 - share) / tasks) ** 0.5:.1f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["choice", "names", "coverage"])
    parser.add_argument("files", nargs="*", metavar="NAME=FILE", default=[])
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--split", help="only the classes of the file's array split_NAME")
    chosen = parser.parse_args()
    if chosen.what == "coverage":
        coverage(chosen.tasks)
    for entry in chosen.files:
        name, _, file = entry.partition("=")
        classes = np.load(file)[f"split_{chosen.split}"] if chosen.split else None
        (choice if chosen.what == "choice" else names)(name, Path(file), classes, chosen.tasks)


if __name__ == "__main__":
    main()
