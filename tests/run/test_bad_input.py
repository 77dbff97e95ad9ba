"""Bad input: each its exit code, its reason, and one line that says what to do; no fetched job without its report."""

from __future__ import annotations

import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from panda.scripted_server import ScriptedServer, hangs, resets, says

from .rig import FINAL, PATIENCE_S, Ended, Rig, states, until

ENOUGH_CORES = 10_000


def blamed(ended: Ended, code: int, reason: str) -> str:
    """Check the exit code, the report's reason and the one line; return the line."""
    assert ended.code == code, ended
    report = ended.report
    assert report["schema"] == "pilotwrap.report/1"
    assert report["reason"] == reason, report
    assert "Traceback" not in ended.err + ended.out
    return ended.line if not report["jobs"] else str(report["detail"])


def spec(rig: Rig, content: Any) -> Ended:  # noqa: ANN401
    path = rig.path / "job.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return rig.run("--spec", str(path), "--json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{'command': ['true']}", "is not JSON"),
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("\ud83d".encode("utf-8", "surrogatepass").decode("latin-1"), "is not JSON"),
        (["true"], "is not a JSON object"),
        ({"command": ["true"], "nodse": 1}, "nodse"),
        ({"command": ["true"], "ranks_per_node": -1}, "ranks_per_node"),
        ({"command": ["true"], "cpus_per_rank": 0}, "cpus_per_rank"),
        ({"command": ["true"], "walltime_s": "soon"}, "walltime_s"),
        ({"command": []}, "command"),
        ({}, "command"),
    ],
)
def test_a_bad_spec_is_refused_by_file_and_key(rig: Rig, content: object, said: str) -> None:
    line = blamed(spec(rig, content), 2, "bad-input")
    assert "job.json" in line
    assert said in line


def test_a_spec_that_is_not_there_is_bad_input(rig: Rig) -> None:
    assert "No such file" in blamed(rig.run("--spec", "absent.json", "--json"), 2, "bad-input")


@pytest.mark.parametrize(
    "asks",
    [
        {"cpus_per_rank": ENOUGH_CORES},
        {"ranks_per_node": ENOUGH_CORES, "cpus_per_rank": 1},
        {"nodes": 7},
        {"gpus_per_rank": 64},
        {"memory_mib_per_rank": 1 << 40},
    ],
)
def test_more_than_the_node_has_is_bad_input(rig: Rig, asks: dict[str, int]) -> None:
    line = blamed(spec(rig, {"command": ["true"], **asks}), 2, "bad-input")
    assert "ask" in line


def test_a_command_that_does_not_exist_names_it(rig: Rig) -> None:
    ended = spec(rig, {"command": ["no-such-program-anywhere"]})
    assert ended.code in {1, 2}, ended
    assert "no-such-program-anywhere" in ended.report["detail"]


def test_a_missing_input_is_a_failed_stage_in(rig: Rig) -> None:
    content = {"command": ["true"], "inputs": [{"lfn": "a.txt", "path": str(rig.path / "absent.txt")}]}
    assert "a.txt" in blamed(spec(rig, content), 1, "stage-in")


def test_an_input_with_another_checksum_is_a_failed_stage_in(rig: Rig) -> None:
    (rig.path / "a.txt").write_text("hello")
    given = {"lfn": "a.txt", "path": str(rig.path / "a.txt"), "adler32": "00000001"}
    line = blamed(spec(rig, {"command": ["true"], "inputs": [given]}), 1, "stage-in")
    assert "a.txt" in line
    assert "00000001" in line


