"""The devices that a rank was promised, compared with those that it got on its node."""

from pilotwrap.host import pci

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable, Dict, List, Optional


def broken(binding: "Dict[str, List[str]]", environment: "Dict[str, str]") -> str:
    """Return what of a binding's devices differs from what is here; nothing if all is as promised.

    `environment` may name a root for the kernel's files (PILOTWRAP_SYSROOT).
    """
    place = pci.place_below(environment.get(pci.SYSROOT, ""))
    got: "Dict[str, str]" = {}
    counted = binding["counted"]
    for address in binding["devices"] + counted:
        if address not in got:
            got[address] = _trouble(address, place)
    for address in binding["devices"]:
        if got[address]:
            return "promised the device %s, but %s" % (address, got[address])
    for address in counted:
        if got[address]:
            words = "promised the devices by their numbers among %d, but of those %s: %s"
            return words % (len(counted), address, got[address])
    return ""


def _trouble(address: str, place: "Callable[[str], str]") -> str:
    folder = place("/sys/bus/pci/devices/" + address)
    vendor = pci.vendor(folder)
    if not vendor:
        return "it is not on this node's bus"
    if pci.answers(folder) is False:
        return "it does not answer on the bus any more"
    information = pci.attribute(place("/proc/driver/nvidia/gpus/" + address + "/information"))
    if vendor == pci.NVIDIA and not information:
        return "NVIDIA's driver does not show it"
    device: "Dict[str, object]" = {"vendor": vendor, "address": address, "render_nodes": pci.render_nodes(folder)}
    granted: "Optional[bool]" = pci.is_granted(device, place, {address: information})
    return "its device nodes may not be opened" if granted is False else ""
