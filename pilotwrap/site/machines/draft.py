"""A first file for a machine that nobody knows, from one of its nodes; every value that wants an eye says so."""

import json
import re
from collections.abc import Iterator

from pilotwrap.model.cpulist import cpu_list, cpus_of
from pilotwrap.model.node import Accelerator, NodeFacts
from pilotwrap.model.snapshot import DeviceSaid, Snapshot
from pilotwrap.site.machines.machine import PCI_ID
from pilotwrap.site.schedulers.listing import scheduler_named

CHECK = "# CHECK: "
_DIRECTIVES = {
    "slurm": ("--account={account}", "--partition={queue}", "--time={time}", "--nodes={nodes}"),
    "pbs": ("-A {account}", "-q {queue}", "-l select={nodes}", "-l walltime={time}"),
    "lsf": ("-P {account}", "-q {queue}", "-W {time}", "-nnodes {nodes}"),
    "cobalt": ("-A {account}", "-q {queue}", "-t {time}", "-n {nodes}"),
    "flux": ("--bank={account}", "--queue={queue}", "--time-limit={time}", "--nodes={nodes}"),
}
"""Each batch system's own options for an account, a queue, a time and nodes."""


def draft(facts: NodeFacts, snapshot: Snapshot) -> str:
    """Return a machine file that can be read as it is, of what the node shows."""
    parts = (
        _head(facts),
        _recognised(snapshot),
        _node(facts),
        _devices(facts, snapshot),
        _full_node(facts),
        _around(facts),
    )
    return "\n".join(line for part in (*parts, _batch(facts), _sources(snapshot)) for line in part) + "\n"


def _head(facts: NodeFacts) -> Iterator[str]:
    yield "# A draft, made from one node's snapshot: read every line, correct it, say where it is from, and rename it."
    yield f'name = "my-machine"  {CHECK}its name, small letters and hyphens'
    yield f"description = {_text(f'the machine of {facts.host}')}  {CHECK}what it is, in a line"
    yield f'scheduler = "{facts.allocation.scheduler}"' + _seen_inside(facts)
    yield f'launcher = "{facts.launcher.command}"' + _seen_inside(facts)
    if facts.launcher.flavour:
        yield f'flavour = "{facts.launcher.flavour}"'
    if facts.launcher.mpi_types:
        yield f"mpi_types = {_texts(facts.launcher.mpi_types)}"
    yield f"# kill_grace_s = {facts.allocation.kill_grace_s:g}  {CHECK}between TERM and KILL at the time limit"
    yield ""


def _seen_inside(facts: NodeFacts) -> str:
    inside = facts.allocation.scheduler != "none"
    return "" if inside else f"  {CHECK}this node was looked at outside of any job"


def _recognised(snapshot: Snapshot) -> Iterator[str]:
    pattern = re.sub(r"[0-9]+", "*", snapshot.host) or "*"
    yield "[[recognised]]"
    yield f"host = {_text(pattern)}  {CHECK}a pattern that only its nodes fit; or variables = {{ NAME = 'value' }}"
    yield ""


def _node(facts: NodeFacts) -> Iterator[str]:
    threads = [cpus_of(core) for core in facts.cpus.cores]
    each = max(map(len, threads), default=1)
    near = (_readable(device.near_cpus or "") for device in facts.accelerators)
    listed = cpus_of(",".join((*facts.cpus.numa.values(), *near)))
    seen = max((*cpus_of(facts.cpus.granted), *listed), default=0) + 1
    together = any(core[1] - core[0] == 1 for core in threads if len(core) > 1)
    yield "[node]"
    yield f"cores = {-(-seen // each)}  {CHECK}of a whole node; {len(threads)} were granted"
    yield f"threads_per_core = {each}"
    yield f'threads = "{"together" if together else "apart"}"'
    yield f"memory_mib = {max(1, facts.memory.total_mib)}"
    yield f'reserved_cpus = ""  {CHECK}what the site keeps for its system, all hardware threads'
    yield ""
    if facts.cpus.numa:
        yield "[node.numa]"
        yield from (f"{number} = {_text(cpus)}" for number, cpus in facts.cpus.numa.items())
        yield ""


