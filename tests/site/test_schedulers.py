"""The batch systems: each recognised, its nodes, time and vantage read, and every trap of theirs a case."""

import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.detect.node import node_facts
from pilotwrap.model.node import Allocation
from pilotwrap.model.snapshot import CommandSaid, FileSaid, Snapshot
from pilotwrap.site.schedulers import cobalt, flux, lsf, none, pbs, slurm
from pilotwrap.site.schedulers.clock import hours_s
from pilotwrap.site.schedulers.listing import SCHEDULERS, Scheduler, scheduler_named, scheduler_of
from pilotwrap.site.schedulers.nodelist import as_listed, distinct

BATCH: tuple[Scheduler, ...] = tuple(one for one in SCHEDULERS if one.NAME != "none")
IDS = [one.NAME for one in BATCH]
NIDS = st.lists(st.integers(1, 99_999), min_size=2, max_size=30, unique=True).map(
    lambda found: tuple(f"nid{number:05}" for number in found)
)


def said(snapshot: Snapshot, **variables: str) -> Snapshot:
    return snapshot.model_copy(update={"variables": {**snapshot.variables, **variables}})


def born_of(snapshot: Snapshot, *ancestors: str) -> Snapshot:
    return snapshot.model_copy(update={"ancestors": ancestors})


def answered(snapshot: Snapshot, *argv: str, output: str, code: int = 0) -> Snapshot:
    command = CommandSaid(argv=argv, exit=code, output=output)
    return snapshot.model_copy(update={"commands": (command,)})


@pytest.mark.parametrize("scheduler", BATCH, ids=IDS)
@given(nodes=NIDS)
def test_a_batch_shell_s_nodes_are_those_it_was_given(scheduler: Scheduler, nodes: tuple[str, ...]) -> None:
    shell = scheduler.batch_shell(nodes).model_copy(update={"taken_at": "2026-11-21T00:00:00Z"})
    assert scheduler_of(shell) is scheduler
    found = scheduler.allocation(shell)
    assert (found.nodes, found.node_count) == (nodes, len(nodes))
    assert (found.inside_step, found.time_left_s, found.on_node) == (False, 1800, not scheduler.LAUNCH_NODES)
    facts = node_facts(shell)
    assert (facts.vantage, facts.problems) == ("head", ())
    assert facts.host == (shell.host if scheduler.LAUNCH_NODES else nodes[0])


@pytest.mark.parametrize("name", ["slurm", "pbs", "flux"])
@given(nodes=NIDS, gpus=st.integers(1, 16))
def test_a_batch_shell_s_gpus_are_those_it_was_given(name: str, nodes: tuple[str, ...], gpus: int) -> None:
    scheduler = scheduler_named(name)
    assert scheduler.allocation(scheduler.batch_shell(nodes, gpus)).gpus_per_node == gpus
    assert not scheduler.allocation(scheduler.batch_shell(nodes)).gpus_per_node


RANK = {
    "flux": ("FLUX_TASK_RANK", "flux-shell", "flux-broker-0"),
    "lsf": ("JSM_NAMESPACE_RANK", "jsmd", "sbatchd"),
    "cobalt": ("ALPS_APP_PE", "apinit", "cobalt_forker"),
    "pbs": ("PALS_RANKID", "palsd", "pbs_mom"),
}


@pytest.mark.parametrize("name", RANK)
def test_a_rank_is_inside_of_a_step_and_a_shell_that_inherits_its_variables_is_not(name: str) -> None:
    variable, starter, batch = RANK[name]
    shell = scheduler_named(name).batch_shell(("nid00001", "nid00002"))
    inside = said(born_of(shell, "bash", starter), **{variable: "3"})
    assert node_facts(inside).vantage == "step"
    assert node_facts(born_of(inside, "bash")).vantage == "step", "no daemon in sight: the variables count"
    assert node_facts(born_of(inside, "bash", batch, starter)).allocation.inside_step is False
    assert node_facts(born_of(inside, "python3", "bash", starter, batch)).allocation.inside_step is True


