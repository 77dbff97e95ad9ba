"""How a whole run ended: its exit code, its state, its reason and its size."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, get_args

import pytest

from pilotwrap.model.allocation import UnfitNode
from pilotwrap.model.errors import (
    BadInputError,
    CredentialError,
    InternalError,
    NodeUnusableError,
    PilotwrapError,
    ServerError,
)
from pilotwrap.model.outcome import Outcome, RankOutcome, Usage
from pilotwrap.model.reasons import EXIT_CODES, REASONS, Reason
from pilotwrap.model.report import MAX_REPORT_BYTES, JobReport, RunReport, RunState
from pilotwrap.run.summary import MAX_DETAIL, RunEnd, exit_code, refusal, run_report, set_aside, timeline

if TYPE_CHECKING:
    from collections.abc import Sequence

WORST_FIRST = [70, 3, 4, 130, 143, 124, 2, 1, 0]
"""What the contract says: a node's fault beats a failed job; what nobody was told of, or a stop, beats it too."""


def report(reason: Reason = "ok", *, told: bool = True, detail: str = "", **more: object) -> JobReport:
    state = {"ok": "finished", "cancelled": "cancelled"}.get(reason, "failed")
    return JobReport.model_validate({"state": state, "reason": reason, "detail": detail, "told": told, **more})


ENDS: dict[str, tuple[int, list[JobReport], RunEnd]] = {
    "well": (0, [report()], RunEnd()),
    "job": (1, [report("payload-exit")], RunEnd()),
    "job's wall time": (1, [report("walltime")], RunEnd()),
    "job killed by the server": (1, [report("cancelled")], RunEnd()),
    "job preempted": (1, [report("preempted")], RunEnd()),
    "bad job": (2, [report("bad-input")], RunEnd()),
    "node": (3, [report("node-lost")], RunEnd()),
    "untold": (4, [report(told=False)], RunEnd()),
    "fault": (70, [report("internal")], RunEnd()),
    "interrupted": (130, [], RunEnd(stopped=2, stop_reason="cancelled")),
    "terminated": (143, [], RunEnd(stopped=15, stop_reason="cancelled")),
    "hung up": (143, [], RunEnd(stopped=1, stop_reason="cancelled")),
    "out of time": (124, [], RunEnd(stopped=0, stop_reason="walltime")),
    "out of time by a signal": (124, [], RunEnd(stopped=15, stop_reason="walltime")),
    "starter lost": (3, [], RunEnd(error=NodeUnusableError("the starter went away"))),
    "server lost": (4, [], RunEnd(error=ServerError("no answer"))),
    "token lost": (3, [], RunEnd(error=CredentialError("expired"))),
    "bad words": (2, [], RunEnd(error=BadInputError("no"))),
    "our fault": (70, [], RunEnd(error=InternalError("oh"))),
}


def both(first: RunEnd, second: RunEnd) -> RunEnd:
    stop = first if first.stop_reason else second
    return RunEnd(stopped=stop.stopped, stop_reason=stop.stop_reason, error=first.error or second.error)


def possible(one: str, other: str) -> bool:
    """Tell whether both can be: a run has one error and one stop at most."""
    first, second = ENDS[one][2], ENDS[other][2]
    return not ((first.error and second.error) or (first.stop_reason and second.stop_reason))


PAIRS = [pair for pair in itertools.combinations(ENDS, 2) if possible(*pair)]


class TestExitCode:
    @pytest.mark.parametrize("name", ENDS)
    def test_one_end_alone(self, name: str) -> None:
        code, reports, end = ENDS[name]
        assert exit_code(reports, end) == code

    @pytest.mark.parametrize(("one", "other"), PAIRS)
    def test_of_two_the_worse_counts_in_any_order(self, one: str, other: str) -> None:
        (first, reports, end), (second, more, further) = ENDS[one], ENDS[other]
        worse = min(first, second, key=WORST_FIRST.index)
        assert exit_code(reports + more, both(end, further)) == worse
        assert exit_code(more + reports, both(further, end)) == worse

    def test_no_job_at_all_is_no_work(self) -> None:
        assert exit_code([], RunEnd()) == 5

    @pytest.mark.parametrize("reason", REASONS)
    def test_a_jobs_reason_gives_the_contracts_code(self, reason: Reason) -> None:
        expected = 1 if reason in {"cancelled", "preempted"} else EXIT_CODES[reason]
        assert exit_code([report(reason)], RunEnd()) == expected


