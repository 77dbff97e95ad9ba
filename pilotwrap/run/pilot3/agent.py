"""The agent pilot3: one of PanDA's own pilots a job, served by the bridge, watched, and ended when all is said."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pilotwrap.model.outcome import Outcome, RankOutcome, Usage
from pilotwrap.model.report import TimelineEntry
from pilotwrap.panda.bridge import Bridge
from pilotwrap.run import events as ev
from pilotwrap.run.orders import Payload
from pilotwrap.run.pilot3.desk import KILL, NULL, Desk, Errand
from pilotwrap.run.pilot3.preparation import Errands, prepare
from pilotwrap.run.verdict import outcome

if TYPE_CHECKING:
    from pilotwrap.model.plan import Plan
    from pilotwrap.model.reasons import Reason
    from pilotwrap.panda.answers import Json
    from pilotwrap.panda.legacy import PilotUpdate
    from pilotwrap.run.driver import Driver
    from pilotwrap.run.effects import StageOut
    from pilotwrap.run.events import StagedOut, StageOutFailed
    from pilotwrap.run.job import Job
    from pilotwrap.run.link import Message
    from pilotwrap.run.pilot3.desk import Reply
    from pilotwrap.run.pilot3.end import PilotEnd
    from pilotwrap.run.pilot3.terms import PilotTerms
    from pilotwrap.run.pilot3.watch import Watch

POLL_S = 1.0
"""How often a pilot's log is read: a tenth of the 10 s within which a reason must be known."""

MAX_TOLD = 8
"""Jobs whose pilots stand in the run's timeline: the report is at most 64 KiB."""

_FINAL = frozenset({"finished", "failed"})
_OURS = frozenset({"job_output_report", "batch_id", "node"})
"""Arguments of an update that we make ourselves; the first may be long."""


