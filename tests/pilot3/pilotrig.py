"""The real driver and agent before a scripted starter and server, and a pilot that is the test itself."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from controller.panda import ScriptedPanda, job_entry
from controller.rig import Rig, panda_surroundings, with_panda
from controller.starter import PATIENCE_S, Message, Script, ScriptedStarter, exited, started

from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import NodeFacts
from pilotwrap.panda.job import PandaJob, parse_job
from pilotwrap.panda.queuedata import QueueData
from pilotwrap.plan.ledger import lend
from pilotwrap.run.job import Job, rules_for
from pilotwrap.run.options import PilotOptions
from pilotwrap.run.pilot3.agent import PilotAgent
from pilotwrap.run.pilot3.source import FoundPilot
from pilotwrap.run.pilot3.terms import PilotTerms
from pilotwrap.run.preparation import worker_shape
from pilotwrap.run.rundir import RunDirectory
from pilotwrap.run.state import NEVER, State
from pilotwrap.run.surroundings import Surroundings

OLD, NEW = (3, 7, 0, 36), (3, 11, 5, 1)
QUEUE = QueueData(name="TEST_QUEUE", state="ACTIVE", status="online", reads=("mv",), writes=("mv",))
WORKER = JobSpec(command=("/bin/sh",), cpus_per_rank=1)


def terms_of(run: RunDirectory, version: tuple[int, ...] = OLD, **more: Any) -> PilotTerms:  # noqa: ANN401
    """Return what all pilots of a run share; the folder of their papers is there."""
    papers = run.path / "pilots"
    papers.mkdir(mode=0o700, exist_ok=True)
    given: dict[str, Any] = {
        "found": FoundPilot(directory="/opt/pilot3", version=version, origin="a test"),
        "python": "/usr/bin/python3",
        "queue": QUEUE,
        "papers": papers,
        "options": PilotOptions(),
        "api": "current",
        "search_path": "/usr/local/bin:/usr/bin:/bin",
    }
    return PilotTerms(**{**given, **more})


def pilot_job(around: Surroundings, panda_id: int = 7, **entry: object) -> Job:
    """Return a job as the fetcher makes it of a server's answer."""
    said: Any = job_entry(panda_id, 1, **entry)
    fetched = parse_job(said, any_kind=True)
    assert isinstance(fetched, PandaJob), fetched
    spec = worker_shape(WORKER, fetched)
    name = f"{panda_id}-1"
    rules = rules_for(spec, around.rules)._replace(spawn_s=NEVER)
    return Job(name, spec, around.run.job(name), State(rules=rules), fetched, entry=said)


def staging(around: Surroundings, ledger: Any, panda_id: int = 7, **entry: object) -> Job:  # noqa: ANN401 - a Ledger
    """Return a job that has its cores and is about to be prepared."""
    job = pilot_job(around, panda_id, **entry)
    _, job.allotment = lend(ledger, job.spec)
    job.state = job.state._replace(phase="staging-in")
    return job


def deaf(order: Message) -> Iterable[Message]:
    """Let a pilot live until it is ended by KILL: on TERM it goes on for minutes."""
    if order["do"] == "spawn":
        return [started(order["id"])]
    return [exited(order["id"], None, 9)] if order["signal"] == 9 else []


def immortal(order: Message) -> Iterable[Message]:
    """Let nothing end before the test says so."""
    return [started(order["id"])] if order["do"] == "spawn" else []


class FakePilot:
    """Speaks to the bridge as 3.7 does, by what its spawn order gave it and nothing else; a thread a call."""

    def __init__(self, order: Message) -> None:
        self.order = order
        said = dict(word.partition("=")[::2] for word in order["argv"] if word.startswith("--"))
        self.base = f"{said['--url']}:{said['--port']}/server/panda"
        self.token = Path(order["env"]["PANDA_AUTH_TOKEN"]).read_text()
        self.stdout = Path(order["stdout"])
        self.panda_id = 0
        self._pool = ThreadPoolExecutor(4)

    def ask(self, name: str, **said: object) -> Future[dict[str, Any]]:
        return self._pool.submit(self._ask, name, said)

    def get_job(self) -> Future[dict[str, Any]]:
        return self.ask("getJob", siteName="TEST_QUEUE", node="n", computingElement="TEST_QUEUE")

    def say(self, state: str, **said: object) -> Future[dict[str, Any]]:
        """Say a state of the job that it has fetched."""
        return self.ask("updateJob", jobId=self.panda_id, state=state, attemptNr=1, siteName="TEST_QUEUE", **said)

    def say_finished(self, files: dict[str, Path]) -> Future[dict[str, Any]]:
        report = {lfn: {"guid": "", "fsize": 3, "adler32": "024d0127", "surl": p.as_uri()} for lfn, p in files.items()}
        return self.say("finished", xml=json.dumps(report), pilotErrorCode=0, transExitCode=0, exeErrorCode=0)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _ask(self, name: str, said: dict[str, object]) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        request = urllib.request.Request(f"{self.base}/{name}", urlencode(said).encode(), headers)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:  # noqa: S310
            found: dict[str, Any] = json.loads(reply.read())
        return found


