"""The machines' files: every value has a source, each is recognised, and a wrong one is named by file and key."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from golden.compare import FOLDER, Compare
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotwrap.detect.node import node_facts
from pilotwrap.detect.survey import allocation_of_all
from pilotwrap.model.cpulist import cpus_of
from pilotwrap.model.errors import BadInputError
from pilotwrap.model.job import JobSpec
from pilotwrap.model.plan import Plan
from pilotwrap.model.snapshot import DeviceSaid, Snapshot
from pilotwrap.plan.plan import plan
from pilotwrap.plan.request import PlanRequest
from pilotwrap.site.machines.draft import draft
from pilotwrap.site.machines.file import machine_in
from pilotwrap.site.machines.listing import machine_named, machine_of, machines
from pilotwrap.site.machines.machine import Machine
from pilotwrap.site.machines.synthetic import machine_snapshot

MACHINES = {machine.name: machine for machine in machines()}
NAMELESS = {"name", "description", "sources"}
SNAPSHOTS = Path(__file__).parents[1] / "snapshots"


def nodes_of(machine: Machine, most: int = 3) -> int:
    return 1 if machine.scheduler == "none" else most


def leaves(value: object, key: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from leaves(inner, key)
    else:
        yield key


@pytest.mark.parametrize("name", MACHINES)
def test_every_value_of_a_machine_has_a_source(name: str) -> None:
    given = MACHINES[name].model_dump(mode="json", by_alias=True, exclude_unset=True)
    stated = {key for source in MACHINES[name].sources for key in source.keys}
    keys = {key for key in leaves(given, "") if key.split(".")[0] not in NAMELESS}
    parents = {key: {".".join(key.split(".")[:size]) for size in range(1, key.count(".") + 2)} for key in keys}
    assert {key for key in keys if not parents[key] & stated} == set()
    assert stated <= {parent for own in parents.values() for parent in own}, "a source of nothing"


@pytest.mark.parametrize("name", MACHINES)
def test_a_source_is_a_page_with_its_day_or_says_that_it_is_a_guess(name: str) -> None:
    for source in MACHINES[name].sources:
        assert source.page.startswith("a guess: ") or re.search(r"20\d\d|public PCI ID list", source.page), source


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_s_node_means_what_its_file_says(name: str) -> None:
    machine = MACHINES[name]
    facts = node_facts(machine_snapshot(machine, nodes_of(machine)), machine)
    kept = len(cpus_of(machine.node.reserved_cpus)) // machine.node.threads_per_core
    assert len(facts.cpus.cores) == machine.node.cores - kept
    assert {len(core.split(",")) for core in facts.cpus.cores} == {machine.node.threads_per_core}
    assert facts.memory.total_mib == machine.node.memory_mib
    assert (facts.allocation.scheduler, facts.launcher.command) == (machine.scheduler, machine.launcher)
    assert facts.launcher.flavour == machine.flavour
    assert facts.allocation.node_count == nodes_of(machine)
    assert {device.pci_address for device in facts.accelerators} == {one.address for one in machine.node.devices}
    assert {device.vendor for device in facts.accelerators} == {one.vendor for one in machine.node.devices}
    assert facts.problems == ()


@pytest.mark.parametrize("name", [name for name, machine in MACHINES.items() if machine.recognised])
def test_a_machine_is_recognised_from_what_its_node_shows(name: str) -> None:
    found = machine_of(machine_snapshot(MACHINES[name], 2))
    assert found == MACHINES[name]


def test_kinds_of_nodes_of_one_machine_are_told_by_their_devices() -> None:
    said = {"NERSC_HOST": "perlmutter"}
    bare = Snapshot(variables=said)
    equipped = Snapshot(variables=said, devices=(DeviceSaid(address="0000:03:00.0", vendor="0x10de", device="0x20b0"),))
    assert [machine and machine.name for machine in map(machine_of, (bare, equipped))] == [
        "perlmutter-cpu",
        "perlmutter-gpu",
    ]


@pytest.mark.parametrize("host", ["x3001c0s1b0n0.hsn.cm.polaris.alcf.anl.gov", "frontier00001.frontier.olcf.ornl.gov"])
def test_a_host_s_long_name_proves_a_machine(host: str) -> None:
    found = machine_of(Snapshot(host=host))
    assert found is not None
    assert found.name in host


@pytest.mark.parametrize(
    "variables", [{"NERSC_HOST": "another"}, {}, {"HOSTNAME": "theta1"}, {"PBS_JOBID": "1.polaris-pbs-1.example.org"}]
)
def test_a_machine_that_nobody_knows_is_none(variables: dict[str, str]) -> None:
    assert machine_of(Snapshot(host="node1", variables=variables)) is None


def test_one_s_own_machine_comes_before_a_known_one() -> None:
    own = MACHINES["perlmutter-cpu"].model_copy(update={"description": "mine"})
    assert machine_named("perlmutter-cpu", (own,)).description == "mine"
    seen = machine_of(Snapshot(variables={"NERSC_HOST": "perlmutter"}), (own,))
    assert seen is not None
    assert seen.description == "mine"


def test_a_site_s_own_grace_and_its_system_s_cores_count() -> None:
    text = GOOD.replace("[[recognised]]", "kill_grace_s = 77\n[[recognised]]") + 'reserved_cpus = "1"\n'
    machine = machine_in(text, "mine.toml")
    facts = node_facts(machine_snapshot(machine, 2), machine)
    assert (facts.allocation.kill_grace_s, facts.cpus.cores, facts.cpus.reserved) == (77, ("0", "2", "3"), "1")
    assert facts.cpus.granted == "0-3"


def test_a_misspelt_machine_is_answered_with_all_names() -> None:
    with pytest.raises(BadInputError) as refusal:
        machine_named("perlmuter")
    assert all(name in str(refusal.value) for name in MACHINES)


GOOD = """name = "mine"
description = "mine"
scheduler = "slurm"
launcher = "srun"
[[recognised]]
host = "mine*"
[node]
cores = 4
memory_mib = 1024
"""


def test_a_small_file_is_enough() -> None:
    assert machine_in(GOOD, "mine.toml").node.threads_per_core == 1


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "mine"', "name = ", "no TOML"),
        ("cores = 4\n", "", "node.cores: it is missing"),
        ("cores = 4", 'cores = "four"', "node.cores: it is 'four'; a whole number is expected"),
        ("cores = 4", "cores = 0", "node.cores: it is 0; Input should be greater than or equal to 1"),
        ("cores = 4", "kores = 4", "node.cores: it is missing"),
        ("cores = 4", "cores = 4\nsockets = 2", "node.sockets: it is 2; no such key is known"),
        ('"slurm"', '"slrum"', "scheduler: it is 'slrum'; Input should be 'slurm'"),
        ('"srun"', '"srnu"', "launcher: it is 'srnu'; one of aprun, "),
        ('"srun"', '"mpiexec"\nflavour = "own"', "flavour: it is 'own'; one of hydra, "),
        ('"srun"', '"srun"\nflavour = "hydra"', "flavour: it is 'hydra'; this launcher has none"),
        ("cores = 4", 'cores = 4\nreserved_cpus = "0-"', "node: '0-' is no CPU"),
        ("cores = 4", 'cores = 4\nreserved_cpus = "7"', "node: '7' names CPUs beyond the 4"),
        ('host = "mine*"', 'devices = "amd"', "recognised.0: variables or host must be named"),
        ('name = "mine"', 'name = "My Machine"', "name: it is 'My Machine'; String should match"),
    ],
)
def test_a_wrong_machine_file_is_answered_with_file_key_and_what_was_expected(old: str, new: str, said: str) -> None:
    with pytest.raises(BadInputError) as refusal:
        machine_in(GOOD.replace(old, new), "folder/mine.toml")
    told = str(refusal.value)
    assert "folder/mine.toml" in told
    assert said in told.replace("is wrong at ", "")
    assert refusal.value.exit_code == 2


@given(st.text(max_size=60) | st.sampled_from(["cores", "[node]", '"mine"']).map(lambda cut: GOOD.replace(cut, "x")))
def test_any_text_is_a_machine_or_bad_input(text: str) -> None:
    try:
        machine_in(text, "x.toml")
    except BadInputError as refusal:
        assert "x.toml" in str(refusal)  # noqa: PT017 - either end is good


# ---- what a machine's nodes show, and what is planned for them


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_s_snapshot_is_kept_beside_the_recorded_ones(name: str, golden: Compare) -> None:
    machine = MACHINES[name]
    said = json.loads(machine_snapshot(machine, nodes_of(machine, 2)).to_json())
    golden(f"../snapshots/machine-{name}.json", json.dumps(said, indent=1) + "\n")


def planned(machine: Machine, nodes: int) -> Plan:
    full = machine.full_node
    assert full is not None
    spec = JobSpec(
        command=("APP",),
        nodes=nodes,
        mode="copies" if machine.launcher == "local" else "mpi",
        **full.model_dump(exclude={"line"}),
    )
    facts = node_facts(machine_snapshot(machine, nodes), machine)
    return plan(PlanRequest(job=spec, allocation=allocation_of_all(facts), shim=("SHIM",)))


@pytest.mark.parametrize("name", MACHINES)
def test_whole_nodes_are_launched_and_bound_as_the_site_documents(name: str, golden: Compare) -> None:
    machine = MACHINES[name]
    assert machine.full_node is not None
    made = planned(machine, nodes_of(machine, 2))
    shown = {
        "the site's line": machine.full_node.site_line(2),
        "its source": [one.page for one in machine.sources if {"full_node", "node"} & set(one.keys)],
        "our line": made.launch.argv,
        "local ranks": {
            str(bound.local_rank): " ".join(
                (f"cpus={bound.cpus}", *(f"{name}={value}" for name, value in sorted(bound.env.items())))
            )
            for bound in made.bindings
        },
    }
    golden(f"plans/{name}.json", json.dumps(shown, indent=1) + "\n")


@pytest.mark.parametrize("name", [name for name, machine in MACHINES.items() if machine.node.devices])
def test_each_rank_s_cores_are_those_that_the_site_puts_beside_its_device(name: str) -> None:
    machine = MACHINES[name]
    made = planned(machine, nodes_of(machine, 2))
    facts = node_facts(machine_snapshot(machine, 1), machine)
    beside = {device.address: set(cpus_of(device.cpus)) for device in machine.node.devices}
    names = {one.uuid or one.pci_address: one.pci_address for one in facts.accelerators}
    used: set[int] = set()
    for binding in made.bindings:
        cpus, (device,) = set(cpus_of(binding.cpus or "")), binding.accelerators
        address = names.get(device, device[:12])
        assert cpus <= beside[address], binding
        assert not cpus & used
        used |= cpus
    assert not used & set(cpus_of(machine.node.reserved_cpus))


def test_no_golden_plan_is_left_without_its_machine() -> None:
    assert {path.stem for path in (FOLDER / "plans").glob("*.json")} == set(MACHINES)
    assert {path.stem for path in SNAPSHOTS.glob("machine-*.json")} == {f"machine-{name}" for name in MACHINES}


def test_a_machine_s_table_serves_where_the_kernel_puts_devices_nowhere() -> None:
    machine = MACHINES["frontier"]
    shown = machine_snapshot(machine, 1)
    lost = tuple(device.model_copy(update={"numa_node": -1, "local_cpus": ""}) for device in shown.devices)
    facts = node_facts(shown.model_copy(update={"devices": lost}), machine)
    assert [device.near_cpus for device in facts.accelerators] == [device.cpus for device in machine.node.devices]


# ---- drafts


@pytest.mark.parametrize("path", sorted(SNAPSHOTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_draft_of_any_recorded_node_can_be_read_as_it_is(path: Path) -> None:
    snapshot = Snapshot.model_validate_json(path.read_bytes())
    facts = node_facts(snapshot)
    text = draft(facts, snapshot)
    made = machine_in(text, "draft.toml")
    assert (made.scheduler, made.launcher) == (facts.allocation.scheduler, facts.launcher.command)
    assert made.node.cores >= len(facts.cpus.cores)
    assert text.count("# CHECK: ") >= 6
    assert {one.address for one in made.node.devices} == {one.pci_address for one in facts.accelerators}


@given(st.text(max_size=30), st.text(max_size=20))
@settings(max_examples=50)
def test_a_draft_of_any_names_can_be_read(host: str, proxy: str) -> None:
    snapshot = Snapshot(host=host, variables={"http_proxy": proxy})
    machine_in(draft(node_facts(snapshot), snapshot), "draft.toml")


def test_a_draft_of_a_known_machine_s_node_has_its_shape() -> None:
    known = MACHINES["summit-like"]
    snapshot = machine_snapshot(known, 2)
    made = machine_in(draft(node_facts(snapshot), snapshot), "draft.toml")
    assert (made.node.cores, made.node.threads_per_core, made.node.threads) == (44, 4, "together")
    assert made.node.numa == known.node.numa
