from __future__ import annotations

from pilotwrap.model.credential import Credential
from pilotwrap.model.report import FileReport, JobReport
from pilotwrap.panda.spool import (
    AcceptedRecord,
    AcquiredRecord,
    Acquisition,
    SpoolEntry,
    TerminalRecord,
    fold,
    orphan_report,
    parse_spool,
)
from pilotwrap.run.effects import Report

from .flush import ORPHAN
from .simulation import live

ACQUISITION = Acquisition(
    server="https://localhost",
    panda_queue="Q",
    credential=Credential(kind="token", path="/t", origin="vo.role"),
    panda_id=7,
    attempt_nr=1,
    at=1.0,
)


def job_report(report: Report) -> JobReport:
    """The real value with the fields of the machine's; an orphan's comes from the real spool."""
    if report is ORPHAN:
        return orphan_report(SpoolEntry(acquired=ACQUISITION), 5.0)
    files = {lfn: FileReport.model_validate(dict(fields)) for lfn, fields in report.files.items()}
    return JobReport(
        panda_id=7,
        attempt_nr=1,
        state=report.state,
        reason=report.reason,
        exit_code=report.exit_code,
        detail=report.detail,
        started_at=report.started_at,
        ended_at=report.ended_at,
        files=files,
    )


def spool_bytes(records: list[tuple[str, Report | None]]) -> bytes:
    """The disk of a simulated life as the real spool would have left it, torn lines and all."""
    data = b""
    for kind, report in records:
        accepted = AcceptedRecord(panda_id=7, attempt_nr=1)
        record = AcquiredRecord(acquisition=ACQUISITION) if kind == "acquired" else accepted
        line = (TerminalRecord(report=job_report(report)) if report else record).to_json().encode()
        separator = b"\n" if data and not data.endswith(b"\n") else b""
        data += separator + (line[: len(line) // 2] if kind == "torn" else line + b"\n")
    return data


def test_the_real_spool_reads_every_simulated_disk_as_the_model_does() -> None:
    met = set()
    for seed in range(600):
        records = live(seed).records
        text = parse_spool(spool_bytes(records))
        entry = fold(text.records).get((7, 1), SpoolEntry())
        kinds = [kind for kind, _ in records]
        first = next((report for _, report in records if report is not None), None)
        assert (entry.acquired is not None) == ("acquired" in kinds), seed
        assert entry.accepted == ("accepted" in kinds), seed
        assert entry.terminal == (job_report(first) if first else None), seed
        assert len(text.problems) == kinds.count("torn"), seed
        met |= set(kinds)
    assert met == {"acquired", "terminal", "accepted", "torn"}
