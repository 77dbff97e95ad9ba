"""What is far larger than any machine costs no minutes and no memory: it is refused, or read in one pass."""

import resource
import time
from collections.abc import Iterator

import pytest

from pilotwrap.detect.accelerators import MOST
from pilotwrap.detect.node import node_facts
from pilotwrap.detect.survey import allocation_of_one
from pilotwrap.model.cpulist import MAX_CPU, cpus_of
from pilotwrap.model.job import MAX_NODES, JobSpec
from pilotwrap.model.plan import Plan
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.plan.plan import plan
from pilotwrap.plan.request import PlanRequest
from pilotwrap.site.schedulers.nodelist import nodes_of

PATIENCE_S = 20.0
"""Of processor time, on a machine that is slow and shared; without the bounds they take minutes or all memory."""


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    began = time.process_time()
    yield
    assert time.process_time() - began < PATIENCE_S


@pytest.fixture
def _in_bounded_memory() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_cpu_list_that_repeats_itself_is_read_in_one_pass() -> None:
    listed = ",".join(f"{first}-{MAX_CPU}" for first in range(60_000))
    assert cpus_of(listed) == tuple(range(MAX_CPU + 1))


@pytest.mark.usefixtures("_in_bounded_memory")
@pytest.mark.parametrize(
    "text", ["x" + "[1-99999]" * 6000, "x" + "[1]" * 6000 + "[1-99999]", ",".join(["n[1-100000]"] * 6000)]
)
def test_a_node_list_of_more_nodes_than_any_machine_has_is_refused_before_they_are_made(text: str) -> None:
    with pytest.raises(ValueError, match=f"{MAX_NODES} nodes|no node"):
        nodes_of(text)


@pytest.mark.parametrize("vendor", ["0x10de", "0x1002", "0x8086"])
def test_ten_thousand_devices_are_a_problem_of_the_node_and_none_is_used(vendor: str) -> None:
    device = {"class": "0x030200", "vendor": vendor, "device": "0x740c", "granted": True}
    shown = [{**device, "address": f"{number:04x}:01:00.0"} for number in range(10_000)]
    variables = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(10_000)))}
    facts = node_facts(Snapshot.model_validate({"affinity": "0-3", "variables": variables, "devices": shown}))
    assert facts.accelerators == ()
    assert [(one.source, one.reason) for one in facts.problems] == [("devices", "unreadable")]
    assert f"10000 accelerators are shown, a node has {MOST} at most" in facts.problems[0].detail


def test_a_rank_of_all_cores_of_the_largest_node_is_planned() -> None:
    facts = node_facts(Snapshot.model_validate({"host": "n", "affinity": f"0-{MAX_CPU}"}))
    asked = JobSpec(command=("true",))
    made = plan(PlanRequest(job=asked, allocation=allocation_of_one(facts), shim=("python3", "x/shim.json")))
    assert isinstance(made, Plan)
    assert made.bindings[0].cpus == f"0-{MAX_CPU}"
