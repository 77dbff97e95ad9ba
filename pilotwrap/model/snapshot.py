"""`pilotwrap.snapshot/1`: what one node said, raw; written by the starter, read by `detect`."""

from typing import Literal

from pydantic import Field

from pilotwrap.model.base import Reading

SCHEMA = "pilotwrap.snapshot/1"


class FileSaid(Reading):
    """A file's text (at most 64 KiB), or the errno's name why it could not be read."""

    text: str | None = None
    error: str | None = None


class CommandSaid(Reading):
    """What a command printed; `exit` is None when it was ended at its deadline or never started."""

    argv: tuple[str, ...]
    exit: int | None = None
    """Negative: the signal that ended it."""

    output: str = ""
    """Both its streams."""

    error: str | None = None
    """The errno's name why it never started, or `deadline`."""

    duration_s: float = 0.0

    @property
    def words(self) -> tuple[str, ...]:
        """Return argv with the program's bare name, which the starter found along PATH."""
        return (self.argv[0].rpartition("/")[2], *self.argv[1:]) if self.argv else ()


class DeviceSaid(Reading):
    """A display, 3D or processing accelerator on the PCI bus, as sysfs has it."""

    address: str
    pci_class: str = Field(default="", alias="class")
    vendor: str = ""
    device: str = ""
    driver: str | None = None
    numa_node: str | int | None = None
    local_cpus: str | None = None
    answers: bool | None = None
    """On its bus; unknown in snapshots of older releases."""

    granted: bool | None = None


class ProbeSaid(Reading):
    """One line of a probe's answer; `probe` names it."""

    probe: str
    exit: int | None = None
    timed_out: bool = False
    records: tuple[dict[str, str | int | float | bool | None], ...] = ()
    detail: str = ""


class DiskSaid(Reading):
    """Free space of one file system."""

    free_mib: int
    free_inodes: int


class SystemSaid(Reading):
    """`uname`."""

    sysname: str = ""
    release: str = ""
    machine: str = ""


class Snapshot(Reading):
    """Everything a node said; nothing is interpreted here. Snapshots of older releases stay readable."""

    schema_: Literal["pilotwrap.snapshot/1"] = Field(default="pilotwrap.snapshot/1", alias="schema")
    version: str = ""
    taken_at: str = ""
    source: str = ""
    """Where a recorded or synthetic snapshot comes from."""

    host: str = ""
    python: str = ""
    system: SystemSaid = SystemSaid()
    uid: int = -1
    cwd: str = "/"
    ancestors: tuple[str, ...] = ()
    variables: dict[str, str] = {}
    files: dict[str, FileSaid] = {}
    listings: dict[str, tuple[str, ...]] = {}
    commands: tuple[CommandSaid, ...] = ()
    programs: dict[str, str] = {}
    affinity: str = ""
    disk: dict[str, DiskSaid] = {}
    devices: tuple[DeviceSaid, ...] = ()
    nvidia: dict[str, str] = {}
    probes: tuple[ProbeSaid, ...] = ()

    def text(self, path: str) -> str | None:
        """Return a file's text, or None when it could not be read."""
        said = self.files.get(path)
        return said.text if said else None
