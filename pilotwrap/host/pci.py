"""Accelerators as the kernel shows them in sysfs and /proc: raw values, nothing interpreted."""

import posix as os  # the same calls, without the 1.3 ms and 30 opened files of `os`

from pilotwrap.host import wire
from pilotwrap.host.descendants import content

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Optional

# Where /sys, /proc and /dev are to be read below, as for `inspect`.
SYSROOT = "PILOTWRAP_SYSROOT"

# Display and 3D controllers (0x03xxxx) and processing accelerators (0x12xxxx), by the PCI code and ID assignment.
CLASSES = ("3", "12")

# The public PCI ID list.
NVIDIA = "0x10de"
AMD = "0x1002"


def place_below(sysroot: str) -> "Callable[[str], str]":
    """Return what maps a path of the kernel's below a sysroot; other paths stay."""
    if not sysroot:
        return lambda path: path
    return lambda path: sysroot + path if path.startswith(("/sys/", "/proc/", "/dev/")) else path


def devices(place: "Callable[[str], str]", drivers: "Optional[Dict[str, str]]" = None) -> "List[Dict[str, object]]":
    """Return the accelerators of this node; `place` maps a path of /sys or /dev below a sysroot.

    `drivers` is what NVIDIA's driver says of each of its own.
    """
    base = place("/sys/bus/pci/devices")
    found: "List[Dict[str, object]]" = []
    for address in listing(base):
        # one file has class, ids and driver: one call for each of the hundreds that are no accelerator
        event = _pairs(attribute(base + "/" + address + "/uevent"))
        code = event.get("PCI_CLASS", "")
        if len(code) > 4 and code[:-4] in CLASSES:  # noqa: PLR2004 - below come subclass and interface, two digits each
            device = _device(base + "/" + address, event)
            device["granted"] = is_granted(device, place, drivers or {})
            found.append(device)
    return found


def _device(folder: str, event: "Dict[str, str]") -> "Dict[str, object]":
    vendor, _, device = event.get("PCI_ID", "").lower().partition(":")
    numa = attribute(folder + "/numa_node").strip()
    return {
        "address": folder.rpartition("/")[2].lower(),
        "class": "0x" + event["PCI_CLASS"].lower().rjust(6, "0"),
        "vendor": "0x" + vendor,
        "device": "0x" + device,
        "driver": event.get("DRIVER"),
        "numa_node": int(numa) if numa.lstrip("-").isdigit() else None,
        "local_cpus": attribute(folder + "/local_cpulist").strip() or None,
        "render_nodes": render_nodes(folder),
        "answers": answers(folder),
        "granted": None,
    }


def vendor(folder: str) -> str:
    """Return whose device it is, as 0x and four digits; nothing if there is no such device."""
    number = _pairs(attribute(folder + "/uevent")).get("PCI_ID", "").partition(":")[0]
    return "0x" + number.lower() if number else ""


def answers(folder: str) -> "Optional[bool]":
    """Whether a device answers on its bus; unknown where its configuration cannot be read.

    Of one that fell off, all that sysfs and its driver remember stays as it was, but a read that nobody answers gives
    ones alone (PCI_POSSIBLE_ERROR in the kernel's pci.h; lspci shows "rev ff"), where else the vendor's number begins.
    """
    try:
        fd = os.open(folder + "/config", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        first = os.read(fd, 4)
    except OSError:
        return None
    finally:
        os.close(fd)
    return first != b"\xff\xff\xff\xff" if len(first) == 4 else None  # noqa: PLR2004 - vendor and device


def render_nodes(folder: str) -> "List[str]":
    """Return the names of a device's nodes in /dev/dri that programs compute by."""
    return [name for name in listing(folder + "/drm") if name.startswith("renderD")]


def is_granted(
    device: "Dict[str, object]", place: "Callable[[str], str]", drivers: "Dict[str, str]"
) -> "Optional[bool]":
    """Whether we may open a device's nodes; unknown where it has none."""
    vendor, address = device["vendor"], str(device["address"])
    if vendor == NVIDIA:
        # its render node is for displays, and often for other users than /dev/nvidia0, which may not be there yet
        node = place("/dev/nvidia" + minor(drivers.get(address, "")))
        return granted([node]) if os.access(node, os.F_OK) else None
    nodes = ["/dev/dri/" + str(name) for name in wire.texts(device, "render_nodes")]
    return granted([place(node) for node in (["/dev/kfd"] if vendor == AMD else []) + nodes])


def minor(information: str) -> str:
    """Return the number of a device's node, as NVIDIA's driver tells it; nothing if it does not."""
    for line in information.splitlines():
        name, _, value = line.partition(":")
        if name == "Device Minor":
            return value.strip()
    return "-none"


def granted(nodes: "List[str]") -> "Optional[bool]":
    """Whether permissions and the device cgroup let us open these nodes; unknown where there are none.

    Only asked, not opened: that calls into the driver, which may hang or wake the device up. The kernel's
    inode_permission asks the device cgroup as well (fs/namei.c).
    """
    return all(os.access(node, os.R_OK | os.W_OK) for node in nodes) if nodes else None


class Patterns:
    """Paths of the kernel's in which `NAME*` stands for what a folder has so, `<VENDOR>` for its devices' addresses."""

    def __init__(self, place: "Callable[[str], str]", found: "List[Dict[str, object]]") -> None:
        self._place = place
        self._devices = found
        self._listed: "Dict[str, List[str]]" = {}

    def paths(self, pattern: str) -> "List[str]":
        """Return the paths that a pattern stands for; each folder is read once, whatever the number of patterns."""
        paths = [""]
        for part in pattern.split("/")[1:]:
            paths = [path + "/" + name for path in paths for name in self._names(path, part)]
        return paths

    def _names(self, folder: str, part: str) -> "List[str]":
        if part.startswith("<"):
            return [str(device["address"]) for device in self._devices if device["vendor"] == "0x" + part[1:-1]]
        if not part.endswith("*"):
            return [part]
        if folder not in self._listed:
            self._listed[folder] = listing(self._place(folder))
        return [name for name in self._listed[folder] if name.startswith(part[:-1])]


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
