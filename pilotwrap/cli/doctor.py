"""`doctor`: what would stop a run here, each with what to do about it."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pilotwrap.model.node import NodeFacts
    from pilotwrap.model.readiness import Check, Readiness
    from pilotwrap.model.snapshot import CommandSaid, Snapshot
    from pilotwrap.plan.pilotflags import FoundPython, PilotVersion
    from pilotwrap.run.enquiry import Enquiry
    from pilotwrap.run.readiness import Agent, Place, Who
    from pilotwrap.site.machines.machine import Machine

EXAMPLE = "pilotwrap doctor --server URL --panda-queue QUEUE --credential TOKEN_FILE --origin atlas.production"

ASK_S = 5.0
"""For `python3 --version` and `unshare`, which need some milliseconds; a guess for a node under load."""


_BECOME = """\
import os, pwd, sys
entry = pwd.getpwnam(sys.argv[1])
os.initgroups(entry.pw_name, entry.pw_gid)
os.setgid(entry.pw_gid)
os.setuid(entry.pw_uid)
os.execv(sys.argv[2], sys.argv[2:])
"""


class _Node(NamedTuple):
    """What was seen here."""

    snapshot: Snapshot
    facts: NodeFacts
    machine: Machine | None
    place: Place
    who: Who
    commands: tuple[CommandSaid, ...]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Name what `doctor` takes: the words of `run` that matter before a job comes."""
    add = parser.add_argument
    add("--server", metavar="URL", help="the PanDA server to ask; without it only this node is looked at")
    add("--panda-queue", metavar="NAME", help="the queue whose jobs are wanted")
    add("--credential", type=Path, metavar="PATH", help="a token file, or an X.509 proxy (a PEM file)")
    add("--origin", metavar="VO.ROLE", help="what the token speaks for, e.g. atlas.production")
    add("--ca", type=Path, metavar="PATH", help="certificates to check the server against, instead of the system's")
    add("--queuedata", metavar="PATH|URL", help="the queue's data, instead of the server's")
    add("--agent", choices=("direct", "pilot3"), default="direct", help="who would run the jobs")
    add("--pilot", default="image", metavar="SOURCE", help="with pilot3: where PanDA's pilot comes from, as for run")
    add("--machine", metavar="NAME", help="take the node for one of this machine, or of a FILE.toml of your own")
    add("--run-dir", type=Path, default=Path("pilotwrap-runs"), metavar="DIR", help="parent of the runs' directories")
    add("--payload-user", metavar="NAME", help="as root: whom payloads would run as")
    add("--bundle", type=Path, metavar="FILE", help="also write all that was found into one .tar.gz, to send along")
    add("--json", action="store_true", help="print the checks as JSON (pilotwrap.doctor/1)")


def main(options: argparse.Namespace) -> int:
    """Print what was found; return 0 when jobs can be taken, else what the worst finding would end a run with."""
    from pilotwrap.run.enquiry import Enquiry
    from pilotwrap.view.doctor import told

    node = _seen(options)
    enquiry = Enquiry(
        agent=options.agent,
        server=options.server,
        panda_queue=options.panda_queue,
        credential=str(options.credential.absolute()) if options.credential else None,
        origin=options.origin,
        ca_path=str(options.ca) if options.ca else None,
        queuedata=options.queuedata,
    )
    found = examined(node, enquiry, options.pilot)
    if options.bundle:
        write_bundle(options.bundle, node.snapshot, node.facts, found)
    sys.stdout.write(found.to_json() + "\n" if options.json else told(found))
    return found.exit_code


def examined(node: _Node, enquiry: Enquiry, pilot: str) -> Readiness:
    """Return all checks, those of the pilot only where it would be the agent."""
    from pilotwrap.run import readiness as judge
    from pilotwrap.run.enquiry import ask

    facts, agent = node.facts, enquiry.agent
    answers = ask(enquiry, facts.network, facts.allocation.time_left_s)
    queue = answers.queue
    return judge.readiness(
        (
            judge.node_check(facts),
            *(_of_pilot(node, pilot) if agent == "pilot3" else ()),
            judge.user_check(agent, node.who),
            judge.memory_check(facts.memory, queue),
            judge.disk_check(agent, node.place, queue),
            judge.time_check(agent, facts.allocation, queue),
            _isolation(node, agent),
            judge.network_check(facts.network, node.machine),
            *answers.checks,
        )
    )


def _seen(options: argparse.Namespace) -> _Node:
    from pilotwrap.cli.inspect import snapshot_here
    from pilotwrap.cli.machinefile import machine_for, machine_seen
    from pilotwrap.detect.node import node_facts
    from pilotwrap.host.ask import answers
    from pilotwrap.host.launch import own_environment
    from pilotwrap.model.snapshot import CommandSaid
    from pilotwrap.run.readiness import UNPRIVILEGED

    named = machine_for(options.machine, [Path()]) if options.machine is not None else None
    snapshot = snapshot_here()
    machine = named or machine_seen(snapshot)
    user = options.payload_user
    if user is None and os.geteuid() == 0 and options.agent == "pilot3":
        user = UNPRIVILEGED
    argvs = [*_asked_pythons(user), *_unshare()]
    said = answers(argvs, own_environment(), ASK_S)
    return _Node(
        snapshot,
        node_facts(snapshot, machine),
        machine,
        place_of(options.run_dir),
        who_is(user),
        tuple(CommandSaid.model_validate(one) for one in said),
    )


