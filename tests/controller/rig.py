"""A real driver with its journal and its run directory, the scripted starter before it, and if asked for a server."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plan.facts import alike, allocation, node

from pilotwrap.model.credential import Credential
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import NodeFacts
from pilotwrap.panda.client import PandaClient
from pilotwrap.panda.spool import Spool
from pilotwrap.plan.ledger import ledger_of
from pilotwrap.run.controller import RUN_RULES
from pilotwrap.run.driver import Driver
from pilotwrap.run.job import Job, rules_for
from pilotwrap.run.recorder import Recorder
from pilotwrap.run.rundir import RunDirectory, make
from pilotwrap.run.state import Rules, State
from pilotwrap.run.storage import StorageMap
from pilotwrap.run.surroundings import Server, Surroundings
from pilotwrap.run.teller import Teller
from pilotwrap.run.transformation import TransformationCache

from .panda import ScriptedPanda
from .starter import PATIENCE_S, ScriptedStarter

SERVER = Server("http://127.0.0.1:1", "TEST_QUEUE", Credential(kind="token", path="/nowhere/token"))


def head(cores: int = 4, hosts: Sequence[str] = ("node1",), **more: Any) -> NodeFacts:  # noqa: ANN401 - of `node`
    launcher = "local" if len(hosts) == 1 else "srun"
    return node(cores=[str(core) for core in range(cores)], given=allocation(hosts), **{"launcher": launcher, **more})


def surroundings(run: RunDirectory, facts: NodeFacts | None = None, **more: object) -> Surroundings:
    given: dict[str, Any] = {
        "run": run,
        "allocation": alike(facts or head()),
        "host_argv": ("/usr/bin/python3", "/starter.pyz"),
        "cwd": "/caller",
        "rules": RUN_RULES._replace(told_by="caller"),
        "teller": "caller",
        "epoch": time.time() - time.monotonic(),
    }
    return Surroundings(**{**given, **more})


def panda_surroundings(run: RunDirectory, facts: NodeFacts | None = None, **more: object) -> Surroundings:
    given: dict[str, Any] = {
        "rules": RUN_RULES._replace(told_by="panda"),
        "teller": "panda",
        "server": SERVER,
        "storage": StorageMap(),
        "transformations": TransformationCache(time.monotonic),
    }
    return surroundings(run, facts, **{**given, **more})


class Rig:
    """Turns the driver until what a test waits for has happened."""

    def __init__(self, around: Surroundings, starter: ScriptedStarter) -> None:
        self.around = around
        self.starter = starter
        self.run = around.run
        self.driver = Driver(around, starter.link, ledger_of(around.allocation))
        starter.link.listen(lambda message: self.driver.post(lambda: self.driver.heard(message)))

    def take(self, name: str, rules: Rules | None = None, **spec: object) -> Job:
        wanted = JobSpec.model_validate({"command": ["true"], **spec})
        rules = rules_for(wanted, rules or self.around.rules)
        job = Job(name, wanted, self.run.job(name), State(rules=rules))
        self.driver.take(job)
        return job

    def until(self, happened: Callable[[], object]) -> None:
        give_up_at = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < give_up_at, f"never happened; {self.driver.counts()}"
            self.driver.turn(0.05)

    def until_over(self) -> None:
        self.until(lambda: not self.driver.jobs)

    def events(self, name: str) -> list[str]:
        """Return the kinds of a job's events as the journal has them on the disk."""
        lines = [json.loads(line) for line in self.run.journal.read_text().splitlines()]
        return [line["event"] for line in lines if line["job"] == name]

    def ends(self) -> dict[str, tuple[str, str]]:
        """Return state and reason of each job's end, by its order."""
        return {
            f"{report.panda_id or number}": (report.state, report.reason)
            for number, report in enumerate(self.driver.reports)
        }


def with_panda(rig: Rig, panda: ScriptedPanda) -> None:
    """Give a driver its real recorder and teller, before a scripted server."""
    driver = rig.driver
    driver.recorder = Recorder(Spool(rig.run.path))

    def answered(name: str, event: Any) -> None:  # noqa: ANN401 - an Answered
        def happened() -> None:
            job = driver.jobs.get(name)
            if job:
                driver.happened(job, event)

        driver.post(happened)

    driver.teller = Teller(lambda: PandaClient(panda), answered)


@contextmanager
def starters() -> Iterator[list[ScriptedStarter]]:
    """Close every starter that was put into the list."""
    made: list[ScriptedStarter] = []
    yield made
    for one in made:
        one.close()


def new_run(tmp_path: Path, name: str = "run-1") -> RunDirectory:
    return make(tmp_path / "runs", name)
