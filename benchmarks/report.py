"""docs/benchmarks.md and docs/growth.svg, made from the rows in benchmarks/results.

python -m benchmarks.report
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from handful.files import write_file

ROOT = Path(__file__).parents[1]
ORDER = ("maml", "modules", "prototypical", "sampling", "evaluation", "growth", "gpu")
HEAD = (
    "| work | peer | threads | allocator | ratio | ours | peer's | memory | of the limit | pairs |\n"
    + "|---" * 10
    + "|"
)
Row = dict[str, Any]


def key(row: Row) -> tuple[Any, ...]:
    """What a row measured; a newer one with the same key takes its place."""
    return tuple(row[name] for name in ("work", "peer", "threads", "allocator", "device", "precision"))


def read(folder: Path) -> dict[str, list[Row]]:
    """The rows of each question that was measured."""
    paths = {question: folder / f"{question}.json" for question in ORDER}
    return {question: json.loads(path.read_text()) for question, path in paths.items() if path.exists()}


def line(row: Row) -> str:
    """A row in a line."""
    return (
        f"{row['peer']} takes {ratio(row)} times as long ({amount(row['our_seconds'])} and "
        f"{amount(row['peer_seconds'])}), {row['pairs']} pairs; memory {memory(row)}"
    )


def ratio(row: Row) -> str:
    digits = 0 if row["ratio"] >= 100 else 1 if row["ratio"] >= 10 else 2
    return f"{row['ratio']:,.{digits}f} ({row['low']:,.{digits}f} to {row['high']:,.{digits}f})"


def amount(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:,.{0 if seconds >= 100 * size else 1 if seconds >= 10 * size else 2}f} {unit}"
    return f"{seconds * 1e6:,.0f} µs"


def memory(row: Row) -> str:
    both = row["our_peak_bytes"], row["peer_peak_bytes"]
    if min(both) < 1 << 20:  # less than can be told from noise
        return "–"
    return f"{row['peak_memory_ratio']:.2f} ({both[0] / 2**20:,.0f} / {both[1] / 2**20:,.0f} MB)"


def share(row: Row) -> str:
    return "–" if row["limit_fraction"] is None else f"{100 * row['limit_fraction']:.0f} %"


def page(results: dict[str, list[Row]]) -> str:
    """The page."""
    parts = [(Path(__file__).parent / "page.md").read_text().rstrip("\n")]
    if not any(row["device"] != "cpu" for found in results.values() for row in found):
        parts.append("No GPU was at hand: every figure is of a CPU. `python -m benchmarks gpu` measures one.")
    if not any(results.values()):
        parts.append("Nothing is measured yet.")
    for question, found in results.items():
        if found:
            parts.append(section(question, found))
    return "\n\n".join(parts) + "\n"


def section(question: str, found: list[Row]) -> str:
    """A question, what was asked, and its table."""
    asked = (importlib.import_module(f"benchmarks.{question}").__doc__ or "").strip()
    title, _, text = asked.partition("\n\n")
    parts = [f"## {title}", text] if text else [f"## {title}"]
    if question == "growth":
        parts.append("![Seconds of a step over tasks, steps and ways](growth.svg)")
    parts += [table(found), "\n".join(notes(found)), origin(found)]
    return "\n\n".join(part for part in parts if part)


def table(found: list[Row]) -> str:
    names = list(dict.fromkeys(row["work"] for row in found))
    peers = list(dict.fromkeys(row["peer"] for row in found))
    ordered = sorted(
        found, key=lambda r: (names.index(r["work"]), peers.index(r["peer"]), r["threads"], r["allocator"])
    )
    lines = [HEAD]
    for row in ordered:
        where = (
            "" if row["device"] == "cpu" and row["precision"] == "float32" else f", {row['device']} {row['precision']}"
        )
        mark = f" [{_marks(found).index(row['note']) + 1}]" if row["note"] else ""
        lines.append(
            f"| {row['title']}{where} | {row['peer']}{mark} | {row['threads']} | {row['allocator']} | {ratio(row)} "
            f"| {amount(row['our_seconds'])} | {amount(row['peer_seconds'])} | {memory(row)} | {share(row)} "
            f"| {row['pairs']} |"
        )
    return "\n".join(lines)


def notes(found: list[Row]) -> list[str]:
    """What the marks in the table say, one paragraph each."""
    return [f"[{number}] {note[0].upper() + note[1:]}.\n" for number, note in enumerate(_marks(found), 1)]


def _marks(found: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row["note"] for row in found if row["note"]))


def origin(found: list[Row]) -> str:
    """Where the rows come from."""
    commits = sorted({str(row["commit"])[:7] + ("+" if str(row["commit"]).endswith("+") else "") for row in found})
    days = sorted({row["date"][:10] for row in found})
    machines = sorted(
        {
            f"{row['machine'].get('accelerator', row['machine']['processor'])}, {row['machine']['cores']} cores"
            for row in found
        }
    )
    packages = sorted({f"{name} {number}" for row in found for name, number in row["versions"].items()})
    loads = [row["load_average"][0] for row in found]
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return (
        f"Measured {when} at commit {', '.join(commits)} on {'; '.join(machines)}; load average {min(loads)} to "
        f"{max(loads)}, of which we ourselves make up to the number of threads; {', '.join(packages)}."
    )


def draw(found: list[Row], path: Path) -> None:
    """The growth plot: seconds of a step over each axis, ours and learn2learn's."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "handful"
    import matplotlib.pyplot as plt

    from .growth import AXES, BASE

    rows = {row["work"]: row for row in found if row["peer"] == "learn2learn"} or {row["work"]: row for row in found}
    figure, panels = plt.subplots(1, len(AXES), figsize=(10, 3.2), sharey=True, layout="constrained")
    for panel, (axis, sizes) in zip(panels, AXES.items(), strict=True):
        known = [size for size in sizes if f"growth-{axis}-{size}" in rows]
        chosen = [rows[f"growth-{axis}-{size}"] for size in known]
        for who, column, style in (("Handful", "our_seconds", "o-"), ("peer", "peer_seconds", "s--")):
            label = chosen[0]["peer"] if who == "peer" and chosen else who
            panel.plot(known, [row[column] for row in chosen], style, label=label)
        others = ", ".join(f"{number} {what}" for what, number in BASE.items() if what != axis)
        panel.set(xscale="log", yscale="log", xlabel=axis, title=others)
        panel.set_xticks(sizes, [str(size) for size in sizes], minor=False)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("seconds a step")
    panels[0].legend()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def write(results: Path, docs: Path) -> None:
    """The page and, if growth was measured, the plot."""
    found = read(results)
    docs.mkdir(parents=True, exist_ok=True)
    write_file(docs / "benchmarks.md", page(found))
    if found.get("growth"):
        draw(found["growth"], docs / "growth.svg")


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:3] or (ROOT / "benchmarks" / "results", ROOT / "docs")))
