"""Intel's devices: their PCI numbers, their tiles in sysfs, and the variables of Level Zero and SYCL.

Sources: the public PCI ID list; the kernel's drivers/gpu/drm/{i915,xe} (gt/gtN; tileN/gtM, survivability_mode); the
Level Zero specification, "Environment Variables"; Intel's compute-runtime, programmers-guide/ALLOCATIONS and release
notes (the hierarchy FLAT is its default); DPC++'s EnvironmentVariables.md; ALCF's Aurora user guide.
"""

from collections.abc import Sequence

from pilotwrap.model.node import Accelerator, HealthReason, Vendor
from pilotwrap.model.snapshot import DeviceSaid, Snapshot
from pilotwrap.site.accelerators.oneapi import selected
from pilotwrap.site.accelerators.said import as_said, ill
from pilotwrap.site.digits import number_of
from pilotwrap.site.looks import Looks

NAME: Vendor = "intel"
PCI_VENDOR = "8086"
MASK = "ZE_AFFINITY_MASK"
SELECTOR = "ONEAPI_DEVICE_SELECTOR"
MASKS: tuple[str, ...] = (MASK, SELECTOR)
UNCOUNTED: frozenset[HealthReason] = frozenset({"not-granted"})

_HIERARCHY = "ZE_FLAT_DEVICE_HIERARCHY"
_CARDS = "COMPOSITE"

MODELS = {
    "0bd5": "Intel Data Center GPU Max 1550",
    "0bd6": "Intel Data Center GPU Max 1550",
    "0bda": "Intel Data Center GPU Max 1100",
    "56c0": "Intel Data Center GPU Flex 170",
    "56c1": "Intel Data Center GPU Flex 140",
}
TILES = {"0bd5": 2, "0bd6": 2}
"""The most tiles that a card has; others have one: a second gt of i915 is then the media engine."""

_FOLDER = "/sys/bus/pci/devices"
_OWN = f"{_FOLDER}/<{PCI_VENDOR}>"
LOOKS = Looks(
    variables=(*MASKS, "ZE_*"),
    files=(
        *(f"{_OWN}/tile*/", f"{_OWN}/drm/card*/gt/", f"{_OWN}/drm/card*/lmem_total_bytes"),
        *(f"{_OWN}/tile*/physical_vram_size_bytes", f"{_OWN}/survivability_mode", f"{_OWN}/health"),
    ),
)


def devices(said: DeviceSaid, snapshot: Snapshot) -> tuple[Accelerator, ...]:
    """Return the card, or its tiles; nothing for a processor's own graphics, which are VGA (class 0300)."""
    if said.pci_class.lower().startswith("0x0300"):
        return ()
    number = said.device.removeprefix("0x").lower()
    tiles, memory = _tiles(number, said.address, snapshot), _memory_mib(said.address, snapshot)
    told = {"kind": "tile" if tiles > 1 else "gpu", "memory_mib": memory // tiles if memory else None}
    seen = as_said(said, NAME, MODELS.get(number, said.device)).model_copy(update=told)
    health = (snapshot.text(f"{_FOLDER}/{said.address}/health") or "").strip().lower()
    if (snapshot.text(f"{_FOLDER}/{said.address}/survivability_mode") or "").strip():
        seen = ill(seen, "unknown", "it is in survivability mode: its firmware must be repaired")
    if health not in {"", "ok", "healthy", "good"}:
        seen = ill(seen, "unknown", f"its driver says that its health is {health}"[:200])
    if tiles == 1:
        return (seen,)
    return tuple(seen.model_copy(update={"part": tile}) for tile in range(tiles))


def in_order(found: Sequence[Accelerator], _snapshot: Snapshot) -> list[Accelerator]:
    """Return the devices along the bus: the order that our own mask asks for."""
    return list(found)


def visible(found: Sequence[Accelerator], snapshot: Snapshot) -> list[Accelerator]:
    """Return what Level Zero's mask leaves of the devices, and SYCL's selector of that."""
    said = snapshot.variables
    roots = _roots(found, cards=said.get(_HIERARCHY, "").upper() == _CARDS)
    if said.get(MASK):
        left = [device for word in said[MASK].split(",") for device in _masked(word.strip(), roots)]
        roots = [[device for device in root if device in left] for root in roots]
    roots = [root for root in roots if root]
    return selected(said[SELECTOR], roots) if said.get(SELECTOR) else [device for root in roots for device in root]


def mask(chosen: Sequence[Accelerator], counted: Sequence[Accelerator]) -> dict[str, str]:
    """Return what shows these devices alone: the numbers of whole cards along the bus, and of their tiles."""
    cards = list(dict.fromkeys(device.pci_address for device in counted))
    words = [
        f"{cards.index(device.pci_address)}" + ("" if device.part is None else f".{device.part}") for device in chosen
    ]
    return {MASK: ",".join(words), "ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1", _HIERARCHY: _CARDS}


def _roots(found: Sequence[Accelerator], *, cards: bool) -> list[list[Accelerator]]:
    """Return what Level Zero numbers: the cards, each with its tiles, or (its default) every tile by itself."""
    counted = [device for device in found if device.reason not in UNCOUNTED]
    if not cards:
        return [[device] for device in counted]
    addresses = dict.fromkeys(device.pci_address for device in counted)
    return [[device for device in counted if device.pci_address == address] for address in addresses]


def _masked(word: str, roots: Sequence[Sequence[Accelerator]]) -> Sequence[Accelerator]:
    """Return what `N` or `N.TILE` names; where every tile is a device of its own, `.TILE` says nothing."""
    number, _, tile = word.partition(".")
    index, part = number_of(number), number_of(tile)
    root = roots[index] if index is not None and index < len(roots) else ()
    return root if part is None or len(root) == 1 else [device for device in root if device.part == part]


def _tiles(number: str, address: str, snapshot: Snapshot) -> int:
    """Return how many tiles the driver shows (xe names them, i915 has a gt for each), or else the card has."""
    most = TILES.get(number, 1)
    base = f"{_FOLDER}/{address}/"
    named = [path for path in snapshot.listings if path.startswith(base + "tile")]
    gts = [names for path, names in snapshot.listings.items() if path.startswith(base + "drm/") and names]
    if named:
        return len(named)
    return min(most, sum(name.startswith("gt") for name in gts[0])) or 1 if gts else most


def _memory_mib(address: str, snapshot: Snapshot) -> int | None:
    """Return the card's memory, where the driver tells it."""
    base = f"{_FOLDER}/{address}/"
    told = [
        number_of((said.text or "").strip()) or 0
        for path, said in snapshot.files.items()
        if path.startswith(base) and path.endswith(("/lmem_total_bytes", "/physical_vram_size_bytes"))
    ]
    return sum(told) // 1024**2 or None
