from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pilotwrap.model.errors import CredentialError, ServerError
from pilotwrap.panda import client as client_module
from pilotwrap.panda.client import PandaClient, Wanted
from pilotwrap.panda.https import HttpsTransport
from pilotwrap.panda.job import PandaJob, UnrunnableJob
from pilotwrap.panda.retry import Patience
from pilotwrap.panda.transport import NotSent, Reply, Request
from pilotwrap.panda.update import JobUpdate

from . import recorded
from .scripted_server import ScriptedServer, command, no, ok, resets, says, told

if TYPE_CHECKING:
    from pathlib import Path

    from pilotwrap.model.credential import Credential

    from .conftest import HandClock

WANTED = Wanted(panda_queue="TEST_QUEUE", memory_mib=4000, disk_mib=2000, remaining_time_s=3600)
SOON = 1010.0


def jobs(*entries: object) -> Any:  # noqa: ANN401
    return ok({"StatusCode": 0, "jobs": list(entries)})


def update(job_id: int) -> JobUpdate:
    return JobUpdate(job_id=job_id, job_status="running", attempt_nr=1)


class TestAcquire:
    def test_memory_disk_and_time_are_always_said(self, server: ScriptedServer, client: PandaClient) -> None:
        server.script(no("No jobs in PanDA"))
        assert client.acquire_jobs(WANTED, SOON) == ()
        assert server.heard[0].path == "/api/v1/pilot/acquire_jobs"
        assert server.heard[0].arguments == {
            "site_name": "TEST_QUEUE",
            "memory": 4000,
            "disk_space": 2000,
            "remaining_time": 3600,
            "n_jobs": 1,
            "timeout": 11,
        }

    @pytest.mark.parametrize(("left_s", "timeout"), [(1, 11), (20, 15), (60, 55), (900, 60)])
    def test_the_server_never_searches_longer_than_we_wait(
        self, server: ScriptedServer, client: PandaClient, clock: HandClock, left_s: int, timeout: int
    ) -> None:
        server.script(no("No jobs in PanDA"))
        client.acquire_jobs(WANTED, clock.now + left_s)
        assert server.heard[0].arguments["timeout"] == timeout

    def test_what_else_is_known_is_said_in_the_servers_types(self, server: ScriptedServer, client: PandaClient) -> None:
        server.script(no("No jobs in PanDA"))
        client.acquire_jobs(WANTED.model_copy(update={"n_jobs": 5, "worker_id": 7, "node": "n1"}), SOON)
        said = server.heard[0].arguments
        assert (said["n_jobs"], said["worker_id"], said["node"]) == (5, 7, "n1")

    @pytest.mark.parametrize("change", [{"timeout_s": 10}, {"n_jobs": 0}, {"memory_mib": -1}])
    def test_a_question_that_finds_nothing_cannot_be_asked(self, change: dict[str, int]) -> None:
        with pytest.raises(ValidationError):
            Wanted(**{**WANTED.model_dump(), **change})

    def test_jobs_come_parsed_and_the_unrunnable_ones_with_them(
        self, server: ScriptedServer, client: PandaClient
    ) -> None:
        server.script(jobs(recorded.JOB, {**recorded.JOB, "PandaID": 26, "inFiles": "../x,b"}))
        good, bad = client.acquire_jobs(WANTED, SOON)
        assert isinstance(good, PandaJob)
        assert isinstance(bad, UnrunnableJob)
        assert (good.panda_id, bad.panda_id) == (25, 26)

    def test_a_job_without_an_id_does_not_hide_the_others(self, server: ScriptedServer, client: PandaClient) -> None:
        server.script(jobs({**recorded.JOB, "PandaID": None}, recorded.JOB))
        assert [job.panda_id for job in client.acquire_jobs(WANTED, SOON)] == [25]
        server.script(jobs({**recorded.JOB, "PandaID": None}))
        with pytest.raises(ServerError, match="without a usable PandaID"):
            client.acquire_jobs(WANTED, SOON)

    def test_it_is_never_repeated_once_it_may_have_been_taken(
        self, server: ScriptedServer, client: PandaClient, clock: HandClock
    ) -> None:
        server.script(resets, jobs(recorded.JOB))
        with pytest.raises(ServerError, match="did not answer"):
            client.acquire_jobs(WANTED, SOON)
        assert len(server.heard) == 1
        assert clock.slept == []

    @pytest.mark.parametrize("act", [says(503, "busy"), says(200, "<html>"), says(500, "crash"), says(302, "")])
    def test_it_is_not_repeated_after_an_answer_that_makes_no_sense(
        self, server: ScriptedServer, client: PandaClient, act: object
    ) -> None:
        server.script(act)
        with pytest.raises(ServerError):
            client.acquire_jobs(WANTED, SOON)
        assert len(server.heard) == 1

    def test_it_is_repeated_while_nobody_can_have_taken_it(self, credential: Credential, clock: HandClock) -> None:
        replies: list[Reply] = [NotSent("refused"), NotSent("refused")]

        class Late:
            """A network that comes up after two tries."""

            def __init__(self, real: HttpsTransport) -> None:
                self.real = real

            def send(self, request: Request) -> Reply:
                return replies.pop() if replies else self.real.send(request)

        with ScriptedServer([jobs(recorded.JOB)]) as server:
            patience = Patience(clock=clock.read, sleep=clock.sleep, chance=lambda: 1.0)
            client = PandaClient(Late(HttpsTransport(server.url, credential)), patience)
            assert len(client.acquire_jobs(WANTED, SOON)) == 1
        assert clock.slept == [0.5, 1.0]

    def test_an_unreachable_server_ends_at_the_deadline(
        self, closed_port: str, credential: Credential, clock: HandClock
    ) -> None:
        patience = Patience(clock=clock.read, sleep=clock.sleep, chance=lambda: 1.0)
        client = PandaClient(HttpsTransport(closed_port, credential), patience)
        with pytest.raises(ServerError, match="cannot be reached"):
            client.acquire_jobs(WANTED, SOON)
        assert clock.now < SOON
        assert clock.slept == [0.5, 1.0, 2.0, 4.0]

    def test_a_refusal_is_a_credential_error(self, server: ScriptedServer, client: PandaClient) -> None:
        server.script(no("no production/pilot role in VOMS FQANs or non pilot owner"))
        with pytest.raises(CredentialError, match="may not fetch"):
            client.acquire_jobs(WANTED, SOON)


