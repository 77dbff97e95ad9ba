"""What ended means, what the shims wrote, and what a plan asks of the starter: tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan.facts import alike, job

from pilotwrap.model.outcome import RankOutcome, Usage
from pilotwrap.model.reasons import NODE_REASONS, REASONS
from pilotwrap.plan.plan import plan
from pilotwrap.plan.request import PlanRequest
from pilotwrap.run.orders import OUTPUT_CAP, Payload, shim_file, signals, spawns
from pilotwrap.run.results import shim_results
from pilotwrap.run.verdict import SHIM_MISMATCH_EXIT, outcome, rank_outcome, spawn_failure
from pilotwrap.site.accelerators.vendors import ALL_MASKS

from .rig import head

if TYPE_CHECKING:
    from pathlib import Path

    from pilotwrap.model.plan import Plan
    from pilotwrap.model.reasons import Reason


class TestRankOutcome:
    @pytest.mark.parametrize(
        ("said", "reason", "exit_code"),
        [
            ({"exit_code": 0}, "ok", 0),
            ({"exit_code": 1}, "payload-exit", 1),
            ({"exit_code": 255}, "payload-exit", 255),
            ({"exit_code": None, "signal": 11}, "payload-signal", 139),
            ({"exit_code": None, "signal": 9}, "payload-signal", 137),
            ({"exit_code": SHIM_MISMATCH_EXIT}, "binding", SHIM_MISMATCH_EXIT),
            ({"exit_code": None, "signal": 15, "timed_out": True}, "walltime", 143),
            ({"exit_code": 0, "timed_out": True}, "walltime", 0),
            ({"exit_code": 121, "timed_out": True}, "walltime", 121),
        ],
    )
    def test_the_starters_word_to_a_reason(self, said: dict[str, Any], reason: Reason, exit_code: int) -> None:
        found = rank_outcome(3, "node1", said)
        assert (found.rank, found.host, found.reason, found.exit_code) == (3, "node1", reason, exit_code)
        assert bool(found.detail) == (reason != "ok")

    def test_a_timeout_is_not_finished(self) -> None:
        assert rank_outcome(0, "node1", {"exit_code": 0, "timed_out": True}).reason != "ok"

    def test_use_and_what_was_left_are_kept_and_may_be_missing(self) -> None:
        used = {"wall_s": 2.0, "user_s": 1.5, "system_s": 0.5, "max_rss_kib": 9, "started_at": 77.0}
        found = rank_outcome(0, "node1", {"exit_code": 0, "usage": used, "left": 2})
        assert (found.usage, found.started_at, found.left) == (
            Usage(wall_s=2.0, user_s=1.5, system_s=0.5, max_rss_kib=9),
            77.0,
            2,
        )
        bare = rank_outcome(0, "node1", {"exit_code": 0, "usage": None, "left": None})
        assert (bare.usage, bare.left) == (Usage(), 0)


class TestSpawnFailure:
    @pytest.mark.parametrize("errno", ["ENOENT", "EACCES", "ENOEXEC", "ENOTDIR", "ELOOP", "ENAMETOOLONG", "E2BIG"])
    def test_what_is_the_commands_fault_leaves_the_node_whole(self, errno: str) -> None:
        reason, detail = spawn_failure({"errno": errno, "what": "start payload", "text": "why not"})
        assert (reason, detail.startswith("cannot start payload: why not; ")) == ("bad-input", True)

    @pytest.mark.parametrize("errno", ["EAGAIN", "ENOMEM", "EIO", "ESTALE", "ETXTBSY", "EPERM", "nonsense"])
    def test_any_other_is_the_nodes(self, errno: str) -> None:
        reason, detail = spawn_failure({"errno": errno, "what": "fork", "text": "why not"})
        assert (reason, detail) == ("node-unusable", "cannot fork: why not")
        assert reason in NODE_REASONS

    def test_a_device_that_is_not_as_promised_is_a_mismatch(self) -> None:
        said = {
            "errno": "ENODEV",
            "what": "give it its devices (promised the device 1, but …)",
            "text": "No such device",
        }
        assert spawn_failure(said) == ("binding", "cannot give it its devices (promised the device 1, but …)")

    def test_a_word_without_anything_is_still_a_sentence(self) -> None:
        assert spawn_failure({}) == ("node-unusable", "cannot start the payload: ?")


def rank(number: int | None, reason: Reason, exit_code: int | None = None, **more: Any) -> RankOutcome:  # noqa: ANN401
    host = more.pop("host", "node1")
    return RankOutcome(rank=number, host=host, exit_code=exit_code, signal=None, reason=reason, detail=reason, **more)


class TestOutcome:
    @pytest.mark.parametrize(
        ("ranks", "reason"),
        [
            ([("ok", 0)], "ok"),
            ([("ok", 0), ("payload-exit", 3)], "payload-exit"),
            # a rank that exits makes its launcher signal the others: the exit explains them
            ([("payload-signal", 143), ("payload-exit", 3)], "payload-exit"),
            ([("payload-exit", 3), ("walltime", 143)], "walltime"),
            ([("walltime", 143), ("bad-input", None)], "bad-input"),
            ([("bad-input", None), ("binding", 121)], "binding"),
            ([("payload-signal", 137), ("ok", 0)], "payload-signal"),
        ],
    )
    def test_the_worst_rank_speaks_for_all_in_any_order(
        self, ranks: list[tuple[Reason, int | None]], reason: Reason
    ) -> None:
        said = [rank(number, *one) for number, one in enumerate(ranks)]
        assert outcome(said).reason == outcome(said[::-1]).reason == reason

    def test_the_exit_code_is_the_highest_of_those_that_ended_for_the_reason(self) -> None:
        assert outcome([rank(0, "payload-exit", 3), rank(1, "payload-exit", 4), rank(2, "ok", 0)]).exit_code == 4
        assert outcome([rank(0, "payload-exit", 3), rank(1, "payload-signal", 139)]).exit_code == 3
        assert outcome([rank(0, "bad-input")]).exit_code is None

    def test_a_rank_that_was_ended_with_a_failing_one_says_nothing_of_its_own(self) -> None:
        ended = rank(0, "payload-exit", 143, ended_by="ended by signal 15")
        told = outcome([rank(None, "payload-exit", 15)], [ended, rank(3, "payload-exit", 3, host="node2")])
        assert (told.detail, told.exit_code) == ("payload-exit (rank 3 on node2)", 3)
        alone = outcome([rank(None, "ok", 0)], [ended])
        assert (alone.reason, alone.exit_code) == ("payload-exit", 143)

    def test_a_shims_word_explains_its_launchers(self) -> None:
        told = outcome([rank(None, "payload-exit", 3)], [rank(5, "payload-exit", 3, host="node2")])
        assert told.detail == "payload-exit (rank 5 on node2)"
        assert [one.rank for one in told.ranks] == [5, None]

    def test_a_launchers_own_code_does_not_hide_its_ranks(self) -> None:
        shims = [rank(3, "payload-exit", 7, host="node2"), rank(1, "payload-exit", 0)]
        told = outcome([rank(None, "payload-exit", 143)], shims)
        assert (told.detail, told.exit_code) == ("payload-exit (rank 3 on node2)", 7)

    def test_a_launcher_that_fails_alone_is_named(self) -> None:
        told = outcome([rank(None, "payload-exit", 9)])
        assert (told.reason, told.detail) == ("payload-exit", "the launcher ended with code 9; see its stderr")

    def test_a_single_process_needs_no_place(self) -> None:
        assert outcome([rank(0, "payload-exit", 3)]).detail == "payload-exit"

    def test_ranks_side_by_side_use_the_longest_time_and_all_cpu(self) -> None:
        used = [Usage(wall_s=wall, user_s=1, system_s=2, max_rss_kib=rss) for wall, rss in ((5, 10), (9, 4))]
        found = outcome([rank(number, "ok", 0, usage=one) for number, one in enumerate(used)]).usage
        assert found == Usage(wall_s=9, user_s=2, system_s=4, max_rss_kib=10)

    @given(st.lists(st.tuples(st.sampled_from(REASONS), st.none() | st.integers(0, 255)), min_size=1, max_size=6))
    def test_it_is_ok_only_when_every_rank_is(self, ends: list[tuple[Reason, int | None]]) -> None:
        told = outcome([rank(number, *one) for number, one in enumerate(ends)])
        assert (told.reason == "ok") == all(reason == "ok" for reason, _ in ends)
        assert len(told.ranks) == len(ends)


class TestShimResults:
    def test_ranks_come_in_order_with_their_judgement(self, tmp_path: Path) -> None:
        said = {
            "rank-10.json": {"rank": 10, "host": "b", "exit_code": 3},
            "rank-2.json": {"rank": 2, "host": "a", "signal": 11},
            "rank-0.json": {"rank": 0, "host": "a", "reason": "binding", "detail": "cpus 4 were promised"},
        }
        for name, one in said.items():
            (tmp_path / name).write_text(json.dumps(one))
        found = shim_results(tmp_path)
        assert [(one.rank, one.host, one.reason, one.exit_code) for one in found] == [
            (0, "a", "binding", None),
            (2, "a", "payload-signal", 139),
            (10, "b", "payload-exit", 3),
        ]
        assert [one.detail for one in found] == [
            "cpus 4 were promised",
            "the payload was ended by signal 11",
            "the payload exited with code 3",
        ]

    @given(st.binary(max_size=60))
    def test_a_torn_file_is_a_rank_that_we_know_nothing_of(
        self, tmp_path_factory: pytest.TempPathFactory, data: bytes
    ) -> None:
        folder = tmp_path_factory.mktemp("ranks")
        (folder / "rank-0.json").write_bytes(b'{"rank": 0, "exit_code"' + data)
        (folder / "rank-1.json").write_text('{"rank": 1, "exit_code": 7}')
        (folder / "rank-2.json.part").write_text('{"rank": 2, "exit_code": 7}')
        found = [one.rank for one in shim_results(folder)]
        assert found[-1] == 1
        assert 2 not in found

    @pytest.mark.parametrize("text", ['{"rank": "x"}', '{"reason": "nonsense"}', "[]", "null", ""])
    def test_what_is_no_result_is_passed_over(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "rank-0.json").write_text(text)
        assert shim_results(tmp_path) == ()

    def test_a_folder_that_is_not_there_says_nothing(self, tmp_path: Path) -> None:
        assert shim_results(tmp_path / "none") == ()


PAYLOAD = Payload("7-1", "/runs/7", "/runs/7/out", None)


def planned(hosts: tuple[str, ...] = ("node1",), **shape: Any) -> Plan:  # noqa: ANN401
    wanted = job(command=["payload", "--x"], **shape)
    return plan(PlanRequest(job=wanted, allocation=alike(head(hosts=hosts)), shim=("python3", "shim")))


class TestOrders:
    def test_one_process(self) -> None:
        (order,) = spawns(planned(walltime_s=60), PAYLOAD)
        assert (order["do"], order["id"], order["argv"]) == ("spawn", "7-1/0", ["payload", "--x"])
        assert (order["stdout"], order["stderr"]) == ("/runs/7/out/stdout", "/runs/7/out/stderr")
        assert (order["cwd"], order["session"], order["stdin"], order["user"]) == ("/runs/7", "new", "null", None)
        assert (order["wall_s"], order["grace_s"], order["output_cap"]) == (60.0, 10.0, OUTPUT_CAP)
        assert (order["cpus"], order["env"]["PILOTWRAP_RANK"], order["env"]["PILOTWRAP_SIZE"]) == ("0-3", "0", "1")
        assert set(ALL_MASKS) <= set(order["unset"])

    def test_copies_each_have_their_cores_words_and_number(self) -> None:
        orders = spawns(planned(ranks_per_node=2), PAYLOAD)
        assert [(order["id"], order["cpus"], order["stdout"]) for order in orders] == [
            ("7-1/0", "0-1", "/runs/7/out/stdout.0"),
            ("7-1/1", "2-3", "/runs/7/out/stdout.1"),
        ]
        said = [[order["env"][f"PILOTWRAP_{name}"] for name in ("RANK", "LOCAL_RANK", "SIZE")] for order in orders]
        assert said == [["0", "0", "2"], ["1", "1", "2"]]

    def test_one_per_node_on_one_node_is_one_process_with_all_of_it(self) -> None:
        (order,) = spawns(planned(mode="one-per-node"), PAYLOAD)
        assert (order["argv"], order["cpus"], order["stdin"]) == (["payload", "--x"], "0-3", "null")

    @pytest.mark.parametrize(("mode", "ranks"), [("mpi", 2), ("copies", 2), ("one-per-node", 1)])
    def test_over_nodes_it_is_one_launcher_with_a_lifeline_and_unbound(self, mode: str, ranks: int) -> None:
        made = planned(("node1", "node2"), mode=mode, nodes=2, ranks_per_node=ranks)
        (order,) = spawns(made, PAYLOAD)
        assert (order["id"], order["stdin"], order["cpus"]) == ("7-1/launch", "lifeline", None)
        assert order["argv"] == list(made.launch.argv)
        assert order["argv"][-2:] == ["python3", "shim"]
        assert order["stdout"] == "/runs/7/out/stdout"
        assert "PILOTWRAP_RANK" not in order["env"]

    def test_the_shims_file_says_what_every_rank_does(self) -> None:
        made = planned(("node1", "node2"), mode="mpi", nodes=2, ranks_per_node=2)
        shim = shim_file(made, PAYLOAD, "/runs/plans/7-1.ranks")
        assert shim["argv"] == ["payload", "--x"]
        assert [one["cpus"] for one in shim["bindings"]] == ["0-1", "2-3"]
        assert (shim["rank"], shim["local_rank"]) == (["SLURM_PROCID"], ["SLURM_LOCALID"])
        assert (shim["size"], shim["host"]) == (["SLURM_NTASKS"], ["SLURMD_NODENAME"])
        assert (shim["results"], shim["cwd"], shim["grace_s"]) == ("/runs/plans/7-1.ranks", "/runs/7", 10.0)
        # the launcher's own words to its ranks must reach them
        assert not set(shim["unset"]) & {"SLURM_PROCID", "PMI_RANK", "PMI_FD"}
        json.dumps(shim)

    def test_a_payloads_user_stands_in_every_order(self) -> None:
        user = {"uid": 1, "gid": 2, "groups": [2]}
        orders = spawns(planned(ranks_per_node=2), Payload("7-1", "/", "/", user))
        assert [order["user"] for order in orders] == [user, user]

    def test_signals_are_term_and_a_grace_for_each(self) -> None:
        assert signals({"b/1", "b/0"}, 2.5) == [
            {"do": "signal", "id": "b/0", "signal": 15, "grace_s": 2.5},
            {"do": "signal", "id": "b/1", "signal": 15, "grace_s": 2.5},
        ]

    def test_a_node_has_only_the_devices_that_are_planned(self) -> None:
        assert "CUDA_VISIBLE_DEVICES" in ALL_MASKS
        (order,) = spawns(planned(), PAYLOAD)
        assert not set(order["env"]) & set(ALL_MASKS)
