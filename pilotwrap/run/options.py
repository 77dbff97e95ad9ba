"""What a run was asked for, read and checked."""

from pathlib import Path

from pilotwrap.model.base import Value
from pilotwrap.model.credential import Credential
from pilotwrap.model.job import JobSpec


class RunOptions(Value):
    """The command line of `run` as values; files are named, except for specs, which are read already."""

    specs: tuple[JobSpec, ...] = ()
    worker: JobSpec | None = None
    """The shape in which fetched jobs are run; None: no jobs are fetched."""

    server: str | None = None
    panda_queue: str | None = None
    prod_source_label: str = "managed"
    credential: Credential | None = None
    ca_path: str | None = None
    jobs: int | None = None
    """Fetch at most so many; None: until there is no work."""

    wait_for_work_s: float = 0.0
    run_dir: Path
    storage: Path | None = None
    payload_user: str | None = None
    heartbeat_s: float = 600.0
    as_json: bool = False
    harvester_id: str | None = None
    worker_id: int | None = None
