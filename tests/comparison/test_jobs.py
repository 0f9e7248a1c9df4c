from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable

from handful.checkpoint import load_checkpoint
from handful.comparison.jobs import Report, Work, run
from handful.comparison.measuring import Place, measure
from handful.comparison.plan import Plan

BROKEN = """
[entries.broken]
title = "Broken"
learner = { name = "maml", outputs = 3, inner_rate = 1e30, inner_steps = 5 }
encoder = { normalization = "none" }

[entries.after]
title = "After it"
learner = { name = "maml", outputs = 3 }
weights = "broken"

[entries.diverging]"""


def works(plan: Plan, place: Place, *keys: str, seconds: float = 0.3) -> list[Work]:
    return [Work(plan, key, seconds, place) for key in keys]


def ends(reports: list[Report]) -> dict[str, str]:
    return {report.name: report.what for report in reports if report.what != "progress"}


def test_one_that_fails_does_not_lose_the_others(plan_of: Callable[..., Plan], place: Place) -> None:
    plan = plan_of(("\n[entries.diverging]", BROKEN))
    for key in ("prototypical", "again"):
        for _ in measure(plan, key, 0.3, place):
            pass
    reports = list(run(works(plan, place, "again", "after", "broken", "prototypical"), 2))
    assert ends(reports) == {
        "small/prototypical": "done",
        "small/again": "done",
        "small/broken": "failed",
        "small/after": "failed",
    }
    notes = {report.name: report.note for report in reports if report.what == "failed"}
    assert "the loss is" in notes["small/broken"]
    assert "Traceback" not in notes["small/broken"]
    assert notes["small/after"] == "it takes the weights of small/broken, which failed"


def test_stopped_and_killed(plan: Plan, place: Place) -> None:
    reports: list[Report] = []
    reports.extend(run(works(plan, place, "prototypical", "again", seconds=600), 1, lambda: len(reports) > 1))
    assert ends(reports) == {"small/prototypical": "interrupted"}
    folder = place.run(plan.spec("prototypical", 600))
    begun = load_checkpoint(folder / "last").step
    assert begun > 0
    assert not multiprocessing.active_children()
    kill = threading.Timer(0.5, lambda: [process.kill() for process in multiprocessing.active_children()])
    kill.start()
    (report,) = run(works(plan, place, "prototypical", seconds=600), 1)
    kill.join()
    assert (report.name, report.what) == ("small/prototypical", "failed")
    assert "its process ended (-9)" in report.note
    assert load_checkpoint(folder / "last").step >= begun
