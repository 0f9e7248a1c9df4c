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
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .distributed import ALONE, Ranks
from .errors import CheckpointError, DataError, RankError, SpecError, StorageError
from .evaluation import evaluate
from .files import locked, recover_folder, storage_errors
from .log import Log, tensorboard_writer
from .machine import commit
from .spec import Spec, build, load_data, make_optimizer, make_schedule, make_selection
from .training import PARTS, REMEDY, check_device, train

__all__ = ["Event", "Progress", "commits", "fit", "interruptible"]


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
    episodes, validation = spec.train.draw_from(data), spec.validation
    trials = None if validation is None else validation.draw_from(data)
    learner = build(spec)
    make_optimizer(spec, learner)  # a spec of which nothing can be made leaves no folder
    with _held(folder) if ranks.first else nullcontext():
        begun = _begin(folder, spec, resume, ranks)
        if ranks.first:
            _sweep(folder)
        learner = (learner if begun is None else begun.learner).to(device)
        optimizer, schedule = make_optimizer(spec, learner), make_schedule(spec)
        selection = make_selection(spec, data, learner)
        budget, last = spec.train.seconds, sys.maxsize if spec.train.steps is None else spec.train.steps
        start, progress = 0, Progress()
        if begun is not None:
            begun.resume_optimizer(optimizer)
            if selection is not None:
                selection.restore(begun.selection or {})
            start, progress = begun.step, _progress(begun, folder)

        def spent() -> bool:
            return budget is not None and progress.seconds >= budget

        def factor(t: int) -> float:
            return schedule(t if budget is None else min(int(PARTS * progress.seconds / budget), PARTS))

        def tired() -> bool:
            return validation is not None and validation.patience is not None and progress.worse >= validation.patience

        ended = "finished" if start >= last or spent() else "patience" if tired() else ""
        if ended:
            yield Event(start, spec.train.steps, math.nan, None, None, progress.best, progress.seconds, ended)
            return

        origin = commit()
        history = [*(other for other in (commits(begun) if begun else []) if other != origin), origin]

        def save(name: str, step: int, *, whole: bool) -> None:
            if not all(bool(torch.isfinite(p).all()) for p in learner.parameters()):  # their gradients were not
                raise DataError(f"training: the weights are not finite after {step} steps; {REMEDY}")
            if not ranks.first:
                return
            notes = {"progress": progress.__dict__, "score": progress.score, "commits": history}
            kept: Any = {"optimizer": optimizer, "selection": selection and selection.state()} if whole else {}
            save_checkpoint(folder / name, learner, spec, step=step, notes=notes, **kept)

        with closing(Log(folder if ranks.first else None, start, board)) as log, _telling(folder):
            begin, saved = clock(), time.perf_counter()
            steps = train(
                learner,
                episodes if selection is None else selection,
                optimizer,
                steps=last,
                start=start,
                schedule=factor,
                clip=spec.train.clip,
                accumulate=spec.train.accumulate,
                precision=spec.train.precision,
                seed=spec.train.seed,
                ranks=ranks,
            )
            for step in steps:
                done = step.t + 1
                loss = float(step.loss)
                if not math.isfinite(loss):  # an accelerator's
                    raise DataError(f"training: the loss is {loss} at step {step.t}; {REMEDY}")
                if selection is not None:
                    selection.learned(step.t)
                progress = replace(progress, seconds=progress.seconds + clock() - begin)
                finished = done == last or spent()
                score = ci95 = None
                if validation is not None and trials is not None and (finished or done % validation.every == 0):
                    result = evaluate(learner, trials, tasks=validation.tasks, ranks=ranks)
                    score, ci95 = result.mean
                    progress = _validated(progress, score, done, lower=result.metric == "mse")
                    log.write(done, validation=score, ci95=ci95, metric=result.metric)
                    if progress.best_step == done:
                        save("best", done, whole=False)
                ended = "finished" if finished else "patience" if tired() else ""
                ended = ended or ("interrupted" if ranks.any(stop()) else "")
                if done % log_every == 0 or ended in ("finished", "patience"):  # not where it was stopped
                    log.write(done, loss=loss, rate=optimizer.param_groups[0]["lr"], seconds=round(progress.seconds, 3))
                if ended or score is not None or time.perf_counter() - saved >= save_every:
                    save("last", done, whole=True)
                    saved = time.perf_counter()
                yield Event(done, spec.train.steps, loss, score, ci95, progress.best, progress.seconds, ended)
                if ended:
                    ranks.meet()  # nobody leaves before it is saved
                    break
                begin = clock()


def commits(checkpoint: Checkpoint) -> list[str | None]:
    """The commits of all processes that trained it, the last one at the end; None for one outside a checkout."""
    kept: list[str | None] = checkpoint.notes.get("commits") or [checkpoint.notes.get("commit")]
    return kept


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    """Where training fails, the error says what there is to go on from."""
    try:
        yield
    except (DataError, RankError) as error:
        last = folder / "last"
        kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was saved"
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


def _begin(folder: Path, spec: Spec, resume: bool, ranks: Ranks) -> Checkpoint | None:
    begun = False
    if ranks.first:
        recover_folder(folder / "last")
        begun = (folder / "last").exists()
        if begun and not resume:
            raise StorageError(f"{folder}: holds a run already; go on with it (--resume) or choose another folder")
    if not ranks.any(begun):
        return None
    checkpoint = load_checkpoint(folder / "last", ranks=ranks)
    checkpoint.refuse_another(spec, folder)
    return checkpoint


def _progress(checkpoint: Checkpoint, folder: Path) -> Progress:
    try:
        return Progress(**checkpoint.notes["progress"])
    except (KeyError, TypeError):
        said = f"{folder / 'last'}: expected a run's progress in its notes, as this version keeps it"
        raise CheckpointError(f"{said}; train in another folder") from None


def _sweep(folder: Path) -> None:
    """Remove what a process left that was killed while it saved."""
    for stale in folder.glob(".*.tmp"):
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)
        else:
            stale.unlink(missing_ok=True)


def _validated(progress: Progress, score: float, step: int, *, lower: bool) -> Progress:
    best = progress.best if progress.best is not None and math.isfinite(progress.best) else None
    better = math.isfinite(score) and (best is None or (score < best if lower else score > best))
    return replace(
        progress,
        score=score,
        validations=progress.validations + 1,
        best=score if better else progress.best,
        best_step=step if better else progress.best_step,
        worse=0 if better else progress.worse + 1,
    )


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within, Ctrl-C or SIGTERM only makes the given function answer True; a second Ctrl-C interrupts as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        if number == signal.SIGINT:  # a launcher may send SIGTERM again while the last checkpoint is written
            signal.signal(number, before[signal.SIGINT])

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
