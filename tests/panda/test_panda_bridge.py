from __future__ import annotations

import gzip
import http.client
import json
import logging
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

import pytest

from pilotwrap.panda import bridge as module
from pilotwrap.panda.bridge import Bridge, UnkeptError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pilotwrap.panda.answers import Json
    from pilotwrap.panda.legacy import PilotUpdate

TOKEN = "bridge-token_0123"  # noqa: S105 - opens nothing
SECRET = "open-sesame_0123"  # noqa: S105
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Authorization": f"Bearer {TOKEN}"}
ENTRY: dict[str, Json] = {"PandaID": 34, "attemptNr": 1, "jobPars": "a b&c", "ioIntensity": None, "StatusCode": 0}


@dataclass
class Notes:
    """A desk that writes down what it is asked; `may_answer` holds its answers to updates back."""

    jobs: list[Mapping[str, Json]] = field(default_factory=lambda: [ENTRY])
    command: str | None = "NULL"
    updates: list[PilotUpdate] = field(default_factory=list)
    workers: list[tuple[str, str]] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_answer.set()

    def visitor(self, token: str) -> str | None:
        return "job-1" if token == TOKEN else None

    def job(self, visitor: str) -> Mapping[str, Json] | None:
        assert visitor == "job-1"
        return self.jobs.pop() if self.jobs else None

    def told(self, visitor: str, update: PilotUpdate) -> str:
        assert visitor == "job-1"
        self.updates.append(update)
        self.asked.set()
        assert self.may_answer.wait(30)
        if self.command is None:
            raise UnkeptError("no space left")
        return self.command

    def states(self, visitor: str, panda_ids: Sequence[int]) -> Mapping[int, str]:
        assert visitor == "job-1"
        return {panda_id: "running" for panda_id in panda_ids if panda_id == 34}

    def worker(self, visitor: str, status: str) -> None:
        self.workers.append((visitor, status))

    def document(self, secret: str, name: str) -> bytes | None:
        return b"#!/bin/sh\n" if (secret, name) == (SECRET, "run it") else None


@dataclass(frozen=True)
class Got:
    status: int
    kind: str
    body: bytes


@pytest.fixture
def desk() -> Notes:
    return Notes()


@pytest.fixture
def bridge(desk: Notes) -> Iterator[Bridge]:
    started = Bridge(desk, connections=4)
    started.start()
    yield started
    desk.may_answer.set()
    started.close()


def ask(bridge: Bridge, path: str, said: object = None, method: str = "POST", headers: dict[str, str] = FORM) -> Got:
    body = said if isinstance(said, bytes | None) else urlencode(dict(said)).encode()  # type: ignore[call-overload]
    connection = http.client.HTTPConnection("127.0.0.1", bridge.port, timeout=20)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        assert response.getheader("Connection") == "close"
        return Got(response.status, response.getheader("Content-Type") or "", response.read())
    finally:
        connection.close()


def call(bridge: Bridge, name: str, said: dict[str, object] | bytes, **more: Any) -> Got:  # noqa: ANN401
    return ask(bridge, f"/server/panda/{name}", said, **more)


