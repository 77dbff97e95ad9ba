from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.lab.queuedata import Queue, queuedata_text, schedconfig_text
from pilotwrap.model.errors import BadInputError, PandaQueueError, PilotwrapError, ServerError
from pilotwrap.panda.queuedata import (
    QueueData,
    fetch_queuedata,
    leaves_outputs_behind,
    needs_credential,
    note,
    queuedata_url,
    read_queuedata,
    refusal,
)

from .scripted_server import ScriptedServer, drips, floods, hangs, says

GOOD: dict[str, Any] = {
    "nickname": "Q",
    "state": "ACTIVE",
    "status": "online",
    "copytools": {"mv": {"setup": ""}},
    "acopytools": {"default": ["mv"]},
    "catchall": "mv_final_destination",
    "maxwdir": 14336,
    "maxrss": "2000",
    "maxtime": 0,
    "timefloor": 60,
}


def file_of(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "queue.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def queue(tmp_path: Path, **more: object) -> QueueData:
    return read_queuedata(file_of(tmp_path, {**GOOD, **more}), "Q")


@pytest.mark.parametrize("content", [GOOD, {"Q": GOOD}, {"P": {"state": "DISABLED"}, "Q": GOOD}])
def test_both_shapes_give_the_same_queue(tmp_path: Path, content: object) -> None:
    found = read_queuedata(file_of(tmp_path, content), "Q")
    assert found == queue(tmp_path)
    assert (found.maxwdir_mib, found.maxrss_mib, found.maxtime_s, found.timefloor_s) == (14336, 2000, None, 3600)
    assert refusal(found) is None


def test_a_pilot_gets_the_text_in_the_shape_that_it_reads(tmp_path: Path) -> None:
    found = queue(tmp_path, own_key=[1, "ж"])
    assert json.loads(found.queuedata()) == {**GOOD, "own_key": [1, "ж"]}
    assert json.loads(found.schedconf()) == {"Q": {**GOOD, "own_key": [1, "ж"]}}
    assert read_queuedata(file_of(tmp_path, found.schedconf()), "Q") == found


def test_the_labs_queue_is_one_that_a_pilot_takes(tmp_path: Path) -> None:
    for text in (queuedata_text(Queue("Q")), schedconfig_text(Queue("Q"))):
        found = read_queuedata(file_of(tmp_path, text), "Q")
        assert (found.reads, found.writes) == (("mv",), ("mv",))
        assert refusal(found) is None
        assert not needs_credential(found)
        assert not leaves_outputs_behind(found)


@pytest.mark.parametrize("state", ["DISABLED", "active", "", None])
def test_a_queue_in_any_other_state_is_refused(tmp_path: Path, state: str | None) -> None:
    error = refusal(queue(tmp_path, state=state))
    assert error is not None
    assert (error.reason, error.exit_code) == ("panda-queue", 3)
    assert repr(state or "") in str(error)


@pytest.mark.parametrize(
    ("status", "refused", "noted"),
    [
        ("online", False, ""),
        ("offline", True, ""),
        ("OFFLINE", True, ""),
        ("test", False, "only test jobs"),
        ("brokeroff", False, "no new jobs"),
        (None, False, ""),
    ],
)
def test_only_an_offline_queue_is_refused(tmp_path: Path, status: str | None, *, refused: bool, noted: str) -> None:
    found = queue(tmp_path, status=status)
    assert (refusal(found) is not None) == refused
    assert noted in note(found)
    assert bool(noted) == bool(note(found))


@pytest.mark.parametrize(
    ("said", "reads", "writes", "needs"),
    [
        (({"mv": {}}, {}), ["mv"], ["mv"], False),
        (({}, {}), ["rucio"], ["rucio"], True),
        ((None, None), ["rucio"], ["rucio"], True),
        (({"mv": {}}, {"pr": ["mv"], "pw": ["mv"]}), ["mv", "rucio"], ["mv", "rucio"], True),
        (({"mv": {}}, {"default": "lsm", "read_lan": ["mv"]}), ["lsm", "mv"], ["lsm"], False),
        (("{'mv': {}}", "{'default': ['mv', 'gfal']}"), ["mv", "gfal"], ["mv", "gfal"], True),
        (({"mv": {}}, "no Python {"), ["mv"], ["mv"], False),
        (({"mv": {}}, {"write_lan_analysis": ["xrdcp"], "default": ["mv"]}), ["mv"], ["mv", "xrdcp"], True),
    ],
)
def test_copytools_are_those_that_some_pilot_would_choose(
    tmp_path: Path, said: tuple[object, object], reads: list[str], writes: list[str], *, needs: bool
) -> None:
    found = queue(tmp_path, copytools=said[0], acopytools=said[1])
    assert (list(found.reads), list(found.writes)) == (reads, writes)
    assert needs_credential(found) == needs


def test_mv_leaves_outputs_behind_unless_it_may_go_on(tmp_path: Path) -> None:
    assert leaves_outputs_behind(queue(tmp_path, catchall=""))
    assert not leaves_outputs_behind(queue(tmp_path, catchall="a=b,mv_final_destination"))
    assert not leaves_outputs_behind(queue(tmp_path, catchall="", acopytools={"default": ["lsm"]}))


@pytest.mark.parametrize("value", [0, -1, "", "many", None, [], {}, float("inf"), float("nan"), 1e400, "0.5"])
def test_what_is_no_limit_limits_nothing(tmp_path: Path, value: object) -> None:
    assert queue(tmp_path, maxwdir=value).maxwdir_mib is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "is empty"),
        ({"P": GOOD}, "has P"),
        ({**GOOD, "nickname": "P"}, "is of P"),
        ({"error": "no such queue"}, "no such queue"),
    ],
)
def test_a_queue_that_is_not_in_it_is_unknown(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(PandaQueueError, match=said):
        read_queuedata(file_of(tmp_path, content), "Q")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        (" <html>", "a web page"),
        ({"colour": "blue"}, "neither state, status nor nickname"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_file_that_is_no_queue_data_is_bad_input(tmp_path: Path, content: object, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        read_queuedata(file_of(tmp_path, content), "Q")
    with pytest.raises(BadInputError, match="No such file"):
        read_queuedata(tmp_path / "absent", "Q")
    with pytest.raises(BadInputError, match="directory"):
        read_queuedata(tmp_path, "Q")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ALMOST = st.fixed_dictionaries({}, optional=dict.fromkeys(GOOD, JSON)).map(lambda found: {**GOOD, **found})


@given(
    st.one_of(st.binary(), JSON.map(lambda value: json.dumps(value).encode()), ALMOST.map(json.dumps).map(str.encode))
)
def test_any_bytes_end_in_a_queue_or_in_our_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    try:
        found = read_queuedata(path, "Q")
    except PilotwrapError:
        return
    assert QueueData.model_validate_json(found.to_json()) == found
    assert found.reads
    assert found.writes


# ---- over HTTP


def fetched(url: str, within_s: float = 20.0) -> QueueData:
    return fetch_queuedata(url, "Q", time.monotonic() + within_s)


def test_a_queue_is_fetched_with_its_name_in_the_url_and_no_credential(server: ScriptedServer) -> None:
    server.script(says(200, GOOD))
    assert fetched(f"{server.url}/cache/{{pandaqueue}}.json?x=1").name == "Q"
    heard = server.heard[-1]
    assert (heard.method, heard.path) == ("GET", "/cache/Q.json?x=1")
    assert not {"authorization", "origin", "cookie"}.intersection(heard.headers)


def test_http_404_is_an_unknown_queue(server: ScriptedServer) -> None:
    server.script(says(404, "<html>not here"))
    with pytest.raises(PandaQueueError, match=r"Q is unknown.*HTTP 404"):
        fetched(server.url)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (says(500, GOOD), "HTTP 500"),
        (says(403, GOOD), "HTTP 403"),
        (says(200, "<html>log in"), "a web page"),
        (says(200, "oops"), "not JSON"),
        (says(302, "", Location="/again"), "redirects"),
    ],
)
def test_what_a_server_says_instead_is_its_fault(server: ScriptedServer, act: object, said: str) -> None:
    server.script(act)
    with pytest.raises(ServerError, match=said):
        fetched(server.url)


@pytest.mark.parametrize("act", [hangs, drips, floods], ids=["hangs", "drips", "floods"])
def test_a_server_that_never_ends_is_given_up(server: ScriptedServer, act: object) -> None:
    server.script(act)
    since = time.monotonic()
    with pytest.raises(ServerError):
        fetched(server.url, 1.0)
    assert time.monotonic() - since < 15


def test_nobody_there_is_a_line_without_the_secrets_of_a_url(closed_port: str) -> None:
    with pytest.raises(ServerError) as caught:
        fetched(f"{closed_port.replace('//', '//user:hush@')}/q?token=hush")
    assert "hush" not in str(caught.value)
    assert "refused" in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://x/y", "http://", "http://[::1", "://", "http://127.0.0.1:99999/"])
def test_what_is_no_url_is_bad_input(url: str) -> None:
    with pytest.raises(BadInputError):
        fetched(url, 1.0)


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("https://panda.example.org:25443", "http://panda.example.org:25085/cache/schedconfig/Q%2F1.all.json"),
        ("http://panda.example.org:25080/", "http://panda.example.org:25085/cache/schedconfig/Q%2F1.all.json"),
        ("https://panda.example.org", "http://panda.example.org:25085/cache/schedconfig/Q%2F1.all.json"),
        ("https://[2001:db8::1]:25443", "http://[2001:db8::1]:25085/cache/schedconfig/Q%2F1.all.json"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/cache/schedconfig/Q%2F1.all.json"),
    ],
)
def test_the_cache_is_on_its_own_port_unless_the_server_is(server: str, url: str) -> None:
    assert queuedata_url(server, "Q/1") == url
