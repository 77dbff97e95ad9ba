"""What NVML said inside of the image, laid over what the host shows: the same devices, or why they are not."""

from collections.abc import Sequence
from itertools import chain
from typing import get_args

from pilotwrap.model.node import Accelerator, ComputeMode, HealthReason
from pilotwrap.model.snapshot import ProbeSaid, Snapshot
from pilotwrap.site.accelerators.nvidia import VERSION
from pilotwrap.site.accelerators.said import ill
from pilotwrap.site.digits import number_of

_Record = dict[str, str | int | float | bool | None]
_REASONS: dict[str, HealthReason] = {reason: reason for reason in get_args(HealthReason)}
_MODES: dict[str, ComputeMode] = {mode: mode for mode in get_args(ComputeMode)}


def probed(seen: Sequence[Accelerator], snapshot: Snapshot) -> list[Accelerator]:
    """Return the devices that the host shows, as NVML knows them; those that it alone knows come last."""
    probe = next((probe for probe in snapshot.probes if probe.probe == "nvml"), None)
    if probe is None:
        return [_unasked(device, snapshot) for device in seen]
    told = _named(probe)
    if not seen:
        return [_known(_stranger(record), record, probe) for record in (*chain(*told.values()), *_unnamed(probe))]
    lacking = [device.pci_address for device in seen if device.pci_address.lower() not in told]
    fates = dict(zip(lacking, _fates(lacking, probe, snapshot), strict=True))
    found = [
        _shown(_known(device, record, probe), snapshot)
        for device in seen
        for record in told.get(device.pci_address.lower()) or [fates[device.pci_address]]
    ]
    return found + _strangers(seen, told, probe)


def _shown(device: Accelerator, snapshot: Snapshot) -> Accelerator:
    """Return a device that the probe has told of; one that the driver's files lack would be refused to a rank."""
    return device if device.health != "ok" else _unasked(device, snapshot)


def _unasked(device: Accelerator, snapshot: Snapshot) -> Accelerator:
    """Return the device as the host's files alone tell of it: one that its driver, which is loaded, does not show."""
    loaded = bool(snapshot.nvidia) or bool(snapshot.text(VERSION))
    if snapshot.nvidia.get(device.pci_address) or not loaded:
        return device
    return ill(device, "lost", "the host's driver does not show it: only the bus has it")


def _named(probe: ProbeSaid) -> dict[str, list[_Record]]:
    """Return the records of each address; one that is told twice counts once."""
    found: dict[str, dict[tuple[object, ...], _Record]] = {}
    for record in probe.records:
        address = str(record.get("pci_address") or "").lower()
        if record.get("kind") == "device" and address:
            found.setdefault(address, {}).setdefault((record.get("uuid"), record.get("instance")), record)
    return {address: list(records.values()) for address, records in found.items()}


def _unnamed(probe: ProbeSaid) -> list[_Record]:
    """Return the records of GPUs that refused before they told their address: nobody can use what has none."""
    unusable: _Record = {"health": "unusable", "reason": "unknown", "detail": "NVML does not tell its address"}
    found = [record for record in probe.records if record.get("kind") == "device" and not record.get("pci_address")]
    return [record if record.get("health") == "unusable" else {**record, **unusable} for record in found]


def _fates(lacking: Sequence[str], probe: ProbeSaid, snapshot: Snapshot) -> list[_Record]:
    """Return what became of the devices (in the order of the bus, which is NVML's) that no record names."""
    unnamed = _unnamed(probe)
    error = next((record for record in probe.records if record.get("kind") == "error"), None)
    if error is None and not probe.timed_out and 0 < len(unnamed) < len(lacking):
        detail = f"{unnamed[0].get('detail')} (of this one, or of another one that it does not name)"
        return [{**unnamed[0], "health": "unusable", "detail": detail}] * len(lacking)
    left = len(lacking) - len(unnamed)
    rest = [_after(error, probe, place) for place in range(left)] if error or probe.timed_out else []
    if not rest:
        rest = [_gone(address, snapshot) for address in lacking[len(unnamed) :]]
    return [*unnamed[: len(lacking)], *rest]


def _after(error: _Record | None, probe: ProbeSaid, place: int) -> _Record:
    """Return the fate of a device when the probe did not end well: the first that lacks is the one it ended at."""
    said = error or {}
    index, detail = said.get("index"), str(said.get("detail") or probe.detail)
    if place and index is not None:
        detail = f"not asked: GPU {index} ended the probe ({detail})"
    return {"health": "unusable", "reason": said.get("reason") or "timeout", "detail": detail}


def _gone(address: str, snapshot: Snapshot) -> _Record:
    """Return the fate of a device that NVML does not count."""
    on_host = address in snapshot.nvidia or not snapshot.nvidia
    where = "the container lost it: the host shows it" if on_host else "the host's driver lost it: only the bus has it"
    return {"health": "unusable", "reason": "lost", "detail": f"{where}, NVML in here does not"}


def _known(seen: Accelerator, record: _Record, probe: ProbeSaid) -> Accelerator:
    """Return the device with what the probe knows better; that it is not granted, the host knows."""
    slice_ = record.get("type") == "mig"
    driver = next((one for one in probe.records if one.get("kind") == "driver"), {})
    known = seen.model_copy(
        update={
            "model": str(record.get("model") or seen.model),
            "uuid": str(record["uuid"]) if record.get("uuid") else seen.uuid,
            "kind": "mig" if slice_ else seen.kind,
            "part": number_of(str(record.get("instance"))) if slice_ else None,
            "memory_mib": number_of(str(record.get("memory_mib"))),
            "driver": seen.driver or _text(driver.get("version")),
            "framework_version": _text(driver.get("cuda")),
            "compute_mode": _MODES.get(str(record.get("compute_mode"))),
        }
    )
    if record.get("health") != "unusable":
        return known
    return ill(known, _REASONS.get(str(record.get("reason")), "unknown"), str(record.get("detail") or "")[:300])


def _strangers(seen: Sequence[Accelerator], told: dict[str, list[_Record]], probe: ProbeSaid) -> list[Accelerator]:
    """Return the devices whose addresses nobody else has, as unusable."""
    known = {device.pci_address.lower() for device in seen}
    others = [record for address, records in told.items() if address not in known for record in records]
    doubt = "NVML names an address that the bus does not have"
    return [ill(_known(_stranger(record), record, probe), "unknown", doubt) for record in others]


def _stranger(record: _Record) -> Accelerator:
    """Return a device that the host does not show, before what the probe knows of it."""
    return Accelerator(
        vendor="nvidia",
        model="unknown",
        uuid=None,
        pci_address=str(record.get("pci_address") or ""),
        kind="gpu",
        memory_mib=None,
        driver=None,
        health="ok",
    )


def _text(value: object) -> str | None:
    return str(value)[:20] if value else None
