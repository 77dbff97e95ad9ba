"""Calls that take turns, so that all of them see the same machine, and what else that machine was doing."""

import os
import statistics
from collections.abc import Callable, Mapping
from typing import NamedTuple

CORES = len(os.sched_getaffinity(0))

Call = Callable[[], float]
"""Does something, and returns its seconds."""


class Took(NamedTuple):
    """Seconds of one call in many rounds; on a machine with much else to do the least says more."""

    median: float
    least: float


def took(rounds: int, calls: Mapping[str, Call]) -> dict[str, Took]:
    """Return what each call took in so many rounds; one round more, the first, warms up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            taken[name].append(call())
    return {name: Took(statistics.median(values[1:]), min(values[1:])) for name, values in taken.items()}


def load() -> str:
    """Say what else this machine was doing, for a figure is worth no more than that."""
    return f"load average {os.getloadavg()[0]:.1f} on {CORES} cores"
