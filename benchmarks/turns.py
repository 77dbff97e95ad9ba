"""Calls that take turns, so that all of them see the same machine, and what else that machine was doing."""

import os
import statistics
from collections.abc import Callable, Mapping

CORES = len(os.sched_getaffinity(0))

Call = Callable[[], float]
"""Does something, and returns its seconds."""


def medians(rounds: int, calls: Mapping[str, Call]) -> dict[str, float]:
    """Return each call's median of so many rounds; one round more, the first, warms up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds + 1):
        for name, call in calls.items():
            taken[name].append(call())
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def load() -> str:
    """Say what else this machine was doing, for a figure is worth no more than that."""
    return f"load average {os.getloadavg()[0]:.1f} on {CORES} cores"
