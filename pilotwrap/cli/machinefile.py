"""Where the user's own machine files are: beside the spec, or in the configuration directory."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilotwrap.model.snapshot import Snapshot
    from pilotwrap.site.machines.choice import Choice
    from pilotwrap.site.machines.machine import Machine


def own_machines() -> "tuple[Machine, ...]":
    """Return the machines of the configuration directory; BadInputError says what is wrong in which file."""
    from pilotwrap.host.machinefiles import texts

    return machines_told(texts(dict(os.environ)))


def machines_told(texts: "Mapping[str, str | None]") -> "tuple[Machine, ...]":
    """Return the machines of these files, by path; BadInputError says what is wrong in which."""
    return tuple(_machine(path, text) for path, text in texts.items())


def machine_for(name: str, beside: Sequence[Path], own: "Sequence[Machine] | None" = None) -> "Machine":
    """Return the machine that a person names: a file, one beside a spec, one of his `own`, or one that is known."""
    from pilotwrap.site.machines.listing import machine_named

    if name.endswith(".toml"):
        return _read(Path(name))
    near = (path.parent / f"{name}.toml" for path in beside) if "/" not in name else ()
    found = next((path for path in near if os.path.isfile(path)), None)  # noqa: PTH113 - a long name is no error to it
    if found:
        return _read(found)
    return machine_named(name, own_machines() if own is None else own)


def choice_of(name: str | None, beside: Sequence[Path], texts: "Mapping[str, str | None]") -> "Choice | None":
    """Return what `run` was told of the machine, the user's own files given as texts; None: nothing."""
    if name is None and not texts:
        return None
    from pilotwrap.site.machines.choice import Choice

    own = machines_told(texts)
    return Choice(named=machine_for(name, beside, own) if name is not None else None, own=own)


def machine_seen(snapshot: "Snapshot") -> "Machine | None":
    """Return the machine that a snapshot shows itself to be of; None: unknown."""
    from pilotwrap.site.machines.listing import machine_of

    return machine_of(snapshot, own_machines())


def _read(path: Path) -> "Machine":
    from pilotwrap.host.machinefiles import FILE_MOST
    from pilotwrap.model.errors import BadInputError

    try:
        size = path.stat().st_size
        if size > FILE_MOST or not path.is_file():  # a pipe that nobody fills would be waited for
            why = f"a file of {FILE_MOST} bytes at most is expected"
            raise BadInputError(f"the machine file {path} is not read", why=why)
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadInputError(f"the machine file {path} cannot be read", why=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise BadInputError(f"the machine file {path} is no TOML", why=f"it is no UTF-8: {error.reason}") from error
    return _machine(str(path), text)


def _machine(path: str, text: str | None) -> "Machine":
    from pilotwrap.model.errors import BadInputError
    from pilotwrap.site.machines.file import machine_in

    if text is None:
        raise BadInputError(
            f"the machine file {path} cannot be read",
            why="it is no text file, longer than 64 KiB, or closed to you",
            remedy="take it away",
        )
    return machine_in(text, path)
