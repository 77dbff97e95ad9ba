"""The driver: feeds events to the lives of jobs and does what they ask; owns the queue, the clock and the ledger."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pilotwrap.model.errors import PilotwrapError
from pilotwrap.model.outcome import Outcome
from pilotwrap.model.reasons import NODE_REASONS
from pilotwrap.model.report import JobReport
from pilotwrap.plan.ledger import Ledger
from pilotwrap.plan.shortage import lowered
from pilotwrap.run import effects as fx
from pilotwrap.run import events as ev
from pilotwrap.run.agent import Agent, DirectAgent
from pilotwrap.run.beginning import Beginnings
from pilotwrap.run.job import Job, rank_of
from pilotwrap.run.jobreport import report_of
from pilotwrap.run.journal import Journal
from pilotwrap.run.life import step
from pilotwrap.run.link import LOST, Message, StarterLink
from pilotwrap.run.orders import Order, kills, signals, spawns
from pilotwrap.run.pool import Pool
from pilotwrap.run.preemption import Preemption
from pilotwrap.run.results import shim_results
from pilotwrap.run.surroundings import Surroundings
from pilotwrap.run.verdict import rank_outcome, spawn_failure
from pilotwrap.run.workers import Workers

if TYPE_CHECKING:
    from pilotwrap.panda.spool import Record
    from pilotwrap.run.recorder import Entry, Recorder
    from pilotwrap.run.steps import StepDesk
    from pilotwrap.run.teller import Teller, Word

STAGING_THREADS = 4
"""Files travel in parallel up to so many (a guess: a shared file system serves a node no faster with more)."""

STEP_END: tuple[ev.StopReason, float] = ("cancelled", 10.0)
"""Why, and within how many seconds, a step ends that nobody wants any more (a guess, as for a planned end)."""

Task = Callable[[], None]


class Driver:
    """Owns all jobs of a run; every method runs on the main thread, except `post`."""

    def __init__(self, around: Surroundings, link: StarterLink, ledger: Ledger) -> None:
        self.around = around
        self.link = link
        self.pool = Pool(ledger, around.stop_at, around.allocation.unfit)
        self._direct = DirectAgent(around)
        self.agent: Agent = self._direct
        self.jobs: dict[str, Job] = {}
        self.desks: dict[str, StepDesk] = {}
        """Of jobs of mode `driver`, by their names."""

        self.leaving: dict[str, Job] = {}
        """Jobs whose lives are over while their last processes are being ended; they hold their cores until then."""

        self.reports: list[JobReport] = []
        self.outcomes: dict[str, Outcome] = {}
        self.teller: Teller | None = None
        self.recorder: Recorder | None = None
        self.remains: threading.Thread | None = None
        self.tell_worker: Callable[[Literal["started", "finished"]], threading.Thread | None] = lambda _status: None
        """Tells the server of Harvester's worker that this run is, if it is one."""

        self.broken = False
        """A job met a fault of this node or site: it takes no further one."""

        self._ended: dict[str, int] = {}
        self.starter_lost = False
        self.stopped: int | None = None
        self._end: tuple[ev.StopReason, float] | None = None
        self.journal = Journal(around.run.journal)
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self.beginnings = Beginnings(around.run.path / "plans")
        self._workers = Workers(STAGING_THREADS)
        self._orders: list[Order] = []
        self._words: list[Word] = []
        self._entries: list[Entry] = []
        self._tasks_out: list[Task] = []
        self.on_stop: Callable[[int], None] = lambda _signal: None
        self.preemption = Preemption(around, link)

    @property
    def ledger(self) -> Ledger:
        """Return what is free, and what there is."""
        return self.pool.ledger

    @property
    def unallotted(self) -> list[Job]:
        """Return those that wait for a share."""
        return self.pool.waiting

    def post(self, task: Task) -> None:
        """Have a task done on the main thread; may be called from any."""
        self._tasks.put(task)

    def turn(self, wait_s: float) -> None:
        """Wait for something to happen, do all that has happened, then tell and order what follows from it."""
        wakes = [job.wake_at for job in self.jobs.values() if job.wake_at is not None]
        wakes += self.beginnings.due
        wait_s = max(0.0, min([wait_s, *(at - time.monotonic() for at in wakes)]))
        try:
            self._tasks.get(timeout=wait_s)()
            while True:
                self._tasks.get_nowait()()
        except queue.Empty:
            pass
        now = time.monotonic()
        for job in [job for job in self.jobs.values() if job.wake_at is not None and job.wake_at <= now]:
            job.wake_at = None
            self.happened(job, ev.Tick(now))
        self._orders += self.beginnings.ends(now)
        self._settle()

    def take(self, job: Job) -> None:
        """Begin a job's life; one that comes when the run is ending already hears of it at once."""
        if self.around.accept_fewer:
            job.spec = job.spec.model_copy(update={"nodes": lowered(self.ledger, job.spec)})
        self.jobs[job.name] = job
        now = time.monotonic()
        self.happened(job, ev.Acquired(now))
        if self.starter_lost:
            self.happened(job, ev.StarterLost(now))
        if self._end:
            self.happened(job, ev.StopAsked(now, self._end[0], self._end[1] - now))

    def happened(self, job: Job, event: ev.Event) -> None:
        """Journal an event of a job, step its life, and do what it asks."""
        if job.name not in self.jobs:
            return
        self.journal.note(job.name, event)
        job.state, asked = step(job.state, event)
        verdict = job.state.verdict
        # not only when it is told: until then its cores would be offered to the next
        self.broken = self.broken or (verdict is not None and verdict.reason in NODE_REASONS)
        for effect in asked:
            self._do(job, effect)
        desk = self.desks.get(job.parent.name) if job.parent else None
        if desk:
            desk.stepped(job)
        self._agent(job).stepped(job)

    def let_go(self, job: Job) -> None:
        """End what is left of a job's processes at once: all that they had to say has been said."""
        job.let_go = True
        self._orders += kills(job.alive)

    def heard(self, message: Message) -> None:
        """Do what the starter's message means."""
        kind = message.get("event")
        if message is LOST:
            self.starter_lost = True
            self.leaving.clear()
            self._all(ev.StarterLost)
        elif kind == "stop":
            self.stopped = int(message["signal"])
            self.on_stop(self.stopped)
        elif message.get("id") == self.preemption.ID:
            self.preemption.heard(message)
        elif kind in {"started", "failed", "exited"}:
            name = str(message["id"]).rpartition("/")[0]
            job = self.jobs.get(name) or self.leaving.get(name)
            if job:
                self._spawn_said(job, message)

    def stop(self, reason: ev.StopReason, budget_s: float) -> None:
        """End every job within the budget, those too that are still on their way to us."""
        end = time.monotonic() + budget_s
        self._end = (reason, end if self._end is None else min(end, self._end[1]))
        if self.teller:
            self.teller.urgent = True
        self._all(lambda at: ev.StopAsked(at, reason, budget_s))

    def _all(self, event: Callable[[float], ev.Event]) -> None:
        at = time.monotonic()
        for job in list(self.jobs.values()):
            self.happened(job, event(at))

    def _do(self, job: Job, effect: fx.Effect) -> None:
        if isinstance(effect, fx.StageIn):
            self._pool(job).wait(job)
        elif isinstance(effect, fx.Spawn):
            self._spawn(job)
        elif isinstance(effect, fx.Signal):
            self._orders += signals(job.alive, effect.grace_s)
        elif isinstance(effect, fx.StageOut):
            self._stage_out(job, effect)
        elif isinstance(effect, fx.Wake):
            job.wake_at = effect.at
        elif isinstance(effect, fx.Done):
            self._done(job, effect)
        else:
            self._tell(job, effect)

    def _tell(self, job: Job, effect: fx.Record | fx.Spool | fx.Settle | fx.Send) -> None:
        """Have written what must be on the disk, and collect what is sent, once for all jobs of a turn."""
        from pilotwrap.run import records

        around = self.around
        if isinstance(effect, fx.Send):
            from pilotwrap.run.teller import Word

            update = records.update_of(job, effect, around)
            self._words.append(Word(job.name, effect.to, effect.number, update))
        elif isinstance(effect, fx.Spool):
            record = records.terminal(job, report_of(job, effect.report, around))
            self._record(job, record, ev.Spooled, ev.SpoolFailed)
        elif isinstance(effect, fx.Settle):
            self._record(job, records.accepted(job))
        elif around.server:
            record_of = records.acquired(job, around, around.server, around.epoch + time.monotonic())
            self._record(job, record_of, ev.Recorded, ev.RecordFailed)

    def _record(
        self,
        job: Job,
        record: Record,
        done: type[ev.Recorded | ev.Spooled] | None = None,
        failed: type[ev.RecordFailed | ev.SpoolFailed] = ev.RecordFailed,
    ) -> None:
        """Hand a record to the recorder; without `done` nobody waits for it."""
        if self.recorder is None:
            return
        from pilotwrap.run.recorder import Entry

        def written(refusal: str | None) -> None:
            at = time.monotonic()
            event = done(at) if done and refusal is None else failed(at, refusal or "")
            self.post(lambda: self.happened(job, event))

        self._entries.append(Entry(record, written if done else None))

    def _settle(self) -> None:
        """Lend what is free; journal the turn's events; then let their effects out of this thread."""
        self._allot()
        self.journal.write()
        for task in self._tasks_out:
            self._workers.submit(task)
        for entry in self._entries:
            if self.recorder:
                self.recorder.put(entry)
        if self._words and self.teller:
            self.teller.tell(self._words)
        if self._orders:
            self.link.send(*self._orders)
        self._words, self._orders, self._entries, self._tasks_out = [], [], [], []

    def _agent(self, job: Job) -> Agent:
        return self._direct if job.parent else self.agent

    def _pool(self, job: Job) -> Pool:
        """Return what a job's share is lent from: the allocation, or what the driver holds whose step it is."""
        return self.desks[job.parent.name].pool if job.parent else self.pool

    def _allot(self) -> None:
        """Lend to those whose turn it is; one that can have nothing hears of it."""
        at = time.monotonic()
        for pool in (self.pool, *(desk.pool for desk in self.desks.values())):
            for job, reason, why in pool.sift(at, lambda job: job.state.phase == "staging-in"):
                self.happened(job, ev.StageInFailed(at, reason, why))
            for job in pool.lend(at):
                self._tasks_out.append(lambda job=job: self._prepare(job))  # type: ignore[misc]

    def _give_back(self, job: Job) -> None:
        """Have a job's share free again: that of a driver when its last step is over."""
        desk = self.desks.get(job.name)
        if desk is not None:
            desk.end()
            if desk.steps:
                return
            desk.close()
            del self.desks[job.name]
        self._pool(job).give_back(job)

    def _prepare(self, job: Job) -> None:
        desk: StepDesk | None = None
        try:
            job.plan = self._agent(job).prepare(job)
            if job.spec.mode == "driver":
                desk = self._desk(job)
            event: ev.Event = ev.StagedIn(time.monotonic())
        except PilotwrapError as error:
            event = ev.StageInFailed(time.monotonic(), error.reason, str(error))
        except OSError as error:  # a disk or a right that failed where no step expected it
            event = ev.StageInFailed(time.monotonic(), "environment", f"the job could not be prepared: {error}")
        self.post(lambda: self._prepared(job, desk, event))

    def _desk(self, job: Job) -> StepDesk:
        """Open the socket for a job's steps, and name it to its process."""
        from pilotwrap.run.steps import VARIABLE, Hands, StepDesk

        around = self.around
        hands = Hands(self.post, self.take, lambda step: self.happened(step, ev.StopAsked(time.monotonic(), *STEP_END)))
        desk = StepDesk(job, self.ledger, around.run, around.rules, hands)
        if around.user:
            desk.hand_over(around.user["uid"], around.user["gid"])
        if job.plan:
            env = {**job.plan.launch.env, VARIABLE: str(desk.path)}
            job.plan = job.plan.model_copy(update={"launch": job.plan.launch.model_copy(update={"env": env})})
        return desk

    def _prepared(self, job: Job, desk: StepDesk | None, event: ev.Event) -> None:
        if desk and job.name in self.jobs:
            self.desks[job.name] = desk
            desk.listen()
        elif desk:
            desk.close()
        self.happened(job, event)

    def _spawn(self, job: Job) -> None:
        if job.plan is None:
            return
        orders = spawns(job.plan, self._agent(job).payload(job))
        job.alive = {order["id"] for order in orders}
        self._orders += orders

    def _spawn_said(self, job: Job, message: dict[str, Any]) -> None:
        """Follow one rank; the life hears of the first that starts, and of the end of all."""
        at, spawn_id = time.monotonic(), str(message["id"])
        if message["event"] == "started":
            if not job.started:
                job.started = True
                self.beginnings.started(job, at)
                if self._agent(job).begins(job, message):
                    self.happened(job, ev.Started(at))
            return
        if spawn_id not in job.alive:
            return
        job.alive.discard(spawn_id)
        if message["event"] == "failed" and not job.started and not job.alive:
            self._give_back(job)
            reason, detail = spawn_failure(message)
            self.happened(job, ev.SpawnFailed(at, reason, detail))
            return
        job.ended[spawn_id] = self._rank_end(job, spawn_id, message)
        if not job.alive:
            self._exited(job, at)

    def _rank_end(self, job: Job, spawn_id: str, message: dict[str, Any]) -> Any:  # noqa: ANN401 - narrowed by its caller's dict
        said = rank_outcome(rank_of(spawn_id), job.host, message)
        if message["event"] == "failed":
            reason, detail = spawn_failure(message)
            return said.model_copy(update={"reason": reason, "detail": detail})
        return said

    def _exited(self, job: Job, at: float) -> None:
        self._give_back(job)
        self.leaving.pop(job.name, None)
        if job.let_go:
            return
        told = shim_results(self.around.run.path / "plans" / f"{job.name}.ranks") if job.plan else ()
        ended = self._agent(job).outcome(job, tuple(job.ended.values()), told)
        ended = self.beginnings.ended(job, ended, at)
        job.outcome = ended
        if job.parent is None:
            self.outcomes[job.name] = ended
        said = ev.Exited(at, ended.reason, ended.exit_code, ended.detail)
        self.preemption.weigh(job.state.phase, said, lambda: self.happened(job, said))

    def _stage_out(self, job: Job, effect: fx.StageOut) -> None:
        def bring() -> None:
            said = self._agent(job).stage_out(job, effect)
            self.preemption.wait()
            self.post(lambda: self.happened(job, said))

        self._tasks_out.append(bring)

    def _done(self, job: Job, effect: fx.Done) -> None:
        if job.let_go and job.alive and not self.starter_lost:
            self.leaving[job.name] = job
        else:
            self._give_back(job)
        del self.jobs[job.name]
        if job.parent:
            self._step_over(job, job.parent)
        elif job.state.report is not None:
            report = report_of(job, job.state.report, self.around)
            self.reports.append(report.model_copy(update={"told": effect.told}))
            self._ended[report.state] = self._ended.get(report.state, 0) + 1

    def _step_over(self, step: Job, owner: Job) -> None:
        desk = self.desks[owner.name]
        desk.over(step)
        if desk.closing and not desk.steps:
            self._give_back(owner)

    def counts(self) -> dict[str, int]:
        """Return how many jobs are in each phase, and how many ended in each state."""
        found = dict(self._ended)
        for job in self.jobs.values():
            found[job.state.phase] = found.get(job.state.phase, 0) + 1
        return found