def test_missing_and_wrong_inputs_of_fetched_jobs_are_reported_and_others_go_on(rig: Rig) -> None:
    (rig.storage / "wrong.txt").write_text("hello")
    absent = {"lfn": "absent.txt", "endpoint": "LAB", "size": 5, "adler32": "062c0215"}
    wrong = {"lfn": "wrong.txt", "endpoint": "LAB", "size": 5, "adler32": "00000001"}
    nowhere = {"lfn": "x.txt", "endpoint": "ELSEWHERE"}
    jobs = rig.put(*(rig.sh("true", inputs=[one]) for one in (absent, wrong, nowhere)), rig.sh("true"))
    ended = rig.run("--json")
    assert ended.code == 1
    assert [job["state"] for job in rig.final(*jobs)] == ["failed", "failed", "failed", "finished"]
    reasons = {job["panda_id"]: job["reason"] for job in ended.report["jobs"]}
    assert reasons == {jobs[0]: "stage-in", jobs[1]: "stage-in", jobs[2]: "stage-in", jobs[3]: "ok"}
    for panda_id in jobs[:3]:
        assert rig.job(panda_id)["pilot_error_code"] != 0
        assert rig.job(panda_id)["pilot_error_diag"]


# ---- the server


def ask(rig: Rig, url: str, within_s: float = PATIENCE_S) -> Ended:
    words = ("--panda-queue", "Q", "--credential", str(rig.path / "token"), "--origin", "lab.production")
    folder = rig.path / f"asks-{zlib.crc32(url.encode())}"
    return rig.start("--server", url, *words, "--json", folder=folder).end(within_s)


def own_token(rig: Rig, text: str = "") -> Path:
    path = rig.path / "token"
    path.write_text(text or rig.lab.address.token_path.read_text())
    path.chmod(0o600)
    return path


HTML = "<!DOCTYPE html><html><body>Log in here</body></html>"
TRACE = "Traceback (most recent call last):\n  File \"/srv/x.py\", line 1, in f\nKeyError: 'x'\n"


NONSENSE = {
    "garbage": says(200, b"\x00\xff garbage"),
    "Python's repr": says(200, "{'success': True, 'message': '', 'data': None}"),
    "a traceback": says(500, TRACE),
    "a redirect": says(302, "", Location="https://login.example.org/"),
    "a web page": says(200, HTML),
    "nothing": says(200, ""),
    "a list": says(200, "[1, 2]"),
    "a deep list": says(200, "[" * 100_000),
    "a reset": resets,
    "silence": hangs,
}


def test_a_server_that_answers_nonsense_or_nothing_is_exit_4(rig: Rig) -> None:
    """All at once: each is asked again for the whole minute that an outage of the real one may take."""
    with ExitStack() as stack, ThreadPoolExecutor(len(NONSENSE) + 1) as pool:
        servers = {name: stack.enter_context(ScriptedServer([act])) for name, act in NONSENSE.items()}
        with ScriptedServer([resets]) as gone:
            urls = {name: server.url for name, server in servers.items()} | {"gone": gone.url}
        own_token(rig)
        ended = dict(zip(urls, pool.map(lambda url: ask(rig, url, within_s=150), urls.values()), strict=True))
    for name, one in ended.items():
        line = blamed(one, 4, "server")
        assert ";" in line, (name, "it says what to do", line)
        assert not [heard for heard in (servers[name].heard if name in servers else ()) if "acquire" in heard.path]


@pytest.mark.parametrize("url", ["pandaserver", "ftp://x", "http://a b", "https://h:99999"])
def test_a_url_that_is_none_is_bad_input(rig: Rig, url: str) -> None:
    own_token(rig)
    blamed(ask(rig, url), 2, "bad-input")


def test_plain_http_to_elsewhere_gets_no_token(rig: Rig) -> None:
    own_token(rig)
    assert "https" in blamed(ask(rig, "http://pandaserver.example.org:25080"), 3, "credential")


KNOWS_NONE = says(200, {"success": True, "message": "", "data": {"StatusCode": 0, "command": "tobekilled"}})


def test_a_server_that_breaks_after_the_first_question_is_exit_4(rig: Rig) -> None:
    own_token(rig)
    with ScriptedServer([KNOWS_NONE, says(500, TRACE)]) as server:
        ended = ask(rig, server.url, 150)
    assert ended.code == 4
    assert (ended.report["reason"], "Traceback" in ended.err) == ("server", False)
    assert ended.report["detail"]


