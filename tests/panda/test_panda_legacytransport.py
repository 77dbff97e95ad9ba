from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import CredentialError, ServerError
from pilotwrap.panda.client import PandaClient, Wanted, connected
from pilotwrap.panda.https import LEGACY, HttpsTransport
from pilotwrap.panda.job import PandaJob
from pilotwrap.panda.legacytransport import LegacyTransport
from pilotwrap.panda.retry import Patience
from pilotwrap.panda.transport import MaybeTaken, NotSent, Replied, Reply, Request
from pilotwrap.panda.update import JobUpdate

from .recorded import AUTH, JOB
from .scripted_server import Heard, ScriptedServer, ok, says

if TYPE_CHECKING:
    from .conftest import HandClock

TAKEN = says(200, {"StatusCode": 0, "command": "NULL"})
FORBIDDEN = says(403, "ERROR : method is_alive is forbidden")
WANTED = Wanted(panda_queue="Q", memory_mib=4000, disk_mib=20000, remaining_time_s=3600, harvester_id="h", worker_id=7)
UPDATE = JobUpdate(
    job_id=37, job_status="finished", attempt_nr=1, job_output_report="{}", pilot_error_code=0, max_rss=2048
)


@pytest.fixture
def client(server: ScriptedServer, credential: Credential, clock: HandClock) -> PandaClient:
    patience = Patience(clock=clock.read, sleep=clock.sleep, chance=lambda: 1.0)
    transport = HttpsTransport(server.url, credential, dialect=LEGACY)
    return PandaClient(LegacyTransport(transport), patience)


@pytest.fixture
def soon(clock: HandClock) -> float:
    return clock.now + 30


def said(heard: Heard) -> dict[str, str]:
    assert heard.headers["content-type"] == "application/x-www-form-urlencoded"
    assert heard.headers["accept"] == "application/json"
    return dict(parse_qsl(heard.body.decode(), keep_blank_values=True))


def test_jobs_are_asked_for_in_legacy_words(server: ScriptedServer, client: PandaClient, soon: float) -> None:
    server.script(says(200, {"StatusCode": 0, "jobs": [JOB, {**JOB, "PandaID": 26}]}))
    jobs = client.acquire_jobs(WANTED, soon)
    assert [job.panda_id for job in jobs if isinstance(job, PandaJob)] == [25, 26]
    assert server.heard[0].path == "/server/panda/getJob"
    assert said(server.heard[0]) == {
        "siteName": "Q",
        "mem": "4000",
        "diskSpace": "20000",
        "remaining_time": "3600",
        "nJobs": "1",
        "timeout": "25",
        "harvester_id": "h",
        "worker_id": "7",
    }


def test_an_entry_is_whole(server: ScriptedServer, client: PandaClient, soon: float) -> None:
    server.script(says(200, JOB))
    assert client.acquire_entries(WANTED, soon) == (JOB,)


@pytest.mark.parametrize("none", [{"StatusCode": 20, "errorDialog": "no jobs in PanDA"}, "StatusCode=20"])
def test_no_job_is_no_error(server: ScriptedServer, client: PandaClient, soon: float, none: object) -> None:
    server.script(says(200, none))
    assert client.acquire_jobs(WANTED, soon) == ()


def test_an_update_is_told_in_legacy_words(server: ScriptedServer, client: PandaClient, soon: float) -> None:
    server.script(TAKEN)
    assert client.update([UPDATE], soon)[0].verdict == "ok"
    assert server.heard[0].path == "/server/panda/updateJob"
    assert said(server.heard[0]) == {
        "jobId": "37",
        "state": "finished",
        "attemptNr": "1",
        "xml": "{}",
        "pilotErrorCode": "0",
        "maxRSS": "2048",
    }


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ({"StatusCode": 0, "command": "tobekilled"}, "kill"),
        ({"StatusCode": 0, "command": "debug,tobekilled"}, "kill"),
        ({"StatusCode": 0, "command": "alreadydone"}, "already"),
        ("StatusCode=0&command=alreadydone", "already"),
        ({"StatusCode": 0}, "ok"),
        ({"StatusCode": 10}, "unreachable"),
        ({"StatusCode": 30}, "broken"),
        ({"StatusCode": 60, "errorDialog": "no production/pilot role in VOMS FQANs or non pilot owner"}, "refused"),
        ("StatusCode=60", "refused"),
        ({"StatusCode": "0", "command": "NULL"}, "ok"),
        ("<html>log in</html>", "unreachable"),
        ({"success": True}, "unreachable"),
        ("{", "unreachable"),
        ("", "unreachable"),
    ],
)
def test_an_answer_means_the_same_in_both_apis(
    server: ScriptedServer, client: PandaClient, soon: float, reply: object, verdict: str
) -> None:
    server.script(says(200, reply))
    assert client.update([UPDATE], soon)[0].verdict == verdict


@pytest.mark.parametrize(
    ("status", "text", "verdict"),
    [
        (403, AUTH + "Invalid token. Signature has expired", "refused"),
        (403, "ERROR : method updateJob is forbidden", "broken"),
        (500, "updateJob() missing 1 required positional argument: 'state'", "broken"),
        (503, "busy", "unreachable"),
    ],
)
def test_what_is_no_answer_is_handed_on(  # noqa: PLR0913, PLR0917 - three fixtures
    server: ScriptedServer, client: PandaClient, soon: float, status: int, text: str, verdict: str
) -> None:
    server.script(says(status, text))
    assert client.update([UPDATE, UPDATE], soon)[1].verdict == verdict


