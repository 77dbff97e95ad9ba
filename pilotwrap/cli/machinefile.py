"""Where the user's own machine files are: beside the spec, or in the configuration directory."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilotwrap.model.snapshot import Snapshot
    from pilotwrap.site.machines.machine import Machine

CONFIGURATION = Path("pilotwrap/machines")
"""Within XDG_CONFIG_HOME, else ~/.config (XDG Base Directory Specification)."""


def configuration_directory() -> Path:
    """Return where the user's machine files are, whether there are any or not."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(home) if home.startswith("/") else Path.home() / ".config") / CONFIGURATION


def own_machines() -> "tuple[Machine, ...]":
    """Return the machines of the configuration directory; BadInputError says what is wrong in which file."""
    folder = configuration_directory()
    return tuple(_read(path) for path in sorted(folder.glob("*.toml"))) if folder.is_dir() else ()


def machine_for(name: str, spec: Path | None) -> "Machine":
    """Return the machine that a person names: a file, one beside the spec, one's own, or one that is known."""
    from pilotwrap.site.machines.listing import machine_named

    if name.endswith(".toml"):
        return _read(Path(name))
    beside = (spec.parent if spec else Path()) / f"{name}.toml"
    if "/" not in name and beside.is_file():
        return _read(beside)
    return machine_named(name, own_machines())


def machine_seen(snapshot: "Snapshot") -> "Machine | None":
    """Return the machine that a snapshot shows itself to be of; None: unknown."""
    from pilotwrap.site.machines.listing import machine_of

    return machine_of(snapshot, own_machines())


def _read(path: Path) -> "Machine":
    from pilotwrap.model.errors import BadInputError
    from pilotwrap.site.machines.file import machine_in

    try:
        text = path.read_text()
    except OSError as error:
        raise BadInputError(f"the machine file {path} cannot be read", why=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"the machine file {path} is no TOML", why=f"it is no UTF-8: {error.reason}") from error
    return machine_in(text, str(path))
