from __future__ import annotations

import json
from functools import cache
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from pilotwrap.model.errors import BadInputError
from pilotwrap.model.plan import Teller
from pilotwrap.model.reasons import REASONS
from pilotwrap.run import events as ev
from pilotwrap.run.effects import Done, Record, Send, Signal, Spawn, Wake
from pilotwrap.run.life import step
from pilotwrap.run.state import Rules, State

FILES = st.dictionaries(
    st.text(max_size=5),
    st.fixed_dictionaries({"guid": st.text(max_size=5), "size": st.integers(0, 2**40), "adler32": st.just("00000001")}),
    max_size=2,
)
FIELDS = {
    "reason": st.sampled_from(REASONS),
    "detail": st.text(max_size=10),
    "exit_code": st.none() | st.integers(0, 255),
    "files": FILES,
    "to": st.sampled_from(get_args(ev.To)),
    "number": st.integers(-1, 12),
    "verdict": st.sampled_from(get_args(ev.Answer)),
    "budget_s": st.floats(-10.0, 1000.0),
}
STOP_FIELDS = FIELDS | {"reason": st.sampled_from(get_args(ev.StopReason))}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@cache
def states() -> TypeAdapter[State]:
    return TypeAdapter(State)


def kind_of(kind: type[ev.Event]) -> st.SearchStrategy[ev.Event]:
    fields = STOP_FIELDS if kind is ev.StopAsked else FIELDS
    names = [name for name in kind.__dataclass_fields__ if name != "at"]
    return st.builds(kind, at=st.floats(0.0, 20_000.0), **{name: fields[name] for name in names})


ANY_EVENT = st.one_of([kind_of(kind) for kind in ev.EVENTS.values()])
# Drawn evenly, most sequences would end before a payload starts; these lead further into a life.
LIKELY = st.sampled_from(
    [
        ev.Acquired(1.0),
        ev.Recorded(2.0),
        ev.StagedIn(3.0),
        ev.Started(4.0),
        ev.Exited(5.0, "ok", 0),
        ev.StagedOut(6.0),
        ev.Spooled(7.0),
        ev.Tick(800.0),
        ev.Answered(9.0, "terminal", 3, "unreachable"),
    ]
)
SEQUENCES = st.lists(LIKELY | ANY_EVENT, max_size=25)
RULES = st.builds(
    lambda told_by, jitter: Rules(told_by=told_by, jitter=jitter),
    st.sampled_from(get_args(Teller)),
    st.floats(0.0, 0.99),
)


@given(RULES, SEQUENCES)
def test_any_sequence_of_events_is_a_legal_life(rules: Rules, events: list[ev.Event]) -> None:
    state, effects = State(rules=rules), []
    for event in events:
        done = state.phase == "done"
        state, more = step(state, event)
        assert not (done and more)
        effects += more
    kinds = [type(effect) for effect in effects]
    assert all(kinds.count(once) <= 1 for once in (Record, Spawn, Done))
    assert [effect.number for effect in effects if type(effect) is Send] == list(range(1, kinds.count(Send) + 1))
    assert all(0.0 <= effect.grace_s <= rules.grace_s for effect in effects if type(effect) is Signal)
    if rules.told_by == "panda" and effects:
        assert next(kind for kind in kinds if kind is not Wake) is Record


@given(RULES, SEQUENCES, SEQUENCES)
def test_done_is_final(rules: Rules, events: list[ev.Event], late: list[ev.Event]) -> None:
    state = State(rules=rules)
    for event in events:
        state, _ = step(state, event)
    if state.phase != "done":
        return
    for event in late:
        assert step(state, event) == (state, ())


@given(RULES, SEQUENCES)
def test_time_never_goes_back(rules: Rules, events: list[ev.Event]) -> None:
    state = State(rules=rules)
    for event in events:
        after, effects = step(state, event)
        assert after.at >= state.at
        assert all(effect.at >= after.at for effect in effects if type(effect) is Wake)
        state = after


@given(RULES, SEQUENCES)
def test_a_life_that_is_begun_always_waits_for_something(rules: Rules, events: list[ev.Event]) -> None:
    state = State(rules=rules)
    for event in (ev.Acquired(0.0), *events):
        state, _ = step(state, event)
        # A payload that runs for a caller is waited for without a clock; all else has its time.
        assert state.phase == "done" or state.wake < 1e15 or (state.phase == "running" and rules.told_by != "panda")


@given(RULES, SEQUENCES)
def test_a_state_survives_json(rules: Rules, events: list[ev.Event]) -> None:
    state = State(rules=rules)
    for event in events:
        state, _ = step(state, event)
    again = states().validate_json(states().dump_json(state))
    assert again == state
    assert step(again, ev.Tick(30_000.0)) == step(state, ev.Tick(30_000.0))


@given(ANY_EVENT)
def test_an_event_survives_the_journal(event: ev.Event) -> None:
    line = ev.to_json(event)
    assert "\n" not in line
    assert json.loads(line)["event"] == type(event).__name__
    assert ev.from_json(line) == event


@given(st.text() | JSON.map(json.dumps) | st.builds(lambda rest: json.dumps({"event": "Exited", "at": rest}), JSON))
def test_any_line_is_an_event_or_bad_input(line: str) -> None:
    try:
        event = ev.from_json(line)
    except BadInputError:
        return
    assert ev.from_json(ev.to_json(event)) == event


@pytest.mark.parametrize("line", ["", "{", "[]", "{}", '{"event":"Born","at":1}', '{"event":"Tick"}', "[" * 100_000])
def test_a_damaged_line_says_so(line: str) -> None:
    with pytest.raises(BadInputError, match="not an event"):
        ev.from_json(line)
