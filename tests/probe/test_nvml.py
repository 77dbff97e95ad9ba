"""The probe against a library that behaves, hangs, crashes, prints and lies (built here from fake_nvml.c)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pilotwrap.model.snapshot import ProbeSaid
from pilotwrap.probe.nvml import pci_address
from pilotwrap.probe.run import probe_nvml

Probe = Callable[..., ProbeSaid]


@pytest.fixture
def probe(environment: Callable[[str], Mapping[str, str]]) -> Probe:
    return lambda words="", deadline_s=20.0: probe_nvml(deadline_s, environment(words))


def devices(said: ProbeSaid) -> list[dict[str, str | int | float | bool | None]]:
    return [record for record in said.records if record["kind"] == "device"]


def errors(said: ProbeSaid) -> list[dict[str, str | int | float | bool | None]]:
    return [record for record in said.records if record["kind"] == "error"]


def processes_with(word: str) -> list[int]:
    """Return the processes whose environment holds the word; those of others cannot be read and are not ours."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # noqa: PERF203 - each may end while we look
            continue
    return found


def test_healthy_devices_are_named_with_their_sysfs_address(probe: Probe) -> None:
    said = probe()
    assert (said.exit, said.timed_out, said.detail) == (0, False, "")
    assert [device["pci_address"] for device in devices(said)] == [f"0000:c{index}:00.0" for index in range(1, 5)]
    assert {device["health"] for device in devices(said)} == {"ok"}
    assert devices(said)[2]["uuid"] == "GPU-00000002"
    assert devices(said)[2]["memory_mib"] == 40960
    assert devices(said)[2]["model"] == "NVIDIA A100-SXM4-40GB"
    assert {"kind": "driver", "version": "550.54.15", "cuda": "12.4"} in said.records
    assert {(device["compute_mode"], device["speed"]) for device in devices(said)} == {("default", 6912 * 1410)}
    assert said.records[-1] == {"kind": "end", "devices": 4}


def test_what_was_found_before_a_crash_counts_and_the_culprit_is_named(probe: Probe) -> None:
    said = probe("crash:2")
    assert [device["index"] for device in devices(said)] == [0, 1]
    assert said.exit == -11
    assert not said.timed_out
    assert said.detail == "NVML ended the probe by signal 11 in nvmlDeviceGetHandleByIndex of GPU 2"
    assert errors(said)[0]["reason"] == "crash"
    assert errors(said)[0]["index"] == 2


def test_a_hang_ends_at_the_deadline_and_what_was_found_counts(probe: Probe) -> None:
    start = time.monotonic()
    said = probe("hang:2 mark-of-hang", deadline_s=1.5)
    assert time.monotonic() - start < 4.0
    assert said.timed_out
    assert said.exit == -9
    assert [device["index"] for device in devices(said)] == [0, 1]
    assert errors(said)[0]["reason"] == "timeout"
    assert "GPU 2" in said.detail
    assert not processes_with("mark-of-hang")


def test_a_hang_of_the_whole_library_has_no_gpu_to_blame(probe: Probe) -> None:
    said = probe("hang-init", deadline_s=1.0)
    assert said.timed_out
    assert said.detail == "NVML did not answer in time in nvmlInit"


def test_a_grandchild_that_holds_the_pipe_neither_delays_nor_stays(probe: Probe) -> None:
    start = time.monotonic()
    said = probe("fork:1 mark-of-fork")
    assert time.monotonic() - start < 10.0
    assert len(devices(said)) == 4
    assert not said.timed_out
    _wait_for(lambda: not processes_with("mark-of-fork"))


def test_a_child_that_cannot_be_killed_is_left_behind(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, _signal: asked.append(group))  # as if it slept in the driver
    start = time.monotonic()
    said = probe("hang:1 mark-of-stuck", deadline_s=1.5)
    assert time.monotonic() - start < 2.5
    assert (said.exit, said.timed_out, len(devices(said))) == (None, True, 1)
    assert asked
    os.kill(asked[0], signal.SIGKILL)
    os.waitpid(asked[0], 0)


def test_a_library_that_exits_is_no_success(probe: Probe) -> None:
    said = probe("exit:1")
    assert said.exit == 7
    assert errors(said)[0]["reason"] == "unknown"
    assert len(devices(said)) == 1


