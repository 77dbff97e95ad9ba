"""NVIDIA's devices: their PCI numbers, /proc/driver/nvidia, and CUDA's variables.

Sources: the public PCI ID list; the driver's README, "Proc Interface"; CUDA's programming guide, "CUDA Environment
Variables"; the MIG user guide. What they leave open of CUDA_VISIBLE_DEVICES (numbers read like strtol's, a list of
one form only, a repeat that empties it) is as PyTorch's torch/cuda/__init__.py mimics it.
"""

import re
from collections.abc import Mapping, Sequence

from pilotwrap.model.node import Accelerator, HealthReason, Vendor
from pilotwrap.model.snapshot import DeviceSaid, Snapshot
from pilotwrap.site.accelerators.said import as_said
from pilotwrap.site.accelerators.selection import named, numbered
from pilotwrap.site.looks import Looks

NAME: Vendor = "nvidia"
PCI_VENDOR = "10de"
MASK = "CUDA_VISIBLE_DEVICES"
MASKS: tuple[str, ...] = (MASK,)
UNCOUNTED: frozenset[HealthReason] = frozenset({"not-granted", "lost", "mig-without-instances"})
"""What CUDA does not number: it skips a card that is lost or may not be opened."""

_ORDER = "CUDA_DEVICE_ORDER"
_IN_BUS_ORDER = "PCI_BUS_ID"
VERSION = "/proc/driver/nvidia/version"
"""What the kernel module says of itself."""

LOOKS = Looks(variables=(MASK, _ORDER, "NVIDIA_VISIBLE_DEVICES"), files=(VERSION,))


def devices(said: DeviceSaid, snapshot: Snapshot) -> tuple[Accelerator, ...]:
    """Return the GPU as the host's driver shows it, without having been asked anything."""
    text = snapshot.nvidia.get(said.address, "")
    told = {name.strip(): value.strip() for name, value in re.findall(r"^([^:\n]+):[ \t]*(.*)$", text, re.MULTILINE)}
    seen = as_said(said, NAME, told.get("Model") or said.device)
    uuid = told.get("GPU UUID")
    return (seen.model_copy(update={"uuid": None if "?" in (uuid or "") else uuid, "driver": _driver(snapshot)}),)


def visible(found: Sequence[Accelerator], snapshot: Snapshot) -> list[Accelerator]:
    """Return what CUDA_VISIBLE_DEVICES leaves of the devices."""
    text = snapshot.variables.get(MASK)
    if text is None:
        return list(found)
    counted = [device for device in found if device.reason not in UNCOUNTED]
    in_order, by_number = _by_speed(counted, snapshot), not text.startswith(("GPU-", "MIG-"))
    chosen: list[Accelerator] = []
    for word in text.split(","):
        device = numbered(word, in_order) if by_number else named(word, counted)
        if device is None:
            break
        if device in chosen:
            return []
        chosen.append(device)
    return chosen


def mask(chosen: Sequence[Accelerator], counted: Sequence[Accelerator]) -> dict[str, str]:
    """Return what shows these devices alone, by number along the bus."""
    return {MASK: ",".join(str(counted.index(device)) for device in chosen), _ORDER: _IN_BUS_ORDER}


def in_order(found: Sequence[Accelerator], _snapshot: Snapshot) -> list[Accelerator]:
    """Return the devices along the bus: the order that our own mask asks for."""
    return list(found)


def _by_speed(counted: Sequence[Accelerator], snapshot: Snapshot) -> list[Accelerator]:
    """Return the cards as CUDA numbers them; one in MIG mode is the first of its instances to a process.

    Fastest first, unless told otherwise; how fast CUDA takes a card to be is not documented: cores times clock is a
    guess. It matters on nodes of mixed cards only: the order of equal ones is the bus's.
    """
    cards = list({device.pci_address: device for device in reversed(counted)}.values())[::-1]
    if snapshot.variables.get(_ORDER) == _IN_BUS_ORDER:
        return cards
    speeds = _speeds(snapshot)
    return sorted(cards, key=lambda card: -speeds.get(card.pci_address, 0))


def _speeds(snapshot: Snapshot) -> Mapping[str, int]:
    said = [record for probe in snapshot.probes if probe.probe == "nvml" for record in probe.records]
    told = ((str(record.get("pci_address")), record.get("speed")) for record in said)
    return {address: speed for address, speed in told if isinstance(speed, int)}


def _driver(snapshot: Snapshot) -> str | None:
    match = re.search(r"Kernel Module(?: for \w+)?\s+(\d[\d.]+)", snapshot.text(VERSION) or "")
    return match.group(1) if match else None
