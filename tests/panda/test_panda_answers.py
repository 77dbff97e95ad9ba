from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.errors import CredentialError, PilotwrapError, ServerError
from pilotwrap.panda import answers
from pilotwrap.panda.answers import Answer, Envelope, JobStatus, Trouble
from pilotwrap.panda.transport import MAX_REPLY_BYTES, Replied

from . import recorded
from .scripted_server import command


def replied(status: int, body: Any, location: str = "") -> Replied:  # noqa: ANN401
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Replied(status, data, location)


SHAPES = [
    *(("refused", *shape) for shape in recorded.REFUSED),
    *(("broken", *shape) for shape in recorded.BROKEN),
    *(("unreachable", *shape) for shape in recorded.UNREACHABLE),
]


@pytest.mark.parametrize(("verdict", "status", "body", "text"), SHAPES, ids=lambda value: str(value)[:40])
def test_every_error_shape_has_its_verdict_and_says_why(verdict: str, status: int, body: Any, text: str) -> None:  # noqa: ANN401
    answer = answers.update_answer(replied(status, body))
    assert answer.verdict == verdict
    assert text in answer.detail
    assert not answer.accepted


@pytest.mark.parametrize(("status", "body"), [shape[1:3] for shape in SHAPES], ids=lambda value: str(value)[:40])
def test_no_traceback_is_shown_to_a_user(status: int, body: Any) -> None:  # noqa: ANN401
    detail = answers.update_answer(replied(status, body)).detail
    assert "Traceback" not in detail
    assert "panda_request.py" not in detail
    assert detail.isprintable()
    assert len(detail) < 500


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("NULL", "ok"),
        ("tobekilled", "kill"),
        ("debug,tobekilled", "kill"),
        ("debug", "ok"),
        ("debugoff", "ok"),
        ("softkill", "ok"),
        ("alreadydone", "already"),
        (None, "ok"),
    ],
)
def test_the_command_is_read(text: str, verdict: str) -> None:
    answer = answers.update_answer(replied(200, command(text)))
    assert answer.verdict == verdict
    assert answer.accepted


def test_a_debug_command_is_passed_on() -> None:
    assert answers.update_answer(replied(200, command("debug,ps -ef"))).detail == "debug,ps -ef"


def test_a_redirect_names_its_target() -> None:
    found = answers.envelope(replied(302, "", "https://login.example.org/"))
    assert isinstance(found, Trouble)
    assert str(found.error) == (
        "the server redirects to https://login.example.org/: a login page?; check the server's URL"
    )


def test_a_reply_that_is_too_long_is_not_parsed() -> None:
    found = answers.envelope(Replied(200, b" " * (MAX_REPLY_BYTES + 1)))
    assert isinstance(found, Trouble)
    assert "more than" in str(found.error)


def test_errors_are_of_the_class_that_gives_the_exit_code() -> None:
    refused = answers.envelope(replied(403, recorded.AUTH + "Invalid token. Signature has expired"))
    broken = answers.envelope(replied(500, "crash"))
    assert isinstance(refused, Trouble)
    assert isinstance(broken, Trouble)
    assert isinstance(refused.error, CredentialError)
    assert isinstance(broken.error, ServerError)


def test_no_jobs_is_no_error() -> None:
    assert answers.job_entries(replied(200, recorded.envelope("No jobs in PanDA"))) == ()


def test_jobs_are_returned_as_they_came() -> None:
    data = {"StatusCode": 0, "jobs": [{"PandaID": 1}, {"PandaID": 2}]}
    assert answers.job_entries(replied(200, recorded.envelope("", data, success=True))) == (
        {"PandaID": 1},
        {"PandaID": 2},
    )


@pytest.mark.parametrize("data", [{"StatusCode": 0}, {"StatusCode": 0, "jobs": {}}, {"StatusCode": 0, "jobs": [1]}, []])
def test_a_success_without_jobs_is_nonsense(data: object) -> None:
    found = answers.job_entries(replied(200, recorded.envelope("", data, success=True)))
    assert isinstance(found, Trouble)
    assert found.verdict == "unreachable"


def test_each_bulk_entry_has_its_own_answer() -> None:
    data = [command(), recorded.envelope("Type error: x"), command("tobekilled"), 7]
    found = answers.bulk_answers(replied(200, recorded.envelope("", data, success=True)), 4)
    assert isinstance(found, tuple)
    assert [answer.verdict for answer in found] == ["ok", "broken", "kill", "unreachable"]


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (recorded.envelope("failed with KeyError 'job_id'", []), "broken"),
        (recorded.envelope("", [command()], success=True), "broken"),
        (recorded.envelope("", None, success=True), "broken"),
        (recorded.envelope("production or pilot role required"), "refused"),
        ("<html>", "unreachable"),
    ],
)
def test_a_bulk_call_can_fail_as_a_whole(reply: Any, verdict: str) -> None:  # noqa: ANN401
    found = answers.bulk_answers(replied(200, reply), 2)
    assert isinstance(found, Trouble)
    assert found.verdict == verdict


def test_job_states_are_read() -> None:
    data = [
        {"job_id": 1, "status": "holding", "attempt_number": 2},
        {"job_id": 99999999, "status": "not found", "attempt_number": 0},
    ]
    assert answers.job_statuses(replied(200, recorded.envelope("", data, success=True))) == (
        JobStatus(1, "holding", 2),
        JobStatus(99999999, "not found", 0),
    )


@pytest.mark.parametrize("data", [None, {}, [1], [{"job_id": "1", "status": "x"}]])
def test_job_states_without_ids_are_nonsense(data: object) -> None:
    assert isinstance(answers.job_statuses(replied(200, recorded.envelope("", data, success=True))), Trouble)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["success", "message", "data", "StatusCode", "command", "jobs", "job_id", "status"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
BODIES = st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | JSON.map(json.dumps).map(str.encode)
STATUSES = st.sampled_from([200, 200, 200, 204, 301, 400, 401, 403, 404, 500, 503, 599])


@given(STATUSES, BODIES, st.text(max_size=20))
def test_any_reply_ends_in_a_value_or_our_error(status: int, body: bytes, location: str) -> None:
    reply = Replied(status, body, location)
    assert isinstance(answers.update_answer(reply), Answer)
    found = answers.envelope(reply)
    assert isinstance(found, Envelope | Trouble)
    for read in (answers.job_entries, answers.job_statuses, lambda said: answers.bulk_answers(said, 2)):
        result = read(reply)
        assert isinstance(result, tuple) or isinstance(result.error, PilotwrapError)


@given(st.text(max_size=600))
def test_plain_text_is_one_short_printable_line(text: str) -> None:
    said = answers.plain(text)
    assert said.isprintable()
    assert len(said) <= answers.MAX_DETAIL
