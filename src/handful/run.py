"""A training run in a folder: validation, best and last checkpoints, logs; stopped at any moment, it can go on.

    FOLDER/last/        the newest checkpoint, with what is needed to resume
    FOLDER/best/        the best checkpoint on validation classes, if the spec validates
    FOLDER/log.jsonl    a line for each logged step and each validation
    FOLDER/events/      TensorBoard, if asked for
    FOLDER/.lock        held by the process that trains

On a CPU a resumed run gives the same bits as one that was never stopped, also after a kill.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .distributed import ALONE, Ranks
from .errors import CheckpointError, DataError, RankError, SpecError, StorageError
from .evaluation import evaluate
from .files import locked, recover_folder, storage_errors, sweep
from .learner import Learner
from .log import Log, tensorboard_writer
from .machine import commit
from .resuming import refuse_another
from .selection.base import Selection
from .spec import Spec, build, load_data, make_optimizer, make_schedule, make_selection
from .training import PARTS, REMEDY, check_device, train

__all__ = ["Event", "Progress", "commits", "fit"]


class Event(NamedTuple):
    """What a run reports as it goes."""

    step: int
    """Steps done."""
    steps: int | None
    """Steps to do; None where a budget of time decides."""
    loss: float
    score: float | None
    """The validation score at this step, if there was one."""
    ci95: float | None
    best: float | None
    seconds: float
    """Training time so far, without validation, over all resumptions."""
    stopped: str
    """Why the run ended here: "finished", "patience" or "interrupted"; empty while it goes on."""


@dataclass(frozen=True)
class Progress:
    """What a run must remember besides weights and optimizer."""

    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    validations: int = 0
    worse: int = 0
    score: float | None = None


def fit(
    spec: Spec,
    folder: str | Path,
    *,
    resume: bool = False,
    device: str = "cpu",
    log_every: int = 20,
    save_every: float = 30.0,
    tensorboard: bool = False,
    stop: Callable[[], bool] = lambda: False,
    ranks: Ranks = ALONE,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Event]:
    """Train a spec in a folder; yields after each step. The last event says why it stopped.

    Args:
        spec: what to train.
        folder: where to keep the run; created if need be.
        resume: go on with the run in the folder (a finished one ends at once). Defaults may be written out or left
            out meanwhile; more `steps` continue it where the schedule ("constant", "step") does not depend on them.
        device: "cpu", "cuda", ...
        log_every: steps between log lines, at least 1.
        save_every: seconds between checkpoints to resume from.
        tensorboard: write TensorBoard events too.
        stop: asked after each step; True (on any rank) saves and ends the run as "interrupted".
        ranks: processes that share the work, each of which calls this; only the first touches the folder.
        clock: what the seconds of training are read from; `time.process_time` leaves out those of other programs.

    Raises:
        StorageError: the folder holds a run (and `resume` is off), is in use by another process, or not writable.
        SpecError: the run in the folder is of another spec, there is nothing to train, or no such device.
        DataError: the loss or the weights are not finite, or the data do not fit.
        RankError: another process of the run ended.
    """
    folder = Path(folder)
    if log_every < 1:
        raise SpecError(f"fit: expected `log_every` to be at least 1 step, got {log_every}")
    check_device(device)
    board = tensorboard_writer() if tensorboard and ranks.first else None
    if ranks.size > 1 and (spec.train.seconds is not None or spec.train.selection is not None):
        raise SpecError("[train] seconds and selection are for one process; expected neither with many")
    if ranks.send([spec.digest.encode()]) != [spec.digest.encode()]:
        raise SpecError("the processes of this run read different specs; give every machine the same file")
    data = load_data(spec, ranks=ranks)
    episodes, validation, schedule = spec.train.draw_from(data), spec.validation, make_schedule(spec)
    trials = None if validation is None else validation.draw_from(data)
    learner = build(spec)
    make_optimizer(spec, learner)  # a spec of which nothing can be made leaves no folder
    with _held(folder) if ranks.first else nullcontext():
        run = _begin(spec, folder, resume, learner, data, device, ranks)
        if run.ended:
            yield run.event(math.nan, stopped=run.ended)
            return
        with closing(Log(folder if ranks.first else None, run.step, board)) as log, _telling(folder, ranks):
            begin, saved = clock(), time.perf_counter()
            steps = train(
                run.learner,
                episodes if run.selection is None else run.selection,
                run.optimizer,
                steps=run.last,
                start=run.step,
                schedule=lambda t: schedule(run.place(t)),
                clip=spec.train.clip,
                accumulate=spec.train.accumulate,
                precision=spec.train.precision,
                seed=spec.train.seed,
                ranks=ranks,
            )
            for step in steps:
                run.step, loss = step.t + 1, float(step.loss)
                if not math.isfinite(loss):  # an accelerator's
                    raise DataError(f"training: the loss is {loss} at step {step.t}; {REMEDY}")
                if run.selection is not None:
                    run.selection.learned(step.t)
                run.progress = replace(run.progress, seconds=run.progress.seconds + clock() - begin)
                score = ci95 = None
                if validation is not None and trials is not None and (run.finished or run.step % validation.every == 0):
                    result = evaluate(run.learner, trials, tasks=validation.tasks, ranks=ranks)
                    score, ci95 = result.mean
                    run.progress = _validated(run.progress, score, run.step, lower=result.metric == "mse")
                    log.write(run.step, validation=score, ci95=ci95, metric=result.metric)
                    if run.progress.best_step == run.step:
                        run.save("best", whole=False)
                ended = run.ended or ("interrupted" if ranks.any(stop()) else "")
                if run.step % log_every == 0 or run.ended:  # not where it was stopped
                    rate = run.optimizer.param_groups[0]["lr"]
                    log.write(run.step, loss=loss, rate=rate, seconds=round(run.progress.seconds, 3))
                if ended or score is not None or time.perf_counter() - saved >= save_every:
                    run.save("last", whole=True)
                    saved = time.perf_counter()
                yield run.event(loss, score, ci95, stopped=ended)
                if ended:
                    ranks.meet()  # nobody leaves before it is saved
                    break
                begin = clock()


@dataclass
class _Run:
    """What is trained, and how far it is."""

    spec: Spec
    folder: Path
    learner: Learner
    optimizer: torch.optim.Optimizer
    selection: Selection | None
    commits: list[str | None]
    ranks: Ranks
    step: int = 0
    progress: Progress = field(default_factory=Progress)

    @property
    def last(self) -> int:
        """The last step."""
        return sys.maxsize if self.spec.train.steps is None else self.spec.train.steps

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the budget of time is spent."""
        budget = self.spec.train.seconds
        return self.step >= self.last or (budget is not None and self.progress.seconds >= budget)

    @property
    def ended(self) -> str:
        """Why it ends here by itself: "finished" or "patience"; empty while it goes on."""
        patience = None if self.spec.validation is None else self.spec.validation.patience
        tired = patience is not None and self.progress.worse >= patience
        return "finished" if self.finished else "patience" if tired else ""

    def place(self, t: int) -> int:
        """Where step t is on the schedule: by steps, or by the share of the budget that is spent."""
        budget = self.spec.train.seconds
        return t if budget is None else min(int(PARTS * self.progress.seconds / budget), PARTS)

    def event(self, loss: float, score: float | None = None, ci95: float | None = None, *, stopped: str) -> Event:
        """What there is to report now."""
        best, seconds = self.progress.best, self.progress.seconds
        return Event(self.step, self.spec.train.steps, loss, score, ci95, best, seconds, stopped)

    def save(self, name: str, *, whole: bool) -> None:
        """Write a checkpoint; with what is needed to resume if `whole`."""
        if not all(bool(torch.isfinite(p).all()) for p in self.learner.parameters()):  # their gradients were not
            raise DataError(f"training: the weights are not finite after {self.step} steps; {REMEDY}")
        if not self.ranks.first:
            return
        notes = {"progress": self.progress.__dict__, "score": self.progress.score, "commits": self.commits}
        selection = self.selection and self.selection.state()
        kept: Any = {"optimizer": self.optimizer, "selection": selection} if whole else {}
        save_checkpoint(self.folder / name, self.learner, self.spec, step=self.step, notes=notes, **kept)


