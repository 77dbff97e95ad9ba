from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest

from pilotwrap.run import events as ev
from pilotwrap.run.effects import (
    Done,
    Effect,
    Record,
    Report,
    Send,
    Settle,
    Signal,
    Spawn,
    Spool,
    StageIn,
    StageOut,
    Wake,
)
from pilotwrap.run.life import step
from pilotwrap.run.state import NEVER, Rules, State

RULES = Rules(heartbeat_s=600.0, jitter=0.0)
LOG = {"log": {"guid": "g", "size": 1, "adler32": "00000001"}}
STAGING = (ev.Acquired(0.0), ev.Recorded(1.0))
RUNNING = (*STAGING, ev.StagedIn(2.0), ev.Started(3.0), ev.Answered(4.0, "running", 2, "ok"))
TOLD = (*RUNNING, ev.Exited(10.0, "ok", 0), ev.StagedOut(11.0, LOG), ev.Spooled(12.0))


def after(events: Iterable[ev.Event], rules: Rules = RULES) -> State:
    state = State(rules=rules)
    for event in events:
        state, _ = step(state, event)
    return state


def effects(events: Iterable[ev.Event], last: ev.Event, rules: Rules = RULES) -> list[Effect]:
    """What the last event asks for, without the Wakes."""
    _, found = step(after(events, rules), last)
    return [effect for effect in found if not isinstance(effect, Wake)]


def report(found: Iterable[Effect]) -> Report:
    return next(effect.report for effect in found if isinstance(effect, Spool))


def test_the_record_comes_before_all_else() -> None:
    assert effects([], ev.Acquired(0.0)) == [Record()]


def test_starting_is_told_beside_the_stage_in() -> None:
    assert effects([ev.Acquired(0.0)], ev.Recorded(1.0)) == [Send("starting", 1), StageIn()]


def test_a_job_that_cannot_be_recorded_does_not_run_and_is_told_directly() -> None:
    (sent,) = effects([ev.Acquired(0.0)], ev.RecordFailed(1.0, "no space left"))
    assert isinstance(sent, Send)
    assert sent.to == "terminal"
    assert sent.report is not None
    assert (sent.report.state, sent.report.reason) == ("failed", "environment")
    assert "no space left" in sent.report.detail


def test_an_unrecorded_job_is_not_settled() -> None:
    events = [ev.Acquired(0.0), ev.RecordFailed(1.0)]
    assert effects(events, ev.Answered(2.0, "terminal", 1, "ok")) == [Done(told=True)]


def test_running_is_told_when_the_payload_has_started() -> None:
    assert effects([*STAGING, ev.StagedIn(2.0)], ev.Started(3.0)) == [Send("running", 2)]


def test_a_lost_starting_is_repeated_before_the_server_gives_the_job_up() -> None:
    state = after([*STAGING, ev.Answered(2.0, "starting", 1, "unreachable")])
    assert state.wake < 2.0 + RULES.retry_s + 1.0
    _, found = step(state, ev.Tick(state.wake))
    assert found[0] == Send("starting", 2)


def test_a_heartbeat_waits_for_the_one_before_it() -> None:
    beating = [*RUNNING, ev.Tick(603.0)]
    assert effects(RUNNING, ev.Tick(603.0)) == [Send("heartbeat", 3)]
    assert effects(beating, ev.Tick(603.0 + RULES.answer_s - 1.0)) == []


def test_a_lost_answer_frees_the_heartbeat() -> None:
    lost = [*RUNNING, ev.Tick(603.0), ev.Tick(603.0 + RULES.answer_s)]
    assert effects(lost, ev.Tick(603.0 + RULES.answer_s + RULES.retry_s)) == [Send("heartbeat", 4)]


def test_a_kill_is_obeyed_once() -> None:
    kill = ev.Answered(20.0, "running", 2, "kill", "by its owner")
    assert effects(RUNNING, kill) == [Signal(RULES.grace_s)]
    assert effects([*RUNNING, kill], kill) == []
    events = [*RUNNING, kill, ev.Exited(21.0, "payload-signal", 143)]
    told = report(effects(events, ev.StagedOut(22.0, LOG)))
    assert (told.state, told.reason, told.exit_code, told.detail) == ("cancelled", "cancelled", 143, "by its owner")


def test_a_kill_before_the_start_starts_nothing() -> None:
    kill = ev.Answered(2.0, "starting", 1, "kill")
    assert effects(STAGING, kill) == [StageOut(outputs=False, log=True)]
    assert effects([*STAGING, kill], ev.StagedIn(3.0)) == []


