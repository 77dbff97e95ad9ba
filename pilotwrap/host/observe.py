"""One node as it is, raw: the Snapshot. What to look at is data (`looks.py`); nothing here is interpreted."""

import errno as _errno
import os
import sys
import time

from pilotwrap import __version__
from pilotwrap.host import ask, cpulist, descendants, limits, looks, names, pci, wire
from pilotwrap.host.launch import own_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List

    from pilotwrap.host.inquiry import Inquiry

FILE_MOST = 65536

# /proc/cpuinfo grows by 1.5 KiB a thread and is made as it is read: its first entry names the model.
CPUINFO_MOST = 2048

ALWAYS = (
    *("/proc/self/status", "/proc/self/cgroup", "/proc/meminfo", "/proc/cpuinfo", "/etc/os-release"),
    *("/sys/devices/system/cpu/online", "/sys/devices/system/cpu/possible", "/proc/driver/nvidia/version"),
    "/proc/sys/kernel/random/boot_id",
)


def snapshot(sysroot: str = "", *, asked: bool = True, probe: str = "") -> "Dict[str, object]":
    """Return this node's snapshot; every part that cannot be seen is left out or says why.

    Not `asked`: no command is run. A thousand nodes of a survey would ask one batch system the same at once.
    `probe`: the file that says how the image's probe is started, if there is what it asks about.
    """
    environment = own_environment()
    place = pci.place_below(sysroot or environment.get(pci.SYSROOT, ""))
    wanted = looks.LOOKS
    programs = found_programs(environment.get("PATH", os.defpath), set(wire.texts(wanted, "programs")))
    system = os.uname()
    drivers = pci.nvidia(place)
    devices = pci.devices(place, drivers)
    inquiry = begun(probe, environment) if probe and (drivers or any_of_nvidia(devices)) else None
    paths = list(dict.fromkeys([*ALWAYS, "/sys/devices/system/node/", *wanted_paths(place, environment, devices)]))
    return {
        "schema": wire.SNAPSHOT_SCHEMA,
        "version": __version__,
        "taken_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": system.nodename,
        "python": "%d.%d.%d" % sys.version_info[:3],
        "system": {"sysname": system.sysname, "release": system.release, "machine": system.machine},
        "uid": os.getuid(),
        "cwd": clean(os.getcwd()),
        "ancestors": ancestors(place),
        "variables": variables(environment),
        "files": files(place, [path for path in paths if not path.endswith("/")]),
        "listings": {path[:-1]: pci.listing(place(path)) for path in paths if path.endswith("/")},
        "commands": ask.answers(commands(environment, programs), environment) if asked else [],
        "programs": programs,
        "affinity": cpulist.written(os.sched_getaffinity(0)),
        "disk": disks([os.getcwd(), "/tmp", environment.get("TMPDIR", "")]),  # noqa: S108 - asked, not written
        "devices": devices,
        "nvidia": drivers,
        "probes": [inquiry.answer()] if inquiry else [],
    }


def any_of_nvidia(devices: "List[Dict[str, object]]") -> bool:
    """Tell whether NVML may have something to say of the bus."""
    return any(device["vendor"] == pci.NVIDIA for device in devices)


def begun(path: str, environment: "Dict[str, str]") -> "Inquiry":
    """Start the probe that a file orders."""
    from pilotwrap.host.inquiry import Inquiry

    return Inquiry(wire.message(wire.raw(descendants.content(path))), environment)


def clean(text: str) -> str:
    """Return text that any reader of JSON takes: bytes that are no UTF-8 become a mark."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def variables(environment: "Dict[str, str]") -> "Dict[str, str]":
    """Return the allowed variables, without what a proxy's address may hold of a password."""
    allowed = names.chosen(environment, wire.texts(looks.LOOKS, "variables"))
    return {clean(name): without_password(clean(value)) for name, value in allowed.items()}


def without_password(value: str) -> str:
    """Return an address without its `user:password@`, wherever in the value it stands."""
    parts = value.split("://")
    for index in range(1, len(parts)):
        authority, slash, rest = parts[index].partition("/")
        parts[index] = ("***@" + authority.rpartition("@")[2] if "@" in authority else authority) + slash + rest
    return "://".join(parts)


