"""The talk with the server: what is sent when, which answer counts, how long a retry waits."""

from __future__ import annotations

from pilotwrap.run.effects import Effect, Send, Spool
from pilotwrap.run.events import Answered, To
from pilotwrap.run.state import NEVER, Phase, State

_ACCEPTED = frozenset({"ok", "already", "kill"})
"""`already` and `kill` in answer to a terminal report say that the server has the job's end: the first one counts."""

_BEATING: frozenset[Phase] = frozenset({"staging-in", "spawning", "running", "ending", "staging-out", "spooling"})

_GOLDEN = 0.6180339887498949
"""Its multiples spread evenly over [0, 1): a jitter for each try from one number for each life."""


def send(state: State, to: To) -> tuple[State, tuple[Effect, ...]]:
    """Send a word on a job that is not over; a send that is still awaited is no longer."""
    rules, talk = state.rules, state.talk
    number = talk.number + 1
    talk = talk._replace(
        number=number,
        waiting=number,
        waiting_until=state.at + min(rules.answer_s, rules.heartbeat_s),
        next_at=state.at + rules.heartbeat_s,
    )
    return state._replace(talk=talk), (Send(to, number),)


def send_terminal(state: State) -> tuple[State, tuple[Effect, ...]]:
    """Send the report; where the disk refused it, let the disk try again as well."""
    rules, talk = state.rules, state.talk
    number, first = talk.number + 1, not talk.terminal_from
    # Within a stop's budget a lost answer must leave time for another try.
    patience = min(rules.answer_s, max(rules.blink_s, (state.deadline - state.at) / 2))
    talk = talk._replace(
        number=number,
        waiting=number,
        waiting_until=state.at + patience,
        next_at=NEVER,
        tries=0 if first else talk.tries,
        terminal_from=talk.terminal_from or number,
    )
    again: tuple[Effect, ...] = ()
    if state.spool == "failed" and not first and state.report is not None:
        again = (Spool(state.report),)
    return state._replace(talk=talk), (*again, Send("terminal", number, state.report))


def send_due(state: State) -> tuple[State, tuple[Effect, ...]]:
    """Send the next heartbeat or the next try, if its time has come and nothing is awaited."""
    talk = state.talk
    if talk.waiting or state.at < talk.next_at:
        return state, ()
    if state.phase == "telling":
        return send_terminal(state)
    if state.phase in _BEATING:
        return send(state, "starting" if state.started_at is None else "heartbeat")
    return state, ()


def beating(state: State) -> State:
    """Let heartbeats begin, a whole period from now."""
    return state._replace(talk=state.talk._replace(next_at=state.at + state.rules.heartbeat_s))


def hurried(state: State) -> State:
    """Fit what is awaited, or the pause before the next try, into a stop's budget."""
    talk = state.talk
    if state.phase != "telling":
        return state
    if not talk.waiting:
        return state._replace(talk=talk._replace(next_at=state.at))
    patience = max(state.rules.blink_s, (state.deadline - state.at) / 2)
    return state._replace(talk=talk._replace(waiting_until=min(talk.waiting_until, state.at + patience)))


def accepted(state: State, event: Answered) -> bool:
    """Tell whether the server has the report: the answer to any of its sends says so, however late."""
    mine = 0 < state.talk.terminal_from <= event.number <= state.talk.number
    return mine and state.phase == "telling" and event.verdict in _ACCEPTED


def answered(state: State, event: Answered) -> State:
    """Take the answer to the send that is awaited; any other changes nothing."""
    talk = state.talk
    if not talk.waiting or event.number != talk.waiting or (event.to == "terminal") != (state.phase == "telling"):
        return state
    if event.verdict in _ACCEPTED:
        return state._replace(talk=talk._replace(waiting=0, waiting_until=NEVER, tries=0))
    if event.verdict == "refused" and event.to == "terminal":
        state = state._replace(talk=talk._replace(refusals=talk.refusals + 1))
    return _failed(state)


def overdue(state: State) -> State:
    """Count a send whose answer is too late as failed."""
    return _failed(state) if state.talk.waiting and state.at >= state.talk.waiting_until else state


def _failed(state: State) -> State:
    talk = state.talk._replace(waiting=0, waiting_until=NEVER, tries=state.talk.tries + 1)
    return state._replace(talk=talk._replace(next_at=state.at + _pause(state, talk.tries)))


def _pause(state: State, tries: int) -> float:
    """Return how long to wait before the next try: doubled each time, jittered, never past what is left."""
    rules = state.rules
    longest = min(rules.retry_max_s, rules.heartbeat_s)
    doubled = min(longest, rules.retry_s * 2.0 ** min(tries - 1, 32))
    pause = doubled * (0.5 + ((rules.jitter + tries * _GOLDEN) % 1.0) / 2)
    if state.phase == "telling":
        pause = min(pause, max(rules.blink_s, (state.deadline - state.at) / 3))
    return pause
