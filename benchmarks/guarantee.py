"""What was promised beside what came: `python -m benchmarks.guarantee coverage|mislabeled|speed [--intents FILE]`.

Tasks of five classes drawn from real data, ten known things and five strangers (of a sixth class) asked in each.
Coverage: the digits of scikit-learn by their pixels and, with `--intents` (CLINC150's data_full.json, or .xz of it),
sentences by hashed n-grams. Known things of a task are drawn from all its classes together, examples are balanced.
"""

from __future__ import annotations

import argparse
import json
import lzma
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

from handful.ops.conformal import candidates, p_values
from handful.ops.heads import HEADS, fit_head, strangeness
from handful.ops.intervals import mean_interval
from handful.ops.nearest_mean import fit_nearest_mean
from handful.recognizer import open_recognizer, teach
from handful.recognizer.doctor import likely_mislabeled
from handful.recognizer.embedders import HashedNGrams

WAYS, KNOWN, STRANGERS = 5, 10, 5
EPSILONS = (0.2, 0.1, 0.05)


def digit_vectors() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    return x.astype(np.float32), y


def intent_vectors(path: Path) -> tuple[np.ndarray, np.ndarray]:
    content = path.read_bytes()
    rows = json.loads(lzma.decompress(content) if path.suffix == ".xz" else content)
    texts, labels = zip(*(rows["train"] + rows["val"] + rows["test"]), strict=True)
    return HashedNGrams().embed(texts), np.unique(labels, return_inverse=True)[1]


def coverage(name: str, x: np.ndarray, y: np.ndarray, head: str, shots: int, tasks: int) -> None:
    """One line for each promise."""
    random = np.random.default_rng(0)
    rows = {label: np.flatnonzero(y == label) for label in np.unique(y)}
    scores: dict[float, list[list[float]]] = {epsilon: [] for epsilon in EPSILONS}
    right, of_known, of_strangers = [], [], []
    for _ in range(tasks):
        chosen = random.choice(len(rows), WAYS + 1, replace=False)
        orders = [random.permutation(list(rows.values())[label]) for label in chosen]
        support = np.concatenate([order[:shots] for order in orders[:WAYS]])
        rest = np.concatenate([order[shots:] for order in orders[:WAYS]])
        truth = np.repeat(np.arange(WAYS), [len(order) - shots for order in orders[:WAYS]])
        asked = random.choice(len(rest), KNOWN, replace=False)
        labels = np.repeat(np.arange(WAYS), shots)
        fitted, _ = fit_head(head, x[support], labels, WAYS)
        z = x[np.concatenate([rest[asked], orders[WAYS][:STRANGERS]])]
        p = p_values(fitted, z)
        right.append(float((strangeness(fitted, z[:KNOWN]).argmin(1) == truth[asked]).mean()))
        of_known.append(p.overall[:KNOWN].max(1))
        of_strangers.append(p.overall[KNOWN:].max(1))
        for epsilon, kept in scores.items():
            stays = candidates(p, np.full(WAYS, shots), epsilon)
            known, none = stays[:KNOWN], ~stays.any(1)
            covered = known[np.arange(KNOWN), truth[asked]]
            kept.append([covered.mean(), known.sum(1).mean(), none[:KNOWN].mean(), none[KNOWN:].mean()])
    known_p, stranger_p = np.sort(np.concatenate(of_known)), np.concatenate(of_strangers)
    below = (np.searchsorted(known_p, stranger_p) + np.searchsorted(known_p, stranger_p, "right")) / 2
    auroc = 1 - below.mean() / len(known_p)
    for epsilon, kept in scores.items():
        values = np.array(kept)
        hit = mean_interval(values[:, 0])
        size, refused, caught = values[:, 1:].mean(0)
        print(
            f"| {name} | {head} | {shots} | {100 * np.mean(right):.1f} | {100 * (1 - epsilon):.0f} | "
            f"{100 * hit.value:.1f} ± {100 * hit.ci95:.1f} | {size:.2f} | {100 * refused:.1f} | {100 * caught:.1f} | "
            f"{auroc:.3f} |",
            flush=True,
        )


