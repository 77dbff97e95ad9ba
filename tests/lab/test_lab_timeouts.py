from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.lab.timeouts import Limits, Loss, loss

LIMITS = Limits()


@pytest.mark.parametrize(
    ("state", "silent_s", "code"),
    [
        ("sent", 1801, 102),
        ("starting", 7201, 100),
        ("running", 7201, 100),
        ("holding", 10801, 103),
        ("transferring", 7201, 104),
    ],
)
def test_each_state_is_given_up_with_its_code(state: str, silent_s: float, code: int) -> None:
    found = loss(state, silent_s, LIMITS)
    assert found is not None
    assert found.code == code
    assert loss(state, silent_s - 2, LIMITS) is None


def test_the_text_for_sent_names_the_minutes() -> None:
    assert loss("sent", 1801, LIMITS) == Loss(102, "Sent job didn't receive reply from pilot within 30 min")


def test_a_job_that_had_complained_is_a_failed_recovery() -> None:
    assert loss("running", 7201, LIMITS, had_diag=True) == Loss(101, "job recovery failed")


@given(st.sampled_from(["activated", "finished", "failed", "cancelled", "closed"]), st.floats(0, 1e9))
def test_a_job_without_a_pilot_is_never_given_up(state: str, silent_s: float) -> None:
    assert loss(state, silent_s, LIMITS) is None
