"""`demo`: the whole flow here: a server, some jobs, a run, a table; no network and no account needed."""

import argparse
import json
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from pilotwrap.cli.main import program_name
from pilotwrap.model.errors import BadInputError

if TYPE_CHECKING:
    from pilotwrap.lab.demo import DemoJob, DemoRow
    from pilotwrap.lab.listing import Listed
    from pilotwrap.lab.process import Address
    from pilotwrap.lab.store import Store

EXAMPLE = "pilotwrap demo"
RUN_S = 120.0
"""When a demo that hangs is given up; it takes a few seconds, with pilots half a minute."""

FETCH_S = 150.0
"""What fetching a pilot may take besides: pip gives up after two minutes."""

PILOT_USER = "nobody"
"""Whom pilots run as where we are root; the storage is theirs."""

END_S = 20.0
"""How long a run that was told to end may take: its payloads' grace and the reports of its jobs."""

ADDER_S = 10.0
"""How long the server's Adder may take to make reported jobs final; it looks ten times a second."""


SITE_EXITS = (2, 3, 4)
"""Of a run that could not begin."""

ALL_JOBS = 6
"""Of the direct agent's demo, with the one that needs MPI."""

FINAL_STATES = {"finished", "failed", "cancelled"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Name what `demo` takes."""
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where to leave what it made (default: a new folder)")
    parser.add_argument("--agent", choices=("direct", "pilot3"), default="direct", help="who runs the jobs")
    parser.add_argument("--pilot", default="pypi", metavar="SOURCE", help="PanDA's pilot, as for `run` (default: pypi)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def main(options: argparse.Namespace) -> int:
    """Run the demo; exit 0 when every job came to the end that it must."""
    from pilotwrap.lab.demo import demo_rows, still_running
    from pilotwrap.lab.process import LabProcess
    from pilotwrap.lab.put import panda_job, put_jobs
    from pilotwrap.lab.store import Store

    stop = _Stop()
    began = time.monotonic()
    directory, jobs = _made(options)
    db = directory / "lab.db"
    db.touch(mode=0o600)  # it holds tokens
    with LabProcess(db, ["--files", str(directory / "storage")] if _piloted(options) else ()) as lab:
        store = Store(db)
        put = put_jobs(store, [panda_job(job.spec, job.title) for job in jobs])
        by_id = {entry["panda_id"]: job for entry, job in zip(put, jobs, strict=True)}
        _say(options, f"server {lab.address.url} has {len(jobs)} jobs; fetching and running them …")
        words = ["--jobs", str(len(jobs)), *_words(options, directory, lab.address)]
        report, code = _run(directory, [*_server_words(lab.address), *words], stop)
        rows = () if stop.number else demo_rows(by_id, _settled(store, report), _reported(report))
    left = still_running(directory)
    if stop.number:
        print(f"pilotwrap: ended by signal {stop.number}; {_running(left)}", file=sys.stderr)
        return 128 + stop.number
    good = _is_good(rows, len(jobs)) and not left
    if options.json:
        table = [vars(row) for row in rows]
        print(json.dumps({"jobs": table, "left_running": left, "good": good, "directory": str(directory)}))
    elif report.get("jobs"):
        print(_table(rows, by_id))
        print(_closing(directory, report, left, time.monotonic() - began) + _missing(options, len(jobs)))
    return _exit_code(code, good=good)


def _exit_code(code: int, *, good: bool) -> int:
    """Return the run's own code where it could not begin: it has said why on stderr."""
    if good:
        return 0
    return code if code in SITE_EXITS else 1


def _piloted(options: argparse.Namespace) -> bool:
    return bool(options.agent == "pilot3")


def _is_good(rows: "tuple[DemoRow, ...]", count: int) -> bool:
    return len(rows) == count and all(row.as_expected for row in rows)


class _Stop:
    """The first signal that told us to end; it goes on to the run, which ends its jobs and reports them."""

    def __init__(self) -> None:
        self.number = 0
        self._child: subprocess.Popen[str] | None = None
        hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]  # nohup(1) is heeded
        for number in (signal.SIGINT, signal.SIGTERM, *hangup):
            signal.signal(number, self._heard)

    def reaches(self, child: "subprocess.Popen[str]") -> None:
        """Pass signals on to this child, one that came before it was there included."""
        self._child = child
        if self.number:
            child.terminate()

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self.number = self.number or number
        if self._child:
            self._child.terminate()


def _made(options: argparse.Namespace) -> "tuple[Path, tuple[DemoJob, ...]]":
    """Return the demo's own directory, with what its jobs need in it."""
    from pilotwrap.lab.demo import demo_jobs, pilot_jobs

    directory = (options.dir or Path(tempfile.mkdtemp(prefix="pilotwrap-demo-"))).resolve()
    if (directory / "lab.db").exists():
        raise BadInputError(f"{directory} holds an earlier demo", remedy="name a new folder with --dir")
    try:
        if not _piloted(options):
            return directory, demo_jobs(directory)
        jobs = pilot_jobs(directory)
        if os.geteuid() == 0:
            _hand_storage(directory)
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInputError(f"{directory} cannot be used", why=why, remedy="name a new folder with --dir") from error
    return directory, jobs


