"""Before any job is taken by a pilot: that one is here, and a Python for it, and that it would take such jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pilotwrap.model.errors import BadInputError, SiteEnvironmentError, UsageError
from pilotwrap.plan.pilotflags import FoundPython, python_for
from pilotwrap.run.enquiry import Enquiry, ask
from pilotwrap.run.pilot3.bytecode import compile_for
from pilotwrap.run.pilot3.source import find, pilot_source
from pilotwrap.run.pilot3.terms import PilotTerms
from pilotwrap.run.readiness import UNPRIVILEGED, Place, curl_check, disk_check, refusal_of, time_check

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pilotwrap.model.node import NodeFacts
    from pilotwrap.model.snapshot import Snapshot
    from pilotwrap.panda.client import Api
    from pilotwrap.panda.queuedata import QueueData
    from pilotwrap.run.options import RunOptions
    from pilotwrap.run.pilot3.source import FoundPilot
    from pilotwrap.run.rundir import RunDirectory
    from pilotwrap.run.surroundings import Server, Surroundings

PYTHON_S = 10.0
"""How long a Python may take to say its version; some come from a file system that must be mounted first."""

SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
"""Looked at first: another user can run them, which is not sure of an environment's own."""


def default_user(options: RunOptions) -> str | None:
    """Return whom pilots run as where we are root and nobody was named: never root."""
    if options.payload_user or options.pilot is None or os.geteuid() != 0:
        return options.payload_user
    return UNPRIVILEGED


def refuse_several_nodes(head: NodeFacts) -> None:
    """Raise UsageError where one controller would have to start pilots on other nodes than its own."""
    if head.allocation.node_count > 1 and not head.allocation.inside_step:
        raise UsageError(
            f"the agent pilot3 runs on one node, and here are {head.allocation.node_count}",
            why="a pilot speaks to its controller on its own node",
            remedy="start one on each: srun --ntasks-per-node=1 pilotwrap run --agent pilot3 …",
        )


def set_up(around: Surroundings, options: RunOptions, snapshot: Snapshot, environment: Mapping[str, str]) -> PilotTerms:
    """Return what pilots need, written down where they can read it; raises the error that a run ends with."""
    if options.pilot is None or around.server is None or options.credential is None:
        raise UsageError("the agent pilot3 runs jobs of a server", remedy="give --server")
    with ThreadPoolExecutor(max_workers=1) as beside:  # a Python starts no sooner than a near server answers
        first = beside.submit(_version_of, SYSTEM_PYTHONS[0])
        queue, api = _judged(around, options, around.server)
    user = None if around.user is None else int(around.user["uid"])
    found = find(
        pilot_source(options.pilot.source), around.run.path.parents[1] / "pilots", environment, shared=user is not None
    )
    refused = refusal_of((curl_check(found.version, snapshot.programs.get("curl")),))
    if refused:
        raise refused
    python = _python(found, _pythons(around.host_argv[:1], user, {SYSTEM_PYTHONS[0]: first.result()}), user)
    papers = around.run.path / "pilots"
    terms = PilotTerms(
        found=found,
        python=python.path,
        queue=queue,
        papers=papers,
        options=options.pilot,
        api=api,
        search_path=snapshot.variables.get("PATH") or os.defpath,
        storagedata=options.pilot.storagedata,
        x509_proxy=options.credential.path if options.credential.kind == "x509" else None,
    )
    _write(terms, open_to_all=user is not None)
    return terms


def _enquiry(options: RunOptions, server: Server) -> Enquiry:
    credential, pilot = options.credential, options.pilot
    return Enquiry(
        agent="pilot3",
        server=server.url,
        panda_queue=server.panda_queue,
        credential=credential.path if credential else None,
        origin=credential.origin if credential else None,
        ca_path=server.ca_path,
        queuedata=pilot.queuedata if pilot else None,
    )


def _judged(around: Surroundings, options: RunOptions, server: Server) -> tuple[QueueData, Api]:
    """Return the queue's data, and which calls the server knows; raise what speaks against taking its jobs."""
    head = around.allocation.head
    answers = ask(_enquiry(options, server), head.network, head.allocation.time_left_s)
    time_left = time_check("pilot3", head.allocation, answers.queue)
    disk = disk_check("pilot3", _place(around.run), answers.queue)
    refused = refusal_of((*answers.checks, time_left, disk))
    if refused:
        raise refused
    if answers.queue is None or answers.api is None:
        raise BadInputError("nothing is known of the queue", remedy="give --queuedata PATH|URL")
    return answers.queue, answers.api


def _place(run: RunDirectory) -> Place:
    said = os.statvfs(run.path)
    return Place(str(run.path), said.f_bavail * said.f_frsize >> 20, said.f_favail, writable=True)


def _python(found: FoundPilot, there: Iterable[FoundPython], uid: int | None) -> FoundPython:
    """Return the first that can run this pilot; it has compiled what we unpacked and the pilot's user may not write."""
    chosen = python_for(found.version, there)
    if uid is not None and found.sha256:
        compile_for(chosen, found.directory)
    return chosen


def _pythons(own: Iterable[str], uid: int | None, known: Mapping[str, tuple[int, ...]]) -> Iterable[FoundPython]:
    """Yield the Pythons that are here and that the pilot's user may run, with their versions, some known already."""
    for path in dict.fromkeys((*SYSTEM_PYTHONS, *own, sys.executable)):
        if uid is not None and not _open_to_others(Path(path)):
            continue
        version = known[path] if path in known else _version_of(path)
        if version:
            yield FoundPython(path=path, version=version)


def _open_to_others(path: Path) -> bool:
    """Tell whether any user may run what this path leads to."""
    try:
        real = path.resolve(strict=True)
        ways = {*path.absolute().parents, *real.parents, real}
        return all(way.stat().st_mode & 0o001 for way in ways)
    except OSError:
        return False


def _version_of(path: str) -> tuple[int, ...]:
    """Return the version that a Python says it has; nothing when it says none."""
    argv = [path, "-I", "-S", "-c", "import sys; print(*sys.version_info[:3])"]
    try:
        said = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PYTHON_S, check=True).stdout
        return tuple(int(word) for word in said.split())
    except (OSError, ValueError, subprocess.SubprocessError):
        return ()


def _write(terms: PilotTerms, *, open_to_all: bool) -> None:
    """Write the queue's data; it is no secret, and another user may have to read it."""
    try:
        terms.papers.mkdir(mode=0o700)
        for path, text in (
            (terms.queuedata, terms.queue.queuedata()),
            (terms.schedconfig, terms.queue.schedconf()),
        ):
            path.write_text(text)
            path.chmod(0o644 if open_to_all else 0o600)
        terms.papers.chmod(0o711 if open_to_all else 0o700)
    except OSError as error:
        raise SiteEnvironmentError(
            f"{terms.papers} cannot be written", why=error.strerror or str(error), remedy="free some space there"
        ) from error
