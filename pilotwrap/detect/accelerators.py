"""Accelerators: those that sysfs names on the host, and what the probe inside of the image says of them."""

import re
from collections.abc import Iterator
from typing import get_args

from pilotwrap.model.node import Accelerator, DeviceKind, HealthReason, Vendor
from pilotwrap.model.snapshot import DeviceSaid, ProbeSaid, Snapshot
from pilotwrap.site.accelerators.vendors import DISPLAY_ONLY, GCD_DEVICES, vendor_of
from pilotwrap.site.digits import number_of

_Record = dict[str, str | int | float | bool | None]
_REASONS: dict[str, HealthReason] = {reason: reason for reason in get_args(HealthReason)}


def accelerators(snapshot: Snapshot) -> tuple[Accelerator, ...]:
    """Return every device of a known vendor, in the order of the PCI bus; a GPU in MIG mode as its instances."""
    devices = sorted(snapshot.devices, key=lambda said: said.address)
    return tuple(found for said in devices for found in _accelerators(said, snapshot))


def _accelerators(said: DeviceSaid, snapshot: Snapshot) -> Iterator[Accelerator]:
    vendor = vendor_of(said)
    if vendor is None or said.pci_class.lower() in DISPLAY_ONLY[vendor]:
        return
    seen = _seen(said, vendor, snapshot)
    probe = next((probe for probe in snapshot.probes if probe.probe == "nvml"), None)
    if vendor != "nvidia" or probe is None:
        yield seen
        return
    own = [record for record in probe.records if _address(record) == said.address.lower()]
    for record in own or [_missing(probe)]:
        yield _probed(seen, record)


def _seen(said: DeviceSaid, vendor: Vendor, snapshot: Snapshot) -> Accelerator:
    """Return the device as the host shows it; one that no probe is asked about counts as usable if it is granted."""
    told = _information(snapshot.nvidia.get(said.address, ""))
    return Accelerator(
        vendor=vendor,
        model=told.get("Model") or said.device,
        uuid=told.get("GPU UUID"),
        pci_address=said.address,
        kind="gcd" if said.device.removeprefix("0x").lower() in GCD_DEVICES[vendor] else "gpu",
        memory_mib=None,
        driver=_driver(snapshot) if vendor == "nvidia" else said.driver,
        health="unusable" if said.granted is False else "ok",
        reason="not-granted" if said.granted is False else None,
        numa_node=number_of(str(said.numa_node)),
        near_cpus=(said.local_cpus or "").strip() or None,
    )


def _probed(seen: Accelerator, record: _Record) -> Accelerator:
    """Return the device with what the probe knows better; that it is not granted, the host knows."""
    kind: DeviceKind = "mig" if record.get("type") == "mig" else seen.kind
    bad = record.get("health") == "unusable"
    reason = seen.reason or (_REASONS.get(str(record.get("reason")), "unknown") if bad else None)
    return seen.model_copy(
        update={
            "model": str(record.get("model") or seen.model),
            "uuid": str(record["uuid"]) if record.get("uuid") else seen.uuid,
            "kind": kind,
            "memory_mib": number_of(str(record.get("memory_mib"))),
            "health": "unusable" if reason else "ok",
            "reason": reason,
        }
    )


def _missing(probe: ProbeSaid) -> _Record:
    """Return why the probe has no word on a device: it did not end well, or could not tell which one was ill."""
    said = (record for record in probe.records if record.get("kind") == "error")
    nameless = (record for record in probe.records if record.get("kind") == "device" and not _address(record))
    reason = next((record.get("reason") for record in (*said, *nameless)), None)
    return {"health": "unusable", "reason": reason or ("timeout" if probe.timed_out else "lost")}


def _address(record: _Record) -> str:
    return str(record.get("pci_address") or "").lower() if record.get("kind") == "device" else ""


def _information(text: str) -> dict[str, str]:
    """Return the lines `Name: value` of /proc/driver/nvidia/gpus/ADDRESS/information."""
    return {name.strip(): value.strip() for name, value in re.findall(r"^([^:\n]+):[ \t]*(.*)$", text, re.MULTILINE)}


def _driver(snapshot: Snapshot) -> str | None:
    match = re.search(r"Kernel Module(?: for \w+)?\s+(\d[\d.]+)", snapshot.text("/proc/driver/nvidia/version") or "")
    return match.group(1) if match else None
