import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.reasons import REASONS, Reason
from pilotwrap.run.pilot3.codes import DISGUISES, ERROR_CODES, EXIT_CODES_OF_PILOT
from pilotwrap.run.pilot3.end import _CAUSES, PilotEnd, PilotStory, PilotWords, pilot_end, pilot_words
from pilotwrap.run.pilot3.log import PilotLog

LOGS = Path(__file__).with_name("logs")
CASES: dict[str, Any] = json.loads((LOGS / "cases.json").read_text())

ENDS: dict[str, tuple[Reason, int | None]] = {
    "success": ("ok", 0),
    "inputmissing": ("ok", 0),
    "offline": ("ok", 0),
    "noschedconfig": ("ok", 0),
    "exit3": ("payload-exit", 3),
    "trf404": ("payload-exit", 2),
    "oom": ("payload-signal", 137),
    "segv": ("payload-signal", 139),
    "refused": ("bad-input", None),
    "trfdown": ("bad-input", None),
    "inputfail": ("stage-in", None),
    "stageout": ("stage-out", 0),
    "noout": ("stage-out", 0),
    "term": ("cancelled", None),
    "tobekilled": ("cancelled", 0),
    "kill": ("pilot", None),
    "leader": ("pilot", None),
    "hang": ("server", None),
    "badtoken": ("credential", None),
    "badrole": ("credential", None),
    "nojob": ("no-work", None),
    "notactive": ("panda-queue", None),
    "noqueuedata": ("panda-queue", None),
    "smalldisk": ("environment", None),
}
"""What each recorded end means; 3.7.0.36 itself exited with 0 for 17 of the 24."""

NO_FINAL_UPDATE = {"term", "refused", "exit3", "oom", "segv", "inputfail", "stageout", "noout", "tobekilled", "trf404"}


def story(case: str, **changes: object) -> PilotStory:
    recorded = CASES[case]
    log = PilotLog()
    log.feed((LOGS / f"{case}.log").read_bytes())
    update = dict(recorded["update"])
    told: dict[str, object] = {
        "exit_code": recorded["exit_code"],
        "signal": recorded["signal"],
        "asked": recorded["asked"],
        "words": pilot_words(update.pop("state", ""), update),
        "log": log.shown,
    }
    return PilotStory.model_validate(told | changes)


def failed(code: int, **words: object) -> PilotEnd:
    said = PilotWords.model_validate({"state": "failed", "pilot_error_code": code} | words)
    return pilot_end(PilotStory(exit_code=0, words=said))


def test_every_recorded_end_is_judged() -> None:
    assert set(ENDS) == set(CASES)


@pytest.mark.parametrize("case", sorted(ENDS))
def test_a_recorded_end_has_its_reason(case: str) -> None:
    end = pilot_end(story(case))
    assert (end.reason, end.exit_code) == ENDS[case]


@pytest.mark.parametrize("case", sorted(NO_FINAL_UPDATE))
def test_the_log_gives_the_same_reason_before_the_final_update(case: str) -> None:
    end = pilot_end(story(case, words=PilotWords(state="running"), exit_code=None))
    assert (end.reason, end.exit_code) == ENDS[case]


@pytest.mark.parametrize("case", sorted(ENDS))
def test_a_sentence_says_what_and_what_to_do_in_one_line(case: str) -> None:
    sentence = pilot_end(story(case)).sentence
    assert "\n" not in sentence
    assert len(sentence) < 500
    assert ("; " in sentence) == (ENDS[case][0] != "ok")


def test_a_session_leader_is_named_only_where_the_log_shows_it() -> None:
    assert "session leader" in pilot_end(story("leader")).sentence
    silent = pilot_end(PilotStory(exit_code=0, asked=True))
    assert silent.reason == "pilot"
    assert "took its job and exited with 0 without a word about it" in silent.sentence
    assert "leader" not in silent.sentence


def test_a_refused_transformation_is_named_by_its_url() -> None:
    assert "invalid base URL: http://127.0.0.1:25085/trf/run" in pilot_end(story("refused")).sentence


def test_a_pilot_that_died_of_sigkill_is_no_cancelled_one() -> None:
    end = pilot_end(story("kill"))
    assert "SIGKILL" in end.sentence
    assert "kernel's log" in end.sentence


@pytest.mark.parametrize(("code", "exit_code"), sorted(DISGUISES.items()))
def test_a_payloads_exit_is_not_what_the_newer_pilot_takes_it_for(code: int, exit_code: int) -> None:
    end = failed(code, trans_exit_code=exit_code)
    assert (end.reason, end.exit_code) == ("payload-exit", exit_code)
    assert failed(code, trans_exit_code=0).reason == ERROR_CODES[code].reason != "payload-exit"