class TestState:
    @pytest.mark.parametrize(
        ("reports", "end", "state", "reason"),
        [
            ([report()], RunEnd(), "finished", "ok"),
            ([report(), report("stage-in")], RunEnd(), "failed", "stage-in"),
            ([report("payload-exit"), report("node-lost")], RunEnd(), "failed", "node-lost"),
            ([], RunEnd(), "no-work", "no-work"),
            ([], RunEnd(error=ServerError("gone")), "failed", "server"),
            ([report()], RunEnd(error=ServerError("gone")), "failed", "server"),
            ([report("cancelled")], RunEnd(stop_reason="cancelled"), "cancelled", "cancelled"),
            ([], RunEnd(stop_reason="cancelled"), "cancelled", "cancelled"),
            ([report()], RunEnd(stop_reason="walltime"), "failed", "walltime"),
            ([report("cancelled")], RunEnd(), "failed", "cancelled"),
            ([report(), report(told=False)], RunEnd(), "finished", "server"),
            ([report("cancelled", told=False)], RunEnd(stop_reason="cancelled"), "cancelled", "server"),
            ([report("node-lost", told=False)], RunEnd(), "failed", "node-lost"),
        ],
    )
    def test_state_and_reason(self, reports: Sequence[JobReport], end: RunEnd, state: RunState, reason: Reason) -> None:
        told = run_report(reports, end)
        assert (told.state, told.reason) == (state, reason)
        assert bool(told.detail) or reason in {"ok", "stage-in", "node-lost", "cancelled"}

    def test_what_could_not_be_told_is_said_with_what_tells_it(self) -> None:
        told = run_report([report(), report(told=False)], RunEnd(run_dir="/runs/aa/one"))
        assert told.detail.startswith("1 of 2 reports could not be told")
        assert told.detail.endswith("`pilotwrap flush /runs/aa/one`")

    def test_a_refusal_is_failed_with_its_sentence_and_where_it_lies(self) -> None:
        error = CredentialError("the token expired", why="yesterday", remedy="renew it")
        told = refusal(error, "/runs/aa/one")
        assert (told.state, told.reason, told.run_dir) == ("failed", "credential", "/runs/aa/one")
        assert told.detail == "the token expired: yesterday; renew it"

    def test_a_run_is_finished_exactly_when_its_exit_code_is_nought(self) -> None:
        for code, reports, end in ENDS.values():
            if all(one.told for one in reports):
                assert (run_report(reports, end).state == "finished") == (code == 0)

    def test_the_exit_code_of_the_report_is_the_payloads(self) -> None:
        jobs = [report("payload-exit", exit_code=3), report(exit_code=0), report("stage-in")]
        assert run_report(jobs, RunEnd()).exit_code == 3
        assert run_report([report("stage-in")], RunEnd()).exit_code is None

    def test_use_is_added_up_over_jobs(self) -> None:
        used = Usage(wall_s=2, user_s=1, system_s=0.5, max_rss_kib=10)
        jobs = [report(usage=used), report(usage=used.model_copy(update={"max_rss_kib": 30}))]
        assert run_report(jobs, RunEnd()).usage == Usage(wall_s=4, user_s=2, system_s=1, max_rss_kib=30)