class TestUpdate:
    def test_one_goes_alone_and_several_together(self, server: ScriptedServer, client: PandaClient) -> None:
        server.script(told("tobekilled"), ok([command(), command("alreadydone")]))
        assert [answer.verdict for answer in client.update([update(1)], SOON)] == ["kill"]
        assert [answer.verdict for answer in client.update([update(1), update(2)], SOON)] == ["ok", "already"]
        assert [heard.path.rpartition("/")[2] for heard in server.heard] == ["update_job", "update_jobs_bulk"]
        assert server.heard[1].arguments == {
            "job_list": [
                {"job_id": 1, "job_status": "running", "attempt_nr": 1},
                {"job_id": 2, "job_status": "running", "attempt_nr": 1},
            ]
        }

    def test_nothing_to_say_is_not_said(self, server: ScriptedServer, client: PandaClient) -> None:
        assert client.update([], SOON) == ()
        assert server.heard == []

    def test_a_lost_answer_is_asked_for_again(
        self, server: ScriptedServer, client: PandaClient, clock: HandClock
    ) -> None:
        server.script(resets, says(503, "busy"), says(200, ""), told("alreadydone"))
        assert client.update([update(1)], SOON)[0].verdict == "already"
        assert len(server.heard) == 4
        assert clock.slept == [0.5, 1.0, 2.0]

    def test_a_database_error_is_left_to_the_caller(self, server: ScriptedServer, client: PandaClient) -> None:
        server.script(ok({"StatusCode": 30}, "Database error"))
        assert client.update([update(1)], SOON)[0].verdict == "broken"
        assert len(server.heard) == 1

    def test_an_unreachable_server_is_an_answer_at_the_deadline(
        self, server: ScriptedServer, client: PandaClient, clock: HandClock
    ) -> None:
        server.script(says(502, "Bad Gateway"))
        answers = client.update([update(1), update(2)], SOON)
        assert [answer.verdict for answer in answers] == ["unreachable"] * 2
        assert "502" in answers[0].detail
        assert clock.now < SOON

    def test_a_passed_deadline_still_gives_one_try(
        self, server: ScriptedServer, client: PandaClient, clock: HandClock
    ) -> None:
        assert client.update([update(1)], clock.now - 5)[0].verdict == "ok"
        server.script(resets)
        assert client.update([update(1)], clock.now - 5)[0].verdict == "unreachable"
        assert len(server.heard) == 2

    def test_a_failed_bulk_call_is_sent_singly(self, server: ScriptedServer, client: PandaClient) -> None:
        crash = no("failed with AttributeError 'types.UnionType' object has no attribute '__name__'", [])
        server.script(crash, told(), says(500, recorded.TYPE_CRASH), told("tobekilled"))
        answers = client.update([update(1), update(2), update(3)], SOON)
        assert [answer.verdict for answer in answers] == ["ok", "broken", "kill"]

    def test_a_refused_bulk_call_is_not_sent_singly(self, server: ScriptedServer, client: PandaClient) -> None:
        server.script(no("production or pilot role required"))
        assert {answer.verdict for answer in client.update([update(1), update(2)], SOON)} == {"refused"}
        assert len(server.heard) == 1

    def test_many_go_in_several_calls(
        self, server: ScriptedServer, client: PandaClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client_module, "BULK", 2)
        server.script(ok([command(), command()]), ok([command("tobekilled"), command()]), told("alreadydone"))
        verdicts = [answer.verdict for answer in client.update([update(n) for n in range(1, 6)], SOON)]
        assert verdicts == ["ok", "ok", "kill", "ok", "already"]

    def test_a_lost_token_is_a_refusal_not_a_crash(
        self, server: ScriptedServer, client: PandaClient, tmp_path: Path
    ) -> None:
        (tmp_path / "token").unlink()
        answer = client.update([update(1)], SOON)[0]
        assert answer.verdict == "refused"
        assert "cannot be read" in answer.detail
        assert server.heard == []


