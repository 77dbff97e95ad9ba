"""The controller: from the starter's first word to the RunReport."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pilotwrap.detect.survey import allocation_of_all, allocation_of_one
from pilotwrap.model.errors import (
    BadInputError,
    CredentialError,
    NodeUnusableError,
    PilotwrapError,
    ServerError,
    SiteEnvironmentError,
    UsageError,
)
from pilotwrap.model.node import NodeFacts
from pilotwrap.model.report import OutcomeFile, RunReport
from pilotwrap.model.snapshot import ProbeSaid, Snapshot
from pilotwrap.plan.ledger import ledger_of
from pilotwrap.plan.limits import limits
from pilotwrap.run.driver import Driver
from pilotwrap.run.job import Job, rules_for
from pilotwrap.run.link import Message, StarterLink
from pilotwrap.run.options import RunOptions
from pilotwrap.run.rundir import NAME_ANOTHER, RunDirectory, make, new_run_id, open_to, write_file
from pilotwrap.run.shim import begin_to_compile
from pilotwrap.run.state import Rules, State
from pilotwrap.run.stopper import IDLE_S, Stopper
from pilotwrap.run.summary import RunEnd, exit_code, refusal, run_report, set_aside, timeline
from pilotwrap.run.surroundings import Server, Surroundings
from pilotwrap.run.survey import Question, facts_of, probe_of, surveyed
from pilotwrap.site.accelerators.vendors import asks_nvml

if TYPE_CHECKING:
    from pathlib import Path

    from pilotwrap.run.fanout import Fanout
    from pilotwrap.run.work import PandaWork
    from pilotwrap.site.machines.choice import Choice

RUN_RULES = Rules(log_s=1.0, tell_s=2.0, reap_s=5.0, grace_s=10.0)
"""What a life keeps for its last steps; within STOP_BUDGET_S this leaves a payload 1.5 s after TERM."""


class Outside(NamedTuple):
    """What the run shows, and asks of other rooms."""

    progress: Callable[[Callable[[], dict[str, int]]], None]
    """Given what counts the jobs in each phase, to be called when it is time to show it."""

    probe: Callable[[], ProbeSaid]
    """Asks the vendor's library about the devices of this node, in a child process."""

    choice: Choice | None = None
    """What the user says of the machine; None: nothing, or this is one node's controller."""


class Begun(NamedTuple):
    """What is known when the starter has spoken."""

    hello: Message
    early: list[Message]
    """Stops that came before anything else."""

    snapshot: Snapshot
    head: NodeFacts
    at: float
    """Seconds since the epoch."""

    choice: Choice | None = None


def controlled(
    link: StarterLink, hello: Message, options: RunOptions, run: RunDirectory, outside: Outside
) -> tuple[RunReport, int]:
    """Do the whole run; return its report and the exit code. Raises PilotwrapError for what ends it before any job."""
    at = time.time()
    snapshot, early = _first_words(link)
    if asks_nvml(snapshot):
        snapshot = snapshot.model_copy(update={"probes": (*snapshot.probes, outside.probe())})
    part = options.part
    if part is None:
        head = facts_of(snapshot, outside.choice)
        begun = Begun(hello, early, snapshot, head, at, outside.choice)
        with _told_of_the_way_out(begun):
            return _controlled(link, begun, options, run, outside)
    from pilotwrap.run.fanout import alone, answer, share_in, share_of

    share = share_in(part)
    begun = Begun(hello, early, snapshot, facts_of(snapshot, share.choice), at, share.choice)
    try:
        options = share_of(share, begun.head.host, options)
        with _told_of_the_way_out(begun):
            said = _controlled(link, begun._replace(head=alone(begun.head)), options, run, outside)
    except PilotwrapError as error:
        answer(part, begun.head.host, refusal(error, str(run.path)), error.exit_code)
        raise
    answer(part, begun.head.host, *said)
    return said


@contextlib.contextmanager
def _told_of_the_way_out(begun: Begun) -> Iterator[None]:
    """Have what the server is blamed for say too that the machine's proxy is not set."""
    try:
        yield
    except (CredentialError, ServerError) as error:
        from pilotwrap.run.readiness import network_check
        from pilotwrap.site.machines.listing import machine_of

        chosen = begun.choice.of(begun.snapshot) if begun.choice else None
        check = network_check(begun.head.network, chosen or machine_of(begun.snapshot))
        if check.ok is None:
            error.remedy = "; ".join(filter(None, (error.remedy, f"{check.detail}: {check.remedy}")))
        raise


