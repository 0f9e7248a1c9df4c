from __future__ import annotations

import itertools
import json
import math
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from handful import run
from handful.checkpoint import load_checkpoint, save_checkpoint
from handful.distributed import Ranks
from handful.errors import (
    CheckpointError,
    DataError,
    HandfulError,
    MissingExtraError,
    RankError,
    SpecError,
    StorageError,
)
from handful.evaluation import evaluate
from handful.run import Event, fit
from handful.spec import Spec, build, load_data, make_optimizer
from handful.training import train

Table = dict[str, Any]
Make = Callable[..., Table]


@pytest.fixture
def spec(digits_table: Make) -> Spec:
    return Spec.of(digits_table(steps=12, validation={}))


def last_of(spec: Spec, folder: Path, **options: Any) -> Event:
    return list(fit(spec, folder, **options))[-1]


def lines(folder: Path) -> list[Table]:
    """The log without timings."""
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in log]


def assert_same_run(one: Path, two: Path) -> None:
    """Weights, buffers, optimizer, progress, best checkpoint and log: all but the timings."""
    for name in ("last", "best"):
        a, b = load_checkpoint(one / name), load_checkpoint(two / name)
        assert (a.step, a.spec) == (b.step, b.spec)
        kept = [{**c.notes, "progress": {**c.notes["progress"], "seconds": 0}} for c in (a, b)]
        assert kept[0] == kept[1]
        weights, others = a.learner.state_dict(), b.learner.state_dict()
        assert list(weights) == list(others)
        assert all(torch.equal(value, others[key]) for key, value in weights.items()), name
        assert (a.optimizer is None) == (b.optimizer is None) == (name == "best")
        if a.optimizer is not None and b.optimizer is not None:
            state = b.optimizer
            assert set(a.optimizer) == set(state)
            assert all(torch.equal(value, state[key]) for key, value in a.optimizer.items())
    assert lines(one) == lines(two)


