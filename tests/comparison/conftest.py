from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from handful.comparison.measuring import Place
from handful.comparison.plan import Plan, load_plan

PLAN = """
title = "Digits"
metric = "accuracy"
control = "prototypical"

[data]
name = "digits"

[encoder]
name = "mlp"
shape = [1, 8, 8]
hidden = [8]
normalization = "running"

[train]
ways = 3
shots = 1
queries = 2
batch = 2
rate = 0.01

[tests]
"3-way" = { ways = 3, shots = 2, queries = 5, tasks = 20 }
"5-way" = { ways = 5, shots = 2, queries = 5, tasks = 20 }
"3-way, noisy" = { ways = 3, shots = 2, queries = 5, tasks = 20, label_noise = 0.4, who = "embedding" }
"3-way, unbalanced" = { ways = 3, shots = 2, queries = 5, tasks = 20, query_balance = 1.0, who = "transductive" }

[entries.pixels]
title = "Pixels"
learner = { name = "prototypical" }
encoder = { name = "identity", shape = [1, 8, 8] }
untrained = true

[entries.prototypical]
title = "Prototypical network"
learner = { name = "prototypical" }
published = { "3-way" = 0.5 }
source = "Nobody 2020, table 0"

[entries.again]
title = "The same again"
learner = { name = "prototypical" }
weights = "prototypical"
note = "A copy."

[entries.maml]
title = "MAML"
learner = { name = "maml", outputs = 3 }
encoder = { normalization = "batch" }

[entries.diverging]
title = "Diverging"
learner = { name = "maml", outputs = 3, inner_rate = 1e30, inner_steps = 5 }
encoder = { normalization = "none" }

[entries.absent]
title = "Absent"
learner = { name = "of-tomorrow" }
"""


@pytest.fixture
def plan_of(tmp_path: Path) -> Callable[..., Plan]:
    """The small plan, with some of its text replaced."""

    def make(*changes: tuple[str, str]) -> Plan:
        text = PLAN
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "small.toml"
        path.write_text(text)
        return load_plan(str(path))

    return make


@pytest.fixture
def plan(plan_of: Callable[..., Plan]) -> Plan:
    return plan_of()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "results", tmp_path / "runs")
