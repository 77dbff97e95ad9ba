from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from panda.proxies import made_proxy

from pilotwrap.model.errors import CredentialError, PandaQueueError, PilotError
from pilotwrap.model.node import Accelerator, Allocation, Cpus, Launcher, Memory, Network, NodeFacts
from pilotwrap.model.readiness import Check
from pilotwrap.panda.queuedata import QueueData
from pilotwrap.plan.pilotflags import FoundPython
from pilotwrap.run import readiness as judge
from pilotwrap.run.enquiry import Enquiry, ask, copytools_check, credential_checks
from pilotwrap.run.readiness import Place, Who
from pilotwrap.site.machines.listing import machine_named

if TYPE_CHECKING:
    from pilotwrap.run.readiness import Agent

QUEUE = QueueData(
    name="Q", state="ACTIVE", status="online", reads=("mv",), writes=("mv",), catchall="mv_final_destination"
)
OLD, NEW = (3, 7, 0, 36), (3, 11, 5, 1)


def said(check: Check) -> tuple[bool | None, str]:
    """What a check comes to; a failure has a reason and says what to do."""
    if check.ok is False:
        assert check.remedy
    assert check.detail
    return check.ok, check.reason


OK, OPEN = (True, "ok"), (None, "ok")


# ---- what the pilot needs


@pytest.mark.parametrize(
    ("pilot", "pythons", "wanted"),
    [
        (OLD, ["3.12.1"], OK),
        (OLD, ["3.13.0"], (False, "pilot")),
        (OLD, ["3.13.0", "3.11.2"], OK),
        (NEW, ["3.13.0"], OK),
        (NEW, ["3.6.15"], (False, "pilot")),
        (OLD, [], (False, "pilot")),
        (None, ["3.11.2"], OPEN),
    ],
)
def test_a_python_that_the_pilot_does_not_run_with_is_none(
    pilot: tuple[int, ...] | None, pythons: list[str], wanted: object
) -> None:
    found = [FoundPython(path=f"/{text}", version=tuple(map(int, text.split(".")))) for text in pythons]
    assert said(judge.python_check(pilot, found)) == wanted


@pytest.mark.parametrize(
    ("pilot", "path", "wanted"),
    [
        (OLD, "/usr/bin/curl", OK),
        (OLD, None, (False, "environment")),
        (NEW, None, OK),
        (None, None, (False, "environment")),
    ],
)
def test_only_an_old_pilot_cannot_do_without_curl(
    pilot: tuple[int, ...] | None, path: str | None, wanted: object
) -> None:
    assert said(judge.curl_check(pilot, path)) == wanted


# ---- the node


def node(**more: Any) -> NodeFacts:  # noqa: ANN401
    plain: dict[str, Any] = {
        "host": "n1",
        "machine": None,
        "vantage": "head",
        "accelerators": (),
        "allocation": allocation(),
        "launcher": Launcher(command="local"),
        "cpus": Cpus(granted="0-1", cores=("0", "1")),
        "memory": Memory(total_mib=8192, limit_mib=None, available_mib=4096),
        "runtimes": (),
        "network": Network(),
        "problems": (),
    }
    return NodeFacts(**{**plain, **more})


def allocation(time_left_s: float | None = None) -> Allocation:
    return Allocation(
        scheduler="slurm",
        job_id="1",
        nodes=("n1",),
        node_count=1,
        inside_step=False,
        time_left_s=time_left_s,
        kill_grace_s=30.0,
    )


def device(health: str, reason: str | None) -> Accelerator:
    return Accelerator.model_validate(
        {
            "vendor": "nvidia",
            "model": "H200",
            "uuid": None,
            "pci_address": "0000:01:00.0",
            "kind": "gpu",
            "memory_mib": None,
            "driver": None,
            "health": health,
            "reason": reason,
        }
    )


def test_a_node_is_judged_as_the_survey_judges_it() -> None:
    assert said(judge.node_check(node())) == OK
    assert said(judge.node_check(node(accelerators=(device("ok", None),)))) == OK
    assert said(judge.node_check(node(accelerators=(device("unusable", "masked"),)))) == OK
    assert said(judge.node_check(node(accelerators=(device("unusable", "lost"),)))) == (False, "node-unusable")
    assert said(judge.node_check(node(cpus=Cpus(granted="", cores=())))) == (False, "node-unusable")


