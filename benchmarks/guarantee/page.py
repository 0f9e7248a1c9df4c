"""docs/guarantee-figures.md and docs/label-next.svg, made from the rows in benchmarks/results/guarantee."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from handful.files import write_file

from .labeling import BUDGETS, OURS, WAYS_TO_CHOOSE
from .unknown import SCORES

__all__ = ["DOCS", "RESULTS", "keep", "page", "read", "write"]

ROOT = Path(__file__).parents[2]
RESULTS, DOCS = ROOT / "benchmarks" / "results" / "guarantee", ROOT / "docs"
QUESTIONS = ("coverage", "unknown", "mislabeled", "labeling", "speed")
KEYS = (
    "set",
    "encoder",
    "head",
    "ways",
    "shots",
    "share",
    "uneven",
    "promised",
    "score",
    "choice",
    "budget",
    "spread",
    "classes",
)
"""What tells the rows of a question apart."""
Row = dict[str, Any]


def keep(path: Path, rows: Iterable[Row]) -> None:
    """Write rows in the place of older ones of the same."""
    kept = {_key(row): row for row in (json.loads(path.read_text()) if path.exists() else [])}
    kept |= {_key(row): row for row in rows}
    write_file(path, json.dumps(list(kept.values()), indent=1, ensure_ascii=False) + "\n")


def read(folder: Path) -> dict[str, list[Row]]:
    """The rows of each question that was measured."""
    paths = {question: folder / f"{question}.json" for question in QUESTIONS}
    return {question: json.loads(path.read_text()) for question, path in paths.items() if path.exists()}


def write(results: Path, docs: Path) -> None:
    """Make page and picture anew."""
    rows = read(results)
    write_file(docs / "guarantee-figures.md", page(rows))
    if "labeling" in rows:
        write_file(docs / "label-next.svg", _curves(rows["labeling"]))


def page(rows: dict[str, list[Row]]) -> str:
    """The page in Markdown."""
    text = (Path(__file__).parent / "page.md").read_text()
    tables = {
        "coverage": _coverage(rows.get("coverage", [])),
        "calibration": _calibration(rows.get("coverage", [])),
        "unknown": _unknown(rows.get("unknown", [])),
        "scores": "\n".join(f"- *{name}*: {what}" for name, what in SCORES.items()),
        "mislabeled": _mislabeled(rows.get("mislabeled", [])),
        "labeling": _labeling(rows.get("labeling", [])),
        "speed": _speed(rows.get("speed", [])),
    }
    for name, table in tables.items():
        text = text.replace(f"<!-- {name} -->", table or "Not measured yet.")
    for question in QUESTIONS:
        text = text.replace(f"<!-- about {question} -->", _about(rows.get(question, [])))
    return text


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in KEYS)


def _about(rows: list[Row]) -> str:
    """Where the figures of a table come from."""
    runs = dict.fromkeys((str(row["command"]), str(row["commit"])[:10], str(row["date"])[:10]) for row in rows)
    return "; ".join(f"`{command}` at {commit}, {date}" for command, commit, date in runs)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(list(head))]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _percent(value: list[float], digits: int = 1) -> str:
    return f"{100 * value[0]:.{digits}f} ± {100 * value[1]:.{digits}f}"


def _signed(value: list[float]) -> str:
    return f"{100 * value[0]:+.1f} ± {100 * value[1]:.1f}"


def _coverage(rows: list[Row]) -> str:
    head = ("data", "encoder", "head", "shots", "accuracy", "promised", "came", "labels a set", "refused", "caught")
    lines = [
        (
            *(str(row[name]) for name in ("set", "encoder", "head", "shots")),
            _percent(row["accuracy"]),
            f"{100 * row['promised']:.0f}",
            _percent(row["covered"]),
            f"{row['labels'][0]:.2f} ± {row['labels'][1]:.2f}",
            _percent(row["refused"]),
            _percent(row["strangers caught"]) if "strangers caught" in row else "–",
        )
        for row in rows
    ]
    return _table(head, lines) if rows else ""


def _calibration(rows: list[Row]) -> str:
    names = ("calibration error before", "calibration error after", "log loss before", "log loss after")
    seen = {(row["set"], row["encoder"], row["head"], row["shots"]): row for row in rows}
    lines = [
        (*map(str, key), *(f"{row[name][0]:.3f} ± {row[name][1]:.3f}" for name in names)) for key, row in seen.items()
    ]
    return _table(("data", "encoder", "head", "shots", *names), lines) if rows else ""


def _unknown(rows: list[Row]) -> str:
    tasks: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        tasks.setdefault((row["set"], row["encoder"], row["ways"], row["shots"]), {})[row["score"]] = row
    blocks = []
    for title, name in (("AUROC", "auroc"), ("FPR95 (less is better)", "fpr95")):
        lines = []
        for key, scores in tasks.items():
            shown = {score: _percent(row[name]) for score, row in scores.items()}
            best = (max if name == "auroc" else min)(scores, key=lambda score: scores[score][name][0])
            shown[best] = f"**{shown[best]}**"
            lines.append((*map(str, key), *(shown.get(score, "–") for score in SCORES)))
        blocks.append(f"{title}:\n\n" + _table(("data", "encoder", "ways", "shots", *SCORES), lines))
    return "\n\n".join(blocks) if rows else ""


def _mislabeled(rows: list[Row]) -> str:
    lines = [
        (
            *(str(row[name]) for name in ("set", "encoder", "shots")),
            f"{100 * row['share']:.0f}%",
            _percent(row["precision"], 0),
            _percent(row["recall"], 0),
        )
        for row in rows
    ]
    return _table(("data", "encoder", "examples a class", "wrong", "precision", "recall"), lines) if rows else ""


def _labeling(rows: list[Row]) -> str:
    found: dict[tuple[Any, ...], dict[tuple[str, int], Row]] = {}
    for row in rows:
        found.setdefault((row["set"], row["uneven"]), {})[row["choice"], row["budget"]] = row
    lines = []
    others = [choice for choice in WAYS_TO_CHOOSE if choice != "random"]
    for (name, uneven), cells in found.items():
        for budget in BUDGETS:
            covered = (f"{100 * cells[choice, budget]['covered'][0]:.1f}" for choice in ("random", OURS))
            lines.append(
                (
                    f"{name}{', uneven' if uneven else ''}",
                    str(budget),
                    _percent(cells["random", budget]["accuracy"]),
                    *(_signed(cells[choice, budget]["more than random"]) for choice in others),
                    " / ".join(covered),
                )
            )
    head = ("data", "labels a class", "random", *others, "came of 90: random / suggest")
    return _table(head, lines) if rows else ""


def _speed(rows: list[Row]) -> str:
    lines = [
        (
            f"{row['spread']}",
            f"{100 * row['accuracy']:.0f}%",
            f"{row['teach_seconds']:.2f} s",
            f"{row['first_answer_seconds']:.2f} s",
            f"{1e3 * row['answer_seconds']:.1f} ms",
            f"{1e3 * row['answer_p99_seconds']:.1f} ms",
            f"{1e3 * row['add_seconds']:.1f} ms (p99 {1e3 * row['add_p99_seconds']:.1f})",
            f"{row['memory_bytes'] / 2**20:.0f} MiB = {row['memory_bytes'] / row['vector_bytes']:.1f} ×",
            f"{row['load']:.0f}",
        )
        for row in rows
        if "spread" in row
    ]
    head = (
        "spread",
        "right",
        "teach",
        "first answer",
        "an answer",
        "p99",
        "add",
        "memory, of 14.6 MiB of vectors",
        "load",
    )
    taught = []
    for row in rows:
        if "pictures" in row:
            what = f"{row['classes']} classes × {row['pictures']} pictures by {row['encoder']}"
            taught.append(f"{what}: {row['seconds']:.1f} s of processor time, start of the program included.")
    return "\n\n".join([_table(head, lines), *taught]) if rows else ""


def _curves(rows: list[Row]) -> str:
    """Accuracy over labels a class, a panel for each set."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "handful"
    names = list(dict.fromkeys((row["set"], row["uneven"]) for row in rows))
    figure, axes = plt.subplots(2, -(-len(names) // 2), figsize=(3.2 * -(-len(names) // 2), 6), squeeze=False)
    for axis, (name, uneven) in zip(axes.T.flat, names, strict=False):
        for choice in WAYS_TO_CHOOSE:
            own = [row for row in rows if (row["set"], row["uneven"], row["choice"]) == (name, uneven, choice)]
            x = [row["budget"] + 1 for row in own]
            y, error = ([100 * row["accuracy"][part] for row in own] for part in (0, 1))
            axis.errorbar(x, y, error, label=choice, marker=".", capsize=2, linewidth=2 if choice == OURS else 1)
        axis.set_title(f"{name}{', uneven' if uneven else ''}", fontsize=9)
        axis.set_xlabel("examples a class")
        axis.set_ylabel("accuracy, %")
    for axis in list(axes.T.flat)[len(names) :]:
        axis.set_visible(False)
    axes.flat[0].legend(fontsize=7)
    figure.tight_layout()
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    return out.getvalue()