def test_an_outage_while_jobs_run_is_waited_out(rig: Rig) -> None:
    (one,) = rig.put(rig.sh("until test -e go; do sleep 0.05; done"))
    run = rig.start("--json", "--jobs", "1")
    until(lambda: run.events("Started"))
    port = rig.lab.address.url.rpartition(":")[2]
    rig.lab.kill()
    (go,) = [path.parent / "go" for path in run.folder.glob("runs/*/*/jobs/*/stdout")]
    go.touch()
    until(lambda: run.events("Spooled"))
    until(lambda: [said for said in run.events("Answered") if said["verdict"] == "unreachable"])
    rig.lab.options = ["--port", port]
    rig.lab.start()
    ended = run.end()
    assert ended.code == 0, ended
    assert rig.final(one)[0]["state"] == "finished"
    assert rig.job(one)["reports"] == 1


# ---- the credential


def grant(rig: Rig, name: str, *words: str) -> tuple[str, str]:
    out = rig.path / f"{name}.token"
    done = rig.verb("lab", "token", "--db", str(rig.lab.db), "--identity", name, "--out", str(out), *words)
    credential = json.loads(done.out)["credential"]
    return str(out), str(credential["origin"])


def fetch_as(rig: Rig, path: str, origin: str) -> Ended:
    address = rig.lab.address
    words = ("--server", address.url, "--panda-queue", address.panda_queue, "--credential", path)
    return rig.run(*words, *(("--origin", origin) if origin else ()), "--storage", str(rig.map), "--json")


@pytest.mark.parametrize("tail", ["\n", "\r\n", "\n\n", "  \n"])
def test_a_token_file_may_end_in_a_newline(rig: Rig, tail: str) -> None:
    (one,) = rig.put(rig.sh("true"))
    path = own_token(rig, rig.lab.address.token_path.read_text().strip() + tail)
    assert fetch_as(rig, str(path), "lab.production").code == 0
    assert rig.final(one)[0]["state"] == "finished"


@pytest.mark.parametrize(
    ("words", "origin"),
    [
        ([], "lab"),
        (["--role", "pilot"], "lab.pilot"),
        (["--role", "production", "--expires-in", "0"], "lab.production"),
        (["--role", "pilot"], "lab.production"),
        (["--role", "production"], "other.production"),
    ],
    ids=["no-role", "pilot", "expired", "wrong-role", "wrong-vo"],
)
def test_a_credential_that_may_not_report_takes_no_job(rig: Rig, words: list[str], origin: str) -> None:
    (one,) = rig.put(rig.sh("true"))
    path, _ = grant(rig, "Ann", *words)
    line = blamed(fetch_as(rig, path, origin), 3, "credential")
    assert states(rig.job(one)) == ["activated"]
    assert Path(path).read_text().strip() not in line


@pytest.mark.parametrize("text", ["", "\n", "two words", "caf\xe9"])
def test_a_token_file_without_a_token_is_exit_3(rig: Rig, text: str) -> None:
    path = rig.path / "token"
    path.write_text(text)
    path.chmod(0o600)
    blamed(fetch_as(rig, str(path), "lab.production"), 3, "credential")


def test_a_token_file_that_is_not_there_is_exit_3(rig: Rig) -> None:
    assert "absent" in blamed(fetch_as(rig, str(rig.path / "absent"), "lab.production"), 3, "credential")


# ---- the jobs


def panda_job(**fields: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"transformation": "lab:/trf/run", "jobPars": "true", **fields}


EVIL = ["../escape.txt", "-rf", "a/b.txt", "..", ".", "/etc/escape", "a\nb", "x" * 300]


@pytest.mark.parametrize("name", EVIL)
def test_a_job_with_an_evil_output_is_reported_failed_and_others_go_on(rig: Rig, name: str) -> None:
    evil, good = rig.put(panda_job(outFiles=f"{name},log.tgz", logFile="log.tgz"), rig.sh("true"))
    ended = rig.run("--json")
    assert ended.code in {1, 2}, ended
    assert [job["state"] for job in rig.final(evil, good)] == ["failed", "finished"]
    assert rig.job(evil)["reports"] == 1
    assert rig.job(evil)["pilot_error_diag"]
    assert not list(rig.path.rglob("escape*"))


