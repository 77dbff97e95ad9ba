"""What one job of PanDA's own pilot is started with: its command line and its whole environment. Pure.

How the pilot takes each of them was read in its versions 3.7.0.36 and 3.11.5.1.
"""

import re
from collections.abc import Iterator

from pilotwrap.model.errors import AllocationError, PilotError
from pilotwrap.model.plan import Because
from pilotwrap.plan.pilotflags import (
    FIXED_BASE_URL,
    NEWEST_READ,
    OLDEST,
    SHORT,
    PilotVersion,
    cvmfs_switch,
    first_with,
    knows,
    sets_up_tls_once,
    shown,
    takes_resource_type,
)
from pilotwrap.plan.pilotwork import PilotCommand, PilotWork

LOOPBACK = "127.0.0.1,localhost"

_X509_COPYTOOLS = {"rucio", "gfal", "xrdcp", "lsm", "objectstore"}
"""Copy tools whose clients show a grid proxy; mv, s3 and gs do not."""

_OWNED = {
    "--cleanup",
    "--harvester-datadir",
    "--harvester-eventstatusdump",
    "--harvester-submit-mode",
    "--harvester-workdir",
    "--harvester-workerattributes",
    "--joblabel",
    "--lifetime",
    "--no-pilot-log",
    "--noserverupdate",
    "--pilot-user",
    "--port",
    "--queue",
    "--queuedata-url",
    "--redirect-stdout",
    "--storagedata-url",
    "--url",
    "--use-https",
    "--workdir",
    "--workflow",
}
"""Flags that a user may not give again: with another value the pilot would tell the server itself, or not be heard."""

_PLAIN = re.compile(r"[A-Za-z0-9_./@%+=:,-]+")
"""What a shell takes as one word: the pilot puts its directory and URL into shell lines without quoting."""

_FLAG = re.compile(r"(-[A-Za-z]|--[a-z][a-z-]*)(=.*)?", re.DOTALL)


def pilot_command(work: PilotWork) -> PilotCommand:
    """Return how to start the pilot, with a line for each thing that this version does not know.

    PilotError: this version cannot do what is asked; AllocationError: no time is left.
    """
    _check(work)
    flags, dropped = _split(work)
    variables, told = _environment(work)
    argv = (work.python, f"{work.directory.rstrip('/')}/pilot.py", *flags, *work.extra)
    return PilotCommand(argv=argv, env=variables, cwd=work.workdir, because=(*_why(work), *dropped, *told))


def _check(work: PilotWork) -> None:
    if work.version < OLDEST:
        raise PilotError(
            f"pilot {shown(work.version)} is too old",
            why=f"{shown(OLDEST)} is the oldest whose command line is known",
            remedy="take a newer pilot",
        )
    _check_places(work)
    if any("," in base for base in work.baseurls):
        raise PilotError(
            f"base URLs {work.baseurls} hold a comma", why="the pilot cuts its list there", remedy="write it as %2C"
        )
    if work.lifetime_s - work.walltime_margin_s < 1:
        raise AllocationError(
            f"{work.lifetime_s} s are left for the pilot",
            why=f"{work.walltime_margin_s} s are kept to end it and to report",
            remedy="ask the batch system for more time",
        )
    if work.baseurls and not knows(work.version, "--baseurls") and work.http_proxy is None:
        raise PilotError(
            f"pilot {shown(work.version)} cannot be told where transformations may come from",
            why=f"it takes them from {FIXED_BASE_URL} alone",
            remedy=f"serve that place by an HTTP proxy, or take {_since('--baseurls')} or newer",
        )
    _check_extra(work)


def _check_places(work: PilotWork) -> None:
    if not work.workdir.startswith("/") or _PLAIN.fullmatch(work.workdir) is None:
        raise PilotError(
            f"the pilot cannot work in {work.workdir!r}",
            why="it writes the name of its directory into shell lines without quoting",
            remedy="use an absolute path of letters, digits and _./@%+=:,- only",
        )
    if re.fullmatch(r"https?://[A-Za-z0-9.-]+", work.url) is None:
        raise PilotError(
            f"the pilot cannot use the URL {work.url!r}",
            why="it understands a scheme and a host's name or IPv4 address",
            remedy="give the port by itself, and no path",
        )
    if work.token is not None and not work.token.path.startswith("/"):
        raise PilotError(
            f"the token's file {work.token.path!r} is not an absolute path",
            why="the pilot looks for such a name in up to four folders, in any order",
            remedy="give the whole path",
        )


def _check_extra(work: PilotWork) -> None:
    for word in work.extra:
        if not word.startswith("-") or word.lstrip("-").isdigit():
            continue
        flag = word.partition("=")[0]
        if _FLAG.fullmatch(word) is None or not _may_be_known(work.version, flag):
            raise PilotError(
                f"pilot {shown(work.version)} has no flag {word!r}",
                why="flags are neither shortened nor run together here",
                remedy="write it out as its --help does, or leave it out",
            )
        if SHORT.get(flag, flag) in _OWNED:
            raise PilotError(
                f"{flag} cannot be given to the pilot by hand",
                why="its value follows from the run",
                remedy="leave it out",
            )


def _may_be_known(version: PilotVersion, flag: str) -> bool:
    if version <= NEWEST_READ or first_with(flag) is not None:
        return knows(version, flag)
    # its parser takes any unique beginning of a flag, so a new name may not look like one that is ours
    return flag.startswith("--") and not any(owned.startswith(flag) for owned in _OWNED)


def _split(work: PilotWork) -> tuple[list[str], list[Because]]:
    """Return the words that this version understands, and why the others are left out."""
    words: list[str] = []
    dropped: list[Because] = []
    for flag, value in _wanted(work):
        reason = _objection(work, flag, value)
        if reason is None:
            words.append(flag if value is None else f"{flag}={value}")
        else:
            dropped.append(Because(decision=f"the pilot is started without {flag}", reason=reason))
    return words, dropped


