"""A plan or the one line why there is none, and what every plan keeps."""

from pilotwrap.detect.survey import allocation_of_all
from pilotwrap.model.cpulist import cpus_of
from pilotwrap.model.errors import PilotwrapError
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import NodeFacts
from pilotwrap.model.plan import Plan
from pilotwrap.plan.plan import plan
from pilotwrap.plan.request import PlanRequest
from pilotwrap.site.accelerators.vendors import MASKS

REFUSALS = {2, 3}
"""Exit codes of what is asked wrongly, and of what is not there."""


def answer(job: JobSpec, facts: NodeFacts) -> Plan | PilotwrapError:
    """Return the plan for nodes that are all like this one, or why there is none."""
    try:
        return plan(PlanRequest(job=job, allocation=allocation_of_all(facts), shim=("python3", "x/shim.json")))
    except PilotwrapError as error:
        return error


def kept(made: Plan, job: JobSpec, facts: NodeFacts) -> None:
    """Assert that no core, device or mask is given to two ranks, and none that is not ours to give."""
    usable = {cpu for core in facts.cpus.cores for cpu in cpus_of(core)}
    used = [cpu for one in made.bindings for cpu in cpus_of(one.cpus or "")]
    assert len(used) == len(set(used))
    assert set(used) <= usable
    assert usable.isdisjoint(cpus_of(facts.cpus.reserved))
    lent = [name for one in made.bindings for name in one.accelerators]
    assert job.gpu_sharing or len(lent) == len(set(lent))
    for one in made.bindings:
        assert len(one.accelerators) == len(set(one.accelerators)) == job.gpus_per_rank
        assert len([name for name in MASKS.values() if name in one.env]) == (1 if job.gpus_per_rank else 0)
