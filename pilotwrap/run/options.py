"""What a run was asked for, read and checked."""

from pathlib import Path
from typing import Literal

from pilotwrap.model.base import Value
from pilotwrap.model.credential import Credential
from pilotwrap.model.job import JobSpec


class PilotOptions(Value):
    """What `run --agent pilot3` was told of the pilot."""

    source: str = "image"
    """Where it comes from: `image`, a directory, `FILE.tar.gz#sha256=…`, or `pypi`."""

    queuedata: str | None = None
    """A path or URL of the queue's data; None: the server's own."""

    storagedata: str | None = None
    baseurls: tuple[str, ...] = ()
    """Where transformations may come from, besides the server."""

    plugin: str = "generic"
    """What the pilot calls its user: the experiment's plug-in."""

    silence_s: float = 900.0
    """Without a sign of life for so long it counts as stuck (a guess: its monitor writes a line a minute)."""

    by_proxy: bool = False
    """It fetches its transformation through the bridge as its HTTP proxy, for a plug-in that takes no file."""

    words: tuple[str, ...] = ()
    """Further words for its command line."""


class RunOptions(Value):
    """The command line of `run` as values; files are named, except for specs, which are read already."""

    specs: tuple[JobSpec, ...] = ()
    """Those that are jobs themselves."""

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
    pilot: PilotOptions | None = None
    """None: the direct agent runs what is fetched."""

    accept_fewer: bool = False
    """A job that asks for more nodes than are left when broken ones are set aside gets those that are left."""

    controllers: Literal["auto", "head", "node"] = "auto"
    """Where jobs are fetched: on the head for all nodes, or on each node for itself."""

    part: Path | None = None
    """This is one node's controller; its share of the work lies in this folder, and its report goes there."""

    begin_within_s: float = 0.0
    """One node's controller begins some time within so long, so that not all ask the server at once."""
