"""The document: tables made from the results, between marks; the words around them stay."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..ledger import between_marks, percent
from .plan import Plan, Trial

__all__ = ["BEGIN", "END", "comparison_tables", "with_tables"]

BEGIN, END = "<!-- comparison: made by `handful compare`, do not edit -->", "<!-- end of comparison -->"

Result = Mapping[str, Any]


def with_tables(document: str, tables: Sequence[str]) -> str:
    """The document with its tables made anew.

    Raises:
        DataError: the document has no place for them.
    """
    return between_marks(document, BEGIN, END, "\n\n".join(tables))


def comparison_tables(plan: Plan, results: Sequence[Result]) -> str:
    """All tables of a plan; nothing where nothing was measured."""
    if not results:
        return ""
    main = [name for name, trial in plan.tests.items() if trial.who == "every"]
    parts = [f"## {plan.title}", _said(plan, results)]
    for title, together in (("Inductive: each query by itself", False), ("Transductive: queries share", True)):
        chosen = [result for result in results if result["transductive"] is together]
        if not chosen:
            continue
        parts += [f"### {title}", _table(chosen, main, lambda result, name: _measured(plan, result, name))]
        if any("difference" in test for result in chosen for test in result["tests"].values()):
            control = plan.entries[plan.control].title
            parts += [
                f"Difference to {control} on the same tasks{_unit(plan)}:",
                _table(chosen, main, lambda result, name: _difference(plan, result, name)),
            ]
    for who, title in (("embedding", "Wrong labels in the support"), ("transductive", "Unbalanced queries")):
        special = [name for name, trial in plan.tests.items() if trial.who == who]
        chosen = [result for result in results if set(special) & set(result["tests"])]
        if chosen:
            columns = [*_beside(plan, special, main), *special]
            parts += [f"### {title}", _table(chosen, columns, lambda result, name: _measured(plan, result, name))]
    parts += ["### What it costs", _costs(plan, results), _notes(results)]
    return "\n\n".join(part for part in parts if part)


def _said(plan: Plan, results: Sequence[Result]) -> str:
    """What the figures mean."""
    budgets = sorted({result["spec"]["train"]["seconds"] / 60 for result in results})
    minutes = " and ".join(f"{budget:g}" for budget in budgets)
    tasks = sorted({test["tasks"] for result in results for test in result["tests"].values()})
    machines = sorted({f"{r['machine']['processor']}, {r['machine']['threads']} thread" for r in results})
    text = (
        f"Each trained once for {minutes} minute{'' if budgets == [1] else 's'} ({'; '.join(machines)}), and tested on "
        f"the same {' or '.join(f'{count:,}' for count in tasks)} tasks of each kind. Intervals are 95%, over tasks"
    )
    if plan.metric == "mse":
        text += "; the median stands in brackets with its interval"
    if any(result["published"] for result in results):
        text += "; published figures, of other budgets and often other encoders, stand after a slash"
    return text + ". †: not trained by itself, see the costs. Memory is that of the process, Python and torch included."


def _table(results: Sequence[Result], columns: Sequence[str], cell: Callable[[Result, str], str]) -> str:
    """A row for each result that has something to show."""
    rows = [(result, [cell(result, name) for name in columns]) for result in results]
    lines = ["| learner | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {_title(result)} | " + " | ".join(cells) + " |" for result, cells in rows if set(cells) != {"–"}]
    return "\n".join(lines)


def _title(result: Result) -> str:
    return str(result["title"]) + (" †" if result["weights_of"] else "")


def _measured(plan: Plan, result: Result, name: str) -> str:
    test = result["tests"].get(name)
    if test is None:
        return "–"
    said = "not finite" if test["value"] is None else percent(plan.metric, test["value"], test["ci95"])
    if "median" in test:
        median, low, high = (math.nan if one is None else one for one in test["median"])
        said += f" ({median:.3f}, {low:.3f} to {high:.3f})"
    if test["not_finite"]:
        said += f", {test['not_finite']} answers not finite"
    published = result["published"].get(name)
    return said if published is None else f"{said} / {percent(plan.metric, published, None)}"


def _difference(plan: Plan, result: Result, name: str) -> str:
    difference = result["tests"].get(name, {}).get("difference")
    if difference is None:
        return "–"
    if difference["value"] is None:
        return "not finite"
    scale, digits = (100, 2) if plan.metric == "accuracy" else (1, 3)
    half = "" if difference["ci95"] is None else f" ± {scale * difference['ci95']:.{digits}f}"
    return f"{scale * difference['value']:+.{digits}f}{half}"


def _unit(plan: Plan) -> str:
    return ", in points" if plan.metric == "accuracy" else ", less is better"


def _beside(plan: Plan, special: Sequence[str], main: Sequence[str]) -> list[str]:
    """The usual tests of the same ways, shots and queries."""
    sizes = {_size(plan.tests[name]) for name in special}
    return [name for name in main if _size(plan.tests[name]) in sizes]


def _size(trial: Trial) -> tuple[object, ...]:
    return trial.ways, trial.shots, trial.queries


def _costs(plan: Plan, results: Sequence[Result]) -> str:
    first = next(iter(plan.tests))
    lines = [
        f"| learner | steps | training | learning a task ({first}) | answering its queries | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        of = result["weights_of"]
        steps, training = f"{result['steps']:,}", f"{result['train_seconds'] / 60:.1f} min"
        if of is not None:
            steps, training = "–", f"† {plan.entries[of].title}"
        elif result["steps"] == 0:
            steps, training = "–", "none"
        lines.append(
            f"| {result['title']} | {steps} | {training} | {_milliseconds(result['learn_ms'])} "
            f"| {_milliseconds(result['answer_ms'])} | {_memory(result['peak_memory_mib'])} |"
        )
    return "\n".join(lines)


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g} ms"


def _memory(value: int | None) -> str:
    return "–" if value is None else f"{value:,} MiB"


def _notes(results: Sequence[Result]) -> str:
    """Sources of published figures, and what an entry has to say."""
    lines = []
    for result in results:
        said = [part for part in (result["note"], result["source"] and f"Published: {result['source']}.") if part]
        if said:
            lines.append(f"- {result['title']}: {' '.join(said)}")
    return "\n".join(lines)
