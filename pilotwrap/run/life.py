"""A job's life as a pure state machine: `step(state, event)` gives the next state and what is to be done.

One machine per attempt of one job. Any event is legal in any phase: what is late, repeated or false is ignored.
The driver journals an event before it does the event's effects; docs/life.md draws the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pilotwrap.model.reasons import Reason
from pilotwrap.run import events as ev
from pilotwrap.run.effects import (
    Done,
    Effect,
    EndState,
    Record,
    Report,
    Settle,
    Signal,
    Spawn,
    Spool,
    StageIn,
    StageOut,
    Wake,
)
from pilotwrap.run.state import NEVER, Phase, State, Verdict
from pilotwrap.run.talk import accepted, answered, beating, hurried, overdue, send, send_due, send_terminal

Step = tuple[State, tuple[Effect, ...]]

_ALIVE: frozenset[Phase] = frozenset({"spawning", "running"})

_STOPPED = "the run was stopped"


def step(state: State, event: ev.Event) -> Step:
    """Return what follows from an event: the next state, and the effects in the order in which to do them."""
    if state.phase == "done":
        return state, ()
    state = state._replace(at=max(state.at, event.at))
    state, effects = _HANDLERS[type(event)](state, event)
    state, more = _elapse(state)
    state, last = _wake(state)
    return state, effects + more + last


def _acquired(state: State, _event: ev.Acquired) -> Step:
    if state.phase != "new":
        return state, ()
    if state.rules.told_by != "panda":
        return _begin(state)
    return _enter(state, "recording", state.rules.record_s), (Record(),)


def _recorded(state: State, _event: ev.Recorded) -> Step:
    return _begin(state) if state.phase == "recording" else (state, ())


def _begin(state: State) -> Step:
    """Go on from a job that is ours: stage in and say so at once, unless the run is ending already."""
    if state.rules.told_by == "panda":
        state = beating(state)
    if state.stop is not None:
        return _wrap_up(state, _stopped(state, "before it started"))
    if state.starter_lost:
        return _wrap_up(state, Verdict("failed", "node-lost", None, "the starter was lost before the job started"))
    state = _enter(state, "staging-in", state.rules.stage_s)
    if state.rules.told_by != "panda":
        return state, (StageIn(),)
    state, sent = send(state, "starting")
    return state, (*sent, StageIn())


def _record_failed(state: State, event: ev.RecordFailed) -> Step:
    """Tell at once and directly: a job that cannot be recorded must not run, for its end could be lost."""
    if state.phase != "recording":
        return state, ()
    detail = f"the job could not be recorded in the spool: {event.detail}"
    return _tell(_reported(state, Verdict("failed", "environment", None, detail), {})[0])


def _staged_in(state: State, _event: ev.StagedIn) -> Step:
    if state.phase != "staging-in":
        return state, ()
    return _enter(state, "spawning", state.rules.spawn_s), (Spawn(),)


def _stage_in_failed(state: State, event: ev.StageInFailed) -> Step:
    if state.phase != "staging-in":
        return state, ()
    return _wrap_up(state, _ended(event.reason, None, event.detail))


def _started(state: State, event: ev.Started) -> Step:
    if state.started_at is not None or state.phase not in {"spawning", "ending"}:
        return state, ()
    state = state._replace(started_at=event.at)
    if state.phase == "ending":
        # A Signal that overtook its Spawn has hit nothing.
        return _signal(state._replace(kill_at=NEVER))
    state = _enter(state, "running", state.rules.run_s)
    return send(state, "running") if state.rules.told_by == "panda" else (state, ())


def _spawn_failed(state: State, event: ev.SpawnFailed) -> Step:
    if state.started_at is not None or state.phase not in {"spawning", "ending"}:
        return state, ()
    return _wrap_up(state, state.verdict or _ended(event.reason, None, event.detail))


def _exited(state: State, event: ev.Exited) -> Step:
    """Judge by what ended it: a payload that was told to stop has not finished, whatever its exit code."""
    if state.phase not in {"spawning", "running", "ending"}:
        return state, ()
    own = _ended(event.reason, event.exit_code, event.detail)
    verdict = own if state.verdict is None else state.verdict._replace(exit_code=event.exit_code)
    return _wrap_up(state._replace(ended_at=event.at), verdict)


def _staged_out(state: State, event: ev.StagedOut) -> Step:
    if state.phase != "staging-out" or state.verdict is None:
        return state, ()
    return _spool(state, state.verdict, event.files)


def _stage_out_failed(state: State, event: ev.StageOutFailed) -> Step:
    """Fail a good payload whose outputs are missing; a failed one without its log stays what it was."""
    if state.phase != "staging-out" or state.verdict is None:
        return state, ()
    verdict = state.verdict
    if verdict.reason == "ok":
        verdict = Verdict("failed", "stage-out", verdict.exit_code, event.detail)
    return _spool(state, verdict, event.files)


def _spooled(state: State, _event: ev.Spooled) -> Step:
    if state.phase == "telling" and state.spool == "failed":
        return state._replace(spool="kept"), ()
    return _tell(state._replace(spool="kept")) if state.phase == "spooling" else (state, ())


def _spool_failed(state: State, _event: ev.SpoolFailed) -> Step:
    """Tell all the same: better told than lost."""
    return _tell(state._replace(spool="failed")) if state.phase == "spooling" else (state, ())


def _answered(state: State, event: ev.Answered) -> Step:
    if event.to == "terminal":
        if accepted(state, event):
            return _done(state, told=True)
        state = answered(state, event)
        return _done(state, told=False) if state.talk.refusals > 1 and state.phase == "telling" else (state, ())
    if not 0 < event.number <= state.talk.number:
        return state, ()
    if event.verdict == "kill":
        return _killed(answered(state, event), event.detail)
    return answered(state, event), ()


def _killed(state: State, detail: str) -> Step:
    """Obey the server, once; what has ended by itself is told as it ended."""
    verdict = Verdict("cancelled", "cancelled", None, detail or "the server asked for the job's end")
    if state.phase == "staging-in":
        return _wrap_up(state, verdict)
    return _end(state, verdict) if state.phase in _ALIVE else (state, ())


def _stop_asked(state: State, event: ev.StopAsked) -> Step:
    """Take the nearer end; the first reason stays, unless the batch system owns up to it."""
    stop_at = event.at + max(0.0, event.budget_s)
    if event.reason == "preempted" and state.stop == "cancelled":
        state = _preempted(state)
    if stop_at >= state.stop_at:
        return state, ()
    state = state._replace(stop_at=stop_at, stop=state.stop or event.reason)
    if state.phase == "staging-in":
        return _wrap_up(state, _stopped(state, "before it started"))
    if state.phase in _ALIVE:
        return _end(state, _stopped(state, "while it ran"))
    if state.phase == "ending":
        return _signal(state)
    if state.phase != "new":
        state = state._replace(deadline=_latest(state, state.deadline))
    return hurried(state), ()


def _preempted(state: State) -> State:
    """Correct a stop's reason, and the verdict that came of it if it is not fixed yet."""
    verdict = state.verdict
    if verdict and state.report is None and verdict.reason == "cancelled" and verdict.detail.startswith(_STOPPED):
        state = state._replace(verdict=verdict._replace(state="failed", reason="preempted"))
    return state._replace(stop="preempted")