@pytest.mark.parametrize("scheduler", [one for one in BATCH if one.SUBMIT], ids=lambda one: one.NAME)
def test_what_is_installed_is_not_allocated(scheduler: Scheduler) -> None:
    outside = Snapshot(host="login1", programs={scheduler.SUBMIT: f"/usr/bin/{scheduler.SUBMIT}"})
    facts = node_facts(outside)
    assert (facts.vantage, facts.allocation.scheduler, facts.launcher.command) == ("login", "none", "local")


def test_flux_alone_makes_no_login_node() -> None:
    facts = node_facts(Snapshot(host="laptop", programs={"flux": "/usr/bin/flux"}))
    assert (facts.vantage, facts.launcher.command) == ("head", "local")


def nested() -> Snapshot:
    outer = slurm.batch_shell(("n1", "n2"))
    inner = flux.batch_shell(("n1", "n2"))
    return inner.model_copy(update={"variables": {**outer.variables, **inner.variables}})


def test_the_inner_batch_system_beats_the_outer() -> None:
    assert scheduler_of(nested()) is flux
    wrapped = said(slurm.batch_shell(("n1",)), PBS_JOBID="1", LSB_JOBID="1", COBALT_JOBID="1", PALS_RANKID="0")
    assert scheduler_of(wrapped) is slurm
    names = [one.NAME for one in SCHEDULERS]
    assert names == ["flux", "slurm", "lsf", "cobalt", "pbs", "none"]


def test_slurm_s_step_of_a_cray_is_slurm_s() -> None:
    rank = said(born_of(slurm.batch_shell(("n1",)), "slurmstepd: [1.0]"), PALS_RANKID="0", PMI_RANK="0")
    assert node_facts(rank).allocation.inside_step is True
    assert node_facts(said(rank, SLURM_PROCID="0")).allocation.scheduler == "slurm"


# ---- Slurm


def test_the_shell_of_salloc_is_on_no_node_of_its_allocation() -> None:
    shell = slurm.batch_shell(("n1", "n2"))
    kept = {name: value for name, value in shell.variables.items() if name != "SLURMD_NODENAME"}
    facts = node_facts(shell.model_copy(update={"host": "login1", "variables": kept, "ancestors": ("bash", "salloc")}))
    assert (facts.allocation.on_node, facts.allocation.inside_step, facts.vantage) == (False, False, "login")


@pytest.mark.parametrize(
    ("variables", "count"),
    [
        ({"SLURM_GPUS_PER_NODE": "4"}, 4),
        ({"SLURM_GPUS_PER_NODE": "a100:4"}, 4),
        ({"SLURM_GPUS_PER_NODE": "a100:2,v100:1"}, 3),
        ({"SLURM_GPUS_PER_NODE": "many"}, None),
        ({"SLURM_GPUS_ON_NODE": "2"}, 2),
        ({"SLURM_JOB_GPUS": "0,3"}, 2),
        ({}, None),
    ],
)
def test_the_gpus_that_were_asked_of_slurm(variables: dict[str, str], count: int | None) -> None:
    found = slurm.allocation(said(slurm.batch_shell(("n1",)), SLURM_NTASKS="8", **variables))
    assert (found.gpus_per_node, found.tasks) == (count, 8)


# ---- PBS


JOB = {"Resource_List": {"walltime": "01:00:00", "ngpus": 8}, "resources_used": {"walltime": "00:10:00"}}
ASK = ("/opt/pbs/bin/qstat", "-x", "-f", "-F", "json", "1.server")


def pbs_left(output: str, taken_at: str = "2026-11-21T12:00:00Z") -> Allocation:
    shell = pbs.batch_shell(("n1", "n2")).model_copy(update={"taken_at": taken_at})
    return pbs.allocation(answered(shell, *ASK, output=output))


def qstat(job: dict[str, object]) -> str:
    return json.dumps({"timestamp": 1, "Jobs": {"1.server": job}}, indent=4)


