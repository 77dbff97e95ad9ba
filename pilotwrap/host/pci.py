"""Accelerators as the kernel shows them in sysfs and /proc: raw values, nothing interpreted."""

import os

from pilotwrap.host.descendants import content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Optional

# Display and 3D controllers (0x03xxxx) and processing accelerators (0x12xxxx), by the PCI code and ID assignment.
CLASSES = ("3", "12")


def devices(place: "Callable[[str], str]") -> "List[Dict[str, object]]":
    """Return the accelerators of this node; `place` maps a path of /sys or /dev below a sysroot."""
    base = place("/sys/bus/pci/devices")
    found: "List[Dict[str, object]]" = []
    for address in listing(base):
        # one file has class, ids and driver: one call for each of the hundreds that are no accelerator
        event = _pairs(attribute(base + "/" + address + "/uevent"))
        code = event.get("PCI_CLASS", "")
        if len(code) > 4 and code[:-4] in CLASSES:  # noqa: PLR2004 - below come subclass and interface, two digits each
            found.append(_device(address, event, base, place))
    return found


def _device(address: str, event: "Dict[str, str]", base: str, place: "Callable[[str], str]") -> "Dict[str, object]":
    vendor, _, device = event.get("PCI_ID", "").lower().partition(":")
    folder = base + "/" + address
    numa = attribute(folder + "/numa_node").strip()
    nodes = [name for name in listing(folder + "/drm") if name.startswith("renderD")]
    return {
        "address": address.lower(),
        "class": "0x" + event["PCI_CLASS"].lower().rjust(6, "0"),
        "vendor": "0x" + vendor,
        "device": "0x" + device,
        "driver": event.get("DRIVER"),
        "numa_node": int(numa) if numa.lstrip("-").isdigit() else None,
        "local_cpus": attribute(folder + "/local_cpulist").strip() or None,
        "render_nodes": nodes,
        "granted": granted([place("/dev/dri/" + name) for name in nodes]),
    }


def granted(nodes: "List[str]") -> "Optional[bool]":
    """Whether the device cgroup lets us open these nodes; unknown where there are none (the compute-only drivers)."""
    if not nodes:
        return None
    try:
        for node in nodes:
            os.close(os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def nvidia(place: "Callable[[str], str]") -> "Dict[str, str]":
    """Return what NVIDIA's driver says of each of its devices, by PCI address."""
    base = place("/proc/driver/nvidia/gpus")
    return {address.lower(): attribute(base + "/" + address + "/information") for address in listing(base)}


def listing(folder: str) -> "List[str]":
    """Return what is in a folder, sorted; nothing if there is no folder."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def attribute(path: str) -> str:
    """Return what a file of the kernel says; nothing if it says nothing."""
    try:
        return content(path)
    except OSError:
        return ""


def _pairs(text: str) -> "Dict[str, str]":
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
