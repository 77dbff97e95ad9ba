"""The CPUs and the memory that a node really grants: affinity and cgroup, not what the machine has."""

import re
from collections.abc import Iterator

from pilotwrap.model.cpulist import cpu_list, cpus_of
from pilotwrap.model.node import Cpus, Memory
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.digits import number_of

_UNLIMITED_BYTES = 1 << 60
"""cgroup v1 writes "no limit" as the largest page-aligned number (9223372036854771712)."""

_PERIOD_US = "100000"
"""The kernel's default period of a CPU quota (Documentation/scheduler/sched-bwc)."""

_SIBLINGS = re.compile(r"/sys/devices/system/cpu/cpu[0-9]+/topology/thread_siblings_list")
_NUMA = re.compile(r"/sys/devices/system/node/node([0-9]{1,9})/cpulist")
_SETS = ("/cpuset.cpus", "/cpuset.cpus.effective", "/cpuset.effective_cpus")


def cpus(snapshot: Snapshot) -> Cpus:
    """Return the granted CPUs, grouped into physical cores; ValueError when a list of CPUs cannot be read."""
    granted = set(cpus_of(snapshot.affinity))
    for text in _texts(snapshot, *_SETS):
        granted &= set(cpus_of(text)) or granted
    numa = _numa(snapshot)
    return Cpus(
        granted=cpu_list(granted),
        cores=tuple(_cores(granted, _siblings(snapshot, numa))),
        quota=_quota(snapshot),
        numa={node: cpu_list(listed) for node, listed in sorted(numa.items())},
    )


def without_reserved(found: Cpus, reserved: str) -> Cpus:
    """Return the CPUs without the cores that the machine keeps for its own system."""
    kept = set(cpus_of(reserved))
    cores = tuple(core for core in found.cores if kept.isdisjoint(cpus_of(core)))
    return found.model_copy(update={"cores": cores, "reserved": cpu_list(kept & set(cpus_of(found.granted)))})


def _numa(snapshot: Snapshot) -> dict[int, tuple[int, ...]]:
    """Return the CPUs of each NUMA node that has any."""
    found = ((_NUMA.fullmatch(path), said.text or "") for path, said in snapshot.files.items())
    return {int(match[1]): cpus_of(text) for match, text in found if match and cpus_of(text)}


def _cores(granted: set[int], siblings: dict[int, tuple[int, ...]]) -> Iterator[str]:
    left = set(granted)
    for cpu in sorted(granted):
        if cpu in left:
            core = sorted(left & {cpu, *siblings.get(cpu, ())})
            left.difference_update(core)
            yield ",".join(map(str, core))


def _siblings(snapshot: Snapshot, numa: dict[int, tuple[int, ...]]) -> dict[int, tuple[int, ...]]:
    """Return each CPU's core; the starter reads only the first core of each NUMA node, which the others repeat."""
    read = [cpus_of(said.text or "") for path, said in snapshot.files.items() if _SIBLINGS.fullmatch(path)]
    found = {cpu: core for core in read for cpu in core}
    for domain in numa.values() or [_possible(snapshot)]:
        first = next((found[cpu] for cpu in domain if cpu in found), ())
        found.update(_repeated(first, domain, set(found)))
    return found


def _repeated(
    first: tuple[int, ...], domain: tuple[int, ...], known: set[int]
) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield the cores whose threads lie as far apart as those of the first: 0 and 64, so 1 and 65."""
    left = set(domain) - known
    for cpu in domain:
        core = tuple(cpu + thread - first[0] for thread in first)
        if core and left.issuperset(core):
            left.difference_update(core)
            yield from ((thread, core) for thread in core)


def _possible(snapshot: Snapshot) -> tuple[int, ...]:
    listed = cpus_of(snapshot.text("/sys/devices/system/cpu/possible") or "")
    return listed or tuple(range(max(cpus_of(snapshot.affinity), default=-1) + 1))


def _quota(snapshot: Snapshot) -> float | None:
    """Return the tightest quota on the path of our cgroups, in CPUs; a level that says none, or nonsense, has none."""
    said = [_version_2(text) for text in _texts(snapshot, "/cpu.max")]
    said += [_version_1(snapshot, path) for path in snapshot.files if path.endswith("/cpu.cfs_quota_us")]
    return min((quota / period for quota, period in said if quota and period), default=None)


def _version_2(text: str) -> tuple[int | None, int | None]:
    quota, _, period = text.strip().partition(" ")
    return number_of(quota), number_of(period)


def _version_1(snapshot: Snapshot, path: str) -> tuple[int | None, int | None]:
    period = snapshot.text(path.replace("cfs_quota", "cfs_period"))
    return number_of(snapshot.text(path)), number_of(period or _PERIOD_US)


def _texts(snapshot: Snapshot, *endings: str) -> list[str]:
    return [said.text for path, said in snapshot.files.items() if path.endswith(endings) and said.text]


def memory(snapshot: Snapshot) -> Memory:
    """Return the node's memory and the tightest limit of our cgroups, MiB."""
    info = dict(re.findall(r"^(\w+):\s+([0-9]{1,15}) kB", snapshot.text("/proc/meminfo") or "", re.MULTILINE))
    said = map(number_of, _texts(snapshot, "/memory.max", "/memory.limit_in_bytes"))
    limits = [limit for limit in said if limit is not None and limit < _UNLIMITED_BYTES]
    return Memory(
        total_mib=int(info.get("MemTotal", 0)) // 1024,
        limit_mib=min(limits) // 1024**2 if limits else None,
        available_mib=int(info.get("MemAvailable", 0)) // 1024,
    )
