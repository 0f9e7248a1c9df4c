"""Several entries at once, a process each: what becomes of one does not touch the others."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Literal, NamedTuple

import torch

from ..errors import HandfulError
from ..machine import tune_allocator
from ..stopping import interruptible
from .measuring import Place, Progress, finished, measure
from .plan import Plan

__all__ = ["Report", "Work", "run"]


class Work(NamedTuple):
    """An entry to be measured."""

    plan: Plan
    key: str
    seconds: float
    place: Place
    device: str = "cpu"

    @property
    def name(self) -> str:
        """How it is told from others."""
        return f"{self.plan.name}/{self.key}"

    @property
    def source(self) -> str | None:
        """The name of the work whose weights it takes."""
        weights = self.plan.entries[self.key].weights
        return None if weights is None else f"{self.plan.name}/{weights}"


class Report(NamedTuple):
    """What happened to an entry."""

    name: str
    what: Literal["progress", "done", "failed", "interrupted"]
    done: float = 0.0
    note: str = ""


def run(works: Sequence[Work], jobs: int, stop: Callable[[], bool] = lambda: False) -> Iterator[Report]:
    """Measure every entry, `jobs` at a time, each in a process of one thread.

    What is finished already is passed over. An entry that takes another's weights waits for it, and fails with it. When
    `stop` says so, the processes are asked to save and end; the same call goes on from there.
    """
    waiting, running = list(works), dict[str, tuple[BaseProcess, Connection]]()
    ended: dict[str, str] = {}
    asked = False
    try:
        while waiting or running:
            if stop() and not asked:
                asked, waiting = True, []
                for process, _ in running.values():
                    process.terminate()  # SIGTERM, which makes it save
            for work in list(waiting):
                source = ended.get(work.source or "", "done" if work.source is None else "")
                if len(running) >= jobs or not source:
                    continue
                waiting.remove(work)
                if source != "done":
                    ended[work.name] = "failed"
                    yield Report(work.name, "failed", note=f"it takes the weights of {work.source}, which {source}")
                elif _is_finished(work):
                    ended[work.name] = "done"
                    yield Report(work.name, "done")
                else:
                    running[work.name] = _started(work)
            wait([pipe for _, pipe in running.values()], timeout=0.2)
            for name, (process, pipe) in list(running.items()):
                report = _heard(name, process, pipe)
                if report is None:
                    continue
                if asked and report.what == "failed" and process.exitcode == -signal.SIGTERM:
                    report = Report(name, "interrupted")  # before it could save anything
                yield report
                if report.what != "progress":
                    ended[name] = report.what
                    process.join()
                    del running[name]
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.join()


def _started(work: Work) -> tuple[BaseProcess, Connection]:
    """Its process, and where its reports come from."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(there, work), name=work.name)
    _start(process)
    there.close()
    return process, here


def _start(process: BaseProcess) -> None:
    """Start it deaf to Ctrl-C, which reaches every process of a terminal: this one tells it to end."""
    if threading.current_thread() is not threading.main_thread():
        process.start()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.start()
    finally:
        signal.signal(signal.SIGINT, before)


def _is_finished(work: Work) -> bool:
    try:
        return finished(work.plan, work.key, work.seconds, work.place)
    except HandfulError:
        return False  # its process says what is wrong


def _heard(name: str, process: BaseProcess, pipe: Connection) -> Report | None:
    """The last report of a process, if there is a new one; a process that ended without saying so has failed."""
    report = None
    try:
        while pipe.poll():
            report = pipe.recv()
            if report.what != "progress":
                break
    except (EOFError, OSError):
        process.join()
        return Report(name, "failed", note=f"its process ended ({process.exitcode}): killed, or out of memory")
    return report


def _measured(pipe: Connection, work: Work) -> None:
    """What the process does."""
    torch.set_num_threads(1)
    tune_allocator()
    told = 0.0
    with interruptible() as stop:
        try:
            progress = Progress(0, "")
            for progress in measure(work.plan, work.key, work.seconds, work.place, device=work.device, stop=stop):
                if time.monotonic() - told > 0.5:
                    told = time.monotonic()
                    pipe.send(Report(work.name, "progress", *progress))
            ready = finished(work.plan, work.key, work.seconds, work.place)
            pipe.send(Report(work.name, "done" if ready else "interrupted"))
        except (HandfulError, OSError) as error:
            pipe.send(Report(work.name, "failed", note=str(error)))
        except Exception:  # a mistake in one learner must not cost the others their turn
            pipe.send(Report(work.name, "failed", note=traceback.format_exc().strip()))
