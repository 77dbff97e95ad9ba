from __future__ import annotations

import pickle
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import BadInputError, CredentialError, SiteEnvironmentError
from pilotwrap.panda.https import HttpsTransport, checked_server, is_loopback
from pilotwrap.panda.transport import MAX_REPLY_BYTES, MaybeTaken, NotSent, Replied, Request

from .conftest import TOKEN
from .scripted_server import ScriptedServer, breaks_off, drips, floods, hangs, ok, resets, says

if TYPE_CHECKING:
    from pathlib import Path

POST = Request("POST", "pilot/update_job", body=b"{}", timeout_s=5)
GET = Request("GET", "pilot/get_job_status", query=(("job_ids", "1"), ("job_ids", "2")), timeout_s=5)


@pytest.fixture
def transport(server: ScriptedServer, credential: Credential) -> HttpsTransport:
    return HttpsTransport(server.url, credential)


def test_a_post_is_exactly_what_the_server_understands(server: ScriptedServer, transport: HttpsTransport) -> None:
    assert isinstance(transport.send(POST), Replied)
    heard = server.heard[0]
    assert (heard.method, heard.path, heard.body) == ("POST", "/api/v1/pilot/update_job", b"{}")
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["accept"] == "application/json"
    assert heard.headers["authorization"] == f"Bearer {TOKEN}"
    assert heard.headers["origin"] == "atlas.production"
    assert "content-encoding" not in heard.headers


def test_a_list_in_a_query_is_repeated(server: ScriptedServer, transport: HttpsTransport) -> None:
    transport.send(GET)
    assert server.heard[0].path == "/api/v1/pilot/get_job_status?job_ids=1&job_ids=2"


def test_the_reply_is_returned_unread(server: ScriptedServer, transport: HttpsTransport) -> None:
    server.script(says(403, "ERROR : no"))
    assert transport.send(POST) == Replied(403, b"ERROR : no", "")


def test_the_token_is_read_at_each_use(
    server: ScriptedServer, transport: HttpsTransport, credential: Credential
) -> None:
    transport.send(POST)
    with open(credential.path, "w") as file:  # noqa: PTH123 - keeps the mode
        file.write("another")
    transport.send(POST)
    assert server.heard[1].headers["authorization"] == "Bearer another"


