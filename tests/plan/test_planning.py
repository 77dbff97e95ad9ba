"""Limits, nodes and the whole Plan: what holds for all of them, and why there is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan.facts import alike, allocation, cores, devices, job, node, request, shapes

from pilotwrap.model.allocation import AllocationFacts, UnfitNode
from pilotwrap.model.errors import AllocationError, BadInputError, LauncherError
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import Accelerator, LauncherName
from pilotwrap.model.plan import Plan
from pilotwrap.plan.explain import by_hand, explained
from pilotwrap.plan.limits import limits
from pilotwrap.plan.plan import plan
from pilotwrap.site.accelerators.vendors import ALL_MASKS


@given(st.floats(0, 1e7), st.floats(0, 120), st.floats(0, 600))
def test_it_ends_and_is_told_within_the_time_left(left: float, grace: float, tell: float) -> None:
    try:
        limit, _ = limits(allocation(time_left_s=left, grace_s=grace), None, tell)
    except AllocationError:
        assert left <= grace + tell
        return
    assert limit.stop_at is not None
    assert limit.stop_at > 0
    assert limit.stop_at + limit.kill_grace_s + tell <= left + 1e-6
    assert limit.kill_grace_s <= grace


def test_without_a_time_limit_no_end_is_planned_but_a_grace() -> None:
    limit, why = limits(allocation(time_left_s=None), 60, 5)
    assert (limit.walltime_s, limit.stop_at, limit.kill_grace_s > 0) == (60, None, True)
    assert "no time limit" in why.reason


@given(shapes(), cores(), devices(), st.sampled_from(["local", "srun", "mpiexec"]), st.none() | st.floats(0, 1e6))
def test_a_plan_survives_json_and_says_why(
    spec: JobSpec, cores: tuple[str, ...], devices: list[Accelerator], launcher: LauncherName, left: float | None
) -> None:
    facts = node(cores, devices, given=allocation(["node1", "node2"], time_left_s=left), launcher=launcher)
    try:
        found = plan(request(spec, facts))
    except (BadInputError, AllocationError, LauncherError):
        return
    assert Plan.model_validate_json(found.to_json()) == found
    assert found == plan(request(spec, facts))
    assert all(because.decision and because.reason for because in found.because)
    assert (len(found.nodes), len(found.bindings)) == (spec.nodes, spec.ranks_per_node)
    assert set(ALL_MASKS) <= set(found.launch.unset)
    assert explained(found)


def test_one_node_needs_no_launcher_and_several_do() -> None:
    two = node(given=allocation(["node1", "node2"]))
    assert plan(request(job(), two)).launch.argv == ()
    for spec in (job(nodes=2), job(mode="mpi")):
        with pytest.raises(LauncherError):
            plan(request(spec, two))
    over_both = plan(request(job(nodes=2), node(given=two.allocation, launcher="srun")))
    assert over_both.launch.argv[:2] == ("/usr/bin/srun", "--nodes=2")


def test_a_node_set_aside_is_named_where_there_are_too_few() -> None:
    facts = node(given=allocation(["node1", "node2"]), launcher="srun")
    unfit = UnfitNode(host="node2", reason="node-unusable", detail="its GPU is lost")
    fit = alike(facts).groups[0].model_copy(update={"hosts": ("node1",)})
    asked = request(job(nodes=2), facts).model_copy(
        update={"allocation": AllocationFacts(head=facts, groups=(fit,), unfit=(unfit,))}
    )
    with pytest.raises(AllocationError, match="node2 is set aside: its GPU is lost"):
        plan(asked)
    with pytest.raises(BadInputError, match="3 nodes"):
        plan(asked.model_copy(update={"job": job(nodes=3)}))


@pytest.mark.parametrize(
    "shape",
    [{"image": "a.sif"}, {"runtime": "podman"}, {"environment": [{"kind": "venv", "name": "v"}]}],
)
def test_what_this_release_cannot_do_is_refused_by_name(shape: dict[str, object]) -> None:
    with pytest.raises(BadInputError, match=next(iter(shape))):
        plan(request(job(**shape), node()))


def test_the_line_by_hand_is_quoted() -> None:
    spec = JobSpec.model_validate({"command": ["echo", "a b", "$HOME"], "cpus_per_rank": 2})
    assert by_hand(plan(request(spec, node()))) == "taskset -c 0-1 echo 'a b' '$HOME'"


def test_the_cost_is_in_node_hours() -> None:
    spec = job(walltime_s=1800, nodes=2)
    shown = explained(plan(request(spec, node(given=allocation(["node1", "node2"]), launcher="srun"))))
    assert "at most 1.00 node-hours (2 nodes, 1800 s)" in shown


def test_a_driver_is_one_unbound_process_beside_us_and_its_nodes_are_for_its_steps() -> None:
    given_to = allocation(["node1", "node2", "node3"])
    made = plan(request(job(mode="driver", nodes=2, gpus_per_rank=1), node(given=given_to, launcher="srun")))
    assert (made.mode, made.nodes, made.launch.argv) == ("driver", ("node1", "node2"), ())
    assert [(one.cpus, one.accelerators) for one in made.bindings] == [(None, ())]