@pytest.mark.parametrize(
    ("agent", "place", "wanted"),
    [
        ("pilot3", Place("/d", 2049, 10, writable=True), OK),
        ("pilot3", Place("/d", 2048, 10, writable=True), (False, "environment")),
        ("direct", Place("/d", 2048, 10, writable=True), OK),
        ("direct", Place("/d", 0, 10, writable=True), (False, "environment")),
        ("direct", Place("/d", 5000, 0, writable=True), (False, "environment")),
        ("direct", Place("/d", 5000, 10, writable=False), (False, "environment")),
    ],
)
def test_a_disk_is_too_small_where_a_pilot_says_so(agent: Agent, place: Place, wanted: object) -> None:
    assert said(judge.disk_check(agent, place)) == wanted


def test_what_the_queue_allows_and_the_node_has_not_is_told_and_no_failure() -> None:
    large = QUEUE.model_copy(update={"maxwdir_mib": 10_000, "maxrss_mib": 16_000, "maxtime_s": 60})
    disk = judge.disk_check("pilot3", Place("/d", 5000, 10, writable=True), large)
    memory = judge.memory_check(node().memory, large)
    span = judge.time_check("pilot3", allocation(3600.0), large)
    assert [said(one) for one in (disk, memory, span)] == [OK] * 3
    assert ["10000" in disk.detail, "16000" in memory.detail, "60 s" in span.detail] == [True] * 3
    assert "10000" not in judge.disk_check("pilot3", Place("/d", 50_000, 10, writable=True), large).detail


def test_no_memory_at_all_is_the_nodes_fault() -> None:
    assert said(judge.memory_check(Memory(total_mib=8192, limit_mib=63, available_mib=1))) == (False, "node-unusable")
    assert said(judge.memory_check(Memory(total_mib=8192, limit_mib=64, available_mib=1))) == OK


@pytest.mark.parametrize(
    ("agent", "left_s", "wanted"),
    [
        ("direct", None, OK),
        ("pilot3", None, OK),
        ("direct", 11.0, (False, "allocation")),
        ("direct", 41.0, OK),
        ("pilot3", 41.0, (False, "allocation")),
        ("pilot3", 43.0, OK),
    ],
)
def test_time_is_too_short_when_nothing_could_be_told(agent: Agent, left_s: float | None, wanted: object) -> None:
    # 10 s of grace and 2 s to tell are kept; a pilot wants 30 s more
    assert said(judge.time_check(agent, allocation(left_s))) == wanted


@pytest.mark.parametrize(
    ("agent", "who", "wanted"),
    [
        ("pilot3", Who(1000), OK),
        ("pilot3", Who(1000, "nobody", 65534), (False, "bad-input")),
        ("direct", Who(0), OK),
        ("pilot3", Who(0, "nobody", 65534), OK),
        ("pilot3", Who(0, "noboddy", None), (False, "bad-input")),
        ("pilot3", Who(0, "root", 0), (False, "bad-input")),
        ("direct", Who(0, "root", 0), OK),
    ],
)
def test_a_pilot_is_never_run_as_root(agent: Agent, who: Who, wanted: object) -> None:
    assert said(judge.user_check(agent, who)) == wanted


@pytest.mark.parametrize(
    ("outbound", "proxy", "wanted"),
    [
        ("proxy", None, OPEN),
        ("none", None, OPEN),
        ("proxy", "http://p:3128", OK),
        ("none", "http://p:3128", OK),
        ("direct", None, OK),
        ("unknown", None, OK),
        (None, None, OK),
    ],
)
def test_a_way_out_that_the_machine_s_file_knows_is_looked_for(
    outbound: str | None, proxy: str | None, wanted: object
) -> None:
    aurora = machine_named("aurora")
    machine = aurora.model_copy(update={"network": aurora.network.model_copy(update={"outbound": outbound})})
    network = Network(http_proxy=proxy, https_proxy=None, no_proxy=None)
    check = judge.network_check(network, machine if outbound else None)
    assert said(check) == wanted
    assert (check.ok is None) == ("aurora" in check.detail and bool(check.remedy))


