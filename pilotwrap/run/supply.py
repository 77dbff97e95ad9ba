"""Where fetched jobs come from: a server that takes our reports, which first hears what dead runs left."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pilotwrap.model.errors import PilotwrapError, UsageError
from pilotwrap.plan.shortage import lowered, shortage
from pilotwrap.run.state import NEVER
from pilotwrap.run.stopper import IDLE_S

if TYPE_CHECKING:
    from pilotwrap.model.job import JobSpec
    from pilotwrap.model.snapshot import Snapshot
    from pilotwrap.panda.client import PandaClient
    from pilotwrap.run.driver import Driver
    from pilotwrap.run.options import RunOptions
    from pilotwrap.run.pilot3.terms import PilotTerms
    from pilotwrap.run.surroundings import Server
    from pilotwrap.run.work import PandaWork

FIRST_S = 20.0
"""How long the server may take to answer at all before the run gives up: a mistyped URL should not cost a minute, a
server's restart (4 to 6 s measured) should not cost the run."""

REMAINS_S = 5.0
"""How long a run that is over waits for the reports of dead ones to be told (a guess; the next run goes on)."""

REMAINS_FIRST_S = 30.0
"""How long a batch job that was requeued waits before it fetches (a guess: as long as a server's restart, and more)."""

PILOT_OVERHEAD_S = 900.0
"""What a pilot may take besides its job: it waits for minutes before it tells of a failed one (187 s were measured)."""


# loaded while the server thinks: our own modules take as long as a near server's answer
_NEEDED_NEXT = (
    "pilotwrap.panda.spool",
    "pilotwrap.run.fetcher",
    "pilotwrap.run.recorder",
    "pilotwrap.run.teller",
    "pilotwrap.run.work",
    "pilotwrap.run.pandaworker",
    "pilotwrap.run.remains",
)
_NEEDED_BY_PILOTS = ("pilotwrap.run.pilot3.agent",)


def announce(driver: Driver, options: RunOptions) -> None:
    """Make sure that we may report, where no pilot does it; tell of Harvester's worker; send what dead runs left."""
    from pilotwrap.panda.client import connected

    around, server = driver.around, _server(driver)

    def client() -> PandaClient:
        return connected(server.url, server.credential, server.ca_path, server.api)

    if options.part is not None:
        # its head has asked and tells for all nodes
        make_sure(driver, lambda: time.sleep(random.uniform(0, options.begin_within_s)))  # noqa: S311 - spreads
        from pilotwrap.run.remains import mark

        mark(around.run)
        return
    if options.pilot is None:
        make_sure(driver, lambda: client().may_report(time.monotonic() + FIRST_S))
    from pilotwrap.run.pandaworker import tell_worker
    from pilotwrap.run.remains import mark, tell_remains

    mark(around.run)
    driver.tell_worker = lambda status: tell_worker(client, server, status, around.allocation.head.host)
    driver.tell_worker("started")
    driver.remains = remains = tell_remains(around.run, connected)
    if around.allocation.head.allocation.restart_count:
        # requeued: what our own earlier life left is told before its jobs could come again
        make_sure(driver, lambda: remains.join(REMAINS_FIRST_S))


def supply(driver: Driver, options: RunOptions, snapshot: Snapshot) -> PandaWork:
    """Make sure that we may report, send what dead runs left, and get ready to fetch."""
    if options.worker is None:
        raise UsageError("no server to fetch from")
    worker = _shape(driver, options.worker)
    if options.pilot:
        _take_pilots(driver, options, snapshot)
    server = _server(driver)
    announce(driver, options)
    from pilotwrap.panda.client import connected
    from pilotwrap.panda.spool import Spool
    from pilotwrap.run.fetcher import Fetcher
    from pilotwrap.run.recorder import Recorder
    from pilotwrap.run.teller import Teller
    from pilotwrap.run.work import PandaWork, WorkTerms

    driver.recorder = Recorder(Spool(driver.around.run.path))

    def client() -> PandaClient:
        return connected(server.url, server.credential, server.ca_path, server.api)

    def answered(job_name: str, event: Any) -> None:  # noqa: ANN401 - an Answered
        def happened() -> None:
            job = driver.jobs.get(job_name)
            if job:
                driver.happened(job, event)

        driver.post(happened)

    driver.teller = Teller(client, answered)
    works: list[PandaWork] = []
    fetcher = Fetcher(
        client(), lambda fetched: driver.post(lambda: works[0].heard(fetched)), any_kind=options.pilot is not None
    )
    terms = WorkTerms(options.jobs, options.wait_for_work_s)
    if options.pilot:
        # a pilot stages in before its payload starts, and shows by itself that it lives
        terms = replace(terms, overhead_s=PILOT_OVERHEAD_S, spawn_s=NEVER)
    works.append(PandaWork(driver, fetcher, server, worker, terms))
    return works[0]


def _server(driver: Driver) -> Server:
    if driver.around.server is None:
        raise UsageError("no server to fetch from")
    return driver.around.server


def _shape(driver: Driver, worker: JobSpec) -> JobSpec:
    """Return the shape of what is fetched; raises what speaks against it."""
    if driver.around.accept_fewer:
        worker = worker.model_copy(update={"nodes": lowered(driver.ledger, worker)})
    if short := shortage(driver.ledger, worker, driver.around.allocation.unfit):
        raise short
    return worker


def _take_pilots(driver: Driver, options: RunOptions, snapshot: Snapshot) -> None:
    """Have PanDA's own pilots run what is fetched; raises what speaks against it."""
    from pilotwrap.run.pilot3.setup import set_up

    found: list[PilotTerms] = []
    make_sure(driver, lambda: found.append(set_up(driver.around, options, snapshot, dict(os.environ))), pilots=True)
    if found and driver.around.server:
        from pilotwrap.run.pilot3.agent import PilotAgent

        driver.around = replace(driver.around, server=replace(driver.around.server, api=found[0].api))
        driver.agent = PilotAgent(driver, found[0])


def make_sure(driver: Driver, ask: Callable[[], None], *, pilots: bool = False) -> None:
    """Do a call that may hang, while signals are heard: they end the waiting. Raises what the call raises.

    Meanwhile what is needed next is loaded, with `pilots` what they need too.
    """
    said: list[PilotwrapError | None] = []

    def asked() -> None:
        error: PilotwrapError | None = None
        try:
            ask()
        except PilotwrapError as raised:
            error = raised
        driver.post(lambda: said.append(error))

    threading.Thread(target=asked, name="may-report", daemon=True).start()
    for name in (*_NEEDED_NEXT, *_NEEDED_BY_PILOTS * pilots):
        import_module(name)
    while not (said or driver.starter_lost or driver.stopped):
        driver.turn(IDLE_S)
    if said and said[0]:
        raise said[0]


def leave_nothing(driver: Driver) -> None:
    """Take the mark away when all is told, and give what is sent for dead runs a moment."""
    from pilotwrap.run.remains import unmark

    told = driver.tell_worker("finished")
    for thread in (driver.remains, told):
        if thread:
            thread.join(REMAINS_S if driver.stopped is None else 0)
    if all(report.told for report in driver.reports):
        unmark(driver.around.run)
