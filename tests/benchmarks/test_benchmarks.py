"""The benchmarks run to their end and write what they measured. Their figures are not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = {
    "sampling": ["--seconds", "0.5", "--characters", "30", "--images", "20"],
    "evaluation": ["--seconds", "0.1", "--images", "20", "--side", "16", "--tasks", "20", "40", "--rounds", "1"],
}


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_runs_and_writes_its_figures(name, tmp_path):
    written = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--threads", "1", *TINY[name]]
    done = subprocess.run([*command, "--json", str(written)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "goal:" in done.stdout
    figures = json.loads(written.read_text())
    assert figures["benchmark"] == name
    assert figures["machine"]["threads"] == 1
    assert {"commit", "date", "versions", "options"} <= figures.keys()
