"""A /sys, /proc and /dev as the kernel makes them, written below a folder: for nodes that we do not have."""

from pathlib import Path


class SysTree:
    """Files below a root; paths are the kernel's."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, path: str, text: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def folder(self, path: str) -> None:
        (self.root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def device(self, address: str, number: str, code: str = "38000", driver: str = "x", **files: str) -> str:
        """Write a device of the PCI bus; `number` is VENDOR:DEVICE, further files by name. Return its folder."""
        base = f"/sys/bus/pci/devices/{address}"
        event = f"DRIVER={driver}\nPCI_CLASS={code}\nPCI_ID={number.upper()}\nPCI_SLOT_NAME={address}\n"
        for name, text in {"uevent": event, "numa_node": "0\n", **files}.items():
            self.file(f"{base}/{name}", text)
        return base

    def nvidia(self, address: str, minor: int, *, granted: bool = True) -> None:
        self.device(address, "10de:20b0", "30200", "nvidia", local_cpulist=f"{minor}\n")
        told = f"Model: \t\t NVIDIA A100\nGPU UUID: \t GPU-0000000{minor}\nDevice Minor: \t {minor}\n"
        self.file(f"/proc/driver/nvidia/gpus/{address}/information", told)
        self.file("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue\n")
        if granted:
            self.file(f"/dev/nvidia{minor}", "")

    def fall_off(self, address: str) -> None:
        """Have a device no longer answer on the bus, which is all that changes."""
        (self.root / f"sys/bus/pci/devices/{address}/config").write_bytes(b"\xff" * 64)

    def render(self, base: str, number: int, *, granted: bool = True) -> None:
        """Give a device its card and its node in /dev/dri."""
        self.folder(f"{base}/drm/card{number}")
        self.folder(f"{base}/drm/renderD{128 + number}")
        if granted:
            self.file(f"/dev/dri/renderD{128 + number}", "")

    def kfd(self, node: int, address: str | None, *, memory_gib: int = 64, unique_id: int = 0, part: int = 0) -> None:
        """Write a node of AMD's topology; without an address it is a CPU's."""
        base = f"/sys/class/kfd/kfd/topology/nodes/{node}"
        if address is None:
            self.file(f"{base}/properties", "cpu_cores_count 16\nsimd_count 0\nlocation_id 0\n")
            return
        domain, bus, rest = address.split(":")
        place = int(bus, 16) << 8 | int(rest.split(".")[0], 16) << 3 | part
        told = (
            f"cpu_cores_count 0\nsimd_count 440\nlocation_id {place}\ndomain {int(domain, 16)}\nunique_id {unique_id}\n"
        )
        self.file(f"{base}/properties", told)
        bank = f"heap_type 1\nsize_in_bytes {memory_gib << 30}\nflags 0\n"
        self.file(f"{base}/mem_banks/0/properties", bank)
