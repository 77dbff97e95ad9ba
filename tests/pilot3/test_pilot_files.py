"""What a pilot reports as stored, against what really lies there: the file counts, not the report."""

from __future__ import annotations

import tarfile
import time
import uuid
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from controller.rig import new_run, panda_surroundings
from pilot3.pilotrig import staging

from pilotwrap.model.outcome import Outcome
from pilotwrap.model.report import FileReport
from pilotwrap.plan.ledger import ledger_of
from pilotwrap.run.effects import StageOut
from pilotwrap.run.events import StagedOut, StageOutFailed
from pilotwrap.run.pilot3.files import stage_out
from pilotwrap.run.storage import StorageMap

if TYPE_CHECKING:
    from pilotwrap.run.job import Job
    from pilotwrap.run.surroundings import Surroundings

CONTENT = b"one two three\n"
LOG = "7.log.tgz"
LOG_GUID = "64daaf67-7fa2-4cca-9346-3e286bc6c98f"
"""The server's, of `job_entry`."""

HOME = "pilot/PanDA_Pilot3_17_1795260280"


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    return panda_surroundings(new_run(tmp_path), storage=None)


@pytest.fixture
def job(around: Surroundings) -> Job:
    """A finished job with one output and a log, whose pilot's directory is there still."""
    made = staging(
        around,
        ledger_of(around.allocation),
        outFiles=f"out.txt,{LOG}",
        ddmEndPointOut="OUT_SE,LOG_SE",
        scopeOut="panda",
    )
    made.state = made.state._replace(phase="staging-out")
    (made.directory / HOME / "PanDA_Pilot-7").mkdir(parents=True)
    return made


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    folder = tmp_path / "storage"
    folder.mkdir()
    return folder


def said(path: Path | str, content: bytes = CONTENT, guid: str = "") -> FileReport:
    """Return what a pilot says of a file with this content."""
    url = path if isinstance(path, str) else path.as_uri()
    return FileReport(guid=guid, size=len(content), adler32=f"{zlib.adler32(content):08x}", url=url)


def with_log(storage: Path, **files: FileReport) -> dict[str, FileReport]:
    """Return what is said of an output, and of a log that is where it should be."""
    (storage / LOG).write_bytes(b"log")
    return {**{lfn.replace("_", "."): file for lfn, file in files.items()}, LOG: said(storage / LOG, b"log")}


def brought(job: Job, around: Surroundings, files: dict[str, FileReport], *, outputs: bool = True) -> StagedOut:
    done = stage_out(job, around, files, StageOut(outputs=outputs, log=True))
    assert isinstance(done, StagedOut), done
    return done


def refused(job: Job, around: Surroundings, files: dict[str, FileReport]) -> StageOutFailed:
    done = stage_out(job, around, files, StageOut(outputs=True, log=True))
    assert isinstance(done, StageOutFailed), done
    return done


class TestWhereItShouldBe:
    def test_what_lies_there_is_reported_as_the_pilot_did(self, job: Job, around: Surroundings, storage: Path) -> None:
        (storage / "out.txt").write_bytes(CONTENT)
        done = brought(job, around, with_log(storage, out_txt=said(storage / "out.txt", guid="g")))
        assert done.files["out.txt"] == said(storage / "out.txt", guid="g").model_dump()
        assert set(done.files) == {"out.txt", LOG}
        assert done.at <= time.monotonic()

    def test_a_checksum_that_the_pilot_does_not_know_is_not_compared_and_a_short_one_is(
        self, job: Job, around: Surroundings, storage: Path
    ) -> None:
        (storage / "out.txt").write_bytes(b"")  # adler32 00000001
        for adler32 in ("", "1", "00000001"):
            file = said(storage / "out.txt", b"").model_copy(update={"adler32": adler32})
            brought(job, around, with_log(storage, out_txt=file))
        for wrong in ({"adler32": "2"}, {"adler32": "", "size": 1}):
            file = said(storage / "out.txt", b"").model_copy(update=wrong)
            refused(job, around, with_log(storage, out_txt=file))

    def test_localhost_is_this_machine(self, job: Job, around: Surroundings, storage: Path) -> None:
        (storage / "out.txt").write_bytes(CONTENT)
        there = f"file://localhost{storage}/out.txt"
        brought(job, around, with_log(storage, out_txt=said(there)))
        (storage / "out.txt").unlink()
        refused(job, around, with_log(storage, out_txt=said(there)))

    def test_a_guid_that_the_pilot_did_not_give_is_made(self, job: Job, around: Surroundings, storage: Path) -> None:
        (storage / "out.txt").write_bytes(CONTENT)
        done = brought(job, around, with_log(storage, out_txt=said(storage / "out.txt")))
        assert str(uuid.UUID(done.files["out.txt"]["guid"])) == done.files["out.txt"]["guid"]

    def test_the_logs_guid_is_the_servers(self, job: Job, around: Surroundings, storage: Path) -> None:
        (storage / "out.txt").write_bytes(CONTENT)
        done = brought(job, around, with_log(storage, out_txt=said(storage / "out.txt")))
        assert done.files[LOG]["guid"] == LOG_GUID

    @pytest.mark.parametrize("url", ["root://se.example.org//out.txt", "davs://se/out", "file://se.example.org/out"])
    def test_a_place_on_another_machine_is_trusted(
        self, job: Job, around: Surroundings, storage: Path, url: str
    ) -> None:
        done = brought(job, around, with_log(storage, out_txt=said(url)))
        assert done.files["out.txt"]["url"] == url


