"""Faults put into the machine's own source, one at a time: the simulation must catch each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from pilotwrap.run import life, talk
from pilotwrap.run.effects import Report

from .world import Step


@dataclass(frozen=True)
class Mutation:
    name: str
    old: str
    new: str


MUTATIONS = (
    Mutation(
        "record-skipped",
        'return _enter(state, "recording", state.rules.record_s), (Record(),)',
        "return _begin(state)",
    ),
    Mutation(
        "job-runs-unrecorded",
        '    return _tell(_reported(state, Verdict("failed", "environment", None, detail), {})[0])',
        "    return _begin(state)",
    ),
    Mutation("starting-not-sent", "return state, (*sent, StageIn())", "return state, (StageIn(),)"),
    Mutation(
        "send-before-spool",
        '"spooling", state.rules.spool_s), (Spool(report),)',
        '"telling", 900.0), (Spool(report), *send_terminal(state)[1])',
    ),
    Mutation(
        "spool-skipped",
        '"spooling", state.rules.spool_s), (Spool(report),)',
        '"spooling", state.rules.spool_s), ()',
    ),
    Mutation(
        "spool-failure-ends-it",
        'return _tell(state._replace(spool="failed")) if state.phase == "spooling"',
        'return _done(state, told=False) if state.phase == "spooling"',
    ),
    Mutation(
        "report-changes-on-the-way",
        '    return state._replace(talk=talk), (*again, Send("terminal", number, state.report))',
        (
            '    return state._replace(talk=talk), (*again, Send("terminal", number, state.report and '
            'Report("failed", "internal")))'
        ),
    ),
    Mutation(
        "retry-forgets",
        "talk = state.talk._replace(waiting=0, waiting_until=NEVER, tries=state.talk.tries + 1)\n",
        (
            "talk = state.talk._replace(waiting=0, waiting_until=NEVER, tries=state.talk.tries + 1)\n"
            "    return state._replace(talk=talk._replace(next_at=NEVER))\n"
        ),
    ),
    Mutation("lost-answer-waited-for-ever", "state.talk.waiting and state.at >= state.talk.waiting_until", "False"),
    Mutation("back-off-lost", "next_at=state.at + _pause(state, talk.tries)", "next_at=state.at"),
    Mutation("gives-up-at-once", '_enter(state, "telling", state.rules.give_up_s)', '_enter(state, "telling", 0.001)'),
    Mutation(
        "heartbeat-after-the-end",
        '    if state.phase == "telling":\n        return send_terminal(state)\n',
        '    if state.phase == "telling":\n        return send(state, "heartbeat")\n',
    ),
    Mutation("no-heartbeats", "next_at=state.at + rules.heartbeat_s,", "next_at=NEVER,"),
    Mutation(
        "heartbeats-pile-up",
        "if talk.waiting or state.at < talk.next_at:",
        "if state.at < min(talk.next_at, talk.waiting_until - 30.0):",
    ),
    Mutation(
        "kill-ignored", "return _killed(answered(state, event), event.detail)", "return answered(state, event), ()"
    ),
    Mutation(
        "kill-told-as-failure",
        'Verdict("cancelled", "cancelled", None, detail or',
        'Verdict("failed", "payload-signal", None, detail or',
    ),
    Mutation(
        "kill-ignored-while-staging",
        (
            '    if state.phase == "staging-in":\n'
            "        return _wrap_up(state, verdict)\n"
            "    return _end(state, verdict) if"
        ),
        "    return _end(state, verdict) if",
    ),
    Mutation(
        "second-spawn",
        '    if state.phase != "staging-in":\n        return state, ()\n    return _enter(state, "spawning"',
        (
            '    if state.phase not in {"staging-in", "spawning", "running"}:\n'
            "        return state, ()\n"
            '    return _enter(state, "spawning"'
        ),
    ),
    Mutation("settle-without-acceptance", "(Settle(),) if told and state.spool", "(Settle(),) if state.spool"),
    Mutation("settle-into-a-broken-spool", 'if told and state.spool == "kept" else', "if told else"),
    Mutation("settle-forgotten", '(Settle(),) if told and state.spool == "kept" else ()', "()"),
    Mutation(
        "alreadydone-taken-as-failure",
        '_ACCEPTED = frozenset({"ok", "already", "kill"})',
        '_ACCEPTED = frozenset({"ok", "kill"})',
    ),
    Mutation(
        "tobekilled-taken-as-failure",
        '_ACCEPTED = frozenset({"ok", "already", "kill"})',
        '_ACCEPTED = frozenset({"ok", "already"})',
    ),
    Mutation(
        "unreachable-taken-as-told",
        '_ACCEPTED = frozenset({"ok", "already", "kill"})',
        '_ACCEPTED = frozenset({"ok", "already", "kill", "unreachable"})',
    ),
    Mutation(
        "any-number-accepted",
        "mine = 0 < state.talk.terminal_from <= event.number <= state.talk.number",
        "mine = True",
    ),
    Mutation(
        "done-before-the-payload's-end",
        '    return _signal(state._replace(phase="ending", verdict=verdict))',
        (
            "    state, signal = _signal(state._replace(verdict=verdict))\n"
            "    state, rest = _wrap_up(state, verdict)\n"
            "    return state, signal + rest"
        ),
    ),
    Mutation(
        "signal-forgotten",
        "return state, (Signal(grace_s),) if nearer and not state.starter_lost else ()",
        "return state, ()",
    ),
    Mutation(
        "grace-beyond-the-budget",
        "return min(rules.grace_s, max(left - rules.log_s - rules.reap_s, left / 2, 0.0))",
        "return rules.grace_s",
    ),
    Mutation("lost-exit-waited-for-ever", "deadline=min(natural, soon)", "deadline=NEVER"),
    Mutation("log-never", "log = state.stop_at - state.at >= rules.log_s + rules.tell_s", "log = False"),
    Mutation("outputs-never", 'outputs = verdict.reason == "ok"', "outputs = False"),
    Mutation(
        "stage-out-failure-is-finished",
        '        verdict = Verdict("failed", "stage-out", verdict.exit_code, event.detail)',
        "        pass",
    ),
    Mutation(
        "stop-ignored-while-staging",
        (
            '    if state.phase == "staging-in":\n'
            '        return _wrap_up(state, _stopped(state, "before it started"))\n'
            "    if state.phase in _ALIVE"
        ),
        "    if state.phase in _ALIVE",
    ),
    Mutation(
        "stop-ignored-while-running",
        '        return _end(state, _stopped(state, "while it ran"))',
        "        return state, ()",
    ),
    Mutation(
        "stop-ignored-before-the-start",
        (
            "    if state.stop is not None:\n"
            '        return _wrap_up(state, _stopped(state, "before it started"))\n'
            "    if state.starter_lost"
        ),
        "    if state.starter_lost",
    ),
    Mutation(
        "stage-out-outlives-the-budget",
        "return min(natural, max(state.stop_at - kept, state.at + rules.blink_s))",
        "return natural",
    ),
    Mutation(
        "stopped-payload-is-finished",
        "own if state.verdict is None else state.verdict._replace(exit_code=event.exit_code)",
        "own",
    ),
    Mutation(
        "starter's-loss-ignored",
        "    state = state._replace(starter_lost=True)\n",
        "    return state._replace(starter_lost=True), ()\n",
    ),
    Mutation(
        "goes-on-after-done",
        '    if state.phase == "done":\n        return state, ()\n    state = state._replace(at',
        "    state = state._replace(at",
    ),
    Mutation("early-tick-stalls", "return state._replace(wake=NEVER), ()", "return state, ()"),
)


def mutant(mutation: Mutation) -> Step:
    """Return the machine's `step` compiled anew from its source with the one fault in it."""
    sources = {module: Path(str(module.__file__)).read_text() for module in (talk, life)}
    hits = [module for module, source in sources.items() if mutation.old in source]
    assert len(hits) == 1, f"{mutation.name} fits {len(hits)} files"
    assert sources[hits[0]].count(mutation.old) == 1, f"{mutation.name} fits more than once"
    sources[hits[0]] = sources[hits[0]].replace(mutation.old, mutation.new)
    words: dict[str, Any] = {"__name__": "mutant_talk", "Report": Report}
    exec(compile(sources[talk], "talk (mutated)", "exec"), words)  # noqa: S102 - our own source
    machine: dict[str, Any] = {"__name__": "mutant_life"}
    line = next(line for line in sources[life].splitlines() if line.startswith("from pilotwrap.run.talk import"))
    names = [name.strip() for name in line.removeprefix("from pilotwrap.run.talk import").split(",")]
    machine |= {name: words[name] for name in names}
    exec(compile(sources[life].replace(line, ""), "life (mutated)", "exec"), machine)  # noqa: S102 - likewise
    return cast("Step", machine["step"])
