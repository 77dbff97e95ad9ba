"""What a pilot's stdout says to have stored: a recorded one, the newer form of it, and any bytes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.report import FileReport
from pilotwrap.run.pilot3.stored import LINE_MAX, Stored

LOGS = Path(__file__).with_name("logs")
RECORDED = (Path(__file__).with_name("transfers") / "3.7.0.36.log").read_bytes()
"""What 3.7.0.36 wrote of a job with an input, an output and a log, by the copytool mv; its directories renamed."""

LOG_LFN = "log.3332d551-7b8c-4df3-a363-83ba982153d0.job.log.tgz"
BEGIN = "2026-11-21 11:59:20,977 | INFO     | copytool_out | transfer | ready to transfer (stage-out) files: ["
"""As 3.11 heads it (api/data.py); each file follows as it prints itself (info/filespec.py)."""


def read(text: bytes | str) -> dict[str, FileReport]:
    stored = Stored()
    stored.feed(text.encode() if isinstance(text, str) else text)
    return stored.files


def file(lfn: str, **more: object) -> str:
    said = {
        "accessmode": "",
        "checksum": {"adler32": "276c04ff"},
        "ddmendpoint": "LAB",
        "filesize": 14,
        "guid": "562006ed-8c14-49dd-8c4f-83ec1a9ce3f5",
        "lfn": lfn,
        "surl": f"/pilot/{lfn}",
        "turl": f"file://localhost/storage/{lfn}",
        "workdir": None,
    }
    return "".join(f" {key}={value}\n" for key, value in sorted({**said, **more}.items()))


def begin(*files: str) -> str:
    return f"{BEGIN}{', '.join(files)}]\n"


def end(lfn: str, code: int = 0, state: str = "transferred") -> str:
    return f"2026-11-21 11:59:20,994 | INFO     | x | y |  -- lfn={lfn}, status_code={code}, status={state}\n"


class TestRecorded:
    def test_the_output_and_the_log_of_a_job_and_not_its_input(self) -> None:
        assert read(RECORDED) == {
            "out.txt": FileReport(
                guid="", size=14, adler32="276c04ff", url="file://localhost/storage/lab/03/df/out.txt"
            ),
            LOG_LFN: FileReport(
                guid="080c17c4-f5fa-46de-b1d9-7506f5c88870",
                size=5323,
                adler32="fb682dba",
                url=f"file://localhost/storage/lab/d5/52/{LOG_LFN}",
            ),
        }

    def test_an_output_that_is_still_going_is_not_stored(self) -> None:
        until = RECORDED.index(b" -- lfn=out.txt")
        assert read(RECORDED[:until]) == {}
        assert set(read(RECORDED[: RECORDED.index(b"prepare to stage-out")])) == {"out.txt"}

    @pytest.mark.parametrize("log", sorted(path.name for path in LOGS.glob("*.log")))
    def test_a_log_that_names_no_transfer_stores_nothing(self, log: str) -> None:
        text = (LOGS / log).read_bytes()
        assert b"status=transferred" not in text
        assert read(text) == {}

    @given(st.lists(st.integers(0, len(RECORDED)), max_size=20))
    def test_it_does_not_matter_how_the_bytes_come(self, cuts: list[int]) -> None:
        stored = Stored()
        edges = [0, *sorted(cuts), len(RECORDED)]
        for left, right in pairwise(edges):
            stored.feed(RECORDED[left:right])
        assert stored.files == read(RECORDED)


class TestWords:
    def test_two_files_of_one_transfer(self) -> None:
        text = begin(file("a"), file("b", filesize=15)) + end("a") + end("b")
        assert {lfn: one.size for lfn, one in read(text).items()} == {"a": 14, "b": 15}

    def test_one_of_two_that_failed_is_not_stored(self) -> None:
        text = begin(file("a"), file("b")) + end("a", 1137, "failed") + end("b")
        assert set(read(text)) == {"b"}

    def test_a_file_that_was_not_transferred_is_not_stored(self) -> None:
        assert read(begin(file("a")) + end("a", 0, "(not transferred)")) == {}

    def test_a_second_try_is_what_counts(self) -> None:
        first = begin(file("a", turl="file://localhost/one")) + end("a", 1137, "failed")
        assert read(first + begin(file("a", turl="file://localhost/two")) + end("a"))["a"].url == "file://localhost/two"

    def test_a_transfer_that_was_not_announced_is_not_known(self) -> None:
        assert read(end("a")) == {}
        assert read(file("a") + end("a")) == {}
        assert read(begin().replace("out) files", "in) files").replace("]\n", file("a") + "]\n") + end("a")) == {}

    def test_what_follows_the_list_is_no_file(self) -> None:
        assert set(read(begin(file("a")) + file("b") + end("a") + end("b"))) == {"a"}

    def test_what_is_not_set_is_not_the_word_none(self) -> None:
        """Python prints None for a turl or a GUID that nobody has set: neither is a place nor a name."""
        (stored,) = read(begin(file("a", turl=None, guid=None)) + end("a")).values()
        assert (stored.url, stored.guid) == (None, "")

    def test_a_short_checksum_is_filled_up(self) -> None:
        assert read(begin(file("a", checksum={"adler32": "1"})) + end("a"))["a"].adler32 == "00000001"

    @pytest.mark.parametrize(
        "more",
        [
            {"checksum": {"md5": "0" * 32}},
            {"checksum": None},
            {"filesize": -1},
            {"filesize": "²"},
            {"filesize": ""},
            {"filesize": "9" * 19},
            {"filesize": "١٤"},
        ],
    )
    def test_a_file_without_size_or_checksum_cannot_be_reported(self, more: dict[str, object]) -> None:
        assert read(begin(file("a", **more)) + end("a")) == {}

    def test_a_line_without_end_is_read_as_far_as_any_line_is(self) -> None:
        stored = Stored()
        for _ in range(20):
            stored.feed(b"x" * LINE_MAX)
        assert len(stored._rest) == LINE_MAX
        stored.feed(("\n" + begin(file("a")) + end("a")).encode())
        assert set(stored.files) == {"a"}


_WORDS = st.sampled_from(
    [
        begin().encode()[:-2],
        b"]\n",
        b"\n",
        end("a").encode(),
        *(f" {key}=".encode() for key in ("checksum", "filesize", "guid", "lfn", "turl", "workdir")),
        b"{'adler32': '0'}",
        b"14",
        "²٣".encode(),
        b"a\n",
    ]
)


@given(st.lists(_WORDS | st.binary(max_size=20), max_size=60).map(b"".join))
def test_any_bytes_are_read(text: bytes) -> None:
    for stored in read(text).values():
        assert stored.size >= 0
        assert len(stored.adler32) == 8
