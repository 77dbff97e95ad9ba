"""Vendors of accelerators by their PCI numbers, and the variable by which each one's runtime is told its devices.

The numbers: NVIDIA 10de, AMD 1002, Intel 8086 (the public PCI ID list). A BMC's display adapter (ASPEED 1a03,
Matrox 102b) is of none of them. PCI class 03xx is display or 3D, 12xx a processing accelerator (PCI code and ID
assignment specification); MI250X shows 0380, MI300A 1200, PVC 0380, an A100 0302.
"""

from pilotwrap.model.node import Vendor
from pilotwrap.model.snapshot import DeviceSaid, Snapshot
from pilotwrap.site.looks import Looks

VENDOR_OF_PCI: dict[str, Vendor] = {"10de": "nvidia", "1002": "amd", "8086": "intel"}

DISPLAY_ONLY: dict[Vendor, tuple[str, ...]] = {"nvidia": (), "amd": (), "intel": ("0x030000",)}
"""PCI classes that are no accelerator: Intel's integrated adapters are VGA (0300), its data centre GPUs 0380."""

GCD_DEVICES: dict[Vendor, frozenset[str]] = {
    "nvidia": frozenset(),
    "amd": frozenset({"7408", "740c"}),
    "intel": frozenset(),
}
"""PCI devices that are one of two dies of a card (MI250X, MI250; the public PCI ID list, from memory)."""

MASKS: dict[Vendor, str] = {
    "nvidia": "CUDA_VISIBLE_DEVICES",
    "amd": "ROCR_VISIBLE_DEVICES",
    "intel": "ZE_AFFINITY_MASK",
}
"""The one variable that is set for a rank; on AMD only ROCR's, for HIP's would count within it (OLCF user guide)."""

IN_BUS_ORDER: dict[Vendor, dict[str, str]] = {
    "nvidia": {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    "amd": {},
    "intel": {"ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1", "ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE"},
}
"""What makes a vendor's numbers count whole devices along the PCI bus; ROCm does so by itself (on Frontier)."""

ALL_MASKS = (
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "GPU_DEVICE_ORDINAL",
    "ZE_AFFINITY_MASK",
    "ONEAPI_DEVICE_SELECTOR",
)
"""Everything that masks devices anywhere: unset for a rank unless its own vendor's is set."""

LOOKS = Looks(
    variables=(*ALL_MASKS, "CUDA_DEVICE_ORDER", "ZE_*", "NVIDIA_VISIBLE_DEVICES"),
    files=("/proc/driver/nvidia/version",),
)


def vendor_of(said: DeviceSaid) -> Vendor | None:
    """Return whose device it is; None: of nobody who makes accelerators."""
    return VENDOR_OF_PCI.get(said.vendor.removeprefix("0x").lower())


def asks_nvml(snapshot: Snapshot) -> bool:
    """Tell whether NVML has something to say here."""
    return any(vendor_of(device) == "nvidia" for device in snapshot.devices)
