"""A device as sysfs has it, before its vendor's file adds what it knows."""

from pilotwrap.model.node import Accelerator, HealthReason, Vendor
from pilotwrap.model.snapshot import DeviceSaid
from pilotwrap.site.digits import number_of

_LENT_TO_GUESTS = ("vfio-pci", "pci-stub")
"""Drivers that keep a device for a virtual machine (the kernel's Documentation/driver-api/vfio.rst)."""


def as_said(said: DeviceSaid, vendor: Vendor, model: str) -> Accelerator:
    """Return the device; one that no probe is asked about counts as usable if it is granted."""
    detail = "its device nodes may not be opened" if said.granted is False else ""
    if said.driver in _LENT_TO_GUESTS:
        detail = f"the driver {said.driver} keeps it for a virtual machine"
    reason: HealthReason | None = "not-granted" if detail else None
    if reason is None and said.answers is False:
        reason, detail = "lost", "it does not answer on the bus any more"
    return Accelerator(
        vendor=vendor,
        model=model,
        uuid=None,
        pci_address=said.address,
        kind="gpu",
        memory_mib=None,
        driver=said.driver,
        health="unusable" if reason else "ok",
        reason=reason,
        numa_node=number_of(str(said.numa_node)),
        near_cpus=(said.local_cpus or "").strip() or None,
        detail=detail,
    )


def ill(device: Accelerator, reason: HealthReason, detail: str) -> Accelerator:
    """Return the device as unusable; the reason that it has already stands."""
    if device.reason:
        return device
    return device.model_copy(update={"health": "unusable", "reason": reason, "detail": detail})
