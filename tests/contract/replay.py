"""Replays the recorded exchanges against the lab, in order, and says where its replies differ."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from pilotwrap.lab.daemon import settle
from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.store import Store
from pilotwrap.lab.tokens import Grant, make_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilotwrap.lab.api import Api

HERE = Path(__file__).parent
QUEUE = "TEST_QUEUE"
UNKNOWN_ID = 99999999
VOLATILE = {"creation_date"}
JSON_HEADERS = {"Accept": "application/json", "Content-Type": "application/json"}
LEGACY = "/server/panda/"
RECORDINGS: dict[str, Api] = {"exchanges.jsonl": "current", "exchanges-0.8.1.jsonl": "both"}
"""What was recorded on which server: one has dropped the legacy calls, the other has both APIs."""

ROBOT_HEADERS = {**JSON_HEADERS, "Authorization": "Bearer TOKEN", "Origin": "atlas.production"}


@dataclass(frozen=True)
class Exchange:
    n: int
    scenario: str
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    status: int
    reply: Any
    kind: str

    @property
    def is_legacy(self) -> bool:
        return self.path.startswith(LEGACY)

    @property
    def acquired(self) -> list[dict[str, Any]]:
        """The jobs that the recorded reply gave out."""
        if self.is_legacy:
            fields = _decoded(self.reply) if isinstance(self.reply, str) else self.reply
            return [each for each in fields.get("jobs", [fields]) if "jobName" in each]
        data = self.reply.get("data") if isinstance(self.reply, dict) else None
        return data.get("jobs", []) if isinstance(data, dict) else []

    @property
    def mentioned(self) -> set[int]:
        """The jobs that the request is about."""
        found = {int(each) for each in re.findall(r"job_ids=(\d+)", self.path)}
        if isinstance(self.body, dict) and not self.is_legacy:
            entries = [self.body, *(e for e in self.body.get("job_list", []) if isinstance(e, dict))]
            found |= {e["job_id"] for e in entries if type(e.get("job_id")) is int}
            found |= set(self.body.get("job_ids", []))
        return found - {UNKNOWN_ID}


def exchanges() -> list[Exchange]:
    return [exchange for name in RECORDINGS for exchange in _recorded(name)]


def _recorded(name: str) -> list[Exchange]:
    return [_exchange(json.loads(line)) for line in (HERE / name).read_text().splitlines()]


def _exchange(entry: dict[str, Any]) -> Exchange:
    headers = entry.get("headers", JSON_HEADERS)
    names = ("n", "scenario", "method", "path", "status", "reply")
    return Exchange(
        headers=ROBOT_HEADERS if headers == "production" else headers,
        body=entry.get("body"),
        kind=entry.get("kind", "text/plain"),
        **{name: entry[name] for name in names},
    )


@dataclass
class Replay:
    """Keeps the lab in the state that each scenario supposes."""

    store: Store
    url: str
    everything: list[Exchange]
    seeded: set[int] = field(default_factory=set)
    tokens: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        now = time.time()
        robot = Grant("Prod Pilot", "atlas", ("production", "pilot"))
        self.tokens = {
            "robot": make_token(self.store, robot, now),
            "user": make_token(self.store, Grant("Some User", "atlas"), now),
            "expired": make_token(self.store, Grant("Prod Pilot", "atlas", ("production",), -60.0), now),
            "bad": "nonsense",
        }

    def differences(self) -> Iterator[tuple[Exchange, list[str]]]:
        for exchange in self.everything:
            self._prepare(exchange)
            status, text, kind = self._send(exchange)
            yield exchange, _compared(exchange, status, text, kind)

    def _prepare(self, exchange: Exchange) -> None:
        if "after the Adder" in exchange.scenario:
            settle(self.store)
        wanted = exchange.acquired
        if "job waits" in exchange.scenario:
            label = exchange.body["prod_source_label"]
            later = (each for each in self.everything if each.n > exchange.n and each.acquired)
            wanted = next(each.acquired for each in later if each.body.get("prod_source_label") == label)
        for job in wanted:
            if job["PandaID"] not in self.seeded:
                self._seed(job)
        given_out = {job["PandaID"] for each in self.everything for job in each.acquired}
        for panda_id in exchange.mentioned - self.seeded - given_out:
            self._seed({"transformation": "true", "PandaID": panda_id})
            self.store.write("UPDATE jobs SET state = 'running' WHERE panda_id = ?", panda_id)

    def _seed(self, job: dict[str, Any]) -> None:
        self.seeded.add(job["PandaID"])
        put_jobs(self.store, [panda_job(job, "recorded")], QUEUE)

    def _token(self, scenario: str) -> str:
        kinds = {"bad token": "bad", "expired token": "expired", "user token": "user"}
        return self.tokens[next((kind for words, kind in kinds.items() if words in scenario), "robot")]

    def _send(self, exchange: Exchange) -> tuple[int, str, str]:
        headers = dict(exchange.headers)
        if "Authorization" in headers:
            headers["Authorization"] = f"Bearer {self._token(exchange.scenario)}"
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.request(exchange.method, exchange.path, body=_sent_body(exchange), headers=headers)
            response = connection.getresponse()
            kind = (response.getheader("Content-Type") or "").partition(";")[0]
            return response.status, response.read().decode(), kind
        finally:
            connection.close()


def _decoded(text: str) -> dict[str, Any]:
    """Read url-encoded fields as the types that they had: the server's integers, and its nulls."""
    return {
        name: None if value == "None" else int(value) if value.isdecimal() else value
        for name, value in parse_qsl(text, keep_blank_values=True)
    }


