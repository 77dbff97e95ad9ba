"""`doctor` against the real lab: each thing that would stop a run, by its reason, and what to do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from panda.proxies import made_proxy
from panda.scripted_server import ScriptedServer, hangs, says
from run.rig import Ended

from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.queuedata import Queue, queuedata_text
from pilotwrap.lab.queues import tell_status
from pilotwrap.lab.store import Store
from pilotwrap.lab.tokens import Grant, make_token, write_token

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKS = [
    "node",
    "user",
    "memory",
    "disk",
    "time",
    "isolation",
    "network",
    "credential",
    "origin",
    "server",
    "role",
    "queue",
]
OF_A_PILOT = ["node", "pilot", "python", "curl", *CHECKS[1:], "copytools"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabProcess]:
    with LabProcess(tmp_path_factory.mktemp("lab") / "lab.sqlite", api="both") as process:
        yield process


@pytest.fixture
def pilot(tmp_path: Path) -> Path:
    """A pilot as far as anybody looks who does not run it."""
    folder = tmp_path / "pilot3"
    folder.mkdir()
    (folder / "pilot.py").touch()
    (folder / "PILOTVERSION").write_text("3.7.0.36\n")
    return folder


def words(lab: LabProcess, **more: str | None) -> list[str]:
    """The words of a run that would go well, with some of them replaced, or left out (None)."""
    said = {
        "server": lab.address.url,
        "panda_queue": lab.address.panda_queue,
        "credential": str(lab.address.token_path),
        "origin": lab.address.origin,
    }
    given = {**said, **more}
    return [word for name, value in given.items() if value for word in (f"--{name.replace('_', '-')}", value)]


def doctor(*given: str, cwd: Path, **environment: str) -> Ended:
    argv = [sys.executable, "-m", "pilotwrap", "doctor", *given]
    env = {**os.environ, **environment}
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    return Ended(done.returncode, done.stdout, done.stderr)


def found(ended: Ended) -> dict[str, Any]:
    """The checks by name, after a look at the whole."""
    report = ended.report
    assert report["schema"] == "pilotwrap.doctor/1"
    assert report["safe"] == (ended.code == 0) == all(check["ok"] is not False for check in report["checks"])
    assert all(check["remedy"] for check in report["checks"] if check["ok"] is False)
    return {check["name"]: check for check in report["checks"]}


def failure(ended: Ended) -> tuple[int, str, str]:
    """The exit code, and the name and reason of the only failed check."""
    failed = [check for check in found(ended).values() if check["ok"] is False]
    assert len(failed) == 1, failed
    return ended.code, failed[0]["name"], failed[0]["reason"]


# ---- all is well


def test_a_good_node_and_server_are_safe_for_both_agents(lab: LabProcess, pilot: Path, tmp_path: Path) -> None:
    direct = doctor(*words(lab), "--json", cwd=tmp_path)
    assert (direct.code, list(found(direct))) == (0, CHECKS)
    pilot3 = doctor(*words(lab), "--agent", "pilot3", "--pilot", str(pilot), "--json", cwd=tmp_path)
    assert (pilot3.code, list(found(pilot3))) == (0, OF_A_PILOT), pilot3
    known = {name: check["ok"] for name, check in found(pilot3).items()}
    assert all(known[name] for name in ("pilot", "python", "curl", "server", "role", "queue", "copytools"))


def test_the_page_is_a_line_a_check_and_ends_with_the_verdict(lab: LabProcess, tmp_path: Path) -> None:
    good = doctor(*words(lab), cwd=tmp_path)
    lines = good.out.splitlines()
    assert lines[-1] == "safe to take jobs: yes"
    assert [line.split()[1] for line in lines[:-1] if not line.startswith(" ")] == CHECKS
    bad = doctor(*words(lab, origin=None), cwd=tmp_path)
    assert bad.out.splitlines()[-1] == "safe to take jobs: no"
    at = next(number for number, line in enumerate(bad.out.splitlines()) if line.startswith("no  origin"))
    assert bad.out.splitlines()[at + 1].split()[:2] == ["->", "give"]


def test_without_a_server_only_the_node_is_looked_at(tmp_path: Path) -> None:
    ended = doctor("--json", cwd=tmp_path)
    unasked = {name for name, check in found(ended).items() if check["ok"] is None} - {"isolation"}
    assert (ended.code, unasked) == (0, {"credential", "origin", "server", "role", "queue"})


def test_a_way_out_by_a_proxy_that_is_not_set_is_told(lab: LabProcess, tmp_path: Path) -> None:
    none = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "")
    there = doctor(*words(lab), "--machine", "aurora", "--json", cwd=tmp_path, **none)
    check = found(there)["network"]
    assert (there.code, check["ok"]) == (0, None)
    assert "by a proxy only, and none is set" in check["detail"]
    assert "https_proxy to http://proxy.alcf.anl.gov:3128" in check["remedy"]


# ---- the credential


def a_token(lab: LabProcess, path: Path, **more: Any) -> str:  # noqa: ANN401
    with closing(Store(lab.db)) as store:
        write_token(make_token(store, Grant("Ann", **more), time.time()), path)
    return str(path)


def test_a_token_that_the_server_does_not_know_may_not_report(lab: LabProcess, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("hush-hush-0123456789")
    ended = doctor(*words(lab, credential=str(path)), "--json", cwd=tmp_path)
    assert failure(ended) == (3, "role", "credential")
    assert "hush" not in ended.out + ended.err


def test_another_role_may_not_report(lab: LabProcess, tmp_path: Path) -> None:
    path = a_token(lab, tmp_path / "t" / "token", roles=("pilot",))
    ended = doctor(*words(lab, credential=path, origin="lab.pilot"), "--json", cwd=tmp_path)
    assert failure(ended) == (3, "role", "credential")
    assert "production" in found(ended)["role"]["remedy"]


def test_an_expired_token_is_seen_before_anybody_is_asked(lab: LabProcess, tmp_path: Path) -> None:
    path = a_token(lab, tmp_path / "t" / "token", roles=("production",), lifetime_s=-60.0)
    ended = doctor(*words(lab, credential=path), "--json", cwd=tmp_path)
    assert failure(ended) == (3, "credential", "credential")
    assert found(ended)["role"]["ok"] is None
    assert found(ended)["server"]["ok"] is True


def test_a_missing_origin_is_seen_before_anybody_is_asked(lab: LabProcess, tmp_path: Path) -> None:
    ended = doctor(*words(lab, origin=None), "--json", cwd=tmp_path)
    assert failure(ended) == (3, "origin", "credential")
    assert "--origin" in found(ended)["origin"]["remedy"]


def test_an_expired_proxy_is_of_no_use(lab: LabProcess, tmp_path: Path) -> None:
    now = time.time()
    proxy = made_proxy(tmp_path / "ca", now - 7200, now - 3600)
    ended = doctor(*words(lab, credential=str(proxy), origin=None), "--json", cwd=tmp_path)
    assert failure(ended) == (3, "credential", "credential")
    assert "expired at" in found(ended)["credential"]["detail"]


# ---- the queue


def test_an_unknown_queue_is_no_queue(lab: LabProcess, tmp_path: Path) -> None:
    ended = doctor(*words(lab, panda_queue="NO_SUCH_QUEUE"), "--json", cwd=tmp_path)
    assert failure(ended) == (3, "queue", "panda-queue")
    assert "NO_SUCH_QUEUE" in found(ended)["queue"]["detail"]


@pytest.mark.parametrize(("status", "code"), [("offline", 3), ("online", 0), ("test", 0), ("brokeroff", 0)])
def test_only_an_offline_queue_stops_a_run(tmp_path: Path, lab: LabProcess, status: Any, code: int) -> None:  # noqa: ANN401
    with closing(Store(lab.db)) as store:
        tell_status(store, Queue(f"Q_{status}", status))
    ended = doctor(*words(lab, panda_queue=f"Q_{status}"), "--json", cwd=tmp_path)
    assert ended.code == code
    assert status in found(ended)["queue"]["detail"]
    assert code == 0 or failure(ended) == (3, "queue", "panda-queue")


def test_queue_data_of_a_file_or_another_server_are_taken(lab: LabProcess, tmp_path: Path) -> None:
    text = json.loads(queuedata_text(Queue("OTHER", "online")))
    path = tmp_path / "queue.json"
    path.write_text(json.dumps({**text, "state": "DISABLED"}))
    ended = doctor(*words(lab, panda_queue="OTHER"), "--queuedata", str(path), "--json", cwd=tmp_path)
    assert failure(ended) == (3, "queue", "panda-queue")
    with ScriptedServer([says(200, text)]) as server:
        url = f"{server.url}/{{pandaqueue}}.json"
        ended = doctor(*words(lab, panda_queue="OTHER"), "--queuedata", url, "--json", cwd=tmp_path)
        assert (ended.code, server.heard[0].path) == (0, "/OTHER.json")
    ended = doctor(*words(lab), "--queuedata", str(tmp_path / "absent"), "--json", cwd=tmp_path)
    assert failure(ended) == (2, "queue", "bad-input")


# ---- the server


def test_no_way_out_is_the_servers_exit_code(tmp_path: Path, lab: LabProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    ended = doctor(*words(lab, server=closed), "--json", cwd=tmp_path)
    assert failure(ended) == (4, "server", "server")
    assert "proxy" in found(ended)["server"]["remedy"]
    assert found(ended)["role"]["ok"] is found(ended)["queue"]["ok"] is None


def test_a_server_that_hangs_is_given_up_soon(tmp_path: Path, lab: LabProcess) -> None:
    since = time.monotonic()
    with ScriptedServer([hangs]) as server:
        ended = doctor(*words(lab, server=server.url), "--json", cwd=tmp_path)
    assert failure(ended) == (4, "server", "server")
    assert time.monotonic() - since < 20


def test_a_web_page_is_no_panda_server(tmp_path: Path, lab: LabProcess) -> None:
    with ScriptedServer([says(200, "<html>welcome")]) as server:
        ended = doctor(*words(lab, server=server.url), "--json", cwd=tmp_path)
    assert failure(ended) == (4, "server", "server")
    assert "no PanDA server" in found(ended)["server"]["detail"]


def test_a_server_with_only_the_legacy_calls_is_for_pilots(tmp_path: Path, pilot: Path) -> None:
    with LabProcess(tmp_path / "lab.sqlite", api="legacy") as lab:
        direct = doctor(*words(lab), "--json", cwd=tmp_path)
        assert failure(direct) == (4, "server", "server")
        assert found(direct)["server"]["remedy"] == "use --agent pilot3"
        given = [*words(lab), "--agent", "pilot3", "--pilot", str(pilot)]
        pilot3 = doctor(*given, "--json", cwd=tmp_path)
        assert (pilot3.code, found(pilot3)["role"]["ok"]) == (0, True)
        wrong = a_token(lab, tmp_path / "t" / "token", roles=("pilot",))
        ended = doctor(*given, "--credential", wrong, "--origin", "lab.pilot", "--json", cwd=tmp_path)
        assert failure(ended) == (3, "role", "credential")


# ---- the node


def test_a_pilot_without_curl_is_no_use(lab: LabProcess, pilot: Path, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    given = [*words(lab), "--agent", "pilot3", "--pilot", str(pilot), "--json"]
    ended = doctor(*given, cwd=tmp_path, PATH=str(tools))
    assert failure(ended) == (3, "curl", "environment")
    (pilot / "PILOTVERSION").write_text("3.11.5.1\n")
    assert doctor(*given, cwd=tmp_path, PATH=str(tools)).code == 0
    assert doctor(*words(lab), "--json", cwd=tmp_path, PATH=str(tools)).code == 0


def test_no_pilot_is_no_use(lab: LabProcess, tmp_path: Path) -> None:
    given = [*words(lab), "--agent", "pilot3", "--json"]
    ended = doctor(*given, "--pilot", str(tmp_path), cwd=tmp_path)
    assert failure(ended) == (3, "pilot", "pilot")
    assert doctor(*given, "--pilot", "x.tar.gz", cwd=tmp_path).code == 2


def test_a_disk_that_a_pilot_would_refuse_is_too_small(lab: LabProcess, pilot: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    given = [*words(lab), "--agent", "pilot3", "--pilot", str(pilot), "--run-dir", str(small / "runs"), "--json"]
    argv = [
        *("unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "sh", "-c"),
        f'mount -t tmpfs -o size=64m small "{small}" && exec "$@"',
        *("sh", sys.executable, "-m", "pilotwrap", "doctor", *given),
    ]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    if not done.stdout:
        pytest.skip(f"needs root or user namespaces for a small file system: {done.stderr}")
    disk = found(Ended(done.returncode, done.stdout, done.stderr))["disk"]
    assert (done.returncode, disk["ok"], disk["reason"]) == (3, False, "environment")
    assert "2048" in disk["detail"]


# ---- the bundle


def test_the_bundle_is_ours_alone_and_holds_no_secret(lab: LabProcess, tmp_path: Path) -> None:
    path = tmp_path / "doctor.tar.gz"
    path.write_text("an older one")
    path.chmod(0o644)
    secrets = {"AWS_SECRET_ACCESS_KEY": "hush-hush", "HTTPS_PROXY": "http://me:hush-hush@proxy.example.org:3128"}
    ended = doctor(*words(lab), "--bundle", str(path), "--json", cwd=tmp_path, **secrets)
    assert ended.code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        parts = {Path(member.name).name: archive.extractfile(member) for member in archive}
        texts = {name: file.read().decode() for name, file in parts.items() if file}
    assert sorted(texts) == ["doctor.json", "node.json", "snapshot.json", "versions.json"]
    assert json.loads(texts["doctor.json"]) == ended.report
    assert json.loads(texts["versions.json"])["pilotwrap"]
    secret = lab.address.token_path.read_text().strip()
    assert not any(word in text for text in texts.values() for word in ("hush-hush", secret))
    again = doctor("--bundle", str(tmp_path / "absent" / "x.tgz"), "--json", cwd=tmp_path)
    assert (again.code, again.report["reason"]) == (2, "bad-input")
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
