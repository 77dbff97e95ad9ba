"""Cray's aprun (ALPS; aprun(1)), in a Cobalt or PBS job: ranks fill the numbered nodes one after the other."""

import re

from pilotwrap.model.errors import LauncherError
from pilotwrap.model.node import Flavour, LauncherName, SchedulerName
from pilotwrap.model.plan import Launch, RankVariables
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.site.launchers.request import LaunchRequest
from pilotwrap.site.looks import Looks
from pilotwrap.site.schedulers.nodelist import folded

SOURCE: str = "aprun(1) of ALPS; ALCF's guide to Theta (archived)"
NAME: LauncherName = "aprun"
FLAVOUR: Flavour | None = None
SCHEDULERS: tuple[SchedulerName, ...] = ("cobalt", "pbs")
SHARES_NODES: bool = False
"""One aprun a node at a time, unless the site lets ALPS share them (`-F share`, aprun(1))."""

NESTS: bool = False
"""It starts where the MOM node is."""

PROGRAMS: tuple[str, ...] = ("aprun",)
SIGN: str = ""
VERSION: str = ""
LOOKS = Looks(variables=("ALPS_*",), programs=PROGRAMS)
VARIABLES = RankVariables(rank=("ALPS_APP_PE",), local_rank=("PILOTWRAP_LOCAL_RANK",), size=("PILOTWRAP_SIZE",))
PASSED_ON: tuple[str, ...] = ("ALPS_*", "PMI_*", "MPICH_*", "COBALT_*")
WIRING: tuple[str, ...] = ("ALPS_APP_*", "PMI_NO_FORK")
UNSET: tuple[str, ...] = ("APRUN_*",)

_COUNTED = (
    "PILOTWRAP_LOCAL_RANK=$((ALPS_APP_PE % $1)) PILOTWRAP_SIZE=$2; export PILOTWRAP_LOCAL_RANK PILOTWRAP_SIZE; "
    'shift 2; exec "$@"'
)
"""ALPS tells a rank nothing but its number; with `-N` every node has the next so many, so the local one follows."""

_NID = re.compile(r"nid0*(\d+)")


def mpi_types(_snapshot: Snapshot) -> tuple[str, ...]:
    """Return nothing: ALPS has one PMI."""
    return ()


def command(request: LaunchRequest) -> Launch:
    """Return the call; LauncherError when a node has no number.

    aprun has no option to end all ranks with one that exits with a code; after one that a signal ended ALPS does.
    """
    each, numbers = str(request.ranks_per_node), [_NID.fullmatch(host) for host in request.hosts]
    if not all(numbers):
        raise LauncherError(
            f"aprun takes nodes by their numbers, {request.hosts[numbers.index(None)]!r} has none",
            why="nodes of a Cray XC are named nid00001 and so on",
        )
    # ranges: every other node of the largest machine is 80 KB
    nodes = folded(number[1] for number in numbers if number).strip("[]")
    argv = [request.program, "-n", str(request.ranks), "-N", each, "-L", nodes, "-cc", "none", *request.options]
    counted = ("/bin/sh", "-c", _COUNTED, "sh", each, str(request.ranks))
    return Launch(argv=(*argv, *counted, *request.command), unset=UNSET, keep=PASSED_ON, heeds="signal")
