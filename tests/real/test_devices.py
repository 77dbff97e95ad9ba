"""Devices on a real Slurm of four nodes with four GPUs each, once without and once with its device constraint."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from probe.conftest import library
from real.gres import ADDRESSES, CGROUP, CPUS, GPUS, Gpus, near, why_not_constrained
from real.slurm import Slurm, started, why_not
from real.worker import IN_A_STEP, PROGRAM, Worker, lab, until

__all__ = ["lab", "library"]

IN_A_BARE_STEP = (*IN_A_STEP, "--gres=none")
"""An outer step that holds no device."""

PLACES = {"in the batch shell": (), "in a step": IN_A_STEP, "in a step without devices": IN_A_BARE_STEP}
FEWER_PLACES = [name for name in PLACES if name != "in a step"]
HOLDING = [name for name in PLACES if name != "in a step without devices"]
ALL_GPUS = (f"--gres=gpu:{GPUS}",)
LIST_CPUS = "$(sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status)"
SHOW = f'echo "$SLURMD_NODENAME ${{CUDA_VISIBLE_DEVICES-none}} {LIST_CPUS}"'


class Site:
    """A Slurm, and the GPUs of its nodes."""

    def __init__(self, slurm: Slurm, gpus: Gpus, *, constrained: bool) -> None:
        self.slurm = slurm
        self.gpus = gpus
        self.constrained = constrained


def four_nodes_gpus(folder: Path) -> Gpus:
    """Make the devices of four nodes."""
    gpus = Gpus(folder, tuple(f"node{number}" for number in range(1, 5)))
    gpus.make()
    if reason := gpus.why_not():
        pytest.skip(reason)
    return gpus


@pytest.fixture(scope="module", params=[False, True], ids=["not constrained", "constrained"])
def site(request: pytest.FixtureRequest, library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    constrained = bool(request.param)
    if reason := why_not() or (why_not_constrained() if constrained else None):
        pytest.skip(reason)
    gpus = four_nodes_gpus(tmp_path_factory.mktemp("gpus"))
    with started(4, gpus.variant(library, constrained=constrained)) as running:
        yield Site(running, gpus, constrained=constrained)
    for left in CGROUP.glob("devices/slurm_node[1-4]"):
        with suppress(OSError):  # another Slurm's
            left.rmdir()


@pytest.fixture
def wide(site: Site, lab: object, tmp_path: Path) -> Iterator[Worker]:
    site.gpus.recover()
    made = Worker(site.slurm, lab, tmp_path)  # type: ignore[arg-type]
    yield made
    made.end()


def run(worker: Worker, *options: str, within: Sequence[str] = (), asking: Sequence[str] = ALL_GPUS) -> None:
    """Run the worker to its end in a batch job over all nodes."""
    worker.start("--controllers", "head", *options, within=within, lasting=True, asking=asking)
    worker.done()


def code(worker: Worker) -> int:
    return int((worker.home / "code").read_text())


def shown(worker: Worker, panda_id: int) -> list[list[str]]:
    """Return what each rank saw: its node, the mask of its devices, its CPUs."""
    job = worker.verdict(panda_id)
    assert (job["state"], job["reports"]) == ("finished", 1), (job["pilot_error_diag"], worker.log)
    return [line.split() for line in worker.printed(panda_id)]


def spec(worker: Worker, **shape: object) -> Sequence[str]:
    """Write the shape in which jobs are fetched, and return the words that give it."""
    path = worker.home / "worker.json"
    path.write_text(json.dumps({"command": ["/bin/sh"], **shape}))
    return "--spec", str(path)


@pytest.mark.parametrize("place", PLACES)
def test_eight_ranks_over_two_nodes_have_a_device_each(wide: Worker, place: str) -> None:
    panda_id = wide.put(["sh", "-c", SHOW], mode="mpi", nodes=2, ranks_per_node=4, gpus_per_rank=1)
    run(wide, within=PLACES[place])
    seen = shown(wide, panda_id)
    assert sorted((node, mask) for node, mask, _ in seen) == [
        (node, str(gpu)) for node in ("node1", "node2") for gpu in range(4)
    ]
    wide.nothing_left()


@pytest.mark.parametrize("place", PLACES)
def test_each_rank_has_the_cores_next_to_its_device(wide: Worker, place: str) -> None:
    panda_id = wide.put(["sh", "-c", SHOW], mode="mpi", nodes=4, ranks_per_node=2, cpus_per_rank=1, gpus_per_rank=1)
    run(wide, within=PLACES[place])
    assert sorted(shown(wide, panda_id)) == [
        [node, str(gpu), str(near(gpu))] for node in wide.slurm.nodes for gpu in range(2)
    ]
    wide.nothing_left()


OPEN = """
for device in ROOT/$SLURMD_NODENAME/dev/nvidia*; do
    { head -c0 "$device" 2>&1 || true; } | grep -q permitted || open="$open ${device##*nvidia}"
