"""Devices picked by the words of a mask: numbers as the vendors' runtimes read them, names and their prefixes."""

import re
from collections.abc import Sequence

from pilotwrap.model.node import Accelerator

_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,9})")


def numbered(word: str, devices: Sequence[Accelerator]) -> Accelerator | None:
    """Return the device of a number, read like C's strtol: what follows the digits does not count."""
    match = _NUMBER.match(word)
    number = int(match[1]) if match else -1
    return devices[number] if 0 <= number < len(devices) else None


def named(word: str, devices: Sequence[Accelerator], *, any_case: bool = False) -> Accelerator | None:
    """Return the one device whose UUID begins so; None: none does, or several do."""
    wanted = word.lower() if any_case else word
    told = [(device.uuid or "").lower() if any_case else device.uuid or "" for device in devices]
    fit = [device for device, name in zip(devices, told, strict=True) if wanted and name.startswith(wanted)]
    return fit[0] if len(fit) == 1 else None
