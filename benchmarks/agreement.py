"""Whether everybody computes the same: the answers of all contenders, in float64."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from .common import OURS, Place, UnmeasuredError, Work
from .processes import answers, process

TOLERANCE = 1e-8  # relative


def agreeing(
    question: str, work: Work, peers: list[str], device: str, threads: int
) -> tuple[dict[str, float], list[str]]:
    """How far each peer's answers are from ours, relative, in float64; and a line for each that is left out.

    Raises:
        UnmeasuredError: we ourselves fail.
    """
    place = Place(threads, device=device, precision="float64")
    checked = importlib.import_module(f"benchmarks.{question}").checked(work)
    with process(place) as running:
        ours = running(answers, question, checked, OURS, place)
    errors, left_out = {}, []
    for who in peers:
        try:
            with process(place) as running:
                theirs = running(answers, question, checked, who, place)
            errors[who] = distance(ours, theirs)
            if not errors[who] <= TOLERANCE:
                raise UnmeasuredError(f"computes something else: {errors.pop(who):.1e} away, more than {TOLERANCE:.0e}")
        except UnmeasuredError as why:
            left_out.append(f"{who}: {why}, so not measured")
    return errors, left_out


def distance(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> float:
    """The largest relative difference of two answers, name by name. Small parts count against the whole."""
    common = ours.keys() & theirs.keys()
    if not common or any(ours[name].size != theirs[name].size for name in common):
        return float("inf")
    if not all(np.isfinite(side[name]).all() for side in (ours, theirs) for name in common):
        return float("inf")
    norms = {name: float((theirs[name] ** 2).sum() ** 0.5) for name in common}
    whole = max(*norms.values(), 1e-300)
    apart = {name: float(((ours[name].ravel() - theirs[name].ravel()) ** 2).sum() ** 0.5) for name in common}
    return max(apart[name] / max(norms[name], 1e-3 * whole) for name in common)