def test_a_password_of_netrc_does_not_replace_the_token(
    server: ScriptedServer, credential: Credential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    transport = HttpsTransport(server.url, credential)
    session = transport._session()
    session.trust_env = True  # as for a server elsewhere
    transport._idle.append(session)
    transport.send(POST)
    assert server.heard[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_redirect_is_not_followed(server: ScriptedServer, transport: HttpsTransport) -> None:
    server.script(says(302, "", Location="https://login.example.org/"))
    assert transport.send(POST) == Replied(302, b"", "https://login.example.org/")
    assert len(server.heard) == 1


def test_nobody_listening_is_surely_not_sent(closed_port: str, credential: Credential) -> None:
    reply = HttpsTransport(closed_port, credential).send(POST)
    assert isinstance(reply, NotSent)
    assert "refused" in reply.detail
    assert "object at 0x" not in reply.detail


def test_an_unknown_name_is_surely_not_sent(credential: Credential, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    reply = HttpsTransport("https://no-such-host.invalid", credential).send(POST)
    assert isinstance(reply, NotSent)


def test_a_dead_proxy_is_surely_not_sent(
    closed_port: str, credential: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", closed_port)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    reply = HttpsTransport("https://panda.invalid", credential).send(POST)
    assert isinstance(reply, NotSent)


def test_loopback_is_reached_without_the_proxy(
    server: ScriptedServer, closed_port: str, credential: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", closed_port)
    monkeypatch.delenv("no_proxy", raising=False)
    assert isinstance(HttpsTransport(server.url, credential).send(POST), Replied)


@pytest.mark.parametrize("act", [resets, breaks_off], ids=["reset", "broken off"])
def test_a_lost_answer_may_have_been_taken(server: ScriptedServer, transport: HttpsTransport, act: object) -> None:
    server.script(act)
    reply = transport.send(POST)
    assert isinstance(reply, MaybeTaken)
    assert reply.detail
    assert len(server.heard) == 1


@pytest.mark.parametrize("act", [hangs, drips], ids=["hangs", "drips"])
def test_a_call_ends_at_its_time(server: ScriptedServer, transport: HttpsTransport, act: object) -> None:
    server.script(act)
    before = time.monotonic()
    reply = transport.send(Request("POST", "pilot/update_job", body=b"{}", timeout_s=0.5))
    assert isinstance(reply, MaybeTaken)
    assert 0.4 < time.monotonic() - before < 10


def test_a_flood_is_cut_off(server: ScriptedServer, transport: HttpsTransport) -> None:
    server.script(floods)
    reply = transport.send(Request("POST", "pilot/update_job", body=b"{}", timeout_s=30))
    assert isinstance(reply, Replied)
    assert MAX_REPLY_BYTES < len(reply.body) < 2 * MAX_REPLY_BYTES


def test_a_connection_is_used_again_and_survives_a_reset(server: ScriptedServer, transport: HttpsTransport) -> None:
    server.script(ok(), resets, ok())
    kinds = [type(transport.send(POST)).__name__ for _ in range(3)]
    assert kinds == ["Replied", "MaybeTaken", "Replied"]


def test_a_hanging_call_does_not_hold_another_thread(server: ScriptedServer, transport: HttpsTransport) -> None:
    release = threading.Event()

    def late(_connection: socket.socket, _closing: threading.Event) -> bool:
        release.wait(30)
        return False

    server.script(late, ok())
    slow = threading.Thread(target=transport.send, args=(Request("GET", "slow", timeout_s=30),))
    slow.start()
    server.arrivals.get(timeout=10)
    assert isinstance(transport.send(POST), Replied)
    assert slow.is_alive()
    release.set()
    slow.join()


@pytest.mark.parametrize("kind", ["token", "x509"])
def test_no_credential_goes_over_plain_http(kind: str, credential: Credential) -> None:
    given = credential.model_copy(update={"kind": kind})
    with pytest.raises(CredentialError, match="plain http") as caught:
        HttpsTransport("http://panda.example.org:25080", given).send(POST)
    assert caught.value.remedy == "give the server's https URL"


def test_nothing_is_sent_with_a_bad_credential(server: ScriptedServer, credential: Credential, tmp_path: Path) -> None:
    (tmp_path / "token").chmod(0o644)
    with pytest.raises(CredentialError, match="chmod 600"):
        HttpsTransport(server.url, credential).send(POST)
    assert server.heard == []


def test_the_token_is_in_no_text(server: ScriptedServer, transport: HttpsTransport, credential: Credential) -> None:
    server.script(says(500, f"crash with Bearer {TOKEN} in it"), resets)
    texts = [repr(transport.send(POST)), repr(transport.send(POST)), repr(transport), repr(credential)]
    assert TOKEN not in "".join(texts)
    assert "[token]" in texts[0]
    assert TOKEN.encode() not in pickle.dumps(transport)


class TestTls:
    @pytest.fixture
    def tls(self, pem: Path) -> ScriptedServer:
        return ScriptedServer([ok()], pem=pem)

    def test_a_certificate_that_is_not_trusted_ends_it(self, tls: ScriptedServer, credential: Credential) -> None:
        with tls:
            reply = HttpsTransport(tls.url, credential).send(POST)
        assert isinstance(reply, NotSent)
        assert reply.lasting
        assert "certificate is not trusted" in reply.detail
        assert tls.heard == []

    def test_a_ca_path_is_trusted(self, tls: ScriptedServer, credential: Credential, pem: Path) -> None:
        with tls:
            assert isinstance(HttpsTransport(tls.url, credential, ca_path=str(pem)).send(POST), Replied)

    def test_an_x509_proxy_is_shown_and_no_token(self, tls: ScriptedServer, pem: Path, tmp_path: Path) -> None:
        proxy = tmp_path / "x509up"
        proxy.touch(mode=0o600)
        proxy.write_bytes(pem.read_bytes())
        with tls:
            shown = Credential(kind="x509", path=str(proxy))
            assert isinstance(HttpsTransport(tls.url, shown, ca_path=str(pem)).send(POST), Replied)
        assert tls.peers[0]["subject"] == ((("commonName", "pilotwrap test"),),)
        assert "authorization" not in tls.heard[0].headers

    def test_a_missing_ca_path_says_so(self, tls: ScriptedServer, credential: Credential, tmp_path: Path) -> None:
        with tls, pytest.raises(SiteEnvironmentError, match="check the CA path"):
            HttpsTransport(tls.url, credential, ca_path=str(tmp_path / "none")).send(POST)


@pytest.mark.parametrize(
    "server",
    [
        "",
        "panda.example.org",
        "ftp://panda.example.org",
        "https://",
        "https://me:pw@panda.example.org",
        "https://panda.example.org/?x=1",
        "https://panda.example.org:99999",
        "https://panda.example.org/\nHost: evil",
        "https://[::1",
    ],
)
def test_what_is_no_server_is_bad_input(server: str) -> None:
    with pytest.raises(BadInputError, match="is no URL of a PanDA server"):
        checked_server(server)


def test_a_slash_at_the_end_is_dropped() -> None:
    assert checked_server("https://panda.example.org:25443/") == "https://panda.example.org:25443"


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("127.0.0.1.evil.org", False)],
)
def test_loopback_is_this_machine_only(host: str, here: bool) -> None:  # noqa: FBT001
    assert is_loopback(host) is here