def raw(bridge: Bridge, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", bridge.port), timeout=20) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


RUNNING: dict[str, object] = {"jobId": "34", "state": "running", "attemptNr": "1", "maxRSS": "2048"}


def test_the_bridge_is_on_loopback_alone(bridge: Bridge) -> None:
    assert bridge.url == f"http://127.0.0.1:{bridge.port}"
    assert bridge._server.socket.getsockname()[0] == "127.0.0.1"


def test_a_pilot_gets_its_job_once(bridge: Bridge) -> None:
    got = call(bridge, "getJob", {"siteName": "Q", "mem": "24105.56"})
    assert (got.status, got.kind) == (200, "text/plain")
    assert dict(parse_qsl(got.body.decode())) == {
        "StatusCode": "0", "PandaID": "34", "attemptNr": "1", "jobPars": "a b&c", "ioIntensity": "None"
    }  # fmt: skip
    assert call(bridge, "getJob", {"siteName": "Q"}).body == b"StatusCode=20"


def test_a_pilot_gets_its_job_as_json_if_it_wants_that(bridge: Bridge) -> None:
    got = call(bridge, "getJob", {"siteName": "Q"}, headers={**FORM, "Accept": "application/json"})
    assert got.kind == "application/json"
    assert json.loads(got.body) == ENTRY


def test_an_update_reaches_the_desk_and_its_command_the_pilot(bridge: Bridge, desk: Notes) -> None:
    desk.command = "debug,tobekilled"
    packed = gzip.compress(json.dumps(RUNNING).encode())
    got = call(bridge, "updateJob", packed, headers={**FORM, "Content-Type": "application/json"})
    assert (got.kind, got.body) == ("text/plain", b"StatusCode=0&command=debug%2Ctobekilled")
    assert [(each.panda_id, each.state, each.arguments) for each in desk.updates] == [
        (34, "running", {"max_rss": 2048})
    ]


def test_an_update_is_answered_when_the_desk_has_it_and_not_before(bridge: Bridge, desk: Notes) -> None:
    desk.may_answer.clear()
    got: list[Got] = []
    asking = threading.Thread(target=lambda: got.append(call(bridge, "updateJob", RUNNING)))
    asking.start()
    assert desk.asked.wait(20)
    # meanwhile others are served
    assert ask(bridge, "/server/panda/isAlive", method="GET", headers={}).body == b"alive=yes"
    assert got == []
    desk.may_answer.set()
    asking.join(20)
    assert got[0].body == b"StatusCode=0&command=NULL"


def test_a_word_that_could_not_be_kept_is_no_success(bridge: Bridge, desk: Notes) -> None:
    desk.command = None
    assert call(bridge, "updateJob", RUNNING).body == b"StatusCode=30"


@pytest.mark.parametrize("said", [{**RUNNING, "state": "stagein"}, {**RUNNING, "jobId": "NULL"}])
def test_what_the_real_server_ignores_is_ignored(bridge: Bridge, desk: Notes, said: dict[str, object]) -> None:
    assert call(bridge, "updateJob", said).body == b"StatusCode=0"
    assert desk.updates == []


def test_states_and_workers_are_answered(bridge: Bridge, desk: Notes) -> None:
    accepts = {**FORM, "Accept": "application/json"}
    got = call(bridge, "getStatus", {"ids": "34 35"}, headers=accepts)
    assert (got.kind, got.body) == ("text/plain", b"StatusCode=0&status=running%2Bnotfound&attemptNr=0%2B0")
    said = {"workerID": "1", "harvesterID": "h", "status": "started", "site": "Q"}
    assert call(bridge, "updateWorkerPilotStatus", said).body == b"StatusCode=0"
    assert call(bridge, "updateWorkerPilotStatus", {**said, "status": "lost"}).status == 500
    assert desk.workers == [("job-1", "started")]


@pytest.mark.parametrize("name", ["getJob", "updateJob", "getStatus", "updateWorkerPilotStatus"])
@pytest.mark.parametrize("shown", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN])
def test_without_its_token_nobody_is_heard(bridge: Bridge, desk: Notes, name: str, shown: str | None) -> None:
    headers = {"Content-Type": FORM["Content-Type"]} | ({} if shown is None else {"Authorization": shown})
    got = call(bridge, name, {**RUNNING, "siteName": "Q", "ids": "34", "status": "started"}, headers=headers)
    assert (got.status, got.body) == (403, b"ERROR : Token authentication failed. Invalid token")
    assert (desk.updates, desk.workers, desk.jobs) == ([], [], [ENTRY])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/server/panda/killJobs"),
        ("GET", "/server/panda/"),
        ("GET", "/server/panda/getJob/x"),
        ("POST", "/api/v1/pilot/update_worker_node"),
        ("GET", "/"),
        ("GET", "/etc/passwd"),
        ("GET", "*"),
        ("HEAD", "/server/panda/getJob"),
        ("PUT", "/server/panda/getJob"),
        ("DELETE", "/open/a/b"),
        ("CONNECT", "panda.example.org:443"),
        ("GET", "http://panda.example.org/"),
        ("GET", "http://panda.example.org/server/panda/getJob"),
        ("GET", "https://panda.example.org/open/a/b"),
        ("GET", "http://"),
        ("GET", "panda.example.org/open/a/b"),
        ("POST", f"http://panda.example.org/{SECRET}/run%20it"),
    ],
)
def test_anything_else_is_forbidden(bridge: Bridge, method: str, path: str) -> None:
    got = ask(bridge, path, b"", method=method)
    assert got.status == 403
    assert method == "HEAD" or got.body.startswith(b"ERROR : ")


