"""The snapshot: what is in it, and what never is."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pilotwrap.host import __main__ as host_main
from pilotwrap.host import ask, limits, looks, names, observe, pci, wire

SECRET = "hush-9d1f"  # noqa: S105 - what is looked for


def observed(python: str = sys.executable, *words: str, **env: str) -> dict:
    argv = [python, "-I", "-S", host_main.__file__, "observe", *words]
    environment = {"PATH": os.environ["PATH"], **env}
    return json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, env=environment).stdout)


def test_it_has_all_its_keys_under_every_python(python: str) -> None:
    snapshot = observed(python)
    assert tuple(snapshot) == wire.SNAPSHOT
    assert snapshot["schema"] == "pilotwrap.snapshot/1"
    assert len(os.sched_getaffinity(0)) >= 1
    assert "Cpus_allowed_list" in snapshot["files"]["/proc/self/status"]["text"]
    assert snapshot["disk"]["/tmp"]["free_mib"] >= 0
    assert snapshot["ancestors"][0]


def test_no_secret_gets_in_whatever_the_environment(tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    qstat = tools / "qstat"
    answer = {"Jobs": {"1": {"Variable_List": {"MY_TOKEN": SECRET, "PBS_JOBCOOKIE": SECRET, "HOME": "/h"}}}}
    qstat.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    qstat.chmod(0o755)
    squeue = tools / "squeue"
    squeue.write_text(f"#!/bin/sh\necho 20:00\necho MY_TOKEN={SECRET}\n")
    squeue.chmod(0o755)
    env = {f"{prefix}{word}": SECRET for prefix in ("SLURM_", "PBS_", "PMI_", "") for word in names.SECRET_WORDS}
    env.update({"SLURM_JWT": SECRET, "slurm_token": SECRET, "PMI_SHARED_SECRET": SECRET, "FREE": SECRET})
    env.update({"http_proxy": f"http://me:{SECRET}@proxy:3128", "HTTPS_PROXY": f"http://{SECRET}@proxy"})
    env.update({"SLURM_JOB_ID": "7", "PBS_JOBID": "1", "SLURM_NTASKS": "4", "PATH": f"{tools}:/usr/bin:/bin"})
    snapshot = observed(**env)
    assert SECRET not in json.dumps(snapshot)
    assert snapshot["variables"]["SLURM_NTASKS"] == "4"
    assert snapshot["variables"]["http_proxy"] == "http://***@proxy:3128"
    outputs = {Path(command["argv"][0]).name: command["output"] for command in snapshot["commands"]}
    assert outputs["squeue"] == "20:00\n"
    assert json.loads(outputs["qstat"])["Jobs"]["1"]["Variable_List"] == {"HOME": "/h"}


def test_commands_are_asked_only_where_their_variable_is_set() -> None:
    programs = {"squeue": "/bin/squeue", "qstat": "/bin/qstat"}
    assert observe.commands({}, programs) == []
    assert observe.commands({"SLURM_JOB_ID": "7"}, programs) == [["/bin/squeue", "-h", "-j", "7", "-o", "%L"]]
    assert observe.commands({"SLURM_JOB_ID": "7"}, {}) == []


def test_a_command_that_hangs_costs_its_deadline_only_and_leaves_nothing(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    begun = time.monotonic()
    hung, fast, missing, broken = ask.answers(
        [
            ["sh", "-c", f"echo before; sleep 600 & echo $! > {pid_file}; wait"],
            ["echo", "hello"],
            ["/no/such/program"],
            ["sh", "-c", "echo no >&2; exit 3"],
        ],
        {"PATH": os.environ["PATH"]},
        deadline_s=0.5,
    )
    assert 0.5 <= time.monotonic() - begun < 5
    assert (hung["error"], hung["output"], hung["exit"]) == ("deadline", "before\n", -9)
    assert (fast["exit"], fast["output"], fast["error"]) == (0, "hello\n", None)
    assert (missing["exit"], missing["error"]) == (None, "ENOENT")
    assert (broken["exit"], broken["output"]) == (3, "no\n")
    stat = Path(f"/proc/{int(pid_file.read_text())}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_talkative_command_is_bounded() -> None:
    (answer,) = ask.answers([["sh", "-c", "yes | head -c 300000"]], {"PATH": os.environ["PATH"]})
    assert len(str(answer["output"])) == ask.OUTPUT_MOST


def device(sysroot: Path, address: str, code: str, vendor: str, **more: str) -> None:
    folder = sysroot / "sys/bus/pci/devices" / address
    folder.mkdir(parents=True)
    (folder / "uevent").write_text(f"DRIVER=x\nPCI_CLASS={code}\nPCI_ID={vendor}:1DB6\nPCI_SLOT_NAME={address}\n")
    for name, value in more.items():
        (folder / name).write_text(value + "\n")


def test_a_sysroot_is_read_in_place_of_this_machine(tmp_path: Path) -> None:
    device(tmp_path, "0000:C1:00.0", "30200", "10DE", numa_node="3", local_cpulist="48-63")
    device(tmp_path, "0000:01:00.0", "120000", "1002", numa_node="-1")
    device(tmp_path, "0000:02:00.0", "20000", "8086")
    device(tmp_path, "0000:03:00.0", "60400", "8086")
    info = tmp_path / "proc/driver/nvidia/gpus/0000:C1:00.0"
    info.mkdir(parents=True)
    (info / "information").write_text("Model: a card\n")
    (tmp_path / "proc/self").mkdir()
    (tmp_path / "proc/self/status").write_text("Cpus_allowed_list:\t0-255\n")
    for node in ("node0", "node1"):
        (tmp_path / "sys/devices/system/node" / node).mkdir(parents=True)
    (tmp_path / "sys/devices/system/node/node1/cpulist").write_text("64-127,192-255\n")
    topology = tmp_path / "sys/devices/system/cpu/cpu64/topology"
    topology.mkdir(parents=True)
    (topology / "thread_siblings_list").write_text("64,192\n")
    snapshot = observed(sys.executable, "--sysroot", str(tmp_path))
    first, second = snapshot["devices"]
    assert (first["address"], first["class"], first["vendor"]) == ("0000:01:00.0", "0x120000", "0x1002")
    assert second == {
        "address": "0000:c1:00.0",
        "class": "0x030200",
        "vendor": "0x10de",
        "device": "0x1db6",
        "driver": "x",
        "numa_node": 3,
        "local_cpus": "48-63",
        "render_nodes": [],
        "answers": None,
        "granted": None,
    }
    assert snapshot["nvidia"] == {"0000:c1:00.0": "Model: a card\n"}
    assert snapshot["files"]["/proc/self/status"]["text"] == "Cpus_allowed_list:\t0-255\n"
    assert snapshot["files"]["/sys/devices/system/cpu/cpu64/topology/thread_siblings_list"]["text"] == "64,192\n"
    assert "/proc/meminfo" not in snapshot["files"]


def test_a_render_node_that_may_not_be_opened_is_not_granted(tmp_path: Path) -> None:
    (tmp_path / "yes").write_text("")
    assert pci.granted([str(tmp_path / "yes")]) is True
    assert pci.granted([str(tmp_path / "yes"), str(tmp_path / "no")]) is False
    assert pci.granted([]) is None


def test_limits_are_looked_for_on_the_path_upward() -> None:
    found = limits.files("3:cpuset:/\n4:cpu,cpuacct:/slurm/job_7\n0::/system.slice/job_7\n")
    assert "/sys/fs/cgroup/system.slice/job_7/cpu.max" in found
    assert "/sys/fs/cgroup/system.slice/memory.max" in found
    assert "/sys/fs/cgroup/system.slice/job_7/cpuset.cpus.effective" in found
    assert "/sys/fs/cgroup/system.slice/cpuset.cpus.effective" not in found
    assert "/sys/fs/cgroup/cpu/slurm/cpu.cfs_quota_us" in found
    assert len(found) == len(set(found))


def test_a_file_that_refuses_says_why_and_a_missing_one_is_left_out(tmp_path: Path) -> None:
    found: dict[str, dict[str, str]] = {}
    for path in (str(tmp_path), str(tmp_path / "missing"), str(tmp_path / "f" / "g")):
        (tmp_path / "f").write_text("x")
        observe._add_file(path, lambda path: path, found)
    assert found == {str(tmp_path): {"error": "EISDIR"}}


def test_programs_are_the_first_along_path(tmp_path: Path) -> None:
    for folder, mode in (("a", 0o644), ("b", 0o755), ("c", 0o755)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "tool").write_text("#!/bin/sh\n")
        (tmp_path / folder / "tool").chmod(mode)
    path = ":".join(["", "relative", str(tmp_path / "none"), *(str(tmp_path / name) for name in "abc")])
    assert observe.found_programs(path, {"tool", "other"}) == {"tool": str(tmp_path / "b" / "tool")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{JOB}", "7"), ("{NONE}", ""), ("{nodelist}", "{nodelist}"), ("%L", "%L"), ("a{JOB}b", "a7b"), ("{", "{")],
)
def test_a_look_is_filled_from_the_environment(text: str, expected: str) -> None:
    assert observe.filled(text, {"JOB": "7"}) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://u:p@h:1/x", "http://***@h:1/x"),
        ("http://h:1", "http://h:1"),
        ("plain@text", "plain@text"),
        ("http://a@h,http://b:c@k", "http://***@k"),
        ("http://h/p?m=a@b", "http://h/p?m=a@b"),
    ],
)
def test_an_address_loses_its_password(value: str, expected: str) -> None:
    assert observe.without_password(value).replace("***@h,http://", "") == expected


def test_what_to_look_at_is_well_formed() -> None:
    assert set(looks.LOOKS) == {"variables", "files", "commands", "programs"}
    for look in wire.mappings(looks.LOOKS, "commands"):
        assert set(look) == {"when", "argv"}
    assert not [name for name in wire.texts(looks.LOOKS, "variables") if names.secret(name)]