def _objection(work: PilotWork, flag: str, value: str | None) -> str | None:
    name = f"pilot {shown(work.version)}"
    if not knows(work.version, flag):
        reason = f"{name} has no such flag; {_since(flag)} is the first"
        return f"{reason}; the HTTP proxy serves {FIXED_BASE_URL} in its place" if flag == "--baseurls" else reason
    if flag == "--resource-type" and value is not None and not takes_resource_type(work.version, value):
        return f"{name} refuses the resource type {value!r}"
    return None


def _wanted(work: PilotWork) -> Iterator[tuple[str, str | None]]:
    """Yield every flag with its value; None: a switch."""
    yield "--queue", work.panda_queue
    yield "--pilot-user", work.pilot_user
    yield "--joblabel", work.prod_source_label
    yield "--versiontag", work.version_tag
    yield "--lifetime", str(work.lifetime_s - work.walltime_margin_s)
    yield "--workdir", work.workdir
    yield "--url", work.url
    yield "--port", str(work.port)
    yield "--getjobrequests", "1"
    yield "--use-rucio-traces", "False"
    yield "--cleanup", str(not work.keep)
    optional = {
        "--queuedata-url": work.queuedata,
        "--storagedata-url": work.storagedata,
        "--baseurls": ",".join(work.baseurls),
        "--resource-type": work.resource_type,
        "--input-dir": work.input_dir,
        "--input-destination-dir": work.input_destination_dir,
        "--output-dir": work.output_dir,
        "--use-https": None if _needs_tls(work) else "False",
    }
    yield from ((flag, value) for flag, value in optional.items() if value)
    switches = {
        "--debug": work.debug,
        "--noproxyverification": not _shows_proxy(work),
        "--noworkerpilotstatusupdate": True,
        "--notokenrenewal": True,
        "--nocvmfs": not work.cvmfs and cvmfs_switch(work.version) == "flag",
    }
    yield from ((flag, None) for flag, on in switches.items() if on)


def _environment(work: PilotWork) -> tuple[dict[str, str], tuple[Because, ...]]:
    variables = {
        "HOME": work.workdir,
        "LANG": "C.UTF-8",
        "PATH": work.search_path,
        "PILOT_NOKILL": "1",
        "PYTHONPATH": "",  # it appends to it in places, and fails where it is not set
        "TMPDIR": work.workdir,
    }
    optional = {
        "HARVESTER_ID": work.harvester_id,
        "HARVESTER_WORKER_ID": work.harvester_worker_id,
        "LOCAL_AGIS_SCHEDCONF": work.schedconfig,
        "PANDA_AUTH_ORIGIN": work.token.origin if work.token else None,
        "PANDA_AUTH_TOKEN": work.token.path if work.token else None,
        "PANDA_HOSTNAME": work.node_name,
        "PANDA_JSID": work.scheduler_id,
        "PILOT_SOURCE_DIR": _source(work.directory),
        "X509_USER_PROXY": work.x509_proxy if _shows_proxy(work) else None,
        "http_proxy": work.http_proxy,
        "no_proxy": LOOPBACK if work.http_proxy else None,
    }
    variables |= {name: value for name, value in optional.items() if value is not None}
    if not work.cvmfs and cvmfs_switch(work.version) == "variable":
        variables["NO_CVMFS_OK"] = "1"
    return dict(sorted(variables.items())), tuple(_told(work))


def _source(directory: str) -> str | None:
    """Return where the pilot finds itself: it looks for a folder `pilot3` there when it copies itself into a job."""
    parent, _, name = directory.rstrip("/").rpartition("/")
    return (parent or "/") if name == "pilot3" else None


def _needs_tls(work: PilotWork) -> bool:
    """Tell whether the pilot may meet an https: URL with its own TLS, whose set-up reads all of the system's CAs.

    That takes it 0.06 s (measured), twice the rest of its start up to its queue data.
    """
    read = (work.url, work.queuedata, work.schedconfig, work.storagedata)
    plain = all(place is not None and not place.startswith("https:") for place in read)
    return not (plain and sets_up_tls_once(work.version)) or _shows_proxy(work)


def _shows_proxy(work: PilotWork) -> bool:
    return work.x509_proxy is not None and not _X509_COPYTOOLS.isdisjoint(work.copytools)


def _told(work: PilotWork) -> Iterator[Because]:
    if work.x509_proxy is not None and not _shows_proxy(work):
        tools = ", ".join(work.copytools) or "none"
        yield Because(decision="the pilot gets no X.509 proxy", reason=f"no copy tool of the queue needs it ({tools})")
    if not work.cvmfs and cvmfs_switch(work.version) == "always":
        reason = f"{shown(work.version)} cannot be told otherwise"
        yield Because(decision="the pilot stops where CVMFS is mounted and does not answer", reason=reason)
    if work.http_proxy is not None:
        decision = f"the pilot and its payload reach http: URLs by {work.http_proxy}"
        yield Because(decision=decision, reason="a proxy is given; loopback is reached directly")


def _why(work: PilotWork) -> Iterator[Because]:
    kept = f"{work.lifetime_s} s are left, {work.walltime_margin_s} s are kept to end it and to report"
    yield Because(decision=f"the pilot may live {work.lifetime_s - work.walltime_margin_s} s", reason=kept)
    nokill = "its search for orphans would end other people's processes"
    yield Because(decision="PILOT_NOKILL is set", reason=nokill)


def _since(flag: str) -> str:
    first = first_with(flag)
    return shown(first) if first is not None else "none"