def test_an_unknown_code_is_the_payloads_where_it_failed_and_else_the_pilots() -> None:
    assert failed(1999, trans_exit_code=7).reason == "payload-exit"
    assert failed(1999, trans_exit_code=0).reason == "pilot"
    assert "1999" in failed(1999).sentence


def test_an_exit_code_that_no_process_has_is_none() -> None:
    assert failed(1305, trans_exit_code=1220).exit_code is None
    assert failed(1149, trans_exit_code=200).exit_code is None
    assert failed(1201, trans_exit_code=254).exit_code is None


@pytest.mark.parametrize("reason", ["walltime", "cancelled", "preempted", "server"])
def test_who_ended_a_pilot_knows_why(reason: Reason) -> None:
    assert pilot_end(story("term", ended_for=reason)).reason == reason
    assert pilot_end(PilotStory(signal=9, ended_for=reason, words=PilotWords(state="running"))).reason == reason


def test_a_job_that_failed_before_its_pilot_was_ended_failed_for_its_own_reason() -> None:
    waiting = story("exit3", words=PilotWords(state="running"), exit_code=None, ended_for="walltime")
    assert pilot_end(waiting).reason == "payload-exit"
    assert pilot_end(story("exit3", ended_for="preempted")).reason == "payload-exit"


def test_a_finished_job_is_finished_whoever_ended_its_pilot() -> None:
    assert pilot_end(story("success", ended_for="ok", exit_code=None, signal=9)).reason == "ok"
    assert pilot_end(story("success", ended_for="cancelled", exit_code=None, signal=15)).reason == "ok"


def test_a_hung_pilots_log_may_say_what_it_hung_on() -> None:
    assert pilot_end(PilotStory(signal=9, ended_for="pilot")).sentence.startswith("the pilot hung")
    assert pilot_end(story("hang", ended_for="pilot", exit_code=None, signal=9)).reason == "server"


def test_an_old_trouble_is_forgotten_once_the_pilot_has_its_job() -> None:
    words = PilotWords(state="running")
    end = pilot_end(story("noschedconfig", words=words, exit_code=None, signal=9))
    assert end.reason == "pilot"


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1, "pilot"), (69, "environment"), (78, "panda-queue"), (80, "credential"), (82, "no-work"), (143, "cancelled")],
)
def test_an_exit_code_is_the_last_to_be_asked(code: int, reason: Reason) -> None:
    assert pilot_end(PilotStory(exit_code=code)).reason == reason
    assert pilot_end(story("exit3", exit_code=code, words=PilotWords(state="running"))).reason == "payload-exit"


def test_numbers_come_as_text_and_nonsense_is_nothing() -> None:
    words = pilot_words("failed", {"pilot_error_code": "1098", "trans_exit_code": "3.5", "pilot_error_diag": 7})
    assert words == PilotWords(state="failed", pilot_error_code=1098)
    assert pilot_words("failed", {"pilot_error_code": None, "trans_exit_code": True}) == PilotWords(state="failed")


def test_every_code_of_the_tables_has_a_known_reason_and_no_reason_is_ours() -> None:
    meanings = [*ERROR_CODES.values(), *EXIT_CODES_OF_PILOT.values()]
    assert {meaning.reason for meaning in meanings} <= set(REASONS) - {"ok", "internal", "usage"}
    assert all(meaning.why and not meaning.why.endswith(".") for meaning in meanings)


def test_every_code_that_a_site_sees_is_in_the_table() -> None:
    seen = {1008, 1098, 1099, 1137, 1144, 1149, 1150, 1163, 1165, 1201, 1212, 1213, 1305, 1359, 1376, 1386}
    assert seen <= set(ERROR_CODES)
    assert set(range(64, 84)) - {72} <= set(EXIT_CODES_OF_PILOT)


def test_no_cause_is_listed_twice() -> None:
    listed = [kind for kind, _ in _CAUSES]
    assert len(listed) == len(set(listed))


@given(
    st.tuples(st.none() | st.integers(-5, 300), st.none() | st.integers(0, 64)),
    st.none() | st.sampled_from(REASONS),
    st.sampled_from(["", "starting", "running", "failed", "finished", "holding", "?"]),
    st.integers(0, 2000),
    st.none() | st.sampled_from(sorted(CASES)),
)
def test_every_story_has_an_end(
    exited: tuple[int | None, int | None], ended_for: Reason | None, state: str, error: int, case: str | None
) -> None:
    words = PilotWords(state=state, pilot_error_code=error, pilot_error_diag="x\ny" * 900)
    log = story(case).log if case else {}
    told = PilotStory(exit_code=exited[0], signal=exited[1], ended_for=ended_for, words=words, log=log)
    end = pilot_end(told)
    assert (end.reason == "ok") == (state == "finished")
    assert end.sentence
    assert "\n" not in end.sentence
    assert len(end.sentence) < 600