class TestElsewhere:
    @pytest.mark.parametrize("there", [b"", CONTENT[:-1], CONTENT + b"\n", b"one two thrae\n"])
    def test_another_file_in_its_place_is_not_the_output(
        self, job: Job, around: Surroundings, storage: Path, there: bytes
    ) -> None:
        (storage / "out.txt").write_bytes(there)
        done = refused(job, around, with_log(storage, out_txt=said(storage / "out.txt")))
        assert f"out.txt is not at {storage}/out.txt" in done.detail
        assert set(done.files) == {LOG}  # what is there is reported all the same

    def test_a_link_or_a_folder_in_its_place_is_none(self, job: Job, around: Surroundings, storage: Path) -> None:
        (storage / "other").write_bytes(CONTENT)
        (storage / "out.txt").symlink_to(storage / "other")
        refused(job, around, with_log(storage, out_txt=said(storage / "out.txt")))
        (storage / "out.txt").unlink()
        (storage / "out.txt").mkdir()
        refused(job, around, with_log(storage, out_txt=said(storage / "out.txt")))

    def test_an_output_of_which_nothing_is_said_is_missing(self, job: Job, around: Surroundings, storage: Path) -> None:
        done = refused(job, around, with_log(storage))
        assert "nothing of its output out.txt" in done.detail

    def test_of_a_failed_job_only_the_log_is_asked_for(self, job: Job, around: Surroundings, storage: Path) -> None:
        done = brought(job, around, with_log(storage), outputs=False)
        assert set(done.files) == {LOG}

    def test_the_first_trouble_is_told_and_the_others_files_are_kept(
        self, job: Job, around: Surroundings, storage: Path
    ) -> None:
        (storage / "out.txt").write_bytes(CONTENT)
        files = {"out.txt": said(storage / "out.txt"), LOG: said(storage / "nowhere", b"log")}
        done = refused(job, around, files)
        assert LOG in done.detail
        assert set(done.files) == {"out.txt"}


