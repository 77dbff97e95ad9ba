"""What each version of PanDA's own pilot knows, as data: its flags, its switches, the Pythons that it runs on.

Source: the argument parser (pilot.py, since 3.11 arguments.py) and the imports of every tagged release from 3.7.0.36 to
3.11.5.1, so a flag's version is the first release that has it. Newer pilots are taken to know what the newest one did.
"""

import re
from collections.abc import Iterable
from typing import Literal

from pilotwrap.model.base import Value
from pilotwrap.model.errors import PilotError

PilotVersion = tuple[int, ...]

OLDEST: PilotVersion = (3, 7, 0, 36)
NEWEST_READ: PilotVersion = (3, 11, 5, 1)

SHORT = {
    "-a": "--workdir",
    "-b": "--nocvmfs",
    "-d": "--debug",
    "-g": "--baseurls",
    "-i": "--versiontag",
    "-j": "--joblabel",
    "-k": "--noworkerpilotstatusupdate",
    "-L": "--leasetime",
    "-l": "--lifetime",
    "-p": "--port",
    "-q": "--queue",
    "-r": "--resource",
    "-s": "--site",
    "-t": "--noproxyverification",
    "-u": "--verifypayloadproxy",
    "-v": "--getjobrequests",
    "-w": "--workflow",
    "-x": "--getjobfailures",
    "-y": "--notokenrenewal",
    "-z": "--noserverupdate",
}
"""Short names and the long ones."""

_FIRST: dict[str, PilotVersion] = {
    **dict.fromkeys(
        (
            "--allow-other-country",
            "--allow-same-user",
            "--cacert",
            "--capath",
            "--cleanup",
            "--country-group",
            "--debug",
            "--es-executor-type",
            "--getjobfailures",
            "--getjobrequests",
            "--harvester-datadir",
            "--harvester-eventstatusdump",
            "--harvester-submit-mode",
            "--harvester-workdir",
            "--harvester-workerattributes",
            "--hpc-mode",
            "--hpc-resource",
            "--input-destination-dir",
            "--input-dir",
            "--job-type",
            "--joblabel",
            "--leasetime",
            "--lifetime",
            "--no-pilot-log",
            "--noproxyverification",
            "--noserverupdate",
            "--output-dir",
            "--pilot-user",
            "--pod",
            "--port",
            "--queue",
            "--queuedata-url",
            "--realtime-logging-server",
            "--realtime-logname",
            "--redirect-stdout",
            "--resource",
            "--resource-type",
            "--rucio-host",
            "--site",
            "--storagedata-url",
            "--subscribe-to-msgsvc",
            "--url",
            "--use-https",
            "--use-realtime-logging",
            "--use-rucio-traces",
            "--verifypayloadproxy",
            "--versiontag",
            "--workdir",
            "--workflow",
            "--working-group",
        ),
        OLDEST,
    ),
    "--baseurls": (3, 8, 1, 66),
    "--noworkerpilotstatusupdate": (3, 8, 1, 66),
    "--notokenrenewal": (3, 9, 2, 41),
    "--nocvmfs": (3, 10, 5, 57),
    "--stageout-attempts": (3, 11, 0, 29),
}

FIXED_BASE_URL = "http://pandaserver-doma.cern.ch:25080/trf/user"
"""Before --baseurls: from where the generic plug-in takes transformations, of its two places the one without TLS."""

_CVMFS_CHECKED: PilotVersion = (3, 7, 3, 84)
_CVMFS_VARIABLE: PilotVersion = (3, 7, 6, 8)

_TLS_WITH_EACH_CALL: PilotVersion = (3, 7, 2, 4)
"""From here on a pilot without a proxy sets TLS up again for each call to its server, whatever --use-https says."""

_FREE_RESOURCE_TYPES: PilotVersion = (3, 7, 8, 21)
_RESOURCE_TYPES = {"SCORE", "MCORE", "SCORE_HIMEM", "MCORE_HIMEM"}

_PYTHONS: tuple[tuple[PilotVersion, tuple[int, int], tuple[int, int] | None], ...] = (
    ((3, 8, 1, 66), (3, 9), None),
    ((3, 7, 9, 1), (3, 9), (3, 12)),
    (OLDEST, (3, 7), (3, 12)),
)
"""From a pilot's version on: the oldest and the newest Python. Up to 3.7.9.1 it imports `pipes`, which Python 3.13 no
longer has. Its own `python_requires` says 3.6 throughout; but it calls `subprocess` as of 3.7, and later writes
`list[str]` in annotations, as of 3.9."""


class FoundPython(Value):
    """A Python that could run the pilot."""

    path: str
    version: tuple[int, ...]


def parsed_version(text: str) -> PilotVersion:
    """Return a version such as `3.7.0.36` as numbers; PilotError for anything else."""
    if re.fullmatch(r"\d{1,9}(\.\d{1,9}){1,4}", text.strip(), re.ASCII) is None:
        raise PilotError(
            f"{text.strip()[:40]!r} is no pilot version",
            why="expected numbers as in 3.11.5.1",
            remedy="use a released one",
        )
    return tuple(int(part) for part in text.strip().split("."))


def shown(version: PilotVersion) -> str:
    """Return a version as people write it."""
    return ".".join(str(part) for part in version)


def first_with(flag: str) -> PilotVersion | None:
    """Return since when a flag exists, by its long or short name; None for one that no version has."""
    return _FIRST.get(SHORT.get(flag, flag))


def knows(version: PilotVersion, flag: str) -> bool:
    """Return whether this version has a flag, by its long or short name; abbreviations do not count."""
    first = first_with(flag)
    return first is not None and first <= version


def cvmfs_switch(version: PilotVersion) -> Literal["unchecked", "always", "variable", "flag"]:
    """Return how this version is kept from looking for CVMFS.

    unchecked: it never looks; always: it cannot be kept; variable: NO_CVMFS_OK; flag: --nocvmfs.
    """
    if knows(version, "--nocvmfs"):
        return "flag"
    if version >= _CVMFS_VARIABLE:
        return "variable"
    return "always" if version >= _CVMFS_CHECKED else "unchecked"


def sets_up_tls_once(version: PilotVersion) -> bool:
    """Return whether TLS is set up at this version's start alone: for queue and storage data, and curl's options."""
    return version < _TLS_WITH_EACH_CALL


def takes_resource_type(version: PilotVersion, resource_type: str) -> bool:
    """Return whether this version's parser accepts a resource type; others make it exit at once."""
    if version < _FREE_RESOURCE_TYPES:
        return resource_type in _RESOURCE_TYPES
    return re.fullmatch(r"[SM]CORE(_.*)?", resource_type) is not None


def python_for(version: PilotVersion, candidates: Iterable[FoundPython]) -> FoundPython:
    """Return the first candidate that can run this version; PilotError says what is there and what is needed."""
    tried = tuple(candidates)
    oldest, newest = _pythons(version)
    for candidate in tried:
        if candidate.version[:2] >= oldest and (newest is None or candidate.version[:2] <= newest):
            return candidate
    span = f"{shown(oldest)} to {shown(newest)}" if newest else f"{shown(oldest)} or newer"
    there = ", ".join(f"{shown(each.version)} at {each.path}" for each in tried) or "none"
    raise PilotError(
        f"no Python here can run pilot {shown(version)}",
        why=f"it needs {span}, found: {there}",
        remedy="install one, or take another version of the pilot",
    )


def _pythons(version: PilotVersion) -> tuple[tuple[int, int], tuple[int, int] | None]:
    for first, oldest, newest in _PYTHONS:
        if version >= first:
            return oldest, newest
    return _PYTHONS[-1][1:]
