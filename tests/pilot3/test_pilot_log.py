import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.run.pilot3.log import KEPT_ERRORS, LINE_MAX, PHRASES, PilotEvent, PilotLog, wasted

LOGS = Path(__file__).with_name("logs")
CASES = json.loads((LOGS / "cases.json").read_text())


def read(case: str) -> tuple[PilotLog, tuple[PilotEvent, ...]]:
    log = PilotLog()
    events = log.feed((LOGS / f"{case}.log").read_bytes())
    return log, events + log.close()


def kinds(case: str) -> list[str]:
    return [event.kind for event in read(case)[1]]


def said(line: str) -> tuple[PilotEvent, ...]:
    return PilotLog().feed(f"{line}\n".encode())


def test_every_recorded_log_has_its_case_and_every_case_its_log() -> None:
    assert {path.stem for path in LOGS.glob("*.log")} == set(CASES)


@pytest.mark.parametrize("case", sorted(CASES))
def test_every_recorded_log_tells_its_version(case: str) -> None:
    assert read(case)[0].shown["version"].what == "3.7.0.36"


def test_a_jobs_course_is_seen_in_order() -> None:
    course = [
        "job",
        "told",
        "transformation",
        "payload",
        "payload-ended",
        "stage-out",
        "staged-out",
        "settled",
        "final",
    ]
    seen = [kind for kind in kinds("success") if kind in course]
    assert list(dict.fromkeys(seen)) == course
    assert read("success")[0].shown["job"].what == "4101"
    assert read("success")[0].shown["ended"].number == 0


def test_times_are_in_utc_and_to_the_millisecond() -> None:
    (event,) = said("2026-11-21 11:22:10,671 | INFO     | started -- pid=58 executable=./run ok")
    assert (event.at, event.number) == (1795260130.671, 58)


@pytest.mark.parametrize(("case", "code"), [("success", 0), ("exit3", 3), ("oom", -9), ("segv", -11), ("term", None)])
def test_the_payloads_exit_code_is_read_from_a_line_without_a_time(case: str, code: int | None) -> None:
    assert read(case)[0].shown["payload-ended"].number == code


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("refused", "no-transformation"),
        ("trfdown", "no-transformation"),
        ("nojob", "no-job"),
        ("badrole", "job-refused"),
        ("notactive", "queue"),
        ("noqueuedata", "queue-data"),
        ("smalldisk", "disk"),
        ("badtoken", "proxy"),
        ("hang", "server"),
        ("stageout", "stage-out-failed"),
        ("noout", "stage-out-failed"),
        ("inputfail", "stage-in-failed"),
        ("leader", "session-leader"),
        ("term", "signal"),
        ("tobekilled", "killed"),
    ],
)
def test_a_log_shows_why_and_why_has_the_line(case: str, kind: str) -> None:
    log, events = read(case)
    troubles = [event for event in events if event.kind == kind]
    assert troubles
    if kind != "no-job":
        assert any(troubles[0].text in line for line in log.errors)


def test_a_good_log_shows_no_trouble() -> None:
    assert read("success")[0].errors == ()


def test_a_trouble_keeps_its_first_line_which_is_its_cause() -> None:
    assert "invalid base URL: http://127.0.0.1:25085/trf/run" in read("refused")[0].shown["no-transformation"].text
    assert "timed out" in read("hang")[0].shown["server"].text


def test_a_failed_job_is_settled_two_minutes_before_its_final_update() -> None:
    shown = read("exit3")[0].shown
    settled, final = shown["settled"], shown["final"]
    assert settled.what == "failed"
    assert final.at is not None
    assert settled.at is not None
    assert 110 < final.at - settled.at < 120


@pytest.mark.parametrize(
    ("case", "least", "most"),
    [
        ("success", 15, 16),
        ("exit3", 143, 146),
        ("nojob", 55, 61),
        ("term", 190, 206),
        ("kill", 0, 0),
        ("leader", 40, 60),
    ],
)
def test_what_a_pilot_wastes_is_its_waiting(case: str, least: float, most: float) -> None:
    assert least <= wasted(read(case)[1]) <= most


def test_a_sleep_that_was_cut_short_counts_as_long_as_it_was() -> None:
    (event,) = said("2026-11-21 11:22:10,000 | WARNING  | did not get a job -- sleep 118s and repeat -- status: {}")
    assert event.at is not None
    assert event.sleeps_s == 118
    assert wasted([event], event.at + 5) == 5


