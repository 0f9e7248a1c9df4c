"""The benchmarks run to their end and write what they measured. Their figures are not judged here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.__main__ import QUESTIONS, keep, main

from benchmarks import agreement, common, gpu, processes, report, sampling, turns

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
MEASURED = {
    "maml": "second-order-omniglot-5w1s",
    "modules": "any-module-resnet",
    "prototypical": "prototypical-omniglot",
    "sampling": "sampling-omniglot-20w1s-batch16-floats",
    "evaluation": "evaluation-1000-",
    "growth": "growth-tasks-2",
    "gpu": "prototypical-omniglot",
}
ONCE = ["--tiny", "--peers", "plain", "higher", "--threads", "1", "--allocators", "default", "--seconds", "0.01"]
ONCE += ["--device", "cpu"]
NEEDED = {"work", "peer", "ratio", "low", "high", "threads", "allocator", "peak_memory_ratio", "limit_fraction"}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a run of every question, beside a plain loop and in tiny sizes, said and wrote."""
    folder = tmp_path_factory.mktemp("results")
    chosen = [
        *MEASURED,
        "--works",
        *MEASURED.values(),
        "anil-omniglot",
        "reptile-omniglot",
        *ONCE,
        "--results",
        str(folder),
    ]
    command = [sys.executable, "-m", "benchmarks", *chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, folder


def test_every_question_is_measured(measured):
    _, folder = measured
    assert set(MEASURED) == set(QUESTIONS)
    page = (folder / "benchmarks.md").read_text()
    for question in QUESTIONS:
        rows = [found for found in json.loads((folder / f"{question}.json").read_text()) if found["peer"] == "plain"]
        assert rows
        for found in rows:
            assert found.keys() >= NEEDED
            assert found["low"] <= found["ratio"] <= found["high"]
            assert found["pairs"] >= turns.FEW  # of a busy machine; seven otherwise
            assert found["gradient_error"] <= agreement.TOLERANCE
            assert report.ratio(found) in page
    assert (folder / "growth.svg").exists()


@pytest.mark.skipif(importlib.util.find_spec("higher") is not None, reason="the peer is installed")
def test_a_peer_that_is_not_installed_is_named_and_left_out(measured):
    said, _ = measured
    assert "higher: not installed, so not measured" in said


@pytest.mark.parametrize("who", [common.OURS, "plain"])
def test_a_sampled_episode_that_is_called_floats_is_floats_when_the_clock_stops(who):
    work = sampling.tiny(next(work for work in sampling.WORKS if work.name.endswith("batch16-floats")))
    made = sampling.contender(work, who, common.Place()).step()
    pictures = [leaf for leaf in made if leaf.dim() > 2]
    assert pictures
    assert all(leaf.dtype == torch.float32 for leaf in pictures)


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (["gpu"], "finds no GPU here"),
        (["maml", "gpu"], "finds no GPU here"),
        (["--device", "cuda"], "finds no GPU here"),
        (["maml", "sampling", "--device", "cuda"], "sampling: measured on the CPU alone"),
    ],
)
def test_without_a_gpu_nothing_is_begun(monkeypatch, capsys, tmp_path, chosen, said):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["benchmarks", *chosen, "--results", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_gpu_has_something_to_be_compared_with_where_no_peer_is_installed():
    assert all(common.PLAIN in work.peers for work in gpu.WORKS)


def test_what_is_not_compiled_is_left_out_at_once(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "gpu", "maml", "--device", "cpu", "--compile", "--list"])
    main()
    listed = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert listed == [work.name for work in gpu.WORKS if work.name.startswith("prototypical")]
    assert listed


@pytest.mark.parametrize(
    ("place", "took"),
    [
        (common.Place(), 9.0),  # a long step is not made twice
        (common.Place(device="cuda"), 0.002),  # the first one loads libraries
        (common.Place(compiled=True), 0.002),  # or compiles
    ],
)
def test_what_only_the_first_call_takes_is_not_a_step(place, took):
    calls = iter([(9.0, 9.0), (0.002, 0.002)])
    assert turns.warm(lambda: next(calls), place) == took
    assert turns.warm(lambda: None, place) is None


def test_who_does_not_answer_is_given_up(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE", 0.5)
    with processes.process(common.Place()) as running, pytest.raises(common.UnmeasuredError, match="did not answer"):
        running(time.sleep, 60)


def test_answers_are_compared_name_by_name():
    ours = {"weight": np.array([3.0, 4.0]), "bias": np.array([1e-9])}
    assert agreement.distance(ours, {"weight": np.array([3.0, 4.0])}) == 0
    assert agreement.distance(ours, {"weight": np.array([3.0, 4.5]), "bias": np.zeros(1)}) > 0.05
    assert agreement.distance(ours, {"bias": np.zeros(1), "weight": ours["weight"]}) < 1e-6
    assert agreement.distance(ours, {"another": np.zeros(1)}) == float("inf")
    assert not agreement.distance(ours, {"weight": np.array([3.0, float("nan")])}) <= agreement.TOLERANCE


def row(**values: Any) -> dict[str, Any]:
    return {
        "question": "maml",
        "work": "w",
        "title": "A work",
        "peer": "peer",
        "ratio": 3.25,
        "low": 3.0,
        "high": 3.5,
        "pairs": 9,
        "our_seconds": 0.0123,
        "peer_seconds": 0.04,
        "our_peak_bytes": 5 << 20,
        "peer_peak_bytes": 10 << 20,
        "peak_memory_ratio": 0.5,
        "limit_fraction": 0.42,
        "threads": 1,
        "allocator": "default",
        "device": "cpu",
        "precision": "float32",
        "note": "",
        "commit": "0123456789",
        "date": "2026-01-01T00:00:00+00:00",
        "machine": {"processor": "P", "cores": 2},
        "versions": {"torch": "2"},
        "load_average": [1.0, 1.0, 1.0],
    } | values


def test_a_row_measured_again_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "maml.json"
    keep(path, [row(), row(threads=2)])
    keep(path, [row(ratio=9.0)])
    assert [(r["threads"], r["ratio"]) for r in json.loads(path.read_text())] == [(1, 9.0), (2, 3.25)]


def test_the_table_says_what_a_row_holds():
    page = report.page({"maml": [row(), row(peer="other", note="it does less")]})
    assert (
        "| A work | peer | 1 | default | 3.25 (3.00 to 3.50) | 12.3 ms | 40.0 ms | 0.50 (5 / 10 MB) | 42 % | 9 |"
        in page
    )
    assert "other [1]" in page
    assert "[1] It does less." in page


def test_the_page_agrees_with_the_rows():
    assert (ROOT / "docs" / "benchmarks.md").read_text() == report.page(report.read(RESULTS))


def test_every_row_has_what_a_reader_needs():
    for question, rows in report.read(RESULTS).items():
        for found in rows:
            assert found.keys() >= NEEDED, (question, found.get("work"))
