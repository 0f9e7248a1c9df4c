"""How long an evaluation takes: embedding the examples, and then answering the tasks.

    python benchmarks/evaluation.py --json evaluation.json

A prototypical Conv4 on pictures of mini-ImageNet's test shape (20 classes of 3×84×84 bytes, made up), 5-way 1-shot
with 15 queries a class. `evaluate` embeds each example once, whatever the number of tasks; both parts are timed by
themselves, and so is the whole. A peer embeds every task's pictures anew: a few of its tasks are timed, and its
seconds for all of them are computed from that.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from common import arguments, peer, prepared, write
from torch import Tensor

from handful.data import ClassPool, Episodes
from handful.encoders import Conv4
from handful.evaluation import evaluate
from handful.learners import PrototypicalNetwork

GOAL = 3.0  # seconds for 1,000 tasks after embedding
PEER_TASKS = 2  # a turn


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--images", type=int, default=600, help="pictures a class")
    parser.add_argument("--side", type=int, default=84, help="pixels")
    parser.add_argument("--tasks", type=int, nargs="+", default=[1000, 10_000], help="numbers of tasks")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each part")
    options = prepared(parser)
    pool, learner = data(options), network(options)
    episodes = Episodes(pool, ways=5, shots=1, queries=15, batch=20, seed=2)
    rows = pool.rows()
    cases: dict[str, Callable[[], object]] = {"embedding": lambda: embedded(learner, pool, rows)}
    z = embedded(learner, pool, rows)
    features = Features(z, pool)
    for tasks in options.tasks:
        cases[f"{tasks} tasks after embedding"] = partial(features.answer, episodes, tasks)
    other = peer("easyfsl", lambda: easyfsl(learner, episodes))
    if other is not None:
        cases["easyfsl"] = other
    turns = timed(cases, options)
    seconds, own = ({name: statistics.median(t[i] for t in both) for name, both in turns.items()} for i in (0, 1))
    for name, both in turns.items():
        wall = [turn[0] for turn in both]
        spread = f"{min(wall):.2f} to {max(wall):.2f} in {len(wall)} turns"
        print(f"{name:32}{seconds[name]:>10.2f} s   ({spread}; {own[name]:.2f} CPU seconds)")
    began, used = time.perf_counter(), time.process_time()
    whole = evaluate(learner, episodes, tasks=options.tasks[0])
    took, busy = time.perf_counter() - began, time.process_time() - used
    print(f"{f'evaluate(), {options.tasks[0]} tasks':32}{took:>10.2f} s   (the whole, once; {busy:.2f} CPU seconds)")
    assert abs(whole.mean.value - features.answer(episodes, options.tasks[0])) < 1e-3, "the parts and the whole differ"
    if other is not None:
        for tasks in options.tasks:
            theirs = own["easyfsl"] / PEER_TASKS * tasks
            here = own["embedding"] + own[f"{tasks} tasks after embedding"]
            print(f"easyfsl, {tasks} tasks: {theirs:,.0f} CPU seconds (computed), {theirs / here:.1f} times as many")
    after = seconds[f"{options.tasks[0]} tasks after embedding"] * 1000 / options.tasks[0]
    verdict = "reached" if after <= GOAL else "missed"
    print(f"goal: at most {GOAL:.0f} s for 1,000 tasks after embedding; {after:.2f} s: {verdict}")
    found: dict[str, Any] = {"median_seconds": seconds, "cpu_seconds": own, "turns": turns, "examples": len(rows)}
    write(options, {"benchmark": "evaluation", "goal": GOAL, "after_1000": after, "peer_tasks": PEER_TASKS, **found})


def timed(cases: dict[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Seconds by the clock and of the processor, for each case and round; the cases take turns.

    `--seconds` ends it early, after one round.
    """
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    end = time.perf_counter() + options.seconds
    for number in range(options.rounds):
        if number and time.perf_counter() > end:
            break
        for name, run in cases.items():
            began, used = time.perf_counter(), time.process_time()
            run()
            turns[name].append((time.perf_counter() - began, time.process_time() - used))
    return turns


def data(options: argparse.Namespace) -> ClassPool:
    shape = (20 * options.images, 3, options.side, options.side)
    x = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ClassPool.grouped(x, [options.images] * 20, [str(index) for index in range(20)])


def network(options: argparse.Namespace) -> PrototypicalNetwork:
    torch.manual_seed(0)
    return PrototypicalNetwork(Conv4(shape=[3, options.side, options.side])).eval()


@torch.no_grad()
def embedded(learner: PrototypicalNetwork, pool: ClassPool, rows: Tensor) -> Tensor:
    """[M, F] features of these examples, as `evaluate` makes them: 512 at a time."""
    return torch.cat([learner.embed(pool.gather(part).unsqueeze(0))[0] for part in rows.split(512)])


class Features:
    """Everything that `evaluate` does after embedding."""

    def __init__(self, z: Tensor, pool: ClassPool) -> None:
        self.learner = PrototypicalNetwork(torch.nn.Identity()).eval()
        self.pool = ClassPool.grouped(z, pool.counts.tolist(), pool.names)

    def answer(self, episodes: Episodes, tasks: int) -> float:
        """The accuracy on the same tasks, from the features."""
        same = Episodes(self.pool, ways=5, shots=1, queries=15, batch=episodes.batch, seed=episodes.seed)
        return evaluate(self.learner, same, tasks=tasks).mean.value


def easyfsl(learner: PrototypicalNetwork, episodes: Episodes) -> Callable[[], None]:
    """A turn of easyfsl's prototypical networks with the same encoder on the same tasks."""
    from easyfsl.methods import PrototypicalNetworks

    theirs = PrototypicalNetworks(learner.encoder).eval()
    episode = episodes[0]

    @torch.no_grad()
    def turn() -> None:
        for task in range(PEER_TASKS):
            theirs.process_support_set(episode.support.x[task], episode.support.y[task])
            theirs(episode.query.x[task])

    turn()
    return turn


if __name__ == "__main__":
    main()