def _asked_pythons(user: str | None) -> Iterator[list[str]]:
    """Yield what asks each interpreter for its version: as the pilot's user, who may not have a way to it."""
    from pilotwrap.run.pilot3.setup import SYSTEM_PYTHONS

    entry = [] if user is None or os.geteuid() != 0 else [sys.executable, "-c", _BECOME, user]
    for path in dict.fromkeys([*SYSTEM_PYTHONS, sys.executable]):
        if os.access(path, os.X_OK):
            yield [*entry, path, "--version"]


def _unshare() -> list[list[str]]:
    import shutil

    program = shutil.which("unshare")
    if program is None:
        return []
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [[program, *user, "--pid", "--fork", "--mount-proc", "true"]]


def place_of(run_dir: Path) -> Place:
    """Return the state of the file system where a directory is or would be made."""
    from pilotwrap.run.readiness import Place

    path = run_dir.absolute()
    there = next(folder for folder in (path, *path.parents) if folder.is_dir())
    state = os.statvfs(there)
    free_mib = state.f_bavail * state.f_frsize >> 20
    inodes = state.f_favail if state.f_files else 1  # file systems without a table of inodes (btrfs) count none
    return Place(str(there), free_mib, inodes, os.access(there, os.W_OK | os.X_OK))


def who_is(payload_user: str | None) -> Who:
    """Return whom we are, and the uid of whom payloads would run as."""
    import pwd

    from pilotwrap.run.readiness import Who

    if payload_user is None:
        return Who(os.geteuid())
    try:
        return Who(os.geteuid(), payload_user, pwd.getpwnam(payload_user).pw_uid)
    except KeyError:
        return Who(os.geteuid(), payload_user, None)


def _of_pilot(node: _Node, source: str) -> tuple[Check, ...]:
    from pilotwrap.run import readiness as judge

    version, check = _pilot(source)
    return (
        check,
        judge.python_check(version, tuple(_interpreters(node.commands))),
        judge.curl_check(version, node.snapshot.programs.get("curl")),
    )


def _pilot(text: str) -> tuple[PilotVersion | None, Check]:
    """Return the pilot's version and whether it is there; one from the package index is not fetched for this."""
    import tempfile

    from pilotwrap.host.launch import own_environment
    from pilotwrap.model.errors import PilotError
    from pilotwrap.plan.pilotflags import parsed_version
    from pilotwrap.run.pilot3.index import PYPI_VERSION
    from pilotwrap.run.pilot3.source import find, pilot_source
    from pilotwrap.run.readiness import failed, passed, unchecked

    source = pilot_source(text)
    if source.kind == "pypi":
        return parsed_version(PYPI_VERSION), unchecked("pilot", f"{PYPI_VERSION} of the package index, not fetched now")
    try:
        with tempfile.TemporaryDirectory(prefix="pilotwrap-") as folder:
            found = find(source, Path(folder), own_environment())
    except PilotError as error:
        return None, failed("pilot", error)
    return found.version, passed("pilot", found.origin)


def _interpreters(commands: Sequence[CommandSaid]) -> Iterator[FoundPython]:
    from pilotwrap.plan.pilotflags import FoundPython

    for said in commands:
        words = said.output.split()
        if said.argv[-1] == "--version" and said.exit == 0 and words[:1] == ["Python"]:
            numbers = (part for part in words[1].split(".")[:3])
            yield FoundPython(path=said.argv[-2], version=tuple(int(part) for part in numbers if part.isdigit()))


def _isolation(node: _Node, agent: Agent) -> Check:
    from pilotwrap.run.readiness import isolation_check

    for said in node.commands:
        if said.argv[-1] == "true":
            return isolation_check(agent, works=said.exit == 0, said=" ".join(said.output.split())[:120])
    return isolation_check(agent, works=None)


def write_bundle(path: Path, snapshot: Snapshot, facts: NodeFacts, found: Readiness) -> None:
    """Write what was seen and found into one archive that only we can read; raises BadInputError.

    A snapshot holds only variables of an allow-list, and no check quotes a credential.
    """
    import io
    import json
    import tarfile

    from pilotwrap.model.errors import BadInputError

    parts = {
        "snapshot.json": snapshot.to_json(),
        "node.json": facts.to_json(),
        "doctor.json": found.to_json(),
        "versions.json": json.dumps(versions(), indent=1),
    }
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, text in parts.items():
                member = tarfile.TarInfo(f"pilotwrap-doctor/{name}")
                content = (text + "\n").encode()
                member.size, member.mode = len(content), 0o600
                archive.addfile(member, io.BytesIO(content))
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise BadInputError(f"{path} cannot be written", why=error.strerror or str(error)) from error


def versions() -> dict[str, str]:
    """Return which releases of everything this ran on."""
    import platform
    import ssl

    from pilotwrap import __version__

    found = {"pilotwrap": __version__, "python": platform.python_version(), "openssl": ssl.OPENSSL_VERSION}
    return found | {name: _release(name) for name in ("pydantic", "requests", "urllib3", "nvidia-ml-py")}


def _release(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
