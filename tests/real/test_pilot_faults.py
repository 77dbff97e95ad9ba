"""What can go wrong around the real pilot: each the right reason, from `run --json` and as one sentence from `why`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tarfile
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from panda.proxies import made_proxy
from real.pilot import pilot_rig
from run.rig import until

from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.store import Store
from pilotwrap.model.reasons import EXIT_CODES
from pilotwrap.run.enquiry import ANSWER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from real.pilot import PilotRig
    from run.rig import Ended, Run

    from pilotwrap.lab.api import Api

pytestmark = pytest.mark.usefixtures("alone")

KNOWN_S = 10.0
"""From when it could be known to the end of the run."""

SILENCE_S = 15


def blamed(rig: PilotRig, ended: Ended, reason: str, *said: str) -> str:
    """Check the exit code, the reason, and that `why` tells the same one sentence; return it."""
    assert ended.code == EXIT_CODES[reason], ended  # type: ignore[index]
    report = ended.report
    sentence = str(report["detail"])
    assert report["reason"] == reason, report
    assert [word for word in said if word not in sentence] == [], sentence
    assert "; " in sentence or reason == "no-work", f"nothing is said of what to do: {sentence}"
    assert "\n" not in sentence
    assert "Traceback" not in ended.err
    why = rig.verb("why", report["run_dir"])
    assert why.code == 0, why
    assert sentence in why.out.splitlines()[0]
    assert why.out.splitlines()[1].startswith("what to do: ")
    return sentence


def at(report: dict[str, Any], what: str) -> float:
    """Return when the last such thing happened, in seconds after the run's start."""
    found = [entry["at_s"] for entry in report["timeline"] if what in entry["what"]]
    assert found, report["timeline"]
    return float(found[-1])


def pilots(run: Run) -> dict[int, int]:
    """Return the processes of a run that are a pilot's own Python, with their parents."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) if words else 0
        except OSError:
            continue
        named = str(run.folder).encode() in b" ".join(words)
        if named and len(words) > 1 and words[1].endswith(b"/pilot.py"):
            found[int(entry.name)] = parent
    return found


def happened(run: Run, event: str) -> None:
    """Wait for an event of a job's life; a run that ended without it fails the test."""
    until(lambda: run.events(event) or run.child.poll() is not None, event)
    assert run.events(event), run.end()


def pilot_running(run: Run) -> int:
    """Wait until the pilot says that its payload runs, and return its process."""
    happened(run, "Started")
    found = pilots(run)
    (pid,) = [one for one, parent in found.items() if parent not in found]  # it forks for each command of its own
    return pid


def whole_node_jobs(rig: PilotRig, script: str) -> list[int]:
    """Put in two jobs that each take all cores, so that the second waits for the first one's end."""
    cores = json.loads(rig.verb("inspect", "--json").out)["cpus"]["cores"]
    return rig.put(*[rig.sh(script, cpus_per_rank=len(cores))] * 2)


def doctored(rig: PilotRig, lines: str) -> list[str]:
    """Return what `run` is told of a pilot that does this before all else."""
    home = rig.path / "doctored"
    with tarfile.open(rig.sdist) as packed:
        packed.extractall(home, filter="data")
    (pilot,) = home.glob("*/pilot.py")
    pilot.write_text(pilot.read_text().replace("import argparse\n", f"{lines}\nimport argparse\n", 1))
    words = rig.pilot_words
    return [*words[:3], str(pilot.parent), *words[4:]]


def token(rig: PilotRig, *words: str) -> str:
    path = rig.path / "private" / "other.token"
    ended = rig.verb("lab", "token", "--db", str(rig.lab.db), "--identity", "somebody", "--out", str(path), *words)
    assert ended.code == 0, ended
    return str(path)


def garbage(rig: PilotRig) -> list[str]:
    path = rig.path / "private" / "garbage"
    path.touch(mode=0o600)
    path.write_text("no token of anybody")
    return ["--credential", str(path)]


def offline(rig: PilotRig) -> list[str]:
    queue = rig.lab.address.panda_queue
    assert rig.verb("lab", "queue", "--db", str(rig.lab.db), queue, "--status", "offline").code == 0
    return []


def proxy(rig: PilotRig) -> list[str]:
    path = made_proxy(rig.path / "private" / "proxy", time.time() - 7200, time.time() - 3600)
    return ["--credential", str(path)]


