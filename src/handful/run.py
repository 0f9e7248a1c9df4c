"""A training run in a folder: validation, best and last checkpoints, logs; stopped at any moment, it can go on.

    FOLDER/last/        the newest checkpoint, with what is needed to resume
    FOLDER/best/        the best checkpoint on validation classes, if the spec validates
    FOLDER/log.jsonl    a line for each logged step and each validation
    FOLDER/events/      TensorBoard, if asked for
    FOLDER/.lock        held by the process that trains

On a CPU a resumed run gives the same bits as one that was never stopped, also after a kill.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, Protocol

import torch

from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .errors import DataError, MissingExtraError, SpecError, StorageError
from .evaluation import evaluate
from .files import locked, recover_folder, storage_errors, write_file
from .machine import commit
from .spec import Spec, build, load_data, make_optimizer, make_schedule
from .training import REMEDY, Step, train

__all__ = ["Event", "Progress", "commits", "fit", "interruptible"]


class Event(NamedTuple):
    """What a run reports as it goes."""

    step: int
    """Steps done."""
    steps: int
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


class _Board(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def close(self) -> None: ...


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
) -> Iterator[Event]:
    """Train a spec in a folder; yields after each step. The last event says why it stopped.

    Args:
        spec: what to train.
        folder: where to keep the run; created if need be.
        resume: go on with the run in the folder (a finished one ends at once).
        device: "cpu", "cuda", ...
        log_every: steps between log lines.
        save_every: seconds between checkpoints to resume from.
        tensorboard: write TensorBoard events too.
        stop: asked after each step; True saves and ends the run as "interrupted".

    Raises:
        StorageError: the folder holds a run (and `resume` is off), is in use by another process, or not writable.
        SpecError: the run in the folder is of another spec.
        DataError: the loss or the weights are not finite, or the data do not fit.
    """
    folder = Path(folder)
    board = _board() if tensorboard else None
    data = load_data(spec)
    episodes = spec.train.draw_from(data)
    validation = spec.validation
    trials = None if validation is None else validation.draw_from(data)
    learner = build(spec)  # a spec of which nothing can be made leaves no folder
    _refuse_foreign(folder)
    with locked(folder / ".lock", f"another process trains in {folder}; wait for it or choose another folder"):
        begun = _begin(folder, spec, resume)
        _sweep(folder)
        learner = (learner if begun is None else begun.learner).to(device)
        optimizer = make_optimizer(spec, learner)
        start, progress = 0, Progress()
        if begun is not None:
            begun.resume_optimizer(optimizer)
            start, progress = begun.step, Progress(**begun.notes["progress"])
        patience = None if validation is None else validation.patience
        ended = "finished" if start >= spec.train.steps else ""
        if not ended and patience is not None and progress.worse >= patience:
            ended = "patience"
        if ended:
            yield Event(start, spec.train.steps, math.nan, None, None, progress.best, progress.seconds, ended)
            return

        origin = commit()
        history = [*(other for other in (commits(begun) if begun else []) if other != origin), origin]

        def save(name: str, step: int, *, whole: bool) -> None:
            if not all(bool(torch.isfinite(p).all()) for p in learner.parameters()):  # their gradients were not
                raise DataError(f"training: the weights are not finite after {step} steps; {REMEDY}; {_kept(folder)}")
            notes = {"progress": progress.__dict__, "score": progress.score, "commits": history}
            kept = optimizer if whole else None
            save_checkpoint(folder / name, learner, spec, step=step, notes=notes, optimizer=kept)

        with closing(_Log(folder, start, board)) as log:
            clock = saved = time.perf_counter()
            steps = train(
                learner,
                episodes,
                optimizer,
                steps=spec.train.steps,
                start=start,
                schedule=make_schedule(spec),
                clip=spec.train.clip,
                accumulate=spec.train.accumulate,
                precision=spec.train.precision,
                seed=spec.train.seed,
            )
            for step in _guarded(steps, folder):
                done = step.t + 1
                loss = float(step.loss)
                progress = replace(progress, seconds=progress.seconds + time.perf_counter() - clock)
                finished = done == spec.train.steps
                score = ci95 = None
                if validation is not None and trials is not None and (finished or done % validation.every == 0):
                    result = evaluate(learner, trials, tasks=validation.tasks)
                    score, ci95 = result.mean
                    progress = _validated(progress, score, done, lower=result.metric == "mse")
                    log.write(done, validation=score, ci95=ci95, metric=result.metric)
                    if progress.best_step == done:
                        save("best", done, whole=False)
                ended = "finished" if finished else "interrupted" if stop() else ""
                if not finished and patience is not None and progress.worse >= patience:
                    ended = "patience"
                if done % log_every == 0 or ended in ("finished", "patience"):  # not where it was stopped
                    log.write(done, loss=loss, rate=optimizer.param_groups[0]["lr"], seconds=round(progress.seconds, 3))
                if ended or score is not None or time.perf_counter() - saved >= save_every:
                    save("last", done, whole=True)
                    saved = time.perf_counter()
                yield Event(done, spec.train.steps, loss, score, ci95, progress.best, progress.seconds, ended)
                if ended:
                    break
                clock = time.perf_counter()


def commits(checkpoint: Checkpoint) -> list[str | None]:
    """The commits of all processes that trained it, the last one at the end; None for one outside a checkout."""
    kept: list[str | None] = checkpoint.notes.get("commits") or [checkpoint.notes.get("commit")]
    return kept


def _guarded(steps: Iterator[Step], folder: Path) -> Iterator[Step]:
    """The steps, whose losses are finite; where training fails, the error says what there is to go on from."""
    try:
        for step in steps:
            if not math.isfinite(step.loss):  # an accelerator's
                raise DataError(f"training: the loss is {float(step.loss)} at step {step.t}; {REMEDY}")
            yield step
    except DataError as error:
        raise DataError(f"{error}; {_kept(folder)}") from error


def _kept(folder: Path) -> str:
    return f"the last good checkpoint is {folder / 'last'}" if (folder / "last").exists() else "no checkpoint was saved"


def _refuse_foreign(folder: Path) -> None:
    with storage_errors(folder):
        names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if names - {".lock"} and not names & {"last", "log.jsonl"}:
        raise StorageError(f"{folder}: expected a new or empty folder for the run; choose another one")


def _begin(folder: Path, spec: Spec, resume: bool) -> Checkpoint | None:
    recover_folder(folder / "last")
    if not (folder / "last").exists():
        return None
    if not resume:
        raise StorageError(f"{folder}: holds a run already; go on with it (--resume) or choose another folder")
    begun = load_checkpoint(folder / "last")
    if begun.spec != spec:
        raise SpecError(f"{folder}: holds a run of another spec; go on with that one, or choose another folder")
    return begun


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


class _Log:
    """JSON lines, cut back to the step that a run goes on from."""

    def __init__(self, folder: Path, start: int, board: Callable[..., _Board] | None) -> None:
        path = self.path = folder / "log.jsonl"
        kept = []
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    if json.loads(line)["step"] <= start:
                        kept.append(line + "\n")
                except (ValueError, KeyError, TypeError):
                    break  # a line cut short by a kill, and nothing after it
        write_file(path, "".join(kept))
        self.board: _Board | None = None
        if board is not None:
            with storage_errors(folder):
                self.board = board(str(folder / "events"), purge_step=start + 1 if start else None)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()

    def write(self, step: int, **values: Any) -> None:
        with storage_errors(self.path), open(self.path, "a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self.board is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self.board.add_scalar(name, value, step)


def _board() -> Callable[..., _Board]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            'TensorBoard logs need the package tensorboard: pip install "handful[tensorboard]"'
        ) from error
    return SummaryWriter


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within, the first Ctrl-C only makes the given function answer True; a second one interrupts as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