def _controlled(
    link: StarterLink, begun: Begun, options: RunOptions, run: RunDirectory, outside: Outside
) -> tuple[RunReport, int]:
    around = _surroundings(link, begun, options, run)
    driver = Driver(around, link, ledger_of(around.allocation))
    fanout = _fanout(driver, options, begun)
    heard = fanout.heard if fanout else driver.heard
    link.listen(lambda message: driver.post(lambda: heard(message)))
    threading.excepthook = lambda fault: driver.post(lambda: _raise(fault.exc_value))
    stopper = Stopper(driver)
    driver.on_stop = stopper.asked
    for message in begun.early:
        driver.heard(message)
    if fanout:
        report, code = fanout.run(stopper, begun.at)
    else:
        report, code = _jobs_run(driver, options, begun, stopper, outside)
    keep(run, report)
    return report, code


def _fanout(driver: Driver, options: RunOptions, begun: Begun) -> Fanout | None:
    """Return the way to one controller a node, where jobs are fetched so."""
    hosts, own = driver.around.allocation.hosts, begun.head.host
    one = hosts == (own,) or (len(hosts) == 1 and not options.pilot)
    if options.worker is None or options.controllers == "head" or one:
        return None
    from pilotwrap.run.fanout import Fanout, spreads

    return Fanout(driver, options, begun.hello, begun.choice) if spreads(options, driver.around.allocation) else None


def _jobs_run(
    driver: Driver, options: RunOptions, begun: Begun, stopper: Stopper, outside: Outside
) -> tuple[RunReport, int]:
    work = None
    if driver.around.server:
        from pilotwrap.run.supply import supply

        work = supply(driver, options, begun.snapshot)
    _take_specs(driver, options)
    try:
        _loop(driver, work, stopper, outside)
    finally:
        driver.agent.close()
    if driver.recorder:
        from pilotwrap.run.supply import leave_nothing

        driver.recorder.close()
        leave_nothing(driver)
    end = _end(driver, work, stopper, begun.at)
    return run_report(driver.reports, end), exit_code(driver.reports, end)


def keep(run: RunDirectory, report: RunReport) -> None:
    """Write the report where `why` finds it; a full disk is no fault: whoever called still gets the report."""
    with contextlib.suppress(SiteEnvironmentError):
        write_file(run.report, report.to_json())


def run_directory(link: StarterLink, hello: Message, parent: Path) -> RunDirectory:
    """Make the run's directory where the starter has it too; raises PilotwrapError where it cannot be made."""
    run_id = new_run_id(time.time())
    if not hello["enter"]:
        return make(parent, run_id)
    from pilotwrap.run.wall import bind, check_run_directory

    run = make(parent, run_id, remedy=f"{bind(parent)}, or {NAME_ANOTHER}")
    check_run_directory(link, run)
    return run


def _raise(fault: BaseException | None) -> None:
    """Raise on the main thread what ended another one: nothing may wait for ever for what that was to do."""
    if fault is not None:
        raise fault


def _loop(driver: Driver, work: PandaWork | None, stopper: Stopper, outside: Outside) -> None:
    def goes_on() -> bool:
        own = driver.jobs or driver.leaving or driver.preemption.awaited
        return bool(own or (work and not work.over and not driver.starter_lost and not stopper.spent))

    while goes_on():
        now = time.monotonic()
        wait_s = min(IDLE_S, stopper.due_in(now))
        if work:
            if driver.stopped is not None:
                work.close()
            wait_s = min(wait_s, work.poll(now))
        wait_s = min(wait_s, driver.agent.poll(now))
        driver.turn(wait_s)
        outside.progress(driver.counts)


def _surroundings(link: StarterLink, begun: Begun, options: RunOptions, run: RunDirectory) -> Surroundings:
    now = time.monotonic()
    hello, head = begun.hello, begun.head
    host_argv = tuple(str(word) for word in hello["self"])
    # a pilot speaks to its controller on its own node, which need not be the allocation's first
    own = _own_node(options, head) if options.pilot else None
    if own is None:
        begin_to_compile(head, link, run, host_argv)
    allocation = allocation_of_one(own) if own else surveyed(head, link, run, host_argv, _question(options, begun))
    if not allocation.groups:
        raise NodeUnusableError(
            "no node can be used", why="; ".join(f"{node.host}: {node.detail}" for node in allocation.unfit)
        )
    server = _server(options)
    limit, _ = limits(head.allocation, None, RUN_RULES.tell_s)
    return Surroundings(
        run=run,
        allocation=allocation,
        host_argv=host_argv,
        cwd=str(hello["cwd"]),
        rules=RUN_RULES._replace(told_by="panda" if server else "caller", heartbeat_s=options.heartbeat_s),
        teller="panda" if server else "caller",
        epoch=time.time() - time.monotonic(),
        stop_at=None if limit.stop_at is None else now + limit.stop_at,
        server=server,
        storage=_storage(hello, options),
        transformations=_transformations(options),
        accept_fewer=options.accept_fewer,
        user=_user(_payload_user(options), run),
    )


def _question(options: RunOptions, begun: Begun) -> Question:
    """Return what the survey asks; nodes that are going to fetch for themselves ask NVML themselves."""
    if begun.head.allocation.node_count > 1 and options.worker:
        from pilotwrap.run.fanout import spreads

        if spreads(options, allocation_of_all(begun.head)):
            return Question(begun.choice)
    return Question(begun.choice, probe_of(begun.snapshot, begun.head, begun.hello))