@pytest.mark.parametrize("zone_h", [-8.0, 0.0, 5.75])
@pytest.mark.parametrize("since_poll_s", [0, 100])
def test_the_start_tells_what_pbs_has_not_polled_yet_in_any_time_zone(zone_h: float, since_poll_s: int) -> None:
    taken = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
    start = taken - timedelta(seconds=600 + since_poll_s) + timedelta(hours=zone_h)
    found = pbs_left(qstat({**JOB, "stime": start.strftime("%a %b %d %H:%M:%S %Y")}))
    assert found.time_left_s == 3600 - 600 - since_poll_s


def test_a_start_that_fits_no_poll_is_not_believed() -> None:
    found = pbs_left(qstat({**JOB, "stime": "Sat Nov 21 11:38:20 2026"}))
    assert found.time_left_s == 3000, "suspended for a while, or a clock that is wrong"


@pytest.mark.parametrize(
    ("job", "left"),
    [
        (JOB, 3000),
        ({"Resource_List": {"walltime": "01:00:00"}}, 3600),
        ({"Resource_List": {"ncpus": 8}}, None),
        ({"Resource_List": {"walltime": "00:05:00"}, "resources_used": {"walltime": "00:10:00"}}, 0),
        ({"Resource_List": {"walltime": 7}}, None),
        ({"Resource_List": []}, None),
    ],
)
def test_the_time_that_pbs_leaves(job: dict[str, object], left: float | None) -> None:
    assert pbs_left(qstat(job)).time_left_s == left


BROKEN = """{
    "timestamp":1699630815,
    "Jobs":{
        "1.server":{
            "exec_host":"n3/0*8+n4/0*8",
            "array_index":005,
            "Resource_List":{
                "ngpus":8,
                "walltime":"01:00:00"
            },
            "resources_used":{
                "walltime":"00:10:00"
            },
            "Variable_List":{
                "PS1":"\\[\\u\\]",
                "walltime":"09:00:00"
            }
        }
    }
}
"""
TEXT = """Job Id: 1.server
    Job_Name = STDIN
    exec_host = n3/0*8+
\tn4/0*8
    resources_used.walltime = 00:10:00
    Resource_List.ngpus = 8
    Resource_List.walltime = 01:00:00
    Variable_List = PBS_O_HOME=/home/user,
\tPBS_O_WORKDIR=/home/user
"""