def _devices(facts: NodeFacts, snapshot: Snapshot) -> Iterator[str]:
    on_bus = {said.address: said for said in snapshot.devices}
    by_address: dict[str, Accelerator] = {}
    for device in facts.accelerators:
        by_address.setdefault(device.pci_address, device)
    for address, device in by_address.items():
        yield from _device(device, facts, on_bus.get(address, DeviceSaid(address=address)))


def _device(device: Accelerator, facts: NodeFacts, said: DeviceSaid) -> Iterator[str]:
    near = _readable(device.near_cpus or "") or facts.cpus.numa.get(device.numa_node or 0, "")
    ids = ":".join(number.removeprefix("0x").lower() for number in (said.vendor, said.device))
    known = re.fullmatch(PCI_ID, ids) is not None
    yield "[[node.devices]]"
    yield f'vendor = "{device.vendor}"'
    yield f"model = {_text(device.model)}"
    yield f"address = {_text(device.pci_address)}"
    yield f"pci_class = {_text(said.pci_class)}"
    yield f'pci_id = "{ids}"' if known else f'pci_id = "0000:0000"  {CHECK}lspci -n'
    yield f"memory_mib = {device.memory_mib or 1}" + ("" if device.memory_mib else f"  {CHECK}not told")
    yield f"driver = {_text(device.driver or device.vendor)}"
    yield f"numa = {device.numa_node or 0}"
    yield f"cpus = {_text(near)}  {CHECK}the cores of its rank, by the site's documentation"
    yield ""


def _readable(listed: str) -> str:
    try:
        return cpu_list(cpus_of(listed))
    except ValueError:
        return ""


def _full_node(facts: NodeFacts) -> Iterator[str]:
    devices = sum(device.health == "ok" for device in facts.accelerators)
    yield "[full_node]"
    yield f"ranks_per_node = {devices or 1}  {CHECK}what the site's documentation shows for a whole node"
    yield f"cpus_per_rank = {max(1, len(facts.cpus.cores) // (devices or 1))}"
    yield f"gpus_per_rank = {1 if devices else 0}"
    yield ""


def _around(facts: NodeFacts) -> Iterator[str]:
    if facts.runtimes:
        yield "[runtime]"
        yield f"kind = {_text(facts.runtimes[0].kind)}  {CHECK}and what must be entered, set or mounted for it"
        yield ""
    yield "[network]"
    yield f'outbound = "{"proxy" if facts.network.http_proxy else "unknown"}"  {CHECK}direct, proxy or none'
    if facts.network.http_proxy:
        yield f"http_proxy = {_text(facts.network.http_proxy)}"
    yield ""
    yield "[storage]"
    yield f'scratch = "$SCRATCH"  {CHECK}shared between nodes'
    yield ""


def _batch(facts: NodeFacts) -> Iterator[str]:
    name = facts.allocation.scheduler
    if name != "none":
        yield "[batch]"
        yield f"directives = {_texts(_DIRECTIVES[name])}  {CHECK}`{scheduler_named(name).DIRECTIVE}` lines"
        yield ""


def _sources(snapshot: Snapshot) -> Iterator[str]:
    yield "[[sources]]"
    yield f"page = {_text(f'a snapshot of {snapshot.host}, {snapshot.taken_at}')}"
    yield 'keys = ["scheduler", "launcher", "recognised", "node", "network"]'
    yield ""
    yield "[[sources]]"
    yield 'page = "a guess"'
    yield 'keys = ["full_node", "storage", "runtime", "batch"]'


def _texts(words: tuple[str, ...]) -> str:
    return "[" + ", ".join(map(_text, words)) + "]"


def _text(word: str) -> str:
    return json.dumps("".join(char for char in word if char.isprintable()), ensure_ascii=False)