done
echo $SLURMD_NODENAME ${CUDA_VISIBLE_DEVICES-none} $open
"""
"""Names what the kernel lets a rank open: with no driver behind it that ends with "No such device"."""


def opening(site: Site) -> list[str]:
    return ["sh", "-c", OPEN.replace("ROOT", str(site.gpus.root))]


def numbers(mask: str) -> list[int]:
    """Return a mask's devices as numbers: by UUID or along the bus."""
    return [int(word.removeprefix("GPU-")) for word in mask.split(",")]


@pytest.mark.parametrize("place", PLACES)
def test_a_job_of_the_head_s_own_node_may_open_its_devices(site: Site, wide: Worker, place: str) -> None:
    panda_id = wide.put(opening(site), gpus_per_rank=2, cpus_per_rank=1)
    run(wide, "--jobs", "1", within=PLACES[place])
    ((node, mask, *opened),) = shown(wide, panda_id)
    assert (node, numbers(mask)) == ("node1", [0, 1])
    assert {"0", "1"} <= set(opened)


@pytest.mark.parametrize("place", PLACES)
def test_a_dead_device_sets_its_node_aside_by_name_and_the_others_work(site: Site, wide: Worker, place: str) -> None:
    site.gpus.lose("node2", 1)
    panda_id = wide.put(["sh", "-c", SHOW], mode="mpi", nodes=3, ranks_per_node=2, cpus_per_rank=1, gpus_per_rank=1)
    run(wide, within=PLACES[place])
    assert {node for node, *_ in shown(wide, panda_id)} == {"node1", "node3", "node4"}
    assert f"{ADDRESSES[1]} is unusable: lost" in set_aside(wide)["node2"]
    wide.nothing_left()


def set_aside(worker: Worker) -> dict[str, str]:
    """Return why nodes were set aside, as the report tells."""
    said = (entry["what"].partition(" was set aside: ") for entry in worker.report()["timeline"])
    return {node: why for node, found, why in said if found}


@pytest.mark.parametrize("place", HOLDING)
def test_too_few_nodes_left_end_it_before_a_job_is_fetched_unless_fewer_will_do(
    site: Site, wide: Worker, place: str
) -> None:
    site.gpus.fall_off("node3", 0)
    shape = spec(wide, mode="mpi", nodes=4, ranks_per_node=2, cpus_per_rank=1, gpus_per_rank=1)
    panda_id = wide.put(["sh", "-c", SHOW], mode="mpi", nodes=4, ranks_per_node=2, cpus_per_rank=1, gpus_per_rank=1)
    run(wide, *shape, within=PLACES[place])
    report = wide.report()
    assert (code(wide), report["reason"], report["job_count"]) == (3, "allocation", 0), wide.log
    assert "node3: nvidia" in report["detail"]
    assert f"{ADDRESSES[0]} is unusable: lost, it does not answer on the bus" in report["detail"]
    assert wide.listed(panda_id)["state"] == "activated"
    wide.slurm.cancel(wide.job_id)
    (wide.home / "code").unlink()
    run(wide, *shape, "--accept-fewer", within=PLACES[place])
    assert sorted({node for node, *_ in shown(wide, panda_id)}) == ["node1", "node2", "node4"]