def test_isolation_never_stops_a_run() -> None:
    assert said(judge.isolation_check("pilot3", works=True)) == OK
    refused = judge.isolation_check("pilot3", works=False, said="unshare failed: Operation not permitted")
    assert said(refused) == OK
    assert "Operation not permitted" in refused.detail
    assert said(judge.isolation_check("direct", works=None)) == OPEN


def test_how_files_travel_is_told_with_what_nobody_can_check() -> None:
    assert said(copytools_check(QUEUE)) == OK
    assert said(copytools_check(QUEUE.model_copy(update={"reads": ("rucio",)}))) == OPEN
    assert said(copytools_check(QUEUE.model_copy(update={"catchall": ""}))) == OPEN


# ---- the verdict


def test_the_first_failure_is_the_error_that_a_run_ends_with() -> None:
    fine, open_ = judge.passed("a", "fine"), judge.unchecked("b", "who knows")
    queue = judge.failed("queue", PandaQueueError("the queue Q is offline", why="so", remedy="ask"))
    pilot = judge.failed("pilot", PilotError("there is none", remedy="give one"))
    assert judge.refusal_of([fine, open_]) is None
    error = judge.refusal_of([fine, open_, queue, pilot])
    assert isinstance(error, PandaQueueError)
    assert str(error) == "the queue Q is offline: so; ask"
    assert isinstance(judge.refusal_of([pilot, queue]), PilotError)


def test_it_is_safe_when_nothing_failed_and_the_worst_failure_gives_the_exit_code() -> None:
    fine, open_ = judge.passed("a", "fine"), judge.unchecked("b", "who knows")
    server = Check(name="server", ok=False, detail="hangs", reason="server")
    token = judge.failed("credential", CredentialError("expired"))
    assert (judge.readiness([fine, open_]).safe, judge.readiness([fine, open_]).exit_code) == (True, 0)
    assert (judge.readiness([fine, server]).safe, judge.readiness([fine, server]).exit_code) == (False, 4)
    assert judge.readiness([server, token]).exit_code == 3


# ---- credentials


def token(tmp_path: Path, text: str = "opaque-token-0123456789", mode: int = 0o600) -> str:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def judged(credential: str | None, origin: str | None = "atlas.production", left_s: float | None = None) -> Any:  # noqa: ANN401
    found, checks = credential_checks(Enquiry(credential=credential, origin=origin), time.time(), left_s)
    assert [check.name for check in checks] == ["credential", "origin"]
    assert (found is None) == any(check.ok is not True for check in checks)
    return checks


def test_a_token_is_judged_apart_from_its_origin(tmp_path: Path) -> None:
    path = token(tmp_path)
    assert [said(check) for check in judged(path)] == [OK, OK]
    assert [said(check) for check in judged(path, None)] == [OK, (False, "credential")]
    assert [said(check) for check in judged(None)] == [OPEN, OPEN]
    assert [said(check) for check in judged(str(tmp_path / "absent"))] == [(False, "credential"), OPEN]
    assert [said(check) for check in judged(token(tmp_path, mode=0o644))] == [(False, "credential"), OPEN]


def test_a_proxy_is_judged_by_its_certificates(tmp_path: Path) -> None:
    now = time.time()
    good = made_proxy(tmp_path / "good", now - 60, now + 3600)
    assert [said(check) for check in judged(str(good), None)] == [OK, OK]
    assert "renew" not in judged(str(good), None, 60.0)[0].detail
    assert "renew" in judged(str(good), None, 7200.0)[0].detail
    late = judged(str(made_proxy(tmp_path / "late", now - 7200, now - 3600)), None)
    early = judged(str(made_proxy(tmp_path / "early", now + 3600, now + 7200)), None)
    assert [said(late[0]), said(early[0])] == [(False, "credential")] * 2
    assert "expired at 20" in late[0].detail
    assert "clock" in early[0].remedy


def test_without_a_server_nothing_is_asked(tmp_path: Path) -> None:
    answers = ask(Enquiry(agent="pilot3", credential=token(tmp_path), origin="atlas.production"), Network())
    assert {check.name: said(check) for check in answers.checks} == {
        "credential": OK,
        "origin": OK,
        "server": OPEN,
        "role": OPEN,
        "queue": OPEN,
    }
    assert answers.queue is None
