from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import SiteEnvironmentError
from pilotwrap.model.report import FileReport, JobReport
from pilotwrap.panda.spool import (
    AcceptedRecord,
    AcquiredRecord,
    Acquisition,
    Record,
    Spool,
    SpoolEntry,
    TerminalRecord,
    fold,
    orphan_report,
    parse_spool,
    read_spool,
)

if TYPE_CHECKING:
    from pathlib import Path


def acquired(panda_id: int, attempt_nr: int | None = 1, server: str = "http://127.0.0.1:1") -> AcquiredRecord:
    return AcquiredRecord(
        acquisition=Acquisition(
            server=server,
            panda_queue="Q",
            credential=Credential(kind="token", path="/secret/token", origin="a.production"),
            panda_id=panda_id,
            attempt_nr=attempt_nr,
            log_lfn="log.tgz",
            log_guid="guid",
            core_count=4,
            node="n1",
            batch_id="4711",
            at=1.5,
        )
    )


def terminal(panda_id: int, attempt_nr: int | None = 1, detail: str = "") -> TerminalRecord:
    files = {"log.tgz": FileReport(guid="guid", size=3, adler32="00000001")}
    return TerminalRecord(
        report=JobReport(
            panda_id=panda_id, attempt_nr=attempt_nr, state="finished", reason="ok", detail=detail, files=files
        )
    )


def accepted(panda_id: int, attempt_nr: int | None = 1) -> AcceptedRecord:
    return AcceptedRecord(panda_id=panda_id, attempt_nr=attempt_nr)


def test_what_is_appended_is_read_again(tmp_path: Path) -> None:
    records: list[Record] = [acquired(1), acquired(2, None), terminal(1, detail="é\n\0"), accepted(1)]
    spool = Spool(tmp_path)
    spool.append(records[:2])
    spool.append(records[2:])
    spool.append([])
    spool.close()
    text = read_spool(tmp_path)
    assert text.records == tuple(records)
    assert text.problems == ()


def test_the_spool_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        spool = Spool(tmp_path / "aa" / "run")
        spool.append([acquired(1)])
        spool.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(spool.path.parent.stat().st_mode) == 0o700


def test_many_records_cost_one_write_and_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    spool.append([acquired(1)])
    calls: list[str] = []
    real_write, real_fsync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda fd, data: (calls.append("write"), real_write(fd, data))[1])
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("fsync"), real_fsync(fd))[1])
    spool.append([terminal(number) for number in range(1, 50)])
    assert calls == ["write", "fsync"]
    spool.close()


def test_no_spool_holds_nothing_and_a_directory_in_its_place_is_an_error(tmp_path: Path) -> None:
    assert read_spool(tmp_path).records == ()
    (tmp_path / "spool.jsonl").mkdir()
    with pytest.raises(SiteEnvironmentError, match="cannot be read"):
        read_spool(tmp_path)
    with pytest.raises(SiteEnvironmentError, match="cannot be written"):
        Spool(tmp_path).append([acquired(1)])


