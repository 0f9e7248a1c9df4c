from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from handful import distributed
from handful.checkpoint import load_checkpoint
from handful.distributed import ALONE, Ranks, joined
from handful.errors import RankError
from handful.run import fit
from handful.spec import Spec
from ranks import evaluations, foreign, run, specs

Table = dict[str, Any]
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def launched(size: int, *arguments: object) -> list[str]:
    options = ["--standalone", f"--nproc-per-node={size}"]
    return [sys.executable, "-m", "torch.distributed.run", *options, *map(str, arguments)]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("tasks", [0, 1, 2, 7, 32])
def test_shares_are_each_task_once_and_even(size: int, tasks: int) -> None:
    totals = [0] * size
    for turn in range(size):
        shares = [Ranks(rank, size).share(tasks, turn) for rank in range(size)]
        seen = [task for start, stop in sorted(shares) for task in range(start, stop)]
        assert seen == list(range(tasks))
        sizes = [stop - start for start, stop in shares]
        assert max(sizes) - min(sizes) <= 1
        totals = [total + one for total, one in zip(totals, sizes, strict=True)]
    assert set(totals) == {tasks}  # after as many turns as ranks, each has done as much
    assert Ranks(0, size).share(tasks)[0] == 0


def test_alone_nothing_is_sent_and_nobody_waited_for() -> None:
    x = torch.tensor([1.0, 2.0])
    ALONE.sum_([x])
    ALONE.broadcast_([x])
    ALONE.meet()
    with ALONE.one_a_machine_first():
        assert x.tolist() == [1, 2]
    assert ALONE.send([b"a"]) == [b"a"]
    assert ALONE.alike(lambda: pytest.fail("nobody to compare with"))
    assert (ALONE.any(True), ALONE.any(False), ALONE.first, ALONE.speaks()) == (True, False, True, True)
    with joined() as ranks:
        assert ranks is ALONE
        assert not torch.distributed.is_initialized()


def test_processes_that_do_not_find_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(RankError, match=r"the 2 processes of this run do not find each other: .*MASTER_ADDR"), joined():
        pass


@pytest.mark.parametrize(("rank", "size"), [("0", "two"), ("", "2"), ("5", "2"), ("-1", "2"), ("0", "0")])
def test_a_place_among_processes_that_cannot_be(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(RankError, match=f"got RANK={rank}, WORLD_SIZE={size}; start with torchrun, or unset"), joined():
        pass


def test_a_long_wait_is_explained_and_can_be_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(distributed, "PATIENCE", 0.01)
    before = signal.getsignal(signal.SIGINT)
    for told in (True, False):
        with distributed._waiting("this is 0 of 2", told=told):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL  # torch's waiting never comes back to Python
            time.sleep(0.1)
        assert signal.getsignal(signal.SIGINT) is before
        assert ("this is 0 of 2, as RANK and WORLD_SIZE say" in capsys.readouterr().err) == told


@pytest.mark.parametrize("size", [2, 3])
def test_processes_started_again_do_not_meet_those_that_ended(size: int) -> None:
    """torchrun keeps its store when it starts them again, with all that was written there."""
    store = torch.distributed.HashStore()
    names = []
    for late in range(size):  # which of them comes last

        def name(rank: int, late: int = late) -> str:
            time.sleep(0.1 * (rank == late))
            return distributed._attempt(store, rank, size)

        with ThreadPoolExecutor(size) as threads:
            found = set(threads.map(name, range(size), timeout=10))
        assert len(found) == 1, found
        names += found
    assert len(set(names)) == size


def test_somebody_speaks_when_the_first_process_took_the_store_along() -> None:
    class Gone(distributed._Store):
        def add(self, key: str, amount: int, /) -> int:
            raise RuntimeError("Broken pipe")

    left = [Ranks(rank, 6, rank % 3, Gone()).speaks() for rank in range(1, 6)]
    assert left == [True, False, True, False, False]  # on its own machine, and on the other


def same_run(one: Path, two: Path) -> None:
    """Weights, buffers, optimizer, log and best checkpoint, up to the order of additions."""
    assert (one / "best").exists() == (two / "best").exists()
    for name in ("last", "best") if (one / "best").exists() else ("last",):
        a, b = load_checkpoint(one / name), load_checkpoint(two / name)
        assert a.step == b.step
        close(a.learner.state_dict(), b.learner.state_dict())
        assert (a.optimizer is None) == (b.optimizer is None)
        close(
            {str(key): value for key, value in (a.optimizer or {}).items()},
            {str(k): v for k, v in (b.optimizer or {}).items()},
        )
    logs = [[json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()] for folder in (one, two)]
    assert len(logs[0]) == len(logs[1])
    for left, right in zip(*logs, strict=True):
        assert left.pop("metric", None) == right.pop("metric", None)
        assert {**left, "seconds": 0} == pytest.approx({**right, "seconds": 0}, rel=1e-12, abs=1e-12)


def close(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    assert set(one) == set(two)
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], **EXACT)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("size", [2, 3])
def test_many_processes_do_as_one_does(tmp_path: Path, size: int) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    ends = {name: run(spec, alone / name) for name, spec in specs().items()}
    shared.mkdir()
    begun = {
        name: run(spec, shared / f"{name}-alone", until=2)
        for name, spec in specs().items()
        if (name in ("prototypical", "maml"))
    }
    assert {event.step for event in begun.values()} == {2}
    done = subprocess.run(
        launched(size, Path(__file__).with_name("ranks.py"), shared),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads((shared / f"rank{rank}.json").read_text()) for rank in range(size)]

    assert [one["size"] for one in found] == [size] * size
    for name, end in ends.items():
        same_run(alone / name, shared / name)
        for one in found:
            assert one["last"][name][0] == end.step
            assert one["last"][name][-1] == end.stopped
    assert ends["prototypical"].stopped == "patience"
    said = [[text for text in one["warnings"] if "have no task in a step" in text] for one in found]
    assert [len(texts) for texts in said] == [1] + [0] * (size - 1)
    for name in ("prototypical", "maml"):
        assert load_checkpoint(shared / f"{name}-begun" / "last").step == 2
        run(specs()[name], shared / f"{name}-begun")
        same_run(alone / name, shared / f"{name}-begun")
        same_run(alone / name, shared / f"{name}-alone")

    for kind in ("prototypical", "maml"):
        state, losses = foreign(kind)
        assert len({one["foreign"][kind][2] for one in found}) == 1, "the same bits on every rank"
        theirs, their_losses, _ = found[0]["foreign"][kind]
        assert their_losses == pytest.approx(losses, rel=1e-12)
        close({name: torch.tensor(leaf, dtype=state[name].dtype) for name, leaf in theirs.items()}, state)
        key = next(name for name in state if name.endswith("mask"))
        assert theirs[key] == [0.1, -torch.inf], "what does not change keeps its bits"
        assert int(state[key.replace("mask", "norm.num_batches_tracked")]) > 0
    for index, mine in enumerate(evaluations()):
        for one in found:
            values, by_class, tasks, not_finite = one["evaluations"][index]
            assert values == pytest.approx(mine.values.tolist(), rel=1e-12)
            assert by_class == pytest.approx(mine.by_class)
            assert (tasks, not_finite) == (mine.tasks_digest, mine.not_finite)
    assert {one["poisoned"] for one in found} == {
        "training: the loss is inf at step 1; lower the learning rates or clip gradients"
    }
    assert [one["sent"] for one in found] == [["one", "", "three"]] * size
    assert sum(one["speaks"] for one in found) == 1
    for one in found:
        assert one["alike"] == {"one machine": True, "the same": True, "another": one["rank"] == 0}
        assert ("not the same on all machines" in one["other data"]) == (one["rank"] > 0)


