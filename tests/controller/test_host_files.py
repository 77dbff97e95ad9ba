"""A list of hosts that is too long for a command line lies in the run's directory before its launcher is started."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from plan.facts import alike

from pilotwrap.model.errors import BadInputError
from pilotwrap.model.job import JobSpec
from pilotwrap.plan.ledger import ledger_of, lend
from pilotwrap.run.fanout import STEP, Fanout, spreads
from pilotwrap.run.job import Job
from pilotwrap.run.options import RunOptions
from pilotwrap.run.preparation import prepare
from pilotwrap.run.state import State
from pilotwrap.run.survey import surveyed

from .rig import Rig, head, surroundings
from .starter import Script, ScriptedStarter, exited, silent, started

if TYPE_CHECKING:
    from pilotwrap.model.node import NodeFacts
    from pilotwrap.run.rundir import RunDirectory

NAMES = tuple(f"host-{number * 7919 % 4001:x}-node.example.org" for number in range(1, 2001))
STARTER = ("python3", "starter.pyz")
HELLO = {"words": [], "enter": [], "self": list(STARTER)}
MODES = ("copies", "mpi")
WORKER = JobSpec(command=("true",))
LINES = "".join(f"{name}\n" for name in NAMES)


def facts(launcher: str = "mpiexec") -> NodeFacts:
    return head(hosts=NAMES, launcher=launcher)


def written(order: dict[str, Any]) -> str:
    path = Path(order["argv"][order["argv"].index("-f") + 1])
    assert path.stat().st_mode & 0o777 == 0o600
    return path.read_text()


def test_of_a_job(run_directory: RunDirectory) -> None:
    around = surroundings(run_directory, facts())
    spec = JobSpec(command=("true",), nodes=len(NAMES))
    share = lend(ledger_of(around.allocation), spec)[1]
    job = Job("spec-0", spec, run_directory.job("spec-0"), State(phase="staging-in"), allotment=share)
    made = prepare(job, around)
    path = run_directory.path / "plans" / "spec-0.hosts"
    assert str(path) in made.launch.argv
    assert written({"argv": made.launch.argv}) == LINES == path.read_text()


def test_of_the_survey(run_directory: RunDirectory, starter_of: Callable[[Script], ScriptedStarter]) -> None:
    said = []

    def script(order: dict[str, Any]) -> list[dict[str, Any]]:
        path = run_directory.path / "survey.hosts"
        said.append(path.read_text() if str(path) in order["argv"] and path.exists() else "nothing")
        return [started("survey"), exited("survey", 1)]

    surveyed(facts(), starter_of(script).link, run_directory, STARTER)
    assert said == [LINES], "it is there when the order comes"


def fanned(run: RunDirectory, starter: ScriptedStarter, launcher: str, jobs: int | None = None) -> dict[str, Any]:
    rig = Rig(surroundings(run, facts(launcher)), starter)
    options = RunOptions(run_dir=run.path.parent, worker=WORKER, jobs=jobs)
    Fanout(rig.driver, options, HELLO, None).start()
    (order,) = (one for one in [starter.next_order()] if one["id"] == f"{STEP}/launch")
    return order


def test_of_one_controller_a_node(run_directory: RunDirectory, starter_of: Callable[[Script], ScriptedStarter]) -> None:
    assert written(fanned(run_directory, starter_of(silent), "mpiexec")) == LINES


def test_jsrun_starts_controllers_on_the_nodes_that_have_a_share_and_on_no_others(
    run_directory: RunDirectory, starter_of: Callable[[Script], ScriptedStarter]
) -> None:
    argv = fanned(run_directory, starter_of(silent), "jsrun", jobs=2)["argv"]
    said = Path(argv[argv.index("--erf_input") + 1]).read_text().splitlines()
    assert [line for line in said if line.startswith("rank")] == [
        f"rank: {rank}: {{ host: {rank + 1}; cpu: {{0-3}} }}" for rank in range(2)
    ]


@pytest.mark.parametrize("launcher", ["flux", "jsrun", "aprun"])
def test_mpi_jobs_stay_with_the_head_where_no_rank_may_call_its_launcher(launcher: str) -> None:
    alone, mpi = (RunOptions(run_dir=Path("runs"), worker=WORKER.model_copy(update={"mode": mode})) for mode in MODES)
    assert (spreads(alone, alike(facts(launcher))), spreads(mpi, alike(facts(launcher)))) == (True, False)
    assert spreads(mpi, alike(facts("srun"))), "which overlaps itself"
    with pytest.raises(BadInputError, match=f"need {launcher}, which cannot be called from inside"):
        spreads(mpi.model_copy(update={"controllers": "node"}), alike(facts(launcher)))