def test_a_kill_after_the_payload_has_finished_changes_nothing() -> None:
    events = [*RUNNING, ev.Exited(10.0, "ok", 0), ev.Answered(11.0, "running", 2, "kill")]
    assert report(effects(events, ev.StagedOut(12.0, LOG))).state == "finished"


def test_a_kill_in_answer_to_nothing_is_ignored() -> None:
    assert effects(RUNNING, ev.Answered(20.0, "heartbeat", 7, "kill")) == []
    assert effects(RUNNING, ev.Answered(20.0, "heartbeat", 0, "kill")) == []


@pytest.mark.parametrize(("reason", "outputs"), [("ok", True), ("payload-exit", False), ("walltime", False)])
def test_outputs_travel_only_when_good_the_log_always(reason: ev.Reason, outputs: bool) -> None:  # noqa: FBT001
    assert effects(RUNNING, ev.Exited(10.0, reason, 3)) == [StageOut(outputs=outputs, log=True)]


def test_a_good_payload_without_its_outputs_has_failed() -> None:
    events = [*RUNNING, ev.Exited(10.0, "ok", 0)]
    told = report(effects(events, ev.StageOutFailed(11.0, "no route", LOG)))
    assert (told.state, told.reason, told.exit_code, told.files) == ("failed", "stage-out", 0, LOG)


def test_a_failed_payload_without_its_log_stays_what_it_was() -> None:
    events = [*RUNNING, ev.Exited(10.0, "payload-exit", 3)]
    told = report(effects(events, ev.StageOutFailed(11.0, "no route")))
    assert (told.state, told.reason, told.exit_code) == ("failed", "payload-exit", 3)


def test_the_report_is_spooled_then_sent_then_settled() -> None:
    spool = effects(TOLD[:-2], TOLD[-2])
    send = effects(TOLD[:-1], TOLD[-1])
    assert [type(effect) for effect in spool] == [Spool]
    assert send == [Send("terminal", 3, report(spool))]
    assert effects(TOLD, ev.Answered(13.0, "terminal", 3, "ok")) == [Settle(), Done(told=True)]


@pytest.mark.parametrize("verdict", ["already", "kill"])
def test_already_and_kill_mean_accepted(verdict: ev.Answer) -> None:
    assert effects(TOLD, ev.Answered(13.0, "terminal", 3, verdict)) == [Settle(), Done(told=True)]


def test_a_late_answer_to_an_earlier_try_counts() -> None:
    retried = [*TOLD, ev.Answered(13.0, "terminal", 3, "unreachable"), ev.Tick(30.0)]
    assert effects(retried, ev.Answered(31.0, "terminal", 3, "ok")) == [Settle(), Done(told=True)]


def test_a_late_failure_of_an_earlier_try_starts_no_other() -> None:
    retried = [*TOLD, ev.Answered(13.0, "terminal", 3, "unreachable"), ev.Tick(30.0)]
    assert effects(retried, ev.Answered(31.0, "terminal", 3, "unreachable")) == []


def test_retries_back_off_and_end() -> None:
    state, sends = after(TOLD), []
    while state.phase != "done":
        number = state.talk.number
        state, _ = step(state, ev.Answered(state.at, "terminal", number, "unreachable"))
        state, found = step(state, ev.Tick(max(state.wake, state.at)))
        sends += [state.at for effect in found if isinstance(effect, Send)]
    pauses = [later - earlier for earlier, later in pairwise(sends)]
    assert found == (Done(told=False),)
    assert state.at <= 12.0 + RULES.give_up_s + 1.0
    assert max(pauses) <= RULES.retry_max_s
    assert max(pauses) > RULES.retry_max_s / 2
    assert len(sends) < 40


def test_a_refused_report_is_tried_once_more_and_left() -> None:
    refused = [*TOLD, ev.Answered(13.0, "terminal", 3, "refused"), ev.Tick(30.0)]
    assert effects(refused, ev.Answered(31.0, "terminal", 4, "refused")) == [Done(told=False)]


def test_a_refusal_of_nothing_is_not_counted() -> None:
    paused = [*TOLD, ev.Answered(13.0, "terminal", 3, "refused")]
    assert effects(paused, ev.Answered(13.1, "terminal", 0, "refused")) == []


def test_better_told_than_lost_when_the_spool_is_full() -> None:
    full = effects(TOLD[:-1], ev.SpoolFailed(12.0, "no space left"))
    assert [type(effect) for effect in full] == [Send]
    events = [*TOLD[:-1], ev.SpoolFailed(12.0)]
    assert effects(events, ev.Answered(13.0, "terminal", 3, "ok")) == [Done(told=True)]