def test_a_link_in_its_place_is_not_written_through(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    (tmp_path / "spool.jsonl").symlink_to(target)
    with pytest.raises(SiteEnvironmentError):
        Spool(tmp_path).append([acquired(1)])
    assert target.read_bytes() == b""


def test_a_torn_line_is_passed_over_and_the_next_record_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    whole = acquired(1).to_json().encode() + b"\n"
    path.write_bytes(whole + acquired(2).to_json().encode()[:40])
    assert read_spool(tmp_path).problems == ("line 2 is torn",)
    spool = Spool(tmp_path)
    spool.append([terminal(1)])
    spool.close()
    text = read_spool(tmp_path)
    assert text.records == (acquired(1), terminal(1))
    assert text.problems == ("line 2 is no record",)


def test_a_garbage_line_does_not_hide_what_follows() -> None:
    lines = [acquired(1).to_json(), "garbage", "[]", '{"record":"new-kind"}', "", "\0\0\0", terminal(1).to_json(), ""]
    text = parse_spool("\n".join(lines).encode())
    assert text.records == (acquired(1), terminal(1))
    assert text.problems == ("line 2 is no record", "line 3 is no record", "line 4 is no record")


def test_a_full_disk_leaves_nothing_half_written_and_the_spool_usable(tmp_path: Path) -> None:
    """A file size limit is the full disk that every user can have; the short write before it is real."""
    spool = Spool(tmp_path)
    spool.append([acquired(1)])
    before = spool.path.stat().st_size
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before + 100, hard))
    try:
        with pytest.raises(SiteEnvironmentError, match="free some space"):
            spool.append([terminal(1), terminal(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old_handler)
    assert spool.path.stat().st_size == before
    spool.append([terminal(1)])
    spool.close()
    assert read_spool(tmp_path).records == (acquired(1), terminal(1))


def test_what_append_returned_for_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from pilotwrap.panda.spool import *\n"
        "spool = Spool(Path(sys.argv[1]))\n"
        "number = 0\n"
        "while True:\n"
        "    number += 1\n"
        "    spool.append([AcceptedRecord(panda_id=number, attempt_nr=1)])\n"
        "    print(number, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(20)]
        child.kill()
        told += child.stdout.readlines()
    whole = [int(line) for line in told if line.endswith("\n")]
    ids = [record.key[0] for record in read_spool(tmp_path).records]
    assert ids[: len(whole)] == whole


class TestFold:
    def test_each_attempt_is_for_itself(self) -> None:
        entries = fold([acquired(1, 1), acquired(1, 2), acquired(1, None), terminal(1, 2), accepted(1, 2)])
        assert set(entries) == {(1, 1), (1, 2), (1, None)}
        assert entries[1, 1].terminal is None
        assert entries[1, 2].accepted

    def test_the_first_last_word_stays(self) -> None:
        entries = fold([acquired(1), terminal(1, detail="first"), terminal(1, detail="second")])
        report = entries[1, 1].terminal
        assert report is not None
        assert report.detail == "first"

    @given(st.permutations([acquired(1), terminal(1), accepted(1), acquired(2), terminal(2)]))
    def test_the_order_of_records_does_not_matter(self, records: list[Record]) -> None:
        entries = fold(records)
        assert entries[1, 1] == SpoolEntry(acquired=acquired(1).acquisition, terminal=terminal(1).report, accepted=True)
        assert not entries[2, 1].accepted

    @given(st.lists(st.sampled_from([acquired(1), terminal(1), accepted(1), acquired(2)]), max_size=8))
    def test_a_repeated_record_changes_nothing(self, records: list[Record]) -> None:
        assert fold(records) == fold([*records, *records])


def test_an_orphan_is_told_failed_under_its_batch_id() -> None:
    report = orphan_report(fold([acquired(1)])[1, 1], 99.0)
    assert (report.state, report.reason, report.batch_id, report.node) == ("failed", "node-lost", "4711", "n1")
    assert (report.panda_id, report.attempt_nr, report.core_count, report.ended_at) == (1, 1, 4, 99.0)
    assert "the run died before the job ended" in report.detail
    with pytest.raises(ValueError, match="nothing is known"):
        orphan_report(SpoolEntry(), 99.0)


@given(st.binary(max_size=300), st.integers(0, 400))
def test_any_bytes_are_a_spool(garbage: bytes, cut: int) -> None:
    whole = (acquired(1).to_json() + "\n").encode()
    assert parse_spool(garbage).records == ()
    text = parse_spool(whole + garbage.replace(b"\n", b"") + b"\n" + whole[:cut])
    assert text.records[0] == acquired(1)


def test_the_spool_names_the_credential_and_never_holds_it(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("the-secret")
    record = acquired(1).model_copy(
        update={
            "acquisition": acquired(1).acquisition.model_copy(
                update={"credential": Credential(kind="token", path=str(token), origin="a.b")}
            )
        }
    )
    spool = Spool(tmp_path)
    spool.append([record])
    spool.close()
    assert b"the-secret" not in spool.path.read_bytes()
    assert str(token).encode() in spool.path.read_bytes()