def _starter_lost(state: State, _event: ev.StarterLost) -> Step:
    """Wait for the lifelines where a payload may live; nothing new can be started."""
    if state.starter_lost:
        return state, ()
    state = state._replace(starter_lost=True)
    verdict = Verdict("failed", "node-lost", None, "the starter was lost")
    if state.phase == "staging-in":
        return _wrap_up(state, verdict)
    if state.phase in _ALIVE:
        return _end(state, verdict)
    return _signal(state) if state.phase == "ending" else (state, ())


def _ticked(state: State, _event: ev.Tick) -> Step:
    # A timer may fire a little early: the Wake that it answered is used up all the same, so another is due.
    return state._replace(wake=NEVER), ()


def _end(state: State, verdict: Verdict) -> Step:
    return _signal(state._replace(phase="ending", verdict=verdict))


def _signal(state: State) -> Step:
    """End the payload within the budget; say so to the starter only where that brings its KILL nearer."""
    rules, grace_s = state.rules, 0.0 if state.starter_lost else _grace(state)
    nearer = state.at + grace_s < state.kill_at
    kill_at = min(state.kill_at, state.at + grace_s)
    natural = kill_at + rules.reap_s
    soon = max(kill_at + rules.blink_s, state.stop_at - rules.tell_s)
    state = state._replace(kill_at=kill_at, deadline=min(natural, soon))
    return state, (Signal(grace_s),) if nearer and not state.starter_lost else ()