def test_a_disk_that_has_room_again_takes_the_report_with_the_next_try() -> None:
    events = [*TOLD[:-1], ev.SpoolFailed(12.0), ev.Answered(13.0, "terminal", 3, "unreachable")]
    again = effects(events, ev.Tick(30.0))
    assert [type(effect) for effect in again] == [Spool, Send]
    back = [*events, ev.Tick(30.0), ev.Spooled(31.0)]
    assert effects(back, ev.Answered(32.0, "terminal", 4, "ok")) == [Settle(), Done(told=True)]


def test_nothing_changes_a_spooled_report() -> None:
    before = after(TOLD).report
    for event in (ev.Exited(13.0, "payload-exit", 9), ev.StopAsked(13.0, "cancelled", 60.0), ev.StageOutFailed(13.0)):
        assert after([*TOLD, event]).report == before


def test_a_stop_before_the_start_starts_nothing() -> None:
    stopped = [ev.Acquired(0.0), ev.StopAsked(0.5, "preempted", 60.0)]
    assert effects(stopped, ev.Recorded(1.0)) == [StageOut(outputs=False, log=True)]
    told = report(effects([*stopped, ev.Recorded(1.0)], ev.StagedOut(2.0, LOG)))
    assert (told.state, told.reason, told.started_at) == ("failed", "preempted", None)


def test_a_stop_gives_the_grace_that_fits() -> None:
    (signal,) = effects(RUNNING, ev.StopAsked(20.0, "walltime", 30.0))
    assert isinstance(signal, Signal)
    assert 10.0 <= signal.grace_s <= 30.0 - RULES.tell_s - RULES.log_s
    assert effects(RUNNING, ev.StopAsked(20.0, "walltime", 3600.0)) == [Signal(RULES.grace_s)]
    assert effects(RUNNING, ev.StopAsked(20.0, "walltime", 2.0)) == [Signal(0.0)]


def test_a_nearer_end_shortens_the_grace_and_keeps_the_reason() -> None:
    stopped = [*RUNNING, ev.StopAsked(20.0, "preempted", 600.0)]
    (signal,) = effects(stopped, ev.StopAsked(21.0, "cancelled", 10.0))
    assert signal == Signal(2.5)
    assert effects(stopped, ev.StopAsked(21.0, "cancelled", 900.0)) == []
    ended = [*stopped, ev.StopAsked(21.0, "cancelled", 10.0), ev.Exited(22.0, "payload-signal", 143)]
    verdict = after(ended).verdict
    assert verdict is not None
    assert verdict.reason == "preempted"


def test_the_batch_system_s_word_corrects_a_stop_s_reason_until_the_report_is_fixed() -> None:
    stopped = [*RUNNING, ev.StopAsked(20.0, "cancelled", 60.0)]
    owned_up = ev.StopAsked(20.1, "preempted", 59.9)
    assert effects(stopped, owned_up) == [], "it ends no sooner and gets no second signal"
    ended = ev.Exited(21.0, "payload-signal", 143)
    for events in ([*stopped, owned_up, ended], [*stopped, ended, owned_up]):
        told = report(effects(events, ev.StagedOut(22.0, LOG)))
        assert (told.state, told.reason, told.exit_code) == ("failed", "preempted", 143)
    fixed = [*stopped, ended, ev.StagedOut(22.0, LOG)]
    assert after([*fixed, owned_up]).report == after(fixed).report


def test_what_the_server_ended_was_not_preempted() -> None:
    killed = [
        *RUNNING,
        ev.Answered(5.0, "running", 2, "ok"),
        ev.Tick(700.0),
        ev.Answered(701.0, "heartbeat", 3, "kill"),
    ]
    stopped = [*killed, ev.StopAsked(702.0, "cancelled", 5.0), ev.StopAsked(702.1, "preempted", 4.9)]
    verdict = after(stopped).verdict
    assert verdict is not None
    assert (verdict.state, verdict.reason) == ("cancelled", "cancelled")


def test_a_payload_that_was_told_to_stop_has_not_finished() -> None:
    events = [*RUNNING, ev.StopAsked(20.0, "walltime", 60.0), ev.Exited(21.0, "ok", 0)]
    told = report(effects(events, ev.StagedOut(22.0, LOG)))
    assert (told.state, told.reason, told.exit_code) == ("failed", "walltime", 0)


def test_the_log_is_left_when_the_budget_is_too_short_for_it() -> None:
    stopped = [*RUNNING, ev.StopAsked(20.0, "walltime", 10.0)]
    assert [type(effect) for effect in effects(stopped, ev.Exited(23.0, "payload-signal", 137))] == [Spool]


