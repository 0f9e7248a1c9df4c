"""docs/texts-figures.md, made from the rows in results/texts: `python -m benchmarks.texts page`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from handful.ledger import percent
from handful.ops.intervals import Mean, mean_interval, paired_difference

from .heads import KINDS, kind_of
from .sentences import INTENTS as SETS
from .sentences import unpacked

__all__ = ["QUESTIONS", "page", "read"]

Row = dict[str, Any]
QUESTIONS = ("intents", "metric", "setfit", "frozen", "relations", "zero-shot", "pictures-by-name")


def read(folder: Path) -> dict[str, list[Row]]:
    """The rows of each question that was measured."""
    paths = {question: folder / f"{question}.json" for question in QUESTIONS}
    return {question: json.loads(path.read_text()) for question, path in paths.items() if path.exists()}


def page(results: Mapping[str, list[Row]]) -> str:
    """The page."""
    parts = [(Path(__file__).parent / "page.md").read_text().rstrip("\n")]
    for question, section in SECTIONS.items():
        if results.get(question):
            parts.append(section(results))
            parts.append(_origin(question, results[question]))
    return "\n\n".join(parts) + "\n"


def _intents(results: Mapping[str, list[Row]]) -> str:
    """All classes and episodes, a column a number of shots."""
    rows = results["intents"]
    parts = ["## Intents", _said("intents")]
    for protocol, title in (("all classes", "All classes"), ("5-way", "Episodes of five classes")):
        own = [row for row in rows if row["protocol"] == protocol]
        shots = sorted({row["shots"] for row in own})
        lines = [_line(["", "head", *(f"{count} a class" for count in shots)]), "|---" * (len(shots) + 2) + "|"]
        for part, note in (("val", ", where heads are chosen"), ("test", "")):
            for data in dict.fromkeys(row["data"] for row in own if row["part"] == part):
                here = [row for row in own if (row["data"], row["part"]) == (data, part)]
                for head in _order({row["head"] for row in here}, part, own):
                    cells = [_figure([row for row in here if (row["head"], row["shots"]) == (head, n)]) for n in shots]
                    lines.append(_line([SETS[data] + note, head, *cells]))
        parts += [f"### {title}", "\n".join(lines)]
    return "\n\n".join(parts)


def _order(heads: set[str], part: str, rows: list[Row]) -> list[str]:
    """Of validation only the best of each kind, so that the table can be read; the whole is in the rows."""
    means = {
        head: np.mean([row["value"] for row in rows if (row["head"], row["part"]) == (head, "val")]) for head in heads
    }
    ordered = sorted(heads, key=lambda head: -means[head])
    best = {kind: next((head for head in ordered if kind_of(head) == kind), None) for kind in KINDS}
    return [head for head in ordered if part == "test" or head in best.values()]


def _metric(results: Mapping[str, list[Row]]) -> str:
    """Where the share is chosen, the mean over sets and shots; then each set by the metric of the two others."""
    rows = results["metric"]
    found = {(row["part"], row["data"], row["share"], row["learned"], row["shots"]): row for row in rows}
    lines = [_line(["tokens", "third layer", "as they are", "learned on the others"]), "|---|---|---|---|"]
    for share in dict.fromkeys(row["share"] for row in rows if row["part"] == "val"):
        means = [
            [row["value"] for key, row in found.items() if (key[0], *key[2:4]) == ("val", share, learned)]
            for learned in (False, True)
        ]
        lines.append(_line([*_pooled(share), *(f"{100 * np.mean(mean):.2f}" if mean else "–" for mean in means)]))
    shots = sorted({row["shots"] for row in rows})
    titles = ["", "tokens", "third layer", "learned", *(f"{n} a class" for n in shots), *(f"gain, {n}" for n in shots)]
    table = [_line(titles), "|---" * len(titles) + "|"]
    kinds = dict.fromkeys((row["data"], row["share"], row["learned"]) for row in rows if row["part"] == "test")
    for kind in kinds:
        own, bare = ([found["test", *key, n] for n in shots] for key in (kind, (kind[0], None, False)))
        gains = [_mean(paired_difference(a["values"], b["values"])) for a, b in zip(own, bare, strict=True)]
        cells = [SETS[kind[0]], *_pooled(kind[1]), "on the others" if kind[2] else "no"]
        cells += [_figure([row]) for row in own] + (["–"] * len(shots) if own == bare else gains)
        table.append(_line(cells))
    return "\n\n".join(["## Intents, by what other intents teach", _said("metric"), "\n".join(lines), "\n".join(table)])


def _pooled(share: float | None) -> tuple[str, str]:
    """How tokens count, and the third layer."""
    return ("alike", "–") if share is None else ("weighted", f"{share:g}")


def _setfit(results: Mapping[str, list[Row]]) -> str:
    """By sentences alone, and where each class has its name as one more."""
    parts = ["## Against SetFit", _said("setfit"), _against_setfit(results, names=False)]
    if any(row["names"] for row in results["setfit"]):
        parts += ["### With names", _said("setfit-names"), _against_setfit(results, names=True)]
    return "\n\n".join(parts)


def _against_setfit(results: Mapping[str, list[Row]], *, names: bool) -> str:
    """Each set and number of shots: all settings, and ours against the best of them."""
    ours = {
        (row["data"], row["shots"], row["seed"], row["metric"]): row
        for row in results["frozen"]
        if row["names"] == names
    }
    theirs = [
        row
        for row in results["setfit"]
        if row["names"] == names and (row["data"], row["shots"], row["seed"], True) in ours
    ]
    titles = ["", "shots", "draws", "SetFit by pairs a sentence", "SetFit's best", "ours", "ours less its best"]
    titles += ["with a metric", "that less its best", "SetFit's training", "ours", "times as long"]
    lines = [_line(titles), "|---" * len(titles) + "|"]
    for data, shots in dict.fromkeys((row["data"], row["shots"]) for row in theirs):
        own = [row for row in theirs if (row["data"], row["shots"]) == (data, shots)]
        by_pairs = {pairs: [row for row in own if row["pairs"] == pairs] for pairs in sorted({r["pairs"] for r in own})}
        seeds = {row["seed"] for row in own if all(row["seed"] in {r["seed"] for r in of} for of in by_pairs.values())}
        by_pairs = {pairs: [row for row in of if row["seed"] in seeds] for pairs, of in by_pairs.items()}
        best = max(by_pairs, key=lambda pairs: np.mean([row["value"] for row in by_pairs[pairs]]))
        rival = sorted(by_pairs[best], key=lambda row: row["seed"])
        settings = ", ".join(
            f"{pairs}: {100 * np.mean([row['value'] for row in of]):.1f}" for pairs, of in by_pairs.items()
        )
        hits = np.mean([unpacked(row["hits"], row["asked"]) for row in rival], 0)
        cells = [SETS[data], shots, len(seeds), settings, f"{best}: {_mean(mean_interval(hits))}"]
        for metric in (False, True):
            mine = [ours[data, shots, seed, metric] for seed in sorted(seeds)]
            own_hits = np.mean([unpacked(row["hits"], row["asked"]) for row in mine], 0)
            cells += [_mean(mean_interval(own_hits)), _mean(paired_difference(own_hits, hits))]
        times = [float(np.mean([row["cpu_seconds"] for row in part])) for part in (mine, rival)]
        cells += [f"{times[1]:.0f} s", f"{times[0]:.2f} s", f"{times[1] / times[0]:.0f}"]
        lines.append(_line(cells))
    return "\n".join(lines)


def _relations(results: Mapping[str, list[Row]]) -> str:
    """Tasks of each size, wrong labels, strangers."""
    rows = results["relations"]
    plain = [row for row in rows if not row["noise"] and row["told"]] + [row for row in rows if row["ways"] == 10]
    sizes = [(5, 1), (5, 5), (10, 1), (10, 5)]
    parts = ["## Relations", _said("relations")]
    lines = [_line(["", "reading", "head", *(f"{n}-way {k}-shot" for n, k in sizes)]), "|---" * 7 + "|"]
    for place, reading, label in dict.fromkeys((row["place"], row["reading"], row["head"]) for row in plain):
        here = [row for row in plain if (row["place"], row["reading"], row["head"]) == (place, reading, label)]
        cells = [_figure([row for row in here if (row["ways"], row["shots"]) == size]) for size in sizes]
        lines.append(_line([place, reading, label, *cells]))
    parts += ["\n".join(lines), "### Wrong labels", _said("noise"), _noise(rows), "### Strangers", _said("strangers")]
    told = [row for row in rows if row["told"] and row["reading"] == "places"]
    scores = list(told[0]["told"]) if told else []
    lines = [_line(["", "head", "shots", *(f"AUROC, {name}" for name in scores), "FPR95, logit"])]
    lines.append("|---" * (len(scores) + 4) + "|")
    for row in told:
        cells = [_percent(row["told"][name]["auroc"], row["told"][name]["ci95"]) for name in scores]
        strict = row["told"]["logit"]
        lines.append(
            _line([row["place"], row["head"], row["shots"], *cells, _percent(strict["fpr95"], strict["fpr95_ci95"])])
        )
    return "\n\n".join([*parts, "\n".join(lines)])


def _noise(rows: list[Row]) -> str:
    own = [
        row for row in rows if row["part"] == "test" and (row["ways"], row["shots"], row["reading"]) == (5, 5, "places")
    ]
    own = [row for row in own if "16" in row["place"]]
    shares = sorted({row["noise"] for row in own})
    lines = [_line(["head", *(f"{100 * share:.0f}% wrong" for share in shares)]), "|---" * (len(shares) + 1) + "|"]
    for label in dict.fromkeys(row["head"] for row in own):
        cells = [_figure([row for row in own if (row["head"], row["noise"]) == (label, share)]) for share in shares]
        lines += [_line([label, *cells])]
    published = {
        "published: prototypical (CNN)": (89.05, 87.63, 82.45, 72.91),
        "published: HATT": (90.12, 88.74, 84.71, 76.57),
    }
    return "\n".join(lines + [_line([name, *figures]) for name, figures in published.items()])


def _zero_shot(results: Mapping[str, list[Row]]) -> str:
    """Names and descriptions alone."""
    lines = ["| | classes | wording | 5-way | all classes | of them |", "|---" * 6 + "|"]
    rows = results["zero-shot"]
    for data, classes, wording in dict.fromkeys((row["data"], row["classes"], row["wording"]) for row in rows):
        here = [row for row in rows if (row["data"], row["classes"], row["wording"]) == (data, classes, wording)]
        note = ", where wordings are chosen" if here[0]["part"] == "val" else ""
        five = [row for row in here if row["ways"] == 5]
        every = [row for row in here if row["ways"] != 5]
        cells = [SETS.get(data, "FewRel"), classes + note, f"`{wording}`", _figure(five), _figure(every)]
        lines.append(_line([*cells, every[0]["ways"] if every else "–"]))
    return "\n\n".join(["## Zero-shot: names and descriptions alone", _said("zero-shot"), "\n".join(lines)])


def _pictures(results: Mapping[str, list[Row]]) -> str:
    """Maps from pictures to names, and the generalized task."""
    rows = results["pictures-by-name"]
    titles = ["map", "classes", "5-way", "all ways", "seen", "unseen", "harmonic mean", "the same without penalty"]
    lines = [_line(titles), "|---" * len(titles) + "|"]
    for part, label in dict.fromkeys((row["part"], row["map"]) for row in rows):
        here = [row for row in rows if (row["part"], row["map"]) == (part, label)]
        keys = ("value", "all_ways_value", "seen", "unseen", "harmonic", "plain_harmonic")
        cells = [_mean(mean_interval([row[key] for row in here])) for key in keys]
        classes = f"{here[0]['all_ways']} {'validation' if part == 'val' else 'test'}"
        lines.append(_line([f"`{label}`", classes, *cells]))
    first = rows[0]
    encoder = f"The encoder: {first['encoder']}, step {first['encoder_step']} of spec {first['encoder_spec']}."
    return "\n\n".join(["## Zero-shot: mini-ImageNet by name", _said("pictures-by-name"), encoder, "\n".join(lines)])


def _percent(value: float, ci95: float) -> str:
    return f"{100 * value:.1f} ± {100 * ci95:.1f}"


def _mean(mean: Mean) -> str:
    return _percent(mean.value, mean.ci95)


def _figure(rows: list[Row]) -> str:
    return "–" if not rows else percent("accuracy", rows[0]["value"], rows[0]["ci95"]).removesuffix(" %")


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _said(question: str) -> str:
    """What was asked and how: the part of page.md's neighbor that is about it."""
    return (Path(__file__).parent / f"{question}.md").read_text().strip()


def _origin(question: str, rows: list[Row]) -> str:
    commits = ", ".join(dict.fromkeys(str(row["commit"])[:12] for row in rows))
    dates = sorted({row["date"] for row in rows})
    machine, versions = rows[-1]["machine"], rows[-1]["versions"]
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"`python -m benchmarks.texts {question}`; commit {commits}; {when}; {machine['processor']}, "
        f"{machine['cores']} cores, {machine['threads']} thread; torch {versions['torch']}."
    )


SECTIONS: dict[str, Callable[[Mapping[str, list[Row]]], str]] = {
    "intents": _intents,
    "metric": _metric,
    "setfit": _setfit,
    "relations": _relations,
    "zero-shot": _zero_shot,
    "pictures-by-name": _pictures,
}