class TestSize:
    def test_thousands_of_long_jobs_fit_failed_ones_first(self) -> None:
        jobs = [report(detail="x" * 400, panda_id=number) for number in range(3000)]
        jobs += [report("stage-in", detail="ж" * 5000, panda_id=9999)]
        told = run_report(jobs, RunEnd())
        assert len(told.to_json().encode()) <= MAX_REPORT_BYTES
        assert told.job_count == 3001
        assert told.jobs[0].panda_id == 9999
        assert len(told.jobs[0].detail) == MAX_DETAIL
        assert 10 < len(told.jobs) < 3001
        assert RunReport.model_validate_json(told.to_json()) == told

    def test_a_few_jobs_are_all_there_with_all_their_words(self) -> None:
        jobs = [report("stage-in", detail=f"number {number}") for number in range(20)]
        assert run_report(jobs, RunEnd()).jobs == tuple(jobs)


def rank_end(rank: int | None, reason: Reason, code: int, host: str = "node1") -> RankOutcome:
    return RankOutcome(rank=rank, host=host, exit_code=code, signal=None, reason=reason)


class TestRanks:
    def test_ranks_that_ended_alike_are_counted_with_at_most_ten_examples(self) -> None:
        well = [rank_end(number, "ok", 0) for number in range(50)]
        ranks = (*well, rank_end(50, "payload-exit", 3, "node2"))
        found = run_report([report()], RunEnd(outcomes=(Outcome(reason="payload-exit", exit_code=3, ranks=ranks),)))
        assert [(one.reason, one.exit_code, one.count, len(one.examples)) for one in found.ranks] == [
            ("ok", 0, 50, 10),
            ("payload-exit", 3, 1, 1),
        ]
        assert found.ranks[1].examples == ("node2:50",)

    def test_a_launcher_is_counted_only_where_its_ranks_are_silent(self) -> None:
        launcher, rank = rank_end(None, "payload-exit", 3), rank_end(4, "payload-exit", 3)
        spoken = Outcome(reason="payload-exit", exit_code=3, ranks=(rank, launcher))
        silent = Outcome(reason="ok", exit_code=0, ranks=(rank_end(None, "ok", 0),))
        found = run_report([report()], RunEnd(outcomes=(spoken, silent))).ranks
        assert [(one.reason, one.examples) for one in found] == [
            ("payload-exit", ("node1:4",)),
            ("ok", ("node1:launcher",)),
        ]


class TestTimeline:
    def test_it_is_in_order_and_relative_to_the_beginning(self) -> None:
        jobs = [report(started_at=110.0, ended_at=120.0), report(started_at=105.0, ended_at=130.5)]
        assert [(entry.at_s, entry.what) for entry in timeline(jobs, 100.0, 131.0)] == [
            (0.0, "the run began"),
            (5.0, "the first payload started"),
            (10.0, "the last payload started"),
            (20.0, "the first payload ended"),
            (30.5, "the last payload ended"),
            (31.0, "the run was over"),
        ]

    def test_without_a_payload_it_is_the_run_alone(self) -> None:
        assert [entry.at_s for entry in timeline([report("stage-in")], 100.0, 101.0)] == [0.0, 1.0]


def test_every_error_has_a_place_in_the_order() -> None:
    codes = {kind("x").exit_code for kind in PilotwrapError.__subclasses__() if kind.__module__.startswith("pilotwrap")}
    assert codes <= set(WORST_FIRST)
    assert set(EXIT_CODES) == set(get_args(Reason))


def test_nodes_that_were_set_aside_are_named_in_the_timeline_and_never_crowd_the_report() -> None:
    unfit = [UnfitNode(host=f"node{n}", reason="node-unusable", detail=f"it is {'ill ' * 999}") for n in range(1000)]
    (first, *_, last) = set_aside(unfit)
    assert first.what.startswith("node0 was set aside: it is ill")
    assert last.what == "990 more nodes were set aside"
    said = run_report([report()], RunEnd(timeline=set_aside(unfit)))
    assert (len(said.timeline), len(said.jobs)) == (11, 1)
    assert set_aside(()) == ()