def test_several_updates_go_one_by_one_and_each_has_its_answer(
    server: ScriptedServer, client: PandaClient, soon: float
) -> None:
    server.script(TAKEN, says(200, {"StatusCode": 0, "command": "tobekilled"}), says(200, {"StatusCode": 30}))
    answers = client.update([UPDATE, UPDATE.model_copy(update={"job_id": 38}), UPDATE], soon)
    assert [answer.verdict for answer in answers] == ["ok", "kill", "broken"]
    assert [said(heard)["jobId"] for heard in server.heard] == ["37", "38", "37"]


def test_one_update_that_breaks_the_call_leaves_the_others_their_answers(
    server: ScriptedServer, client: PandaClient, soon: float
) -> None:
    wrong = says(500, "a wrong type")
    server.script(TAKEN, wrong, TAKEN, wrong, TAKEN)
    assert [answer.verdict for answer in client.update([UPDATE] * 3, soon)] == ["ok", "broken", "ok"]


def test_states_are_read_from_their_list(server: ScriptedServer, client: PandaClient, soon: float) -> None:
    server.script(says(200, "StatusCode=0&status=holding%2Bnotfound&attemptNr=2%2B0"))
    found = client.job_status([37, 99], soon)
    assert [(each.panda_id, each.status, each.attempt_nr) for each in found] == [
        (37, "holding", 2),
        (99, "not found", 0),
    ]
    assert said(server.heard[0]) == {"ids": "37 99"}


@pytest.mark.parametrize("reply", ["StatusCode=0&status=holding&attemptNr=1", "StatusCode=30", "StatusCode=x"])
def test_states_that_do_not_fit_are_an_error(
    server: ScriptedServer, client: PandaClient, soon: float, reply: str
) -> None:
    server.script(says(200, reply))
    with pytest.raises(ServerError):
        client.job_status([37, 99], soon)


def test_a_worker_is_told_of(server: ScriptedServer, client: PandaClient, soon: float) -> None:
    server.script(says(200, "StatusCode=0"))
    assert client.worker_status(7, "h", "started", "node1", soon) is True
    assert server.heard[0].path == "/server/panda/updateWorkerPilotStatus"
    told = said(server.heard[0])
    assert told.pop("site")
    assert told == {"workerID": "7", "harvesterID": "h", "status": "started", "node_id": "node1"}


def test_a_worker_that_cannot_be_told_of_is_no_error(server: ScriptedServer, client: PandaClient, soon: float) -> None:
    for reply in ({"StatusCode": 60}, {"StatusCode": 30}, "<html>"):
        server.script(says(200, reply))
        assert client.worker_status(7, "h", "finished", "node1", soon) is False


def test_a_worker_is_told_of_in_the_current_api(server: ScriptedServer, credential: Credential) -> None:
    server.script(ok())
    current = PandaClient(HttpsTransport(server.url, credential))
    assert current.worker_status(7, "h", "finished", "node1", 1e9) is True
    assert server.heard[0].path == "/api/v1/pilot/update_worker_status"
    assert server.heard[0].arguments == {"worker_id": 7, "harvester_id": "h", "status": "finished", "node_id": "node1"}


def test_the_role_is_asked_for_before_a_job_is(server: ScriptedServer, client: PandaClient, soon: float) -> None:
    server.script(says(200, {"StatusCode": 0, "command": "tobekilled"}))
    client.may_report(soon)
    role = {"StatusCode": 60, "errorDialog": "no production/pilot role in VOMS FQANs or non pilot owner"}
    server.script(says(200, role))
    with pytest.raises(CredentialError, match="may not report"):
        client.may_report(soon)
    with pytest.raises(CredentialError, match="may not fetch"):
        client.acquire_jobs(WANTED, soon)


def test_connected_speaks_what_it_is_told_to(server: ScriptedServer, credential: Credential) -> None:
    server.script(says(200, "StatusCode=0"))
    assert connected(server.url, credential, api="legacy").worker_status(7, "h", "started", "node1", 1e9) is True
    assert server.heard[0].path == "/server/panda/updateWorkerPilotStatus"


def test_a_call_that_no_legacy_server_has_is_not_sent(server: ScriptedServer, credential: Credential) -> None:
    transport = LegacyTransport(HttpsTransport(server.url, credential, dialect=LEGACY))
    reply = transport.send(Request("POST", "pilot/update_worker_node", body=b"{}"))
    assert reply == Replied(403, b"ERROR : method pilot/update_worker_node is forbidden")
    assert server.heard == []


ANSWERS = st.one_of(
    st.just(NotSent("no")),
    st.just(MaybeTaken("lost")),
    st.builds(
        Replied,
        st.sampled_from([200, 403, 500]),
        st.binary(max_size=40)
        | st.dictionaries(
            st.sampled_from(["StatusCode", "command", "jobs"]),
            st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2) | st.none(),
        ).map(lambda found: json.dumps(found).encode())
        | st.binary(max_size=20).map(lambda tail: b"StatusCode=0&status=" + tail),
    ),
)


class Said:
    """A far end that always says the same."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    def send(self, _request: Request) -> Reply:
        return self.reply


@given(ANSWERS)
def test_whatever_comes_back_ends_in_a_verdict(reply: Reply) -> None:
    times = iter(range(10**6))
    client = PandaClient(LegacyTransport(Said(reply)), Patience(clock=lambda: float(next(times)), sleep=lambda _: None))
    assert len(client.update([UPDATE, UPDATE], 5)) == 2
    for ask in (
        lambda: client.acquire_entries(WANTED, 5),
        lambda: client.job_status([1], 5),
    ):
        with contextlib.suppress(ServerError, CredentialError):
            ask()
