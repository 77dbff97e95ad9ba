"""A node of four GPUs (a generated /sys) and a library that misbehaves: what `detect` makes of both together."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from detect.systree import SysTree

from pilotwrap.detect.accelerators import accelerators
from pilotwrap.host import observe
from pilotwrap.model.node import Accelerator
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.probe.run import probe_nvml

Environment = Callable[[str], Mapping[str, str]]
ADDRESSES = [f"0000:c{number}:00.0" for number in range(1, 5)]
DEADLINE_S = 1.5
PATIENCE_S = 30.0
START_S = 0.5
"""What a busy machine may add to a probe's own time; the deadline itself counts from before its start."""


@pytest.fixture
def tree(tmp_path: Path) -> SysTree:
    tree = SysTree(tmp_path)
    for minor, address in enumerate(ADDRESSES):
        tree.nvidia(address, minor)
    return tree


def found(tree: SysTree, environment: Mapping[str, str], deadline_s: float = 20.0) -> tuple[Accelerator, ...]:
    said = Snapshot.model_validate(observe.snapshot(str(tree.root)))
    return accelerators(said.model_copy(update={"probes": (probe_nvml(deadline_s, environment),)}))


WELL = None
FAULTS: dict[str, list[str | None]] = {
    "": [WELL] * 4,
    "lost:0": ["lost", WELL, WELL, WELL],
    "lost:2": [WELL, WELL, "lost", WELL],
    "lost:0 denied:3": ["lost", WELL, WELL, "not-granted"],
    "lost-late:1": [WELL, "lost", WELL, WELL],
    "denied:1": [WELL, "not-granted", WELL, WELL],
    "ecc:0": ["ecc", WELL, WELL, WELL],
    "remap-pending:3": [WELL, WELL, WELL, "ecc"],
    "remap-failed:3": [WELL, WELL, WELL, "ecc"],
    "retired:2": [WELL, WELL, "ecc", WELL],
    "prohibited:1": [WELL, "not-granted", WELL, WELL],
    "odd-mode:1 exclusive:2": [WELL] * 4,
    "no-ecc:0": [WELL] * 4,
    "mig-empty:1": [WELL, "mig-without-instances", WELL, WELL],
    "mismatch": ["mismatch"] * 4,
    "no-driver": ["unknown"] * 4,
    "crash-init": ["crash"] * 4,
    "crash:0": ["crash"] * 4,
    "crash:2": [WELL, WELL, "crash", "crash"],
    "crash-late:3": [WELL, WELL, WELL, "crash"],
    "lost:0 crash:2": ["lost", WELL, "crash", "crash"],
    "exit:1": [WELL, "unknown", "unknown", "unknown"],
    "print": [WELL] * 4,
    "scribble:1": [WELL] * 4,
    "garbage:2": [WELL, WELL, "unknown", WELL],
    "nonsense:2": [WELL, WELL, "lost", WELL, "unknown"],
    "stray:2": [WELL, WELL, "lost", WELL, "unknown"],
    "twin:2": [WELL, WELL, "lost", WELL],
    "count-3": [WELL, WELL, WELL, "lost"],
    "count-0": ["lost"] * 4,
    "count-9": [WELL] * 4,
    "count-huge": ["unknown"] * 4,
    "count-refused": ["not-granted"] * 4,
    "slow:0 slow:3": [WELL] * 4,
}


@pytest.mark.parametrize("words", FAULTS)
def test_each_device_has_its_own_verdict(words: str, tree: SysTree, environment: Environment) -> None:
    devices = found(tree, environment(words))
    assert [device.reason for device in devices] == FAULTS[words]
    assert [device.health for device in devices] == ["unusable" if reason else "ok" for reason in FAULTS[words]]
    assert [device.pci_address for device in devices][:4] == ADDRESSES
    assert all(bool(device.detail) == bool(device.reason) for device in devices)


HANGS: dict[str, list[str | None]] = {
    "hang:2": [WELL, WELL, "timeout", "timeout"],
    "hang-late:1": [WELL, "timeout", "timeout", "timeout"],
    "hang-init": ["timeout"] * 4,
    "deaf:1": [WELL, "timeout", "timeout", "timeout"],
    "lost:0 hang:1": ["lost", "timeout", "timeout", "timeout"],
}


