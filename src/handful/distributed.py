"""Many processes, one run: they share the tasks of every batch and add up what they found.

    torchrun --nproc-per-node=4 -m handful train SPEC

starts the processes, `joined` makes them known to each other, and a `Ranks` is what they do together. Alone, which is
the usual case, `ALONE` does nothing at no cost. CPU tensors travel by Gloo, CUDA tensors by NCCL.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import RankError

__all__ = ["ALONE", "TIMEOUT", "Ranks", "joined"]

TIMEOUT = timedelta(minutes=10)
"""How long to wait for another process that does not answer. One that ended is noticed at once."""
PATIENCE = 15.0
"""Seconds after which the user is told that the other processes have not come yet."""


class _Store(Protocol):
    def add(self, key: str, amount: int, /) -> int: ...
    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, seen from one of them. What they do together, all must do, in the same order.

    Attributes:
        rank: which of them this is, from 0.
        size: how many there are.
        local: which of those on this machine.
        store: what they all can write to while the process that started them lives.

    Raises (every method that talks to others):
        RankError: another process ended, or cannot be reached.
    """

    rank: int = 0
    size: int = 1
    local: int = 0
    store: _Store | None = None

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, tasks: int, turn: int = 0) -> tuple[int, int]:
        """This rank's tasks of a batch, start to stop: of all ranks together each task once, as evenly as can be.

        Where they do not come out even, another `turn` gives the rest to the next ranks; on turn 0, to the first.
        """
        each, rest = divmod(tasks, self.size)
        place = (self.rank - turn * rest) % self.size
        start = place * each + min(place, rest)
        return start, start + each + (place < rest)

    @torch.no_grad()
    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Put into each tensor its sum over ranks: all of a type travel as one. The same bits on every rank."""
        if self.size > 1:
            for group, flat in _flattened(tensors):
                with _reaching():
                    dist.all_reduce(flat)
                _unflatten_(group, flat)

    @torch.no_grad()
    def broadcast_(self, tensors: Sequence[Tensor]) -> None:
        """Put into each tensor what it is on the first rank."""
        if self.size > 1:
            for group, flat in _flattened(tensors):
                with _reaching():
                    dist.broadcast(flat, 0)
                _unflatten_(group, flat)

    def send(self, parts: Sequence[bytes]) -> list[bytes]:
        """The first rank's parts, on every rank."""
        if self.size == 1:
            return list(parts)
        count = torch.tensor([len(parts)])
        self.broadcast_([count])
        lengths = torch.tensor([len(part) for part in parts]) if self.first else torch.zeros(int(count)).long()
        self.broadcast_([lengths])
        whole = torch.zeros(int(lengths.sum()), dtype=torch.uint8)
        if self.first:
            whole = torch.frombuffer(bytearray(b"".join(parts)), dtype=torch.uint8)
        self.broadcast_([whole])
        return [part.numpy().tobytes() for part in torch.split(whole, lengths.tolist())]

    def any(self, flag: bool) -> bool:
        """Whether it is so on any rank."""
        if self.size == 1:
            return flag
        count = torch.tensor([int(flag)])
        self.sum_([count])
        return bool(count)

    def meet(self) -> None:
        """Wait until all have come here."""
        self.any(False)

    @contextmanager
    def one_a_machine_first(self) -> Iterator[None]:
        """Run the block on one rank of each machine, then on its others: what the one prepares, they find."""
        if self.local > 0:
            self.meet()
        yield
        if self.local == 0:
            self.meet()

    def alike(self, digest: Callable[[], str]) -> bool:
        """Whether this machine has what the first one has; one rank a machine looks, and none if there is only one."""
        if not self.any(self.local == 0 and not self.first):
            return True
        own = digest() if self.local == 0 or self.first else ""
        return self.send([own.encode()]) == [own.encode()] or not own

    def speaks(self) -> bool:
        """Whether this rank is the one to tell the user what went wrong: the first to ask is."""
        try:
            return self.store is None or self.store.add("told", 1) == 1
        except RuntimeError:  # the store is gone, and with it the first process, where that kept it
            return self.rank == 1 or self.local == 0


