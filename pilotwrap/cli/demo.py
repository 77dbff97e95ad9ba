"""`demo`: the whole flow here: a server, six jobs, a run, a table; no network and no account needed."""

import argparse
import json
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
"""When a demo that hangs is given up; it takes a few seconds."""

END_S = 20.0
"""How long a run that was told to end may take: its payloads' grace and the reports of its jobs."""

ADDER_S = 10.0
"""How long the server's Adder may take to make reported jobs final; it looks ten times a second."""


FINAL_STATES = {"finished", "failed", "cancelled"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Name what `demo` takes."""
    parser.add_argument("--dir", type=Path, metavar="DIR", help="where to leave what it made (default: a new folder)")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")


def main(options: argparse.Namespace) -> int:
    """Run the demo; exit 0 when every job came to the end that it must."""
    from pilotwrap.lab.demo import demo_rows, still_running
    from pilotwrap.lab.process import LabProcess
    from pilotwrap.lab.put import panda_job, put_jobs
    from pilotwrap.lab.store import Store

    stop = _Stop()
    began = time.monotonic()
    directory, jobs = _made(options.dir)
    db = directory / "lab.db"
    with LabProcess(db) as lab:
        store = Store(db)
        put = put_jobs(store, [panda_job(job.spec, job.title) for job in jobs])
        by_id = {entry["panda_id"]: job for entry, job in zip(put, jobs, strict=True)}
        _say(options, f"server {lab.address.url} has {len(jobs)} jobs; fetching and running them …")
        report = _run(directory, lab.address, len(jobs), stop)
        rows = () if stop.number else demo_rows(by_id, _settled(store), _reported(report))
    left = still_running(directory)
    if stop.number:
        print(f"pilotwrap: ended by signal {stop.number}; {_running(left)}", file=sys.stderr)
        return 128 + stop.number
    good = _is_good(rows, len(jobs)) and not left
    if options.json:
        table = [vars(row) for row in rows]
        print(json.dumps({"jobs": table, "left_running": left, "good": good, "directory": str(directory)}))
    else:
        print(_table(rows, by_id))
        print(_closing(directory, report, left, time.monotonic() - began, mpi=len(jobs) == 6))  # noqa: PLR2004 - all
    return 0 if good else 1


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


def _made(wanted: Path | None) -> "tuple[Path, tuple[DemoJob, ...]]":
    """Return the demo's own directory, with what its jobs need in it."""
    from pilotwrap.lab.demo import demo_jobs

    directory = (wanted or Path(tempfile.mkdtemp(prefix="pilotwrap-demo-"))).resolve()
    if (directory / "lab.db").exists():
        raise BadInputError(f"{directory} holds an earlier demo", remedy="name a new folder with --dir")
    try:
        return directory, demo_jobs(directory)
    except OSError as error:
        why = error.strerror or str(error)
        raise BadInputError(f"{directory} cannot be used", why=why, remedy="name a new folder with --dir") from error


def _settled(store: "Store") -> "list[Listed]":
    """Return the server's jobs once its Adder has made all of them final, or after its time."""
    from pilotwrap.lab.listing import listed_jobs

    until = time.monotonic() + ADDER_S
    while any(job["state"] not in FINAL_STATES for job in listed_jobs(store)) and time.monotonic() < until:
        time.sleep(0.05)
    return listed_jobs(store)


def _run(directory: Path, address: "Address", count: int, stop: _Stop) -> Mapping[str, object]:
    """Run the main job as anybody would, its progress on our terminal."""
    storage = directory / "storage.json"
    storage.write_text(json.dumps({"LAB": f"{(directory / 'storage').as_uri()}/"}))
    words = ["--server", address.url, "--panda-queue", address.panda_queue, "--credential", str(address.token_path)]
    words += ["--origin", address.origin, "--storage", str(storage), "--run-dir", str(directory / "runs")]
    words += ["--jobs", str(count), "--json"]
    run = subprocess.Popen([sys.executable, "-m", "pilotwrap", "run", *words], stdout=subprocess.PIPE, text=True)
    stop.reaches(run)
    report = json.loads(_said(run) or "{}")
    return report if isinstance(report, dict) else {}


def _said(run: "subprocess.Popen[str]") -> str:
    """Return what a run printed; one that takes too long is told to end, then made to."""
    watchdogs = [threading.Timer(RUN_S, run.terminate), threading.Timer(RUN_S + END_S, run.kill)]
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


def _closing(directory: Path, report: Mapping[str, object], left: tuple[int, ...], seconds: float, *, mpi: bool) -> str:
    missing = "" if mpi else "\nno MPI is here, so its job was left out: apt-get install mpich"
    return (
        f"\n{seconds:.1f} s; {_running(left)}.{missing}\n"
        f"What happened, in a sentence:   {program_name()} why {report.get('run_dir')}\n"
        f"All that it made:               {directory}\n"
        'Next: your own job              echo \'{"command": ["hostname"]}\' > job.json'
        f" && {program_name()} run --spec job.json"
    )
