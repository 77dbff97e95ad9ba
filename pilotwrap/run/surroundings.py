"""What all jobs of a run share: its directory, its nodes, its limits, its way to files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pilotwrap.model.allocation import AllocationFacts
from pilotwrap.model.credential import Credential
from pilotwrap.model.plan import Teller
from pilotwrap.run.rundir import RunDirectory
from pilotwrap.run.state import Rules

if TYPE_CHECKING:
    from pilotwrap.run.storage import StorageMap
    from pilotwrap.run.transformation import TransformationCache


@dataclass(frozen=True)
class Server:
    """The PanDA server of a run and how it is asked."""

    url: str
    panda_queue: str
    credential: Credential
    prod_source_label: str = "managed"
    ca_path: str | None = None
    harvester_id: str | None = None
    worker_id: int | None = None
    api: Literal["current", "legacy"] = "current"
    """Which calls it knows."""


@dataclass(frozen=True)
class Surroundings:
    """The run's fixed values; times are seconds of the driver's monotonic clock."""

    run: RunDirectory
    allocation: AllocationFacts
    host_argv: tuple[str, ...]
    """Starts the host part (the shim) on any node, as the starter said of itself."""

    cwd: str
    """Where the caller stood: a plain spec's command runs there."""

    rules: Rules
    teller: Teller
    epoch: float
    """Of the wall clock when the monotonic one showed 0."""

    stop_at: float | None = None
    """When all payloads are told to end, so that the allocation's end finds nothing to do."""

    server: Server | None = None
    storage: StorageMap | None = None
    transformations: TransformationCache | None = None
    accept_fewer: bool = False
    """A job that asks for more nodes than there are gets those that there are."""

    user: dict[str, Any] | None = None
    """Whom a payload runs as, where we are root: uid, gid, groups."""