def _own_node(options: RunOptions, head: NodeFacts) -> NodeFacts | None:
    """Return this node by itself; None where pilots get a controller on each node. UsageError: neither can be."""
    if head.allocation.node_count == 1 and head.allocation.nodes == (head.host,):
        return head
    from pilotwrap.run.fanout import alone, may_spread

    if may_spread(options, head):
        return None
    from pilotwrap.run.pilot3.setup import refuse_several_nodes

    refuse_several_nodes(head)
    return alone(head)


def _first_words(link: StarterLink) -> tuple[Snapshot, list[Message]]:
    """Return the starter's snapshot, and the stops that came before it."""
    early: list[Message] = []
    message = link.read()
    while message.get("event") == "stop":
        early.append(message)
        message = link.read()
    if message.get("event") != "snapshot":
        why = f"it said {message.get('event')!r}"
        raise NodeUnusableError("the starter went away before the run began", why=why)
    return Snapshot.model_validate(message["snapshot"]), early


def _server(options: RunOptions) -> Server | None:
    if options.worker is None:
        return None
    if not (options.server and options.panda_queue and options.credential):
        raise UsageError(
            "fetching jobs needs --server, --panda-queue and --credential", remedy="give all three, or a --spec"
        )
    return Server(
        url=options.server,
        panda_queue=options.panda_queue,
        credential=options.credential,
        prod_source_label=options.prod_source_label,
        ca_path=options.ca_path,
        harvester_id=options.harvester_id,
        worker_id=options.worker_id,
    )


def _storage(hello: Message, options: RunOptions) -> Any:  # noqa: ANN401 - its type is imported only where it is needed
    if options.storage is None:
        return None
    from pilotwrap.run.storage import read_storage_map

    storage = read_storage_map(options.storage)
    if hello["enter"]:
        from pilotwrap.run.wall import check_storage

        check_storage(storage)
    return storage


def _transformations(options: RunOptions) -> Any:  # noqa: ANN401 - likewise
    if options.worker is None:
        return None
    from pilotwrap.run.transformation import TransformationCache

    return TransformationCache(time.monotonic)


def _payload_user(options: RunOptions) -> str | None:
    if options.pilot is None:
        return options.payload_user
    from pilotwrap.run.pilot3.setup import default_user

    return default_user(options)


def _user(name: str | None, run: RunDirectory) -> dict[str, Any] | None:
    """Return whom payloads run as; BadInputError for an unknown user, one without a way in, or when we are not root."""
    if name is None:
        return None
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise BadInputError(f"no user {name!r} on this host", remedy="give another --payload-user") from error
    if os.geteuid() != 0:
        raise BadInputError("--payload-user needs root", remedy="leave it out: payloads run as you")
    groups = os.getgrouplist(name, entry.pw_gid)
    open_to(run, entry.pw_uid, groups)
    return {"uid": entry.pw_uid, "gid": entry.pw_gid, "groups": groups}


def _take_specs(driver: Driver, options: RunOptions) -> None:
    """Take all specs, those of most nodes first: then no node has to be kept idle for them, and small ones fill up."""
    for number, spec in sorted(enumerate(options.specs), key=lambda one: -one[1].nodes):
        name = f"spec-{number}"
        rules = rules_for(spec, driver.around.rules._replace(told_by="caller"))
        driver.take(Job(name, spec, driver.around.run.job(name), State(rules=rules)))
    # cores are lent at the end of a turn: without one they would wait for the first thing to happen
    driver.turn(0.0)


def _end(driver: Driver, work: PandaWork | None, stopper: Stopper, began: float) -> RunEnd:
    error: PilotwrapError | None = work.error if work else None
    if driver.starter_lost:
        error = NodeUnusableError("the starter went away while the run was going on")
    return RunEnd(
        stopped=driver.stopped,
        stop_reason=stopper.reason,
        error=error,
        outcomes=tuple(driver.outcomes.values()),
        timeline=timeline(
            driver.reports,
            began,
            time.time(),
            (*driver.agent.timeline(began - driver.around.epoch), *set_aside(driver.around.allocation.unfit)),
        ),
        outcome_file=_outcome_file(driver),
        run_dir=str(driver.around.run.path),
    )


def _outcome_file(driver: Driver) -> OutcomeFile | None:
    """Write what happened to every rank of every job; None where the disk refuses it."""
    import hashlib

    text = "".join(f'{{"job":"{name}","outcome":{one.to_json()}}}\n' for name, one in driver.outcomes.items())
    path = driver.around.run.path / "outcomes.jsonl"
    try:
        write_file(path, text)
    except SiteEnvironmentError:
        return None
    return OutcomeFile(path=str(path), sha256=hashlib.sha256(text.encode()).hexdigest())