def test_a_forbidden_call_is_worded_as_the_real_server_does(bridge: Bridge) -> None:
    assert call(bridge, "killJobs", {}).body == b"ERROR : method killJobs is forbidden"


@pytest.mark.parametrize("before", ["/open", "http://base.example.org/trf/user", "http://127.0.0.1:25085"])
def test_a_document_is_for_whoever_knows_its_secret(bridge: Bridge, before: str) -> None:
    got = ask(bridge, f"{before}/{SECRET}/run%20it", method="GET", headers={})
    assert (got.status, got.kind, got.body) == (200, "application/octet-stream", b"#!/bin/sh\n")
    assert ask(bridge, f"{before}/wrong/run%20it", method="GET", headers={}).status in {403, 404}
    assert ask(bridge, f"{before}/{SECRET}/other", method="GET", headers={}).status in {403, 404}


def test_the_head_of_a_document_has_its_length_and_no_body(bridge: Bridge) -> None:
    said = raw(bridge, f"HEAD /open/{SECRET}/run%20it HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert b"Content-Length: 10\r\n" in said
    assert said.endswith(b"\r\n\r\n")


def test_a_missing_argument_is_an_error_of_the_real_servers_words(bridge: Bridge) -> None:
    got = call(bridge, "updateJob", {"jobId": "34"})
    assert (got.status, got.body) == (500, b"updateJob() missing 1 required positional argument: 'state'")
    assert call(bridge, "getJob", {}).status == 500


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Content-Length: 99999999999\r\n", b"413"),
        ("Content-Length: " + "9" * 5000 + "\r\n", b"413"),
        ("Content-Length: -1\r\n", b"411"),
        ("Content-Length: ten\r\n", b"411"),
        ("Transfer-Encoding: chunked\r\n", b"411"),
        ("X: " + "x" * 70_000 + "\r\n", b"431"),
        ("X: y\r\n" * 200, b"431"),
    ],
)
def test_a_body_without_bounds_is_not_read(bridge: Bridge, headers: str, status: bytes) -> None:
    head = f"POST /server/panda/updateJob HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\n{headers}\r\n"
    assert raw(bridge, head.encode()).split(b" ")[1] == status


def test_a_bomb_is_refused(bridge: Bridge, desk: Notes) -> None:
    bomb = gzip.compress(b" " * (65 * 1024 * 1024))
    assert call(bridge, "updateJob", bomb).status == 500
    assert desk.updates == []


def test_one_who_is_slow_is_cut_off(monkeypatch: pytest.MonkeyPatch, bridge: Bridge, desk: Notes) -> None:
    monkeypatch.setattr(module, "READ_S", 0.5)
    with socket.create_connection(("127.0.0.1", bridge.port), timeout=20) as connection:
        connection.sendall(b"POST /server/panda/isAlive HTTP/1.1\r\n")
        began = time.monotonic()
        while time.monotonic() - began < 10:
            try:
                connection.sendall(b"X: y\r\n")
                connection.settimeout(0.1)
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - began < 5
    assert desk.updates == []


def test_there_are_never_more_connections_than_allowed(bridge: Bridge, desk: Notes) -> None:
    desk.may_answer.clear()
    asking = [threading.Thread(target=call, args=(bridge, "updateJob", RUNNING)) for _ in range(4)]
    for thread in asking:
        thread.start()
    end = time.monotonic() + 20
    while len(desk.updates) < 4:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert b" 503 " in raw(bridge, b"")
    desk.may_answer.set()
    for thread in asking:
        thread.join(20)
    # a place is free once its thread has gone
    while b" 503 " in raw(bridge, b"GET /server/panda/isAlive HTTP/1.1\r\n\r\n"):
        assert time.monotonic() < end