def test_sleeps_of_several_threads_at_once_count_once() -> None:
    line = "2026-11-21 11:22:1{},000 | WARNING  | since job:queue_monitor is responsible for sending job updates, {}"
    events = [said(line.format(second, "we sleep for 20 s"))[0] for second in (0, 5)]
    assert wasted(events, (events[0].at or 0) + 100) == 25


def test_a_second_try_of_an_update_tells_of_the_sleep_before_it() -> None:
    begin = said("2026-11-21 11:22:10,000 | INFO     | did not get a job -- sleep 0 s and repeat")
    (again,) = said("2026-11-21 11:24:10,000 | INFO     | server update attempt 2/10")
    assert wasted([*begin, again]) == 120
    assert said("2026-11-21 11:24:10,000 | INFO     | server update attempt 1/10") == ()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("INFO     | downloading file run [trial 1/3]", "fetching"),
        ("CRITICAL | specified queue is OFFLINE: TEST_QUEUE -- aborting", "queue"),
        ("CRITICAL | could not download transform: run", "no-transformation"),
        ("INFO     | will try again after 31 s..", "sleep"),
        ("WARNING  | failed to send request: HTTP Error 403: Forbidden", "proxy"),
        ("WARNING  | failed to send request: <urlopen error timed out>", "server"),
        ("WARNING  | did not get a job -- sleep 97s and repeat -- status: {'StatusCode': 20}", "no-job"),
        ("WARNING  | job has exceeded the memory limit 5 kB > 4 kB (2 * queuedata.maxrss)", "memory"),
    ],
)
def test_the_newer_pilots_wording_is_known(line: str, kind: str) -> None:
    (event,) = said(f"2026-11-21 11:22:10,671 | {line}")
    assert event.kind == kind


def test_debug_lines_are_read_too() -> None:
    name = "pilot.control.job                | retrieve                 "
    (event,) = said(
        f"2026-11-21 11:22:10,671 | INFO     | {name} | received job: 4101 (sleep until the job has finished)"
    )
    assert (event.kind, event.what) == ("job", "4101")


def test_a_job_cannot_speak_for_the_pilot_from_within_a_line() -> None:
    assert said("2026-11-21 11:22:10,671 | INFO     | job definition = {'jobPars': 'caught signal: SIGTERM'}") == ()
    assert said("setting job as completed (state=finished)") == ()


def test_every_phrase_names_its_source_and_matches_no_empty_line() -> None:
    assert all(re.search(r"\.py", phrase.where) for phrase in PHRASES)
    assert not any(phrase.pattern.match("") for phrase in PHRASES)


_LINES = [line.encode() for case in CASES for line in (LOGS / f"{case}.log").read_text().splitlines()[:40]]


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(_LINES)), max_size=30), st.integers(1, 50))
def test_any_bytes_in_any_pieces_are_read_alike(parts: list[bytes], step: int) -> None:
    data = b"\n".join(parts)
    whole, pieces = PilotLog(), PilotLog()
    at_once = whole.feed(data) + whole.close()
    bit_by_bit = tuple(e for i in range(0, len(data), step) for e in pieces.feed(data[i : i + step])) + pieces.close()
    assert at_once == bit_by_bit
    assert whole.errors == pieces.errors
    assert wasted(at_once) >= 0


@given(st.text(alphabet="0123456789", min_size=1, max_size=5000))
def test_no_number_is_too_long(digits: str) -> None:
    for line in ("started -- pid={}", "did not get a job -- sleep {} s", "server update attempt {}/10"):
        said(f"2026-11-21 11:22:10,671 | INFO     | {line.format(digits)}")


def test_memory_stays_bounded() -> None:
    log = PilotLog()
    for _ in range(200):
        log.feed(b"x" * 100_000)
    assert len(log._rest) <= LINE_MAX
    log.feed(b"\n")
    for n in range(1000):
        log.feed(f"2026-11-21 11:22:10,671 | ERROR    | {n} {'x' * 3000}\n".encode())
    assert len(log.errors) == KEPT_ERRORS
    assert max(map(len, log.errors)) <= 500


def test_impossible_times_are_no_times() -> None:
    (event,) = said("2026-99-99 11:22:10,671 | INFO     | received job: 1 (x)")
    assert event.at is None
    assert wasted([event]) == 0
