"""Why something ended, and what the programs exit with for it: the contract's table as data."""

from collections.abc import Iterable
from typing import Literal, get_args

Reason = Literal[
    "ok",
    "payload-exit",
    "payload-signal",
    "out-of-memory",
    "stage-in",
    "stage-out",
    "walltime",
    "bad-input",
    "usage",
    "node-unusable",
    "node-lost",
    "allocation",
    "launcher",
    "binding",
    "image",
    "environment",
    "credential",
    "endpoint",
    "pilot",
    "panda-queue",
    "server",
    "no-work",
    "preempted",
    "cancelled",
    "internal",
]

REASONS: tuple[Reason, ...] = get_args(Reason)

EXIT_CODES: dict[Reason, int] = {
    "ok": 0,
    "payload-exit": 1,
    "payload-signal": 1,
    "out-of-memory": 1,
    "stage-in": 1,
    "stage-out": 1,
    "walltime": 1,
    "bad-input": 2,
    "usage": 2,
    "node-unusable": 3,
    "node-lost": 3,
    "allocation": 3,
    "launcher": 3,
    "binding": 3,
    "image": 3,
    "environment": 3,
    "credential": 3,
    "endpoint": 3,
    "pilot": 3,
    "panda-queue": 3,
    "server": 4,
    "no-work": 5,
    "preempted": 124,
    "cancelled": 143,
    "internal": 70,
}

ALLOCATION_WALLTIME_EXIT = 124
"""`walltime` of the allocation, not of the job: the run was stopped in time and told."""

INTERRUPTED_EXIT = 130
"""`cancelled` by INT, as a shell counts it (128 + 2); TERM gives 143."""

NODE_REASONS: frozenset[Reason] = frozenset(reason for reason, code in EXIT_CODES.items() if code == 3)  # noqa: PLR2004 - the table above
"""Faults of the node or the site: after one of these a node takes no further job."""

_WORST_FIRST = (70, 3, 4, 130, 143, 124, 2, 1, 5, 0)


def exit_code_of(codes: Iterable[int]) -> int:
    """Return the one exit code that stands for several: a broken node or site beats a failed job."""
    found = set(codes)
    return next((code for code in _WORST_FIRST if code in found), max(found, default=0))
