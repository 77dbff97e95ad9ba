"""The vendors of accelerators: a file each, and a line here.

A BMC's display adapter (ASPEED 1a03, Matrox 102b in the public PCI ID list) is of none of them.
"""

from collections.abc import Sequence
from typing import Protocol

from pilotwrap.model.node import Accelerator, HealthReason, Vendor
from pilotwrap.model.snapshot import DeviceSaid, Snapshot
from pilotwrap.site.accelerators import amd, intel, nvidia
from pilotwrap.site.looks import Looks, union


class VendorKind(Protocol):
    """What a vendor's file tells."""

    @property
    def NAME(self) -> Vendor:  # noqa: N802 - constants of a module
        """Return its name."""

    @property
    def PCI_VENDOR(self) -> str:  # noqa: N802
        """Return its number on the PCI bus."""

    @property
    def MASK(self) -> str:  # noqa: N802
        """Return the variable that is set for a rank."""

    @property
    def MASKS(self) -> tuple[str, ...]:  # noqa: N802
        """Return every variable that hides devices of its."""

    @property
    def UNCOUNTED(self) -> frozenset[HealthReason]:  # noqa: N802
        """Return why a device has no number in its runtime."""

    @property
    def LOOKS(self) -> Looks:  # noqa: N802
        """Return what is looked at for it."""

    def devices(self, said: DeviceSaid, snapshot: Snapshot) -> tuple[Accelerator, ...]:
        """Return the accelerators at an address of the bus, as the host shows them."""

    def in_order(self, found: Sequence[Accelerator], snapshot: Snapshot) -> list[Accelerator]:
        """Return devices, given along the bus, in the order in which the numbers of our masks count them."""

    def visible(self, found: Sequence[Accelerator], snapshot: Snapshot) -> list[Accelerator]:
        """Return the devices that the node's environment does not hide."""

    def mask(self, chosen: Sequence[Accelerator], counted: Sequence[Accelerator]) -> dict[str, str]:
        """Return the variables that show a rank these devices alone, by their numbers among the counted ones."""


VENDORS: dict[Vendor, VendorKind] = {"nvidia": nvidia, "amd": amd, "intel": intel}

MASKS: dict[Vendor, str] = {name: kind.MASK for name, kind in VENDORS.items()}
"""The one variable that is set for a rank, unless the job asks for another one of the same vendor's."""

ALL_MASKS = tuple(name for kind in VENDORS.values() for name in kind.MASKS)
"""Everything that masks devices anywhere: unset for a rank unless its own vendor's is set."""

LOOKS = union(kind.LOOKS for kind in VENDORS.values())


def vendor_of(said: DeviceSaid) -> Vendor | None:
    """Return whose device it is; None: of nobody who makes accelerators."""
    number = said.vendor.removeprefix("0x").lower()
    return next((name for name, kind in VENDORS.items() if number == kind.PCI_VENDOR), None)


def asks_nvml(snapshot: Snapshot) -> bool:
    """Tell whether NVML has something to say here: a device, its driver, or a container that was given some."""
    given = snapshot.variables.get("NVIDIA_VISIBLE_DEVICES", "none")
    there = any(vendor_of(device) == "nvidia" for device in snapshot.devices) or bool(snapshot.nvidia)
    return there or bool(snapshot.text(nvidia.VERSION)) or given not in {"", "none", "void"}
