"""Waiting jobs on a simulated clock: never too much is lent, the large one's turn comes, the nodes stay full."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan.facts import alike, allocation, device, job, node

from pilotwrap.model.job import JobSpec
from pilotwrap.plan.ledger import Allotment, Ledger, give_back, ledger_of, needs, possible
from pilotwrap.plan.order import Held, Reservation, Waiting, turn, unreserved

CORES, DEVICES = 8, 2


def nodes_of(count: int) -> Ledger:
    facts = node(
        [str(core) for core in range(CORES)],
        [device(number) for number in range(DEVICES)],
        given=allocation([f"node{number}" for number in range(count)]),
    )
    return ledger_of(alike(facts))


@dataclass
class Work:
    """A job of the simulation: how long it runs, and whether it says so."""

    name: str
    spec: JobSpec
    runs_s: float
    promises_s: float | None = None


@dataclass
class Cluster:
    """Nodes on a simulated clock: jobs come, get their turn, end."""

    ledger: Ledger
    now: float = 0.0
    waiting: list[Work] = field(default_factory=list)
    held: dict[str, Held] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    started: dict[str, float] = field(default_factory=dict)
    reservation: Reservation | None = None
    used: float = 0.0

    def lend(self) -> None:
        asked = [Waiting(one.name, one.spec, one.promises_s) for one in self.waiting]
        this = turn(self.ledger, asked, list(self.held.values()), self.now, self.reservation)
        works = {one.name: one for one in self.waiting}
        for name, share in this.lent:
            self.began(works[name], share)
        self.waiting = [one for one in self.waiting if one.name not in self.held]
        self.ledger, self.reservation = this.ledger, this.reservation
        self.check()

    def began(self, work: Work, share: Allotment) -> None:
        assert (len(share.hosts), len(share.cores)) == (work.spec.nodes, needs(self.ledger, work.spec, "node0")[0])
        free_at = None if work.promises_s is None else self.now + work.promises_s
        self.held[work.name] = Held(work.name, share, free_at)
        self.started[work.name], self.ends[work.name] = self.now, self.now + work.runs_s
        self.used += len(share.hosts) * len(share.cores) * work.runs_s

    def check(self) -> None:
        """Nothing is lent twice, and what is free is all that is not lent."""
        for host, every in self.ledger.all_cores.items():
            here = [one.allotment for one in self.held.values() if host in one.allotment.hosts]
            assert sorted([core for one in here for core in one.cores] + [*self.ledger.free[host]]) == sorted(every)
            assert (
                sum(one.memory_mib for one in here) + self.ledger.memory_mib[host] == self.ledger.all_memory_mib[host]
            )
            assert self.ledger.memory_mib[host] >= 0
            taken = [name for one in here if not one.shared for name in one.devices]
            assert len(taken) == len(set(taken)) == DEVICES - len(self.ledger.devices[host])

    def one_ends(self) -> None:
        name = min(self.ends, key=lambda name: self.ends[name])
        self.now = self.ends.pop(name)
        self.ledger = give_back(self.ledger, self.held.pop(name).allotment)


def to_the_end(cluster: Cluster) -> float:
    """Run all, and return which share of the cores' time was used."""
    cluster.lend()
    while cluster.held:
        cluster.one_ends()
        cluster.lend()
    assert not cluster.waiting
    assert cluster.ledger.idle
    return cluster.used / (max(cluster.now, 1) * CORES * len(cluster.ledger.free))


def specs(nodes: int) -> st.SearchStrategy[JobSpec]:
    return st.builds(
        job,
        nodes=st.integers(1, nodes),
        cpus_per_rank=st.none() | st.integers(1, CORES),
        gpus_per_rank=st.integers(0, DEVICES),
        gpu_sharing=st.booleans(),
        memory_mib_per_rank=st.none() | st.integers(1, 8000),
    )


@st.composite
def works(draw: st.DrawFn, nodes: int, most: int = 12) -> list[Work]:
    found = []
    for number, spec in enumerate(draw(st.lists(specs(nodes), max_size=most))):
        runs = draw(st.integers(1, 30))
        promises = draw(st.none() | st.integers(runs, 60))
        found.append(Work(f"job-{number}", spec, runs, promises))
    return found


