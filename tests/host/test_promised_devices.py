"""The rank shim compares the devices that were promised with those on its node."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from detect.systree import SysTree
from talk import Talk

from pilotwrap.host import __main__ as host_main

NVIDIA, OTHER = "0000:c1:00.0", "0000:c2:00.0"
AMD = ("0000:d1:00.0", "0000:d6:00.0")


@pytest.fixture
def tree(tmp_path: Path) -> SysTree:
    tree = SysTree(tmp_path / "root")
    tree.nvidia(NVIDIA, 0)
    tree.nvidia(OTHER, 1, granted=False)
    tree.file("/dev/kfd", "")
    for number, address in enumerate(AMD):
        tree.render(tree.device(address, "1002:7408", driver="amdgpu"), number)
    return tree


def shim(tree: SysTree, binding: dict[str, object], python: str = sys.executable) -> tuple[int, str, str]:
    """Return a rank's exit code, what it printed, and what the shim says."""
    order = {
        "protocol": 1,
        "rank": ["R"],
        "local_rank": ["L"],
        "keep": ["PATH"],
        "grace_s": 1,
        "bindings": [{"local_rank": 0, "cpus": None, "env": {}, **binding}],
        "argv": ["env"],
        "unset": ["CUDA_VISIBLE_DEVICES"],
        "results": str(tree.root),
    }
    path = tree.root / "shim.json"
    path.write_text(json.dumps(order))
    env = {
        "PATH": os.environ["PATH"],
        "R": "0",
        "L": "0",
        "PILOTWRAP_SYSROOT": str(tree.root),
        "CUDA_VISIBLE_DEVICES": "7",
    }
    argv = [python, "-I", "-S", host_main.__file__, "shim", str(path)]
    said = subprocess.run(argv, capture_output=True, text=True, check=False, env=env, timeout=30)
    return said.returncode, said.stdout, said.stderr


def test_promised_devices_that_are_here_are_given(tree: SysTree, python: str) -> None:
    binding = {"devices": [NVIDIA], "env": {"CUDA_VISIBLE_DEVICES": "GPU-00000000"}}
    code, out, err = shim(tree, binding, python)
    assert (code, err) == (0, "")
    assert "CUDA_VISIBLE_DEVICES=GPU-00000000\n" in out
    assert shim(tree, {"devices": list(AMD), "counted": list(AMD)})[0] == 0


def test_a_node_of_nvidia_s_that_is_only_made_when_used_is_no_mismatch(tree: SysTree) -> None:
    assert shim(tree, {"devices": [OTHER]})[0] == 0


def test_a_mask_that_the_launcher_left_is_not_the_rank_s(tree: SysTree) -> None:
    assert "CUDA_VISIBLE_DEVICES" not in shim(tree, {})[1]


FAULTS = {
    "another node": (
        {"devices": ["0000:e1:00.0"]},
        "promised the device 0000:e1:00.0, but it is not on this node's bus",
    ),
    "lost": ({"devices": [OTHER]}, f"promised the device {OTHER}, but NVIDIA's driver does not show it"),
    "refused": ({"devices": [AMD[0]]}, f"promised the device {AMD[0]}, but its device nodes may not be opened"),
    "numbers shift": (
        {"devices": [AMD[1]], "counted": list(AMD)},
        f"promised the devices by their numbers among 2, but of those {AMD[0]}: its device nodes may not be opened",
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_device_that_is_not_as_promised_is_a_mismatch_and_no_slow_run(what: str, tree: SysTree) -> None:
    binding, words = FAULTS[what]
    (tree.root / "dev/dri/renderD128").unlink()
    (tree.root / "proc/driver/nvidia/gpus" / OTHER / "information").unlink()
    code, out, err = shim(tree, binding)
    assert (code, out) == (121, "")
    assert words in err
    result = json.loads((tree.root / "rank-0.json").read_text())
    assert (result["reason"], result["detail"]) == ("binding", words)


@pytest.fixture
def talk(tree: SysTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    monkeypatch.setenv("PILOTWRAP_SYSROOT", str(tree.root))
    talk = Talk(tmp_path)
    yield talk
    talk.close()


@pytest.mark.parametrize("what", FAULTS)
def test_a_rank_that_the_starter_starts_itself_is_looked_after_alike(what: str, tree: SysTree, talk: Talk) -> None:
    binding, words = FAULTS[what]
    (tree.root / "dev/dri/renderD128").unlink()
    (tree.root / "proc/driver/nvidia/gpus" / OTHER / "information").unlink()
    refused = talk.spawn(["touch", str(tree.root / "ran")], **binding)
    said = talk.hear("failed", "exited")
    assert (said["event"], said["id"], said["errno"]) == ("failed", refused, "ENODEV")
    assert words in said["what"]
    assert not (tree.root / "ran").exists()
    talk.spawn(["true"], devices=[NVIDIA])
    assert talk.hear("failed", "exited")["exit_code"] == 0


def test_fewer_cpus_than_promised_are_a_mismatch_there_too(talk: Talk) -> None:
    cpu = max(os.sched_getaffinity(0))
    for space in (None, True):
        talk.spawn(["true"], cpus=f"{cpu},4000", pid_namespace=space)
        said = talk.hear("failed", "exited")
        assert (said["event"], said.get("errno")) == ("failed", "ENODEV"), said
        assert said["what"] == f"bind to the CPUs {cpu},4000"


def test_a_device_that_fell_off_since_the_survey_is_no_slow_run(tree: SysTree) -> None:
    tree.fall_off(NVIDIA)
    code, out, err = shim(tree, {"devices": [NVIDIA]})
    assert (code, out) == (121, "")
    assert f"promised the device {NVIDIA}, but it does not answer on the bus any more" in err
