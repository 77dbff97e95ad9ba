"""In which order waiting jobs get their share: the oldest first, others only where they cannot delay it. Pure.

Where the oldest does not fit, it gets a reservation: a share that will be free when certain jobs have ended. Others go
on what is free now and then, or for a time that is over by then; so the jobs that it waits for are never more.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from typing import NamedTuple

from pilotwrap.model.job import Shape
from pilotwrap.plan.ledger import Allotment, Ledger, common, give_back, lend, needs, take

LOOK_AHEAD = 500
"""So many waiting jobs are looked at behind the oldest (a guess; Slurm's bf_max_job_test is 500 as well)."""


class Waiting(NamedTuple):
    """A job that has no share yet; `takes_s` is how long it would hold one at most, None: not known."""

    name: str
    shape: Shape
    takes_s: float | None


class Held(NamedTuple):
    """The share of a job, and when it will be free at the latest; None: not known."""

    name: str
    allotment: Allotment
    free_at: float | None


class Reservation(NamedTuple):
    """What the oldest waiting job will get when those that it waits for have ended, and by when; None: not known."""

    name: str
    allotment: Allotment
    waits_for: frozenset[str]
    by: float | None


class Turn(NamedTuple):
    """Who gets which share now, what is free after that, and the reservation of the oldest that gets none."""

    ledger: Ledger
    lent: tuple[tuple[str, Allotment], ...]
    reservation: Reservation | None


def turn(
    ledger: Ledger, waiting: Sequence[Waiting], held: Sequence[Held], now: float, reservation: Reservation | None = None
) -> Turn:
    """Lend what is free to those that wait, in the order of their coming; each has to be possible.

    `held` is all that is lent, in the order of lending; `reservation` is that of the turn before.
    """
    lent: list[tuple[str, Allotment]] = []
    holding = list(held)
    count = 0
    for count, oldest in enumerate(waiting):  # noqa: B007 - used after the loop
        ledger, share = _oldest_s(ledger, oldest, reservation)
        if share is None:
            break
        lent.append((oldest.name, share))
        holding.append(Held(oldest.name, share, _end(oldest, now)))
    else:
        return Turn(ledger, tuple(lent), None)
    first = waiting[count]
    if reservation is None or reservation.name != first.name:
        reservation = _reserved(ledger, first, holding)
    if reservation is None:
        return Turn(ledger, tuple(lent), None)
    others = waiting[count + 1 : count + 1 + LOOK_AHEAD]
    return _backfilled(Turn(ledger, tuple(lent), reservation), others, holding, now)


def unreserved(ledger: Ledger, held: Sequence[Held], reservation: Reservation | None) -> Ledger:
    """Return what is free now and stays free when the reservation is used."""
    if reservation is None:
        return ledger
    ended = [one.allotment for one in held if one.name in reservation.waits_for]
    # a device that it would share is kept for it too: whoever got it for himself would delay it
    reserved = reservation.allotment.model_copy(update={"shared": False})
    return common(ledger, take(give_back(ledger, *ended), reserved))


def _backfilled(turn: Turn, others: Sequence[Waiting], held: Sequence[Held], now: float) -> Turn:
    """Lend to others, the largest first: what is left is then filled by the small ones."""
    ledger, lent, reservation = turn.ledger, list(turn.lent), turn.reservation
    if reservation is None or not any(ledger.free.values()):
        return turn
    holding, beside = list(held), unreserved(ledger, held, reservation)
    refused: set[tuple[object, ...]] = set()
    for one in sorted(others, key=lambda one: -_size(ledger, one.shape)):
        until = _end(one, now)
        in_time = until is not None and reservation.by is not None and until <= reservation.by
        kind = (in_time, *_needs(one.shape))
        if kind in refused:
            continue
        share, borrowed = _beside_or_before(beside, ledger, one, in_time=in_time)
        if share is None:
            refused.add(kind)
            continue
        if borrowed:
            reservation = reservation._replace(waits_for=reservation.waits_for | {one.name})
        lent.append((one.name, share))
        holding.append(Held(one.name, share, until))
        ledger = take(ledger, share)
        beside = unreserved(ledger, holding, reservation)
    return Turn(ledger, tuple(lent), reservation)


def _beside_or_before(beside: Ledger, ledger: Ledger, one: Waiting, *, in_time: bool) -> tuple[Allotment | None, bool]:
    """Return a share beside what is reserved, or of it where it is given back in time; then it is borrowed."""
    share = lend(beside, one.shape)[1]
    if share is not None or not in_time:
        return share, False
    return lend(ledger, one.shape)[1], True


def _oldest_s(ledger: Ledger, oldest: Waiting, reservation: Reservation | None) -> tuple[Ledger, Allotment | None]:
    """Return the share of the oldest: what was reserved for it if that is free, or any other."""
    if reservation is not None and reservation.name == oldest.name and _is_free(ledger, reservation.allotment):
        return take(ledger, reservation.allotment), reservation.allotment
    return lend(ledger, oldest.shape)


def _is_free(ledger: Ledger, share: Allotment) -> bool:
    return all(
        set(share.cores) <= set(ledger.free[host])
        and share.memory_mib <= ledger.memory_mib[host]
        and set(share.devices) <= {device.name for device in ledger.devices[host]}
        for host in share.hosts
    )


def _reserved(ledger: Ledger, oldest: Waiting, held: Sequence[Held]) -> Reservation | None:
    """Return the share that is free first, as far as ends are known; unknown ends come after, the oldest first."""
    ending = sorted(held, key=lambda one: float("inf") if one.free_at is None else one.free_at)

    def fits(count: int) -> bool:
        return lend(give_back(ledger, *_shares(ending[:count])), oldest.shape)[1] is not None

    count = bisect_left(range(len(ending)), x=True, key=fits)
    share = lend(give_back(ledger, *_shares(ending[:count])), oldest.shape)[1]
    if share is None:
        return None
    waits_for = frozenset(one.name for one in ending[:count])
    return Reservation(oldest.name, share, waits_for, ending[count - 1].free_at if count else None)


def _shares(held: Collection[Held]) -> list[Allotment]:
    return [one.allotment for one in held]


def _end(one: Waiting, now: float) -> float | None:
    return None if one.takes_s is None else now + one.takes_s


def _size(ledger: Ledger, shape: Shape) -> int:
    host = next(iter(ledger.free))
    return shape.nodes * needs(ledger, shape, host)[0]


def _needs(shape: Shape) -> tuple[object, ...]:
    """Return what makes two shapes equal to the ledger."""
    count = (shape.nodes, shape.ranks_per_node, shape.cpus_per_rank, shape.memory_mib_per_rank, shape.gpus_per_rank)
    return (*count, shape.gpu_vendor, shape.gpu_sharing, isinstance(shape.binding, str))