def _grace(state: State) -> float:
    """Return TERM to KILL: what is left beside reaping, log and report, or half of what is left beside the report."""
    rules, left = state.rules, state.stop_at - state.at - state.rules.tell_s
    return min(rules.grace_s, max(left - rules.log_s - rules.reap_s, left / 2, 0.0))


def _wrap_up(state: State, verdict: Verdict) -> Step:
    """Nothing lives any more: bring away what is wanted and fits, then report."""
    rules = state.rules
    state = state._replace(verdict=verdict)
    if state.started_at is not None and state.ended_at is None:
        state = state._replace(ended_at=state.at)
    log = state.stop_at - state.at >= rules.log_s + rules.tell_s
    outputs = verdict.reason == "ok"
    if not (log or outputs):
        return _spool(state, verdict, {})
    return _enter(state, "staging-out", rules.stage_s), (StageOut(outputs, log),)


def _reported(state: State, verdict: Verdict, files: ev.Files) -> tuple[State, Report]:
    """Fix what will be told."""
    report = Report(
        state=verdict.state,
        reason=verdict.reason,
        exit_code=verdict.exit_code,
        detail=verdict.detail,
        files=files,
        started_at=state.started_at,
        ended_at=state.ended_at,
    )
    return state._replace(verdict=verdict, report=report), report


def _spool(state: State, verdict: Verdict, files: ev.Files) -> Step:
    state, report = _reported(state, verdict, files)
    if state.rules.told_by != "panda":
        return _done(state, told=True)
    return _enter(state, "spooling", state.rules.spool_s), (Spool(report),)


def _tell(state: State) -> Step:
    return send_terminal(_enter(state, "telling", state.rules.give_up_s))


def _done(state: State, *, told: bool) -> Step:
    settle: tuple[Effect, ...] = (Settle(),) if told and state.spool == "kept" else ()
    return state._replace(phase="done", deadline=NEVER, wake=NEVER), (*settle, Done(told))


def _enter(state: State, phase: Phase, bound_s: float) -> State:
    state = state._replace(phase=phase)
    return state._replace(deadline=_latest(state, state.at + bound_s))


def _latest(state: State, natural: float) -> float:
    """Return when the phase must be over: its own bound, or what a stop leaves it."""
    rules = state.rules
    kept = {"telling": 0.0, "spooling": rules.tell_s / 2}.get(state.phase, rules.tell_s)
    return min(natural, max(state.stop_at - kept, state.at + rules.blink_s))


def _stopped(state: State, when: str) -> Verdict:
    reason = state.stop or "cancelled"
    return Verdict("cancelled" if reason == "cancelled" else "failed", reason, None, f"{_STOPPED} {when}")


def _ended(reason: Reason, exit_code: int | None, detail: str) -> Verdict:
    states: Mapping[Reason, EndState] = {"ok": "finished", "cancelled": "cancelled"}
    return Verdict(states.get(reason, "failed"), reason, exit_code, detail)


