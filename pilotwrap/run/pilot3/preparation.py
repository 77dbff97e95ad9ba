"""A job's way to its pilot: the directory, what lies ready for it there and at the bridge, its command."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilotwrap.model.errors import InternalError, SiteEnvironmentError
from pilotwrap.panda.job import PandaJob
from pilotwrap.plan.pilotcommand import LOOPBACK, pilot_command
from pilotwrap.plan.pilotflags import FIXED_BASE_URL, knows
from pilotwrap.plan.pilotwork import PilotToken, PilotWork
from pilotwrap.plan.plan import plan
from pilotwrap.run.preparation import hand_over, make_directory, request_of
from pilotwrap.run.rundir import write_file
from pilotwrap.run.transfer import STAGE_S, Terms
from pilotwrap.run.transformation import program

if TYPE_CHECKING:
    from pathlib import Path

    from pilotwrap.model.plan import Plan
    from pilotwrap.plan.pilotwork import PilotCommand
    from pilotwrap.run.job import Job
    from pilotwrap.run.pilot3.desk import Errand
    from pilotwrap.run.pilot3.terms import PilotTerms
    from pilotwrap.run.surroundings import Surroundings

NO_END_S = 10 * 24 * 3600
"""A pilot's lifetime where no batch system names an end; longer than any job of PanDA's may take."""

CLOSING_S = 600
"""Added to the time left: a pilot ends itself 180 s before its lifetime is over (pilot3 3.7, control/monitor.py), while
we end it later than that, and in time."""

ORIGIN = "pilotwrap.production"
"""What the bridge's own token speaks for; without an origin the pilot sends no token."""

HARVESTER_WORKDIR = "HARVESTER_WORKDIR"
"""Where a pilot looks for its job's transformation before it asks the network (pilot3, user/*/setup.py)."""


@dataclass(frozen=True)
class Errands:
    """What one pilot is given: its errand at the bridge, and the folder of its papers."""

    errand: Errand
    papers: Path
    bridge_url: str
    bridge_port: int


def prepare(job: Job, around: Surroundings, terms: PilotTerms, given: Errands) -> Plan:
    """Make all that a job's pilot needs and return its plan; raises PilotwrapError."""
    make_directory(job)
    try:
        (job.directory / "pilot").mkdir(mode=0o700)
        given.papers.mkdir(mode=0o700)
        write_file(given.papers / "token", given.errand.token)
        ready = _lay_ready(job, around, terms, given)
        command = pilot_command(_work(job, around, terms, given, ready=ready))
    except OSError as error:
        what = f"what the pilot needs cannot be written to {given.papers}"
        raise SiteEnvironmentError(what, why=error.strerror or str(error), remedy="free some space there") from error
    request = request_of(job, around, command.argv)
    made = plan(
        request.model_copy(
            update={
                "agent": "pilot3",
                "agent_env": _environment(command, around, terms, given, ready=ready),
                "agent_because": command.because,
            }
        )
    )
    write_file(around.run.path / "plans" / f"{job.name}.json", made.to_json())
    hand_over(job.directory, around.user)
    hand_over(given.papers, around.user)
    return made


def _lay_ready(job: Job, around: Surroundings, terms: PilotTerms, given: Errands) -> bool:
    """Fetch a transformation from where it may come from, and put it where the pilot finds it.

    One from elsewhere is left to the pilot, which refuses it, or fetches it by its own rules; then return False.
    """
    fetched = job.fetched
    if around.transformations is None or around.server is None or not isinstance(fetched, PandaJob):
        return False
    bases = (f"{around.server.url.rstrip('/')}/", *terms.options.baseurls)
    if not fetched.transformation.startswith(bases):
        return False
    staging = Terms(deadline=time.monotonic() + STAGE_S, stopped=lambda: job.state.phase != "staging-in")
    name, content = program(fetched.transformation, around.transformations, staging)
    given.errand.documents[name] = content
    (given.papers / name).write_bytes(content)
    base = _base(terms, given)
    given.errand.entry = {**given.errand.entry, "transformation": f"{base}/{given.errand.secret}/{name}"}
    return True


def _base(terms: PilotTerms, given: Errands) -> str:
    """Return the base URL under which this version accepts a transformation that lies ready."""
    return f"{given.bridge_url}/open" if knows(terms.found.version, "--baseurls") else FIXED_BASE_URL


def _work(job: Job, around: Surroundings, terms: PilotTerms, given: Errands, *, ready: bool) -> PilotWork:
    """Return what the pilot is to do, in its own terms."""
    server = around.server
    if server is None:
        raise InternalError("a pilot without a server")
    known = knows(terms.found.version, "--baseurls")
    own = (_base(terms, given),) if ready and known else ()
    return PilotWork(
        version=terms.found.version,
        python=terms.python,
        directory=terms.found.directory,
        workdir=str(job.directory / "pilot"),
        panda_queue=server.panda_queue,
        pilot_user=terms.options.plugin,
        prod_source_label=server.prod_source_label,
        lifetime_s=NO_END_S if around.stop_at is None else int(around.stop_at - time.monotonic()) + CLOSING_S,
        url=given.bridge_url.rpartition(":")[0],
        port=given.bridge_port,
        queuedata=str(terms.queuedata),
        schedconfig=str(terms.schedconfig),
        storagedata=terms.storagedata,
        baseurls=own or (terms.options.baseurls if known else ()),
        http_proxy=given.bridge_url if terms.options.by_proxy and ready else None,
        token=PilotToken(path=str(given.papers / "token"), origin=ORIGIN),
        x509_proxy=_x509_proxy(terms, given),
        copytools=(*terms.queue.reads, *terms.queue.writes),
        harvester_id=server.harvester_id,
        harvester_worker_id=None if server.worker_id is None else str(server.worker_id),
        node_name=job.host,
        search_path=terms.search_path,
        extra=terms.options.words,
    )


def _x509_proxy(terms: PilotTerms, given: Errands) -> str | None:
    """Return a copy of the proxy for the pilot's own user, if its copytools show it to a storage."""
    from pilotwrap.panda.queuedata import needs_credential

    if terms.x509_proxy is None or not needs_credential(terms.queue):
        return terms.x509_proxy
    copy = given.papers / "x509proxy"
    shutil.copyfile(terms.x509_proxy, copy)
    copy.chmod(0o600)
    return str(copy)


def _environment(
    command: PilotCommand, around: Surroundings, terms: PilotTerms, given: Errands, *, ready: bool
) -> dict[str, str]:
    """Return the pilot's environment: no proxy of the site's stands between it and the bridge."""
    direct = ",".join(filter(None, (around.allocation.head.network.no_proxy, LOOPBACK)))
    found = {**command.env, "no_proxy": direct, "NO_PROXY": direct}
    if ready and not terms.options.by_proxy:
        found[HARVESTER_WORKDIR] = str(given.papers)
    return found