def _hand_storage(directory: Path) -> None:
    from pilotwrap.lab.demo import hand_storage

    try:
        user = pwd.getpwnam(PILOT_USER)
    except KeyError as error:
        raise BadInputError(
            f"no user {PILOT_USER!r} on this host", remedy="run the demo as an ordinary user"
        ) from error
    hand_storage(directory, user.pw_uid, user.pw_gid)


def _settled(store: "Store", report: Mapping[str, object]) -> "list[Listed]":
    """Return the server's jobs once its Adder has made all of them final, or after its time; or at once if none ran."""
    from pilotwrap.lab.listing import listed_jobs

    until = time.monotonic() + (ADDER_S if report.get("jobs") else 0.0)
    while any(job["state"] not in FINAL_STATES for job in listed_jobs(store)) and time.monotonic() < until:
        time.sleep(0.05)
    return listed_jobs(store)


def _server_words(address: "Address") -> list[str]:
    words = ["--server", address.url, "--panda-queue", address.panda_queue]
    return [*words, "--credential", str(address.token_path), "--origin", address.origin]


def _words(options: argparse.Namespace, directory: Path, address: "Address") -> list[str]:
    """Return what a run is told of the agent and where the files are; the mv copytool reads below one folder."""
    if not _piloted(options):
        storage = directory / "storage.json"
        storage.write_text(json.dumps({"LAB": f"{(directory / 'storage').as_uri()}/"}))
        return ["--storage", str(storage)]
    words = ["--agent", "pilot3", "--pilot", options.pilot, "--storagedata", f"{address.url}/cache/ddmendpoints.json"]
    if os.geteuid() == 0:
        words += ["--payload-user", PILOT_USER]
    return [*words, f"--pilot-option=--input-destination-dir={directory / 'storage'}"]


def _run(directory: Path, words: list[str], stop: _Stop) -> tuple[Mapping[str, object], int]:
    """Run the main job as anybody would, its progress on our terminal; return its report and exit code."""
    command = [sys.executable, "-m", "pilotwrap", "run", *words, "--run-dir", str(directory / "runs"), "--json"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    stop.reaches(run)
    report = json.loads(_said(run, RUN_S + (FETCH_S if "--pilot" in words else 0.0)) or "{}")
    return report if isinstance(report, dict) else {}, run.returncode


def _said(run: "subprocess.Popen[str]", patience_s: float) -> str:
    """Return what a run printed; one that takes too long is told to end, then made to."""
    watchdogs = [threading.Timer(patience_s, run.terminate), threading.Timer(patience_s + END_S, run.kill)]
    for watchdog in watchdogs:
        watchdog.start()
    try:
        return run.communicate()[0]
    finally:
        for watchdog in watchdogs:
            watchdog.cancel()


def _reported(report: Mapping[str, object]) -> dict[int, tuple[str, float]]:
    from pilotwrap.model.report import RunReport

    if "jobs" not in report:
        return {}
    jobs = RunReport.model_validate(report).jobs
    return {job.panda_id or 0: (job.reason, (job.ended_at or 0) - (job.started_at or 0)) for job in jobs}


def _say(options: argparse.Namespace, text: str) -> None:
    if not options.json:
        print(text, flush=True)


def _table(rows: "tuple[DemoRow, ...]", by_id: "Mapping[int, DemoJob]") -> str:
    lines = [f"\n{'job':>5}  {'what it does':<38} {'at the server':<14} {'reason':<14} {'seconds':>7}"]
    for row in rows:
        job = by_id[row.panda_id]
        mark = "as it must" if row.as_expected else f"WRONG: {job.state}, {job.reason} was due"
        lines.append(f"{row.panda_id:>5}  {row.title:<38} {row.state:<14} {row.reason:<14} {row.seconds:>7.1f}  {mark}")
    return "\n".join(lines)


def _running(left: tuple[int, ...]) -> str:
    return f"these processes are left: {left}" if left else "nothing is left running"


def _closing(directory: Path, report: Mapping[str, object], left: tuple[int, ...], seconds: float) -> str:
    return (
        f"\n{seconds:.1f} s; {_running(left)}.\n"
        f"What happened, in a sentence:   {program_name()} why {report.get('run_dir')}\n"
        f"All that it made:               {directory}\n"
        'Next: your own job              echo \'{"command": ["hostname"]}\' > job.json'
        f" && {program_name()} run --spec job.json"
    )


def _missing(options: argparse.Namespace, count: int) -> str:
    """Return which job was left out, if one was."""
    if _piloted(options) or count == ALL_JOBS:
        return ""
    return "\nno MPI is here, so its job was left out: apt-get install mpich"
