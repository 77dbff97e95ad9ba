"""KFD's topology: the nodes that AMD's compute driver lists, CPUs and GPUs alike.

The kernel's drivers/gpu/drm/amd/amdkfd/kfd_topology.c: values are decimal; `location_id` is the PCI bus, device and
function (in partition modes the partition's number in the place of the function); what the device cgroup does not
grant answers EPERM, and the runtime's numbers skip it.
"""

import re
from typing import NamedTuple

from pilotwrap.model.snapshot import Snapshot

TOPOLOGY = "/sys/class/kfd/kfd/topology/nodes"
_PROPERTIES = re.compile(re.escape(TOPOLOGY) + r"/([0-9]{1,6})/properties")


class Unit(NamedTuple):
    """A GPU, or a partition of one."""

    number: int
    address: str
    memory_mib: int
    """Of its own; 0: it is a CPU's graphics."""

    unique_id: int


def units(snapshot: Snapshot) -> list[Unit]:
    """Return the GPUs that we may use, in the order in which the runtime numbers them."""
    found = ((_PROPERTIES.fullmatch(path), said.text) for path, said in snapshot.files.items())
    told = [(int(match[1]), _pairs(text)) for match, text in found if match and text]
    return [_unit(number, pairs, snapshot) for number, pairs in sorted(told) if pairs.get("simd_count", 0) > 0]


def is_there(snapshot: Snapshot) -> bool:
    """Tell whether the compute driver lists anything, if only CPUs."""
    return any(_PROPERTIES.fullmatch(path) for path in snapshot.files)


def refused(snapshot: Snapshot) -> bool:
    """Tell whether there are nodes that we may not read."""
    return any(_PROPERTIES.fullmatch(path) and said.error for path, said in snapshot.files.items())


def _unit(number: int, pairs: dict[str, int], snapshot: Snapshot) -> Unit:
    place, bank = pairs.get("location_id", 0), _pairs(snapshot.text(f"{TOPOLOGY}/{number}/mem_banks/0/properties"))
    own = bank.get("size_in_bytes", 0) if bank.get("heap_type") in {1, 2} else 0
    address = f"{pairs.get('domain', 0):04x}:{place >> 8 & 0xFF:02x}:{place >> 3 & 0x1F:02x}.0"
    return Unit(number, address, own // 1024**2, pairs.get("unique_id", 0))


def _pairs(text: str | None) -> dict[str, int]:
    return {name: int(digits) for name, digits in re.findall(r"^(\w+) ([0-9]{1,20})$", text or "", re.MULTILINE)}