def test_a_stage_out_that_does_not_fit_the_budget_is_abandoned() -> None:
    stopped = [*RUNNING, ev.Exited(10.0, "ok", 0), ev.StopAsked(20.0, "walltime", 60.0)]
    assert effects(stopped, ev.Tick(60.0)) == [Send("heartbeat", 3)] or effects(stopped, ev.Tick(60.0)) == []
    told = report(effects(stopped, ev.Tick(20.0 + 60.0 - RULES.tell_s)))
    assert (told.state, told.reason, told.exit_code) == ("failed", "walltime", 0)
    assert report(effects(stopped, ev.StagedOut(70.0, LOG))).state == "finished"


def test_a_stop_while_telling_tries_at_once() -> None:
    waiting = [*TOLD, ev.Answered(13.0, "terminal", 3, "unreachable")]
    assert [type(effect) for effect in effects(waiting, ev.StopAsked(13.1, "walltime", 20.0))] == [Send]


def test_a_lost_starter_is_the_end_of_the_payload() -> None:
    assert effects(RUNNING, ev.StarterLost(20.0)) == []
    lost = [*RUNNING, ev.StarterLost(20.0)]
    assert effects(lost, ev.Exited(20.5, "payload-signal", 137)) == [StageOut(outputs=False, log=True)]
    assert effects(lost, ev.Tick(20.0 + RULES.reap_s)) == [StageOut(outputs=False, log=True)]
    verdict = after([*lost, ev.Tick(20.0 + RULES.reap_s)]).verdict
    assert verdict is not None
    assert (verdict.state, verdict.reason) == ("failed", "node-lost")


def test_nothing_is_spawned_without_a_starter() -> None:
    lost = [*STAGING, ev.StarterLost(1.5)]
    assert Spawn() not in effects(lost, ev.StagedIn(2.0))
    assert effects([ev.Acquired(0.0), ev.StarterLost(0.5)], ev.Recorded(1.0)) == [StageOut(outputs=False, log=True)]


def test_an_exit_that_never_comes_is_a_lost_node() -> None:
    killed = [*RUNNING, ev.Answered(20.0, "running", 2, "kill")]
    assert effects(killed, ev.Tick(20.0 + RULES.grace_s + RULES.reap_s)) == [StageOut(outputs=False, log=True)]
    verdict = after([*killed, ev.Tick(20.0 + RULES.grace_s + RULES.reap_s)]).verdict
    assert verdict is not None
    assert verdict.reason == "node-lost"
    assert "never seen" in verdict.detail


def test_a_start_that_never_comes_is_ended_and_signalled_again_when_it_does() -> None:
    late = [*STAGING, ev.StagedIn(2.0), ev.Answered(2.5, "starting", 1, "ok"), ev.Tick(2.0 + RULES.spawn_s)]
    assert Signal(RULES.grace_s) in effects(late[:-1], late[-1])
    assert effects(late, ev.Started(2.0 + RULES.spawn_s + 5.0)) == [Signal(RULES.grace_s)]


def test_a_payload_that_outlives_its_limit_unseen_is_ended() -> None:
    rules = RULES._replace(run_s=100.0)
    assert Signal(RULES.grace_s) in effects(RUNNING, ev.Tick(103.0), rules)


@pytest.mark.parametrize("told_by", ["caller", "harvester"])
def test_a_job_told_by_another_is_neither_recorded_nor_sent(told_by: str) -> None:
    rules = RULES._replace(told_by=told_by)
    assert effects([], ev.Acquired(0.0), rules) == [StageIn()]
    events = [ev.Acquired(0.0), ev.StagedIn(2.0), ev.Started(3.0)]
    assert effects(events, ev.Tick(5000.0), rules) == []
    over = [*events, ev.Exited(5001.0, "ok", 0)]
    assert effects(over, ev.StagedOut(5002.0, LOG), rules) == [Done(told=True)]
    assert after([*over, ev.StagedOut(5002.0, LOG)], rules).report == Report(
        "finished", "ok", 0, "", LOG, started_at=3.0, ended_at=5001.0
    )


def test_repeats_change_nothing() -> None:
    for count in range(1, len(TOLD) + 1):
        assert effects(TOLD[:count], TOLD[count - 1]) == []


def test_a_tick_that_comes_early_is_asked_for_again() -> None:
    state = after(RUNNING)
    _, found = step(state, ev.Tick(state.wake - 0.5))
    assert found == (Wake(state.wake),)


def test_only_the_life_that_waits_wakes() -> None:
    assert after([*TOLD, ev.Answered(13.0, "terminal", 3, "ok")]).wake == NEVER
