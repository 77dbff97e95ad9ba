"""A node of a machine as its file describes it: for planning where the machine is not."""

from collections.abc import Iterator

from pilotwrap.model.cpulist import cpu_list, cpus_of
from pilotwrap.model.snapshot import CommandSaid, DeviceSaid, FileSaid, Snapshot, SystemSaid
from pilotwrap.site.launchers.listing import launcher_named
from pilotwrap.site.launchers.version import ASK_VERSION, MPIEXEC
from pilotwrap.site.machines.machine import Machine, Node
from pilotwrap.site.schedulers.listing import scheduler_named

TAKEN_AT = "2026-11-21T00:00:00Z"


def machine_snapshot(machine: Machine, nodes: int) -> Snapshot:
    """Return what a batch shell at the head of so many nodes of the machine would show."""
    scheduler = scheduler_named(machine.scheduler)
    prefix = None if scheduler.LAUNCH_NODES else _host_prefix(machine)
    hosts = tuple(f"{prefix}{number}" if prefix else f"nid{number:05}" for number in range(1, nodes + 1))
    shell = scheduler.batch_shell(hosts, len(machine.node.devices))
    threads = machine.node.cores * machine.node.threads_per_core
    return shell.model_copy(
        update={
            "source": f"synthetic; from the file of {machine.name}, whose every value has its source there",
            "taken_at": TAKEN_AT,
            "system": SystemSaid(sysname="Linux"),
            "uid": 1000,
            "cwd": "/home/user",
            "affinity": cpu_list(range(threads)),
            "variables": {**shell.variables, **machine.modules, **_proofs(machine)},
            "files": {**shell.files, **_files(machine.node)},
            "programs": {**shell.programs, **_programs(machine)},
            "commands": (*shell.commands, *_answers(machine)),
            "devices": tuple(_devices(machine.node)),
        }
    )


def _host_prefix(machine: Machine) -> str | None:
    """Return the beginning of its nodes' names, where a proof is just that."""
    patterns = (proof.host for proof in machine.recognised if proof.host)
    return next((pattern[:-1] for pattern in patterns if pattern.endswith("*") and "*" not in pattern[:-1]), None)


def _proofs(machine: Machine) -> dict[str, str]:
    """Return variables that prove it."""
    proofs = (item for proof in machine.recognised for item in proof.variables.items())
    return {name: pattern.replace("*", "1").replace("?", "1") for name, pattern in proofs}


def _files(node: Node) -> dict[str, FileSaid]:
    """Return what the kernel says of memory and CPUs; as on real nodes, the first core of a domain tells the others."""
    most = node.cores * node.threads_per_core
    said = {"/proc/meminfo": f"MemTotal: {node.memory_mib * 1024} kB\nMemAvailable: {node.memory_mib * 1024} kB\n"}
    said["/sys/devices/system/cpu/possible"] = f"{cpu_list(range(most))}\n"
    firsts = [0]
    for number, listed in node.numa.items():
        said[f"/sys/devices/system/node/node{number}/cpulist"] = f"{listed}\n"
        firsts.append(cpus_of(listed)[0])
    for first in firsts:
        together = range(first, first + node.threads_per_core)
        siblings = together if node.threads == "together" else range(first, most, node.cores)
        said[f"/sys/devices/system/cpu/cpu{first}/topology/thread_siblings_list"] = f"{cpu_list(siblings)}\n"
    return {path: FileSaid(text=text) for path, text in said.items()}


def _programs(machine: Machine) -> dict[str, str]:
    kind = launcher_named(machine.launcher, machine.flavour)
    names = [next(iter(kind.PROGRAMS), MPIEXEC)] if kind else []
    names += [machine.runtime.kind] if machine.runtime else []
    return {name: f"/usr/bin/{name}" for name in names}


def _answers(machine: Machine) -> Iterator[CommandSaid]:
    """Yield what its launcher says of itself: each in the words that this launcher's file reads."""
    if machine.launcher == "srun":
        yield CommandSaid(argv=("srun", "--mpi=list"), exit=0, output="\n".join(machine.mpi_types))
    if machine.flavour == "pals":
        yield CommandSaid(argv=ASK_VERSION.argv, exit=0, output="mpiexec version 1.8.0\n")


def _devices(node: Node) -> Iterator[DeviceSaid]:
    """Yield the bus's devices: the kernel puts them beside their whole NUMA node."""
    for device in node.devices:
        vendor, _, number = device.pci_id.partition(":")
        yield DeviceSaid(
            address=device.address,
            pci_class=device.pci_class,
            vendor=f"0x{vendor}",
            device=f"0x{number}",
            driver=device.driver,
            numa_node=device.numa,
            local_cpus=node.numa.get(device.numa),
            granted=True,
        )