class TestQuestions:
    def test_whether_it_may_report_is_asked_of_a_job_that_is_none(
        self, server: ScriptedServer, client: PandaClient
    ) -> None:
        server.script(told("tobekilled"))
        client.may_report(SOON)
        assert server.heard[0].arguments == {"job_id": -1, "job_status": "running"}

    @pytest.mark.parametrize("shape", recorded.REFUSED, ids=lambda shape: str(shape[1])[:40])
    def test_a_credential_that_may_not_report_is_found_out(
        self, server: ScriptedServer, client: PandaClient, shape: tuple[int, object, str]
    ) -> None:
        status, body, text = shape
        server.script(says(status, body))
        with pytest.raises(CredentialError, match="may not report on jobs, so none is fetched") as caught:
            client.may_report(SOON)
        assert text in str(caught.value)

    def test_a_server_that_takes_no_reports_is_a_server_error(
        self, server: ScriptedServer, client: PandaClient
    ) -> None:
        server.script(ok({"StatusCode": 30}, "Database error"))
        with pytest.raises(ServerError, match="does not take reports"):
            client.may_report(SOON)

    def test_questions_are_repeated(self, server: ScriptedServer, client: PandaClient) -> None:
        server.script(resets, says(503, ""), ok([{"job_id": 1, "status": "holding", "attempt_number": 1}]))
        assert [status.status for status in client.job_status([1], SOON)] == ["holding"]
        assert server.heard[0].method == "GET"

    def test_a_web_page_is_no_server(self, server: ScriptedServer, client: PandaClient) -> None:
        server.script(says(200, "<html>"))
        with pytest.raises(ServerError, match="a web page"):
            client.job_status([1], SOON)

    def test_a_server_that_gives_no_states_is_an_error(self, server: ScriptedServer, client: PandaClient) -> None:
        server.script(no("SSL secure connection is required"))
        with pytest.raises(CredentialError):
            client.job_status([1], SOON)


@given(
    st.floats(0, 100),
    st.lists(st.floats(0, 1), min_size=1, max_size=50),
    st.floats(0.01, 5),
    st.floats(0.01, 60),
)
def test_waits_grow_within_bounds_and_end_before_the_deadline(
    time_s: float, chances: list[float], first_s: float, most_s: float
) -> None:
    now = [0.0]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds + 0.01

    numbers = iter(chances * 400)
    patience = Patience(first_s, most_s, lambda: now[0], sleep, lambda: next(numbers, 1.0))
    tries = 0
    for left_s in patience.tries(time_s):
        tries += 1
        assert left_s == max(time_s - now[0], 0)
        if tries > 300:
            break
    assert tries >= 1
    drawn = (chances * 400)[: len(slept)]
    assert slept == [min(most_s, first_s * 2.0 ** min(n, 30)) * chance for n, chance in enumerate(drawn)]
    assert now[0] - 0.01 * len(slept) <= time_s


def test_what_is_sent_is_json_without_nan(server: ScriptedServer, client: PandaClient) -> None:
    client.update([update(1)], SOON)
    assert json.loads(server.heard[0].body)["job_id"] == 1
