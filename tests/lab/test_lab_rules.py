from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.lab.rules import PILOT_STATES, TERMINAL_STATES, Ruling, Stored, Update, killed, ruling

LIVE_STATES = ["sent", "starting", "running", "transferring", "holding"]
BATCH_IDS = ["", "7", "8", "777", "778", "778_3", "779_4", "alpha", "123.0"]

STORED = st.builds(
    Stored,
    state=st.sampled_from(LIVE_STATES),
    attempt_nr=st.integers(1, 3),
    batch_id=st.sampled_from(BATCH_IDS),
    command=st.sampled_from(["", "tobekilled", "softkill"]),
    archived=st.booleans(),
    reported=st.booleans(),
    debug=st.booleans(),
)
UPDATE = st.builds(
    Update,
    state=st.sampled_from(PILOT_STATES),
    attempt_nr=st.none() | st.integers(1, 3),
    batch_id=st.sampled_from(BATCH_IDS),
)


@pytest.mark.parametrize(
    ("stored", "update", "kept"),
    [
        ("sent", "starting", "starting"),
        ("sent", "running", "running"),
        ("sent", "finished", "holding"),
        ("starting", "running", "running"),
        ("running", "starting", "running"),
        ("running", "transferring", "transferring"),
        ("running", "failed", "holding"),
        ("transferring", "running", None),
        ("transferring", "starting", None),
        ("transferring", "holding", "holding"),
        ("holding", "transferring", None),
        ("holding", "running", None),
        ("holding", "finished", "holding"),
    ],
)
def test_states_follow_the_measured_table(stored: str, update: str, kept: str | None) -> None:
    assert ruling(Stored(stored, 1), Update(update, 1)).state == kept  # type: ignore[arg-type]  # a table of words


@given(STORED, UPDATE)
def test_a_second_final_report_never_replaces_the_first(stored: Stored, update: Update) -> None:
    rule = ruling(stored, update)
    if stored.reported or stored.archived:
        assert rule.state is None
        assert not rule.takes_report
    if stored.reported and not stored.archived and update.state in TERMINAL_STATES:
        assert rule.command in {"alreadydone", "tobekilled"}


@given(STORED, UPDATE)
def test_another_attempt_is_told_to_end_and_stores_nothing(stored: Stored, update: Update) -> None:
    if stored.archived or update.attempt_nr not in {None, stored.attempt_nr}:
        assert ruling(stored, update) == Ruling(None, "tobekilled")


@given(STORED, UPDATE)
def test_a_report_is_taken_exactly_when_a_final_state_is_stored(stored: Stored, update: Update) -> None:
    rule = ruling(stored, update)
    assert rule.takes_report == (rule.state is not None and update.state in TERMINAL_STATES)
    assert rule.state != "finished"


@given(UPDATE)
def test_an_unknown_job_is_killed(update: Update) -> None:
    assert ruling(None, update) == Ruling(None, "tobekilled")


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        ("777", "778", False),
        ("778", "778_3", False),
        ("778_3", "779_4", True),
        ("7", "8", True),
        ("7", "7", False),
        ("alpha", "123.0", False),
        ("alpha", "beta", True),
        ("", "beta", False),
    ],
)
def test_two_different_batch_names_are_a_database_error(first: str, second: str, *, clash: bool) -> None:
    assert ruling(Stored("running", 1, first), Update("running", 1, second)).database_error is clash


def test_a_waiting_command_is_in_every_answer() -> None:
    stored = Stored("running", 1, command="tobekilled", debug=True)
    assert ruling(stored, Update("running")).command == "debug,tobekilled"
    assert ruling(Stored("running", 1, command="tobekilled"), Update("failed")).command == "tobekilled"


def test_a_kill_waits_for_the_pilot_only_where_there_is_one() -> None:
    assert killed(Stored("running", 1), force=False) == "commanded"
    assert killed(Stored("running", 1), force=True) == "cancelled"
    assert killed(Stored("sent", 1), force=False) == "cancelled"
    assert killed(Stored("finished", 1, archived=True), force=True) == "refused"
    assert killed(None, force=False) == "refused"