class TestLeftBehind:
    """The copytool mv leaves outputs in the pilot's own directory, which the pilot deletes."""

    @pytest.mark.parametrize("place", [HOME, f"{HOME}/PanDA_Pilot-7", "pilot"])
    @pytest.mark.parametrize("url", ["file://localhost/nowhere/out.txt", "root://se.example.org//out.txt"])
    def test_with_a_map_it_is_brought_to_where_that_says(
        self, job: Job, around: Surroundings, storage: Path, place: str, url: str
    ) -> None:
        (job.directory / place / "out.txt").write_bytes(CONTENT)
        mapped = panda_surroundings(around.run, storage=StorageMap(prefixes={"OUT_SE": f"{storage.as_uri()}/"}))
        done = brought(job, mapped, with_log(storage, out_txt=said(url, guid="g")))
        assert (storage / "out.txt").read_bytes() == CONTENT
        assert done.files["out.txt"] == said(storage / "out.txt", guid="g").model_dump()

    def test_a_map_for_all_endpoints_is_one(self, job: Job, around: Surroundings, storage: Path) -> None:
        (job.directory / HOME / "out.txt").write_bytes(CONTENT)
        mapped = panda_surroundings(around.run, storage=StorageMap(prefixes={"": f"{storage.as_uri()}/"}))
        brought(job, mapped, with_log(storage, out_txt=said("file:///nowhere/out.txt")))
        assert (storage / "out.txt").is_file()

    @pytest.mark.parametrize("prefixes", [None, {"OTHER": "file:///elsewhere/"}])
    def test_without_a_map_for_it_the_sentence_names_the_copytool_and_two_remedies(
        self, job: Job, around: Surroundings, storage: Path, prefixes: dict[str, str] | None
    ) -> None:
        (job.directory / HOME / "out.txt").write_bytes(CONTENT)
        mapped = panda_surroundings(around.run, storage=prefixes and StorageMap(prefixes=prefixes))
        done = refused(job, mapped, with_log(storage, out_txt=said("file:///nowhere/out.txt")))
        for words in ("a directory that it deletes", "copytool is mv", "mv_final_destination", "--storage FILE"):
            assert words in done.detail

    def test_a_storage_that_does_not_take_it_is_told(self, job: Job, around: Surroundings, storage: Path) -> None:
        (job.directory / HOME / "out.txt").write_bytes(CONTENT)
        mapped = panda_surroundings(around.run, storage=StorageMap(prefixes={"": "file:///nowhere/at/all/"}))
        assert "out.txt" in refused(job, mapped, with_log(storage, out_txt=said("file:///nowhere/out.txt"))).detail

    def test_a_link_does_not_hide_the_file(self, job: Job, around: Surroundings, storage: Path) -> None:
        (job.directory / HOME / "PanDA_Pilot-7" / "out.txt").write_bytes(CONTENT)
        (job.directory / HOME / "out.txt").symlink_to("PanDA_Pilot-7/out.txt")
        mapped = panda_surroundings(around.run, storage=StorageMap(prefixes={"": f"{storage.as_uri()}/"}))
        brought(job, mapped, with_log(storage, out_txt=said("file:///nowhere/out.txt")))
        assert (storage / "out.txt").read_bytes() == CONTENT

    @pytest.mark.parametrize("linked", ["file", "folder", "home"])
    def test_no_link_of_the_payload_leads_us_to_somebody_elses_file(
        self, job: Job, around: Surroundings, storage: Path, tmp_path: Path, linked: str
    ) -> None:
        """As root we could read what the payload may not."""
        private = tmp_path / "private"
        (private / "PanDA_Pilot3_1").mkdir(parents=True)
        for folder in (private, private / "PanDA_Pilot3_1"):
            (folder / "out.txt").write_bytes(b"hush")
        if linked == "file":
            (job.directory / HOME / "out.txt").symlink_to(private / "out.txt")
        elif linked == "folder":
            (job.directory / "pilot" / "PanDA_Pilot3_1").symlink_to(private)
        else:
            (job.directory / "pilot").rename(job.directory / "kept")
            (job.directory / "pilot").symlink_to(private)
        mapped = panda_surroundings(around.run, storage=StorageMap(prefixes={"": f"{storage.as_uri()}/"}))
        refused(job, mapped, with_log(storage, out_txt=said("file:///nowhere/out.txt")))
        assert not (storage / "out.txt").exists()


class TestLog:
    def test_without_the_pilots_own_it_is_made_of_what_it_left(
        self, job: Job, around: Surroundings, storage: Path
    ) -> None:
        (job.directory / "stdout").write_text("what the pilot said\n")
        job.outcome = Outcome(reason="pilot", exit_code=None, ranks=())
        mapped = panda_surroundings(around.run, storage=StorageMap(prefixes={"LOG_SE": f"{storage.as_uri()}/"}))
        done = brought(job, mapped, {}, outputs=False)
        assert done.files[LOG]["guid"] == LOG_GUID
        with tarfile.open(storage / LOG) as log:
            assert any(name.endswith("stdout") for name in log.getnames())

    def test_a_job_without_a_log_has_none(self, around: Surroundings, tmp_path: Path) -> None:
        job = staging(around, ledger_of(around.allocation), logFile="", outFiles="", ddmEndPointOut="")
        job.directory.mkdir()
        assert brought(job, around, {"x": said(tmp_path / "x")}, outputs=False).files == {}