ALONE = Ranks()
"""A single process."""


@contextmanager
def joined(*, cuda: bool = False) -> Iterator[Ranks]:
    """The processes that torchrun (or what sets the same environment variables) started; ALONE otherwise.

    Raises:
        RankError: they do not find each other.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1" or "RANK" not in os.environ:
        yield ALONE
        return
    rank, size = _place()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    from torch.distributed.rendezvous import rendezvous  # not in every build of torch

    # Imported later, its functions would keep the group as their default arguments: it would never be closed, and now
    # and then its threads would abort the process at its end.
    import_module("torch.distributed.nn.functional")

    try:
        with _waiting(f"this is {rank} of {size}", told=local == 0):
            store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
            store = dist.PrefixStore(_attempt(store, rank, size), store)  # type: ignore[attr-defined]
            backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RankError(
            f"the {size} processes of this run do not find each other: {reason}; see docs/scaling.md"
        ) from error
    try:
        yield Ranks(rank, size, local, store)
    finally:
        time.sleep(0.1)  # torch 2.6 ends with Python locked, and waits for threads that need it to let go of tensors
        dist.destroy_process_group()


def _place() -> tuple[int, int]:
    """Which process this is, and of how many."""
    said = {name: os.environ[name] for name in ("RANK", "WORLD_SIZE")}
    try:
        rank, size = (int(value) for value in said.values())
    except ValueError:
        rank, size = 0, 0
    if not 0 <= rank < size:
        about = ", ".join(f"{name}={value}" for name, value in said.items())
        raise RankError(
            f"expected the number of a process in RANK, from 0, and of all in WORLD_SIZE, got {about}; "
            "start with torchrun, or unset both"
        )
    return rank, size


@contextmanager
def _waiting(this: str, *, told: bool) -> Iterator[None]:
    """Within, Ctrl-C ends the process at once, as torch's waiting would not let it; a long wait is `told`."""

    def tell() -> None:
        print(
            f"Waiting for the other processes: {this}, as RANK and WORLD_SIZE say. If no others were started, "
            "unset both.",
            file=sys.stderr,
            flush=True,
        )

    timer = threading.Timer(PATIENCE, tell)
    timer.daemon = True
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_DFL) if main else None
    try:
        if told:
            timer.start()
        yield
    finally:
        timer.cancel()
        if before is not None:
            signal.signal(signal.SIGINT, before)


def _attempt(store: _Store, rank: int, size: int) -> str:
    """A name that these processes share, and none that ended before them.

    torchrun keeps its store when it starts processes again, with all that the ended ones wrote: whoever read there
    where another is could find a dead one. So each shows a name of its own until the first one answers to it.
    """
    own = secrets.token_hex(8)
    if rank:
        store.set(f"rank {rank}", own)
        shared: str = store.get(f"answer to {own}").decode()
        store.set(f"rank {rank}", shared)
        return shared
    deadline = time.monotonic() + TIMEOUT.total_seconds()
    while others := {store.get(f"rank {other}").decode() for other in range(1, size)} - {own}:
        for name in others:
            store.set(f"answer to {name}", own)
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(others)} of them did not answer")
        time.sleep(0.02)
    return own


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RankError(
            "another process of this run has ended (killed, or out of memory?) or cannot be reached"
        ) from error


def _flattened(tensors: Sequence[Tensor]) -> Iterator[tuple[list[Tensor], Tensor]]:
    """The tensors of each type and kind of device, and all of them as one vector."""
    groups: dict[tuple[torch.dtype, str], list[Tensor]] = {}
    for tensor in tensors:
        if tensor.numel():
            groups.setdefault((tensor.dtype, tensor.device.type), []).append(tensor)
    for group in groups.values():
        yield group, torch.cat([tensor.flatten() for tensor in group])


def _unflatten_(tensors: Sequence[Tensor], flat: Tensor) -> None:
    for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))
