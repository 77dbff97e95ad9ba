"""Accelerators: those that the host shows, what the probe inside of the image says of them, and which are hidden."""

from collections.abc import Iterator

from pilotwrap.detect.nvml import probed
from pilotwrap.model.node import Accelerator
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.accelerators.said import ill
from pilotwrap.site.accelerators.vendors import ALL_MASKS, VENDORS, VendorKind, vendor_of

MOST = 512
"""No node has more; a snapshot that shows more is a mistake (a guess: 16 GPUs of 7 slices each are 112)."""


def accelerators(snapshot: Snapshot) -> tuple[Accelerator, ...]:
    """Return every device, a vendor after the other, each in the order of its runtime's numbers.

    A GPU in MIG mode is its instances, a card of several tiles its tiles. Hidden ones are listed as masked.
    ValueError: there are more than a node can have.
    """
    shown = max(len(snapshot.devices), sum(len(probe.records) for probe in snapshot.probes))
    if shown > MOST:
        raise ValueError(f"{shown} accelerators are shown, a node has {MOST} at most: none of them is used")
    return tuple(device for kind in VENDORS.values() for device in _accelerators(kind, snapshot))


def _accelerators(kind: VendorKind, snapshot: Snapshot) -> Iterator[Accelerator]:
    once = {said.address: said for said in reversed(snapshot.devices)}
    along_bus = [once[address] for address in sorted(once)]
    seen = [device for said in along_bus if vendor_of(said) == kind.NAME for device in kind.devices(said, snapshot)]
    found = kind.in_order(probed(seen, snapshot) if kind.NAME == "nvidia" else seen, snapshot)
    left = set(kind.visible(found, snapshot))
    for device in found:
        yield device if device in left else ill(device, "masked", _what_hides(kind, snapshot))


def _what_hides(kind: VendorKind, snapshot: Snapshot) -> str:
    said = snapshot.variables
    names = [name for name in kind.MASKS if name in said] or [name for name in ALL_MASKS if name in said]
    return "hidden by " + ", ".join(f"{name}={said[name][:100]}" for name in names)
