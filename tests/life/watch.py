"""The invariants, watched from outside of the machine: only what went in, what came out and what the world knows."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pilotwrap.run import effects as ef
from pilotwrap.run import events as ev

if TYPE_CHECKING:
    from .world import World

STORM_WINDOW_S = 60.0
STORM_SENDS = 20
WILD_STEPS = 3000
SLACK_S = 10.0


class BrokenPromiseError(Exception):
    """An invariant does not hold."""


def demand(good: object, why: str) -> None:
    if not good:
        raise BrokenPromiseError(why)


class Watch:
    def __init__(self, world: World) -> None:
        self.world = world
        self.rules = world.rules
        self.panda = world.rules.told_by == "panda"
        self.seen: set[type] = set()
        self.numbers = 0
        self.first_terminal = 0
        self.spawned = self.signalled = self.killed = False
        self.stop: ev.StopAsked | None = None
        self.ended_first = self.owned_up = False
        self.log_asked = self.wrapping = False
        self.report: ef.Report | None = None
        self.record_at = self.spool_at = 0.0
        self.pending_until = -1.0
        self.pending = 0
        self.last_send = -1.0
        self.sends: deque[float] = deque()
        self.done = False
        self.effects_of: dict[type, object] = {
            ef.Record: self._record,
            ef.StageIn: self._after_record,
            ef.Spawn: self._spawn,
            ef.Signal: self._signal,
            ef.StageOut: self._stage_out,
            ef.Spool: self._spool,
            ef.Send: self._send,
            ef.Settle: self._settle,
            ef.Wake: self._wake,
            ef.Done: self._done,
        }

    def event(self, event: ev.Event) -> None:
        kind = type(event)
        if kind is ev.Answered:
            self._answered(event)
        elif kind is ev.StopAsked and self.stop is None:
            self.stop = event
            self.ended_first = self.over or self.signalled
        elif kind is ev.StopAsked and event.reason == "preempted" and self.report is None:
            self.owned_up = True
        elif kind is ev.Recorded and self.last_send < 0:
            self.last_send = event.at
        self.seen.add(kind)
        self._beat(event.at)

    def _answered(self, event: ev.Answered) -> None:
        if event.number == self.pending:
            self.pending = 0
        real = event.to != "terminal" and 0 < event.number <= self.numbers
        if real and event.verdict == "kill" and not (self.over or self.stop or self.signalled):
            self.killed = self.killed or not self.world.starter_lost_seen

    @property
    def over(self) -> bool:
        """Tell whether the job had ended by itself, as far as the machine was told."""
        return bool(self.seen & {ev.Exited, ev.SpawnFailed, ev.StageInFailed}) or self.wrapping

    def _beat(self, at: float) -> None:
        """Heartbeats keep coming from the record to the spool."""
        if not self.panda or self.done or self.first_terminal or self.last_send < 0 or ev.Spooled in self.seen:
            return
        since = max(self.last_send, self.world.frozen_until)
        if at - since > 2 * self.rules.heartbeat_s + SLACK_S:
            raise BrokenPromiseError(f"no heartbeat for {at - since:.0f} s")

    def effect(self, effect: ef.Effect) -> None:
        if self.done:
            raise BrokenPromiseError(f"{effect} after Done")
        self.effects_of[type(effect)](effect)

    def step_over(self, event: ev.Event) -> None:
        """Demand what a step's effects owe together."""
        if type(event) is ev.Answered and event.to == "terminal" and event.verdict in {"ok", "already", "kill"}:
            mine = 0 < self.first_terminal <= event.number <= self.numbers
            demand(self.done or not mine, f"the server has said {event.verdict}, and the job is not done")
        demand(len(self.world.trace) < WILD_STEPS, "the machine runs wild")
        if self.spawned and not self.signalled and not self.done and not self.world.starter_lost_seen:
            gone = self.seen & {ev.Exited, ev.SpawnFailed}
            demand(gone or not self.killed, "a kill did not reach the payload")
            demand(gone or not self.stop, "a stop did not reach the payload")

    def _record(self, _effect: ef.Record) -> None:
        demand(self.panda and not self.record_at, "a Record too many")
        self.record_at = self.world.t + 1e-9

    def _after_record(self, effect: ef.Effect) -> None:
        if not self.panda or self.seen & {ev.Recorded, ev.RecordFailed}:
            return
        bound = self.rules.blink_s if self.stop else self.rules.record_s
        late = self.record_at and self.world.t - self.record_at >= bound - 1e-6
        if not late or isinstance(effect, (ef.StageIn, ef.Spawn)):
            raise BrokenPromiseError(f"{effect} before the job was recorded")

    def _spawn(self, effect: ef.Spawn) -> None:
        self._after_record(effect)
        demand(not self.spawned, "a second Spawn")
        demand(not self.stop, "a Spawn after a stop")
        demand(not self.killed, "a Spawn after a kill")
        demand(not self.world.starter_lost_seen, "a Spawn without a starter")
        demand(self.seen & {ev.StagedIn}, "a Spawn before the inputs were there")
        self.spawned = True

    def _signal(self, effect: ef.Signal) -> None:
        demand(self.spawned, "a Signal to nothing")
        demand(0.0 <= effect.grace_s <= self.rules.grace_s, f"a grace of {effect.grace_s}")
        self.signalled = True

    def _stage_out(self, effect: ef.StageOut) -> None:
        self._after_record(effect)
        demand(not self.world.payload_alive, "stage-out while the payload lives")
        self.log_asked = self.log_asked or effect.log
        self.wrapping = True

    def _spool(self, effect: ef.Spool) -> None:
        demand(self.panda, "a Spool for a caller")
        demand(self.report in (None, effect.report), "the report changed after it was spooled")
        if self.report is None:
            demand(self.log_asked or self.stop, "a report without its log")
            self.spool_at = self.world.t
        self.report = effect.report
        self._truth(effect.report)

    def _truth(self, report: ef.Report) -> None:
        """What the report says is what the world knows."""
        world = self.world
        if report.state == "finished":
            demand(world.exit_reason == "ok" and world.outputs_out, "finished, but it is not")
            demand(not self.killed, "finished, though it was killed")
        elif world.exit_reason == "ok" and world.outputs_out and world.faults.steady and not self.signalled:
            demand(self.stop, f"told {report.state} ({report.reason}), but it finished")
        if self.killed:
            demand(report.state == "cancelled" or report.reason == "node-lost", f"killed, but told {report.state}")
        if self.stop and not self.killed and not self.ended_first and not world.starter_lost_seen:
            corrected = self.owned_up and self.stop.reason == "cancelled"
            ours = {"preempted" if corrected else self.stop.reason, "node-lost"}
            demand(report.reason in ours or not self.signalled, f"stopped, but told {report.reason}")

    def _send(self, effect: ef.Send) -> None:
        self._after_record(effect)
        now = self.world.t
        demand(self.panda, "a Send for a caller")
        demand(effect.number == self.numbers + 1, "a serial out of order")
        self.numbers = effect.number
        self.sends.append(now)
        while self.sends[0] < now - STORM_WINDOW_S:
            self.sends.popleft()
        demand(len(self.sends) <= STORM_SENDS, "a storm of sends")
        if effect.to == "terminal":
            self._send_terminal(effect)
        else:
            demand(not self.first_terminal and ev.Spooled not in self.seen, f"{effect.to} after the end")
            busy = self.pending and now < self.pending_until
            demand(effect.to == "running" or not busy, "a heartbeat while one is under way")
            self.last_send = now
        self.pending, self.pending_until = effect.number, now + min(self.rules.answer_s, self.rules.heartbeat_s) - 1e-6

    def _send_terminal(self, effect: ef.Send) -> None:
        self.first_terminal = self.first_terminal or effect.number
        demand(effect.report is not None, "a terminal send without its report")
        demand(self.report in (None, effect.report), "what is sent is not what was spooled")
        demand(not self.world.payload_alive or not self.spawned, "told the end while the payload lives")
        if self.seen & {ev.Spooled, ev.SpoolFailed, ev.RecordFailed}:
            return
        begun = self.spool_at or self.record_at
        bound = self.rules.blink_s if self.stop else (self.rules.spool_s if self.spool_at else self.rules.record_s)
        demand(begun and self.world.t - begun >= bound - 1e-6, "a terminal send before its spool")

    def _settle(self, _effect: ef.Settle) -> None:
        demand(self.world.server.ended, "Settle without acceptance")
        demand(self.seen & {ev.Spooled}, "Settle into a spool that has no report")

    def _wake(self, effect: ef.Wake) -> None:
        demand(effect.at >= self.world.t - 1e-6, "a Wake in the past")

    def _done(self, effect: ef.Done) -> None:
        world = self.world
        self.done = True
        demand(not world.payload_alive, "Done while the payload lives")
        if not self.panda:
            demand(effect.told and not self.first_terminal, "a caller's job was sent")
            return
        demand(world.server.ended or not effect.told, "Done as told, but the server does not know")
        demand(self.first_terminal, "Done without a word to the server")
        if world.faults.steady and (not self.stop or world.faults.budget_fair):
            demand(effect.told, "all answered, but the job is left untold")
            demand(not self.stop or world.t <= self.stop.at + self.stop.budget_s, "Done after the stop's budget")
