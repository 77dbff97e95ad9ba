"""What PanDA's own pilot is to do for one job, and how it is then started.

How the pilot takes each value was read in its versions 3.7.0.36 and 3.11.5.1.
"""

from pilotwrap.model.base import Value
from pilotwrap.model.plan import Because
from pilotwrap.plan.pilotflags import PilotVersion


class PilotToken(Value):
    """The bridge's token, as the pilot gets it; never the server's."""

    path: str
    """Absolute, so that each of the folders in which the pilot looks for it (it joins them with this) leads to the same
    file. PANDA_AUTH_DIR, of which it would take the parent, is not needed then. The file has no newline at its end and
    only URL-safe characters: the pilot quotes others into the header."""

    origin: str
    """VO.ROLE; without it the pilot sends no token."""


class PilotWork(Value):
    """What a pilot is to do, by its own names and units."""

    version: PilotVersion
    python: str
    directory: str
    """Where pilot.py lies."""

    workdir: str
    """--workdir, absolute, writable by the pilot's user, and for this pilot alone: it is its current directory and its
    HOME too. When signals reach it for more than three minutes it deletes the directory that it was started in."""

    panda_queue: str
    """--queue"""

    pilot_user: str = "generic"
    """--pilot-user: the plug-in, named as its folder."""

    prod_source_label: str = "managed"
    """--joblabel"""

    version_tag: str = "PR"
    """--versiontag: PR (production) or RC."""

    lifetime_s: int
    """Until the allocation's end. A job's or queue's own maximum goes before it, so it protects nobody by itself."""

    walltime_margin_s: int = 0
    """Taken off: --lifetime is what is left."""

    url: str
    """--url: scheme and host, no port and no path; the pilot would cut or misread both. Of IPv6 it reads nothing."""

    port: int
    """--port"""

    queuedata: str | None = None
    """--queuedata-url: file or URL, `{pandaqueue}` in it stands for the queue; its own object, not by queue."""

    schedconfig: str | None = None
    """LOCAL_AGIS_SCHEDCONF: file or URL of {queue: {…}}; without it the pilot asks CVMFS and the Internet."""

    storagedata: str | None = None
    """--storagedata-url: file or URL."""

    baseurls: tuple[str, ...] = ()
    """--baseurls: where transformations may come from."""

    http_proxy: str | None = None
    """For http: URLs, never for those of loopback. The payload inherits it."""

    token: PilotToken | None = None
    x509_proxy: str | None = None
    """X509_USER_PROXY, if one of `copytools` shows it to somebody."""

    copytools: tuple[str, ...] = ()
    """The queue's."""

    harvester_id: str | None = None
    """HARVESTER_ID"""

    harvester_worker_id: str | None = None
    """HARVESTER_WORKER_ID"""

    scheduler_id: str | None = None
    """PANDA_JSID"""

    node_name: str | None = None
    """PANDA_HOSTNAME"""

    resource_type: str | None = None
    """--resource-type"""

    input_dir: str | None = None
    input_destination_dir: str | None = None
    output_dir: str | None = None

    cvmfs: bool = False
    """Whether it should refuse to work without CVMFS."""

    debug: bool = False
    keep: bool = True
    """--cleanup False: its directory stays, since that is where the mv copy tool leaves outputs."""

    search_path: str = "/usr/local/bin:/usr/bin:/bin"
    """PATH; curl must be there."""

    extra: tuple[str, ...] = ()
    """Further words for the command line, as the user knows them."""


class PilotCommand(Value):
    """How the pilot is started: with this environment and no other variable, in this directory."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    because: tuple[Because, ...]