@pytest.mark.parametrize("name", EVIL)
def test_a_job_with_an_evil_input_is_reported_failed(rig: Rig, name: str) -> None:
    fields = {"inFiles": name, "fsize": "1", "checksum": "ad:00000001", "ddmEndPointIn": "LAB", "scopeIn": "s"}
    evil, good = rig.put(panda_job(**fields), rig.sh("true"))
    assert rig.run("--json").code in {1, 2}
    assert [job["state"] for job in rig.final(evil, good)] == ["failed", "finished"]
    assert rig.job(evil)["reports"] == 1


@pytest.mark.parametrize("name", ["../log.tgz", "-log.tgz"])
def test_a_job_with_an_evil_log_is_reported_failed(rig: Rig, name: str) -> None:
    (evil,) = rig.put(panda_job(outFiles=name, logFile=name))
    assert rig.run("--json").code in {1, 2}
    assert rig.final(evil)[0]["state"] == "failed"


def test_a_job_that_asks_for_more_than_the_node_has_is_reported_failed(rig: Rig) -> None:
    huge, good = rig.put({"command": ["true"], "ranks_per_node": ENOUGH_CORES, "cpus_per_rank": 1}, rig.sh("true"))
    ended = rig.run("--json")
    assert ended.code == 2
    assert [job["state"] for job in rig.final(huge, good)] == ["failed", "finished"]


# ---- the disk


def tmpfs(size: str, folder: Path) -> tuple[str, ...]:
    """Words that start a program with a small file system of its own at this folder, which ends with it."""
    script = f'mount -t tmpfs -o size={size} none "$0" && exec "$@"'
    return ("unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(folder))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small file system: sudo")
def test_a_payload_that_fills_the_disk_is_reported(rig: Rig) -> None:
    folder = rig.path / "small"
    folder.mkdir()
    full, _ = rig.put(rig.sh("dd if=/dev/zero of=big bs=64k; exit 7"), rig.sh("true"))
    ended = rig.start("--json", folder=folder, prefix=tmpfs("3m", folder)).end()
    assert ended.code in {1, 3, 4}, ended
    assert rig.final(full)[0]["state"] == "failed"
    fetched = [job for job in rig.jobs.values() if "sent" in states(job)]
    assert all(job["state"] in FINAL and job["reports"] == 1 for job in fetched), fetched
    assert "Traceback" not in ended.err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small file system: sudo")
def test_a_disk_that_is_full_from_the_start_is_a_fault_of_the_node(rig: Rig) -> None:
    folder = rig.path / "small"
    folder.mkdir()
    jobs = rig.put(*[rig.sh("true")] * 4)
    prefix = tmpfs("1m", folder)
    fill = (
        *prefix[:-2],
        prefix[-2].replace("&&", '&& { cd "$0" && dd if=/dev/zero of=fill bs=4k 2>/dev/null; mkdir -p runs; :; } &&'),
        prefix[-1],
    )
    ended = rig.start("--json", folder=folder, prefix=fill).end()
    assert ended.code == 3, ended
    assert "Traceback" not in ended.err
    fetched = [job for job in jobs if "sent" in states(rig.job(job))]
    assert len(fetched) < len(jobs)
    assert all(job["state"] == "failed" for job in rig.final(*fetched))


def test_outputs_beyond_a_file_size_limit_do_not_lose_the_report(rig: Rig) -> None:
    (one,) = rig.put(rig.sh("head -c 3000000 /dev/zero; echo > done"))
    limited = ("sh", "-c", 'ulimit -f 1000; exec "$@"', "sh")
    ended = rig.start("--json", prefix=limited).end()
    assert "Traceback" not in ended.err
    assert rig.final(one)[0]["reports"] == 1
