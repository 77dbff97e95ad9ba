"""The CPUs and the memory that a node really grants: affinity and cgroup, not what the machine has."""

import re
from collections.abc import Iterator

from pilotwrap.model.cpulist import cpu_list, cpus_of
from pilotwrap.model.node import Cpus, Memory
from pilotwrap.model.snapshot import Snapshot

_UNLIMITED_BYTES = 1 << 60
"""cgroup v1 writes "no limit" as the largest page-aligned number (9223372036854771712)."""

_SIBLINGS = re.compile(r"^/sys/devices/system/cpu/cpu(\d+)/topology/thread_siblings_list$")
_NUMA = re.compile(r"^/sys/devices/system/node/node(\d+)/cpulist$")
_SET = re.compile(r"/cpuset\.cpus(\.effective)?$|/cpuset\.effective_cpus$")


def cpus(snapshot: Snapshot) -> Cpus:
    """Return the granted CPUs, grouped into physical cores."""
    granted = set(cpus_of(snapshot.affinity))
    for path, said in snapshot.files.items():
        allowed = set(cpus_of(said.text)) if _SET.search(path) and said.text and said.text.strip() else set()
        granted &= allowed or granted
    numa = {
        int(match.group(1)): cpu_list(cpus_of((said.text or "").strip()))
        for path, said in snapshot.files.items()
        if (match := _NUMA.match(path))
    }
    return Cpus(
        granted=cpu_list(granted),
        cores=tuple(_cores(granted, _siblings(snapshot))),
        quota=_quota(snapshot),
        numa={node: listed for node, listed in sorted(numa.items()) if listed},
    )


def _cores(granted: set[int], siblings: dict[int, tuple[int, ...]]) -> Iterator[str]:
    left = set(granted)
    for cpu in sorted(granted):
        if cpu in left:
            core = sorted(left & {cpu, *siblings.get(cpu, ())})
            left.difference_update(core)
            yield ",".join(map(str, core))


def _siblings(snapshot: Snapshot) -> dict[int, tuple[int, ...]]:
    """Return each CPU's core; where only core 0 was read, the others lie at the same distances (0 and 64: 64 cores)."""
    found: dict[int, tuple[int, ...]] = {}
    for path, said in snapshot.files.items():
        if _SIBLINGS.match(path) and said.text:
            together = cpus_of(said.text.strip())
            found.update(dict.fromkeys(together, together))
    cores = set(found.values())
    if len(cores) == 1 and len(first := cores.pop()) > 1 and first[0] == 0:
        for core in range(first[1]):
            together = tuple(thread + core for thread in first)
            found.update(dict.fromkeys(together, together))
    return found


def _quota(snapshot: Snapshot) -> float | None:
    quotas = []
    for path, said in snapshot.files.items():
        words = (said.text or "").split()
        if path.endswith("/cpu.max") and len(words) == 2 and words[0] != "max":  # noqa: PLR2004 - quota and period
            quotas.append(int(words[0]) / int(words[1]))
        elif path.endswith("/cpu.cfs_quota_us") and words and int(words[0]) > 0:
            period = (snapshot.text(path.replace("cfs_quota", "cfs_period")) or "100000").split()
            quotas.append(int(words[0]) / int(period[0]))
    return min(quotas, default=None)


def memory(snapshot: Snapshot) -> Memory:
    """Return the node's memory and the tightest limit of our cgroups, MiB."""
    info = dict(re.findall(r"^(\w+):\s+(\d+) kB", snapshot.text("/proc/meminfo") or "", re.MULTILINE))
    limits = [
        int(said.text)
        for path, said in snapshot.files.items()
        if path.endswith(("/memory.max", "/memory.limit_in_bytes")) and (said.text or "").strip().isdigit()
        if said.text and int(said.text) < _UNLIMITED_BYTES
    ]
    return Memory(
        total_mib=int(info.get("MemTotal", 0)) // 1024,
        limit_mib=min(limits) // 1024**2 if limits else None,
        available_mib=int(info.get("MemAvailable", 0)) // 1024,
    )