def _sent_body(exchange: Exchange) -> bytes | None:
    body = exchange.body
    if body is None or isinstance(body, str):
        return None if body is None else body.encode()
    if "x-www-form-urlencoded" in exchange.headers.get("Content-Type", ""):
        return urlencode(body).encode()
    text = json.dumps(body).encode()
    return gzip.compress(text) if exchange.is_legacy or "gzip body" in exchange.scenario else text


def _compared(exchange: Exchange, status: int, text: str, kind: str) -> list[str]:
    found = [] if status == exchange.status else [f"HTTP status {status}, not {exchange.status}"]
    if kind != exchange.kind:
        found.append(f"Content-Type {kind}")
    if exchange.is_legacy and exchange.kind == "text/plain" and "=" in exchange.reply:
        return found + list(_paths(_fields(exchange.reply), _fields(text), ""))
    if isinstance(exchange.reply, str):
        return found + ([] if _parser_free(text) == _parser_free(exchange.reply) else [f"text {text!r:.120}"])
    try:
        reply = json.loads(text)
    except ValueError:
        return [*found, f"not JSON: {text!r:.120}"]
    return found + list(_paths(exchange.reply, reply, ""))


def _fields(text: str) -> dict[str, str]:
    """The url-encoded fields, for their order says nothing."""
    return dict(parse_qsl(text, keep_blank_values=True, strict_parsing=True))


def _parser_free(text: str) -> str:
    """Without what this Python's JSON parser says, which differs by version."""
    return re.sub(r"(received invalid JSON : ).*", r"\1", text)


def _paths(wanted: object, got: object, path: str) -> Iterator[str]:
    if isinstance(wanted, dict) and isinstance(got, dict):
        for name in sorted(wanted.keys() | got.keys()):
            if name not in VOLATILE:
                yield from _paths(wanted.get(name, "absent"), got.get(name, "absent"), f"{path}.{name}".lstrip("."))
    elif isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        for index, (each, other) in enumerate(zip(wanted, got, strict=True)):
            yield from _paths(each, other, f"{path}[{index}]")
    elif type(wanted) is not type(got) or wanted != got:
        yield f"{path} {got!r:.80}, not {wanted!r:.80}"


def replayed(folder: Path) -> list[tuple[Exchange, list[str]]]:
    """Replay each recording against a fresh lab in this folder that serves what that server did."""
    return [each for name in RECORDINGS for each in _replayed(folder, name)]


def _replayed(folder: Path, name: str) -> list[tuple[Exchange, list[str]]]:
    db = folder / f"{name}.sqlite"
    with LabProcess(db, ["--adder-period", "0", "--panda-queue", QUEUE], RECORDINGS[name]) as lab:
        store = Store(db)
        try:
            return list(Replay(store, lab.address.url, _recorded(name)).differences())
        finally:
            store.close()


def listed() -> dict[int, dict[str, str]]:
    """The differences that are argued, by exchange."""
    return {entry["n"]: entry for entry in json.loads((HERE / "differences.json").read_text())}