class PilotAgent:
    """Owns the bridge and the watches; all but `prepare` and `stage_out` runs on the driver's thread."""

    def __init__(self, driver: Driver, terms: PilotTerms) -> None:
        self._driver = driver
        self._terms = terms
        self._watches: dict[str, Watch] = {}
        self._poll_at = 0.0
        self._desk = Desk(
            lambda name, update, reply: driver.post(lambda: self._said(name, update, reply)),
            lambda name, what: driver.post(lambda: self._seen(name, what)),
        )
        self.bridge = Bridge(self._desk)
        self.bridge.start()

    def prepare(self, job: Job) -> Plan:
        """Make the pilot's directory, its command and what it is given; on a worker."""
        errand = Errand(job.name, job.panda_id or 0, job.entry)
        given = Errands(errand, self._terms.papers / job.name, self.bridge.url, self.bridge.port)
        made = prepare(job, self._driver.around, self._terms, given)
        self._desk.open(errand)
        return made

    def payload(self, job: Job) -> Payload:
        """Return the pilot's own directory, and a PID namespace."""
        around = self._driver.around
        return Payload(job.name, str(job.directory / "pilot"), str(job.directory), around.user, apart=True)

    def begins(self, job: Job, started: Message) -> bool:
        """Return False: the pilot says itself when its payload runs."""
        # loaded while the pilot starts: no word of it comes sooner
        from pilotwrap.run.pilot3.watch import Watch

        self._watches[job.name] = Watch(job.directory / "stdout", time.monotonic())
        apart = started.get("pid_namespace")
        self._seen(job.name, f"started{'' if apart else ' without a PID namespace of its own'}{_why(started)}")
        return False

    def outcome(self, job: Job, ranks: Sequence[RankOutcome], told: Sequence[RankOutcome]) -> Outcome:
        """Judge a pilot that ended by itself, or because we ended it, before it had told its job's end."""
        ended = outcome(ranks, told)
        watch = self._watches.get(job.name)
        if watch is None:
            return ended
        watch.read()
        end = watch.judged(ranks[0], job.state.verdict.reason if job.state.verdict else None)
        return ended.model_copy(update={"reason": end.reason, "exit_code": end.exit_code, "detail": end.sentence})

    def stage_out(self, job: Job, effect: StageOut) -> StagedOut | StageOutFailed:
        """Make sure that what the pilot reports as stored is there; on a worker."""
        from pilotwrap.run.pilot3.files import stage_out

        watch = self._watches.get(job.name)
        return stage_out(job, self._driver.around, watch.files if watch else {}, effect)

    def stepped(self, job: Job) -> None:
        """Answer a pilot whose last word is kept, and end it: all that it would still do is sleep."""
        watch = self._watches.get(job.name)
        if watch and watch.reply and job.state.phase in {"telling", "done"}:
            watch.answered(time.monotonic())
            self._driver.let_go(job)
        if job.state.phase == "done":
            self._forget(job.name)

    def poll(self, now: float) -> float:
        """Read what the pilots' logs say; end one that has been silent for too long."""
        if now < self._poll_at:
            return self._poll_at - now
        self._poll_at = now + POLL_S
        for name, watch in list(self._watches.items()):
            job = self._driver.jobs.get(name)
            if job is None or watch.over or not job.alive:
                continue
            watch.read()
            if watch.silent_s(now) >= self._terms.options.silence_s:
                self._close_case(job, watch, now, "pilot")
            elif watch.lingers(now):
                self._close_case(job, watch, now, "ok")
        return POLL_S

    def timeline(self, began: float) -> tuple[TimelineEntry, ...]:
        """Return what the pilots did and wasted, of the first few jobs."""
        watches = list(self._watches.values())[:MAX_TOLD]
        return tuple(
            TimelineEntry(at_s=round(at - began, 3), what=what) for watch in watches for at, what in watch.timeline()
        )

    def close(self) -> None:
        """Stop the bridge."""
        self.bridge.close()

    def _said(self, name: str, update: PilotUpdate, reply: Reply) -> None:
        """Take a pilot's word on its job; what comes after we have closed its case is answered with its end."""
        job, watch, at = self._driver.jobs.get(name), self._watches.get(name), time.monotonic()
        if job is None or watch is None or watch.over:
            reply(KILL)
            return
        watch.said(update, at)
        job.said.update({name: said for name, said in update.arguments.items() if name not in _OURS})
        if update.state not in _FINAL:
            if update.state == "running":
                self._driver.happened(job, ev.Started(at))
            reply(NULL)
            return
        watch.final, watch.reply = update, reply
        watch.read()
        self._end(job, watch.judged(None), at)

    def _close_case(self, job: Job, watch: Watch, now: float, why: Reason) -> None:
        """End a pilot that hangs, or that only waits to say what its log shows; it is not heard any more."""
        watch.fenced = True
        watch.seen(now, "was ended: it " + ("gave no sign of life" if why == "pilot" else "only waited to tell"))
        self._end(job, watch.judged(None, why), now)
        self._driver.let_go(job)

    def _end(self, job: Job, end: PilotEnd, at: float) -> None:
        usage = usage_of(job.said, at - (job.state.started_at or at))
        job.outcome = Outcome(reason=end.reason, exit_code=end.exit_code, detail=end.sentence, ranks=(), usage=usage)
        self._driver.outcomes[job.name] = job.outcome
        self._driver.happened(job, ev.Exited(at, end.reason, end.exit_code, end.sentence))

    def _forget(self, name: str) -> None:
        """Keep no secret of a pilot whose job is told, and of the first few only what they did."""
        self._desk.close(name)
        shutil.rmtree(self._terms.papers / name, ignore_errors=True)
        if len(self._watches) > MAX_TOLD:
            self._watches.pop(name, None)

    def _seen(self, name: str, what: str) -> None:
        watch = self._watches.get(name)
        if watch:
            watch.seen(time.monotonic(), what)


def _why(started: Message) -> str:
    why = started.get("why")
    return f": {why}" if why else ""


def usage_of(said: Mapping[str, Json], wall_s: float) -> Usage:
    """Return what the pilot measured of its payload, from the arguments of its updates."""
    used, largest = said.get("cpu_consumption_time"), said.get("max_rss")
    return Usage(
        wall_s=wall_s,
        user_s=float(used) if isinstance(used, int | float) else 0.0,
        max_rss_kib=largest if isinstance(largest, int) else 0,
    )
