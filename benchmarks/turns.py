"""Processes that take turns, one call at a time, while the others wait.

A round is one turn of each, and a ratio is made from the two turns of the same round. A busy spell then hits both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from .common import OURS, Place, UnmeasuredError, Work
from .processes import Process, get_ready, peak_above, take_turn

SHORT, LONG, FEW, MANY = 0.05, 5.0, 3, 7  # seconds of a turn, at least; of a step that is long; rounds, at least


class Turns(NamedTuple):
    """What one contender's process measured."""

    seconds: list[float]
    """Of each round, for a unit."""
    peak: int
    """Bytes above what was in use after imports and setting up."""


def warm(turn: Callable[[], tuple[float, float] | None], place: Place) -> float | None:
    """The seconds that a call takes once everything is ready; None where it fails.

    A step that takes long is called once only, except where a first call loads libraries or compiles.
    """
    first = turn()
    slow_start = place.compiled or place.device != "cpu"
    found = first if first is None or (first[1] >= LONG and not slow_start) else turn()
    return None if found is None else found[1]


def taking_turns(
    question: str, work: Work, contenders: list[str], place: Place, seconds: float
) -> tuple[dict[str, Turns], list[str]]:
    """What each contender measured, the same number of rounds each; and a line for each that failed.

    Goes on for `seconds`, and for at least seven rounds (three if a step takes five seconds or more) after one that
    only warms up. Each round starts with another contender.
    """
    running: dict[str, Process] = {}
    seconds_of: dict[str, list[float]] = {}
    lines: list[str] = []

    def attempt(who: str, function: Callable[..., Any], *given: Any) -> Any:
        try:
            return running[who](function, *given)
        except UnmeasuredError as why:
            lines.append(f"{who}: {why}, so not measured")
            running.pop(who).close()

    try:
        for who in contenders:
            running[who] = Process(place, tuned=place.allocator == "tuned" or who == OURS)
            attempt(who, get_ready, question, work, who, place)
        calls, longest = {}, 0.0
        for who in list(running):
            took = warm(partial(attempt, who, take_turn, 1), place)
            if took is not None:
                calls[who] = max(1, round(SHORT / max(took, 1e-9)))
                longest = max(longest, took)
                seconds_of[who] = []
        least, end, rounds = (FEW if longest >= LONG else MANY), time.perf_counter() + seconds, 0
        while (rounds < least or time.perf_counter() < end) and len(running) > 1:
            order = list(running)
            for who in order[rounds % len(order) :] + order[: rounds % len(order)]:
                turn = attempt(who, take_turn, calls[who])
                if turn is not None:
                    seconds_of[who].append(turn[0])
            rounds += 1
        peaks = {who: attempt(who, peak_above) for who in list(running)}
        return {who: Turns(seconds_of[who], peak) for who, peak in peaks.items() if peak is not None}, lines
    finally:
        for one in running.values():
            one.close()