REFUSALS: dict[str, tuple[Callable[[PilotRig], list[str]], str, tuple[str, ...]]] = {
    "no job": (lambda _rig: [], "no-work", ("no job",)),
    "bad token": (garbage, "credential", ("token",)),
    "wrong role": (lambda rig: ["--credential", token(rig, "--role", "pilot")], "credential", ("production",)),
    "missing origin": (lambda _rig: ["--origin", ""], "credential", ("--origin",)),
    "expired token": (
        lambda rig: ["--credential", token(rig, "--role", "production", "--expires-in", "0")],
        "credential",
        ("expired",),
    ),
    "expired proxy": (proxy, "credential", ("expired", "voms-proxy-init")),
    "unknown queue": (lambda _rig: ["--panda-queue", "NOWHERE"], "panda-queue", ("NOWHERE",)),
    "queue offline": (offline, "panda-queue", ("offline",)),
}


@pytest.mark.parametrize("api", ["legacy", "current"])
@pytest.mark.parametrize("fault", REFUSALS)
def test_what_ends_a_run_before_any_job(pilot_sdist: Path, fault: str, api: Api) -> None:
    spoil, reason, said = REFUSALS[fault]
    with pilot_rig(pilot_sdist, api) as rig:
        jobs = rig.put(*[rig.sh("true")] * (fault != "no job"))
        more = spoil(rig)
        began = time.monotonic()
        ended = rig.run(*rig.server_words, *rig.pilot_words, *more, "--json")
        assert time.monotonic() - began < KNOWN_S
        blamed(rig, ended, reason, *said)
        assert [rig.job(one)["state"] for one in jobs] == ["activated"] * len(jobs)


def test_a_server_that_takes_connections_and_never_answers(pilot_sdist: Path) -> None:
    with pilot_rig(pilot_sdist, "current") as rig, socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        began = time.monotonic()
        ended = rig.run(*rig.server_words, *rig.pilot_words, "--server", url, "--json")
        assert time.monotonic() - began < ANSWER_S + KNOWN_S
        blamed(rig, ended, "server", url.removeprefix("http://"))


def test_a_server_that_hangs_in_the_middle_of_a_job(pilot_sdist: Path) -> None:
    with pilot_rig(pilot_sdist, "current") as rig:
        go, storagedata = rig.path / "go", rig.path / "storage-data.json"
        with urllib.request.urlopen(f"{rig.lab.address.url}/cache/ddmendpoints.json") as said:  # noqa: S310 - the lab on loopback
            storagedata.write_bytes(said.read())
        (one,) = rig.put(rig.sh(f"until [ -e {go} ]; do sleep 0.1; done"))
        words = [*rig.server_words, *rig.pilot_words, "--storagedata", str(storagedata), "--json"]
        run = rig.start(*words)
        pilot_running(run)
        os.kill(rig.lab.pid, signal.SIGSTOP)
        try:
            go.touch()
            happened(run, "Spooled")
            run.child.terminate()
            began = time.monotonic()
            ended = run.end()
            assert time.monotonic() - began < KNOWN_S
            blamed(rig, ended, "server", "pilotwrap flush")
        finally:
            os.kill(rig.lab.pid, signal.SIGCONT)
        assert (ended.report["jobs"][0]["reason"], ended.report["jobs"][0]["told"]) == ("ok", False)
        assert rig.flush(run.folder).code == 0
        (job,) = rig.final(one)
        assert (job["state"], job["reports"]) == ("finished", 1)


def test_a_job_that_fails(pilot_sdist: Path) -> None:
    with pilot_rig(pilot_sdist, "current") as rig:
        (one,) = rig.put(rig.sh("exit 3"))
        ended = rig.run(*rig.server_words, *rig.pilot_words, "--json")
        blamed(rig, ended, "payload-exit", "exited with code 3")
        (report,) = ended.report["jobs"]
        assert (report["state"], report["exit_code"], report["told"]) == ("failed", 3, True)
        (job,) = rig.final(one)
        assert (job["state"], job["reports"]) == ("failed", 1)
        assert at(ended.report, "was over") - at(ended.report, "saw the payload end") < KNOWN_S


def test_a_transformation_from_elsewhere_is_refused(pilot_sdist: Path) -> None:
    url = "http://elsewhere.invalid/trf/run"
    with pilot_rig(pilot_sdist, "current") as rig:
        with closing(Store(rig.lab.db)) as store:
            put = put_jobs(store, [{**panda_job(rig.sh("true"), "test"), "transformation": url}], "")
        ended = rig.run(*rig.server_words, *rig.pilot_words, "--json")
        blamed(rig, ended, "bad-input", "transformation", url)
        (report,) = ended.report["jobs"]
        assert (report["reason"], report["exit_code"], report["told"]) == ("bad-input", None, True)
        (job,) = rig.final(put[0]["panda_id"])
        assert (job["state"], job["reports"]) == ("failed", 1)
        # of this the pilot sleeps 3 s before its log shows the end, and we wait 5 s for its word
        assert at(ended.report, "was ended") - at(ended.report, "said starting") < KNOWN_S