@pytest.mark.parametrize("options", [{"log_every": 0}, {"device": "cuda:99"}, {"device": "gpu"}])
def test_what_cannot_be_done_is_said_in_one_line(spec: Spec, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=f"{next(iter(options.values()))}") as raised:
        last_of(spec, tmp_path / "run", **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_nothing_to_train_leaves_no_folder(digits_table: Make, tmp_path: Path) -> None:
    table = digits_table() | {"encoder": {"name": "identity", "shape": [1, 8, 8]}}
    with pytest.raises(SpecError, match="prototypical with identity has nothing to train: expected parameters"):
        last_of(Spec.of(table), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_from_beginning_to_end(spec: Spec, tmp_path: Path) -> None:
    events = list(fit(spec, tmp_path / "run", log_every=5))
    assert [event.step for event in events] == list(range(1, 13))
    assert {event.steps for event in events} == {12}
    assert [event.stopped for event in events] == [""] * 11 + ["finished"]
    assert [event.step for event in events if event.score is not None] == [3, 6, 9, 12]
    assert all((event.score is None) == (event.ci95 is None) for event in events)
    assert all(a.seconds <= b.seconds for a, b in pairwise(events))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [".lock", "best", "last", "log.jsonl"]


def test_every_line_of_the_log(spec: Spec, tmp_path: Path) -> None:
    events = {event.step: event for event in fit(spec, tmp_path / "run", log_every=5)}
    log = lines(tmp_path / "run")
    losses = [line for line in log if "loss" in line]
    assert [line["step"] for line in losses] == [5, 10, 12]
    assert all(line["loss"] == events[line["step"]].loss and line["rate"] == 0.01 for line in losses)
    trials = [line for line in log if "validation" in line]
    assert [line["step"] for line in trials] == [3, 6, 9, 12]
    assert all(line["validation"] == events[line["step"]].score for line in trials)
    assert all(line["ci95"] == events[line["step"]].ci95 and line["metric"] == "accuracy" for line in trials)
    assert log == losses + trials or len(log) == len(losses) + len(trials)
    assert [line["step"] for line in log] == sorted(line["step"] for line in log)


def test_best_is_the_best_on_validation_and_last_the_newest(digits_table: Make, tmp_path: Path) -> None:
    spec = Spec.of(digits_table(steps=18, rate=0.3, validation={}))
    events = list(fit(spec, tmp_path))
    scores = {event.step: event.score for event in events if event.score is not None}
    top = max(scores.values())
    first = next(step for step, score in scores.items() if score == top)
    assert first < 18  # or best and last would be the same
    best, last = load_checkpoint(tmp_path / "best"), load_checkpoint(tmp_path / "last")
    assert (best.step, last.step) == (first, 18)
    assert best.notes["score"] == events[-1].best == top
    assert spec.validation is not None
    again = evaluate(best.learner, spec.validation.draw_from(load_data(spec)), tasks=spec.validation.tasks)
    assert again.mean.value == top
    assert best.optimizer is None


def test_the_best_of_errors_is_the_smallest(tmp_path: Path) -> None:
    spec = Spec.of(
        {
            "learner": {"name": "maml", "outputs": 1, "inner_rate": 0.01},
            "encoder": {"name": "mlp", "shape": [1], "hidden": [8]},
            "data": {"name": "sinusoid"},
            "train": {"steps": 12, "shots": 5, "queries": 5, "batch": 2, "rate": 0.1},
            "validation": {"every": 2, "shots": 5, "batch": 5, "tasks": 10},
        }
    )
    scores = {event.step: event.score for event in fit(spec, tmp_path) if event.score is not None}
    best = load_checkpoint(tmp_path / "best")
    assert best.notes["score"] == min(scores.values()) < max(scores.values())
    assert scores[best.step] == min(scores.values())


def test_without_validation_there_is_no_best(digits_table: Make, tmp_path: Path) -> None:
    event = last_of(Spec.of(digits_table(steps=3)), tmp_path)
    assert (event.best, event.score, event.stopped) == (None, None, "finished")
    assert not (tmp_path / "best").exists()


def test_patience_ends_a_run_that_no_longer_improves(digits_table: Make, tmp_path: Path) -> None:
    table = digits_table(steps=50, rate=1e-12, validation={"every": 2, "patience": 3})
    table["encoder"]["normalization"] = "none"  # nothing changes, so that no score is better than the first
    spec = Spec.of(table)
    event = last_of(spec, tmp_path)
    assert (event.step, event.stopped) == (8, "patience")
    assert load_checkpoint(tmp_path / "best").step == 2
    assert lines(tmp_path)[-1]["step"] == 8
    again = list(fit(spec, tmp_path, resume=True))
    assert [(event.step, event.stopped) for event in again] == [(8, "patience")]


def test_patience_is_renewed_by_a_better_score() -> None:
    progress = run.Progress()
    for step, score in enumerate([0.5, 0.4, 0.5, 0.6, 0.6], 1):
        progress = run._validated(progress, score, step, lower=False)
        assert progress.worse == [0, 1, 2, 0, 1][step - 1]
    assert (progress.best, progress.best_step, progress.validations) == (0.6, 4, 5)


@pytest.mark.parametrize("seed", range(4))
def test_a_run_stopped_at_random_steps_and_resumed_gives_the_same_bits(
    digits_table: Make, tmp_path: Path, seed: int
) -> None:
    spec = Spec.of(digits_table(steps=20, schedule={"name": "cosine"}, accumulate=2, clip=1.0, validation={}))
    assert last_of(spec, tmp_path / "whole", log_every=4).stopped == "finished"
    numbers, ends = random.Random(seed), list[int]()
    while not ends or ends[-1] < 20:
        asked, until = itertools.count(), numbers.randint(0, 6)
        stop = lambda asked=asked, until=until: next(asked) == until  # noqa: E731
        event = last_of(spec, tmp_path / "parts", log_every=4, resume=True, stop=stop)
        assert event.stopped == ("finished" if event.step == 20 else "interrupted")
        ends.append(event.step)
    assert len(ends) > 3
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_log_cut_short_is_mended(spec: Spec, tmp_path: Path) -> None:
    last_of(spec, tmp_path / "whole", log_every=1)
    left = iter(range(6))
    last_of(spec, tmp_path / "cut", log_every=1, stop=lambda: next(left) == 5)
    log = tmp_path / "cut" / "log.jsonl"
    log.write_text(log.read_text() + '{"step": 7, "loss": 1.0}\n{"step": 8, "lo')  # steps that are done again
    last_of(spec, tmp_path / "cut", log_every=1, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_log_with_bytes_that_are_no_text_is_mended(spec: Spec, tmp_path: Path) -> None:
    last_of(spec, tmp_path / "whole", log_every=1)
    left = iter(range(6))
    last_of(spec, tmp_path / "cut", log_every=1, stop=lambda: next(left) == 5)
    with open(tmp_path / "cut" / "log.jsonl", "ab") as file:
        file.write(b"\x00\xff\xfe\n")  # what a power cut may leave
    last_of(spec, tmp_path / "cut", log_every=1, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize("notes", [{}, {"progress": {"seconds": 1.0, "momentum": 2}}, {"progress": 3}])
def test_a_checkpoint_without_a_runs_progress_is_not_continued(spec: Spec, tmp_path: Path, notes: Table) -> None:
    learner = build(spec)
    save_checkpoint(tmp_path / "last", learner, spec, step=3, notes=notes, optimizer=make_optimizer(spec, learner))
    with pytest.raises(CheckpointError, match="expected a run's progress in its notes"):
        last_of(spec, tmp_path, resume=True)
    assert load_checkpoint(tmp_path / "last").step == 3


def test_what_a_kill_left_is_removed_when_the_run_goes_on(spec: Spec, tmp_path: Path) -> None:
    last_of(spec, tmp_path, stop=lambda: True)
    (tmp_path / ".last.4711.tmp").mkdir()
    (tmp_path / ".last.4711.tmp" / "weights.safetensors").write_bytes(b"half")
    (tmp_path / ".log.jsonl.4711.tmp").write_text("half")
    refused(StorageError, spec, tmp_path)  # another process may be at it
    last_of(spec, tmp_path, resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "best", "last", "log.jsonl"]


def test_seconds_add_up_over_resumptions(spec: Spec, tmp_path: Path) -> None:
    first = last_of(spec, tmp_path, stop=lambda: True)
    events = list(fit(spec, tmp_path, resume=True))
    assert first.step == 1
    assert 0 < first.seconds < events[0].seconds < events[-1].seconds
    assert load_checkpoint(tmp_path / "last").notes["progress"]["seconds"] == events[-1].seconds


def test_a_finished_run_ends_at_once(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = last_of(spec, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))}
    monkeypatch.setattr(run, "train", lambda *arguments, **options: pytest.fail("trained again"))
    again = list(fit(spec, tmp_path, resume=True))
    assert [(event.step, event.best, event.seconds, event.stopped) for event in again] == [
        (12, done.best, done.seconds, "finished")
    ]
    assert {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))} == before


def test_resume_without_a_run_begins_one(spec: Spec, tmp_path: Path) -> None:
    assert next(fit(spec, tmp_path / "new", resume=True)).step == 1


def test_checkpoints_are_saved_by_the_clock_too(digits_table: Make, tmp_path: Path) -> None:
    events = fit(Spec.of(digits_table(steps=9)), tmp_path, save_every=0)
    for step in range(1, 4):
        assert next(events).step == step
        assert load_checkpoint(tmp_path / "last").step == step


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(error: type[HandfulError], spec: Spec, folder: Path, **options: Any) -> str:
    before = tree(folder) if folder.is_dir() else {}
    with pytest.raises(error) as caught:
        next(fit(spec, folder, **options))
    assert (tree(folder) if folder.is_dir() else {}) == before
    assert str(folder) in str(caught.value)
    return str(caught.value)


def test_a_folder_with_a_run_is_not_overwritten(spec: Spec, tmp_path: Path) -> None:
    last_of(spec, tmp_path, stop=lambda: True)
    assert "holds a run already; go on with it (--resume)" in refused(StorageError, spec, tmp_path)


def test_a_run_of_another_spec_is_not_continued(spec: Spec, digits_table: Make, tmp_path: Path) -> None:
    last_of(spec, tmp_path, stop=lambda: True)
    other = Spec.of(digits_table(steps=13, validation={}, rate=0.5))
    said = refused(SpecError, other, tmp_path, resume=True)
    assert "holds a run of another spec (train.steps is 12, not 13, train.rate is 0.01, not 0.5)" in said


def test_defaults_may_be_spelled_out_or_left_out(digits_table: Make, tmp_path: Path) -> None:
    brief = digits_table(steps=4, schedule={"name": "cosine"})
    last_of(Spec.of(brief), tmp_path, stop=lambda: True)
    long = digits_table(steps=4, schedule={"name": "cosine", "floor": 0})
    long["encoder"] |= {"steps": 1}
    long["data"] |= {}
    long["train"] |= {"seed": 0, "optimizer": {"name": "adam", "betas": [0.9, 0.999], "eps": 1e-8}, "clip": None}
    assert Spec.of(long) != Spec.of(brief)
    assert next(fit(Spec.of(long), tmp_path, resume=True)).step == 2
    assert last_of(Spec.of(brief), tmp_path, resume=True).stopped == "finished"
    long["train"]["optimizer"]["eps"] = 1e-7
    assert "(train.optimizer.eps is 1e-08, not 1e-07)" in refused(SpecError, Spec.of(long), tmp_path, resume=True)


def test_a_run_may_be_made_longer(digits_table: Make, tmp_path: Path) -> None:
    def spec(steps: int, schedule: str = "step") -> Spec:
        return Spec.of(digits_table(steps=steps, schedule={"name": schedule}, validation={"every": 2}))

    assert last_of(spec(4), tmp_path / "parts").stopped == "finished"
    assert last_of(spec(8), tmp_path / "parts", resume=True).step == 8
    last_of(spec(8), tmp_path / "whole")
    for name in ("last", "best"):
        parts, whole = (load_checkpoint(tmp_path / place / name).learner.state_dict() for place in ("parts", "whole"))
        assert all(torch.equal(value, whole[key]) for key, value in parts.items())
    said = refused(SpecError, spec(6), tmp_path / "parts", resume=True)  # it has gone further
    assert "(train.steps is 8, not 6)" in said
    last_of(spec(4, "cosine"), tmp_path / "cosine")
    said = refused(SpecError, spec(8, "cosine"), tmp_path / "cosine", resume=True)  # all its rates would be others
    assert "(train.steps is 4, not 8)" in said


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("tensorboard", [False, True])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_folder_of_other_things_is_left_alone(spec: Spec, tmp_path: Path, resume: bool, tensorboard: bool) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    said = refused(StorageError, spec, tmp_path, resume=resume, tensorboard=tensorboard)
    assert "expected a new or empty folder" in said


def test_a_folder_that_cannot_be(spec: Spec, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    refused(StorageError, spec, tmp_path / "file" / "run")
    refused(StorageError, spec, tmp_path / "file")
    assert tree(tmp_path) == {"file": b"kept"}


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"ways": 49}, "49 ways need as many classes, the pool has 48"),
        ({"ways": 5, "shots": 100, "queries": 100}, "100 shots \\+ 100 queries need 200"),
    ],
)
def test_tasks_that_the_data_do_not_hold(digits_table: Make, tmp_path: Path, train: Table, said: str) -> None:
    with pytest.raises(DataError, match=said):
        next(fit(Spec.of(digits_table(**train)), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite(tmp_path: Path) -> None:
    spec = Spec.of(
        {
            "learner": {"name": "maml", "outputs": 1},
            "encoder": {"name": "mlp", "shape": [1], "hidden": [8]},
            "data": {"name": "sinusoid"},
            "train": {"steps": 50, "shots": 5, "queries": 5, "optimizer": {"name": "sgd"}, "rate": 1e12},
        }
    )
    with pytest.raises(DataError, match=r"the loss is (nan|inf) at step") as caught:
        list(fit(spec, tmp_path / "run", save_every=0))
    last = load_checkpoint(tmp_path / "run" / "last")
    assert last.step >= 1
    assert all(bool(torch.isfinite(p).all()) for p in last.learner.parameters())
    assert f"at step {last.step};" in str(caught.value)
    assert f"the last good checkpoint is {tmp_path / 'run' / 'last'}" in str(caught.value)
    assert "lower the learning rates" in str(caught.value)


@pytest.mark.parametrize("saved", [False, True])
def test_weights_that_are_not_finite_are_not_saved(
    spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: bool
) -> None:
    def spoiling(learner: torch.nn.Module, *arguments: Any, **options: Any) -> Iterator[Any]:
        for step in train(learner, *arguments, **options):  # type: ignore[arg-type]
            if step.t == 2:  # an infinite gradient of a finite loss
                with torch.no_grad():
                    next(learner.parameters()).fill_(math.nan)
            yield step

    monkeypatch.setattr(run, "train", spoiling)
    with pytest.raises(DataError, match="weights are not finite after 3 steps") as caught:
        list(fit(spec, tmp_path, save_every=0 if saved else 1e9))
    assert not (tmp_path / "best").exists()
    assert (tmp_path / "last").exists() is saved
    expected = f"the last good checkpoint is {tmp_path / 'last'}" if saved else "no checkpoint was saved"
    assert str(caught.value).endswith(expected)
    if saved:
        assert load_checkpoint(tmp_path / "last").step == 2


def test_a_score_that_is_not_a_number_is_never_best() -> None:
    progress = run.Progress()
    for step, score in enumerate([math.nan, 0.5, math.nan, math.inf, 0.4, 0.3], 1):
        progress = run._validated(progress, score, step, lower=True)
        assert progress.best == [None, 0.5, 0.5, 0.5, 0.4, 0.3][step - 1]
    assert (progress.best_step, progress.worse, progress.validations) == (6, 0, 6)
    for lower in (False, True):  # as an older version left it
        assert run._validated(run.Progress(best=math.nan, best_step=1), 0.2, 2, lower=lower).best == 0.2


def commits_after(folder: Path, spec: Spec, monkeypatch: pytest.MonkeyPatch, *origins: str | None) -> list[str | None]:
    for origin in origins:
        monkeypatch.setattr(run, "commit", lambda origin=origin: origin)
        last_of(spec, folder, resume=True, stop=lambda: True)
    return run.commits(load_checkpoint(folder / "last"))


def test_every_commit_that_trained_is_kept(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commits_after(tmp_path, spec, monkeypatch, "a", "a", "b", None) == ["a", "b", None]
    assert commits_after(tmp_path, spec, monkeypatch, "a") == ["b", None, "a"]  # the last is the last that trained
    about = tmp_path / "last" / "spec.json"
    table = json.loads(about.read_text())
    table["notes"] = {**table["notes"], "commit": "old"}  # as written before
    del table["notes"]["commits"]
    about.write_text(json.dumps(table))
    assert commits_after(tmp_path, spec, monkeypatch, "c") == ["old", "c"]


def test_two_trainings_of_one_folder(spec: Spec, tmp_path: Path) -> None:
    events = fit(spec, tmp_path / "run")
    next(events)
    with pytest.raises(StorageError, match=r"another process trains in .*run; wait for it or choose another folder"):
        next(fit(spec, tmp_path / "run", resume=True))
    assert list(events)[-1].stopped == "finished"
    assert last_of(spec, tmp_path / "run", resume=True).stopped == "finished"


def test_a_lock_ends_with_its_process(spec: Spec, tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom handful.files import locked\n"
        "with locked(sys.argv[1], 'no'):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / ".lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match="another process trains in"):
            next(fit(spec, tmp_path))
        process.kill()
    assert last_of(spec, tmp_path).stopped == "finished"  # the file that is left is not a foreign one


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_process_that_does_not_see_the_folder_denies_no_checkpoint(tmp_path: Path) -> None:
    for rank, said in ((0, "no checkpoint was saved"), (1, "what was saved is where the first process runs")):
        with pytest.raises(RankError, match=f"^ended; {said}$"), run._telling(tmp_path, Ranks(rank, 2)):
            raise RankError("ended")


def test_tensorboard_shows_the_log(spec: Spec, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    threads = threading.active_count()
    left = iter(range(8))
    last_of(spec, tmp_path, tensorboard=True, log_every=2, stop=lambda: next(left) == 7)
    last_of(spec, tmp_path, tensorboard=True, log_every=2, resume=True)
    shown = scalars(tmp_path / "events")
    log = lines(tmp_path)
    for tag in ("loss", "validation", "rate"):
        expected = [(line["step"], line[tag]) for line in log if tag in line]
        assert [step for step, _ in shown[tag]] == [step for step, _ in expected]
        assert [value for _, value in shown[tag]] == pytest.approx([value for _, value in expected])
    assert threading.active_count() == threads  # the writer is closed


def test_tensorboard_that_is_not_installed(spec: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r'pip install "handful\[tensorboard\]"'):
        next(fit(spec, tmp_path / "run", tensorboard=True))
    assert not (tmp_path / "run").exists()


def written(table: Table, path: Path) -> Path:
    path.write_text(json.dumps(table))
    return path


# Imports once, then runs `handful train` in a forked process for each attempt, which is killed as soon as it has
# got further and a random while has passed; an attempt that is not killed in time ends the series.
KILLER = """
import json, os, random, signal, sys, time
import torch
torch.set_num_threads(1)
import handful.cli.training
from handful.cli import main
from handful.data.digits import digits

spec, whole, parts = sys.argv[1:]
digits()
torch.optim.Adam([torch.zeros(1)])

def start(folder):
    child = os.fork()
    if child == 0:
        try:
            main(["train", spec, "--to", folder, "--resume"])
        except SystemExit as end:
            os._exit(end.code or 0)
        finally:
            os._exit(70)
    return child

def size():
    try:
        return os.path.getsize(parts + "/log.jsonl")
    except OSError:
        return 0

assert os.waitpid(start(whole), 0)[1] == 0
kills, codes = 0, []
while True:
    before, child, seen = size(), start(parts), 0
    while size() <= before + 300 and not seen:
        seen, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.002)
    if not seen:
        time.sleep(random.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    codes.append(os.waitstatus_to_exitcode(status))
    if codes[-1] != -9:
        break
print(json.dumps(codes))
"""


def test_a_killed_run_goes_on_with_the_same_bits(digits_table: Make, tmp_path: Path) -> None:
    spec = written(digits_table(steps=80, validation={"every": 2, "tasks": 4}), tmp_path / "spec.json")
    arguments = [str(path) for path in (spec, tmp_path / "whole", tmp_path / "parts")]
    done = subprocess.run(
        [sys.executable, "-c", KILLER, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout)
    assert codes[-1] == 0, done.stderr
    assert len(codes) >= 2, codes
    assert set(codes[:-1]) == {-9}
    assert sorted(path.name for path in (tmp_path / "parts").iterdir()) == [".lock", "best", "last", "log.jsonl"]
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_control_c_leaves_a_run_to_go_on_with(digits_table: Make, tmp_path: Path) -> None:
    table = digits_table(steps=1_000_000)
    spec, folder = written(table, tmp_path / "spec.json"), tmp_path / "run"
    command = [sys.executable, "-c", "from handful.cli import main; main()", "train", str(spec), "--to", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        log = folder / "log.jsonl"
        while not (log.exists() and log.stat().st_size) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert out == ""
    assert "go on with --resume" in said
    assert "Traceback" not in said
    stopped = load_checkpoint(folder / "last")
    assert stopped.step >= 20
    assert f"Stopped after step {stopped.step} of 1000000" in said
    assert next(fit(Spec.of(table), folder, resume=True)).step == stopped.step + 1


def test_events_of_a_run_that_goes_on_are_finite(spec: Spec, tmp_path: Path) -> None:
    assert all(math.isfinite(event.loss) for event in fit(spec, tmp_path))


def test_the_state_of_the_optimizer_is_kept_exactly(spec: Spec, tmp_path: Path) -> None:
    last_of(spec, tmp_path, stop=lambda: True)
    kept = load_checkpoint(tmp_path / "last").optimizer
    assert kept is not None
    assert {name for _, name in kept} == {"step", "exp_avg", "exp_avg_sq"}
    assert all(isinstance(value, Tensor) for value in kept.values())


# A budget of time


def test_a_budget_of_seconds(digits_table: Make, tmp_path: Path) -> None:
    table = digits_table(seconds=0.5, schedule={"name": "linear"})
    del table["train"]["steps"]
    spec = Spec.of(table)
    events = list(fit(spec, tmp_path, log_every=1))
    assert events[-1].stopped == "finished"
    assert events[-1].seconds >= 0.5 > events[-2].seconds
    assert {event.steps for event in events} == {None}
    rates = [line["rate"] for line in lines(tmp_path) if "rate" in line]
    assert rates[0] == 0.01
    assert rates == sorted(rates, reverse=True)
    for event, rate in zip(events, rates[1:], strict=False):  # by the share of the budget that was used before the step
        assert rate == pytest.approx(0.01 * (1 - event.seconds / 0.5), abs=2e-6)
    (again,) = fit(spec, tmp_path, resume=True)
    assert (again.step, again.stopped) == (events[-1].step, "finished")


def test_a_budget_by_another_clock(digits_table: Make, tmp_path: Path) -> None:
    table = digits_table(seconds=5)
    del table["train"]["steps"]
    ticks = itertools.count()
    events = list(fit(Spec.of(table), tmp_path, clock=lambda: next(ticks)))
    assert [event.seconds for event in events] == [1, 2, 3, 4, 5]


def test_a_budget_goes_on_where_it_stopped(digits_table: Make, tmp_path: Path) -> None:
    table = digits_table(seconds=0.5)
    del table["train"]["steps"]
    spec = Spec.of(table)
    asked = itertools.count()
    stopped = list(fit(spec, tmp_path, stop=lambda: next(asked) > 2))[-1]
    assert (stopped.step, stopped.stopped) == (4, "interrupted")
    events = list(fit(spec, tmp_path, resume=True))
    assert events[0].step == 5
    assert events[0].seconds > stopped.seconds
    assert events[-1].stopped == "finished"


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"seconds": 1.0}, "either `steps` or `seconds`, got both"),
        ({"steps": None}, "missing key 'train.steps' (or 'train.seconds'"),
        ({"steps": None, "seconds": 1.0, "schedule": {"name": "step"}}, "schedule 'step' counts steps"),
        ({"steps": None, "seconds": 0}, "train.seconds: input should be greater than 0"),
    ],
)
def test_budgets_that_cannot_be(digits_table: Make, train: Table, said: str) -> None:
    table = digits_table()
    table["train"] |= train
    with pytest.raises(SpecError) as caught:
        Spec.of(table)
    assert said in str(caught.value)
