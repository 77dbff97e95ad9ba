"""Whether jobs share a node: as the launcher there allows, and what it is told of a job that has a part of one."""

import pytest
from hypothesis import given
from plan.facts import SHIM, alike, allocation, device, job, node, shapes

from pilotwrap.model.allocation import AllocationFacts, UnfitNode
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import LauncherName
from pilotwrap.plan.ledger import ledger_of, lend, possible, slots, within
from pilotwrap.plan.plan import plan
from pilotwrap.plan.request import PlanRequest

TWO = allocation(["nid00001", "nid00002"])
SMALL = job(cpus_per_rank=1)


def facts(launcher: LauncherName, gpus: int | None = None) -> AllocationFacts:
    given = TWO.model_copy(update={"gpus_per_node": gpus, "on_node": launcher not in {"aprun", "jsrun"}})
    return alike(node(devices=[device(1), device(2)], given=given, launcher=launcher))


def planned(there: AllocationFacts, spec: JobSpec) -> tuple[str, ...]:
    share = lend(ledger_of(there), spec)[1]
    assert share is not None
    request = PlanRequest(
        job=spec, allocation=there, shim=SHIM, hosts=share.hosts, cores=share.cores, devices=share.devices
    )
    return plan(request).launch.argv


@pytest.mark.parametrize(("launcher", "fit"), [("srun", 8), ("flux", 8), ("mpiexec", 8), ("aprun", 2), ("jsrun", 2)])
def test_as_many_small_jobs_run_at_a_time_as_the_launcher_lets(launcher: LauncherName, fit: int) -> None:
    assert slots(ledger_of(facts(launcher)), SMALL) == fit


def test_a_single_node_that_we_are_on_needs_no_launcher_and_is_shared() -> None:
    alone = alike(node(given=allocation(), launcher="aprun"))
    assert slots(ledger_of(alone), SMALL) == 4


def test_what_a_node_never_had_is_not_there_for_whole_nodes_either() -> None:
    ledger = ledger_of(facts("aprun"))
    assert not possible(ledger, job(cpus_per_rank=5))
    assert not possible(ledger, job(cpus_per_rank=1, memory_mib_per_rank=8001))
    assert possible(ledger, job(ranks_per_node=4, memory_mib_per_rank=2000))


@given(shapes())
def test_no_two_jobs_ever_meet_on_a_node_that_is_not_shared(spec: JobSpec) -> None:
    ledger, first = lend(ledger_of(facts("jsrun")), spec)
    second = lend(ledger, SMALL)[1]
    assert not (first and second and set(first.hosts) & set(second.hosts))


def test_the_steps_of_a_driver_take_whole_nodes_there_too() -> None:
    ledger = ledger_of(facts("aprun"))
    share = lend(ledger, job(nodes=2))[1]
    assert share is not None
    assert slots(within(ledger, share), SMALL) == 2


def test_flux_is_asked_for_the_cores_and_devices_that_the_job_has_of_a_node() -> None:
    argv = planned(facts("flux", gpus=2), job(mode="mpi", cpus_per_rank=1, gpus_per_rank=1))
    assert {"--cores=1", "--gpus-per-node=1"} <= set(argv)
    assert "--exclusive" not in argv
    shared = planned(facts("flux", gpus=2), job(mode="mpi", cpus_per_rank=1, gpus_per_rank=1, gpu_sharing=True))
    assert not [word for word in shared if word.startswith("--gpus")], "Flux lends a device once"
    uncounted = planned(facts("flux"), job(mode="mpi", cpus_per_rank=1, gpus_per_rank=1))
    assert not [word for word in uncounted if word.startswith("--gpus")], "it counts none"
    assert {"--nodes=2", "--cores=4"} <= set(planned(facts("flux"), job(nodes=2, cpus_per_rank=2)))


def test_flux_is_asked_for_whole_nodes_alone_where_the_job_has_all_cores() -> None:
    argv = planned(facts("flux", gpus=2), job(nodes=2, ranks_per_node=4, cpus_per_rank=1))
    assert "--exclusive" in argv
    assert not [word for word in argv if word.startswith("--cores")]


def test_jsrun_is_told_the_hosts_where_one_is_set_aside_and_chooses_otherwise() -> None:
    there, spec = facts("jsrun"), job(mode="mpi", ranks_per_node=2)
    assert "--nrs" in planned(there, spec)
    first = UnfitNode(host="nid00001", reason="node-unusable", detail="its GPU is lost")
    fit = there.groups[0].model_copy(update={"hosts": ("nid00002",)})
    there = there.model_copy(update={"groups": (fit,), "unfit": (first,)})
    share = lend(ledger_of(there), spec)[1]
    assert share is not None
    made = plan(PlanRequest(job=spec, allocation=there, shim=SHIM, hosts=share.hosts, cores=share.cores, devices=()))
    assert made.launch.argv[1:3] == ("--erf_input", "/runs/job/hosts")
    assert made.launch.files["/runs/job/hosts"].splitlines()[-1] == "rank: 1: { host: 2; cpu: {0-3} ; gpu: {0-1} }"


def test_the_reasons_name_a_thousand_nodes_in_a_few_words() -> None:
    there = alike(node(given=allocation([f"nid{number:04}" for number in range(1, 1001)]), launcher="srun"))
    made = plan(PlanRequest(job=job(nodes=1000), allocation=there, shim=SHIM))
    assert made.because[0].decision == "nodes nid[0001-1000]"
