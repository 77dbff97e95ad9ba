"""Fetching: when to ask the server for how many jobs, and what becomes of those that come."""

import random
import time
from dataclasses import dataclass

from pilotwrap.model.errors import PilotwrapError
from pilotwrap.model.job import JobSpec, Shape
from pilotwrap.panda.client import Wanted
from pilotwrap.panda.job import FetchedJob, PandaJob
from pilotwrap.plan.ledger import Ledger, possible, slots
from pilotwrap.run.driver import Driver
from pilotwrap.run.fetcher import Fetched, Fetcher
from pilotwrap.run.job import Job, rules_for
from pilotwrap.run.preparation import worker_shape
from pilotwrap.run.state import Rules, State
from pilotwrap.run.surroundings import Server

FIRST_PAUSE_S = 0.3
LAST_PAUSE_S = 30.0
"""Between two questions that found nothing: doubled from the first to the last, with jitter (guesses; the real server
names no limit of its own)."""

EMPTY_ANSWERS = 2
"""So many in a row mean that there is no work: with other workers asking at the same time a single one may only mean
that another had the row locked (measured on the real server)."""

NO_LIMIT_S = 10 * 24 * 3600
"""Said as the remaining time where no batch system names one; longer than any PanDA job may take (5 days)."""


MOST_WAITING = 3
"""So many jobs may wait for nodes while the others are filled with what fits beside (a guess: a job that waits here
could run elsewhere)."""


@dataclass(frozen=True)
class WorkTerms:
    """How long fetching goes on."""

    jobs: int | None
    wait_s: float
    overhead_s: float = 0.0
    """What the agent may need beside a job's own wall time."""

    spawn_s: float = Rules().spawn_s
    """From the agent's first process to the payload's."""


class PandaWork:
    """Asks for as many jobs as fit now, one request at a time."""

    def __init__(self, driver: Driver, fetcher: Fetcher, server: Server, worker: JobSpec, terms: WorkTerms) -> None:
        self._driver, self._fetcher, self._server, self._worker, self._terms = driver, fetcher, server, worker, terms
        self._expected = worker
        self._seen: tuple[Ledger, Shape] | None = None
        self._slots = 0
        self._asking = False
        self._closed = False
        self._empty = 0
        self._pause_s = FIRST_PAUSE_S
        self._next_at = self._last_work_at = time.monotonic()
        self.fetched = 0
        self.error: PilotwrapError | None = None

    @property
    def over(self) -> bool:
        """Tell whether no further job will be asked for, and none is on its way."""
        if self._asking:
            return False
        enough = self._terms.jobs is not None and self.fetched >= self._terms.jobs
        return self._closed or enough or self.error is not None or self._driver.broken or self._nothing_left

    def close(self) -> None:
        """Ask for nothing more; what is on its way is still taken."""
        self._closed = True

    def poll(self, now: float) -> float:
        """Ask if it is time and something fits; return in how many seconds to look again."""
        if self.over or self._asking or len(self._driver.unallotted) > self._may_wait:
            return LAST_PAUSE_S
        left = self._left_s(now)
        if self._worker.walltime_s is not None and left is not None and self._worker.walltime_s > left:
            self._closed = True
            return LAST_PAUSE_S
        if now < self._next_at:
            return self._next_at - now
        count = self._fitting()
        if count < 1:
            return LAST_PAUSE_S
        self._asking = True
        self._fetcher.ask(self._wanted(count, now))
        return LAST_PAUSE_S

    def heard(self, answer: Fetched) -> None:
        """Take what came."""
        self._asking = False
        now = time.monotonic()
        if isinstance(answer, PilotwrapError):
            self.error = answer
        elif not answer:
            self._empty += 1
            self._next_at = now + self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - spreads, hides nothing
            self._pause_s = min(2 * self._pause_s, LAST_PAUSE_S, max(self._terms.wait_s / 4, FIRST_PAUSE_S))
        else:
            self._empty, self._pause_s, self._last_work_at = 0, FIRST_PAUSE_S, now
            for came in answer:
                self._take(came)

    def _fitting(self) -> int:
        """Return how many jobs fit now and are still wanted."""
        waiting = bool(self._driver.unallotted)
        seen = (self._driver.ledger, self._worker if waiting else self._expected)
        if waiting or self._seen is None or any(was is not now for was, now in zip(self._seen, seen, strict=True)):
            # beside a job that waits for its nodes only one at a time: its shape is known when it has come
            self._seen, self._slots = seen, min(slots(self._driver.pool.spare, seen[1]), 1) if waiting else slots(*seen)
        # those whose record is being written have no cores yet, but will
        count = self._slots - sum(job.state.phase == "recording" for job in self._driver.jobs.values())
        return count if self._terms.jobs is None else min(count, self._terms.jobs - self.fetched)

    @property
    def _nothing_left(self) -> bool:
        idle = time.monotonic() - self._last_work_at >= self._terms.wait_s
        return self._empty >= EMPTY_ANSWERS and idle

    @property
    def _may_wait(self) -> int:
        """Return how many jobs may wait for their nodes while others are asked for: none where there is one node."""
        return min(MOST_WAITING, len(self._driver.ledger.free) - 1)

    def _left_s(self, now: float) -> float | None:
        stop_at = self._driver.around.stop_at
        return None if stop_at is None else max(0.0, stop_at - now)

    def _wanted(self, count: int, now: float) -> Wanted:
        facts = self._driver.around.allocation.head
        left = self._left_s(now)
        return Wanted(
            panda_queue=self._server.panda_queue,
            memory_mib=min(self._driver.ledger.memory_mib.values()),
            disk_mib=min((disk.free_mib for disk in facts.disk), default=0),
            remaining_time_s=NO_LIMIT_S if left is None else int(left),
            n_jobs=count,
            node=facts.host,
            prod_source_label=self._server.prod_source_label,
            harvester_id=self._server.harvester_id,
            worker_id=self._server.worker_id,
        )

    def _take(self, came: FetchedJob) -> None:
        fetched = came.job
        self.fetched += 1
        name = f"{fetched.panda_id}-{fetched.attempt_nr or 0}"
        if name in self._driver.jobs:
            return
        spec = self._worker
        if isinstance(fetched, PandaJob):
            spec = worker_shape(self._worker, fetched)
            # one that can never fit says nothing of the next
            self._expected = spec if possible(self._driver.ledger, spec) else self._worker
            if spec.walltime_s is not None:
                spec = spec.model_copy(update={"walltime_s": spec.walltime_s + self._terms.overhead_s})
        rules = rules_for(spec, self._driver.around.rules)
        rules = rules._replace(jitter=random.random(), spawn_s=self._terms.spawn_s)  # noqa: S311 - spreads
        directory = self._driver.around.run.job(name)
        self._driver.take(Job(name, spec, directory, State(rules=rules), fetched, entry=came.entry))
