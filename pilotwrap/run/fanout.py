"""One controller a node: the head starts this program once on every node, and collects what each reports.

Jobs that fit one node need no head: each node fetches its own, and their rate grows with the nodes. The head asks the
server only whether it may report; a folder holds what each node said, read when the launcher has ended.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pilotwrap.model.base import Value
from pilotwrap.model.cpulist import cpus_of
from pilotwrap.model.errors import BadInputError, LauncherError, NodeUnusableError, PilotwrapError
from pilotwrap.model.report import OutcomeFile, RunReport
from pilotwrap.run.merge import Answer, Spread, merged, timeline_of
from pilotwrap.run.rundir import write_file
from pilotwrap.run.shim import shim_argv
from pilotwrap.run.stopper import IDLE_S, STOP_BUDGET_S, Stopper
from pilotwrap.run.summary import RunEnd, set_aside
from pilotwrap.site.launchers.listing import launcher_named
from pilotwrap.site.launchers.request import LaunchRequest
from pilotwrap.site.machines.choice import Choice

if TYPE_CHECKING:
    from pilotwrap.model.allocation import AllocationFacts
    from pilotwrap.model.job import JobSpec
    from pilotwrap.model.node import NodeFacts
    from pilotwrap.model.plan import Launch, RankVariables
    from pilotwrap.run.driver import Driver
    from pilotwrap.run.link import Message
    from pilotwrap.run.options import RunOptions

STEP = "controllers"
"""What the launcher is called on the wire; all its nodes' controllers are below it."""

SHARE = "share"
WORDS_CAP = 4 << 20
"""Bytes of all that the controllers say on stderr (a guess: a line or two a node)."""

SHIM_GRACE_S = STOP_BUDGET_S + 3.0
"""A node's starter gets so long after TERM; with its end its lifelines end all below it."""

LAUNCHER_GRACE_S = 2 * SHIM_GRACE_S + 1.0
"""A launcher whose lifeline is cut has half of it to end by itself, before it gets TERM (docs/wire.md)."""

FIRST_CALLS_PER_S = 200.0
"""The nodes' first questions reach the server at this rate (a guess)."""

OVERTIME_S = 20.0
"""After the planned end every node ends by itself; then the head ends those that hang (a guess)."""


class Share(Value):
    """What the head tells all nodes."""

    jobs: dict[str, int] | None = None
    """How many each may fetch; None: as many as there are."""

    begin_within_s: float = 0.0
    choice: Choice | None = None
    """What the user says of the machine: a node may not see his files."""


def may_spread(options: RunOptions, head: NodeFacts) -> bool:
    """Tell whether each node could fetch for itself: jobs come from a server, and there are several nodes."""
    if options.worker is None or options.part or options.controllers == "head":
        return False
    return head.allocation.node_count > 1 and not _is_one_of_many(head)


def spreads(options: RunOptions, allocation: AllocationFacts) -> bool:
    """Tell whether each node fetches for itself: it could, several are fit, and each job fits one."""
    worker, head = options.worker, allocation.head
    # the last fit node is reached by a launcher all the same, if a pilot is to run there and we are not there
    last = (head.host,) if options.pilot else allocation.hosts[:1]
    if worker is None or not may_spread(options, head) or allocation.hosts == last:
        return False
    why = _too_much(worker, options, head)
    if (options.controllers == "node" or options.pilot) and why:
        raise BadInputError(
            "no controller of one node can do that", why=why, remedy="give one spec, of one node, or no --controllers"
        )
    return not why


def _too_much(worker: JobSpec, options: RunOptions, head: NodeFacts) -> str:
    """Return what speaks against controllers that have one node each; nothing: each can do its jobs."""
    if worker.nodes > 1:
        return f"the jobs need {worker.nodes} nodes each"
    if options.specs:
        return "a second spec is a job for the head"
    kind = launcher_named(head.launcher.command, head.launcher.flavour)
    if worker.mode == "mpi" and kind is not None and not kind.NESTS:
        return f"its MPI jobs need {kind.NAME}, which cannot be called from inside of a launch of its own"
    return ""


def _is_one_of_many(head: NodeFacts) -> bool:
    """Tell whether somebody has started one of us on each node already."""
    return head.allocation.inside_step and (head.launcher.size or 1) > 1


def alone(head: NodeFacts) -> NodeFacts:
    """Return the facts of a node whose controller has nothing to do with the other nodes of the allocation."""
    own = head.allocation.model_copy(update={"nodes": (head.host,), "node_count": 1})
    return head.model_copy(update={"allocation": own})