def _elapse(state: State) -> Step:
    """Do what the clock demands: give a phase up, count a lost answer, send what is due."""
    effects: tuple[Effect, ...] = ()
    if state.at >= state.deadline:
        state, effects = _EXPIRED[state.phase](state)
    state = overdue(state)
    state, sent = send_due(state)
    return state, effects + sent


def _wake(state: State) -> Step:
    if state.phase == "done":
        return state, ()
    talk = state.talk
    due = min(state.deadline, talk.waiting_until if talk.waiting else talk.next_at)
    if due >= NEVER or (due == state.wake and due > state.at):
        return state, ()
    return state._replace(wake=due), (Wake(max(due, state.at)),)


def _recording_expired(state: State) -> Step:
    if state.stop is not None:
        return _tell(_reported(state, _stopped(state, "before it could be recorded"), {})[0])
    return _record_failed(state, ev.RecordFailed(state.at, "the disk did not answer"))


def _staging_in_expired(state: State) -> Step:
    detail = f"stage-in took longer than {state.rules.stage_s:.0f} s"
    return _wrap_up(state, Verdict("failed", "stage-in", None, detail))


def _spawning_expired(state: State) -> Step:
    detail = f"the payload did not start within {state.rules.spawn_s:.0f} s"
    return _end(state, Verdict("failed", "launcher", None, detail))


def _running_expired(state: State) -> Step:
    detail = f"the payload ran for {state.rules.run_s:.0f} s and nothing ended it"
    return _end(state, Verdict("failed", "walltime", None, detail))


def _ending_expired(state: State) -> Step:
    """Give up on the payload's end: a node that cannot end a process is broken, unless we only ran out of time."""
    verdict = state.verdict or Verdict("failed", "node-lost")
    if state.at >= state.kill_at + state.rules.reap_s:
        verdict = Verdict("failed", "node-lost", None, f"{verdict.detail}; the payload's end was never seen")
    return _wrap_up(state, verdict)


def _staging_out_expired(state: State) -> Step:
    verdict = state.verdict or Verdict("failed", "internal")
    if verdict.reason == "ok" and state.stop is not None:
        verdict = _stopped(state, "before its outputs had travelled")._replace(exit_code=verdict.exit_code)
    elif verdict.reason == "ok":
        detail = f"stage-out took longer than {state.rules.stage_s:.0f} s"
        verdict = Verdict("failed", "stage-out", verdict.exit_code, detail)
    return _spool(state, verdict, {})


def _never_expired(state: State) -> Step:
    return state._replace(deadline=NEVER), ()


_EXPIRED: Mapping[Phase, Callable[[State], Step]] = {
    "new": _never_expired,
    "recording": _recording_expired,
    "staging-in": _staging_in_expired,
    "spawning": _spawning_expired,
    "running": _running_expired,
    "ending": _ending_expired,
    "staging-out": _staging_out_expired,
    "spooling": lambda state: _tell(state._replace(spool="failed")),
    "telling": lambda state: _done(state, told=False),
    "done": _never_expired,
}

# Each handler takes its own kind of event, which a mapping from kind to handler cannot say to the type checker.
_HANDLERS: Mapping[type[ev.Event], Callable[[State, Any], Step]] = {
    ev.Acquired: _acquired,
    ev.Recorded: _recorded,
    ev.RecordFailed: _record_failed,
    ev.StagedIn: _staged_in,
    ev.StageInFailed: _stage_in_failed,
    ev.Started: _started,
    ev.SpawnFailed: _spawn_failed,
    ev.Exited: _exited,
    ev.StagedOut: _staged_out,
    ev.StageOutFailed: _stage_out_failed,
    ev.Spooled: _spooled,
    ev.SpoolFailed: _spool_failed,
    ev.Answered: _answered,
    ev.Tick: _ticked,
    ev.StopAsked: _stop_asked,
    ev.StarterLost: _starter_lost,
}