@pytest.mark.parametrize("output", [BROKEN, TEXT], ids=["broken JSON", "text"])
def test_what_qstat_prints_is_read_where_it_is_no_json(output: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        json.loads(output)
    shell = pbs.batch_shell(("n1",)).model_copy(update={"files": {}, "host": "n3"})
    found = pbs.allocation(answered(shell, *ASK, output=output))
    assert (found.time_left_s, found.nodes, found.gpus_per_node) == (3000, ("n3", "n4"), 4)


@pytest.mark.parametrize("output", ["", "{", "[]", '{"Jobs": {}}', '{"Jobs": [1]}', "[" * 100_000])
def test_nonsense_of_qstat_is_no_time_left(output: str) -> None:
    assert pbs_left(output).time_left_s is None


def test_a_node_of_pbs_is_named_as_its_list_names_it() -> None:
    nodes = ("x1.hsn.example.org", "x2.hsn.example.org")
    lines = "".join(f"{node}\n" * 4 for node in nodes)
    shell = pbs.batch_shell(nodes)
    path = shell.variables["PBS_NODEFILE"]
    second = shell.model_copy(update={"host": "x2", "files": {path: FileSaid(text=lines)}})
    facts = node_facts(second)
    assert (facts.host, facts.allocation.nodes, facts.allocation.tasks) == (nodes[1], nodes, 8)
    assert facts.allocation.on_node is True


def test_an_interactive_job_of_pbs_is_a_batch_shell() -> None:
    shell = born_of(said(pbs.batch_shell(("n1",)), PBS_ENVIRONMENT="PBS_INTERACTIVE"), "bash", "pbs_mom")
    assert node_facts(shell).vantage == "head"


@pytest.mark.parametrize(("task", "inside"), [("1", False), ("00000001", False), ("2", True), ("00000010", True)])
def test_a_task_that_pbs_itself_started_is_a_step(task: str, inside: bool) -> None:  # noqa: FBT001 - a column
    shell = born_of(said(pbs.batch_shell(("n1",)), PBS_TASKNUM=task), "bash", "pbs_mom")
    assert node_facts(shell).allocation.inside_step is inside


# ---- LSF


def lsf_nodes(hosts: str, *programs: str) -> Allocation:
    shell = said(lsf.batch_shell(("n1",)), LSB_MCPU_HOSTS=hosts)
    return lsf.allocation(shell.model_copy(update={"programs": {name: f"/usr/bin/{name}" for name in programs}}))


@pytest.mark.parametrize(
    ("hosts", "programs", "nodes", "tasks"),
    [
        ("batch1 1 a 42 b 42", ("jsrun",), ("a", "b"), 84),
        ("batch1 1 a 42 b 42", (), ("batch1", "a", "b"), 85),
        ("a 1 b 1", ("jsrun",), ("a", "b"), 2),
        ("a 1", ("jsrun",), ("a",), 1),
        ("a 4 b 4", ("jsrun",), ("a", "b"), 8),
    ],
)
def test_the_launch_node_gets_no_ranks(
    hosts: str, programs: tuple[str, ...], nodes: tuple[str, ...], tasks: int
) -> None:
    found = lsf_nodes(hosts, *programs)
    assert (found.nodes, found.tasks) == (nodes, tasks)


@pytest.mark.parametrize("hosts", ["a", "a b", "a 1 b", "a x", "a/b 1"])
def test_what_is_no_list_of_lsf_is_a_problem(hosts: str) -> None:
    facts = node_facts(said(lsf.batch_shell(("n1",)), LSB_MCPU_HOSTS=hosts))
    assert [problem.source for problem in facts.problems] == ["lsf"]


def test_lsf_s_longer_lists_serve_where_the_short_one_is_missing() -> None:
    bare = Snapshot(host="a", variables={"LSB_JOBID": "7", "LSB_JOBINDEX": "3", "LSB_HOSTS": "a a b"})
    found = lsf.allocation(bare)
    assert (found.nodes, found.tasks, found.job_id) == (("a", "b"), 3, "7[3]")
    told = Snapshot(
        host="b", variables={"LSB_JOBID": "7", "LSB_DJOB_HOSTFILE": "/h"}, files={"/h": FileSaid(text="a\nb\n")}
    )
    assert lsf.allocation(told).nodes == ("a", "b")


@pytest.mark.parametrize(
    ("output", "left"),
    [("0:30 L\n", 1800), ("125:05 L", 450300), ("-\n", None), ("", None), ("1:00 L\n0:10 L\n", 600), ("1:0 L", None)],
)
def test_the_time_that_lsf_leaves(output: str, left: float | None) -> None:
    shell = answered(lsf.batch_shell(("n1",)), "bjobs", "-noheader", "-o", "time_left", "1", output=output)
    assert lsf.allocation(shell).time_left_s == left


@given(st.integers(0, 9999), st.integers(0, 59))
def test_a_wall_time_of_lsf_is_read_back_as_its_time_left(hours: int, minutes: int) -> None:
    text = lsf.walltime(hours * 60 + minutes) + " L\n"
    shell = answered(lsf.batch_shell(("n1",)), "bjobs", output=text)
    assert lsf.allocation(shell).time_left_s == (hours * 60 + minutes) * 60


# ---- Cobalt


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 40)), max_size=20))
def test_node_numbers_of_cobalt_are_named_as_the_hosts_are(ranges: list[tuple[int, int]]) -> None:
    text = ",".join(f"{first}-{first + more}" if more else f"{first}" for first, more in ranges)
    numbers = dict.fromkeys(number for first, more in ranges for number in range(first, first + more + 1))
    assert cobalt.nids_of(text) == tuple(f"nid{number:05}" for number in numbers)