def _begin(spec: Spec, folder: Path, resume: bool, learner: Learner, data: Any, device: str, ranks: Ranks) -> _Run:
    """A run where the folder's last checkpoint left it, or a new one of this learner."""
    begun = _last(folder, spec, resume, ranks)
    if ranks.first:
        sweep(folder)
    learner = (learner if begun is None else begun.learner).to(device)
    optimizer, selection = make_optimizer(spec, learner), make_selection(spec, data, learner)
    origin = commit()
    history = [*(other for other in (commits(begun) if begun else []) if other != origin), origin]
    run = _Run(spec, folder, learner, optimizer, selection, history, ranks)
    if begun is not None:
        begun.resume_optimizer(optimizer)
        if selection is not None:
            selection.restore(begun.selection or {})
        run.step, run.progress = begun.step, _progress(begun, folder)
    return run


def commits(checkpoint: Checkpoint) -> list[str | None]:
    """The commits of all processes that trained it, the last one at the end; None for one outside a checkout."""
    kept: list[str | None] = checkpoint.notes.get("commits") or [checkpoint.notes.get("commit")]
    return kept


@contextmanager
def _telling(folder: Path, ranks: Ranks) -> Iterator[None]:
    """Where training fails, the error says what there is to go on from."""
    try:
        yield
    except (DataError, RankError) as error:
        last = folder / "last"
        kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was saved"
        if not ranks.first and not last.exists():  # it may be on another machine
            kept = "what was saved is where the first process runs"
        raise type(error)(f"{error}; {kept}") from error


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder for this process alone."""
    with storage_errors(folder):
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if names - {".lock"} and not names & {"last", "log.jsonl"}:
        raise StorageError(f"{folder}: expected a new or empty folder for the run; choose another one")
    with locked(folder / ".lock", f"another process trains in {folder}; wait for it or choose another folder"):
        yield


def _last(folder: Path, spec: Spec, resume: bool, ranks: Ranks) -> Checkpoint | None:
    """The folder's last checkpoint, None where there is none yet."""
    begun = False
    if ranks.first:
        recover_folder(folder / "last")
        begun = (folder / "last").exists()
        if begun and not resume:
            raise StorageError(f"{folder}: holds a run already; go on with it (--resume) or choose another folder")
    if not ranks.any(begun):
        return None
    checkpoint = load_checkpoint(folder / "last", ranks=ranks)
    refuse_another(checkpoint.spec, checkpoint.step, spec, folder)
    return checkpoint


def _progress(checkpoint: Checkpoint, folder: Path) -> Progress:
    try:
        return Progress(**checkpoint.notes["progress"])
    except (KeyError, TypeError):
        said = f"{folder / 'last'}: expected a run's progress in its notes, as this version keeps it"
        raise CheckpointError(f"{said}; train in another folder") from None


def _validated(progress: Progress, score: float, step: int, *, lower: bool) -> Progress:
    best = progress.best if progress.best is not None and math.isfinite(progress.best) else None
    better = math.isfinite(score) and (best is None or (score < best if lower else score > best))
    progress = replace(progress, score=score, validations=progress.validations + 1)
    if better:
        return replace(progress, best=score, best_step=step, worse=0)
    return replace(progress, worse=progress.worse + 1)
