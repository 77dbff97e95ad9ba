"""The files in which the kernel says what this process may use: cgroups of both versions, on the path upward."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List

# Deeper than Slurm's (5) or Kubernetes' (6); bounds what a strange tree may cost.
LEVELS = 8

# controller of version 1: what its own level tells of all above, and what each level says for itself
VERSION_1 = {
    "cpuset": (("cpuset.effective_cpus", "cpuset.cpus", "cpuset.mems"), ()),
    "cpu": ((), ("cpu.cfs_quota_us", "cpu.cfs_period_us")),
    "memory": (("memory.stat",), ("memory.limit_in_bytes",)),
}
VERSION_2 = (("cpuset.cpus.effective", "cpuset.mems.effective"), ("cpu.max", "memory.max"))


def files(own_cgroups: str) -> "List[str]":
    """Return the paths that may limit the process whose /proc/PID/cgroup this is."""
    found: "List[str]" = []
    for line in own_cgroups.splitlines():
        _number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if not names:
            found += _upward("/sys/fs/cgroup", path, *VERSION_2)
        for controller in set(names.split(",")) & set(VERSION_1):
            found += _upward("/sys/fs/cgroup/" + controller, path, *VERSION_1[controller])
    return found


def _upward(mount: str, path: str, own: "tuple[str, ...]", each: "tuple[str, ...]") -> "List[str]":
    parts = [part for part in path.split("/") if part][:LEVELS]
    levels = [mount + "".join("/" + part for part in parts[:count]) for count in range(len(parts), -1, -1)]
    found = [level + "/" + name for level in levels for name in each]
    # a container often sees the host's path but has its own cgroup mounted as the root
    return found + [level + "/" + name for level in dict.fromkeys((levels[0], levels[-1])) for name in own]