def wanted_paths(
    place: "Callable[[str], str]", environment: "Dict[str, str]", devices: "List[Dict[str, object]]"
) -> "List[str]":
    """Return the paths that are to be read; one that ends in a slash is a folder to be listed."""
    paths = limits.files(pci.attribute(place("/proc/self/cgroup")))
    patterns = pci.Patterns(place, devices)
    for pattern in wire.texts(looks.LOOKS, "files"):
        # a pattern is the kernel's; what a variable holds is taken as it is
        paths += patterns.paths(pattern) if pattern.startswith("/sys/") else [filled(pattern, environment)]
    return paths


def files(place: "Callable[[str], str]", paths: "List[str]") -> "Dict[str, Dict[str, str]]":
    """Return the wanted files' texts, or the errno of what is there but refuses."""
    found: "Dict[str, Dict[str, str]]" = {}
    for path in paths:
        _add_file(path, place, found)
    for node in pci.listing(place("/sys/devices/system/node")):
        if node.startswith("node"):
            _add_file("/sys/devices/system/node/" + node + "/cpulist", place, found)
            cpus = found.get("/sys/devices/system/node/" + node + "/cpulist", {}).get("text", "").strip()
            if cpus:
                # the siblings of a node's first CPU give the stride of all: one file, not one a CPU
                first = cpus.partition(",")[0].partition("-")[0]
                _add_file("/sys/devices/system/cpu/cpu" + first + "/topology/thread_siblings_list", place, found)
    return found


def _add_file(path: str, place: "Callable[[str], str]", found: "Dict[str, Dict[str, str]]") -> None:
    if not path:
        return
    try:
        text = descendants.content(place(path), CPUINFO_MOST if path == "/proc/cpuinfo" else FILE_MOST)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        found[path] = {"error": _errno.errorcode.get(error.errno or 0, "EIO")}
        return
    found[path] = {"text": text}


def filled(text: str, environment: "Dict[str, str]") -> str:
    """Return text with a variable's value for its `{NAME}`; nothing if the variable is not set."""
    head, brace, rest = text.partition("{")
    name, close, tail = rest.partition("}")
    if not brace or not close or not name.replace("_", "").isupper():
        return text
    return head + environment[name] + tail if environment.get(name) else ""


def found_programs(path: str, wanted: "set[str]") -> "Dict[str, str]":
    """Return where along PATH each wanted program is; each folder is read once, and no name is looked up in vain."""
    found: "Dict[str, str]" = {}
    for folder in dict.fromkeys(path.split(":")):
        if not folder.startswith("/"):
            continue
        for name in wanted.intersection(pci.listing(folder)).difference(found):
            if os.access(folder + "/" + name, os.X_OK):
                found[name] = clean(folder + "/" + name)
    return found


def commands(environment: "Dict[str, str]", programs: "Dict[str, str]") -> "List[List[str]]":
    """Return the commands whose variable is set and whose program is here."""
    found: "List[List[str]]" = []
    for look in wire.mappings(looks.LOOKS, "commands"):
        argv = wire.texts(look, "argv")
        if environment.get(wire.text(look, "when")) and argv[0] in programs:
            found.append([programs[argv[0]]] + [filled(word, environment) for word in argv[1:]])
    return found


def ancestors(place: "Callable[[str], str]") -> "List[str]":
    """Return the names of our parents, nearest first; Slurm's step daemon by its title, which tells the step."""
    found: "List[str]" = []
    pid = os.getppid()
    while pid > 0 and len(found) < 64:  # noqa: PLR2004 - a bound against a tree that changes meanwhile
        stat = pci.attribute(place("/proc/%d/stat" % pid))
        if not stat:
            break
        head, _, tail = stat.rpartition(")")
        name = head.partition("(")[2]
        if name.startswith("slurmstepd"):
            title = pci.attribute(place("/proc/%d/cmdline" % pid)).partition("\0")[0].strip()
            name = title or name
        found.append(name)
        pid = int(tail.split()[1])
    return found


def disks(paths: "List[str]") -> "Dict[str, Dict[str, int]]":
    """Return the free space and inodes where these paths are, for an ordinary user."""
    found = {}
    for path in dict.fromkeys(paths):
        try:
            state = os.statvfs(wire.raw(path))
        except OSError:
            continue
        found[clean(path)] = {"free_mib": state.f_bavail * state.f_frsize >> 20, "free_inodes": state.f_favail}
    return found
