"""`handful compare`."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..comparison import plan_names
from ..comparison.jobs import Report, Work, run
from ..comparison.measuring import Place, with_differences
from ..comparison.plan import Plan, load_plan
from ..comparison.tables import BEGIN, END, comparison_tables, with_tables
from ..errors import SpecError, unknown_name
from ..files import storage_errors, write_file
from ..stopping import interruptible
from .progress import console
from .training import prepared

__all__ = ["run_compare"]


def run_compare(
    names: list[str], minutes: float, jobs: int, only: list[str], to: Path, runs: Path, document: Path, device: str
) -> None:
    """Measure the entries of plans, and write their tables. Exits with 1 if one failed, 130 if interrupted."""
    with prepared(device, 1) as (ranks, _):
        if ranks.size > 1:
            raise SpecError("a comparison starts processes of its own: use --jobs, and no torchrun")
    plans = [load_plan(name) for name in names or plan_names()]
    place, out = Place(to, runs), console()
    with storage_errors(to):
        to.mkdir(parents=True, exist_ok=True)
    works = [Work(plan, key, 60 * minutes, place, device) for plan in plans for key in _chosen(plan, only)]
    for key in only:
        if not any(key in plan.entries for plan in plans):
            raise unknown_name("entry of a comparison", key, {entry for plan in plans for entry in plan.entries})
    for plan in plans:
        if plan.absent and not only:
            out.print(f"{plan.name}: no learner in this version for {', '.join(plan.absent)}", markup=False)
    failed, interrupted = [], False
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[note]}"),
    )
    with interruptible() as stop, Progress(*columns, TimeElapsedColumn(), console=out, refresh_per_second=4) as bar:
        whole = bar.add_task("all", total=len(works), note="")
        tasks = {}
        for report in run(works, jobs, stop):
            if report.what == "progress":
                if report.name not in tasks:
                    tasks[report.name] = bar.add_task(report.name, total=1, note="")
                bar.update(tasks[report.name], completed=report.done, note=report.note)
                continue
            if report.name in tasks:
                bar.remove_task(tasks[report.name])
            bar.advance(whole)
            interrupted |= report.what == "interrupted"
            if report.what == "failed":
                failed.append(report)
                bar.console.print(f"{report.name} failed; the others go on", markup=False)
        interrupted |= stop()
    write_document(
        document, [load_plan(name) for name in plan_names()] + [p for p in plans if p.given != p.name], place
    )
    _tell(failed)
    if interrupted:
        out.print("Stopped; the same command goes on from here.")
        raise typer.Exit(130)
    if failed:
        raise typer.Exit(1)
    out.print(f"The tables are in {document}, the results in {to}", markup=False, soft_wrap=True)


def _chosen(plan: Plan, only: list[str]) -> list[str]:
    """The entries to measure: all that this version has the learners of, or some with what they need."""
    here = [key for key in only if key in plan.entries]
    return plan.needed(here) if here or not only else []


def write_document(path: Path, plans: list[Plan], place: Place) -> None:
    """Make the tables of every plan anew from what was measured."""
    text = f"# Every learner on the same tasks\n\n{BEGIN}\n\n{END}\n"
    if path.exists():
        with storage_errors(path, "read"):
            text = path.read_text(encoding="utf-8")
    tables = [comparison_tables(plan, with_differences(plan, place)) for plan in plans]
    write_file(path, with_tables(text, [table for table in tables if table]))


def _tell(failed: list[Report]) -> None:
    for report in failed:
        typer.echo(f"error: {report.name}: {report.note}", err=True)
