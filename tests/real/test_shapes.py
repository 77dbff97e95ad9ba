"""Jobs of many shapes in one allocation of a real Slurm of four nodes, and one controller on each of them."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from real import processes
from real.slurm import Slurm, started, why_not
from real.worker import IN_A_STEP, PROGRAM, REPOSITORY, Worker, lab, until

from pilotwrap.lab.process import LabProcess

__all__ = ["lab"]

CORES = len(os.sched_getaffinity(0))
"""All nodes are this host."""

ONE_NODE = {"command": ["/bin/sh"], "cpus_per_rank": 1}
WAYS = pytest.mark.parametrize("within", [(), IN_A_STEP], ids=["in the batch shell", "in a step"])


@pytest.fixture(scope="module")
def four() -> Iterator[Slurm]:
    if reason := why_not():
        pytest.skip(reason)
    with started(4) as running:
        yield running


@pytest.fixture
def wide(four: Slurm, lab: object, tmp_path: Path) -> Iterator[Worker]:
    made = Worker(four, lab, tmp_path)  # type: ignore[arg-type]
    yield made
    made.end()


@pytest.fixture
def alone(lab: object, tmp_path: Path) -> Iterator[Worker]:
    """Give a worker on a Slurm of its own: a node that was killed under another test is long in letting a job go."""
    if reason := why_not():
        pytest.skip(reason)
    with started(2) as running:
        made = Worker(running, lab, tmp_path)  # type: ignore[arg-type]
        yield made
        made.end()


def shape(worker: Worker, **values: object) -> str:
    path = worker.home / "worker.json"
    path.write_text(json.dumps({**ONE_NODE, **values}))
    return str(path)


def each_once(worker: Worker, ids: Sequence[int]) -> None:
    for panda_id in ids:
        job = worker.verdict(panda_id)
        assert (job["state"], job["reports"]) == ("finished", 1), job


@WAYS
def test_one_controller_a_node_fetches_and_all_is_one_report(wide: Worker, within: Sequence[str]) -> None:
    ids = [wide.put(["sh", "-c", "echo $SLURMD_NODENAME; sleep 1"]) for _ in range(16)]
    wide.start("--spec", shape(wide), within=within, lasting=True)
    wide.done()
    each_once(wide, ids)
    report = wide.report()
    assert (report["state"], report["job_count"], (wide.home / "code").read_text()) == ("finished", 16, "0\n"), wide.log
    assert sorted({line for panda_id in ids for line in wide.printed(panda_id)}) == list(wide.slurm.nodes)
    nodes = [json.loads(line) for line in Path(report["outcome"]["path"]).read_text().splitlines()]
    assert [node["host"] for node in nodes] == list(wide.slurm.nodes)
    wide.nothing_left()


def test_the_number_of_jobs_is_shared_out(wide: Worker) -> None:
    for _ in range(8):
        wide.put(["true"])
    wide.start("--spec", shape(wide), "--jobs", "6", lasting=True)
    wide.done()
    assert wide.report()["job_count"] == 6, wide.log
    wide.nothing_left()


def waiting_jobs(wide: Worker, within: Sequence[str], count: int = 4) -> list[int]:
    """Start a job on each node, which ends when the file `go` is there.

    A plain `wait` would be 0 also when scancel's signal reaches what is waited for before the shell itself.
    """
    script = f"echo begun; until [ -e {wide.home}/go ]; do sleep 0.2; done & wait $!"
    ids = [wide.put(["sh", "-c", script], cpus_per_rank=CORES) for _ in range(count)]
    wide.start("--spec", shape(wide, cpus_per_rank=CORES), within=within, lasting=True)
    for panda_id in ids:
        wide.running(panda_id, 1)
    return ids


def head(wide: Worker) -> int:
    """Return the head's starter: of all that have its command line it is the oldest."""
    begins = " ".join([*PROGRAM, "run "])
    return min(pid for pid, line in wide.processes().items() if line.startswith(begins) and "--part" not in line)


def failed_once(worker: Worker, ids: Sequence[int]) -> None:
    for panda_id in ids:
        until(lambda panda_id=panda_id: worker.told(panda_id), f"told; {worker.log}")  # type: ignore[misc]
        job = worker.listed(panda_id)
        assert (job["state"], job["reports"]) == ("failed", 1), job


@WAYS
def test_term_to_the_head_ends_all_nodes_and_each_job_is_told_once(wide: Worker, within: Sequence[str]) -> None:
    ids = waiting_jobs(wide, within)
    os.kill(head(wide), signal.SIGTERM)
    wide.done()
    assert (wide.home / "code").read_text() == "143\n", wide.log
    assert wide.report()["state"] == "cancelled"
    wide.nothing_left()
    failed_once(wide, ids)


@WAYS
def test_the_head_killed_ends_all_nodes_and_each_job_is_told_once(wide: Worker, within: Sequence[str]) -> None:
    ids = waiting_jobs(wide, within)
    os.kill(head(wide), signal.SIGKILL)
    wide.nothing_left(30)
    failed_once(wide, ids)