def mislabeled(x: np.ndarray, y: np.ndarray, tasks: int) -> None:
    """Wrong labels planted among all classes."""
    random = np.random.default_rng(0)
    ways = int(y.max()) + 1
    print("| examples a class | wrong labels | precision | recall |\n|---|---|---|---|")
    for shots in (5, 10, 20):
        for share in (0.05, 0.1, 0.2):
            hits = found = planted = 0
            for _ in range(tasks):
                support = np.concatenate([random.choice(np.flatnonzero(y == k), shots, False) for k in range(ways)])
                labels = y[support].copy()
                wrong = random.choice(len(labels), round(share * len(labels)), replace=False)
                labels[wrong] = (labels[wrong] + random.integers(1, ways, len(wrong))) % ways
                if len(np.unique(labels)) == ways:
                    doubted = likely_mislabeled(fit_nearest_mean(x[support], labels, ways, "squared"))
                    hits, found, planted = hits + len({*doubted} & {*wrong}), found + len(doubted), planted + len(wrong)
            print(
                f"| {shots} | {100 * share:.0f}% | {100 * hits / found:.0f}% | {100 * hits / planted:.0f}% |",
                flush=True,
            )


def speed(classes: int = 1000, shots: int = 10, features: int = 384) -> None:
    """Teach, open, recognize and add with 10,000 vectors of 1,000 classes in clusters that overlap somewhat."""
    random = np.random.default_rng(0)
    mixing = (random.normal(size=(features, features)) * np.exp(-np.arange(features) / 40)).astype(np.float32)
    centers = random.normal(size=(classes, features)).astype(np.float32) @ mixing
    y = np.repeat(np.arange(classes), shots)
    for spread in (0.5, 1.0, 1.5):

        def noise(count: int, spread: float = spread) -> np.ndarray:
            return spread * random.normal(size=(count, features)).astype(np.float32) @ mixing

        x, asked = centers[y] + noise(len(y)), centers[:300] + noise(300)
        with tempfile.TemporaryDirectory() as folder:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            begin = time.perf_counter()
            teach((x, y.astype(str)), Path(folder) / "shop").close()
            taught = time.perf_counter() - begin
            with open_recognizer(Path(folder) / "shop") as made:
                begin = time.perf_counter()
                made.recognize(asked[0])
                first = time.perf_counter() - begin
                seconds, right = [], 0
                for label, one in enumerate(asked):
                    begin = time.perf_counter()
                    right += made.recognize(one).label == str(label)
                    seconds.append(time.perf_counter() - begin)
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
                begin = time.perf_counter()
                for number in range(20):
                    made.add(str(number), [x[number] + 1])
                added = (time.perf_counter() - begin) / 20
        p50, p99 = 1e3 * np.quantile(seconds, [0.5, 0.99])
        print(
            f"spread {spread}: teach {taught:.1f} s, first answer after opening {first:.2f} s, then {p50:.1f} ms (p99 "
            f"{p99:.1f} ms), add {1e3 * added:.1f} ms, {right / 3:.0f}% right; memory grew by {peak / 1024:.0f} MiB, "
            f"the vectors are {x.nbytes / 2**20:.0f} MiB",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["coverage", "mislabeled", "speed"])
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--heads", nargs="+", default=list(HEADS), choices=list(HEADS))
    parser.add_argument("--intents", type=Path)
    chosen = parser.parse_args()
    if chosen.what == "speed":
        speed()
    elif chosen.what == "mislabeled":
        mislabeled(*digit_vectors(), chosen.tasks // 10)
    else:
        print(
            "| data | head | shots | accuracy | promised | came | labels a set | refused | strangers caught | AUROC |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|")
        kinds = {"digits": digit_vectors()}
        if chosen.intents is not None:
            kinds["CLINC150"] = intent_vectors(chosen.intents)
        for name, (x, y) in kinds.items():
            for head in chosen.heads:
                for shots in (1, 2, 5, 10, 20):
                    coverage(name, x, y, head, shots, chosen.tasks)


if __name__ == "__main__":
    main()