@pytest.mark.parametrize("words", HANGS)
def test_a_hang_costs_the_deadline_and_a_second_at_most_and_leaves_nothing(
    words: str, tree: SysTree, environment: Environment
) -> None:
    mark = f"{words} mark-{tree.root.name}-{os.getpid()}"
    begun = time.monotonic()
    devices = found(tree, environment(mark), DEADLINE_S)
    assert time.monotonic() - begun < DEADLINE_S + 1 + START_S
    assert [device.reason for device in devices] == HANGS[words]
    until = time.monotonic() + PATIENCE_S
    while marked(mark):
        assert time.monotonic() < until, "a process of the probe is left"
        time.sleep(0.01)


def marked(mark: str) -> list[int]:
    """Return the processes that live with the mark in their environment; a zombie has none."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                pids.append(int(folder.name))
        except OSError:  # noqa: PERF203 - each may end while we look, or be another user's
            continue
    return pids


def test_the_culprit_is_named_and_the_rest_was_not_asked(tree: SysTree, environment: Environment) -> None:
    devices = found(tree, environment("crash:2"))
    assert devices[2].detail == "NVML ended the probe by signal 11 in nvmlDeviceGetHandleByIndex of GPU 2"
    assert devices[3].detail == f"not asked: GPU 2 ended the probe ({devices[2].detail})"


def test_a_device_that_the_container_lost_is_named_as_such(tree: SysTree, environment: Environment) -> None:
    assert found(tree, environment("count-3"))[3].detail.startswith("the container lost it: the host shows it")
    for place in (tree.root / "proc/driver/nvidia/gpus" / ADDRESSES[3]).iterdir():
        place.unlink()
    (tree.root / "proc/driver/nvidia/gpus" / ADDRESSES[3]).rmdir()
    assert found(tree, environment("count-3"))[3].detail.startswith("the host's driver lost it")


def test_a_device_that_nvml_calls_well_and_the_driver_s_files_lack_is_lost_as_its_rank_would_find(
    tree: SysTree, environment: Environment
) -> None:
    (tree.root / "proc/driver/nvidia/gpus" / ADDRESSES[1] / "information").unlink()
    assert [device.reason for device in found(tree, environment(""))] == [None, "lost", None, None]


def test_a_healthy_device_has_all_that_is_known_of_it(tree: SysTree, environment: Environment) -> None:
    first = found(tree, environment("exclusive:0"))[0]
    assert first == Accelerator(
        vendor="nvidia",
        model="NVIDIA A100-SXM4-40GB",
        uuid="GPU-00000000",
        pci_address=ADDRESSES[0],
        kind="gpu",
        memory_mib=40960,
        driver="550.54.15",
        health="ok",
        numa_node=0,
        near_cpus="0",
        framework_version="12.4",
        compute_mode="exclusive-process",
    )


def test_mig_instances_are_devices_of_their_own(tree: SysTree, environment: Environment) -> None:
    devices = found(tree, environment("mig:1 mig-empty:2"))
    assert [(one.kind, one.part, one.reason) for one in devices] == [
        ("gpu", None, None),
        *[("mig", place, None) for place in (0, 3, 6)],
        ("gpu", None, "mig-without-instances"),
        ("gpu", None, None),
    ]


def test_without_a_bus_nvml_alone_is_believed(tmp_path: Path, environment: Environment) -> None:
    devices = found(SysTree(tmp_path), environment("lost:2"))
    assert [(one.pci_address, one.reason) for one in devices] == [
        (ADDRESSES[0], None),
        (ADDRESSES[1], None),
        (ADDRESSES[3], None),
        ("", "lost"),
    ]


def test_a_healthy_node_is_probed_within_150_ms(environment: Environment) -> None:
    spent = []
    for _ in range(10):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert probe_nvml(20.0, environment("")).exit == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) <= 0.15  # of work: what it waits for, other tests that run beside it also have


@pytest.mark.parametrize("words", ["", "print", "hang:2", "crash:2", "mismatch"])
def test_inspect_prints_json_alone_whatever_the_driver_does(
    words: str, tree: SysTree, environment: Environment
) -> None:
    argv = [sys.executable, "-m", "pilotwrap", "inspect", "--json", "--sysroot", str(tree.root)]
    env = {**environment(words), "PILOTWRAP_PROBE_TIMEOUT": str(DEADLINE_S)}
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env=env, timeout=PATIENCE_S)
    expected = {**FAULTS, **HANGS}[words]
    assert [device["reason"] for device in json.loads(said.stdout)["accelerators"]] == expected