@WAYS
def test_scancel_ends_all_nodes_and_each_job_is_told_once(wide: Worker, within: Sequence[str]) -> None:
    ids = waiting_jobs(wide, within)
    wide.slurm.cancel(wide.job_id)
    wide.ended()
    wide.nothing_left()
    wide.flush()
    failed_once(wide, ids)


@WAYS
def test_a_killed_node_is_named_and_flush_tells_what_it_left(wide: Worker, within: Sequence[str]) -> None:
    ids = waiting_jobs(wide, within)
    gone = wide.slurm.nodes[2]
    on_it = [f"SLURMD_NODENAME={gone}\0", f"SLURM_JOB_ID={wide.job_id}\0"]
    for pid in set(processes.marked(on_it[0])) & set(processes.marked(on_it[1])):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    (wide.home / "go").touch()
    wide.done()
    report = wide.report()
    assert (report["state"], report["reason"], (wide.home / "code").read_text()) == ("failed", "node-lost", "3\n")
    assert gone in report["detail"]
    assert report["job_count"] == 3
    wide.nothing_left()
    wide.flush()
    ends = sorted((wide.verdict(panda_id)["state"], wide.verdict(panda_id)["reports"]) for panda_id in ids)
    assert ends == [("failed", 1), ("finished", 1), ("finished", 1), ("finished", 1)]


# ---- many shapes from one head


def listed(worker: Worker, specs: Sequence[object]) -> list[str]:
    """Write a list of specs, and return the words that run it."""
    path = worker.home / "jobs.json"
    path.write_text(json.dumps(specs))
    runs = str(worker.home / "runs")
    return [*PROGRAM, "run", "--json", "--spec", str(path), "--run-dir", runs]


def submitted(worker: Worker, words: Sequence[str], within: Sequence[str] = (), minutes: int = 5) -> None:
    """Run these words in a batch job over all nodes, in a script that outlives them."""
    line = shlex.join([*within, *words]) + " > report.json 2> log; echo $? > code; exec sleep 600"
    script = f"#!/bin/sh\ncd {shlex.quote(str(worker.home))}\necho $$ > shell\n{line}\n"
    worker.job_id = worker.slurm.sbatch(script, "--nodes=4", "--ntasks-per-node=4", f"--time={minutes}")
    worker.submitted.append(worker.job_id)


def use(worker: Worker) -> list[tuple[float, float, str, int]]:
    """Return when each rank ran, on which node, with how many cores: as the payloads themselves noted it."""
    found = []
    for path in (worker.home / "notes").iterdir():
        began, ended, host, cores = path.read_text().split()
        found.append((float(began), float(ended), host, int(cores)))
    return found


def never_over_committed(ran: Sequence[tuple[float, float, str, int]]) -> None:
    for at, _, host, _ in ran:
        assert sum(cores for began, ended, where, cores in ran if where == host and began <= at < ended) <= CORES


NOTE = (
    "began=$(date +%s.%N); sleep {seconds}; "
    "echo $began $(date +%s.%N) $SLURMD_NODENAME {cores} > {notes}/$$-$PILOTWRAP_RANK-$began"
)


def noting(worker: Worker, seconds: float, nodes: int = 1, cores: int = CORES) -> dict[str, object]:
    (worker.home / "notes").mkdir(exist_ok=True)
    script = NOTE.format(seconds=seconds, cores=cores, notes=worker.home / "notes")
    return {"command": ["sh", "-c", script], "nodes": nodes, "cpus_per_rank": cores, "walltime_s": 2 * seconds + 5}


@WAYS
def test_jobs_of_one_and_three_nodes_run_at_the_same_time(wide: Worker, within: Sequence[str]) -> None:
    submitted(wide, listed(wide, [noting(wide, 3), noting(wide, 3, nodes=3)]), within)
    wide.done()
    ran = use(wide)
    assert sorted(host for _, _, host, _ in ran) == list(wide.slurm.nodes), wide.log
    assert max(began for began, *_ in ran) < min(ended for _, ended, *_ in ran)
    assert (wide.report()["state"], wide.report()["job_count"]) == ("finished", 2)
    wide.nothing_left()


@WAYS
def test_many_random_shapes_fill_the_allocation_and_never_over_commit_it(wide: Worker, within: Sequence[str]) -> None:
    chance = random.Random(5)  # noqa: S311 - the same shapes in every run
    specs = []
    for _ in range(24):
        whole = chance.random() < 0.5
        nodes, cores = (chance.randint(1, 4), CORES) if whole else (1, chance.randint(1, CORES))
        specs.append(noting(wide, round(chance.uniform(1, 3), 2), nodes, cores))
    submitted(wide, listed(wide, specs), within, minutes=30)
    until((wide.home / "code").exists, "the end", 900)
    report = wide.report()
    assert (report["state"], report["job_count"]) == ("finished", len(specs)), wide.log
    ran = use(wide)
    assert len(ran) == sum(int(str(spec["nodes"])) for spec in specs)
    never_over_committed(ran)
    wide.nothing_left()