def written(table: Table, path: Path) -> Path:
    path.write_text(json.dumps(table))
    return path


def pid_of(rank: int, launcher: int) -> int:
    """The process of a rank, by what its launcher told it."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    found = [int(pid) for pid in children if f"\0RANK={rank}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()]
    return found[0]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes by /proc")
@pytest.mark.parametrize("how", ["kill first", "kill last", "interrupt launcher"])
def test_a_rank_that_ends_ends_the_run(digits_table: Callable[..., Table], tmp_path: Path, how: str) -> None:
    table = digits_table(steps=1_000_000, validation={"every": 5})
    spec, folder = written(table, tmp_path / "spec.json"), tmp_path / "run"
    command = launched(2, "-m", "handful", "train", spec, "--to", folder)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (folder / "last").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        number = signal.SIGKILL if how.startswith("kill") else signal.SIGINT
        target = process.pid if how.endswith("launcher") else pid_of(int(how.endswith("last")), process.pid)
        os.kill(target, number)
        out, said = process.communicate(timeout=60)
    assert out == ""
    assert process.returncode != 0
    assert "handful/distributed.py" not in said, "no traceback of ours"
    stopped = load_checkpoint(folder / "last").step
    assert stopped >= 5
    if how.startswith("kill"):
        assert said.count("error: another process of this run has ended") == 1, said
        assert said.count(f"the last good checkpoint is {folder / 'last'}") == 1
    else:
        assert said.count(f"Stopped after step {stopped} of 1000000; go on with --resume") == 1, said
    assert next(fit(Spec.of(table), folder, resume=True)).step == stopped + 1


def test_commands_speak_once(digits_table: Callable[..., Table], tmp_path: Path) -> None:
    """Errors, results and files come from one process, whichever it is."""
    spec, folder = written(digits_table(steps=4, validation={}), tmp_path / "spec.json"), tmp_path / "run"
    train = ("-m", "handful", "train", spec, "--to", folder)
    done = subprocess.run(launched(2, *train), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("Training finished after 4 steps") == done.stderr.count("Next: handful evaluate") == 1
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "best", "last", "log.jsonl"]

    refused = subprocess.run(launched(2, *train), capture_output=True, text=True, timeout=100, check=False)
    assert refused.returncode != 0
    assert refused.stderr.count("error: ") == 1, refused.stderr
    assert "holds a run already" in refused.stderr

    for arguments in (("train", spec, "--steps", "3"), ("reproduce", "nothing-of-that-name")):
        wrong = subprocess.run(
            launched(2, "-m", "handful", *arguments), capture_output=True, text=True, timeout=100, check=False
        )
        assert wrong.returncode != 0
        assert wrong.stderr.count("No such option") + wrong.stderr.count("unknown recipe") == 1, wrong.stderr

    options = ("--json", "--tasks", "30", "--ways", "4", "--record", tmp_path / "record.csv")
    shown = subprocess.run(
        launched(2, "-m", "handful", "evaluate", folder / "best", *options),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    result = json.loads(shown.stdout)
    assert result["tasks"] == 30
    assert len((tmp_path / "record.csv").read_text().splitlines()) == 31