def test_a_device_that_is_not_the_job_s_is_listed_with_the_reason(site: Site) -> None:
    """Without the constraint a variable hides it; with it the kernel refuses to open it."""
    words = ["srun", "--nodes=1", "--ntasks=1", "--gres=gpu:2", *PROGRAM, "inspect", "--json"]
    site.gpus.recover()
    found = json.loads(site.slurm.run(words).stdout)["accelerators"]
    why = "not-granted" if site.constrained else "masked"
    assert [(one["pci_address"], one["reason"]) for one in found] == list(
        zip(ADDRESSES, [None, None, why, why], strict=True)
    )


@pytest.mark.parametrize("place", FEWER_PLACES)
def test_a_node_where_others_hold_a_device_gives_the_rest(site: Site, wide: Worker, place: str) -> None:
    """Its numbers mean other devices than its peers', so it gets jobs of its own only."""
    other = wide.slurm.sbatch("#!/bin/sh\nexec sleep 300\n", "--nodelist=node2", "--gres=gpu:1", "--mem=100")
    wide.submitted.append(other)
    wide.slurm.reach(other, frozenset({"RUNNING"}))
    apart = [wide.put(opening(site), gpus_per_rank=3, cpus_per_rank=len(CPUS)) for _ in range(4)]
    together = wide.put(opening(site), mode="mpi", nodes=3, ranks_per_node=1, gpus_per_rank=3)
    run(wide, within=PLACES[place], asking=("--gres=gpu:3", "--mem=1000"))
    assert sorted(node for node, *_ in shown(wide, together)) == ["node1", "node3", "node4"]
    for node, mask, *opened in [line for panda_id in (*apart, together) for line in shown(wide, panda_id)]:
        ours = [1, 2, 3] if node == "node2" else [0, 1, 2]
        assert numbers(mask) == ours
        assert [int(one) for one in opened] == (ours if site.constrained else [0, 1, 2, 3])


NOTE = """
began=$(date +%s.%N); sleep 1
echo $began $(date +%s.%N) $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES
"""


@pytest.mark.parametrize("place", HOLDING)
def test_jobs_of_one_device_each_share_a_node_and_never_a_device(wide: Worker, place: str) -> None:
    ids = [wide.put(["sh", "-c", NOTE], gpus_per_rank=1, cpus_per_rank=1) for _ in range(4 * GPUS)]
    run(wide, within=PLACES[place], asking=("--nodes=2", *ALL_GPUS))
    ran = [(float(words[0]), float(words[1]), *words[2:]) for one in ids for words in shown(wide, one)]
    most = 0
    for at, *_ in ran:
        held = [(node, mask) for began, ended, node, mask in ran if began <= at < ended]
        assert len(held) == len(set(held))
        most = max(most, len(held))
    assert most >= min(GPUS, len(CPUS)) + 1, "nodes are shared, and both of them used"


ILL = {
    "ecc:2": (2, "ecc, 3 uncorrectable memory errors since the driver was loaded"),
    "mismatch": (0, "mismatch, nvmlInit: "),
    "hang:1": (1, "timeout, NVML did not answer in time in nvmlDeviceGetHandleByIndex of GPU 1"),
    "crash:3": (3, "crash, NVML ended the probe by signal 11 in nvmlDeviceGetHandleByIndex of GPU 3"),
}
"""What a node's NVML does, and what is said of which device of its: to their files nothing ails them."""

PROBE_S = 3.0


