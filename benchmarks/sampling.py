"""How many episodes a second come out of memory, on one thread.

    python benchmarks/sampling.py --seconds 20 --json sampling.json

Two shapes of task: Omniglot's (1,200 characters × 4 rotations × 20 drawings of 1×28×28 bytes, 20-way 1-shot with one
query a class) and mini-ImageNet's (64 classes of 3×84×84 bytes, 5-way 1-shot with 15 queries a class). Each batch is
drawn, gathered and turned into floats, as training gets it. Peers that are installed take turns with Handful in the
same run.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from functools import partial

import torch
from common import Case, arguments, measured, peer, prepared, report, write
from torch import Tensor

from handful.data import ClassPool, Episodes, omniglot
from handful.data.cache import data_folder

GOAL = 10_000  # Omniglot episodes a second, in the best batch size
BATCHES = (1, 16, 64)


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--characters", type=int, default=1200, help="classes of the made-up Omniglot, before turning")
    parser.add_argument("--images", type=int, default=300, help="pictures a class of the made-up mini-ImageNet")
    options = prepared(parser)
    kind, drawings = omniglot_pool(options)
    pictures = made_up(64, options.images, (3, 84, 84))
    rows = []
    for title, pool, ways, queries in (
        (f"Omniglot, {kind}: 20-way 1-shot, 1 query a class", drawings, 20, 1),
        ("mini-ImageNet, made up: 5-way 1-shot, 15 queries a class", pictures, 5, 15),
    ):
        cases = [ours(pool, ways, queries, batch) for batch in BATCHES] + peers(pool, ways, queries)
        found = measured(cases, options.seconds / 2)
        report(title, "episodes/s", found)
        rows += [{"work": title, **row} for row in found]
    own = [row for row in rows if row["work"].startswith("Omniglot") and row["who"] == "handful"]
    best, busy = (max(row[figure] for row in own) for figure in ("median", "per_processor_second"))
    verdict = "reached" if best >= GOAL else "missed"
    print(f"\ngoal: {GOAL:,} Omniglot episodes/s; best median {best:,.0f} ({busy:,.0f} a CPU second): {verdict}")
    write(options, {"benchmark": "sampling", "goal": GOAL, "best": best, "rows": rows})


def omniglot_pool(options: argparse.Namespace) -> tuple[str, ClassPool]:
    """The real training characters if they are in the cache already, else bytes of the same shape."""
    if options.characters == 1200 and (data_folder() / "omniglot-28").is_dir():
        return "real", omniglot().split("train+val")
    return "made up", made_up(4 * options.characters, 20, (1, 28, 28))


def made_up(classes: int, count: int, shape: tuple[int, ...]) -> ClassPool:
    """Random bytes."""
    x = torch.randint(0, 256, (classes * count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ClassPool.grouped(x, [count] * classes, [str(index) for index in range(classes)])


def ours(pool: ClassPool, ways: int, queries: int, batch: int) -> Case:
    episodes = Episodes(pool, ways=ways, shots=1, queries=queries, batch=batch)
    steps = itertools.count()
    return Case("handful", f"batches of {batch}", lambda: episodes[next(steps)], batch)


def peers(pool: ClassPool, ways: int, queries: int) -> list[Case]:
    """The episode loaders of other libraries on the same pictures, as floats made beforehand (to their favor)."""
    x = pool.gather(pool.rows())
    y = torch.repeat_interleave(torch.arange(pool.classes), pool.counts)
    wanted = {"learn2learn": learn2learn, "easyfsl": easyfsl}
    return [case for name, make in wanted.items() if (case := peer(name, partial(make, x, y, ways, queries)))]


def learn2learn(x: Tensor, y: Tensor, ways: int, queries: int) -> Case:
    from learn2learn.data import MetaDataset, TaskDataset
    from learn2learn.data.transforms import ConsecutiveLabels, FusedNWaysKShots, LoadData, RemapLabels

    data = MetaDataset(torch.utils.data.TensorDataset(x, y))
    transforms = [FusedNWaysKShots(data, n=ways, k=1 + queries), LoadData(data), RemapLabels(data)]
    tasks = TaskDataset(data, [*transforms, ConsecutiveLabels(data)], num_tasks=-1)
    sample: Callable[[], object] = tasks.sample
    return Case("learn2learn", "TaskDataset.sample", sample, 1)


def easyfsl(x: Tensor, y: Tensor, ways: int, queries: int) -> Case:
    from easyfsl.datasets import FewShotDataset
    from easyfsl.samplers import TaskSampler

    class Pictures(FewShotDataset):
        def __len__(self) -> int:
            return len(y)

        def __getitem__(self, row: int) -> tuple[Tensor, int]:
            return x[row], int(y[row])

        def get_labels(self) -> list[int]:
            return y.tolist()

    data = Pictures()
    sampler = TaskSampler(data, n_way=ways, n_shot=1, n_query=queries, n_tasks=1_000_000_000)
    loader = torch.utils.data.DataLoader(data, batch_sampler=sampler, collate_fn=sampler.episodic_collate_fn)
    tasks = iter(loader)
    return Case("easyfsl", "TaskSampler in a DataLoader, no worker", lambda: next(tasks), 1)


if __name__ == "__main__":
    main()
