"""Every snapshot in the folder means what its golden file says; a bug report adds one of each."""

import json
from pathlib import Path

import pytest
from golden.compare import FOLDER, Compare

from pilotwrap.detect.node import node_facts
from pilotwrap.model.node import NodeFacts
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.machines.listing import machine_of

SNAPSHOTS = {path.stem: path for path in sorted((Path(__file__).parents[1] / "snapshots").glob("*.json"))}


def facts_of(name: str) -> NodeFacts:
    snapshot = Snapshot.model_validate_json(SNAPSHOTS[name].read_bytes())
    return node_facts(snapshot, machine_of(snapshot))


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_snapshot_means_what_its_golden_file_says(name: str, golden: Compare) -> None:
    found = json.loads(facts_of(name).to_json())
    golden(f"facts/{name}.json", json.dumps(found, indent=1, ensure_ascii=True) + "\n")


def test_no_golden_file_is_left_without_its_snapshot() -> None:
    assert {path.stem for path in (FOLDER / "facts").glob("*.json")} == set(SNAPSHOTS)


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_snapshot_says_where_it_comes_from(name: str) -> None:
    source = Snapshot.model_validate_json(SNAPSHOTS[name].read_bytes()).source
    assert source.startswith(("recorded on ", "synthetic; "))


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_a_snapshot_of_an_older_or_newer_release_stays_readable(name: str) -> None:
    said = json.loads(SNAPSHOTS[name].read_text())
    for key in ("probes", "nvidia", "disk", "source"):
        said.pop(key, None)
    said["of_a_later_release"] = {"anything": [1]}
    assert Snapshot.model_validate_json(json.dumps(said)).host == said["host"]


def test_a_batch_shell_is_no_rank_whatever_step_its_variables_name() -> None:
    inherited = facts_of("slurm-batch-from-a-step")
    assert (inherited.allocation.inside_step, inherited.launcher.rank, inherited.vantage) == (False, None, "head")
    assert (facts_of("slurm-interactive-step").allocation.inside_step, facts_of("slurm-step").launcher.rank) == (
        False,
        0,
    )


def test_a_node_of_two_sockets_has_a_core_for_each_pair_of_threads() -> None:
    cpus = facts_of("smt-two-sockets").cpus
    assert len(cpus.cores) == 128
    assert (cpus.cores[0], cpus.cores[127], cpus.numa[1]) == ("0,128", "127,255", "64-127,192-255")


def test_only_what_is_granted_counts() -> None:
    assert facts_of("cgroup-v1-limits").cpus.granted == "2-5"
    assert facts_of("cgroup-v2-limits").cpus.quota == 1.5
    assert facts_of("cgroup-v2-limits").memory.usable_mib == 2048
    assert facts_of("smt-neighbours").cpus.cores == ("0,1", "2,3", "4,5", "6,7")


def test_an_ill_device_has_its_own_reason_and_leaves_its_neighbours_well() -> None:
    assert [device.reason for device in facts_of("nvidia-lost").accelerators] == [None, None, "lost", "ecc"]
    assert {device.reason for device in facts_of("nvidia-library-missing").accelerators} == {"library-missing"}
    reasons = [device.reason for device in facts_of("nvidia-not-granted").accelerators]
    assert reasons == [None, None, "not-granted", "not-granted"]


def test_a_gpu_in_mig_mode_is_its_instances() -> None:
    shown = [(device.kind, device.health, device.uuid) for device in facts_of("nvidia-mig").accelerators]
    assert [kind for kind, _, _ in shown] == ["mig", "mig", "gpu"]
    assert len({uuid for _, _, uuid in shown}) == 3


def test_a_display_adapter_is_no_accelerator() -> None:
    assert facts_of("bmc-vga").accelerators == ()
    assert {device.kind for device in facts_of("amd-mi250x").accelerators} == {"gcd"}


def test_no_password_of_a_proxy_is_in_the_facts() -> None:
    assert "secret" not in facts_of("login-node").to_json()
    assert facts_of("login-node").vantage == "login"
