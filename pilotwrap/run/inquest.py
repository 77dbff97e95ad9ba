"""Why a run ended: from its report, or where it died from its journal, its spool and its lock."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from pilotwrap.model.errors import BadInputError
from pilotwrap.model.inquest import Inquest
from pilotwrap.model.reasons import Reason
from pilotwrap.model.report import RunReport

TAIL_LINES = 8
MAX_JOBS = 5
"""Failed jobs whose words are shown: the first ones tell, the rest repeat them."""

REMEDIES: Mapping[Reason, str] = {
    "ok": "nothing needs to be done",
    "payload-exit": "the payload failed by itself: read its stderr, and run it by hand with `pilotwrap plan --explain`",
    "payload-signal": "the payload crashed or was killed: read its stderr; signal 9 is often a lack of memory",
    "out-of-memory": "give each rank more memory, or use fewer ranks a node",
    "stage-in": "check that the input is where the storage map says, and that its checksum is the catalogue's",
    "stage-out": "check that the payload writes the output under the job's name for it, and that the storage answers",
    "walltime": "give it more wall time, or less to do",
    "bad-input": "correct the spec or the job as the sentence says",
    "usage": "see `pilotwrap run --help`",
    "node-unusable": "run `pilotwrap inspect` on the node, and tell the site's staff",
    "node-lost": "send what is unreported with `pilotwrap flush`; look at the batch system's record of the node",
    "allocation": "ask the batch system for more nodes or time, or check account and hours",
    "launcher": "read the launcher's stderr in the job's directory; load the site's MPI or Slurm module",
    "binding": "compare `pilotwrap plan --explain` with the CPUs that the batch system gave (`pilotwrap inspect`)",
    "image": "check the way into the image (--enter), by running it with `pilotwrap --version` behind it",
    "environment": "free some disk, or load what is missing, as the sentence says",
    "credential": "renew the credential, or use one with the role production",
    "endpoint": "check that the endpoint is up",
    "pilot": "read what the pilot printed, stdout in the job's directory; try `pilotwrap doctor` on this node",
    "panda-queue": "check the queue's name, and that its status is online and its state ACTIVE",
    "server": "check the server's URL and the network; what is not told waits for `pilotwrap flush`",
    "no-work": "check that the queue has activated jobs that fit this node's memory, disk and time",
    "preempted": "submit it again, unless the batch system requeues it by itself",
    "cancelled": "somebody asked for its end: the server, or who signalled the run",
    "internal": "send the lines on stderr and this directory with a bug report",
}


def inquest(run_dir: Path) -> Inquest:
    """Return why a run ended; BadInputError when the directory is no run's."""
    if not (run_dir / "lock").is_file():
        raise BadInputError(
            f"{run_dir} is no run's directory",
            why="it has no lock file",
            remedy="give PARENT/aa/RUN_ID, as `run` prints",
        )
    report = _report(run_dir / "report.json")
    unreported = tuple(_unreported(run_dir))
    if report is None:
        return _without_report(run_dir, unreported)
    failed = tuple(job for job in report.jobs if job.state != "finished")[:MAX_JOBS]
    words = {job.name: _tail(run_dir / "jobs" / job.name) for job in failed if job.name}
    return Inquest(
        run_dir=str(run_dir),
        state=report.state,
        reason=report.reason,
        sentence=_sentence(report),
        remedy=REMEDIES[report.reason],
        jobs=failed,
        last_words={name: lines for name, lines in words.items() if lines},
        unreported=unreported,
    )


def _sentence(report: RunReport) -> str:
    failed = [job for job in report.jobs if job.state != "finished"]
    if report.reason == "ok":
        return f"all {report.job_count} jobs finished"
    if report.reason in {job.reason for job in failed}:
        return f"{len(failed)} of {report.job_count} jobs did not finish, for {report.reason}: {report.detail}"
    return f"{report.reason}: {report.detail}"


def _without_report(run_dir: Path, unreported: tuple[str, ...]) -> Inquest:
    if _lives(run_dir):
        sentence, state, remedy = "the run is still going on", "running", "wait for it"
    else:
        sentence = "the run died before it could write its report: it, its node or its allocation was killed"
        state, remedy = "died", f"pilotwrap flush {run_dir}" if unreported else REMEDIES["node-lost"]
    return Inquest(
        run_dir=str(run_dir),
        state=state,
        reason="ok" if state == "running" else "node-lost",
        sentence=sentence,
        remedy=remedy,
        unreported=unreported,
        events=_open_lives(run_dir / "journal.jsonl"),
    )


def _report(path: Path) -> RunReport | None:
    try:
        return RunReport.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise BadInputError(f"{path} cannot be read", why=str(error).splitlines()[0]) from error


def _lives(run_dir: Path) -> bool:
    """Tell whether the run's lock is held; a lock on another node is seen where the file system carries locks."""
    fd = os.open(run_dir / "lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _unreported(run_dir: Path) -> Iterator[str]:
    from pilotwrap.panda.spool import fold, read_spool

    for (panda_id, attempt_nr), entry in fold(read_spool(run_dir).records).items():
        if not entry.accepted:
            yield f"{panda_id}.{attempt_nr}"


def _tail(job: Path) -> tuple[str, ...]:
    for name in ("stderr", "stderr.0", "stdout"):
        try:
            lines = (job / name).read_text(errors="replace").splitlines()
        except OSError:
            continue
        if lines:
            return tuple(line[:300] for line in lines[-TAIL_LINES:])
    return ()


def _open_lives(journal: Path) -> dict[str, tuple[str, ...]]:
    """Return the last events of each job of a journal, torn lines left out."""
    events: dict[str, list[str]] = {}
    try:
        lines = journal.read_text(errors="replace").splitlines()
    except OSError:
        return {}
    for line in lines:
        said = _said(line)
        if said:
            events.setdefault(str(said.get("job")), []).append(f"{said.get('event')} {said.get('detail', '')}".strip())
    return {job: tuple(names[-3:]) for job, names in list(events.items())[-MAX_JOBS:]}


def _said(line: str) -> dict[str, object]:
    try:
        said = json.loads(line)
    except ValueError:  # the last line of a journal whose writer was killed
        return {}
    return said if isinstance(said, dict) else {}