@pytest.mark.parametrize("text", ["a", "4-3", "1-", "1--2", "0-999999999", "1 2", "²"])
def test_what_is_no_node_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no node number"):
        cobalt.nids_of(text)


def test_cobalt_s_file_of_nodes_comes_before_its_numbers() -> None:
    shell = said(cobalt.batch_shell(("nid00001",)), COBALT_NODEFILE="/nodes")
    found = cobalt.allocation(shell.model_copy(update={"files": {"/nodes": FileSaid(text="gpu1\ngpu2\n")}}))
    assert found.nodes == ("gpu1", "gpu2")


def test_an_interactive_job_of_cobalt_names_no_end() -> None:
    shell = cobalt.batch_shell(("nid00001",))
    kept = {name: value for name, value in shell.variables.items() if name != "COBALT_ENDTIME"}
    assert cobalt.allocation(shell.model_copy(update={"variables": kept})).time_left_s is None


# ---- Flux


TIME = ("/usr/bin/flux", "job", "timeleft")
NODES = ("flux", "resource", "list", "-s", "up", "-no", "{nodelist} {ngpus}")


@pytest.mark.parametrize(
    ("output", "left"), [("600\n", 600), ("0\n", 0), ("4294967295\n", None), ("", None), ("soon", None)]
)
def test_the_time_that_flux_leaves(output: str, left: float | None) -> None:
    assert flux.allocation(answered(flux.batch_shell(("n1",)), *TIME, output=output)).time_left_s == left


@pytest.mark.parametrize(
    ("output", "nodes", "gpus"),
    [
        ("tuolumne[1001-1002] 8\n", ("tuolumne1001", "tuolumne1002"), 4),
        ("n[1-2] 8\nm1 2\n", ("n1", "n2", "m1"), 2),
        ("n[08-10,3]\n", ("n08", "n09", "n10", "n3"), None),
        ("", ("n1",), None),
    ],
)
def test_the_nodes_of_a_flux_instance(output: str, nodes: tuple[str, ...], gpus: int | None) -> None:
    found = flux.allocation(answered(flux.batch_shell(("n1",)), *NODES, output=output))
    assert (found.nodes, found.gpus_per_node) == (nodes, gpus)


def test_a_flux_step_s_own_id_is_not_the_allocation_s() -> None:
    step = said(flux.batch_shell(("n1",)), FLUX_JOB_ID="f2", FLUX_TASK_RANK="0")
    assert flux.allocation(step).job_id == "f1"
    bare = {name: value for name, value in step.variables.items() if name != "FLUX_ENCLOSING_ID"}
    assert flux.allocation(step.model_copy(update={"variables": bare})).job_id is None


def test_an_unreadable_list_leaves_the_host_its_own_name() -> None:
    facts = node_facts(answered(flux.batch_shell(("n1",)), *NODES, output="n[2-1] 4\n"))
    assert (facts.host, facts.allocation.nodes) == ("n1", ("n1",))
    assert [problem.source for problem in facts.problems] == ["flux"]


# ---- lists and clocks


def test_names_are_listed_once_and_found_by_their_short_form() -> None:
    assert distinct(["a ", "b", "", "a"]) == ("a", "b")
    assert as_listed(("a.x", "b.x"), "b") == "b.x"
    assert as_listed(("a", "b"), "b.x.y") == "b"
    assert as_listed(("a",), "c") == "c"
    with pytest.raises(ValueError, match="no node's name"):
        distinct(["../a"])


@given(st.integers(0, 400_000))
def test_a_clock_s_time_is_read_back(seconds: int) -> None:
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    assert hours_s(text) == seconds
    assert hours_s(text.replace(":", ".")) is None


@given(st.integers(1, 100_000))
def test_wall_times_are_written_as_their_batch_systems_read_them(minutes: int) -> None:
    assert {hours_s(one.walltime(minutes)) for one in (slurm, pbs, cobalt)} == {minutes * 60}
    assert flux.walltime(minutes) == f"{minutes}m"
    assert none.walltime(minutes) == str(minutes)
