"""What was measured, as rows for the files of results."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from handful.machine import commit, describe_machine, versions

from .common import OURS, PEERS, Place, Work
from .turns import Turns


def rows(
    question: str,
    work: Work,
    place: Place,
    turns: Mapping[str, Turns],
    errors: Mapping[str, float],
    flops: float | None,
    limit: float,
) -> list[dict[str, Any]]:
    """A row for each peer that was measured."""
    if OURS not in turns:
        return []
    ours = turns[OURS]
    middle = statistics.median(ours.seconds)
    about = {
        "threads": place.threads,
        "allocator": place.allocator,
        "device": place.device,
        "precision": place.precision + (" compiled" if place.compiled else ""),
        "flops": flops,
        "limit_flops_per_second": limit,
        "limit_fraction": None if flops is None else flops / middle / limit,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "machine": describe_machine(place.device) | {"threads": place.threads},
        "versions": versions() | _peer_versions(),
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    found = []
    for who, theirs in turns.items():
        if who == OURS:
            continue
        ratios = [their / our for their, our in zip(theirs.seconds, ours.seconds, strict=True)]
        low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive")
        found.append(
            {
                "question": question,
                "work": work.name,
                "title": work.title,
                "peer": who,
                "ratio": ratio,
                "low": low,
                "high": high,
                "spread": "quartiles",
                "pairs": len(ratios),
                "our_seconds": middle,
                "peer_seconds": statistics.median(theirs.seconds),
                "our_peak_bytes": ours.peak,
                "peer_peak_bytes": theirs.peak,
                "peak_memory_ratio": ours.peak / theirs.peak if theirs.peak else None,
                "gradient_error": errors[who],
                "note": dict(work.notes).get(who, ""),
                **about,
            }
        )
    return found


def _peer_versions() -> dict[str, str]:
    found = {}
    for name in PEERS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
