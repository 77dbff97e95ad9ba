"""One pilot seen from outside, fed with the recorded logs as files that grow."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pilot3.test_pilot_end import CASES, ENDS

from pilotwrap.model.outcome import RankOutcome
from pilotwrap.panda.legacy import PilotUpdate
from pilotwrap.run.pilot3 import watch as module
from pilotwrap.run.pilot3.log import PilotLog
from pilotwrap.run.pilot3.watch import MAX_EVENTS, READ_BYTES, SETTLED_S, Watch

if TYPE_CHECKING:
    from pilotwrap.run.pilot3.end import PilotEnd

LOGS = Path(__file__).with_name("logs")
TRANSFERS = Path(__file__).with_name("transfers") / "3.7.0.36.log"
NEVER_TOLD = sorted({"refused", "exit3", "oom", "segv", "inputfail", "stageout", "noout", "trf404"})
"""Cases in which the log calls the job failed two minutes before the server hears of it."""


@pytest.fixture
def stdout(tmp_path: Path) -> Path:
    return tmp_path / "stdout"


def watched(stdout: Path, case: str) -> Watch:
    stdout.write_bytes((LOGS / f"{case}.log").read_bytes())
    watch = Watch(stdout, time.monotonic())
    watch.read()
    return watch


def update_of(case: str, **more: str) -> PilotUpdate:
    said = {**CASES[case]["update"], **more}
    state = said.pop("state")
    return PilotUpdate(panda_id=4101, attempt_nr=1, state=state, arguments=said)


def ended(case: str) -> RankOutcome:
    recorded = CASES[case]
    code, signal = recorded["exit_code"], recorded["signal"]
    return RankOutcome(
        rank=0, host="n", exit_code=code if signal is None else 128 + signal, signal=signal, reason="payload-exit"
    )


def told(watch: Watch, case: str) -> Watch:
    """Tell a watch what the bridge heard of the recorded pilot."""
    if CASES[case]["asked"]:
        watch.seen(time.monotonic(), "asked for its job")
    if CASES[case]["update"]:
        watch.said(update_of(case), time.monotonic())
    return watch


def meant(end: PilotEnd) -> tuple[str, int | None]:
    return end.reason, end.exit_code


class TestJudged:
    @pytest.mark.parametrize("case", sorted(ENDS))
    def test_a_recorded_pilot_that_has_ended(self, stdout: Path, case: str) -> None:
        assert meant(told(watched(stdout, case), case).judged(ended(case))) == ENDS[case]

    @pytest.mark.parametrize("case", NEVER_TOLD)
    def test_a_recorded_pilot_that_only_waits_to_tell(self, stdout: Path, case: str) -> None:
        watch = watched(stdout, case)
        watch.seen(1.0, "asked for its job")
        assert meant(watch.judged(None, "ok")) == ENDS[case]

    def test_whether_it_asked_is_remembered_through_all_that_follows(self, stdout: Path) -> None:
        watch = Watch(stdout, 0.0)
        assert "without asking for its job" in watch.judged(ended("leader")).sentence
        watch.seen(1.0, "asked for its job")
        watch.seen(2.0, "said that it has started")
        assert "took its job" in watch.judged(ended("leader")).sentence

    def test_a_signalled_pilot_has_no_exit_code_of_its_own(self, stdout: Path) -> None:
        watch = Watch(stdout, 0.0)
        killed = ended("kill")
        assert killed.exit_code == 137
        assert "SIGKILL" in watch.judged(killed).sentence

    def test_its_last_word_counts_and_no_earlier_one(self, stdout: Path) -> None:
        watch = Watch(stdout, 0.0)
        watch.said(update_of("exit3"), 1.0)
        watch.said(update_of("success"), 2.0)
        assert watch.judged(None).reason == "ok"


class TestSettled:
    @pytest.mark.parametrize("case", NEVER_TOLD)
    def test_a_failed_job_is_told_for_a_pilot_that_sleeps(self, stdout: Path, case: str) -> None:
        watch = watched(stdout, case)
        read_at = time.monotonic()
        assert not watch.lingers(read_at)
        assert not watch.lingers(read_at + SETTLED_S - 1.0)
        assert watch.lingers(read_at + SETTLED_S)

    @pytest.mark.parametrize("case", ["success", "offline", "nojob", "kill", "hang"])
    def test_a_finished_job_or_none_is_never_told_for_the_pilot(self, stdout: Path, case: str) -> None:
        assert not watched(stdout, case).lingers(time.monotonic() + 10 * SETTLED_S)

    def test_the_first_time_that_the_log_says_so_counts(self, stdout: Path) -> None:
        watch = watched(stdout, "exit3")
        first = watch._settled_at
        with stdout.open("ab") as log:
            log.write((LOGS / "exit3.log").read_bytes())
        watch.read()
        assert first is not None
        assert watch._settled_at == first


class TestLife:
    def test_a_log_that_is_not_there_yet_is_no_sign_of_life(self, stdout: Path) -> None:
        watch = Watch(stdout, 100.0)
        watch.read()
        assert watch.silent_s(160.0) == 60.0

    def test_every_sign_of_life_counts_once(self, stdout: Path) -> None:
        watch = Watch(stdout, 0.0)
        watch.seen(10.0, "started")
        assert watch.silent_s(11.0) == 1.0
        watch.said(update_of("success"), 20.0)
        assert watch.silent_s(22.0) == 2.0

    def test_new_bytes_of_its_log_are_a_sign_of_life_and_old_ones_none(self, stdout: Path) -> None:
        long_ago = time.monotonic() - 1000.0
        watch = Watch(stdout, long_ago)
        stdout.write_bytes(b"x")
        watch.read()
        assert watch.silent_s(time.monotonic()) < 900.0
        watch.seen(long_ago, "sets the clock back for this test")
        watch.read()
        assert watch.silent_s(time.monotonic()) >= 1000.0
        with stdout.open("ab") as log:
            log.write(b"y")
        watch.read()
        assert watch.silent_s(time.monotonic()) < 900.0

    def test_it_does_not_matter_in_which_pieces_the_log_is_read(
        self, stdout: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = watched(stdout, "stageout")
        monkeypatch.setattr(module, "READ_BYTES", 7)
        pieces = Watch(stdout, time.monotonic())
        for _ in range(stdout.stat().st_size // 7 + 1):
            pieces.read()
        assert pieces.judged(None) == whole.judged(None)
        assert [what for _, what in pieces.timeline()] == [what for _, what in whole.timeline()]

    def test_no_more_than_a_bounded_part_is_read_at_a_time(self, stdout: Path) -> None:
        stdout.write_bytes(b"x" * (READ_BYTES + 5))
        watch = Watch(stdout, 0.0)
        watch.read()
        assert watch._offset == READ_BYTES
        watch.read()
        assert watch._offset == READ_BYTES + 5

    def test_a_pilot_that_repeats_itself_for_ever_fills_no_memory(self, stdout: Path) -> None:
        line = b"2026-11-21 11:22:10,671 | INFO     | started -- pid=58 executable=./run ok\n"
        stdout.write_bytes(line * (MAX_EVENTS + 10))
        watch = Watch(stdout, 0.0)
        watch.read()
        assert len(watch._events) == MAX_EVENTS


class TestOver:
    def test_it_is_over_with_its_last_word_or_when_its_case_is_closed(self, stdout: Path) -> None:
        watch = Watch(stdout, 0.0)
        assert not watch.over
        watch.said(update_of("success", state="running"), 1.0)
        assert not watch.over
        watch.final = update_of("success")
        assert watch.over
        fenced = Watch(stdout, 0.0)
        fenced.fenced = True
        assert fenced.over

    def test_its_last_word_is_answered_once(self, stdout: Path) -> None:
        watch = Watch(stdout, 0.0)
        said: list[str | None] = []
        watch.answered(1.0)  # nothing waits
        watch.reply = said.append
        watch.answered(2.0)
        watch.answered(3.0)
        assert said == ["NULL"]
        assert [at for at, _ in watch.timeline()] == [2.0]


class TestFiles:
    def test_the_final_update_names_them(self, stdout: Path) -> None:
        watch = Watch(stdout, 0.0)
        stdout.write_bytes(TRANSFERS.read_bytes())
        watch.read()
        report = {"out.txt": {"guid": "g", "fsize": 15, "adler32": "1", "surl": "file:///there"}}
        watch.final = update_of("success", job_output_report=json.dumps(report))
        assert {lfn: (file.size, file.url) for lfn, file in watch.files.items()} == {"out.txt": (15, "file:///there")}

    def test_without_one_its_log_does(self, stdout: Path) -> None:
        watch = Watch(stdout, 0.0)
        stdout.write_bytes(TRANSFERS.read_bytes())
        watch.read()
        assert [(lfn, file.size) for lfn, file in watch.files.items() if lfn == "out.txt"] == [("out.txt", 14)]
        watch.files.clear()
        assert "out.txt" in watch.files


class TestTimeline:
    def test_what_it_did_stands_there_in_its_order_on_the_drivers_clock(self, stdout: Path) -> None:
        watch = watched(stdout, "success")
        said = watch.timeline()
        assert said == sorted(said)
        log = PilotLog()
        events = log.feed((LOGS / "success.log").read_bytes())
        started = next(event.at for event in events if event.kind == "payload")
        assert started is not None
        epoch = time.time() - time.monotonic()
        at = next(at for at, what in said if what == "the pilot started the payload")
        assert at == pytest.approx(started - epoch, abs=1.0)
        whats = [what for _, what in said]
        course = ["has its job", "started the payload", "saw the payload end", "stages out", "knows its job's end"]
        assert [what for what in whats if what.removeprefix("the pilot ") in course] == [
            f"the pilot {what}" for what in dict.fromkeys(course) for _ in range(whats.count(f"the pilot {what}"))
        ]

    def test_what_it_wasted_is_said(self, stdout: Path) -> None:
        (slept,) = [what for _, what in watched(stdout, "exit3").timeline() if "slept" in what]
        seconds = int(slept.split()[-2])
        assert 100 < seconds < CASES["exit3"]["measured_s"]["exit"]

    def test_one_that_did_nothing_wasted_nothing(self, stdout: Path) -> None:
        assert Watch(stdout, 0.0).timeline() == []
        watch = Watch(stdout, 0.0)
        watch.seen(1.0, "started")
        assert watch.timeline() == [(1.0, "the pilot started")]

    def test_words_and_log_are_told_together(self, stdout: Path) -> None:
        watch = watched(stdout, "exit3")
        early: Any = min(at for at, _ in watch.timeline())
        watch.seen(early - 1.0, "started")
        assert watch.timeline()[0] == (early - 1.0, "the pilot started")
