"""Snapshots of real nodes with damages: facts, a draft and a plan (or one line), and never more than was granted."""

import pytest
from fuzz.damage import damaged_snapshots
from fuzz.planning import REFUSALS, answer, kept
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pilotwrap.detect.node import node_facts
from pilotwrap.model.cpulist import cpus_of
from pilotwrap.model.job import JobSpec
from pilotwrap.model.plan import Plan
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.plan.explain import explained
from pilotwrap.site.machines.draft import draft
from pilotwrap.site.machines.file import machine_in
from pilotwrap.site.machines.listing import machine_of
from pilotwrap.view.node import described

DAMAGED = settings(max_examples=200, deadline=2000, suppress_health_check=list(HealthCheck))


def snapshot_in(text: str) -> Snapshot | None:
    try:
        return Snapshot.model_validate_json(text)
    except ValidationError:
        return None


def granted_in(snapshot: Snapshot) -> set[int]:
    try:
        return set(cpus_of(snapshot.affinity))
    except ValueError:
        return set()


@DAMAGED
@given(damaged_snapshots())
def test_a_damaged_snapshot_never_gives_more_than_was_granted(text: str) -> None:
    snapshot = snapshot_in(text)
    if snapshot is None:
        return
    facts = node_facts(snapshot, machine_of(snapshot))
    granted = set(cpus_of(facts.cpus.granted))
    assert {cpu for core in facts.cpus.cores for cpu in cpus_of(core)} <= granted <= granted_in(snapshot)
    told = {str(record.get("pci_address")) for probe in snapshot.probes for record in probe.records}
    on_bus = {device.address for device in snapshot.devices if device.granted is not False}
    usable = {device.pci_address for device in facts.accelerators if device.health == "ok"}
    assert usable <= (on_bus or told)
    assert facts.memory.usable_mib >= 0


@DAMAGED
@given(damaged_snapshots())
def test_what_is_shown_of_a_damaged_snapshot_is_plain_lines(text: str) -> None:
    snapshot = snapshot_in(text)
    if snapshot is None:
        return
    for line in described(node_facts(snapshot, machine_of(snapshot))).split("\n"):
        assert line.isprintable()


@DAMAGED
@given(damaged_snapshots())
def test_the_draft_of_a_damaged_snapshot_is_a_machine_file(text: str) -> None:
    snapshot = snapshot_in(text)
    if snapshot is not None:
        assert machine_in(draft(node_facts(snapshot), snapshot), "draft").name == "my-machine"


@DAMAGED
@given(damaged_snapshots(), st.sampled_from(["copies", "mpi"]), st.integers(1, 3), st.integers(0, 2))
def test_a_damaged_snapshot_ends_in_a_plan_or_in_one_line(text: str, mode: str, ranks: int, gpus: int) -> None:
    snapshot = snapshot_in(text)
    if snapshot is None:
        return
    job = JobSpec.model_validate({"command": ["x"], "mode": mode, "ranks_per_node": ranks, "gpus_per_rank": gpus})
    facts = node_facts(snapshot, machine_of(snapshot))
    made = answer(job, facts)
    if isinstance(made, Plan):
        kept(made, job, facts)
        assert explained(made)
        assert {cpu for one in made.bindings for cpu in cpus_of(one.cpus or "")} <= granted_in(snapshot)
    else:
        assert made.exit_code in REFUSALS
        assert str(made).isprintable()


@pytest.mark.parametrize("on_bus", [[], [{"address": "0000:01:00.0", "class": "0x030200", "vendor": "0x10de"}]])
def test_a_gpu_of_which_nvml_tells_no_address_is_not_used(on_bus: list[dict[str, str]]) -> None:
    record = {"kind": "device", "pci_address": None, "uuid": "GPU-1", "health": "ok"}
    said = {"host": "n", "affinity": "0-3", "devices": on_bus, "probes": [{"probe": "nvml", "records": [record]}]}
    (found,) = node_facts(Snapshot.model_validate(said)).accelerators
    assert (found.health, found.reason, found.detail) == ("unusable", "unknown", "NVML does not tell its address")


@pytest.mark.parametrize("vendor", ["0x10de", "0x1002", "0x8086"])
def test_a_device_that_is_said_twice_is_one_device(vendor: str) -> None:
    shown = {"address": "0000:01:00.0", "class": "0x038000", "vendor": vendor, "device": "0x7408", "granted": True}
    facts = node_facts(Snapshot.model_validate({"host": "n", "affinity": "0-3", "devices": [shown, shown]}))
    assert [one.pci_address for one in facts.accelerators] == ["0000:01:00.0"]