def share_in(part: Path) -> Share:
    """Return what the head tells all nodes; BadInputError where that cannot be read."""
    try:
        return Share.model_validate_json((part / f"{SHARE}.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise BadInputError(f"no share of the head's work in {part}", why=str(error)[:200]) from error


def share_of(share: Share, host: str, options: RunOptions) -> RunOptions:
    """Return the options of one node's controller."""
    jobs = options.jobs if share.jobs is None else share.jobs.get(host, 0)
    return options.model_copy(update={"jobs": jobs, "begin_within_s": share.begin_within_s})


def answer(part: Path, host: str, report: RunReport, exit_code: int) -> None:
    """Leave for the head what this node's run ended with."""
    own = Answer(host=host, exit_code=exit_code, report=report)
    write_file(part / f"{os.uname().nodename}-{os.getpid()}.json", own.to_json())


class Fanout:
    """The step of all nodes' controllers, begun by `start`."""

    def __init__(self, driver: Driver, options: RunOptions, hello: Message, choice: Choice | None) -> None:
        self._driver = driver
        around = driver.around
        self._folder = around.run.path / "nodes"
        self._errors = around.run.path / "controllers.err"
        hosts = around.allocation.hosts
        # no node is started for nothing
        self._hosts = hosts if options.jobs is None else hosts[: options.jobs]
        self._options = options
        self._choice = choice
        self._argv = _argv(hello, self._folder)
        self._ended: Message | None = None
        self._signalled = False

    def run(self, stopper: Stopper, began: float) -> tuple[RunReport, int]:
        """Do all of it; raises PilotwrapError for what speaks against it before any node is asked for anything."""
        from pilotwrap.run.supply import announce, leave_nothing

        announce(self._driver, self._options)
        if self._driver.stopped is None:
            self.start()
            self.wait(stopper)
        leave_nothing(self._driver)
        return self.report(stopper, began)

    def start(self) -> None:
        """Write what the nodes read, and have the launcher started; raises LauncherError where there is none."""
        head = self._driver.around.allocation.head
        kind = launcher_named(head.launcher.command, head.launcher.flavour)
        if kind is None or head.launcher.path is None:
            raise LauncherError(
                f"{len(self._hosts)} nodes cannot be reached",
                why="no launcher is on PATH",
                remedy="load the site's module",
            )
        self._folder.mkdir(mode=0o700)
        jobs = _shared_out(self._options.jobs, self._hosts)
        share = Share(jobs=jobs, begin_within_s=len(self._hosts) / FIRST_CALLS_PER_S, choice=self._choice)
        write_file(self._folder / f"{SHARE}.json", share.to_json())
        launch = kind.command(self._request(head.launcher.path, self._shim(kind.VARIABLES)))
        for path, text in launch.files.items():
            write_file(Path(path), text)
        self._driver.link.send(self._order(launch))

    def _request(self, program: str, shim: Path) -> LaunchRequest:
        """Return what the launcher is asked for: one rank a node, on these nodes alone, and with all that they have."""
        around, allocation = self._driver.around, self._driver.around.allocation
        first, nodes = allocation.groups[0].facts, allocation.head.allocation.nodes
        return LaunchRequest(
            program=program,
            hosts=self._hosts,
            hosts_file=str(around.run.path / "plans" / f"{STEP}.hosts"),
            ranks_per_node=1,
            one_fails_all=False,
            gpus_per_node=allocation.head.allocation.gpus_per_node,
            here=allocation.head.host,
            granted=nodes,
            aside=tuple(node for node in nodes if node not in self._hosts),
            cpus_per_node=len(cpus_of(first.cpus.granted)),
            devices_per_node=len(first.accelerators),
            command=shim_argv(around.run, around.host_argv, shim),
        )

    def _shim(self, names: RankVariables) -> Path:
        """Write what the shim on each node reads, and return its path."""
        around = self._driver.around
        results = around.run.path / "plans" / f"{STEP}.ranks"
        results.mkdir(mode=0o700)
        order = {
            "protocol": 1,
            **{name: list(getattr(names, name)) for name in ("rank", "local_rank", "size", "host")},
            "bindings": [],
            "argv": self._argv,
            "keep": ["*"],
            "env": {},
            "unset": [],
            "cwd": around.cwd,
            "grace_s": SHIM_GRACE_S,
            "results": str(results),
        }
        path = around.run.path / "plans" / f"{STEP}.shim.json"
        write_file(path, json.dumps(order))
        return path

    def _order(self, launch: Launch) -> dict[str, object]:
        """Return the order for the launcher: a node's controller is this program, and needs what the head's has."""
        return {
            "do": "spawn",
            "id": f"{STEP}/launch",
            "argv": list(launch.argv),
            "keep": ["*"],
            "env": launch.env,
            "unset": list(launch.unset),
            "cwd": self._driver.around.cwd,
            "session": "new",
            "stdin": "lifeline",
            "stdout": None,
            "stderr": str(self._errors),
            "output_cap": WORDS_CAP,
            "cpus": None,
            "user": None,
            "wall_s": None,
            "grace_s": LAUNCHER_GRACE_S,
        }

    def heard(self, message: Message) -> None:
        """Take the starter's word: on the step, or on the run."""
        if message.get("id") == f"{STEP}/launch" and message.get("event") in {"exited", "failed"}:
            self._ended = message
        self._driver.heard(message)

    def wait(self, stopper: Stopper) -> None:
        """Wait until the launcher has ended; a signal is passed on to every node."""
        driver = self._driver
        stop_at = driver.around.stop_at
        while (self._ended is None or driver.preemption.awaited) and not driver.starter_lost:
            now = time.monotonic()
            stopper.due_in(now)
            late = stop_at is not None and now >= stop_at + OVERTIME_S
            if (stopper.reason in {"cancelled", "preempted"} or late) and not self._signalled:
                self._signalled = True
                driver.link.send({"do": "signal", "id": f"{STEP}/launch", "signal": 15, "grace_s": LAUNCHER_GRACE_S})
            driver.turn(IDLE_S)

    def report(self, stopper: Stopper, began: float) -> tuple[RunReport, int]:
        """Return what all nodes said, as one report, and the exit code."""
        answers = _answers(self._folder)
        answered = {one.host for one in answers}
        silent = tuple(host for host in self._hosts if host not in answered) if self._ended else ()
        end = RunEnd(
            stopped=self._driver.stopped,
            stop_reason=stopper.reason,
            error=self._error(answers),
            timeline=(*timeline_of(began, time.time(), answers), *set_aside(self._driver.around.allocation.unfit)),
            outcome_file=self._listed(answers),
            run_dir=str(self._driver.around.run.path),
        )
        return merged(answers, Spread(silent, end))

    def _error(self, answers: Sequence[Answer]) -> PilotwrapError | None:
        if self._driver.starter_lost:
            return NodeUnusableError("the starter went away while the run was going on")
        if answers or self._ended is None or self._driver.stopped:
            return None
        why = str(self._ended.get("text") or "") or _last_line(self._errors)
        return LauncherError("no node's controller could be started", why=why, remedy=f"see {self._errors}")

    def _listed(self, answers: Sequence[Answer]) -> OutcomeFile | None:
        """Write where each node's run lies and how it ended."""
        text = "".join(
            json.dumps({"host": one.host, "run_dir": one.report.run_dir, "exit_code": one.exit_code}) + "\n"
            for one in sorted(answers, key=lambda one: one.host)
        )
        path = self._driver.around.run.path / "nodes.jsonl"
        try:
            write_file(path, text)
        except PilotwrapError:
            return None
        return OutcomeFile(path=str(path), sha256=hashlib.sha256(text.encode()).hexdigest())


def _argv(hello: Message, folder: Path) -> list[str]:
    """Return the argv of one node's controller: the same words, but for its own share."""
    words = [str(word) for word in hello["words"]]
    enter = [str(word) for word in hello["enter"]]
    own = ["run", *words, "--part", str(folder)]
    if not enter:
        return [sys.executable, "-m", "pilotwrap", *own]
    return [*(str(word) for word in hello["self"]), *own, "--enter", shlex.join(enter)]


def _shared_out(jobs: int | None, hosts: Sequence[str]) -> dict[str, int] | None:
    """Return how many jobs each node may fetch, nearly equal."""
    if jobs is None:
        return None
    return {host: jobs // len(hosts) + (number < jobs % len(hosts)) for number, host in enumerate(hosts)}


def _answers(folder: Path) -> list[Answer]:
    found = []
    for path in sorted(folder.glob("*.json")):
        if path.stem == SHARE:
            continue
        try:
            found.append(Answer.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError):
            continue
    return found


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""
