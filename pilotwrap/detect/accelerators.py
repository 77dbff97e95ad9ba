"""Accelerators: those that sysfs names on the host, and what the probe inside of the image says of them."""

import re

from pilotwrap.model.node import Accelerator, HealthReason
from pilotwrap.model.snapshot import DeviceSaid, ProbeSaid, Snapshot
from pilotwrap.site.accelerators.vendors import VENDOR_OF_PCI

_DISPLAY_ONLY = {"intel": ("0x030000",), "amd": ()}
"""Intel's integrated display adapters are VGA (0300); its data centre GPUs are 0380."""


def accelerators(snapshot: Snapshot) -> tuple[Accelerator, ...]:
    """Return every device of a known vendor, in the order of the PCI bus."""
    probed = {
        str(record["pci_address"]).lower(): record
        for probe in snapshot.probes
        for record in probe.records
        if record.get("kind") == "device" and record.get("pci_address")
    }
    devices = (_accelerator(said, snapshot, probed) for said in sorted(snapshot.devices, key=lambda d: d.address))
    return tuple(device for device in devices if device)


def _accelerator(
    said: DeviceSaid, snapshot: Snapshot, probed: dict[str, dict[str, str | int | float | bool | None]]
) -> Accelerator | None:
    vendor = VENDOR_OF_PCI.get(said.vendor.removeprefix("0x").lower())
    if vendor is None or said.pci_class.lower() in _DISPLAY_ONLY.get(vendor, ()):
        return None
    told = _information(snapshot.nvidia.get(said.address, ""))
    record = probed.get(said.address.lower())
    reason: HealthReason | None = "not-granted" if said.granted is False else None
    if vendor == "nvidia" and not reason:
        reason = _probe_reason(snapshot.probes, record)
    memory = record.get("memory_mib") if record else None
    return Accelerator(
        vendor=vendor,
        model=str(record["model"]) if record and record.get("model") else told.get("Model", said.device),
        uuid=str(record["uuid"]) if record and record.get("uuid") else told.get("GPU UUID"),
        pci_address=said.address,
        kind="gpu",
        memory_mib=memory if isinstance(memory, int) else None,
        driver=_driver(snapshot) if vendor == "nvidia" else said.driver,
        health="unusable" if reason else "ok",
        reason=reason,
        numa_node=_numa(said),
        near_cpus=(said.local_cpus or "").strip() or None,
    )


def _probe_reason(
    probes: tuple[ProbeSaid, ...], record: dict[str, str | int | float | bool | None] | None
) -> HealthReason | None:
    """Return why a device cannot be used; one that no probe was asked about counts as usable."""
    nvml = next((probe for probe in probes if probe.probe == "nvml"), None)
    if nvml is None:
        return None
    if record is not None:
        return _known(record.get("reason")) if record.get("health") == "unusable" else None
    if nvml.timed_out:
        return "timeout"
    said = [_known(entry.get("reason")) for entry in nvml.records if entry.get("kind") == "error"]
    return said[0] if said else "lost"


def _known(reason: object) -> HealthReason:
    known: dict[str, HealthReason] = {
        "library-missing": "library-missing",
        "mismatch": "mismatch",
        "timeout": "timeout",
        "crash": "crash",
        "lost": "lost",
        "not-granted": "not-granted",
        "masked": "masked",
        "mig-without-instances": "mig-without-instances",
        "ecc": "ecc",
    }
    return known.get(str(reason), "unknown")


def _information(text: str) -> dict[str, str]:
    """Return the lines `Name: value` of /proc/driver/nvidia/gpus/ADDRESS/information."""
    return {name.strip(): value.strip() for name, value in re.findall(r"^([^:\n]+):[ \t]*(.*)$", text, re.MULTILINE)}


def _driver(snapshot: Snapshot) -> str | None:
    match = re.search(r"Kernel Module(?: for \w+)?\s+(\d[\d.]+)", snapshot.text("/proc/driver/nvidia/version") or "")
    return match.group(1) if match else None


def _numa(said: DeviceSaid) -> int | None:
    text = str(said.numa_node).strip() if said.numa_node is not None else ""
    return int(text) if text.isdigit() else None