@given(works(3))
def test_all_that_is_possible_gets_its_turn_and_nothing_is_lent_twice(waiting: list[Work]) -> None:
    ledger = nodes_of(3)
    to_the_end(Cluster(ledger, waiting=[one for one in waiting if possible(ledger, one.spec)]))


@settings(deadline=None)
@given(works(3, 8), specs(3), works(3, 40))
def test_a_stream_of_others_cannot_delay_the_large_one(
    before: list[Work], large: JobSpec, stream: Sequence[Work]
) -> None:
    """It starts when those that ran at its coming have ended, or would have by their own word."""
    ledger = nodes_of(3)
    cluster = Cluster(ledger, waiting=[one for one in before if possible(ledger, one.spec)])
    cluster.lend()
    cluster.waiting.clear()
    if not possible(ledger, large):
        return
    limits = {name: max(end, cluster.held[name].free_at or 0) for name, end in cluster.ends.items()}
    bound = max(limits.values(), default=0.0)
    cluster.waiting = [Work("large", large, 5)]
    coming = [Work(f"late-{n}", one.spec, one.runs_s, one.promises_s) for n, one in enumerate(stream)]
    coming = [one for one in coming if possible(ledger, one.spec)]
    while "large" not in cluster.started:
        cluster.waiting += coming[:4]
        del coming[:4]
        cluster.lend()
        if "large" not in cluster.started:
            cluster.one_ends()
    assert cluster.started["large"] <= bound


def test_others_run_beside_what_is_reserved_and_for_no_longer_than_its_wait() -> None:
    ledger = nodes_of(2)
    cluster = Cluster(ledger, waiting=[Work("long", job(), 10, 10)])
    cluster.lend()
    large, short, late, lasting = (
        Work("large", job(nodes=2), 5),
        Work("short", job(cpus_per_rank=4), 8, 9),
        Work("late", job(cpus_per_rank=1), 2, 11),
        Work("lasting", job(cpus_per_rank=1), 1),
    )
    cluster.waiting = [large, late, lasting, short]
    cluster.lend()
    assert sorted(cluster.held) == ["long", "short"]
    cluster.one_ends()
    cluster.one_ends()
    cluster.lend()
    assert (cluster.now, cluster.started["large"]) == (10, 10)


def test_a_job_beside_the_reservation_needs_no_word_on_its_end() -> None:
    cluster = Cluster(nodes_of(3), waiting=[Work("long", job(), 10)])
    cluster.lend()
    cluster.waiting = [Work("large", job(nodes=3, cpus_per_rank=6), 5), Work("beside", job(cpus_per_rank=2), 99)]
    cluster.lend()
    assert sorted(cluster.held) == ["beside", "long"]
    cluster.one_ends()
    cluster.lend()
    assert cluster.started["large"] == 10


def test_what_is_reserved_is_nobodys_spare() -> None:
    cluster = Cluster(nodes_of(2), waiting=[Work("long", job(), 10)])
    cluster.lend()
    cluster.waiting = [Work("large", job(nodes=2), 5)]
    cluster.lend()
    spare = unreserved(cluster.ledger, list(cluster.held.values()), cluster.reservation)
    assert [len(cores) for cores in cluster.ledger.free.values()] == [0, CORES]
    assert [len(cores) for cores in spare.free.values()] == [0, 0]


def random_works(seed: int, *, promises: bool) -> list[Work]:
    """Return 200 jobs: half of whole nodes, half of parts of one."""
    chance, found = random.Random(seed), []  # noqa: S311 - the same shapes in every run
    for number in range(200):
        whole = chance.random() < 0.5
        spec = job(nodes=chance.randint(1, 4)) if whole else job(cpus_per_rank=chance.randint(1, CORES))
        runs = chance.uniform(10, 60)
        found.append(Work(f"job-{number}", spec, runs, 1.5 * runs if promises else None))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_random_shapes_in_any_order_with_their_wall_times_fill_nine_tenths(seed: int) -> None:
    assert to_the_end(Cluster(nodes_of(4), waiting=random_works(seed, promises=True))) >= 0.9


@pytest.mark.parametrize("seed", range(4))
def test_a_list_of_random_shapes_the_largest_first_needs_no_wall_times_for_that(seed: int) -> None:
    waiting = sorted(random_works(seed, promises=False), key=lambda one: -one.spec.nodes)
    assert to_the_end(Cluster(nodes_of(4), waiting=waiting)) >= 0.95