def test_what_the_library_prints_is_not_heard(probe: Probe) -> None:
    said = probe("print")
    assert [device["index"] for device in devices(said)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("lost", "lost"),
        ("lost-late", "lost"),
        ("denied", "not-granted"),
        ("ecc", "ecc"),
        ("remap-pending", "ecc"),
        ("remap-failed", "ecc"),
        ("retired", "ecc"),
        ("prohibited", "not-granted"),
        ("mig-empty", "mig-without-instances"),
    ],
)
def test_an_ill_device_is_listed_as_unusable_with_its_reason(probe: Probe, word: str, reason: str) -> None:
    said = probe(f"{word}:1")
    assert [device["health"] for device in devices(said)] == ["ok", "unusable", "ok", "ok"]
    assert devices(said)[1]["reason"] == reason
    assert devices(said)[1]["detail"]
    assert said.records[-1]["kind"] == "end"


def test_a_device_without_ecc_is_healthy(probe: Probe) -> None:
    assert devices(probe("no-ecc:0"))[0]["health"] == "ok"


def test_mig_instances_stand_in_place_of_their_gpu(probe: Probe) -> None:
    said = devices(probe("mig:3"))
    assert [(one["type"], one["index"], one["uuid"]) for one in said[3:]] == [
        ("mig", 3, f"MIG-00000003-{place}") for place in (0, 3, 6)
    ]
    assert {one["pci_address"] for one in said[3:]} == {"0000:c4:00.0"}
    assert said[3]["memory_mib"] == 4864


def test_mig_instances_share_the_illness_of_their_gpu(probe: Probe) -> None:
    said = devices(probe("mig:3 ecc:3"))
    assert {(one["type"], one["reason"]) for one in said[3:]} == {("mig", "ecc")}


@pytest.mark.parametrize(("word", "reason"), [("mismatch", "mismatch"), ("no-driver", "unknown")])
def test_a_driver_that_refuses_is_an_error_with_its_reason(probe: Probe, word: str, reason: str) -> None:
    said = probe(word)
    assert not devices(said)
    assert errors(said)[0]["reason"] == reason
    assert "nvmlInit" in str(errors(said)[0]["detail"])


def test_no_library_is_said_quickly(tmp_path: Path) -> None:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    if (
        subprocess.run(
            [sys.executable, "-c", "import ctypes; ctypes.CDLL('libnvidia-ml.so.1')"],
            env=environment,
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
        == 0
    ):
        pytest.skip("this machine has a real libnvidia-ml.so.1")
    said = probe_nvml(environment=environment)
    assert [(one["kind"], one.get("reason")) for one in said.records] == [
        ("mark", None),
        ("error", "library-missing"),
        ("end", None),
    ]


def test_a_library_that_is_no_library_is_missing(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not ELF")
    said = probe_nvml(environment={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)})
    assert errors(said)[0]["reason"] == "library-missing"


def test_the_probe_does_not_outlive_a_killed_parent(environment: Callable[[str], Mapping[str, str]]) -> None:
    line = [sys.executable, "-c", "from pilotwrap.probe.run import probe_nvml; probe_nvml(60)"]
    with subprocess.Popen(line, env=environment("hang:0 mark-of-orphan")) as parent:
        until = time.monotonic() + 20
        while len(processes_with("mark-of-orphan")) < 2 and time.monotonic() < until:
            time.sleep(0.02)
        child = next(pid for pid in processes_with("mark-of-orphan") if pid != parent.pid)
        _wait_for(lambda: Path(f"/proc/{child}/comm").read_text() == "hanging\n")
        parent.kill()
    _wait_for(lambda: not processes_with("mark-of-orphan"))


def _wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it did not come true in 20 s"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("bus_id", "address"),
    [
        ("00000000:C1:00.0", "0000:c1:00.0"),
        ("0000:3B:00.0", "0000:3b:00.0"),
        ("00010000:01:00.0", "10000:01:00.0"),
        ("nonsense", "nonsense"),
    ],
)
def test_pci_addresses_read_as_in_sysfs(bus_id: str, address: str) -> None:
    assert pci_address(bus_id) == address