def test_a_pilot_that_is_killed_and_no_further_job(pilot_sdist: Path) -> None:
    with pilot_rig(pilot_sdist, "current") as rig:
        first, second = whole_node_jobs(rig, "sleep 300")
        run = rig.start(*rig.server_words, *rig.pilot_words, "--wait-for-work", "60", "--json")
        os.kill(pilot_running(run), signal.SIGKILL)
        began = time.monotonic()
        ended = run.end()
        assert time.monotonic() - began < KNOWN_S
        blamed(rig, ended, "pilot", "KILL")
        (job,) = rig.final(first)
        assert (job["state"], job["reports"]) == ("failed", 1)
        assert rig.job(second)["state"] == "activated"


def test_a_pilot_that_hangs(pilot_sdist: Path) -> None:
    with pilot_rig(pilot_sdist, "current") as rig:
        (one,) = rig.put(rig.sh("sleep 300"))
        run = rig.start(*rig.server_words, *rig.pilot_words, "--pilot-silence", str(SILENCE_S), "--json")
        os.kill(pilot_running(run), signal.SIGSTOP)
        began = time.monotonic()
        ended = run.end()
        assert SILENCE_S - 2 < time.monotonic() - began < SILENCE_S + KNOWN_S
        blamed(rig, ended, "pilot", "no sign of life")
        (job,) = rig.final(one)
        assert (job["state"], job["reports"]) == ("failed", 1)


LEADER = """
import os
child = os.fork()
if child:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os.setsid()
"""


def test_a_pilot_that_leads_its_session(pilot_sdist: Path) -> None:
    with pilot_rig(pilot_sdist, "current") as rig:
        first, second = whole_node_jobs(rig, "true")
        ended = rig.run(*rig.server_words, *doctored(rig, LEADER), "--json")
        blamed(rig, ended, "pilot", "session leader")
        (job,) = rig.final(first)
        assert (job["state"], job["reports"]) == ("failed", 1)
        assert at(ended.report, "was over") - at(ended.report, "has its job") < KNOWN_S
        assert rig.job(second)["state"] == "activated"


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[tuple[str, ...]]:
    """Yield the words behind which a small disk stands in this folder; it goes with its only processes."""
    folder.mkdir(mode=0o755)
    script = f"mount -t tmpfs -o size={mebibytes}m,mode=0755 small {folder} && echo here && exec cat"
    argv = ["unshare", "--mount", "sh", "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin
        assert holder.stdout
        assert holder.stdout.readline() == b"here\n"
        yield ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", f"--wdns={folder}")
        holder.stdin.close()


FILLING = """
import os
with open("filling", "wb") as filling:
    os.posix_fallocate(filling.fileno(), 0, 200 << 20)
"""


def on_small_disk(rig: PilotRig, mebibytes: int, *words: str) -> tuple[Ended, str]:
    """Do a run whose directory is on a small disk; return its end, and what `why` says."""
    folder = rig.path / "small"
    with small_disk(folder, mebibytes) as inside:
        run = rig.start(*rig.server_words, *words, "--json", folder=folder, prefix=inside)
        ended = run.end()
        argv = [*inside, *run.child.args[len(inside) : len(inside) + 3], "why", ended.report["run_dir"]]
        why = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return ended, why


def test_a_disk_that_is_too_small(pilot_sdist: Path) -> None:
    with pilot_rig(pilot_sdist, "current") as rig:
        (one,) = rig.put(rig.sh("true"))
        began = time.monotonic()
        ended, why = on_small_disk(rig, 1024, *rig.pilot_words)
        assert time.monotonic() - began < KNOWN_S
        assert (ended.code, ended.report["reason"]) == (3, "environment")
        assert "MiB are free" in ended.report["detail"]
        assert ended.report["detail"] in why
        assert rig.job(one)["state"] == "activated"


def test_a_disk_that_is_too_small_when_the_pilot_looks(pilot_sdist: Path) -> None:
    with pilot_rig(pilot_sdist, "current") as rig:
        (one,) = rig.put(rig.sh("true"))
        ended, why = on_small_disk(rig, 2200, *doctored(rig, FILLING))
        assert (ended.code, ended.report["reason"]) == (3, "environment")
        assert ended.report["detail"] in why
        assert at(ended.report, "was over") - at(ended.report, "the pilot started") < KNOWN_S
        (job,) = rig.final(one)
        assert (job["state"], job["reports"]) == ("failed", 1)