# ---- once more


@WAYS
def test_a_requeued_batch_job_tells_what_its_earlier_life_left_before_it_fetches(
    alone: Worker, within: Sequence[str]
) -> None:
    lost = alone.put(["sh", "-c", "echo begun; exec sleep 300"], cpus_per_rank=CORES)
    alone.start("--controllers", "head", within=within, lasting=True)
    alone.running(lost, 1)
    os.kill(alone.controller, signal.SIGKILL)
    alone.done()
    assert not alone.told(lost)
    later = alone.put(["true"])
    alone.slurm.run(["scontrol", "requeue", str(alone.job_id)])
    alone.begun_again()
    alone.verdict(later)
    job = alone.listed(lost)
    assert (job["state"], job["reports"]) == ("failed", 1), (job, alone.log)
    each_once(alone, [later])


def test_at_the_end_of_the_time_every_node_stops_itself_and_tells(four: Slurm, lab: LabProcess, tmp_path: Path) -> None:
    """Both ways in the same minute. The head inside of a step hears of the end from nobody but its own clock."""
    begun: list[tuple[Worker, list[int]]] = []
    for name, within in (("shell", ()), ("step", IN_A_STEP)):
        home = tmp_path / f"{tmp_path.name}-{name}"
        home.mkdir()
        worker = Worker(four, lab, home)
        ids = [worker.put(["sh", "-c", "echo begun; exec sleep 300"], cpus_per_rank=CORES) for _ in range(4)]
        worker.start("--spec", shape(worker, cpus_per_rank=CORES), within=within, minutes=1, lasting=True)
        begun.append((worker, ids))
    for worker, ids in begun:
        until((worker.home / "code").exists, "the end", 80)
        report = worker.report()
        assert (report["state"], report["reason"]) == ("failed", "walltime"), worker.log
        assert (worker.home / "code").read_text() == "124\n"
        worker.nothing_left()
        failed_once(worker, ids)
        worker.end()


DRIVER = """
import json, sys
sys.path.insert(0, {examples!r})
from driver import Steps
steps, left = Steps(), 3
steps.ask("three", command=["sh", "-c", "echo $SLURMD_NODENAME; sleep 2"], nodes=3, mode="mpi")
steps.ask("one", command=["sh", "-c", "echo $SLURMD_NODENAME; sleep 2"])
steps.ask("five", command=["true"], nodes=5)
print(steps.here["nodes"])
while left:
    word = steps.hear()
    if word["event"] == "ended":
        left -= 1
        said = open(word["directory"] + "/stdout").read().split() if word["id"] != "five" else []
        print(word["id"], word["reason"], *sorted(said))
"""


@WAYS
def test_a_driver_has_steps_of_several_nodes_side_by_side(wide: Worker, within: Sequence[str]) -> None:
    program = wide.home / "driver.py"
    program.write_text(DRIVER.format(examples=str(REPOSITORY / "examples")))
    spec = {"command": [sys.executable, "-B", str(program)], "mode": "driver", "nodes": 4}
    submitted(wide, listed(wide, [spec]), within)
    wide.done()
    assert wide.report()["state"] == "finished", wide.log
    (printed,) = (wide.home / "runs").glob("??/*/jobs/spec-0/stdout")
    nodes, *words = printed.read_text().splitlines()
    assert nodes == str(list(wide.slurm.nodes))
    ends = {line.split()[0]: line.split()[1:] for line in words}
    assert ends["five"] == ["bad-input"]
    assert sorted([*ends["three"], *ends["one"]]) == sorted(["ok", "ok", *wide.slurm.nodes])
    wide.nothing_left()


SLEEPING_DRIVER = """
import sys
sys.path.insert(0, {examples!r})
from driver import Steps
steps = Steps()
steps.ask("three", command=["sh", "-c", "echo begun; exec sleep 300"], nodes=3, ranks_per_node=1, mode="mpi")
steps.ask("one", command=["sh", "-c", "echo begun; exec sleep 300"])
while True:
    steps.hear()
"""


@WAYS
def test_a_driver_that_is_stopped_leaves_no_step_anywhere(wide: Worker, within: Sequence[str]) -> None:
    program = wide.home / "driver.py"
    program.write_text(SLEEPING_DRIVER.format(examples=str(REPOSITORY / "examples")))
    spec = {"command": [sys.executable, "-B", str(program)], "mode": "driver", "nodes": 4}
    submitted(wide, listed(wide, [spec]), within)

    def begun() -> int:
        return sum(path.read_text().count("begun") for path in (wide.home / "runs").glob("??/*/jobs/**/stdout"))

    until(lambda: begun() == 4, f"all ranks of both steps; {wide.log}")
    os.kill(head(wide), signal.SIGTERM)
    wide.done()
    wide.nothing_left()
    assert (wide.report()["reason"], (wide.home / "code").read_text()) == ("cancelled", "143\n"), wide.log
