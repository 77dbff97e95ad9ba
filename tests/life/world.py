"""The world around one life: server, network, disk, starter, node and driver, all played from one seed."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

from pilotwrap.run import effects as ef
from pilotwrap.run import events as ev
from pilotwrap.run.state import NEVER, State

from .faults import Faults
from .flush import flush_until_told
from .server import RUNNING_S, Server
from .watch import BrokenPromiseError, Watch, demand

Step = Callable[[State, ev.Event], tuple[State, tuple[ef.Effect, ...]]]

FILES = {"out": {"guid": "g", "size": 1, "adler32": "00000001"}}
LOG = {"log": {"guid": "l", "size": 1, "adler32": "00000001"}}


class World:
    def __init__(self, seed: int, step: Step) -> None:
        self.seed, self.step = seed, step
        self.rng = Random(seed)  # noqa: S311 - a life is played again from its seed
        self.faults = faults = Faults(self.rng)
        self.rules = faults.rules._replace(told_by="caller" if faults.caller else "panda", jitter=self.rng.random())
        self.state = State(rules=self.rules)
        self.t = 0.0
        self.heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self.serial = 0
        self.trace: list[tuple[float, object, tuple[object, ...]]] = []
        self.server = Server(0.0, adder_s=100.0 * self.rng.random())
        self.records: list[tuple[str, ef.Report | None]] = []
        self.controller = self.starter = True
        self.payload_alive = self.starter_lost_seen = self.outputs_out = False
        self.exit_reason: str | None = None
        self.frozen_until = self.pipe_free = self.disk_free = 0.0
        self.wake = 0
        self.done: ef.Done | None = None
        self.watch = Watch(self)
        self.do: dict[type, Callable[[Any], None]] = {
            ef.Record: lambda _e: self._write("acquired", None, ev.Recorded, ev.RecordFailed),
            ef.StageIn: self._stage_in,
            ef.Spawn: lambda _e: self._pipe(self._spawned),
            ef.Signal: lambda e: self._pipe(self._signalled, e.grace_s),
            ef.StageOut: self._stage_out,
            ef.Spool: lambda e: self._write("terminal", e.report, ev.Spooled, ev.SpoolFailed),
            ef.Send: self._send,
            ef.Settle: lambda _e: self._write("accepted", None, None, None),
            ef.Wake: self._wake,
            ef.Done: self._done,
        }

    def run(self) -> None:
        """Live it to its end, flush what is left, and check what must hold then."""
        self._schedule_troubles()
        heap = self.heap
        while heap:
            self.t, _, act, arguments = heappop(heap)
            act(*arguments)
        demand(self.done or not self.controller, "the life never ends")
        demand(not self.payload_alive, "the payload outlives all")
        self._aftermath()

    def _schedule_troubles(self) -> None:
        faults, later = self.faults, self.later
        later(self.short(), self.deliver, ev.Acquired)
        if faults.controller_dies < NEVER:
            later(faults.controller_dies, self._controller_dies)
        if faults.starter_dies < NEVER:
            later(faults.starter_dies, self._starter_dies)
        if faults.node_dies < NEVER:
            later(faults.node_dies, self._node_dies)
        if faults.kill_at < NEVER:
            later(faults.kill_at, lambda: self.server.ask_kill(self.t))
        if faults.stop_at < NEVER:
            later(faults.stop_at, self._stop)
        if faults.freeze[0] < NEVER:
            later(faults.freeze[0], self._freeze)

    def later(self, delay: float, act: Callable[..., None], *arguments: object) -> None:
        self.serial += 1
        heappush(self.heap, (self.t + delay, self.serial, act, arguments))

    def short(self) -> float:
        """Return a delay of the driver, the disk or a network that are well; with slow ones, up to 8 s."""
        return self.rng.random() * (8.0 if self.faults.slow else 0.3)

    # The driver: events in, effects out.

    def deliver(self, kind: type[ev.Event], *arguments: object) -> None:
        if not self.controller:
            return
        if self.t < self.frozen_until:
            self.later(self.frozen_until - self.t, self.deliver, kind, *arguments)
            return
        self.advance(kind(self.t, *arguments))
        faults = self.faults
        if faults.repeats and self.rng.random() < faults.repeats:
            self.later(100.0 * self.rng.random() ** 3, self.deliver, kind, *arguments)
        if faults.false_events and self.controller and self.rng.random() < faults.false_events:
            self._lie()

    def tell(self, kind: type[ev.Event], *arguments: object) -> None:
        """Deliver a little later, unless it gets lost on the way."""
        if self.faults.lost_events and self.rng.random() < self.faults.lost_events:
            return
        self.later(0.1 * self.rng.random(), self.deliver, kind, *arguments)

    def advance(self, event: ev.Event) -> None:
        watch = self.watch
        watch.event(event)
        if type(event) is ev.StarterLost:
            self.starter_lost_seen = True
        before = self.state
        try:
            self.state, effects = self.step(before, event)
        except Exception as error:
            self.trace.append((self.t, event, (error,)))
            raise BrokenPromiseError(f"an exception: {error!r}") from error
        self.trace.append((self.t, event, effects))
        dies = len(self.trace) == self.faults.dies_at_step + 1
        for effect in effects[: int(self.rng.random() * (len(effects) + 1))] if dies else effects:
            watch.effect(effect)
            self.do[type(effect)](effect)
        demand(before.phase != "done" or self.state == before, "something changes after Done")
        if dies:
            self._controller_dies()
        else:
            watch.step_over(event)

    def _lie(self) -> None:
        """Feed an event which is false in this phase: an answer to nothing, or word from another phase."""
        phase, rng = self.state.phase, self.rng
        to = rng.choice(("starting", "running", "heartbeat", "terminal"))
        verdict = rng.choice(("ok", "kill", "already", "refused", "broken", "unreachable"))
        lies: list[tuple[Any, ...]] = [(ev.Answered, to, rng.choice((0, -1, self.watch.numbers + 1, 10**6)), verdict)]
        if phase != "new":
            lies.append((ev.Acquired,))
        if phase not in {"new", "recording"}:
            lies += [(ev.Recorded,), (ev.RecordFailed,)]
        if phase in {"running", "staging-out", "spooling", "telling"}:
            lies += [(ev.StagedIn,), (ev.StageInFailed,), (ev.SpawnFailed,), (ev.Started,)]
        if phase in {"staging-in", "staging-out", "spooling", "telling"}:
            lies += [(ev.Exited, "ok", 0)]
        if phase in {"staging-in", "running", "ending"}:
            lies += [(ev.StagedOut, {}), (ev.StageOutFailed,), (ev.SpoolFailed,)]
        seen = set(self.watch.seen)
        kind, *arguments = rng.choice(lies)
        self.advance(kind(self.t, *arguments))
        self.watch.seen = seen

    def _wake(self, effect: ef.Wake) -> None:
        self.wake += 1
        # A timer fires late, or, once in a while, a little early.
        late = 0.2 * self.rng.random() if self.rng.random() < 0.95 else -0.001
        self.later(max(0.0, effect.at - self.t + late), self._tick, self.wake)

    def _tick(self, number: int) -> None:
        if number == self.wake and not self.done:
            self.deliver(ev.Tick)

    def _done(self, effect: ef.Done) -> None:
        self.done = effect

    # The disk.

    def _write(
        self, kind: str, report: ef.Report | None, good: type[ev.Event] | None, bad: type[ev.Event] | None
    ) -> None:
        self.disk_free = max(self.disk_free, self.t + self.short())
        self.later(self.disk_free - self.t, self._written, kind, report, good, bad)

    def _written(
        self, kind: str, report: ef.Report | None, good: type[ev.Event] | None, bad: type[ev.Event] | None
    ) -> None:
        if not self.controller:
            return
        full = self.faults.disk_full
        fails = full[0] <= self.t < full[1]
        # A line whose fsync failed may be there all the same.
        there = not fails or self.rng.random() < 0.1
        self.records.append((kind, report) if there else ("torn", None))
        if fails and bad:
            self.tell(bad, "no space left")
        elif good:
            self.tell(good)

    # Staging.

    def _stage_in(self, _effect: ef.StageIn) -> None:
        bad = self.rng.random() < 0.05
        arguments = (ev.StageInFailed, "stage-in", "no such file") if bad else (ev.StagedIn,)
        self.later(self.faults.stage_s, self.tell, *arguments)

    def _stage_out(self, effect: ef.StageOut) -> None:
        takes = self.faults.stage_out_s if effect.outputs else 2.0 * self.rng.random()
        self.later(takes, self._staged_out, effect)

    def _staged_out(self, effect: ef.StageOut) -> None:
        files = {**(FILES if effect.outputs else {}), **(LOG if effect.log else {})}
        if self.rng.random() < 0.05:
            self.tell(ev.StageOutFailed, "cannot write there", LOG)
            return
        self.outputs_out = self.controller and effect.outputs
        self.tell(ev.StagedOut, files)

    # The starter and the payload.

    def _pipe(self, act: Callable[..., None], *arguments: object) -> None:
        self.pipe_free = max(self.pipe_free, self.t + 0.2 * self.rng.random())
        self.later(self.pipe_free - self.t, act, *arguments)

    def _spawned(self) -> None:
        if not (self.starter and self.controller):
            return
        if self.rng.random() < 0.04:
            self.tell(ev.SpawnFailed, "launcher", "no such file")
            return
        self.payload_alive = True
        self.tell(ev.Started)
        good = self.rng.random() < 0.8
        self.later(self.faults.payload_s, self._exit, "ok" if good else "payload-exit", 0 if good else 3)

    def _signalled(self, grace_s: float) -> None:
        if not (self.starter and self.payload_alive):
            return
        if not self.faults.ignores_term:
            good = self.rng.random() < 0.5
            self.later(0.3 * self.rng.random(), self._exit, *(("ok", 0) if good else ("payload-signal", 143)))
        self.later(grace_s + 0.5 * self.rng.random(), self._exit, "payload-signal", 137)

    def _exit(self, reason: str, code: int) -> None:
        if not self.payload_alive:
            return
        self.payload_alive, self.exit_reason = False, reason
        if self.starter:
            self.tell(ev.Exited, reason, code)

    # The network.

    def _send(self, effect: ef.Send) -> None:
        outage = self.faults.outage
        if outage[0] <= self.t < outage[1] or self.rng.random() < self.faults.lost_requests:
            self._unanswered(effect)
            return
        self.later(self.short(), self._arrive, effect)
        if self.faults.repeats and self.rng.random() < self.faults.repeats:
            self.later(300.0 * self.rng.random() ** 3, self.server_hears, effect)

    def _unanswered(self, effect: ef.Send) -> None:
        """Let the client give up some time later, or never say anything."""
        if self.rng.random() < 0.8:
            longest = 0.2 if self.faults.quick_refusals else 40.0
            self.later(
                longest * self.rng.random() ** 3, self.tell, ev.Answered, effect.to, effect.number, "unreachable"
            )

    def server_hears(self, effect: ef.Send) -> str:
        return self.server.update(self.t, effect.to, effect.report)

    def _arrive(self, effect: ef.Send) -> None:
        verdict = self.server_hears(effect)
        if self.rng.random() < self.faults.lost_answers:
            self._unanswered(effect)
            return
        if self.rng.random() < self.faults.lies:
            verdict = self.rng.choice(("broken", "unreachable", "refused"))
        self.later(self.short(), self.tell, ev.Answered, effect.to, effect.number, verdict)

    # Deaths and stops.

    def _controller_dies(self) -> None:
        if self.controller:
            self.controller = False
            self.later(0.9 * self.rng.random(), self._exit, "payload-signal", 137)

    def _starter_dies(self) -> None:
        if self.starter:
            self.starter = False
            self.later(0.9 * self.rng.random(), self._exit, "payload-signal", 137)
            self.later(0.3 * self.rng.random(), self.deliver, ev.StarterLost)

    def _node_dies(self) -> None:
        self.controller = self.starter = self.payload_alive = False

    def _stop(self) -> None:
        budget_s = self.faults.budget_s
        self._ask_stop(budget_s)
        if budget_s >= 30.0 and self.rng.random() < 0.3:
            # Then somebody is in more of a hurry.
            self.later(self.rng.random() * (budget_s - 12.0), self._ask_stop, 10.0)

    def _ask_stop(self, budget_s: float) -> None:
        self.deliver(ev.StopAsked, self.rng.choice(("cancelled", "walltime", "preempted")), budget_s)
        self.later(budget_s, self._killed_off)

    def _killed_off(self) -> None:
        """The budget is over; whoever had no trouble must have ended before."""
        if self.controller and self.faults.steady and self.faults.budget_fair:
            demand(self.done, "not done within the stop's budget")
        self._node_dies()

    def _freeze(self) -> None:
        self.frozen_until = self.t + self.faults.freeze[1] - self.faults.freeze[0]

    # The end.

    def _aftermath(self) -> None:
        done, server, kinds = self.done, self.server, [kind for kind, _ in self.records if kind != "torn"]
        terminals = [report for kind, report in self.records if kind == "terminal"]
        demand(all(report == terminals[0] for report in terminals), "two different reports in the spool")
        if self.rules.told_by != "panda":
            demand(not kinds and server.report is None, "a caller's job was recorded or told")
            return
        if done and self.faults.disk_good:
            demand(terminals, "Done without a report in the spool")
            settled = kinds.count("accepted") == (1 if done.told else 0)
            demand(settled or not self.controller, "the spool does not know what the server knows")
        if server.why == "told" and terminals:
            demand(server.report == terminals[0], "the server has another report than the spool")
        recorded = "acquired" in kinds
        if recorded:
            flush_until_told(self)
            demand(server.ended, "a recorded job was never told")
        server.pass_time(self.t + RUNNING_S + 200.0)
        server.pass_time(self.t + 2 * RUNNING_S + 400.0)
        demand(server.state == "final", "the job never ends at the server")