def test_close_cuts_off_whoever_is_still_there(desk: Notes) -> None:
    bridge = Bridge(desk)
    bridge.start()
    with socket.create_connection(("127.0.0.1", bridge.port), timeout=20) as idle:
        assert ask(bridge, "/server/panda/isAlive", method="GET", headers={}).status == 200
        bridge.close()
        assert idle.recv(1) == b""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", bridge.port), timeout=5)


def test_one_that_was_never_started_closes_too(desk: Notes) -> None:
    bridge = Bridge(desk)
    bridge.close()
    bridge.close()


def test_no_secret_is_logged(
    bridge: Bridge, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    call(bridge, "getJob", {"siteName": "Q"})
    call(bridge, "getJob", {"siteName": "Q"}, headers={**FORM, "Authorization": "Bearer wrong-token"})
    ask(bridge, f"/open/{SECRET}/run%20it", method="GET")
    ask(bridge, f"/open/{SECRET}/none", method="GET")
    ask(bridge, f"/{SECRET}", method="GET", headers={})
    raw(bridge, f"NONSENSE {SECRET}\r\n\r\n".encode())
    logged = caplog.text
    assert "run it" in logged
    assert not [word for word in (TOKEN, "wrong-token", SECRET) if word in logged]
    assert capfd.readouterr() == ("", "")


def test_a_fault_of_the_desk_ends_one_connection_only(
    bridge: Bridge, desk: Notes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(desk, "job", lambda _visitor: {}["nothing"])
        with pytest.raises(OSError, match="closed connection"):
            call(bridge, "getJob", {"siteName": "Q"})
    assert "the bridge failed" in caplog.text
    assert call(bridge, "getJob", {"siteName": "Q"}).status == 200


def curl(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = ["curl", "-q", "-sS", "--compressed", "--max-time", "20", *words]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True, env=env)


def test_a_pilot_speaks_through_curl(bridge: Bridge, desk: Notes, tmp_path: Path) -> None:
    """As pilot3 3.7 does: each argument a line of a file, a body so long that curl asks for leave to send it."""
    # curl takes no line beyond 100 KiB
    long = {f"more{number}": "m" * 90_000 for number in range(20)}
    said = {**RUNNING, "state": "finished", "metaData": "m" * 90_000, "startTime": 1795241268.25, **long}
    config = tmp_path / "curl.config"
    config.write_text("".join(f'data="{urlencode({name: value})}"\n' for name, value in said.items()))
    asks = ("-H", f"Authorization: Bearer {TOKEN}", "-H", "Accept: application/json", "-H", "Origin: vo.role")
    began = time.monotonic()
    ended = curl(tmp_path, *asks, "--config", str(config), f"{bridge.url}/server/panda/updateJob")
    assert json.loads(ended.stdout) == {"StatusCode": 0, "command": "NULL"}
    assert time.monotonic() - began < 5
    assert desk.updates[0].arguments["start_time"] == "2026-11-21 06:07:48"
    assert desk.updates[0].arguments["meta_data"] == "m" * 90_000
    assert len(desk.updates[0].ignored) == 20


def test_a_pilot_fetches_its_transformation_through_the_proxy(bridge: Bridge, tmp_path: Path) -> None:
    url = f"http://base.invalid/trf/user/{SECRET}/run%20it"
    assert curl(tmp_path, "--proxy", bridge.url, url).stdout == "#!/bin/sh\n"


def test_a_pilot_that_cannot_write_its_file_asks_by_the_url(bridge: Bridge, desk: Notes, tmp_path: Path) -> None:
    url = f"{bridge.url}/server/panda/updateJob?{urlencode(RUNNING)}"
    assert curl(tmp_path, "-H", f"Authorization: Bearer {TOKEN}", url).stdout == "StatusCode=0&command=NULL"
    assert desk.updates[0].panda_id == 34
