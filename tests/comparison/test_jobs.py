from __future__ import annotations

import multiprocessing

from handful.checkpoint import load_checkpoint
from handful.comparison.jobs import Report, Work, run
from handful.comparison.measuring import Place
from handful.comparison.plan import Plan


def works(plan: Plan, place: Place, *keys: str, seconds: float = 0.3) -> list[Work]:
    return [Work(plan, key, seconds, place) for key in keys]


def ends(reports: list[Report]) -> dict[str, str]:
    return {report.name: report.what for report in reports if report.what != "progress"}


def test_one_that_fails_does_not_lose_the_others(plan: Plan, place: Place) -> None:
    todo = works(plan, place, "again", "diverging", "prototypical")
    reports = list(run(todo, 2))
    assert ends(reports) == {"small/prototypical": "done", "small/diverging": "failed", "small/again": "done"}
    (failed,) = [report for report in reports if report.what == "failed"]
    assert "the loss is" in failed.note
    assert "Traceback" not in failed.note
    assert all(place.result(plan, key).exists() for key in ("prototypical", "again"))
    again = list(run([todo[0], todo[2]], 1))
    assert [report.what for report in again] == ["done", "done"]


def test_what_takes_the_weights_of_a_failure_fails(plan_of, place: Place) -> None:
    plan = plan_of(
        ('learner = { name = "prototypical" }\npublished', 'learner = { name = "prototypical", x = 1 }\npublished')
    )
    reports = list(run(works(plan, place, "prototypical", "again"), 2))
    assert ends(reports) == {"small/prototypical": "failed", "small/again": "failed"}
    assert "unknown key 'x'" in reports[0].note
    assert reports[-1].note == "it takes the weights of small/prototypical, which failed"


def test_stopped_and_killed(plan: Plan, place: Place) -> None:
    reports: list[Report] = []
    reports.extend(run(works(plan, place, "prototypical", "again", seconds=600), 1, lambda: len(reports) > 1))
    assert ends(reports) == {"small/prototypical": "interrupted"}
    folder = place.run(plan.spec("prototypical", 600))
    begun = load_checkpoint(folder / "last").step
    assert begun > 0
    assert not multiprocessing.active_children()
    reports.clear()
    for report in run(works(plan, place, "prototypical", seconds=600), 1):
        reports.append(report)
        for process in multiprocessing.active_children():
            process.kill()
    assert ends(reports) == {"small/prototypical": "failed"}
    assert "its process ended (-9)" in reports[-1].note
    assert load_checkpoint(folder / "last").step >= begun
