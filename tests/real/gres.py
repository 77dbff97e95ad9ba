"""Four fake GPUs for each node of a real Slurm: device files, a generated /sys and /proc for each node, and GRES.

All nodes are this host, so a task's prolog shows each its own tree. Device files are real: a device cgroup counts.
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from detect.systree import SysTree
from real.slurm import Variant

GPUS = 4
ADDRESSES = tuple(f"0000:c{number}:00.0" for number in range(1, GPUS + 1))
"""As the fake NVML has them."""

MAJOR = 195
"""NVIDIA's, in the kernel's Documentation/admin-guide/devices.txt."""

CPUS = tuple(sorted(os.sched_getaffinity(0)))
CGROUP = Path("/sys/fs/cgroup")

CONSTRAINT = f"""\
CgroupPlugin=cgroup/v1
CgroupMountpoint={CGROUP}
ConstrainDevices=yes
ConstrainCores=no
ConstrainRAMSpace=no
"""

PROLOG = """\
#!/bin/sh
# what our ancestors are called is read below the tree, too
pid=$PPID
while [ "${{pid:-0}}" -gt 0 ]; do
    [ -e "{root}/$SLURMD_NODENAME/proc/$pid" ] || ln -s "/proc/$pid" "{root}/$SLURMD_NODENAME/proc/$pid"
    pid=$(sed 's/.*) . //; s/ .*//' "/proc/$pid/stat")
done 2> /dev/null
echo "export PILOTWRAP_SYSROOT={root}/$SLURMD_NODENAME"
echo "export LD_LIBRARY_PATH={library}"
echo "export FAKE_NVML=$(cat "{root}/$SLURMD_NODENAME/nvml" 2> /dev/null)"
exit 0
"""


def near(gpu: int) -> int:
    """Return the CPU next to a GPU: in reverse, as on Perlmutter and Polaris."""
    return CPUS[-1 - gpu % len(CPUS)]


def why_not_constrained() -> str | None:
    """Return why Slurm's device constraint cannot be had here, and how it can."""
    folder = CGROUP / "devices"
    if not (folder / "devices.list").exists():
        return f"no version-1 device cgroup at {folder}: boot with systemd.unified_cgroup_hierarchy=0"
    if not os.access(folder, os.W_OK) or os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"{folder} cannot be written: run the tests as root, in a container with --privileged"
    return None


@dataclass(frozen=True)
class Gpus:
    """The trees of the nodes, below one root."""

    root: Path
    nodes: tuple[str, ...]

    def make(self) -> None:
        """Write every node's tree, all its GPUs well."""
        for node in self.nodes:
            for gpu in range(GPUS):
                self._well(node, gpu)
                device = self.device(node, gpu)
                device.parent.mkdir(exist_ok=True)
                os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(MAJOR, gpu))
            for kept in ("/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/proc/sys", "/sys/fs", "/sys/devices"):
                (self.root / node / kept[1:]).symlink_to(kept)

    def _well(self, node: str, gpu: int) -> None:
        tree, address = SysTree(self.root / node), ADDRESSES[gpu]
        tree.nvidia(address, gpu, granted=False)
        tree.file(f"/sys/bus/pci/devices/{address}/local_cpulist", f"{near(gpu)}\n")
        tree.file(f"/sys/bus/pci/devices/{address}/config", "of a device that answers")

    def device(self, node: str, gpu: int) -> Path:
        """Return the device file of a node's GPU."""
        return self.root / node / "dev" / f"nvidia{gpu}"

    def why_not(self) -> str | None:
        """Return why nobody may open the device files here, whatever Slurm grants, and how one may."""
        if os.access(self.device(self.nodes[0], 0), os.R_OK | os.W_OK):
            return None
        return f"devices {MAJOR}:* are refused here: run the tests in a container with --privileged"

    def lose(self, node: str, gpu: int) -> None:
        """Have a GPU fall off: its bus shows it, its driver does not."""
        (self.root / node / "proc/driver/nvidia/gpus" / ADDRESSES[gpu] / "information").unlink()

    def fall_off(self, node: str, gpu: int) -> None:
        """Have a GPU fall off the bus, of which its driver's files say nothing."""
        SysTree(self.root / node).fall_off(ADDRESSES[gpu])

    def misbehave(self, node: str, words: str) -> None:
        """Have a node's NVML do so; nothing: be well again."""
        (self.root / node / "nvml").write_text(words)

    def recover(self) -> None:
        """Have all be well again."""
        for node in self.nodes:
            with suppress(FileNotFoundError):
                (self.root / node / "nvml").unlink()
            for gpu in range(GPUS):
                self._well(node, gpu)

    def variant(self, library: Path, *, constrained: bool) -> Variant:
        """Return the Slurm that has them; its job ids are nobody else's, for all share one hierarchy of cgroups."""
        settings = {
            "GresTypes": "gpu",
            "SelectTypeParameters": "CR_CPU_Memory",
            "TaskProlog": "{home}/prolog",
            "FirstJobId": str(1000 + os.getpid() % 30000 * 1000 + 500 * constrained),
        }
        where = "\n".join(
            f"NodeName={node} Name=gpu File={self.root}/{node}/dev/nvidia[0-{GPUS - 1}]" for node in self.nodes
        )
        files: Mapping[str, str] = {
            "gres.conf": where + "\n",
            "prolog": PROLOG.format(root=self.root, library=library),
        }
        if constrained:
            settings["TaskPlugin"] = "task/cgroup"
            files = {**files, "cgroup.conf": CONSTRAINT}
        return Variant(settings, f"Gres=gpu:{GPUS} RealMemory=2000", files=files)