def ended_early(place: str) -> Sequence[str]:
    """Return the words that give the probe a short time, and go into an outer step for a place that is one."""
    return "env", f"PILOTWRAP_PROBE_TIMEOUT={PROBE_S}", *PLACES[place]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("node", ["node1", "node3"])
def test_what_nvml_alone_knows_of_any_node_sets_it_aside(site: Site, wide: Worker, node: str, place: str) -> None:
    """The head's own too, where the step that it is in may open no device."""
    words = "ecc:2"
    check_set_aside(site, wide, (node, words), place)


@pytest.mark.parametrize("words", [words for words in ILL if words != "ecc:2"])
def test_a_node_whose_nvml_hangs_crashes_or_refuses_is_set_aside_in_time(site: Site, wide: Worker, words: str) -> None:
    check_set_aside(site, wide, ("node3", words), "in a step")
    if words == "hang:1":
        assert PROBE_S < survey_s(wide) < PROBE_S + 1.0 + OBSERVED_S
    else:
        assert survey_s(wide) < PROBE_S


OBSERVED_S = 2.0
"""For srun and for what else the survey looks at, on a machine that has much to do (0.4 s measured)."""


def survey_s(worker: Worker) -> float:
    """Return how long the survey took: from its order until its last answer."""
    answers = worker.run_dir / "survey"
    return (
        max(path.stat().st_mtime for path in answers.iterdir()) - (worker.run_dir / "survey.probe.json").stat().st_mtime
    )


def check_set_aside(site: Site, worker: Worker, ill: tuple[str, str], place: str) -> None:
    """Have a node's NVML do so, and see a job of three nodes run on the others."""
    node, words = ill
    gpu, why = ILL[words]
    site.gpus.misbehave(node, words)
    panda_id = worker.put(["sh", "-c", SHOW], mode="mpi", nodes=3, ranks_per_node=1, cpus_per_rank=1, gpus_per_rank=1)
    run(worker, within=ended_early(place))
    assert {name for name, *_ in shown(worker, panda_id)} == set(worker.slurm.nodes) - {node}
    assert set(set_aside(worker)) == {node}
    assert f"{ADDRESSES[gpu]} is unusable: {why}" in set_aside(worker)[node]
    worker.nothing_left()


@pytest.mark.parametrize("place", HOLDING)
def test_a_stop_does_not_wait_for_a_node_whose_nvml_hangs(site: Site, wide: Worker, place: str) -> None:
    """It has half a minute, and the survey with it."""
    site.gpus.misbehave("node3", "hang:1")
    panda_id = wide.put(["true"])
    wide.start("--controllers", "head", within=PLACES[place], lasting=True, asking=ALL_GPUS)
    until(lambda: wide.answers() == len(wide.slurm.nodes) - 1, f"all other nodes have answered; {wide.log}")
    begun = time.monotonic()
    wide.term()
    wide.done()
    assert time.monotonic() - begun < STOPPED_S
    assert (code(wide), wide.listed(panda_id)["state"]) == (143, "activated")
    wide.nothing_left()


STOPPED_S = 8.0
"""Five seconds (docs/running.md), on a machine that has much else to do."""


@pytest.mark.parametrize("place", FEWER_PLACES)
def test_each_node_s_own_controller_leaves_out_what_its_nvml_calls_dead(site: Site, wide: Worker, place: str) -> None:
    site.gpus.misbehave("node3", "ecc:0 lost:2")
    ids = [wide.put(opening(site), gpus_per_rank=2, cpus_per_rank=1) for _ in range(8)]
    words = (*spec(wide, gpus_per_rank=2, cpus_per_rank=1), "--jobs", "8")
    wide.start(*words, within=PLACES[place], lasting=True, asking=ALL_GPUS)
    wide.done()
    used = {(node, *numbers(mask)) for one in ids for node, mask, *_ in shown(wide, one)}
    assert {node for node, *_ in used} == set(wide.slurm.nodes)
    assert {place[1:] for place in used if place[0] == "node3"} == {(1, 3)}
