import pytest

from pilotwrap.detect.node import node_facts
from pilotwrap.model.errors import BadInputError, InternalError
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.machines.listing import _read, machine_of, machine_snapshot, machines

MACHINES = {machine.name: machine for machine in machines()}


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_s_snapshot_means_what_its_file_says(name: str) -> None:
    machine = MACHINES[name]
    facts = node_facts(machine_snapshot(name, 3 if machine.scheduler == "slurm" else 1), name)
    assert len(facts.cpus.cores) == machine.cores
    assert {len(core.split(",")) for core in facts.cpus.cores} == {machine.threads_per_core}
    assert facts.memory.total_mib == machine.memory_mib
    assert (facts.allocation.scheduler, facts.launcher.command) == (machine.scheduler, machine.launcher)
    assert facts.allocation.node_count == (3 if machine.scheduler == "slurm" else 1)
    assert facts.problems == ()


@pytest.mark.parametrize("name", [name for name, machine in MACHINES.items() if machine.recognised])
def test_a_machine_is_recognised_by_its_variables(name: str) -> None:
    assert machine_of(Snapshot(variables=MACHINES[name].recognised)) == name


def test_a_machine_that_nobody_knows_is_none() -> None:
    assert machine_of(Snapshot(variables={"NERSC_HOST": "another"})) is None


def test_a_misspelt_machine_is_answered_with_all_names() -> None:
    with pytest.raises(BadInputError) as refusal:
        machine_snapshot("perlmuter", 1)
    assert all(name in str(refusal.value) for name in MACHINES)


@pytest.mark.parametrize("text", ["name = ", 'name = "x"', 'name = "x"\nunknown = 1'])
def test_a_broken_machine_file_is_named(text: str) -> None:
    with pytest.raises(InternalError, match=r"broken\.toml"):
        _read("broken.toml", text)