class PilotRig(Rig):
    """A rig whose agent is pilot3's; `until` polls it as the controller's loop does."""

    def __init__(self, around: Surroundings, starter: ScriptedStarter, options: PilotOptions | None = None) -> None:
        super().__init__(around, starter)
        terms = terms_of(around.run, options=options or PilotOptions())
        self.agent = PilotAgent(self.driver, terms)
        self.driver.agent = self.agent
        self.pilots: list[FakePilot] = []

    def until(self, happened: Callable[[], object]) -> None:
        give_up_at = time.monotonic() + PATIENCE_S
        while not happened():
            assert time.monotonic() < give_up_at, f"never happened; {self.driver.counts()}"
            self.driver.turn(min(0.05, self.agent.poll(time.monotonic())))

    def answer(self, said: Future[dict[str, Any]]) -> dict[str, Any]:
        """Turn until the bridge has answered a call."""
        self.until(said.done)
        return said.result()

    def command(self, said: Future[dict[str, Any]]) -> str:
        """Turn until an update is answered, and return the command in it."""
        found = self.answer(said)
        assert found["StatusCode"] == 0, found
        return str(found["command"])

    def given(self, panda_id: int = 7, **entry: object) -> Job:
        """Have the driver take a job."""
        job = pilot_job(self.around, panda_id, **entry)
        self.driver.take(job)
        return job

    def pilot(self, job: Job) -> FakePilot:
        """Return the pilot of a job once it has been started."""
        spawned = f"{job.name}/0"
        self.until(lambda: spawned in self.starter.spawned() and job.started)
        order = next(one for one in self.starter.orders if one.get("id") == spawned and one["do"] == "spawn")
        self.pilots.append(FakePilot(order))
        return self.pilots[-1]

    def running(self, job: Job) -> FakePilot:
        """Return a pilot that has fetched its job and says that it runs."""
        pilot = self.pilot(job)
        pilot.panda_id = self.answer(pilot.get_job())["PandaID"]
        for state in ("starting", "running"):
            assert self.command(pilot.say(state)) == "NULL"
        return pilot

    def signals(self, name: str) -> list[int]:
        """Return the signals that were ordered for a job's pilot."""
        orders = [order for order in self.starter.orders if order["do"] == "signal"]
        return [order["signal"] for order in orders if order["id"] == f"{name}/0"]

    def end(self) -> None:
        self.agent.close()
        for pilot in self.pilots:
            pilot.close()
        if self.driver.recorder:
            self.driver.recorder.close()
        self.driver.journal.close()


@contextmanager
def pilot_rig(
    run: RunDirectory,
    script: Script = deaf,
    panda: ScriptedPanda | None = None,
    facts: NodeFacts | None = None,
    **options: object,
) -> Iterator[PilotRig]:
    """Yield a rig before a scripted server; at its end the bridge and all threads of the pilots are gone."""
    starter = ScriptedStarter(script)
    rig = PilotRig(panda_surroundings(run, facts), starter, PilotOptions.model_validate(options))
    with_panda(rig, panda or ScriptedPanda())
    try:
        yield rig
    finally:
        rig.end()
        starter.close()


def ends(panda: ScriptedPanda, panda_id: int = 7) -> list[str]:
    """Return the final states that the server was told."""
    return [state for state in panda.states(panda_id) if state in {"finished", "failed"}]


def last(panda: ScriptedPanda) -> dict[str, Any]:
    return panda.updates[-1]


def happened(rig: PilotRig) -> list[str]:
    return [entry.what for entry in rig.agent.timeline(0.0)]
